//! What nft has saved to a file must answer nothing when nft loads it: without the agent, perhaps on a
//! node that owns other buckets by now, and with other rules than those that were saved, for nft has no
//! word for all that they do. Pure.
//!
//! So the first rule of the chain to which everything goes that is accepted drops whatever comes, unless
//! the rule is as the agent has written it: it asks for a bit that is in every IP header, of four bytes of
//! which it has turned two. nft has no word for that, believes that all four are turned, and so lists a value,
//! and loads it, that no packet has. Rules that were loaded by nft are known by it.

use super::installed::addresses;
use super::names::TO_HOST;
use super::sentence::{REG0, Sentence};
use crate::model::host::Observed;
use crate::model::ruleset::{Expr, Family, Header, Rule, Ruleset, Verdict};
use std::net::IpAddr;

const GUARD: &str = "drops only as nft loads it from a file: what is loaded must answer nothing";

/// The rule. Both IP versions, 4 and 6, have this bit in their first byte.
pub(super) fn rule() -> Rule {
    Sentence::because(GUARD)
        .payload(Header::Network, 0, 4, REG0)
        .and(REG0, &[0x40, 0, 0, 0])
        .expr(Expr::FirstTwoToHostOrder {
            from: REG0,
            to: REG0,
        })
        .not_equal(REG0, &[0, 0x40, 0, 0])
        .say("ntoh16(@nh,0,32 & 0x40000000) != 0x400000")
        .drop()
        .rule()
}

/// Were these rules loaded by nft from a file? Then they accept nothing, whatever else they say, also
/// where they were loaded on top of the agent's.
pub fn is_loaded(rules: &Ruleset) -> bool {
    let table = rules.get(&Family::Netdev);
    let chain = table.and_then(|table| table.chains.get(TO_HOST));
    let mut rules = chain.into_iter().flat_map(|chain| &chain.rules);
    rules.any(|rule| drops_all(&rule.exprs))
}

/// Are the VIP's rules all that is here of it, and from a file? So they are after the node was booted with a
/// saved ruleset.
pub fn is_left_over(observed: &Observed, vip: IpAddr) -> bool {
    let held = |address| {
        observed
            .nics
            .values()
            .any(|nic| nic.held(address).is_some())
    };
    is_loaded(&observed.rules) && !held(vip)
}

/// Are all rules for VIPs on this interface left over? Then they know nothing of it.
pub(super) fn knows_nothing_of(observed: &Observed, nic: &str) -> bool {
    let state = observed.nics.get(nic);
    let held = |vip| state.is_some_and(|state| state.held(vip).is_some());
    is_loaded(&observed.rules) && !addresses(&observed.rules).into_iter().any(held)
}

/// Is this the rule without its turning? What is left of it nft words in its own way.
fn drops_all(exprs: &[Expr]) -> bool {
    let asks = matches!(
        exprs.first(),
        Some(Expr::Payload {
            header: Header::Network,
            offset: 0,
            ..
        })
    );
    let turns = |expr: &Expr| matches!(expr, Expr::FirstTwoToHostOrder { .. });
    asks && exprs.last() == Some(&Expr::Verdict(Verdict::Drop)) && !exprs.iter().any(turns)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::bucket::BucketSet;
    use crate::model::host::NicState;
    use crate::model::mac::Mac;
    use crate::model::phase::Phases;
    use crate::model::vip::Vip;
    use crate::model::vip::tests::{a_vip, any_vip};
    use crate::plan::dataplane;
    use crate::plan::diff::tests::apply;
    use crate::plan::installed::{find, installed, phases_of};
    use crate::plan::steps::{Intent, Step, steps};
    use proptest::prelude::*;

    /// A host that was booted with these rules, and has nothing else of ours.
    pub(crate) fn booted_with(mut rules: Ruleset) -> Observed {
        let netdev = rules.get_mut(&Family::Netdev).expect("a table");
        let chain = netdev.chains.get_mut(TO_HOST).expect("a chain");
        let turns = |expr: &Expr| matches!(expr, Expr::FirstTwoToHostOrder { .. });
        chain.rules[0].exprs.retain(|expr| !turns(expr));
        let state = NicState {
            index: 2,
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            admin_up: true,
            carrier: true,
            lock_ip4: Some(false),
            lock_ip6: Some(false),
            ..NicState::default()
        };
        Observed {
            rules,
            nics: [("eth0".to_owned(), state)].into(),
            ..Observed::default()
        }
    }

    /// The rules behind all steps.
    fn done(observed: &Observed, intent: &Intent) -> Result<Ruleset, TestCaseError> {
        let mut rules = observed.rules.clone();
        let steps = steps(observed, intent).map_err(|why| TestCaseError::fail(why.to_string()))?;
        for step in steps {
            if let Step::Rules(changes) = step {
                apply(&mut rules, &changes).map_err(TestCaseError::fail)?;
            }
        }
        Ok(rules)
    }

    fn owning(vips: &[Vip], count: u16) -> Vec<(Vip, Phases)> {
        let own = |vip: &Vip| (0..count.min(vip.buckets.get())).collect();
        let with = |vip: &Vip| (vip.clone(), Phases::owning(own(vip)));
        vips.iter().map(with).collect()
    }

    proptest! {
        #[test]
        fn what_was_loaded_owns_nothing_and_a_start_owns_one_bucket(
            vips in prop::collection::vec(any_vip(), 1..4), asked in any_vip(), same: bool,
        ) {
            let asked = if same { vips[0].clone() } else { asked };
            let rules = dataplane::ruleset(&owning(&vips, 4));
            prop_assert!(!is_loaded(&rules));
            let observed = booted_with(rules);
            prop_assert!(is_loaded(&observed.rules));
            for vip in &vips {
                prop_assert!(is_left_over(&observed, vip.address));
                prop_assert_eq!(phases_of(&observed.rules, vip.address), Phases::default());
            }
            let buckets = BucketSet::one(asked.buckets.get() - 1);
            let take = Intent::Take { vip: asked.clone(), buckets: buckets.clone(), adopt_ms: None };
            let rules = done(&observed, &take)?;
            prop_assert!(!is_loaded(&rules));
            prop_assert_eq!(installed(&rules).len(), 1);
            let found = find(&rules, asked.address).expect("installed");
            prop_assert_eq!((found.vip, found.phases), (asked.clone(), Phases::owning(buckets)));
        }

        #[test]
        fn what_was_loaded_goes_with_stops(vips in prop::collection::vec(any_vip(), 1..4)) {
            let mut observed = booted_with(dataplane::ruleset(&owning(&vips, 4)));
            for vip in &vips {
                let leave = Intent::Leave {
                    address: vip.address,
                    buckets: Some(BucketSet::one(0)),
                    drain_ms: 1000 * u64::from(vip.drain_s),
                    place: None,
                };
                observed.rules = done(&observed, &leave)?;
            }
            prop_assert_eq!(observed.rules, Ruleset::new());
        }
    }

    #[test]
    fn what_was_loaded_on_top_is_known() {
        let mut rules = dataplane::ruleset(&owning(&[a_vip("10.77.0.99")], 4));
        let mut loaded = booted_with(rules.clone()).rules;
        let chain = |rules: &mut Ruleset| {
            let table = rules.get_mut(&Family::Netdev).expect("a table");
            table
                .chains
                .get_mut(TO_HOST)
                .expect("a chain")
                .rules
                .clone()
        };
        let both = [chain(&mut rules), chain(&mut loaded)].concat();
        let table = rules.get_mut(&Family::Netdev).expect("a table");
        table.chains.get_mut(TO_HOST).expect("a chain").rules = both;
        assert!(is_loaded(&rules));
    }
}
