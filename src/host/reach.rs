//! Look, plan, do, and look again, until there is nothing left to do.
//!
//! Every round starts from what is there, so an action that was interrupted, or that raced with
//! somebody else's change of the rules, goes on where things stand. The last round finds nothing to
//! do: that is the proof that the kernel holds what was asked for.

use super::agreement::Disagreement;
use super::apply::{Manners, StepError, apply};
use super::lock::LockError;
use super::observe::{Kernel, ObserveError};
use crate::model::hash::Flow;
use crate::model::host::{Connection, Observed};
use crate::model::vip::Nic;
use crate::plan::step::{Intent, Look, Refusal, Step};
use crate::plan::steps;
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

/// Why what is done under the lock could not be done.
#[derive(Debug, thiserror::Error)]
pub enum UnderLockError {
    /// Somebody else has it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The host cannot be looked at.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// What was asked for could not be reached.
    #[error(transparent)]
    Reach(#[from] ReachError),
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
        let once = |step: &Step| matches!(step, Step::Agree(..) | Step::Silence(..));
        todo.retain(|step| !once(step) || !done.contains(step));
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
        let leaving = matches!(intent, Intent::Leave { .. });
        let errors = round(todo, leaving, &mut done, &mut looked, |step| {
            debug!("{step}");
            apply(kernel, &observed, step, &mut generation, manners)
        });
        if !errors.is_empty() {
            return Err(ReachError::Failed(errors));
        }
    }
    Err(ReachError::Restless(ROUNDS))
}

/// Does the steps as far as they can be done in this round, and says what went wrong for good. Who leaves goes on after
/// an error: whatever else can go does.
fn round(
    todo: Vec<Step>,
    leaving: bool,
    done: &mut Vec<Step>,
    looked: &mut Looked,
    mut apply: impl FnMut(&Step) -> Result<(), StepError>,
) -> Vec<StepError> {
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
        match apply(&step) {
            Ok(()) => {
                if let (Step::Abort(_, ended), Some(known)) = (&step, &mut looked.connections) {
                    known.retain(|connection| !ended.contains(&connection.flow));
                }
                let read_anew = matches!(step, Step::Agree(..) | Step::Silence(..));
                done.push(step);
                if read_anew {
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
                errors.push(error);
                if !leaving {
                    break;
                }
            }
        }
    }
    errors
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
            // It is only for clients who use a port again at once.
            (Err(error), _) if what == Look::Stale => {
                warn!("{error}");
                self.stale = Some(BTreeSet::new());
                Ok(())
            }
            // Nobody is kept from serving because of what he served before.
            (Err(error), Intent::Take { .. } | Intent::Come { .. }) => {
                warn!("{error}");
                self.connections = Some(Vec::new());
                self.flows = Some(BTreeSet::new());
                Ok(())
            }
            (seen, _) => seen,
        }
    }
}

fn address_of(intent: &Intent) -> IpAddr {
    match intent {
        Intent::Take { vip, .. } | Intent::Come { vip, .. } => vip.address,
        Intent::Release { address, .. }
        | Intent::Leave { address, .. }
        | Intent::Adopted { address, .. }
        | Intent::Ready { address }
        | Intent::Settle { address } => *address,
    }
}

fn nic_of(intent: &Intent) -> Option<&Nic> {
    match intent {
        Intent::Take { vip, .. } | Intent::Come { vip, .. } => Some(&vip.nic),
        Intent::Leave { place, .. } => place.as_ref().map(|(nic, _)| nic),
        Intent::Release { .. }
        | Intent::Adopted { .. }
        | Intent::Ready { .. }
        | Intent::Settle { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::vip::tests::a_vip;
    use crate::plan::step::When;

    /// The last steps of a VIP that goes.
    fn going() -> [Step; 3] {
        let vip = a_vip("10.77.0.99");
        let (nic, address, prefix) = (vip.nic.clone(), vip.address, 32);
        let mac = vip.mac;
        let delete = Step::DeleteAddress {
            nic: nic.clone(),
            address,
            prefix,
        };
        [delete, Step::LeaveMac { nic, mac }, Step::Rules(Vec::new())]
    }

    fn refused(errno: i32) -> StepError {
        let what = "delete a chain".to_owned();
        StepError::Nft(NftError::Refused { what, errno })
    }

    /// Which of these steps are tried where one fails so, and how many errors remain.
    fn tried(
        steps: &[Step],
        leaving: bool,
        looked: &mut Looked,
        (fails, error): (usize, StepError),
    ) -> (Vec<usize>, usize) {
        let (mut tried, mut done, mut error) = (Vec::new(), Vec::new(), Some(error));
        let errors = round(steps.to_vec(), leaving, &mut done, looked, |step| {
            let n = steps.iter().position(|known| known == step).expect("it");
            tried.push(n);
            match n == fails {
                true => Err(error.take().expect("it is tried once")),
                false => Ok(()),
            }
        });
        let fine = tried.iter().filter(|n| **n != fails);
        assert_eq!(done, fine.map(|n| steps[*n].clone()).collect::<Vec<_>>());
        (tried, errors.len())
    }

    #[test]
    fn rules_stay_as_long_as_what_they_guard_against() {
        let looked = Looked::default;
        let fails = |n| (n, refused(libc::EPERM));
        // What else can go goes, but the rules do not.
        assert_eq!(
            tried(&going(), true, &mut looked(), fails(0)),
            (vec![0, 1], 1)
        );
        assert_eq!(
            tried(&going(), true, &mut looked(), fails(1)),
            (vec![0, 1], 1)
        );
        assert_eq!(
            tried(&going(), true, &mut looked(), fails(2)),
            (vec![0, 1, 2], 1)
        );
        // Who comes begins nothing more behind what has failed.
        assert_eq!(
            tried(&going(), false, &mut looked(), fails(0)),
            (vec![0], 1)
        );
    }

    #[test]
    fn who_was_outrun_or_is_too_early_looks_anew() {
        let rules = [Step::Rules(Vec::new()), going()[0].clone()];
        let mut looked = Looked {
            flows: Some(BTreeSet::new()),
            ..Looked::default()
        };
        let outdated = (0, StepError::Nft(NftError::Outdated));
        assert_eq!(tried(&rules, true, &mut looked, outdated), (vec![0], 0));
        assert!(looked.flows.is_none() && !looked.ending);
        let busy = || (0, refused(libc::EBUSY));
        assert_eq!(tried(&rules, true, &mut looked, busy()), (vec![0], 0));
        assert!(looked.ending);
        // Once is enough.
        assert_eq!(tried(&rules, true, &mut looked, busy()), (vec![0, 1], 1));
    }

    #[test]
    fn nothing_is_done_behind_a_question_before_its_answer_is_known() {
        let vip = a_vip("10.77.0.99");
        let [delete, leave, _] = going();
        let look = Step::Look(vip.address, Look::Connections);
        let ask = Step::Agree(vip, When::BeforeItServes);
        for (question, done) in [(look, 1), (ask, 2)] {
            let steps = [delete.clone(), question, leave.clone()];
            let mut all = Vec::new();
            let todo = steps.to_vec();
            let errors = round(todo, true, &mut all, &mut Looked::default(), |_| Ok(()));
            assert!(errors.is_empty());
            assert_eq!(all, steps[..done]);
        }
    }

    #[test]
    fn what_was_ended_is_no_connection_any_more() {
        let vip = a_vip("10.77.0.99");
        let [ended, other] = [1, 2].map(|source_port| Flow {
            source: [192, 0, 2, 7].into(),
            source_port,
            destination_port: 80,
        });
        let connections = [ended, other].map(|flow| Connection { flow, alive: true });
        let mut looked = Looked {
            connections: Some(connections.to_vec()),
            ..Looked::default()
        };
        let abort = Step::Abort(vip.address, [ended].into());
        round(vec![abort], false, &mut Vec::new(), &mut looked, |_| Ok(()));
        assert_eq!(looked.connections, Some(connections[1..].to_vec()));
    }
}
