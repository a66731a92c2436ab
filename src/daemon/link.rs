//! The connection to Corosync: made by a thread of its own, for Corosync may be stopped, and made anew when it is lost.

use crate::sys::corosync::{Corosync, CorosyncError, Event, Settings};
use crate::sys::readiness::Readiness;
use std::io;
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

/// The group that the daemons of all nodes are in.
const GROUP: &str = "clusterip";
/// The pause before it is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// A connection.
pub(super) struct Link {
    /// `None` once it is on its way out.
    corosync: Option<Corosync>,
    cpg: Readiness,
    quorum: Readiness,
    /// What Corosync is set to.
    pub(super) settings: Settings,
}

/// Connects in the background; the connection comes by `to`.
pub(super) fn connect(to: mpsc::Sender<(Corosync, Settings)>) {
    let connect = move || {
        let mut said = None;
        loop {
            let joined = Corosync::join(GROUP).and_then(|joined| Ok((joined, Settings::read()?)));
            match joined {
                // Nobody listens any more where the daemon ends.
                Ok(joined) => return drop(to.blocking_send(joined)),
                Err(error @ CorosyncError::TryAgain(_)) => debug!("{error}"),
                Err(error) if said.as_ref() != Some(&error) => {
                    warn!("{error}; until then agents do without this daemon");
                    said = Some(error);
                }
                Err(_) => {}
            }
            thread::sleep(AGAIN);
        }
    };
    let thread = thread::Builder::new().name("corosync".into());
    if let Err(error) = thread.spawn(connect) {
        warn!("Corosync cannot be reached: {error}");
    }
}

impl Link {
    /// Within a tokio runtime.
    pub(super) fn of((corosync, settings): (Corosync, Settings)) -> io::Result<Self> {
        let [cpg, quorum] = corosync.fds().map_err(io::Error::other)?;
        let (cpg, quorum) = (Readiness::of(&cpg)?, Readiness::of(&quorum)?);
        info!("Corosync is reached");
        Ok(Link {
            corosync: Some(corosync),
            cpg,
            quorum,
            settings,
        })
    }

    /// This node's number.
    pub(super) fn node(&self) -> Option<u32> {
        Some(self.corosync.as_ref()?.me().node)
    }

    /// Waits for something to have happened.
    pub(super) async fn ready(&self) -> io::Result<()> {
        tokio::select! {
            ready = self.cpg.ready() => ready,
            ready = self.quorum.ready() => ready,
        }
    }

    /// All that has happened.
    pub(super) fn take(&mut self) -> Result<Vec<Event>, CorosyncError> {
        let corosync = self.corosync.as_mut().ok_or(CorosyncError::Lost)?;
        let mut all = Vec::new();
        loop {
            let some = corosync.dispatch()?;
            if some.is_empty() {
                return Ok(all);
            }
            all.extend(some);
        }
    }

    /// Says something to all.
    pub(super) fn send(&self, bytes: &[u8]) -> Result<(), CorosyncError> {
        let corosync = self.corosync.as_ref().ok_or(CorosyncError::Lost)?;
        corosync.send(bytes)
    }
}

impl Drop for Link {
    /// The end of a connection waits for a Corosync that is stopped.
    fn drop(&mut self) {
        let corosync = self.corosync.take();
        let thread = thread::Builder::new().name("corosync".into());
        if let Err(error) = thread.spawn(move || drop(corosync)) {
            debug!("{error}");
        }
    }
}
