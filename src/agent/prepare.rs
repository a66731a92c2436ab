//! What an action needs before it changes anything: the namespace and the privilege; for a start and validate-all the
//! whole description, and a host on which it can be. Nothing is changed here.

use super::carrier::require_link;
use super::describe::describe;
use super::exit::{Code, Failure};
use super::parameters::{Essentials, Parameters};
use crate::host::apply::StepError;
use crate::host::observe::{Kernel, ObserveError};
use crate::host::place::{Place, PlaceError, installed_place, like, place};
use crate::host::second_lock;
use crate::model::bucket::BucketCount;
use crate::model::mac::Mac;
use crate::model::predecessor::{Like, Predecessor};
use crate::model::untrusted::Untrusted;
use crate::model::vip::Vip;
use crate::sys::netns::{self, Home, NetnsError};
use crate::sys::process::has_cap_net_admin;
use crate::sys::route::{RouteError, RouteSocket};

/// Enters the namespace that was named, if one was; the one that was left then.
pub(super) fn enter_namespace(name: Option<&Untrusted>) -> Result<Option<Home>, NetnsError> {
    name.map(|name| netns::enter(name.raw())).transpose()
}

/// Only who may change the network can do anything.
pub(super) fn privileged(action: &str) -> Result<(), Failure> {
    match has_cap_net_admin() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(
            Code::Permission,
            format!("{action} needs the capability CAP_NET_ADMIN; run it as root"),
        )),
        Err(error) => Err(Failure::new(Code::Generic, error).passing(true)),
    }
}

/// Without the privilege: what a start here would say of the description, if this host has a place for
/// it. Where it has none, or in another namespace, nothing is known of the interface and the network.
pub(super) fn described_if_known(
    parameters: &Parameters,
    buckets: BucketCount,
) -> Result<(), Failure> {
    let (nic, prefix) = (parameters.nic.as_ref(), parameters.prefix);
    if parameters.network_namespace.is_some() {
        return Ok(());
    }
    let found = RouteSocket::open()
        .map_err(PlaceError::from)
        .and_then(|mut route| {
            let place = place(&mut route, parameters.ip, nic, prefix, None)?;
            let like = like_before(&mut route, parameters, &place)?;
            Ok((place, like))
        });
    match found {
        Ok((place, like)) => describe(parameters, place, like, buckets).map(|_| ()),
        Err(_) => Ok(()),
    }
}

/// What the predecessor would have found here, if the VIP is to be shared as it shared it.
fn like_before(
    route: &mut RouteSocket,
    parameters: &Parameters,
    place: &Place,
) -> Result<Option<Like>, RouteError> {
    let predecessor = parameters.compat.0;
    let told = parameters.broadcast.as_deref();
    predecessor
        .map(|predecessor| like(route, predecessor, told, parameters.ip, place))
        .transpose()
}

/// The MAC that the VIP had from a predecessor, as far as it can be known.
pub(super) fn mac_of_old(kernel: &mut Kernel, essentials: &Essentials) -> Option<Mac> {
    let Essentials {
        ip, nic, prefix, ..
    } = essentials;
    let predecessor = essentials.predecessor?;
    let told = essentials.broadcast.as_ref().map(Untrusted::raw);
    let place = place(&mut kernel.route, *ip, nic.as_ref(), *prefix, None).ok()?;
    let like = like(&mut kernel.route, predecessor, told, *ip, &place).ok()?;
    Some(like.derived(*ip, place.prefix).mac)
}

/// The MAC that IPaddr2 would derive for a VIP that is here.
pub(super) fn former_mac(kernel: &mut Kernel, parameters: &Parameters, vip: &Vip) -> Option<Mac> {
    let told = parameters.broadcast.as_deref();
    let (nic, prefix) = (vip.nic.clone(), vip.prefix);
    let like = like(
        &mut kernel.route,
        Predecessor::Ipaddr2,
        told,
        vip.address,
        &Place { nic, prefix },
    );
    Some(like.ok()?.derived(vip.address, prefix).mac)
}

/// The VIP that a start here would bring up, or why it cannot.
pub(super) fn prepared(
    kernel: &mut Kernel,
    parameters: &Parameters,
    buckets: BucketCount,
) -> Result<Vip, Failure> {
    let (ip, nic, prefix) = (parameters.ip, parameters.nic.as_ref(), parameters.prefix);
    let installed = installed_place(&mut kernel.nft, ip, nic, prefix);
    let installed = installed.map_err(ObserveError::from)?;
    let place = place(&mut kernel.route, ip, nic, prefix, installed.as_ref())?;
    let like = like_before(&mut kernel.route, parameters, &place);
    let like = like.map_err(PlaceError::from)?;
    let vip = describe(parameters, place, like, buckets)?;
    require_link(kernel, parameters, &vip)?;
    second_lock::ready(&vip).map_err(|error| {
        let error = StepError::Lock(error);
        Failure::new(Code::Installed, &error).passing(error.passes())
    })?;
    Ok(vip)
}
