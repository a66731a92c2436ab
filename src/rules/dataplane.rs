//! What the kernel is told for a VIP: the rules and maps, as values. Pure.
//!
//! An interface has one base chain at netdev ingress. It looks the destination address up in a map
//! of VIPs of its family, so what is not for a VIP pays one failed lookup, and 64 VIPs cost what one
//! does. Each VIP has a chain that hashes, and looks
//! the bucket up in the VIP's own map: an element there means owned; no element means that the
//! lookup ends the rule, and the next one drops the packet. `ingress` has those chains.
//!
//! The table `arp` and the table `ip6` make whatever leaves this host and says where the VIP is
//! say the cluster MAC.

use super::adopting;
use super::fragment_words::network;
use super::guard;
use super::ingress;
use super::leaving;
use super::names::*;
use super::neighbour_words::{ADVERTISEMENT, SOLICITATION};
use super::sentence::{REG0, Sentence};
use super::tagged;
use crate::model::frame::solicited_node;
use crate::model::mac::Mac;
use crate::model::phase::Phases;
use crate::model::ruleset::{
    BaseChain, Chain, Data, Element, Family, Header, Hook, KeyPart, Reg, Ruleset, Set, SetSpec,
    Table, Target, Verdict, Word,
};
use crate::model::vip::Vip;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// netdev ingress comes before other tables' chains there (nft's `filter` is 0), so that foreign
/// packets go as early as possible.
const INGRESS_PRIORITY: i32 = -300;
/// The other hooks' priority: nft's `filter`.
const FILTER_PRIORITY: i32 = 0;
/// The most VIPs on an interface, and of all interfaces together.
const MOST_VIPS: u32 = 1024;

// Why rules are there, for whoever reads 'nft list ruleset' at night.
const DISPATCH: &str = "for a VIP?";
const ACCEPTED: &str = "or TCP is ignored that came in a multicast frame";
const AGREED_PROBE: &str = "a node of the same description asks: silence is consent";
const OTHER_MANAGER: &str = "another resource has the address too: it is to hear that";
const OTHER_INTERFACE: &str = "another interface must not say that the VIP is there";
const CLUSTER_MAC: &str = "the VIP is at the cluster MAC";

/// An element that says: this bucket is owned.
pub fn owned_element() -> Element {
    Element::new(Target::Verdict(Verdict::Goto(TO_HOST.to_owned())))
}

/// Everything that the kernel is to be told for these VIPs and the buckets that each owns here.
pub fn ruleset(vips: &[(Vip, Phases)]) -> Ruleset {
    let mut rules = Ruleset::new();
    if vips.is_empty() {
        return rules;
    }
    rules.insert(Family::Netdev, netdev_table(vips));
    if vips.iter().any(|(vip, _)| vip.address.is_ipv4()) {
        rules.insert(Family::Arp, arp_table(vips));
    }
    if vips.iter().any(|(vip, _)| vip.address.is_ipv6()) {
        rules.insert(Family::Ip6, ip6_table(vips));
    }
    adopting::add(&mut rules, vips);
    rules
}

fn netdev_table(vips: &[(Vip, Phases)]) -> Table {
    let mut table = Table::default();
    table.chains.insert(
        TO_HOST.to_owned(),
        Chain::of([
            guard::rule(),
            // What comes to this node alone stays as it is, and what comes to another, which a promiscuous
            // node sees too. Nothing accepts here, the base chain's policy does: so a second guard, of a
            // file that is loaded on top, is reached as well.
            Sentence::because(ACCEPTED)
                .pkttype_multicast()
                .pkttype_host()
                .rule(),
        ]),
    );
    table.chains.insert(TAGGED.to_owned(), tagged::chain());
    for (vip, phases) in vips {
        let base = table
            .chains
            .entry(ingress_chain(&vip.nic))
            .or_insert_with(|| base_chain(Hook::Ingress(vip.nic.to_string()), INGRESS_PRIORITY));
        let map = dispatch_map(&vip.nic, vip.address);
        let rule = match vip.address {
            IpAddr::V4(_) => Sentence::because(DISPATCH).ip4_daddr(REG0).vmap(&map, REG0),
            IpAddr::V6(_) => Sentence::because(DISPATCH).ip6_daddr(REG0).vmap(&map, REG0),
        }
        .rule();
        if !base.rules.contains(&rule) {
            base.rules.push(rule);
            // The order must not depend on which VIP came first.
            base.rules.sort_by(|a, b| a.text.cmp(&b.text));
        }
        let part = match vip.address {
            IpAddr::V4(_) => KeyPart::Ip4,
            IpAddr::V6(_) => KeyPart::Ip6,
        };
        table
            .sets
            .entry(map)
            .or_insert_with(|| Set::new(SetSpec::new(vec![part], Data::Verdict, MOST_VIPS)))
            .elements
            .insert(
                address_bytes(vip.address),
                Element::new(Target::Verdict(Verdict::Goto(vip_chain(vip.address)))),
            );
        add_vip(&mut table, vip, phases);
        if let IpAddr::V6(address) = vip.address {
            agree_on_ip6(&mut table, vip, address);
        }
    }
    table
}

/// Probes for an IPv6 VIP come to its solicited-node group, which is dispatched like a VIP.
fn agree_on_ip6(table: &mut Table, vip: &Vip, address: Ipv6Addr) {
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

/// The VIP's own chains and sets, and its map.
fn add_vip(table: &mut Table, vip: &Vip, phases: &Phases) {
    table.chains.extend(ingress::chains(vip, phases));
    table.sets.extend(leaving::sets(vip, phases));
    for (name, set) in ingress::sets(vip) {
        table.sets.insert(name.to_owned(), set);
    }
    let buckets = vip.buckets.get();
    let mut map = Set::new(SetSpec {
        counters: true,
        ..SetSpec::of_numbers(buckets, Data::Verdict, buckets.into())
    });
    for bucket in phases.owned.iter() {
        map.elements.insert(bucket_key(bucket), owned_element());
    }
    table.sets.insert(buckets_map(vip.address), map);
}

fn arp_table(vips: &[(Vip, Phases)]) -> Table {
    let mut base = base_chain(Hook::ArpOutput, FILTER_PRIORITY);
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
    let mut input = base_chain(Hook::ArpInput, FILTER_PRIORITY);
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
    table.chains.insert("input".to_owned(), input);
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

fn ip6_table(vips: &[(Vip, Phases)]) -> Table {
    let mut base = base_chain(Hook::Ip6Output, FILTER_PRIORITY);
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
        chains: BTreeMap::from([("output".to_owned(), base)]),
        sets: BTreeMap::from([(MACS.to_owned(), macs)]),
    }
}

fn base_chain(hook: Hook, priority: i32) -> Chain {
    Chain {
        base: Some(BaseChain { hook, priority }),
        ..Chain::default()
    }
}

/// Does the VIP need a membership of its own, or does the kernel join its group by itself?
pub fn needs_membership(vip: &Vip) -> bool {
    vip.address.is_ipv4() || vip.mac != Mac::of_group(vip.address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bucket::BucketSet;
    use crate::model::vip::tests::a_vip;

    /// Behind translation a client is somebody else, and has another bucket.
    #[test]
    fn every_chain_sees_packets_as_they_are_on_the_wire() {
        // NF_IP_PRI_CONNTRACK, NF_IP_PRI_NAT_SRC (linux/netfilter_ipv4.h), and nft's filter.
        const TRACKING: i32 = -200;
        const TRANSLATION: i32 = 100;
        const FILTER: i32 = 0;
        for vip in ["10.77.0.99", "fd77::99"] {
            let mut phases = Phases::owning(BucketSet::one(1));
            phases.adopting.insert(1, 1_000);
            let rules = ruleset(&[(a_vip(vip), phases)]);
            let chains = rules.values().flat_map(|table| table.chains.values());
            let mut seen = [0; 3];
            for BaseChain { hook, priority } in chains.filter_map(|chain| chain.base.as_ref()) {
                let (n, is_outside) = match hook {
                    Hook::Ingress(_) => (0, *priority < FILTER),
                    Hook::Before => (1, *priority < TRACKING),
                    Hook::After => (2, *priority > TRANSLATION),
                    _ => continue,
                };
                assert!(is_outside, "{hook:?} {priority}");
                seen[n] += 1;
            }
            assert_eq!(seen, [1, 1, 1], "{vip}");
        }
    }
}
