//! All of IP's protocols, as a table: by which node's rules packets get that no socket of this
//! kernel would send, and that it is the one that the mirror of the rules foretells.

use crate::fragments::*;
use crate::product::*;
use crate::raw::*;
use crate::sharing::*;
use clusterip::model::hash::{HashMode, Hasher};
use clusterip::model::packet::{Taker, judge};
use lab::{Client, Context, Lab, Node, Result};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

const SOURCES: usize = 30;

/// What comes behind the IP header, from a source and port to a VIP.
type Payload = fn(IpAddr, IpAddr, u16) -> Vec<u8>;

/// A kind of packets: its name, its protocol or first extension header, IPv4's options.
#[derive(Clone, Copy)]
struct Kind(&'static str, u8, &'static [u8], Payload);

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// "Router alert", and padding.
const OPTIONS: [u8; 8] = [0x94, 4, 0, 0, 1, 1, 1, 0];

/// The same over both families.
const TRANSPORTS: [Kind; 7] = [
    Kind("TCP SYN", 6, &[], tcp),
    Kind("SCTP INIT", 132, &[], sctp),
    Kind("DCCP", 33, &[], ports),
    Kind("UDP-Lite", 136, &[], ports),
    Kind("ESP", 50, &[], ports),
    Kind("AH", 51, &[], ah),
    Kind("GRE", 47, &[], ports),
];

fn kinds4() -> Vec<Kind> {
    let before = [
        Kind("UDP", UDP, &[], datagram),
        Kind("UDP behind options", UDP, &OPTIONS, datagram),
    ];
    let behind = [
        Kind("unknown", 253, &OPTIONS, ports),
        Kind("echo request", 1, &[], |_, _, port| icmp([8, 0], port)),
        Kind("unreachable", 1, &[], |_, _, port| icmp([3, 1], port)),
    ];
    [&before[..], &TRANSPORTS, &behind].concat()
}

fn kinds6() -> Vec<Kind> {
    let before = [
        Kind("UDP", UDP, &[], datagram),
        Kind("UDP, hop-by-hop", HOP_BY_HOP, &[], |from, to, port| {
            extended(&[], from, to, port)
        }),
        Kind("UDP, destination", DESTINATION, &[], |from, to, port| {
            extended(&[], from, to, port)
        }),
        Kind("UDP, routing", ROUTING, &[], |from, to, port| {
            extended(&[], from, to, port)
        }),
        Kind("UDP, all three", HOP_BY_HOP, &[], |from, to, port| {
            extended(&[DESTINATION, ROUTING], from, to, port)
        }),
        Kind("UDP, lone fragment", FRAGMENT, &[], |from, to, port| {
            let header = fragment_header(UDP, 0, false, port.into());
            [&header[..], &datagram(from, to, port)].concat()
        }),
    ];
    let behind = [
        Kind("unknown", 253, &[], ports),
        Kind("echo request", 58, &[], |_, _, port| icmp([128, 0], port)),
        Kind("too big", 58, &[], |_, _, port| icmp([2, 0], port)),
    ];
    [&before[..], &TRANSPORTS, &behind].concat()
}

fn datagram(from: IpAddr, to: IpAddr, port: u16) -> Vec<u8> {
    udp(from, to, [port, PORT], format!("from{from}").as_bytes())
}

/// UDP behind extension headers; the first one's number stands before, `then` are the others.
fn extended(then: &[u8], from: IpAddr, to: IpAddr, port: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for next in then.iter().chain(&[UDP]) {
        // As options: padding. As a routing header: type 1, of which nothing is left.
        bytes.extend([*next, 0, 1, 0, 1, 2, 0, 0]);
    }
    bytes.extend(datagram(from, to, port));
    bytes
}

/// Two ports (or an SPI of as many bits), and something behind.
fn ports(_: IpAddr, _: IpAddr, port: u16) -> Vec<u8> {
    let mut bytes = [port.to_be_bytes(), PORT.to_be_bytes()].concat();
    bytes.extend([7; 28]);
    bytes
}

fn tcp(_: IpAddr, _: IpAddr, port: u16) -> Vec<u8> {
    let mut segment = [port.to_be_bytes(), PORT.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

fn sctp(_: IpAddr, _: IpAddr, port: u16) -> Vec<u8> {
    let mut packet = [port.to_be_bytes(), PORT.to_be_bytes()].concat();
    // No tag, no checksum; INIT of 20 bytes: tag, window, streams, sequence number.
    packet.extend([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20]);
    packet.extend([0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1]);
    packet
}

/// The SPI comes after the next protocol and the length.
fn ah(_: IpAddr, _: IpAddr, port: u16) -> Vec<u8> {
    let mut header = vec![UDP, 4, 0, 0];
    header.extend([port.to_be_bytes(), PORT.to_be_bytes()].concat());
    header.extend([9; 16]);
    header
}

fn icmp([kind, code]: [u8; 2], id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    [&[kind, code, 0, 0, high, low, 0, 1][..], &[0; 40]].concat()
}

/// What the nodes' kernels are asked to count behind the product's rules.
const COUNTERS: &str = "table netdev watch {
    set seen4 { type ipv4_addr; flags dynamic; size 65535; }
    set seen6 { type ipv6_addr; flags dynamic; size 65535; }
    chain behind {
        type filter hook ingress device eth0 priority 0
        meta pkttype host ip daddr 10.77.0.99 ip saddr 10.78.0.0/16 add @seen4 { ip saddr counter }
        meta pkttype host ip6 daddr fd77::99 ip6 saddr fd78::/64 add @seen6 { ip6 saddr counter }
    }
}";

/// How often each node let a packet from each source through.
fn counted(nodes: &[Node], set: &str) -> Result<BTreeMap<(String, String), u64>> {
    let mut counts = BTreeMap::new();
    for node in nodes {
        let text = node.run(&["nft", "-j", "list", "set", "netdev", "watch", set])?;
        let json: serde_json::Value = serde_json::from_str(&text).context("nft's JSON")?;
        let sets = json["nftables"].as_array().context("nft's objects")?;
        for element in sets.iter().filter_map(|set| set["set"]["elem"].as_array()) {
            for element in element.iter().map(|element| &element["elem"]) {
                let source = element["val"].as_str().context("a source")?;
                let packets = element["counter"]["packets"].as_u64();
                let key = (source.to_owned(), node.name().to_owned());
                counts.insert(key, packets.context("a counter")?);
            }
        }
    }
    Ok(counts)
}

/// What the n-th source sends of a kind.
fn packet(kind: &Kind, vip: IpAddr, source: IpAddr) -> Vec<u8> {
    let Kind(_, protocol, options, payload) = kind;
    let port = 5_000 + u16::from(octets(source).last().copied().unwrap_or_default());
    let payload = payload(source, vip, port);
    match (source, vip) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ip4([from, to], (7, 0), *protocol, options, &payload),
        (IpAddr::V6(from), IpAddr::V6(to)) => ip6([from, to], *protocol, &payload),
        _ => unreachable!("of one family"),
    }
}

/// Sends all kinds to one VIP; gives for each how many packets each node took.
fn tell(
    lab: &Lab,
    (nodes, client): (&[Node], &Client),
    (vip, kinds, set): (IpAddr, &[Kind], &str),
    hasher: Hasher,
) -> Result<Vec<[usize; 3]>> {
    let vip_described = described(vip, hasher, BUCKETS);
    let mac = if vip.is_ipv4() { MAC4 } else { MAC6 };
    let sender = Sender::new(client, mac)?;
    let witness = client.witness(&[vip])?;
    let sources = client.sources_for(vip, SOURCES * kinds.len());
    let (mut foretold, mut table, mut answers) = (BTreeMap::new(), Vec::new(), 0);
    for (kind, sources) in kinds.iter().zip(sources.chunks(SOURCES)) {
        let mut row = [0; 3];
        for source in sources {
            let packet = packet(kind, vip, *source);
            let judged = judge(&vip_described, &packet).context("a packet for the VIP")?;
            let takers = match judged.taker {
                Taker::Bucket(bucket) => &NODES[usize::from(bucket) % 3..][..1],
                Taker::Everyone => &NODES[..],
                other => panic!("{}: {other:?}", kind.0),
            };
            for taker in takers {
                foretold.insert((source.to_string(), (*taker).to_owned()), 1);
                row[NODES.iter().position(|node| node == taker).expect("a node")] += 1;
            }
            answers += usize::from(kind.0.starts_with("UDP") && kind.0 != "UDP-Lite");
            sender.send(&packet)?;
        }
        table.push(row);
    }
    let total: u64 = foretold.values().sum();
    lab.wait_until(
        "all packets counted",
        Duration::from_secs(5),
        || match counted(nodes, set).map(|counts| counts.values().sum::<u64>()) {
            Ok(count) if count >= total => Ok(()),
            Ok(count) => Err(format!("{count} of {total}")),
            Err(error) => Err(error.to_string()),
        },
    )?;
    let counted = counted(nodes, set)?;
    for (kind, sources) in kinds.iter().zip(sources.chunks(SOURCES)) {
        for source in sources {
            let takers = |all: &BTreeMap<(String, String), u64>| {
                NODES.map(|node| all.get(&(source.to_string(), node.into())).copied())
            };
            let (found, foretold) = (takers(&counted), takers(&foretold));
            assert_eq!(found, foretold, "{} from {source} to {vip}", kind.0);
        }
    }
    // The kernel answers UDP alone: all else has no checksum.
    lab.wait_until("all answers", Duration::from_secs(20), || {
        match witness.frames() {
            frames if frames >= answers => Ok(()),
            frames => Err(format!("{frames} of {answers}")),
        }
    })?;
    let seen = witness.finish()?;
    judge_by(&hasher, &seen)?;
    assert_eq!(seen.frames.len(), answers, "{vip}");
    Ok(table)
}

#[test]
fn every_protocol_is_taken_by_the_node_that_the_mirror_foretells() -> Result<()> {
    let lab = Lab::new("protocols")?;
    let (nodes, client) = three(&lab)?;
    // What comes back finds no sockets; nobody is to hear of that.
    let quiet = "table inet quiet {
        chain out {
            type filter hook output priority 0
            ip daddr 10.77.0.99 drop
            icmpv6 type nd-neighbor-advert accept
            ip6 daddr fd77::99 drop
        }
    }";
    client.exec(&["nft", "-f", "-"]).stdin(quiet).run()?;
    for (vip, kinds, set) in [(ip(V4), kinds4(), "seen4"), (ip(V6), kinds6(), "seen6")] {
        let mut columns = Vec::new();
        for mode in HashMode::ALL {
            let hasher = shared(&nodes, mode)?;
            for node in &nodes {
                let again = format!("table netdev watch\ndelete table netdev watch\n{COUNTERS}");
                node.exec(&["nft", "-f", "-"]).stdin(again).run()?;
            }
            columns.push(tell(&lab, (&nodes, &client), (vip, &kinds, set), hasher)?);
        }
        let head = HashMode::ALL.map(|mode| format!("{mode:>30}")).concat();
        println!("{:24}{head}", format!("taken by n1/n2/n3: {vip}"));
        for (n, Kind(name, ..)) in kinds.iter().enumerate() {
            let cells = columns.iter().map(|column| {
                let [a, b, c] = column[n];
                format!("{:>30}", format!("{a}/{b}/{c}"))
            });
            println!("{name:24}{}", cells.collect::<String>());
        }
    }
    Ok(())
}
