//! A VIP's own chains at netdev ingress: which packet is hashed how, rule by rule. Pure.
//!
//! | chain | who comes here |
//! |---|---|
//! | `vip-…` | every packet for the VIP; its comment is the description |
//! | `about-…` | nobody; where the description is long its comment is the rest |
//! | `vip-…-ports` | whole packets with ports, by the shortest way |
//! | `vip-…-fragments` | first fragments; only where the hash needs ports |
//! | `vip-…-later` | later ones |
//!
//! **Fragments.** Only the first of a datagram's fragments carries the ports. It is hashed like a
//! whole packet: owned, it is accepted; foreign, it is dropped. What names its datagram (source,
//! destination, identification; for IPv4 the protocol too) goes into a set of those that have begun,
//! and into one of the foreign ones if it is, and the later fragments follow. So the fragments come
//! together at the owner alone, where the kernel reassembles them.
//!
//! A fragment that overtakes its first one is let through to wait for it, on every node; but only
//! so many at once, for where the first turns out to be foreign it fills the memory for reassembly
//! until the kernel gives it up. Without that limit a sender whose fragments come in disorder takes
//! all fragmented datagrams from all nodes.

use super::fragment_words::{datagram_key, fragment_key};
use super::leaving;
use super::names::*;
use super::sentence::{Ports, REG0, Sentence};
use super::tagged;
use crate::model::phase::Phases;
use crate::model::protocol::{
    AH, FRAGMENT_HEADER, ICMP, ICMP_ERRORS, ICMP6, ICMP6_EVERYWHERE, LAST_EARLY_OFFSET,
    LONGEST_EARLY, WITH_PORTS,
};
use crate::model::ruleset::{
    Chain, Data, Element, Header, KeyPart, Lifetime, Set, SetSpec, Target, Word,
};
use crate::model::vip::Vip;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// How long a datagram is remembered after its first fragment.
const FRAGMENT_LIFETIME_MS: u64 = 3_000;
/// The most datagrams of a family that have begun, some 100 bytes each. The later fragments of what has
/// no more room, and those that come later still, count as early ones.
const MOST_BEGUN: u32 = 65_536;
/// The most foreign ones. All of them have begun, but the kernel collects what has ended once a second
/// from each set by itself; what has begun must never be foreign without having room here.
const MOST_FOREIGN: u32 = 2 * MOST_BEGUN;
/// How long the kernel keeps a fragment whose datagram is not completed: `IP_FRAG_TIME` and
/// `IPV6_FRAG_TIMEOUT`, the usual values of `ipfrag_time` and `ip6frag_time`.
const EARLY_LIFETIME_IP4_MS: u64 = 30_000;
const EARLY_LIFETIME_IP6_MS: u64 = 60_000;
/// The most fragments that wait for a first one at once. The kernel has 4 MiB for them
/// (`ipfrag_high_thresh`), which 455 jumbo frames fill, or some 1,700 frames of 1500 bytes.
const MOST_EARLY: u32 = 256;
/// How often in a second a datagram is taken out of a set. What is deleted stays in its place in the
/// hash table until the kernel collects it (`nft_rhash_gc()`, once a second), so whoever repeats one
/// identification makes every look-up of it longer.
const MOST_REUSED: u32 = 64;

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
const LATER_FRAGMENT: &str = "the others follow it";
const LATER_FOREIGN: &str = "its first fragment was foreign";
const LATER: &str = "its first fragment was not";
const EARLY: &str = "its first fragment is still to come";
const TOO_EARLY: &str = "too many wait for their first fragment";
const COMPLAINT: &str = "too early, and every node would complain of it";
const REUSED: &str = "an identification that comes again";
const FIRST: &str = "a first fragment: the later ones follow";
const NO_ROOM: &str = "foreign, and no room to say so: the later ones count as early";
const FIRST_FOREIGN: &str = "foreign: so are the later ones";

/// The VIP's chains.
pub(crate) fn chains(vip: &Vip, phases: &Phases) -> Vec<(String, Chain)> {
    let errors = match vip.address {
        IpAddr::V4(_) => Sentence::because(ERRORS).icmp4_everywhere(),
        IpAddr::V6(_) => Sentence::because(ERRORS_AND_ND).icmp6_everywhere(),
    };
    let mut chains = match vip.hasher.mode.has_ports() {
        false => vec![(vip_chain(vip.address), by_source(vip, phases, errors))],
        true => vec![
            (vip_chain(vip.address), by_ports(vip, errors)),
            (ports_chain(vip.address), whole_with_ports(vip, phases)),
            (fragments_chain(vip.address), first_fragments(vip, phases)),
            (later_chain(vip.address), later_fragments(vip.address)),
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
                .in_set(PORTS_IP6, REG0)
                .goto(&ports),
        );
    }
    rules.push(errors);
    rules.extend(without_ports(vip));
    rules.push(Sentence::because(FOREIGN).counter_drop());
    Chain::of(rules.into_iter().map(Sentence::rule))
}

fn whole_with_ports(vip: &Vip, phases: &Phases) -> Chain {
    let mut rules = vec![Sentence::because(BY_BUCKET).hash(vip, Ports::At(0))];
    rules.extend(leaving::rule(vip, phases, Ports::At(0)));
    rules.push(Sentence::because(FOREIGN).counter_drop());
    Chain::of(rules.into_iter().map(Sentence::rule))
}

/// What has no ports, or has something else in their place.
fn without_ports(vip: &Vip) -> [Sentence; 2] {
    [
        Sentence::because(BY_SPI)
            .transport_protocol(vip.address)
            .equals(AH, "ah")
            .hash(vip, Ports::At(4)),
        Sentence::because(WITHOUT_PORTS)
            .transport_protocol(vip.address)
            .differs_from(AH, "ah")
            .transport_protocol(vip.address)
            .not_in_set(ports_set(vip.address), REG0)
            .hash(vip, Ports::Zero),
    ]
}

/// The set of protocols with ports in which [`Sentence::transport_protocol`] is looked up.
fn ports_set(vip: IpAddr) -> &'static str {
    match vip {
        IpAddr::V4(_) => PORTS,
        IpAddr::V6(_) => PORTS_IP6,
    }
}

/// The first fragment of a datagram decides, and says so in the sets.
fn first_fragments(vip: &Vip, phases: &Phases) -> Chain {
    let address = vip.address;
    let sets = fragment_sets(address);
    let mut rules = vec![
        Sentence::because(LATER_FRAGMENT)
            .later_fragment(address)
            .goto(&later_chain(address)),
        Sentence::because(REUSED)
            .datagram_in(sets.foreign, address)
            .at_most_a_second(MOST_REUSED)
            .forget(sets.foreign, address),
        Sentence::because(FIRST)
            .datagram(address)
            .keep(sets.begun, address),
        Sentence::because(BY_BUCKET)
            .transport_protocol(address)
            .in_set(ports_set(address), REG0)
            .hash(vip, Ports::At(0)),
    ];
    rules.extend(leaving::rule(vip, phases, Ports::At(0)));
    rules.extend(without_ports(vip));
    rules.extend([
        Sentence::because(FIRST_FOREIGN)
            .datagram_in(sets.begun, address)
            .keep(sets.foreign, address)
            .counter_drop(),
        // Then it must not have begun either.
        Sentence::because(NO_ROOM)
            .datagram_in(sets.begun, address)
            .at_most_a_second(MOST_REUSED)
            .forget(sets.begun, address)
            .counter_drop(),
        Sentence::because(FOREIGN).counter_drop(),
    ]);
    Chain::of(rules.into_iter().map(Sentence::rule))
}

/// The later ones go by what the first one said, or wait for it.
fn later_fragments(vip: IpAddr) -> Chain {
    let sets = fragment_sets(vip);
    let mut rules = vec![
        Sentence::because(LATER_FOREIGN)
            .datagram_in(sets.foreign, vip)
            .counter_drop(),
        Sentence::because(LATER)
            .datagram_in(sets.begun, vip)
            .goto(TO_HOST),
    ];
    if vip.is_ipv6() {
        rules.extend(complained_of());
    }
    rules.extend([
        Sentence::because(EARLY)
            .datagram(vip)
            .offset(vip)
            .keep_fragment(sets.early, vip)
            .goto(TO_HOST),
        Sentence::because(TOO_EARLY).counter_drop(),
    ]);
    Chain::of(rules.into_iter().map(Sentence::rule))
}

/// Later IPv6 fragments that the kernel would answer with an ICMPv6 error before the first one has
/// come (`ip6_frag_queue()`, RFC 8200 §4.5), and that would be by every node: behind other extension
/// headers, shorter than the fragment header (or as long: with nothing behind it), of a length that is
/// no multiple of eight although more follow, or beyond the longest datagram. The last is told by two
/// limits, for rules cannot add.
fn complained_of() -> [Sentence; 5] {
    let later = || Sentence::because(COMPLAINT);
    [
        later()
            .ip6_nexthdr(REG0)
            .differs_from(FRAGMENT_HEADER, "ipv6-frag")
            .counter_drop(),
        later().ip6_length().at_most(8).counter_drop(),
        later()
            .ip6_more_fragments()
            .ip6_length()
            .and(REG0, &[0, 7])
            .not_equal(REG0, &[0, 0])
            .say("& 7 != 0")
            .counter_drop(),
        later().ip6_length().more_than(LONGEST_EARLY).counter_drop(),
        later()
            .ip6_offset()
            .more_than(LAST_EARLY_OFFSET)
            .counter_drop(),
    ]
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
    let names = fragment_sets(vip.address);
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
        (names.foreign, datagrams(vip.address, MOST_FOREIGN)),
        (names.begun, datagrams(vip.address, MOST_BEGUN)),
        (names.early, fragments_that_wait(vip.address)),
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

/// A set of datagrams, by what the kernel's reassembly goes by (`struct frag_v4_compare_key`,
/// `frag_v6_compare_key`).
fn datagrams(vip: IpAddr, most: u32) -> Set {
    learnt(datagram_key(vip), most, FRAGMENT_LIFETIME_MS)
}

/// A set of single fragments, by their datagrams and where in them they stand.
fn fragments_that_wait(vip: IpAddr) -> Set {
    let lifetime = match vip {
        IpAddr::V4(_) => EARLY_LIFETIME_IP4_MS,
        IpAddr::V6(_) => EARLY_LIFETIME_IP6_MS,
    };
    learnt(fragment_key(vip), MOST_EARLY, lifetime)
}

fn learnt((key, words): (Vec<KeyPart>, Vec<Word>), size: u32, lifetime_ms: u64) -> Set {
    Set::new(SetSpec {
        lifetime: Lifetime::Learnt(lifetime_ms),
        ..SetSpec::new(key, Data::None, size).worded(words)
    })
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
