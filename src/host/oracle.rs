//! Asking this machine's own kernel for the bucket of a packet: in a network namespace that lasts as
//! long as the question, where nothing else is and from where nothing gets out.
//!
//! The VIP's very rules are installed there on the loopback interface, with every bucket owned; one
//! packet is sent through it; the bucket whose counter has moved is the answer.

use super::observe::{Kernel, ObserveError};
use crate::model::bucket::BucketSet;
use crate::model::hash::Flow;
use crate::model::phase::Phases;
use crate::model::protocol::UDP;
use crate::model::ruleset::Ruleset;
use crate::model::vip::Vip;
use crate::plan::diff::changes;
use crate::reading::installed::counts;
use crate::rules::dataplane;
use crate::sys::netns::{self, NetnsError};
use crate::sys::nft::NftError;
use crate::sys::packet::{PacketError, PacketSocket};
use crate::sys::route::RouteError;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The one interface that every network namespace has.
const LOOPBACK: &str = "lo";
/// The packet is counted before the system call that sends it returns; on a busy machine a little later.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(1);

/// The kernel could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// There is no namespace to be had.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// It cannot be looked at.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The rules cannot be installed there.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// Its interface cannot be set up.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The packet cannot be sent.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// A namespace without a loopback interface.
    #[error("a new network namespace has no interface {LOOPBACK}")]
    NoLoopback,
    /// No counter has moved.
    #[error("the kernel has counted the packet for no bucket")]
    NotCounted,
    /// The thread that asks has ended too early.
    #[error("the kernel could not be asked: no thread")]
    NoThread,
}

/// The bucket in which this machine's kernel puts a flow's packets. Needs CAP_SYS_ADMIN.
///
/// # Errors
/// [`OracleError`].
pub fn bucket(vip: &Vip, flow: &Flow) -> Result<u16, OracleError> {
    // Only the thread that asks goes into the namespace, and the namespace ends with it.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| ask_within(vip, flow));
        thread.join().unwrap_or(Err(OracleError::NoThread))
    })
}

fn ask_within(vip: &Vip, flow: &Flow) -> Result<u16, OracleError> {
    netns::new()?;
    let mut kernel = Kernel::open()?;
    let link = kernel
        .route
        .link(LOOPBACK)?
        .ok_or(OracleError::NoLoopback)?;
    kernel.route.set_up(link.index)?;
    let Ok(nic) = LOOPBACK.parse() else {
        return Err(OracleError::NoLoopback);
    };
    let here = Vip { nic, ..vip.clone() };
    let all: BucketSet = vip.buckets.all().collect();
    let rules = dataplane::ruleset(&[(here, Phases::owning(all))]);
    let before = kernel.nft.snapshot()?;
    kernel
        .nft
        .apply(&changes(&Ruleset::new(), &rules), before.generation)?;
    PacketSocket::open(link.index)?.send(&frame(vip, flow))?;
    let begin = Instant::now();
    loop {
        let counted = counts(&kernel.nft.snapshot()?.rules, vip.address);
        let mut moved = counted.iter().filter(|(_, count)| count.packets > 0);
        if let Some((bucket, _)) = moved.next() {
            return Ok(*bucket);
        }
        if begin.elapsed() > PATIENCE {
            return Err(OracleError::NotCounted);
        }
        std::thread::sleep(PAUSE);
    }
}

/// A UDP datagram of the flow without contents, in a frame to the cluster MAC. Nobody gets as far as to
/// its checksums.
fn frame(vip: &Vip, flow: &Flow) -> Vec<u8> {
    const HEADER: u16 = 8;
    let mut frame = vip.mac.0.to_vec();
    frame.extend([2, 0, 0, 0, 0, 1]);
    match (flow.source, vip.address) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((20 + HEADER).to_be_bytes());
            frame.extend([0, 0, 0, 0, 64, UDP, 0, 0]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        (from, to) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(HEADER.to_be_bytes());
            frame.extend([UDP, 64]);
            frame.extend(octets(from));
            frame.extend(octets(to));
        }
    }
    frame.extend(flow.source_port.to_be_bytes());
    frame.extend(flow.destination_port.to_be_bytes());
    frame.extend(HEADER.to_be_bytes());
    frame.extend([0, 0]);
    frame
}
