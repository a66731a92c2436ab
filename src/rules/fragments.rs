//! What comes in fragments, where the hash needs ports: the first one decides, the others follow it. Pure.
//!
//! | chain | who comes here |
//! |---|---|
//! | `vip-…-fragments` | first fragments |
//! | `vip-…-later` | later ones |
//!
//! Only the first of a datagram's fragments carries the ports. It is hashed like a
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
use super::handover;
use super::ingress::{BY_BUCKET, FOREIGN, without_ports};
use super::leaving;
use super::names::*;
use super::sentence::{Ports, REG0, Sentence};
use crate::model::phase::Phases;
use crate::model::protocol::{FRAGMENT_HEADER, LAST_EARLY_OFFSET, LONGEST_EARLY};
use crate::model::ruleset::{Chain, Data, KeyPart, Lifetime, Set, SetSpec, Word};
use crate::model::vip::Vip;
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

/// The VIP's chains for fragments.
pub(super) fn chains(vip: &Vip, phases: &Phases) -> Vec<(String, Chain)> {
    if !vip.hasher.mode.has_ports() {
        return Vec::new();
    }
    vec![
        (fragments_chain(vip.address), first_fragments(vip, phases)),
        (later_chain(vip.address), later_fragments(vip.address)),
    ]
}

/// The first fragment of a datagram decides, and says so in the sets.
fn first_fragments(vip: &Vip, phases: &Phases) -> Chain {
    let address = vip.address;
    let sets = fragment_sets(address);
    let has_ports = |of: Sentence| {
        of.transport_protocol(address)
            .in_set(ports_set(address), REG0)
    };
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
        has_ports(Sentence::because(BY_BUCKET)).hash(vip, Ports::At(0)),
    ];
    rules.extend(handover::rule(vip, phases, Ports::At(0), has_ports));
    rules.extend(leaving::rule(vip, phases, Ports::At(0)));
    rules.extend(without_ports(vip, phases));
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

/// The sets that these chains need; VIPs share them.
pub(super) fn sets(vip: &Vip) -> Vec<(&'static str, Set)> {
    if !vip.hasher.mode.has_ports() {
        return Vec::new();
    }
    let names = fragment_sets(vip.address);
    vec![
        (names.foreign, datagrams(vip.address, MOST_FOREIGN)),
        (names.begun, datagrams(vip.address, MOST_BEGUN)),
        (names.early, fragments_that_wait(vip.address)),
    ]
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
