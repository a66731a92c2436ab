//! What becomes of a packet for a VIP: the mirror of `rules::ingress` and `rules::fragments` in plain Rust. Pure.
//!
//! It reads the packet's own bytes, as the kernel does before a netdev rule sees them
//! (`nft_set_pktinfo_ipv4_validate()`, `nft_set_pktinfo_ipv6_validate()` in
//! `include/net/netfilter/`), and says which bucket decides. What stands between the IPv6 header and what it
//! carries is `extensions`'. Property tests hold it against the kernel.

use super::extensions::{Extensions, fragment_header, is_extension, may_wait};
use super::hash::Flow;
use super::phase::Phase;
use super::protocol::{
    AH, ICMP, ICMP_ERRORS, ICMP6, ICMP6_EVERYWHERE, TCP, VLAN, VLAN_OF_PROVIDER, WITH_PORTS,
};
use super::vip::Vip;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who takes a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Taker {
    /// The owner of this bucket. If the packet is the first fragment of a datagram, the later ones
    /// go the same way.
    Bucket(u16),
    /// Every node: nothing answers it, or all say the same.
    Everyone,
    /// Whoever took the first fragment of this datagram.
    FollowsFirst {
        /// If that has not come: may it wait for it, on every node?
        may_wait: bool,
    },
    /// No node: its headers are malformed, so that what decides cannot be found.
    Nobody,
}

/// What names the datagram that a fragment is of, as the kernel's reassembly has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Datagram {
    /// Its sender.
    pub source: IpAddr,
    /// Its identification.
    pub id: u32,
    /// Its protocol; 0 for IPv6, where identifications do not depend on it.
    pub protocol: u8,
}

/// What is decided about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Judgement {
    /// Who takes it.
    pub taker: Taker,
    /// For fragments, where the hash needs ports: of which datagram.
    pub datagram: Option<Datagram>,
    /// For TCP: what decides while the bucket leaves.
    pub segment: Option<Segment>,
}

/// What a node asks of a TCP segment whose bucket leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Segment {
    /// It is a later fragment of one, without ports and flags.
    pub later: bool,
    /// Its connection, as far as the packet goes.
    pub flow: Option<Flow>,
    /// Does it begin a connection? As far as the packet goes.
    pub syn: Option<bool>,
}

impl Segment {
    /// Does a node take it whose bucket is in this phase, and that has listed these flows?
    pub fn is_taken(&self, phase: Phase, flows: &BTreeSet<Flow>) -> bool {
        let goes_on = self.syn == Some(false);
        match phase {
            Phase::Owned | Phase::Adopting | Phase::Offered => true,
            Phase::Foreign => false,
            Phase::Closing => self.later || goes_on,
            Phase::Draining => {
                self.later || goes_on && self.flow.is_some_and(|flow| flows.contains(&flow))
            }
        }
    }
}

/// Judges a packet, which begins with its IP header; `None` if it is not for the VIP.
pub fn judge(vip: &Vip, packet: &[u8]) -> Option<Judgement> {
    let headers = match vip.address {
        IpAddr::V4(address) => Headers::ip4(packet, address)?,
        IpAddr::V6(address) => Headers::ip6(packet, address)?,
    };
    Some(headers.judged_by(vip, packet))
}

/// Does a frame, from its Ethernet header on, carry the tag of a VLAN? Then it is no VIP's, unless the VIP's
/// interface is itself a VLAN. The VLAN 0 is none: its tag has a priority alone (802.1Q).
pub fn is_in_vlan(frame: &[u8]) -> bool {
    let tag = frame.get(12..16).map(|tag| {
        let word = |at: usize| u16::from_be_bytes([tag[at], tag[at + 1]]);
        (word(0), word(2) & 0x0fff)
    });
    matches!(tag, Some((VLAN | VLAN_OF_PROVIDER, 1..)))
}

/// Is it one of the IPv6 packets that not all kernels take as [`judge`] does? Where extension headers promise more
/// than there is, Linux 6.18 hashes what they say comes behind them, as [`judge`] does, and 6.1 drops it. Where a
/// first fragment begins with a later one, 6.18 takes the ports from the IPv6 header. The stack itself has no
/// answer to such packets.
pub fn do_kernels_differ(packet: &[u8]) -> bool {
    let ip6 = packet.first().is_some_and(|byte| byte >> 4 == 6);
    let Some(first) = packet.get(6).filter(|_| ip6) else {
        return false;
    };
    match Extensions::walk(packet, *first).map(|chain| chain.transport) {
        Some(Some(at)) => at > packet.len(),
        Some(None) => fragment_header(packet, *first)
            .is_some_and(|outer| u16::from_be_bytes([outer[2], outer[3]]) & 0xfff8 == 0),
        None => false,
    }
}

/// What the headers say.
struct Headers {
    source: IpAddr,
    /// The protocol; `None` where IPv6's extension headers are malformed.
    protocol: Option<u8>,
    /// Where the transport header begins; a later fragment has none.
    transport: Option<usize>,
    /// A fragment's datagram (unless the packet ends before it is named), and whether it is a later
    /// one.
    fragment: Option<(Option<Datagram>, bool)>,
    /// Nothing stands between the IP header and what it names.
    plain: bool,
}

impl Headers {
    fn judged_by(&self, vip: &Vip, packet: &[u8]) -> Judgement {
        let ported = vip.hasher.mode.has_ports();
        let taker = match self.fragment {
            Some((Some(_), true)) if ported => Taker::FollowsFirst {
                may_wait: self.source.is_ipv4() || may_wait(packet),
            },
            Some((None, true)) if ported => Taker::Nobody,
            _ if self.is_for_everyone(packet) => Taker::Everyone,
            _ if ported => self.by_ports(vip, packet),
            _ => self.bucket(vip, [0, 0]),
        };
        let datagram = self.fragment.filter(|_| ported);
        Judgement {
            taker,
            datagram: datagram.and_then(|(datagram, _)| datagram),
            segment: self.segment(packet),
        }
    }

    fn segment(&self, packet: &[u8]) -> Option<Segment> {
        if self.protocol != Some(TCP) {
            return None;
        }
        let bytes =
            |from: usize, to: usize| packet.get(self.transport? + from..self.transport? + to);
        let flow = bytes(0, 4).map(|ports| Flow {
            source: self.source,
            source_port: u16::from_be_bytes([ports[0], ports[1]]),
            destination_port: u16::from_be_bytes([ports[2], ports[3]]),
        });
        Some(Segment {
            later: self.fragment.is_some_and(|(_, later)| later),
            flow,
            syn: bytes(13, 14).map(|flags| flags[0] & 0x02 != 0),
        })
    }

    fn by_ports(&self, vip: &Vip, packet: &[u8]) -> Taker {
        let Some(protocol) = self.protocol else {
            return Taker::Nobody;
        };
        let ports_at = match protocol {
            _ if WITH_PORTS.contains(&protocol) => 0,
            AH => 4,
            _ => return self.bucket(vip, [0, 0]),
        };
        let port = |n: usize| -> Option<u16> {
            let at = self.transport? + ports_at + 2 * n;
            let bytes = packet.get(at..at + 2)?;
            Some(u16::from_be_bytes([bytes[0], bytes[1]]))
        };
        let ports = match vip.hasher.mode.ports() {
            1 => port(0).map(|source| [source, 0]),
            _ => port(0).zip(port(1)).map(<[u16; 2]>::from),
        };
        ports.map_or(Taker::Nobody, |ports| self.bucket(vip, ports))
    }

    fn is_for_everyone(&self, packet: &[u8]) -> bool {
        let types: &[u8] = match (self.source, self.protocol) {
            (IpAddr::V4(_), Some(ICMP)) => &ICMP_ERRORS,
            (IpAddr::V6(_), Some(ICMP6)) => &ICMP6_EVERYWHERE,
            _ => return false,
        };
        let found = self.transport.and_then(|at| packet.get(at));
        self.plain && self.fragment.is_none() && found.is_some_and(|found| types.contains(found))
    }

    fn bucket(&self, vip: &Vip, [source_port, destination_port]: [u16; 2]) -> Taker {
        let flow = Flow {
            source: self.source,
            source_port,
            destination_port,
        };
        Taker::Bucket(vip.bucket(&flow))
    }

    fn ip4(packet: &[u8], vip: Ipv4Addr) -> Option<Self> {
        let header: &[u8; 20] = packet.first_chunk()?;
        if header[16..20] != vip.octets() {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let transport = 4 * usize::from(header[0] & 0x0f);
        let valid =
            header[0] >> 4 == 4 && transport >= 20 && length <= packet.len() && length >= transport;
        let bits = u16::from_be_bytes([header[6], header[7]]);
        let (more, later) = (bits & 0x2000 != 0, bits & 0x1fff != 0);
        let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]).into();
        let datagram = Datagram {
            source,
            id: u16::from_be_bytes([header[4], header[5]]).into(),
            protocol: header[9],
        };
        Some(Headers {
            source,
            protocol: Some(header[9]),
            transport: Some(transport).filter(|_| valid && !later),
            fragment: (more || later).then_some((Some(datagram), later)),
            plain: true,
        })
    }

    fn ip6(packet: &[u8], vip: Ipv6Addr) -> Option<Self> {
        let header: &[u8; 40] = packet.first_chunk()?;
        if header[24..40] != vip.octets() {
            return None;
        }
        let source: [u8; 16] = *header[8..].first_chunk()?;
        let source = Ipv6Addr::from(source).into();
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let valid = header[0] >> 4 == 6 && 40 + length <= packet.len();
        let chain = Extensions::walk(packet, header[6]).filter(|_| valid);
        let fragment = fragment_header(packet, header[6]).and_then(|found| {
            let bits = u16::from_be_bytes([found[2], found[3]]);
            let id = found.get(4..8).and_then(|id| id.try_into().ok());
            let datagram = id.map(|id| Datagram {
                source,
                id: u32::from_be_bytes(id),
                protocol: 0,
            });
            // Neither more fragments nor an offset: a whole datagram (RFC 6946).
            (bits & 0xfff9 != 0).then_some((datagram, bits & 0xfff8 != 0))
        });
        Some(Headers {
            source,
            protocol: chain.as_ref().map(|chain| chain.protocol),
            transport: chain.and_then(|chain| chain.transport),
            fragment,
            plain: !is_extension(header[6]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::extensions::{DESTINATION, HOP_BY_HOP};
    use super::super::protocol::FRAGMENT_HEADER as FRAGMENT;
    use super::*;
    use crate::model::vip::tests::{a_vip, any_vip};
    use proptest::prelude::*;

    /// An IPv4 packet from 192.0.2.1 with these fragment bits.
    fn ip4(bits: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 20 + payload.len() as u8, 0, 7];
        packet.extend(bits.to_be_bytes());
        packet.extend([64, protocol, 0, 0, 192, 0, 2, 1, 10, 77, 0, 99]);
        packet.extend(payload);
        packet
    }

    /// An IPv6 packet from 2001:db8::1 whose first next header is this.
    fn ip6(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, rest.len() as u8, first, 64];
        for address in ["2001:db8::1", "fd77::99"] {
            packet.extend(address.parse::<Ipv6Addr>().expect("an address").octets());
        }
        packet.extend(rest);
        packet
    }

    fn bucket(vip: &Vip, source: &str, source_port: u16) -> Taker {
        let flow = Flow {
            source: source.parse().expect("an address"),
            source_port,
            destination_port: 80,
        };
        Taker::Bucket(vip.bucket(&flow))
    }

    #[test]
    fn a_torn_packet_ends_within_its_extension_headers() {
        let options = |length| [17, length, 0, 0, 0, 0, 0, 0, 0x9c, 0x40, 0, 80];
        for (first, length, torn) in [
            (60, 0, false),
            (60, 1, true),
            (43, 10, true),
            (17, 9, false),
        ] {
            assert_eq!(
                do_kernels_differ(&ip6(first, &options(length))),
                torn,
                "{first} {length}"
            );
        }
        assert!(!do_kernels_differ(&ip4(0, 17, &[])) && !do_kernels_differ(&[]));
        let within = |outer: [u8; 2]| {
            let inner = [132, 0, 6, 0x88, 0, 0, 0, 4, 1, 2, 3, 4];
            ip6(
                44,
                &[&[44, 0, outer[0], outer[1], 0, 0, 0, 3], &inner[..]].concat(),
            )
        };
        assert!(do_kernels_differ(&within([0, 1])));
        assert!(!do_kernels_differ(&within([0, 9])));
    }

    #[test]
    fn what_decides_by_protocol() {
        let vip = a_vip("10.77.0.99");
        let payload = [0x9c, 0x40, 0, 80, 0x12, 0x34, 0x56, 0x78];
        let taker = |packet: &[u8]| judge(&vip, packet).expect("for the VIP").taker;
        for protocol in WITH_PORTS {
            let whole = taker(&ip4(0x4000, protocol, &payload));
            assert_eq!(whole, bucket(&vip, "192.0.2.1", 40_000), "{protocol}");
        }
        let by_spi = taker(&ip4(0, AH, &payload));
        assert_eq!(by_spi, bucket(&vip, "192.0.2.1", 0x1234));
        let echo = taker(&ip4(0, ICMP, &[8, 0, 0, 0]));
        assert_eq!(echo, bucket(&vip, "192.0.2.1", 0));
        assert_eq!(taker(&ip4(0, ICMP, &[3, 4, 0, 0])), Taker::Everyone);
        let in_pieces = taker(&ip4(0x2000, ICMP, &[3, 4, 0, 0]));
        assert_eq!(in_pieces, bucket(&vip, "192.0.2.1", 0));
        // One byte of a port, and a length that is not there.
        assert_eq!(taker(&ip4(0, 17, &[1])), Taker::Nobody);
        let mut longer = ip4(0, 17, &payload);
        longer[3] += 1;
        assert_eq!(taker(&longer), Taker::Nobody);
        assert_eq!(judge(&a_vip("10.77.0.98"), &ip4(0, 17, &payload)), None);
    }

    #[test]
    fn a_frame_is_in_a_vlan_whose_number_is_not_0() {
        let frame = |tag: [u8; 4]| [&[2; 12][..], &tag, &[0x08, 0]].concat();
        for (tag, is_in) in [
            ([0x81, 0, 0, 10], true),
            ([0x88, 0xa8, 0xef, 0xff], true),
            ([0x81, 0, 0xf0, 0], false),
            ([0x08, 0, 0x45, 1], false),
            ([0x91, 0, 0, 10], false),
        ] {
            assert_eq!(is_in_vlan(&frame(tag)), is_in, "{tag:?}");
        }
        assert!(!is_in_vlan(&[0x81; 15]));
    }

    #[test]
    fn later_fragments_follow_the_first() {
        let vip = a_vip("10.77.0.99");
        let judged = |bits| judge(&vip, &ip4(bits, 17, &[0x9c, 0x40, 0, 80])).expect("for it");
        let datagram = Some(Datagram {
            source: "192.0.2.1".parse().expect("an address"),
            id: 7,
            protocol: 17,
        });
        let (first, later) = (judged(0x2000), judged(0x2001));
        assert_eq!(first.taker, bucket(&vip, "192.0.2.1", 40_000));
        assert_eq!(later.taker, Taker::FollowsFirst { may_wait: true });
        assert_eq!((first.datagram, later.datagram), (datagram, datagram));
        assert_eq!(judged(0x4000).datagram, None);
    }

    #[test]
    fn ports_are_found_behind_extension_headers() {
        let vip = a_vip("fd77::99");
        let ports = [0x9c, 0x40, 0, 80];
        let padding = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
        let fragment = |bits: u8| [17, 0, 0, bits, 0, 0, 0, 7];
        let judged = |first, rest: &[&[u8]]| judge(&vip, &ip6(first, &rest.concat())).expect("it");
        let expected = bucket(&vip, "2001:db8::1", 40_000);
        for (first, rest) in [
            (17, vec![&ports[..]]),
            (
                HOP_BY_HOP,
                vec![&padding(DESTINATION), &padding(17), &ports],
            ),
            (FRAGMENT, vec![&fragment(0), &ports]),
            (FRAGMENT, vec![&fragment(1), &ports]),
        ] {
            assert_eq!(judged(first, &rest).taker, expected, "{first} {rest:?}");
        }
        assert_eq!(judged(FRAGMENT, &[&fragment(0), &ports]).datagram, None);
        let later = judged(FRAGMENT, &[&fragment(8), &ports]);
        assert_eq!(later.taker, Taker::FollowsFirst { may_wait: true });
        // Errors and neighbour discovery are everyone's only as they should come.
        let solicitation = [135, 0, 0, 0];
        assert_eq!(judged(ICMP6, &[&solicitation]).taker, Taker::Everyone);
        let behind = judged(DESTINATION, &[&padding(ICMP6), &solicitation]);
        assert_eq!(behind.taker, bucket(&vip, "2001:db8::1", 0));
        // More follow, but four bytes are no multiple of eight.
        let ill = judged(FRAGMENT, &[&fragment(9), &ports]);
        assert_eq!(ill.taker, Taker::FollowsFirst { may_wait: false });
        assert_eq!(judged(HOP_BY_HOP, &[&[17]]).taker, Taker::Nobody);
    }

    proptest! {
        #[test]
        fn judging_never_panics(vip in any_vip(), mut bytes in prop::collection::vec(any::<u8>(), 0..96)) {
            let _ = judge(&vip, &bytes);
            // The same for the VIP, from its address on.
            let (at, address) = match vip.address {
                IpAddr::V4(address) => (16, address.octets().to_vec()),
                IpAddr::V6(address) => (24, address.octets().to_vec()),
            };
            if let Some(place) = bytes.get_mut(at..at + address.len()) {
                place.copy_from_slice(&address);
                let _ = judge(&vip, &bytes);
            }
        }
    }
}
