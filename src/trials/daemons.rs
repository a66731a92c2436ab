//! Daemons, their kernels, a Corosync between them and a Pacemaker above, as far as `handovers` has to do with them: three
//! nodes, one VIP. What a kernel does is `given_kernel`'s.

use super::given_kernel::{DRAIN, Kernel};
use crate::cluster::bucket::{Answer, OFFER, Ticket};
use crate::cluster::gathering::{Gathering, NodeId, Ring};
use crate::cluster::machine::Machine;
use crate::cluster::order::{Ask, Destination, Order, Todo};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

pub(super) const NODES: usize = 3;
pub(super) const BUCKETS: u16 = 3;
/// How long an agent's stop waits for the daemon.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// How long a start does: longer than anybody offers a bucket.
const START_PATIENCE: Duration = Duration::from_secs(7);
/// For how long the kernel lets a bucket come after its start.
const MAY_COME: Duration = Duration::from_secs(8);

pub(super) fn vip() -> IpAddr {
    [10, 0, 0, 99].into()
}

/// What a daemon has yet to hear.
#[derive(Debug, Clone)]
pub(super) enum Heard {
    Gathered(Gathering, BTreeSet<NodeId>),
    Message(NodeId, Vec<u8>),
    Parted,
    Asked(Ticket, Ask),
    Cancelled(Ticket),
    /// Somebody has changed the rules.
    Changed,
}

/// A daemon, as a process.
pub(super) struct Daemon {
    pub(super) machine: Machine,
    pub(super) process: u32,
    pub(super) inbox: VecDeque<Heard>,
    pub(super) todo: VecDeque<Todo>,
    /// What it has sent, and Corosync has not.
    pub(super) outbox: VecDeque<Vec<u8>>,
    pub(super) stopped: bool,
}

pub(super) struct Node {
    pub(super) kernel: Kernel,
    pub(super) daemon: Option<Daemon>,
    /// From when on no daemon is to be here, and agents do without at once.
    pub(super) without: Option<Duration>,
    /// Nodes of the same number hear each other.
    pub(super) side: usize,
}

/// What Pacemaker does with a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Managed {
    Stopped,
    Started(usize),
    /// The agent was called on a node.
    Stops {
        on: usize,
        to: usize,
        ticket: Ticket,
        since: Duration,
    },
    Starts {
        on: usize,
        ticket: Ticket,
        since: Duration,
    },
}

impl Managed {
    /// The node that has to do with the bucket.
    fn on(self) -> Option<usize> {
        match self {
            Managed::Stopped => None,
            Managed::Started(on) | Managed::Stops { on, .. } | Managed::Starts { on, .. } => {
                Some(on)
            }
        }
    }
}

pub(super) struct World {
    pub(super) now: Duration,
    pub(super) nodes: Vec<Node>,
    pub(super) managed: Vec<Managed>,
    pub(super) ring: u64,
    pub(super) processes: u32,
    pub(super) tickets: Ticket,
    /// What daemons have answered.
    pub(super) answers: BTreeMap<Ticket, Answer>,
    /// How often a kernel did nothing of what it was told.
    pub(super) refused: usize,
}

pub(super) fn id(node: usize) -> NodeId {
    NodeId(u32::try_from(node + 1).expect("few"))
}

impl World {
    pub(super) fn new() -> Self {
        let node = |_| Node {
            kernel: Kernel::default(),
            daemon: None,
            without: None,
            side: 0,
        };
        let mut world = World {
            now: Duration::from_secs(100),
            nodes: (0..NODES).map(node).collect(),
            managed: vec![Managed::Stopped; usize::from(BUCKETS)],
            ring: 1,
            processes: 100,
            tickets: 0,
            answers: BTreeMap::new(),
            refused: 0,
        };
        for node in 0..NODES {
            world.begin(node);
        }
        world
    }

    pub(super) fn begin(&mut self, node: usize) {
        if self.nodes[node].daemon.is_some() {
            return;
        }
        let mut machine = Machine::new(id(node), self.now);
        machine.see(self.now, vip(), &self.nodes[node].kernel.seen(self.now));
        self.processes += 1;
        self.nodes[node].without = None;
        self.nodes[node].daemon = Some(Daemon {
            machine,
            process: self.processes,
            inbox: VecDeque::new(),
            todo: VecDeque::new(),
            outbox: VecDeque::new(),
            stopped: false,
        });
        self.gather(self.nodes[node].side, &[]);
    }

    /// Everybody of a side is told who is there.
    pub(super) fn gather(&mut self, side: usize, lost: &[usize]) {
        let here = |node: &Node| node.side == side;
        let members = self.nodes.iter().enumerate().filter_map(|(n, node)| {
            let daemon = node.daemon.as_ref().filter(|_| here(node))?;
            Some((id(n), daemon.process))
        });
        let nodes = self.nodes.iter().enumerate();
        let without = nodes.filter(|(_, node)| here(node) && node.daemon.is_none());
        let gathering = Gathering {
            ring: Ring {
                node: u32::try_from(side).expect("few"),
                number: self.ring,
            },
            members: members.collect(),
            without: without.map(|(n, _)| id(n)).collect(),
        };
        for node in self.nodes.iter_mut().filter(|node| here(node)) {
            if let Some(daemon) = &mut node.daemon {
                let lost = lost.iter().copied().map(id).collect();
                daemon
                    .inbox
                    .push_back(Heard::Gathered(gathering.clone(), lost));
            }
        }
    }

    pub(super) fn kill(&mut self, node: usize) {
        if self.nodes[node].daemon.take().is_some() {
            self.gather(self.nodes[node].side, &[]);
        }
    }

    /// A daemon ends in order: it tells its agents to wait until nobody can have heard of it any more.
    pub(super) fn end(&mut self, node: usize) {
        if self.nodes[node].daemon.is_some() {
            self.nodes[node].without = Some(self.now + OFFER);
            self.kill(node);
        }
    }

    pub(super) fn transmit(&mut self, node: usize) {
        let side = self.nodes[node].side;
        let Some(daemon) = &mut self.nodes[node].daemon else {
            return;
        };
        let Some(bytes) = daemon.outbox.pop_front() else {
            return;
        };
        for other in self.nodes.iter_mut().filter(|other| other.side == side) {
            if let Some(daemon) = &mut other.daemon {
                daemon
                    .inbox
                    .push_back(Heard::Message(id(node), bytes.clone()));
            }
        }
    }

    /// A daemon does one thing, or hears so many and then knows what to do.
    pub(super) fn work(&mut self, node: usize, hears: usize) {
        let now = self.now;
        let Node { kernel, daemon, .. } = &mut self.nodes[node];
        kernel.pass(now);
        let Some(daemon) = daemon.as_mut().filter(|daemon| !daemon.stopped) else {
            return;
        };
        if let Some(todo) = daemon.todo.pop_front() {
            match todo {
                Todo::Do(order) => {
                    let done = match kernel.transact(&order, now) {
                        true => order.buckets.clone(),
                        // One at a time then.
                        false => order
                            .buckets
                            .iter()
                            .filter(|bucket| {
                                let one = Order {
                                    buckets: [*bucket].into_iter().collect(),
                                    ..order.clone()
                                };
                                kernel.transact(&one, now)
                            })
                            .collect(),
                    };
                    self.refused += usize::from(done.is_empty());
                    daemon.machine.done(now, &order, &done);
                }
                Todo::Look(of) => daemon.machine.confirm(now, of, &kernel.seen(now)),
                Todo::Say(message) => {
                    daemon.outbox.push_back(message.written().expect("short"));
                }
                Todo::Answer(ticket, answer) => {
                    self.answers.insert(ticket, answer);
                }
            }
            let more = daemon.machine.todo(now);
            daemon.todo.extend(more);
            return;
        }
        for _ in 0..hears.max(1) {
            match daemon.inbox.pop_front() {
                Some(Heard::Gathered(gathering, lost)) => {
                    daemon.machine.gather(now, gathering, &lost);
                }
                Some(Heard::Message(from, bytes)) => {
                    daemon.machine.hear(now, from, &bytes).expect("well said");
                }
                Some(Heard::Parted) => daemon.machine.part(now),
                Some(Heard::Asked(ticket, ask)) => daemon.machine.ask(now, ticket, ask),
                Some(Heard::Cancelled(ticket)) => daemon.machine.cancel(now, ticket),
                Some(Heard::Changed) => daemon.machine.see(now, vip(), &kernel.seen(now)),
                None => break,
            }
        }
        daemon.machine.wake(now);
        daemon.todo.extend(daemon.machine.todo(now));
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        for node in &mut self.nodes {
            let before = node.kernel.owned.len() + node.kernel.drains.len();
            node.kernel.pass(self.now);
            let after = node.kernel.owned.len() + node.kernel.drains.len();
            if let Some(daemon) = node.daemon.as_mut().filter(|_| before != after) {
                daemon.inbox.push_back(Heard::Changed);
            }
        }
    }

    /// An agent's request. Where there is no daemon a stop knows at once that it is alone.
    pub(super) fn ask(&mut self, node: usize, ask: Ask) -> Ticket {
        self.tickets += 1;
        match &mut self.nodes[node].daemon {
            Some(daemon) => daemon.inbox.push_back(Heard::Asked(self.tickets, ask)),
            None => {
                if let Ask::Stop { .. } = ask {
                    self.answers.insert(self.tickets, Answer::Alone);
                }
            }
        }
        self.tickets
    }

    pub(super) fn stops(&mut self, bucket: u16, on: usize, to: usize) {
        let ask = Ask::Stop {
            vip: vip(),
            bucket,
            to: match to == on {
                _ if self.tickets % 2 == 0 => Destination::Unknown,
                true => Destination::Nowhere,
                false => Destination::Node(id(to)),
            },
        };
        let ticket = self.ask(on, ask);
        self.managed[usize::from(bucket)] = Managed::Stops {
            on,
            to,
            ticket,
            since: self.now,
        };
    }

    pub(super) fn starts(&mut self, bucket: u16, on: usize) {
        let Node {
            kernel, without, ..
        } = &mut self.nodes[on];
        if without.is_some_and(|from| self.now >= from) {
            kernel.drains.remove(&bucket);
            kernel.owned.insert(bucket, None);
            self.managed[usize::from(bucket)] = Managed::Started(on);
            return;
        }
        kernel.coming.insert(bucket, self.now + MAY_COME);
        let ask = Ask::Start {
            vip: vip(),
            description: "d".into(),
            bucket,
            since: self.now,
        };
        let ticket = self.ask(on, ask);
        self.managed[usize::from(bucket)] = Managed::Starts {
            on,
            ticket,
            since: self.now,
        };
    }

    /// Somebody who changes rules by himself is noticed, sooner or later.
    pub(super) fn alone(&mut self, node: usize, change: impl FnOnce(&mut Kernel)) {
        change(&mut self.nodes[node].kernel);
        if let Some(daemon) = &mut self.nodes[node].daemon {
            daemon.inbox.push_back(Heard::Changed);
        }
    }

    pub(super) fn cancel(&mut self, node: usize, ticket: Ticket) {
        if let Some(daemon) = &mut self.nodes[node].daemon {
            daemon.inbox.push_back(Heard::Cancelled(ticket));
        }
    }

    /// The agent that is at work for a bucket goes on, and then Pacemaker.
    pub(super) fn agent(&mut self, bucket: u16) {
        let now = self.now;
        let managed = self.managed[usize::from(bucket)];
        if managed.on().is_some_and(|on| self.is_cut(on)) {
            return;
        }
        match managed {
            Managed::Stops {
                on,
                to,
                ticket,
                since,
            } => {
                let answer = self.answers.get(&ticket).copied();
                let late = now >= since + STOP_PATIENCE;
                if answer.is_none() && !late {
                    return;
                }
                if answer != Some(Answer::Left) {
                    self.cancel(on, ticket);
                    self.alone(on, |kernel| {
                        kernel.coming.remove(&bucket);
                        if kernel.owned.remove(&bucket).is_some() {
                            kernel.drains.insert(bucket, now + DRAIN);
                        }
                    });
                }
                match self.is_cut(to) {
                    true => self.managed[usize::from(bucket)] = Managed::Stopped,
                    false => self.starts(bucket, to),
                }
            }
            Managed::Starts { on, ticket, since } => match self.answers.get(&ticket) {
                Some(Answer::Owned) => self.managed[usize::from(bucket)] = Managed::Started(on),
                Some(_) => self.stops(bucket, on, (on + 1) % NODES),
                None if now >= since + START_PATIENCE => {
                    self.cancel(on, ticket);
                    self.alone(on, |kernel| {
                        kernel.coming.remove(&bucket);
                        kernel.drains.remove(&bucket);
                        kernel.owned.insert(bucket, None);
                    });
                    self.managed[usize::from(bucket)] = Managed::Started(on);
                }
                None => {}
            },
            Managed::Stopped | Managed::Started(_) => {}
        }
    }

    /// Nothing is done in the agent's place. A stop that fails is a fenced node; a start that fails is stopped.
    pub(super) fn kill_agent(&mut self, bucket: u16) {
        match self.managed[usize::from(bucket)] {
            Managed::Stops { on, .. } => self.die(on),
            Managed::Starts { on, ticket, .. } if !self.is_cut(on) => {
                self.cancel(on, ticket);
                self.stops(bucket, on, (on + 1) % NODES);
            }
            _ => {}
        }
    }

    /// A node is fenced, and comes back empty.
    pub(super) fn die(&mut self, node: usize) {
        self.nodes[node].daemon = None;
        self.nodes[node].kernel = Kernel::default();
        self.ring += 4;
        self.nodes[node].side = 0;
        self.gather(0, &[node]);
        for bucket in 0..BUCKETS {
            let managed = &mut self.managed[usize::from(bucket)];
            if managed.on() == Some(node) {
                *managed = Managed::Stopped;
            }
        }
    }

    /// A node hears nobody any more, or everybody again. Pacemaker does nothing with it meanwhile but fence it.
    pub(super) fn part(&mut self, node: usize, parts: bool) {
        let side = if parts { node + 1 } else { 0 };
        if self.nodes[node].side == side {
            return;
        }
        self.nodes[node].side = side;
        self.ring += 4;
        // To the others it is lost; whether it lives they do not know.
        for of in [0, side] {
            self.gather(of, &[]);
        }
    }

    pub(super) fn is_cut(&self, node: usize) -> bool {
        self.nodes[node].side != 0
    }

    /// A node's Corosync ends and begins anew: alone at first, then with the others.
    pub(super) fn corosync(&mut self, node: usize) {
        if self.is_cut(node) {
            return;
        }
        if let Some(daemon) = &mut self.nodes[node].daemon {
            daemon.inbox.push_back(Heard::Parted);
            daemon.outbox.clear();
        }
        self.ring += 4;
        self.nodes[node].side = node + 1;
        self.gather(0, &[]);
        self.gather(node + 1, &[]);
        self.ring += 4;
        self.nodes[node].side = 0;
        self.gather(0, &[]);
    }

    pub(super) fn stopped(&mut self, node: usize, stopped: bool) {
        if let Some(daemon) = &mut self.nodes[node].daemon {
            daemon.stopped = stopped;
        }
    }

    /// Is there anything that a daemon can do, or Corosync for it?
    pub(super) fn has_work(&self, node: usize) -> bool {
        self.nodes[node].daemon.as_ref().is_some_and(|daemon| {
            let works = !daemon.inbox.is_empty() || !daemon.todo.is_empty();
            !daemon.outbox.is_empty() || (works && !daemon.stopped)
        })
    }

    /// Everybody does what there is to do, and all agents look; no time passes.
    pub(super) fn settle(&mut self) {
        // Time alone may be enough.
        for node in 0..NODES {
            self.work(node, 1);
        }
        while (0..NODES).any(|node| self.has_work(node)) {
            for node in 0..NODES {
                self.transmit(node);
                self.work(node, 4);
            }
        }
        for bucket in 0..BUCKETS {
            self.agent(bucket);
        }
    }

    /// Nobody is told that connections are gone which another node has; who is cut off is fenced before it matters.
    pub(super) fn cuts_connections(&mut self) -> bool {
        (0..NODES).any(|node| {
            let told = std::mem::take(&mut self.nodes[node].kernel.let_through);
            told.iter().any(|bucket| {
                let others = self.nodes.iter().enumerate().filter(|(n, _)| *n != node);
                others
                    .into_iter()
                    .any(|(_, other)| other.kernel.drains.contains_key(bucket))
            })
        })
    }

    /// Who holds a bucket, by what a node's daemon has heard.
    pub(super) fn known(&self, node: usize, bucket: u16) -> BTreeSet<NodeId> {
        let daemon = self.nodes[node].daemon.as_ref().expect("begun");
        let holders = daemon.machine.view().holders(vip(), bucket);
        holders.map(|(holder, _)| holder).collect()
    }

    pub(super) fn answering(&self, bucket: u16) -> Vec<usize> {
        let answers = |node: &Node| {
            let until = node.kernel.owned.get(&bucket);
            until.is_some_and(|until| until.is_none_or(|until| until > self.now))
        };
        (0..NODES).filter(|n| answers(&self.nodes[*n])).collect()
    }
}
