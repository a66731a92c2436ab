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
    /// How soon buckets that move are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Vec<MoveCost>>,
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
    /// Packets sent in all timed slices.
    pub sent: u64,
    /// Packets that each node received of them.
    pub received_by_each_node: u64,
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

/// What could not be measured, and why.
#[derive(Debug, Serialize)]
pub struct Missing {
    /// What.
    pub what: String,
    /// Why, as a sentence.
    pub why: String,
}
