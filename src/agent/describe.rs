//! From parameters to a VIP's whole description.

use super::exit::{Code, Failure};
use super::parameters::Parameters;
use crate::host::place::Place;
use crate::model::bucket::BucketCount;
use crate::model::draft::Draft;
use crate::model::vip::Vip;

/// The whole description of the VIP, checked.
pub fn describe(
    parameters: &Parameters,
    place: Place,
    buckets: BucketCount,
) -> Result<Vip, Failure> {
    let draft = Draft {
        address: parameters.ip,
        prefix: place.prefix,
        label: parameters.label.clone(),
        nic: place.nic,
        mac: parameters.mac,
        mode: parameters.mode,
        hasher: parameters.hasher,
        buckets,
        noprefixroute: parameters.noprefixroute,
        lock: parameters.lock,
        drain_s: parameters.drain_s,
        manager: parameters.manager.clone(),
    };
    let vip = draft.complete();
    vip.map_err(|error| Failure::new(Code::Configured, error))
}
