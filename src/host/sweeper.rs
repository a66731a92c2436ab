//! What is left when buckets have left: looked after by one process that nobody waits for.
//!
//! It answers for nothing: whatever can answer a packet ends by the kernel's own timeouts. It makes room
//! sooner, where all connections of a bucket have ended, takes away what would otherwise lie there until
//! the next action, and ends the sockets of connections whose time is over. If it is killed, these stay
//! until their programs give them up; no packet reaches them meanwhile.

use super::lock::{Lock, lock};
use super::observe::{Kernel, ObserveError, flow_of};
use super::reach::{ReachError, UnderLockError, reach};
use super::turns;
use crate::model::hash::Flow;
use crate::model::host::Observed;
use crate::model::phase::{Phase, Phases};
use crate::model::ruleset::Ruleset;
use crate::model::vip::Vip;
use crate::plan::ABANDONED_MS;
use crate::plan::step::Intent;
use crate::reading::installed::{Installed, installed, phases_of};
use crate::sys::connections::{Connection, abort};
use crate::sys::process::detach;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tracing::{debug, info};

/// How often it looks whether connections have ended.
const PAUSE: Duration = Duration::from_secs(2);
/// For the first time it looks sooner, to see the flows of short deadlines too.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// And no sooner than that.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
/// It rests for so many times as long as it was at work: with many VIPs it has much to do, and holds the lock for it.
const SHARE: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long it waits for others' changes.
const PATIENCE: Duration = Duration::from_secs(20);
/// For how long it tries again what has failed; whoever held the lock so long was killed by Pacemaker.
const INSIST: Duration = Duration::from_secs(300);

/// Leaves the sweeper behind, unless there is one, if anything of the VIP is left. `seen` is the host after what was
/// done; `None` where nobody has looked.
pub fn sweep_what_is_left(address: IpAddr, seen: Option<&Observed>) {
    if !is_any_left(address, seen) {
        return;
    }
    if let Err(error) = detach(sweep) {
        debug!("what is left is left to the next action: {error}");
    }
}

/// Is anything left of the VIP that is over later: buckets on their way out, or what the kernel has not yet let go of?
/// Where buckets came beside others that leave, there is a sweeper already, and a second one ends at once, unless the
/// first was killed.
fn is_any_left(address: IpAddr, seen: Option<&Observed>) -> bool {
    seen.is_none_or(|seen| {
        let phases = phases_of(&seen.rules, address);
        seen.ending || !phases.leaving().is_empty() || phases.is_handed_over()
    })
}

fn sweep() {
    // One is enough: it sees what all of them would.
    let Some(only) = turns::try_sweeper() else {
        return;
    };
    let mut drained = DrainedFlows::default();
    let mut pause = FIRST_PAUSE;
    let mut until = Instant::now() + INSIST;
    loop {
        std::thread::sleep(pause);
        let begin = Instant::now();
        let passed = pass(&mut drained);
        pause = PAUSE.max(SHARE * begin.elapsed()).min(LONGEST_PAUSE);
        match passed {
            Ok(Passed {
                left_ms: Some(left_ms),
                rules,
                ..
            }) => {
                pause = pause.min(until_abandoned(&rules).unwrap_or(pause));
                until = Instant::now() + Duration::from_millis(left_ms) + INSIST;
            }
            // While the lock is held nobody adds anything that the next sweeper would not see.
            Ok(Passed { lock, rules, .. }) => {
                only.remove();
                return turns::end(lock, &rules);
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

/// How long it is until something that is offered is to be let go of, if the daemon does not live that would.
fn until_abandoned(rules: &Ruleset) -> Option<Duration> {
    let all = installed(rules).into_iter();
    let left_ms = all
        .flat_map(|known| known.phases.offered.into_values())
        .min()?;
    let left_ms = left_ms.saturating_sub(ABANDONED_MS);
    Some(Duration::from_millis(left_ms).max(LEAST_PAUSE))
}

/// The flows that have drained here since the sweeper began, and whose sockets may still be there.
type DrainedFlows = BTreeMap<IpAddr, (Vip, BTreeSet<Flow>)>;

/// What is left after a look, and the lock under which it was looked.
struct Passed {
    lock: Lock,
    rules: Ruleset,
    left_ms: Option<u64>,
}

/// Settles all VIPs, and ends connections whose time is over, so that no program waits for them.
fn pass(drained: &mut DrainedFlows) -> Result<Passed, UnderLockError> {
    let lock = lock(PATIENCE)?;
    let settled = settle(&mut Kernel::open()?)?;
    for (address, over) in time_is_over(drained, settled.flows, &settled.rules) {
        match abort(address, |found| is_to_end(found, &over)) {
            Ok(0) => {}
            Ok(ended) => info!("{ended} connections to {address} have been ended"),
            Err(error) => debug!("{error}"),
        }
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

/// Is it one of these flows, which nothing else ends?
fn is_to_end(found: &Connection, over: &BTreeSet<Flow>) -> bool {
    found.alive && over.contains(&flow_of(found))
}

/// The flows whose buckets are foreign by now, of those known and those that drained until now. They are told
/// once: what comes later with the same ports is another connection.
fn time_is_over(
    drained: &mut DrainedFlows,
    now: Vec<(Vip, BTreeSet<Flow>)>,
    rules: &Ruleset,
) -> Vec<(IpAddr, BTreeSet<Flow>)> {
    for (vip, flows) in now {
        let known = drained.entry(vip.address);
        let (_, known) = known.or_insert_with(|| (vip, BTreeSet::new()));
        known.extend(flows);
    }
    let over = drained.iter_mut().map(|(address, (vip, flows))| {
        let phases = phases_of(rules, *address);
        let is_over = |flow: &Flow| phases.of(vip.bucket(flow)) == Phase::Foreign;
        let (over, staying) = std::mem::take(flows).into_iter().partition(is_over);
        *flows = staying;
        (*address, over)
    });
    over.filter(|(_, over): &(_, BTreeSet<Flow>)| !over.is_empty())
        .collect()
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
        if !is_unsettled(&phases) {
            continue;
        }
        let address = vip.address;
        match reach(kernel, &Intent::Settle { address }, Default::default()) {
            Ok(reached) => {
                settled.rules = reached.observed.rules;
                let phases = phases_of(&settled.rules, address);
                settled.left_ms = settled.left_ms.max(phases.moving_ms());
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

/// Is there anything that ends? Without a bucket it is what a stop left that could not look.
fn is_unsettled(phases: &Phases) -> bool {
    let moving = phases.needs_leaving_rules() || phases.needs_handover_rules();
    moving || phases.needs_adopting_rules() || phases.is_idle()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bucket::BucketSet;
    use crate::model::vip::tests::a_vip;
    use crate::rules::dataplane::ruleset;

    #[test]
    fn a_sweeper_is_left_for_what_leaves_for_what_the_kernel_holds_and_for_what_nobody_saw() {
        let vip = a_vip("10.77.0.99");
        let of = |make: fn(&mut Phases), ending| {
            let mut phases = Phases::owning(BucketSet::one(0));
            make(&mut phases);
            Observed {
                rules: ruleset(&[(vip.clone(), phases)]),
                ending,
                ..Observed::default()
            }
        };
        let gone = |ending| Observed {
            ending,
            ..Observed::default()
        };
        for (seen, left) in [
            (Some(gone(false)), false),
            (Some(gone(true)), true),
            (Some(of(|_| {}, false)), false),
            (Some(of(|_| {}, true)), true),
            (
                Some(of(|it| it.closing = BTreeMap::from([(1, 1_000)]), false)),
                true,
            ),
            (
                Some(of(|it| it.draining = BTreeMap::from([(1, 1_000)]), false)),
                true,
            ),
            // Those have a process of their own, and the monitor.
            (
                Some(of(|it| it.adopting = BTreeMap::from([(0, 1_000)]), false)),
                false,
            ),
            (None, true),
        ] {
            let told = is_any_left(vip.address, seen.as_ref());
            assert_eq!(told, left, "{seen:?}");
        }
        // For another VIP's buckets somebody else has left one.
        let seen = of(|it| it.draining = BTreeMap::from([(1, 1_000)]), false);
        assert!(!is_any_left([10, 77, 0, 98].into(), Some(&seen)));
    }

    #[test]
    fn connections_are_ended_once_when_their_buckets_are_foreign() {
        let vip = a_vip("10.77.0.99");
        let flow = |bucket| {
            let mut flows = (0..u16::MAX).map(|source_port| Flow {
                source: [192, 0, 2, 7].into(),
                source_port,
                destination_port: 80,
            });
            flows.find(|flow| vip.bucket(flow) == bucket).expect("one")
        };
        let rules = |draining: &[u16], owned| {
            let mut phases = Phases::owning(owned);
            phases.draining = draining.iter().map(|bucket| (*bucket, 1_000)).collect();
            ruleset(&[(vip.clone(), phases)])
        };
        let none = BucketSet::default;
        let mut drained = DrainedFlows::new();
        let mut now = vec![(vip.clone(), [1, 2, 3].map(flow).into())];
        let mut over = |rules| time_is_over(&mut drained, std::mem::take(&mut now), &rules);
        let of = |buckets: &[u16]| {
            let flows = buckets.iter().map(|bucket| flow(*bucket)).collect();
            vec![(vip.address, flows)]
        };
        assert_eq!(over(rules(&[1, 2, 3], none())), vec![]);
        assert_eq!(over(rules(&[2, 3], none())), of(&[1]));
        // Bucket 2 is back, and its connections with it.
        assert_eq!(over(rules(&[3], BucketSet::one(2))), vec![]);
        // In the end the VIP is gone.
        assert_eq!(over(Ruleset::new()), of(&[2, 3]));
        assert_eq!(over(Ruleset::new()), vec![]);
    }

    #[test]
    fn only_what_lives_and_was_given_up_is_ended() {
        let connection = |port, alive| Connection {
            client: ([192, 0, 2, 7], port).into(),
            port: 80,
            alive,
        };
        let over = [1, 2].map(|port| flow_of(&connection(port, true))).into();
        let ended = |port, alive| is_to_end(&connection(port, alive), &over);
        assert!(ended(1, true) && ended(2, true));
        // The kernel ends TIME-WAIT by itself.
        assert!(!ended(1, false) && !ended(3, true));
    }

    #[test]
    fn whatever_ends_and_what_a_stop_left_is_settled() {
        let owning = || Phases::owning(BucketSet::one(0));
        let unsettled: [fn(&mut Phases); 6] = [
            |phases| phases.closing = BTreeMap::from([(1, 1_000)]),
            |phases| phases.draining = BTreeMap::from([(1, 1_000)]),
            |phases| phases.adopting = BTreeMap::from([(0, 1_000)]),
            |phases| phases.leaving_rules = true,
            |phases| phases.adopting_rules = true,
            |phases| phases.owned = BucketSet::default(),
        ];
        assert!(!is_unsettled(&owning()));
        for make in unsettled {
            let mut phases = owning();
            make(&mut phases);
            assert!(is_unsettled(&phases), "{phases:?}");
        }
    }
}
