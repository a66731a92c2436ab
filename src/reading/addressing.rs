//! How a VIP's address stands here, and whether there is a way to its network; how it should be is
//! `rules::addressing`'s. Pure.

use crate::model::host::{Held, NicState, Observed};
use crate::model::network::Network;
use crate::model::vip::Vip;
use crate::rules::addressing::{is_right, needed_route};
use std::net::IpAddr;

/// Is the address as it should be, or as version 0.1.0 had it: with the network's prefix, behind the node's own address, or
/// without a route behind another one? The next start puts that right.
pub fn is_sound(state: &NicState, held: &Held, vip: &Vip) -> bool {
    let as_it_was = match vip.address {
        IpAddr::V4(_) => {
            let is_primary = |other: &&Held| other.address.is_ipv4() && !other.secondary;
            let first = state.addresses.iter().find(is_primary);
            let is_behind = held.secondary || held.noprefixroute && first != Some(held);
            is_behind && held.label == vip.label
        }
        IpAddr::V6(_) => held.no_source && !held.unusable,
    };
    is_right(held, vip) || as_it_was && held.prefix == vip.prefix
}

/// Is there no way to the VIP's network, although there could be?
pub fn is_cut_off(observed: &Observed, vip: &Vip) -> bool {
    let state = observed.nics.get(vip.nic.as_str());
    let needed = |state: &NicState| {
        let network = needed_route(state, vip);
        state.admin_up && network.is_some_and(|network| !reaches(state, &network))
    };
    state.is_some_and(needed)
}

/// Does the interface reach this network, by whomever's route?
pub fn reaches(state: &NicState, network: &Network) -> bool {
    let mut routes = state.routes.iter();
    routes.any(|route| route.network == *network)
}
