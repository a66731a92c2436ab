//! What the state machine hears: messages, and what follows from them here. Pure.

use super::bucket::{Input, OFFER, Stand, State};
use super::event::{Claimed, Event};
use super::gathering::{Gathering, GatheringId, NodeId};
use super::machine::Machine;
use super::message::{Holds, Message, MessageError, Said};
use super::order::Seen;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

impl Machine {
    /// A message has come, which is told then; everybody has it in the same order.
    ///
    /// # Errors
    /// Why it is dropped.
    pub fn hear(
        &mut self,
        now: Duration,
        from: NodeId,
        bytes: &[u8],
    ) -> Result<Message, MessageError> {
        match Message::read(from, bytes) {
            Ok(message) => {
                self.heard(now, &message);
                Ok(message)
            }
            Err(error) => {
                match error {
                    MessageError::OtherMajor(_) => {
                        self.dropped.other_major += 1;
                        self.is_stranger(now, from);
                    }
                    _ => self.dropped.garbled += 1,
                }
                Err(error)
            }
        }
    }

    /// Somebody is here with whom nothing can be agreed: all agents do without daemons.
    fn is_stranger(&mut self, now: Duration, from: NodeId) {
        let is_member = |(gathering, _): &(Gathering, _)| gathering.members.contains_key(&from);
        if self.gathering.as_ref().is_some_and(is_member) && self.strangers.insert(from) {
            self.all(now, &Input::Gathered(false));
        }
    }

    fn heard(&mut self, now: Duration, message: &Message) {
        let is_now = |(gathering, id): &(Gathering, GatheringId)| {
            *id == message.gathering && gathering.members.contains_key(&message.from)
        };
        if !self.gathering.as_ref().is_some_and(is_now) {
            self.dropped.stale += 1;
            return;
        }
        let last = self.heard.entry(message.from).or_default();
        if message.number <= *last {
            self.dropped.replayed += 1;
            return;
        }
        *last = message.number;
        if message.said == Said::Whole {
            // He tells of them himself again.
            self.hidden.remove(&message.from);
        }
        for event in self.view.hears(message.from, &message.said) {
            self.follow(now, &event);
        }
        self.nobody_stays(now);
        if let Said::Holds(holds) = &message.said {
            self.look_at_others(now, holds.vip);
            if holds.confirms.contains(&self.me) {
                self.confirmed(now, message.from, holds);
            }
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
                    if claimed == Claimed::Kept(self.me) {
                        self.claimants.entry(vip).or_default().insert(by);
                    }
                    if claimed.concerns(self.me) {
                        self.step(now, vip, bucket, Input::Wanted(claimed));
                    }
                }
            },
            Event::Released {
                vip,
                bucket,
                by,
                to,
            } => {
                self.offers_no_more((vip, bucket), by);
                match to {
                    Some((to, epoch)) if to == self.me => {
                        self.givers.insert((vip, bucket), by);
                        self.step(now, vip, bucket, Input::Given(epoch));
                    }
                    _ => self.look_at_others(now, vip),
                }
            }
            Event::Offered { vip, bucket, by } => match by == self.me {
                true => self.step(now, vip, bucket, Input::OfferHeard),
                false => {
                    // Whatever he says of how much of it is left.
                    self.offers.insert((vip, bucket), (by, now + OFFER));
                    self.look_at_others(now, vip);
                }
            },
            Event::Drained { vip, bucket, by } => self.drains_no_more(vip, bucket, by),
            Event::Loses { vip, bucket, who } => {
                if who == self.me {
                    self.step(now, vip, bucket, Input::Loses);
                }
            }
            Event::Whole => {
                for (vip, bucket, by) in std::mem::take(&mut self.ended) {
                    self.drains_no_more(vip, bucket, by);
                }
                self.all(now, &Input::Whole);
            }
        }
    }

    fn offers_no_more(&mut self, of: (IpAddr, u16), by: NodeId) {
        let offers = self.offers.get(&of);
        if offers.is_some_and(|(who, _)| *who == by) {
            self.offers.remove(&of);
        }
    }

    /// Whoever has given a bucket has no connections in it any more; if nobody else is known to have any, nobody has.
    pub(super) fn drains_no_more(&mut self, vip: IpAddr, bucket: u16, by: NodeId) {
        let of = (vip, bucket);
        if self.givers.get(&of) != Some(&by) {
            return;
        }
        // Others have to say first whether they have any.
        if !self.view.is_whole() {
            self.ended.push((vip, bucket, by));
            return;
        }
        self.givers.remove(&of);
        let hidden = self.hidden.values().any(|drains| drains.contains(&of));
        let held = matches!(
            self.state(vip, bucket),
            Some(State::Held { .. } | State::Offered(_))
        );
        if held && !hidden && !self.view.drained_by_others(self.me, vip, bucket) {
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
        let claimants = self.claimants.remove(&vip).unwrap_or_default();
        self.to_say.entry(vip).or_default().extend(claimants);
    }

    /// Where nobody keeps any bucket of a VIP nobody is there to claim one: it is being stopped everywhere, and what this
    /// node offers without knowing to whom it lets go at once. So it does where a node has come that hears nothing of it.
    pub(super) fn nobody_stays(&mut self, now: Duration) {
        let gathering = self.gathering.as_ref();
        let some_hear_nothing = gathering.is_some_and(|(of, _)| !of.without.is_empty());
        if self.uncertain.is_empty() || !self.view.is_whole() && !some_hear_nothing {
            return;
        }
        let all = std::mem::take(&mut self.uncertain);
        let offered =
            |of: &(IpAddr, u16)| matches!(self.state(of.0, of.1), Some(State::Offered(_)));
        let all: BTreeSet<(IpAddr, u16)> = all.into_iter().filter(offered).collect();
        for (vip, bucket) in all {
            match !some_hear_nothing && self.view.is_kept(vip) {
                true => drop(self.uncertain.insert((vip, bucket))),
                false => self.step(now, vip, bucket, Input::Unclaimed),
            }
        }
    }
}
