//! What happens in the cluster, as the daemon of a node comes to know it. Pure.

use super::view::{Alarm, Member, Node, named};
use crate::model::bucket::{BucketSet, as_text};
use crate::model::untrusted::Untrusted;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, by the clock of the node that tells it: milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum What {
    /// Others are here, or no longer.
    Members {
        /// Has this node's partition quorum?
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quorate: Option<bool>,
        /// The nodes whose daemons hear each other.
        members: Vec<Member>,
    },
    /// There is no connection to Corosync any more.
    Alone,
    /// A node offers buckets: it answers them until another one claims them.
    Offers(Of),
    /// A node claims buckets: Pacemaker starts them there.
    Claims(Of),
    /// A node has let go of buckets.
    Releases(Of),
    /// A node answers buckets from now on.
    Takes(Of),
    /// The last connection of buckets that a node had has ended.
    Drained(Of),
    /// Something is wrong.
    Alarm {
        /// The VIP.
        vip: IpAddr,
        /// What.
        alarm: Alarm,
    },
    /// It is wrong no more.
    Over {
        /// The VIP.
        vip: IpAddr,
        /// What was.
        alarm: Alarm,
    },
    /// Something that the VIP needs was gone on this node, and is there again.
    Mended {
        /// The VIP.
        vip: IpAddr,
        /// What.
        what: Untrusted,
        /// The program that took it away, if the kernel told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Untrusted>,
    },
    /// The same is taken away again and again: it is put back no more, and left to Pacemaker's monitor.
    Unmended {
        /// The VIP.
        vip: IpAddr,
        /// What.
        what: Untrusted,
        /// The program that took it away, if the kernel told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Untrusted>,
    },
    /// Something that a newer minor version tells.
    #[serde(other)]
    Unknown,
}

/// What a node does with buckets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Of {
    /// The VIP.
    pub vip: IpAddr,
    /// The buckets.
    #[serde(with = "as_text")]
    pub buckets: BucketSet,
    /// The node.
    pub node: Node,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut does = |Of { vip, buckets, node }: &Of, what: &str| {
            write!(f, "{vip}: {node} {what} {}", named(buckets))
        };
        match self {
            What::Offers(of) => does(of, "offers"),
            What::Claims(of) => does(of, "claims"),
            What::Releases(of) => does(of, "has let go of"),
            What::Takes(of) => does(of, "has taken"),
            What::Drained(of) => does(of, "has no connections left in"),
            What::Members { quorate, members } => {
                let names: Vec<String> = members.iter().map(|it| it.node.to_string()).collect();
                let quorum = match quorate {
                    Some(true) => ", with quorum",
                    Some(false) => ", without quorum",
                    None => "",
                };
                write!(f, "daemons hear each other on {}{quorum}", names.join(", "))
            }
            What::Alone => f.write_str("Corosync does not answer here: no other node is heard"),
            What::Alarm { vip, alarm } => write!(f, "{vip}: {alarm}"),
            What::Over { vip, alarm } => write!(f, "{vip}: no longer so: {alarm}"),
            What::Mended { vip, what, by } => {
                let by = Culprit(by.as_ref());
                write!(f, "{vip}: {what} was taken away{by}, and is there again")
            }
            What::Unmended { vip, what, by } => {
                let by = Culprit(by.as_ref());
                write!(
                    f,
                    "{vip}: {what} is taken away again and again{by}: it is left to the monitor"
                )
            }
            What::Unknown => f.write_str(
                "something that this version has no word for: clusteripd is a newer one, update nodectl",
            ),
        }
    }
}

/// Who has taken something away, if that is known.
struct Culprit<'a>(Option<&'a Untrusted>);

impl fmt::Display for Culprit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(by) => write!(f, " by {by}"),
            None => Ok(()),
        }
    }
}
