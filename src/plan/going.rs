//! How buckets leave this node, and a VIP after its last one. Pure.
//!
//! First the buckets, then the address, the membership, and the rules last. Going touches nothing
//! but what goes: a stop must not fail because something else is broken.
//!
//! **Draining.** Where connections may stay, a bucket closes first: from then on it gets no new ones,
//! so that the list of those that there are is whole. The flows of that list go into the VIP's set,
//! and then the bucket drains, or is foreign at once if it has none. Until all have drained the VIP
//! stays, its address with a lifetime: whatever can still answer ends by itself, and what is left
//! then can answer nothing, and is settled by whoever comes next.

use super::addressing::{lifetime, routes_that_go};
use super::before::before_of;
use super::guard::knows_nothing_of;
use super::installed::{addresses, find, installed, others_unreadable, phases_of};
use super::leaving::{flow_bytes, flows_spec};
use super::names::flows_set;
use super::removal::{without_buckets, without_vip};
use super::stale;
use super::steps::{Look, Step, delete_address, rules_step, rules_step_with, with_vip};
use crate::model::bucket::BucketSet;
use crate::model::change::Change;
use crate::model::hash::Flow;
use crate::model::host::{Connection, Held, NicState, Observed};
use crate::model::mac::Mac;
use crate::model::phase::Phases;
use crate::model::ruleset::{Element, Family, Ruleset, Target};
use crate::model::vip::{Manager, Nic, Vip};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Flows that are added in one transaction: a socket's buffer need not be larger for them.
pub(super) const FLOWS_AT_ONCE: usize = 1024;

/// Buckets leave, and the VIP stays.
pub(super) fn release(
    observed: &Observed,
    address: IpAddr,
    buckets: &BucketSet,
    drain_ms: u64,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rules = observed.rules.clone();
    part(
        observed,
        address,
        Some(buckets),
        drain_ms,
        &mut steps,
        &mut rules,
    );
    steps
}

/// Buckets leave, and the VIP after the last one.
pub(super) fn leave(
    observed: &Observed,
    address: IpAddr,
    buckets: Option<&BucketSet>,
    drain_ms: u64,
    place: Option<&(Nic, Mac)>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rules = observed.rules.clone();
    if let Some(left) = part(observed, address, buckets, drain_ms, &mut steps, &mut rules) {
        if !left.owned.is_empty() {
            return steps;
        }
        if let Some(left_ms) = left.leaving_ms() {
            steps.extend(limit(observed, address, left_ms));
            return steps;
        }
    } else {
        return steps;
    }
    vanish(observed, address, place, steps, rules)
}

/// The VIP goes, as nothing of it is needed any more.
fn vanish(
    observed: &Observed,
    address: IpAddr,
    place: Option<&(Nic, Mac)>,
    mut steps: Vec<Step>,
    mut rules: Ruleset,
) -> Vec<Step> {
    let found = find(&observed.rules, address);
    let described = found.map(|found| (found.vip.nic, found.vip.mac));
    let mac = match described.as_ref().or(place) {
        Some((_, mac)) => *mac,
        None => Mac::of_group(address),
    };
    // The address may be on another interface than the described one, which may have been renamed.
    let has_rules = addresses(&observed.rules).contains(&address);
    for (name, state) in &observed.nics {
        let Ok(nic) = name.parse::<Nic>() else {
            continue;
        };
        // Without its rules an address may be anybody's.
        let shared = others_need(observed, address, &nic, mac);
        let ours = |_: &&Held| has_rules || !state.is_own(address, mac, shared);
        let held: Vec<&Held> = state.forms(address).filter(ours).collect();
        let mut named = [described.as_ref(), place].into_iter().flatten();
        let here = !held.is_empty() || named.any(|(named, _)| *named == nic);
        steps.extend(lasting(observed, &nic, state.without(&held)));
        steps.extend(held.iter().map(|held| delete_address(&nic, held)));
        // Routes that go with an interface's last address come back by way of ours.
        if here {
            steps.extend(routes_that_go(observed, address, &nic));
        }
        if here && state.memberships.contains(&mac) && !shared {
            let nic = nic.clone();
            steps.push(Step::LeaveMac { nic, mac });
        }
        // Before the rules, for they remember how the lock was.
        if here {
            steps.extend(unlocking(observed, address, &nic));
        }
    }
    // What the kernel does not let go of yet answers nothing, and is settled by whoever comes next.
    if !observed.ending {
        let wanted = without_vip(&rules, address);
        rules_step(&mut steps, &mut rules, wanted);
    }
    steps
}

/// The buckets leave. Their phases then; `None` while something has to be looked at first.
fn part(
    observed: &Observed,
    address: IpAddr,
    buckets: Option<&BucketSet>,
    drain_ms: u64,
    steps: &mut Vec<Step>,
    rules: &mut Ruleset,
) -> Option<Phases> {
    let mut phases = phases_of(&observed.rules, address);
    let vip = find(&observed.rules, address).map(|found| found.vip);
    let Some(vip) = vip.filter(|_| drain_ms > 0) else {
        let wanted = without_buckets(rules, address, buckets);
        rules_step(steps, rules, wanted);
        let Some(buckets) = buckets else {
            return Some(Phases::default());
        };
        for bucket in buckets.iter() {
            phases.release(bucket);
        }
        return Some(phases);
    };
    phases = phases.tidied(observed.ending);
    let asked = buckets.cloned().unwrap_or_else(|| phases.owned.clone());
    for bucket in asked.iter() {
        phases.close(bucket);
    }
    let closing: BucketSet = asked
        .iter()
        .filter(|bucket| phases.closing.contains_key(bucket))
        .collect();
    if closing.is_empty() {
        return Some(phases);
    }
    let (connections, silent) = match leaving(observed, &vip, &phases, &closing) {
        Ok(known) => known,
        Err(look) => {
            rules_step(steps, rules, with_vip(observed, &vip, &phases));
            steps.push(Step::Look(address, look));
            return None;
        }
    };
    let bucket_of = |flow: &Flow| vip.bucket(flow);
    // What this node is silent about is none of its connections.
    let connections: Vec<_> = connections
        .iter()
        .filter(|connection| {
            let adopted = phases.adopting.contains_key(&bucket_of(&connection.flow));
            !(adopted && silent.is_some_and(|silent| silent.contains(&connection.flow)))
        })
        .collect();
    let mut staying: Vec<(u16, Flow)> = connections
        .iter()
        .map(|connection| (bucket_of(&connection.flow), connection.flow))
        .filter(|(bucket, _)| closing.contains(*bucket))
        .collect();
    let alive: BucketSet = connections
        .iter()
        .filter(|connection| connection.alive)
        .map(|connection| bucket_of(&connection.flow))
        .collect();
    for bucket in closing.iter() {
        phases.listed(bucket, alive.contains(bucket), drain_ms);
    }
    staying.retain(|(bucket, _)| phases.draining.contains_key(bucket));
    for some in staying.chunks(FLOWS_AT_ONCE) {
        let flows = some.iter().map(|(_, flow)| flow);
        steps.push(Step::Rules(vec![keep(&vip, flows, drain_ms)]));
    }
    rules_step(steps, rules, with_vip(observed, &vip, &phases));
    Some(phases)
}

/// The connections that there are, and those of which only something is left, if these buckets were adopted.
fn leaving<'a>(
    observed: &'a Observed,
    vip: &Vip,
    phases: &Phases,
    closing: &BucketSet,
) -> Result<(&'a [Connection], Option<&'a BTreeSet<Flow>>), Look> {
    let connections = observed.connections.as_ref().ok_or(Look::Connections)?;
    let adopted = closing
        .iter()
        .any(|bucket| phases.adopting.contains_key(&bucket));
    let silent = match adopted {
        true => stale::silent(observed, vip.address)?,
        false => None,
    };
    Ok((connections, silent))
}

/// Flows that stay for so long.
fn keep<'a>(vip: &Vip, flows: impl Iterator<Item = &'a Flow>, drain_ms: u64) -> Change {
    let element = Element::new(Target::None).ending(drain_ms);
    let elements = flows.map(|flow| (flow_bytes(flow), element.clone()));
    Change::AddElements(
        Family::Netdev,
        flows_set(vip.address),
        flows_spec(vip.address),
        elements.collect(),
    )
}

/// The changes by which the flows of buckets are forgotten that do not leave any more, if others still
/// do: later they would be taken for this node's again. `None` if it is not known which flows.
pub(super) fn forgotten(
    observed: &Observed,
    vip: &Vip,
    buckets: &BucketSet,
    then: &Phases,
) -> Option<Vec<Change>> {
    // With the last bucket that leaves the whole set goes.
    if buckets.is_empty() || !then.needs_leaving_rules() {
        return Some(Vec::new());
    }
    let flows = observed.flows.as_ref()?;
    let gone: BTreeMap<Vec<u8>, Element> = flows
        .iter()
        .filter(|flow| buckets.contains(vip.bucket(flow)))
        .map(|flow| (flow_bytes(flow), Element::new(Target::None)))
        .collect();
    let (name, spec) = (flows_set(vip.address), flows_spec(vip.address));
    Some(match gone.is_empty() {
        true => Vec::new(),
        false => vec![Change::DeleteElements(Family::Netdev, name, spec, gone)],
    })
}

/// This node's connections in draining buckets: those that stay, and those that it has given up.
fn in_draining(
    observed: &Observed,
    vip: &Vip,
    buckets: &BucketSet,
) -> Result<(BTreeSet<Flow>, BTreeSet<Flow>), Look> {
    let connections = observed.connections.as_ref().ok_or(Look::Connections)?;
    let flows = observed.flows.as_ref().ok_or(Look::Flows)?;
    let here = connections
        .iter()
        .filter(|connection| connection.alive)
        .map(|connection| connection.flow)
        .filter(|flow| buckets.contains(vip.bucket(flow)));
    Ok(here.partition(|flow| flows.contains(flow)))
}

/// Nobody drains these buckets any more.
pub(super) fn adopted(observed: &Observed, address: IpAddr, buckets: &BucketSet) -> Vec<Step> {
    let mut steps = Vec::new();
    let Some(found) = find(&observed.rules, address) else {
        return steps;
    };
    let mut phases = found.phases.clone();
    for bucket in buckets.iter() {
        phases.adopted(bucket);
    }
    if phases != found.phases {
        phases.adopting_rules = false;
        let wanted = with_vip(observed, &found.vip, &phases);
        rules_step(&mut steps, &mut observed.rules.clone(), wanted);
    }
    steps
}

/// What has ended is taken away.
pub(super) fn settle(observed: &Observed, address: IpAddr) -> Vec<Step> {
    let mut steps = Vec::new();
    let Some(found) = find(&observed.rules, address) else {
        return steps;
    };
    let vip = found.vip;
    let mut phases = found.phases.clone().tidied(observed.ending);
    let mut rules = observed.rules.clone();
    // By hand a VIP may be here without buckets; Pacemaker's is not.
    let is_over =
        |phases: &Phases| phases.is_idle() && matches!(vip.manager, Manager::Pacemaker(_));
    if is_over(&phases) {
        return vanish(observed, address, None, steps, rules);
    }
    if !phases.draining.is_empty() {
        let draining: BucketSet = phases.draining.keys().copied().collect();
        let (staying, given_up) = match in_draining(observed, &vip, &draining) {
            Ok(known) => known,
            Err(look) => return vec![Step::Look(address, look)],
        };
        // No packet reaches them any more; what came in by another interface since cannot be told apart.
        if !given_up.is_empty() {
            steps.push(Step::Abort(address, given_up));
        }
        let alive: BucketSet = staying.iter().map(|flow| vip.bucket(flow)).collect();
        let over = draining.without(&alive);
        for bucket in over.iter() {
            phases.drained(bucket);
        }
        if is_over(&phases) {
            return vanish(observed, address, None, steps, rules);
        }
        let forgotten = forgotten(observed, &vip, &over, &phases).unwrap_or_default();
        let wanted = with_vip(observed, &vip, &phases);
        rules_step_with(&mut steps, &mut rules, wanted, forgotten);
    } else if phases != found.phases {
        rules_step(&mut steps, &mut rules, with_vip(observed, &vip, &phases));
    }
    steps
}

/// The address of a VIP that only drains ends by itself, where nothing else ends with it.
fn limit(observed: &Observed, address: IpAddr, left_ms: u64) -> Option<Step> {
    let vip = find(&observed.rules, address)?.vip;
    let state = observed.nics.get(vip.nic.as_str())?;
    let held = state.held(address)?;
    // At the earliest when the last connection has to end.
    let valid_s = u32::try_from(left_ms / 1000 + 1).unwrap_or(u32::MAX);
    let can_end = held.valid_s.is_none() && state.can_end(held);
    can_end.then(|| lifetime(&vip.nic, held, Some(valid_s)))
}

/// Other VIPs that only drain end by themselves, and could not any more once the interface is so: their
/// addresses last until somebody settles them.
fn lasting(observed: &Observed, nic: &Nic, mut then: NicState) -> Vec<Step> {
    let mut steps = Vec::new();
    for other in installed(&observed.rules) {
        let held = then.held(other.vip.address).cloned();
        let ends = held.filter(|held| other.vip.nic == *nic && held.valid_s.is_some());
        if let Some(held) = ends.filter(|held| !then.can_end(held)) {
            steps.push(lifetime(nic, &held, None));
            let mut addresses = then.addresses.iter_mut();
            if let Some(it) = addresses.find(|it| **it == held) {
                it.valid_s = None;
            }
        }
    }
    steps
}

/// Does another VIP on the interface need this MAC? Equal last octets share one.
pub(super) fn others_need(observed: &Observed, address: IpAddr, nic: &Nic, mac: Mac) -> bool {
    others_unreadable(&observed.rules, address)
        || installed(&observed.rules).iter().any(|other| {
            other.vip.address != address && other.vip.nic == *nic && other.vip.mac == mac
        })
}

/// The second lock goes back to what it was when the last VIP of the interface goes.
fn unlocking(observed: &Observed, address: IpAddr, nic: &Nic) -> Vec<Step> {
    let Some(before) = before_of(&observed.rules, nic) else {
        return Vec::new();
    };
    if others_unreadable(&observed.rules, address) || knows_nothing_of(observed, nic.as_str()) {
        return Vec::new();
    }
    let others = installed(&observed.rules);
    let mut others = others.iter().filter(|other| other.vip.address != address);
    if others.any(|other| other.vip.nic == *nic) {
        return Vec::new();
    }
    let Some(state) = observed.nics.get(nic.as_str()) else {
        return Vec::new();
    };
    let families: [IpAddr; 2] = [[0u8; 4].into(), [0u8; 16].into()];
    let changed = families.into_iter().filter(|family| {
        let was = match family {
            IpAddr::V4(_) => before.lock_ip4,
            IpAddr::V6(_) => before.lock_ip6,
        };
        was == Some(false) && state.lock(*family) == Some(true)
    });
    changed
        .map(|family| Step::Lock {
            nic: nic.clone(),
            family,
            on: false,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::vip::tests::a_vip;
    use crate::plan::interruptions::{beside_a_broken_one, fresh_host, go};
    use crate::plan::steps::{Intent, steps};

    #[test]
    fn a_vip_that_nobody_can_read_keeps_the_second_lock_and_the_membership() {
        let (mut host, vip) = beside_a_broken_one();
        let leave = Intent::Leave {
            address: vip.address,
            buckets: None,
            drain_ms: 0,
            place: None,
        };
        go(&mut host, &leave, 99).expect("left");
        let state = &host.nics["eth0"];
        assert!(state.held(vip.address).is_none());
        assert_eq!(state.lock_ip4, Some(true));
        assert!(state.memberships.contains(&vip.mac));
    }

    #[test]
    fn a_bucket_drains_only_while_anything_is_left_to_be_said() {
        let vip = a_vip("10.77.0.99");
        let address = vip.address;
        let all: BucketSet = (0..vip.buckets.get()).collect();
        let connection = |port, alive| {
            let flow = Flow {
                source: [192, 0, 2, 7].into(),
                source_port: port,
                destination_port: 80,
            };
            Connection { flow, alive }
        };
        let (over, alive) = (connection(1, false), connection(2, true));
        let (over_in, alive_in) = (vip.bucket(&over.flow), vip.bucket(&alive.flow));
        assert_ne!(over_in, alive_in);
        let mut host = fresh_host();
        let take = Intent::Take {
            vip,
            buckets: all.clone(),
            adopt_ms: None,
        };
        go(&mut host, &take, 99).expect("taken");
        let release = Intent::Release {
            address,
            buckets: all,
            drain_ms: 1000,
        };
        go(&mut host, &release, 1).expect("closed");
        host.connections = Some(vec![over, alive]);
        // For as long as was asked for, and so do its connections.
        let todo = steps(&host, &release).expect("steps");
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
        assert_eq!(times, [(&flow_bytes(&alive.flow), Some(1000))]);
        go(&mut host, &release, 99).expect("released");
        let phases = phases_of(&host.rules, address);
        assert_eq!(phases.leaving(), BucketSet::one(alive_in), "{phases:?}");
        assert_eq!(phases.draining, BTreeMap::from([(alive_in, 1000)]));
    }
}
