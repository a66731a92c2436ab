//! The question whether anybody on the link shares the VIP under another description, and the answer
//! to it, as frames. Pure.
//!
//! The question is a probe for the address, as every host may send one before it uses an address
//! (RFC 5227 §2.1.1, RFC 4862 §5.4), with six bytes of the description's digest in a field that
//! probes leave free: the target hardware address of ARP, the nonce of neighbour discovery
//! (RFC 7527). Nodes that share the VIP have a rule that drops probes with their own digest. So
//! silence is consent; a node with another description answers, as the kernel answers every probe
//! for an address that it has, and says its cluster MAC. So does a node that has lost its rules, or a
//! stranger who has the address for himself, but with a MAC of his own.

use super::announce::{ETHERTYPE_ARP, ETHERTYPE_IPV6, arp_request, neighbour_message};
use super::mac::Mac;
use std::net::{IpAddr, Ipv6Addr};

/// The digest's first bytes, as they stand in a probe.
pub type Digest = [u8; 6];

/// The option that carries the nonce (RFC 7527 §4.2, RFC 3971 §5.3.2), of eight octets.
pub const NONCE_OPTION: u8 = 14;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const ARP_REPLY: [u8; 2] = [0, 2];

/// The group in which an IPv6 address is asked for (RFC 4291 §2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., x, y, z] = address.octets();
    let low = u16::from_be_bytes([y, z]);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), low)
}

/// The EtherType in which question and answer come.
pub fn ethertype(vip: IpAddr) -> u16 {
    match vip {
        IpAddr::V4(_) => ETHERTYPE_ARP,
        IpAddr::V6(_) => ETHERTYPE_IPV6,
    }
}

/// The question, as a whole Ethernet frame.
pub fn question(vip: IpAddr, digest: Digest, nic_mac: Mac) -> Vec<u8> {
    match vip {
        IpAddr::V4(vip) => arp_request([0; 4].into(), nic_mac.0, vip, digest, nic_mac.0),
        IpAddr::V6(vip) => {
            let mut body = vec![0; 4];
            body.extend(vip.octets());
            body.extend([NONCE_OPTION, 1]);
            body.extend(digest);
            let to = solicited_node(vip);
            let [.., a, b, c, d] = to.octets();
            let mac = [0x33, 0x33, a, b, c, d];
            neighbour_message(
                SOLICITATION,
                &body,
                Ipv6Addr::UNSPECIFIED,
                to,
                mac,
                nic_mac.0,
            )
        }
    }
}

/// An answer to the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Who sent it: the frame's source.
    pub from: Mac,
    /// The link-layer address that it says the VIP has. A node with a description says a cluster
    /// MAC, which is a multicast one; a node that has lost its rules, or a stranger, says its own.
    pub says: Mac,
}

/// The answer in this frame, if it is one. The announcement of a node that agrees is none.
pub fn answer(vip: IpAddr, digest: Digest, frame: &[u8]) -> Option<Answer> {
    let at = |from: usize, len: usize| frame.get(from..from + len);
    let mac = |from: usize| Some(Mac(at(from, 6)?.try_into().ok()?));
    if at(12, 2)? != ethertype(vip).to_be_bytes() {
        return None;
    }
    let says = match vip {
        // Operation, sender's hardware address, sender's protocol address (RFC 826).
        IpAddr::V4(vip) => {
            (at(20, 2)? == ARP_REPLY && at(28, 4)? == vip.octets()).then(|| mac(22))??
        }
        // Next header, then type, target and the first option (RFC 4861 §4.4).
        IpAddr::V6(vip) => {
            let agrees = at(86, 2) == Some(&[NONCE_OPTION, 1]) && at(88, 6) == Some(&digest);
            let advertised = at(20, 1)? == [58] && at(54, 1)? == [ADVERTISEMENT];
            (advertised && at(62, 16)? == vip.octets() && !agrees).then(|| mac(80))??
        }
    };
    Some(Answer {
        from: mac(6)?,
        says,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NIC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    #[test]
    fn the_question_is_a_probe_with_a_digest() {
        let arp = question([10, 77, 0, 99].into(), [1, 2, 3, 4, 5, 6], NIC);
        assert_eq!(&arp[28..32], [0; 4], "nobody's neighbour table changes");
        assert_eq!(&arp[32..38], [1, 2, 3, 4, 5, 6]);
        assert_eq!(&arp[38..42], [10, 77, 0, 99]);
        let vip: Ipv6Addr = "2001:db8::12:3456".parse().expect("an address");
        let ns = question(vip.into(), [1, 2, 3, 4, 5, 6], NIC);
        assert_eq!(&ns[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(&ns[22..38], [0; 16], "from the unspecified address");
        assert_eq!(&ns[78..86], [14, 1, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn an_announcement_answers_as_a_reply_does() {
        let vip: IpAddr = "fd77::99".parse().expect("an address");
        let mac = [0x33, 0x33, 0xff, 0, 0, 0x99];
        let frame = super::super::announce::frame(vip, mac, NIC.0, [1; 6]);
        let says = Mac(mac);
        let from = NIC;
        assert_eq!(answer(vip, [2; 6], &frame), Some(Answer { from, says }));
        assert_eq!(answer(vip, [1; 6], &frame), None, "it agrees");
        let other = "fd77::98".parse().expect("an address");
        assert_eq!(answer(other, [2; 6], &frame), None);
        // A gratuitous ARP is a request.
        let vip = [10, 77, 0, 99].into();
        let mac = [1, 0, 0x5e, 0x7f, 0, 0x63];
        let frame = super::super::announce::frame(vip, mac, NIC.0, [1; 6]);
        assert_eq!(answer(vip, [2; 6], &frame), None);
    }

    proptest! {
        #[test]
        fn no_frame_is_too_odd(frame in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = answer([10, 0, 0, 1].into(), [1; 6], &frame);
            let _ = answer([0u8; 16].into(), [1; 6], &frame);
        }
    }
}
