//! Long-lived TCP connections that exchange a line every interval, in the background.
//! A move must not hurt them; what each exchange felt is recorded.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::tcp::Line;
use super::{Failure, Flow, block_on, quantile};
use crate::client::Client;
use crate::namespace::enter;
use crate::wait::patient;
use crate::{Context, Error, Result};

/// How connections are held.
#[derive(Clone, Copy, Debug)]
pub struct HoldOptions {
    /// Pause between two exchanges of one connection.
    pub interval: Duration,
    /// How long connecting, and each exchange, may take before the connection counts as lost.
    pub timeout: Duration,
}

impl Default for HoldOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(50),
            timeout: Duration::from_secs(10),
        }
    }
}

/// What became of one held connection.
#[derive(Clone, Debug)]
pub struct HeldFlow {
    /// Its source address.
    pub src: IpAddr,
    /// Its source port.
    pub sport: u16,
    /// Exchanges that went well, by the node that answered.
    pub answers: BTreeMap<String, usize>,
    /// When (since the start of holding) and why the connection was lost, if it was.
    pub lost: Option<(Duration, Failure)>,
    /// Time that each good exchange took, in order.
    pub latencies: Vec<Duration>,
}

impl HeldFlow {
    /// When and why it was lost, in words, if it was.
    fn how_lost(&self) -> Option<String> {
        let (when, why) = self.lost.as_ref()?;
        let when = when.as_secs_f64();
        Some(format!("{}:{} {why} at {when:.2} s", self.src, self.sport))
    }
}

/// What became of all held connections.
#[derive(Clone, Debug, Default)]
pub struct HoldReport {
    /// One entry for each connection.
    pub flows: Vec<HeldFlow>,
}

impl HoldReport {
    /// How many exchanges went well.
    pub fn exchanges(&self) -> usize {
        self.flows.iter().map(|flow| flow.latencies.len()).sum()
    }

    /// The connections that were lost or never came to be.
    pub fn lost(&self) -> Vec<&HeldFlow> {
        self.flows
            .iter()
            .filter(|flow| flow.lost.is_some())
            .collect()
    }

    /// The longest time that any good exchange took.
    pub fn longest_exchange(&self) -> Duration {
        let all = self.flows.iter().flat_map(|flow| flow.latencies.iter());
        all.max().copied().unwrap_or_default()
    }

    /// The time that `share` (0 to 1) of all good exchanges did not exceed.
    pub fn latency_quantile(&self, share: f64) -> Option<Duration> {
        quantile(
            self.flows
                .iter()
                .flat_map(|flow| flow.latencies.iter().copied())
                .collect(),
            share,
        )
    }

    /// Fails, telling the first losses, unless all connections live and have been answered.
    pub fn expect_none_lost(&self) -> Result<()> {
        let lost = self.lost();
        if lost.is_empty() {
            return Ok(());
        }
        let some = lost.iter().filter_map(|flow| flow.how_lost()).take(5);
        Err(Error::new(format!(
            "{} of {} held connections were lost: {}",
            lost.len(),
            self.flows.len(),
            some.collect::<Vec<_>>().join("; ")
        )))
    }
}

/// Connections being held; [`Held::stop`] gives the report.
pub struct Held {
    flows: Vec<Flow>,
    counters: Arc<Counters>,
    stop: watch::Sender<Ending>,
    thread: Option<JoinHandle<Result<HoldReport>>>,
}

/// How held connections are to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    NotYet,
    Close,
    Abort,
}

#[derive(Default)]
struct Counters {
    exchanges: AtomicUsize,
    /// What was lost, in words.
    lost: Mutex<Vec<String>>,
}

impl Counters {
    fn lost(&self) -> MutexGuard<'_, Vec<String>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Opens a connection for each flow and keeps all of them busy until [`Held::stop`].
    ///
    /// Returns when every connection has had its first answer, or has failed to get it.
    pub fn hold<I>(&self, target: SocketAddr, flows: I, options: HoldOptions) -> Result<Held>
    where
        I: IntoIterator,
        I::Item: Into<Flow>,
    {
        let flows: Vec<Flow> = flows.into_iter().map(Into::into).collect();
        let net = self.place()?.net().handle()?;
        let counters = Arc::new(Counters::default());
        let (stop, stopped) = watch::channel(Ending::NotYet);
        let (opened, all_opened) = mpsc::channel();
        let (asked, expected) = (flows.clone(), flows.len());
        let shared = counters.clone();
        let thread = std::thread::spawn(move || {
            enter(&net)?;
            block_on(hold_all(target, flows, options, shared, stopped, opened))
        });
        // The channel ends early only if the thread failed, which `stop` will tell.
        let ready = all_opened.iter().take(expected).count();
        let held = Held {
            flows: asked,
            counters,
            stop,
            thread: Some(thread),
        };
        if ready < expected {
            held.stop()?;
            return Err(Error::new("the holding thread ended early"));
        }
        Ok(held)
    }
}

impl Held {
    /// How many connections there were to be.
    pub fn count(&self) -> usize {
        self.flows.len()
    }

    /// The flows that were asked for.
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// Good exchanges so far.
    pub fn exchanges(&self) -> usize {
        self.counters.exchanges.load(Ordering::Relaxed)
    }

    /// Connections lost so far.
    pub fn lost(&self) -> usize {
        self.counters.lost().len()
    }

    /// The first connections lost so far, when and why, in words.
    pub fn first_lost(&self) -> String {
        let lost = self.counters.lost();
        let some: Vec<&str> = lost.iter().take(5).map(String::as_str).collect();
        some.join("; ")
    }

    /// Closes all connections and tells what became of them.
    pub fn stop(mut self) -> Result<HoldReport> {
        self.end(Ending::Close)
            .context("holding had already ended")?
    }

    /// As [`Held::stop`], with a reset instead of a close. If the client's rules keep the resets
    /// from leaving, the nodes are left with stale sockets.
    pub fn abort(mut self) -> Result<HoldReport> {
        self.end(Ending::Abort)
            .context("holding had already ended")?
    }

    fn end(&mut self, ending: Ending) -> Option<Result<HoldReport>> {
        let thread = self.thread.take()?;
        // Nobody listens any more if the thread has failed, and then joining tells why.
        let _ = self.stop.send(ending);
        match thread.join() {
            Ok(report) => Some(report),
            Err(_) => Some(Err(Error::new("the holding thread panicked"))),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.end(Ending::Close);
    }
}

async fn hold_all(
    target: SocketAddr,
    flows: Vec<Flow>,
    options: HoldOptions,
    counters: Arc<Counters>,
    stopped: watch::Receiver<Ending>,
    opened: mpsc::Sender<()>,
) -> HoldReport {
    let started = Instant::now();
    let mut running = JoinSet::new();
    for flow in flows {
        let (counters, stopped, opened) = (counters.clone(), stopped.clone(), opened.clone());
        running.spawn(async move {
            let mut held = HeldFlow {
                src: flow.src,
                sport: flow.sport,
                answers: BTreeMap::new(),
                lost: None,
                latencies: Vec::new(),
            };
            let mut opened = Some(opened);
            let end = hold_one(target, &mut held, options, &counters, stopped, &mut opened).await;
            if let Err(why) = end {
                held.lost = Some((started.elapsed(), why));
                counters.lost().extend(held.how_lost());
            }
            tell(&mut opened);
            held
        });
    }
    drop(opened);
    HoldReport {
        flows: running.join_all().await,
    }
}

async fn hold_one(
    target: SocketAddr,
    held: &mut HeldFlow,
    options: HoldOptions,
    counters: &Counters,
    mut stopped: watch::Receiver<Ending>,
    opened: &mut Option<mpsc::Sender<()>>,
) -> Result<(), Failure> {
    let flow = Flow {
        src: held.src,
        sport: held.sport,
    };
    let patience = |_| Failure::Timeout;
    let mut line = timeout(patient(options.timeout), Line::connect(target, flow))
        .await
        .map_err(patience)??;
    held.sport = line.sport;
    loop {
        let asked = Instant::now();
        let node = timeout(patient(options.timeout), line.exchange(0))
            .await
            .map_err(patience)??;
        held.latencies.push(asked.elapsed());
        *held.answers.entry(node).or_default() += 1;
        counters.exchanges.fetch_add(1, Ordering::Relaxed);
        tell(opened);
        let told = stopped.wait_for(|ending| *ending != Ending::NotYet);
        if let Ok(told) = timeout(options.interval, told).await {
            if told.is_ok_and(|ending| *ending == Ending::Abort) {
                line.reset_on_close()?;
            }
            return Ok(());
        }
    }
}

fn tell(opened: &mut Option<mpsc::Sender<()>>) {
    if let Some(opened) = opened.take() {
        // The opener has gone only if it no longer wants to know.
        let _ = opened.send(());
    }
}
