//! The figures of a run, as `--json` prints them: schema 1. It may gain fields, and loses none.

use serde::Serialize;

use crate::machine::Machine;
use crate::stats::Summary;

/// A run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The schema's number.
    pub schema: u32,
    /// Where it was measured.
    pub machine: Machine,
    /// What a reader must know before believing a figure, as sentences.
    pub warnings: Vec<String>,
    /// What a received packet costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<PacketCosts>,
    /// What actions of agents take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<Operations>,
    /// What very many instances at once take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rush: Option<Vec<RushCost>>,
    /// How soon buckets that move are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Vec<MoveCost>>,
    /// How long buckets are dark in planned moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moves: Option<Vec<PlannedMove>>,
}

/// What a received packet costs a node, in nanoseconds.
#[derive(Debug, Serialize)]
pub struct PacketCosts {
    /// Nodes that each packet was flooded to.
    pub nodes: u8,
    /// Packets that were timed at once.
    pub packets_a_slice: usize,
    /// How often each variant was measured.
    pub rounds: usize,
    /// The floor measured on other nodes, less the floor: what two equal things differ by.
    pub noise: Summary,
    /// All variants, the floor first.
    pub variants: Vec<VariantCost>,
    /// What rules cost beside others.
    pub compared: Vec<Compared>,
    /// What could not be measured here.
    pub missing: Vec<Missing>,
}

/// A line of the packets' table.
#[derive(Debug, Serialize)]
pub struct VariantCost {
    /// What the nodes had.
    pub rules: String,
    /// What they got.
    pub packet: String,
    /// Time of one packet on one node, with its share of the sending.
    pub ns: Summary,
    /// The same less the floor of the same round.
    pub above_floor: Summary,
    /// `ns` in units of the floor.
    pub to_floor: f64,
    /// `above_floor` in units of that of a foreign packet of ClusterIP, IPv4, sourceip, 16 buckets;
    /// absent if that was not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_ours: Option<f64>,
    /// Slices that were thrown away because something else ran in between.
    pub thrown_away: usize,
    /// Slices that were counted although they were disturbed, for there was no better one.
    pub disturbed: usize,
    /// Packets sent in all timed slices.
    pub sent: u64,
    /// Packets that each node received of them.
    pub received_by_each_node: u64,
}

/// What rules cost beside others that were measured in the same rounds.
#[derive(Debug, Serialize)]
pub struct Compared {
    /// What the nodes had.
    pub rules: String,
    /// What they got.
    pub packet: String,
    /// What the others had, who got the same.
    pub beside: String,
    /// `above_floor` less that of the others in the same round.
    pub more: Summary,
    /// With that, in units of the others' `above_floor`.
    pub to_beside: f64,
}

/// What actions of agents take, in milliseconds, with the start of the process.
#[derive(Debug, Serialize)]
pub struct Operations {
    /// A process that does nothing, started in the same way.
    pub empty_process_ms: Summary,
    /// All actions.
    pub operations: Vec<OperationCost>,
    /// What could not be measured here.
    pub missing: Vec<Missing>,
}

/// An action of an agent.
#[derive(Debug, Serialize)]
pub struct OperationCost {
    /// The agent.
    pub agent: String,
    /// What it did.
    pub action: String,
    /// How long it took.
    pub ms: Summary,
    /// In units of our agent's same action, if it has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_ours: Option<f64>,
}

/// What an action of very many instances at once takes, in seconds.
#[derive(Debug, Serialize)]
pub struct RushCost {
    /// Whose.
    pub agent: String,
    /// Which.
    pub action: String,
    /// Of how many instances.
    pub instances: u32,
    /// How many at the same time.
    pub at_once: u32,
    /// How many failed, of all runs.
    pub failed: usize,
    /// All of them.
    pub total_s: Summary,
    /// The one that took longest.
    pub longest_s: Summary,
    /// Our total in units of this one.
    pub ours_to_its_total: f64,
    /// Our longest in units of this one.
    pub ours_to_its_longest: f64,
}

/// How soon buckets that move are served, in seconds.
#[derive(Debug, Serialize)]
pub struct MoveCost {
    /// What happened.
    pub event: String,
    /// How many nodes the cluster has.
    pub nodes: usize,
    /// How many buckets.
    pub buckets: u16,
    /// How many of them were dark for a time.
    pub moved: f64,
    /// From the event to the last bucket's first answer.
    pub event_to_served_s: Summary,
    /// From the first line of Pacemaker's log that belongs to its answer.
    pub decision_to_served_s: Summary,
    /// How long the bucket that was dark longest was.
    pub longest_dark_s: Summary,
}

/// How long buckets are dark in a planned move, as SYNs see it.
#[derive(Debug, Serialize)]
pub struct PlannedMove {
    /// What happened.
    pub event: String,
    /// How many nodes the cluster has.
    pub nodes: usize,
    /// How many buckets.
    pub buckets: u16,
    /// How many connections were held in the buckets that moved.
    pub connections: u32,
    /// With the daemon on all nodes.
    pub clusteripd: Felt,
    /// With no daemon.
    pub agent_alone: Felt,
    /// The median without a daemon in units of that with one; absent where the latter is 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alone_to_clusteripd: Option<f64>,
}

/// What clients felt of an event, in all its repetitions.
#[derive(Debug, Default, Serialize)]
pub struct Felt {
    /// Buckets that moved.
    pub moved: usize,
    /// Buckets of them of which nobody asked, as others were expected to move.
    pub not_asked: usize,
    /// How long each bucket that moved was dark, and each that was dark although it stayed, in milliseconds.
    pub dark_ms: Summary,
    /// What 95 of 100 of them did not exceed.
    pub dark_p95_ms: f64,
    /// SYNs that were sent.
    pub syns: usize,
    /// SYNs that were answered more than once.
    pub answered_twice: usize,
    /// Resets that were no answer to a SYN.
    pub resets: usize,
    /// Held connections that were lost.
    pub connections_lost: usize,
    /// The longest time in which no SYN was sent, in milliseconds.
    pub longest_pause_ms: f64,
}

/// What could not be measured, and why.
#[derive(Debug, Serialize)]
pub struct Missing {
    /// What.
    pub what: String,
    /// Why, as a sentence.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, to_value};

    use super::*;

    fn summary(median: f64) -> Summary {
        Summary::of(&[median])
    }

    fn summed_up(median: f64) -> Value {
        json!({
            "median": median, "lower_quartile": median, "upper_quartile": median,
            "uncertainty": 0.0, "range": [median, median], "count": 1
        })
    }

    fn missing() -> Vec<Missing> {
        vec![Missing {
            what: "a peer".into(),
            why: "it is not here".into(),
        }]
    }

    /// What docs/benchmarks.md promises to programs.
    #[test]
    fn the_json_is_schema_1() {
        let report = Report {
            schema: 1,
            machine: Machine {
                date: "2026-01-31".into(),
                kernel: "6.18".into(),
                cpu: "some CPU".into(),
                cpus: 2,
                load: 0.5,
            },
            warnings: vec!["a sentence".into()],
            packets: Some(PacketCosts {
                nodes: 16,
                packets_a_slice: 512,
                rounds: 100,
                noise: summary(1.5),
                variants: vec![VariantCost {
                    rules: "floor".into(),
                    packet: "foreign".into(),
                    ns: summary(700.0),
                    above_floor: summary(0.0),
                    to_floor: 1.0,
                    to_ours: None,
                    thrown_away: 3,
                    disturbed: 1,
                    sent: 51_200,
                    received_by_each_node: 51_201,
                }],
                compared: vec![Compared {
                    rules: "stealth".into(),
                    packet: "foreign".into(),
                    beside: "multicast".into(),
                    more: summary(5.0),
                    to_beside: 1.05,
                }],
                missing: missing(),
            }),
            operations: Some(Operations {
                empty_process_ms: summary(1.0),
                operations: vec![OperationCost {
                    agent: "an agent".into(),
                    action: "start".into(),
                    ms: summary(4.0),
                    to_ours: Some(1.0),
                }],
                missing: missing(),
            }),
            rush: Some(vec![RushCost {
                agent: "an agent".into(),
                action: "start".into(),
                instances: 1024,
                at_once: 32,
                failed: 0,
                total_s: summary(4.0),
                longest_s: summary(0.5),
                ours_to_its_total: 1.0,
                ours_to_its_longest: 1.0,
            }]),
            cluster: Some(vec![MoveCost {
                event: "node killed".into(),
                nodes: 3,
                buckets: 12,
                moved: 4.0,
                event_to_served_s: summary(4.5),
                decision_to_served_s: summary(0.25),
                longest_dark_s: summary(4.0),
            }]),
            moves: Some(vec![PlannedMove {
                event: "standby".into(),
                nodes: 3,
                buckets: 12,
                connections: 100,
                clusteripd: Felt {
                    moved: 4,
                    dark_ms: summary(2.0),
                    dark_p95_ms: 2.5,
                    syns: 4000,
                    longest_pause_ms: 1.25,
                    ..Felt::default()
                },
                agent_alone: Felt::default(),
                alone_to_clusteripd: Some(0.0),
            }]),
        };
        let mut nothing = summed_up(0.0);
        nothing["count"] = 0.into();
        let missing = json!([{"what": "a peer", "why": "it is not here"}]);
        let expected = json!({
            "schema": 1,
            "machine": {
                "date": "2026-01-31", "kernel": "6.18", "cpu": "some CPU", "cpus": 2, "load": 0.5
            },
            "warnings": ["a sentence"],
            "packets": {
                "nodes": 16, "packets_a_slice": 512, "rounds": 100, "noise": summed_up(1.5),
                "variants": [{
                    "rules": "floor", "packet": "foreign", "ns": summed_up(700.0),
                    "above_floor": summed_up(0.0), "to_floor": 1.0, "thrown_away": 3,
                    "disturbed": 1, "sent": 51_200, "received_by_each_node": 51_201
                }],
                "compared": [{
                    "rules": "stealth", "packet": "foreign", "beside": "multicast",
                    "more": summed_up(5.0), "to_beside": 1.05
                }],
                "missing": missing
            },
            "operations": {
                "empty_process_ms": summed_up(1.0),
                "operations": [{
                    "agent": "an agent", "action": "start", "ms": summed_up(4.0), "to_ours": 1.0
                }],
                "missing": missing
            },
            "rush": [{
                "agent": "an agent", "action": "start", "instances": 1024, "at_once": 32, "failed": 0,
                "total_s": summed_up(4.0), "longest_s": summed_up(0.5),
                "ours_to_its_total": 1.0, "ours_to_its_longest": 1.0
            }],
            "cluster": [{
                "event": "node killed", "nodes": 3, "buckets": 12, "moved": 4.0,
                "event_to_served_s": summed_up(4.5), "decision_to_served_s": summed_up(0.25),
                "longest_dark_s": summed_up(4.0)
            }],
            "moves": [{
                "event": "standby", "nodes": 3, "buckets": 12, "connections": 100,
                "clusteripd": {
                    "moved": 4, "not_asked": 0, "dark_ms": summed_up(2.0), "dark_p95_ms": 2.5,
                    "syns": 4000, "answered_twice": 0, "resets": 0, "connections_lost": 0,
                    "longest_pause_ms": 1.25
                },
                "agent_alone": {
                    "moved": 0, "not_asked": 0, "dark_ms": nothing, "dark_p95_ms": 0.0,
                    "syns": 0, "answered_twice": 0, "resets": 0, "connections_lost": 0,
                    "longest_pause_ms": 0.0
                },
                "alone_to_clusteripd": 0.0
            }]
        });
        assert_eq!(to_value(&report).expect("JSON"), expected);
    }
}
