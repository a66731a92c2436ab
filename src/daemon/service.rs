//! What systemd is told: that the daemon is ready, that it lives, that it ends (`sd_notify(3)`). Where nobody listens
//! nothing is told.

use sd_notify::NotifyState;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

/// The daemon is ready.
pub(super) fn ready() {
    tell(NotifyState::Ready);
}

/// It ends.
pub(super) fn ending() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState) {
    if let Err(error) = sd_notify::notify(&[state]) {
        debug!("systemd is not told: {error}");
    }
}

/// The sign of life that systemd waits for (`WatchdogSec=`).
pub(super) struct Beat {
    every: Option<Duration>,
    next: Instant,
}

impl Beat {
    /// Twice as often as systemd asks for.
    pub(super) fn begin() -> Self {
        Beat {
            every: sd_notify::watchdog_enabled().map(|all| all / 2),
            next: Instant::now(),
        }
    }

    /// Waits until it is time.
    pub(super) async fn due(&self) {
        match self.every {
            Some(_) => sleep_until(self.next).await,
            None => std::future::pending().await,
        }
    }

    /// Says that the daemon lives.
    pub(super) fn tell(&mut self) {
        tell(NotifyState::Watchdog);
        self.next = Instant::now() + self.every.unwrap_or_default();
    }
}
