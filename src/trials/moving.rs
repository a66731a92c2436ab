//! The model-based test of the order of steps, for buckets whose connections stay: hosts that list, keep
//! and forget flows, are interrupted anywhere, and whose time runs out at any moment.

use super::world::{VIPS, World, leaves, vips};
use crate::model::bucket::BucketSet;
use crate::model::change::Change;
use crate::model::hash::Flow;
use crate::model::phase::Phase;
use crate::model::vip::tests::a_vip;
use crate::model::vip::{Manager, Vip};
use crate::plan::step::{Intent, Look, Step};
use crate::plan::steps;
use crate::reading::health::drift;
use crate::reading::installed::{installed, phases_of};
use crate::rules::leaving::flow_bytes;
use crate::rules::names::flows_set;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const DRAIN_MS: u64 = 60_000;

/// A client of the VIP in this bucket.
fn client(vip: &Vip, bucket: u16) -> Flow {
    let source = match vip.address {
        IpAddr::V4(_) => IpAddr::from([192, 0, 2, 7]),
        IpAddr::V6(_) => IpAddr::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]),
    };
    let mut ports = 0..u16::MAX;
    let flow = ports.find_map(|source_port| {
        let flow = Flow {
            source,
            source_port,
            destination_port: 80,
        };
        (vip.bucket(&flow) == bucket).then_some(flow)
    });
    flow.expect("a port for every bucket")
}

#[derive(Debug, Clone)]
enum Event {
    /// An action on a bucket of a VIP, and after how many steps it is interrupted.
    Act(Action, usize, u16, usize),
    /// A client connects, if the bucket is owned.
    Connect(usize, u16),
    /// A client connects anew, if the bucket drains.
    Anew(usize, u16),
    /// A client's connection ends; the service may be the first to say so.
    Close(usize, u16, bool),
    /// What was in TIME-WAIT is there no more.
    Forget,
    /// Whatever ends by itself has ended; the kernel may still hold it.
    Pass(bool),
    /// The kernel has let go of it.
    Collected,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Take,
    Release,
    Leave,
    Adopted,
    Settle,
}

fn any_event() -> impl Strategy<Value = Event> {
    let action = prop_oneof![
        3 => Just(Action::Take),
        1 => Just(Action::Release),
        2 => Just(Action::Leave),
        1 => Just(Action::Adopted),
        2 => Just(Action::Settle),
    ];
    let budget = prop_oneof![0usize..9, Just(99), Just(99)];
    prop_oneof![
        8 => (action, 0..VIPS, 0u16..4, budget).prop_map(|(a, v, b, n)| Event::Act(a, v, b, n)),
        4 => (0..VIPS, 0u16..4).prop_map(|(v, b)| Event::Connect(v, b)),
        2 => (0..VIPS, 0u16..4).prop_map(|(v, b)| Event::Anew(v, b)),
        2 => (0..VIPS, 0u16..4, any::<bool>()).prop_map(|(v, b, first)| Event::Close(v, b, first)),
        1 => Just(Event::Forget),
        1 => any::<bool>().prop_map(Event::Pass),
        1 => Just(Event::Collected),
    ]
}

/// Two of the VIPs are Pacemaker's: these go with their last bucket.
fn managed() -> [Vip; VIPS] {
    let mut all = vips();
    for vip in &mut all[..2] {
        vip.manager = Manager::pacemaker("resIP");
    }
    all
}

fn intent(action: Action, vip: &Vip, bucket: u16) -> Intent {
    let (address, buckets) = (vip.address, BucketSet::one(bucket));
    match action {
        Action::Take => Intent::Take {
            vip: vip.clone(),
            buckets,
            adopt_ms: Some(DRAIN_MS),
        },
        Action::Release => Intent::Release {
            address,
            buckets,
            drain_ms: DRAIN_MS,
        },
        Action::Leave => Intent::Leave {
            address,
            buckets: Some(buckets),
            drain_ms: DRAIN_MS,
            place: Some((vip.nic.clone(), vip.mac)),
        },
        Action::Adopted => Intent::Adopted { address, buckets },
        Action::Settle => Intent::Settle { address },
    }
}

/// Every living connection of an owned or draining bucket is one that its node still takes.
fn check_kept(world: &World, vips: &[Vip]) -> Result<(), String> {
    for vip in vips {
        let phases = phases_of(&world.host.rules, vip.address);
        for flow in world.sockets.get(&vip.address).into_iter().flatten() {
            let bucket = vip.bucket(flow);
            let kept = world.kept.get(&vip.address);
            let kept = kept.is_some_and(|kept| kept.contains(flow));
            let given_up = world.given_up.get(&vip.address);
            let given_up = given_up.is_some_and(|given_up| given_up.contains(flow));
            if phases.of(bucket) == Phase::Draining && !kept && !given_up {
                return Err(format!("{flow:?} of bucket {bucket} is cut"));
            }
        }
    }
    Ok(())
}

/// What was given up in these buckets, which came or were settled, has no socket, and flows have only those
/// that leave: later they would be taken for this node's again.
fn check_forgotten(world: &World, vip: &Vip, buckets: &BucketSet) -> Result<(), String> {
    let phases = phases_of(&world.host.rules, vip.address);
    let flows = |of: &BTreeMap<IpAddr, BTreeSet<Flow>>| -> BTreeSet<Flow> {
        let all = of.get(&vip.address).into_iter().flatten().copied();
        all.filter(|flow| buckets.contains(vip.bucket(flow)))
            .collect()
    };
    let leaves = |flow: &Flow| phases.leaving().contains(vip.bucket(flow));
    if let Some(flow) = flows(&world.kept).iter().find(|flow| !leaves(flow)) {
        return Err(format!("{flow:?} is kept: {phases:?}"));
    }
    match flows(&world.given_up)
        .intersection(&flows(&world.sockets))
        .next()
    {
        Some(flow) => Err(format!("{flow:?} was given up, and answers: {phases:?}")),
        None => Ok(()),
    }
}

/// While a bucket that came is adopted, what was left of its connections is silent; and whatever leaves, no
/// such thing is kept for a connection.
fn check_silent(
    world: &World,
    vip: &Vip,
    bucket: u16,
    loud: &BTreeSet<Flow>,
) -> Result<(), String> {
    let of = |all: &BTreeMap<IpAddr, BTreeSet<Flow>>| -> BTreeSet<Flow> {
        all.get(&vip.address).cloned().unwrap_or_default()
    };
    let phase = phases_of(&world.host.rules, vip.address).of(bucket);
    let (silent, kept) = (of(&world.silent), of(&world.kept));
    if let Some(flow) = silent.intersection(&kept).next() {
        return Err(format!(
            "{flow:?} is silent, and kept: bucket {bucket} is {phase}"
        ));
    }
    let mut still = loud.iter().filter(|_| phase == Phase::Adopting);
    match still.find(|flow| !silent.contains(flow)) {
        Some(flow) => Err(format!(
            "{flow:?} speaks in bucket {bucket}, which is adopted"
        )),
        None => Ok(()),
    }
}

/// An address that is only here for connections of buckets that have left ends by itself, but not before
/// they have to.
fn check_ends(world: &World, vip: &Vip) -> Result<(), String> {
    let phases = phases_of(&world.host.rules, vip.address);
    let held = world.host.nics["eth0"].held(vip.address);
    let (Some(left_ms), Some(held), true) = (phases.leaving_ms(), held, phases.owned.is_empty())
    else {
        return Ok(());
    };
    match held.valid_s {
        Some(valid_s) if 1000 * u64::from(valid_s) > left_ms => Ok(()),
        valid_s => Err(format!("{} ends in {valid_s:?} s: {phases:?}", vip.address)),
    }
}

proptest! {
    #[test]
    fn whoever_is_interrupted_in_a_move_opens_nothing_and_cuts_nothing(
        events in prop::collection::vec(any_event(), 1..40),
    ) {
        let vips = managed();
        let mut world = World::fresh();
        for event in events {
            match event {
                Event::Act(action, n, bucket, budget) => {
                    let intent = intent(action, &vips[n], bucket);
                    let loud = world.loud(&vips[n], bucket);
                    let left = world.go(&intent, budget).map_err(TestCaseError::fail)?;
                    check_silent(&world, &vips[n], bucket, &loud).map_err(TestCaseError::fail)?;
                    let phases = phases_of(&world.host.rules, vips[n].address);
                    match action {
                        Action::Take if left > 0 => prop_assert!(phases.owned.contains(bucket)),
                        Action::Release | Action::Leave if left > 0 => {
                            prop_assert!(!phases.owned.contains(bucket));
                        }
                        _ => {}
                    }
                    let settled = match action {
                        Action::Take => BucketSet::one(bucket),
                        Action::Settle => (0..4).collect(),
                        _ => BucketSet::default(),
                    };
                    if left > 0 {
                        check_forgotten(&world, &vips[n], &settled).map_err(TestCaseError::fail)?;
                    }
                    if left > 0 && matches!(action, Action::Leave) {
                        check_ends(&world, &vips[n]).map_err(TestCaseError::fail)?;
                    }
                }
                Event::Connect(n, bucket) => {
                    let address = vips[n].address;
                    if phases_of(&world.host.rules, address).owned.contains(bucket) {
                        let flow = client(&vips[n], bucket);
                        world.begin(address, flow);
                    }
                }
                Event::Anew(n, bucket) => {
                    let address = vips[n].address;
                    if phases_of(&world.host.rules, address).of(bucket) == Phase::Draining {
                        world.begin_anew(address, client(&vips[n], bucket));
                    }
                }
                Event::Close(n, bucket, first) => {
                    let (address, flow) = (vips[n].address, client(&vips[n], bucket));
                    world.given_up.entry(address).or_default().remove(&flow);
                    if world.sockets.entry(address).or_default().remove(&flow) && first {
                        world.waiting.entry(address).or_default().insert(flow);
                    }
                }
                Event::Forget => world.waiting.clear(),
                Event::Pass(held) => {
                    world.pass();
                    world.host.ending = held;
                    for vip in &vips {
                        let phases = phases_of(&world.host.rules, vip.address);
                        prop_assert!(phases.leaving().is_empty() && phases.adopting.is_empty(), "{phases:?}");
                    }
                }
                Event::Collected => world.host.ending = false,
            }
            check_kept(&world, &vips).map_err(TestCaseError::fail)?;
        }
        // Taking repairs whatever the interruptions left, and leaving leaves no trace.
        for vip in &vips {
            let taken = intent(Action::Take, vip, 0);
            prop_assert!(world.go(&taken, 99).map_err(TestCaseError::fail)? > 0);
            prop_assert_eq!(drift(&world.host, vip, true), vec![]);
        }
        prop_assert_eq!(installed(&world.host.rules).len(), VIPS);
        world.pass();
        world.host.ending = false;
        for vip in &vips {
            let leave = leaves(vip.address);
            prop_assert!(world.go(&leave, 99).map_err(TestCaseError::fail)? > 0);
        }
        world.host.connections = None;
        (world.host.flows, world.host.stale) = (None, None);
        prop_assert_eq!(world.host, World::fresh().host);
    }
}

#[test]
fn what_was_given_up_or_has_ended_is_forgotten_while_another_bucket_drains() {
    let vip = &managed()[0];
    let address = vip.address;
    let of = |bucket| client(vip, bucket);
    for (anew, closed, action) in [
        (true, false, Action::Take),
        (false, false, Action::Take),
        (true, false, Action::Settle),
        (false, true, Action::Settle),
    ] {
        let mut world = World::fresh();
        let act = |world: &mut World, action, bucket| {
            let left = world.go(&intent(action, vip, bucket), 99);
            assert!(left.expect("done") > 0);
        };
        for bucket in [1, 2] {
            act(&mut world, Action::Take, bucket);
            world.sockets.entry(address).or_default().insert(of(bucket));
        }
        for bucket in [1, 2] {
            act(&mut world, Action::Leave, bucket);
        }
        assert_eq!(world.kept[&address], [of(1), of(2)].into());
        if anew {
            world.begin_anew(address, of(1));
        }
        if closed {
            world.sockets.entry(address).or_default().remove(&of(1));
        }
        act(&mut world, action, 1);
        check_forgotten(&world, vip, &(0..4).collect()).expect("forgotten");
        let stays = !anew && !closed;
        assert_eq!(world.sockets[&address].contains(&of(1)), stays);
        assert_eq!(world.kept[&address], [of(2)].into(), "{action:?}");
    }
}

#[test]
fn what_is_in_time_wait_is_silent_when_its_bucket_comes_back_and_stays_with_nobody() {
    let vip = &managed()[0];
    let address = vip.address;
    let mut world = World::fresh();
    let act = |world: &mut World, action| {
        let left = world.go(&intent(action, vip, 1), 99);
        assert!(left.expect("done") > 0);
    };
    let flow = client(vip, 1);
    act(&mut world, Action::Take);
    world.waiting.entry(address).or_default().insert(flow);
    act(&mut world, Action::Leave);
    act(&mut world, Action::Take);
    assert_eq!(world.silent[&address], [flow].into());
    // Another connection makes the bucket drain: what is silent is no part of that.
    let mut ports = flow.source_port + 1..;
    let other = ports.find_map(|source_port| {
        let other = Flow {
            source_port,
            ..flow
        };
        (vip.bucket(&other) == 1).then_some(other)
    });
    let other = other.expect("a flow of the same bucket");
    world.sockets.entry(address).or_default().insert(other);
    act(&mut world, Action::Leave);
    assert_eq!(world.kept[&address], [other].into());
    // It comes back once more, and is silent as before.
    act(&mut world, Action::Take);
    assert_eq!(world.silent[&address], [flow].into());
    // Nobody drains it any more: then everything may be said.
    act(&mut world, Action::Adopted);
    assert_eq!(world.silent[&address], BTreeSet::new());
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
