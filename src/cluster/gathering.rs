//! Who is here: nodes, Corosync's ring, and the daemons that hear each other now. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A node, by Corosync's number for it (`nodeid` in corosync.conf; `cpg.h`: `cpg_address.nodeid`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

/// A ring of Corosync's (`cpg.h`: `cpg_ring_id`). Another one stands wherever a node has come or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ring {
    /// Who formed it.
    pub node: u32,
    /// Its number.
    pub number: u64,
}

/// The daemons that hear each other: one in each node of a ring that runs one. Within one gathering everybody hears the
/// same messages in the same order; what was said in one means nothing in another, for it may be delivered seconds later
/// and to others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gathering {
    /// The ring.
    pub ring: Ring,
    /// The members, and the process that speaks for each: a daemon that was started again is another one.
    pub members: BTreeMap<NodeId, u32>,
    /// Nodes of the ring without a daemon: their agents know of no offers, and take what Pacemaker starts there at once.
    pub without: BTreeSet<NodeId>,
}

/// The name of a gathering, which all its members find alike.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct GatheringId(pub u64);

impl Gathering {
    /// Its name.
    pub fn id(&self) -> GatheringId {
        let mut hash = blake3::Hasher::new();
        hash.update(&self.ring.node.to_le_bytes());
        hash.update(&self.ring.number.to_le_bytes());
        for (node, process) in &self.members {
            hash.update(&node.0.to_le_bytes());
            hash.update(&process.to_le_bytes());
        }
        let [a, b, c, d, e, f, g, h, ..] = *hash.finalize().as_bytes();
        GatheringId(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gathering_is_another_one_when_anything_about_it_is() {
        let three = |process| Gathering {
            ring: Ring { node: 1, number: 8 },
            members: [(1, 70), (2, process), (3, 72)]
                .map(|(node, process)| (NodeId(node), process))
                .into(),
            without: BTreeSet::new(),
        };
        let first = three(71);
        assert_eq!(first.id(), three(71).id());
        let again = three(90);
        let mut later = three(71);
        later.ring.number = 12;
        let mut fewer = three(71);
        fewer.members.remove(&NodeId(3));
        let ids = [first, again, later, fewer].map(|gathering| gathering.id());
        let all: std::collections::BTreeSet<_> = ids.into_iter().collect();
        assert_eq!(all.len(), 4);
    }
}
