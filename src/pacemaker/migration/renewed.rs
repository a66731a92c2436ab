//! The parameters of an address from now on, each in its old place, and what is not kept of them. Pure.
//!
//! What the group or the clone around it has stays there, and Pacemaker hands it to the new agent as it did to the old
//! one. Only what has another name or another value from now on is written with the resource, whose own counts.

use super::super::ipaddr2::{BROADCAST, IGNORED, ITS_SEED};
use super::found::{Address, Pairs};
use crate::model::hash::HashMode;
use crate::model::predecessor::Predecessor;
use crate::model::seed::parse_seed;
use crate::model::untrusted::Untrusted;
use std::net::IpAddr;

/// Parameters that both agents have, with one meaning.
const KEPT: [&str; 12] = [
    "ip",
    "nic",
    "cidr_netmask",
    "netmask",
    "iflabel",
    "mac",
    "network_namespace",
    "noprefixroute",
    "check_link_status",
    "clusterip_hash",
    "arp_count",
    "arp_interval",
];

/// A parameter that is not there any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Lost {
    /// The resource.
    pub resource: Untrusted,
    /// Its name.
    pub parameter: Untrusted,
    /// Its value.
    pub value: Untrusted,
    /// Why.
    pub why: String,
}

/// What becomes of a parameter.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It means to the new agent what it meant to the old one.
    Stays,
    /// It means that under another name.
    IsCalled(&'static str),
    /// It is not kept, for this reason.
    Goes(&'static str),
    /// It said what is anyway.
    SaysNothing,
}

/// The parameters from now on; what goes is told.
pub(super) fn parameters(
    found: &Address,
    ip: IpAddr,
    compat: Option<Predecessor>,
    seed: u32,
    lost: &mut Vec<Lost>,
) -> Pairs {
    let is_given = |name| found.parameter(name).is_some();
    let its_seed = found.parameter(ITS_SEED).filter(|seed| {
        // CLUSTERIP's agent had no such parameter.
        parse_seed(seed).is_some() && compat != Some(Predecessor::ClusterIp)
    });
    // What the predecessor derives its MAC or its seed from.
    let derives = match compat {
        Some(Predecessor::ClusterIp) => !is_given("mac"),
        Some(Predecessor::Ipaddr2) => !is_given("mac") || its_seed.is_none(),
        None => false,
    };
    let fate = |name: &str, value: &Untrusted| match name {
        _ if value.raw().trim().is_empty() => Fate::SaysNothing,
        "iflabel" if ip.is_ipv6() => Fate::Goes("IPv6 addresses have no label"),
        "clusterip_hash" if compat == Some(Predecessor::Ipaddr2) => {
            Fate::Goes("the newest IPaddr2 did not know it: its hash is the source address alone")
        }
        BROADCAST if derives => Fate::Stays,
        ITS_SEED if its_seed.is_some() => Fate::IsCalled("hash_seed"),
        ITS_SEED if compat == Some(Predecessor::ClusterIp) => {
            Fate::Goes("IPaddr2 with CLUSTERIP did not know it: its seed is 0")
        }
        // Anything but true is what is anyway.
        "lvs_support" | "unique_clone_address" => Fate::SaysNothing,
        known if KEPT.contains(&known) => Fate::Stays,
        other => {
            let ignored = IGNORED.iter().find(|(name, _)| *name == other);
            Fate::Goes(ignored.map_or("it is no parameter of IPaddr2's", |(_, why)| why))
        }
    };
    let mut kept = Pairs::new();
    let mut goes = |name: &Untrusted, value: &Untrusted, why: &str| {
        lost.push(Lost {
            resource: found.id.clone(),
            parameter: name.clone(),
            value: value.clone(),
            why: why.to_owned(),
        });
    };
    for (name, value) in &found.parameters {
        match fate(name.raw(), value) {
            Fate::Stays => kept.push((name.clone(), value.clone())),
            Fate::IsCalled(other) => kept.push((other.into(), value.clone())),
            Fate::Goes(why) => goes(name, value, why),
            Fate::SaysNothing => {}
        }
    }
    for (name, value) in found.inherited() {
        match fate(name.raw(), value) {
            Fate::IsCalled(other) => kept.push((other.into(), value.clone())),
            Fate::Goes(why) => {
                goes(name, value, why);
                // The new agent does not pass over it.
                if name.raw() == "clusterip_hash" {
                    kept.push((name.clone(), HashMode::SourceIp.name().into()));
                }
            }
            Fate::Stays | Fate::SaysNothing => {}
        }
    }
    match compat {
        Some(compat) => kept.push(("compat".into(), compat.name().into())),
        None if its_seed.is_none() => {
            kept.push(("hash_seed".into(), format!("{seed:#010x}").into()));
        }
        None => {}
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::super::judged::{Chosen, judge};
    use super::super::read;
    use super::super::words::{Shell, words};
    use crate::model::predecessor::Compat;
    use crate::model::untrusted::Untrusted;

    /// The parameters from now on of an address with these, in a clone with those, and the names of what is lost.
    fn renewed(own: &str, of_clone: &str, compat: Option<Compat>) -> (String, String) {
        let text = format!(
            "primitive resIP IPaddr2 params {own}\n\
             clone cloneIP resIP meta globally-unique=true clone-max=4 params {of_clone}"
        );
        let chosen = Chosen { compat, seed: 7 };
        let judgement = judge(&read(&text).expect("crm's words"), chosen, None);
        let [shared] = judgement.shared.as_slice() else {
            panic!("{judgement:?}");
        };
        let pairs = shared.addresses[0].parameters.iter();
        let pairs: Vec<String> = pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let lost: Vec<&str> = shared.lost.iter().map(|it| it.parameter.raw()).collect();
        (pairs.join(" "), lost.join(" "))
    }

    #[test]
    fn what_the_clone_sets_is_renewed_where_it_says_another_thing_from_now_on() {
        let none = Some(Compat(None));
        for (own, of_clone, compat, new, lost) in [
            // What means the same is left where it stands.
            (
                "ip=10.0.0.9 clusterip_firewall=nft",
                "nic=eth0 cidr_netmask=24",
                None,
                "ip=10.0.0.9 compat=ipaddr2",
                "clusterip_firewall",
            ),
            // The seed has another name.
            (
                "ip=10.0.0.9",
                "clusterip_hash_seed=0x51",
                None,
                "ip=10.0.0.9 hash_seed=0x51 compat=ipaddr2",
                "",
            ),
            (
                "ip=10.0.0.9",
                "clusterip_hash_seed=0x51",
                none,
                "ip=10.0.0.9 hash_seed=0x51",
                "",
            ),
            // The agent refuses another hash beside compat=ipaddr2.
            (
                "ip=10.0.0.9 clusterip_firewall=nft",
                "clusterip_hash=sourceip-sourceport",
                None,
                "ip=10.0.0.9 clusterip_hash=sourceip compat=ipaddr2",
                "clusterip_firewall clusterip_hash",
            ),
            // Its own counts.
            (
                "ip=10.0.0.9 clusterip_hash_seed=7",
                "clusterip_hash_seed=0x51",
                None,
                "ip=10.0.0.9 hash_seed=7 compat=ipaddr2",
                "",
            ),
            // What means nothing here is told, wherever it stands.
            (
                "ip=10.0.0.9",
                "clusterip_hash=sourceip arp_bg=true",
                None,
                "ip=10.0.0.9 compat=clusterip",
                "arp_bg",
            ),
        ] {
            let is = renewed(own, of_clone, compat);
            assert_eq!(is, (new.to_owned(), lost.to_owned()), "{own}, {of_clone}");
        }
    }

    #[test]
    fn clusterips_seed_is_none_that_it_did_not_know() {
        let compat = "clusterip".parse().ok();
        let (new, lost) = renewed("ip=10.0.0.9 clusterip_hash_seed=7", "nic=eth0", compat);
        assert_eq!(new, "ip=10.0.0.9 compat=clusterip");
        assert_eq!(lost, "clusterip_hash_seed");
    }

    #[test]
    fn a_description_is_kept_if_it_can_be_written() {
        for (text, kept, lost) in [
            ("for the web", Some("for the web"), 0),
            (r#"a \"b\""#, None, 1),
        ] {
            let text = format!(
                "primitive resIP IPaddr2 description=\"{text}\" params ip=10.0.0.99 clusterip_hash=sourceip\n\
                 clone cloneIP resIP meta globally-unique=true clone-max=4"
            );
            let judgement = judge(&read(&text).expect("crm's words"), Chosen::default(), None);
            let [shared] = judgement.shared.as_slice() else {
                panic!("{judgement:?}");
            };
            let is = shared.addresses[0].found.description.as_ref();
            assert_eq!(is.map(Untrusted::raw), kept);
            assert_eq!(shared.lost.len(), lost);
            for shell in [Shell::Crm, Shell::Pcs] {
                let words = words(shared, shell);
                assert_eq!(
                    words.contains("description=\"for the web\""),
                    lost == 0,
                    "{words}"
                );
            }
        }
    }
}
