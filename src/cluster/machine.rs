//! The daemon's state machine: what it hears, what it is asked, what its kernel has, and what follows. Pure: time comes
//! in, everything to do comes out, in order.
//!
//! The shell feeds it ([`Machine::hear`], [`Machine::ask`] …) and does what [`Machine::todo`] says, one thing after the
//! other; what the kernel was told is confirmed at once ([`Machine::done`]), before anything else is heard. What can be
//! said or done for many buckets of a VIP is one message and one transaction, if the shell asks for what is to be done
//! when nothing more waits to be heard.

use super::bucket::{Answer, Around, Goes, Input, OFFER, Op, Stand, State, Ticket, Want};
use super::gathering::{Gathering, GatheringId, NodeId};
use super::message::{Holds, MAJOR, MINOR, Message, MessageError, Part, Said};
use super::view::{Event, View};
use crate::model::bucket::BucketSet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Todo {
    /// Tell the kernel, and say what came of it.
    Do(Order),
    /// Look what the kernel has of a VIP, and say so ([`Machine::see`]).
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
    /// Those of them in which another member has connections left.
    pub adopts: BucketSet,
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
        /// Where it starts then, if that is known.
        to: Option<NodeId>,
    },
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

/// A VIP on this node.
#[derive(Debug, Default)]
struct Own {
    description: String,
    buckets: BTreeMap<u16, State>,
    drains: BTreeSet<u16>,
}

/// The daemon of a node.
#[derive(Debug)]
pub struct Machine {
    me: NodeId,
    gathering: Option<(Gathering, GatheringId)>,
    /// How many messages this daemon has sent.
    said: u64,
    /// The places of the last messages that were heard of each member.
    heard: BTreeMap<NodeId, u64>,
    view: View,
    own: BTreeMap<IpAddr, Own>,
    /// Until when members of whom nothing is known may answer anything.
    blind: Duration,
    /// Until when members offer a bucket, by this node's clock.
    offers: BTreeMap<(IpAddr, u16), Duration>,
    wants: Vec<(IpAddr, u16, Want)>,
    /// VIPs of which all is to be said, and to whom that confirms what is held.
    to_say: BTreeMap<IpAddr, Option<NodeId>>,
    /// Everything has to be said, and that it was.
    to_say_all: bool,
    /// Who has claimed what is held here.
    claimants: BTreeMap<IpAddr, NodeId>,
    /// The kernel lets the bare resets of these through again.
    adopted: BTreeMap<IpAddr, BTreeSet<u16>>,
    drained: BTreeMap<IpAddr, BTreeSet<u16>>,
    dropped: Dropped,
}

impl Machine {
    /// A daemon that has just begun: whoever was there before may have offered buckets of which nobody tells it.
    pub fn new(me: NodeId, now: Duration) -> Self {
        Machine {
            me,
            gathering: None,
            said: 0,
            heard: BTreeMap::new(),
            view: View::default(),
            own: BTreeMap::new(),
            blind: now + OFFER,
            offers: BTreeMap::new(),
            wants: Vec::new(),
            to_say: BTreeMap::new(),
            to_say_all: false,
            claimants: BTreeMap::new(),
            adopted: BTreeMap::new(),
            drained: BTreeMap::new(),
            dropped: Dropped::default(),
        }
    }

    /// What all members hold, as it is heard.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What was dropped so far.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Where a bucket stands here.
    pub fn state(&self, vip: IpAddr, bucket: u16) -> Option<&State> {
        self.own.get(&vip)?.buckets.get(&bucket)
    }

    /// What was still to be said belongs to another gathering; all that is held is said anew anyway.
    fn say_no_more(&mut self) {
        self.to_say.clear();
        self.drained.clear();
        self.claimants.clear();
        for (vip, bucket, want) in std::mem::take(&mut self.wants) {
            match want {
                Want::Do(_) | Want::Confirm | Want::Answer(..) => {
                    self.wants.push((vip, bucket, want))
                }
                Want::SayRelease(true) => {
                    self.own.entry(vip).or_default().drains.insert(bucket);
                }
                _ => {}
            }
        }
    }

    /// Others are here, or no longer.
    pub fn gather(&mut self, now: Duration, gathering: Gathering) {
        // What somebody offers of whom not all is known nobody knows.
        let known = self.view.is_whole() && self.gathering.is_some();
        let gone = self.view.gathered(&gathering);
        if !gone.is_empty() && !known {
            self.blind = now + OFFER;
        }
        self.heard
            .retain(|node, _| gathering.members.contains_key(node));
        let id = gathering.id();
        self.gathering = Some((gathering, id));
        self.to_say_all = true;
        self.say_no_more();
        // Their connections are no more.
        for (vip, holding) in gone.values().flatten() {
            for bucket in &holding.drains {
                self.let_through(*vip, *bucket);
            }
        }
        self.all(now, &Input::Gathered(true));
    }

    /// There is no connection to Corosync any more.
    pub fn part(&mut self, now: Duration) {
        self.gathering = None;
        self.view.gathered(&Gathering::default());
        self.heard.clear();
        self.blind = now + OFFER;
        self.to_say_all = false;
        self.say_no_more();
        self.all(now, &Input::Gathered(false));
    }

    /// A message has come; everybody has it in the same order.
    ///
    /// # Errors
    /// Why it is dropped.
    pub fn hear(&mut self, now: Duration, from: NodeId, bytes: &[u8]) -> Result<(), MessageError> {
        match Message::read(from, bytes) {
            Ok(message) => {
                self.heard(now, &message);
                Ok(())
            }
            Err(error) => {
                match error {
                    MessageError::OtherMajor(_) => self.dropped.other_major += 1,
                    _ => self.dropped.garbled += 1,
                }
                Err(error)
            }
        }
    }

    fn heard(&mut self, now: Duration, message: &Message) {
        let of_now = self.gathering.as_ref().map(|(_, id)| *id);
        if of_now != Some(message.gathering) {
            self.dropped.stale += 1;
            return;
        }
        let last = self.heard.entry(message.from).or_default();
        if message.number <= *last {
            self.dropped.replayed += 1;
            return;
        }
        *last = message.number;
        for event in self.view.hears(message.from, &message.said) {
            self.follow(now, &event);
        }
        if let Said::Holds(holds) = &message.said {
            self.look_at_others(now, holds.vip);
            if holds.confirms == Some(self.me) {
                self.confirmed(now, message.from, holds);
            }
        }
    }

    /// An agent asks.
    pub fn ask(&mut self, now: Duration, ticket: Ticket, ask: Ask) {
        match ask {
            Ask::Start {
                vip,
                description,
                bucket,
                since,
            } => {
                let own = self.own.entry(vip).or_default();
                if own.buckets.is_empty() {
                    own.description = description;
                }
                self.step(now, vip, bucket, Input::Start(ticket, since));
            }
            Ask::Stop { vip, bucket, to } => {
                let gathering = self.gathering.as_ref().map(|(gathering, _)| gathering);
                let hears = |node: &NodeId| {
                    *node != self.me
                        && gathering.is_some_and(|gathering| gathering.members.contains_key(node))
                };
                let goes = match to.filter(hears) {
                    Some(_) => Goes::ToAMember,
                    None => Goes::Away,
                };
                self.step(now, vip, bucket, Input::Stop(ticket, goes));
            }
        }
    }

    /// Whoever asked waits for no answer any more.
    pub fn cancel(&mut self, now: Duration, ticket: Ticket) {
        self.all(now, &Input::Cancel(ticket));
    }

    /// The kernel was told; these buckets are so now, the others are not.
    pub fn done(&mut self, now: Duration, order: &Order, done: &BucketSet) {
        for bucket in order.buckets.iter() {
            let input = Input::Done(order.op, done.contains(bucket));
            self.step(now, order.vip, bucket, input);
        }
    }

    /// The kernel was looked at.
    pub fn see(&mut self, now: Duration, vip: IpAddr, seen: &Seen) {
        let own = self.own.entry(vip).or_default();
        if !seen.description.is_empty() && own.description != seen.description {
            own.description.clone_from(&seen.description);
            self.to_say.entry(vip).or_default();
        }
        let own = self.own.entry(vip).or_default();
        let known: BTreeSet<u16> = own
            .buckets
            .keys()
            .chain(seen.held.keys())
            .copied()
            .collect();
        let ended: Vec<u16> = own.drains.difference(&seen.drains).copied().collect();
        let begun = seen.drains.difference(&own.drains).next().is_some();
        own.drains.clone_from(&seen.drains);
        if begun {
            self.to_say.entry(vip).or_default();
        }
        if !ended.is_empty() {
            self.drained.entry(vip).or_default().extend(ended);
        }
        for bucket in known {
            let has = seen.held.get(&bucket).copied();
            self.step(now, vip, bucket, Input::Seen(has));
        }
        self.forget_if_empty(vip);
    }

    /// Time has passed.
    pub fn wake(&mut self, now: Duration) {
        self.offers.retain(|_, until| *until > now);
        let due: Vec<(IpAddr, u16)> = self
            .wakes_of_all()
            .filter(|(_, at)| *at <= now)
            .map(|(of, _)| of)
            .collect();
        for (vip, bucket) in due {
            self.step(now, vip, bucket, Input::Time);
        }
    }

    /// When time alone changes something.
    pub fn wakes(&self) -> Option<Duration> {
        self.wakes_of_all().map(|(_, at)| at).min()
    }

    fn wakes_of_all(&self) -> impl Iterator<Item = ((IpAddr, u16), Duration)> {
        self.own.iter().flat_map(|(vip, own)| {
            own.buckets.iter().filter_map(|(bucket, state)| {
                let of = (*vip, *bucket);
                Some((of, state.wakes(self.doubt(of))?))
            })
        })
    }

    /// What is to be done now, in order.
    pub fn todo(&mut self, now: Duration) -> Vec<Todo> {
        let mut wants: BTreeMap<(Rank, IpAddr, Want), BTreeSet<u16>> = BTreeMap::new();
        let mut answers = Vec::new();
        for (vip, bucket, want) in std::mem::take(&mut self.wants) {
            match want {
                Want::Answer(ticket, answer) => answers.push(Todo::Answer(ticket, answer)),
                want => {
                    let key = (Rank::of(&want), vip, want);
                    wants.entry(key).or_default().insert(bucket);
                }
            }
        }
        let mut todo = Vec::new();
        let mut later = Vec::new();
        for ((rank, vip, want), buckets) in wants {
            let buckets: BucketSet = buckets.into_iter().collect();
            let to = match rank {
                Rank::Later => &mut later,
                _ => &mut todo,
            };
            to.extend(self.one(vip, &want, buckets));
        }
        for (vip, buckets) in std::mem::take(&mut self.adopted) {
            todo.push(self.order(Op::Adopted, vip, buckets.into_iter().collect()));
        }
        for (vip, buckets) in std::mem::take(&mut self.drained) {
            let buckets = buckets.into_iter().collect();
            todo.extend(self.say(Said::Drained { vip, buckets }));
        }
        todo.extend(self.holdings(now));
        todo.extend(answers);
        todo.extend(later);
        todo
    }

    /// What is held, of the VIPs of which it has to be said.
    fn holdings(&mut self, now: Duration) -> Vec<Todo> {
        let mut todo = Vec::new();
        let all = std::mem::take(&mut self.to_say_all);
        let mut vips = std::mem::take(&mut self.to_say);
        if all {
            vips.extend(self.own.keys().map(|vip| (*vip, None)));
        }
        for (vip, confirms) in vips {
            let mut holds = self.holds(now, vip);
            holds.confirms = confirms;
            todo.extend(self.say(Said::Holds(holds)));
        }
        if all {
            todo.extend(self.say(Said::Whole));
        }
        todo
    }

    fn one(&mut self, vip: IpAddr, want: &Want, buckets: BucketSet) -> Option<Todo> {
        match want {
            Want::Do(op) => Some(self.order(*op, vip, buckets)),
            Want::Confirm => Some(Todo::Look(vip)),
            Want::SayHolds => {
                self.to_say.entry(vip).or_default();
                None
            }
            Want::SayClaim => {
                let epoch = self.view.next_epoch(vip, &buckets);
                let description = self.description(vip);
                self.say(Said::Claims {
                    vip,
                    description,
                    buckets,
                    epoch,
                })
            }
            Want::SayOffer => {
                let ends_ms = millis(OFFER);
                self.say(Said::Offers {
                    vip,
                    buckets,
                    ends_ms,
                })
            }
            Want::SayRelease(drains) => {
                let drains = *drains;
                if drains {
                    let own = self.own.entry(vip).or_default();
                    own.drains.extend(buckets.iter());
                }
                self.say(Said::Releases {
                    vip,
                    buckets,
                    drains,
                })
            }
            Want::SayTook(epoch) => {
                let (description, epoch) = (self.description(vip), *epoch);
                self.say(Said::Took {
                    vip,
                    description,
                    buckets,
                    epoch,
                })
            }
            Want::Answer(ticket, answer) => Some(Todo::Answer(*ticket, *answer)),
        }
    }

    fn order(&self, op: Op, vip: IpAddr, buckets: BucketSet) -> Todo {
        let drained = |bucket: &u16| self.view.drained_by_others(self.me, vip, *bucket);
        let adopts = match op {
            Op::Take | Op::Keep => buckets.iter().filter(drained).collect(),
            _ => BucketSet::default(),
        };
        Todo::Do(Order {
            op,
            vip,
            buckets,
            adopts,
        })
    }

    /// A message, if there is anybody to hear it.
    fn say(&mut self, said: Said) -> Option<Todo> {
        let (_, gathering) = self.gathering.as_ref()?;
        self.said += 1;
        Some(Todo::Say(Message {
            major: MAJOR,
            minor: MINOR,
            gathering: *gathering,
            from: self.me,
            number: self.said,
            said,
        }))
    }

    /// What this node's kernel holds of a VIP, as far as it was told or looked at.
    fn holds(&self, now: Duration, vip: IpAddr) -> Holds {
        let own = self.own.get(&vip);
        let mut parts: BTreeMap<(u64, Option<u64>), BTreeSet<u16>> = BTreeMap::new();
        let mut open = BTreeSet::new();
        for (bucket, state) in own.iter().flat_map(|own| &own.buckets) {
            let like = match state {
                State::Held { epoch } => (*epoch, None),
                State::Offered(offered) => {
                    let left = offered.until.saturating_sub(now);
                    (offered.epoch, Some(millis(left)))
                }
                // By what everybody has heard it is.
                State::Coming(coming) => match coming.stand {
                    Stand::Mine(epoch) => (epoch, None),
                    _ => {
                        open.insert(*bucket);
                        continue;
                    }
                },
                State::Foreign => continue,
            };
            parts.entry(like).or_default().insert(*bucket);
        }
        let part = |((epoch, ends_ms), buckets): (_, BTreeSet<u16>)| Part {
            buckets: buckets.into_iter().collect(),
            epoch,
            ends_ms,
        };
        Holds {
            vip,
            description: self.description(vip),
            held: parts.into_iter().map(part).collect(),
            drains: own
                .iter()
                .flat_map(|own| own.drains.iter().copied())
                .collect(),
            open: open.into_iter().collect(),
            confirms: None,
        }
    }

    fn description(&self, vip: IpAddr) -> String {
        let own = self.own.get(&vip);
        own.map(|own| own.description.clone()).unwrap_or_default()
    }

    /// Until when somebody of whom nothing is known, or who has gone, may answer a bucket.
    fn doubt(&self, of: (IpAddr, u16)) -> Duration {
        let offered = self.offers.get(&of).copied().unwrap_or_default();
        self.blind.max(offered)
    }

    fn step(&mut self, now: Duration, vip: IpAddr, bucket: u16, input: Input) {
        let around = Around {
            now,
            whole: self.gathering.is_some() && self.view.is_whole(),
            doubt: self.doubt((vip, bucket)),
            next: self.view.next_epoch(vip, &BucketSet::one(bucket)),
        };
        let own = self.own.entry(vip).or_default();
        let state = own.buckets.remove(&bucket).unwrap_or_default();
        let (state, wants) = state.step(input, around);
        if state != State::Foreign {
            own.buckets.insert(bucket, state);
        }
        self.wants
            .extend(wants.into_iter().map(|want| (vip, bucket, want)));
    }

    fn all(&mut self, now: Duration, input: &Input) {
        let all = self.own.iter().flat_map(|(vip, own)| {
            let buckets = own.buckets.keys();
            buckets.map(|bucket| (*vip, *bucket))
        });
        for (vip, bucket) in all.collect::<Vec<_>>() {
            self.step(now, vip, bucket, input.clone());
        }
    }

    fn forget_if_empty(&mut self, vip: IpAddr) {
        let empty = |own: &Own| own.buckets.is_empty() && own.drains.is_empty();
        if self.own.get(&vip).is_some_and(empty) && !self.to_say.contains_key(&vip) {
            self.own.remove(&vip);
        }
    }

    /// What an event means here.
    fn follow(&mut self, now: Duration, event: &Event) {
        match *event {
            Event::Claim {
                vip,
                bucket,
                by,
                epoch,
                claimed,
            } => match by == self.me {
                true => self.step(now, vip, bucket, Input::Claimed(claimed, epoch)),
                false => {
                    if matches!(claimed, super::view::Claimed::Kept(me) if me == self.me) {
                        self.claimants.insert(vip, by);
                    }
                    if claimed.concerns(self.me) {
                        self.step(now, vip, bucket, Input::Wanted(claimed));
                    }
                }
            },
            Event::Released {
                vip, bucket, to, ..
            } => {
                self.offers.remove(&(vip, bucket));
                match to {
                    Some((to, epoch)) if to == self.me => {
                        self.step(now, vip, bucket, Input::Given(epoch));
                    }
                    _ => self.look_at_others(now, vip),
                }
            }
            Event::Offered {
                vip,
                bucket,
                by,
                ends_ms,
            } => match by == self.me {
                true => self.step(now, vip, bucket, Input::OfferHeard),
                false => {
                    // Whatever is said, nobody offers for longer.
                    let until = now + Duration::from_millis(ends_ms).min(OFFER);
                    self.offers.insert((vip, bucket), until);
                    self.look_at_others(now, vip);
                }
            },
            Event::Drained { vip, bucket } => {
                if !self.view.drained_by_others(self.me, vip, bucket) {
                    self.let_through(vip, bucket);
                }
            }
            Event::Loses {
                vip, bucket, who, ..
            } => {
                if who == self.me {
                    self.step(now, vip, bucket, Input::Loses);
                }
            }
            Event::Whole => self.all(now, &Input::Whole),
        }
    }

    /// Nobody has connections in a bucket any more but this node.
    fn let_through(&mut self, vip: IpAddr, bucket: u16) {
        let held = self.state(vip, bucket);
        if matches!(held, Some(State::Held { .. } | State::Offered(_))) {
            self.adopted.entry(vip).or_default().insert(bucket);
        }
    }

    /// Buckets that others kept may be free, or offered.
    fn look_at_others(&mut self, now: Duration, vip: IpAddr) {
        let own = self.own.get(&vip);
        let waits = |state: &State| match state {
            State::Coming(coming) => matches!(coming.stand, Stand::Kept),
            _ => false,
        };
        let waiting = own
            .iter()
            .flat_map(|own| &own.buckets)
            .filter(|(_, state)| waits(state));
        let free = |bucket: &u16| {
            let mut others = self.view.holders(vip, *bucket);
            others.all(|(_, hold)| hold.offered)
        };
        let buckets: Vec<u16> = waiting.map(|(bucket, _)| *bucket).filter(free).collect();
        for bucket in buckets {
            self.step(now, vip, bucket, Input::Free);
        }
    }

    /// Who keeps these buckets has looked again, because this node has claimed some.
    fn confirmed(&mut self, now: Duration, by: NodeId, holds: &Holds) {
        let firm = holds.held.iter().filter(|part| part.ends_ms.is_none());
        let buckets: Vec<u16> = firm.flat_map(|part| part.buckets.iter()).collect();
        for bucket in buckets {
            let kept = self
                .view
                .holders(holds.vip, bucket)
                .any(|(node, _)| node == by);
            if kept && self.state(holds.vip, bucket).is_some() {
                self.step(now, holds.vip, bucket, Input::Confirmed);
            }
        }
    }

    /// The kernel was looked at because somebody claims what is held here: they are told.
    pub fn confirm(&mut self, now: Duration, vip: IpAddr, seen: &Seen) {
        self.see(now, vip, seen);
        let claimant = self.claimants.remove(&vip);
        self.to_say.insert(vip, claimant);
    }
}

/// In which order things are done that come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// What makes a bucket dark, or light again.
    Now,
    /// What others wait for.
    Say,
    /// What nobody waits for.
    Later,
}

impl Rank {
    fn of(want: &Want) -> Rank {
        match want {
            Want::Do(Op::Drain | Op::Adopted) => Rank::Later,
            Want::Do(_) => Rank::Now,
            _ => Rank::Say,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
