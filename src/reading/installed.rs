//! Which VIPs a ruleset has, read from the descriptions next to the rules. Pure.

use super::loaded::is_loaded;
use crate::model::bucket::BucketSet;
use crate::model::host::Observed;
use crate::model::mac::Mac;
use crate::model::phase::{Ending, Phases};
use crate::model::ruleset::{Count, Element, Family, Ruleset, Set, Table};
use crate::model::vip::{Nic, Vip};
use crate::rules::adopting;
use crate::rules::dataplane::owned_element;
use crate::rules::handover::offered_element;
use crate::rules::names::{
    about_chain, adopting_set, bucket_of_key, buckets_map, chains_of, closing_chain, coming_set,
    draining_chain, leaving_map, offered_map, vip_chain, vip_of_chain,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// A VIP that is in the kernel, and the buckets that are owned here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Its description.
    pub vip: Vip,
    /// Its buckets' phases.
    pub phases: Phases,
}

/// All VIPs whose descriptions can be read, in the order of their chains' names.
pub fn installed(rules: &Ruleset) -> Vec<Installed> {
    let Some(table) = rules.get(&Family::Netdev) else {
        return Vec::new();
    };
    let chains = table.chains.iter();
    chains
        .filter_map(|(name, _)| find(rules, vip_of_chain(name)?))
        .collect()
}

/// The VIP with this address, if it is there and can be read.
pub fn find(rules: &Ruleset, address: IpAddr) -> Option<Installed> {
    let vip = described(rules.get(&Family::Netdev)?, address)?;
    let phases = phases_of(rules, address);
    Some(Installed { vip, phases })
}

/// The description of the VIP with this address, if it can be read.
pub(crate) fn described(table: &Table, address: IpAddr) -> Option<Vip> {
    let comment = |chain| table.chains.get(&chain)?.comment.as_deref();
    let first = comment(vip_chain(address))?;
    let rest = comment(about_chain(address));
    let written: Vec<&str> = [first].into_iter().chain(rest).collect();
    let vip: Vip = written.join(" ").parse().ok()?;
    (vip.address == address).then_some(vip)
}

/// The addresses of all VIPs that have a chain, also of those whose descriptions cannot be read.
pub fn addresses(rules: &Ruleset) -> Vec<IpAddr> {
    let chains = rules.get(&Family::Netdev).into_iter();
    let names = chains.flat_map(|table| table.chains.keys());
    names.filter_map(|name| vip_of_chain(name)).collect()
}

/// Has the VIP a chain whose description cannot be read?
pub fn is_unreadable(rules: &Ruleset, address: IpAddr) -> bool {
    addresses(rules).contains(&address) && find(rules, address).is_none()
}

/// Is there another VIP than this whose description cannot be read? Then nothing is known of what it
/// needs.
pub fn others_unreadable(rules: &Ruleset, address: IpAddr) -> bool {
    let mut others = addresses(rules).into_iter();
    others.any(|other| other != address && is_unreadable(rules, other))
}

/// Does another VIP on the interface need this MAC? Equal last octets share one.
pub fn others_need(observed: &Observed, address: IpAddr, nic: &Nic, mac: Mac) -> bool {
    does_another(observed, address, nic, |vip| vip.mac == mac)
}

/// Does another VIP on the interface need this group?
pub fn others_need_group(observed: &Observed, address: IpAddr, nic: &Nic, group: Ipv4Addr) -> bool {
    does_another(observed, address, nic, |vip| vip.group() == Some(group))
}

/// Does this hold for another VIP on the interface, as far as can be read?
fn does_another(
    observed: &Observed,
    address: IpAddr,
    nic: &Nic,
    holds: impl Fn(&Vip) -> bool,
) -> bool {
    let is_it = |vip: &Vip| vip.address != address && vip.nic == *nic && holds(vip);
    others_unreadable(&observed.rules, address)
        || installed(&observed.rules)
            .iter()
            .any(|other| is_it(&other.vip))
}

/// The buckets' phases according to the VIP's maps, whether its description can be read or not.
pub fn phases_of(rules: &Ruleset, address: IpAddr) -> Phases {
    let Some(table) = rules
        .get(&Family::Netdev)
        // What nft has loaded answers nothing, and so owns nothing.
        .filter(|_| !is_loaded(rules))
    else {
        return Phases::default();
    };
    let mut phases = Phases::owning(owned(table, address));
    if let Some(map) = table.sets.get(&leaving_map(address)) {
        phases.leaving_rules = true;
        read_leaving(map, address, &mut phases);
    }
    read_handover(table, address, &mut phases);
    read_adopting(rules, address, &mut phases);
    phases
}

fn owned(table: &Table, address: IpAddr) -> BucketSet {
    let Some(map) = table.sets.get(&buckets_map(address)) else {
        return BucketSet::default();
    };
    let elements = map.elements.iter();
    elements
        .filter(|(_, element)| **element == owned_element())
        .filter_map(|(key, _)| bucket_of_key(key))
        .collect()
}

/// In which phases the elements of a map of leaving buckets say that they are.
fn read_leaving(leaving: &Set, vip: IpAddr, phases: &mut Phases) {
    let to = |chain: String| {
        let chain = [chain];
        ending(Some(leaving), |element| element.goes_to(&chain))
    };
    phases.closing = to(closing_chain(vip));
    phases.draining = to(draining_chain(vip));
}

/// Which buckets of the VIP the daemons hand over.
fn read_handover(table: &Table, vip: IpAddr, phases: &mut Phases) {
    let offered = table.sets.get(&offered_map(vip));
    let coming = table.sets.get(&coming_set(vip));
    phases.handover_rules = offered.is_some() || coming.is_some();
    let is_answered = |element: &&Element| {
        element.target == offered_element(0).target && element.left_ms.is_some()
    };
    phases.offered = ending(offered, is_answered);
    phases.coming = ending(coming, |_| true);
    let owned = phases.owned.clone();
    phases.offered.retain(|bucket, _| !owned.contains(*bucket));
}

/// The buckets that have elements of that kind, and in how many milliseconds these end.
fn ending(set: Option<&Set>, is_one: impl Fn(&&Element) -> bool) -> Ending {
    let elements = set.into_iter().flat_map(|set| &set.elements);
    elements
        .filter(|(_, element)| is_one(element))
        .filter_map(|(key, element)| {
            let left = element.left_ms.unwrap_or_default();
            Some((bucket_of_key(key)?, left))
        })
        .collect()
}

/// Which buckets of the VIP are adopted according to these rules.
fn read_adopting(rules: &Ruleset, vip: IpAddr, phases: &mut Phases) {
    let table = rules.get(&adopting::family(vip));
    let Some(set) = table.and_then(|table| table.sets.get(&adopting_set(vip))) else {
        return;
    };
    phases.adopting_rules = true;
    phases.adopting = ending(Some(set), |_| true);
}

/// What the elements of the VIP's map have counted, by bucket.
pub fn counts(rules: &Ruleset, address: IpAddr) -> BTreeMap<u16, Count> {
    let map = rules
        .get(&Family::Netdev)
        .and_then(|table| table.sets.get(&buckets_map(address)));
    let elements = map.into_iter().flat_map(|map| &map.elements);
    elements
        .filter_map(|(key, element)| Some((bucket_of_key(key)?, element.count?)))
        .collect()
}

/// The packets that the VIP's chains have dropped because their buckets are foreign.
pub fn foreign(rules: &Ruleset, address: IpAddr) -> Count {
    let Some(table) = rules.get(&Family::Netdev) else {
        return Count::default();
    };
    let names = chains_of(address);
    let chains = names.iter().filter_map(|name| table.chains.get(name));
    let counts = chains
        .flat_map(|chain| &chain.rules)
        .filter_map(|rule| rule.count);
    counts.fold(Count::default(), |sum, count| Count {
        packets: sum.packets + count.packets,
        bytes: sum.bytes + count.bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ruleset::{Target, Verdict};
    use crate::model::vip::tests::a_vip;
    use crate::rules::dataplane::ruleset;
    use crate::rules::names::bucket_key;

    #[test]
    fn only_what_goes_to_the_host_is_owned() {
        let vip = a_vip("10.77.0.99");
        let all = Phases::owning((0..4).collect());
        let mut rules = ruleset(&[(vip.clone(), all)]);
        let table = rules.get_mut(&Family::Netdev).expect("a table");
        let map = table.sets.get_mut(&buckets_map(vip.address));
        let elements = &mut map.expect("a map").elements;
        for (bucket, verdict) in [
            (1, Verdict::Drop),
            (2, Verdict::Goto("elsewhere".to_owned())),
        ] {
            elements.insert(bucket_key(bucket), Element::new(Target::Verdict(verdict)));
        }
        // What it has counted makes no difference.
        let count = Count {
            packets: 7,
            bytes: 700,
        };
        elements.get_mut(&bucket_key(3)).expect("owned").count = Some(count);
        let owned = phases_of(&rules, vip.address).owned;
        assert_eq!(owned, [0, 3].into_iter().collect());
    }
}
