//! Why a client's packets are, or are not, answered here: the hash step by step, and the rule that
//! decides, looked up in the rules that are installed. Pure.

use super::installed::{Installed, installed};
use crate::model::hash::Flow;
use crate::model::phase::Phase;
use crate::model::ruleset::{Family, Rule, Ruleset};
use crate::rules::dataplane;
use crate::rules::names::{
    buckets_map, draining_chain, flows_set, leaving_map, offered_map, ports_chain, vip_chain,
};
use std::collections::BTreeSet;

/// The way from a client's packet to what becomes of it on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What is hashed.
    pub key: Vec<u8>,
    /// What jhash makes of it.
    pub hash: u32,
    /// The bucket.
    pub bucket: u16,
    /// Its phase on this node.
    pub phase: Phase,
    /// The chain of `table netdev clusterip` in which it is decided.
    pub chain: String,
    /// The rule there that decides, in nft's words, and why it is there; `None` if it is not there:
    /// somebody has changed the chain.
    pub rule: Option<(String, &'static str)>,
    /// The map or set whose element decides, and the element's key; `None` where the lack of one does.
    pub element: Option<(String, String)>,
}

/// Explains what becomes of a flow's packets that are whole, and are no ICMP errors. `staying` are the
/// flows that stay while their buckets leave.
pub fn explain(
    rules: &Ruleset,
    Installed { vip, phases }: &Installed,
    flow: &Flow,
    staying: &BTreeSet<Flow>,
) -> Explanation {
    let address = vip.address;
    let bucket = vip.bucket(flow);
    let phase = phases.of(bucket);
    let first = match vip.hasher.mode.has_ports() {
        true => ports_chain(address),
        false => vip_chain(address),
    };
    let in_map = |map: String| Some((map, bucket.to_string()));
    let (chain, element) = match phase {
        Phase::Owned | Phase::Adopting => (first, in_map(buckets_map(address))),
        Phase::Offered => (first, in_map(offered_map(address))),
        Phase::Closing => (first, in_map(leaving_map(address))),
        Phase::Draining if staying.contains(flow) => {
            let Flow {
                source,
                source_port,
                destination_port,
            } = flow;
            let key = format!("{source} . {source_port} . {destination_port}");
            (draining_chain(address), Some((flows_set(address), key)))
        }
        Phase::Draining => (draining_chain(address), None),
        Phase::Foreign => (first, None),
    };
    let rule = deciding(rules, &chain, element.as_ref().map(|(set, _)| set));
    Explanation {
        key: vip.hasher.key(flow),
        hash: vip.hasher.hash(flow),
        bucket,
        phase,
        chain,
        rule,
        element,
    }
}

/// The rule of a chain that looks something up in this set, or else its last one, which drops; if it is
/// there as it should be.
fn deciding(rules: &Ruleset, chain: &str, set: Option<&String>) -> Option<(String, &'static str)> {
    let all = installed(rules).into_iter();
    let all: Vec<_> = all.map(|known| (known.vip, known.phases)).collect();
    let wanted = dataplane::ruleset(&all);
    let of = |rules: &Ruleset| {
        let table = rules.get(&Family::Netdev)?;
        Some(table.chains.get(chain)?.rules.clone())
    };
    let wanted = of(&wanted)?;
    let looks_up = |rule: &&Rule| set.is_some_and(|set| rule.uses(std::slice::from_ref(set)));
    // The rule that forgets a flow stands before the one that looks it up.
    let rule = wanted.iter().rfind(looks_up);
    let rule = rule.or(wanted.last().filter(|_| set.is_none()))?;
    of(rules)?
        .contains(rule)
        .then(|| (rule.text.clone(), rule.comment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bucket::{BucketCount, BucketSet};
    use crate::model::phase::Phases;
    use crate::model::vip::Vip;
    use crate::model::vip::tests::any_vip;
    use crate::reading::installed::find;
    use proptest::prelude::*;

    /// The rules for a VIP with 12 buckets: 0 to 2 owned, 3 adopted, 4 closing, 5 to 7 draining, 8
    /// offered.
    fn installed_with(vip: Vip) -> (Ruleset, Installed) {
        let vip = Vip {
            buckets: BucketCount::new(12).expect("a count"),
            ..vip
        };
        let mut phases = Phases::owning((0..3).collect::<BucketSet>());
        phases.take(3, Some(1000));
        phases.closing.insert(4, 1000);
        phases.draining.extend((5..8).map(|bucket| (bucket, 1000)));
        phases.offered.insert(8, 1000);
        phases.leaving_rules = true;
        let rules = dataplane::ruleset(&[(vip.clone(), phases)]);
        let found = find(&rules, vip.address).expect("installed");
        (rules, found)
    }

    proptest! {
        #[test]
        fn whatever_the_phase_there_is_a_rule_that_decides(
            vip in any_vip(), source_port: u16, destination_port: u16, stays: bool
        ) {
            let (rules, found) = installed_with(vip);
            let flow = Flow { source: found.vip.address, source_port, destination_port };
            let staying = stays.then_some(flow).into_iter().collect();
            let explained = explain(&rules, &found, &flow, &staying);
            let (words, why) = explained.rule.expect("a rule");
            prop_assert!(!why.is_empty());
            let taken = match explained.phase {
                Phase::Draining => stays,
                Phase::Foreign => false,
                _ => true,
            };
            prop_assert_eq!(taken, explained.element.is_some());
            prop_assert_eq!(taken, !words.contains("drop"), "{}", words);
            let ports = found.vip.hasher.mode.has_ports();
            prop_assert_eq!(
                explained.chain == vip_chain(found.vip.address),
                !ports && explained.phase != Phase::Draining
            );
        }
    }

    proptest! {
        #[test]
        fn a_chain_that_was_changed_has_no_rule_that_decides(vip in any_vip()) {
        let (mut rules, found) = installed_with(vip);
        let table = rules.get_mut(&Family::Netdev).expect("a table");
        for chain in table.chains.values_mut() {
            chain.rules.clear();
        }
        let flow = Flow {
            source: found.vip.address,
            source_port: 1,
            destination_port: 2,
        };
        prop_assert_eq!(explain(&rules, &found, &flow, &BTreeSet::new()).rule, None);
        }
    }
}
