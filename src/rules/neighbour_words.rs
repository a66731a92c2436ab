//! The vocabulary's words about neighbours: what ARP and neighbour discovery say of a link-layer address, and the
//! probes in which the question is asked. Pure.

use super::names::{AGREE_IP6, AGREED, MACS, MANAGERS, MANAGERS_IP6, VIPS};
use super::sentence::{REG0, Sentence};
use crate::model::agreement::{MANAGER_OPTION, MANAGER_WORD, OF_NONE};
use crate::model::frame::NONCE_OPTION;
use crate::model::protocol::ICMP6;
use crate::model::ruleset::{Expr, Found, Header, MetaKey, Reg};

/// Where neighbour discovery messages say a link-layer address (RFC 4861 §4.3, §4.4, §4.6.1): the
/// first option follows 24 bytes into the message.
pub(crate) struct NeighbourDiscovery {
    icmp_type: u8,
    option: u8,
    /// The address that the link-layer address is said of.
    address: (Header, u32),
    text: &'static str,
}

pub(crate) const ADVERTISEMENT: NeighbourDiscovery = NeighbourDiscovery {
    icmp_type: 136,
    option: 2,
    address: (Header::Transport, 8),
    text: "icmpv6 type nd-neighbor-advert @th,192,16 0x0201 @th,208,48 set oifname . icmpv6 taddr",
};

pub(crate) const SOLICITATION: NeighbourDiscovery = NeighbourDiscovery {
    icmp_type: 135,
    option: 1,
    address: (Header::Network, 8),
    text: "icmpv6 type nd-neighbor-solicit @th,192,16 0x0101 @th,208,48 set oifname . ip6 saddr",
};

impl Sentence {
    pub(crate) fn oifname(self, to: Reg) -> Self {
        self.expr(Expr::Meta {
            key: MetaKey::OutIfName,
            to,
        })
    }

    pub(crate) fn arp_sender_ip(self, to: Reg) -> Self {
        self.payload(Header::Network, 14, 4, to)
    }

    pub(crate) fn set_arp_sender_mac(self, from: Reg, map: &str) -> Self {
        self.expr(Expr::Write {
            header: Header::Network,
            offset: 8,
            len: 6,
            from,
            checksum: None,
        })
        .say(format!(
            "arp saddr ether set oifname . arp saddr ip map @{map}"
        ))
    }

    /// An ARP reply that says where one of these addresses is.
    pub(crate) fn arp_reply_from(self, set: &str) -> Self {
        self.payload(Header::Network, 6, 2, REG0)
            .equal(REG0, &[0, 2])
            .payload(Header::Network, 14, 4, REG0)
            .say("arp operation reply arp saddr ip")
            .in_set(set, REG0)
    }

    /// An ARP request from nobody whose target hardware address is an agreed digest (RFC 5227).
    pub(crate) fn arp_probe_with_digest(self) -> Self {
        self.payload(Header::Network, 6, 2, REG0)
            .equal(REG0, &[0, 1])
            .payload(Header::Network, 14, 4, REG0)
            .equal(REG0, &[0; 4])
            .payload(Header::Network, 18, 6, Reg(0))
            .payload(Header::Network, 24, 4, Reg(2))
            .lookup(AGREED, Reg(0), Found::GoOn)
            .say("arp operation request arp saddr ip 0.0.0.0")
            .say(format!("arp daddr ether . arp daddr ip @{AGREED}"))
    }

    /// An ARP request from nobody that is for those without these rules.
    pub(crate) fn arp_probe_for_predecessors(self) -> Self {
        self.payload(Header::Network, 6, 2, REG0)
            .equal(REG0, &[0, 1])
            .payload(Header::Network, 14, 4, REG0)
            .equal(REG0, &[0; 4])
            .payload(Header::Network, 18, 6, REG0)
            .equal(REG0, &OF_NONE)
            .payload(Header::Network, 24, 4, REG0)
            .say("arp operation request arp saddr ip 0.0.0.0 arp daddr ether 62:65:66:6f:72:65 arp daddr ip")
            .in_set(VIPS, REG0)
    }

    /// Whose padding names a manager, and another one.
    pub(crate) fn arp_of_another_manager(self) -> Self {
        self.payload(Header::Network, 28, 8, REG0)
            .equal(REG0, &MANAGER_WORD)
            .payload(Header::Network, 36, 6, Reg(0))
            .payload(Header::Network, 42, 4, Reg(2))
            .lookup(MANAGERS, Reg(0), Found::Missing)
            .say("@nh,224,64 0x7265736f75726365")
            .say(format!("@nh,288,48 . @nh,336,32 != @{MANAGERS}"))
    }

    /// A neighbour solicitation from nobody whose nonce is an agreed digest (RFC 7527).
    pub(crate) fn ip6_probe_with_digest(self) -> Self {
        self.ip6_nexthdr(REG0)
            .equal(REG0, &[ICMP6])
            .payload(Header::Network, 8, 16, REG0)
            .equal(REG0, &[0; 16])
            .payload(Header::Transport, 0, 1, REG0)
            .equal(REG0, &[SOLICITATION.icmp_type])
            .payload(Header::Transport, 24, 2, REG0)
            .equal(REG0, &[NONCE_OPTION, 1])
            .payload(Header::Transport, 26, 6, Reg(0))
            .payload(Header::Transport, 8, 16, Reg(2))
            .lookup(AGREE_IP6, Reg(0), Found::GoOn)
            .say("icmpv6 ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,192,16 0x0e01")
            .say(format!("@th,208,48 . icmpv6 taddr @{AGREE_IP6}"))
    }

    /// Whose second option names a manager, and another one.
    pub(crate) fn ip6_of_another_manager(self) -> Self {
        self.payload(Header::Transport, 32, 2, REG0)
            .equal(REG0, &[MANAGER_OPTION, 1])
            .payload(Header::Transport, 34, 6, Reg(0))
            .payload(Header::Transport, 8, 16, Reg(2))
            .lookup(MANAGERS_IP6, Reg(0), Found::Missing)
            .say("@th,256,16 0xfd01")
            .say(format!("@th,272,48 . icmpv6 taddr != @{MANAGERS_IP6}"))
    }

    /// A message of this kind that says a link-layer address; then the key of the map of MACs.
    pub(crate) fn neighbour_discovery(self, nd: &NeighbourDiscovery) -> Self {
        let (header, offset) = nd.address;
        self.ip6_nexthdr(REG0)
            .equal(REG0, &[ICMP6])
            .payload(Header::Transport, 0, 1, REG0)
            .equal(REG0, &[nd.icmp_type])
            .payload(Header::Transport, 24, 2, REG0)
            .equal(REG0, &[nd.option, 1])
            .oifname(Reg(0))
            // In two halves, or nft takes one message's for an address and the other's for bytes.
            .payload(header, offset, 8, Reg(4))
            .payload(header, offset + 8, 8, Reg(6))
            .say("icmpv6")
    }

    /// Writes the address into the option; the ICMPv6 checksum follows the change.
    pub(crate) fn set_nd_mac(self, from: Reg, nd: &NeighbourDiscovery) -> Self {
        self.expr(Expr::Write {
            header: Header::Transport,
            offset: 26,
            len: 6,
            from,
            checksum: Some(2),
        })
        .say(format!("{} map @{MACS}", nd.text))
    }
}
