//! Traffic from a client: many flows from many sources, each with its own result.
//!
//! Every driver runs on a thread that has entered the client's namespace, with a small tokio
//! runtime of its own. What the drivers send is here; what came back on the wire, and from whom,
//! is the witness's business.

mod hold;
mod other;
mod ping;
mod probe;
mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

pub use hold::{Held, HeldFlow, HoldOptions, HoldReport};
pub use probe::{Probe, ProbeKind, ProbeReport, Sample};

use crate::client::Client;
use crate::{Context, Error, Result};

/// Where a flow comes from; port 0 lets the kernel choose (for ping, the port is the identifier).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// Source address, one of the client's.
    pub src: IpAddr,
    /// Source port.
    pub sport: u16,
}

impl From<IpAddr> for Flow {
    fn from(src: IpAddr) -> Self {
        Self { src, sport: 0 }
    }
}

impl From<(IpAddr, u16)> for Flow {
    fn from((src, sport): (IpAddr, u16)) -> Self {
        Self { src, sport }
    }
}

/// How fast, how patiently and how much is sent.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Flows at the same time.
    pub concurrency: usize,
    /// How long a flow may take from its first packet to its answer.
    pub timeout: Duration,
    /// Length of a request in bytes at least; UDP requests above the MTU are sent as fragments.
    pub size: usize,
    /// End TCP connections by a reset instead of a close: no TIME_WAIT, and the same ports may be
    /// used again at once.
    pub abort: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            concurrency: 64,
            timeout: Duration::from_secs(3),
            size: 0,
            abort: false,
        }
    }
}

/// Why a flow failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// Nothing came back in time.
    Timeout,
    /// The connection or the port was refused.
    Refused,
    /// The connection was reset.
    Reset,
    /// The other side closed the connection without an answer.
    Closed,
    /// No route, or no neighbour.
    Unreachable,
    /// An answer came that was none to what had been asked.
    Garbled(String),
    /// Anything else, in the kernel's words.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("timed out"),
            Self::Refused => f.write_str("refused"),
            Self::Reset => f.write_str("reset"),
            Self::Closed => f.write_str("closed"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Garbled(answer) => write!(f, "garbled answer {answer:?}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            io::ErrorKind::UnexpectedEof => Self::Closed,
            io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// What became of one flow.
#[derive(Clone, Debug)]
pub struct FlowResult {
    /// Its source address.
    pub src: IpAddr,
    /// Its source port as used (for ping, the identifier).
    pub sport: u16,
    /// The node that answered, or why none did.
    pub outcome: Result<String, Failure>,
    /// Time from the first packet to the outcome.
    pub rtt: Duration,
}

/// What became of all flows of one call, in the order in which they ended.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// One result for each flow.
    pub flows: Vec<FlowResult>,
}

impl Report {
    /// How many flows each node answered.
    pub fn by_node(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for node in self
            .flows
            .iter()
            .filter_map(|flow| flow.outcome.as_ref().ok())
        {
            *counts.entry(node.clone()).or_default() += 1;
        }
        counts
    }

    /// Which node answered each flow.
    pub fn answered(&self) -> BTreeMap<Flow, String> {
        let answered = self.flows.iter().filter_map(|flow| {
            Some((
                Flow {
                    src: flow.src,
                    sport: flow.sport,
                },
                flow.outcome.as_ref().ok()?.clone(),
            ))
        });
        answered.collect()
    }

    /// The flows that failed.
    pub fn failures(&self) -> Vec<&FlowResult> {
        self.flows
            .iter()
            .filter(|flow| flow.outcome.is_err())
            .collect()
    }

    /// How many flows failed, by reason.
    pub fn failures_by_kind(&self) -> BTreeMap<Failure, usize> {
        let mut counts = BTreeMap::new();
        for failure in self
            .flows
            .iter()
            .filter_map(|flow| flow.outcome.as_ref().err())
        {
            *counts.entry(failure.clone()).or_default() += 1;
        }
        counts
    }

    /// Fails, with the reasons counted, unless every flow was answered.
    pub fn expect_all_answered(&self) -> Result<()> {
        let failed = self.failures().len();
        if failed == 0 {
            return Ok(());
        }
        let reasons = self.failures_by_kind();
        let reasons = reasons
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"));
        Err(Error::new(format!(
            "{failed} of {} flows failed: {}",
            self.flows.len(),
            reasons.collect::<Vec<_>>().join(", ")
        )))
    }

    /// The round-trip time that `share` (0 to 1) of the answered flows did not exceed.
    pub fn rtt_quantile(&self, share: f64) -> Option<Duration> {
        let answered = self.flows.iter().filter(|flow| flow.outcome.is_ok());
        quantile(answered.map(|flow| flow.rtt).collect(), share)
    }
}

/// The value that `share` of all values do not exceed.
pub(crate) fn quantile(mut values: Vec<Duration>, share: f64) -> Option<Duration> {
    values.sort_unstable();
    let last = values.len().checked_sub(1)?;
    values
        .get((last as f64 * share.clamp(0.0, 1.0)).round() as usize)
        .copied()
}

/// Runs a future on a small runtime of the calling thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    Ok(runtime.context("start a tokio runtime")?.block_on(future))
}

/// Runs one future a flow inside the client, a limited number of them at once.
fn drive<I, F, Run>(client: &Client, flows: I, concurrency: usize, run: Run) -> Result<Report>
where
    I: IntoIterator,
    I::Item: Into<Flow>,
    F: Future<Output = FlowResult> + Send + 'static,
    Run: Fn(Flow) -> F + Send,
{
    let flows: Vec<Flow> = flows.into_iter().map(Into::into).collect();
    client.within(move || {
        block_on(async {
            let mut report = Report::default();
            let mut running = JoinSet::new();
            for flow in flows {
                while running.len() >= concurrency.max(1) {
                    collect(&mut report, running.join_next().await);
                }
                running.spawn(run(flow));
            }
            while !running.is_empty() {
                collect(&mut report, running.join_next().await);
            }
            report
        })
    })?
}

fn collect(report: &mut Report, ended: Option<Result<FlowResult, tokio::task::JoinError>>) {
    match ended {
        Some(Ok(result)) => report.flows.push(result),
        Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
        None => {}
    }
}

/// Opens a socket, again and again for a moment if its port is still taken.
///
/// A socket of ours that is closed may live on until a program that another thread is just
/// starting has let go of its copy.
async fn open_patiently<T, F>(open: impl Fn() -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut tries = 100;
    loop {
        let error = match open().await {
            Ok(socket) => return Ok(socket),
            Err(error) => error,
        };
        let taken = [io::ErrorKind::AddrInUse, io::ErrorKind::AddrNotAvailable];
        if tries == 0 || !taken.contains(&error.kind()) {
            return Err(error);
        }
        tries -= 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A request that no other request of this process equals, at least `size` bytes long.
fn request(size: usize) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut text = format!("q{}", NEXT.fetch_add(1, Ordering::Relaxed));
    while text.len() < size {
        text.push('.');
    }
    text
}

/// The node that gave this answer to that request.
fn node_of(answer: &str, request: &str) -> Result<String, Failure> {
    match answer.trim_end().split_once(' ') {
        Some((node, echoed)) if echoed == request => Ok(node.to_string()),
        _ => Err(Failure::Garbled(answer.chars().take(80).collect())),
    }
}
