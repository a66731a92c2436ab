//! Starts and stops by way of `clusteripd`, where it runs: the node that has a bucket answers it until the one to which it
//! goes has all but the bucket. The daemon is an addition: whatever is wrong with it, the action does by itself what it
//! does where there is none.

use super::environment::{Destination, Environment};
use super::exit::{Code, Failure};
use super::parameters::{Essentials, Parameters};
use super::queue::{InTurn, in_turn, serve};
use crate::host::apply::Manners;
use crate::host::daemon::{DaemonError, ask};
use crate::host::observe::Kernel;
use crate::host::reach::reach;
use crate::host::sweeper::sweep_what_is_left;
use crate::host::together::{Other, Request as Wish};
use crate::model::phase::OFFERED_MS;
use crate::model::untrusted::Untrusted;
use crate::model::vip::Vip;
use crate::plan::step::Intent;
use crate::reading::installed::{Installed, find, phases_of};
use crate::talk::SOCKET;
use crate::talk::reply::Answer;
use crate::talk::request::Request;
use nix::time::{ClockId, clock_gettime};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use tracing::{debug, info, warn};

/// How long a stop waits for the daemon; its bucket is answered meanwhile.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// How long a start does, beyond the time in which what others have offered ends.
const START_PATIENCE: Duration = Duration::from_secs(2);
const OFFER: Duration = Duration::from_millis(OFFERED_MS);

/// Is there to be a daemon that knows of this VIP? It sees its own network namespace alone.
pub(super) fn is_used(network_namespace: Option<&Untrusted>) -> bool {
    network_namespace.is_none() && Path::new(SOCKET).exists()
}

/// What has come of a start.
pub(super) enum Started {
    /// The bucket is owned here.
    Owned,
    /// The action has to do it by itself; nobody offers the bucket any more.
    Alone,
}

/// Has the daemon take the bucket, which may come ([`Intent::Come`]).
pub(super) fn start(
    env: &Environment,
    parameters: &Parameters,
    vip: &Vip,
    bucket: u16,
) -> Result<Started, Failure> {
    let request = Request::Start {
        vip: vip.address,
        description: vip.digest(),
        bucket,
        called_ms: called_ms(env),
        adopt_ms: 1000 * u64::from(parameters.drain_s),
    };
    let until = OFFER + START_PATIENCE;
    let answer = ask(&request, until.saturating_sub(env.passed()));
    let failed = |why: &str| {
        let address = vip.address;
        Err(Failure::new(
            Code::Generic,
            format!("bucket {bucket} of {address} is not taken: {why}"),
        ))
    };
    match answer {
        Ok(Answer::Owned) => return Ok(Started::Owned),
        Ok(Answer::Kept) => {
            return failed(
                "another node answers it and was not told to stop; 'nodectl status --cluster' says which. If nobody has \
                 taken it by hand, 'crm resource refresh' (pcs: 'pcs resource refresh') has Pacemaker look again",
            );
        }
        Ok(Answer::Unlike) => {
            return failed(
                "another node has the VIP under another description; stop all instances on all nodes, then start them",
            );
        }
        Ok(Answer::Left | Answer::Alone | Answer::Failed) => {
            debug!("clusteripd leaves bucket {bucket} to this action");
        }
        Err(error) => say(&error),
    }
    // Somebody may have offered it to a daemon that is not there.
    std::thread::sleep(OFFER.saturating_sub(env.passed()));
    Ok(Started::Alone)
}

/// Has the daemon offer the bucket to others. `false` where this action has to let it go by itself.
pub(super) fn stop(env: &Environment, essentials: &Essentials, bucket: u16) -> bool {
    match offered(env, essentials, bucket) {
        Ok(offered) => offered,
        Err(failure) => {
            debug!("without clusteripd: {}", failure.reason);
            false
        }
    }
}

fn offered(env: &Environment, essentials: &Essentials, bucket: u16) -> Result<bool, Failure> {
    let ip = essentials.ip;
    let to = match env.starts_at() {
        Some(Destination::Nowhere) => return Ok(false),
        Some(Destination::Node(name)) => Some(name),
        None => None,
    };
    // Whoever gives an instance up starts it nowhere.
    if env.clone_max().is_none() || !is_used(essentials.network_namespace.as_ref()) {
        return Ok(false);
    }
    let mut kernel = Kernel::open()?;
    let rules = kernel
        .nft
        .snapshot()
        .map_err(|error| super::failures::of_nft(&error))?
        .rules;
    let is_mine = |found: &Installed| {
        found.vip.manager == essentials.manager && found.phases.owned.contains(bucket)
    };
    let Some(found) = find(&rules, ip).filter(is_mine) else {
        return Ok(false);
    };
    if !found.phases.is_ready() {
        get_ready(env, &mut kernel, ip, bucket)?;
    }
    let request = Request::Stop {
        vip: ip,
        bucket,
        to: to.map(Untrusted::from),
        drain_ms: 1000 * u64::from(essentials.drain_s),
    };
    match ask(&request, STOP_PATIENCE) {
        Ok(Answer::Left) => {
            info!(
                "bucket {bucket} of {ip} is offered to other nodes, and answered until one has it"
            );
            sweep_what_is_left(ip, None);
            Ok(true)
        }
        Ok(_) => Ok(false),
        Err(error) => {
            say(&error);
            Ok(false)
        }
    }
}

/// Under the lock; others who stop at the same time need not do it again.
fn get_ready(
    env: &Environment,
    kernel: &mut Kernel,
    address: IpAddr,
    bucket: u16,
) -> Result<(), Failure> {
    let (lock, wish) = match in_turn(env, "stop, ready", Some(bucket)) {
        InTurn::Served(_) => return Ok(()),
        InTurn::Own(lock, wish) => (lock?, wish),
    };
    let others: Vec<Other> = wish.iter().flat_map(Wish::others).collect();
    let reached = reach(kernel, &Intent::Ready { address }, Manners::default())?;
    drop(lock);
    if phases_of(&reached.observed.rules, address).is_ready() {
        for other in &others {
            serve(other, false, false);
        }
    }
    Ok(())
}

/// When the action was called, by the clock that the daemon has too.
fn called_ms(env: &Environment) -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
    let called = now.unwrap_or_default().saturating_sub(env.passed());
    u64::try_from(called.as_millis()).unwrap_or(u64::MAX)
}

/// Where one is to be and does not answer somebody should know.
fn say(error: &DaemonError) {
    match error {
        DaemonError::NotThere(_) => {}
        error => warn!("{error}; this action goes on by itself"),
    }
}
