//! What is left when buckets have left: looked after by one process that nobody waits for.
//!
//! It holds no state and answers for nothing: whatever can answer a packet ends by the kernel's own
//! timeouts. It only makes room sooner, where all connections of a bucket have ended, and takes away
//! what would otherwise lie there until the next action. Whoever kills it does no harm.

use super::lock::{Lock, lock, try_sweeper};
use super::observe::{Kernel, flow_of};
use super::reach::reach;
use crate::model::hash::Flow;
use crate::model::phase::Phase;
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
/// How long it waits for others' changes.
const PATIENCE: Duration = Duration::from_secs(20);

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
    let mut until = Instant::now() + PATIENCE;
    loop {
        std::thread::sleep(PAUSE);
        match pass(&mut drained) {
            Ok((_, Some(left_ms))) => {
                until = Instant::now() + Duration::from_millis(left_ms) + PATIENCE;
            }
            // While the lock is held nobody adds anything that the next sweeper would not see.
            Ok((lock, None)) => {
                only.remove();
                drop(lock);
                return;
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

type Broken = Box<dyn std::error::Error>;

/// The flows that have drained here since the sweeper began, by VIP.
type Drained = BTreeMap<IpAddr, BTreeSet<Flow>>;

/// Settles all VIPs, and ends connections whose time is over, so that no program waits for them.
fn pass(drained: &mut Drained) -> Result<(Lock, Option<u64>), Broken> {
    let lock = lock(PATIENCE)?;
    let mut kernel = Kernel::open()?;
    let (before, _) = kernel.observe(None, None)?;
    for Installed { vip, phases } in installed(&before.rules) {
        if !phases.leaving().is_empty() {
            let flows = kernel.flows(vip.address)?;
            drained.entry(vip.address).or_default().extend(flows);
        }
    }
    let left = settle(&mut kernel)?;
    let (after, _) = kernel.observe(None, None)?;
    for Installed { vip, .. } in installed(&before.rules) {
        let Some(flows) = drained.get(&vip.address) else {
            continue;
        };
        let phases = phases_of(&after.rules, vip.address);
        let over = |flow: &Flow| phases.of(vip.bucket(flow)) == Phase::Foreign;
        let all = kernel.connections(&before, vip.address)?.into_iter();
        let over: BTreeSet<Flow> = all
            .filter(|connection| connection.alive && flows.contains(&connection.flow))
            .map(|connection| connection.flow)
            .filter(over)
            .collect();
        if over.is_empty() {
            continue;
        }
        match abort(vip.address, |found| over.contains(&flow_of(found))) {
            Ok(0) => {}
            Ok(ended) => info!("{ended} connections to {} have been ended", vip.address),
            Err(error) => debug!("{error}"),
        }
    }
    Ok((lock, left))
}

/// Settles all VIPs. In how many milliseconds all that is still on its way out has ended, if anything
/// is. The caller holds the lock.
///
/// # Errors
/// What kept some VIP from being settled; the others are.
pub fn settle(kernel: &mut Kernel) -> Result<Option<u64>, Broken> {
    let (observed, _) = kernel.observe(None, None)?;
    let (mut left, mut wrong) = (None, None);
    for Installed { vip, phases } in installed(&observed.rules) {
        if !phases.needs_leaving_rules() && !phases.needs_adopting_rules() {
            continue;
        }
        let intent = Intent::Settle {
            address: vip.address,
        };
        match reach(kernel, &intent, Default::default()) {
            Ok(reached) => {
                let phases = phases_of(&reached.observed.rules, vip.address);
                left = left.max(phases.leaving_ms());
            }
            Err(error) => wrong = Some(error),
        }
    }
    match wrong {
        Some(error) => Err(error.into()),
        None => Ok(left),
    }
}
