//! What VIPs of the mode `stealth` need: their MAC is no interface's own, so what comes to it is somebody else's in the
//! kernel's eyes (`PACKET_OTHERHOST`, `eth_type_trans()`), and is dropped by whatever takes it first: IP, IPv6, ARP.
//! That is their second lock. Pure.
//!
//! Packets that are accepted are this host's, as in the other modes. ARP is told before any table of the family arp
//! sees it (`arp_rcv()`): who asks for a VIP by unicast asks its MAC, and whoever a node has asked answers there.
//! Neighbour discovery is IPv6 and needs nothing more.

use super::names::{STEALTH, TO_HOST, ingress_chain};
use super::sentence::{REG0, Sentence};
use crate::model::l2_mode::L2Mode;
use crate::model::ruleset::{
    Data, Element, Header, KeyPart, MetaKey, Rule, Set, SetSpec, Table, Target, Word,
};
use crate::model::vip::{MOST_VIPS, Vip};

const ACCEPTED: &str = "or it is ignored, for the MAC is not this node's own";
const ARP: &str = "ARP to the MAC of a VIP is for every node";
/// `ETH_P_ARP` (linux/if_ether.h).
const ETHERTYPE_ARP: u16 = 0x0806;
/// The destination in an Ethernet header, for nft lists what is loaded there as bits.
const DESTINATION: Word = Word::Bytes {
    header: Header::Link,
    offset: 0,
    len: 6,
};

/// Has the VIP such a MAC?
pub fn is_stealth(vip: &Vip) -> bool {
    vip.mode == L2Mode::Stealth
}

/// Adds what this VIP needs to the table of what comes in, if it is such a one.
pub(crate) fn add(table: &mut Table, vip: &Vip) {
    if !is_stealth(vip) {
        return;
    }
    let places = [
        (TO_HOST.to_owned(), accepted()),
        (ingress_chain(&vip.nic), arp()),
    ];
    for (chain, rule) in places {
        let chain = table.chains.entry(chain).or_default();
        if !chain.rules.contains(&rule) {
            chain.rules.push(rule);
        }
    }
    let macs = SetSpec::new(vec![KeyPart::Mac], Data::None, MOST_VIPS).worded([DESTINATION]);
    let macs = table
        .sets
        .entry(STEALTH.to_owned())
        .or_insert_with(|| Set::new(macs));
    macs.elements.insert(key(vip), Element::new(Target::None));
}

/// Of what is accepted, what came to such a MAC.
fn accepted() -> Rule {
    let other = Sentence::because(ACCEPTED).meta(MetaKey::PacketType);
    to_host(other.equal(REG0, &[3]).say("meta pkttype other"))
}

/// What else comes to such a MAC by an interface.
fn arp() -> Rule {
    to_host(
        Sentence::because(ARP)
            .protocol(ETHERTYPE_ARP)
            .say("meta protocol arp"),
    )
}

fn to_host(what: Sentence) -> Rule {
    what.payload(Header::Link, 0, 6, REG0)
        .say("ether daddr")
        .in_set(STEALTH, REG0)
        .pkttype_host()
        .rule()
}

/// The key of a VIP in the set of such MACs.
pub(crate) fn key(vip: &Vip) -> Vec<u8> {
    vip.mac.0.to_vec()
}
