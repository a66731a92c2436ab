//! What will bite on this host: plain values that were found ([`Surroundings`]), and for each thing that can bite one
//! function that judges them. Pure: nothing is looked at here, and nothing is said how it was.
//!
//! | module | what lives there |
//! |---|---|
//! | `surroundings` | what was found, and for what it is looked |
//! | `finding` | what comes of a check, for people and for programs |
//! | `bridge` | Linux bridges on the way: what they drop, and what silences the question |
//! | `interface` | the interface itself: what it cannot receive or carry |
//! | `settings` | the node's sysctls |
//! | `programs` | programs that get the frames before the VIP's rules |
//! | `firewall` | other tables of nf_tables |
//! | `predecessor` | what a predecessor has left here |
//! | `manager` | who else configures the interface |
//! | `open_vswitch` | Open vSwitch, by what its database says |
//! | `cluster` | what all nodes must have in common: seed, clocks, the address itself |
//! | `corosync` | Corosync's timers |
//! | `wire` | what a listener has heard |

mod bridge;
mod cluster;
mod corosync;
mod finding;
mod firewall;
mod interface;
mod manager;
mod open_vswitch;
mod predecessor;
mod programs;
mod settings;
mod surroundings;
mod wire;

use crate::model::call::Heard;
use finding::Found;
pub use finding::{Checked, Finding, Outcome, Seen, Severity, Unseen};
pub use firewall::is_flushing;
pub use interface::is_port;
pub use manager::{is_network_managers, keeps, networkd_files};
pub use open_vswitch::{ports as ovs_ports, question as ovs_question};
pub use settings::deaf;
pub use surroundings::{InCharge, Legacy, OvsPort, Settings, Side, Surroundings, Wish};

/// Where a check has something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Of the node and its interface.
    Node,
    /// Of a switch's port as well, behind which the node is.
    Way,
    /// Of the node, and a start says it by itself.
    SaidAnyway,
    /// Of the node, and told to who asks alone: on most nodes it has something to say that bites nobody.
    WhoAsks,
    /// Of what a listener has heard.
    Ear,
}

/// A check: its name for programs, what it asks, of what, and who judges.
struct Check {
    name: &'static str,
    question: &'static str,
    of: Of,
    judge: fn(&Surroundings, &Wish) -> Found,
}

const fn check(
    name: &'static str,
    question: &'static str,
    of: Of,
    judge: fn(&Surroundings, &Wish) -> Found,
) -> Check {
    Check {
        name,
        question,
        of,
        judge,
    }
}

/// All checks, in the order in which they are told.
const CHECKS: &[Check] = &[
    check(
        "bridge-snooping",
        "does a Linux bridge on the way drop what is for the cluster MAC?",
        Of::Way,
        bridge::snooping,
    ),
    check(
        "bridge-flooding",
        "does the bridge's port let through what the bridge does not know?",
        Of::Way,
        bridge::flooding,
    ),
    check(
        "question-silenced",
        "do the bridge's ports let nodes hear each other's question?",
        Of::Way,
        bridge::silenced,
    ),
    check(
        "own-bridge",
        "do those behind a bridge of the node's own reach all buckets?",
        Of::Node,
        interface::own_bridge,
    ),
    check(
        "refused",
        "would a start here end at once?",
        Of::SaidAnyway,
        interface::refused,
    ),
    check(
        "interface",
        "can the interface carry a shared address?",
        Of::Node,
        interface::fit,
    ),
    check(
        "mac-filter",
        "does the interface let frames for the cluster MAC in?",
        Of::Way,
        interface::filter,
    ),
    check(
        "beneath",
        "does the interface beneath keep silent?",
        Of::SaidAnyway,
        settings::beneath,
    ),
    check(
        "ipvlan",
        "does it share an address space with other interfaces?",
        Of::Node,
        interface::ipvlan,
    ),
    check(
        "vrf",
        "do services hear what comes in by a VRF?",
        Of::Node,
        interface::vrf,
    ),
    check(
        "programs",
        "do programs get the frames before the VIP's rules?",
        Of::Node,
        programs::come_first,
    ),
    check(
        "rp-filter",
        "does the reverse path filter let clients in?",
        Of::Node,
        settings::rp_filter,
    ),
    check(
        "arp-ignore",
        "does the kernel answer who asks for the address?",
        Of::SaidAnyway,
        settings::arp_ignore,
    ),
    check(
        "second-lock",
        "is a node silent whose rules are flushed?",
        Of::Node,
        settings::second_lock,
    ),
    check("ipv6-off", "is IPv6 there?", Of::Node, settings::ip6),
    check(
        "other-tables",
        "do other tables drop what is the VIP's?",
        Of::WhoAsks,
        firewall::drops,
    ),
    check(
        "legacy-tables",
        "do rules of iptables-legacy drop what is the VIP's?",
        Of::Node,
        firewall::legacy,
    ),
    check(
        "predecessor-here",
        "are a predecessor's rules for the VIP still here?",
        Of::Node,
        predecessor::here,
    ),
    check(
        "flushed",
        "does a service flush the whole ruleset?",
        Of::Node,
        firewall::flushes,
    ),
    check(
        "network-manager",
        "does a network manager take the address away?",
        Of::Node,
        manager::takes_away,
    ),
    check(
        "open-vswitch",
        "does Open vSwitch on this host drop what is for the cluster MAC?",
        Of::Way,
        open_vswitch::snooping,
    ),
    check(
        "seed",
        "can anybody guess the seed?",
        Of::SaidAnyway,
        cluster::seed,
    ),
    check(
        "clocks",
        "do the clocks of the nodes agree?",
        Of::Node,
        cluster::clocks,
    ),
    check(
        "corosync",
        "do Corosync's timers fit each other?",
        Of::Node,
        corosync::timers,
    ),
    check(
        "address-taken",
        "does somebody on the link have the address otherwise?",
        Of::Node,
        cluster::stranger,
    ),
    check(
        "frames",
        "do frames for the cluster MAC with the VIP inside arrive?",
        Of::Ear,
        wire::frames,
    ),
    check(
        "question-heard",
        "do nodes hear each other ask?",
        Of::Ear,
        wire::question,
    ),
    check(
        "description",
        "do those who call share it by one description?",
        Of::Ear,
        wire::description,
    ),
    check(
        "queries",
        "does anybody ask for groups?",
        Of::Ear,
        wire::queries,
    ),
];

/// Makes all checks that these surroundings and this place have something for.
pub fn judged(here: &Surroundings, wish: &Wish) -> Vec<Checked> {
    let is_of = |of: Of| match wish.side {
        Side::Node => of != Of::Ear,
        Side::Port => of == Of::Way,
    };
    made(here, wish, is_of)
}

/// Makes the checks of what a listener has heard.
pub fn judged_by_ear(heard: Heard, wish: &Wish) -> Vec<Checked> {
    let here = Surroundings {
        heard: Ok(heard),
        ..Surroundings::default()
    };
    made(&here, wish, |of| of == Of::Ear)
}

/// The checks of what is to be said when a VIP comes up on a node, beyond what a start says anyway.
pub fn at_start(here: &Surroundings, wish: &Wish) -> Vec<Checked> {
    made(here, wish, |of| matches!(of, Of::Node | Of::Way))
}

fn made(here: &Surroundings, wish: &Wish, is_of: impl Fn(Of) -> bool) -> Vec<Checked> {
    let checks = CHECKS.iter().filter(|check| is_of(check.of));
    let checked = checks.map(|check| {
        let found = (check.judge)(here, wish);
        Checked::of(check.name, check.question, found)
    });
    checked.flatten().collect()
}

/// The worst of it.
pub fn worst(checked: &[Checked]) -> Option<Severity> {
    let findings = checked.iter().flat_map(|checked| &checked.findings);
    findings.map(|finding| finding.severity).max()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::belief::{Belief, Holders};
    use crate::model::foreign::{BaseChain, Rest};
    use crate::model::l2_mode::L2Mode;
    use crate::model::link::Link;
    use std::collections::BTreeSet;

    /// An interface `eth0` of a card, for a VIP of this mode.
    pub(crate) fn a_wish(vip: &str, mode: L2Mode) -> Wish {
        Wish {
            nic: "eth0".into(),
            side: Side::Node,
            vip: vip.parse().ok(),
            mode,
            mac: None,
            lock: true,
            seed: None,
            its_seed: None,
            digest: None,
            compat: None,
            by_hand: false,
        }
    }

    /// An Ethernet interface.
    pub(crate) fn a_link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            ethernet: true,
            multicast: true,
            ..Link::default()
        }
    }

    /// A base chain through which all passes.
    pub(crate) fn a_chain() -> BaseChain {
        BaseChain {
            family: "ip",
            table: "theirs".into(),
            name: "gate".into(),
            hook: "prerouting",
            devices: Vec::new(),
            rest: Rest::Passes,
            shares: Vec::new(),
        }
    }

    /// A host on which nothing bites.
    pub(crate) fn a_host() -> Surroundings {
        Surroundings {
            links: Ok(vec![a_link(2, "eth0")]),
            settings: Ok(Settings {
                lockable: true,
                ..Settings::default()
            }),
            default_ways: Ok(vec![2]),
            tcx: Ok(false),
            chains: Ok(Vec::new()),
            legacy: Ok(Vec::new()),
            clusterip: Ok(false),
            flusher: Ok(None),
            in_charge: Ok(None),
            open_vswitch: Ok(Vec::new()),
            corosync: Ok(None),
            clocks: Ok(Vec::new()),
            refused: Ok(Vec::new()),
            holders: Ok(Holders {
                belief: Belief::Free,
                predecessor: None,
            }),
            heard: Err(Unseen::NotAsked),
        }
    }

    #[test]
    fn names_are_each_checks_own_and_where_all_is_well_nothing_is_said() {
        let names: BTreeSet<_> = CHECKS.iter().map(|check| check.name).collect();
        assert_eq!(names.len(), CHECKS.len());
        for mode in L2Mode::ALL {
            for vip in ["10.77.0.99", "fd77::99", ""] {
                let checked = judged(&a_host(), &a_wish(vip, mode));
                assert_eq!(
                    checked.len() + 5,
                    CHECKS.len(),
                    "but the seed, and a listener's"
                );
                for one in &checked {
                    assert_eq!(one.outcome, Outcome::Fine, "{one:?}");
                }
            }
        }
        let mut deaf = a_host();
        deaf.settings = deaf.settings.map(|settings| Settings {
            arp_ignore: 8,
            rp_filter: 1,
            ..settings
        });
        deaf.default_ways = Ok(vec![7]);
        deaf.chains = Ok(vec![BaseChain {
            hook: "input",
            rest: Rest::Dropped,
            ..a_chain()
        }]);
        let told = at_start(&deaf, &a_wish("10.77.0.99", L2Mode::Stealth));
        let told = told.iter().filter(|one| one.outcome != Outcome::Fine);
        let told: Vec<&str> = told.map(|one| one.check).collect();
        assert_eq!(told, ["rp-filter"]);
    }
}
