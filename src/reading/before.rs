//! What the interface was before its first VIP came, remembered next to the rules for its last one to
//! restore. Pure.

use super::left_over::knows_nothing_of;
use crate::model::host::Observed;
use crate::model::ruleset::{BaseChain, Family, Hook, Ruleset};
use crate::model::vip::Nic;
use crate::rules::names::ingress_chain;

/// The second lock as it was before the interface's first VIP came, kept as the comment of the
/// interface's base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// For IPv4; `None` where there was none.
    pub lock_ip4: Option<bool>,
    /// For IPv6.
    pub lock_ip6: Option<bool>,
}

const BEFORE: &str = "before: drop_unicast_in_l2_multicast";

/// What the interface's base chain says of the time before it.
pub fn before_of(rules: &Ruleset, nic: &Nic) -> Option<Before> {
    let netdev = rules.get(&Family::Netdev)?;
    let comment = netdev.chains.get(&ingress_chain(nic))?.comment.as_ref()?;
    let words: Vec<&str> = comment.strip_prefix(BEFORE)?.split_whitespace().collect();
    let read = |word: &str| match word {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    };
    match words.as_slice() {
        ["ip", ip4, "ip6", ip6] => Some(Before {
            lock_ip4: read(ip4),
            lock_ip6: read(ip6),
        }),
        _ => None,
    }
}

/// Gives the base chains their comments: those that they have, or what is found now.
pub fn remember_before(wanted: &mut Ruleset, observed: &Observed) {
    let Some(netdev) = wanted.get_mut(&Family::Netdev) else {
        return;
    };
    let write = |lock: Option<bool>| lock.map_or("none", |on| if on { "1" } else { "0" });
    let found = observed.rules.get(&Family::Netdev);
    for (name, chain) in &mut netdev.chains {
        let Some(BaseChain {
            hook: Hook::Ingress(nic),
            ..
        }) = &chain.base
        else {
            continue;
        };
        let kept = found
            .and_then(|table| table.chains.get(name))
            .filter(|_| !knows_nothing_of(observed, nic));
        chain.comment = match (kept, observed.nics.get(nic)) {
            (Some(kept), _) => kept.comment.clone(),
            (None, Some(state)) => Some(format!(
                "{BEFORE} ip {} ip6 {}",
                write(state.lock_ip4),
                write(state.lock_ip6)
            )),
            (None, None) => None,
        };
    }
}
