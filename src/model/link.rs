//! Interfaces as far as frames pass by them: what they are made of, which bridge they are a port of, and what that lets
//! through. Pure data; `sys::route` fills it.

use super::untrusted::Untrusted;
use std::net::IpAddr;

/// An interface of this network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: Untrusted,
    /// What makes it: `bridge`, `macvtap`, `veth` …; hardware has none.
    pub kind: Option<String>,
    /// The bus at which hardware is: `pci`, `virtio` … Linux 5.14 and later tell.
    pub bus: Option<String>,
    /// Is it Ethernet, with a MAC of its own?
    pub ethernet: bool,
    /// Does it resolve no neighbours (`IFF_NOARP`)?
    pub noarp: bool,
    /// Can it receive what is for groups (`IFF_MULTICAST`)?
    pub multicast: bool,
    /// Does it receive what is for all groups (`IFF_ALLMULTI`)?
    pub allmulticast: bool,
    /// Is an XDP program attached to it?
    pub xdp: bool,
    /// Has it a place for filters and programs of tc (`clsact`, `ingress`)?
    pub tc: bool,
    /// What it stands on, or a veth's other end.
    pub parent: Parent,
    /// The number of the interface that it is a port, slave or member of.
    pub master: Option<u32>,
    /// A macvlan or macvtap that has its parent for itself (`passthru`).
    pub passthru: bool,
    /// Of a bridge, how it forwards.
    pub bridge: Option<Bridge>,
    /// Of a bridge, the permanent entries in its group table: the number of the port, and the address.
    pub permanent_groups: Vec<(u32, IpAddr)>,
    /// Of a bridge's port, what gets through it.
    pub port: Option<Port>,
}

/// What an interface stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parent {
    /// Nothing else.
    #[default]
    None,
    /// The interface of this number.
    Here(u32),
    /// One in another network namespace.
    Elsewhere,
}

/// How a Linux bridge treats what is for groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bridge {
    /// Does it look who is in which group?
    pub snooping: bool,
    /// And that in each VLAN by itself?
    pub by_vlan: bool,
    /// Does it ask itself, or has it heard an IPv4 querier?
    pub querier_ip4: bool,
    /// The same for IPv6.
    pub querier_ip6: bool,
    /// Does it get itself what is for groups that it does not know (`mcast_router 2`)?
    pub router: bool,
}

/// What a bridge lets through one of its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// What is for unicast addresses that the bridge does not know.
    pub flood: bool,
    /// What is for groups that it does not know.
    pub mcast_flood: bool,
    /// What is for groups, whoever is in them (`mcast_router 2`).
    pub router: bool,
    /// Is it kept from other ports like it?
    pub isolated: bool,
    /// Does the bridge answer questions for neighbours in the place of who is behind it?
    pub neigh_suppress: bool,
}

impl Default for Port {
    /// As the kernel makes it.
    fn default() -> Self {
        Port {
            flood: true,
            mcast_flood: true,
            router: false,
            isolated: false,
            neigh_suppress: false,
        }
    }
}
