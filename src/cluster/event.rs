//! What follows from what is said, for those whom it concerns. Pure.

use super::gathering::NodeId;
use super::message::Epoch;
use std::net::IpAddr;

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
    },
    /// The last connection of a bucket that was a member's has ended.
    Drained {
        /// The VIP.
        vip: IpAddr,
        /// The bucket.
        bucket: u16,
        /// Whose.
        by: NodeId,
    },
    /// Two members hold a bucket; this one has to let it go.
    Loses {
        /// The VIP.
        vip: IpAddr,
        /// The bucket.
        bucket: u16,
        /// Who loses it.
        who: NodeId,
    },
    /// All members have said what they hold.
    Whole,
}
