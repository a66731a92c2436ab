//! What the state machine is asked and what it asks for: the words between it and the shell. Pure.

use super::bucket::{Answer, Op, Ticket};
use super::gathering::NodeId;
use super::message::Message;
use crate::model::bucket::BucketSet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Todo {
    /// Tell the kernel, and say what came of it.
    Do(Order),
    /// Look what the kernel has of a VIP, and say so (`Machine::confirm`).
    Look(IpAddr),
    /// Send it to all.
    Say(Message),
    /// Answer an agent.
    Answer(Ticket, Answer),
}

/// Something to tell the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What.
    pub op: Op,
    /// The VIP.
    pub vip: IpAddr,
    /// Its buckets.
    pub buckets: BucketSet,
}

/// What an agent asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Pacemaker starts a bucket here; everything but the bucket itself is installed.
    Start {
        /// The VIP.
        vip: IpAddr,
        /// The digest of its description.
        description: String,
        /// The bucket.
        bucket: u16,
        /// When the agent was called.
        since: Duration,
    },
    /// Pacemaker stops a bucket here.
    Stop {
        /// The VIP.
        vip: IpAddr,
        /// The bucket.
        bucket: u16,
        /// Where it starts then.
        to: Destination,
    },
}

/// Where a bucket starts that stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// On this node.
    Node(NodeId),
    /// Pacemaker does not say.
    Unknown,
    /// On none, or on the same.
    Nowhere,
}

/// What the kernel has of a VIP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// The digest of its description; empty if nothing of the VIP is there.
    pub description: String,
    /// The buckets that it answers, and in what time it ends that, if it does.
    pub held: BTreeMap<u16, Option<Duration>>,
    /// Where it has connections left.
    pub drains: BTreeSet<u16>,
}

/// What was dropped, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Not to be understood, or too long.
    pub garbled: u64,
    /// Of another major version.
    pub other_major: u64,
    /// Of another gathering.
    pub stale: u64,
    /// Not in its place among the sender's.
    pub replayed: u64,
}
