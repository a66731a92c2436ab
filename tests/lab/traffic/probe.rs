//! A steady probe: a new short exchange every few milliseconds from each source, on a timeline.
//! Its gaps are the outages that new clients would have felt.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Failure, Flow, FlowResult, Pace, block_on, tcp, udp};
use crate::client::Client;
use crate::namespace::enter;
use crate::wait::patient;
use crate::{Context, Error, Result};

/// What a steady probe sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// A TCP connection with one line.
    Tcp,
    /// A datagram.
    Udp,
}

/// One probe on the timeline.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was sent, since the probe's start.
    pub at: Duration,
    /// What became of it.
    pub result: FlowResult,
}

/// All probes, in the order in which they were sent.
#[derive(Clone, Debug, Default)]
pub struct ProbeReport {
    /// The timeline.
    pub samples: Vec<Sample>,
}

impl ProbeReport {
    /// The probes that failed.
    pub fn failures(&self) -> Vec<&Sample> {
        self.samples
            .iter()
            .filter(|sample| sample.result.outcome.is_err())
            .collect()
    }

    /// For each source that ever failed: the longest time from the first lost probe to the next
    /// answered one (or to the end of the timeline).
    pub fn outages(&self) -> BTreeMap<IpAddr, Duration> {
        self.outages_by(|result| result.src)
    }

    /// The same for groups of probes (say, those of a bucket).
    pub fn outages_by<G: Ord + Copy>(
        &self,
        group: impl Fn(&FlowResult) -> G,
    ) -> BTreeMap<G, Duration> {
        let mut dark_since = BTreeMap::new();
        let mut longest: BTreeMap<G, Duration> = BTreeMap::new();
        for sample in &self.samples {
            let of = group(&sample.result);
            match (&sample.result.outcome, dark_since.get(&of).copied()) {
                (Err(_), None) => drop(dark_since.insert(of, sample.at)),
                (_, Some(since)) => {
                    let dark = longest.entry(of).or_default();
                    *dark = (*dark).max(sample.at - since);
                    if sample.result.outcome.is_ok() {
                        dark_since.remove(&of);
                    }
                }
                (Ok(_), None) => {}
            }
        }
        longest
    }

    /// For each group of probes (say, those of a bucket) of which some were lost at `since` or
    /// later: when the first of them was sent, and when the answer after the last lost one came,
    /// if one did.
    pub fn dark<G: Ord>(
        &self,
        since: Duration,
        group: impl Fn(&FlowResult) -> G,
    ) -> BTreeMap<G, (Duration, Option<Duration>)> {
        let mut dark: BTreeMap<G, (Duration, Option<Duration>)> = BTreeMap::new();
        for Sample { at, result } in &self.samples {
            match (&result.outcome, dark.get_mut(&group(result))) {
                (Err(_), None) if *at >= since => {
                    dark.insert(group(result), (*at, None));
                }
                (Err(_), Some((_, again))) => *again = None,
                (Ok(_), Some((_, again @ None))) => *again = Some(*at + result.rtt),
                _ => {}
            }
        }
        dark
    }

    /// The longest outage of any source.
    pub fn longest_outage(&self) -> Duration {
        self.outages().into_values().max().unwrap_or_default()
    }

    /// The changes of the answering node of one source, with their times.
    pub fn owners(&self, src: IpAddr) -> Vec<(Duration, String)> {
        let mut owners: Vec<(Duration, String)> = Vec::new();
        for sample in self
            .samples
            .iter()
            .filter(|sample| sample.result.src == src)
        {
            if let Ok(node) = &sample.result.outcome {
                if owners.last().is_none_or(|(_, last)| last != node) {
                    owners.push((sample.at, node.clone()));
                }
            }
        }
        owners
    }
}

/// A probe in the background; [`Probe::stop`] gives its timeline.
pub struct Probe {
    stop: watch::Sender<bool>,
    samples: mpsc::Receiver<Sample>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Client {
    /// Starts to probe `target` from each of `sources` every `every`, until [`Probe::stop`].
    ///
    /// A probe fails when it has no answer after `patience`; the next ones do not wait for it.
    pub fn probe(
        &self,
        kind: ProbeKind,
        target: SocketAddr,
        sources: impl IntoIterator<Item = IpAddr>,
        every: Duration,
        patience: Duration,
    ) -> Result<Probe> {
        let sources: Vec<IpAddr> = sources.into_iter().collect();
        // A machine that is slower cannot send as often either.
        let every = patient(every);
        let net = self.place()?.net().handle()?;
        let (stop, stopped) = watch::channel(false);
        let (sender, samples) = mpsc::channel();
        let pace = Pace {
            timeout: patience,
            ..Pace::default()
        };
        let thread = std::thread::spawn(move || {
            enter(&net)?;
            block_on(probe_all(
                kind, target, sources, every, pace, sender, stopped,
            ))
        });
        Ok(Probe {
            stop,
            samples,
            thread: Some(thread),
        })
    }
}

impl Probe {
    /// Ends the probe, lets what is under way finish, and gives the timeline.
    pub fn stop(mut self) -> Result<ProbeReport> {
        self.end()?;
        let mut samples: Vec<Sample> = self.samples.try_iter().collect();
        samples.sort_by_key(|sample| sample.at);
        Ok(ProbeReport { samples })
    }

    fn end(&mut self) -> Result<()> {
        // Nobody listens any more if the thread has failed, and then joining tells why.
        let _ = self.stop.send(true);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended.context("the probe"),
            Some(Err(_)) => Err(Error::new("the probe's thread panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

async fn probe_all(
    kind: ProbeKind,
    target: SocketAddr,
    sources: Vec<IpAddr>,
    every: Duration,
    pace: Pace,
    samples: mpsc::Sender<Sample>,
    stopped: watch::Receiver<bool>,
) {
    let started = Instant::now();
    let count = sources.len().max(1) as u32;
    let mut probing = JoinSet::new();
    for (index, src) in sources.into_iter().enumerate() {
        let (samples, mut stopped) = (samples.clone(), stopped.clone());
        probing.spawn(async move {
            // Sources take turns within an interval instead of all at its beginning.
            sleep(every / count * index as u32).await;
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut flying = JoinSet::new();
            loop {
                tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => break,
                    _ = ticks.tick() => {}
                }
                let samples = samples.clone();
                flying.spawn(async move {
                    let at = started.elapsed();
                    let result = one(kind, target, src.into(), pace).await;
                    // The receiver lives as long as the probe does.
                    let _ = samples.send(Sample { at, result });
                });
                while flying.try_join_next().is_some() {}
            }
            flying.join_all().await;
        });
    }
    probing.join_all().await;
}

async fn one(kind: ProbeKind, target: SocketAddr, flow: Flow, pace: Pace) -> FlowResult {
    let mut result = match kind {
        ProbeKind::Tcp => tcp::exchange_once(target, flow, pace).await,
        ProbeKind::Udp => udp::ask(target, flow, pace).await,
    };
    if let Err(Failure::Other(text)) = &mut result.outcome {
        // A probe that could not even be sent is a fault of the lab; keep it recognisable.
        text.insert_str(0, "the probe itself failed: ");
    }
    result
}
