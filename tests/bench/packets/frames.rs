//! The frames that are sent, byte by byte: UDP of 64 bytes, whole or in fragments, TCP of as many, and
//! ARP. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lab::Mac;
use lab::frame::checksum;

/// Bytes of a datagram behind its UDP header.
const PAYLOAD: usize = 64;
const UDP: u8 = 17;
const TCP: u8 = 6;
/// TCP's flags of a segment with data: PSH and ACK (RFC 9293 §3.1).
const DATA: u8 = 0x18;
/// IPv6's fragment header (RFC 8200 §4.5).
const FRAGMENT: u8 = 44;
/// Where the second fragment of a datagram begins, in units of eight bytes.
const SECOND: u16 = 9;

/// Which fragment of a datagram a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// None: all of it.
    None,
    /// The first fragment, which has the ports.
    First,
    /// A later fragment, which has not.
    Later,
}

/// A datagram on its way to be a frame.
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    /// The link-layer address that it is sent to.
    pub to: Mac,
    /// The link-layer address that it comes from.
    pub from: Mac,
    /// Source address and port.
    pub source: (IpAddr, u16),
    /// Destination address and port.
    pub target: (IpAddr, u16),
    /// Which fragment of it is sent.
    pub fragment: Fragment,
    /// What fragments of one datagram have in common.
    pub identification: u16,
    /// A TCP segment in the midst of a connection instead.
    pub segment: bool,
}

impl Datagram {
    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        match (self.source.0, self.target.0) {
            (IpAddr::V4(source), IpAddr::V4(target)) => self.over_ip4(source, target),
            (IpAddr::V6(source), IpAddr::V6(target)) => self.over_ip6(source, target),
            // Nothing makes such a datagram; an empty frame is refused by the kernel.
            _ => Vec::new(),
        }
    }

    fn over_ip4(&self, source: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
        // A checksum of 0 says that there is none, as if the card had checked it.
        let body = self.body(0);
        let fragment: u16 = match self.fragment {
            Fragment::None => 0x4000,
            Fragment::First => 0x2000,
            Fragment::Later => SECOND,
        };
        let mut header = vec![0x45, 0];
        header.extend(((20 + body.len()) as u16).to_be_bytes());
        header.extend(self.identification.to_be_bytes());
        header.extend(fragment.to_be_bytes());
        header.extend([64, if self.segment { TCP } else { UDP }, 0, 0]);
        header.extend(source.octets());
        header.extend(target.octets());
        let sum = checksum(&header).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
        self.ethernet(0x0800, &[&header, &body])
    }

    fn over_ip6(&self, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
        let mut pseudo = Vec::new();
        pseudo.extend(source.octets());
        pseudo.extend(target.octets());
        pseudo.extend((8 + PAYLOAD as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, UDP]);
        pseudo.extend(self.datagram(0));
        let body = self.body(checksum(&pseudo));
        let fragment = self.fragment_header();
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(((fragment.len() + body.len()) as u16).to_be_bytes());
        header.extend([if fragment.is_empty() { UDP } else { FRAGMENT }, 64]);
        header.extend(source.octets());
        header.extend(target.octets());
        self.ethernet(0x86dd, &[&header, &fragment, &body])
    }

    fn fragment_header(&self) -> Vec<u8> {
        let place: u16 = match self.fragment {
            Fragment::None => return Vec::new(),
            Fragment::First => 1,
            Fragment::Later => SECOND << 3,
        };
        let mut header = vec![UDP, 0];
        header.extend(place.to_be_bytes());
        header.extend(u32::from(self.identification).to_be_bytes());
        header
    }

    /// What follows the IP headers: the datagram, or as many bytes of what comes after it.
    fn body(&self, sum: u16) -> Vec<u8> {
        match self.fragment {
            Fragment::Later => vec![0xb5; 8 + PAYLOAD],
            Fragment::None if self.segment => self.tcp(),
            Fragment::None | Fragment::First => self.datagram(sum),
        }
    }

    fn datagram(&self, sum: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [self.source.1, self.target.1, 8 + PAYLOAD as u16, sum] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.resize(8 + PAYLOAD, 0xb5);
        bytes
    }

    /// With a checksum that nobody looks at before the stack.
    fn tcp(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for port in [self.source.1, self.target.1] {
            bytes.extend(port.to_be_bytes());
        }
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, DATA, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.resize(8 + PAYLOAD, 0xb5);
        bytes
    }

    fn ethernet(&self, kind: u16, parts: &[&[u8]]) -> Vec<u8> {
        ethernet(self.to, self.from, kind, parts)
    }
}

/// An ARP request that asks everybody for `target`.
pub fn arp_request(from: Mac, source: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, 1];
    body.extend(from.0);
    body.extend(source.octets());
    body.extend([0; 6]);
    body.extend(target.octets());
    body.resize(46, 0);
    ethernet(Mac([0xff; 6]), from, 0x0806, &[&body])
}

fn ethernet(to: Mac, from: Mac, kind: u16, parts: &[&[u8]]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(to.0);
    frame.extend(from.0);
    frame.extend(kind.to_be_bytes());
    parts.iter().for_each(|part| frame.extend(*part));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab::frame::{Frame, What};

    fn datagram(source: &str, target: &str, fragment: Fragment) -> Datagram {
        Datagram {
            to: Mac([1, 0, 0x5e, 0x7f, 0, 99]),
            from: Mac([2; 6]),
            source: (source.parse().expect("an address"), 4711),
            target: (target.parse().expect("an address"), 7000),
            fragment,
            identification: 5,
            segment: false,
        }
    }

    #[test]
    fn a_frame_is_read_as_what_was_meant() {
        for (source, target) in [("10.78.0.1", "10.77.0.99"), ("fd78::1", "fd77::99")] {
            for fragment in [Fragment::None, Fragment::First] {
                let sent = datagram(source, target, fragment);
                let read = Frame::read(&sent.frame()).expect("a frame that counts");
                assert_eq!((read.src.ip(), read.src.port()), sent.source);
                assert_eq!((read.dst.ip(), read.dst.port()), sent.target);
                assert!(matches!(read.what, What::Udp { .. }));
            }
            let later = datagram(source, target, Fragment::Later).frame();
            assert_eq!(Frame::read(&later), None, "a later fragment has no ports");
        }
    }

    #[test]
    fn a_segment_is_read_as_one() {
        let segment = Datagram {
            segment: true,
            ..datagram("10.78.0.1", "10.77.0.99", Fragment::None)
        };
        let read = Frame::read(&segment.frame()).expect("a frame that counts");
        assert_eq!(read.src.port(), segment.source.1);
        assert!(matches!(read.what, What::Tcp { flags: DATA, .. }));
    }

    #[test]
    fn an_ip4_header_has_its_checksum() {
        let frame = datagram("10.78.0.1", "10.77.0.99", Fragment::None).frame();
        assert_eq!(checksum(&frame[14..34]), 0);
    }
}
