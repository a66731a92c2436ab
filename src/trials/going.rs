//! Trials of single ways in which buckets and VIPs go.

use super::interruptions::beside_a_broken_one;
use super::world::World;
use crate::model::bucket::BucketSet;
use crate::model::change::Change;
use crate::model::hash::Flow;
use crate::model::vip::tests::a_vip;
use crate::plan::step::{Intent, Look, Step};
use crate::plan::steps;
use crate::reading::installed::phases_of;
use crate::rules::leaving::flow_bytes;
use crate::rules::names::flows_set;
use std::collections::BTreeMap;

#[test]
fn a_vip_that_nobody_can_read_keeps_the_second_lock_and_the_membership() {
    let (mut world, vip) = beside_a_broken_one();
    let leave = Intent::Leave {
        address: vip.address,
        buckets: None,
        drain_ms: 0,
        place: None,
    };
    world.go(&leave, 99).expect("left");
    let state = &world.host.nics["eth0"];
    assert!(state.held(vip.address).is_none());
    assert_eq!(state.lock_ip4, Some(true));
    assert!(state.memberships.contains(&vip.mac));
}

#[test]
fn a_bucket_drains_only_while_anything_is_left_to_be_said() {
    let vip = a_vip("10.77.0.99");
    let address = vip.address;
    let all: BucketSet = (0..vip.buckets.get()).collect();
    let flow = |port| Flow {
        source: [192, 0, 2, 7].into(),
        source_port: port,
        destination_port: 80,
    };
    let (over, alive) = (flow(1), flow(2));
    let (over_in, alive_in) = (vip.bucket(&over), vip.bucket(&alive));
    assert_ne!(over_in, alive_in);
    let mut world = World::fresh();
    let take = Intent::Take {
        vip,
        buckets: all.clone(),
        adopt_ms: None,
    };
    world.go(&take, 99).expect("taken");
    let release = Intent::Release {
        address,
        buckets: all,
        drain_ms: 1000,
    };
    world.go(&release, 1).expect("closed");
    world.waiting.entry(address).or_default().insert(over);
    world.sockets.entry(address).or_default().insert(alive);
    world.look(address, Look::Connections);
    // For as long as was asked for, and so do its connections.
    let todo = steps(&world.host, &release).expect("steps");
    let changes = todo.iter().flat_map(|step| match step {
        Step::Rules(changes) => changes.as_slice(),
        _ => &[],
    });
    let mut kept = changes.filter_map(|change| match change {
        Change::AddElements(_, set, _, flows) if *set == flows_set(address) => Some(flows),
        _ => None,
    });
    let flows = kept.next().expect("flows that stay").iter();
    let times: Vec<_> = flows.map(|(key, flow)| (key, flow.left_ms)).collect();
    assert_eq!(times, [(&flow_bytes(&alive), Some(1000))]);
    world.go(&release, 99).expect("released");
    let phases = phases_of(&world.host.rules, address);
    assert_eq!(phases.leaving(), BucketSet::one(alive_in), "{phases:?}");
    assert_eq!(phases.draining, BTreeMap::from([(alive_in, 1000)]));
}
