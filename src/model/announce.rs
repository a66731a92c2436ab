//! The frames that tell the neighbours where the VIP is.
//!
//! Pure: addresses in, bytes out. When a frame is sent, how often and from
//! where is decided elsewhere. The link-layer *source* is always the
//! interface's own address, never the cluster's: no switch may learn the
//! cluster MAC at one port (and a multicast address is forbidden there). Only
//! the payload names it.

use super::agreement::{Digest, NONCE_OPTION};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The shortest Ethernet frame, in bytes, without its check sequence
/// (IEEE 802.3 clause 3.2.8).
const SHORTEST: usize = 60;

/// Where an ARP message ends and its frame's padding begins.
pub(super) const ARP_PADDING: usize = 14 + 28;

const BROADCAST: [u8; 6] = [0xff; 6];
/// The group of all nodes on the link, and its link-layer address
/// (RFC 4291 §2.7.1, RFC 2464 §7).
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;
const ARP_REQUEST: u16 = 1;
pub(super) const ICMPV6: u8 = 58;
pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const OVERRIDE: u8 = 0x20;
pub(super) const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
/// Receivers believe neighbour discovery only with it (RFC 4861 §7.1.2).
pub(super) const HOP_LIMIT: u8 = 255;

/// The announcement of a VIP: a whole Ethernet frame, without its check
/// sequence, that makes neighbours who know the VIP remember `cluster_mac`
/// for it.
///
/// - IPv4: a gratuitous ARP request (an *ARP Announcement*, RFC 5227 §2.3):
///   sender and target protocol address are the VIP, the sender's hardware
///   address is the cluster MAC. A request and no reply, because some stacks
///   do not believe replies that nobody asked for. 60 bytes.
/// - IPv6: an unsolicited neighbour advertisement to all nodes (RFC 4861
///   §7.2.6), with the Override flag, so that what neighbours remember is
///   replaced, without the Solicited flag, and without the Router flag: a node
///   that is the link's router should not announce a VIP that its neighbours
///   use as such. 94 bytes. It carries the description's digest as a nonce, for
///   nodes that are just asking (`super::agreement`); others ignore it.
///
/// `nic_mac` is the sending interface's own address.
#[must_use]
pub fn frame(vip: IpAddr, cluster_mac: [u8; 6], nic_mac: [u8; 6], digest: Digest) -> Vec<u8> {
    match vip {
        IpAddr::V4(vip) => gratuitous_arp(vip, cluster_mac, nic_mac),
        IpAddr::V6(vip) => unsolicited_advertisement(vip, cluster_mac, nic_mac, digest),
    }
}

fn gratuitous_arp(vip: Ipv4Addr, cluster_mac: [u8; 6], nic_mac: [u8; 6]) -> Vec<u8> {
    // The target's is "ignored and should be all zeroes" (RFC 5227 §2.1.1).
    arp_request(vip, cluster_mac, vip, [0; 6], nic_mac)
}

fn unsolicited_advertisement(
    vip: Ipv6Addr,
    cluster_mac: [u8; 6],
    nic_mac: [u8; 6],
    digest: Digest,
) -> Vec<u8> {
    let mut body = vec![OVERRIDE, 0, 0, 0];
    body.extend(vip.octets());
    body.extend([TARGET_LINK_LAYER_ADDRESS, 1]); // 1: eight octets
    body.extend(cluster_mac);
    body.extend([NONCE_OPTION, 1]);
    body.extend(digest);
    let to = (ALL_NODES, ALL_NODES_MAC);
    neighbour_message(NEIGHBOUR_ADVERTISEMENT, &body, vip, to.0, to.1, nic_mac)
}

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

    let mut frame = ethernet(to_mac, nic_mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]); // version 6, no class, no label
    frame.extend((message.len() as u16).to_be_bytes());
    frame.extend([ICMPV6, HOP_LIMIT]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend(message);
    frame
}

fn ethernet(to: [u8; 6], from: [u8; 6], ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(94);
    frame.extend(to);
    frame.extend(from);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// The Internet checksum over the pseudo-header (RFC 8200 §8.1) and an ICMPv6
/// message of an even number of octets, fewer than 65,536; 0 where the message has its checksum, and that
/// is right.
pub(super) fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes
            .chunks_exact(2)
            .map(|pair| (u32::from(pair[0]) << 8) | u32::from(pair[1]))
            .sum()
    };
    let mut sum = words(&from.octets()) + words(&to.octets());
    sum += message.len() as u32 + u32::from(ICMPV6);
    sum += words(message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Always 16 bits here.
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: [u8; 6] = [0x01, 0x00, 0x5e, 0x7f, 0x00, 0x63];
    const DIGEST: Digest = [1, 2, 3, 4, 5, 6];
    const NIC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

    #[test]
    #[rustfmt::skip]
    fn arp_to_the_byte() {
        let frame = frame([10, 77, 0, 99].into(), CLUSTER, NIC, DIGEST);
        let mut expected = vec![
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
            0x01, 0x00, 0x5e, 0x7f, 0x00, 0x63, 10, 77, 0, 99,
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 10, 77, 0, 99,
        ];
        expected.resize(60, 0);
        assert_eq!(frame, expected);
    }

    #[test]
    #[rustfmt::skip]
    fn advertisement_to_the_byte() {
        let cluster = [0x33, 0x33, 0xff, 0x00, 0x00, 0x99];
        let frame = frame("2001:db8::99".parse().unwrap(), cluster, NIC, DIGEST);
        let vip = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x99];
        let expected = [
            &[0x33, 0x33, 0, 0, 0, 1, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x86, 0xdd][..],
            &[0x60, 0, 0, 0, 0, 40, 58, 255], &vip,
            &[0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            &[136, 0, 0xb0, 0x19, 0x20, 0, 0, 0], &vip,
            &[2, 1, 0x33, 0x33, 0xff, 0x00, 0x00, 0x99],
            &[14, 1, 1, 2, 3, 4, 5, 6],
        ].concat();
        assert_eq!(frame, expected);
        assert_eq!(frame.len(), 94);
    }

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
        for vip in [
            "2001:db8::99",
            "fe80::1",
            "::1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe",
        ] {
            for octet in 0..=255 {
                let cluster = [octet, 0xff, octet, 0xff, 0, octet];
                let bytes = frame(vip.parse().unwrap(), cluster, NIC, DIGEST);
                assert_eq!(received_sum(&bytes), 0xffff, "{vip} {octet}");
            }
        }
    }

    #[test]
    fn the_link_layer_source_is_never_the_cluster() {
        for vip in ["10.77.0.99", "2001:db8::99"] {
            assert_eq!(
                frame(vip.parse().unwrap(), CLUSTER, NIC, DIGEST)[6..12],
                NIC
            );
        }
    }
}
