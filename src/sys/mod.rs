//! The kernel's interfaces and Corosync's, one module each. Mechanism only: nothing here decides what should be.
//!
//! All of the crate's `unsafe` stands below this module: in `nft` (libnftnl's expressions and
//! batches, a borrowed file descriptor), `mcast` (two ioctls), `bpf` (a question), `packet` (a packet socket),
//! `process` (fork, a priority), `alarm` (a signal handler, a pipe that sends signals), `readiness` (a descriptor within
//! tokio) and `corosync` (its libraries); and a test of `connections` sets a socket's option.

pub mod alarm;
pub mod bpf;
pub mod connections;
#[cfg(feature = "daemon")]
pub mod corosync;
mod dump;
pub mod errno;
#[cfg(test)]
pub(crate) mod folder;
pub mod mcast;
pub mod netns;
pub mod nft;
pub mod packet;
pub mod process;
#[cfg(feature = "daemon")]
pub mod readiness;
pub mod route;
pub mod sysctl;
