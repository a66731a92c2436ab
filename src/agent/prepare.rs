//! What an action needs before it changes anything: the namespace and the privilege; for a start and validate-all the
//! whole description, and a host on which it can be. Nothing is changed here.

use super::carrier::require_link;
use super::describe::describe;
use super::exit::{Code, Failure};
use super::parameters::Parameters;
use crate::host::apply::StepError;
use crate::host::observe::{Kernel, ObserveError};
use crate::host::place::{PlaceError, installed_place, place};
use crate::host::second_lock;
use crate::model::bucket::BucketCount;
use crate::model::untrusted::Untrusted;
use crate::model::vip::Vip;
use crate::sys::netns::{self, Home, NetnsError};
use crate::sys::process::has_cap_net_admin;
use crate::sys::route::RouteSocket;

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
        .and_then(|mut route| place(&mut route, parameters.ip, nic, prefix, None));
    match found {
        Ok(place) => describe(parameters, place, buckets).map(|_| ()),
        Err(_) => Ok(()),
    }
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
    let vip = describe(parameters, place, buckets)?;
    require_link(kernel, parameters, &vip)?;
    second_lock::ready(&vip).map_err(|error| {
        let error = StepError::Lock(error);
        Failure::new(Code::Installed, &error).passing(error.passes())
    })?;
    Ok(vip)
}
