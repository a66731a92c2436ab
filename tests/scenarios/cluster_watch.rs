//! What a client feels while something happens to the cluster, on a timeline.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use lab::cluster::PATIENCE;
use lab::traffic::{Probe, ProbeReport};
use lab::{Client, Context, Error, FlowResult, Pace, ProbeKind, Result, Witness, Witnessed};

use crate::cluster_support::*;

/// How often each source of the steady probe asks.
const EVERY: Duration = Duration::from_millis(150);
/// How many sources it has: enough that every bucket is asked many times a second.
const SOURCES: usize = 36;
/// How long an echo request does: of the echoes only what is answered counts.
const ECHO_TIME: Duration = Duration::from_millis(250);

impl Rig {
    /// Begins to watch the first VIP with steady requests; returns when some were answered.
    pub fn watch(&self) -> Result<Watch> {
        let vip = self.vip().clone();
        let opened = SystemTime::now();
        let witness = self.client.witness(&[vip.address])?;
        let sources = self.client.sources_for(vip.address, SOURCES);
        let probe = self
            .client
            .probe(ProbeKind::Udp, vip.target(), sources, EVERY, ANSWER_TIME)?;
        let began = SystemTime::now();
        let echo = Echo::start(&self.client, vip.address);
        self.lab.wait_until("the first answers", PATIENCE, || {
            witness.frames() > 2 * SOURCES
        })?;
        Ok(Watch {
            vip,
            witness,
            probe,
            echo,
            opened,
            began,
        })
    }
}

/// A witness, a steady probe and steady echo requests: kernels answer these even when nothing
/// else lives on a node.
pub struct Watch {
    vip: Shared,
    witness: Witness,
    probe: Probe,
    echo: Echo,
    opened: SystemTime,
    began: SystemTime,
}

/// What a watch has seen.
pub struct Story {
    pub vip: Shared,
    pub seen: Witnessed,
    pub probes: ProbeReport,
    pub echoes: usize,
    opened: SystemTime,
    began: SystemTime,
}

impl Watch {
    /// Ends the requests; whatever else was seen, no request was answered doubly.
    pub fn finish(self) -> Result<Story> {
        // So many more that each bucket is asked a few times after all that has happened.
        let enough = self.witness.frames() + 40 * usize::from(self.vip.buckets);
        lab::wait_until("further answers", PATIENCE, || {
            self.witness.frames() > enough
        })?;
        let echoes = self.echo.stop()?;
        let probes = self.probe.stop()?;
        let seen = self.witness.finish()?;
        seen.expect_no_double_answers()?;
        Ok(Story {
            vip: self.vip,
            seen,
            probes,
            echoes,
            opened: self.opened,
            began: self.began,
        })
    }
}

impl Story {
    /// For each bucket that missed answers after `since`: when it was last dark, as wall clock
    /// times of the first and of the answered probe after the last lost one.
    pub fn dark(&self, since: SystemTime) -> BTreeMap<u16, (SystemTime, Option<SystemTime>)> {
        let since = since.duration_since(self.began).unwrap_or_default();
        let bucket = |result: &FlowResult| self.vip.bucket(result.src, result.sport);
        let dark = self.probes.dark(since, bucket).into_iter();
        dark.map(|(bucket, (from, again))| {
            let again = again.map(|again| self.began + again);
            (bucket, (self.began + from, again))
        })
        .collect()
    }

    /// When a node sent its last answer.
    pub fn last_word(&self, node: &str) -> Option<SystemTime> {
        let frames = self.seen.frames.iter().rev();
        let last = frames.filter(|seen| self.seen.name(seen.frame.from) == node);
        last.map(|seen| self.opened + seen.at).next()
    }

    /// Fails if a bucket that was dark for a time stayed so to the end.
    pub fn expect_all_served_again(&self) -> Result<()> {
        let mut dark = self.dark(self.began);
        dark.retain(|_, (_, again)| again.is_none());
        match dark.is_empty() {
            true => Ok(()),
            false => Err(Error::new(format!("dark to the end: {dark:?}"))),
        }
    }

    /// Fails if any probe was not answered.
    pub fn expect_none_unanswered(&self) -> Result<()> {
        let lost = self.probes.failures();
        match lost.first() {
            None => Ok(()),
            Some(first) => Err(Error::new(format!(
                "{} of {} probes were not answered, the first: {first:?}",
                lost.len(),
                self.probes.samples.len()
            ))),
        }
    }

    /// A line for people: what the client felt after `since`, and after the decision if known.
    pub fn tell(&self, what: &str, since: SystemTime, decided: Option<SystemTime>) -> String {
        let dark = self.dark(since);
        let seconds = |from: SystemTime, to: SystemTime| {
            to.duration_since(from).map_or(0.0, |gap| gap.as_secs_f64())
        };
        let last = dark.values().filter_map(|(_, again)| *again).max();
        let never = dark.values().filter(|(_, again)| again.is_none()).count();
        let mut line = format!(
            "{what}: {} probes and {} echoes, {} unanswered in {} buckets",
            self.probes.samples.len(),
            self.echoes,
            self.probes.failures().len(),
            dark.len()
        );
        if never > 0 {
            line += &format!(", {never} dark to the end");
        }
        if let Some(last) = last {
            let longest = dark
                .values()
                .filter_map(|(from, again)| Some(seconds(*from, (*again)?)))
                .fold(0.0, f64::max);
            line += &format!(
                "; the longest outage of a bucket {longest:.2} s, the last served {:.2} s after the event",
                seconds(since, last)
            );
            if let Some(decided) = decided {
                line += &format!(", {:.2} s after the decision", seconds(decided, last));
            }
        }
        line
    }
}

/// Echo requests from many sources, round after round, each with an identifier of its own.
struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<usize>>>,
}

impl Echo {
    fn start(client: &Client, vip: IpAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (client, stopped) = (client.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let sources = client.sources_for(vip, SOURCES);
            let pace = Pace {
                timeout: ECHO_TIME,
                ..Pace::default()
            };
            let mut answered = 0;
            for round in 1.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let flows = sources.iter().map(|source| (*source, round));
                let report = client.ping(vip, flows, pace)?;
                answered += report.answered().len();
                // A pause, not a proof: rounds without one would only keep the processor busy.
                std::thread::sleep(EVERY);
            }
            Ok(answered)
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    fn stop(mut self) -> Result<usize> {
        self.end().context("the echo had already ended")?
    }

    fn end(&mut self) -> Option<Result<usize>> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take()?.join();
        Some(ended.unwrap_or_else(|_| Err(Error::new("the echo's thread panicked"))))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
