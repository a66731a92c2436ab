//! The whole cluster beside what the kernel of this node does, where Pacemaker runs here.

use super::screen::Screen;
use crate::model::bucket::BucketSet;
use crate::pacemaker::cluster::{Cluster, MemberState, Shared};
use crate::pacemaker::query::{Query, ask_at};
use crate::sys::netns::Home;
use serde::Serialize;
use std::fmt::Write;
use tracing::warn;

/// A VIP in the cluster, for programs.
#[derive(Debug, Serialize)]
pub(super) struct OfVip {
    /// Pacemaker's name of the primitive.
    resource: String,
    /// Has this node's partition quorum?
    quorum: bool,
    nodes: Vec<OfNode>,
    /// Buckets that run on no node.
    nowhere: BucketSet,
    /// Buckets that run on more than one.
    twice: BucketSet,
}

#[derive(Debug, Serialize)]
struct OfNode {
    node: String,
    state: MemberState,
    /// Is it the node that tells this?
    here: bool,
    buckets: BucketSet,
}

/// What Pacemaker says; `None` where it does not run, or cannot be asked.
pub(super) fn view(home: Option<&Home>) -> Option<Cluster> {
    let ask = |query| ask_at(home, query);
    // Where one cannot be asked the other need not be.
    let answers =
        ask(Query::Placement).and_then(|placement| Ok((placement, ask(Query::Resources)?)));
    let read = match answers {
        Ok((placement, resources)) => {
            Cluster::read(&placement, &resources).map_err(|error| error.to_string())
        }
        Err(error) if error.is_absent() => return None,
        Err(error) => Err(error.to_string()),
    };
    read.map_err(|error| warn!("{error}; the cluster is not shown"))
        .ok()
}

/// The name of this node, if it is a member under its host name.
fn own_name(cluster: &Cluster) -> Option<String> {
    let host = nix::unistd::gethostname().ok()?.into_string().ok()?;
    let short = host.split('.').next().unwrap_or_default();
    let is_own = |name: &&String| **name == host || **name == short;
    cluster.members.keys().find(is_own).cloned()
}

pub(super) fn of_vip(cluster: &Cluster, shared: &Shared, buckets: u16) -> OfVip {
    let own = own_name(cluster);
    let nodes = cluster.members.iter();
    OfVip {
        resource: shared.resource.clone(),
        quorum: cluster.quorum,
        nodes: nodes
            .map(|(name, state)| OfNode {
                node: name.clone(),
                state: *state,
                here: own.as_ref() == Some(name),
                buckets: shared.on(name),
            })
            .collect(),
        nowhere: shared.nowhere(buckets),
        twice: shared.twice(),
    }
}

/// The lines about the cluster: one a node, and what is wrong with the whole. `owned` is what the kernel of
/// this node owns, if that can be seen.
pub(super) fn lines(view: &OfVip, owned: Option<&BucketSet>, screen: Screen) -> String {
    let mut text = String::new();
    let name = |node: &OfNode| node.node.chars().count();
    let longest = view.nodes.iter().map(name).max().unwrap_or_default();
    for (n, node) in view.nodes.iter().enumerate() {
        let about = if n == 0 { "cluster" } else { "" };
        let state = format!("{:<11}", node.state);
        let state = match node.state {
            MemberState::Online => screen.good(&state),
            MemberState::Unclean => screen.bad(&state),
            _ => screen.warn(&state),
        };
        let count = node.buckets.len();
        let buckets = match count {
            0 => String::new(),
            _ => format!(": {}", node.buckets),
        };
        let here = if node.here { "  <- this node" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  {about:<9} {:<longest$}  {state} {count:>4} bucket{}{buckets}{here}",
            node.node,
            if count == 1 { "" } else { "s" },
        );
    }
    let mut shout = |word: &str, what: String| {
        let _ = writeln!(text, "  {} {what}", screen.bad(&format!("{word:<9}")));
    };
    if !view.quorum {
        shout(
            "NO QUORUM",
            "Pacemaker does here what no-quorum-policy says: stops everything, by default"
                .to_owned(),
        );
    }
    if !view.nowhere.is_empty() {
        let what = format!(
            "bucket{} on no node: nobody answers {} clients",
            named(&view.nowhere),
            if view.nowhere.len() == 1 {
                "its"
            } else {
                "their"
            }
        );
        shout("DARK", what);
    }
    for bucket in view.twice.iter() {
        let owners = view
            .nodes
            .iter()
            .filter(|node| node.buckets.contains(bucket));
        let owners: Vec<&str> = owners.map(|node| node.node.as_str()).collect();
        let what = format!("bucket {bucket} on {}: both answer", owners.join(" and "));
        shout("TWICE", what);
    }
    let here = view.nodes.iter().find(|node| node.here);
    if let (Some(here), Some(owned)) = (here, owned)
        && here.buckets != *owned
    {
        let words = |set: &BucketSet| match set.is_empty() {
            true => "none".to_owned(),
            false => set.to_string(),
        };
        let what = format!(
            "Pacemaker runs {} here, the kernel owns {}",
            words(&here.buckets),
            words(owned)
        );
        shout("DIFFERS", what);
    }
    text
}

/// ` 3`, or `s 3-5`.
fn named(buckets: &BucketSet) -> String {
    let plural = if buckets.len() == 1 { "" } else { "s" };
    format!("{plural} {buckets}")
}
