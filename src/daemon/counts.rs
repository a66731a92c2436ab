//! How often something was, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted of those who connect.
#[derive(Debug, Default)]
pub struct Counts {
    /// Who has connected.
    pub connections: Count,
    /// Who was turned away, because too many were there.
    pub crowded: Count,
    /// Requests that were too long or not to be understood.
    pub garbled: Count,
    /// Requests of another version, or for what this daemon does not do.
    pub version: Count,
    /// Requests that only root may make, of others.
    pub denied: Count,
    /// Who has asked for nothing in time.
    pub idle: Count,
    /// Who has read too slowly.
    pub slow: Count,
    /// Who has ended the connection before the answer.
    pub gone: Count,
}

/// A number that grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Once more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
