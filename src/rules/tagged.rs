//! A frame with the tag of a VLAN is not the VIP's, though it comes in by the VIP's interface: it is for that VLAN,
//! whose interface may be in another namespace and have the same address. Pure.
//!
//! The kernel takes the tag out before netdev ingress, and looks for the VLAN's interface behind it
//! (`__netif_receive_skb_core()`). So rules see what is in the frame as if there had been no tag; but for a load
//! from the Ethernet header the tag is put back in its place (`nft_payload_copy_vlan()`, since 5.10 the same for these
//! loads). What is for a VIP pays for one such load and one comparison, what is for none pays nothing.
//!
//! Two kinds of frames with a tag are the VIP's all the same. VLAN 0 is none, the tag says a priority alone: Linux
//! hands such a frame to the interface itself. And where the VIP's own interface is a VLAN with `reorder_hdr off`, its own
//! tag is in the frame again (`vlan_do_receive()`), and no rule can tell it from another's: on a VLAN no tag counts.

use super::names::{TAGGED, register_text};
use super::sentence::{REG0, Sentence};
use crate::model::protocol::{ETHERTYPE_IP4, ETHERTYPE_IP6, VLAN, VLAN_OF_PROVIDER};
use crate::model::ruleset::{Chain, Header, MetaKey, Rule};
use std::net::IpAddr;

const TAG: &str = "another VLAN's?";
const OWN: &str = "the interface is a VLAN, and the tag may be its own";
const PRIORITY: &str = "a priority and no VLAN";
const OTHERS: &str = "not the VIP's, but another interface's";

/// The first rule of a chain to which what is for a VIP goes.
pub(crate) fn rule(vip: IpAddr) -> Rule {
    let (ethertype, name) = match vip {
        IpAddr::V4(_) => (ETHERTYPE_IP4, "ip"),
        IpAddr::V6(_) => (ETHERTYPE_IP6, "ip6"),
    };
    Sentence::because(TAG)
        .ethertype()
        .not_equal(REG0, &ethertype.to_be_bytes())
        .say(format!("!= {name}"))
        .jump(TAGGED)
        .rule()
}

/// The chain for what has something else than IP behind its two addresses.
pub(crate) fn chain() -> Chain {
    let of = |number: u16, name| {
        Sentence::because(OTHERS)
            .ethertype()
            .equal(REG0, &number.to_be_bytes())
            .say(name)
            .accept()
    };
    let rules = [
        Sentence::because(OWN)
            .meta(MetaKey::InIfKind)
            .equal(REG0, &register_text("vlan"))
            .say("meta iifkind \"vlan\"")
            .back(),
        Sentence::because(PRIORITY)
            .payload(Header::Link, 14, 2, REG0)
            .and(REG0, &[0x0f, 0xff])
            .equal(REG0, &[0, 0])
            .say("@ll,112,16 & 0xfff == 0")
            .back(),
        of(VLAN, "8021q"),
        of(VLAN_OF_PROVIDER, "8021ad"),
    ];
    Chain::of(rules.into_iter().map(Sentence::rule))
}
