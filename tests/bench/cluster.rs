//! From Pacemaker's decision to the last bucket served: a real cluster of the lab, a node that
//! dies, and instances that are moved.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use clusterip::model::hash::{Flow, Hasher};
use lab::cluster::{Chronicle, PATIENCE};
use lab::traffic::ProbeReport;
use lab::{
    Client, Cluster, ClusterOptions, Error, FlowResult, Lab, Pace, ProbeKind, Result, Serve,
};

use crate::report::MoveCost;
use crate::stats::Summary;
use crate::telling::Telling;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// The node to which things happen, and those that see it.
const VICTIM: &str = "n2";
const SURVIVORS: [&str; 2] = ["n1", "n3"];
const VIP: &str = "10.77.0.99";
const PORT: u16 = 7000;
const SEED: u32 = 0x3f7a_91c4;
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

/// A cluster that shares an address among `buckets`.
struct Sharing {
    cluster: Cluster,
    client: Client,
    target: SocketAddr,
    buckets: u16,
    hasher: Hasher,
    _lab: Lab,
}

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
        let sharing = Sharing::begin(*count)?;
        let mut outcomes: Vec<Vec<Outcome>> = EVENTS.iter().map(|_| Vec::new()).collect();
        for repetition in 1..=repetitions {
            for (event, outcomes) in EVENTS.iter().zip(&mut outcomes) {
                let outcome = sharing.watch(*event)?;
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

impl Sharing {
    fn begin(buckets: u16) -> Result<Self> {
        let lab = Lab::new("bench")?;
        lab.progress().redirect(|_, _| {});
        let client = lab.client("c1")?;
        let options = ClusterOptions {
            agent: Some(lab::built("ocf-clusterip")?),
            nodectl: Some(lab::built("nodectl")?),
            serve: vec![Serve::Udp(PORT)],
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start(&lab, &NODES, options)?;
        let configuration = format!(
            "primitive resIP ocf:rust:ClusterIP \
               params ip={VIP} nic=eth0 cidr_netmask=24 hash_seed={SEED} \
               op monitor interval=10s timeout=20s meta resource-stickiness=0\n\
             clone cloneIP resIP meta globally-unique=true clone-max={buckets} \
               clone-node-max={buckets} interleave=true\n"
        );
        cluster.load(NODES[0], &configuration)?;
        cluster.wait_idle()?;
        let address: IpAddr = VIP
            .parse()
            .map_err(|_| Error::new("the VIP is an address"))?;
        let sharing = Self {
            cluster,
            client,
            target: SocketAddr::new(address, PORT),
            buckets,
            hasher: Hasher {
                mode: Default::default(),
                layout: Default::default(),
                seed: SEED,
            },
            _lab: lab,
        };
        sharing.wait_shared(&NODES)?;
        Ok(sharing)
    }

    /// Lets it happen while clients ask, and tells what they felt.
    fn watch(&self, (event, decision): (&str, &str)) -> Result<Outcome> {
        let sources = self.client.sources_for(self.target.ip(), SOURCES);
        let probe = self
            .client
            .probe(ProbeKind::Udp, self.target, sources, EVERY, ANSWER)?;
        let began = Instant::now();
        std::thread::sleep(CALM);
        let (zero, clock) = (began.elapsed(), SystemTime::now());
        let nodes: &[&str] = match event {
            "node killed" => {
                self.cluster.power_off(VICTIM)?;
                &SURVIVORS
            }
            "node comes back" => {
                self.cluster.power_on(VICTIM)?;
                &NODES
            }
            "standby" => {
                self.cluster.standby(VICTIM)?;
                &SURVIVORS
            }
            _ => {
                self.cluster.online(VICTIM)?;
                &NODES
            }
        };
        let log = Chronicle::since(&self.cluster, &SURVIVORS, clock)?;
        let decided = log.wait_for(decision)?;
        self.wait_shared(nodes)?;
        std::thread::sleep(CALM);
        self.judge(&probe.stop()?, zero, zero + decided)
    }

    fn judge(&self, probes: &ProbeReport, zero: Duration, decided: Duration) -> Result<Outcome> {
        let bucket = |result: &FlowResult| {
            let flow = Flow {
                source: result.src,
                source_port: result.sport,
                destination_port: PORT,
            };
            self.hasher.bucket(&flow, self.buckets)
        };
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

    /// Waits until these nodes have about as many instances each, and all are served.
    fn wait_shared(&self, nodes: &[&str]) -> Result<()> {
        let least = usize::from(self.buckets) / nodes.len();
        let what = format!("an even share on {}", nodes.join(", "));
        lab::wait_until(&what, PATIENCE, || {
            self.cluster.wait_idle()?;
            let spread = self.cluster.spread("resIP")?;
            let share = |name: &&str| spread.get(*name).copied().unwrap_or(0);
            let all: usize = nodes.iter().map(share).sum();
            let even = nodes.iter().all(|name| share(name) >= least);
            match even && all == usize::from(self.buckets) {
                true => Ok(()),
                false => Err(Error::new(format!("{spread:?}"))),
            }
        })?;
        let sources = self.client.sources_for(self.target.ip(), 200);
        lab::wait_until("answers to everybody", PATIENCE, || {
            let flows = sources.iter().map(|source| (*source, 0));
            let report = self.client.udp(self.target, flows, Pace::default())?;
            report.expect_all_answered()
        })
    }
}
