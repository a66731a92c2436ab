//! How a VIP's address stands on its interface, the way to its network, and who needs a membership. Pure.
//!
//! A VIP must never be the source of the node's own connections, for their answers would be hashed to
//! another node; and it must not depend on other addresses, nor they on it. The kernel ties IPv4
//! addresses of one network and prefix length together (`net/ipv4/devinet.c`: the first is the primary
//! one, its route names it as the source, and the others go with it), and IPv6 addresses to the one
//! route of their network (`net/ipv6/addrconf.c`, `check_cleanup_prefix_route()`). So a VIP is a host's
//! address, of 32 or 128 bits, tied to nothing: an IPv4 one of scope host, which
//! `inet_select_addr()` passes over, an IPv6 one deprecated and without a route.
//!
//! The way to the VIP's network is a route of ours without a source, so that the kernel takes one of the
//! node's own. Its metric is so large that any other route to the network comes first, whoever brings
//! it and whenever. Where the interface reaches more than the network anyway there is none of ours: it
//! would come before that route.

use crate::model::host::{Held, NicState};
use crate::model::mac::Mac;
use crate::model::network::Network;
use crate::model::vip::{Vip, longest_prefix};
use std::net::{IpAddr, Ipv4Addr};

/// Who our routes are from (`rtm_protocol`): a number that neither the kernel's `rtnetlink.h` nor
/// iproute2's `rt_protos` gives to anybody else.
pub const ROUTE_PROTOCOL: u8 = 67;
/// Behind all that the kernel (256), NetworkManager (100 to 20,000 more) or people use.
pub const ROUTE_METRIC: u32 = 1_000_000_000;

/// Is the address as it should be?
pub(crate) fn is_right(held: &Held, vip: &Vip) -> bool {
    let family = match vip.address {
        IpAddr::V4(_) => held.label == vip.label,
        IpAddr::V6(_) => held.noprefixroute && !held.unusable,
    };
    family && held.no_source && held.prefix == longest_prefix(vip.address)
}

/// Is the interface in a group by an address of the group's own?
pub(crate) fn is_in_group(state: &NicState, group: Ipv4Addr) -> bool {
    let mut forms = state.forms(group.into());
    forms.any(|held| held.prefix == 32)
}

/// The address by which we have joined a group, if it is there: no source, as all of ours.
pub(crate) fn joined(state: &NicState, group: Ipv4Addr) -> Option<&Held> {
    let mut forms = state.forms(group.into());
    forms.find(|held| held.prefix == 32 && held.no_source)
}

/// Does the VIP need a membership of its own, or does the kernel join its group by itself?
pub fn needs_membership(vip: &Vip) -> bool {
    vip.address.is_ipv4() || vip.mac != Mac::of_group(vip.address)
}

/// The network to which the VIP needs a way, if the interface does not reach more than that anyway.
pub fn needed_route(state: &NicState, vip: &Vip) -> Option<Network> {
    let network = vip.network()?;
    let wider = |route: &Network| !route.is_trivial() && route.is_wider_than(&network);
    // Another VIP's route of ours goes with it.
    let mut others = state.routes.iter().filter(|route| !route.ours);
    let is_covered = others.any(|route| wider(&route.network));
    (!is_covered).then_some(network)
}
