//! A VIP's own chains at netdev ingress: which packet is hashed how, rule by rule. Pure.
//!
//! | chain | who comes here |
//! |---|---|
//! | `vip-…` | every packet for the VIP; its comment is the description |
//! | `vip-…-ports` | whole packets with ports, by the shortest way |
//! | `vip-…-fragments` | fragments; only where the hash needs ports |
//!
//! **Fragments.** Only the first of a datagram's fragments carries the ports. It is hashed like a
//! whole packet: owned, it is accepted; foreign, it is dropped, and what names its datagram (source,
//! destination, identification; for IPv4 the protocol too) goes into a set. A later fragment is
//! dropped if its datagram is in the set; else it is accepted, for it may have overtaken its first.
//! So the pieces come together at the owner alone, where the kernel reassembles them; elsewhere
//! there is nothing that could be completed, or that would fill the memory for reassembly.

use super::names::*;
use super::sentence::{Ports, REG0, Sentence, datagram_words};
use crate::model::hash::HashMode;
use crate::model::protocol::{AH, ICMP_ERRORS, ICMP6_EVERYWHERE, WITH_PORTS};
use crate::model::ruleset::{Chain, Data, Element, KeyPart, Set, SetSpec, Target};
use crate::model::vip::Vip;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// How long a foreign datagram is remembered after its last piece.
const FRAGMENT_LIFETIME_MS: u64 = 3_000;
/// The most foreign datagrams of a family that are remembered at once, some 100 bytes each. When it
/// is full, their later fragments come through to the reassembly, which has limits of its own.
const MOST_FRAGMENTED: u32 = 65_536;

// Why rules are there, for whoever reads 'nft list ruleset' at night.
const WHOLE_WITH_PORTS: &str = "whole packets with ports";
const BEHIND_EXTENSIONS: &str = "ports behind extension headers";
const BY_BUCKET: &str = "owned buckets are in the map";
const BY_SPI: &str = "AH: its SPI in place of ports";
const WITHOUT_PORTS: &str = "packets without ports: owned buckets are in the map";
const FOREIGN: &str = "foreign: another node answers";
const ERRORS: &str = "ICMP errors: to every node, nothing answers them";
const ERRORS_AND_ND: &str = "ICMPv6 errors and neighbour discovery: to every node";
const FRAGMENT: &str = "a fragment: the first one of a datagram decides";
const LATER_FOREIGN: &str = "its first fragment was foreign";
const LATER: &str = "its first fragment was owned, or is still to come";
const FORGET: &str = "a first fragment: whatever had its identification before is done";
const FIRST_FOREIGN: &str = "foreign: the later ones follow";

/// The VIP's chains.
pub(super) fn chains(vip: &Vip) -> Vec<(String, Chain)> {
    let errors = match vip.address {
        IpAddr::V4(_) => Sentence::because(ERRORS).icmp4_everywhere(),
        IpAddr::V6(_) => Sentence::because(ERRORS_AND_ND).icmp6_everywhere(),
    };
    let mut chains = match has_ports(vip) {
        false => vec![(vip_chain(vip.address), by_source(vip, errors))],
        true => vec![
            (vip_chain(vip.address), by_ports(vip, errors.clone())),
            (ports_chain(vip.address), whole_with_ports(vip)),
            (fragments_chain(vip.address), fragments(vip, errors)),
        ],
    };
    chains[0].1.comment = Some(vip.written());
    chains
}

fn has_ports(vip: &Vip) -> bool {
    vip.hasher.mode != HashMode::SourceIp
}

/// Source address only: fragments and protocols make no difference, so nothing is asked first.
fn by_source(vip: &Vip, errors: Sentence) -> Chain {
    Chain::of([
        Sentence::because(BY_BUCKET).hash(vip, Ports::None).rule(),
        errors.rule(),
        Sentence::because(FOREIGN).counter_drop().rule(),
    ])
}

/// With ports: whole packets with ports are the common case and come first, by one lookup (for IPv4
/// of the fragment bits together with the protocol).
fn by_ports(vip: &Vip, errors: Sentence) -> Chain {
    let ports = ports_chain(vip.address);
    let whole = Sentence::because(WHOLE_WITH_PORTS);
    let mut rules = vec![match vip.address {
        IpAddr::V4(_) => whole
            .fragment_and_protocol(REG0)
            .in_set(WHOLE_WITH_PORTS_IP4, REG0)
            .goto(&ports),
        IpAddr::V6(_) => whole.ip6_nexthdr(REG0).in_set(PORTS, REG0).goto(&ports),
    }];
    rules.push(
        Sentence::because(FRAGMENT)
            .fragment(vip.address)
            .goto(&fragments_chain(vip.address)),
    );
    if vip.address.is_ipv6() {
        rules.push(
            Sentence::because(BEHIND_EXTENSIONS)
                .transport_protocol(vip.address)
                .in_set(PORTS, REG0)
                .goto(&ports),
        );
    }
    rules.extend(without_ports(vip, errors));
    rules.push(Sentence::because(FOREIGN).counter_drop());
    Chain::of(rules.into_iter().map(Sentence::rule))
}

fn whole_with_ports(vip: &Vip) -> Chain {
    Chain::of([
        Sentence::because(BY_BUCKET).hash(vip, Ports::At(0)).rule(),
        Sentence::because(FOREIGN).counter_drop().rule(),
    ])
}

/// What has no ports, or has something else in their place.
fn without_ports(vip: &Vip, errors: Sentence) -> [Sentence; 3] {
    [
        errors,
        Sentence::because(BY_SPI)
            .transport_protocol(vip.address)
            .equals(AH, "ah")
            .hash(vip, Ports::At(4)),
        Sentence::because(WITHOUT_PORTS)
            .transport_protocol(vip.address)
            .differs_from(AH, "ah")
            .transport_protocol(vip.address)
            .not_in_set(PORTS, REG0)
            .hash(vip, Ports::Zero),
    ]
}

fn fragments(vip: &Vip, errors: Sentence) -> Chain {
    let set = fragments_set(vip.address);
    let mut rules = vec![
        Sentence::because(LATER_FOREIGN)
            .later_fragment(vip.address)
            .datagram(vip.address)
            .say(datagram_words(vip.address))
            .in_set(set, REG0)
            .keep(set, vip.address)
            .counter_drop(),
        Sentence::because(LATER)
            .later_fragment(vip.address)
            .goto(TO_HOST),
        Sentence::because(FORGET)
            .datagram(vip.address)
            .forget(set, vip.address),
        Sentence::because(BY_BUCKET)
            .transport_protocol(vip.address)
            .in_set(PORTS, REG0)
            .hash(vip, Ports::At(0)),
    ];
    rules.extend(without_ports(vip, errors));
    rules.push(
        Sentence::because(FIRST_FOREIGN)
            .datagram(vip.address)
            .keep(set, vip.address),
    );
    rules.push(Sentence::because(FOREIGN).counter_drop());
    Chain::of(rules.into_iter().map(Sentence::rule))
}

/// The sets that the VIP's chains need; VIPs share them.
pub(super) fn sets(vip: &Vip) -> Vec<(&'static str, Set)> {
    let errors = match vip.address {
        IpAddr::V4(_) => (EVERYWHERE_IP4, constant(KeyPart::IcmpType, &ICMP_ERRORS)),
        IpAddr::V6(_) => (
            EVERYWHERE_IP6,
            constant(KeyPart::Icmp6Type, &ICMP6_EVERYWHERE),
        ),
    };
    if !has_ports(vip) {
        return vec![errors];
    }
    let mut sets = vec![
        errors,
        (PORTS, constant(KeyPart::Protocol, &WITH_PORTS)),
        (fragments_set(vip.address), foreign_datagrams(vip.address)),
    ];
    if vip.address.is_ipv4() {
        // Fragment bits, TTL (masked), protocol.
        let keys = WITH_PORTS.map(|protocol| vec![0, 0, 0, protocol]);
        sets.push((WHOLE_WITH_PORTS_IP4, constant_set(KeyPart::Bits, keys)));
    }
    sets
}

/// The datagrams whose first fragments were foreign, by what the kernel's reassembly goes by
/// (`struct frag_v4_compare_key`, `frag_v6_compare_key`).
fn foreign_datagrams(vip: IpAddr) -> Set {
    Set::new(SetSpec {
        key: match vip {
            IpAddr::V4(_) => vec![KeyPart::Ip4, KeyPart::Ip4, KeyPart::Protocol, KeyPart::Id16],
            IpAddr::V6(_) => vec![KeyPart::Ip6, KeyPart::Ip6, KeyPart::Id32],
        },
        data: Data::None,
        counters: false,
        size: MOST_FRAGMENTED,
        lifetime_ms: Some(FRAGMENT_LIFETIME_MS),
    })
}

fn constant(part: KeyPart, numbers: &[u8]) -> Set {
    constant_set(part, numbers.iter().map(|number| vec![*number]))
}

fn constant_set(part: KeyPart, keys: impl IntoIterator<Item = Vec<u8>>) -> Set {
    let keys = keys.into_iter();
    let elements: BTreeMap<_, _> = keys.map(|key| (key, Element::new(Target::None))).collect();
    Set {
        spec: SetSpec {
            key: vec![part],
            data: Data::None,
            counters: false,
            size: elements.len() as u32,
            lifetime_ms: None,
        },
        elements,
    }
}
