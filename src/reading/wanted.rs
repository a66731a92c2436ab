//! What the rules should be, given what was found: those of every VIP that can be read, in today's words, with what
//! only the kernel remembers, and with what is not ours to judge left as it is. Pure.

use super::before::remember_before;
use super::installed::{Installed, installed};
use super::left_over::is_left_over;
use super::older;
use crate::model::host::Observed;
use crate::model::phase::Phases;
use crate::model::ruleset::{Family, Ruleset};
use crate::model::vip::Vip;
use crate::rules::dataplane;
use crate::rules::names::{
    address_bytes, chains_of, is_vip_chain, mac_key, sets_of, sightings_chain,
};
use std::net::IpAddr;

/// The rules with this VIP as it should be; what cannot be read as it is.
pub fn with_vip(observed: &Observed, vip: &Vip, phases: &Phases) -> Ruleset {
    let (left_over, others): (Vec<_>, Vec<_>) = installed(&observed.rules)
        .into_iter()
        .filter(|other| other.vip.address != vip.address)
        .partition(|other| is_left_over(observed, other.vip.address));
    let mut vips: Vec<(Vip, Phases)> = others
        .into_iter()
        // Without its interface a VIP cannot be put right, and must not stand in the way of others.
        .filter(|other| observed.nics.contains_key(other.vip.nic.as_str()))
        .map(|Installed { vip, phases }| (vip, phases))
        .collect();
    vips.push((vip.clone(), phases.clone()));
    let mut wanted = dataplane::ruleset(&vips);
    remember_before(&mut wanted, observed);
    older::keep_comments(&mut wanted, observed);
    let known = vips.iter().map(|(vip, _)| vip.address);
    let known: Vec<IpAddr> = known
        .chain(left_over.iter().map(|other| other.vip.address))
        .collect();
    keep_others(&mut wanted, observed, vip, &known);
    wanted
}

/// Keeps in `wanted` what was found and belongs to other VIPs than those that are `known`: their
/// descriptions cannot be read, or their interfaces are gone, and they are not ours to judge.
fn keep_others(wanted: &mut Ruleset, observed: &Observed, vip: &Vip, known: &[IpAddr]) {
    let of_known = known.iter();
    let readable: Vec<String> = of_known
        .clone()
        .flat_map(|address| chains_of(*address))
        .collect();
    // What of the known ones is not wanted any more is to go.
    let own_chains: Vec<String> = of_known
        .clone()
        .map(|address| sightings_chain(*address))
        .chain(readable.iter().cloned())
        .collect();
    let own_sets: Vec<String> = of_known.flat_map(|address| sets_of(*address)).collect();
    let Some(found) = observed.rules.get(&Family::Netdev) else {
        return;
    };
    let unreadable: Vec<String> = found
        .chains
        .keys()
        .filter(|name| is_vip_chain(name) && !readable.contains(name))
        .cloned()
        .collect();
    if unreadable.is_empty() {
        return;
    }
    for (family, found) in &observed.rules {
        let table = wanted.entry(*family).or_default();
        for (name, chain) in &found.chains {
            if own_chains.contains(name) {
                continue;
            }
            let mut others = chain.clone();
            others.rules.retain(|rule| !rule.uses(&own_sets));
            if chain.rules.is_empty() || !others.rules.is_empty() {
                table.chains.entry(name.clone()).or_insert(others);
            }
        }
        for (name, set) in &found.sets {
            if own_sets.contains(name) {
                continue;
            }
            let kept = table.sets.entry(name.clone()).or_insert_with(|| {
                let mut empty = set.clone();
                empty.elements.clear();
                empty
            });
            for (key, element) in &set.elements {
                let ours = *key == address_bytes(vip.address)
                    || *key == mac_key(&vip.nic, vip.address)
                    || element.goes_to(&readable);
                if !ours {
                    kept.elements.entry(key.clone()).or_insert(element.clone());
                }
            }
        }
    }
    keep_rules(wanted, observed, &own_sets);
}

/// A base chain keeps the rules that it was found with beside those that it must have.
fn keep_rules(wanted: &mut Ruleset, observed: &Observed, own_sets: &[String]) {
    for (family, found) in &observed.rules {
        let Some(wanted) = wanted.get_mut(family) else {
            continue;
        };
        for (name, chain) in found
            .chains
            .iter()
            .filter(|(_, chain)| chain.base.is_some())
        {
            let Some(kept) = wanted.chains.get_mut(name) else {
                continue;
            };
            for rule in chain.rules.iter().filter(|rule| !rule.uses(own_sets)) {
                if !kept.rules.contains(rule) {
                    kept.rules.push(rule.clone());
                }
            }
        }
    }
}
