//! Does another node still drain the connections of a bucket that has come here?
//!
//! Where connections may stay at all, a bucket that comes is adopted first: this node is silent
//! towards connections that it does not know, which is right if another node drains them, and does
//! no lasting harm if not. Pacemaker's history of operations tells; reading it takes longer than the
//! whole start, so it is read afterwards, by a process that is left behind, and again after every
//! monitor for as long as the bucket is adopted.

use super::environment::Environment;
use crate::host::lock::lock;
use crate::host::observe::Kernel;
use crate::host::reach::{Reached, reach};
use crate::host::sweeper::SweepError;
use crate::model::bucket::BucketSet;
use crate::pacemaker::history::{Drained, HistoryError, Question, drained};
use crate::pacemaker::query::{self, QueryError};
use crate::plan::steps::Intent;
use crate::sys::process::detach;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, SystemTimeError, UNIX_EPOCH};
use tracing::{debug, info, warn};

/// How long the lock is waited for: what is not settled now is at the next monitor.
const PATIENCE: Duration = Duration::from_secs(2);

/// Has it settled by a process of its own whether anybody drains the bucket.
pub fn settle_later(env: &Environment, vip: IpAddr, bucket: u16, drain_s: u32) {
    let done = detach(|| match Kernel::open() {
        Ok(mut kernel) => settle(&mut kernel, env, vip, bucket, drain_s),
        Err(error) => debug!("{error}"),
    });
    if let Err(error) = done {
        debug!("whether bucket {bucket} is drained is left to the monitor: {error}");
    }
}

/// Ends the adoption of a bucket that nobody drains.
fn settle(kernel: &mut Kernel, env: &Environment, vip: IpAddr, bucket: u16, drain_s: u32) {
    match who_drains(env, drain_s) {
        Ok(Drained::For(left)) => debug!("bucket {bucket} of {vip} drains elsewhere, {left} s yet"),
        Ok(Drained::NotYetKnown) => debug!("who drains bucket {bucket} of {vip} is not known yet"),
        Ok(Drained::ByNobody) => end(kernel, vip, bucket),
        // Not to know is no reason to cut anybody's connections.
        Err(error) => warn!("bucket {bucket} of {vip} stays adopted: {error}"),
    }
}

/// Who drains is not known.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error("the clock stands before 1970")]
    Clock(#[from] SystemTimeError),
    #[error("the node's name cannot be read: {0}")]
    Name(#[from] nix::Error),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    History(#[from] HistoryError),
}

fn who_drains(env: &Environment, drain_s: u32) -> Result<Drained, Unknown> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let host = nix::unistd::gethostname()?;
    let host = host.to_string_lossy();
    let question = Question {
        instance: env.instance_name(),
        node: env.node().unwrap_or(&host),
        drain_s,
        now_s: now.as_secs(),
    };
    Ok(drained(&query::status()?, question)?)
}

fn end(kernel: &mut Kernel, vip: IpAddr, bucket: u16) {
    let intent = Intent::Adopted {
        address: vip,
        buckets: BucketSet::one(bucket),
    };
    match locked_reach(kernel, &intent) {
        Ok(reached) if reached.done.is_empty() => {}
        Ok(_) => info!("nobody drains bucket {bucket} of {vip}"),
        Err(error) => warn!("bucket {bucket} of {vip} stays adopted: {error}"),
    }
}

/// Takes the rules for adopting away when all that was adopted is owned.
pub fn tidy(kernel: &mut Kernel, vip: IpAddr) {
    if let Err(error) = locked_reach(kernel, &Intent::Settle { address: vip }) {
        debug!("{vip}: {error}");
    }
}

fn locked_reach(kernel: &mut Kernel, intent: &Intent) -> Result<Reached, SweepError> {
    let _lock = lock(PATIENCE)?;
    Ok(reach(kernel, intent, Default::default())?)
}
