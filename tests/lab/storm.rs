//! A program that changes nf_tables all the time, as a firewall's manager gone wild does: between any two questions
//! to the kernel something is other than before, so nobody ever reads a state that is at rest.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, send, socket};

use crate::host::Host;
use crate::{Context, Error, Result, wait_until};

/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`, and nf_tables' messages for chains.
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
const NEW_CHAIN: u16 = 0x0a03;
const DELETE_CHAIN: u16 = 0x0a05;
const REQUEST: u16 = 1;
const CREATE: u16 = 0x400;
/// So many transactions, and it has begun.
const BEGUN: usize = 100;
const TABLE: &str = "storm";

/// A storm in one machine's nf_tables; it ends when this is dropped.
pub struct Storm {
    host: Host,
    ends: Arc<AtomicBool>,
    times: Arc<AtomicUsize>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Storm {
    /// Adds and deletes a chain of a table of its own, again and again, with a pause after both; without one it is the
    /// scheduler that makes pauses, for milliseconds. It has begun when this returns.
    pub fn begin(host: &Host, pause: Option<Duration>) -> Result<Self> {
        host.run(&["nft", "add", "table", "ip", TABLE])?;
        let ends = Arc::new(AtomicBool::new(false));
        let times = Arc::new(AtomicUsize::new(0));
        let socket = host.within(open)??;
        let (shared, counted) = (ends.clone(), times.clone());
        let thread = std::thread::spawn(move || rage(&socket, pause, &shared, &counted));
        let storm = Self {
            host: host.clone(),
            ends,
            times,
            thread: Some(thread),
        };
        wait_until("a storm", Duration::from_secs(20), || {
            match storm.transactions() {
                some if some > BEGUN => Ok(()),
                some => Err(Error::new(some.to_string())),
            }
        })?;
        Ok(storm)
    }

    /// How many transactions there were so far.
    pub fn transactions(&self) -> usize {
        self.times.load(Ordering::Relaxed)
    }

    /// Ends it, and tells how many transactions there were.
    pub fn end(mut self) -> Result<usize> {
        self.calm().context("the storm")?;
        Ok(self.transactions())
    }

    fn calm(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        self.ends.store(true, Ordering::Relaxed);
        let raged = thread.join();
        self.host.run(&["nft", "delete", "table", "ip", TABLE])?;
        raged.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        // On the way out of a failure that is told, or from a machine that has no power any more.
        let _ = self.calm();
    }
}

fn open() -> Result<OwnedFd> {
    socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )
    .context("a netlink socket")
}

fn rage(
    socket: &OwnedFd,
    pause: Option<Duration>,
    ends: &AtomicBool,
    times: &AtomicUsize,
) -> Result<()> {
    let (add, delete) = (transaction(NEW_CHAIN, CREATE), transaction(DELETE_CHAIN, 0));
    while !ends.load(Ordering::Relaxed) {
        for change in [&add, &delete] {
            send(socket.as_raw_fd(), change, MsgFlags::empty()).context("a transaction")?;
            times.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
    }
    Ok(())
}

fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let length = 20 + attributes.len() as u32;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

/// A transaction that changes the chain `c` of the table.
fn transaction(kind: u16, flags: u16) -> Vec<u8> {
    let attribute = |kind: u16, text: &str| {
        let mut bytes = (5 + text.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(text.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    // NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME.
    let names = [attribute(1, TABLE), attribute(3, "c")].concat();
    [
        message(BEGIN, REQUEST, 0, 10, &[]),
        message(kind, REQUEST | flags, AddressFamily::Inet as u8, 0, &names),
        message(END, REQUEST, 0, 10, &[]),
    ]
    .concat()
}
