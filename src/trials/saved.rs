//! What nft has saved and loaded again owns nothing; a start makes it anew, and stops take it away.

use super::kernel_changes::apply;
use crate::model::bucket::BucketSet;
use crate::model::host::Observed;
use crate::model::host::tests::an_interface;
use crate::model::phase::Phases;
use crate::model::ruleset::{Expr, Family, Ruleset};
use crate::model::vip::Vip;
use crate::model::vip::tests::{a_vip, any_vip};
use crate::plan::step::{Intent, Step};
use crate::plan::steps;
use crate::reading::installed::{find, installed, phases_of};
use crate::reading::left_over::is_left_over;
use crate::reading::loaded::is_loaded;
use crate::rules::dataplane;
use crate::rules::names::TO_HOST;
use proptest::prelude::*;

/// A host that was booted with these rules, and has nothing else of ours.
pub(crate) fn booted_with(mut rules: Ruleset) -> Observed {
    let netdev = rules.get_mut(&Family::Netdev).expect("a table");
    let chain = netdev.chains.get_mut(TO_HOST).expect("a chain");
    let turns = |expr: &Expr| matches!(expr, Expr::FirstTwoToHostOrder { .. });
    chain.rules[0].exprs.retain(|expr| !turns(expr));
    Observed {
        rules,
        nics: [("eth0".to_owned(), an_interface())].into(),
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
