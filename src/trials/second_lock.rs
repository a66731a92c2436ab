//! The second lock goes back to what it was before the first VIP came.

use super::world::{World, leaves};
use crate::model::bucket::BucketSet;
use crate::model::phase::Phases;
use crate::model::vip::tests::a_vip;
use crate::plan::step::Intent;
use crate::reading::before::{Before, before_of, remember_before};
use crate::rules::dataplane::ruleset;

#[test]
fn what_is_remembered_is_what_was_found() {
    let vip = a_vip("10.77.0.99");
    for (lock_ip4, lock_ip6) in [
        (Some(false), Some(true)),
        (Some(true), Some(false)),
        (Some(true), None),
        (None, Some(false)),
    ] {
        let mut world = World::fresh();
        let state = world.host.nics.get_mut("eth0").expect("a host with one");
        (state.lock_ip4, state.lock_ip6) = (lock_ip4, lock_ip6);
        let mut wanted = ruleset(&[(vip.clone(), Phases::default())]);
        assert_eq!(before_of(&wanted, &vip.nic), None);
        remember_before(&mut wanted, &world.host);
        let before = before_of(&wanted, &vip.nic);
        assert_eq!(before, Some(Before { lock_ip4, lock_ip6 }));
    }
}

#[test]
fn the_second_lock_goes_back_to_what_it_was_and_not_further() {
    for before in [false, true] {
        for vip in [a_vip("10.77.0.99"), a_vip("fd77::99")] {
            let mut world = World::fresh();
            let state = world.host.nics.get_mut("eth0").expect("a host with one");
            (state.lock_ip4, state.lock_ip6) = (Some(before), Some(before));
            let fresh = world.host.clone();
            let address = vip.address;
            let take = Intent::Take {
                vip,
                buckets: BucketSet::one(1),
                adopt_ms: None,
            };
            world.go(&take, 99).expect("taken");
            assert_eq!(world.host.nics["eth0"].lock(address), Some(true));
            let leave = leaves(address);
            world.go(&leave, 99).expect("left");
            assert_eq!(world.host, fresh);
        }
    }
}
