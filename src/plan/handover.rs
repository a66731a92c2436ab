//! What a daemon tells the kernel of buckets that are handed over. Pure.
//!
//! The rules for it are there already ([`Intent::Come`](super::step::Intent::Come),
//! [`Intent::Ready`](super::step::Intent::Ready)), so that each of these is a few elements in one transaction: it reads
//! nothing, needs no lock, and takes a tenth of a millisecond. It is made for the buckets as they were last seen; where
//! they are not so any more the kernel refuses all of it, and the daemon looks again.

use super::diff;
use crate::model::bucket::BucketSet;
use crate::model::change::Change;
use crate::model::phase::Phases;
use crate::model::vip::Vip;
use crate::rules::dataplane;

/// What the kernel is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// What is owned is answered for so long yet, unless somebody claims it.
    Offer {
        /// For how many milliseconds.
        for_ms: u64,
    },
    /// What is offered is owned again.
    Keep,
    /// What is owned or offered is closing, and silent towards connections that begin at another node.
    Give,
    /// What may come is owned; connections in it may be another node's for so long.
    Take {
        /// For how many milliseconds; 0 where connections never stay.
        adopt_ms: u64,
    },
}

impl Told {
    /// Those of these buckets with which that can be done.
    pub fn possible(self, seen: &Phases, buckets: &BucketSet) -> BucketSet {
        let can = |bucket: &u16| match self {
            Told::Offer { .. } => seen.owned.contains(*bucket),
            Told::Keep => seen.offered.contains_key(bucket),
            Told::Give => seen.owned.contains(*bucket) || seen.offered.contains_key(bucket),
            Told::Take { .. } => seen.coming.contains_key(bucket),
        };
        buckets.iter().filter(can).collect()
    }

    /// The phases then.
    pub fn then(self, seen: &Phases, buckets: &BucketSet) -> Phases {
        let mut then = seen.clone();
        for bucket in self.possible(seen, buckets).iter() {
            match self {
                Told::Offer { for_ms } => then.offer(bucket, for_ms),
                Told::Keep => then.take(bucket, None),
                Told::Give => {
                    then.close(bucket);
                    then.silent(bucket);
                }
                Told::Take { adopt_ms } => then.take(bucket, Some(adopt_ms)),
            }
        }
        then
    }

    /// The changes that lead there, of a VIP whose buckets are as they were seen: elements alone.
    pub fn changes(self, vip: &Vip, seen: &Phases, buckets: &BucketSet) -> Vec<Change> {
        let seen = ready(seen.clone());
        let then = self.then(&seen, buckets);
        let sets = |phases: &Phases| dataplane::bucket_sets(vip, phases);
        diff::changes(&sets(&seen), &sets(&then))
    }
}

/// Phases of which all is there that a handover needs.
fn ready(mut phases: Phases) -> Phases {
    phases.get_ready();
    phases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bucket::BucketCount;
    use crate::model::phase::Phase;
    use crate::model::vip::tests::any_vip;
    use crate::reading::installed::phases_of;
    use crate::trials::kernel_changes::apply;
    use proptest::prelude::*;

    fn any_phases() -> impl Strategy<Value = Phases> {
        let one = (0u16..8, 0u8..6, any::<bool>());
        prop::collection::vec(one, 0..12).prop_map(|all| {
            let mut phases = ready(Phases::default());
            for (bucket, phase, comes) in all {
                phases.release(bucket);
                match phase {
                    0 => continue,
                    1 if comes => {
                        phases.come(bucket, 8_000);
                        continue;
                    }
                    _ => phases.take(bucket, (phase == 2).then_some(60_000)),
                }
                if phase == 3 {
                    phases.offer(bucket, 5_000);
                }
                if phase > 3 {
                    phases.close(bucket);
                    phases.listed(bucket, phase > 4, 60_000);
                }
                // What drains here may come back.
                if phase > 4 && comes {
                    phases.come(bucket, 8_000);
                }
            }
            phases
        })
    }

    fn any_told() -> impl Strategy<Value = Told> {
        prop_oneof![
            Just(Told::Offer { for_ms: 5_000 }),
            Just(Told::Keep),
            Just(Told::Give),
            prop_oneof![Just(0), Just(60_000)].prop_map(|adopt_ms| Told::Take { adopt_ms }),
        ]
    }

    proptest! {
        #[test]
        fn a_daemon_tells_the_kernel_of_elements_alone(
            vip in any_vip(),
            seen in any_phases(),
            told in any_told(),
            buckets in prop::collection::btree_set(0u16..8, 0..5),
        ) {
            let vip = Vip { buckets: BucketCount::new(8).expect("a count"), ..vip };
            let buckets: BucketSet = buckets.into_iter().collect();
            let mut rules = dataplane::ruleset(&[(vip.clone(), seen.clone())]);
            let changes = told.changes(&vip, &seen, &buckets);
            let whole = |phases: Phases| dataplane::ruleset(&[(vip.clone(), phases)]);
            let all = diff::changes(&whole(seen.clone()), &whole(told.then(&seen, &buckets)));
            prop_assert_eq!(&changes, &all);
            let is_element = |change: &Change| {
                matches!(change, Change::AddElements(..) | Change::DeleteElements(..))
            };
            prop_assert!(changes.iter().all(is_element), "{changes:?}");
            apply(&mut rules, &changes).map_err(TestCaseError::fail)?;
            let then = phases_of(&rules, vip.address);
            prop_assert_eq!(&then, &told.then(&seen, &buckets));
            let possible = told.possible(&seen, &buckets);
            for bucket in 0..8 {
                if !possible.contains(bucket) {
                    prop_assert_eq!(then.of(bucket), seen.of(bucket));
                    continue;
                }
                let phase = match told {
                    Told::Offer { .. } => Phase::Offered,
                    Told::Keep if seen.adopting.contains_key(&bucket) => Phase::Adopting,
                    Told::Keep | Told::Take { adopt_ms: 0 } => Phase::Owned,
                    Told::Give => Phase::Closing,
                    Told::Take { .. } => Phase::Adopting,
                };
                prop_assert_eq!(then.of(bucket), phase);
            }
        }
    }
}
