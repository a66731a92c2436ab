//! A program that changes nf_tables all the time keeps no stop from stopping.

use crate::product::*;
use lab::storm::Storm;
use lab::{Lab, Result};
use std::time::{Duration, Instant};

/// What Pacemaker gives an action.
const TIMEOUT_MS: &str = "8000";

#[test]
fn a_stop_in_a_storm_of_transactions_stops() -> Result<()> {
    let lab = Lab::new("storm")?;
    let node = &serving(&lab, &["n1"])?[0];
    let paced = Some(Duration::from_micros(20));
    for (drain_timeout, pause) in [("0", None), ("60", None), ("0", paced), ("60", paced)] {
        let agent = Agent::new(V4, 4)
            .with("drain_timeout", drain_timeout)
            .variable("OCF_RESKEY_CRM_meta_timeout", TIMEOUT_MS);
        for instance in [0, 1] {
            agent.start(node, instance)?;
        }
        let storm = Storm::begin(node, pause)?;
        let (before, begin) = (storm.transactions(), Instant::now());
        for instance in [0, 1] {
            agent.call(node, "stop", instance)?.expect(0);
        }
        let elapsed = begin.elapsed().as_secs_f64();
        let rate = ((storm.end()? - before) as f64 / elapsed) as usize;
        lab.progress()
            .say(format!("{rate} transactions a second for {elapsed:.1} s"));
        wait_until_gone(&lab, node, V4)?;
    }
    Ok(())
}
