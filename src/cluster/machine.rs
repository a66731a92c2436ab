//! The daemon's state machine: what it hears, what it is asked, what its kernel has, and what follows. Pure: time comes
//! in, everything to do comes out, in order.
//!
//! The shell feeds it ([`Machine::hear`], [`Machine::ask`] …) and does what [`Machine::todo`] says, one thing after the
//! other; what the kernel was told is confirmed at once ([`Machine::done`]), before anything else is heard. What can be
//! said or done for many buckets of a VIP is one message and one transaction, if the shell asks for what is to be done
//! when nothing more waits to be heard.

use super::bucket::{Answer, Around, Goes, Input, OFFER, Stand, State, Ticket, Want};
use super::gathering::{Gathering, GatheringId, NodeId};
use super::order::{Ask, Destination, Dropped, Order, Seen};
use super::view::View;
use crate::model::bucket::BucketSet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// How long it is waited for members who do not say what they hold: one whose daemon is stopped stays a member for ever.
pub const WHOLE_WITHIN: Duration = Duration::from_secs(1);

/// A VIP on this node.
#[derive(Debug, Default)]
pub(super) struct Own {
    pub(super) description: String,
    pub(super) buckets: BTreeMap<u16, State>,
    pub(super) drains: BTreeSet<u16>,
}

/// The daemon of a node.
#[derive(Debug)]
pub struct Machine {
    pub(super) me: NodeId,
    pub(super) gathering: Option<(Gathering, GatheringId)>,
    /// Until when it is waited for all to say what they hold, if that is not over.
    patience: Option<Duration>,
    /// Members of another major version, with whom nothing can be agreed.
    pub(super) strangers: BTreeSet<NodeId>,
    /// How many messages this daemon has sent.
    pub(super) said: u64,
    /// The places of the last messages that were heard of each member in this gathering.
    pub(super) heard: BTreeMap<NodeId, u64>,
    pub(super) view: View,
    pub(super) own: BTreeMap<IpAddr, Own>,
    /// Until when members of whom nothing is known may answer anything.
    blind: Duration,
    /// Who offers a bucket, and until when by this node's clock.
    pub(super) offers: BTreeMap<(IpAddr, u16), (NodeId, Duration)>,
    /// What is offered here without knowing to whom.
    pub(super) uncertain: BTreeSet<(IpAddr, u16)>,
    /// From whom a held bucket came, while he has connections in it.
    pub(super) givers: BTreeMap<(IpAddr, u16), NodeId>,
    /// What givers have no connections in any more, as long as not all have said where they have some.
    pub(super) ended: Vec<(IpAddr, u16, NodeId)>,
    /// Where members had connections whose daemons have ended since.
    pub(super) hidden: BTreeMap<NodeId, BTreeSet<(IpAddr, u16)>>,
    pub(super) wants: Vec<(IpAddr, u16, Want)>,
    /// VIPs of which all is to be said, and to whom that confirms what is held.
    pub(super) to_say: BTreeMap<IpAddr, BTreeSet<NodeId>>,
    /// Everything has to be said, and that it was.
    pub(super) to_say_all: bool,
    /// Who has claimed what is held here.
    pub(super) claimants: BTreeMap<IpAddr, BTreeSet<NodeId>>,
    /// The kernel lets the bare resets of these through again.
    pub(super) adopted: BTreeMap<IpAddr, BTreeSet<u16>>,
    /// The last connection of these has ended.
    pub(super) drained: BTreeMap<IpAddr, BTreeSet<u16>>,
    pub(super) dropped: Dropped,
}

impl Machine {
    /// A daemon that has just begun: whoever was there before may have offered buckets of which nobody tells it.
    pub fn new(me: NodeId, now: Duration) -> Self {
        Machine {
            me,
            gathering: None,
            patience: None,
            strangers: BTreeSet::new(),
            said: 0,
            heard: BTreeMap::new(),
            view: View::default(),
            own: BTreeMap::new(),
            blind: now + OFFER,
            offers: BTreeMap::new(),
            uncertain: BTreeSet::new(),
            givers: BTreeMap::new(),
            ended: Vec::new(),
            hidden: BTreeMap::new(),
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

    /// Has the holder of a bucket let go of it, or is about to, for this node to take it? Nobody answers it until then.
    pub fn is_awaited(&self) -> bool {
        let mut all = self.own.values().flat_map(|own| own.buckets.values());
        all.any(|state| matches!(state, State::Coming(coming) if coming.stand == Stand::Promised))
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

    /// Others are here, or no longer; `lost` are the nodes of those who are gone with all that they had (`cpg.h`:
    /// `CPG_REASON_NODEDOWN`). Whose daemon has merely ended still has its connections.
    pub fn gather(&mut self, now: Duration, gathering: Gathering, lost: &BTreeSet<NodeId>) {
        // What somebody offers of whom not all is known nobody knows.
        let known = self.view.is_whole() && self.gathering.is_some();
        let gone = self.view.gathered(&gathering);
        if !gone.is_empty() && !known {
            self.blind = now + OFFER;
        }
        self.heard.clear();
        self.strangers.clear();
        self.patience = Some(now + WHOLE_WITHIN);
        let id = gathering.id();
        self.gathering = Some((gathering, id));
        self.to_say_all = true;
        self.say_no_more();
        for (node, holds) in gone {
            for (vip, holding) in holds {
                for (bucket, hold) in &holding.buckets {
                    if hold.offered {
                        self.offers.insert((vip, *bucket), (node, now + OFFER));
                    }
                }
                let drains = holding.drains.into_iter().map(|bucket| (vip, bucket));
                self.hidden.entry(node).or_default().extend(drains);
            }
        }
        for node in lost {
            for (vip, bucket) in self.hidden.remove(node).unwrap_or_default() {
                self.drains_no_more(vip, bucket, *node);
            }
        }
        self.all(now, &Input::Gathered(true));
        self.nobody_stays(now);
    }

    /// There is no connection to Corosync any more.
    pub fn part(&mut self, now: Duration) {
        self.gathering = None;
        self.view.gathered(&Gathering::default());
        self.heard.clear();
        self.strangers.clear();
        self.blind = now + OFFER;
        self.to_say_all = false;
        self.say_no_more();
        self.all(now, &Input::Gathered(false));
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
                let free = now >= self.doubt((vip, bucket)) && self.state(vip, bucket).is_none();
                if !self.strangers.is_empty() && free {
                    self.wants
                        .push((vip, bucket, Want::Answer(ticket, Answer::Alone)));
                    return;
                }
                let own = self.own.entry(vip).or_default();
                if own.buckets.is_empty() {
                    own.description = description;
                }
                self.step(now, vip, bucket, Input::Start(ticket, since));
            }
            Ask::Stop { vip, bucket, to } => {
                let goes = self.goes(vip, bucket, to);
                if to == Destination::Unknown && goes == Goes::ToAMember {
                    self.uncertain.insert((vip, bucket));
                }
                self.step(now, vip, bucket, Input::Stop(ticket, goes));
            }
        }
    }

    /// Is a bucket that stops worth waiting for somebody who claims it?
    fn goes(&self, vip: IpAddr, bucket: u16, to: Destination) -> Goes {
        let Some((gathering, _)) = &self.gathering else {
            return Goes::Away;
        };
        let members = gathering.members.keys();
        let mut others = members.filter(|node| **node != self.me);
        let waits = match to {
            Destination::Node(node) => others.any(|other| *other == node),
            // Not every node to which it can go hears of the offer.
            Destination::Unknown if !gathering.without.is_empty() => false,
            // Where it is not stopped everywhere.
            Destination::Unknown => {
                let own = self.own.get(&vip);
                let mut own = own.into_iter().flat_map(|own| &own.buckets);
                let keeps = |(of, state): (&u16, &State)| *of != bucket && state.is_held();
                let kept = own.any(keeps) || self.view.is_kept_by_others(self.me, vip);
                others.next().is_some() && kept
            }
            Destination::Nowhere => false,
        };
        match waits {
            true => Goes::ToAMember,
            false => Goes::Away,
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
        let differs = !seen.description.is_empty() && own.description != seen.description;
        if differs {
            own.description.clone_from(&seen.description);
        }
        let begun = seen.drains.difference(&own.drains).next().is_some();
        if differs || begun {
            self.to_say.entry(vip).or_default();
        }
        let ended = own.drains.difference(&seen.drains).copied();
        let ended: BTreeSet<u16> = ended.collect();
        if !ended.is_empty() {
            self.drained.entry(vip).or_default().extend(ended);
        }
        own.drains.clone_from(&seen.drains);
        let known = own.buckets.keys().chain(seen.held.keys());
        let known: BTreeSet<u16> = known.copied().collect();
        for bucket in known {
            let has = seen.held.get(&bucket).copied();
            self.step(now, vip, bucket, Input::Seen(has));
        }
        self.forget_if_empty(vip);
    }

    /// Time has passed.
    pub fn wake(&mut self, now: Duration) {
        self.offers.retain(|_, (_, until)| *until > now);
        // Whoever says nothing is not waited for; what was known of him stays.
        if self.waits_for_all() && self.patience.take_if(|until| now >= *until).is_some() {
            self.all(now, &Input::Whole);
        }
        let due = self.wakes_of_all().filter(|(_, at)| *at <= now);
        for ((vip, bucket), _) in due.collect::<Vec<_>>() {
            self.step(now, vip, bucket, Input::Time);
        }
    }

    /// When time alone changes something.
    pub fn wakes(&self) -> Option<Duration> {
        let patience = self.patience.filter(|_| self.waits_for_all());
        let all = self.wakes_of_all().map(|(_, at)| at);
        all.chain(patience).min()
    }

    fn waits_for_all(&self) -> bool {
        self.gathering.is_some() && !self.view.is_whole()
    }

    fn wakes_of_all(&self) -> impl Iterator<Item = ((IpAddr, u16), Duration)> {
        self.own.iter().flat_map(|(vip, own)| {
            own.buckets.iter().filter_map(|(bucket, state)| {
                let of = (*vip, *bucket);
                Some((of, state.wakes(self.doubt(of))?))
            })
        })
    }

    pub(super) fn description(&self, vip: IpAddr) -> String {
        let own = self.own.get(&vip);
        own.map(|own| own.description.clone()).unwrap_or_default()
    }

    /// Until when somebody of whom nothing is known, or who has gone, may answer a bucket.
    fn doubt(&self, of: (IpAddr, u16)) -> Duration {
        if self.waits_for_all() {
            return Duration::MAX;
        }
        let offered = self.offers.get(&of).map(|(_, until)| *until);
        self.blind.max(offered.unwrap_or_default())
    }

    /// Can anything be agreed on with the others?
    fn agrees(&self, now: Duration) -> bool {
        let all_said = self.view.is_whole() || self.patience.is_none_or(|until| now >= until);
        self.gathering.is_some() && self.strangers.is_empty() && all_said
    }

    pub(super) fn step(&mut self, now: Duration, vip: IpAddr, bucket: u16, input: Input) {
        let around = Around {
            now,
            whole: self.agrees(now),
            doubt: self.doubt((vip, bucket)),
            next: self.view.next_epoch(vip, [bucket]),
        };
        let own = self.own.entry(vip).or_default();
        let state = own.buckets.remove(&bucket).unwrap_or_default();
        let (state, wants) = state.step(input, around);
        if state == State::Foreign {
            self.givers.remove(&(vip, bucket));
        } else {
            own.buckets.insert(bucket, state);
        }
        self.wants
            .extend(wants.into_iter().map(|want| (vip, bucket, want)));
    }

    pub(super) fn all(&mut self, now: Duration, input: &Input) {
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
}
