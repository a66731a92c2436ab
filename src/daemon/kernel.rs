//! What the daemon sees of its kernel, and what it tells it: of buckets that are handed over, elements alone, without
//! reading first and without the lock. It remembers what it saw last; where that is not so any more the kernel refuses,
//! and it looks again.

use crate::cluster::bucket::Op;
use crate::cluster::order::{Order, Seen};
use crate::model::bucket::BucketSet;
use crate::model::phase::OFFERED_MS;
use crate::model::ruleset::Ruleset;
use crate::plan::handover::Told;
use crate::reading::installed::{Installed, installed};
use crate::sys::nft::{ChangedBy, NftError, NftSocket};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// The name by which the kernel knows this program.
const OWN_NAME: &str = "clusteripd";

/// This node's nf_tables, as they were last seen.
pub(super) struct Kernel {
    nft: NftSocket,
    rules: Ruleset,
    /// Their generation then.
    generation: u32,
    known: BTreeMap<IpAddr, Installed>,
    /// For how long others may drain what comes here, as agents have said.
    adopt_ms: BTreeMap<IpAddr, u64>,
}

impl Kernel {
    /// In the network namespace of this thread.
    pub(super) fn open() -> Result<Self, NftError> {
        Ok(Kernel {
            nft: NftSocket::open()?,
            rules: Ruleset::new(),
            generation: 0,
            known: BTreeMap::new(),
            adopt_ms: BTreeMap::new(),
        })
    }

    /// Looks at all VIPs. Of those that were there before and are not any more nothing is seen.
    pub(super) fn look(&mut self) -> Result<BTreeMap<IpAddr, Seen>, NftError> {
        let began = Instant::now();
        let seen = self.nft.snapshot()?;
        (self.rules, self.generation) = (seen.rules, seen.generation);
        let before: Vec<IpAddr> = self.known.keys().copied().collect();
        let found = installed(&self.rules).into_iter();
        self.known = found.map(|found| (found.vip.address, found)).collect();
        debug!("the kernel is looked at, in {:?}", began.elapsed());
        let all = before.iter().chain(self.known.keys());
        Ok(all.map(|vip| (*vip, self.seen(*vip))).collect())
    }

    /// Has somebody else changed something since the last look? Who it was is not always known.
    pub(super) fn is_news(&self, by: Option<&ChangedBy>) -> bool {
        by.is_none_or(|by| by.name != OWN_NAME && is_before(self.generation, by.generation))
    }

    /// What was last seen of a VIP.
    pub(super) fn seen(&self, vip: IpAddr) -> Seen {
        self.known.get(&vip).map(of).unwrap_or_default()
    }

    /// The VIPs that are here.
    pub(super) fn vips(&self) -> impl Iterator<Item = &Installed> {
        self.known.values()
    }

    /// The rules as they were last seen.
    pub(super) fn rules(&self) -> &Ruleset {
        &self.rules
    }

    /// For how long others may drain what comes here of a VIP.
    pub(super) fn adopt(&mut self, vip: IpAddr, adopt_ms: u64) {
        self.adopt_ms.insert(vip, adopt_ms);
    }

    /// May a bucket be taken, by what was seen last?
    pub(super) fn may_take(&self, vip: IpAddr, bucket: u16) -> bool {
        let known = self.known.get(&vip);
        known.is_some_and(|known| known.phases.coming.contains_key(&bucket))
    }

    /// May a bucket be offered, by what was seen last?
    pub(super) fn may_offer(&self, vip: IpAddr, bucket: u16) -> bool {
        let known = self.known.get(&vip);
        known.is_some_and(|Installed { phases, .. }| {
            phases.handover_rules && phases.owned.contains(bucket)
        })
    }

    /// Does anything end by itself?
    pub(super) fn moves(&self) -> bool {
        let mut all = self.known.values();
        all.any(|known| known.phases.moving_ms().is_some())
    }

    /// Tells the kernel; those of the buckets that are so now. What takes its time is nothing for this one.
    pub(super) fn tell(&mut self, order: &Order) -> BucketSet {
        let adopt_ms = self.adopt_ms.get(&order.vip).copied();
        let told = match order.op {
            Op::Take => Told::Take {
                adopt_ms: adopt_ms
                    .or_else(|| self.usual_drain(order.vip))
                    .unwrap_or_default(),
            },
            Op::Offer => Told::Offer { for_ms: OFFERED_MS },
            Op::Keep => Told::Keep,
            Op::Give => Told::Give,
            Op::Drain | Op::Adopted => return order.buckets.clone(),
        };
        match self.all_at_once(told, order.vip, &order.buckets) {
            Some(done) => done,
            // Something is not as it was seen; then one bucket is not to be in the way of the others.
            None => self.one_by_one(told, order.vip, &order.buckets),
        }
    }

    /// For how long connections usually stay.
    pub(super) fn usual_drain(&self, vip: IpAddr) -> Option<u64> {
        let known = self.known.get(&vip)?;
        Some(1000 * u64::from(known.vip.drain_s))
    }

    fn all_at_once(&mut self, told: Told, vip: IpAddr, buckets: &BucketSet) -> Option<BucketSet> {
        let all = self.known.get(&vip)?;
        let possible = told.possible(&all.phases, buckets);
        let is_all = possible == *buckets;
        (is_all && self.try_to(told, vip, buckets)).then_some(possible)
    }

    fn one_by_one(&mut self, told: Told, vip: IpAddr, buckets: &BucketSet) -> BucketSet {
        if let Err(error) = self.look() {
            warn!(
                "buckets {buckets} of {vip} are as they were, for the rules cannot be read: {error}"
            );
            return BucketSet::default();
        }
        let possible = match self.known.get(&vip) {
            Some(known) => told.possible(&known.phases, buckets),
            None => return BucketSet::default(),
        };
        if self.try_to(told, vip, &possible) {
            return possible;
        }
        let one = |bucket: &u16| self.try_to(told, vip, &BucketSet::one(*bucket));
        possible.iter().filter(one).collect()
    }

    /// Tells the kernel, of buckets with which that is possible by what was seen. Has it done so?
    fn try_to(&mut self, told: Told, vip: IpAddr, buckets: &BucketSet) -> bool {
        let Some(known) = self.known.get_mut(&vip) else {
            return false;
        };
        let began = Instant::now();
        let changes = told.changes(&known.vip, &known.phases, buckets);
        match self.nft.tell(&changes) {
            Ok(()) => {
                debug!("{told:?} {buckets} of {vip}: in {:?}", began.elapsed());
                known.phases = told.then(&known.phases, buckets);
                true
            }
            Err(error) => {
                debug!("{told:?} {buckets} of {vip}: {error}");
                false
            }
        }
    }
}

/// Generations are counted in 32 bits, and begin anew.
fn is_before(one: u32, other: u32) -> bool {
    (1..=u32::MAX / 2).contains(&other.wrapping_sub(one))
}

/// A VIP as the state machine sees it.
fn of(Installed { vip, phases }: &Installed) -> Seen {
    let offered = phases.offered.iter();
    let offered = offered.map(|(bucket, left)| (*bucket, Some(Duration::from_millis(*left))));
    Seen {
        description: vip.digest(),
        held: phases
            .owned
            .iter()
            .map(|bucket| (bucket, None))
            .chain(offered)
            .collect(),
        drains: phases.leaving().iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_before;

    #[test]
    fn a_generation_is_before_those_that_follow_also_where_their_count_begins_anew() {
        assert!(is_before(7, 8) && is_before(u32::MAX, 0));
        assert!(!is_before(7, 7) && !is_before(8, 7) && !is_before(0, u32::MAX));
    }
}
