//! The frames that tell the neighbours where the VIP is.
//!
//! Pure: addresses in, bytes out. When a frame is sent, how often and from
//! where is decided elsewhere.

use super::frame::{
    ALL_NODES, NEIGHBOUR_ADVERTISEMENT, NONCE_OPTION, OVERRIDE, TARGET_LINK_LAYER_ADDRESS,
    arp_request, group_mac, neighbour_message,
};
use super::written::Digest;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
    let (kind, to) = (NEIGHBOUR_ADVERTISEMENT, ALL_NODES);
    neighbour_message(kind, &body, vip, to, group_mac(to), nic_mac)
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
