//! From the command line to a VIP's whole description.

use super::cli::Describe;
use super::failure::{DATA, Failure};
use crate::host::observe::Kernel;
use crate::host::observe::ObserveError;
use crate::host::place::{Place, PlaceError, installed_place, like, place};
use crate::model::draft::Draft;
use crate::model::vip::{Manager, Vip, check_address};
use std::net::IpAddr;

/// The place that was found, or why there is none.
pub(super) fn placed(found: Result<Place, PlaceError>) -> Result<Place, Failure> {
    found.map_err(|error| match error {
        PlaceError::Route(error) => ObserveError::from(error).into(),
        error => Failure::new(DATA, error),
    })
}

/// What the command line describes, with the rest found on this node.
pub(super) fn described(
    kernel: &mut Kernel,
    address: IpAddr,
    prefix: Option<u8>,
    args: &Describe,
) -> Result<Vip, Failure> {
    // Before the route, so that the address is blamed.
    check_address(address).map_err(|error| Failure::new(DATA, error))?;
    let nic = args.nic.as_ref();
    let installed = installed_place(&mut kernel.nft, address, nic, prefix);
    let installed = installed.map_err(ObserveError::from)?;
    let place = place(&mut kernel.route, address, nic, prefix, installed.as_ref());
    let place = placed(place)?;
    let like = args.compat.0.map(|predecessor| {
        let told = args.broadcast.as_deref();
        like(&mut kernel.route, predecessor, told, address, &place)
    });
    let like = like.transpose().map_err(ObserveError::from)?;
    let label = args.nic.as_ref().and_then(|nic| nic.label());
    let draft = Draft {
        address,
        prefix: place.prefix,
        label: label.map(str::to_owned),
        nic: place.nic,
        mac: args.mac,
        mode: args.mode,
        like,
        hash: args.hash,
        layout: args.layout,
        seed: args.seed,
        buckets: args.buckets,
        noprefixroute: false,
        lock: !args.without_second_lock,
        drain_s: args.drain_s.unwrap_or(0),
        manager: Manager::Manual,
    };
    draft.complete().map_err(|error| Failure::new(DATA, error))
}
