//! Fragments arrive whole at the owner of their flow, and nowhere else.
//! Here the client itself sends them; what middleboxes do is in `cut_on_the_way`.

use crate::dataplane::share;
use crate::product::*;
use crate::raw::*;
use crate::sharing::*;
use clusterip::model::hash::{HashMode, Hasher, Layout};
use lab::frame::checksum;
use lab::{Client, Context, Error, Host, Lab, Node, Pace, Result};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub const SEED: u32 = 0x0f2a_9e37;

/// Three nodes that serve, and a client.
pub fn three(lab: &Lab) -> Result<(Vec<Node>, Client)> {
    Ok((serving(lab, &NODES)?, lab.client("c1")?))
}

/// Shares both VIPs in this mode; how they are hashed then.
pub fn shared(nodes: &[Node], mode: HashMode) -> Result<Hasher> {
    share(nodes, mode, Layout::default(), SEED, BUCKETS)?;
    Ok(hasher(mode, Layout::default(), SEED))
}

/// What a node's reassembly has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reassembly {
    /// Datagrams that were given up (RFC 4293), IPv4 and IPv6.
    pub fails: [u64; 2],
    /// Fragments that came as far as the reassembly.
    pub needed: [u64; 2],
    /// Datagrams put together.
    pub done: [u64; 2],
    /// Bytes that wait for more.
    pub memory: [u64; 2],
    /// Entries of connection tracking.
    pub tracked: u64,
}

impl Reassembly {
    pub fn of(host: &Host) -> Result<Self> {
        let files = "/proc/net/snmp6 /proc/net/sockstat /proc/net/sockstat6";
        let text = host.run(&["sh", "-ec", &format!("cat {files}; conntrack -C")])?;
        let snmp = host.run(&["sh", "-ec", "grep ^Ip: /proc/net/snmp"])?;
        let mut rows = snmp.lines().map(|line| line.split_whitespace());
        let (names, values) = (rows.next(), rows.next());
        let of4: Vec<_> = names
            .context("names")?
            .zip(values.context("values")?)
            .collect();
        let ip4 = |name: &str| number(of4.iter().find(|pair| pair.0 == name).map(|pair| pair.1));
        let after = |name: &str, n: usize| {
            let line = text
                .lines()
                .find(|line| line.split_whitespace().next() == Some(name));
            number(line.and_then(|line| line.split_whitespace().nth(n)))
        };
        Ok(Reassembly {
            fails: [ip4("ReasmFails")?, after("Ip6ReasmFails", 1)?],
            needed: [ip4("ReasmReqds")?, after("Ip6ReasmReqds", 1)?],
            done: [ip4("ReasmOKs")?, after("Ip6ReasmOKs", 1)?],
            memory: [after("FRAG:", 4)?, after("FRAG6:", 4)?],
            tracked: number(text.lines().last())?,
        })
    }
}

fn number(text: Option<&str>) -> Result<u64> {
    let text = text.context("a counter that is not there")?;
    text.trim().parse().context(text.to_owned())
}

#[test]
fn datagrams_of_any_size_are_answered_whole_by_the_owner() -> Result<()> {
    let lab = Lab::new("sizes")?;
    let (nodes, client) = three(&lab)?;
    let mut sent = 0;
    for mode in HashMode::ALL {
        let hasher = shared(&nodes, mode)?;
        for vip in vips() {
            let target = SocketAddr::new(vip, PORT);
            let witness = client.witness(&[vip])?;
            for size in [16, 3_000, 20_000, 60_000, 65_000] {
                // Patience for a busy machine: what is lost stays lost.
                let pace = Pace {
                    size,
                    concurrency: if size > 20_000 { 2 } else { 8 },
                    timeout: Duration::from_secs(10),
                    abort: false,
                };
                let sources = client.sources_for(vip, 40);
                let flows = sources.iter().zip(20_000..).map(|(s, p)| (*s, p));
                let report = client.udp(target, flows, pace)?;
                let what = format!("{mode}, {vip}, {size} bytes");
                report.expect_all_answered().context(&what)?;
                expect_foretold(&hasher, &report).context(&what)?;
                assert_eq!(report.by_node().len(), NODES.len(), "{what}");
                sent += report.flows.len();
            }
            judge_by(&hasher, &witness.finish()?)?;
        }
    }
    let mut done = [0; 2];
    for node in &nodes {
        let found = Reassembly::of(node)?;
        done = [done[0] + found.done[0], done[1] + found.done[1]];
        let clean = Reassembly {
            done: found.done,
            needed: found.needed,
            ..Reassembly::default()
        };
        assert_eq!(found, clean, "{}", node.name());
    }
    // Four of five sizes are more than a frame holds.
    assert_eq!(done, [480; 2]);
    lab.progress()
        .say(format!("{sent} datagrams, none lost, none doubled"));
    Ok(())
}

/// A datagram in two fragments, the first of 48 bytes.
fn in_two(from: IpAddr, to: IpAddr, sport: u16, id: u16, text: &str) -> [Vec<u8>; 2] {
    let whole = udp(from, to, [sport, PORT], text.as_bytes());
    let (first, later) = whole.split_at(48);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [
            ip4([from, to], (id, MORE), UDP, &[], first),
            ip4([from, to], (id, 6), UDP, &[], later),
        ],
        (IpAddr::V6(from), IpAddr::V6(to)) => [(first, 0), (later, 48)].map(|(piece, offset)| {
            let header = fragment_header(UDP, offset, offset == 0, id.into());
            ip6([from, to], 44, &[&header[..], piece].concat())
        }),
        _ => unreachable!("of one family"),
    }
}

#[test]
fn a_first_fragment_forgets_what_had_its_identification_before() -> Result<()> {
    const PAIRS: u16 = 60;
    let lab = Lab::new("reuse")?;
    let (nodes, client) = three(&lab)?;
    let hasher = shared(&nodes, HashMode::default())?;
    for (vip, mac) in [(ip(V4), MAC4), (ip(V6), MAC6)] {
        let sender = Sender::new(&client, mac)?;
        let witness = client.witness(&[vip])?;
        let source = client.sources_for(vip, 1)[0];
        let owner = |sport: u16| {
            let flow = flow_from(source, sport);
            owner_of(&NODES, BUCKETS, &hasher, &flow)
        };
        let mut expected = 0;
        for id in 1..=PAIRS {
            // Two flows of one source, of different nodes.
            let before = 3000 + 100 * id;
            let after = (before + 1..).find(|port| owner(*port) != owner(before));
            let after = after.context("ports of three nodes")?;
            let text = |sport: u16| format!("id{id}from{sport}{}", "-".repeat(100));
            let [first, later] = in_two(source, vip, before, id, &text(before));
            sender.send(&first)?;
            // In turns: the one before is complete, or never will be.
            if id % 2 == 0 {
                sender.send(&later)?;
                expected += 1;
            }
            for piece in in_two(source, vip, after, id, &text(after)) {
                sender.send(&piece)?;
            }
            expected += 1;
        }
        let seen = lab.wait_until("all answers", Duration::from_secs(20), || {
            match witness.frames() {
                frames if frames >= expected => Ok(frames),
                frames => Err(format!("{frames} of {expected}")),
            }
        });
        let seen = seen.context(vip)?;
        assert_eq!(seen, expected);
        judge_by(&hasher, &witness.finish()?)?;
    }
    Ok(())
}

/// How long after its first fragment a datagram is remembered, with a margin.
const REMEMBERED: Duration = Duration::from_millis(2500);

#[test]
fn later_fragments_of_others_stay_out_when_all_sets_are_full() -> Result<()> {
    // More than the set takes of those that have begun.
    const FLOOD: u32 = 70_000;
    let lab = Lab::new("full-sets")?;
    let (nodes, client) = three(&lab)?;
    let hasher = shared(&nodes, HashMode::default())?;
    for (n, (vip, mac)) in [(ip(V4), MAC4), (ip(V6), MAC6)].into_iter().enumerate() {
        let sender = Sender::new(&client, mac)?;
        let sources = client.sources_for(vip, 2);
        let port_of = |node: &str, source: IpAddr| {
            let owned =
                |port: &u16| owner_of(&NODES, BUCKETS, &hasher, &flow_from(source, *port)) == node;
            (3000..).find(owned).context("a port of each node")
        };
        let text = "-".repeat(100);
        let of = |node, source| -> Result<_> {
            Ok(in_two(source, vip, port_of(node, source)?, 7, &text))
        };
        // A datagram begins at n1. Then so many begin there that are foreign that no set has room;
        // and then the first one begins anew, and is n2's.
        let [first, _] = of("n1", sources[0])?;
        let [second, later] = of("n2", sources[0])?;
        let [other, _] = of("n2", sources[1])?;
        let began = Instant::now();
        sender.send(&first)?;
        for number in 0..FLOOD {
            // An IPv4 identification has 16 bits.
            let packet = if number < 60_000 { &other } else { &second };
            sender.send(&numbered(packet, number))?;
        }
        sender.send(&second)?;
        if began.elapsed() > REMEMBERED {
            let took = began.elapsed().as_secs_f64();
            lab.progress()
                .say(format!("{vip}: {took:.1} s is too slow to fill the sets"));
            continue;
        }
        let before = Reassembly::of(&nodes[0])?.needed[n];
        sender.send(&later)?;
        // What follows it on the same wire is seen in the answers' counters, so it has come too.
        let report = client.udp(
            SocketAddr::new(vip, PORT),
            client.sources_for(vip, 60),
            Pace::default(),
        )?;
        report.expect_all_answered()?;
        let after = Reassembly::of(&nodes[0])?.needed[n];
        assert_eq!(after, before, "{vip}: n1 keeps what is n2's");
    }
    Ok(())
}

/// The same fragment with another identification.
fn numbered(packet: &[u8], number: u32) -> Vec<u8> {
    let mut packet = packet.to_vec();
    match packet[0] >> 4 {
        4 => {
            packet[4..6].copy_from_slice(&(1000 + number as u16 % 60_000).to_be_bytes());
            packet[10..12].copy_from_slice(&[0; 2]);
            let sum = checksum(&packet[..20]).to_be_bytes();
            packet[10..12].copy_from_slice(&sum);
        }
        _ => packet[44..48].copy_from_slice(&(1000 + number).to_be_bytes()),
    }
    packet
}

/// Fails unless the memory of every node's reassembly is empty in the end.
pub fn expect_reassembly_to_empty(lab: &Lab, nodes: &[Node]) -> Result<()> {
    for node in nodes {
        let what = format!("{} to have no pieces left", node.name());
        lab.wait_until(&what, Duration::from_secs(20), || {
            match Reassembly::of(node).map_err(|error| error.to_string())? {
                found if found.memory == [0; 2] => Ok(()),
                found => Err(format!("{found:?}")),
            }
        })?;
    }
    Ok(())
}

/// Fails if a node has given up a datagram.
pub fn expect_no_reassembly_failed(nodes: &[Node]) -> Result<()> {
    for node in nodes {
        let found = Reassembly::of(node)?;
        if found.fails != [0; 2] || found.tracked != 0 {
            return Err(Error::new(format!("{}: {found:?}", node.name())));
        }
    }
    Ok(())
}
