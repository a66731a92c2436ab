//! Packets written by hand, for what no socket of the kernel would send.

use lab::frame::checksum;
use lab::{Client, Wire};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// IPv4's "more fragments".
pub const MORE: u16 = 0x2000;

/// An IPv4 packet. `bits` are the flags and the offset; options fill whole words.
pub fn ip4(
    [from, to]: [Ipv4Addr; 2],
    (id, bits): (u16, u16),
    protocol: u8,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![0x40 | (header / 4) as u8, 0];
    packet.extend(((header + payload.len()) as u16).to_be_bytes());
    packet.extend(id.to_be_bytes());
    packet.extend(bits.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(options);
    let sum = checksum(&packet).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    packet.extend(payload);
    packet
}

/// An IPv6 packet; extension headers, if any, are the payload's beginning.
pub fn ip6([from, to]: [Ipv6Addr; 2], next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// IPv6's fragment header; the offset in bytes.
pub fn fragment_header(next: u8, offset: u16, more: bool, id: u32) -> [u8; 8] {
    let [high, low] = (offset | u16::from(more)).to_be_bytes();
    let [a, b, c, d] = id.to_be_bytes();
    [next, 0, high, low, a, b, c, d]
}

/// A UDP datagram with its checksum.
pub fn udp(from: IpAddr, to: IpAddr, [sport, dport]: [u16; 2], text: &[u8]) -> Vec<u8> {
    let length = (8 + text.len()) as u16;
    let mut datagram = Vec::new();
    for number in [sport, dport, length, 0] {
        datagram.extend(number.to_be_bytes());
    }
    datagram.extend(text);
    let sum = match transport_checksum(from, to, UDP, &datagram) {
        0 => 0xffff,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

/// A TCP segment with its checksum; options fill whole words.
pub fn tcp(
    [from, to]: [SocketAddr; 2],
    flags: u8,
    [sequence, acknowledged]: [u32; 2],
    options: &[u8],
    data: &[u8],
) -> Vec<u8> {
    let mut segment = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledged.to_be_bytes());
    let words = 5 + options.len() as u8 / 4;
    segment.extend([words << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend([options, data].concat());
    let sum = transport_checksum(from.ip(), to.ip(), TCP, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

pub fn transport_checksum(from: IpAddr, to: IpAddr, protocol: u8, whole: &[u8]) -> u16 {
    let mut summed = [octets(from), octets(to)].concat();
    summed.extend([0, protocol]);
    summed.extend((whole.len() as u16).to_be_bytes());
    summed.extend(whole);
    checksum(&summed)
}

pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// What a client puts on its wire for the VIP's MAC.
pub struct Sender {
    wire: Wire,
    before: Vec<u8>,
}

impl Sender {
    pub fn new(client: &Client, cluster_mac: &str) -> lab::Result<Self> {
        let to: lab::Mac = cluster_mac.parse()?;
        let mut before = to.0.to_vec();
        before.extend(client.mac().0);
        let wire = client.wire("eth0")?;
        Ok(Sender { wire, before })
    }

    pub fn send(&self, packet: &[u8]) -> lab::Result<()> {
        self.send_tagged([], packet)
    }

    /// The same with the tag of a VLAN, if there is one.
    pub fn send_tagged<const N: usize>(&self, tag: [u8; N], packet: &[u8]) -> lab::Result<()> {
        let kind: u16 = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
        let mut frame = self.before.clone();
        frame.extend(tag);
        frame.extend(kind.to_be_bytes());
        frame.extend(packet);
        self.wire.send(&frame)
    }
}
