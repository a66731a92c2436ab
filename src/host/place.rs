//! Where a VIP goes: the interface that was named, or that of the connected route; and the prefix of that
//! route, where none was given.

use crate::model::predecessor::{Like, Predecessor};
use crate::model::vip::{Nic, NicName, NoNic};
use crate::reading::installed::find;
use crate::reading::loaded::is_loaded;
use crate::rules::addressing::ROUTE_PROTOCOL;
use crate::sys::nft::{NftError, NftSocket};
use crate::sys::route::{
    Address, ConnectedRoute, Family, Interface, RouteError, RouteSocket, SCOPE_HOST,
};
use std::cmp::Reverse;
use std::net::IpAddr;

/// The protocol of routes of which nobody says one (`RTPROT_BOOT`); 'ip route' does not print it.
const RTPROT_BOOT: u8 = 3;

/// Where a VIP goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The interface.
    pub nic: Nic,
    /// The length of the network's prefix.
    pub prefix: u8,
}

/// Why no place was found.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// No network of this host has the address.
    #[error(
        "{0} is in no network that this host is connected to; set nic and cidr_netmask (nodectl: --nic, VIP/PREFIX), or give the host an address in the VIP's network"
    )]
    NoRoute(IpAddr),
    /// The interface is in no network that has the address.
    #[error(
        "{nic} is in no network that has {ip}; set cidr_netmask (nodectl: VIP/PREFIX), or check nic"
    )]
    NotOnNic {
        /// The VIP.
        ip: IpAddr,
        /// The interface that was named.
        nic: Nic,
    },
    /// The interface does not exist.
    #[error("there is no interface {0}; 'ip link' shows those that exist")]
    NoInterface(NicName),
    /// The interface of the route has a name that cannot be written.
    #[error(transparent)]
    Name(#[from] NoNic),
    /// The kernel would not tell.
    #[error(transparent)]
    Route(#[from] RouteError),
}

/// The interface that a configuration names, whichever of its names that is.
pub fn find_link(route: &mut RouteSocket, nic: &NicName) -> Result<Option<Interface>, RouteError> {
    for name in nic.names() {
        if let Some(link) = route.link(name)? {
            return Ok(Some(link));
        }
    }
    Ok(None)
}

/// Where the VIP is already, if it is here; looked for only where the interface or the prefix was not given.
pub fn installed_place(
    nft: &mut NftSocket,
    ip: IpAddr,
    nic: Option<&NicName>,
    prefix: Option<u8>,
) -> Result<Option<Place>, NftError> {
    if nic.is_some() && prefix.is_some() {
        return Ok(None);
    }
    let snapshot = nft.snapshot()?;
    // What a file has loaded knows nothing of this host.
    let found = find(&snapshot.rules, ip).filter(|_| !is_loaded(&snapshot.rules));
    Ok(found.map(|found| Place {
        nic: found.vip.nic,
        prefix: found.vip.prefix,
    }))
}

/// The interface and the prefix: those that were given, and for the rest those of `installed`, where the
/// VIP is here already, or of the most specific connected route that has the address, as IPaddr2's findif
/// does. Our own routes are none: they come and go with VIPs.
pub fn place(
    route: &mut RouteSocket,
    ip: IpAddr,
    nic: Option<&NicName>,
    prefix: Option<u8>,
    installed: Option<&Place>,
) -> Result<Place, PlaceError> {
    let link = match nic {
        None => None,
        Some(nic) => {
            let link = find_link(route, nic)?;
            Some(link.ok_or_else(|| PlaceError::NoInterface(nic.clone()))?)
        }
    };
    let index = link.as_ref().map(|link| link.index);
    let nic = link.map(|link| link.name.parse::<Nic>()).transpose()?;
    let known = installed.filter(|known| nic.as_ref().is_none_or(|nic| *nic == known.nic));
    let nic = nic.or_else(|| known.map(|known| known.nic.clone()));
    let prefix = prefix.or_else(|| known.map(|known| known.prefix));
    if let (Some(nic), Some(prefix)) = (&nic, prefix) {
        let nic = nic.clone();
        return Ok(Place { nic, prefix });
    }
    let mut routes = route.connected_routes(Family::of(&ip))?;
    routes.retain(|route| route.protocol != ROUTE_PROTOCOL);
    let Some(best) = best_route(&routes, ip, index) else {
        return Err(match nic {
            None => PlaceError::NoRoute(ip),
            Some(nic) => PlaceError::NotOnNic { ip, nic },
        });
    };
    let nic = match nic {
        Some(nic) => nic,
        None => {
            let link = route.link_at(best.oif)?;
            link.ok_or(PlaceError::NoRoute(ip))?.name.parse()?
        }
    };
    let prefix = prefix.unwrap_or(best.network.prefix());
    Ok(Place { nic, prefix })
}

/// What a predecessor would have found on this host beside its parameters: the broadcast address of the node's own address
/// in the VIP's network, by which the kernel's route there speaks (`findif()` in heartbeat/findif.sh).
pub fn like(
    route: &mut RouteSocket,
    predecessor: Predecessor,
    told: Option<&str>,
    ip: IpAddr,
    place: &Place,
) -> Result<Like, RouteError> {
    let broadcast = match (told, ip) {
        (Some(told), _) => told.to_owned(),
        (None, IpAddr::V6(_)) => String::new(),
        (None, IpAddr::V4(_)) => {
            let link = route.link(place.nic.as_str())?;
            let mut routes = route.connected_routes(Family::V4)?;
            // 'ip route list match IP/PREFIX' shows no smaller networks.
            routes.retain(|route| {
                route.protocol != ROUTE_PROTOCOL && route.network.prefix() <= place.prefix
            });
            let nic = link.map(|link| link.index);
            let best = match predecessor {
                Predecessor::ClusterIp => best_route(&routes, ip, nic),
                // The newest one's sorts by metric before it sorts by length.
                Predecessor::Ipaddr2 => fitting(&routes, ip, nic)
                    .max_by_key(|route| (Reverse(route.metric), route.network.prefix())),
            };
            let source = best.and_then(source_of);
            // No address of ours was there when it looked, nor has one a broadcast address.
            let mut all = route.addresses(None, Some(Family::V4))?;
            all.retain(|held| (held.prefix, held.scope) != (32, SCOPE_HOST));
            source
                .and_then(|source| found_by_grep(&all, source))
                .unwrap_or_default()
        }
    };
    Ok(Like {
        predecessor,
        broadcast,
    })
}

/// The source that stands where `findif()` looks for it in the line that 'ip route' prints: behind a protocol.
fn source_of(route: &ConnectedRoute) -> Option<IpAddr> {
    route.source.filter(|_| route.protocol != RTPROT_BOOT)
}

/// The broadcast address of the first address in whose line the source occurs, as in `ip -o address show | grep SOURCE`:
/// that is not always the source's own.
fn found_by_grep(all: &[Address], source: IpAddr) -> Option<String> {
    let source = source.to_string();
    let broadcast = |address: &Address| {
        address
            .broadcast
            .map_or(String::new(), |brd| brd.to_string())
    };
    let mut all = all.iter();
    let found = all.find(|address| {
        let line = format!(
            "{}/{} brd {}",
            address.addr,
            address.prefix,
            broadcast(address)
        );
        line.contains(&source)
    });
    found.map(broadcast)
}

/// The most specific route that has the address, of equal ones that with the least metric. A route
/// to the address alone says nothing about its network, and neither does one to everywhere.
fn best_route(routes: &[ConnectedRoute], ip: IpAddr, nic: Option<u32>) -> Option<&ConnectedRoute> {
    fitting(routes, ip, nic).max_by_key(|route| (route.network.prefix(), Reverse(route.metric)))
}

fn fitting(
    routes: &[ConnectedRoute],
    ip: IpAddr,
    nic: Option<u32>,
) -> impl Iterator<Item = &ConnectedRoute> {
    routes
        .iter()
        .filter(move |route| nic.is_none_or(|nic| nic == route.oif))
        .filter(move |route| !route.network.is_trivial() && route.network.contains(ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network::Network;
    use crate::sys::route::tests::an_address;

    #[test]
    fn the_broadcast_address_is_that_of_whom_grep_finds_first() {
        let address = |addr: [u8; 4], broadcast: Option<[u8; 4]>| Address {
            broadcast: broadcast.map(Into::into),
            ..an_address(addr.into())
        };
        let own = address([10, 77, 0, 1], Some([10, 77, 0, 255]));
        let bare = address([10, 77, 0, 1], None);
        let longer = address([10, 77, 0, 12], Some([10, 77, 0, 127]));
        let source = [10, 77, 0, 1].into();
        let found = |all: &[&Address]| {
            let all: Vec<Address> = all.iter().map(|address| (*address).clone()).collect();
            found_by_grep(&all, source)
        };
        assert_eq!(found(&[&own]).as_deref(), Some("10.77.0.255"));
        assert_eq!(found(&[&bare]).as_deref(), Some(""));
        assert_eq!(found(&[&longer, &own]).as_deref(), Some("10.77.0.127"));
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn the_most_specific_network_wins() {
        let route = |dst: &str, prefix, oif, metric| ConnectedRoute {
            network: Network::of(dst.parse().expect("address"), prefix),
            oif,
            table: 254,
            protocol: 2,
            dead: false,
            metric,
            source: None,
        };
        let routes = [
            route("0.0.0.0", 0, 9, 0),
            route("10.0.0.0", 8, 1, 0),
            route("10.77.0.0", 24, 2, 100),
            route("10.77.0.0", 24, 3, 0),
            route("10.77.0.99", 32, 4, 0),
            route("10.78.0.0", 24, 5, 0),
        ];
        let ip = "10.77.0.99".parse().expect("address");
        let oif = |nic| best_route(&routes, ip, nic).map(|route| route.oif);
        assert_eq!(oif(None), Some(3));
        assert_eq!(oif(Some(2)), Some(2));
        assert_eq!(oif(Some(1)), Some(1));
        assert_eq!(oif(Some(5)), None);
        assert_eq!(oif(Some(9)), None);
    }
}
