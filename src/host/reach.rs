//! Look, plan, do, and look again, until there is nothing left to do.
//!
//! Every round starts from what is there, so an action that was interrupted, or that raced with
//! somebody else's change of the rules, goes on where things stand. The last round finds nothing to
//! do: that is the proof that the kernel holds what was asked for.

use super::agreement::Disagreement;
use super::apply::{Manners, StepError, apply};
use super::observe::{Kernel, ObserveError};
use crate::model::hash::Flow;
use crate::model::host::{Connection, Observed};
use crate::model::vip::Nic;
use crate::plan::steps::{Intent, Look, Refusal, Step, steps};
use crate::sys::nft::NftError;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// How often it is tried again when others change rules at the same time; each round takes about a
/// millisecond.
const ROUNDS: u32 = 100;
/// How long the kernel is given to let go of elements that have ended, where nothing can be done before.
const ENDING: Duration = Duration::from_secs(5);
/// The pause before it is tried again.
const ENDING_PAUSE: Duration = Duration::from_millis(100);

/// Why what was asked for could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// It must not be done; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The host cannot be looked at.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// Steps failed. Those that did not depend on them were done.
    #[error("{}", join(.0))]
    Failed(Vec<StepError>),
    /// There was always more to do.
    #[error("gave up after {0} attempts: others change the rules or addresses all the time")]
    Restless(u32),
}

impl ReachError {
    /// Is it that something was lacking at that moment, or that others were faster?
    pub fn passes(&self) -> bool {
        match self {
            ReachError::Refused(_) => false,
            ReachError::Observe(error) => error.passes(),
            ReachError::Failed(errors) => errors.iter().all(StepError::passes),
            ReachError::Restless(_) => true,
        }
    }

    /// Is it that somebody shares the VIP under another description, or for another manager? He may be just
    /// leaving.
    pub fn disagreement(&self) -> Option<&Disagreement> {
        let ReachError::Failed(errors) = self else {
            return None;
        };
        errors.iter().find_map(|error| match error {
            StepError::Disagreement(Disagreement::Packet(_)) => None,
            StepError::Disagreement(disagreement) => Some(disagreement),
            _ => None,
        })
    }
}

fn join(errors: &[StepError]) -> String {
    let words: Vec<String> = errors.iter().map(ToString::to_string).collect();
    words.join("; ")
}

/// What was asked for is so.
#[derive(Debug)]
pub struct Reached {
    /// What was done for it.
    pub done: Vec<Step>,
    /// The host as the last round found it.
    pub observed: Observed,
}

/// Brings the host to what is asked for and says what was done. The caller holds the lock.
pub fn reach(
    kernel: &mut Kernel,
    intent: &Intent,
    manners: Manners,
) -> Result<Reached, ReachError> {
    reach_from(kernel, None, intent, manners)
}

/// The same for one who has looked already, under the lock.
pub fn reach_from(
    kernel: &mut Kernel,
    mut seen: Option<(Observed, u32)>,
    intent: &Intent,
    manners: Manners,
) -> Result<Reached, ReachError> {
    let mut done = Vec::new();
    let mut looked = Looked::default();
    let begin = Instant::now();
    // Nobody is asked the same twice, and the answer takes so long that all is read anew.
    let plan = |observed: &Observed, done: &[Step]| {
        let mut todo = steps(observed, intent)?;
        todo.retain(|step| !matches!(step, Step::Agree(..)) || !done.contains(step));
        Ok::<_, Refusal>(todo)
    };
    for _ in 0..ROUNDS {
        let (mut observed, mut generation) = match seen.take() {
            Some(seen) => seen,
            None => kernel.observe(nic_of(intent), Some(address_of(intent)))?,
        };
        looked.hand_on(&mut observed);
        let mut planned = plan(&observed, &done);
        // Nothing has been changed yet: what is looked at too belongs to what was read.
        while let Ok([step @ Step::Look(vip, what), ..]) = planned.as_deref() {
            debug!("{step}");
            looked.look(kernel, &observed, (*vip, *what), intent)?;
            looked.hand_on(&mut observed);
            planned = plan(&observed, &done);
        }
        let todo = match planned {
            Err(Refusal::Ending(_)) if begin.elapsed() < ENDING => {
                std::thread::sleep(ENDING_PAUSE);
                looked.ending = false;
                continue;
            }
            todo => todo?,
        };
        if todo.is_empty() {
            return Ok(Reached { done, observed });
        }
        let mut errors = Vec::new();
        for step in todo {
            // Rules are only taken away after everything that they guard against is gone.
            if !errors.is_empty() && matches!(step, Step::Rules(_)) {
                continue;
            }
            // It belongs to what is read after these changes, in the next round.
            if matches!(step, Step::Look(..)) {
                break;
            }
            debug!("{step}");
            match apply(kernel, &observed, &step, &mut generation, manners) {
                Ok(()) => {
                    if let (Step::Abort(_, ended), Some(known)) = (&step, &mut looked.connections) {
                        known.retain(|connection| !ended.contains(&connection.flow));
                    }
                    let asked = matches!(step, Step::Agree(..));
                    done.push(step);
                    if asked {
                        break;
                    }
                }
                Err(StepError::Nft(NftError::Outdated)) if errors.is_empty() => {
                    // A flow may have gone by itself.
                    (looked.flows, looked.stale) = (None, None);
                    break;
                }
                // What is left then is settled later.
                Err(StepError::Nft(error))
                    if error.is_busy() && !looked.ending && errors.is_empty() =>
                {
                    debug!("{error}");
                    looked.ending = true;
                    break;
                }
                Err(error) => {
                    let leaving = matches!(intent, Intent::Leave { .. });
                    errors.push(error);
                    if !leaving {
                        break;
                    }
                }
            }
        }
        if !errors.is_empty() {
            return Err(ReachError::Failed(errors));
        }
    }
    Err(ReachError::Restless(ROUNDS))
}

/// What is only looked at where it is needed, from round to round.
#[derive(Default)]
struct Looked {
    connections: Option<Vec<Connection>>,
    flows: Option<BTreeSet<Flow>>,
    stale: Option<BTreeSet<Flow>>,
    /// The kernel has not yet let go of what has ended.
    ending: bool,
}

impl Looked {
    fn hand_on(&self, observed: &mut Observed) {
        observed.connections = self.connections.clone();
        observed.flows = self.flows.clone();
        observed.stale = self.stale.clone();
        observed.ending = self.ending;
    }

    /// Looks at what may be very much.
    fn look(
        &mut self,
        kernel: &mut Kernel,
        observed: &Observed,
        (vip, what): (IpAddr, Look),
        intent: &Intent,
    ) -> Result<(), ObserveError> {
        let seen = match what {
            Look::Connections => kernel
                .connections(observed, vip)
                .map(|seen| self.connections = Some(seen)),
            Look::Flows => kernel.flows(vip).map(|seen| self.flows = Some(seen)),
            Look::Stale => kernel.stale(vip).map(|seen| self.stale = Some(seen)),
        };
        match (seen, intent) {
            // Nobody is kept from serving because of what he served before.
            (Err(error), Intent::Take { .. }) => {
                warn!("{error}");
                self.connections = Some(Vec::new());
                self.flows = Some(BTreeSet::new());
                self.stale = Some(BTreeSet::new());
                Ok(())
            }
            (seen, _) => seen,
        }
    }
}

fn address_of(intent: &Intent) -> IpAddr {
    match intent {
        Intent::Take { vip, .. } => vip.address,
        Intent::Release { address, .. }
        | Intent::Leave { address, .. }
        | Intent::Adopted { address, .. }
        | Intent::Settle { address } => *address,
    }
}

fn nic_of(intent: &Intent) -> Option<&Nic> {
    match intent {
        Intent::Take { vip, .. } => Some(&vip.nic),
        Intent::Leave { place, .. } => place.as_ref().map(|(nic, _)| nic),
        Intent::Release { .. } | Intent::Adopted { .. } | Intent::Settle { .. } => None,
    }
}
