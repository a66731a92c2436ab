//! What all members hold, as everybody hears it. Pure, and without a clock.
//!
//! Within a gathering all members hear the same messages in the same order, so each comes to the same view by itself:
//! who holds a bucket, whom it is promised to, whose claim came too late. Nothing that depends on a node's own clock is
//! decided here.

use super::gathering::{Gathering, NodeId};
use super::message::{Epoch, Holds, Said};
use crate::model::bucket::BucketSet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// How a member holds a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Since when.
    pub epoch: Epoch,
    /// Does it wait for somebody who claims the bucket?
    pub offered: bool,
}

/// What a member holds of a VIP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holding {
    /// The digest of the VIP's description.
    pub description: String,
    /// Its buckets.
    pub buckets: BTreeMap<u16, Hold>,
    /// Where it has nothing but connections left.
    pub drains: BTreeSet<u16>,
}

impl Holding {
    fn is_empty(&self) -> bool {
        self.buckets.is_empty() && self.drains.is_empty()
    }
}

/// A member.
#[derive(Debug, Clone, Default)]
struct Member {
    /// Has it said in this gathering all that it holds?
    whole: bool,
    holds: BTreeMap<IpAddr, Holding>,
    /// What it has said of that so far, until it is whole.
    saying: BTreeMap<IpAddr, Holding>,
}

/// A bucket that is claimed, and whose holder has yet to let go.
#[derive(Debug, Clone)]
struct Promise {
    to: NodeId,
    description: String,
    epoch: Epoch,
}

/// What has come of a claim, for a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// Nobody else held it: it is the claimant's.
    Free,
    /// Its holder gives it, and says so then.
    Promised(NodeId),
    /// It is kept by its holder, or is promised to somebody else.
    Kept(NodeId),
    /// The holder knows the VIP by another description.
    Unlike(NodeId),
}

impl Claimed {
    /// Is it that member who has the bucket?
    pub fn concerns(self, member: NodeId) -> bool {
        match self {
            Claimed::Free => false,
            Claimed::Promised(holder) | Claimed::Kept(holder) | Claimed::Unlike(holder) => {
                holder == member
            }
        }
    }
}

/// What follows from a message, for those whom it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Of a claim.
    Claim {
        /// The VIP.
        vip: IpAddr,
        /// The bucket.
        bucket: u16,
        /// Who claims it.
        by: NodeId,
        /// Its epoch, if it becomes the claimant's.
        epoch: Epoch,
        /// What has come of it.
        claimed: Claimed,
    },
    /// A member has let go of a bucket; it is the one's to whom it was promised.
    Released {
        /// The VIP.
        vip: IpAddr,
        /// The bucket.
        bucket: u16,
        /// By whom.
        by: NodeId,
        /// Whose it is now, and since which epoch.
        to: Option<(NodeId, Epoch)>,
    },
    /// A member offers a bucket.
    Offered {
        /// The VIP.
        vip: IpAddr,
        /// The bucket.
        bucket: u16,
        /// Who.
        by: NodeId,
        /// In how many milliseconds from the sending its kernel ends it.
        ends_ms: u64,
    },
    /// The last connection of a bucket that was a member's has ended.
    Drained {
        /// The VIP.
        vip: IpAddr,
        /// The bucket.
        bucket: u16,
    },
    /// Two members hold a bucket; this one has to let it go.
    Loses {
        /// The VIP.
        vip: IpAddr,
        /// The bucket.
        bucket: u16,
        /// Who loses it.
        who: NodeId,
        /// Who keeps it.
        to: NodeId,
    },
    /// All members have said what they hold.
    Whole,
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
    /// Another gathering: what is known of members stays until they have said it anew, promises end. Members who are
    /// gone, and what they held.
    pub fn gathered(
        &mut self,
        gathering: &Gathering,
    ) -> BTreeMap<NodeId, BTreeMap<IpAddr, Holding>> {
        self.promises.clear();
        let before = std::mem::take(&mut self.members);
        let mut gone = BTreeMap::new();
        for (node, member) in before {
            match gathering.members.contains_key(&node) {
                true => {
                    let holds = member.holds;
                    let member = Member {
                        holds,
                        ..Member::default()
                    };
                    self.members.insert(node, member);
                }
                false => {
                    gone.insert(node, member.holds);
                }
            }
        }
        for node in gathering.members.keys() {
            self.members.entry(*node).or_default();
        }
        gone
    }

    /// Have all members said what they hold?
    pub fn is_whole(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(|member| member.whole)
    }

    /// The members.
    pub fn members(&self) -> impl Iterator<Item = NodeId> {
        self.members.keys().copied()
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

    /// The next epoch of these buckets.
    pub fn next_epoch(&self, vip: IpAddr, buckets: &BucketSet) -> Epoch {
        let known = self.epochs.get(&vip);
        let of = |bucket| known?.get(&bucket).copied();
        let highest = buckets.iter().filter_map(of).max();
        highest.unwrap_or_default().saturating_add(1)
    }

    /// Remembers the epochs of a VIP's buckets.
    fn learn(&mut self, vip: IpAddr) {
        let held = self
            .members
            .values()
            .filter_map(|member| member.holds.get(&vip));
        let epochs = self.epochs.entry(vip).or_default();
        for (bucket, hold) in held.flat_map(|holding| &holding.buckets) {
            let known = epochs.entry(*bucket).or_default();
            *known = hold.epoch.max(*known);
        }
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
            Said::Offers {
                vip,
                buckets,
                ends_ms,
            } => self.offers(from, *vip, buckets, *ends_ms),
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
                self.conflicts(*vip, buckets)
            }
            Said::Drained { vip, buckets } => {
                let drained = |bucket| {
                    self.drained(from, *vip, bucket)
                        .then_some(Event::Drained { vip: *vip, bucket })
                };
                buckets.iter().filter_map(drained).collect()
            }
            Said::Unknown => Vec::new(),
        }
    }

    fn member(&mut self, node: NodeId) -> &mut Member {
        self.members.entry(node).or_default()
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
            holding
                .buckets
                .extend(part.buckets.iter().map(|bucket| (bucket, hold)));
        }
        let member = self.member(from);
        if !member.whole {
            member.saying.insert(said.vip, holding);
            return Vec::new();
        }
        let known = member.holds.get(&said.vip).map(|known| &known.buckets);
        for bucket in said.open.iter() {
            let hold = known.and_then(|known| known.get(&bucket));
            holding.buckets.extend(hold.map(|hold| (bucket, *hold)));
        }
        let buckets: BucketSet = holding.buckets.keys().copied().collect();
        match holding.is_empty() {
            true => member.holds.remove(&said.vip),
            false => member.holds.insert(said.vip, holding),
        };
        self.learn(said.vip);
        let mut events = self.broken_promises(said.vip, from);
        if self.is_whole() {
            events.extend(self.conflicts(said.vip, &buckets));
        }
        events
    }

    fn whole(&mut self, from: NodeId) -> Vec<Event> {
        let was = self.is_whole();
        let member = self.member(from);
        if member.whole {
            return Vec::new();
        }
        member.whole = true;
        member.holds = std::mem::take(&mut member.saying);
        member.holds.retain(|_, holding| !holding.is_empty());
        for vip in self.vips() {
            self.learn(vip);
        }
        if was || !self.is_whole() {
            return Vec::new();
        }
        let mut events = vec![Event::Whole];
        for vip in self.vips() {
            let held = self
                .members
                .values()
                .filter_map(|member| member.holds.get(&vip));
            let buckets = held
                .flat_map(|holding| holding.buckets.keys().copied())
                .collect();
            events.extend(self.conflicts(vip, &buckets));
        }
        events
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
                events.push(Event::Loses {
                    vip,
                    bucket,
                    who,
                    to,
                });
            }
        }
        events
    }

    fn offers(
        &mut self,
        from: NodeId,
        vip: IpAddr,
        buckets: &BucketSet,
        ends_ms: u64,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for bucket in buckets.iter() {
            // Who has given a bucket meanwhile has nothing to offer.
            let Some(hold) = self.hold_mut(from, vip, bucket) else {
                continue;
            };
            hold.offered = true;
            events.push(Event::Offered {
                vip,
                bucket,
                by: from,
                ends_ms,
            });
        }
        events
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
            **node != by && holding.is_some_and(|holding| holding.description != description)
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
            self.holding_mut(from, vip, &like).drains.insert(bucket);
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

    fn took(
        &mut self,
        (from, epoch): (NodeId, Epoch),
        vip: IpAddr,
        description: &str,
        bucket: u16,
    ) {
        if let Some(promise) = self.promises.get(&(vip, bucket)) {
            if promise.to == from {
                self.promises.remove(&(vip, bucket));
                // Its kernel has ended it, whether or not its daemon knows.
                let late: Vec<NodeId> = self.holders(vip, bucket).map(|(node, _)| node).collect();
                for node in late.into_iter().filter(|node| *node != from) {
                    self.forget(node, vip, bucket);
                }
            }
        }
        self.give((from, epoch), vip, description, bucket);
    }

    /// The bucket is that member's.
    fn give(&mut self, (to, epoch): (NodeId, Epoch), vip: IpAddr, description: &str, bucket: u16) {
        let hold = Hold {
            epoch,
            offered: false,
        };
        let holding = self.holding_mut(to, vip, description);
        holding.buckets.insert(bucket, hold);
        holding.drains.remove(&bucket);
        let known = self
            .epochs
            .entry(vip)
            .or_default()
            .entry(bucket)
            .or_default();
        *known = epoch.max(*known);
    }

    /// What a member holds of a VIP, which may be nothing yet.
    fn holding_mut(&mut self, node: NodeId, vip: IpAddr, description: &str) -> &mut Holding {
        let holds = &mut self.member(node).holds;
        holds.entry(vip).or_insert_with(|| Holding {
            description: description.to_owned(),
            ..Holding::default()
        })
    }

    /// A member's last connection in a bucket has ended. Is that news?
    fn drained(&mut self, node: NodeId, vip: IpAddr, bucket: u16) -> bool {
        let Some(member) = self.members.get_mut(&node) else {
            return false;
        };
        let Some(holding) = member.holds.get_mut(&vip) else {
            return false;
        };
        let news = holding.drains.remove(&bucket);
        if holding.is_empty() {
            member.holds.remove(&vip);
        }
        news
    }

    /// That member has it no more.
    fn forget(&mut self, node: NodeId, vip: IpAddr, bucket: u16) -> Option<Hold> {
        let holds = &mut self.members.get_mut(&node)?.holds;
        let holding = holds.get_mut(&vip)?;
        let hold = holding.buckets.remove(&bucket);
        if holding.is_empty() {
            holds.remove(&vip);
        }
        hold
    }

    fn hold_mut(&mut self, node: NodeId, vip: IpAddr, bucket: u16) -> Option<&mut Hold> {
        let member = self.members.get_mut(&node)?;
        member.holds.get_mut(&vip)?.buckets.get_mut(&bucket)
    }

    /// A promise holds only as long as somebody offers the bucket; who has no more of it has let go.
    fn broken_promises(&mut self, vip: IpAddr, by: NodeId) -> Vec<Event> {
        let mut events = Vec::new();
        let promised: Vec<(IpAddr, u16)> = self.promises.keys().copied().collect();
        for (of, bucket) in promised.into_iter().filter(|(of, _)| *of == vip) {
            let holder = self.holders(vip, bucket).next();
            if holder.is_some_and(|(_, hold)| hold.offered) {
                continue;
            }
            match holder {
                Some(_) => {
                    self.promises.remove(&(of, bucket));
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
