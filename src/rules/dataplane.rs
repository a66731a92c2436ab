//! What the kernel is told for a VIP: the rules and maps, as values. Pure.
//!
//! An interface has one base chain at netdev ingress. It looks the destination address up in a map
//! of VIPs of its family, so what is not for a VIP pays one failed lookup, and 64 VIPs cost what one
//! does. Each VIP has a chain that hashes, and looks
//! the bucket up in the VIP's own map: an element there means owned; no element means that the
//! lookup ends the rule, and the next one drops the packet. `ingress` has those chains, and
//! `fragments` those for what comes in pieces.
//!
//! What is said of the VIP's link-layer address is `neighbours`'.

use super::adopting;
use super::fragments;
use super::guard;
use super::handover;
use super::ingress;
use super::leaving;
use super::names::*;
use super::neighbours;
use super::sentence::{REG0, Sentence};
use super::stealth;
use super::tagged;
use crate::model::phase::Phases;
use crate::model::ruleset::{
    Chain, Data, Element, Family, Hook, KeyPart, Ruleset, Set, SetSpec, Table, Target, Verdict,
};
use crate::model::vip::{MOST_VIPS, Vip};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// netdev ingress comes before other tables' chains there (nft's `filter` is 0), so that foreign
/// packets go as early as possible.
const INGRESS_PRIORITY: i32 = -300;

// Why rules are there, for whoever reads 'nft list ruleset' at night.
const DISPATCH: &str = "for a VIP?";
const ACCEPTED: &str = "or TCP is ignored that came in a multicast frame";

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
        rules.insert(Family::Arp, neighbours::arp_table(vips));
    }
    if vips.iter().any(|(vip, _)| vip.address.is_ipv6()) {
        rules.insert(Family::Ip6, neighbours::ip6_table(vips));
    }
    adopting::add(&mut rules, vips);
    rules
}

/// Of all that what a handover changes, without the rest, which takes milliseconds to write down: the sets whose elements
/// say where the VIP's buckets stand.
pub fn bucket_sets(vip: &Vip, phases: &Phases) -> Ruleset {
    let of = |sets| Table {
        sets,
        ..Table::default()
    };
    let adopting = adopting::sets(vip, phases).into_iter().collect();
    Ruleset::from([
        (Family::Netdev, of(sets_of_buckets(vip, phases))),
        (adopting::family(vip.address), of(adopting)),
    ])
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
            .or_insert_with(|| Chain::hooked(Hook::Ingress(vip.nic.to_string()), INGRESS_PRIORITY));
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
        stealth::add(&mut table, vip);
        if let IpAddr::V6(address) = vip.address {
            neighbours::agree_on_ip6(&mut table, vip, address);
        }
    }
    table
}

/// The VIP's own chains and sets, and its map.
fn add_vip(table: &mut Table, vip: &Vip, phases: &Phases) {
    table.chains.extend(ingress::chains(vip, phases));
    table.chains.extend(fragments::chains(vip, phases));
    for (name, set) in ingress::sets(vip).into_iter().chain(fragments::sets(vip)) {
        table.sets.insert(name.to_owned(), set);
    }
    table.sets.extend(sets_of_buckets(vip, phases));
}

/// At ingress: its map, and the sets of buckets that come or go.
fn sets_of_buckets(vip: &Vip, phases: &Phases) -> BTreeMap<String, Set> {
    let mut sets = BTreeMap::from_iter(leaving::sets(vip, phases));
    sets.extend(handover::sets(vip, phases));
    let buckets = vip.buckets.get();
    let mut map = Set::new(SetSpec {
        counters: true,
        ..SetSpec::of_numbers(buckets, Data::Verdict, buckets.into())
    });
    for bucket in phases.owned.iter() {
        map.elements.insert(bucket_key(bucket), owned_element());
    }
    sets.insert(buckets_map(vip.address), map);
    sets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bucket::BucketSet;
    use crate::model::l2_mode::L2Mode;
    use crate::model::ruleset::BaseChain;
    use crate::model::vip::tests::a_vip;

    /// docs/benchmarks.md measures one of them.
    #[test]
    fn but_for_the_description_what_comes_in_meets_the_same_rules_in_igmp_as_in_multicast() {
        let met = |mode| {
            let vip = Vip {
                mode,
                ..a_vip("10.77.0.99")
            };
            let mut rules = ruleset(&[(vip, Phases::owning(BucketSet::one(1)))]);
            let mut met = rules.remove(&Family::Netdev).expect("a table");
            for chain in met.chains.values_mut() {
                chain.comment = None;
            }
            met
        };
        assert_eq!(met(L2Mode::Igmp), met(L2Mode::Multicast));
        assert_ne!(met(L2Mode::Stealth), met(L2Mode::Multicast));
    }

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
