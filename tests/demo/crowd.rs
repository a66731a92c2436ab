//! A crowd of clients: thousands of short TCP connections, and each node's share as it fills.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lab::{Client, Pace, Result};

use crate::map::Map;
use crate::screen::{Screen, Tone, thousands};

/// How many connections are opened between two pictures.
const BATCH: usize = 50;
/// How long a batch takes at least while somebody watches the bars.
const BEAT: Duration = Duration::from_millis(50);
/// Letters of a bar, and the share that fills it.
const BAR: usize = 44;
const FULL: f64 = 0.6;

/// What became of the crowd.
pub struct Crowd {
    /// How many connections there were.
    pub total: usize,
    /// How many got no answer.
    pub failed: usize,
    /// How many were answered by more than one node.
    pub doubles: usize,
    /// How many were answered by a node that does not own their bucket.
    pub strays: usize,
    by_node: BTreeMap<String, usize>,
    reasons: BTreeMap<String, usize>,
}

impl Crowd {
    /// Opens `total` connections to `target` and shows how they spread over the nodes of `map`.
    ///
    /// `round` chooses the source ports, so that no two crowds are the same connections.
    pub fn send(
        screen: &Screen,
        client: &Client,
        target: SocketAddr,
        map: &Map,
        total: usize,
        round: u16,
    ) -> Result<Self> {
        let mut crowd = Self {
            total: 0,
            failed: 0,
            doubles: 0,
            strays: 0,
            by_node: BTreeMap::new(),
            reasons: BTreeMap::new(),
        };
        let sources = client.sources_for(target.ip(), total / 3);
        let ports = (0..3).map(|n| 20_000 + 1000 * round + 7 * n);
        let flows: Vec<(IpAddr, u16)> = ports
            .flat_map(|port| sources.iter().map(move |source| (*source, port)))
            .collect();
        let witness = client.witness(&[target.ip()])?;
        for batch in flows.chunks(BATCH) {
            let began = Instant::now();
            let report = client.tcp(target, batch.iter().copied(), Pace::default())?;
            crowd.count(&report, map, target.port());
            let mut picture = crowd.picture(screen, map, total);
            picture.push(crowd.so_far(total));
            screen.draw(&picture);
            if screen.is_live() {
                std::thread::sleep(BEAT.saturating_sub(began.elapsed()));
            } else if crowd.total % 1000 == 0 && crowd.total < total {
                screen.line(crowd.sentence());
            }
        }
        crowd.doubles = witness.finish()?.double_answers().len();
        let mut last = crowd.picture(screen, map, total);
        last.push(crowd.verdict(screen));
        screen.draw_last(&last);
        Ok(crowd)
    }

    /// What is wrong with it.
    pub fn faults(&self, when: &str) -> Vec<String> {
        let mut faults = Vec::new();
        if self.failed > 0 {
            let reasons = self.reasons.iter().map(|(why, n)| format!("{n} {why}"));
            let reasons = reasons.collect::<Vec<_>>().join(", ");
            faults.push(format!(
                "{} of {} connections failed {when} ({reasons})",
                self.failed, self.total
            ));
        }
        if self.doubles > 0 {
            faults.push(format!(
                "{} connections were answered twice {when}",
                self.doubles
            ));
        }
        if self.strays > 0 {
            faults.push(format!(
                "{} connections were answered by a node that does not own their bucket {when}",
                self.strays
            ));
        }
        faults
    }

    fn count(&mut self, report: &lab::Report, map: &Map, port: u16) {
        self.total += report.flows.len();
        for flow in &report.flows {
            match &flow.outcome {
                Ok(node) => {
                    *self.by_node.entry(node.clone()).or_default() += 1;
                    let bucket = map.bucket_of(flow.src, flow.sport, port);
                    self.strays += usize::from(map.owner(bucket) != Some(node));
                }
                Err(why) => {
                    self.failed += 1;
                    *self.reasons.entry(why.to_string()).or_default() += 1;
                }
            }
        }
    }

    /// The share of all answered connections.
    fn share(&self, name: &str) -> f64 {
        let answered: usize = self.by_node.values().sum();
        let own = self.by_node.get(name).copied().unwrap_or(0);
        own as f64 / answered.max(1) as f64
    }

    fn picture(&self, screen: &Screen, map: &Map, total: usize) -> Vec<String> {
        let (full, empty) = screen.bar();
        let counts = map.counts();
        let mut lines = Vec::new();
        for (n, name) in map.names().enumerate() {
            let Some(buckets) = counts.get(name) else {
                continue;
            };
            let answered = self.by_node.get(name).copied().unwrap_or(0);
            let filled = answered as f64 / total as f64 / FULL * BAR as f64;
            let filled = (filled.round() as usize).min(BAR);
            let bar = screen.paint(Tone::Node(n), full.repeat(filled))
                + &screen.paint(Tone::Dim, empty.repeat(BAR - filled));
            let share = self.share(name) * 100.0;
            let due = *buckets as f64 / f64::from(map.buckets()) * 100.0;
            lines.push(format!(
                "{} {bar} {:>5}  {share:4.1} %  due {due:.1} %",
                screen.paint(Tone::Node(n), name),
                thousands(answered)
            ));
        }
        lines
    }

    fn so_far(&self, total: usize) -> String {
        let (done, total) = (thousands(self.total), thousands(total));
        format!("{done} of {total} connections: {} failed", self.failed)
    }

    fn sentence(&self) -> String {
        let shares = self.by_node.keys();
        let shares = shares.map(|name| format!("{name} {:.1} %", self.share(name) * 100.0));
        let shares = shares.collect::<Vec<_>>().join(", ");
        format!("{:>5} connections: {shares}", thousands(self.total))
    }

    fn verdict(&self, screen: &Screen) -> String {
        let right = self.failed + self.doubles + self.strays == 0;
        let tone = if right { Tone::Good } else { Tone::Bad };
        let words = format!(
            "{} connections: {} failed, {} answered twice, {} by the wrong node",
            thousands(self.total),
            self.failed,
            self.doubles,
            self.strays
        );
        screen.paint(tone, words)
    }
}
