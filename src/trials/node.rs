//! A node of the model of moves: its phases follow `model::phase`, the functions that the product runs, and each packet
//! is judged as the rules judge it. Pure. What happens to nodes, and what clients make of their answers, is `cluster`'s.

use crate::model::phase::{Phase, Phases};
use std::collections::{BTreeMap, BTreeSet};

/// How many buckets.
pub const BUCKETS: u16 = 3;
/// A client's address and port; its bucket is its number modulo the buckets.
pub type Flow = u8;
/// How long connections may stay.
pub const DRAIN_MS: u64 = 100;
/// More sightings of the same segment than this make an orphan; in the kernel it is a matter of time.
pub(super) const SIGHTINGS: u8 = 5;

/// The bucket of a client.
pub fn bucket(flow: Flow) -> u16 {
    u16::from(flow) % BUCKETS
}

/// A node: what its rules and its sockets are.
#[derive(Default, Clone)]
pub(super) struct Node {
    pub(super) alive: bool,
    pub(super) phases: Phases,
    /// Connections of its own stack, by the number of the connection.
    sockets: BTreeMap<Flow, u32>,
    /// What is left of those that this node ended first, in TIME-WAIT.
    waiting: BTreeMap<Flow, u32>,
    /// What is left of connections in buckets that came back, and is silent while they are adopted.
    stale: BTreeSet<Flow>,
    /// The flow set, and when each ends.
    flows: BTreeMap<Flow, u64>,
    /// How often a client has told that it has heard nothing since, by what tells it.
    sightings: BTreeMap<(Flow, u32), u8>,
}

/// What a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segment {
    /// It begins a connection.
    Syn,
    /// Data, and what would tell that nobody answers, if anything does.
    Data(Option<u32>),
}

/// What a node does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing is said.
    Silence,
    /// The service answers.
    Served,
    /// The stack refuses.
    Reset,
    /// TIME-WAIT says what it expects (RFC 9293 §3.10.7.4).
    Acknowledged,
}

impl Node {
    /// One that is there, and has nothing.
    pub(super) fn empty() -> Self {
        Node {
            alive: true,
            ..Node::default()
        }
    }

    /// It gets a packet.
    pub(super) fn get(&mut self, flow: Flow, segment: Segment, connection: u32) -> Answer {
        let syn = segment == Segment::Syn;
        let bucket = bucket(flow);
        let taken = match self.phases.of(bucket) {
            Phase::Owned | Phase::Adopting | Phase::Offered => true,
            Phase::Closing => !syn,
            Phase::Draining if syn => {
                self.flows.remove(&flow);
                false
            }
            Phase::Draining => self.flows.contains_key(&flow),
            Phase::Foreign => false,
        };
        if !self.alive || !taken {
            return Answer::Silence;
        }
        if syn {
            // TIME-WAIT makes way for a connection that begins anew.
            self.waiting.remove(&flow);
            self.stale.remove(&flow);
            self.sockets.insert(flow, connection);
            return Answer::Served;
        }
        let adopting = self.phases.adopting.contains_key(&bucket);
        if adopting && self.stale.contains(&flow) {
            return Answer::Silence;
        }
        match (self.sockets.get(&flow), self.waiting.get(&flow)) {
            (Some(socket), _) if *socket == connection => return Answer::Served,
            // What is left of an old connection with the same ports says so at once (RFC 9293 §3.10.7).
            (Some(_), _) => return Answer::Reset,
            (None, Some(_)) => return Answer::Acknowledged,
            (None, None) => {}
        }
        if adopting {
            let Segment::Data(Some(told)) = segment else {
                return Answer::Silence;
            };
            let seen = self.sightings.entry((flow, told)).or_default();
            *seen += 1;
            if *seen <= SIGHTINGS {
                return Answer::Silence;
            }
        }
        Answer::Reset
    }

    /// A bucket that is closed has its connections listed, and drains if there are any.
    pub(super) fn list(&mut self, bucket_of: u16) {
        let ours: Vec<Flow> = self
            .sockets
            .keys()
            .copied()
            .filter(|flow| bucket(*flow) == bucket_of)
            .collect();
        // Nothing is left to be said but in answer to a last word that comes again.
        let waiting = self.waiting.keys().copied();
        let waiting: Vec<Flow> = waiting
            .filter(|flow| bucket(*flow) == bucket_of && !self.stale.contains(flow))
            .collect();
        self.phases.listed(bucket_of, !ours.is_empty(), DRAIN_MS);
        if self.phases.of(bucket_of) == Phase::Draining {
            let staying = ours.iter().chain(&waiting);
            self.flows.extend(staying.map(|flow| (*flow, DRAIN_MS)));
        }
    }

    /// It takes a bucket, and adopts it for so long.
    pub(super) fn take(&mut self, bucket_of: u16, adopt_ms: Option<u64>) {
        // Sockets of connections that this node has given up are none any more.
        let kept = self.phases.of(bucket_of) == Phase::Closing;
        let flows = &self.flows;
        if adopt_ms.is_some() {
            let left = self.waiting.keys().copied();
            self.stale.extend(
                left.filter(|flow| {
                    bucket(*flow) == bucket_of && !kept && !flows.contains_key(flow)
                }),
            );
        }
        self.sockets
            .retain(|flow, _| bucket(*flow) != bucket_of || kept || flows.contains_key(flow));
        self.phases.take(bucket_of, adopt_ms);
        self.flows.retain(|flow, _| bucket(*flow) != bucket_of);
        self.sightings
            .retain(|(flow, _), _| bucket(*flow) != bucket_of);
    }

    /// Time passes.
    pub(super) fn pass(&mut self, ms: u64) {
        let phases = &mut self.phases;
        for ending in [
            &mut phases.adopting,
            &mut phases.closing,
            &mut phases.draining,
        ] {
            ending.retain(|_, left| *left > ms);
            ending.values_mut().for_each(|left| *left -= ms);
        }
        // With the last bucket that is adopted the set goes.
        if self.phases.adopting.is_empty() {
            self.stale.clear();
        }
        self.flows.retain(|_, left| *left > ms);
        self.flows.values_mut().for_each(|left| *left -= ms);
    }

    /// A connection ends; its client was the first to say so.
    pub(super) fn end(&mut self, flow: Flow) {
        self.sockets.remove(&flow);
    }

    /// The service was.
    pub(super) fn end_first(&mut self, flow: Flow) {
        if let Some(number) = self.sockets.remove(&flow) {
            self.waiting.insert(flow, number);
        }
    }

    /// What is in TIME-WAIT has ended.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }

    /// Buckets without connections are let go.
    pub(super) fn sweep(&mut self) {
        let alive: BTreeSet<u16> = self.sockets.keys().map(|flow| bucket(*flow)).collect();
        let draining: Vec<u16> = self.phases.draining.keys().copied().collect();
        for over in draining
            .into_iter()
            .filter(|bucket| !alive.contains(bucket))
        {
            self.phases.drained(over);
            self.flows.retain(|flow, _| bucket(*flow) != over);
        }
    }
}
