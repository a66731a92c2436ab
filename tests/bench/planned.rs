//! How long a bucket is dark in a planned move, as SYNs see it: `clusteripd` on all nodes beside the agent alone, in turns,
//! with connections that are held and without.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddrV4};
use std::time::Duration;

use lab::cluster::PATIENCE;
use lab::traffic::{Flow, Held};
use lab::{Context, Error, HoldOptions, Mac, Result, SynReport};

use crate::report::{Felt, PlannedMove};
use crate::sharing::{NODES, PORT, SURVIVORS, Sharing, VICTIM, VIP};
use crate::stats::{Summary, quantile_of};
use crate::telling::Telling;

/// The port that the SYNs ask for; it is closed.
const CLOSED: u16 = 7001;
/// How often each bucket is asked.
const BEAT: Duration = Duration::from_millis(1);
/// Flows that a bucket's SYNs come from in turns; by then the first one's answer is long there.
const FLOWS: usize = 256;
/// With more buckets only those are asked that are expected to move: the nodes share this machine's processors with
/// whoever asks.
const ASKED_AT_MOST: u16 = 24;
/// Connections that are opened at once, and the pause between two exchanges of all of them together.
const AT_ONCE: usize = 1000;
const EXCHANGE: Duration = Duration::from_millis(2);
/// How long an exchange may take before its connection counts as lost.
const LOST: Duration = Duration::from_secs(30);

const EVENTS: [&str; 2] = ["standby", "online"];

/// What is measured.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Numbers of buckets.
    pub buckets: Vec<u16>,
    /// How often each event happens.
    pub repetitions: usize,
    /// Numbers of connections that are held meanwhile.
    pub connections: Vec<u32>,
}

/// A cluster, and what is asked there.
struct Side {
    name: &'static str,
    sharing: Sharing,
    /// The buckets that are asked, and the flows of all buckets.
    asked: Vec<u16>,
    streams: Vec<Vec<Flow>>,
    mac: Mac,
    held: Vec<Held>,
    events: Vec<Gathered>,
}

/// What came of all repetitions of one event.
#[derive(Default)]
struct Gathered {
    dark_ms: Vec<f64>,
    felt: Felt,
}

/// Lets everything happen a few times, with each number of buckets and of connections.
pub fn measure(effort: &Effort, telling: &Telling) -> Result<Vec<PlannedMove>> {
    let mut moves = Vec::new();
    for buckets in &effort.buckets {
        telling.say(format!(
            "moves: {buckets} buckets, three nodes with clusteripd and three without, {} times each event",
            effort.repetitions
        ));
        let mut sides = [
            Side::begin("clusteripd", *buckets, true)?,
            Side::begin("the agent alone", *buckets, false)?,
        ];
        for connections in &effort.connections {
            for side in &mut sides {
                side.hold(*connections as usize)?;
            }
            for repetition in 1..=effort.repetitions {
                for side in &mut sides {
                    for (number, event) in EVENTS.iter().enumerate() {
                        let told = side.lets_happen(number)?;
                        telling.say(format!(
                            "moves: {buckets} buckets, {connections} connections, {repetition} of {}: {}, {}: {told}",
                            effort.repetitions, event, side.name
                        ));
                    }
                }
            }
            for (number, event) in EVENTS.iter().enumerate() {
                let [with, without] = &mut sides;
                let (clusteripd, agent_alone) = (with.felt(number), without.felt(number));
                let (slow, fast) = (agent_alone.dark_ms.median, clusteripd.dark_ms.median);
                moves.push(PlannedMove {
                    event: (*event).into(),
                    nodes: NODES.len(),
                    buckets: *buckets,
                    connections: *connections,
                    clusteripd,
                    agent_alone,
                    alone_to_clusteripd: (fast > 0.0).then_some(slow / fast),
                });
            }
        }
    }
    Ok(moves)
}

/// What a reader must know of them.
pub fn warnings(moves: &[PlannedMove]) -> Vec<String> {
    let mut warnings = Vec::new();
    for one in moves {
        let sides = [
            ("clusteripd", &one.clusteripd),
            ("the agent alone", &one.agent_alone),
        ];
        for (name, felt) in sides {
            let wrong = [
                (felt.answered_twice, "SYNs were answered twice"),
                (felt.resets, "resets were no answer to a SYN"),
                (felt.connections_lost, "held connections were lost"),
                (felt.not_asked, "buckets moved that were not asked"),
            ];
            let wrong = wrong.iter().filter(|(count, _)| *count > 0);
            warnings.extend(wrong.map(|(count, what)| {
                let PlannedMove {
                    event,
                    buckets,
                    connections,
                    ..
                } = one;
                format!(
                    "{event}, {buckets} buckets, {connections} connections, {name}: {count} {what}"
                )
            }));
        }
    }
    warnings
}

impl Side {
    fn begin(name: &'static str, buckets: u16, daemon: bool) -> Result<Self> {
        let sharing = Sharing::begin(buckets, daemon)?;
        let asked: Vec<u16> = (0..buckets).collect();
        Ok(Self {
            name,
            streams: streams(&sharing, &asked, CLOSED, FLOWS),
            mac: cluster_mac(&sharing)?,
            asked,
            sharing,
            held: Vec::new(),
            events: EVENTS.iter().map(|_| Gathered::default()).collect(),
        })
    }

    /// So many connections in the buckets that are expected to move.
    fn hold(&mut self, count: usize) -> Result<()> {
        self.held.clear();
        let buckets: Vec<u16> = self.sharing.buckets_of(VICTIM)?.into_iter().collect();
        let of_one = count.div_ceil(buckets.len().max(1));
        let flows = streams(&self.sharing, &buckets, PORT, of_one).concat();
        let options = HoldOptions {
            interval: (EXCHANGE * count as u32).max(Duration::from_secs(1)),
            timeout: LOST,
        };
        for some in flows[..count].chunks(AT_ONCE) {
            let target = self.sharing.target();
            let held = self.sharing.client.hold(target, some.to_vec(), options)?;
            self.held.push(held);
        }
        match self.lost() {
            0 => Ok(()),
            lost => Err(Error::new(format!(
                "{lost} of {count} connections could not be opened: {}",
                self.held.iter().map(Held::first_lost).collect::<String>()
            ))),
        }
    }

    fn lost(&self) -> usize {
        self.held.iter().map(Held::lost).sum()
    }

    /// Lets an event happen under SYNs; what came of it, in words.
    fn lets_happen(&mut self, number: usize) -> Result<String> {
        let (sharing, lost) = (&self.sharing, self.lost());
        let before = sharing.placement()?;
        // What has left the node is expected back.
        if sharing.buckets > ASKED_AT_MOST && EVENTS[number] == "standby" {
            self.asked = sharing.buckets_of(VICTIM)?.into_iter().collect();
        }
        let asked = self.asked.iter();
        let asked = asked.filter_map(|bucket| self.streams.get(usize::from(*bucket)));
        let asked: Vec<Vec<Flow>> = asked.cloned().collect();
        let target = SocketAddrV4::new(VIP, CLOSED);
        let syns = sharing.client.syns(target, self.mac, &asked, BEAT)?;
        lab::wait_until("an answer of every bucket", PATIENCE, || {
            syns.answering().iter().all(Option::is_some)
        })?;
        let nodes: &[&str] = match EVENTS[number] {
            "standby" => {
                sharing.cluster.standby(VICTIM)?;
                &SURVIVORS
            }
            _ => {
                sharing.cluster.online(VICTIM)?;
                &NODES
            }
        };
        // Who asks Pacemaker takes the nodes' time away, so as little as possible is asked before the move is over.
        let moved = lab::wait_until("the move", PATIENCE, || {
            let answering = syns.answering().into_iter().flatten();
            let of_victim = answering.filter(|name| name == VICTIM).count();
            let has_begun = match nodes.contains(&VICTIM) {
                true => of_victim > 0,
                false => of_victim == 0,
            };
            has_begun && sharing.cluster.expect_quiet().is_ok()
        });
        sharing.wait_shared(nodes)?;
        let report = syns.stop()?;
        moved.context(self.name)?;
        let after = sharing.placement()?;
        let moved: BTreeSet<u16> = (0..sharing.buckets)
            .filter(|bucket| before.get(&(*bucket).into()) != after.get(&(*bucket).into()))
            .collect();
        let lost = self.lost() - lost;
        self.gather(number, &report, &moved, lost)
    }

    fn gather(
        &mut self,
        number: usize,
        report: &SynReport,
        moved: &BTreeSet<u16>,
        lost: usize,
    ) -> Result<String> {
        let mut times = Vec::new();
        for (bucket, dark) in self.asked.iter().zip(&report.dark) {
            let mut total = Duration::ZERO;
            for dark in dark {
                let until = dark.until.context(format!(
                    "{}: bucket {bucket} was still dark at the end of the watch",
                    self.name
                ))?;
                total += until.saturating_sub(dark.from);
            }
            // What stays where it is has no reason to be dark, and counts if it was.
            if moved.contains(bucket) || !total.is_zero() {
                times.push(total.as_secs_f64() * 1000.0);
            }
        }
        let asked: BTreeSet<u16> = self.asked.iter().copied().collect();
        let Gathered { dark_ms, felt } = &mut self.events[number];
        felt.moved += moved.len();
        felt.not_asked += moved.difference(&asked).count();
        felt.syns += report.sent;
        felt.answered_twice += report.answered_twice;
        felt.resets += report.resets;
        felt.connections_lost += lost;
        let pause = report.longest_pause.as_secs_f64() * 1000.0;
        felt.longest_pause_ms = felt.longest_pause_ms.max(pause);
        let summary = Summary::of(&times);
        dark_ms.extend(times);
        Ok(format!(
            "{} buckets dark for {:.1} ms, at most {:.1}",
            moved.len(),
            summary.median,
            summary.range[1]
        ))
    }

    /// What came of an event's repetitions; the next ones are counted anew.
    fn felt(&mut self, number: usize) -> Felt {
        let Gathered { dark_ms, felt } = std::mem::take(&mut self.events[number]);
        Felt {
            dark_ms: Summary::of(&dark_ms),
            dark_p95_ms: quantile_of(&dark_ms, 0.95),
            ..felt
        }
    }
}

/// So many flows to a port of each of these buckets.
fn streams(sharing: &Sharing, buckets: &[u16], port: u16, count: usize) -> Vec<Vec<Flow>> {
    let mut streams: Vec<Vec<Flow>> = buckets.iter().map(|_| Vec::new()).collect();
    let sources = sharing.client.sources_v4(1000);
    let all = (20_000..60_000).flat_map(|sport| sources.iter().map(move |src| (*src, sport)));
    let mut missing = buckets.len();
    for (src, sport) in all {
        if missing == 0 || count == 0 {
            break;
        }
        let bucket = sharing.bucket(src, sport, port);
        let Some(place) = buckets.iter().position(|it| *it == bucket) else {
            continue;
        };
        let flows = &mut streams[place];
        if flows.len() < count {
            flows.push(Flow { src, sport });
            missing -= usize::from(flows.len() == count);
        }
    }
    streams
}

/// The MAC that the client has for the address, as its kernel has learnt it.
fn cluster_mac(sharing: &Sharing) -> Result<Mac> {
    let address = IpAddr::from(VIP).to_string();
    let told = sharing.client.run(&["ip", "neigh", "show", &address])?;
    let mut words = told.split_whitespace().skip_while(|word| *word != "lladdr");
    words.nth(1).context(format!("no MAC: {told:?}"))?.parse()
}
