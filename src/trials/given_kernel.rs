//! What a node's kernel does with the buckets of a VIP that are handed over: elements with an end, and transactions that
//! fail as a whole.

use crate::cluster::bucket::{OFFER, Op};
use crate::cluster::order::{Order, Seen};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// For how long connections stay.
pub(super) const DRAIN: Duration = Duration::from_secs(20);

/// What a node's kernel has of the VIP.
#[derive(Debug, Default, Clone)]
pub(super) struct Kernel {
    /// The buckets that it answers, and when it ends that.
    pub(super) owned: BTreeMap<u16, Option<Duration>>,
    /// The buckets that may be taken, and until when.
    pub(super) coming: BTreeMap<u16, Duration>,
    /// Where connections are left, and until when.
    pub(super) drains: BTreeMap<u16, Duration>,
    /// So many transactions fail.
    pub(super) fails: u32,
    /// Where nobody else is to have connections: what the daemon has said.
    pub(super) let_through: BTreeSet<u16>,
}

impl Kernel {
    pub(super) fn pass(&mut self, now: Duration) {
        self.owned
            .retain(|_, until| until.is_none_or(|until| until > now));
        self.coming.retain(|_, until| *until > now);
        self.drains.retain(|_, until| *until > now);
    }

    /// One transaction: all of it, or nothing.
    pub(super) fn transact(&mut self, order: &Order, now: Duration) -> bool {
        if self.fails > 0 {
            self.fails -= 1;
            return false;
        }
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
                Op::Adopted => {
                    self.let_through.insert(bucket);
                }
                Op::Drain => {}
            }
        }
        is_so
    }

    pub(super) fn seen(&self, now: Duration) -> Seen {
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
