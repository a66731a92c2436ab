//! What the interface was before its first VIP came, remembered next to the rules for its last one to
//! restore. Pure.

use super::guard::knows_nothing_of;
use super::names::ingress_chain;
use crate::model::host::Observed;
use crate::model::ruleset::{BaseChain, Family, Hook, Ruleset};
use crate::model::vip::Nic;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bucket::BucketSet;
    use crate::model::phase::Phases;
    use crate::model::vip::tests::a_vip;
    use crate::plan::dataplane::ruleset;
    use crate::plan::interruptions::{fresh_host, go};
    use crate::plan::steps::Intent;

    #[test]
    fn what_is_remembered_is_what_was_found() {
        let vip = a_vip("10.77.0.99");
        for (lock_ip4, lock_ip6) in [
            (Some(false), Some(true)),
            (Some(true), Some(false)),
            (Some(true), None),
            (None, Some(false)),
        ] {
            let mut host = fresh_host();
            let state = host.nics.get_mut("eth0").expect("a host with one");
            (state.lock_ip4, state.lock_ip6) = (lock_ip4, lock_ip6);
            let mut wanted = ruleset(&[(vip.clone(), Phases::default())]);
            assert_eq!(before_of(&wanted, &vip.nic), None);
            remember_before(&mut wanted, &host);
            let before = before_of(&wanted, &vip.nic);
            assert_eq!(before, Some(Before { lock_ip4, lock_ip6 }));
        }
    }

    #[test]
    fn the_second_lock_goes_back_to_what_it_was_and_not_further() {
        for before in [false, true] {
            for vip in [a_vip("10.77.0.99"), a_vip("fd77::99")] {
                let mut fresh = fresh_host();
                let state = fresh.nics.get_mut("eth0").expect("a host with one");
                (state.lock_ip4, state.lock_ip6) = (Some(before), Some(before));
                let mut host = fresh.clone();
                let address = vip.address;
                let take = Intent::Take {
                    vip,
                    buckets: BucketSet::one(1),
                    adopt_ms: None,
                };
                go(&mut host, &take, 99).expect("taken");
                assert_eq!(host.nics["eth0"].lock(address), Some(true));
                let leave = Intent::Leave {
                    address,
                    buckets: None,
                    drain_ms: 0,
                    place: None,
                };
                go(&mut host, &leave, 99).expect("left");
                assert_eq!(host, fresh);
            }
        }
    }
}
