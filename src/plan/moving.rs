//! The model-based test of the order of steps, for buckets whose connections stay: hosts that list, keep
//! and forget flows, are interrupted anywhere, and whose time runs out at any moment.

use super::diff::tests::apply as apply_changes;
use super::health::drift;
use super::installed::{Installed, find, installed, phases_of};
use super::interruptions::{apply, check_fails_closed, fresh_host, vips};
use super::leaving::flow_of_bytes;
use super::names::flows_set;
use super::steps::{Intent, Look, Refusal, Step, When, steps};
use crate::model::bucket::BucketSet;
use crate::model::change::Change;
use crate::model::hash::Flow;
use crate::model::host::{Connection, Observed};
use crate::model::phase::Phase;
use crate::model::ruleset::Family;
use crate::model::vip::{Manager, Vip};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const DRAIN_MS: u64 = 60_000;

/// A host, its sockets, and the flows that its kernel's sets have.
#[derive(Default)]
struct World {
    host: Observed,
    sockets: BTreeMap<IpAddr, BTreeSet<Flow>>,
    kept: BTreeMap<IpAddr, BTreeSet<Flow>>,
    /// Connections whose clients have begun anew while their buckets drained.
    given_up: BTreeMap<IpAddr, BTreeSet<Flow>>,
}

impl World {
    fn fresh() -> Self {
        World {
            host: fresh_host(),
            ..World::default()
        }
    }

    /// What the kernel does at a step.
    fn apply(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Rules(changes) => {
                for change in changes {
                    self.follow(change);
                }
                apply_changes(&mut self.host.rules, changes)
            }
            Step::Abort(address, flows) => {
                for known in [&mut self.sockets, &mut self.given_up] {
                    let known = known.entry(*address).or_default();
                    known.retain(|flow| !flows.contains(flow));
                }
                Ok(())
            }
            other => apply(&mut self.host, other),
        }
    }

    /// Sets of flows are not read with the rules, so they are followed here.
    fn follow(&mut self, change: &Change) {
        for vip in vips() {
            let name = flows_set(vip.address);
            let kept = self.kept.entry(vip.address).or_default();
            let flows = |elements: &BTreeMap<Vec<u8>, _>| -> Vec<Flow> {
                elements
                    .keys()
                    .filter_map(|key| flow_of_bytes(key))
                    .collect()
            };
            match change {
                Change::AddElements(_, set, _, new) if *set == name => kept.extend(flows(new)),
                Change::DeleteElements(_, set, _, gone) if *set == name => {
                    let gone = flows(gone);
                    kept.retain(|flow| !gone.contains(flow));
                }
                Change::DeleteSet(_, set) if *set == name => kept.clear(),
                Change::DeleteTable(Family::Netdev) => kept.clear(),
                _ => {}
            }
        }
    }

    /// Does what is asked for, as `host::reach` does, but stops after so many steps.
    fn go(&mut self, intent: &Intent, mut budget: usize) -> Result<usize, String> {
        (self.host.connections, self.host.flows) = (None, None);
        let mut asked = Vec::new();
        for _ in 0..20 {
            let todo = match steps(&self.host, intent) {
                Ok(todo) => todo,
                Err(Refusal::Unknown(_)) => return Ok(budget),
                Err(refusal) => return Err(refusal.to_string()),
            };
            if todo.is_empty() {
                return Ok(budget);
            }
            for step in todo {
                if budget == 0 {
                    return Ok(0);
                }
                budget -= 1;
                if let Step::Look(address, what) = step {
                    self.look(address, what);
                    break;
                }
                let before = self.found(intent);
                self.apply(&step)?;
                self.check_asked(before, intent, &asked)?;
                if let Step::Agree(vip, when) = &step {
                    let is_here = self.host.nics["eth0"].held(vip.address).is_some();
                    asked.push((*when, is_here));
                }
                if let (Step::Abort(_, ended), Some(known)) = (&step, &mut self.host.connections) {
                    known.retain(|connection| !ended.contains(&connection.flow));
                }
                check_fails_closed(&self.host, &vips())?;
            }
        }
        Err(format!("{intent:?} is never done"))
    }

    /// Is the VIP here, and does it own anything?
    fn found(&self, intent: &Intent) -> (bool, bool) {
        let Intent::Take { vip, .. } = intent else {
            return (true, true);
        };
        let found = find(&self.host.rules, vip.address);
        let owns = |found: &Installed| !found.phases.owned.is_empty();
        (found.is_some(), found.as_ref().is_some_and(owns))
    }

    /// Nobody comes without asking the others, nor serves without asking again, with the address here: of two
    /// who come at once one hears the other.
    fn check_asked(
        &self,
        (was_here, owned): (bool, bool),
        intent: &Intent,
        asked: &[(When, bool)],
    ) -> Result<(), String> {
        let (is_here, owns) = self.found(intent);
        if is_here && !was_here && !asked.contains(&(When::BeforeItComes, false)) {
            return Err(format!("{intent:?} comes unasked: {asked:?}"));
        }
        if owns && !owned && !asked.contains(&(When::BeforeItServes, true)) {
            return Err(format!("{intent:?} serves unasked: {asked:?}"));
        }
        Ok(())
    }

    /// A client of a draining bucket connects anew: a SYN takes its flow out of the set.
    fn begin_anew(&mut self, address: IpAddr, flow: Flow) {
        self.kept.entry(address).or_default().remove(&flow);
        let sockets = self.sockets.entry(address).or_default();
        if sockets.contains(&flow) {
            self.given_up.entry(address).or_default().insert(flow);
        }
    }

    fn look(&mut self, address: IpAddr, what: Look) {
        match what {
            Look::Connections => {
                let sockets = self.sockets.get(&address).into_iter().flatten();
                let found = sockets.map(|flow| Connection {
                    flow: *flow,
                    alive: true,
                });
                self.host.connections = Some(found.collect());
            }
            Look::Flows => {
                self.host.flows = Some(self.kept.get(&address).cloned().unwrap_or_default());
            }
        }
    }

    /// All that ends by itself has ended.
    fn pass(&mut self) {
        for table in self.host.rules.values_mut() {
            for set in table.sets.values_mut() {
                set.elements.retain(|_, element| element.left_ms.is_none());
            }
        }
        for state in self.host.nics.values_mut() {
            state.addresses.retain(|held| held.valid_s.is_none());
        }
        self.kept.clear();
        // What is left then is the sweeper's.
        self.given_up.clear();
    }
}

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
    /// A client's connection ends.
    Close(usize, u16),
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
        8 => (action, 0usize..4, 0u16..4, budget).prop_map(|(a, v, b, n)| Event::Act(a, v, b, n)),
        4 => (0usize..4, 0u16..4).prop_map(|(v, b)| Event::Connect(v, b)),
        2 => (0usize..4, 0u16..4).prop_map(|(v, b)| Event::Anew(v, b)),
        1 => (0usize..4, 0u16..4).prop_map(|(v, b)| Event::Close(v, b)),
        1 => any::<bool>().prop_map(Event::Pass),
        1 => Just(Event::Collected),
    ]
}

/// Two of the VIPs are Pacemaker's: these go with their last bucket.
fn managed() -> [Vip; 4] {
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
                    let left = world.go(&intent, budget).map_err(TestCaseError::fail)?;
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
                        world.sockets.entry(address).or_default().insert(flow);
                    }
                }
                Event::Anew(n, bucket) => {
                    let address = vips[n].address;
                    if phases_of(&world.host.rules, address).of(bucket) == Phase::Draining {
                        world.begin_anew(address, client(&vips[n], bucket));
                    }
                }
                Event::Close(n, bucket) => {
                    let (address, flow) = (vips[n].address, client(&vips[n], bucket));
                    world.sockets.entry(address).or_default().remove(&flow);
                    world.given_up.entry(address).or_default().remove(&flow);
                }
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
        prop_assert_eq!(installed(&world.host.rules).len(), 4);
        world.pass();
        world.host.ending = false;
        for vip in &vips {
            let leave = Intent::Leave { address: vip.address, buckets: None, drain_ms: 0, place: None };
            prop_assert!(world.go(&leave, 99).map_err(TestCaseError::fail)? > 0);
        }
        (world.host.connections, world.host.flows) = (None, None);
        prop_assert_eq!(world.host, fresh_host());
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
