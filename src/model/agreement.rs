//! The question whether anybody on the link shares the VIP under another description, as a frame.
//! Pure. What answers it is `super::answer`'s.
//!
//! The question is a probe for the address, as every host may send one before it uses an address
//! (RFC 5227 §2.1.1, RFC 4862 §5.4), with six bytes of the description's digest in a field that
//! probes leave free: the target hardware address of ARP, the nonce of neighbour discovery
//! (RFC 7527). Nodes that share the VIP have a rule that drops probes with their own digest. So
//! silence is consent; a node with another description answers, as the kernel answers every probe
//! for an address that it has, and says its cluster MAC. So does a node that has lost its rules, or a
//! stranger who has the address for himself, but with a MAC of his own.

use super::announce::{ETHERTYPE_ARP, ETHERTYPE_IPV6, HOP_LIMIT, ICMPV6, arp_request};
use super::announce::{NEIGHBOUR_ADVERTISEMENT, neighbour_message};
use super::mac::Mac;
use std::net::{IpAddr, Ipv6Addr};

/// The digest's first bytes, as they stand in a probe.
pub type Digest = [u8; 6];

/// The option that carries the nonce (RFC 7527 §4.2, RFC 3971 §5.3.2), of eight octets.
pub const NONCE_OPTION: u8 = 14;
const SOLICITATION: u8 = 135;

/// The group in which an IPv6 address is asked for (RFC 4291 §2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., x, y, z] = address.octets();
    let low = u16::from_be_bytes([y, z]);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), low)
}

/// The question, by whom it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The address that is asked for.
    pub vip: IpAddr,
    /// The description.
    pub digest: Digest,
    /// The own address of the interface that asks.
    pub nic_mac: Mac,
}

impl Question {
    /// The EtherType in which question and answer come.
    pub fn ethertype(&self) -> u16 {
        match self.vip {
            IpAddr::V4(_) => ETHERTYPE_ARP,
            IpAddr::V6(_) => ETHERTYPE_IPV6,
        }
    }

    /// The question, as a whole Ethernet frame.
    pub fn frame(&self) -> Vec<u8> {
        let nic_mac = self.nic_mac.0;
        match self.vip {
            IpAddr::V4(vip) => arp_request([0; 4].into(), nic_mac, vip, self.digest, nic_mac),
            IpAddr::V6(vip) => {
                let mut body = vec![0; 4];
                body.extend(vip.octets());
                body.extend([NONCE_OPTION, 1]);
                body.extend(self.digest);
                let to = solicited_node(vip);
                let [.., a, b, c, d] = to.octets();
                let mac = [0x33, 0x33, a, b, c, d];
                neighbour_message(SOLICITATION, &body, Ipv6Addr::UNSPECIFIED, to, mac, nic_mac)
            }
        }
    }

    /// Pairs of bytes that every answer has, and where: for the kernel, which need not pass on the
    /// rest of what comes in.
    pub fn marks(&self) -> Vec<(u32, [u8; 2])> {
        let (address, at, mut marks) = match self.vip {
            IpAddr::V4(vip) => (vip.octets().to_vec(), 28, vec![(20, [0, 2])]),
            IpAddr::V6(vip) => {
                let marks = vec![
                    (20, [ICMPV6, HOP_LIMIT]),
                    (54, [NEIGHBOUR_ADVERTISEMENT, 0]),
                ];
                (vip.octets().to_vec(), 62, marks)
            }
        };
        let pairs = address.chunks_exact(2).zip((at..).step_by(2));
        marks.extend(pairs.map(|(pair, at)| (at, [pair[0], pair[1]])));
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_a_probe_with_a_digest() {
        let asked = |vip: &str| Question {
            vip: vip.parse().expect("an address"),
            digest: [1, 2, 3, 4, 5, 6],
            nic_mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
        };
        let arp = asked("10.77.0.99").frame();
        assert_eq!(&arp[28..32], [0; 4], "nobody's neighbour table changes");
        assert_eq!(&arp[32..38], [1, 2, 3, 4, 5, 6]);
        assert_eq!(&arp[38..42], [10, 77, 0, 99]);
        let ns = asked("2001:db8::12:3456").frame();
        assert_eq!(&ns[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(&ns[22..38], [0; 16], "from the unspecified address");
        assert_eq!(&ns[78..86], [14, 1, 1, 2, 3, 4, 5, 6]);
    }
}
