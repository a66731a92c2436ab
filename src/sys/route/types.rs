//! The nouns of rtnetlink: links, addresses, routes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::model::link::Parent;
use crate::model::network::Network;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::RouteHeader;

/// The longest interface name and the longest address label, in bytes
/// (`IFNAMSIZ` less its terminating zero).
pub const NAME_MAX: usize = 15;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(addr: &IpAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The length of its addresses, in bits: 32 or 128.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    pub(super) fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    pub(super) fn wire(self) -> AddressFamily {
        match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The interface index, 1 or more.
    pub index: u32,
    /// Its name, never an alternative one.
    pub name: String,
    /// Its link-layer address; `None` where the interface is not Ethernet
    /// (loopback, tunnels, InfiniBand).
    pub mac: Option<[u8; 6]>,
    /// Somebody has set it up (`IFF_UP`).
    pub admin_up: bool,
    /// Its operational state is neither DOWN nor LOWERLAYERDOWN. UNKNOWN counts
    /// as carrier: drivers that report none are in it for ever (RFC 2863,
    /// `Documentation/networking/operstates.rst`). A change may take a second to
    /// show, and an interface that was never set up may be UNKNOWN too: look at
    /// `admin_up` as well.
    pub carrier: bool,
    /// A loopback interface (`IFF_LOOPBACK`).
    pub loopback: bool,
    /// Resolves no neighbours (`IFF_NOARP`).
    pub noarp: bool,
    /// What it is made on (`IFLA_LINK`: of a VLAN, a macvlan …), or a veth's other end.
    pub parent: Parent,
    /// The index of the interface that this one is a port, slave or member of (`IFLA_MASTER`).
    pub master: Option<u32>,
    /// What makes it: `bridge`, `bond`, `vlan`, `vrf` … (`IFLA_INFO_KIND`); hardware has none.
    pub kind: Option<String>,
    /// The routing table of a VRF.
    pub vrf_table: Option<u32>,
    /// The largest packet, in bytes.
    pub mtu: u32,
}

/// An address of an interface, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The index of its interface.
    pub index: u32,
    /// The node's own address (on point-to-point links not the peer's).
    pub addr: IpAddr,
    /// The prefix length, in bits.
    pub prefix: u8,
    /// IPv4: the broadcast address of its network, if the address has one and no peer.
    pub broadcast: Option<Ipv4Addr>,
    /// IPv4: the label, by default the interface's name.
    pub label: Option<String>,
    /// IPv4: an earlier address of the same subnet and prefix length is the
    /// primary one. Always false for IPv6, where the same bit means
    /// "temporary" (RFC 8981).
    pub secondary: bool,
    /// Its preferred lifetime is over: never chosen as a source, answers
    /// nevertheless (RFC 4862 §5.5.4).
    pub deprecated: bool,
    /// IPv6: duplicate address detection has not ended, or has failed.
    pub tentative: bool,
    /// IPv6: another node has the address.
    pub dad_failed: bool,
    /// IPv6: duplicate address detection was not done.
    pub nodad: bool,
    /// The address brought no connected route with it.
    pub noprefixroute: bool,
    /// Seconds until it is deprecated, 0 where it is; `None`: never.
    pub preferred_s: Option<u32>,
    /// Seconds until the kernel removes it; `None`: never.
    pub valid_s: Option<u32>,
    /// The scope: 0 global, 200 site, 253 link, 254 host.
    pub scope: u8,
}

/// An address that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAddress {
    /// The index of the interface.
    pub index: u32,
    /// The address.
    pub addr: IpAddr,
    /// The prefix length, in bits: at most 32 or 128.
    pub prefix: u8,
    /// IPv4: a label of at most [`NAME_MAX`] bytes. IPv6 has none; it is
    /// passed over.
    pub label: Option<String>,
    /// After so many seconds (1 or more) the kernel removes it; `None`: never.
    pub valid_s: Option<u32>,
    /// IPv4: it is a group's, which the kernel joins as long as the address is there (`IFA_F_MCAUTOJOIN`).
    pub joins: bool,
}

impl NewAddress {
    /// An address for ever.
    #[must_use]
    pub fn new(index: u32, addr: IpAddr, prefix: u8) -> Self {
        Self {
            index,
            addr,
            prefix,
            label: None,
            valid_s: None,
            joins: false,
        }
    }
}

/// What [`RouteSocket::add_address`](super::RouteSocket::add_address) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// The address is there now.
    Added,
    /// It was there already; nothing was changed, not its lifetime either.
    AlreadyThere,
}

/// What [`RouteSocket::delete_address`](super::RouteSocket::delete_address) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// The address is gone now.
    Deleted,
    /// Neither it nor perhaps even its interface was there.
    WasNotThere,
}

/// A network that an interface reaches without a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectedRoute {
    /// The network; everything for a default route that names an interface only.
    pub network: Network,
    /// The index of the interface.
    pub oif: u32,
    /// The routing table: 254 is the main one.
    pub table: u32,
    /// Who brought it (`rtm_protocol`): 2 the kernel, 9 router advertisements, 4 an administrator …
    pub protocol: u8,
    /// The metric (priority): the lower wins. IPv4 has 0 by default, the
    /// kernel's own IPv6 routes 256.
    pub metric: u32,
    /// The address with which the node speaks to that network, if the route says so.
    pub source: Option<IpAddr>,
    /// Is it passed over, for want of a carrier, say (`RTNH_F_DEAD`)?
    pub dead: bool,
}

/// A connected route that is to be, or to go: to a network, by an interface, without a preferred
/// source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRoute {
    /// The index of the interface.
    pub index: u32,
    /// The network.
    pub network: Network,
    /// The routing table.
    pub table: u32,
    /// Who brings it (`rtm_protocol`).
    pub protocol: u8,
    /// Its metric, 1 or more.
    pub metric: u32,
}

/// The main routing table (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;

/// The table as far as the header has room for it; beyond, the attribute says it.
pub(super) fn short_table(table: u32) -> u8 {
    u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC)
}

/// Scopes of addresses (`RT_SCOPE_UNIVERSE`, `RT_SCOPE_SITE`, `RT_SCOPE_HOST`).
pub const SCOPE_GLOBAL: u8 = 0;
/// See [`SCOPE_GLOBAL`].
pub const SCOPE_SITE: u8 = 200;
/// See [`SCOPE_GLOBAL`].
pub const SCOPE_HOST: u8 = 254;

/// The addresses of `all` that would go together with a deleted one: the IPv4
/// secondaries of its subnet, if it is a primary one. They stay, the first of
/// them promoted, where `promote_secondaries` is 1 for the interface or for
/// `all` (`crate::sys::sysctl`; the kernel's
/// `net/ipv4/devinet.c`, `__inet_del_ifa`). Empty where the address is not
/// there, is a secondary one, or is IPv6.
#[must_use]
pub fn lost_with(all: &[Address], index: u32, addr: IpAddr, prefix: u8) -> Vec<Address> {
    let IpAddr::V4(gone) = addr else {
        return Vec::new();
    };
    let primary =
        |a: &&Address| (a.index, a.addr, a.prefix, a.secondary) == (index, addr, prefix, false);
    if !all.iter().any(|a| primary(&a)) {
        return Vec::new();
    }
    let mask = u32::MAX
        .checked_shl(u32::from(32u8.saturating_sub(prefix)))
        .unwrap_or(0);
    let same_subnet = |other: Ipv4Addr| (other.to_bits() ^ gone.to_bits()) & mask == 0;
    let goes = |a: &&Address| match a.addr {
        IpAddr::V4(v4) => a.index == index && a.prefix == prefix && a.secondary && same_subnet(v4),
        IpAddr::V6(_) => false,
    };
    all.iter().filter(goes).cloned().collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An address of the second interface that nothing is said of.
    pub(crate) fn an_address(addr: IpAddr) -> Address {
        Address {
            index: 2,
            addr,
            prefix: 24,
            broadcast: None,
            label: None,
            secondary: false,
            deprecated: false,
            tentative: false,
            dad_failed: false,
            nodad: false,
            noprefixroute: false,
            preferred_s: None,
            valid_s: None,
            scope: 0,
        }
    }

    fn v4(text: &str, prefix: u8, secondary: bool) -> Address {
        Address {
            prefix,
            secondary,
            ..an_address(text.parse().unwrap())
        }
    }

    #[test]
    fn a_primary_takes_its_secondaries_with_it() {
        let all = [
            v4("10.77.0.1", 24, false),
            v4("10.77.0.99", 24, true),
            v4("10.77.0.98", 25, false),
            v4("10.77.1.99", 24, true),
            Address {
                index: 3,
                ..v4("10.77.0.97", 24, true)
            },
        ];
        let lost = |text: &str, prefix| lost_with(&all, 2, text.parse().unwrap(), prefix);
        assert_eq!(lost("10.77.0.1", 24), [all[1].clone()]);
        assert_eq!(lost("10.77.0.99", 24), []);
        assert_eq!(lost("10.77.0.98", 25), []);
        assert_eq!(lost("10.77.0.50", 24), []);
        assert_eq!(lost("2001:db8::1", 64), []);
    }
}
