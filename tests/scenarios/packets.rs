//! IP packets from recipes: every protocol, options, extension headers, fragments, and damage.

use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a packet is made of.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Which VIP it is for.
    pub vip: usize,
    source: u8,
    protocol: u8,
    piece: Piece,
    /// Words of IPv4 options; kinds of IPv6 extension headers.
    options: Vec<u8>,
    /// Extension headers that stand behind the fragment header.
    behind: Vec<u8>,
    payload: Vec<u8>,
    /// Its options ask for an answer, its routing headers are unknown.
    loud: bool,
    damage: Damage,
}

#[derive(Debug, Clone, Copy)]
enum Piece {
    Whole,
    /// A fragment header that says nothing (IPv6).
    Atomic(u8),
    First(u8),
    Later(u8, u16),
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    None,
    /// Cut after so many bytes (at most its length).
    Cut(u8),
    /// Another length in the header.
    Length(i8),
    /// Another byte in the header.
    Byte(u8, u8),
}

/// A recipe that somebody could send; few sources and identifications, so that they collide.
pub fn any_recipe() -> impl Strategy<Value = Recipe> {
    let protocol = prop_oneof![
        4 => Just(6u8),
        4 => prop::sample::select(vec![6u8, 17, 33, 132, 136, 50]),
        2 => Just(51u8),
        3 => prop::sample::select(vec![1u8, 58]),
        2 => any::<u8>(),
    ];
    let id = 0u8..4;
    let piece = prop_oneof![
        4 => Just(Piece::Whole),
        1 => id.clone().prop_map(Piece::Atomic),
        3 => id.clone().prop_map(Piece::First),
        3 => (id, 1u16..0x2000).prop_map(|(id, offset)| Piece::Later(id, offset)),
    ];
    let extensions = || {
        prop_oneof![
            3 => Just(Vec::new()),
            2 => prop::collection::vec(prop::sample::select(vec![0u8, 43, 60, 51, 44, 59]), 1..4),
        ]
    };
    let damage = prop_oneof![
        8 => Just(Damage::None),
        1 => any::<u8>().prop_map(Damage::Cut),
        1 => any::<i8>().prop_map(Damage::Length),
        1 => (0u8..48, any::<u8>()).prop_map(|(at, value)| Damage::Byte(at, value)),
    ];
    let payload = prop::collection::vec(
        prop_oneof![2 => 0u8..14, 1 => 128u8..140, 1 => any::<u8>()],
        0..40,
    );
    (
        (0usize..3, 0u8..6, protocol, piece),
        extensions(),
        extensions(),
        payload,
        (any::<bool>(), damage),
    )
        .prop_map(
            |((vip, source, protocol, piece), options, behind, payload, (loud, damage))| Recipe {
                vip,
                source,
                protocol,
                piece,
                options,
                behind,
                payload,
                loud,
                damage,
            },
        )
}

impl Recipe {
    /// The packet from a source that no other packet has, with the header's checksum.
    pub fn packet_from(&self, source: u16, to: IpAddr) -> Vec<u8> {
        let mut packet = self.packet(to);
        let at = if to.is_ipv4() { 14 } else { 22 };
        if let Some(place) = packet.get_mut(at..at + 2) {
            place.copy_from_slice(&source.to_be_bytes());
        }
        let header = 4 * usize::from(packet[0] & 0x0f);
        if to.is_ipv4() && header >= 20 && packet.len() >= header {
            packet[10..12].fill(0);
            let sum = lab::frame::checksum(&packet[..header]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        packet
    }

    /// The packet, from its IP header on.
    pub fn packet(&self, to: IpAddr) -> Vec<u8> {
        let mut packet = match to {
            IpAddr::V4(to) => self.ip4(to),
            IpAddr::V6(to) => self.ip6(to),
        };
        match self.damage {
            Damage::None => {}
            // The version stays, for the frame's type goes by it.
            Damage::Cut(len) => packet.truncate(usize::from(len).max(1)),
            Damage::Length(by) => {
                let at = if to.is_ipv4() { 2 } else { 4 };
                let length = u16::from_be_bytes([packet[at], packet[at + 1]]);
                let length = length.wrapping_add_signed(by.into());
                packet[at..at + 2].copy_from_slice(&length.to_be_bytes());
            }
            Damage::Byte(0, value) => packet[0] = (packet[0] & 0xf0) | (value & 0x0f),
            Damage::Byte(at, value) => {
                if let Some(byte) = packet.get_mut(usize::from(at)) {
                    *byte = value;
                }
            }
        }
        packet
    }

    fn ip4(&self, to: Ipv4Addr) -> Vec<u8> {
        let words = self.options.len().min(10) as u8;
        let (id, bits) = match self.piece {
            Piece::Whole | Piece::Atomic(_) => (9, 0x4000),
            Piece::First(id) => (id, 0x2000),
            Piece::Later(id, offset) => (id, offset),
        };
        let length = 20 + 4 * usize::from(words) + self.payload.len();
        let mut packet = vec![0x45 + words, 0];
        packet.extend((length as u16).to_be_bytes());
        packet.extend([0, id]);
        packet.extend(bits.to_be_bytes());
        packet.extend([64, self.protocol, 0, 0, 10, 78, 0, self.source]);
        packet.extend(to.octets());
        // No operation, to the end.
        packet.extend(vec![1; 4 * usize::from(words)]);
        packet.extend(&self.payload);
        packet
    }

    fn ip6(&self, to: Ipv6Addr) -> Vec<u8> {
        let mut kinds = self.options.clone();
        let fragment = match self.piece {
            Piece::Whole => None,
            Piece::Atomic(id) => Some((id, 0)),
            Piece::First(id) => Some((id, 1)),
            Piece::Later(id, offset) => Some((id, offset << 3)),
        };
        if fragment.is_some() {
            kinds.push(44);
            kinds.extend(&self.behind);
        }
        let mut rest = Vec::new();
        for (n, kind) in kinds.iter().enumerate() {
            let next = kinds.get(n + 1).copied().unwrap_or(self.protocol);
            match kind {
                44 => {
                    let (id, bits) = fragment.unwrap_or((7, 0));
                    rest.extend([next, 0]);
                    rest.extend(bits.to_be_bytes());
                    rest.extend([0, 0, 0, id]);
                }
                // AH counts in words of four bytes: 12 of them.
                51 => rest.extend([next, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]),
                // An unknown routing header with a segment left; an unknown option whose first bits
                // say "discard, and answer" (RFC 8200 §4.2, §4.4).
                43 if self.loud => rest.extend([next, 0, 77, 1, 0, 0, 0, 0]),
                _ if self.loud => rest.extend([next, 0, 0x9e, 4, 0, 0, 0, 0]),
                // Padding; for a routing header no segments are left.
                _ => rest.extend([next, 0, 1, 0, 0, 0, 0, 0]),
            }
        }
        rest.extend(&self.payload);
        let first = kinds.first().copied().unwrap_or(self.protocol);
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend((rest.len() as u16).to_be_bytes());
        packet.extend([first, 64]);
        let source = Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, self.source.into());
        packet.extend(source.octets());
        packet.extend(to.octets());
        packet.extend(rest);
        packet
    }
}
