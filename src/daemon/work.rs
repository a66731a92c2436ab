//! The main loop: whatever happens is told to the state machine, and what that wants is done, one thing after the other.
//! Nothing in it waits: what does, others do.

use super::conversation::{Asked, Heard};
use super::errands::{self, Errand};
use super::kernel::Kernel;
use super::link::{Link, connect};
use super::server::Server;
use super::socket::{Socket, SocketError};
use super::telling::Telling;
use crate::cluster::bucket::{Answer, Ticket};
use crate::cluster::gathering::{Gathering, NodeId, Ring};
use crate::cluster::machine::Machine;
use crate::cluster::order::{Ask, Destination};
use crate::sys::corosync::{Corosync, CorosyncError, Event, Settings};
use crate::sys::nft::{ChangedBy, Changes, NftError};
use crate::sys::readiness::Readiness;
use crate::talk::reply::Reply;
use crate::talk::request::Request;
use nix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, warn};

/// Others change rules in bursts; so much of one is looked at together.
const TOGETHER: Duration = Duration::from_millis(5);
/// How often the kernel is looked at while something there ends by itself, of which it tells nobody; and else.
const WHILE_IT_MOVES: Duration = Duration::from_secs(1);
const WHILE_IT_RESTS: Duration = Duration::from_secs(10);
/// For how long no look at the kernel is taken while this node is to take a bucket that nobody answers until then.
const PUT_OFF: Duration = Duration::from_millis(20);
/// The pause before Corosync is told again what it did not take.
const AGAIN: Duration = Duration::from_millis(2);
/// How many requests wait to be heard.
const ASKS: usize = 64;

/// Why the daemon ends.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// Its socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// nf_tables.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// Something that every program needs.
    #[error("clusteripd cannot work: {0}")]
    Io(#[from] io::Error),
    /// Corosync gives this node another number than before.
    #[error(
        "this node was number {before} in the cluster and is {now} now: clusteripd begins anew"
    )]
    AnotherNode {
        /// The number that it had.
        before: u32,
        /// The number that it has.
        now: u32,
    },
}

/// The daemon.
pub(super) struct Work {
    pub(super) machine: Option<Machine>,
    pub(super) me: Option<u32>,
    pub(super) kernel: Kernel,
    pub(super) link: Option<Link>,
    pub(super) joins: mpsc::Sender<(Corosync, Settings)>,
    pub(super) unsaid: VecDeque<Vec<u8>>,
    pub(super) replies: BTreeMap<Ticket, oneshot::Sender<Reply>>,
    pub(super) drain_ms: BTreeMap<IpAddr, u64>,
    pub(super) errands: Sender<Errand>,
    pub(super) look_at: Instant,
    pub(super) telling: Telling,
}

/// Works until it is told to end (SIGTERM, SIGINT).
///
/// # Errors
/// Why it cannot.
pub async fn run(socket: &Socket) -> Result<(), WorkError> {
    let (asks, mut asked) = mpsc::channel(ASKS);
    let server = Server::new(socket, asks)?;
    let telling = Telling::new(server.watchers(), server.counts());
    let (joins, mut joined) = mpsc::channel(1);
    connect(joins.clone());
    let changes = Changes::listen()?;
    let readiness = Readiness::of(&changes)?;
    let mut changes = Some((changes, readiness));
    let mut work = Work {
        machine: None,
        me: None,
        kernel: Kernel::open()?,
        link: None,
        joins,
        unsaid: VecDeque::new(),
        replies: BTreeMap::new(),
        drain_ms: BTreeMap::new(),
        errands: errands::begin()?,
        look_at: Instant::now(),
        telling,
    };
    tokio::spawn(server.serve());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    super::service::ready();
    let mut beat = super::service::Beat::begin();
    loop {
        let wakes = work.wakes();
        tokio::select! {
            biased;
            ready = happened(work.link.as_ref()) => work.happened(ready),
            heard = asked.recv() => {
                if let Some(heard) = heard {
                    work.hear(heard);
                }
                while let Ok(heard) = asked.try_recv() {
                    work.hear(heard);
                }
            }
            changed = changed(changes.as_mut()) => match changed {
                Ok(all) => work.changed(&all),
                Err(error) => {
                    warn!("{error}; the kernel is looked at once a second instead");
                    changes = None;
                }
            },
            Some(joined) = joined.recv() => work.join(joined)?,
            () = sleep_until(wakes) => {}
            () = beat.due() => beat.tell(),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
        work.go_on();
    }
    super::service::ending();
    work.end();
    Ok(())
}

/// Waits for something to happen in the cluster.
async fn happened(link: Option<&Link>) -> io::Result<()> {
    match link {
        Some(link) => link.ready().await,
        None => std::future::pending().await,
    }
}

/// Waits for changes of the rules.
async fn changed(
    changes: Option<&mut (Changes, Readiness)>,
) -> Result<Vec<Option<ChangedBy>>, NftError> {
    let Some((changes, readiness)) = changes else {
        return std::future::pending().await;
    };
    let broken = |error| NftError::Broken {
        what: "hearing of changes",
        error,
    };
    readiness.ready().await.map_err(broken)?;
    changes.take()
}

impl Work {
    /// When time alone is a reason to go on.
    fn wakes(&self) -> Instant {
        let machine = self.machine.as_ref().and_then(Machine::wakes);
        let machine = machine.map(|at| Instant::now() + at.saturating_sub(now()));
        let again = (!self.unsaid.is_empty()).then(|| Instant::now() + AGAIN);
        let looks = self.looks_at();
        let all = [machine, again, Some(looks)];
        all.into_iter().flatten().min().unwrap_or(looks)
    }

    /// When the kernel is looked at, unless something else is a reason to: not while clients wait, for a look takes as
    /// long as a handover.
    pub(super) fn looks_at(&self) -> Instant {
        match self.machine.as_ref().is_some_and(Machine::is_awaited) {
            true => self.look_at + PUT_OFF,
            false => self.look_at,
        }
    }

    /// The rules were changed. What others have done that was not seen yet is looked at.
    fn changed(&mut self, all: &[Option<ChangedBy>]) {
        if all.iter().any(|by| self.kernel.is_news(by.as_ref())) {
            self.look_at = self.look_at.min(Instant::now() + TOGETHER);
        }
    }

    /// There is a connection to Corosync.
    fn join(&mut self, joined: (Corosync, Settings)) -> Result<(), WorkError> {
        let link = Link::of(joined)?;
        let node = link.node().unwrap_or_default();
        match self.me {
            Some(before) if before != node => {
                return Err(WorkError::AnotherNode { before, now: node });
            }
            Some(_) => {}
            None => {
                self.me = Some(node);
                self.machine = Some(Machine::new(NodeId(node), now()));
                self.look();
            }
        }
        self.telling.joined(node, &link.settings);
        self.link = Some(link);
        self.happened(Ok(()));
        Ok(())
    }

    /// Something has happened in the cluster.
    fn happened(&mut self, ready: io::Result<()>) {
        let taken = match (ready, &mut self.link) {
            (Ok(()), Some(link)) => link.take(),
            (Err(error), _) => {
                warn!("{error}");
                Err(CorosyncError::Lost)
            }
            (Ok(()), None) => return,
        };
        match taken {
            Ok(events) => events.into_iter().for_each(|event| self.follow(event)),
            Err(error) => {
                warn!("{error}; until it is there again agents do without this daemon");
                self.part();
                self.telling.parted();
                connect(self.joins.clone());
            }
        }
    }

    fn follow(&mut self, event: Event) {
        let Some(machine) = &mut self.machine else {
            return;
        };
        match event {
            Event::Members {
                ring,
                members,
                without,
                lost,
            } => {
                let gathering = Gathering {
                    ring: Ring {
                        node: ring.node,
                        number: ring.number,
                    },
                    members: members
                        .into_iter()
                        .map(|(node, pid)| (NodeId(node), pid))
                        .collect(),
                    without: without.into_iter().map(NodeId).collect(),
                };
                // Of another gathering nobody would listen to it.
                self.unsaid.clear();
                self.telling.gathered(&gathering);
                machine.gather(now(), gathering, &lost.into_iter().map(NodeId).collect());
            }
            Event::Message { from, bytes } => {
                debug!(
                    "node {} says {}",
                    from.node,
                    String::from_utf8_lossy(&bytes)
                );
                match machine.hear(now(), NodeId(from.node), &bytes) {
                    Ok(message) => self.telling.heard(message),
                    Err(error) => self.telling.dropped(from.node, &error),
                }
            }
            Event::Quorate { quorate, .. } => self.telling.quorate(quorate),
        }
    }

    /// An agent or nodectl asks, or waits no more.
    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Asked(Asked {
                ticket,
                request,
                reply,
            }) => {
                self.replies.insert(ticket, reply);
                self.asked(ticket, request);
            }
            Heard::Gone(ticket) => {
                self.replies.remove(&ticket);
                if let Some(machine) = &mut self.machine {
                    machine.cancel(now(), ticket);
                }
            }
        }
    }

    fn asked(&mut self, ticket: Ticket, request: Request) {
        let ask = match request {
            Request::Start {
                vip,
                description,
                bucket,
                called_ms,
                adopt_ms,
            } => {
                self.kernel.adopt(vip, adopt_ms);
                if !self.kernel.may_take(vip, bucket) {
                    self.look();
                }
                let since = passed_since(called_ms);
                Ask::Start {
                    vip,
                    description,
                    bucket,
                    since: now().saturating_sub(since),
                }
            }
            Request::Stop {
                vip,
                bucket,
                to,
                drain_ms,
            } => {
                self.drain_ms.insert(vip, drain_ms);
                if !self.kernel.may_offer(vip, bucket) {
                    self.look();
                }
                let node = to.and_then(|name| self.telling.number(&name));
                let to = node.map_or(Destination::Unknown, |node| Destination::Node(NodeId(node)));
                Ask::Stop { vip, bucket, to }
            }
            Request::View | Request::Watch => {
                let view = self.telling.view(self.machine.as_ref(), &self.kernel);
                return self.reply(ticket, Reply::View(view));
            }
            Request::Metrics => {
                self.look();
                let text = self.telling.metrics(self.machine.as_ref(), &self.kernel);
                return self.reply(ticket, Reply::Metrics { text });
            }
            Request::Unknown => return,
        };
        match &mut self.machine {
            Some(machine) => machine.ask(now(), ticket, ask),
            None => self.answer(ticket, Answer::Alone),
        }
    }

    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.reply(ticket, Reply::Answer { answer });
    }

    fn reply(&mut self, ticket: Ticket, reply: Reply) {
        if let Some(to) = self.replies.remove(&ticket) {
            // Who has gone meanwhile needs no answer.
            let _ = to.send(reply);
        }
    }

    /// There is no connection to Corosync any more.
    fn part(&mut self) {
        self.link = None;
        self.unsaid.clear();
        if let Some(machine) = &mut self.machine {
            machine.part(now());
        }
    }

    /// Lets go of what is offered here; nobody hears of it any more.
    fn end(&mut self) {
        self.part();
        self.go_on();
    }

    /// Looks at the kernel.
    pub(super) fn look(&mut self) {
        match self.kernel.look() {
            Ok(all) => {
                if let Some(machine) = &mut self.machine {
                    for (vip, seen) in all {
                        machine.see(now(), vip, &seen);
                    }
                }
            }
            Err(error) => error!("the kernel cannot be looked at: {error}"),
        }
        let pause = match self.kernel.moves() {
            true => WHILE_IT_MOVES,
            false => WHILE_IT_RESTS,
        };
        self.look_at = Instant::now() + pause;
    }
}

/// The time that the state machine goes by, as kernel and agents have it too.
pub(super) fn now() -> Duration {
    time(ClockId::CLOCK_MONOTONIC)
}

fn time(clock: ClockId) -> Duration {
    clock_gettime(clock).map(Duration::from).unwrap_or_default()
}

/// How long ago that was, by the clock that goes on while the host sleeps.
fn passed_since(called_ms: u64) -> Duration {
    time(ClockId::CLOCK_BOOTTIME).saturating_sub(Duration::from_millis(called_ms))
}
