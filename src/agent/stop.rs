//! The action `stop`.
//!
//! A stop that fails means that the node is fenced, so stop never fails for what is configured
//! badly or not there; it fails only if something that can answer packets is still there. What it gives up
//! for that is `cutting`'s.

use super::cutting::{cut_unseen, drain_or_cut, in_the_end, is_late};
use super::environment::Environment;
use super::exit::{Code, Failure};
use super::handed;
use super::insist::insist;
use super::parameters::Essentials;
use super::prepare::{enter_namespace, mac_of_old, privileged};
use super::queue::{InTurn, in_turn, serve, with_others};
use crate::host::apply::Manners;
use crate::host::lock::Lock;
use crate::host::observe::{Kernel, ObserveError};
use crate::host::reach::{ReachError, Reached, reach_from};
use crate::host::sweeper::sweep_what_is_left;
use crate::host::together::{Other, Request, Served};
use crate::host::turns;
use crate::model::bucket::BucketSet;
use crate::model::host::Observed;
use crate::model::mac::Mac;
use crate::model::phase::Phases;
use crate::model::vip::{Manager, Nic, Vip};
use crate::plan::step::{Intent, Step};
use crate::plan::steps;
use crate::reading::installed::{Installed, find, phases_of};
use std::net::IpAddr;
use tracing::{info, warn};

/// The action `stop`.
pub fn stop(env: &Environment) -> Result<(), Failure> {
    let Some(essentials) = Essentials::read(env) else {
        warn!("nothing to stop: without a readable ip nothing is ever started");
        return Ok(());
    };
    let Some(number) = env.instance() else {
        warn!("nothing to stop: outside of a globally unique clone nothing is ever started");
        return Ok(());
    };
    insist(env, || {
        match enter_namespace(essentials.network_namespace.as_ref()) {
            Err(error) if error.is_gone() => {
                warn!("nothing to stop: {error}");
                return Ok(());
            }
            Err(error) => return Err(Failure::new(Code::Generic, error).passing(true)),
            Ok(_) => {}
        }
        in_the_end(
            stop_here(env, &essentials, number),
            is_late(env),
            |failure| cut_unseen(essentials.ip, number, failure),
        )
    })
}

/// Stops the instance in the namespace that was entered.
fn stop_here(env: &Environment, essentials: &Essentials, number: u32) -> Result<(), Failure> {
    let ip = essentials.ip;
    privileged("stop")?;
    // An instance with a number beyond all buckets is an orphan that owns none.
    let bucket = u16::try_from(number).ok();
    if bucket.is_some_and(|bucket| handed::stop(env, essentials, bucket)) {
        return Ok(());
    }
    let (lock, request) = match in_turn(env, "stop", bucket) {
        InTurn::Served(served) => {
            tell_stopped(ip, number, served);
            return Ok(());
        }
        InTurn::Own(lock, request) => (lock, request),
    };
    let Some(Seen {
        mut kernel,
        nic,
        observed,
        generation,
    }) = look(essentials)?
    else {
        return Ok(());
    };
    let others: Vec<Other> = request.iter().flat_map(Request::others).collect();
    // What is described has its MAC there.
    let mac = match find(&observed.rules, ip) {
        None => mac_of_old(&mut kernel, essentials).unwrap_or(essentials.mac),
        Some(_) => essentials.mac,
    };
    let going = Going {
        ip,
        buckets: bucket.map_or_else(BucketSet::default, |bucket| with_others(bucket, &others)),
        place: nic.map(|nic| (nic, mac)),
        drain_ms: 1000 * u64::from(essentials.drain_s),
    };
    if let Some(found) = &find(&observed.rules, ip) {
        if found.vip.manager != essentials.manager {
            warn!("{}", anothers(&found.vip, &essentials.manager));
            return Ok(());
        }
        if is_orphan(env, &going, found) {
            warn!("{}", orphaned(number, &going.buckets, &found.vip));
        }
    }
    let Some(lock) = going.lock_to_change(lock, &observed)? else {
        return Ok(());
    };
    let reached = going.leave(env, &mut kernel, (observed, generation))?;
    let phases = phases_of(&reached.observed.rules, ip);
    let changed = !reached.done.is_empty();
    serve_others(&others, &phases, changed);
    let stays = bucket.is_some_and(|bucket| phases.leaving().contains(bucket));
    tell_stopped(ip, number, Served { changed, stays });
    if is_gone(&reached) {
        info!("{ip} is gone from this node");
    }
    if changed {
        kernel.nft.close_elsewhere();
    }
    turns::end(lock, &reached.observed.rules);
    sweep_what_is_left(ip, Some(&reached.observed));
    Ok(())
}

/// The host as a stop found it.
struct Seen {
    kernel: Kernel,
    /// The interface that is configured, if it is there.
    nic: Option<Nic>,
    observed: Observed,
    generation: u32,
}

/// Looks at the host; `None` where nothing can have been started.
fn look(essentials: &Essentials) -> Result<Option<Seen>, Failure> {
    let seen = Kernel::open().and_then(|mut kernel| {
        let nic = kernel.nic_of(essentials.nic.as_ref())?;
        let (observed, generation) = kernel.observe(nic.as_ref(), Some(essentials.ip))?;
        Ok(Seen {
            kernel,
            nic,
            observed,
            generation,
        })
    });
    match seen {
        Err(ObserveError::Nft(error)) if error.is_absent() => {
            warn!("nothing to stop, for nothing can have been started: {error}");
            Ok(None)
        }
        seen => Ok(Some(seen?)),
    }
}

/// What a stop has leave: the instance's bucket, and those of others who wait for the same.
struct Going {
    ip: IpAddr,
    buckets: BucketSet,
    /// Where the VIP is, and its MAC, should its rules not say.
    place: Option<(Nic, Mac)>,
    /// For how long connections may stay.
    drain_ms: u64,
}

impl Going {
    fn intent(&self, drain_ms: u64) -> Intent {
        Intent::Leave {
            address: self.ip,
            buckets: Some(self.buckets.clone()),
            drain_ms,
            place: self.place.clone(),
        }
    }

    /// The lock; or `None` where it cannot be had, and nothing is left to change.
    fn lock_to_change(
        &self,
        lock: Result<Lock, Failure>,
        observed: &Observed,
    ) -> Result<Option<Lock>, Failure> {
        let is_done = || {
            let todo = steps(observed, &self.intent(self.drain_ms));
            todo.is_ok_and(|todo| todo.is_empty())
        };
        match lock {
            Err(failure) if is_done() => {
                warn!("{}", failure.reason);
                Ok(None)
            }
            lock => lock.map(Some),
        }
    }

    /// The buckets leave, as far as anything of them is here.
    fn leave(
        &self,
        env: &Environment,
        kernel: &mut Kernel,
        seen: (Observed, u32),
    ) -> Result<Reached, ReachError> {
        let named = format!("bucket {} of {}", self.buckets, self.ip);
        let mut seen = Some(seen);
        drain_or_cut(env, self.drain_ms, &named, ReachError::passes, |drain_ms| {
            // A list that was not read to its end has the old socket.
            if seen.is_none() {
                *kernel = Kernel::open()?;
            }
            let intent = self.intent(drain_ms);
            reach_from(kernel, seen.take(), &intent, Manners::default())
        })
    }
}

/// Tells others who wait that their buckets have left, too.
fn serve_others(others: &[Other], phases: &Phases, changed: bool) {
    let leaving = phases.leaving();
    for other in others {
        if !phases.owned.contains(other.bucket) {
            serve(other, changed, leaving.contains(other.bucket));
        }
    }
}

/// Did the VIP's address go?
fn is_gone(reached: &Reached) -> bool {
    let mut done = reached.done.iter();
    done.any(|step| matches!(step, Step::DeleteAddress { .. }))
}

fn tell_stopped(ip: IpAddr, number: u32, Served { changed, stays }: Served) {
    match (stays, changed) {
        (true, _) => info!("bucket {number} of {ip} leaves; its connections stay until they end"),
        (false, true) => info!("bucket {number} of {ip} is foreign here now"),
        (false, false) => {}
    }
}

/// What is said where the VIP is not the resource's, and so is left alone.
fn anothers(vip: &Vip, own: &Manager) -> String {
    let (ip, manager) = (vip.address, &vip.manager);
    format!("nothing to stop: {ip} is here by {manager}, not by {own}")
}

/// Has Pacemaker given up an instance whose bucket is owned here? Only the stop of an orphan comes without the
/// clone's attributes.
fn is_orphan(env: &Environment, going: &Going, found: &Installed) -> bool {
    let owned = going.buckets.shared_with(&found.phases.owned);
    env.clone_max().is_none() && !owned.is_empty()
}

/// What Pacemaker's giving up an instance means for its bucket.
fn orphaned(number: u32, gone: &BucketSet, vip: &Vip) -> String {
    let (ip, count) = (vip.address, vip.buckets);
    format!(
        "Pacemaker has no instance {number} any more. Unless the resource was deleted, bucket {gone} of {ip} is \
         dark from now on: there are {count} buckets, and clone-max is less (left out, it is the number of \
         nodes). Stop the clone, set clone-max=\"{count}\", start it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::vip::tests::a_vip;
    use crate::rules::dataplane::ruleset;

    /// Bucket 3 of the VIP leaves, with nothing kept.
    fn going(vip: &Vip) -> Going {
        Going {
            ip: vip.address,
            buckets: BucketSet::one(3),
            place: None,
            drain_ms: 0,
        }
    }

    #[test]
    fn a_stop_without_the_lock_fails_only_where_something_is_left_to_do() {
        let vip = a_vip("10.77.0.99");
        let going = going(&vip);
        let without_the_lock = |owned: &[u16]| {
            let phases = Phases::owning(owned.iter().copied().collect());
            let vips = (!owned.is_empty()).then(|| (vip.clone(), phases));
            let observed = Observed {
                rules: ruleset(vips.as_slice()),
                ..Observed::default()
            };
            let lock = going.lock_to_change(Err(Failure::new(Code::Generic, "held")), &observed);
            lock.map(|lock| lock.is_some())
                .map_err(|failure| failure.reason)
        };
        assert_eq!(without_the_lock(&[]), Ok(false));
        assert_eq!(without_the_lock(&[2]), Ok(false));
        assert_eq!(without_the_lock(&[2, 3]), Err("held".to_owned()));
    }

    #[test]
    fn an_orphan_is_who_owns_a_bucket_and_has_no_clone_any_more() {
        let vip = a_vip("10.77.0.99");
        let going = going(&vip);
        let max = ("OCF_RESKEY_CRM_meta_clone_max".to_owned(), "4".to_owned());
        let (orphans, clones) = (Environment::new(None), Environment::new([max]));
        for (env, owned, orphan) in [
            (&orphans, 3, true),
            (&orphans, 2, false),
            (&clones, 3, false),
        ] {
            let found = Installed {
                vip: vip.clone(),
                phases: Phases::owning(BucketSet::one(owned)),
            };
            assert_eq!(is_orphan(env, &going, &found), orphan, "{owned}");
        }
    }
}
