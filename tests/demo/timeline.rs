//! What a steady probe felt, bucket by bucket: who answered when, and when nobody did.

use std::net::SocketAddr;
use std::time::Duration;

use lab::traffic::ProbeReport;
use lab::{Error, Failure, Result};

use crate::map::Map;
use crate::screen::{Screen, Tone};

/// Columns of a picture at most.
const COLUMNS: u32 = 64;
/// Columns of calm before and after what happened.
const CALM: u32 = 4;
/// What a column may stand for, in milliseconds.
const SCALES: [u32; 9] = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

/// All probes of one VIP, by bucket.
pub struct Timeline {
    buckets: Vec<Vec<Dot>>,
}

struct Dot {
    at: Duration,
    /// Who answered, if anybody did.
    node: Option<String>,
}

impl Dot {
    /// Who answered, in one letter (nodes are called n1, n2 and so on).
    fn mark(&self) -> &str {
        let node = self.node.as_deref();
        node.map_or(".", |node| node.trim_start_matches('n'))
    }
}

/// A time in which a bucket was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dark {
    /// When its first lost probe was sent.
    pub from: Duration,
    /// When its next answered one was, or its last one of all.
    pub until: Duration,
}

impl Dark {
    /// How long that was.
    pub fn length(self) -> Duration {
        self.until.saturating_sub(self.from)
    }
}

impl Timeline {
    /// Sorts the probes into the buckets of `map`.
    pub fn new(report: &ProbeReport, target: SocketAddr, map: &Map) -> Result<Self> {
        let mut buckets: Vec<Vec<Dot>> = Vec::new();
        buckets.resize_with(map.buckets().into(), Vec::new);
        for sample in &report.samples {
            let result = &sample.result;
            if let Err(Failure::Other(why)) = &result.outcome {
                return Err(Error::new(format!("the lab could not probe: {why}")));
            }
            let bucket = map.bucket_of(result.src, result.sport, target.port());
            buckets[usize::from(bucket)].push(Dot {
                at: sample.at,
                node: result.outcome.clone().ok(),
            });
        }
        Ok(Self { buckets })
    }

    /// How many buckets there are.
    pub fn buckets(&self) -> u16 {
        self.buckets.len() as u16
    }

    /// How many probes of a bucket were lost.
    pub fn lost(&self, bucket: u16) -> usize {
        let dots = self.buckets.get(usize::from(bucket)).into_iter().flatten();
        dots.filter(|dot| dot.node.is_none()).count()
    }

    /// How many probes were sent, and how many of them were lost.
    pub fn probes(&self) -> (usize, usize) {
        let all = || self.buckets.iter().flatten();
        (
            all().count(),
            all().filter(|dot| dot.node.is_none()).count(),
        )
    }

    /// The time from a bucket's first lost probe to the answer after its last one.
    pub fn dark(&self, bucket: u16) -> Option<Dark> {
        let dots = self.buckets.get(usize::from(bucket))?;
        let first = dots.iter().position(|dot| dot.node.is_none())?;
        let last = dots.iter().rposition(|dot| dot.node.is_none())?;
        let after = dots.get(last + 1).or(dots.last())?;
        Some(Dark {
            from: dots[first].at,
            until: after.at,
        })
    }

    /// The buckets that were dark at some time, and when.
    pub fn darks(&self) -> Vec<(u16, Dark)> {
        let buckets = 0..self.buckets.len() as u16;
        buckets
            .filter_map(|bucket| Some((bucket, self.dark(bucket)?)))
            .collect()
    }

    /// The buckets whose probes were answered by more than one node in the course of time.
    pub fn moved(&self) -> Vec<u16> {
        let moved = |bucket: &u16| {
            let dots = &self.buckets[usize::from(*bucket)];
            let mut answers = dots.iter().filter_map(|dot| dot.node.as_ref());
            let first = answers.next();
            answers.any(|node| Some(node) != first)
        };
        (0..self.buckets.len() as u16).filter(moved).collect()
    }

    /// The time around all that changed.
    pub fn eventful(&self) -> Option<Dark> {
        let darks = self.darks();
        let from = darks.iter().map(|(_, dark)| dark.from).min()?;
        let until = darks.iter().map(|(_, dark)| dark.until).max()?;
        Some(Dark { from, until })
    }

    /// A line for each bucket, a column for each slice of `span`: the number of the node that
    /// answered, or a dot when a probe was lost. Time 0 is `zero`, the end is `until`.
    pub fn picture(
        &self,
        screen: &Screen,
        map: &Map,
        zero: Duration,
        until: Duration,
    ) -> Vec<String> {
        // Before time 0 there are a few columns of calm, and a few at the end.
        let wanted = until.saturating_sub(zero);
        let scale = SCALES
            .into_iter()
            .map(|millis| Duration::from_millis(millis.into()))
            .find(|scale| *scale * (COLUMNS - 2 * CALM) >= wanted)
            .unwrap_or(wanted / (COLUMNS - 2 * CALM));
        let columns = (wanted.as_secs_f64() / scale.as_secs_f64()).ceil() as u32 + 2 * CALM;
        let start = zero.saturating_sub(scale * CALM);

        let mut lines = vec![screen.paint(Tone::Dim, ruler(scale, columns))];
        for (bucket, dots) in self.buckets.iter().enumerate() {
            let earlier = dots.iter().rev().find(|dot| dot.at < start);
            let mut before = earlier.map_or("", Dot::mark);
            let mut cells = String::new();
            for column in 0..columns {
                let (from, until) = (start + scale * column, start + scale * (column + 1));
                let inside = || dots.iter().filter(|dot| dot.at >= from && dot.at < until);
                // A column without a probe is as the one before it.
                if let Some(lost) = inside().find(|dot| dot.node.is_none()) {
                    before = lost.mark();
                } else if let Some(last) = inside().next_back() {
                    before = last.mark();
                }
                cells += &match before.parse::<usize>() {
                    Ok(number) => screen.paint(Tone::Node(number.saturating_sub(1)), before),
                    Err(_) if before.is_empty() => " ".into(),
                    Err(_) => screen.paint(Tone::Bad, before),
                };
            }
            let owner = map.owner(bucket as u16).unwrap_or("?");
            lines.push(format!("{bucket:>4} {owner:>3} {cells}"));
        }
        lines
    }
}

/// The seconds above the columns, from time 0 on.
fn ruler(scale: Duration, columns: u32) -> String {
    let mut line = String::from("bucket   ");
    let origin = line.len();
    for column in (0..columns.saturating_sub(2 * CALM)).step_by(10) {
        let seconds = (scale * column).as_secs_f64();
        line = format!("{line:<width$}", width = origin + (CALM + column) as usize);
        line += &format!("|{seconds:.1} s");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_dark_from_its_first_loss_to_the_answer_after_its_last() {
        let dot = |(at, node): (u64, Option<&str>)| Dot {
            at: Duration::from_millis(at),
            node: node.map(String::from),
        };
        let bucket = [
            (1, Some("n1")),
            (2, None),
            (3, None),
            (5, Some("n2")),
            (6, Some("n2")),
        ];
        let timeline = Timeline {
            buckets: vec![bucket.map(dot).into(), vec![dot((1, Some("n1")))]],
        };
        assert_eq!(
            timeline.dark(0).map(Dark::length),
            Some(Duration::from_millis(3))
        );
        assert_eq!(timeline.dark(1), None);
        assert_eq!(
            (timeline.moved(), timeline.probes(), timeline.lost(0)),
            (vec![0], (6, 2), 2)
        );
    }

    #[test]
    fn the_ruler_counts_from_time_zero() {
        let line = ruler(Duration::from_millis(100), 26);
        assert_eq!(line, "bucket       |0.0 s    |1.0 s");
    }
}
