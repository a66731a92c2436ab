//! What a file that nft has saved left here when the node was booted with it. Pure.

use super::installed::addresses;
use super::loaded::is_loaded;
use crate::model::host::Observed;
use std::net::IpAddr;

/// Are the VIP's rules all that is here of it, and from a file? So they are after the node was booted with a
/// saved ruleset.
pub fn is_left_over(observed: &Observed, vip: IpAddr) -> bool {
    let held = |address| {
        observed
            .nics
            .values()
            .any(|nic| nic.held(address).is_some())
    };
    is_loaded(&observed.rules) && !held(vip)
}

/// Are all rules for VIPs on this interface left over? Then they know nothing of it.
pub(crate) fn knows_nothing_of(observed: &Observed, nic: &str) -> bool {
    let state = observed.nics.get(nic);
    let held = |vip| state.is_some_and(|state| state.held(vip).is_some());
    is_loaded(&observed.rules) && !addresses(&observed.rules).into_iter().any(held)
}
