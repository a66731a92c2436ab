//! A model of moves: a cluster of several nodes, clients with connections, a Pacemaker that is killed, late,
//! or without a word about who drains. What a node does with a packet is `node`'s. Pure.
//!
//! Whatever is interleaved: at most one node answers a packet; and an established connection is
//! answered by its own node until it ends, its time is over or the node dies. A property test holds
//! the model to that, and a scenario of the lab has real kernels do what it says.

use super::node::{Answer, Node, SIGHTINGS, Segment};
pub use super::node::{BUCKETS, DRAIN_MS, Flow, bucket};
use crate::model::phase::Phase;
use std::collections::BTreeMap;

/// How many nodes there are.
pub const NODES: usize = 3;
/// How many clients.
pub const FLOWS: Flow = 9;
/// An established connection, as its client sees it.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    number: u32,
    /// Who answers it.
    pub node: usize,
    /// For how long its node must serve it yet, once its bucket has left.
    left_ms: Option<u64>,
    /// How much its node has taken, and how often it has answered.
    taken: u32,
    heard: u32,
}

impl Connection {
    /// What a segment with data tells (`rules::adopting`): by timestamps what was heard, otherwise its own
    /// number, if it is no probe.
    fn told(&self, flow: Flow, probes: bool) -> Option<u32> {
        let stamped = flow % 2 == 0;
        match stamped {
            true => Some(self.heard),
            false => (!probes).then_some(self.taken),
        }
    }
}

/// Something that happens.
#[derive(Debug, Clone)]
pub enum Event {
    /// Pacemaker moves a bucket: all stops end before the start begins.
    Move {
        /// The bucket.
        bucket: u16,
        /// Its new owner.
        to: usize,
        /// What that is told.
        told: Told,
    },
    /// The same, but the start never comes.
    Stop {
        /// The bucket.
        bucket: u16,
    },
    /// A bucket that nobody owns is started.
    Start {
        /// The bucket.
        bucket: u16,
        /// Its new owner.
        on: usize,
        /// What that is told.
        told: Told,
    },
    /// A client begins anew.
    Connect(Flow),
    /// Its connection ends; the client is the first to say so.
    End(Flow),
    /// The service is.
    EndedByService(Flow),
    /// What is in TIME-WAIT on a node has ended.
    Forget(usize),
    /// It sends data.
    Send(Flow),
    /// Its window is closed for long: it sends the same again and again, which is answered but not taken.
    Probe(Flow),
    /// Time passes.
    Pass(u64),
    /// A node dies, is fenced, and comes back empty.
    Die(usize),
    /// A monitor, which looks again who drains.
    Monitor(usize),
    /// A sweeper, which lets go what has no connections.
    Sweep(usize),
    /// A stop that is killed between closing and listing, and is run again.
    KilledStop {
        /// The bucket.
        bucket: u16,
    },
}

/// What Pacemaker's history says of who drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// What is so.
    Truth,
    /// It cannot be read: the bucket is adopted for as long as anybody could drain it.
    Nothing,
}

/// All nodes and clients.
pub struct Cluster {
    nodes: Vec<Node>,
    /// The established connections, by client.
    pub connections: BTreeMap<Flow, Connection>,
    next: u32,
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster {
            nodes: vec![Node::empty(); NODES],
            connections: BTreeMap::new(),
            next: 0,
        }
    }
}

impl Cluster {
    /// The node that owns a bucket.
    pub fn owner(&self, bucket: u16) -> Option<usize> {
        let owns = |node: &Node| node.alive && node.phases.owned.contains(bucket);
        self.nodes.iter().position(owns)
    }

    /// How long a bucket is drained by another node than this.
    pub fn drained(&self, bucket: u16, but: usize) -> Option<u64> {
        let others = self.nodes.iter().enumerate().filter(|(n, _)| *n != but);
        let left = others.filter(|(_, node)| node.alive);
        left.filter_map(|(_, node)| node.phases.draining.get(&bucket).copied())
            .max()
    }

    fn close(&mut self, bucket_of: u16) {
        if let Some(owner) = self.owner(bucket_of) {
            self.nodes[owner].phases.close(bucket_of);
        }
    }

    fn stop(&mut self, bucket_of: u16) {
        self.close(bucket_of);
        for (n, node) in self.nodes.iter_mut().enumerate() {
            if node.phases.of(bucket_of) != Phase::Closing {
                continue;
            }
            node.list(bucket_of);
            let of_node = self.connections.iter_mut().filter(|(_, c)| c.node == n);
            for (_, connection) in of_node.filter(|(flow, _)| bucket(**flow) == bucket_of) {
                if connection.left_ms != Some(0) {
                    connection.left_ms = Some(DRAIN_MS);
                }
            }
        }
    }

    fn start(&mut self, bucket_of: u16, on: usize, told: Told) {
        if self.owner(bucket_of).is_some() || !self.nodes[on].alive {
            return;
        }
        let adopt_ms = match told {
            Told::Truth => self.drained(bucket_of, on),
            Told::Nothing => Some(DRAIN_MS),
        };
        self.nodes[on].take(bucket_of, adopt_ms);
        let back = self.connections.iter_mut();
        for (_, connection) in back.filter(|(flow, c)| bucket(**flow) == bucket_of && c.node == on)
        {
            // What is over stays over.
            if connection.left_ms != Some(0) {
                connection.left_ms = None;
            }
        }
    }

    /// Every node gets the packet; the answers.
    fn send(
        &mut self,
        flow: Flow,
        segment: Segment,
        number: u32,
    ) -> Result<Vec<(usize, Answer)>, String> {
        let nodes = self.nodes.iter_mut().enumerate();
        let answers: Vec<_> = nodes
            .map(|(n, node)| (n, node.get(flow, segment, number)))
            .filter(|(_, answer)| *answer != Answer::Silence)
            .collect();
        match answers.len() {
            0 | 1 => Ok(answers),
            _ => Err(format!("flow {flow}, {segment:?}: {answers:?}")),
        }
    }

    /// Lets it happen.
    ///
    /// # Errors
    /// What went wrong, if more than one node answered a packet, or a connection was not answered by
    /// its node.
    pub fn happen(&mut self, event: &Event) -> Result<(), String> {
        match *event {
            Event::Move { bucket, to, told } => {
                self.stop(bucket);
                self.start(bucket, to, told);
            }
            Event::Stop { bucket } => self.stop(bucket),
            Event::KilledStop { bucket } => {
                self.close(bucket);
                self.send_all()?;
                self.stop(bucket);
            }
            Event::Start { bucket, on, told } => self.start(bucket, on, told),
            Event::Connect(flow) => {
                self.next += 1;
                let number = self.next;
                // Who begins anew has done with the old connection.
                self.connections.remove(&flow);
                if let [(node, Answer::Served)] = self.send(flow, Segment::Syn, number)?[..] {
                    // Each connection's numbers and times begin elsewhere.
                    let begin = number << 16;
                    let new = Connection {
                        number,
                        node,
                        left_ms: None,
                        taken: begin,
                        heard: begin,
                    };
                    self.connections.insert(flow, new);
                }
            }
            Event::End(flow) => {
                if let Some(gone) = self.connections.remove(&flow) {
                    self.nodes[gone.node].end(flow);
                }
            }
            Event::EndedByService(flow) => {
                if let Some(gone) = self.connections.remove(&flow) {
                    self.nodes[gone.node].end_first(flow);
                }
            }
            Event::Forget(n) => self.nodes[n].forget(),
            Event::Send(flow) => self.exchange(flow, false)?,
            Event::Probe(flow) => (0..=SIGHTINGS).try_for_each(|_| self.exchange(flow, true))?,
            Event::Pass(ms) => {
                self.nodes.iter_mut().for_each(|node| node.pass(ms));
                let left = self.connections.values_mut();
                left.filter_map(|connection| connection.left_ms.as_mut())
                    .for_each(|left| *left = left.saturating_sub(ms));
            }
            Event::Die(n) => {
                self.nodes[n] = Node::empty();
                self.connections
                    .retain(|_, connection| connection.node != n);
            }
            Event::Monitor(n) => {
                let adopting: Vec<u16> = self.nodes[n].phases.adopting.keys().copied().collect();
                for bucket in adopting {
                    if self.drained(bucket, n).is_none() {
                        self.nodes[n].phases.adopted(bucket);
                    }
                }
            }
            Event::Sweep(n) => self.nodes[n].sweep(),
        }
        Ok(())
    }

    /// A client sends data, or probes a closed window, and minds the answer.
    fn exchange(&mut self, flow: Flow, probes: bool) -> Result<(), String> {
        let Some(connection) = self.connections.get(&flow).copied() else {
            return Ok(());
        };
        let data = Segment::Data(connection.told(flow, probes));
        let answers = self.send(flow, data, connection.number)?;
        let due = connection.left_ms.is_none_or(|left| left > 0);
        match answers[..] {
            [(node, Answer::Served)] if node == connection.node => {
                let answered = Connection {
                    taken: connection.taken + u32::from(!probes),
                    heard: connection.heard + 1,
                    ..connection
                };
                self.connections.insert(flow, answered);
            }
            _ if due => return Err(format!("{connection:?} of flow {flow} got {answers:?}")),
            [(_, Answer::Reset)] => {
                self.connections.remove(&flow);
            }
            _ => {}
        }
        Ok(())
    }

    /// Every client with a connection sends data.
    ///
    /// # Errors
    /// As of [`Cluster::happen`].
    pub fn send_all(&mut self) -> Result<(), String> {
        (0..FLOWS).try_for_each(|flow| self.exchange(flow, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_event() -> impl Strategy<Value = Event> {
        let (bucket, node, flow) = (0..BUCKETS, 0..NODES, 0..FLOWS);
        let told = prop_oneof![3 => Just(Told::Truth), 1 => Just(Told::Nothing)];
        let start = (bucket.clone(), node.clone(), told.clone());
        prop_oneof![
            4 => (bucket.clone(), node.clone(), told)
                .prop_map(|(bucket, to, told)| Event::Move { bucket, to, told }),
            1 => bucket.clone().prop_map(|bucket| Event::Stop { bucket }),
            1 => bucket.prop_map(|bucket| Event::KilledStop { bucket }),
            3 => start.prop_map(|(bucket, on, told)| Event::Start { bucket, on, told }),
            8 => flow.clone().prop_map(Event::Connect),
            1 => flow.clone().prop_map(Event::End),
            2 => flow.clone().prop_map(Event::EndedByService),
            1 => node.clone().prop_map(Event::Forget),
            8 => flow.clone().prop_map(Event::Send),
            4 => flow.prop_map(Event::Probe),
            3 => prop::sample::select(vec![1u64, 20, 50, 101]).prop_map(Event::Pass),
            1 => node.clone().prop_map(Event::Die),
            2 => node.clone().prop_map(Event::Monitor),
            2 => node.prop_map(Event::Sweep),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 4, ..ProptestConfig::default() })]
        #[test]
        fn connections_stay_and_nobody_answers_beside_another(
            events in prop::collection::vec(any_event(), 1..80),
        ) {
            let mut cluster = Cluster::default();
            for (n, event) in events.iter().enumerate() {
                let happened = cluster.happen(event).and_then(|()| cluster.send_all());
                prop_assert!(happened.is_ok(), "event {}, {:?}: {}", n, event, happened.unwrap_err());
                for bucket in 0..BUCKETS {
                    let owners = cluster.nodes.iter().filter(|node| node.phases.owned.contains(bucket));
                    prop_assert!(owners.count() <= 1);
                }
            }
        }
    }
}
