//! The shell around `clusteripd`'s state machine, on tokio, one thread. It decides nothing about buckets: that is
//! `cluster`'s.
//!
//! | module | what lives there |
//! |---|---|
//! | [`socket`] | the socket's file: whose it is, and that there is one daemon |
//! | [`server`] | who may connect, and how many at once |
//! | [`conversation`] | one of them: the request, the answer, and when nobody waits any longer |
//! | [`watchers`] | those who watch, who all hear the same |
//! | [`counts`] | how often what of all that was |
//! | `served` | trials of all this, by real sockets |
//!
//! What may not live here: what is agreed on with other nodes, what the kernel is told for a VIP.

pub mod conversation;
pub mod counts;
#[cfg(test)]
mod served;
pub mod server;
pub mod socket;
pub mod watchers;
