//! Where a VIP goes, when it is not said: the interface and the prefix of the connected route.

use crate::model::vip::{Nic, VipError, longest_prefix};
use crate::sys::route::{ConnectedRoute, Family, RouteError, RouteSocket};
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
    NoInterface(Nic),
    /// The interface of the route has a name that cannot be written.
    #[error(transparent)]
    Name(#[from] VipError),
    /// The kernel would not tell.
    #[error(transparent)]
    Route(#[from] RouteError),
}

/// The interface and the prefix: those that were given, and for the rest those of the most specific
/// connected route that has the address, as IPaddr2's findif does.
pub fn place(
    route: &mut RouteSocket,
    ip: IpAddr,
    nic: Option<&Nic>,
    prefix: Option<u8>,
) -> Result<Place, PlaceError> {
    let index = match nic {
        None => None,
        Some(nic) => match route.link(nic.as_str())? {
            Some(link) if link.name == nic.as_str() => Some(link.index),
            _ => return Err(PlaceError::NoInterface(nic.clone())),
        },
    };
    if let (Some(nic), Some(prefix)) = (nic, prefix) {
        let nic = nic.clone();
        return Ok(Place { nic, prefix });
    }
    let routes = route.connected_routes(Family::of(&ip))?;
    let Some(best) = best_route(&routes, ip, index) else {
        return Err(match nic {
            None => PlaceError::NoRoute(ip),
            Some(nic) => PlaceError::NotOnNic {
                ip,
                nic: nic.clone(),
            },
        });
    };
    let nic = match nic {
        Some(nic) => nic.clone(),
        None => {
            let links = route.links()?;
            let link = links.iter().find(|link| link.index == best.oif);
            let link = link.ok_or(PlaceError::NoRoute(ip))?;
            link.name.parse()?
        }
    };
    let prefix = prefix.unwrap_or(best.prefix);
    Ok(Place { nic, prefix })
}

/// The most specific route that has the address, of equal ones that with the least metric. A route
/// to the address alone says nothing about its network, and neither does one to everywhere.
fn best_route(routes: &[ConnectedRoute], ip: IpAddr, nic: Option<u32>) -> Option<&ConnectedRoute> {
    let longest = longest_prefix(ip);
    routes
        .iter()
        .filter(|route| nic.is_none_or(|nic| nic == route.oif))
        .filter(|route| (1..longest).contains(&route.prefix) && contains(route, ip))
        .max_by_key(|route| (route.prefix, std::cmp::Reverse(route.metric)))
}

fn contains(route: &ConnectedRoute, ip: IpAddr) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let ((network, a), (address, b)) = (bits(route.dst), bits(ip));
    let differing = (network ^ address).leading_zeros();
    a == b && differing >= u32::from(route.prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_network_wins() {
        let route = |dst: &str, prefix, oif, metric| ConnectedRoute {
            dst: dst.parse().expect("address"),
            prefix,
            oif,
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
