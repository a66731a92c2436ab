//! Sending a slice of packets and timing it; and the proof that every node received each of them,
//! on the sender's own CPU.
//!
//! A packet that is sent into a veth is received in the softirq that follows at once, on the same
//! CPU and inside the same system call: the bridge and all nodes have done with it when `sendmmsg`
//! comes back. So the time of a slice is that of its nodes' work, and of sending. `/proc` says
//! whether that was so.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use lab::{Context, Error, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{LinkAddr, MsgFlags, MultiHeaders, sendmmsg};

use super::stage::Stage;

/// Frames of one system call.
const AT_ONCE: usize = 64;
/// How long the CPU is left to others between slices.
const BREATH: Duration = Duration::from_micros(500);

/// How long a slice may be under way after it was sent.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a slice of packets took.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// All of it.
    pub elapsed: Duration,
    /// Something else ran in between, or was received.
    pub disturbed: bool,
    /// What each node has received of it.
    pub received: u64,
}

/// Pins the calling thread to the last CPU that it may use, and asks for precedence on it; the
/// CPU's number.
pub fn pin() -> Result<usize> {
    let cpu = lab::pin_to_last_cpu()?;
    lab::take_precedence();
    Ok(cpu)
}

/// Sends `warm` untimed and `frames` timed, and looks whether all of it and nothing else was
/// measured.
pub fn slice(stage: &mut Stage, cpu: usize, warm: &[Vec<u8>], frames: &[Vec<u8>]) -> Result<Slice> {
    // The rest of the machine has a turn as well.
    std::thread::sleep(BREATH);
    send(stage, warm)?;
    let before = Counters::read(stage, cpu)?;
    let began = Instant::now();
    send(stage, frames)?;
    let elapsed = began.elapsed();
    let mut after = Counters::read(stage, cpu)?;
    let mut disturbed = after.interruptions != before.interruptions;

    // Once on the bridge, and once on each node.
    let sent = frames.len() as u64;
    let expected = sent * (1 + before.received.len() as u64);
    let late = Instant::now();
    while after.least(&before) < sent || after.here(&before) < expected {
        // The kernel's own thread may have to finish what was too much for one softirq.
        disturbed = true;
        if late.elapsed() > PATIENCE {
            return Err(lost(stage, cpu, sent, &before, &after));
        }
        std::thread::sleep(BREATH);
        after = Counters::read(stage, cpu)?;
    }
    disturbed |= after.most(&before) > sent || after.dropped != before.dropped;
    Ok(Slice {
        elapsed,
        disturbed,
        received: after.least(&before),
    })
}

/// Why the cost of these packets cannot be told.
fn lost(stage: &Stage, cpu: usize, sent: u64, before: &Counters, after: &Counters) -> Error {
    let rules = stage.rules().name();
    let least = after.least(before);
    if least >= sent {
        return Error::new(format!(
            "'{rules}': only {} of {} receptions were on the sender's CPU {cpu}; switch RPS off, \
             or the clock sees no more than a part of the work",
            after.here(before),
            sent * (1 + before.received.len() as u64),
        ));
    }
    Error::new(format!(
        "'{rules}': of {sent} packets a node received {least}, and the kernel dropped {} on the \
         way, so their cost cannot be told; is net.core.netdev_max_backlog below its usual 1000, \
         or has the bridge learnt an address?",
        after.dropped.wrapping_sub(before.dropped)
    ))
}

/// What is counted around a slice.
struct Counters {
    /// Packets that each node has received.
    received: Vec<u64>,
    /// Packets that were received on the sender's CPU, of whichever namespace.
    processed: u64,
    /// Packets that some CPU's backlog had no room for.
    dropped: u32,
    /// How often this thread had to make room for others.
    interruptions: i64,
}

impl Counters {
    fn read(stage: &mut Stage, cpu: usize) -> Result<Self> {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).context("ask for interruptions")?;
        let softnet = Softnet::read()?;
        Ok(Self {
            received: stage.received()?,
            processed: softnet.of(cpu),
            dropped: softnet.dropped,
            interruptions: usage.involuntary_context_switches(),
        })
    }

    fn each(&self, before: &Self) -> impl Iterator<Item = u64> {
        let both = self.received.iter().zip(&before.received);
        both.map(|(new, old)| new.saturating_sub(*old))
    }

    fn least(&self, before: &Self) -> u64 {
        self.each(before).min().unwrap_or_default()
    }

    fn most(&self, before: &Self) -> u64 {
        self.each(before).max().unwrap_or_default()
    }

    fn here(&self, before: &Self) -> u64 {
        // The kernel's figure has 32 bits.
        u64::from((self.processed as u32).wrapping_sub(before.processed as u32))
    }
}

/// Sends all frames.
fn send(stage: &Stage, frames: &[Vec<u8>]) -> Result<()> {
    for some in frames.chunks(AT_ONCE) {
        let slices: Vec<[IoSlice; 1]> = some.iter().map(|frame| [IoSlice::new(frame)]).collect();
        let mut headers = MultiHeaders::<LinkAddr>::preallocate(slices.len(), None);
        let nowhere = vec![None::<LinkAddr>; slices.len()];
        let flags = MsgFlags::empty();
        // How many were taken is not asked here: the nodes' counters tell.
        sendmmsg(
            stage.socket(),
            &mut headers,
            slices.iter(),
            nowhere,
            [],
            flags,
        )
        .context("send packets")?;
    }
    Ok(())
}

/// What `/proc/net/softnet_stat` tells of packets that were received in softirqs.
struct Softnet {
    processed: Vec<(usize, u32)>,
    dropped: u32,
}

impl Softnet {
    fn read() -> Result<Self> {
        let path = "/proc/net/softnet_stat";
        let text = std::fs::read_to_string(path).context(path)?;
        Self::parse(&text).context(format!("{path} cannot be understood"))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut all = Self {
            processed: Vec::new(),
            dropped: 0,
        };
        for (line, row) in text.lines().enumerate() {
            let mut figures = Vec::new();
            for word in row.split_whitespace() {
                figures.push(u32::from_str_radix(word, 16).ok()?);
            }
            // The CPU's number is the 13th figure, where the kernel tells it.
            let cpu = figures.get(12).map_or(line, |cpu| *cpu as usize);
            all.processed.push((cpu, *figures.first()?));
            all.dropped = all.dropped.wrapping_add(*figures.get(1)?);
        }
        Some(all)
    }

    fn of(&self, cpu: usize) -> u64 {
        let mut all = self.processed.iter();
        all.find(|(number, _)| *number == cpu)
            .map_or(0, |(_, processed)| (*processed).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figures_are_read_by_cpu() {
        let zeros = "00000000 ".repeat(9);
        let text = format!(
            "0000000a 00000001 00000000 {zeros}00000000 0 0\n\
             000000ff 00000002 00000000 {zeros}00000003 0 0\n"
        );
        let read = Softnet::parse(&text).expect("two CPUs");
        assert_eq!((read.of(0), read.of(3), read.of(1)), (10, 255, 0));
        assert_eq!(read.dropped, 3);
        assert!(Softnet::parse("what is this").is_none());
    }
}
