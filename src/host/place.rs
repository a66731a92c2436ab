//! Where a VIP goes: the interface that was named, or that of the connected route; and the prefix of that
//! route, where none was given.

use crate::model::vip::{Nic, NicName, NoNic};
use crate::reading::installed::find;
use crate::reading::loaded::is_loaded;
use crate::rules::addressing::ROUTE_PROTOCOL;
use crate::sys::nft::{NftError, NftSocket};
use crate::sys::route::{ConnectedRoute, Family, Link, RouteError, RouteSocket};
use std::net::IpAddr;

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
pub fn find_link(route: &mut RouteSocket, nic: &NicName) -> Result<Option<Link>, RouteError> {
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

/// The most specific route that has the address, of equal ones that with the least metric. A route
/// to the address alone says nothing about its network, and neither does one to everywhere.
fn best_route(routes: &[ConnectedRoute], ip: IpAddr, nic: Option<u32>) -> Option<&ConnectedRoute> {
    routes
        .iter()
        .filter(|route| nic.is_none_or(|nic| nic == route.oif))
        .filter(|route| !route.network.is_trivial() && route.network.contains(ip))
        .max_by_key(|route| (route.network.prefix(), std::cmp::Reverse(route.metric)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network::Network;

    #[test]
    fn the_most_specific_network_wins() {
        let route = |dst: &str, prefix, oif, metric| ConnectedRoute {
            network: Network::of(dst.parse().expect("address"), prefix),
            oif,
            table: 254,
            protocol: 2,
            dead: false,
            metric,
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
