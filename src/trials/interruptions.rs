//! A model-based test of the order of steps: hosts that do what the plan says, are interrupted
//! anywhere, and go on later. Whatever happens, nothing foreign can be answered, and what is asked
//! for in the end is reached, without a trace of what came between.

use super::world::{VIPS, World, leaves, takes, vips};
use crate::model::bucket::BucketSet;
use crate::model::vip::Vip;
use crate::model::vip::tests::a_vip;
use crate::plan::step::Intent;
use crate::reading::health::drift;
use crate::reading::installed::{find, installed};
use proptest::prelude::*;

/// An action on one of the VIPs, and after how many steps it is interrupted.
#[derive(Debug, Clone)]
struct Action {
    vip: usize,
    bucket: u16,
    kind: u8,
    budget: usize,
}

fn any_action() -> impl Strategy<Value = Action> {
    (0..VIPS, 0u16..12, 0u8..4, prop_oneof![0usize..9, Just(99)]).prop_map(
        |(vip, bucket, kind, budget)| Action {
            vip,
            bucket,
            kind,
            budget,
        },
    )
}

fn intent(action: &Action) -> Intent {
    let vip = vips()[action.vip].clone();
    let buckets = BucketSet::one(action.bucket);
    match action.kind {
        0 | 1 => Intent::Take {
            vip,
            buckets,
            adopt_ms: None,
        },
        2 => Intent::Release {
            address: vip.address,
            buckets,
            drain_ms: 0,
        },
        _ => Intent::Leave {
            address: vip.address,
            buckets: Some(buckets),
            drain_ms: 0,
            place: Some((vip.nic, vip.mac)),
        },
    }
}

proptest! {
    #[test]
    fn whoever_is_interrupted_leaves_nothing_open(
        actions in prop::collection::vec(any_action(), 1..25),
    ) {
        let mut world = World::fresh();
        let mut owned = std::collections::BTreeSet::new();
        for action in &actions {
            let left = world.go(&intent(action), action.budget);
            let left = left.map_err(TestCaseError::fail)?;
            let key = (action.vip, action.bucket);
            match (action.kind, left) {
                (0 | 1, 1..) => { owned.insert(key); }
                (2 | 3, 1..) => { owned.remove(&key); }
                // Interrupted: the bucket is owned or it is not.
                (_, 0) => {
                    let found = find(&world.host.rules, vips()[action.vip].address);
                    match found.is_some_and(|found| found.phases.owned.contains(action.bucket)) {
                        true => owned.insert(key),
                        false => owned.remove(&key),
                    };
                }
                _ => {}
            }
            // Nothing but what was taken is owned, and all that was taken is.
            for (n, vip) in vips().iter().enumerate() {
                let found = find(&world.host.rules, vip.address).map(|found| found.phases.owned);
                let found: Vec<_> = found.iter().flat_map(BucketSet::iter).map(|b| (n, b)).collect();
                let wanted: Vec<_> = owned.iter().filter(|(vip, _)| *vip == n).copied().collect();
                prop_assert_eq!(found, wanted);
            }
        }
        // Taking repairs whatever the interruptions left.
        for vip in vips() {
            let intent = takes(&vip, 0);
            prop_assert!(world.go(&intent, 99).map_err(TestCaseError::fail)? > 0);
            prop_assert_eq!(drift(&world.host, &vip, true), vec![]);
        }
        prop_assert_eq!(installed(&world.host.rules).len(), VIPS);
        // And leaving leaves no trace.
        for vip in vips() {
            let intent = leaves(vip.address);
            prop_assert!(world.go(&intent, 99).map_err(TestCaseError::fail)? > 0);
        }
        prop_assert_eq!(world.host, World::fresh().host);
    }

    #[test]
    fn buckets_that_move_between_nodes_have_one_owner_at_most(
        moves in prop::collection::vec((0usize..3, 0u16..6, 0usize..9), 1..40),
    ) {
        let vip = Vip { buckets: crate::model::bucket::BucketCount::new(6).expect("in range"), ..a_vip("10.77.0.99") };
        let mut nodes = [World::fresh(), World::fresh(), World::fresh()];
        let owners = |nodes: &[World; 3], bucket| {
            let owns = |world: &&World| {
                find(&world.host.rules, vip.address).is_some_and(|found| found.phases.owned.contains(bucket))
            };
            nodes.iter().filter(owns).count()
        };
        for (to, bucket, budget) in moves {
            // As Pacemaker does: all stops end before the start begins; a stop that fails is fenced.
            for (_, node) in nodes.iter_mut().enumerate().filter(|(n, _)| *n != to) {
                let leave = Intent::Leave {
                    address: vip.address,
                    buckets: Some(BucketSet::one(bucket)),
                    drain_ms: 0,
                    place: None,
                };
                if node.go(&leave, budget + 1).map_err(TestCaseError::fail)? == 0 {
                    *node = World::fresh();
                }
            }
            let take = takes(&vip, bucket);
            nodes[to].go(&take, budget).map_err(TestCaseError::fail)?;
            for bucket in 0..6 {
                prop_assert!(owners(&nodes, bucket) <= 1);
            }
        }
    }
}
