//! Flows that stay while their buckets drain, as changes of the VIP's set of them. Pure.

use crate::model::bucket::BucketSet;
use crate::model::change::Change;
use crate::model::hash::Flow;
use crate::model::host::Observed;
use crate::model::phase::Phases;
use crate::model::ruleset::{Element, Family, Target};
use crate::model::vip::Vip;
use crate::rules::leaving::{flow_bytes, flows_spec};
use crate::rules::names::flows_set;
use std::collections::BTreeMap;

/// Flows that are added in one transaction: a socket's buffer need not be larger for them.
pub(super) const FLOWS_AT_ONCE: usize = 1024;

/// Flows that stay for so long.
pub(super) fn keep<'a>(vip: &Vip, flows: impl Iterator<Item = &'a Flow>, drain_ms: u64) -> Change {
    let element = Element::new(Target::None).ending(drain_ms);
    let elements = flows.map(|flow| (flow_bytes(flow), element.clone()));
    Change::AddElements(
        Family::Netdev,
        flows_set(vip.address),
        flows_spec(vip.address),
        elements.collect(),
    )
}

/// The changes by which the flows of buckets are forgotten that do not leave any more, if others still
/// do: later they would be taken for this node's again. `None` if it is not known which flows.
pub(super) fn forgotten(
    observed: &Observed,
    vip: &Vip,
    buckets: &BucketSet,
    then: &Phases,
) -> Option<Vec<Change>> {
    // With the last bucket that leaves the whole set goes.
    if buckets.is_empty() || !then.needs_leaving_rules() {
        return Some(Vec::new());
    }
    let flows = observed.flows.as_ref()?;
    let gone: BTreeMap<Vec<u8>, Element> = flows
        .iter()
        .filter(|flow| buckets.contains(vip.bucket(flow)))
        .map(|flow| (flow_bytes(flow), Element::new(Target::None)))
        .collect();
    let (name, spec) = (flows_set(vip.address), flows_spec(vip.address));
    Some(match gone.is_empty() {
        true => Vec::new(),
        false => vec![Change::DeleteElements(Family::Netdev, name, spec, gone)],
    })
}
