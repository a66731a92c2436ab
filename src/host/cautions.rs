//! What an operator should know of a host on which a VIP comes up, although nothing is wrong with it.

use super::observe::{Kernel, ObserveError};
use crate::model::host::Observed;
use crate::model::vip::Vip;
use crate::preflight;
use crate::reading::installed::addresses;
use crate::sys::route::{Address, Family, SCOPE_GLOBAL, SCOPE_SITE};
use crate::sys::sysctl::{self, Key, SysctlPath};
use std::net::IpAddr;
use tracing::warn;

/// A sentence for each.
///
/// # Errors
/// As every look at the host.
pub fn cautions(
    kernel: &mut Kernel,
    observed: &Observed,
    vip: &Vip,
) -> Result<Vec<String>, ObserveError> {
    let family = Family::of(&vip.address);
    let all = kernel.route.addresses(None, Some(family))?;
    let vips = addresses(&observed.rules);
    let mut words = Vec::new();
    if !all.iter().any(|held| can_speak(held, &vips)) {
        words.push(speechless(family));
    }
    if vip.address.is_ipv4() {
        let value = |nic: &str| {
            let path = SysctlPath::new(Family::V4, nic, Key::ArpIgnore)?;
            sysctl::read(&path)
        };
        let of_nic = value(vip.nic.as_str())?;
        let most = of_nic.max(value("all")?).unwrap_or_default();
        words.extend(deaf(observed, vip, most));
    }
    Ok(words)
}

/// Says them in the log. What is not wrong must not fail for want of a look.
pub fn warn_of(cautions: Result<Vec<String>, ObserveError>) {
    match cautions {
        Ok(words) => words.iter().for_each(|caution| warn!("{caution}")),
        Err(error) => warn!("{error}"),
    }
}

/// Can the node's own connections leave with this address?
pub(super) fn can_speak(held: &Address, vips: &[IpAddr]) -> bool {
    let is_fit = match held.addr {
        IpAddr::V4(v4) => !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_loopback() && !held.deprecated && !held.dad_failed,
    };
    is_fit && matches!(held.scope, SCOPE_GLOBAL | SCOPE_SITE) && !vips.contains(&held.addr)
}

fn speechless(family: Family) -> String {
    let then = match family {
        Family::V4 => "its own IPv4 connections have no source and fail",
        Family::V6 => {
            "its own IPv6 connections leave with a VIP, and whoever owns their bucket gets the answers"
        }
    };
    format!(
        "this node has no {family} address of its own, for VIPs are none: {then}; give it one if it is to \
         connect to anybody"
    )
}

/// Settings of `arp_ignore` by which the kernel answers no question for a VIP.
fn deaf(observed: &Observed, vip: &Vip, arp_ignore: i32) -> Option<String> {
    let state = observed.nics.get(vip.nic.as_str())?;
    let has_neighbour = state.addresses.iter().any(|held| {
        let network = crate::model::network::Network::of(held.address, held.prefix);
        held.address != vip.address && !network.is_trivial() && network.contains(vip.address)
    });
    preflight::deaf(arp_ignore, has_neighbour).then(|| {
        format!(
            "arp_ignore is {arp_ignore}, so the kernel answers no ARP for {}: set \
             net.ipv4.conf.{}.arp_ignore and that of 'all' to 0 or 1",
            vip.address, vip.nic
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::host::NicState;
    use crate::model::host::tests::an_address;
    use crate::model::vip::tests::a_vip;
    use crate::sys::route::tests::an_address as an_address_of;

    fn address(text: &str, scope: u8) -> Address {
        Address {
            scope,
            ..an_address_of(text.parse().expect("an address"))
        }
    }

    #[test]
    fn a_node_speaks_with_what_is_its_own() {
        let vips = ["192.0.2.99".parse().expect("an address")];
        for (text, scope, can) in [
            ("10.77.0.1", 0, true),
            ("fd77::1", 0, true),
            ("127.0.0.1", 254, false),
            ("169.254.3.4", 253, false),
            ("fe80::1", 253, false),
            ("192.0.2.99", 254, false),
            // As version 0.1.0 had it.
            ("192.0.2.99", 0, false),
        ] {
            assert_eq!(can_speak(&address(text, scope), &vips), can, "{text}");
        }
        let deprecated = Address {
            deprecated: true,
            ..address("2001:db8::1", 0)
        };
        assert!(!can_speak(&deprecated, &vips));
    }

    #[test]
    fn settings_that_keep_a_vip_from_being_found_are_named() {
        let mut observed = Observed::default();
        observed.nics.insert("eth0".to_owned(), NicState::default());
        let vip = a_vip("10.77.0.99");
        let deaf_at = |observed: &Observed| -> Vec<i32> {
            let is_deaf = |value: &i32| deaf(observed, &vip, *value).is_some();
            (0..=8).filter(is_deaf).collect()
        };
        assert_eq!(deaf_at(&observed), [2, 3, 8]);
        let own = an_address("10.77.0.1", 16);
        if let Some(state) = observed.nics.get_mut("eth0") {
            state.addresses.push(own);
        }
        assert_eq!(deaf_at(&observed), [3, 8]);
    }
}
