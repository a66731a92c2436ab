//! The node's sysctls. Twelve other settings of ARP and of the reverse path were tried, and do no harm.

use super::finding::{Finding, Found};
use super::surroundings::{Surroundings, Wish};
use crate::model::untrusted::{Untrusted, quoted};
use std::net::IpAddr;

/// The strict filter of the reverse path, where clients come in by one interface and would be answered by another.
pub(super) fn rp_filter(here: &Surroundings, wish: &Wish) -> Found {
    const STRICT: i32 = 1;
    if !wish.may_be_ip4() || here.settings()?.rp_filter != STRICT {
        return Ok(Vec::new());
    }
    let link = here.nic(wish)?;
    let ways = here.default_ways.as_ref().map_err(Clone::clone)?;
    // A VRF has routes of its own.
    if ways.is_empty() || ways.contains(&link.index) || link.master.is_some() {
        return Ok(Vec::new());
    }
    let by: Vec<String> = ways
        .iter()
        .map(|index| {
            let known = here.at(*index).map(|link| link.name.to_string());
            known.unwrap_or_else(|| format!("interface {index}"))
        })
        .collect();
    let name = &wish.nic;
    let finding = Finding::warning(
        format!(
            "rp_filter is strict, and the default route leads by {}",
            by.join(", ")
        ),
        format!(
            "the kernel drops what comes in by {name} from clients that it would answer by another interface: all but \
             those in networks to which a route leads by {name}"
        ),
    );
    Ok(vec![finding.mended_by(set(
        "ipv4",
        &wish.nic,
        "rp_filter",
        2,
    ))])
}

/// Settings of `arp_ignore` by which the kernel answers no question for a VIP.
pub(super) fn arp_ignore(here: &Surroundings, wish: &Wish) -> Found {
    let settings = here.settings()?;
    if !wish.may_be_ip4() || !deaf(settings.arp_ignore, settings.has_neighbour) {
        return Ok(Vec::new());
    }
    let finding = Finding::fatal(
        format!("arp_ignore is {}", settings.arp_ignore),
        format!(
            "the kernel answers no ARP for {}; that of 'all' counts as well",
            wish.vip_words()
        ),
    );
    let cure = set("ipv4", &wish.nic, "arp_ignore", 0);
    let cure = cure.map(|cure| format!("{cure} net.ipv4.conf.all.arp_ignore=0"));
    Ok(vec![finding.mended_by(cure)])
}

/// Does the kernel answer no question for a VIP (`net/ipv4/arp.c`, `arp_ignore()`)? 3 is silent about addresses of scope
/// host, as a VIP is; 2 about those that are in no network with the asker, and a VIP is in none but those of the node's
/// other addresses; 8 about all.
pub fn deaf(arp_ignore: i32, has_neighbour: bool) -> bool {
    match arp_ignore {
        2 => !has_neighbour,
        3 | 8 => true,
        _ => false,
    }
}

/// The lock that keeps a node silent whose rules are gone.
pub(super) fn second_lock(here: &Surroundings, wish: &Wish) -> Found {
    if !wish.mode().locks_by_sysctl() {
        return Ok(Vec::new());
    }
    let settings = here.settings()?;
    let lock = "drop_unicast_in_l2_multicast";
    if !wish.lock {
        let what = format!("the second lock ({lock}) is declined");
        let why = "should anybody flush the rules this node would answer for all others, until the monitor notices: do not \
                   decline it, or use mode=\"stealth\", which needs none";
        return Ok(vec![Finding::warning(what, why)]);
    }
    if settings.lockable {
        return Ok(Vec::new());
    }
    let what = format!("the sysctl {lock} of {} cannot be written", wish.nic);
    let why = "without that second lock the VIP does not start: in a container let /proc/sys/net be writable, use \
               mode=\"stealth\", which needs no such lock, or decline it (agent: drop_unicast_in_l2_multicast=\"false\", \
               nodectl: --without-second-lock)";
    Ok(vec![Finding::fatal(what, why)])
}

/// What a macvlan or ipvlan is made on takes frames for a multicast MAC as well. The plan refuses it.
pub(super) fn beneath(here: &Surroundings, wish: &Wish) -> Found {
    // Without the interfaces nobody knows what is beneath.
    here.links()?;
    let Some(name) = here.settings()?.answers_beneath else {
        return Ok(Vec::new());
    };
    if !wish.mode().locks_by_sysctl() {
        return Ok(Vec::new());
    }
    let finding = Finding::fatal(
        format!("{name}, on which {} is made, would answer too", wish.nic),
        "it takes frames for a multicast MAC besides passing them on, and knows no buckets; so the VIP does not start. Let it \
         drop unicast packets in such frames, or put the VIP on it",
    );
    let family = if wish.may_be_ip4() { "ipv4" } else { "ipv6" };
    let key = "drop_unicast_in_l2_multicast";
    Ok(vec![finding.mended_by(set(family, &name, key, 1))])
}

/// IPv6 on the interface.
pub(super) fn ip6(here: &Surroundings, wish: &Wish) -> Found {
    let is_ip6 = matches!(wish.vip, Some(IpAddr::V6(_)));
    if !is_ip6 || !here.settings()?.ip6_off {
        return Ok(Vec::new());
    }
    let finding = Finding::fatal(
        format!("IPv6 is switched off on {}", wish.nic),
        format!("the kernel takes no {} there", wish.vip_words()),
    );
    Ok(vec![finding.mended_by(set(
        "ipv6",
        &wish.nic,
        "disable_ipv6",
        0,
    ))])
}

/// The command that sets a sysctl of the interface. With slashes a name may have dots (sysctl(8)).
fn set(family: &str, nic: &Untrusted, key: &str, value: i32) -> Option<String> {
    let word = nic.quoted()?;
    Some(match word.contains(['.', '\'']) {
        false => format!("sysctl -w net.{family}.conf.{word}.{key}={value}"),
        true => {
            let raw = nic.raw();
            let setting = format!("net/{family}/conf/{raw}/{key}={value}");
            format!("sysctl -w {}", quoted(&setting)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::super::surroundings::Settings;
    use super::super::tests::{a_host, a_link, a_wish};
    use super::*;
    use crate::model::l2_mode::L2Mode;

    const V4: &str = "10.77.0.99";
    const V6: &str = "fd77::99";

    fn with(change: fn(&mut Settings)) -> Surroundings {
        let mut here = a_host();
        if let Ok(settings) = &mut here.settings {
            change(settings);
        }
        here
    }

    fn severities(found: Found) -> Vec<Severity> {
        let found = found.expect("seen");
        found.iter().map(|finding| finding.severity).collect()
    }

    #[test]
    fn a_strict_reverse_path_bites_where_the_way_back_is_another() {
        let wish = a_wish(V4, L2Mode::Multicast);
        let mut here = with(|settings| settings.rp_filter = 1);
        assert_eq!(severities(rp_filter(&here, &wish)), []);
        here.default_ways = Ok(Vec::new());
        assert_eq!(severities(rp_filter(&here, &wish)), []);
        here.default_ways = Ok(vec![7]);
        assert_eq!(severities(rp_filter(&here, &wish)), [Severity::Warning]);
        assert_eq!(
            severities(rp_filter(&here, &a_wish(V6, L2Mode::Multicast))),
            []
        );
        if let Ok(settings) = &mut here.settings {
            settings.rp_filter = 2;
        }
        assert_eq!(severities(rp_filter(&here, &wish)), []);
    }

    #[test]
    fn settings_that_keep_a_vip_from_being_found_are_told() {
        let deaf_at = |has| -> Vec<i32> { (0..=8).filter(|value| deaf(*value, has)).collect() };
        assert_eq!((deaf_at(false), deaf_at(true)), (vec![2, 3, 8], vec![3, 8]));
        let here = with(|settings| settings.arp_ignore = 8);
        let found = arp_ignore(&here, &a_wish(V4, L2Mode::Stealth));
        assert_eq!(severities(found), [Severity::Fatal]);
        assert_eq!(
            severities(arp_ignore(&here, &a_wish(V6, L2Mode::Stealth))),
            []
        );
    }

    #[test]
    fn the_second_lock_is_missed_where_the_mode_needs_it() {
        let here = with(|settings| settings.lockable = false);
        let multicast = a_wish(V4, L2Mode::Multicast);
        let declined = Wish {
            lock: false,
            ..multicast.clone()
        };
        assert_eq!(
            severities(second_lock(&here, &multicast)),
            [Severity::Fatal]
        );
        assert_eq!(
            severities(second_lock(&here, &declined)),
            [Severity::Warning]
        );
        let stealth = a_wish(V4, L2Mode::Stealth);
        assert_eq!(severities(second_lock(&here, &stealth)), []);
    }

    #[test]
    fn an_interface_that_answers_beneath_is_told_with_its_own_setting() {
        let here = with(|settings| settings.answers_beneath = Some("eno1".into()));
        let of = |vip, mode| beneath(&here, &a_wish(vip, mode)).expect("seen");
        let found = of(V6, L2Mode::Multicast);
        let cure = "sysctl -w net.ipv6.conf.eno1.drop_unicast_in_l2_multicast=1";
        assert_eq!(found[0].cure.as_deref(), Some(cure));
        assert_eq!(severities(Ok(of(V4, L2Mode::Igmp))), [Severity::Fatal]);
        assert_eq!(of(V4, L2Mode::Stealth), []);
    }

    #[test]
    fn ip6_is_missed_by_those_who_need_it() {
        let here = with(|settings| settings.ip6_off = true);
        let of = |vip| severities(ip6(&here, &a_wish(vip, L2Mode::Multicast)));
        assert_eq!((of(V6), of(V4)), (vec![Severity::Fatal], vec![]));
    }

    #[test]
    fn a_name_with_dots_is_one_name() {
        let mut here = with(|settings| settings.arp_ignore = 3);
        here.links = Ok(vec![a_link(2, "eth0.10")]);
        let wish = Wish {
            nic: "eth0.10".into(),
            ..a_wish(V4, L2Mode::Multicast)
        };
        let found = arp_ignore(&here, &wish).expect("seen");
        let cure = found[0].cure.as_deref().expect("a cure");
        assert!(
            cure.starts_with("sysctl -w 'net/ipv4/conf/eth0.10/arp_ignore=0' "),
            "{cure}"
        );
    }
}
