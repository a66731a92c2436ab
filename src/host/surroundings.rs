//! Looking at what the checks of `preflight` judge. Whatever cannot be looked at is said to be so, and ends nothing.

use super::second_lock;
use crate::model::network::Network;
use crate::preflight::{Settings, Surroundings, Unseen, Wish};
use crate::sys::route::{Family, RouteSocket};
use crate::sys::sysctl::{self, Key, SysctlError, SysctlPath};
use std::net::IpAddr;

/// What is looked at without asking anybody but the kernel: some milliseconds at most.
pub fn at_hand(route: &mut RouteSocket, wish: &Wish) -> Surroundings {
    let links = route.ways().map_err(Unseen::because);
    let index = links.as_ref().ok().and_then(|links| {
        let nic = links.iter().find(|link| link.name == wish.nic)?;
        Some(nic.index)
    });
    let has_neighbour = index.is_some_and(|index| has_neighbour(route, index, wish.vip));
    Surroundings {
        links,
        settings: settings(wish, has_neighbour).map_err(Unseen::because),
        default_ways: route.default_ways(Family::V4).map_err(Unseen::because),
    }
}

/// Has the interface an address in whose network the VIP is?
fn has_neighbour(route: &mut RouteSocket, index: u32, vip: Option<IpAddr>) -> bool {
    let Some(vip) = vip else {
        return true;
    };
    let held = route.addresses(Some(index), Some(Family::of(&vip)));
    held.unwrap_or_default().iter().any(|held| {
        let network = Network::of(held.addr, held.prefix);
        held.addr != vip && !network.is_trivial() && network.contains(vip)
    })
}

fn settings(wish: &Wish, has_neighbour: bool) -> Result<Settings, SysctlError> {
    let nic = wish.nic.raw();
    let value = |family, nic: &str, key| sysctl::read(&SysctlPath::new(family, nic, key)?);
    let greater = |key| -> Result<i32, SysctlError> {
        let both = value(Family::V4, nic, key)?.max(value(Family::V4, "all", key)?);
        Ok(both.unwrap_or_default())
    };
    let family = wish.vip.as_ref().map_or(Family::V4, Family::of);
    let lock = second_lock::path(nic, family)?;
    let lockable = match sysctl::read(&lock)? {
        Some(0) => sysctl::check_writable(&lock, 1).is_ok(),
        _ => true,
    };
    Ok(Settings {
        rp_filter: greater(Key::RpFilter)?,
        arp_ignore: greater(Key::ArpIgnore)?,
        has_neighbour,
        lockable,
        ip6_off: value(Family::V6, nic, Key::DisableIpv6)? != Some(0),
        l3mdev_accept: sysctl::tcp_l3mdev_accept()?,
    })
}
