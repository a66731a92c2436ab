//! Does another node still drain the connections of a bucket that has come here?
//!
//! Where connections may stay at all, a bucket that comes is adopted first: this node is silent
//! towards connections that it does not know, which is right if another node drains them, and does
//! no lasting harm if not. Pacemaker's history of operations tells; reading it takes longer than the
//! whole start, so it is read afterwards, by a process that is left behind, and again after every
//! monitor for as long as the bucket is adopted.

use super::environment::Environment;
use crate::host::lock::lock;
use crate::host::observe::{Kernel, ObserveError};
use crate::host::reach::reach;
use crate::host::sweeper::SweepError;
use crate::model::bucket::BucketSet;
use crate::pacemaker::history::{self, Drained, HistoryError, drained};
use crate::pacemaker::query::{Query, QueryError, ask};
use crate::plan::installed::phases_of;
use crate::plan::steps::Intent;
use crate::sys::netns::{Home, NetnsError};
use crate::sys::process::{detach, detach_with};
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, SystemTimeError, UNIX_EPOCH};
use tracing::{debug, info, warn};

/// How long the lock is waited for: what is not settled now is at the next monitor.
const PATIENCE: Duration = Duration::from_secs(2);
/// An adoption that ends so much later than the one that was asked about is another one: the kernel's
/// times are milliseconds, and buckets come and go in seconds.
const SAME: Duration = Duration::from_millis(500);

/// Which bucket it is about, and who asks.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The action's environment.
    pub env: &'a Environment,
    /// The namespace in which Pacemaker is, if the VIP is in another.
    pub home: Option<&'a Home>,
    /// The VIP.
    pub vip: IpAddr,
    /// The bucket.
    pub bucket: u16,
    /// For how many seconds connections may stay.
    pub drain_s: u32,
}

/// Has it settled by a process of its own whether anybody drains the bucket.
pub fn settle_later(question: Question<'_>) {
    let worker = || match Kernel::open() {
        Ok(mut kernel) => settle(&mut kernel, question),
        Err(error) => debug!("{error}"),
    };
    let done = match question.home {
        Some(home) => detach_with(home, worker),
        None => detach(worker),
    };
    if let Err(error) = done {
        let bucket = question.bucket;
        debug!("whether bucket {bucket} is drained is left to the monitor: {error}");
    }
}

/// Ends the adoption of a bucket that nobody drains.
fn settle(kernel: &mut Kernel, question: Question<'_>) {
    let Question { vip, bucket, .. } = question;
    let asked = Instant::now();
    let before = match adopted_for(kernel, vip, bucket) {
        Ok(Some(left)) => left,
        // Somebody was faster.
        Ok(None) => return,
        Err(error) => return debug!("{error}"),
    };
    match who_drains(question) {
        Ok(Drained::For(left)) => debug!("bucket {bucket} of {vip} drains elsewhere, {left} s yet"),
        Ok(Drained::NotYetKnown) => debug!("who drains bucket {bucket} of {vip} is not known yet"),
        Ok(Drained::ByNobody) => end(kernel, question, asked + before),
        // Not to know is no reason to cut anybody's connections.
        Err(error) => warn!("bucket {bucket} of {vip} stays adopted: {error}"),
    }
}

/// How long the bucket is still adopted, if it is.
fn adopted_for(
    kernel: &mut Kernel,
    vip: IpAddr,
    bucket: u16,
) -> Result<Option<Duration>, ObserveError> {
    let (observed, _) = kernel.observe(None, None)?;
    let left = phases_of(&observed.rules, vip)
        .adopting
        .get(&bucket)
        .copied();
    Ok(left.map(Duration::from_millis))
}

/// Who drains is not known.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error("the clock stands before 1970")]
    Clock(#[from] SystemTimeError),
    #[error("the node's name cannot be read: {0}")]
    Name(#[from] nix::Error),
    #[error(transparent)]
    Home(#[from] NetnsError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    History(#[from] HistoryError),
}

fn who_drains(question: Question<'_>) -> Result<Drained, Unknown> {
    let Question { env, drain_s, .. } = question;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let host = nix::unistd::gethostname()?;
    let host = host.to_string_lossy();
    let status = match question.home {
        // Pacemaker's sockets are its network namespace's.
        Some(home) => home.within(|| ask(Query::Status))??,
        None => ask(Query::Status)?,
    };
    let question = history::Question {
        instance: env.instance_name(),
        node: env.node().unwrap_or(&host),
        drain_s,
        now_s: now.as_secs(),
    };
    Ok(drained(&status, question)?)
}

/// The bucket is owned, if its adoption is still the one that was asked about, which ends at `until`.
fn end(kernel: &mut Kernel, Question { vip, bucket, .. }: Question<'_>, until: Instant) {
    let stays = |error: SweepError| warn!("bucket {bucket} of {vip} stays adopted: {error}");
    let _lock = match lock(PATIENCE) {
        Ok(lock) => lock,
        Err(error) => return stays(error.into()),
    };
    let left = match adopted_for(kernel, vip, bucket) {
        Ok(Some(left)) => left,
        Ok(None) => return,
        Err(error) => return stays(error.into()),
    };
    // It has gone and come again since; another process asks about that.
    if Instant::now() + left > until + SAME {
        return;
    }
    let intent = Intent::Adopted {
        address: vip,
        buckets: BucketSet::one(bucket),
    };
    match reach(kernel, &intent, Default::default()) {
        Ok(reached) if reached.done.is_empty() => {}
        Ok(_) => info!("nobody drains bucket {bucket} of {vip}"),
        Err(error) => stays(error.into()),
    }
}

/// Takes away the rules for what moves when nothing does any more, which is the sweeper's work if that
/// was not killed.
pub fn tidy(kernel: &mut Kernel, vip: IpAddr) {
    let mut tidied = || -> Result<(), SweepError> {
        let _lock = lock(PATIENCE)?;
        reach(kernel, &Intent::Settle { address: vip }, Default::default())?;
        Ok(())
    };
    if let Err(error) = tidied() {
        debug!("{vip}: {error}");
    }
}
