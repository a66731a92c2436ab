//! What goes with a VIP, and what stays. Pure.
//!
//! Here rulesets are changed as they were found, broken or not: nothing is repaired on the way.

use crate::model::bucket::BucketSet;
use crate::model::change::Change;
use crate::model::frame::solicited_node;
use crate::model::ruleset::{Element, Expr, Family, Ruleset, Table, Target};
use crate::model::vip::Vip;
use crate::reading::installed::{described, installed, others_unreadable};
use crate::rules::adopting;
use crate::rules::leaving::flows_spec;
use crate::rules::names::{
    AGREE_IP6, MANAGERS_IP6, STEALTH, TO_HOST, address_bytes, adopting_set, bucket_key,
    bucket_of_key, buckets_map, chains_of, coming_set, dispatch_map, ingress_chain, is_dispatch,
    is_dispatch_ip6, is_ingress, is_vip_chain, leaving_map, offered_map, sets_of, vip_of_chain,
};
use crate::rules::stealth::{self, is_stealth};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

/// The ruleset without the VIP, and without what no other VIP needs.
pub fn without_vip(rules: &Ruleset, address: IpAddr) -> Ruleset {
    let others: Vec<Vip> = installed(rules)
        .into_iter()
        .map(|known| known.vip)
        .filter(|vip| vip.address != address)
        .collect();
    let mut rules = rules.clone();
    let others_unreadable = others_unreadable(&rules, address);
    let gone = chains_of(address);
    if let Some(netdev) = rules.get_mut(&Family::Netdev) {
        for name in &gone {
            netdev.chains.remove(name);
        }
        for name in sets_of(address) {
            netdev.sets.remove(&name);
        }
        for set in netdev.sets.values_mut() {
            set.elements.retain(|_, element| !element.goes_to(&gone));
        }
        if let IpAddr::V6(address) = address {
            disagree_on_ip6(netdev, address, &others);
        }
        if !others_unreadable {
            uncover(netdev, &others);
        }
        if !netdev.chains.keys().any(|name| is_vip_chain(name)) {
            return Ruleset::new();
        }
        sweep(netdev);
    } else {
        // Without VIPs the other tables mean nothing.
        return Ruleset::new();
    }
    adopting::remove(&mut rules, address);
    for family in [Family::Arp, Family::Ip6] {
        let Some(table) = rules.get_mut(&family) else {
            continue;
        };
        let bytes = address_bytes(address);
        for set in table.sets.values_mut() {
            set.elements.retain(|key, _| !key.ends_with(&bytes));
        }
        if table.sets.values().all(|set| set.elements.is_empty()) {
            rules.remove(&family);
        }
    }
    rules
}

/// Takes out the VIP's agreement, and the dispatch of its solicited-node group if no other VIP is
/// in the group.
fn disagree_on_ip6(netdev: &mut Table, address: Ipv6Addr, others: &[Vip]) {
    for name in [AGREE_IP6, MANAGERS_IP6] {
        if let Some(set) = netdev.sets.get_mut(name) {
            let bytes = address.octets();
            set.elements.retain(|key, _| !key.ends_with(&bytes));
        }
    }
    let agreed = netdev.sets.get(AGREE_IP6);
    if agreed.is_some_and(|agreed| agreed.elements.is_empty()) {
        netdev.sets.remove(AGREE_IP6);
        netdev.sets.remove(MANAGERS_IP6);
        netdev.chains.remove(AGREE_IP6);
    }
    let group = solicited_node(address);
    let shares = |vip: &&Vip| match vip.address {
        IpAddr::V6(other) => solicited_node(other) == group,
        IpAddr::V4(_) => false,
    };
    let needed: Vec<String> = others
        .iter()
        .filter(shares)
        .map(|vip| dispatch_map(&vip.nic, vip.address))
        .collect();
    let group = group.octets().to_vec();
    for (name, set) in &mut netdev.sets {
        if is_dispatch_ip6(name) && !needed.contains(name) {
            set.elements.remove(&group);
        }
    }
    // Without the chain nothing may go there.
    if !netdev.chains.contains_key(AGREE_IP6) {
        for set in netdev.sets.values_mut() {
            let gone = [AGREE_IP6.to_owned()];
            set.elements.retain(|_, element| !element.goes_to(&gone));
        }
    }
}

/// Takes out the unicast MACs that no other VIP has, and the rules for them where no other VIP has one.
fn uncover(netdev: &mut Table, others: &[Vip]) {
    let stealthy: Vec<&Vip> = others.iter().filter(|vip| is_stealth(vip)).collect();
    if let Some(macs) = netdev.sets.get_mut(STEALTH) {
        let needed = |mac: &Vec<u8>| stealthy.iter().any(|vip| stealth::key(vip) == *mac);
        macs.elements.retain(|mac, _| needed(mac));
    }
    let needed: BTreeSet<String> = stealthy
        .iter()
        .flat_map(|vip| [ingress_chain(&vip.nic), TO_HOST.to_owned()])
        .collect();
    let macs = [STEALTH.to_owned()];
    for (name, chain) in &mut netdev.chains {
        if !needed.contains(name) {
            chain.rules.retain(|rule| !rule.uses(&macs));
        }
    }
}

/// Takes out what nothing refers to any more: dispatch maps without VIPs and the rules that use
/// them, base chains without rules, sets that no rule uses. What a VIP that stays needs is kept,
/// even if somebody else has emptied it: the base chain also says what the locks were before.
fn sweep(table: &mut Table) {
    let staying = table.chains.keys();
    let staying = staying.filter_map(|name| described(table, vip_of_chain(name)?));
    let needed: BTreeSet<String> = staying
        .flat_map(|vip| {
            // No rule looks anything up in the set of buckets that may come.
            let coming = coming_set(vip.address);
            let dispatch = dispatch_map(&vip.nic, vip.address);
            [ingress_chain(&vip.nic), dispatch, coming]
        })
        .collect();
    let empty: Vec<String> = table
        .sets
        .iter()
        .filter(|(name, set)| is_dispatch(name) && set.elements.is_empty())
        .map(|(name, _)| name.clone())
        .filter(|name| !needed.contains(name))
        .collect();
    for chain in table.chains.values_mut() {
        let uses = |expr: &Expr| matches!(expr, Expr::Lookup { set, .. } if empty.contains(set));
        chain.rules.retain(|rule| !rule.exprs.iter().any(uses));
    }
    let is_over = |name: &str| is_ingress(name) && !needed.contains(name);
    table
        .chains
        .retain(|name, chain| !(is_over(name) && chain.rules.is_empty()));
    let mut used = needed;
    for rule in table.chains.values().flat_map(|chain| &chain.rules) {
        used.extend(rule.exprs.iter().filter_map(|expr| match expr {
            Expr::Lookup { set, .. } | Expr::Learn { set, .. } => Some(set.clone()),
            _ => None,
        }));
    }
    table.sets.retain(|name, _| used.contains(name));
}

/// Where it stands that a bucket is this node's, whatever its phase.
fn maps(address: IpAddr) -> [(Family, String); 5] {
    [
        (Family::Netdev, buckets_map(address)),
        (Family::Netdev, offered_map(address)),
        (Family::Netdev, coming_set(address)),
        (Family::Netdev, leaving_map(address)),
        (adopting::family(address), adopting_set(address)),
    ]
}

/// What makes a bucket foreign, whatever the rules are: each deletion may find nothing.
pub fn deletions(address: IpAddr, bucket: u16) -> Vec<Change> {
    let of = |(family, name)| {
        let gone = BTreeMap::from([(bucket_key(bucket), Element::new(Target::None))]);
        // Only the key counts for a deletion.
        Change::DeleteElements(family, name, flows_spec(address), gone)
    };
    maps(address).into_iter().map(of).collect()
}

/// The rules as they were found, but without these buckets, whatever their phases.
pub(super) fn without_buckets(
    rules: &Ruleset,
    address: IpAddr,
    buckets: Option<&BucketSet>,
) -> Ruleset {
    let mut rules = rules.clone();
    for (family, name) in maps(address) {
        let table = rules.get_mut(&family);
        let Some(map) = table.and_then(|table| table.sets.get_mut(&name)) else {
            continue;
        };
        // What is no bucket (an element that matches everything) goes with any of them.
        map.elements.retain(|key, _| bucket_of_key(key).is_some());
        match buckets {
            None => map.elements.clear(),
            Some(buckets) => {
                for bucket in buckets.iter() {
                    map.elements.remove(&bucket_key(bucket));
                }
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::phase::{Phase, Phases};
    use crate::model::vip::tests::a_vip;
    use crate::reading::installed::phases_of;
    use crate::rules::dataplane::ruleset;

    #[test]
    fn what_is_deleted_unseen_makes_a_bucket_foreign_whatever_its_phase() {
        let every: BTreeMap<u16, u64> = (0..4).map(|bucket| (bucket, 1_000)).collect();
        let none = BTreeMap::new;
        for vip in [a_vip("10.77.0.99"), a_vip("fd77::99")] {
            for (owned, adopting, closing, draining) in [
                (true, none(), none(), none()),
                (true, every.clone(), none(), none()),
                (false, every.clone(), every.clone(), none()),
                (false, none(), none(), every.clone()),
            ] {
                let phases = Phases {
                    owned: (0..4).filter(|_| owned).collect(),
                    adopting,
                    closing,
                    draining,
                    ..Phases::default()
                };
                let mut rules = ruleset(&[(vip.clone(), phases.clone())]);
                for deletion in deletions(vip.address, 1) {
                    let Change::DeleteElements(family, set, _, gone) = deletion else {
                        panic!("{deletion:?}");
                    };
                    // Where there is none the kernel refuses it, and nothing is lost.
                    let table = rules.get_mut(&family);
                    if let Some(set) = table.and_then(|table| table.sets.get_mut(&set)) {
                        set.elements.retain(|key, _| !gone.contains_key(key));
                    }
                }
                let then = phases_of(&rules, vip.address);
                assert_eq!(then.of(1), Phase::Foreign, "{then:?}");
                assert!(!then.adopting.contains_key(&1), "{then:?}");
                for bucket in [0, 2, 3] {
                    assert_eq!(then.of(bucket), phases.of(bucket));
                }
            }
        }
    }
}
