//! The question whether anybody on the link shares the VIP under another description or for another
//! manager, as a frame. Pure. What answers it is `super::answer`'s.
//!
//! The question is a probe for the address, as every host may send one before it uses an address
//! (RFC 5227 §2.1.1, RFC 4862 §5.4), with six bytes of the description's digest in a field that
//! probes leave free: the target hardware address of ARP, the nonce of neighbour discovery
//! (RFC 7527). Nodes that share the VIP have a rule that drops probes with their own digest. So
//! silence is consent; a node with another description answers, as the kernel answers every probe
//! for an address that it has, and says its cluster MAC. So does a node that has lost its rules, or a
//! stranger who has the address for himself, but with a MAC of his own.
//!
//! A predecessor (`super::predecessor`) that rewrites ARP answers with a cluster MAC too, and knows no digest. It is told by a second question,
//! with a digest that no description has, to which all nodes with these rules are silent.
//!
//! Who manages the VIP stands behind that, where nobody looks who does not know it: in the padding of
//! ARP, in an experimental option of neighbour discovery (RFC 4727 §5). A node whose VIP another one manages
//! answers. Versions before this one ask nothing of the kind, and are answered as they always were; where they
//! are asked they see nothing but their digest.

use super::frame::{
    ARP_PADDING, HOP_LIMIT, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, NONCE_OPTION,
    arp_request, group_mac, neighbour_message, solicited_node,
};
use super::mac::Mac;
use super::protocol::{ETHERTYPE_ARP, ETHERTYPE_IP6, ICMP6};
use super::vip::Vip;
use super::written::Digest;
use std::net::{IpAddr, Ipv6Addr};

/// What stands in the padding of ARP before the digest of the manager and the VIP: three times six bytes.
pub const MANAGER_WORD: [u8; 8] = *b"resource";
/// The option that carries the digest of the manager, of eight octets (RFC 4727 §5: for experiments).
pub const MANAGER_OPTION: u8 = 253;

/// What stands in the digest's place in the question to those alone who are none of ours: nobody who shares the VIP by
/// these rules answers it, whatever his description, and a predecessor does.
pub const OF_NONE: Digest = *b"before";

/// The question, by whom it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The address that is asked for.
    pub vip: IpAddr,
    /// The description.
    pub digest: Digest,
    /// Who manages it, if that is asked too.
    pub manager: Option<Digest>,
    /// The own address of the interface that asks.
    pub nic_mac: Mac,
}

impl Question {
    /// The question whether all who share this VIP agree, and have it from the same manager.
    pub fn of(vip: &Vip, nic_mac: Mac) -> Question {
        Question {
            vip: vip.address,
            digest: vip.probe_digest(),
            manager: Some(vip.manager_digest()),
            nic_mac,
        }
    }

    /// The question who shares the VIP without these rules. For IPv6 there is none, for no predecessor says a cluster
    /// MAC there.
    pub fn to_predecessors(vip: IpAddr, nic_mac: Mac) -> Option<Question> {
        vip.is_ipv4().then_some(Question {
            vip,
            digest: OF_NONE,
            manager: None,
            nic_mac,
        })
    }

    /// The EtherType in which question and answer come.
    pub fn ethertype(&self) -> u16 {
        match self.vip {
            IpAddr::V4(_) => ETHERTYPE_ARP,
            IpAddr::V6(_) => ETHERTYPE_IP6,
        }
    }

    /// The question, as a whole Ethernet frame.
    pub fn frame(&self) -> Vec<u8> {
        let nic_mac = self.nic_mac.0;
        match self.vip {
            IpAddr::V4(vip) => {
                let mut frame = arp_request([0; 4].into(), nic_mac, vip, self.digest, nic_mac);
                if let Some(manager) = self.manager {
                    let padding = [&MANAGER_WORD[..], &manager, &vip.octets()].concat();
                    frame.splice(ARP_PADDING.., padding);
                }
                frame
            }
            IpAddr::V6(vip) => {
                let mut body = vec![0; 4];
                body.extend(vip.octets());
                body.extend([NONCE_OPTION, 1]);
                body.extend(self.digest);
                if let Some(manager) = self.manager {
                    body.extend([MANAGER_OPTION, 1]);
                    body.extend(manager);
                }
                let (kind, nobody) = (NEIGHBOUR_SOLICITATION, Ipv6Addr::UNSPECIFIED);
                let to = solicited_node(vip);
                neighbour_message(kind, &body, nobody, to, group_mac(to), nic_mac)
            }
        }
    }

    /// Pairs of bytes that every answer has, and where: for the kernel, which need not pass on the
    /// rest of what comes in.
    pub fn marks(&self) -> Vec<(u32, [u8; 2])> {
        let (address, at, mut marks) = match self.vip {
            IpAddr::V4(vip) => (vip.octets().to_vec(), 28, vec![(20, [0, 2])]),
            IpAddr::V6(vip) => {
                let marks = vec![(20, [ICMP6, HOP_LIMIT]), (54, [NEIGHBOUR_ADVERTISEMENT, 0])];
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

    fn asked(vip: &str) -> Question {
        Question {
            vip: vip.parse().expect("an address"),
            digest: [1, 2, 3, 4, 5, 6],
            manager: None,
            nic_mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
        }
    }

    #[test]
    fn the_question_is_a_probe_with_a_digest() {
        let arp = asked("10.77.0.99").frame();
        assert_eq!(&arp[28..32], [0; 4], "nobody's neighbour table changes");
        assert_eq!(&arp[32..38], [1, 2, 3, 4, 5, 6]);
        assert_eq!(&arp[38..42], [10, 77, 0, 99]);
        let ns = asked("2001:db8::12:3456").frame();
        assert_eq!(&ns[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(&ns[22..38], [0; 16], "from the unspecified address");
        assert_eq!(&ns[78..86], [14, 1, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn the_manager_stands_where_older_versions_see_nothing() {
        for vip in ["10.77.0.99", "2001:db8::12:3456"] {
            let older = asked(vip);
            let manager = Some([9; 6]);
            let question = Question { manager, ..older };
            let (older, frame) = (older.frame(), question.frame());
            match question.vip {
                IpAddr::V4(_) => {
                    assert_eq!(frame.len(), 60);
                    assert_eq!(frame[..42], older[..42]);
                    assert_eq!(older[42..], [0; 18]);
                    assert_eq!(
                        frame[42..],
                        *b"resource\x09\x09\x09\x09\x09\x09\x0a\x4d\x00\x63"
                    );
                }
                IpAddr::V6(_) => {
                    assert_eq!(frame[58..86], older[58..]);
                    assert_eq!(frame[86..], [253, 1, 9, 9, 9, 9, 9, 9]);
                    assert_eq!((frame[19], older[19]), (40, 32));
                }
            }
        }
    }
}
