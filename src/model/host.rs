//! What was found on this host, as far as VIPs are concerned. Pure data; `host::observe` fills it.

use super::hash::Flow;
use super::mac::Mac;
use super::ruleset::Ruleset;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What was found at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Our tables.
    pub rules: Ruleset,
    /// The interfaces that were looked at, by name. One that is not here does not exist.
    pub nics: BTreeMap<String, NicState>,
    /// The node's TCP connections to the VIP in question, if they were asked for.
    pub connections: Option<Vec<Connection>>,
    /// The flows that the VIP's set of them has, if they were asked for.
    pub flows: Option<BTreeSet<Flow>>,
    /// The kernel still holds elements that have ended, and refuses to delete the chains to which they
    /// went: it collects them once a second (`nft_rhash_gc()`), on an idle processor later.
    pub ending: bool,
}

/// A TCP connection to a VIP, as this node has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection {
    /// Whose it is, and to which port.
    pub flow: Flow,
    /// Is anything left to be said? A connection in TIME-WAIT only keeps its ports from being used
    /// again too soon.
    pub alive: bool,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NicState {
    /// Its number.
    pub index: u32,
    /// Its own link-layer address, if it has one of 48 bits.
    pub mac: Option<Mac>,
    /// Is it administratively up?
    pub admin_up: bool,
    /// Does it have a carrier, or not know?
    pub carrier: bool,
    /// Its addresses.
    pub addresses: Vec<Held>,
    /// The multicast MACs that were added by hand (`SIOCADDMULTI`), not by a group.
    pub memberships: BTreeSet<Mac>,
    /// The second lock, `drop_unicast_in_l2_multicast`, for IPv4; `None` where there is none.
    pub lock_ip4: Option<bool>,
    /// The same for IPv6.
    pub lock_ip6: Option<bool>,
}

/// An address on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The address.
    pub address: IpAddr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// Its label, if it differs from the interface's name.
    pub label: Option<String>,
    /// Was no route added with it?
    pub noprefixroute: bool,
    /// IPv4: is there another one before it in its network?
    pub secondary: bool,
    /// IPv6: is it never chosen as a source?
    pub deprecated: bool,
    /// IPv6: is it not (yet, or any more) usable?
    pub unusable: bool,
    /// In how many seconds the kernel removes it, if it does.
    pub valid_s: Option<u32>,
}

impl NicState {
    /// This address as the interface has it.
    pub fn held(&self, address: IpAddr) -> Option<&Held> {
        self.addresses.iter().find(|held| held.address == address)
    }

    /// The second lock of the address's family.
    pub fn lock(&self, address: IpAddr) -> Option<bool> {
        match address {
            IpAddr::V4(_) => self.lock_ip4,
            IpAddr::V6(_) => self.lock_ip6,
        }
    }

    /// Is this address here without a sign that it is a VIP? Without its rules a VIP is known by what
    /// survives a flush of them: its membership (IPv4), or that it is deprecated (IPv6). Whatever has
    /// no such sign may be the node's own, or another program's, and is not touched.
    pub fn is_own(&self, address: IpAddr, cluster_mac: Mac) -> bool {
        self.held(address).is_some_and(|held| match address {
            IpAddr::V4(_) => !self.memberships.contains(&cluster_mac),
            IpAddr::V6(_) => !held.deprecated,
        })
    }

    /// Must the VIP come without a route of its own? So where the node has an address in the network
    /// with another prefix: a more specific route would make the VIP the source of connections.
    pub fn has_other_route(&self, address: IpAddr, prefix: u8) -> bool {
        let reaches = |held: &&Held| held.address != address && same_network(held, address);
        self.addresses
            .iter()
            .filter(reaches)
            .any(|held| held.prefix != prefix)
    }

    /// Is this VIP the primary address of a network in which the node has an address of its own? Then
    /// the node's connections would leave with the VIP as their source, and be answered to others.
    pub fn comes_first(&self, held: &Held) -> bool {
        let behind = |other: &&Held| other.secondary && other.prefix == held.prefix;
        !held.secondary && self.neighbours(held).any(|other| behind(&other))
    }

    /// Has another IPv6 address of the same network brought the route to it?
    pub fn has_neighbour_address(&self, held: &Held) -> bool {
        let IpAddr::V6(address) = held.address else {
            return false;
        };
        let shift = 128 - u32::from(held.prefix.min(128));
        let network = |bits: u128| bits.checked_shr(shift).unwrap_or_default();
        self.addresses.iter().any(|other| match other.address {
            IpAddr::V6(v6) => {
                v6 != address
                    && other.prefix == held.prefix
                    && !other.noprefixroute
                    && other.valid_s.is_none()
                    && network(v6.to_bits()) == network(address.to_bits())
            }
            IpAddr::V4(_) => false,
        })
    }

    /// The other IPv4 addresses whose networks this address is in.
    fn neighbours(&self, of: &Held) -> impl Iterator<Item = &Held> {
        let of = of.address;
        self.addresses
            .iter()
            .filter(move |held| held.address != of && same_network(held, of))
    }
}

/// Is the IPv4 address in the network of the one that is held?
fn same_network(held: &Held, address: IpAddr) -> bool {
    let (IpAddr::V4(one), IpAddr::V4(other)) = (held.address, address) else {
        return false;
    };
    let host_bits = 32 - u32::from(held.prefix.min(32));
    let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
    (one.to_bits() ^ other.to_bits()) & mask == 0
}
