//! What comes again and again is an orphan, and nothing else is; what is left of connections is silent.

use super::kernel_rules::{Kernel, Packet};
use crate::model::bucket::BucketSet;
use crate::model::hash::Flow;
use crate::model::phase::Phases;
use crate::model::vip::Vip;
use crate::model::vip::tests::a_vip;
use crate::rules::adopting::family;
use crate::rules::leaving::flow_bytes;
use crate::rules::names::*;
use proptest::prelude::*;
use std::net::IpAddr;

const PSH_ACK: u8 = 0x18;
const RST: u8 = 0x04;

/// A segment with data: what names it, and what it carries.
#[derive(Debug, Clone)]
struct Segment {
    sequence: u32,
    /// What its timestamps option repeats of the peer's, if it has that.
    heard: Option<u32>,
    /// There are gaps in what it acknowledges.
    gaps: bool,
    length: usize,
}

impl Segment {
    fn options(&self) -> Vec<u8> {
        let mut options = Vec::new();
        if let Some(heard) = self.heard {
            // Its own time is another each time.
            options.extend([1, 1, 8, 10, 0, 0, 0, 0]);
            options.extend(heard.to_be_bytes());
        }
        if self.gaps {
            options.extend([1, 1, 5, 10, 0, 0, 0, 9, 0, 0, 0, 12]);
        }
        options
    }
}

/// A client whose connection this node does not know, in an adopted bucket.
struct Client {
    kernel: Kernel,
    vip: Vip,
    address: IpAddr,
}

impl Client {
    fn of(vip: &str, address: &str) -> Self {
        let vip = a_vip(vip);
        let mut phases = Phases::owning((0..vip.buckets.get()).collect::<BucketSet>());
        phases.adopting = phases.owned.iter().map(|bucket| (bucket, 60_000)).collect();
        Client {
            kernel: Kernel::with(&[(vip.clone(), phases)]),
            vip,
            address: address.parse().expect("an address"),
        }
    }

    /// One of each family.
    fn of_each() -> [Self; 2] {
        [
            Client::of("10.77.0.99", "192.0.2.7"),
            Client::of("fd77::99", "2001:db8::7"),
        ]
    }

    /// A segment and its answer: is there one?
    fn sends(&mut self, at_ms: u64, segment: &Segment) -> bool {
        let (client, service) = ((self.address, 40_000), (self.vip.address, 80));
        let family = family(self.vip.address);
        self.kernel.now_ms = at_ms;
        let (numbers, data) = ((segment.sequence, 77), vec![0; segment.length]);
        let options = segment.options();
        let mut packet = Packet::segment(client, service, PSH_ACK, numbers, &options, &data);
        assert!(self.kernel.accepts(family, BEFORE, &mut packet));
        // The number of a reset is what the client acknowledges (RFC 9293 §3.5.2).
        let mut accepts = |number| {
            let mut reset = Packet::tcp(service, client, RST, (number, 0));
            self.kernel.accepts(family, AFTER, &mut reset)
        };
        assert!(!accepts(78), "it belongs to another connection");
        accepts(77)
    }
}

/// What a client sends again if nobody answers: more than a byte, or a byte by which it says what it has
/// heard last.
fn any_unanswered() -> impl Strategy<Value = Segment> {
    let segment = |sequence, heard, length| Segment {
        sequence,
        heard,
        gaps: false,
        length,
    };
    prop_oneof![
        (any::<u32>(), 2usize..1400).prop_map(move |(n, length)| segment(n, None, length)),
        (any::<u32>(), any::<u32>(), 1usize..1400).prop_map(move |(n, heard, length)| segment(
            n,
            Some(heard),
            length
        )),
    ]
}

#[test]
fn what_comes_again_for_some_seconds_is_an_orphan() {
    for (heard, length) in [(Some(7), 1), (Some(7), 1400), (None, 2), (None, 1400)] {
        let segment = |sequence| Segment {
            sequence,
            heard,
            gaps: false,
            length,
        };
        // As Linux sends a segment again, after 0.2 s at first or after a second.
        for (times_ms, orphan_at) in [
            ([0, 200, 600, 1_400, 3_000, 6_200], 6_200),
            ([0, 1_000, 3_000, 7_000, 15_000, 31_000], 7_000),
        ] {
            for mut client in Client::of_each() {
                let mut times = times_ms.into_iter();
                let found = times.find(|ms| client.sends(*ms, &segment(1)));
                assert_eq!(found, Some(orphan_at), "{heard:?} {length}");
            }
        }
        // What is answered goes on.
        for mut client in Client::of_each() {
            let goes_on = |n: u32| Segment {
                heard: heard.map(|heard| heard + n),
                ..segment(n)
            };
            let mut answered = (0..30).map(|n| (1_000 * u64::from(n), goes_on(n)));
            assert!(!answered.any(|(ms, segment)| client.sends(ms, &segment)));
        }
    }
}

#[test]
fn what_is_left_of_a_connection_hears_nothing_until_its_client_begins_anew() {
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    for (vip, address) in [("10.77.0.99", "192.0.2.7"), ("fd77::99", "2001:db8::7")] {
        let mut client = Client::of(vip, address);
        let flow = Flow {
            source: client.address,
            source_port: 40_000,
            destination_port: 80,
        };
        let table = family(client.vip.address);
        let stale = stale_set(client.vip.address);
        client.kernel.knows(stale, flow_bytes(&flow));
        let mut hears = |came_by, port, flags| {
            let (from, to) = ((client.address, port), (client.vip.address, 80));
            let mut packet = Packet::tcp(from, to, flags, (1, 77));
            packet.came_by = came_by;
            client.kernel.accepts(table, BEFORE, &mut packet)
        };
        for flags in [ACK, PSH_ACK, RST, ACK | RST, ACK | 1] {
            assert!(!hears("eth0", 40_000, flags), "{flags:#x}");
            assert!(
                hears("eth0", 40_001, flags),
                "another connection's {flags:#x}"
            );
            assert!(hears("lo", 40_000, flags), "the node's own {flags:#x}");
        }
        assert!(hears("eth0", 40_000, SYN));
        assert!(hears("eth0", 40_000, ACK));
    }
}

/// What a client does whose peer answers everything, but may take nothing.
#[derive(Debug, Clone)]
enum Does {
    /// It sends something new, which is taken.
    GoesOn(usize),
    /// The same again, into a closed window. Clients without timestamps send a byte.
    Probes(usize),
    /// It asks whether anybody is there, with a byte that it has sent before, or none (RFC 9293 §3.8.4).
    KeepsAlive(usize),
}

fn any_doing() -> impl Strategy<Value = Does> {
    prop_oneof![
        1 => (1usize..1400).prop_map(Does::GoesOn),
        6 => prop_oneof![0usize..2, 0usize..1400].prop_map(Does::Probes),
        2 => (0usize..2).prop_map(Does::KeepsAlive),
    ]
}

proptest! {
    /// The way back of a client whose connection another node has may be jammed for a while.
    #[test]
    fn what_comes_again_within_four_seconds_is_no_orphan(
        mut times_ms in prop::collection::vec(0u64..4_000, 1..20), segment in any_unanswered(),
    ) {
        times_ms.sort_unstable();
        for mut client in Client::of_each() {
            for ms in &times_ms {
                prop_assert!(!client.sends(*ms, &segment), "after {ms} ms");
            }
        }
    }

    #[test]
    fn what_comes_again_later_is_one(
        mut times_ms in prop::collection::vec(1u64..4_000, 0..20), last_ms in 4_001u64..16_000,
        segment in any_unanswered(),
    ) {
        times_ms.extend([0, last_ms]);
        times_ms.sort_unstable();
        for mut client in Client::of_each() {
            let mut times = times_ms.iter();
            prop_assert_eq!(times.find(|ms| client.sends(**ms, &segment)), Some(&last_ms));
        }
    }

    /// A closed window, however long it is, and whatever a client sends into it.
    #[test]
    fn what_another_node_answers_is_no_orphan(
        all in prop::collection::vec((any_doing(), 1u64..20_000), 1..20),
        stamped: bool, gaps: bool,
    ) {
        for mut client in Client::of_each() {
            let (mut ms, mut next, mut heard) = (0, 1_000, 1);
            for (does, pause_ms) in &all {
                ms += pause_ms;
                let (sequence, length) = match *does {
                    Does::GoesOn(length) => (next, length),
                    Does::Probes(length) if !stamped => (next, length.min(1)),
                    Does::Probes(length) => (next, length),
                    Does::KeepsAlive(length) => (next - 1, length),
                };
                let said = stamped.then_some(heard);
                let segment = Segment { sequence, heard: said, gaps, length };
                prop_assert!(!client.sends(ms, &segment), "{segment:?} after {ms} ms");
                if let Does::GoesOn(length) = does {
                    next += *length as u32;
                }
                // What answers with a gap before it is not what the client repeats (RFC 7323 §4.3).
                if !gaps {
                    heard += *pause_ms as u32;
                }
            }
        }
    }
}
