//! Waiting for descriptors within tokio. Only programs with the feature `daemon` have it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::unix::AsyncFd;

/// Tells when there is something to read at a descriptor, by a duplicate of it. What is readable then is read by its owner.
#[derive(Debug)]
pub struct Readiness(AsyncFd<OwnedFd>);

impl Readiness {
    /// Within a tokio runtime.
    ///
    /// # Errors
    /// Too many descriptors.
    pub fn of(fd: &impl AsFd) -> io::Result<Self> {
        let fd = fd.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is valid, belongs to this value alone, and nobody replaces or closes it before the end.
        let registered = unsafe { AsyncFd::register(fd) };
        Ok(Readiness(registered?))
    }

    /// Waits until something has come since. Whoever is told so has to read all of it.
    ///
    /// # Errors
    /// The runtime ends.
    pub async fn ready(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}
