//! The extension headers of an IPv6 packet (RFC 8200 §4), as the kernel goes along them
//! (`ipv6_find_hdr()` in `net/ipv6/exthdrs_core.c`): what comes behind them, and the fragment header among
//! them. Pure. Who takes the packet is `packet`'s to say.

use super::protocol::{AH, FRAGMENT_HEADER as FRAGMENT, LAST_EARLY_OFFSET, LONGEST_EARLY};

pub(super) const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
pub(super) const DESTINATION: u8 = 60;

/// What comes behind the extension headers; AH ends them.
pub(super) struct Extensions {
    /// What that is.
    pub(super) protocol: u8,
    /// Where its header begins; a later fragment has none.
    pub(super) transport: Option<usize>,
}

impl Extensions {
    /// Goes along the headers of a packet, from what its IPv6 header names on; `None` where they are malformed.
    pub(super) fn walk(packet: &[u8], first: u8) -> Option<Self> {
        let (mut protocol, mut at) = (first, 40);
        loop {
            let found = Extensions {
                protocol,
                transport: Some(at),
            };
            if !is_extension(protocol) {
                return Some(found);
            }
            let header = packet.get(at..at + 2)?;
            if protocol == AH {
                return Some(found);
            }
            at += match protocol {
                FRAGMENT => {
                    let bits = packet.get(at + 2..at + 4)?;
                    if u16::from_be_bytes([bits[0], bits[1]]) & 0xfff8 != 0 {
                        // A later fragment: what it begins with is the middle of something.
                        return (!is_extension(header[0])).then_some(Extensions {
                            protocol: header[0],
                            transport: None,
                        });
                    }
                    8
                }
                ROUTING if packet.len() < at + 4 => return None,
                _ => 8 * (usize::from(header[1]) + 1),
            };
            protocol = header[0];
        }
    }
}

/// May a later IPv6 fragment wait for its first one on every node, or would the kernel complain of
/// it at once? That is so behind other extension headers, with nothing behind the fragment header, of
/// a length that is no multiple of eight although more follow, and beyond the longest datagram
/// (`ip6_frag_queue()`).
pub(super) fn may_wait(packet: &[u8]) -> bool {
    let be16 = |at: usize| {
        let bytes = packet.get(at..at + 2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let (Some(length), Some(bits)) = (be16(4), be16(42)) else {
        return false;
    };
    let more = bits & 1 != 0;
    packet[6] == FRAGMENT
        && (9..=LONGEST_EARLY).contains(&length)
        && !(more && length & 7 != 0)
        && bits & 0xfff8 <= LAST_EARLY_OFFSET
}

/// The fragment header and what follows, at least four bytes, wherever it stands.
pub(super) fn fragment_header(packet: &[u8], first: u8) -> Option<&[u8]> {
    let (mut next, mut at) = (first, 40);
    while next != FRAGMENT {
        if !is_extension(next) {
            return None;
        }
        let header = packet.get(at..at + 2)?;
        at += match next {
            AH => 4 * (usize::from(header[1]) + 2),
            ROUTING if packet.len() < at + 4 => return None,
            _ => 8 * (usize::from(header[1]) + 1),
        };
        next = header[0];
    }
    packet.get(at..).filter(|header| header.len() >= 4)
}

/// `ipv6_ext_hdr()`, but for "no next header" (59), which has nothing behind it.
pub(super) fn is_extension(header: u8) -> bool {
    [HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION].contains(&header)
}
