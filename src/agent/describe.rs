//! From parameters to a VIP's whole description. What a predecessor would have found on this host comes with the place.

use super::exit::{Code, Failure};
use super::parameters::Parameters;
use crate::host::place::Place;
use crate::model::bucket::BucketCount;
use crate::model::draft::Draft;
use crate::model::predecessor::Like;
use crate::model::vip::Vip;

/// The whole description of the VIP, checked.
pub fn describe(
    parameters: &Parameters,
    place: Place,
    like: Option<Like>,
    buckets: BucketCount,
) -> Result<Vip, Failure> {
    // Where the VIP is here it is known what came of it.
    if let Some(like) = like.as_ref().filter(|_| parameters.proto_decides) {
        let why = format!(
            "compat=\"{}\" cannot follow proto: IPaddr2 derives its MAC, and the newest its seed, from what it finds by it, \
             most often without a broadcast address. Leave proto out, and set mac and hash_seed to those of a node that \
             runs IPaddr2 ('ip maddr show', 'nft list ruleset')",
            like.predecessor
        );
        return Err(Failure::new(Code::Configured, why));
    }
    let draft = Draft {
        address: parameters.ip,
        prefix: place.prefix,
        label: parameters.label.clone(),
        nic: place.nic,
        mac: parameters.mac,
        mode: parameters.mode,
        like,
        hash: parameters.hash,
        layout: parameters.layout,
        seed: parameters.seed,
        buckets,
        noprefixroute: parameters.noprefixroute,
        lock: parameters.lock,
        drain_s: parameters.drain_s,
        manager: parameters.manager.clone(),
    };
    let vip = draft.complete();
    vip.map_err(|error| Failure::new(Code::Configured, error))
}
