//! IPaddr2, the predecessors' agent: which parameters are the newest one's alone, and which mean nothing here. Pure.
//!
//! Up to resource-agents 4.18 it shared addresses by the kernel's CLUSTERIP, which IPv4 alone had, for 16 nodes at
//! most. On its main branch since then it has rules of its own, in nft or by `xt_cluster`, with another hash.

use crate::model::predecessor::Predecessor;
use std::net::IpAddr;

/// The broadcast address, which enters the MAC that it derives.
pub const BROADCAST: &str = "broadcast";
/// By which program the newest one makes its rules.
pub const FIREWALL: &str = "clusterip_firewall";
/// The newest one's seed.
pub const ITS_SEED: &str = "clusterip_hash_seed";

/// The protocol of the routes among which it looks for the address's network.
pub const PROTO: &str = "proto";

/// Does what it derives its MAC and its seed from depend on `proto`, which it has since resource-agents 4.16? With that
/// `ip route` prints lines without a protocol (seen with iproute2 6.1), so that `findif()` does not find the source where
/// it looks for it, and as a rule no broadcast address.
pub fn proto_decides(predecessor: Predecessor, ip: IpAddr, has: impl Fn(&str) -> bool) -> bool {
    let derives_seed = match predecessor {
        Predecessor::ClusterIp => false,
        Predecessor::Ipaddr2 => !(has("hash_seed") || has(ITS_SEED)),
    };
    let derives = !has("mac") || derives_seed;
    ip.is_ipv4() && has(PROTO) && !has(BROADCAST) && derives
}

/// Is it the agent of this name? Written as the CIB, crm shell (which leaves out what goes without saying) or older texts,
/// with a double colon behind the class, have it.
pub fn is_named(agent: &str) -> bool {
    let mut parts = agent.split(':').filter(|part| !part.is_empty()).rev();
    let all = [parts.next(), parts.next(), parts.next(), parts.next()];
    matches!(
        all,
        [Some("IPaddr2"), None, ..]
            | [Some("IPaddr2"), Some("heartbeat"), None | Some("ocf"), None]
    )
}

/// What `ocf_is_true` of the shell agents takes for true.
pub fn is_true(word: &str) -> bool {
    ["yes", "true", "1", "ja", "on", "y"].contains(&word.to_ascii_lowercase().as_str())
}

/// The parameters that only the newest one has.
pub const ITS_OWN: [&str; 5] = [
    FIREWALL,
    ITS_SEED,
    "clusterip_table",
    "clusterip_chain",
    "clusterip_mac_mangle",
];

/// Parameters of IPaddr2 that mean nothing here. They are accepted, so that a configuration carries
/// over by changing one word, and ignored.
pub const IGNORED: [(&str, &str); 18] = [
    (
        BROADCAST,
        "a VIP has none; but compat derives a MAC from it, as IPaddr2 did",
    ),
    (
        PROTO,
        "the network is looked for among the routes of all protocols",
    ),
    ("lvs_support", "there is no director"),
    ("lvs_ipv6_addrlabel", "the VIP is never chosen as a source"),
    (
        "lvs_ipv6_addrlabel_value",
        "the VIP is never chosen as a source",
    ),
    (FIREWALL, "the rules are always nf_tables"),
    (
        ITS_SEED,
        "the seed is hash_seed; but with compat=ipaddr2 it is followed",
    ),
    ("clusterip_table", "the tables are always called clusterip"),
    ("clusterip_chain", "the chains have names of their own"),
    (
        "clusterip_mac_mangle",
        "ARP and neighbour discovery always say the cluster MAC",
    ),
    (
        "arp_count_refresh",
        "the MAC never changes, so nothing is refreshed",
    ),
    ("arp_bg", "announcements are always sent in the background"),
    ("arp_sender", "announcements are sent by the agent itself"),
    (
        "send_arp_opts",
        "announcements are sent by the agent itself",
    ),
    ("flush_routes", "no routes are cached"),
    (
        "run_arping",
        "all nodes have the address, so there is no duplicate to find",
    ),
    (
        "preferred_lft",
        "IPv6 addresses are always added deprecated",
    ),
    (
        "nodad",
        "IPv6 addresses are always added without duplicate address detection",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proto_decides_where_something_is_derived_by_it() {
        let decides = |predecessor, ip: &str, given: &str| {
            let ip = ip.parse().expect("an address");
            proto_decides(predecessor, ip, |name| {
                given.split(' ').any(|one| one == name)
            })
        };
        for (given, newest, classic) in [
            ("proto", true, true),
            ("proto mac", true, false),
            ("proto hash_seed", true, true),
            ("proto mac hash_seed", false, false),
            ("proto mac clusterip_hash_seed", false, false),
            ("proto broadcast", false, false),
            ("mac", false, false),
        ] {
            for (predecessor, does) in [
                (Predecessor::Ipaddr2, newest),
                (Predecessor::ClusterIp, classic),
            ] {
                assert_eq!(decides(predecessor, "10.0.0.99", given), does, "{given}");
                assert!(!decides(predecessor, "fd77::99", given));
            }
        }
    }

    #[test]
    fn it_is_known_by_every_name_that_it_is_given() {
        for name in [
            "IPaddr2",
            "heartbeat:IPaddr2",
            "ocf:heartbeat:IPaddr2",
            "ocf::heartbeat:IPaddr2",
        ] {
            assert!(is_named(name), "{name}");
        }
        for name in [
            "",
            "ocf:IPaddr2",
            "lsb:IPaddr2",
            "lsb:heartbeat:IPaddr2",
            "ocf:heartbeat:IPaddr",
            "ocf:rust:ClusterIP",
            "IPaddr2:heartbeat:ocf",
            "x:ocf:heartbeat:IPaddr2",
        ] {
            assert!(!is_named(name), "{name}");
        }
    }
}
