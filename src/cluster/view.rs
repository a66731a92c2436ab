//! What all members hold, as everybody hears it. Pure, and without a clock.
//!
//! Within a gathering all members hear the same messages in the same order, so each comes to the same view by itself:
//! who holds a bucket, whom it is promised to, whose claim came too late. Nothing that depends on a node's own clock is
//! decided here.

use super::event::{Claimed, Event};
use super::gathering::{Gathering, NodeId};
use super::holding::{Hold, Holding};
use super::message::{Epoch, Holds, Said};
use crate::model::bucket::BucketSet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Of how many VIPs a member may say something: whoever says more is not believed in them. (A node has 64 or so.)
pub const MOST_VIPS: usize = 1024;

/// A member.
#[derive(Debug, Clone, Default)]
struct Member {
    /// Has it said in this gathering all that it holds?
    whole: bool,
    /// What it has said of that so far.
    holds: BTreeMap<IpAddr, Holding>,
}

/// A bucket that is claimed, and whose holder has yet to let go.
#[derive(Debug, Clone)]
struct Promise {
    to: NodeId,
    description: String,
    epoch: Epoch,
}

/// Everybody's view.
#[derive(Debug, Clone, Default)]
pub struct View {
    members: BTreeMap<NodeId, Member>,
    /// To whom a holder gives a bucket.
    promises: BTreeMap<(IpAddr, u16), Promise>,
    /// The highest epochs that were ever heard of: a holder who is not here may come back.
    epochs: BTreeMap<IpAddr, BTreeMap<u16, Epoch>>,
}

impl View {
    /// Another gathering. What members held is not known until they have said it anew: not all remember the same, and what
    /// is agreed on follows from what all have heard. Members who are gone, and what they held.
    pub fn gathered(
        &mut self,
        gathering: &Gathering,
    ) -> BTreeMap<NodeId, BTreeMap<IpAddr, Holding>> {
        self.promises.clear();
        if self.epochs.len() > MOST_VIPS {
            let known = self.vips();
            self.epochs.retain(|vip, _| known.contains(vip));
        }
        let members = gathering.members.keys();
        let members = members.map(|node| (*node, Member::default())).collect();
        let before = std::mem::replace(&mut self.members, members).into_iter();
        let gone = before.filter(|(node, _)| !gathering.members.contains_key(node));
        gone.map(|(node, member)| (node, member.holds)).collect()
    }

    /// Have all members said what they hold?
    pub fn is_whole(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(|member| member.whole)
    }

    /// The members, and whether they have said what they hold.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, bool)> {
        let members = self.members.iter();
        members.map(|(node, member)| (*node, member.whole))
    }

    /// What a member holds of a VIP, as far as it is known.
    pub fn holding(&self, node: NodeId, vip: IpAddr) -> Option<&Holding> {
        self.members.get(&node)?.holds.get(&vip)
    }

    /// All VIPs that anybody holds something of.
    pub fn vips(&self) -> BTreeSet<IpAddr> {
        let held = self.members.values();
        held.flat_map(|member| member.holds.keys().copied())
            .collect()
    }

    /// Who holds a bucket: one at most, but for moments after two halves of a cluster have met.
    pub fn holders(&self, vip: IpAddr, bucket: u16) -> impl Iterator<Item = (NodeId, Hold)> {
        self.members.iter().filter_map(move |(node, member)| {
            let hold = member.holds.get(&vip)?.buckets.get(&bucket)?;
            Some((*node, *hold))
        })
    }

    /// Is there anybody who holds some bucket of a VIP, and does not offer it?
    pub fn is_kept(&self, vip: IpAddr) -> bool {
        self.members.keys().any(|node| self.keeps(*node, vip))
    }

    /// Is there anybody else who does?
    pub fn is_kept_by_others(&self, me: NodeId, vip: IpAddr) -> bool {
        let mut others = self.members.keys().filter(|node| **node != me);
        others.any(|node| self.keeps(*node, vip))
    }

    fn keeps(&self, node: NodeId, vip: IpAddr) -> bool {
        let holding = self.holding(node, vip);
        holding.is_some_and(|holding| holding.buckets.values().any(|hold| !hold.offered))
    }

    /// The next epoch of these buckets.
    pub fn next_epoch(&self, vip: IpAddr, buckets: impl IntoIterator<Item = u16>) -> Epoch {
        let known = self.epochs.get(&vip);
        let of = |bucket| known?.get(&bucket).copied();
        let highest = buckets.into_iter().filter_map(of).max();
        highest.unwrap_or_default().saturating_add(1)
    }

    /// Remembers the epoch of a bucket.
    fn learn(&mut self, vip: IpAddr, bucket: u16, epoch: Epoch) {
        let epochs = self.epochs.entry(vip).or_default();
        let known = epochs.entry(bucket).or_default();
        *known = epoch.max(*known);
    }

    /// Does any other member have connections left in a bucket?
    pub fn drained_by_others(&self, me: NodeId, vip: IpAddr, bucket: u16) -> bool {
        let mut others = self.members.iter().filter(|(node, _)| **node != me);
        others.any(|(_, member)| {
            let holding = member.holds.get(&vip);
            holding.is_some_and(|holding| holding.drains.contains(&bucket))
        })
    }

    /// A member says something; what follows.
    pub fn hears(&mut self, from: NodeId, said: &Said) -> Vec<Event> {
        match said {
            Said::Holds(holds) => self.holds(from, holds),
            Said::Whole => self.whole(from),
            Said::Offers { vip, buckets } => self.offers(from, *vip, buckets),
            Said::Claims {
                vip,
                description,
                buckets,
                epoch,
            } => {
                let claim = |bucket| Event::Claim {
                    vip: *vip,
                    bucket,
                    by: from,
                    epoch: *epoch,
                    claimed: self.claims(from, *vip, description, bucket, *epoch),
                };
                buckets.iter().map(claim).collect()
            }
            Said::Releases {
                vip,
                buckets,
                drains,
            } => {
                let release = |bucket| self.releases(from, *vip, bucket, *drains);
                buckets.iter().filter_map(release).collect()
            }
            Said::Took {
                vip,
                description,
                buckets,
                epoch,
            } => {
                for bucket in buckets.iter() {
                    self.took((from, *epoch), *vip, description, bucket);
                }
                match self.is_whole() {
                    true => self.conflicts(*vip, buckets),
                    false => Vec::new(),
                }
            }
            Said::Drained { vip, buckets } => {
                let drained = |bucket| {
                    self.drained(from, *vip, bucket).then_some(Event::Drained {
                        vip: *vip,
                        bucket,
                        by: from,
                    })
                };
                buckets.iter().filter_map(drained).collect()
            }
            Said::Unknown => Vec::new(),
        }
    }

    fn holds(&mut self, from: NodeId, said: &Holds) -> Vec<Event> {
        let mut holding = Holding {
            description: said.description.clone(),
            buckets: BTreeMap::new(),
            drains: said.drains.iter().collect(),
        };
        for part in &said.held {
            let hold = Hold {
                epoch: part.epoch,
                offered: part.ends_ms.is_some(),
            };
            for bucket in part.buckets.iter() {
                holding.buckets.insert(bucket, hold);
            }
        }
        let Some(member) = self.members.get_mut(&from) else {
            return Vec::new();
        };
        let known = member.holds.get(&said.vip).map(|known| &known.buckets);
        for bucket in said.open.iter() {
            let hold = known.and_then(|known| known.get(&bucket));
            holding.buckets.extend(hold.map(|hold| (bucket, *hold)));
        }
        let is_known = known.is_some();
        let buckets: BucketSet = holding.buckets.keys().copied().collect();
        if holding.is_empty() {
            member.holds.remove(&said.vip);
        } else if is_known || member.holds.len() < MOST_VIPS {
            member.holds.insert(said.vip, holding);
        }
        for part in &said.held {
            for bucket in part.buckets.iter() {
                self.learn(said.vip, bucket, part.epoch);
            }
        }
        let mut events = self.offered(from, said.vip);
        events.extend(self.broken_promises(said.vip, from));
        if self.is_whole() {
            events.extend(self.conflicts(said.vip, &buckets));
        }
        events
    }

    fn whole(&mut self, from: NodeId) -> Vec<Event> {
        let member = self.members.get_mut(&from);
        let Some(member) = member.filter(|member| !member.whole) else {
            return Vec::new();
        };
        member.whole = true;
        if !self.is_whole() {
            return Vec::new();
        }
        let mut events = vec![Event::Whole];
        for vip in self.vips() {
            let members = self.members.values();
            let held = members.filter_map(|member| member.holds.get(&vip));
            let buckets = held.flat_map(|holding| holding.buckets.keys().copied());
            events.extend(self.conflicts(vip, &buckets.collect()));
        }
        events
    }

    /// What a member offers, by what it has said of all that it holds.
    fn offered(&self, by: NodeId, vip: IpAddr) -> Vec<Event> {
        let holding = self.holding(by, vip).into_iter();
        let held = holding.flat_map(|holding| &holding.buckets);
        let offered = held.filter(|(_, hold)| hold.offered);
        let event = |(&bucket, _)| Event::Offered { vip, bucket, by };
        offered.map(event).collect()
    }

    /// Of two who hold a bucket the one with the higher epoch keeps it, of two alike the one with the lower number.
    fn conflicts(&mut self, vip: IpAddr, buckets: &BucketSet) -> Vec<Event> {
        let mut events = Vec::new();
        for bucket in buckets.iter() {
            let right = |(node, hold): &(NodeId, Hold)| (hold.epoch, std::cmp::Reverse(*node));
            let Some((to, _)) = self.holders(vip, bucket).max_by_key(right) else {
                continue;
            };
            let all: Vec<NodeId> = self.holders(vip, bucket).map(|(node, _)| node).collect();
            for who in all.into_iter().filter(|who| *who != to) {
                self.forget(who, vip, bucket);
                events.push(Event::Loses { vip, bucket, who });
            }
        }
        events
    }

    fn offers(&mut self, by: NodeId, vip: IpAddr, buckets: &BucketSet) -> Vec<Event> {
        let holding = self
            .members
            .get_mut(&by)
            .and_then(|member| member.holds.get_mut(&vip));
        let Some(holding) = holding else {
            return Vec::new();
        };
        // Who has given a bucket meanwhile has nothing to offer.
        let mut offer = |bucket| {
            holding.buckets.get_mut(&bucket)?.offered = true;
            Some(Event::Offered { vip, bucket, by })
        };
        buckets.iter().filter_map(&mut offer).collect()
    }

    fn claims(
        &mut self,
        by: NodeId,
        vip: IpAddr,
        description: &str,
        bucket: u16,
        epoch: Epoch,
    ) -> Claimed {
        let other = self.members.iter().find(|(node, member)| {
            let holding = member.holds.get(&vip);
            let holds = |holding: &Holding| !holding.buckets.is_empty();
            let differs = |holding: &Holding| holding.description != description;
            **node != by && holding.is_some_and(|holding| holds(holding) && differs(holding))
        });
        if let Some((node, _)) = other {
            return Claimed::Unlike(*node);
        }
        let promise = self.promises.get(&(vip, bucket));
        if let Some(promise) = promise.filter(|promise| promise.to != by) {
            return Claimed::Kept(promise.to);
        }
        let holder = self.holders(vip, bucket).next();
        match holder {
            Some((holder, hold)) if holder != by && hold.offered => {
                let promise = Promise {
                    to: by,
                    description: description.to_owned(),
                    epoch,
                };
                self.promises.insert((vip, bucket), promise);
                Claimed::Promised(holder)
            }
            Some((holder, _)) if holder != by => Claimed::Kept(holder),
            _ => {
                self.give((by, epoch), vip, description, bucket);
                Claimed::Free
            }
        }
    }

    fn releases(&mut self, from: NodeId, vip: IpAddr, bucket: u16, drains: bool) -> Option<Event> {
        let like = self.holding(from, vip)?.description.clone();
        let held = self.forget(from, vip, bucket)?;
        if drains {
            let holding = self.holding_mut(from, vip, &like);
            holding.map(|holding| holding.drains.insert(bucket));
        }
        let to = match held.offered {
            true => self.keep_promise(vip, bucket),
            false => None,
        };
        Some(Event::Released {
            vip,
            bucket,
            by: from,
            to,
        })
    }

    /// Whom a bucket was promised has it.
    fn keep_promise(&mut self, vip: IpAddr, bucket: u16) -> Option<(NodeId, Epoch)> {
        let promise = self.promises.remove(&(vip, bucket))?;
        let to = (promise.to, promise.epoch);
        self.give(to, vip, &promise.description, bucket);
        Some(to)
    }

    /// Whoever has offered the bucket has it no more, whether or not he knows: his kernel has ended it.
    fn took(
        &mut self,
        (from, epoch): (NodeId, Epoch),
        vip: IpAddr,
        description: &str,
        bucket: u16,
    ) {
        let promise = self.promises.get(&(vip, bucket));
        if promise.is_some_and(|promise| promise.to == from) {
            self.promises.remove(&(vip, bucket));
        }
        let offered = self.holders(vip, bucket).filter(|(_, hold)| hold.offered);
        let late: Vec<NodeId> = offered.map(|(node, _)| node).collect();
        for node in late.into_iter().filter(|node| *node != from) {
            self.forget(node, vip, bucket);
        }
        self.give((from, epoch), vip, description, bucket);
    }

    /// The bucket is that member's.
    fn give(&mut self, (to, epoch): (NodeId, Epoch), vip: IpAddr, description: &str, bucket: u16) {
        let hold = Hold {
            epoch,
            offered: false,
        };
        let Some(holding) = self.holding_mut(to, vip, description) else {
            return;
        };
        description.clone_into(&mut holding.description);
        holding.buckets.insert(bucket, hold);
        holding.drains.remove(&bucket);
        self.learn(vip, bucket, epoch);
    }

    /// What a member holds of a VIP, which may be nothing yet.
    fn holding_mut(
        &mut self,
        node: NodeId,
        vip: IpAddr,
        description: &str,
    ) -> Option<&mut Holding> {
        let holds = &mut self.members.get_mut(&node)?.holds;
        if !holds.contains_key(&vip) && holds.len() >= MOST_VIPS {
            return None;
        }
        Some(holds.entry(vip).or_insert_with(|| Holding {
            description: description.to_owned(),
            ..Holding::default()
        }))
    }

    /// A member's last connection in a bucket has ended. Is that news?
    fn drained(&mut self, node: NodeId, vip: IpAddr, bucket: u16) -> bool {
        let news = self.take_from(node, vip, |holding| holding.drains.remove(&bucket));
        news.unwrap_or_default()
    }

    /// That member has it no more.
    fn forget(&mut self, node: NodeId, vip: IpAddr, bucket: u16) -> Option<Hold> {
        self.take_from(node, vip, |holding| holding.buckets.remove(&bucket))?
    }

    /// Takes something of what a member holds of a VIP, and all of it if nothing is left.
    fn take_from<T>(
        &mut self,
        node: NodeId,
        vip: IpAddr,
        take: impl FnOnce(&mut Holding) -> T,
    ) -> Option<T> {
        let holds = &mut self.members.get_mut(&node)?.holds;
        let holding = holds.get_mut(&vip)?;
        let taken = take(holding);
        if holding.is_empty() {
            holds.remove(&vip);
        }
        Some(taken)
    }

    /// A promise holds only as long as somebody offers the bucket; who has no more of it has let go.
    fn broken_promises(&mut self, vip: IpAddr, by: NodeId) -> Vec<Event> {
        let promised = self.promises.keys().filter(|(of, _)| *of == vip);
        let promised: Vec<u16> = promised.map(|(_, bucket)| *bucket).collect();
        let mut events = Vec::new();
        for bucket in promised {
            let holder = self.holders(vip, bucket).next();
            match holder {
                Some((_, hold)) if hold.offered => {}
                Some(_) => {
                    self.promises.remove(&(vip, bucket));
                }
                None => {
                    let to = self.keep_promise(vip, bucket);
                    events.push(Event::Released {
                        vip,
                        bucket,
                        by,
                        to,
                    });
                }
            }
        }
        events
    }
}
