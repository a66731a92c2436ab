//! Daemons that hand buckets over, in every interleaving: messages that come late, daemons that are killed, started anew
//! or stopped for a while, rings that part and meet, nodes that are fenced, agents that give up. What a kernel does is
//! modelled: elements with an end, and transactions that fail as a whole.
//!
//! Whatever happens, at most one node answers a bucket; and when all is quiet the node does to which Pacemaker has given
//! it.

use crate::cluster::bucket::{Answer, OFFER, Op, Ticket};
use crate::cluster::gathering::{Gathering, NodeId, Ring};
use crate::cluster::machine::{Ask, Machine, Order, Seen, Todo};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

const NODES: usize = 3;
const BUCKETS: u16 = 3;
/// How long an agent's stop waits for the daemon.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// How long a start does: longer than anybody offers a bucket.
const START_PATIENCE: Duration = Duration::from_secs(7);
/// For how long the kernel lets a bucket come after its start.
const MAY_COME: Duration = Duration::from_secs(8);
/// For how long connections stay.
const DRAIN: Duration = Duration::from_secs(20);

fn vip() -> IpAddr {
    [10, 0, 0, 99].into()
}

/// What a node's kernel has of the VIP.
#[derive(Debug, Default, Clone)]
struct Kernel {
    /// The buckets that it answers, and when it ends that.
    owned: BTreeMap<u16, Option<Duration>>,
    /// The buckets that may be taken, and until when.
    coming: BTreeMap<u16, Duration>,
    /// Where connections are left, and until when.
    drains: BTreeMap<u16, Duration>,
}

impl Kernel {
    fn pass(&mut self, now: Duration) {
        self.owned
            .retain(|_, until| until.is_none_or(|until| until > now));
        self.coming.retain(|_, until| *until > now);
        self.drains.retain(|_, until| *until > now);
    }

    /// One transaction: all of it, or nothing.
    fn transact(&mut self, order: &Order, now: Duration) -> bool {
        let all = |has: &dyn Fn(u16) -> bool| order.buckets.iter().all(has);
        let is_so = match order.op {
            Op::Take => all(&|bucket| self.coming.contains_key(&bucket)),
            Op::Offer => all(&|bucket| self.owned.get(&bucket) == Some(&None)),
            Op::Keep => all(&|bucket| self.owned.contains_key(&bucket)),
            Op::Give | Op::Drain | Op::Adopted => true,
        };
        for bucket in order.buckets.iter().filter(|_| is_so) {
            match order.op {
                Op::Take | Op::Keep => {
                    self.coming.remove(&bucket);
                    self.drains.remove(&bucket);
                    self.owned.insert(bucket, None);
                }
                Op::Offer => {
                    self.owned.insert(bucket, Some(now + OFFER));
                }
                Op::Give => {
                    if self.owned.remove(&bucket).is_some() {
                        self.drains.insert(bucket, now + DRAIN);
                    }
                }
                Op::Drain | Op::Adopted => {}
            }
        }
        is_so
    }

    fn seen(&self, now: Duration) -> Seen {
        let left = |until: Duration| until.saturating_sub(now);
        let held = self
            .owned
            .iter()
            .map(|(bucket, until)| (*bucket, until.map(left)));
        Seen {
            description: "d".into(),
            held: held.collect(),
            drains: self.drains.keys().copied().collect(),
        }
    }
}

/// What a daemon has yet to hear.
#[derive(Debug, Clone)]
enum Heard {
    Gathered(Gathering),
    Message(NodeId, Vec<u8>),
    Parted,
    Asked(Ticket, Ask),
    Cancelled(Ticket),
    /// Somebody has changed the rules.
    Changed,
}

/// A daemon, as a process.
struct Daemon {
    machine: Machine,
    process: u32,
    inbox: VecDeque<Heard>,
    todo: VecDeque<Todo>,
    /// What it has sent, and Corosync has not.
    outbox: VecDeque<Vec<u8>>,
    stopped: bool,
}

struct Node {
    kernel: Kernel,
    daemon: Option<Daemon>,
    /// Nodes of the same number hear each other.
    side: usize,
    alive: bool,
}

/// What Pacemaker does with a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Managed {
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

struct World {
    now: Duration,
    nodes: Vec<Node>,
    managed: Vec<Managed>,
    ring: u64,
    processes: u32,
    tickets: Ticket,
    /// What daemons have answered.
    answers: BTreeMap<Ticket, Answer>,
}

/// Something that happens.
#[derive(Debug, Clone)]
enum Event {
    /// A daemon goes on: it does one thing, or hears so many.
    Work(usize, usize),
    /// Corosync sends what a daemon has given it.
    Transmit(usize),
    Pass(u64),
    /// Pacemaker moves a bucket.
    Move(u16, usize),
    /// An agent looks whether it was answered.
    Agent(u16),
    Kill(usize),
    Begin(usize),
    Stop(usize),
    Continue(usize),
    /// Corosync is started anew.
    Corosync(usize),
    /// Power is lost.
    Die(usize),
    /// Everybody does what there is to do.
    Settle,
}

fn id(node: usize) -> NodeId {
    NodeId(u32::try_from(node + 1).expect("few"))
}

impl World {
    fn new() -> Self {
        let node = |_| Node {
            kernel: Kernel::default(),
            daemon: None,
            side: 0,
            alive: true,
        };
        let mut world = World {
            now: Duration::from_secs(100),
            nodes: (0..NODES).map(node).collect(),
            managed: vec![Managed::Stopped; usize::from(BUCKETS)],
            ring: 1,
            processes: 100,
            tickets: 0,
            answers: BTreeMap::new(),
        };
        for node in 0..NODES {
            world.begin(node);
        }
        world
    }

    fn begin(&mut self, node: usize) {
        if !self.nodes[node].alive || self.nodes[node].daemon.is_some() {
            return;
        }
        let mut machine = Machine::new(id(node), self.now);
        machine.see(self.now, vip(), &self.nodes[node].kernel.seen(self.now));
        self.processes += 1;
        self.nodes[node].daemon = Some(Daemon {
            machine,
            process: self.processes,
            inbox: VecDeque::new(),
            todo: VecDeque::new(),
            outbox: VecDeque::new(),
            stopped: false,
        });
        self.gather(self.nodes[node].side);
    }

    /// Everybody of a side is told who is there.
    fn gather(&mut self, side: usize) {
        let here = |node: &Node| node.side == side && node.alive;
        let members = self.nodes.iter().enumerate().filter_map(|(n, node)| {
            let daemon = node.daemon.as_ref().filter(|_| here(node))?;
            Some((id(n), daemon.process))
        });
        let gathering = Gathering {
            ring: Ring {
                node: u32::try_from(side).expect("few"),
                number: self.ring,
            },
            members: members.collect(),
        };
        for node in self.nodes.iter_mut().filter(|node| here(node)) {
            if let Some(daemon) = &mut node.daemon {
                daemon.inbox.push_back(Heard::Gathered(gathering.clone()));
            }
        }
    }

    fn kill(&mut self, node: usize) {
        if self.nodes[node].daemon.take().is_some() {
            self.gather(self.nodes[node].side);
        }
    }

    fn transmit(&mut self, node: usize) {
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
    fn work(&mut self, node: usize, hears: usize) {
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
                Some(Heard::Gathered(gathering)) => daemon.machine.gather(now, gathering),
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

    fn pass(&mut self, ms: u64) {
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

    /// An agent's request; `None` if there is no daemon.
    fn ask(&mut self, node: usize, ask: Ask) -> Ticket {
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

    fn stops(&mut self, bucket: u16, on: usize, to: usize) {
        let ask = Ask::Stop {
            vip: vip(),
            bucket,
            to: Some(id(to)).filter(|_| to != on),
        };
        let ticket = self.ask(on, ask);
        self.managed[usize::from(bucket)] = Managed::Stops {
            on,
            to,
            ticket,
            since: self.now,
        };
    }

    fn starts(&mut self, bucket: u16, on: usize) {
        if !self.nodes[on].alive {
            self.managed[usize::from(bucket)] = Managed::Stopped;
            return;
        }
        let kernel = &mut self.nodes[on].kernel;
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
    fn alone(&mut self, node: usize, change: impl FnOnce(&mut Kernel)) {
        change(&mut self.nodes[node].kernel);
        if let Some(daemon) = &mut self.nodes[node].daemon {
            daemon.inbox.push_back(Heard::Changed);
        }
    }

    fn cancel(&mut self, node: usize, ticket: Ticket) {
        if let Some(daemon) = &mut self.nodes[node].daemon {
            daemon.inbox.push_back(Heard::Cancelled(ticket));
        }
    }

    /// The agent that is at work for a bucket goes on, and then Pacemaker.
    fn agent(&mut self, bucket: u16) {
        let now = self.now;
        match self.managed[usize::from(bucket)] {
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
                self.starts(bucket, to);
            }
            Managed::Starts { on, ticket, since } => match self.answers.get(&ticket) {
                Some(Answer::Owned) => self.managed[usize::from(bucket)] = Managed::Started(on),
                Some(_) => self.stops(bucket, on, on),
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

    /// A node is fenced, and comes back empty.
    fn die(&mut self, node: usize) {
        self.nodes[node].daemon = None;
        self.nodes[node].kernel = Kernel::default();
        self.ring += 4;
        self.gather(self.nodes[node].side);
        for bucket in 0..BUCKETS {
            let managed = &mut self.managed[usize::from(bucket)];
            let lost = match *managed {
                Managed::Stopped => false,
                Managed::Started(on) | Managed::Stops { on, .. } | Managed::Starts { on, .. } => {
                    on == node
                }
            };
            if lost {
                *managed = Managed::Stopped;
            }
        }
    }

    /// A node's Corosync ends and begins anew: alone at first, then with the others.
    fn corosync(&mut self, node: usize) {
        if let Some(daemon) = &mut self.nodes[node].daemon {
            daemon.inbox.push_back(Heard::Parted);
            daemon.outbox.clear();
        }
        self.ring += 4;
        self.nodes[node].side = node + 1;
        self.gather(0);
        self.gather(node + 1);
        self.ring += 4;
        self.nodes[node].side = 0;
        self.gather(0);
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Work(node, hears) => self.work(node, hears),
            Event::Transmit(node) => self.transmit(node),
            Event::Pass(ms) => self.pass(ms),
            Event::Move(bucket, to) => match self.managed[usize::from(bucket)] {
                Managed::Started(on) if on != to => self.stops(bucket, on, to),
                Managed::Stopped => self.starts(bucket, to),
                _ => {}
            },
            Event::Agent(bucket) => self.agent(bucket),
            Event::Kill(node) => self.kill(node),
            Event::Begin(node) => self.begin(node),
            Event::Stop(node) => self.stopped(node, true),
            Event::Continue(node) => self.stopped(node, false),
            Event::Corosync(node) => self.corosync(node),
            Event::Die(node) => self.die(node),
            Event::Settle => self.settle(),
        }
    }

    fn stopped(&mut self, node: usize, stopped: bool) {
        if let Some(daemon) = &mut self.nodes[node].daemon {
            daemon.stopped = stopped;
        }
    }

    /// Is there anything that a daemon can do, or Corosync for it?
    fn has_work(&self, node: usize) -> bool {
        self.nodes[node].daemon.as_ref().is_some_and(|daemon| {
            let works = !daemon.inbox.is_empty() || !daemon.todo.is_empty();
            !daemon.outbox.is_empty() || (works && !daemon.stopped)
        })
    }

    /// Everybody does what there is to do, and all agents look; no time passes.
    fn settle(&mut self) {
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

    fn answering(&self, bucket: u16) -> Vec<usize> {
        let answers = |node: &Node| {
            let until = node.kernel.owned.get(&bucket);
            until.is_some_and(|until| until.is_none_or(|until| until > self.now))
        };
        (0..NODES).filter(|n| answers(&self.nodes[*n])).collect()
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let node = || 0..NODES;
    let bucket = || 0..BUCKETS;
    prop_oneof![
        30 => (node(), 1..4usize).prop_map(|(node, hears)| Event::Work(node, hears)),
        15 => node().prop_map(Event::Transmit),
        8 => prop_oneof![1..20u64, 20..1_000u64, 1_000..4_000u64].prop_map(Event::Pass),
        8 => (bucket(), node()).prop_map(|(bucket, to)| Event::Move(bucket, to)),
        10 => bucket().prop_map(Event::Agent),
        8 => Just(Event::Settle),
        1 => node().prop_map(Event::Kill),
        3 => node().prop_map(Event::Begin),
        1 => node().prop_map(Event::Stop),
        3 => node().prop_map(Event::Continue),
        1 => node().prop_map(Event::Corosync),
        1 => node().prop_map(Event::Die),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]
    #[test]
    fn a_bucket_is_never_answered_twice_and_in_the_end_where_it_belongs(
        events in prop::collection::vec(any_event(), 1..150),
    ) {
        let mut world = World::new();
        world.settle();
        for event in &events {
            world.happen(event);
            for bucket in 0..BUCKETS {
                let answering = world.answering(bucket);
                prop_assert!(answering.len() <= 1, "{bucket}: {answering:?} after {event:?}");
            }
        }
        // All is well from now on.
        for node in 0..NODES {
            world.stopped(node, false);
            world.begin(node);
        }
        for _ in 0..60 {
            world.settle();
            world.pass(500);
            for bucket in 0..BUCKETS {
                let answering = world.answering(bucket);
                prop_assert!(answering.len() <= 1, "{bucket}: {answering:?} in the end");
            }
        }
        for bucket in 0..BUCKETS {
            let managed = world.managed[usize::from(bucket)];
            let right: Vec<usize> = match managed {
                Managed::Stopped => Vec::new(),
                Managed::Started(on) => vec![on],
                other => return Err(TestCaseError::fail(format!("{bucket}: {other:?} in the end"))),
            };
            prop_assert_eq!(world.answering(bucket), right, "{}: {:?}", bucket, managed);
        }
        // Everybody knows.
        for node in &world.nodes {
            let machine = &node.daemon.as_ref().expect("begun").machine;
            prop_assert!(machine.view().is_whole());
            for bucket in 0..BUCKETS {
                let known: BTreeSet<NodeId> =
                    machine.view().holders(vip(), bucket).map(|(holder, _)| holder).collect();
                let right = world.answering(bucket).into_iter().map(id).collect();
                prop_assert_eq!(known, right, "{}", bucket);
            }
        }
    }
}

#[test]
fn a_planned_move_is_a_handover() {
    let mut world = World::new();
    world.settle();
    world.pass(6_000);
    world.happen(&Event::Move(0, 0));
    world.settle();
    assert_eq!(world.managed[0], Managed::Started(0));
    world.happen(&Event::Move(0, 1));
    world.settle();
    // The stop is over, and the bucket is answered as before.
    assert!(matches!(world.managed[0], Managed::Starts { on: 1, .. }));
    assert_eq!(world.answering(0), [0]);
    world.settle();
    assert_eq!(world.managed[0], Managed::Started(1));
    assert_eq!(world.answering(0), [1]);
    // No time has passed.
    assert_eq!(world.now, Duration::from_secs(106));
}
