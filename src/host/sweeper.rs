//! What is left when buckets have left: looked after by one process that nobody waits for.
//!
//! It answers for nothing: whatever can answer a packet ends by the kernel's own timeouts. It makes room
//! sooner, where all connections of a bucket have ended, takes away what would otherwise lie there until
//! the next action, and ends the sockets of connections whose time is over. If it is killed, these stay
//! until their programs give them up; no packet reaches them meanwhile.

use super::lock::{Lock, LockError, lock, try_sweeper};
use super::observe::{Kernel, ObserveError, flow_of};
use super::reach::{ReachError, reach};
use crate::model::hash::Flow;
use crate::model::phase::Phase;
use crate::model::ruleset::Ruleset;
use crate::model::vip::Vip;
use crate::plan::installed::{Installed, installed, phases_of};
use crate::plan::steps::Intent;
use crate::sys::connections::abort;
use crate::sys::process::detach;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tracing::{debug, info};

/// How often it looks whether connections have ended.
const PAUSE: Duration = Duration::from_secs(2);
/// For the first time it looks sooner, to see the flows of short deadlines too.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// It rests for so many times as long as it was at work: with many VIPs it has much to do, and holds the lock for it.
const SHARE: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long it waits for others' changes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is left could not be looked after.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Somebody else is at it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The host cannot be looked at.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// What has ended could not be taken away.
    #[error(transparent)]
    Reach(#[from] ReachError),
}

/// Leaves the sweeper behind, unless there is one.
pub fn sweep_later() {
    if let Err(error) = detach(sweep) {
        debug!("what is left is left to the next action: {error}");
    }
}

fn sweep() {
    // One is enough: it sees what all of them would.
    let Some(only) = try_sweeper() else {
        return;
    };
    let mut drained = Drained::default();
    let mut pause = FIRST_PAUSE;
    let mut until = Instant::now() + PATIENCE;
    loop {
        std::thread::sleep(pause);
        let begin = Instant::now();
        let passed = pass(&mut drained);
        pause = PAUSE.max(SHARE * begin.elapsed()).min(LONGEST_PAUSE);
        match passed {
            Ok(Passed {
                left_ms: Some(left_ms),
                ..
            }) => {
                until = Instant::now() + Duration::from_millis(left_ms) + PATIENCE;
            }
            // While the lock is held nobody adds anything that the next sweeper would not see.
            Ok(Passed { lock, rules, .. }) => {
                only.remove();
                return lock.end(&rules);
            }
            // It is tried again, but not for ever: the kernel has ended what can answer.
            Err(error) if Instant::now() < until => debug!("{error}"),
            Err(error) => {
                debug!("{error}");
                return;
            }
        }
    }
}

/// The flows that have drained here since the sweeper began, and whose sockets may still be there.
type Drained = BTreeMap<IpAddr, (Vip, BTreeSet<Flow>)>;

/// What is left after a look, and the lock under which it was looked.
struct Passed {
    lock: Lock,
    rules: Ruleset,
    left_ms: Option<u64>,
}

/// Settles all VIPs, and ends connections whose time is over, so that no program waits for them.
fn pass(drained: &mut Drained) -> Result<Passed, SweepError> {
    let lock = lock(PATIENCE)?;
    let settled = settle(&mut Kernel::open()?)?;
    for (vip, flows) in settled.flows {
        let known = drained.entry(vip.address);
        let (_, known) = known.or_insert_with(|| (vip, BTreeSet::new()));
        known.extend(flows);
    }
    for (address, (vip, flows)) in drained {
        let phases = phases_of(&settled.rules, *address);
        let is_over = |flow: &Flow| phases.of(vip.bucket(flow)) == Phase::Foreign;
        let over: BTreeSet<Flow> = flows.iter().copied().filter(is_over).collect();
        if over.is_empty() {
            continue;
        }
        match abort(*address, |found| {
            found.alive && over.contains(&flow_of(found))
        }) {
            Ok(0) => {}
            Ok(ended) => info!("{ended} connections to {address} have been ended"),
            Err(error) => debug!("{error}"),
        }
        flows.retain(|flow| !over.contains(flow));
    }
    match settled.failed {
        Some(error) => Err(error.into()),
        None => Ok(Passed {
            lock,
            rules: settled.rules,
            left_ms: settled.left_ms,
        }),
    }
}

/// What was taken away, and what not.
pub struct Settled {
    /// VIPs of which buckets drained, and the flows that stayed of them.
    flows: Vec<(Vip, BTreeSet<Flow>)>,
    /// The rules then.
    pub rules: Ruleset,
    /// In how many milliseconds all that is still on its way out has ended, if anything is.
    left_ms: Option<u64>,
    /// What kept some VIP from being settled; the others are.
    pub failed: Option<ReachError>,
}

/// Settles all VIPs. The caller holds the lock.
///
/// # Errors
/// The host cannot be looked at.
pub fn settle(kernel: &mut Kernel) -> Result<Settled, ObserveError> {
    let (observed, _) = kernel.observe(None, None)?;
    let vips = installed(&observed.rules);
    let mut settled = Settled {
        flows: Vec::new(),
        rules: observed.rules,
        left_ms: None,
        failed: None,
    };
    for Installed { vip, phases } in vips {
        if !phases.needs_leaving_rules() && !phases.needs_adopting_rules() {
            continue;
        }
        let address = vip.address;
        match reach(kernel, &Intent::Settle { address }, Default::default()) {
            Ok(reached) => {
                settled.rules = reached.observed.rules;
                let phases = phases_of(&settled.rules, address);
                settled.left_ms = settled.left_ms.max(phases.leaving_ms());
                if reached.observed.ending {
                    settled.left_ms = settled.left_ms.max(Some(0));
                }
                if let Some(flows) = reached.observed.flows {
                    settled.flows.push((vip, flows));
                }
            }
            Err(error) => settled.failed = Some(error),
        }
    }
    Ok(settled)
}
