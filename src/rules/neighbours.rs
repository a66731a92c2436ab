//! ARP and neighbour discovery: whatever leaves this host and says where the VIP is says the cluster MAC. And the
//! question whether a VIP is there needs no answer where a node of the same description asks. Pure.
//!
//! | where | what it does |
//! |---|---|
//! | `arp`, `output` | writes the cluster MAC into ARP; a reply by another interface goes nowhere |
//! | `arp`, `input` | drops agreed probes, which so get no answer: silence is consent; and those that are for predecessors |
//! | `ip6`, `output` | writes the cluster MAC into neighbour advertisements and solicitations |
//! | `netdev`, `agree-ip6` | the probes for IPv6 VIPs, which come to their solicited-node groups |
//!
//! What is said in a probe is `model::agreement`'s; what the rules read of it is `neighbour_words`'.

use super::fragment_words::network;
use super::names::*;
use super::neighbour_words::{ADVERTISEMENT, SOLICITATION};
use super::sentence::Sentence;
use super::tagged;
use crate::model::frame::solicited_node;
use crate::model::phase::Phases;
use crate::model::ruleset::{
    Chain, Data, Element, Header, Hook, KeyPart, Reg, Set, SetSpec, Table, Target, Verdict, Word,
};
use crate::model::vip::{MOST_VIPS, Vip};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// The priority of these hooks: nft's `filter`.
const FILTER_PRIORITY: i32 = 0;

// Why rules are there, for whoever reads 'nft list ruleset' at night.
const AGREED_PROBE: &str = "a node of the same description asks: silence is consent";
const PREDECESSORS_ASKED: &str = "a node asks who shares the VIP without these rules";
const OTHER_MANAGER: &str = "another resource has the address too: it is to hear that";
const OTHER_INTERFACE: &str = "another interface must not say that the VIP is there";
const CLUSTER_MAC: &str = "the VIP is at the cluster MAC";

/// ARP packets that this host sends, and those that it receives.
pub(super) fn arp_table(vips: &[(Vip, Phases)]) -> Table {
    let mut base = Chain::hooked(Hook::ArpOutput, FILTER_PRIORITY);
    base.rules.push(
        Sentence::because(CLUSTER_MAC)
            .oifname(Reg(0))
            .arp_sender_ip(Reg(4))
            .value(MACS, Reg(0), Reg(8))
            .set_arp_sender_mac(Reg(8), MACS)
            .accept()
            .rule(),
    );
    base.rules.push(
        Sentence::because(OTHER_INTERFACE)
            .arp_reply_from(VIPS)
            .drop()
            .rule(),
    );
    let mut table = mac_table(vips, base, KeyPart::Ip4, IpAddr::is_ipv4);
    let mut input = Chain::hooked(Hook::ArpInput, FILTER_PRIORITY);
    input.rules.push(
        Sentence::because(OTHER_MANAGER)
            .arp_probe_with_digest()
            .arp_of_another_manager()
            .accept()
            .rule(),
    );
    input.rules.push(
        Sentence::because(AGREED_PROBE)
            .arp_probe_with_digest()
            .drop()
            .rule(),
    );
    input.rules.push(
        Sentence::because(PREDECESSORS_ASKED)
            .arp_probe_for_predecessors()
            .drop()
            .rule(),
    );
    table.chains.insert(INPUT.to_owned(), input);
    let managers = probes(KeyPart::Ip4).worded([network(36, 6), network(42, 4)]);
    let addresses = SetSpec::new(vec![KeyPart::Ip4], Data::None, MOST_VIPS);
    let mut add = |name: &str, spec, key: fn(&Vip) -> Vec<u8>| {
        let mut set = Set::new(spec);
        let vips = vips.iter().filter(|(vip, _)| vip.address.is_ipv4());
        let keys = vips.map(|(vip, _)| (key(vip), Element::new(Target::None)));
        set.elements.extend(keys);
        table.sets.insert(name.to_owned(), set);
    };
    add(AGREED, probes(KeyPart::Ip4), agreed_key);
    add(MANAGERS, managers, manager_key);
    add(VIPS, addresses, |vip| address_bytes(vip.address));
    table
}

/// IPv6 packets that this host sends.
pub(super) fn ip6_table(vips: &[(Vip, Phases)]) -> Table {
    let mut base = Chain::hooked(Hook::Ip6Output, FILTER_PRIORITY);
    for nd in [&ADVERTISEMENT, &SOLICITATION] {
        let rule = Sentence::because(CLUSTER_MAC)
            .neighbour_discovery(nd)
            .value(MACS, Reg(0), Reg(8))
            .set_nd_mac(Reg(8), nd)
            .rule();
        base.rules.push(rule);
    }
    mac_table(vips, base, KeyPart::Ip6, IpAddr::is_ipv6)
}

/// A table with one base chain and the map from (interface, VIP) to the cluster MAC.
fn mac_table(
    vips: &[(Vip, Phases)],
    base: Chain,
    part: KeyPart,
    of_family: fn(&IpAddr) -> bool,
) -> Table {
    let key = vec![KeyPart::IfName, part];
    let mut spec = SetSpec::new(key, Data::Mac, MOST_VIPS);
    if part == KeyPart::Ip6 {
        // As neighbour_discovery() loads them.
        spec = spec.worded([Word::OutIfName, network(8, 8), network(16, 8)]);
        spec.words.data = Some(transport(26, 6));
    }
    let mut macs = Set::new(spec);
    for (vip, _) in vips.iter().filter(|(vip, _)| of_family(&vip.address)) {
        macs.elements.insert(
            mac_key(&vip.nic, vip.address),
            Element::new(Target::Value(vip.mac.0.to_vec())),
        );
    }
    Table {
        flags: 0,
        chains: BTreeMap::from([(OUTPUT.to_owned(), base)]),
        sets: BTreeMap::from([(MACS.to_owned(), macs)]),
    }
}

/// Probes for an IPv6 VIP come to its solicited-node group, which is dispatched like a VIP.
pub(super) fn agree_on_ip6(table: &mut Table, vip: &Vip, address: Ipv6Addr) {
    table.chains.insert(
        AGREE_IP6.to_owned(),
        Chain::of([
            tagged::rule(vip.address),
            Sentence::because(OTHER_MANAGER)
                .ip6_probe_with_digest()
                .ip6_of_another_manager()
                .accept()
                .rule(),
            Sentence::because(AGREED_PROBE)
                .ip6_probe_with_digest()
                .drop()
                .rule(),
        ]),
    );
    let group = solicited_node(address).octets().to_vec();
    let goto = Element::new(Target::Verdict(Verdict::Goto(AGREE_IP6.to_owned())));
    if let Some(map) = table.sets.get_mut(&dispatch_map(&vip.nic, vip.address)) {
        map.elements.insert(group, goto);
    }
    for (name, digest, key) in [
        (AGREE_IP6, transport(26, 6), agreed_key(vip)),
        (MANAGERS_IP6, transport(34, 6), manager_key(vip)),
    ] {
        let set = table.sets.entry(name.to_owned());
        let spec = probes(KeyPart::Ip6).worded([digest, transport(8, 16)]);
        set.or_insert_with(|| Set::new(spec))
            .elements
            .insert(key, Element::new(Target::None));
    }
}

/// Bytes of the transport header.
fn transport(offset: u32, len: u32) -> Word {
    Word::Bytes {
        header: Header::Transport,
        offset,
        len,
    }
}

/// A set of what probes that need no answer say: a digest, then the VIP.
fn probes(part: KeyPart) -> SetSpec {
    SetSpec::new(vec![KeyPart::Mac, part], Data::None, MOST_VIPS)
}
