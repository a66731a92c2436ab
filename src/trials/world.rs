//! The world of the trials: a host whose kernel does what each step says, its sockets, and the flows that its sets have;
//! how `host::reach` goes about what is asked for, interrupted after any step; and what clients and time do to it. What
//! that kernel does with addresses and routes is in `kernel_addresses`.

use super::kernel_changes::apply as apply_changes;
use crate::model::bucket::BucketSet;
use crate::model::change::Change;
use crate::model::hash::Flow;
use crate::model::host::tests::{an_address, an_interface};
use crate::model::host::{Connection, Observed};
use crate::model::network::Network;
use crate::model::phase::Phase;
use crate::model::ruleset::{Expr, Family, Target, Verdict};
use crate::model::vip::tests::a_vip;
use crate::model::vip::{L2Mode, Vip};
use crate::plan::step::{Intent, Look, Refusal, Step, When};
use crate::plan::steps;
use crate::reading::installed::{Installed, find, phases_of};
use crate::rules::adopting::family;
use crate::rules::leaving::flow_of_bytes;
use crate::rules::names::{dispatch_map, flows_set, ingress_chain, stale_set, vip_chain};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// One bucket of a VIP is to come, which nobody drains.
pub(super) fn takes(vip: &Vip, bucket: u16) -> Intent {
    Intent::Take {
        vip: vip.clone(),
        buckets: BucketSet::one(bucket),
        adopt_ms: None,
    }
}

/// All of a VIP is to go, at once.
pub(super) fn leaves(address: IpAddr) -> Intent {
    Intent::Leave {
        address,
        buckets: None,
        drain_ms: 0,
        place: None,
    }
}

/// Who has brought a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    Kernel,
    Advertisement,
    Person,
    Us,
}

/// A route by the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    pub network: Network,
    pub metric: u32,
    pub by: By,
    /// IPv4: the source that it names.
    pub source: Option<IpAddr>,
    /// IPv6: does it end by itself?
    pub ends: bool,
}

/// A host, its routes, its sockets, and the flows that its kernel's sets have.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub host: Observed,
    /// All routes by its interface; the host is told of them.
    pub ways: Vec<Way>,
    pub sockets: BTreeMap<IpAddr, BTreeSet<Flow>>,
    pub kept: BTreeMap<IpAddr, BTreeSet<Flow>>,
    /// Connections in TIME-WAIT.
    pub waiting: BTreeMap<IpAddr, BTreeSet<Flow>>,
    /// What the kernel's sets of stale connections have.
    pub silent: BTreeMap<IpAddr, BTreeSet<Flow>>,
    /// Connections whose clients have begun anew while their buckets drained.
    pub given_up: BTreeMap<IpAddr, BTreeSet<Flow>>,
}

/// How many VIPs [`vips`] has.
pub(super) const VIPS: usize = 8;

/// VIPs that get in each other's way: equal last octets, so an equal MAC or group; both families, all modes.
pub(super) fn vips() -> [Vip; VIPS] {
    let mut other_seed = a_vip("10.77.0.98");
    other_seed.hasher.seed = 7;
    let mut ip6 = a_vip("fd77::99");
    ip6.prefix = 64;
    let mut twin = a_vip("10.78.0.99");
    twin.mac = a_vip("10.77.0.99").mac;
    let of_mode = |mode: L2Mode, address: &str| {
        let vip = a_vip(address);
        let mac = mode.mac(vip.address);
        Vip { mode, mac, ..vip }
    };
    let mut hidden6 = of_mode(L2Mode::Stealth, "fd77::97");
    hidden6.prefix = 64;
    [
        a_vip("10.77.0.99"),
        twin,
        other_seed,
        ip6,
        of_mode(L2Mode::Stealth, "10.77.0.97"),
        hidden6,
        of_mode(L2Mode::Igmp, "10.79.0.99"),
        of_mode(L2Mode::Igmp, "10.80.0.99"),
    ]
}

/// Sixteen in one network.
pub(super) fn many_vips() -> Vec<Vip> {
    let of = |n: u8| a_vip(&format!("192.0.2.{}", 80 + n));
    (0..16).map(of).collect()
}

/// And some of IPv6.
pub(super) fn many_vips6() -> Vec<Vip> {
    let of = |n: u8| Vip {
        prefix: 64,
        ..a_vip(&format!("fd77::{}", 80 + n))
    };
    (0..4).map(of).collect()
}

/// A route as somebody brings it.
pub(super) fn way(network: &str, metric: u32, by: By) -> Way {
    let (address, prefix) = network.split_once('/').expect("a prefix");
    Way {
        network: Network::of(
            address.parse().expect("an address"),
            prefix.parse().expect("a number"),
        ),
        metric,
        by,
        source: None,
        ends: false,
    }
}

impl World {
    /// A host with one interface, and no address.
    pub fn bare() -> Self {
        let mut world = World::default();
        let nics = &mut world.host.nics;
        nics.insert("eth0".to_owned(), an_interface());
        world
    }

    /// The same with addresses of its own.
    pub fn fresh() -> Self {
        let mut world = World::bare();
        for own in [an_address("10.77.0.1", 24), an_address("fd77::1", 64)] {
            world.add(own).expect("an address");
        }
        world
    }

    /// What the kernel does at a step, and `host::apply` around it.
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
            Step::Silence(address, flows) => {
                self.silent.entry(*address).or_default().extend(flows);
                Ok(())
            }
            Step::AddAddress(_)
            | Step::JoinGroup { .. }
            | Step::DeleteAddress { .. }
            | Step::AddRoute { .. }
            | Step::DeleteRoute { .. } => self.apply_to_addresses(step),
            other => apply_to_host(&mut self.host, other),
        }
    }

    /// Sets of flows are not read with the rules, so they are followed here.
    fn follow(&mut self, change: &Change) {
        for vip in vips() {
            let (name, stale) = (flows_set(vip.address), stale_set(vip.address));
            let kept = self.kept.entry(vip.address).or_default();
            let silent = self.silent.entry(vip.address).or_default();
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
                Change::DeleteSet(_, set) if *set == stale => silent.clear(),
                Change::DeleteTable(of) if *of == family(vip.address) => silent.clear(),
                _ => {}
            }
        }
    }

    /// Does what is asked for, as `host::reach` does, but stops after so many steps. The number of steps left is
    /// returned.
    pub fn go(&mut self, intent: &Intent, mut budget: usize) -> Result<usize, String> {
        self.host.connections = None;
        (self.host.flows, self.host.stale) = (None, None);
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
                self.check_fails_closed()?;
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

    pub fn look(&mut self, address: IpAddr, what: Look) {
        match what {
            Look::Connections => {
                let of = |all: &BTreeMap<IpAddr, BTreeSet<Flow>>, alive| -> Vec<Connection> {
                    let flows = all.get(&address).into_iter().flatten();
                    flows
                        .map(|flow| Connection { flow: *flow, alive })
                        .collect()
                };
                let mut found = of(&self.sockets, true);
                found.extend(of(&self.waiting, false));
                self.host.connections = Some(found);
            }
            Look::Stale => {
                self.host.stale = Some(self.silent.get(&address).cloned().unwrap_or_default());
            }
            Look::Flows => {
                self.host.flows = Some(self.kept.get(&address).cloned().unwrap_or_default());
            }
        }
    }

    /// A client of a draining bucket connects anew: a SYN takes its flow out of the set.
    pub fn begin_anew(&mut self, address: IpAddr, flow: Flow) {
        self.kept.entry(address).or_default().remove(&flow);
        let sockets = self.sockets.entry(address).or_default();
        if sockets.contains(&flow) {
            self.given_up.entry(address).or_default().insert(flow);
        }
    }

    /// A client of an owned bucket begins: nothing older is left here, and a SYN is heard.
    pub fn begin(&mut self, address: IpAddr, flow: Flow) {
        self.sockets.entry(address).or_default().insert(flow);
        for gone in [&mut self.waiting, &mut self.silent] {
            gone.entry(address).or_default().remove(&flow);
        }
    }

    /// What is left of connections in this bucket, if it is another node's.
    pub fn loud(&self, vip: &Vip, bucket: u16) -> BTreeSet<Flow> {
        let waiting = self.waiting.get(&vip.address).into_iter().flatten();
        let kept = self.kept.get(&vip.address);
        let left = waiting.filter(|flow| !kept.is_some_and(|kept| kept.contains(flow)));
        match phases_of(&self.host.rules, vip.address).of(bucket) {
            Phase::Foreign | Phase::Draining => left
                .filter(|flow| vip.bucket(flow) == bucket)
                .copied()
                .collect(),
            _ => BTreeSet::new(),
        }
    }

    /// All that ends by itself has ended.
    pub fn pass(&mut self) {
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

    /// An address may only be there while everything stands that drops what is foreign.
    fn check_fails_closed(&self) -> Result<(), String> {
        for vip in vips().into_iter().chain(many_vips()).chain(many_vips6()) {
            let state = &self.host.nics["eth0"];
            if state.held(vip.address).is_none() {
                continue;
            }
            let table = self.host.rules.get(&Family::Netdev).ok_or("no table")?;
            let base = table
                .chains
                .get(&ingress_chain(&vip.nic))
                .ok_or("no base")?;
            let map = dispatch_map(&vip.nic, vip.address);
            let asks = |expr: &Expr| matches!(expr, Expr::Lookup { set, .. } if *set == map);
            let asked = base.rules.iter().any(|rule| rule.exprs.iter().any(asks));
            let goes = table.sets.get(&map).is_some_and(|set| {
                let goto = Verdict::Goto(vip_chain(vip.address));
                let mut elements = set.elements.values();
                elements.any(|element| element.target == Target::Verdict(goto.clone()))
            });
            let chain = table
                .chains
                .get(&vip_chain(vip.address))
                .ok_or("no chain")?;
            let drops = |exprs: &[Expr]| exprs.last() == Some(&Expr::Verdict(Verdict::Drop));
            let dropped = chain.rules.last().is_some_and(|rule| drops(&rule.exprs));
            let locked = match vip.mode.locks_by_sysctl() {
                true => state.lock(vip.address) == Some(true),
                false => state.mac.is_some_and(|own| own != vip.mac),
            };
            if !(asked && goes && dropped && locked) {
                return Err(format!("{} could answer anything", vip.address));
            }
        }
        Ok(())
    }
}

/// What the kernel does at a step that is only a setting.
fn apply_to_host(host: &mut Observed, step: &Step) -> Result<(), String> {
    let nic_of = |nic: &str| nic.to_owned();
    match step {
        Step::Agree(..)
        | Step::Announce(_)
        | Step::Look(..)
        | Step::Rules(_)
        | Step::Abort(..)
        | Step::Silence(..)
        | Step::AddRoute { .. }
        | Step::DeleteRoute { .. }
        | Step::AddAddress(_)
        | Step::JoinGroup { .. }
        | Step::DeleteAddress { .. } => {}
        Step::Lock { nic, family, on } => {
            let state = host.nics.get_mut(&nic_of(nic.as_str())).ok_or("nic")?;
            match family {
                IpAddr::V4(_) => state.lock_ip4 = Some(*on),
                IpAddr::V6(_) => state.lock_ip6 = Some(*on),
            }
        }
        Step::Join { nic, mac } => {
            let state = host.nics.get_mut(&nic_of(nic.as_str())).ok_or("nic")?;
            state.memberships.insert(*mac);
        }
        Step::LeaveMac { nic, mac } => {
            let state = host.nics.get_mut(&nic_of(nic.as_str())).ok_or("nic")?;
            state.memberships.remove(mac);
        }
        Step::SetUp(nic) => {
            host.nics.get_mut(nic.as_str()).ok_or("nic")?.admin_up = true;
        }
        Step::Lifetime {
            nic,
            address,
            valid_s,
            ..
        } => {
            let state = host.nics.get_mut(nic.as_str()).ok_or("nic")?;
            let mut held = state.addresses.iter_mut();
            let held = held.find(|held| held.address == *address);
            held.ok_or("no address to limit")?.valid_s = *valid_s;
        }
    }
    Ok(())
}
