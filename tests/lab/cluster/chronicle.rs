//! What Pacemaker says it did, and when: its log on the nodes, to the millisecond.
//!
//! `crm_mon` answers late while there is something to be seen, so its times would not be exact.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Cluster, PATIENCE, boot};
use crate::{Context, Error, Result, wait_until};

const DAY: u64 = 24 * 3600 * 1000;
const LOG: &str = boot::LOGS[1];

/// The logs of some nodes, and the time from which on they are read.
pub struct Chronicle<'a> {
    cluster: &'a Cluster,
    nodes: Vec<String>,
    /// That time, in milliseconds of the nodes' day.
    began: u64,
}

impl<'a> Chronicle<'a> {
    /// Reads the logs of these nodes from `began` on; they must live as long as it is asked.
    pub fn since(cluster: &'a Cluster, nodes: &[&str], began: SystemTime) -> Result<Self> {
        let witness = nodes.first().context("a chronicle of no node")?;
        let zone = cluster.node(witness)?.run(&["date", "+%z"])?;
        let zone: i64 = zone.trim().parse().context("read the time zone")?;
        let minutes = zone / 100 * 60 + zone % 100;
        let utc = began.duration_since(UNIX_EPOCH).context("read the clock")?;
        let local = utc.as_millis() as i64 + minutes * 60 * 1000;
        Ok(Self {
            cluster,
            nodes: nodes.iter().map(|name| (*name).to_owned()).collect(),
            began: local.rem_euclid(DAY as i64) as u64,
        })
    }

    /// Waits until a log has a line like this; how long after the beginning.
    pub fn wait_for(&self, pattern: &str) -> Result<Duration> {
        let what = format!("{pattern:?} in Pacemaker's log");
        let found = wait_until(&what, PATIENCE, || self.first(pattern));
        found.map_err(|error| {
            let names = self.cluster.names();
            let logs = names.iter().filter_map(|name| self.cluster.logs(name).ok());
            Error::new(format!("{error}\n{}", logs.collect::<String>()))
        })
    }

    /// The first line like this in any of the logs; how long after the beginning.
    pub fn first(&self, pattern: &str) -> Option<Duration> {
        let nodes = self.nodes.iter();
        let lines = nodes
            .filter_map(|name| self.cluster.node(name).ok())
            // grep fails when there is no such line, which is an answer like others.
            .filter_map(|node| node.run(&["grep", "-hE", pattern, LOG]).ok());
        let times = lines.flat_map(|text| {
            let times = text.lines().filter_map(|line| self.age(line));
            times.collect::<Vec<_>>()
        });
        times.min()
    }

    /// How long after the beginning a line was written, if it was not before.
    fn age(&self, line: &str) -> Option<Duration> {
        let clock = line.split_whitespace().nth(2)?;
        let age = (of_day(clock)? + DAY - self.began) % DAY;
        (age < DAY / 2).then(|| Duration::from_millis(age))
    }
}

/// Milliseconds of the day, from 22:37:15.224.
fn of_day(clock: &str) -> Option<u64> {
    let (time, millis) = clock.split_once('.')?;
    let mut seconds = 0;
    for part in time.split(':') {
        seconds = seconds * 60 + part.parse::<u64>().ok()?;
    }
    Some(seconds * 1000 + millis.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_a_log_is_read_to_the_millisecond() {
        assert_eq!(of_day("00:01:02.003"), Some(62_003));
        assert_eq!(of_day("23:59:59.999"), Some(DAY - 1));
        assert_eq!(of_day("Nov"), None);
    }
}
