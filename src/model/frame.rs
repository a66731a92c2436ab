//! The frames that carry what is said of a VIP: ARP, and neighbour discovery (ND) in ICMPv6, each in
//! Ethernet.
//!
//! Pure: addresses in, bytes out, and what is needed to read the bytes of others. What is said in a frame is
//! decided elsewhere: the announcement in `super::announce`, the question in `super::agreement`, its answer
//! in `super::answer`. Frames are without their check sequence. The link-layer *source* is always the
//! interface's own address, never the cluster's: no switch may learn the cluster MAC at one port (and a
//! multicast address is forbidden there). Only the payload names it.

use super::protocol::{ETHERTYPE_ARP, ETHERTYPE_IP6, ICMP6};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The shortest Ethernet frame, in bytes, without its check sequence
/// (IEEE 802.3 clause 3.2.8).
const SHORTEST: usize = 60;

/// Where an ARP message ends and its frame's padding begins.
pub(super) const ARP_PADDING: usize = 14 + 28;

const BROADCAST: [u8; 6] = [0xff; 6];
/// The group of all nodes on the link (RFC 4291 §2.7.1).
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const ARP_REQUEST: u16 = 1;
/// Ethernet and IPv4, the lengths of their addresses, and a reply (RFC 826).
pub(super) const ARP_REPLY: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 2];

/// Receivers believe neighbour discovery only with it (RFC 4861 §7.1.2).
pub(super) const HOP_LIMIT: u8 = 255;
pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Flags of an advertisement.
pub(super) const OVERRIDE: u8 = 0x20;
pub(super) const SOLICITED: u8 = 0x40;
pub(super) const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
/// The option that carries the nonce (RFC 7527 §4.2, RFC 3971 §5.3.2), of eight octets.
pub const NONCE_OPTION: u8 = 14;

/// A broadcast ARP request (RFC 826), 60 bytes.
pub(super) fn arp_request(
    sender: Ipv4Addr,
    sender_mac: [u8; 6],
    target: Ipv4Addr,
    target_mac: [u8; 6],
    nic_mac: [u8; 6],
) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, nic_mac, ETHERTYPE_ARP);
    frame.extend([0, 1]); // hardware: Ethernet
    frame.extend([8, 0]); // protocol: IPv4
    frame.extend([6, 4]); // their addresses' lengths
    frame.extend(ARP_REQUEST.to_be_bytes());
    frame.extend(sender_mac);
    frame.extend(sender.octets());
    frame.extend(target_mac);
    frame.extend(target.octets());
    frame.resize(SHORTEST, 0);
    frame
}

/// A neighbour discovery message (RFC 4861): its type, and what follows the checksum.
pub(crate) fn neighbour_message(
    kind: u8,
    body: &[u8],
    from: Ipv6Addr,
    to: Ipv6Addr,
    to_mac: [u8; 6],
    nic_mac: [u8; 6],
) -> Vec<u8> {
    let mut message = vec![kind, 0];
    message.extend([0, 0]); // the checksum's place
    message.extend(body);
    let sum = checksum(from, to, &message);
    message.splice(2..4, sum.to_be_bytes());

    let mut frame = ethernet(to_mac, nic_mac, ETHERTYPE_IP6);
    frame.extend([0x60, 0, 0, 0]); // version 6, no class, no label
    frame.extend((message.len() as u16).to_be_bytes());
    frame.extend([ICMP6, HOP_LIMIT]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend(message);
    frame
}

pub(super) fn ethernet(to: [u8; 6], from: [u8; 6], ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(94);
    frame.extend(to);
    frame.extend(from);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// The group in which an IPv6 address is asked for (RFC 4291 §2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., x, y, z] = address.octets();
    let low = u16::from_be_bytes([y, z]);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), low)
}

/// The link-layer address of an IPv6 group (RFC 2464 §7).
pub(super) fn group_mac(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// The options of a message of neighbour discovery, each with its type and length; `None` if one's
/// length is not right, for then nothing of the message counts (RFC 4861 §4.6).
pub(super) fn options_of(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut options = Vec::new();
    while !bytes.is_empty() {
        let length = 8 * usize::from(*bytes.get(1)?);
        if length == 0 || length > bytes.len() {
            return None;
        }
        let (option, rest) = bytes.split_at(length);
        options.push(option);
        bytes = rest;
    }
    Some(options)
}

/// The Internet checksum over the pseudo-header (RFC 8200 §8.1) and an ICMPv6
/// message of an even number of octets, fewer than 65,536; 0 where the message has its checksum, and that
/// is right.
pub(super) fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let pseudo = message.len() as u32 + u32::from(ICMP6);
    folded(words(&from.octets()) + words(&to.octets()) + pseudo + words(message))
}

/// The Internet checksum over an even number of octets, fewer than 65,536 (RFC 1071).
pub(super) fn internet_checksum(bytes: &[u8]) -> u16 {
    folded(words(bytes))
}

fn words(bytes: &[u8]) -> u32 {
    let pairs = bytes.chunks_exact(2);
    pairs
        .map(|pair| (u32::from(pair[0]) << 8) | u32::from(pair[1]))
        .sum()
}

fn folded(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Always 16 bits here.
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever receives it sums everything, the checksum too, and gets all
    /// ones (RFC 1071 §1).
    fn received_sum(frame: &[u8]) -> u16 {
        let (ip, icmp) = frame[14..].split_at(40);
        let mut covered = ip[8..40].to_vec();
        covered.extend([0, 0, 0, icmp.len() as u8, 0, 0, 0, 58]);
        covered.extend(icmp);
        covered.chunks(2).fold(0u16, |sum, pair| {
            let (sum, carry) = sum.overflowing_add(u16::from_be_bytes([pair[0], pair[1]]));
            sum + u16::from(carry)
        })
    }

    #[test]
    fn the_checksum_is_right_for_any_address() {
        for address in [
            "2001:db8::99",
            "fe80::1",
            "::1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe",
        ] {
            let from: Ipv6Addr = address.parse().unwrap();
            for octet in 0..=255 {
                let said = [octet, 0xff, octet, 0xff, 0, octet];
                let body = [&[OVERRIDE, 0, 0, 0][..], &from.octets(), &[2, 1], &said].concat();
                let kind = NEIGHBOUR_ADVERTISEMENT;
                let frame = neighbour_message(kind, &body, from, ALL_NODES, [0x33; 6], [2; 6]);
                assert_eq!(received_sum(&frame), 0xffff, "{address} {octet}");
            }
        }
    }

    #[test]
    fn an_address_is_asked_for_in_a_group_of_its_last_three_octets() {
        let group = solicited_node("2001:db8::12:3456".parse().unwrap());
        assert_eq!(group, "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
        assert_eq!(group_mac(group), [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
    }
}
