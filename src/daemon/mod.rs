//! The shell around `clusteripd`'s state machine, on tokio, one thread. It decides nothing about buckets: that is
//! `cluster`'s.
//!
//! | module | what lives there |
//! |---|---|
//! | [`work`] | the main loop: what happens is told to the state machine, what that wants is done |
//! | `doing` | what it does then |
//! | `link` | the connection to Corosync |
//! | `kernel` | what the daemon sees of its kernel, and what it tells it |
//! | `errands` | what takes its time, done by a thread of its own |
//! | `telling`, `metrics` | what nodectl, those who watch and Prometheus are told |
//! | `service` | what systemd is told |
//! | [`socket`] | the socket's file: whose it is, and that there is one daemon |
//! | [`server`] | who may connect, and how many at once |
//! | [`conversation`] | one of them: the request, the answer, and when nobody waits any longer |
//! | [`watchers`] | those who watch, who all hear the same |
//! | [`counts`] | how often what of all that was |
//!
//! ```text
//!  agents, nodectl ── server ──┐                 ┌── kernel ── nf_tables
//!           Corosync ── link ──┼── work: Machine ┼── errands (a thread)
//!  changes of nf_tables, time ─┘                 └── telling ── server
//! ```
//!
//! What may not live here: what is agreed on with other nodes, what the kernel is told for a VIP.

pub mod conversation;
pub mod counts;
mod doing;
mod errands;
mod kernel;
mod link;
mod metrics;
#[cfg(test)]
mod served;
pub mod server;
mod service;
pub mod socket;
mod telling;
pub mod watchers;
pub mod work;

use crate::cluster::bucket::{MARGIN, OFFER};
use crate::logging;
use crate::sys::process::real_time;
use std::process::ExitCode;
use tracing::{error, warn};

/// The daemon by which the nodes of a cluster hand over the buckets of shared addresses.
///
/// It runs on each node beside Corosync and Pacemaker. The resource agent ocf:rust:ClusterIP asks it when a bucket moves;
/// where it does not run the agent moves buckets by itself.
#[derive(Debug, clap::Parser)]
#[command(name = "clusteripd", version)]
pub struct Options {
    /// Tell everything that is done
    #[arg(long)]
    pub debug: bool,
}

/// Works until it is told to end.
pub fn main(options: &Options) -> ExitCode {
    logging::start(options.debug);
    // Others wait for it, and it does little.
    if let Err(error) = real_time() {
        warn!(
            "handing over takes longer where this node is busy, for the daemon has no real-time priority: {error}"
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime.map_err(work::WorkError::from).and_then(|runtime| {
        let socket = socket::Socket::open()?;
        // Who fails is going to be started again: the file stays, as it does where one is killed.
        runtime.block_on(work::run(&socket))?;
        // With all who are still connected.
        drop(runtime);
        socket.retire(OFFER + MARGIN);
        Ok(())
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}
