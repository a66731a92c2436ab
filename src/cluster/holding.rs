//! What a member holds of a VIP. Pure.

use super::message::Epoch;
use std::collections::{BTreeMap, BTreeSet};

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
    /// Is there nothing of it?
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty() && self.drains.is_empty()
    }
}
