//! What clients do in a round, and what they felt: connections that stay, newcomers, datagrams, and a witness of every
//! frame that comes to them.

use std::time::Duration;

use lab::cluster::PATIENCE;
use lab::traffic::{Held, Probe};
use lab::{Error, HoldOptions, ProbeKind, Result, Witness};
use serde::Serialize;

use crate::rig::{Rig, targets};

/// Connections that stay, to each VIP.
const HELD: usize = 60;
/// Sources of newcomers, for each VIP.
const NEWCOMERS: usize = 24;

pub struct Traffic {
    held: Vec<Held>,
    connecting: Vec<Probe>,
    asking: Vec<Probe>,
    witness: Witness,
}

/// What they felt.
#[derive(Debug, Default, Serialize)]
pub struct Felt {
    /// Connections that were to stay.
    pub held: usize,
    /// Which of them were lost, when and why.
    pub lost: Vec<String>,
    /// The longest time that one of their exchanges took, in seconds.
    pub longest: f64,
    /// Connections that came new.
    pub newcomers: usize,
    /// How many of them were not answered, and the first of them.
    pub refused: usize,
    /// The first refusal.
    pub first_refused: Option<String>,
    /// The longest time that a source's datagrams were not answered, in seconds.
    pub dark: f64,
    /// Frames that the witness saw.
    pub frames: usize,
    /// What was answered by two.
    pub doubles: Vec<String>,
}

impl Traffic {
    /// Returns when all connections that are to stay are there.
    pub fn begin(rig: &Rig) -> Result<Self> {
        let options = HoldOptions {
            interval: Duration::from_millis(250),
            timeout: Duration::from_secs(60),
        };
        let vips = targets().map(|target| target.ip());
        let witness = rig.client.witness(&vips)?;
        let (mut held, mut connecting, mut asking) = (Vec::new(), Vec::new(), Vec::new());
        for target in targets() {
            let sources = rig.client.sources_for(target.ip(), HELD + NEWCOMERS);
            let (stay, come) = sources.split_at(HELD);
            held.push(rig.client.hold(target, stay.to_vec(), options)?);
            let every = Duration::from_millis(400);
            let patience = [Duration::from_secs(30), Duration::from_secs(2)];
            let probe = |kind, patience| {
                rig.client
                    .probe(kind, target, come.to_vec(), every, patience)
            };
            connecting.push(probe(ProbeKind::Tcp, patience[0])?);
            asking.push(probe(ProbeKind::Udp, patience[1])?);
        }
        Ok(Self {
            held,
            connecting,
            asking,
            witness,
        })
    }

    /// Waits until every connection has had two more answers, or has been lost where that may be.
    pub fn go_on(&self, strict: bool) -> Result<()> {
        for held in &self.held {
            let before = held.exchanges();
            let enough = 2 * (held.count() - held.lost());
            lab::wait_until("more answers", PATIENCE, || {
                match (held.lost(), held.exchanges() - before) {
                    // It is told when all ends.
                    (some, _) if some > 0 && strict => Ok(()),
                    (_, answers) if answers >= enough => Ok(()),
                    (lost, answers) => Err(Error::new(format!("{answers} answers, {lost} lost"))),
                }
            })?;
        }
        Ok(())
    }

    /// Ends all of it.
    pub fn end(self, planned: bool) -> Result<Felt> {
        let mut felt = Felt::default();
        for held in self.held {
            let report = held.stop()?;
            felt.held += report.flows.len();
            felt.longest = felt.longest.max(report.longest_exchange().as_secs_f64());
            felt.lost
                .extend(report.lost().into_iter().filter_map(|flow| {
                    let (when, why) = flow.lost.as_ref()?;
                    let by: Vec<&str> = flow.answers.keys().map(String::as_str).collect();
                    let (at, from) = (when.as_secs_f64(), flow.src);
                    Some(format!(
                        "{from}:{} {why} at {at:.2} s, once answered by {}",
                        flow.sport,
                        by.join(", ")
                    ))
                }));
        }
        for probe in self.connecting {
            let report = probe.stop()?;
            felt.newcomers += report.samples.len();
            let failures = report.failures();
            felt.refused += failures.len();
            let first = failures.first().map(|sample| {
                let result = &sample.result;
                format!(
                    "{}:{} at {:.2} s: {:?}",
                    result.src,
                    result.sport,
                    sample.at.as_secs_f64(),
                    result.outcome
                )
            });
            felt.first_refused = felt.first_refused.take().or(first);
        }
        for probe in self.asking {
            let outages = probe.stop()?.outages();
            let longest = outages.into_values().max().unwrap_or_default();
            felt.dark = felt.dark.max(longest.as_secs_f64());
        }
        let witnessed = self.witness.finish()?;
        felt.frames = witnessed.frames.len();
        let doubles = match planned {
            true => witnessed.double_answers(),
            // Who takes a dead node's place ends its connections.
            false => witnessed.answers_in_turn(),
        };
        felt.doubles.extend(doubles.into_iter().map(|double| {
            format!(
                "{} to {} ({}) answered by {}",
                double.client,
                double.vip,
                double.request,
                double.answered_by.join(", ")
            )
        }));
        Ok(felt)
    }
}

impl Felt {
    /// What of it must not be.
    pub fn faults(&self, planned: bool) -> Vec<String> {
        let mut faults = Vec::new();
        let mut tell = |what: &str, all: &[String]| {
            if let Some(first) = all.first() {
                faults.push(format!("{} {what}: {first}", all.len()));
            }
        };
        tell("answered twice", &self.doubles);
        if planned {
            tell("connections lost", &self.lost);
            let refused: Vec<String> = self.first_refused.clone().into_iter().collect();
            tell("newcomer refused at least", &refused);
        }
        faults
    }
}
