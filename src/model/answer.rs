//! What answers the question (`super::agreement`), and what does not. Pure. Whether answers are to be
//! believed is `super::belief`'s.
//!
//! Only what answers this very question counts, and what a host may believe: all else may come from
//! beyond a router, or be what a node that agrees answers to somebody else's question.

use super::agreement::Question;
use super::frame::{
    ALL_NODES, ARP_REPLY, HOP_LIMIT, NEIGHBOUR_ADVERTISEMENT, NONCE_OPTION, SOLICITED,
    TARGET_LINK_LAYER_ADDRESS, checksum, options_of,
};
use super::mac::Mac;
use super::protocol::ICMP6;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An answer to the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Who sent it: the frame's source.
    pub from: Mac,
    /// The link-layer address that it says the VIP has. A node with a description says a cluster
    /// MAC, which is a multicast one; a node that has lost its rules, or a stranger, says its own.
    pub says: Mac,
}

impl Question {
    /// The answer in this frame, if it is one. The announcement of a node that agrees is none.
    pub fn answer(&self, frame: &[u8]) -> Option<Answer> {
        let from = Mac(*frame.get(6..)?.first_chunk()?);
        // A frame of our own that a network sends back is nobody's answer.
        if !is_hosts(from) || from == self.nic_mac {
            return None;
        }
        let ethertype = u16::from_be_bytes(*frame.get(12..)?.first_chunk()?);
        if ethertype != self.ethertype() {
            return None;
        }
        let payload = frame.get(14..)?;
        let says = match self.vip {
            IpAddr::V4(vip) => self.replied(vip, payload)?,
            IpAddr::V6(vip) => self.advertised(vip, payload)?,
        };
        // Nobody's MAC, and everybody's, are where no address is.
        let is_place = is_hosts(says) || (says.is_multicast() && says != Mac::BROADCAST);
        is_place.then_some(Answer { from, says })
    }

    /// What an ARP reply to this question says. Replies are told from others by what they repeat of the
    /// question (RFC 826): our MAC, and the address of who has none. So a node that agrees may answer
    /// another question of this host, and other hosts'; and requests, announcements among them, are no
    /// answers, though RFC 5227 §2.1.1 has whoever probes for an address take them for a conflict.
    fn replied(&self, vip: Ipv4Addr, payload: &[u8]) -> Option<Mac> {
        let packet: &[u8; 28] = payload.first_chunk()?;
        let is_answer = packet[..8] == ARP_REPLY
            && packet[14..18] == vip.octets()
            && packet[18..24] == self.nic_mac.0
            && packet[24..28] == [0; 4];
        packet[8..]
            .first_chunk()
            .filter(|_| is_answer)
            .copied()
            .map(Mac)
    }

    /// What a neighbour advertisement says that may be believed (RFC 4861 §7.1.2) and may answer this
    /// question: it goes to all nodes, unsolicited, as the answer to who has no address does (§7.2.4).
    fn advertised(&self, vip: Ipv6Addr, packet: &[u8]) -> Option<Mac> {
        let (header, rest) = packet.split_first_chunk::<40>()?;
        let address = |at: usize| {
            let octets: Option<&[u8; 16]> = header[at..].first_chunk();
            octets.copied().map(Ipv6Addr::from)
        };
        let (from, to) = (address(8)?, address(24)?);
        let length = u16::from_be_bytes([header[4], header[5]]);
        // What follows the packet is the frame's padding.
        let message = rest.get(..length.into())?;
        let is_sound = header[0] >> 4 == 6
            && header[6..8] == [ICMP6, HOP_LIMIT]
            && message.len() % 8 == 0
            && checksum(from, to, message) == 0;
        let (fixed, options) = message.split_first_chunk::<24>()?;
        let is_answer = fixed[..2] == [NEIGHBOUR_ADVERTISEMENT, 0]
            && fixed[4] & SOLICITED == 0
            && to == ALL_NODES
            && fixed[8..] == vip.octets();
        if !is_sound || !is_answer {
            return None;
        }
        let options = options_of(options)?;
        let first = |kind: u8| {
            let of_kind = options.iter().find(|option| option[0] == kind);
            of_kind
                .filter(|option| option.len() == 8)
                .and_then(|option| option[2..].first_chunk())
        };
        if first(NONCE_OPTION) == Some(&self.digest) {
            return None;
        }
        let says = Mac(*first(TARGET_LINK_LAYER_ADDRESS)?);
        // A kernel that has the address answers from it. Others may choose (RFC 4861 §4.4), but they have
        // no cluster MAC.
        let may_be = match says.is_shared() {
            true => from == vip,
            false => !(from.is_unspecified() || from.is_loopback() || from.is_multicast()),
        };
        may_be.then_some(says)
    }
}

/// Can this be one host's MAC?
fn is_hosts(mac: Mac) -> bool {
    !mac.is_multicast() && mac.0 != [0; 6]
}

#[cfg(test)]
mod tests {
    use super::super::announce;
    use super::super::frame::neighbour_message;
    use super::*;
    use proptest::prelude::*;

    const NIC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    const OTHER: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x57]);
    const CLUSTER4: Mac = Mac([1, 0, 0x5e, 0x7f, 0, 0x63]);
    const CLUSTER6: Mac = Mac([0x33, 0x33, 0xff, 0, 0, 0x99]);

    fn asked(vip: &str) -> Question {
        Question {
            vip: vip.parse().expect("an address"),
            digest: [1, 2, 3, 4, 5, 6],
            manager: None,
            nic_mac: NIC,
        }
    }

    fn asked4() -> Question {
        asked("10.77.0.99")
    }

    fn asked6() -> Question {
        asked("fd77::99")
    }

    /// What the kernel answers to an ARP probe (`arp_process`).
    fn reply() -> Vec<u8> {
        let mut frame = [NIC.0, OTHER.0].concat();
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        frame.extend(CLUSTER4.0);
        frame.extend([10, 77, 0, 99]);
        frame.extend(NIC.0);
        frame.extend([0; 4]);
        frame
    }

    /// The parts of an advertisement that tests change.
    #[derive(Clone)]
    struct Parts {
        from: Ipv6Addr,
        to: Ipv6Addr,
        flags: u8,
        options: Vec<u8>,
    }

    /// What the kernel answers to a probe of neighbour discovery (`ndisc_send_na`).
    fn parts() -> Parts {
        Parts {
            from: "fd77::99".parse().expect("an address"),
            to: ALL_NODES,
            flags: 0x20,
            options: [&[2, 1], &CLUSTER6.0[..]].concat(),
        }
    }

    impl Parts {
        fn frame(&self) -> Vec<u8> {
            let mut body = vec![self.flags, 0, 0, 0];
            body.extend([0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x99]);
            body.extend(&self.options);
            neighbour_message(
                NEIGHBOUR_ADVERTISEMENT,
                &body,
                self.from,
                self.to,
                [0x33; 6],
                OTHER.0,
            )
        }
    }

    /// The same frame with a right checksum.
    fn summed(mut frame: Vec<u8>) -> Vec<u8> {
        frame[56..58].copy_from_slice(&[0, 0]);
        let address =
            |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
        let length = usize::from(frame[19] & !1).min(frame.len() - 54);
        let sum = checksum(address(22), address(38), &frame[54..54 + length]);
        frame[56..58].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    #[test]
    fn what_a_node_with_another_description_answers() {
        let (from, says) = (OTHER, CLUSTER4);
        assert_eq!(asked4().answer(&reply()), Some(Answer { from, says }));
        let says = CLUSTER6;
        let frame = parts().frame();
        assert_eq!(asked6().answer(&frame), Some(Answer { from, says }));
        // Frames are padded on their way.
        assert!(asked4().answer(&[reply(), vec![0; 18]].concat()).is_some());
        assert!(asked6().answer(&[frame, vec![0; 18]].concat()).is_some());
    }

    #[test]
    fn an_advertisement_of_another_description_answers_and_a_gratuitous_arp_does_not() {
        let frame = announce::frame(asked6().vip, CLUSTER6.0, OTHER.0, [2; 6]);
        let (from, says) = (OTHER, CLUSTER6);
        assert_eq!(asked6().answer(&frame), Some(Answer { from, says }));
        assert_eq!(asked("fd77::98").answer(&frame), None);
        let frame = announce::frame(asked6().vip, CLUSTER6.0, OTHER.0, asked6().digest);
        assert_eq!(asked6().answer(&frame), None, "it agrees");
        let frame = announce::frame(asked4().vip, CLUSTER4.0, OTHER.0, [2; 6]);
        assert_eq!(asked4().answer(&frame), None, "it is a request");
    }

    #[test]
    fn replies_that_are_none() {
        for (what, at, octets) in [
            ("the source is a group", 6, &[0x53][..]),
            ("the source is nobody", 6, &[0; 6]),
            ("the source is this node", 6, &NIC.0),
            ("it is no ARP", 12, &[8, 0]),
            ("the hardware is no Ethernet", 14, &[0, 6]),
            ("the protocol is no IPv4", 16, &[0x86, 0xdd]),
            ("the hardware address is longer", 18, &[8]),
            ("the protocol address is longer", 19, &[16]),
            ("a request", 20, &[0, 1]),
            ("a reverse reply", 20, &[0, 4]),
            ("everybody's MAC", 22, &[0xff; 6]),
            ("nobody's MAC", 22, &[0; 6]),
            ("another address", 28, &[10, 77, 0, 98]),
            ("to another host", 32, &OTHER.0),
            ("to who has an address", 38, &[10, 77, 0, 1]),
        ] {
            let mut frame = reply();
            frame[at..at + octets.len()].copy_from_slice(octets);
            assert_eq!(asked4().answer(&frame), None, "{what}");
        }
        assert_eq!(asked4().answer(&reply()[..41]), None);
    }

    #[test]
    fn advertisements_that_are_none() {
        for (what, at, octet) in [
            ("the source is a group", 6, 0x53),
            ("IPv4", 14, 0x45),
            ("another protocol", 20, 17),
            ("from beyond a router", 21, 63),
            ("from beyond a router", 21, 254),
            ("longer than the frame", 19, 40),
            ("shorter than 24 octets", 19, 16),
            ("no whole options", 19, 28),
            ("a solicitation", 54, 135),
            ("a code", 55, 1),
            ("an option without length", 79, 0),
            ("an option beyond the end", 79, 2),
        ] {
            let mut frame = parts().frame();
            frame[at] = octet;
            assert_eq!(asked6().answer(&summed(frame)), None, "{what}");
        }
        let mut frame = parts().frame();
        frame[56..58].copy_from_slice(&[0, 0]);
        assert_eq!(asked6().answer(&frame), None, "no checksum");
        for (what, from, to) in [
            ("from off the link", "2001:db8::1", "ff02::1"),
            ("from another host", "fe80::1", "ff02::1"),
            ("to a host alone", "fd77::99", "fd77::1"),
            ("to another group", "fd77::99", "ff02::2"),
        ] {
            let parts = Parts {
                from: from.parse().expect("an address"),
                to: to.parse().expect("an address"),
                ..parts()
            };
            assert_eq!(asked6().answer(&parts.frame()), None, "{what}");
        }
        for (what, flags, options) in [
            ("solicited, to a group", 0x60, parts().options),
            ("nothing said", 0x20, Vec::new()),
            ("a nonce is no MAC", 0x20, vec![14, 1, 3, 2, 3, 4, 5, 6]),
            (
                "a source's MAC",
                0x20,
                vec![1, 1, 0x33, 0x33, 0xff, 0, 0, 0x99],
            ),
            (
                "everybody's MAC",
                0x20,
                vec![2, 1, 255, 255, 255, 255, 255, 255],
            ),
            ("a longer MAC", 0x20, [&[2, 2][..], &[0x33; 14]].concat()),
        ] {
            let parts = Parts {
                flags,
                options,
                ..parts()
            };
            assert_eq!(asked6().answer(&parts.frame()), None, "{what}");
        }
    }

    #[test]
    fn options_come_in_any_order_and_unknown_ones_are_ignored() {
        let mut parts = parts();
        parts.options = [
            &[200, 2][..],
            &[7; 14],
            &[14, 1, 9, 9, 9, 9, 9, 9],
            &parts.options,
        ]
        .concat();
        let answer = asked6().answer(&parts.frame());
        assert_eq!(answer.map(|answer| answer.says), Some(CLUSTER6));
        parts.options.extend([14, 1, 1, 2, 3, 4, 5, 6]);
        let answer = asked6().answer(&parts.frame());
        assert_eq!(
            answer.map(|answer| answer.says),
            Some(CLUSTER6),
            "the first one counts"
        );
    }

    #[test]
    fn a_stranger_may_answer_from_any_address_of_his() {
        let mut parts = parts();
        parts.options = [&[2, 1], &OTHER.0[..]].concat();
        for (from, heard) in [
            ("fe80::1", true),
            ("::", false),
            ("ff02::1", false),
            ("::1", false),
        ] {
            parts.from = from.parse().expect("an address");
            let answer = asked6().answer(&parts.frame());
            assert_eq!(
                answer.map(|answer| answer.says),
                heard.then_some(OTHER),
                "{from}"
            );
        }
    }

    /// Answers with some octets changed, and noise.
    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let near = prop_oneof![Just(reply()), Just(parts().frame())];
        let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
        let changed = (near, changes, any::<bool>(), 0..100usize).prop_map(
            |(mut frame, changes, sum, length)| {
                for (index, octet) in changes {
                    let at = index.index(frame.len());
                    frame[at] = octet;
                }
                if sum && frame.len() > 60 {
                    frame = summed(frame);
                }
                frame.truncate(length);
                frame
            },
        );
        prop_oneof![prop::collection::vec(any::<u8>(), 0..100), changed]
    }

    proptest! {
        #[test]
        fn no_frame_is_too_odd_and_what_counts_has_the_marks(frame in any_frame()) {
            for question in [asked4(), asked6()] {
                let Some(answer) = question.answer(&frame) else { continue };
                prop_assert!(is_hosts(answer.from) && answer.from != NIC);
                prop_assert!(answer.says.0 != [0; 6] && answer.says.0 != [0xff; 6]);
                for (at, pair) in question.marks() {
                    let at = at as usize;
                    prop_assert_eq!(&frame[at..at + 2], pair);
                }
            }
        }

        /// A checksum is as good as its weakest bit: any one that is changed is seen.
        #[test]
        fn a_changed_bit_of_an_advertisement_is_seen(at in 22..86usize, bit in 0..8u32) {
            let mut frame = parts().frame();
            frame[at] ^= 1 << bit;
            prop_assert_eq!(asked6().answer(&frame), None);
        }
    }
}
