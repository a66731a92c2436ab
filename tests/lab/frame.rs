//! Reading Ethernet frames: who sent what to whom, as far as a witness needs to know.
//! Only what answers a client is told: TCP, UDP and what is like them, IPsec, echo; no ARP, no ND,
//! no ICMP errors.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::host::Mac;

/// A frame with something that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Source MAC.
    pub from: Mac,
    /// Destination MAC.
    pub to: Mac,
    /// Source address and port (0 for echo).
    pub src: SocketAddr,
    /// Destination address and port (0 for echo).
    pub dst: SocketAddr,
    /// What is in it.
    pub what: What,
}

/// A frame's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A TCP segment.
    Tcp {
        /// The flags' byte: FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
        flags: u8,
        /// Sequence number.
        sequence: u32,
        /// Acknowledgement number.
        acknowledged: u32,
    },
    /// A datagram, or the first fragment of one.
    Udp {
        /// The first line of its payload, not more than 64 bytes of it.
        payload: String,
    },
    /// A packet of SCTP or DCCP.
    Association {
        /// The transport's number.
        protocol: u8,
    },
    /// A packet of ESP or AH; both ports are 0.
    Sealed {
        /// The protocol's number.
        protocol: u8,
        /// The security association (RFC 4301).
        spi: u32,
    },
    /// An echo request.
    EchoRequest {
        /// Identifier.
        id: u16,
        /// Sequence number.
        sequence: u16,
    },
    /// An echo reply.
    EchoReply {
        /// Identifier.
        id: u16,
        /// Sequence number.
        sequence: u16,
    },
}

/// TCP's SYN flag.
pub const SYN: u8 = 2;
/// TCP's RST flag.
pub const RST: u8 = 4;
/// TCP's ACK flag.
pub const ACK: u8 = 16;

impl Frame {
    /// Reads a frame; `None` for everything that does not count.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (to, from) = (mac(bytes, 0)?, mac(bytes, 6)?);
        let (src, dst, protocol, body) = match be16(bytes, 12)? {
            0x0800 => ipv4(bytes.get(14..)?)?,
            0x86dd => ipv6(bytes.get(14..)?)?,
            _ => return None,
        };
        let (sport, dport, what) = match (protocol, src) {
            (6, _) => (be16(body, 0)?, be16(body, 2)?, tcp(body)?),
            // UDP-Lite has its coverage where UDP has a length.
            (17 | 136, _) => (be16(body, 0)?, be16(body, 2)?, udp(body)?),
            (33 | 132, _) => (
                be16(body, 0)?,
                be16(body, 2)?,
                What::Association { protocol },
            ),
            (50, _) => (0, 0, sealed(protocol, be32(body, 0)?)),
            (51, _) => (0, 0, sealed(protocol, be32(body, 4)?)),
            (1, IpAddr::V4(_)) => (0, 0, echo(body, 8, 0)?),
            (58, IpAddr::V6(_)) => (0, 0, echo(body, 128, 129)?),
            _ => return None,
        };
        Some(Self {
            from,
            to,
            src: (src, sport).into(),
            dst: (dst, dport).into(),
            what,
        })
    }
}

/// The Internet checksum over `bytes`.
pub fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u16::from_be_bytes([high, low]),
        [high] => u16::from_be_bytes([high, 0]),
        _ => 0,
    });
    let mut sum: u32 = words.map(u32::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

type Packet<'a> = (IpAddr, IpAddr, u8, &'a [u8]);

fn ipv4(bytes: &[u8]) -> Option<Packet<'_>> {
    let header = usize::from(bytes.first()? & 15) * 4;
    let end = usize::from(be16(bytes, 2)?);
    if be16(bytes, 6)? & 0x1fff != 0 {
        // A later fragment has no ports; its first one has been told already.
        return None;
    }
    let address = |at: usize| {
        let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(octets)))
    };
    // Frames are padded up to 60 bytes, and large ones left to the card have no length.
    let body = if end > header {
        bytes.get(header..end.min(bytes.len()))?
    } else {
        &bytes[header..]
    };
    Some((address(12)?, address(16)?, *bytes.get(9)?, body))
}

fn ipv6(bytes: &[u8]) -> Option<Packet<'_>> {
    let address = |at: usize| {
        let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(octets)))
    };
    let (mut next, mut body) = (*bytes.get(6)?, bytes.get(40..)?);
    loop {
        match next {
            // Hop-by-hop, routing and destination options tell their length in units of eight bytes.
            0 | 43 | 60 => {
                let length = (usize::from(*body.get(1)?) + 1) * 8;
                next = *body.first()?;
                body = body.get(length..)?;
            }
            44 => {
                if be16(body, 2)? >> 3 != 0 {
                    return None;
                }
                next = *body.first()?;
                body = body.get(8..)?;
            }
            _ => return Some((address(8)?, address(24)?, next, body)),
        }
    }
}

fn tcp(body: &[u8]) -> Option<What> {
    Some(What::Tcp {
        flags: *body.get(13)?,
        sequence: be32(body, 4)?,
        acknowledged: be32(body, 8)?,
    })
}

fn udp(body: &[u8]) -> Option<What> {
    let payload = body.get(8..)?;
    let line = payload.split(|byte| *byte == b'\n').next()?;
    let line = &line[..line.len().min(64)];
    Some(What::Udp {
        payload: String::from_utf8_lossy(line).into_owned(),
    })
}

fn sealed(protocol: u8, spi: u32) -> What {
    What::Sealed { protocol, spi }
}

fn echo(body: &[u8], request: u8, reply: u8) -> Option<What> {
    let (id, sequence) = (be16(body, 4)?, be16(body, 6)?);
    match *body.first()? {
        kind if kind == request => Some(What::EchoRequest { id, sequence }),
        kind if kind == reply => Some(What::EchoReply { id, sequence }),
        _ => None,
    }
}

fn mac(bytes: &[u8], at: usize) -> Option<Mac> {
    Some(Mac(bytes.get(at..at + 6)?.try_into().ok()?))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
