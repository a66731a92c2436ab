//! What a verb that moves buckets has to tell: a sentence for people, the VIP's state for programs.

use super::failure::Failure;
use super::json::{SCHEMA, json};
use crate::host::reach::Reached;
use crate::model::bucket::BucketSet;
use crate::model::phase::Phase;
use crate::model::ruleset::Ruleset;
use crate::model::untrusted::NOT_QUOTED;
use crate::reading::installed::{Installed, find};
use serde::Serialize;
use std::net::IpAddr;

/// The VIP on this node, after what was done.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    schema: u32,
    vip: String,
    /// Was there anything to do?
    changed: bool,
    /// Is it here now?
    installed: bool,
    buckets: Option<u16>,
    owned: BucketSet,
    draining: BucketSet,
    adopting: BucketSet,
    /// In how many seconds the last draining bucket has left.
    deadline_s: Option<u64>,
    /// What the node is to be told that takes the buckets which have left.
    next: Option<String>,
    #[serde(skip)]
    sentence: String,
}

impl Outcome {
    /// The VIP after what was done for it; the sentence says what this node has of it.
    pub(super) fn after(reached: &Reached, vip: IpAddr) -> Self {
        Outcome::of(&reached.observed.rules, vip, !reached.done.is_empty())
    }

    /// The VIP as it was found last.
    pub(super) fn of(rules: &Ruleset, vip: IpAddr, changed: bool) -> Self {
        match find(rules, vip) {
            Some(found) => Outcome::here(found, changed),
            None => Outcome::gone(vip, changed),
        }
    }

    /// A VIP of this node.
    fn here(Installed { vip, phases }: Installed, changed: bool) -> Self {
        let leaving = phases.leaving();
        let adopting: BucketSet = phases.adopting.keys().copied().collect();
        let moving = [(Phase::Draining, &leaving), (Phase::Adopting, &adopting)];
        let moving = moving.into_iter().filter(|(_, set)| !set.is_empty());
        let moving: Vec<String> = moving
            .map(|(phase, set)| format!(", {phase} {set}"))
            .collect();
        let moving = moving.concat();
        Outcome {
            schema: SCHEMA,
            changed,
            installed: true,
            buckets: Some(vip.buckets.get()),
            adopting,
            deadline_s: phases.leaving_ms().map(|left| left.div_ceil(1000)),
            next: None,
            sentence: format!(
                "{}/{} on {}: owned here {} of {} buckets{moving}",
                vip.address, vip.prefix, vip.nic, phases.owned, vip.buckets
            ),
            vip: vip.address.to_string(),
            draining: leaving,
            owned: phases.owned,
        }
    }

    /// A VIP that is not here.
    pub(super) fn gone(vip: IpAddr, changed: bool) -> Self {
        let how = match changed {
            true => "gone from this node",
            false => "not installed here",
        };
        Outcome {
            schema: SCHEMA,
            vip: vip.to_string(),
            changed,
            installed: false,
            buckets: None,
            owned: BucketSet::default(),
            draining: BucketSet::default(),
            adopting: BucketSet::default(),
            deadline_s: None,
            next: None,
            sentence: format!("{vip} is {how}"),
        }
    }

    /// The same with the line for the node that takes the buckets, if it can be written: the name of a namespace
    /// may stand in the way.
    pub(super) fn followed_by(self, line: Option<String>) -> Self {
        let why = || format!("'nodectl take', in this network namespace; {NOT_QUOTED}");
        let what = line.clone().unwrap_or_else(why);
        Outcome {
            sentence: format!("{}\non the node that takes them: {what}", self.sentence),
            next: line,
            ..self
        }
    }

    /// The same with another sentence, if the VIP is here.
    pub(super) fn saying(self, sentence: String) -> Self {
        match self.installed {
            true => Outcome { sentence, ..self },
            false => self,
        }
    }

    /// What is to be printed.
    pub(super) fn tell(&self, as_json: bool) -> Result<String, Failure> {
        match as_json {
            true => json(self),
            false => Ok(format!("{}\n", self.sentence)),
        }
    }
}
