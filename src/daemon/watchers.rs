//! Those who watch: all of them hear the same, and whoever reads too slowly is cut off. What waits to be read is there
//! once, however many they are.

use crate::talk::event::Event;
use crate::talk::reply::Reply;
use std::sync::Arc;
use tokio::sync::broadcast;
use tracing::error;

/// So many events wait for the slowest. A move of a node's 1,024 buckets is a few.
pub const BEHIND: usize = 1024;

/// Those who watch.
#[derive(Debug, Clone)]
pub struct Watchers(broadcast::Sender<Arc<str>>);

impl Default for Watchers {
    fn default() -> Self {
        Watchers(broadcast::Sender::new(BEHIND))
    }
}

impl Watchers {
    /// Tells all of them.
    pub fn tell(&self, event: Event) {
        if self.0.receiver_count() == 0 {
            return;
        }
        match Reply::Event(event).line() {
            // Nobody is there any more: nothing is lost.
            Ok(line) => drop(self.0.send(line.into())),
            Err(error) => error!("an event cannot be told: {error}"),
        }
    }

    /// From now on.
    pub(super) fn listen(&self) -> broadcast::Receiver<Arc<str>> {
        self.0.subscribe()
    }
}
