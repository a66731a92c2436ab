//! How buckets come to this node, and a VIP before its first one. Pure.
//!
//! First the others' consent, the rules that drop foreign packets, the second lock, the membership, the address, and
//! only then the buckets. Coming repairs whatever is not as it should be.

use super::flows::forgotten;
use super::stale::{self, Left};
use super::step::{
    Look, Refusal, Step, When, delete_address, lifetime, rules_step, rules_step_with,
};
use crate::model::bucket::BucketSet;
use crate::model::host::{Held, Master, NicState, Observed};
use crate::model::mac::Mac;
use crate::model::phase::Phases;
use crate::model::ruleset::Ruleset;
use crate::model::vip::{Nic, Vip};
use crate::reading::installed::{Installed, find, is_unreadable, others_need, phases_of};
use crate::reading::left_over::is_left_over;
use crate::reading::wanted::with_vip;
use crate::rules::addressing::{is_in_group, is_right, needed_route, needs_membership};
use std::net::IpAddr;

/// How buckets come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Coming {
    /// By these steps.
    By(Vec<Step>),
    /// After what is left of the VIP by another description, with nothing that answers. It goes first: by
    /// somebody who was interrupted, or whose buckets drain; their connections cannot be told by another hash.
    AfterWhatIsLeft,
}

/// These buckets come, and everything else of the VIP that is not there.
pub(super) fn take(
    observed: &Observed,
    vip: &Vip,
    buckets: &BucketSet,
    adopt_ms: Option<u64>,
) -> Result<Coming, Refusal> {
    let adopts = adopt_ms.is_some_and(|ms| ms > 0);
    arrive(observed, vip, adopts, |held| {
        let mut all = held.clone();
        for bucket in buckets.without(&held.owned).iter() {
            all.take(bucket, adopt_ms);
        }
        (all.clone(), all)
    })
}

/// Everything of the VIP comes but these buckets, which the daemon may take then.
pub(super) fn come(
    observed: &Observed,
    vip: &Vip,
    buckets: &BucketSet,
    within_ms: u64,
) -> Result<Coming, Refusal> {
    arrive(observed, vip, true, |held| {
        let mut ready = held.clone();
        // It was asked for anew, and has its whole time.
        for bucket in buckets.without(&held.owned).iter() {
            if !held.coming.contains_key(&bucket) {
                ready.come(bucket, within_ms);
            }
        }
        ready.adopting_rules |= !ready.coming.is_empty();
        let mut taken = ready.clone();
        for bucket in buckets.iter() {
            taken.take(bucket, None);
        }
        (ready, taken)
    })
}

/// The VIP comes to the phases that `then` makes of those that are here; and those that it is made ready for.
fn arrive(
    observed: &Observed,
    vip: &Vip,
    adopts: bool,
    then: impl FnOnce(&Phases) -> (Phases, Phases),
) -> Result<Coming, Refusal> {
    let state = suitable(observed, vip)?;
    let found = match standing(observed, vip)? {
        Standing::InTheWay => return Ok(Coming::AfterWhatIsLeft),
        Standing::Here(found) => Some(*found),
        Standing::Nothing => None,
    };
    let mut steps = Vec::new();
    if found.is_none() {
        steps.push(Step::Agree(vip.clone(), When::BeforeItComes));
    }
    // The rest of the description stays as it was found.
    let vip = &found.as_ref().map_or(vip, |found| &found.vip).clone();
    let held = held(observed, found, adopts);
    let mut rules = observed.rules.clone();
    let outside = outside(state, vip);
    if !outside.is_empty() {
        // Nothing of the VIP may be there before the rules that drop what is foreign.
        rules_step(&mut steps, &mut rules, with_vip(observed, vip, &held));
        steps.extend(outside);
    }
    let (all, ready_for) = then(&held);
    let serves = |phases: &Phases| !phases.owned.is_empty() || phases.is_handed_over();
    if !serves(&held) && serves(&all) {
        steps.push(Step::Agree(vip.clone(), When::BeforeItServes));
    }
    match buckets_come(observed, vip, held, &all, &ready_for, adopts, rules) {
        Ok(coming) => steps.extend(coming),
        Err(look) => steps.push(Step::Look(vip.address, look)),
    }
    Ok(Coming::By(steps))
}

/// From these phases to those: what this node has given up ends of what is to be served then, what is left of it falls
/// silent, and only then the buckets are served.
fn buckets_come(
    observed: &Observed,
    vip: &Vip,
    held: Phases,
    all: &Phases,
    ready_for: &Phases,
    adopts: bool,
    mut rules: Ruleset,
) -> Result<Vec<Step>, Look> {
    let coming = ready_for.owned.without(&held.owned);
    let back = held.leaving().without(&all.leaving());
    let Left { given_up, loud } = stale::left(observed, vip, &coming, &held, adopts)?;
    let forgotten = forgotten(observed, vip, &back, all).ok_or(Look::Flows)?;
    let mut steps = Vec::new();
    if !given_up.is_empty() {
        steps.push(Step::Abort(vip.address, given_up));
    }
    if !loud.is_empty() {
        let mut ready = held;
        ready.adopting_rules = true;
        rules_step(&mut steps, &mut rules, with_vip(observed, vip, &ready));
        steps.push(Step::Silence(vip.address, loud));
    }
    rules_step_with(
        &mut steps,
        &mut rules,
        with_vip(observed, vip, all),
        forgotten,
    );
    Ok(steps)
}

/// The interface, if a VIP can be on it.
fn suitable<'a>(observed: &'a Observed, vip: &Vip) -> Result<&'a NicState, Refusal> {
    let state = observed
        .nics
        .get(vip.nic.as_str())
        .ok_or_else(|| Refusal::NoInterface(vip.nic.clone()))?;
    if state.mac.is_none() {
        return Err(Refusal::NotEthernet(vip.nic.clone()));
    }
    if let Some(Master { name, kind }) = &state.master {
        return Err(Refusal::Enslaved {
            nic: vip.nic.clone(),
            master: name.clone(),
            kind: kind.clone(),
        });
    }
    if let Some(beneath) = state.answers_beneath(vip.address, vip.mode) {
        return Err(Refusal::Beneath {
            address: vip.address,
            nic: vip.nic.clone(),
            beneath: beneath.clone(),
        });
    }
    if vip.address.is_ipv6() && state.ip6_off {
        return Err(Refusal::NoIp6(vip.nic.clone()));
    }
    Ok(state)
}

/// What there is of the VIP already.
enum Standing {
    /// Nothing, or what a file has left over, which is made anew.
    Nothing,
    /// The VIP as it is asked for.
    Here(Box<Installed>),
    /// What is left of it by another description, and answers nothing.
    InTheWay,
}

fn standing(observed: &Observed, vip: &Vip) -> Result<Standing, Refusal> {
    if is_left_over(observed, vip.address) {
        return Ok(Standing::Nothing);
    }
    let other = |held, differences| Refusal::OtherDescription {
        address: vip.address,
        held,
        differences,
    };
    match find(&observed.rules, vip.address) {
        Some(found) if found.vip.is_like(vip) => Ok(Standing::Here(Box::new(found))),
        Some(found) if found.phases.owned.is_empty() => Ok(Standing::InTheWay),
        Some(found) => Err(other(found.phases.owned, found.vip.differences(vip))),
        None if is_unreadable(&observed.rules, vip.address) => {
            let held = phases_of(&observed.rules, vip.address).owned;
            match held.is_empty() {
                true => Ok(Standing::InTheWay),
                false => Err(other(held, "it cannot be read".to_owned())),
            }
        }
        None if is_own(observed, vip.address, &vip.nic, vip.mac) => Err(Refusal::OwnAddress {
            address: vip.address,
            nic: vip.nic.clone(),
        }),
        None => Ok(Standing::Nothing),
    }
}

/// Does an address that no rules are for look like the node's own there?
pub fn is_own(observed: &Observed, address: IpAddr, nic: &Nic, mac: Mac) -> bool {
    let shared = others_need(observed, address, nic, mac);
    let state = observed.nics.get(nic.as_str());
    state.is_some_and(|state| state.is_own(address, mac, shared))
}

/// The phases of the buckets that are here, and whether what is silent already is to stay so.
fn held(observed: &Observed, found: Option<Installed>, adopts: bool) -> Phases {
    let held = found.map(|found| found.phases).unwrap_or_default();
    let stays_silent = adopts && held.adopting_rules;
    let mut held = held.tidied(observed.ending);
    held.adopting_rules |= stays_silent;
    held
}

/// What is missing outside of the rules.
fn outside(state: &NicState, vip: &Vip) -> Vec<Step> {
    let mut steps = Vec::new();
    if vip.needs_lock() && state.lock(vip.address) == Some(false) {
        steps.push(Step::Lock {
            nic: vip.nic.clone(),
            family: vip.address,
            on: true,
        });
    }
    if needs_membership(vip) && !state.memberships.contains(&vip.mac) {
        steps.push(Step::Join {
            nic: vip.nic.clone(),
            mac: vip.mac,
        });
    }
    if let Some(group) = vip.group().filter(|group| !is_in_group(state, *group)) {
        let nic = vip.nic.clone();
        steps.push(Step::JoinGroup { nic, group });
    }
    if !state.admin_up {
        steps.push(Step::SetUp(vip.nic.clone()));
    }
    steps.extend(addressing(state, vip));
    steps
}

/// What is missing of the VIP's address and of the way to its network, and what is in its place.
fn addressing(state: &NicState, vip: &Vip) -> Vec<Step> {
    let mut steps = Vec::new();
    let forms = || state.forms(vip.address);
    let wrong = forms().filter(|held| !is_right(held, vip));
    // Of an IPv4 address two forms can be there at once, so that it is never gone.
    let can_wait = |held: &&Held| vip.address.is_ipv4() && held.prefix != 32;
    let (last, first): (Vec<&Held>, Vec<&Held>) = wrong.partition(can_wait);
    steps.extend(first.into_iter().map(|held| delete_address(&vip.nic, held)));
    let right = forms().find(|held| is_right(held, vip));
    match right {
        None => steps.push(Step::AddAddress(vip.clone())),
        Some(held) if held.valid_s.is_some() => {
            steps.push(lifetime(&vip.nic, held, None));
        }
        Some(_) => {}
    }
    steps.extend(last.into_iter().map(|held| delete_address(&vip.nic, held)));
    let route = needed_route(state, vip);
    if let Some(network) = route.filter(|network| !state.has_route_of_ours(network)) {
        let nic = vip.nic.clone();
        steps.push(Step::AddRoute { nic, network });
    }
    if right.is_none() {
        steps.push(Step::Announce(vip.clone()));
    }
    steps
}
