//! What the daemon knows of the cluster. Pure.
//!
//! Sets of buckets are written as people write them, `0,3-5`; an empty one is left out.

use crate::model::bucket::{BucketSet, as_text};
use crate::model::untrusted::Untrusted;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Node {
    /// Corosync's number for it.
    pub id: u32,
    /// Its name, if Corosync knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Untrusted>,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => name.fmt(f),
            None => f.pad(&format!("node {}", self.id)),
        }
    }
}

/// A node whose daemon hears this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    #[serde(flatten)]
    pub node: Node,
    /// The version of its daemon, as far as it has told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Untrusted>,
    /// Has it said what it holds, since the members are these?
    pub heard: bool,
}

/// What the daemon knows of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The node whose daemon tells this.
    pub here: Node,
    /// The version of that daemon.
    pub version: Untrusted,
    /// Has this node's partition quorum? Nobody knows without Corosync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorate: Option<bool>,
    /// The nodes whose daemons hear each other; none without Corosync.
    pub members: Vec<Member>,
    /// The VIPs that anybody has something of.
    pub vips: Vec<OfVip>,
}

/// A VIP in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfVip {
    /// The VIP.
    pub vip: IpAddr,
    /// How many buckets it has, if that is known here: on a node that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<u16>,
    /// What each node has of it, for those that have something.
    pub nodes: Vec<Holding>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<Alarm>,
}

/// What a node has of a VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The node.
    #[serde(flatten)]
    pub node: Node,
    /// The digest of the VIP's description there.
    pub description: Untrusted,
    /// What it answers; those that are offered or adopted too.
    #[serde(default, with = "as_text", skip_serializing_if = "BucketSet::is_empty")]
    pub owned: BucketSet,
    /// What of that it answers until another node claims it.
    #[serde(default, with = "as_text", skip_serializing_if = "BucketSet::is_empty")]
    pub offered: BucketSet,
    /// What of that others may still have connections in.
    #[serde(default, with = "as_text", skip_serializing_if = "BucketSet::is_empty")]
    pub adopting: BucketSet,
    /// Where it has nothing but connections left.
    #[serde(default, with = "as_text", skip_serializing_if = "BucketSet::is_empty")]
    pub draining: BucketSet,
}

/// Something that is wrong with a VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Alarm {
    /// More than one node answers these buckets.
    Twice {
        /// The buckets.
        #[serde(with = "as_text")]
        buckets: BucketSet,
        /// Who.
        nodes: Vec<Node>,
    },
    /// No node has answered these for longer than a move takes.
    Nowhere {
        /// The buckets.
        #[serde(with = "as_text")]
        buckets: BucketSet,
    },
    /// A node has the VIP under another description than the node that tells this.
    Unlike {
        /// The node.
        node: Node,
        /// The digest there.
        description: Untrusted,
    },
    /// Something that a newer minor version finds wrong.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Alarm::Twice { buckets, nodes } => {
                let nodes: Vec<String> = nodes.iter().map(Node::to_string).collect();
                write!(f, "{}: {} answer", named(buckets), nodes.join(" and "))
            }
            Alarm::Nowhere { buckets } => {
                let clients = if buckets.len() == 1 { "its" } else { "their" };
                write!(f, "{}: nobody answers {clients} clients", named(buckets))
            }
            Alarm::Unlike { node, description } => write!(
                f,
                "{node} has another description ({description}): compare the digests that 'nodectl status' shows"
            ),
            Alarm::Unknown => f.write_str(
                "something that this version has no word for: clusteripd is a newer one, update nodectl",
            ),
        }
    }
}

/// `bucket 3`, or `buckets 3-5`.
pub(super) fn named(buckets: &BucketSet) -> String {
    let plural = if buckets.len() == 1 { "" } else { "s" };
    format!("bucket{plural} {buckets}")
}
