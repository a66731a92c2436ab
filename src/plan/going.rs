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

use super::flows::{FLOWS_AT_ONCE, forgotten, keep};
use super::removal::{without_buckets, without_vip};
use super::stale;
use super::step::{Look, Refusal, Step, delete_address, lifetime, rules_step, rules_step_with};
use crate::model::bucket::BucketSet;
use crate::model::hash::Flow;
use crate::model::host::{Connection, Held, NicState, Observed};
use crate::model::mac::Mac;
use crate::model::network::Network;
use crate::model::phase::{CLOSING_MS, Phases};
use crate::model::ruleset::Ruleset;
use crate::model::vip::{L2Mode, Manager, Nic, Vip};
use crate::reading::before::before_of;
use crate::reading::installed::{
    addresses, find, installed, others_need, others_need_group, others_unreadable, phases_of,
};
use crate::reading::left_over::knows_nothing_of;
use crate::reading::wanted::with_vip;
use crate::rules::addressing::joined;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The rules are there by which buckets are offered, let go of and silent then.
pub(super) fn ready(observed: &Observed, address: IpAddr) -> Result<Vec<Step>, Refusal> {
    let found = find(&observed.rules, address).ok_or(Refusal::Unknown(address))?;
    let mut phases = found.phases;
    phases.get_ready();
    let mut steps = Vec::new();
    let wanted = with_vip(observed, &found.vip, &phases);
    rules_step(&mut steps, &mut observed.rules.clone(), wanted);
    Ok(steps)
}

/// The daemon lets go of what it offers before so much is left; who finds less does it in its place.
pub const ABANDONED_MS: u64 = 400;
/// Whoever closes a bucket lists its connections sooner.
const LISTED_WITHIN_MS: u64 = 2_000;

/// Buckets leave, and the VIP stays.
pub(super) fn release(
    observed: &Observed,
    address: IpAddr,
    buckets: &BucketSet,
    drain_ms: u64,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rules = observed.rules.clone();
    let_go(
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
    let Some(left) = let_go(observed, address, buckets, drain_ms, &mut steps, &mut rules) else {
        return steps;
    };
    if !left.owned.is_empty() || left.is_handed_over() {
        return steps;
    }
    if let Some(left_ms) = left.leaving_ms() {
        steps.extend(limit(observed, address, left_ms));
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
    // The address may be on another interface than the described one, which may have been renamed.
    let has_rules = addresses(&observed.rules).contains(&address);
    for (name, state) in &observed.nics {
        let Ok(nic) = name.parse::<Nic>() else {
            continue;
        };
        let mac = match described.as_ref().or(place) {
            Some((_, mac)) => *mac,
            None => likely_mac(state, address),
        };
        // Without its rules an address may be anybody's.
        let shared = others_need(observed, address, &nic, mac);
        let ours = |_: &&Held| has_rules || !state.is_own(address, mac, shared);
        let held: Vec<&Held> = state.forms(address).filter(ours).collect();
        let mut named = [described.as_ref(), place].into_iter().flatten();
        let here = !held.is_empty() || named.any(|(named, _)| *named == nic);
        let group = group_that_goes(observed, address, &nic, mac).filter(|_| here);
        let gone: Vec<&Held> = held.iter().copied().chain(group).collect();
        steps.extend(lasting(observed, &nic, state.without(&gone)));
        steps.extend(gone.iter().map(|held| delete_address(&nic, held)));
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

/// The MAC of a VIP of which nobody knows more than the address: of those that follow from that one that the interface
/// receives.
fn likely_mac(state: &NicState, address: IpAddr) -> Mac {
    let mut likely = L2Mode::ALL.into_iter().map(|mode| mode.mac(address));
    let received = likely.find(|mac| state.memberships.contains(mac));
    received.unwrap_or_else(|| L2Mode::default().mac(address))
}

/// The address by which this VIP alone is in the group of its MAC, if it is.
fn group_that_goes<'a>(
    observed: &'a Observed,
    address: IpAddr,
    nic: &Nic,
    mac: Mac,
) -> Option<&'a Held> {
    let group = mac.group().filter(|_| address.is_ipv4())?;
    let needed = others_need_group(observed, address, nic, group);
    joined(observed.nics.get(nic.as_str())?, group).filter(|_| !needed)
}

/// The buckets leave. Their phases then; `None` while something has to be looked at first.
fn let_go(
    observed: &Observed,
    address: IpAddr,
    buckets: Option<&BucketSet>,
    drain_ms: u64,
    steps: &mut Vec<Step>,
    rules: &mut Ruleset,
) -> Option<Phases> {
    let phases = phases_of(&observed.rules, address);
    let vip = find(&observed.rules, address).map(|found| found.vip);
    let Some(vip) = vip.filter(|_| drain_ms > 0) else {
        let wanted = without_buckets(rules, address, buckets);
        rules_step(steps, rules, wanted);
        return Some(cut(phases, buckets));
    };
    let mut phases = phases.tidied(observed.ending);
    let closing = close(&mut phases, buckets);
    if closing.is_empty() {
        return Some(phases);
    }
    let known = leaving(observed, &vip, &phases, &closing);
    if let Ok((connections, silent)) = known {
        let own = own_connections(&vip, &phases, connections, silent);
        steps.extend(drain(&vip, &mut phases, &closing, &own, drain_ms));
    }
    rules_step(steps, rules, with_vip(observed, &vip, &phases));
    match known {
        Ok(_) => Some(phases),
        Err(look) => {
            steps.push(Step::Look(address, look));
            None
        }
    }
}

/// The phases without these buckets, or without any.
fn cut(mut phases: Phases, buckets: Option<&BucketSet>) -> Phases {
    let Some(buckets) = buckets else {
        return Phases::default();
    };
    for bucket in buckets.iter() {
        phases.release(bucket);
    }
    phases
}

/// Closes these buckets, or all that are owned. Those that are closing then, of them.
fn close(phases: &mut Phases, buckets: Option<&BucketSet>) -> BucketSet {
    let asked = buckets.cloned().unwrap_or_else(|| phases.owned.clone());
    for bucket in asked.iter() {
        phases.close(bucket);
    }
    let closes = |bucket: &u16| phases.closing.contains_key(bucket);
    asked.iter().filter(closes).collect()
}

/// This node's connections: what it is silent about is none of them.
fn own_connections<'a>(
    vip: &Vip,
    phases: &Phases,
    connections: &'a [Connection],
    silent: Option<&BTreeSet<Flow>>,
) -> Vec<&'a Connection> {
    let is_silent = |connection: &&Connection| {
        let adopted = phases.adopting.contains_key(&vip.bucket(&connection.flow));
        adopted && silent.is_some_and(|silent| silent.contains(&connection.flow))
    };
    connections
        .iter()
        .filter(|connection| !is_silent(connection))
        .collect()
}

/// Has closing buckets drain that have a living connection, with all of their connections kept; the others are foreign.
fn drain(
    vip: &Vip,
    phases: &mut Phases,
    closing: &BucketSet,
    connections: &[&Connection],
    drain_ms: u64,
) -> Vec<Step> {
    let bucket_of = |connection: &Connection| vip.bucket(&connection.flow);
    let living = connections.iter().filter(|connection| connection.alive);
    let alive: BucketSet = living.map(|connection| bucket_of(connection)).collect();
    for bucket in closing.iter() {
        phases.listed(bucket, alive.contains(bucket), drain_ms);
    }
    let staying: Vec<Flow> = connections
        .iter()
        .filter(|connection| {
            let bucket = bucket_of(connection);
            closing.contains(bucket) && phases.draining.contains_key(&bucket)
        })
        .map(|connection| connection.flow)
        .collect();
    let pieces = staying.chunks(FLOWS_AT_ONCE);
    pieces
        .map(|some| Step::Rules(vec![keep(vip, some.iter(), drain_ms)]))
        .collect()
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
        // A bucket that may come is adopted in one transaction, which needs them.
        phases.adopting_rules &= phases.is_handed_over();
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
    let abandoned = abandoned(&found.phases);
    if !abandoned.is_empty() {
        let drain_ms = 1000 * u64::from(vip.drain_s);
        return release(observed, address, &abandoned, drain_ms);
    }
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

/// Buckets whose connections nobody has listed, though somebody would have by now if he lived: their time is nearly over, or
/// they have been closing for long.
fn abandoned(phases: &Phases) -> BucketSet {
    let offered = phases.offered.iter();
    let offered = offered.filter(|(_, left_ms)| **left_ms < ABANDONED_MS);
    let closing = phases.closing.iter();
    let closing = closing.filter(|(_, left_ms)| **left_ms + LISTED_WITHIN_MS < CLOSING_MS);
    offered.chain(closing).map(|(bucket, _)| *bucket).collect()
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

/// Our routes by this interface that only this VIP needs go with it.
fn routes_that_go(observed: &Observed, address: IpAddr, nic: &Nic) -> Vec<Step> {
    let Some(state) = observed.nics.get(nic.as_str()) else {
        return Vec::new();
    };
    if others_unreadable(&observed.rules, address) {
        return Vec::new();
    }
    let others = installed(&observed.rules);
    let needed = |network: &Network| {
        let mut others = others.iter().map(|other| &other.vip);
        others.any(|other| {
            other.address != address && other.nic == *nic && other.network() == Some(*network)
        })
    };
    let ours = state.routes.iter().filter(|route| route.ours);
    ours.map(|route| route.network)
        .filter(|network| network.contains(address) && !needed(network))
        .map(|network| Step::DeleteRoute {
            nic: nic.clone(),
            network,
        })
        .collect()
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
    use crate::model::change::Change;
    use crate::model::phase::OFFERED_MS;
    use crate::model::vip::tests::a_vip;
    use crate::rules::dataplane::ruleset;

    #[test]
    fn what_may_come_finds_all_that_it_needs_also_where_another_bucket_is_adopted_no_more() {
        let vip = a_vip("10.77.0.99");
        let mut phases = Phases::default();
        phases.take(1, Some(60_000));
        phases.come(2, 8_000);
        let rules = ruleset(&[(vip.clone(), phases.clone())]);
        let observed = Observed {
            rules,
            ..Observed::default()
        };
        let is_kept = |step: &Step| match step {
            Step::Rules(changes) => !changes
                .iter()
                .any(|change| matches!(change, Change::DeleteSet(..) | Change::DeleteTable(_))),
            _ => true,
        };
        let steps = adopted(&observed, vip.address, &BucketSet::one(1));
        assert!(!steps.is_empty() && steps.iter().all(is_kept), "{steps:?}");
    }

    #[test]
    fn what_nobody_looks_after_is_let_go_of_before_its_time_is_over() {
        let vip = Vip {
            drain_s: 60,
            ..a_vip("10.77.0.99")
        };
        let settled = |offered_ms: u64, closing_ms: u64| {
            let mut phases = Phases::owning(BucketSet::one(0));
            phases.offered.insert(1, offered_ms);
            phases.closing.insert(2, closing_ms);
            let observed = Observed {
                rules: ruleset(&[(vip.clone(), phases)]),
                connections: Some(Vec::new()),
                ..Observed::default()
            };
            settle(&observed, vip.address)
        };
        let goes = |offered_ms, closing_ms| {
            let steps = settled(offered_ms, closing_ms);
            assert!(steps.len() < 2, "{steps:?}");
            steps.iter().any(|step| matches!(step, Step::Rules(_)))
        };
        assert!(!goes(ABANDONED_MS, CLOSING_MS - LISTED_WITHIN_MS));
        assert!(goes(ABANDONED_MS - 1, CLOSING_MS));
        assert!(goes(OFFERED_MS, CLOSING_MS - LISTED_WITHIN_MS - 1));
    }
}
