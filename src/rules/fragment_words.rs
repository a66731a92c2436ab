//! The vocabulary's words about fragments: what is one, of which datagram, and the sets that
//! remember it. Pure.

use super::sentence::{REG0, Sentence};
use crate::model::ruleset::{Comparison, Expr, Header, KeyPart, Learn, Reg, Word};
use std::net::IpAddr;

/// Where the offset stands in a fragment header that follows the IPv6 header.
const OFFSET_IP6: u32 = 42;

impl Sentence {
    /// A fragment of a datagram: more fragments follow, or it is not at its beginning. (An IPv6
    /// datagram in one fragment, RFC 6946, is none.)
    pub(crate) fn fragment(self, vip: IpAddr) -> Self {
        self.any_of_bits(vip, 0x3fff, 0xfff9)
    }

    /// A fragment that is not at the beginning of its datagram.
    pub(crate) fn later_fragment(self, vip: IpAddr) -> Self {
        self.any_of_bits(vip, 0x1fff, 0xfff8)
    }

    fn any_of_bits(self, vip: IpAddr, mask4: u16, mask6: u16) -> Self {
        let loaded = match vip {
            IpAddr::V4(_) => self
                .fragment_bits4(mask4, REG0)
                .say(format!("ip frag-off & {mask4:#x} != 0")),
            IpAddr::V6(_) => self
                .fragment_bits6(mask6, REG0)
                .say(format!("frag @16,16 & {mask6:#x} != 0")),
        };
        loaded.not_equal(REG0, &[0, 0])
    }

    /// Loads these bits of the IPv4 header's flags and fragment offset.
    pub(crate) fn fragment_bits4(self, mask: u16, to: Reg) -> Self {
        self.payload(Header::Network, 6, 2, to)
            .and(to, &mask.to_be_bytes())
    }

    /// Loads these bits of the IPv6 fragment header's offset and flags.
    fn fragment_bits6(self, mask: u16, to: Reg) -> Self {
        self.expr(Expr::FragmentHeader {
            offset: 2,
            len: 2,
            to,
        })
        .and(to, &mask.to_be_bytes())
    }

    /// What the fragments of a datagram have in common, from the first register on.
    pub(crate) fn datagram(self, vip: IpAddr) -> Self {
        match vip {
            IpAddr::V4(_) => self
                // Both addresses at once: nft has no name for that, and so takes it for nothing but bytes.
                .payload(Header::Network, 12, 8, Reg(0))
                .payload(Header::Network, 9, 1, Reg(2))
                .payload(Header::Network, 4, 2, Reg(3)),
            IpAddr::V6(_) => {
                self.payload(Header::Network, 8, 32, Reg(0))
                    .expr(Expr::FragmentHeader {
                        offset: 4,
                        len: 4,
                        to: Reg(8),
                    })
            }
        }
    }

    /// Goes on only if the set has the datagram.
    pub(crate) fn datagram_in(self, set: &str, vip: IpAddr) -> Self {
        self.datagram(vip)
            .say(datagram_words(vip))
            .in_set(set, REG0)
    }

    /// Where in its datagram a fragment stands, behind what [`Sentence::datagram`] loaded. For IPv6 only
    /// where the fragment header comes first: nft cannot read its word for these bits elsewhere.
    pub(crate) fn offset(self, vip: IpAddr) -> Self {
        match vip {
            IpAddr::V4(_) => self.fragment_bits4(0x1fff, Reg(4)),
            IpAddr::V6(_) => self
                .payload(Header::Network, OFFSET_IP6, 2, Reg(9))
                .and(Reg(9), &[0xff, 0xf8]),
        }
    }

    /// Loads a zero of 32 bits, as part of a key, in a rule that no later fragment comes to. A constant
    /// would do, but nft cannot read its word for that. IPv4: the fragment's offset. IPv6: the first bit
    /// of the version, for the rule has asked for the transport protocol, which only version 6 has.
    pub(crate) fn zero(self, vip: IpAddr, to: Reg) -> Self {
        match vip {
            IpAddr::V4(_) => self.fragment_bits4(0x1fff, to),
            IpAddr::V6(_) => self.payload(Header::Network, 0, 1, to).and(to, &[0x80]),
        }
    }

    /// Remembers in the set what [`Sentence::datagram`] loaded.
    pub(crate) fn keep(self, set: &str, vip: IpAddr) -> Self {
        self.learn(set, Learn::Keep, datagram_words(vip))
    }

    /// Takes it out again.
    pub(crate) fn forget(self, set: &str, vip: IpAddr) -> Self {
        self.learn(set, Learn::Forget, datagram_words(vip))
    }

    /// Remembers what [`Sentence::datagram`] and [`Sentence::offset`] loaded; where the set is full,
    /// the rule ends.
    pub(crate) fn keep_fragment(self, set: &str, vip: IpAddr) -> Self {
        let words = match vip {
            IpAddr::V4(_) => format!("{} . ip frag-off & 0x1fff", datagram_words(vip)),
            IpAddr::V6(_) => format!("{} . @nh,336,16 & 0xfff8", datagram_words(vip)),
        };
        self.learn(set, Learn::Keep, &words)
    }

    /// The bytes behind the IPv6 header.
    pub(crate) fn ip6_length(self) -> Self {
        self.payload(Header::Network, 4, 2, REG0).say("ip6 length")
    }

    /// Where in its datagram an IPv6 fragment begins, in bytes.
    pub(crate) fn ip6_offset(self) -> Self {
        self.fragment_bits6(0xfff8, REG0)
            .say("frag @16,16 & 0xfff8")
    }

    /// An IPv6 fragment that is not the last of its datagram.
    pub(crate) fn ip6_more_fragments(self) -> Self {
        self.fragment_bits6(1, REG0)
            .not_equal(REG0, &[0, 0])
            .say("frag more-fragments 1")
    }

    /// Goes on only if the two bytes are more than this, in network order.
    pub(crate) fn more_than(self, number: u16) -> Self {
        self.compare(REG0, Comparison::MoreThan, &number.to_be_bytes())
            .say(format!("> {number}"))
    }

    /// Goes on only if the two bytes are this or less, in network order.
    pub(crate) fn at_most(self, number: u16) -> Self {
        self.compare(REG0, Comparison::AtMost, &number.to_be_bytes())
            .say(format!("<= {number}"))
    }

    /// Goes on so many times a second, and no oftener.
    pub(crate) fn at_most_a_second(self, number: u32) -> Self {
        self.expr(Expr::AtMostASecond { packets: number })
            .say(format!("limit rate {number}/second burst {number} packets"))
    }
}

/// The key that [`Sentence::datagram`] loads, and how nft words its parts.
pub(crate) fn datagram_key(vip: IpAddr) -> (Vec<KeyPart>, Vec<Word>) {
    match vip {
        IpAddr::V4(_) => (
            vec![
                KeyPart::Ip4,
                KeyPart::Ip4,
                KeyPart::Protocol,
                KeyPart::Short,
            ],
            vec![network(12, 8), network(9, 1), network(4, 2)],
        ),
        IpAddr::V6(_) => (
            vec![KeyPart::Ip6, KeyPart::Ip6, KeyPart::Long],
            vec![network(8, 32), Word::FragmentId],
        ),
    }
}

/// The same with what [`Sentence::offset`] loads.
pub(crate) fn fragment_key(vip: IpAddr) -> (Vec<KeyPart>, Vec<Word>) {
    let (mut key, mut words) = datagram_key(vip);
    key.push(KeyPart::Short);
    words.push(match vip {
        IpAddr::V4(_) => network(6, 2),
        IpAddr::V6(_) => network(OFFSET_IP6, 2),
    });
    (key, words)
}

/// Bytes of the IP header.
pub(crate) fn network(offset: u32, len: u32) -> Word {
    Word::Bytes {
        header: Header::Network,
        offset,
        len,
    }
}

/// What [`Sentence::datagram`] loads, in nft's words.
fn datagram_words(vip: IpAddr) -> &'static str {
    match vip {
        IpAddr::V4(_) => "ip saddr . ip daddr . ip protocol . ip id",
        IpAddr::V6(_) => "ip6 saddr . ip6 daddr . frag id",
    }
}
