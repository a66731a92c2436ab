//! What holds in front of every cluster, whoever made the router and the switch.

use super::guide::{Line, line, tried};
use super::site::Site;
use crate::model::l2_mode::L2Mode;
use serde::Serialize;
use std::net::IpAddr;

/// A fact about a part of the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// The part.
    pub about: &'static str,
    /// The fact.
    #[serde(flatten)]
    pub line: Line,
}

/// What holds for this site.
pub fn everywhere(site: &Site) -> Vec<Fact> {
    let facts = match site.mode {
        L2Mode::Multicast | L2Mode::Igmp => for_multicast(site),
        L2Mode::Stealth => for_stealth(site),
    };
    let facts = facts.into_iter().chain([check(site)]);
    facts.map(|(about, line)| Fact { about, line }).collect()
}

fn check(site: &Site) -> (&'static str, Line) {
    let vip = site.vip;
    (
        "check",
        tried(format!(
            "On every node 'tcpdump -ni NIC -e host {vip}' must show the packets of one client."
        )),
    )
}

/// A unicast MAC is believed by all, and no switch knows where it is.
fn for_stealth(site: &Site) -> Vec<(&'static str, Line)> {
    let Site { vip, mac, .. } = site;
    vec![
        (
            "router",
            tried(format!(
                "It has to send the packets for {vip} to {mac}, which it learns by itself: that is a unicast MAC."
            )),
        ),
        (
            "switch",
            tried(format!(
                "It has to flood the frames for {mac}. It does, for nothing is ever sent from that MAC, so that \
                 no port has it; snooping of IGMP and MLD plays no part."
            )),
        ),
        (
            "switch",
            line(
                None,
                "One that does not flood unknown unicast frames, or limits them, needs an exception; an entry of \
                 the MAC for one port alone cuts the other nodes off.",
            ),
        ),
        (
            "host",
            tried(
                "A macvlan and a macvtap (but passthru) do not receive a second unicast MAC, nor does what is \
                 behind a bridge port with 'flood off'.",
            ),
        ),
        (
            "VLAN",
            line(
                None,
                "One of its own for the nodes and the router: everybody in it sees the traffic. Limits of unknown \
                 unicast, port security and dynamic ARP inspection need exceptions.",
            ),
        ),
    ]
}

fn for_multicast(site: &Site) -> Vec<(&'static str, Line)> {
    let Site { vip, mac, .. } = site;
    let learns = match vip {
        IpAddr::V4(_) => line(
            Some("RFC 1812, 3.3.2"),
            "One that believes ARP learns that by itself; the RFC forbids to believe a multicast MAC, and \
             who keeps to it needs a static entry.",
        ),
        IpAddr::V6(_) => line(
            None,
            "One that believes neighbour advertisements learns that by itself; who refuses a multicast \
             MAC there needs a static entry.",
        ),
    };
    let group = site.group();
    let joins = match (group, vip) {
        (Some(_), IpAddr::V4(_)) if site.mode == L2Mode::Igmp => vec![
            tried("The nodes report the group by IGMP."),
            line(
                None,
                "One that snoops, forwards by MAC and hears a querier finds their ports by that.",
            ),
        ],
        (Some(_), IpAddr::V6(_)) => vec![line(
            Some("RFC 4862, 5.4.2"),
            "The nodes report the group by MLD, as for every IPv6 address; that helps a switch that forwards by MAC, \
             and no other.",
        )],
        _ => vec![line(
            Some("ip-maddress(8): a link-layer address alone"),
            "The nodes report no group for it (IGMP, MLD): where snooping drops what nobody joined, a switch that \
             forwards by MAC needs a static entry.",
        )],
    };
    let by_address = tried(
        "One that snoops by the packets' addresses and not by their MACs, as a Linux bridge does, drops the VIP's \
         frames whatever is reported, once it hears a querier; no entry of the MAC helps there. See '--vendor \
         linux-bridge' and '--vendor open-vswitch'."
            .to_owned(),
    );
    let group = group.map_or(String::new(), |group| {
        format!(" (the MAC of the group {group})")
    });
    let mut facts = vec![
        (
            "router",
            tried(format!("It has to send the packets for {vip} to {mac}.")),
        ),
        ("router", learns),
        (
            "switch",
            tried(format!(
                "It has to send the frames for {mac}{group} to the ports of all nodes. One without an \
                 entry floods them, which is all that is needed."
            )),
        ),
    ];
    facts.extend(joins.into_iter().map(|line| ("switch", line)));
    facts.push(("switch", by_address));
    facts.push((
        "VLAN",
        line(
            None,
            "One of its own for the nodes and the router: everybody in it sees the traffic. Storm \
             control, limits of multicast and dynamic ARP inspection need exceptions.",
        ),
    ));
    facts
}
