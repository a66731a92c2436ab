//! What this node has left of connections in buckets that come to it. Pure.
//!
//! Between its leaving and its coming back a bucket was another node's, and clients have begun anew there,
//! from ports that they had used before. So nothing of what is left here may speak while that node may still
//! drain the bucket: not what was given up when it drained here, and not a socket in TIME-WAIT, which says an
//! ACK to whatever comes, and lasts longer for it. Sockets that live are ended; the others cannot be, on
//! older kernels and in containers, so all are put into a set whose segments are dropped (`adopting`). What
//! lives in a bucket that did not drain here was not given up: its rules may have been flushed.

use super::flows::FLOWS_AT_ONCE;
use super::step::Look;
use crate::model::bucket::BucketSet;
use crate::model::change::Change;
use crate::model::hash::Flow;
use crate::model::host::Observed;
use crate::model::phase::Phases;
use crate::model::ruleset::{Element, Target};
use crate::model::vip::Vip;
use crate::rules::adopting::{family, stale_spec};
use crate::rules::leaving::flow_bytes;
use crate::rules::names::stale_set;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What is left of connections in buckets that come.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Living ones that this node has given up: their clients have begun anew, elsewhere.
    pub(super) given_up: BTreeSet<Flow>,
    /// All that is to be silent.
    pub(super) loud: Vec<Flow>,
}

/// What is left in these buckets, which come and are adopted or not. What has to be looked at to tell, if
/// anything.
pub(super) fn left(
    observed: &Observed,
    vip: &Vip,
    coming: &BucketSet,
    held: &Phases,
    adopts: bool,
) -> Result<Left, Look> {
    let mut left = Left::default();
    let drains = |bucket: &u16| held.draining.contains_key(bucket);
    let drained: BucketSet = coming.iter().filter(drains).collect();
    if coming.is_empty() || (drained.is_empty() && !adopts) {
        return Ok(left);
    }
    let connections = observed.connections.as_ref().ok_or(Look::Connections)?;
    let kept = match drained.is_empty() {
        true => &BTreeSet::new(),
        false => observed.flows.as_ref().ok_or(Look::Flows)?,
    };
    for connection in connections {
        let (flow, bucket) = (connection.flow, vip.bucket(&connection.flow));
        // Where a bucket was closing nobody else had it since.
        let is_ours = held.closing.contains_key(&bucket) || kept.contains(&flow);
        if is_ours || !coming.contains(bucket) {
            continue;
        }
        match (connection.alive, drained.contains(bucket)) {
            (true, false) => continue,
            (true, true) => drop(left.given_up.insert(flow)),
            (false, _) => {}
        }
        if adopts {
            left.loud.push(flow);
        }
    }
    Ok(left)
}

/// What is silent, if anything can be.
pub(super) fn silent(
    observed: &Observed,
    address: IpAddr,
) -> Result<Option<&BTreeSet<Flow>>, Look> {
    let table = observed.rules.get(&family(address));
    match table.is_some_and(|table| table.sets.contains_key(&stale_set(address))) {
        true => observed.stale.as_ref().map(Some).ok_or(Look::Stale),
        false => Ok(None),
    }
}

/// What makes these silent, in pieces; those that are so already stay so.
pub fn silence(address: IpAddr, flows: &[Flow]) -> impl Iterator<Item = Change> + '_ {
    let element = || Element::new(Target::None);
    flows.chunks(FLOWS_AT_ONCE).map(move |some| {
        let elements = some.iter().map(|flow| (flow_bytes(flow), element()));
        Change::AddElements(
            family(address),
            stale_set(address),
            stale_spec(address),
            elements.collect(),
        )
    })
}
