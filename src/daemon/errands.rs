//! What takes its time, or waits for others: done by a thread of its own, one after the other. Nobody waits for it; what
//! comes of it is seen in the kernel.

use crate::host::apply::Manners;
use crate::host::lock::lock;
use crate::host::observe::Kernel;
use crate::host::reach::{UnderLockError, reach};
use crate::model::bucket::BucketSet;
use crate::plan::step::Intent;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use std::{io, thread};
use tracing::{debug, warn};

/// How long the lock is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something to be done.
#[derive(Debug)]
pub(super) enum Errand {
    /// The connections in these buckets, which are closing, are listed, and may stay for so long.
    Drain {
        vip: IpAddr,
        buckets: BucketSet,
        drain_ms: u64,
    },
    /// Nobody has connections in these any more.
    Adopted { vip: IpAddr, buckets: BucketSet },
}

/// The thread that does errands.
pub(super) fn begin() -> io::Result<Sender<Errand>> {
    let (to, from) = channel();
    let thread = thread::Builder::new().name("errands".into());
    thread.spawn(move || run(from))?;
    Ok(to)
}

fn run(errands: Receiver<Errand>) {
    for errand in errands {
        debug!("{errand:?}");
        if let Err(error) = errand.run() {
            warn!("{errand:?}: {error}");
        }
    }
}

impl Errand {
    fn intent(&self) -> Intent {
        match self {
            Errand::Drain {
                vip,
                buckets,
                drain_ms,
            } => Intent::Release {
                address: *vip,
                buckets: buckets.clone(),
                drain_ms: *drain_ms,
            },
            Errand::Adopted { vip, buckets } => Intent::Adopted {
                address: *vip,
                buckets: buckets.clone(),
            },
        }
    }

    fn run(&self) -> Result<(), UnderLockError> {
        // Another node has the bucket by now, and this one is not to take segments of it for longer than need be. It is
        // rules alone that change, and whoever has the lock notices.
        let _lock = match self {
            Errand::Drain { .. } => None,
            Errand::Adopted { .. } => Some(lock(PATIENCE)?),
        };
        reach(&mut Kernel::open()?, &self.intent(), Manners::default())?;
        Ok(())
    }
}
