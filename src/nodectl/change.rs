//! `up`, `down`, `take` and `release`; `drain` has the rest.

use super::cli::{Down, Move, Release, Take, Up};
use super::context::{Context, known, look};
use super::describe::described;
use super::failure::{DATA, Failure, NOT_PERMITTED};
use super::outcome::Outcome;
use crate::host::announce::Announcements;
use crate::host::apply::Manners;
use crate::host::cautions::{cautions, warn_of};
use crate::host::lock::{Lock, lock};
use crate::host::observe::Kernel;
use crate::host::reach::{Reached, reach};
use crate::host::sweeper::sweep_what_is_left;
use crate::host::turns;
use crate::model::bucket::BucketSet;
use crate::model::phase::Phases;
use crate::model::predecessor::Predecessor;
use crate::model::untrusted::quoted;
use crate::model::vip::{DRAIN_S, Manager, Vip};
use crate::plan::step::Intent;
use crate::reading::installed::{Installed, addresses, find, phases_of};
use crate::reading::left_over::is_left_over;
use std::net::IpAddr;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// `nodectl up`.
pub fn up(args: &Up) -> Result<Outcome, Failure> {
    let (_lock, mut kernel) = begin()?;
    let vip = described(
        &mut kernel,
        args.vip.address,
        args.vip.prefix,
        &args.describe,
    )?;
    let buckets = args.own.clone().unwrap_or_default();
    within(&buckets, &vip)?;
    let (observed, _) = kernel.observe(Some(&vip.nic), Some(vip.address))?;
    let address = vip.address;
    // What a saved file has left over belongs to nobody.
    let found = find(&observed.rules, address).filter(|_| !is_left_over(&observed, address));
    let was_here = found.is_some();
    let mode = found.as_ref().map(|found| found.vip.mode);
    let other_mode = mode.filter(|mode| *mode != vip.mode);
    let vip = match found {
        None => vip,
        Some(found) => {
            require_manual(&found, args.force)?;
            let vip = Vip {
                drain_s: kept_drain(&found, &vip, args.describe.drain_s)?,
                ..vip
            };
            // By force it stays whose it was.
            let manager = found.vip.manager;
            Vip { manager, ..vip }
        }
    };
    // Nothing drains yet where an address begins.
    let usual = if was_here {
        usual_drain(&vip)
    } else {
        vip.drain_s
    };
    let adopt_s = args.adopt.unwrap_or(usual);
    let shown = vip.clone();
    let taken = take_buckets(
        &mut kernel,
        vip,
        buckets,
        adopt_s,
        manners(args.force, args.describe.compat.0),
    );
    if taken.is_err() && !was_here {
        // What did not come up as a whole does not stay; the error is what matters.
        let now = kernel.observe(None, Some(address)).map(|(now, _)| now);
        if now.is_ok_and(|now| addresses(&now.rules).contains(&address)) {
            let _ = leave(&mut kernel, address);
        }
    }
    if taken.is_ok() && !was_here {
        warn_of(cautions(&mut kernel, &observed, &shown));
    }
    taken.map_err(|failure| match other_mode {
        None => failure,
        Some(mode) => Failure {
            message: format!(
                "{}. If its mode is to stay: give --mode {mode}",
                failure.message
            ),
            ..failure
        },
    })
}

/// The drain time-out of a VIP that is here already: its own, as long as it is not replaced as a whole.
fn kept_drain(found: &Installed, wanted: &Vip, asked: Option<u32>) -> Result<u32, Failure> {
    let is_replaced = !found.vip.is_like(wanted) && found.phases.owned.is_empty();
    let drain_s = found.vip.drain_s;
    match asked {
        _ if is_replaced => Ok(wanted.drain_s),
        Some(asked) if asked != drain_s => Err(Failure::new(
            DATA,
            format!(
                "{} is here with a drain time-out of {drain_s} s, which it keeps while it is here; take it \
                 down first, or use 'nodectl drain --timeout' and 'take --adopt'",
                wanted.address
            ),
        )),
        _ => Ok(drain_s),
    }
}

/// `nodectl take`.
pub fn take(args: &Take) -> Result<Outcome, Failure> {
    let (_lock, mut kernel, found) = begin_move(&args.buckets)?;
    let Move { buckets, force, .. } = &args.buckets;
    let manners = manners(*force, args.compat.0);
    let adopt_s = args.adopt.unwrap_or_else(|| usual_drain(&found.vip));
    take_buckets(&mut kernel, found.vip, buckets.clone(), adopt_s, manners)
}

/// For how long buckets drain unless somebody says otherwise, and so for how long who takes them adopts.
pub(super) fn usual_drain(vip: &Vip) -> u32 {
    match vip.drain_s {
        0 => DRAIN_S,
        drain_s => drain_s,
    }
}

/// `nodectl release`.
pub fn release(args: &Release, context: &Context) -> Result<Outcome, Failure> {
    let (lock, mut kernel, found) = begin_move(&args.buckets)?;
    let drain_s = if args.now { 0 } else { found.vip.drain_s };
    leave_buckets(lock, &mut kernel, &found, &args.buckets, drain_s, context)
}

/// Buckets leave, their connections within so many seconds; or they stay, where that fails.
pub(super) fn leave_buckets(
    lock: Lock,
    kernel: &mut Kernel,
    found: &Installed,
    args: &Move,
    drain_s: u32,
    context: &Context,
) -> Result<Outcome, Failure> {
    let address = args.vip;
    let intent = Intent::Release {
        address,
        buckets: args.buckets.clone(),
        drain_ms: 1000 * u64::from(drain_s),
    };
    let reached = match reach(kernel, &intent, manners(false, None)) {
        // Half gone they would be dark in a moment.
        Err(error) if drain_s > 0 => {
            let back = Intent::Take {
                vip: found.vip.clone(),
                buckets: found.phases.owned.shared_with(&args.buckets),
                adopt_ms: None,
            };
            reach(kernel, &back, manners(true, None))?;
            return Err(error.into());
        }
        reached => reached?,
    };
    drop(lock);
    sweep_what_is_left(address, Some(&reached.observed));
    let phases = phases_of(&reached.observed.rules, address);
    let outcome = Outcome::after(&reached, address);
    // Pacemaker's come back by themselves; nobody is to take them.
    let by_hand = found.vip.manager == Manager::Manual;
    let was_here = found.phases.owned.union(&phases.leaving());
    let gone = args.buckets.shared_with(&was_here);
    Ok(match by_hand && !gone.is_empty() {
        true => outcome.followed_by(taking(address, &gone, &phases, context.netns)),
        false => outcome,
    })
}

/// What is to be said on the node that takes these buckets; nothing where the name of the namespace cannot be
/// written.
fn taking(
    address: IpAddr,
    buckets: &BucketSet,
    phases: &Phases,
    netns: Option<&str>,
) -> Option<String> {
    let left = buckets.iter().filter_map(|bucket| phases.left_ms(bucket));
    let adopt_s = left.max().unwrap_or_default().div_ceil(1000);
    let netns = match netns {
        Some(netns) => format!(" --netns={}", quoted(netns)?),
        None => String::new(),
    };
    Some(format!(
        "nodectl take {address} {buckets} --adopt {adopt_s}{netns}"
    ))
}

/// `nodectl down`. A VIP whose rules are gone is known by its address and its membership.
pub fn down(args: &Down) -> Result<Outcome, Failure> {
    let (lock, mut kernel) = begin()?;
    let (observed, _) = kernel.observe(None, Some(args.vip))?;
    let found = find(&observed.rules, args.vip).filter(|_| !is_left_over(&observed, args.vip));
    if let Some(found) = found {
        require_manual(&found, args.force)?;
    }
    let Reached { done, observed } = leave(&mut kernel, args.vip)?;
    sweep_what_is_left(args.vip, Some(&observed));
    turns::end(lock, &observed.rules);
    // Its rules may stay for a moment, without it.
    Ok(Outcome::gone(args.vip, !done.is_empty()))
}

fn leave(kernel: &mut Kernel, address: IpAddr) -> Result<Reached, Failure> {
    let intent = Intent::Leave {
        address,
        buckets: None,
        drain_ms: 0,
        place: None,
    };
    Ok(reach(kernel, &intent, manners(false, None))?)
}

pub(super) fn within(buckets: &BucketSet, vip: &Vip) -> Result<(), Failure> {
    buckets
        .within(vip.buckets)
        .map_err(|error| Failure::new(DATA, error))
}

fn begin() -> Result<(Lock, Kernel), Failure> {
    // Without the privilege the lock's directory may not even exist: say what is really wrong.
    let (kernel, _) = look()?;
    Ok((lock(PATIENCE)?, kernel))
}

pub(super) fn take_buckets(
    kernel: &mut Kernel,
    vip: Vip,
    buckets: BucketSet,
    adopt_s: u32,
    manners: Manners,
) -> Result<Outcome, Failure> {
    let address = vip.address;
    let intent = Intent::Take {
        vip,
        buckets,
        adopt_ms: Some(1000 * u64::from(adopt_s)),
    };
    let reached = reach(kernel, &intent, manners)?;
    sweep_what_is_left(address, Some(&reached.observed));
    Ok(Outcome::after(&reached, address))
}

/// By force nobody is asked.
pub(super) fn manners(force: bool, beside: Option<Predecessor>) -> Manners {
    Manners {
        announcements: Announcements::default(),
        ask: !force,
        beside,
    }
}

/// What a move of buckets begins with: the lock, and the VIP, which must be a person's to change.
pub(super) fn begin_move(args: &Move) -> Result<(Lock, Kernel, Installed), Failure> {
    let (lock, mut kernel) = begin()?;
    let (observed, _) = kernel.observe(None, None)?;
    let found = known(&observed, args.vip)?;
    require_manual(&found, args.force)?;
    within(&args.buckets, &found.vip)?;
    Ok((lock, kernel, found))
}

fn require_manual(found: &Installed, force: bool) -> Result<(), Failure> {
    match &found.vip.manager {
        Manager::Pacemaker(resource) if !force => Err(Failure::new(
            NOT_PERMITTED,
            format!(
                "{} is managed by Pacemaker (resource {resource}), which would undo the change or \
                 see a failure; move its instances with crm or pcs, or use --force",
                found.vip.address
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_for_the_other_node_is_one_that_a_shell_understands() {
        let line = |netns| {
            let phases = Phases::default();
            taking([10, 0, 0, 99].into(), &BucketSet::one(3), &phases, netns)
        };
        let whole = |end: &str| Some(format!("nodectl take 10.0.0.99 3 --adopt 0{end}"));
        assert_eq!(line(None), whole(""));
        assert_eq!(line(Some("web")), whole(" --netns=web"));
        assert_eq!(line(Some("a b;c")), whole(" --netns='a b;c'"));
        assert_eq!(line(Some("a\u{202e}b")), None);
    }
}
