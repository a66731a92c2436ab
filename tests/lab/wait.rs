//! Waiting for a state by asking for it again and again, with a deadline.
//! Nothing in the lab or in a scenario proves anything by sleeping a fixed time.

use std::fmt::Display;
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// The environment variable that says how many times longer everything may take: on an emulated
/// machine, or on one that has much else to do.
pub const PATIENCE: &str = "LAB_PATIENCE";

/// How long something may take on this machine that takes up to `usual` on a common one.
pub fn patient(usual: Duration) -> Duration {
    static FACTOR: LazyLock<u32> = LazyLock::new(|| {
        let said = std::env::var(PATIENCE).unwrap_or_default();
        said.parse().unwrap_or(1).max(1)
    });
    usual * *FACTOR
}

/// How long a prompt answer takes at most: a second, and as many times more as processes want each processor of
/// this machine, if those are more than one.
pub fn prompt() -> Duration {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    patient(Duration::from_secs(1)).mul_f64(crowding(&load, processors))
}

fn crowding(load: &str, processors: usize) -> f64 {
    let waiting: Option<f64> = load
        .split_whitespace()
        .next()
        .and_then(|load| load.parse().ok());
    (waiting.unwrap_or_default() / processors as f64).max(1.0)
}

/// The answer to "is it so by now?": a `bool`, an `Option` or a `Result`.
pub trait Awaited {
    /// What the waiter gets in the end.
    type Value;

    /// The value, or the state seen instead of it.
    fn outcome(self) -> Result<Self::Value, String>;
}

impl Awaited for bool {
    type Value = ();

    fn outcome(self) -> Result<(), String> {
        if self {
            Ok(())
        } else {
            Err("not yet so".into())
        }
    }
}

impl<T> Awaited for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing there yet".into())
    }
}

impl<T, E: Display> Awaited for Result<T, E> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Asks until the answer is yes; the error names what was awaited and the state last seen.
pub fn wait_until<A: Awaited>(
    what: &str,
    timeout: Duration,
    mut ask: impl FnMut() -> A,
) -> Result<A::Value> {
    let timeout = patient(timeout);
    let started = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let seen = match ask().outcome() {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        if started.elapsed() >= timeout {
            return Err(Error::new(format!(
                "waited {:.1} s in vain for {what}; last seen: {seen}",
                started.elapsed().as_secs_f64()
            )));
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowded_machine_has_more_time() {
        assert_eq!(crowding("9.00 5.50 2.75 3/300 1234", 2), 4.5);
        assert_eq!(crowding("0.50 5.50 2.75 3/300 1234", 2), 1.0);
        assert_eq!(crowding("", 2), 1.0);
    }
}
