//! From Pacemaker's decision to the last bucket served: a real cluster of the lab, a node that
//! dies, and instances that are moved.

use std::time::{Duration, Instant, SystemTime};

use lab::cluster::Chronicle;
use lab::traffic::ProbeReport;
use lab::{Error, FlowResult, ProbeKind, Result};

use crate::report::MoveCost;
use crate::sharing::{NODES, PORT, SURVIVORS, Sharing, VICTIM, VIP};
use crate::stats::Summary;
use crate::telling::Telling;

/// Each source asks this often; all together every bucket many times in ten milliseconds' ten.
const EVERY: Duration = Duration::from_millis(30);
const SOURCES: usize = 60;
/// How long a request waits for its answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long it is watched before and after: a stretch of time is what is measured here.
const CALM: Duration = Duration::from_millis(500);

/// What happens, and the line of Pacemaker's log with which its transition begins.
const EVENTS: [(&str, &str); 4] = [
    (
        "node killed",
        "Requesting fencing|Initiating start operation resIP",
    ),
    ("node comes back", "Initiating stop operation resIP"),
    ("standby", "Initiating stop operation resIP"),
    ("online", "Initiating stop operation resIP"),
];

/// What came of an event, in seconds.
struct Outcome {
    since_event: f64,
    since_decision: f64,
    longest_dark: f64,
    buckets: usize,
}

/// Lets everything happen a few times, with each number of buckets.
pub fn measure(buckets: &[u16], repetitions: usize, telling: &Telling) -> Result<Vec<MoveCost>> {
    let mut costs = Vec::new();
    for count in buckets {
        telling.say(format!(
            "cluster: three nodes, {count} buckets, {repetitions} times each event"
        ));
        let sharing = Sharing::begin(*count, false)?;
        let mut outcomes: Vec<Vec<Outcome>> = EVENTS.iter().map(|_| Vec::new()).collect();
        for repetition in 1..=repetitions {
            for (event, outcomes) in EVENTS.iter().zip(&mut outcomes) {
                let outcome = watch(&sharing, *event)?;
                telling.say(format!(
                    "cluster: {count} buckets, {}, {repetition} of {repetitions}: all served \
                     {:.2} s after the decision",
                    event.0, outcome.since_decision
                ));
                outcomes.push(outcome);
            }
        }
        for ((event, _), outcomes) in EVENTS.iter().zip(&outcomes) {
            let of = |figure: fn(&Outcome) -> f64| {
                Summary::of(&outcomes.iter().map(figure).collect::<Vec<_>>())
            };
            costs.push(MoveCost {
                event: (*event).into(),
                nodes: NODES.len(),
                buckets: *count,
                moved: of(|outcome| outcome.buckets as f64).median,
                event_to_served_s: of(|outcome| outcome.since_event),
                decision_to_served_s: of(|outcome| outcome.since_decision),
                longest_dark_s: of(|outcome| outcome.longest_dark),
            });
        }
    }
    Ok(costs)
}

/// Lets it happen while clients ask, and tells what they felt.
fn watch(sharing: &Sharing, (event, decision): (&str, &str)) -> Result<Outcome> {
    let sources = sharing.client.sources_for(VIP.into(), SOURCES);
    let probe = sharing
        .client
        .probe(ProbeKind::Udp, sharing.target(), sources, EVERY, ANSWER)?;
    let began = Instant::now();
    std::thread::sleep(CALM);
    let (zero, clock) = (began.elapsed(), SystemTime::now());
    let nodes: &[&str] = match event {
        "node killed" => {
            sharing.cluster.power_off(VICTIM)?;
            &SURVIVORS
        }
        "node comes back" => {
            sharing.cluster.power_on(VICTIM)?;
            &NODES
        }
        "standby" => {
            sharing.cluster.standby(VICTIM)?;
            &SURVIVORS
        }
        _ => {
            sharing.cluster.online(VICTIM)?;
            &NODES
        }
    };
    let log = Chronicle::since(&sharing.cluster, &SURVIVORS, clock)?;
    let decided = log.wait_for(decision)?;
    sharing.wait_shared(nodes)?;
    std::thread::sleep(CALM);
    judge(sharing, &probe.stop()?, zero, zero + decided)
}

fn judge(
    sharing: &Sharing,
    probes: &ProbeReport,
    zero: Duration,
    decided: Duration,
) -> Result<Outcome> {
    let bucket = |result: &FlowResult| sharing.bucket(result.src, result.sport, PORT);
    let dark = probes.dark(Duration::ZERO, bucket);
    let mut outcome = Outcome {
        since_event: 0.0,
        since_decision: 0.0,
        longest_dark: 0.0,
        buckets: dark.len(),
    };
    for (bucket, (from, again)) in dark {
        let Some(again) = again else {
            return Err(Error::new(format!(
                "bucket {bucket} was still dark at the end of the watch"
            )));
        };
        let since = |from: Duration| again.saturating_sub(from).as_secs_f64();
        outcome.since_event = since(zero).max(outcome.since_event);
        outcome.since_decision = since(decided).max(outcome.since_decision);
        outcome.longest_dark = since(from).max(outcome.longest_dark);
    }
    Ok(outcome)
}
