//! A VIP's own chains at netdev ingress: which packet is hashed how, rule by rule. Pure.
//!
//! | chain | who comes here |
//! |---|---|
//! | `vip-…` | every packet for the VIP; its comment is the description |
//! | `about-…` | nobody; where the description is long its comment is the rest |
//! | `vip-…-ports` | whole packets with ports, by the shortest way |
//!
//! Where the hash needs ports, what comes in fragments is `fragments`'.

use super::handover;
use super::leaving;
use super::names::*;
use super::sentence::{Ports, REG0, Sentence};
use super::tagged;
use crate::model::phase::Phases;
use crate::model::protocol::{AH, ICMP, ICMP_ERRORS, ICMP6, ICMP6_EVERYWHERE, WITH_PORTS};
use crate::model::ruleset::{Chain, Data, Element, Header, KeyPart, Set, SetSpec, Target, Word};
use crate::model::vip::Vip;
use std::collections::BTreeMap;
use std::net::IpAddr;

// Why rules are there, for whoever reads 'nft list ruleset' at night.
const WHOLE_WITH_PORTS: &str = "whole packets with ports";
const BEHIND_EXTENSIONS: &str = "ports behind extension headers";
pub(super) const BY_BUCKET: &str = "owned buckets are in the map";
const BY_SPI: &str = "AH: its SPI in place of ports";
const WITHOUT_PORTS: &str = "packets without ports: owned buckets are in the map";
pub(super) const FOREIGN: &str = "foreign: another node answers";
const ERRORS: &str = "ICMP errors: to every node, nothing answers them";
const ERRORS_AND_ND: &str = "ICMPv6 errors and neighbour discovery: to every node";
const FRAGMENT: &str = "a fragment: the first one of a datagram decides";

/// The VIP's chains.
pub(crate) fn chains(vip: &Vip, phases: &Phases) -> Vec<(String, Chain)> {
    let errors = match vip.address {
        IpAddr::V4(_) => Sentence::because(ERRORS).icmp4_everywhere(),
        IpAddr::V6(_) => Sentence::because(ERRORS_AND_ND).icmp6_everywhere(),
    };
    let mut chains = match vip.hasher.mode.has_ports() {
        false => vec![(vip_chain(vip.address), by_source(vip, phases, errors))],
        true => vec![
            (vip_chain(vip.address), by_ports(vip, phases, errors)),
            (ports_chain(vip.address), whole_with_ports(vip, phases)),
        ],
    };
    chains[0].1.rules.insert(0, tagged::rule(vip.address));
    let (first, rest) = vip.comments();
    chains[0].1.comment = Some(first);
    chains.extend(rest.map(|rest| {
        let mut about = Chain::of([]);
        about.comment = Some(rest);
        (about_chain(vip.address), about)
    }));
    chains.extend(leaving::chains(vip, phases));
    chains
}

/// Source address only: fragments and protocols make no difference, so nothing is asked first. Most
/// packets are foreign, and leave by the second rule: those behind it would cost a cache line more.
fn by_source(vip: &Vip, phases: &Phases, errors: Sentence) -> Chain {
    let (number, name) = match vip.address {
        IpAddr::V4(_) => (ICMP, "icmp"),
        IpAddr::V6(_) => (ICMP6, "icmpv6"),
    };
    let mut rules = vec![Sentence::because(BY_BUCKET).hash(vip, Ports::None)];
    rules.extend(handover::rule(vip, phases, Ports::None, |any| any));
    rules.extend(leaving::rule(vip, phases, Ports::None));
    rules.extend([
        Sentence::because(FOREIGN)
            .transport_protocol(vip.address)
            .differs_from(number, name)
            .counter_drop(),
        errors,
        Sentence::because(FOREIGN).counter_drop(),
    ]);
    Chain::of(rules.into_iter().map(Sentence::rule))
}

/// With ports: whole packets with ports are the common case and come first, by one lookup (for IPv4
/// of the fragment bits together with the protocol).
fn by_ports(vip: &Vip, phases: &Phases, errors: Sentence) -> Chain {
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
                .in_set(PORTS_IP6, REG0)
                .goto(&ports),
        );
    }
    rules.push(errors);
    rules.extend(without_ports(vip, phases));
    rules.push(Sentence::because(FOREIGN).counter_drop());
    Chain::of(rules.into_iter().map(Sentence::rule))
}

fn whole_with_ports(vip: &Vip, phases: &Phases) -> Chain {
    let mut rules = vec![Sentence::because(BY_BUCKET).hash(vip, Ports::At(0))];
    rules.extend(handover::rule(vip, phases, Ports::At(0), |any| any));
    rules.extend(leaving::rule(vip, phases, Ports::At(0)));
    rules.push(Sentence::because(FOREIGN).counter_drop());
    Chain::of(rules.into_iter().map(Sentence::rule))
}

/// What has no ports, or has something else in their place.
pub(super) fn without_ports(vip: &Vip, phases: &Phases) -> Vec<Sentence> {
    let has_spi = |of: Sentence| of.transport_protocol(vip.address).equals(AH, "ah");
    let has_none = |of: Sentence| {
        of.transport_protocol(vip.address)
            .differs_from(AH, "ah")
            .transport_protocol(vip.address)
            .not_in_set(ports_set(vip.address), REG0)
    };
    let mut rules = vec![has_spi(Sentence::because(BY_SPI)).hash(vip, Ports::At(4))];
    rules.extend(handover::rule(vip, phases, Ports::At(4), has_spi));
    rules.push(has_none(Sentence::because(WITHOUT_PORTS)).hash(vip, Ports::Zero));
    rules.extend(handover::rule(vip, phases, Ports::Zero, has_none));
    rules
}

/// The sets that the VIP's chains need; VIPs share them.
pub(crate) fn sets(vip: &Vip) -> Vec<(&'static str, Set)> {
    let errors = match vip.address {
        IpAddr::V4(_) => (EVERYWHERE_IP4, constant(KeyPart::IcmpType, &ICMP_ERRORS)),
        IpAddr::V6(_) => (
            EVERYWHERE_IP6,
            constant(KeyPart::Icmp6Type, &ICMP6_EVERYWHERE),
        ),
    };
    let errors = (errors.0, as_bytes(errors.1, Header::Transport, 0, 1));
    if !vip.hasher.mode.has_ports() {
        return vec![errors];
    }
    let mut sets = vec![
        errors,
        (
            PORTS,
            as_bytes(
                constant(KeyPart::Protocol, &WITH_PORTS),
                Header::Network,
                9,
                1,
            ),
        ),
    ];
    if vip.address.is_ipv4() {
        // Fragment bits, TTL (masked), protocol.
        let keys = WITH_PORTS.map(|protocol| vec![0, 0, 0, protocol]);
        let set = constant_set(KeyPart::Bits, keys);
        let set = as_bytes(set, Header::Network, 6, 4);
        sets.push((WHOLE_WITH_PORTS_IP4, set));
    } else {
        sets.push((PORTS_IP6, constant(KeyPart::Protocol, &WITH_PORTS)));
    }
    sets
}

/// The same set, looked up with bytes of a header.
fn as_bytes(mut set: Set, header: Header, offset: u32, len: u32) -> Set {
    set.spec = set.spec.worded([Word::Bytes {
        header,
        offset,
        len,
    }]);
    set
}

fn constant(part: KeyPart, numbers: &[u8]) -> Set {
    constant_set(part, numbers.iter().map(|number| vec![*number]))
}

fn constant_set(part: KeyPart, keys: impl IntoIterator<Item = Vec<u8>>) -> Set {
    let keys = keys.into_iter();
    let elements: BTreeMap<_, _> = keys.map(|key| (key, Element::new(Target::None))).collect();
    Set {
        spec: SetSpec::new(vec![part], Data::None, elements.len() as u32),
        elements,
    }
}
