//! The way from one ruleset to another, as the changes of one transaction. Pure.
//!
//! Chains are rewritten whole (flushed, then filled again): inside a transaction no packet sees a
//! chain half. Maps are changed by the element, so that the counters of what stays go on. What
//! cannot be changed in place (the hook of a base chain, the make of a set) has its whole table
//! made anew, in the same transaction.

use crate::model::change::Change;
use crate::model::ruleset::{Chain, Element, Family, Ruleset, Table};
use std::collections::BTreeMap;

/// The changes that turn `found` into `wanted`; none if they are equal.
pub fn changes(found: &Ruleset, wanted: &Ruleset) -> Vec<Change> {
    let mut all = Vec::new();
    for family in Family::ALL {
        match (found.get(&family), wanted.get(&family)) {
            (None, None) => {}
            (Some(_), None) => all.push(Change::DeleteTable(family)),
            (None, Some(wanted)) => table(&mut all, family, &Table::default(), wanted, true),
            (Some(found), Some(wanted)) if can_change(found, wanted) => {
                table(&mut all, family, found, wanted, false);
            }
            (Some(_), Some(wanted)) => {
                all.push(Change::DeleteTable(family));
                table(&mut all, family, &Table::default(), wanted, true);
            }
        }
    }
    all
}

/// Can the table be changed in place?
fn can_change(found: &Table, wanted: &Table) -> bool {
    let chains = wanted.chains.iter().all(|(name, wanted)| {
        let found = found.chains.get(name);
        found.is_none_or(|found| found.base == wanted.base && found.comment == wanted.comment)
    });
    let sets = wanted.sets.iter().all(|(name, wanted)| {
        let found = found.sets.get(name);
        found.is_none_or(|found| found.spec == wanted.spec)
    });
    // An element without a key matches everything; only with its set does it go.
    let catch_all = |table: &Table| {
        let mut sets = table.sets.values();
        sets.any(|set| set.elements.contains_key(&Vec::new()))
    };
    chains && sets && found.flags == wanted.flags && !catch_all(found)
}

/// The changes of one table. What is added comes before what refers to it, what is deleted after
/// what referred to it.
fn table(all: &mut Vec<Change>, family: Family, found: &Table, wanted: &Table, new: bool) {
    if new {
        all.push(Change::AddTable(family));
    }
    for (name, set) in &wanted.sets {
        if !found.sets.contains_key(name) {
            all.push(Change::AddSet(family, name.clone(), set.spec.clone()));
        }
    }
    for (name, chain) in &wanted.chains {
        if !found.chains.contains_key(name) {
            let empty = Chain {
                rules: Vec::new(),
                ..chain.clone()
            };
            all.push(Change::AddChain(family, name.clone(), empty));
        }
    }
    let unwanted_chains = || {
        let names = found.chains.keys();
        names.filter(|name| !wanted.chains.contains_key(*name))
    };
    for name in unwanted_chains() {
        all.push(Change::FlushChain(family, name.clone()));
    }
    for (name, chain) in &wanted.chains {
        let now = found.chains.get(name).map_or(&[][..], |chain| &chain.rules);
        if now == chain.rules {
            continue;
        }
        if !now.is_empty() {
            all.push(Change::FlushChain(family, name.clone()));
        }
        for rule in &chain.rules {
            all.push(Change::AddRule(family, name.clone(), rule.clone()));
        }
    }
    elements(all, family, found, wanted);
    for name in unwanted_chains() {
        all.push(Change::DeleteChain(family, name.clone()));
    }
    for name in found.sets.keys() {
        if !wanted.sets.contains_key(name) {
            all.push(Change::DeleteSet(family, name.clone()));
        }
    }
}

/// Elements that go, in every set, before elements that come: their number is limited.
fn elements(all: &mut Vec<Change>, family: Family, found: &Table, wanted: &Table) {
    let none = BTreeMap::new();
    let outdated = |now: &BTreeMap<Vec<u8>, Element>, then: &BTreeMap<Vec<u8>, Element>| {
        let differs = |(key, element): &(&Vec<u8>, &Element)| then.get(*key) != Some(*element);
        let pairs = now.iter().filter(differs);
        pairs
            .map(|(key, element)| (key.clone(), element.clone()))
            .collect::<BTreeMap<_, _>>()
    };
    for (name, set) in &found.sets {
        // A set that goes takes its elements with it, but elements that go to a chain hold it.
        let then = wanted.sets.get(name).map_or(&none, |set| &set.elements);
        let gone = outdated(&set.elements, then);
        if !gone.is_empty() {
            let spec = set.spec.clone();
            all.push(Change::DeleteElements(family, name.clone(), spec, gone));
        }
    }
    for (name, set) in &wanted.sets {
        let now = found.sets.get(name).map_or(&none, |set| &set.elements);
        let new = outdated(&set.elements, now);
        if !new.is_empty() {
            let spec = set.spec.clone();
            all.push(Change::AddElements(family, name.clone(), spec, new));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::phase::Phases;
    use crate::model::vip::tests::any_vip;
    use crate::rules::dataplane;
    use crate::trials::kernel_changes::apply;
    use proptest::prelude::*;

    fn any_rules() -> impl Strategy<Value = Ruleset> {
        let buckets = prop::collection::btree_map(0u16..64, 0u8..4, 0..6);
        prop::collection::vec((any_vip(), buckets), 0..5).prop_map(|vips| {
            let vips: Vec<_> = vips
                .into_iter()
                .map(|(vip, buckets)| {
                    let count = vip.buckets.get();
                    let mut phases = Phases::default();
                    for (bucket, phase) in buckets.into_iter().filter(|(b, _)| *b < count) {
                        phases.take(bucket, (phase == 1).then_some(1000));
                        if phase > 1 {
                            phases.close(bucket);
                        }
                        if phase > 2 {
                            phases.listed(bucket, true, 1000);
                        }
                    }
                    (vip, phases)
                })
                .collect();
            dataplane::ruleset(&vips)
        })
    }

    proptest! {
        #[test]
        fn the_changes_lead_to_what_is_wanted(found in any_rules(), wanted in any_rules()) {
            let mut rules = found.clone();
            apply(&mut rules, &changes(&found, &wanted)).map_err(TestCaseError::fail)?;
            prop_assert_eq!(rules, wanted);
        }

        #[test]
        fn nothing_changes_what_is_right(rules in any_rules()) {
            prop_assert_eq!(changes(&rules, &rules), vec![]);
        }
    }
}
