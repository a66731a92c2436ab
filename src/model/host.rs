//! What was found on this host, as far as VIPs are concerned. Pure data; `host::observe` fills it.

use super::hash::Flow;
use super::l2_mode::L2Mode;
use super::mac::Mac;
use super::network::Network;
use super::ruleset::Ruleset;
use super::untrusted::Untrusted;
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
    /// The flows of which this node has only something left, if they were asked for.
    pub stale: Option<BTreeSet<Flow>>,
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
    /// The interface that takes its frames, if it is a port or slave of one.
    pub master: Option<Master>,
    /// The interface that gets its frames too, if there is one.
    pub beneath: Option<Beneath>,
    /// The routing table that its routes are in: the main one, or that of its VRF.
    pub table: u32,
    /// Is it administratively up?
    pub admin_up: bool,
    /// Does it have a carrier, or not know?
    pub carrier: bool,
    /// Its addresses.
    pub addresses: Vec<Held>,
    /// The networks that it reaches without a router, of the families that matter.
    pub routes: Vec<Route>,
    /// The MACs in its filter beyond its own: multicast ones that were added by hand (`SIOCADDMULTI`), not by a
    /// group, and unicast ones.
    pub memberships: BTreeSet<Mac>,
    /// The second lock, `drop_unicast_in_l2_multicast`, for IPv4; `None` where there is none.
    pub lock_ip4: Option<bool>,
    /// The same for IPv6.
    pub lock_ip6: Option<bool>,
    /// Is IPv6 switched off on it (`disable_ipv6`), or in this kernel?
    pub ip6_off: bool,
}

/// What takes an interface's frames before IP sees them. A VRF is none: it only chooses the routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// Its name.
    pub name: Untrusted,
    /// What it is: `bridge`, `bond`, `team`, `openvswitch` …
    pub kind: Untrusted,
}

/// What an interface is made on, where that hands frames for a multicast MAC to IP besides passing them on: macvlan and ipvlan
/// do (`macvlan_handle_frame()`, `ipvlan_handle_frame()`). No rule at its ingress can help, for it is before both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beneath {
    /// Its name.
    pub name: Untrusted,
    /// Does it drop unicast packets in multicast frames, IPv4? `None` where it has no IPv4.
    pub lock_ip4: Option<bool>,
    /// The same for IPv6.
    pub lock_ip6: Option<bool>,
}

impl Beneath {
    /// Would it answer what comes to this address in a frame for a multicast MAC?
    pub fn answers(&self, address: IpAddr) -> bool {
        let lock = match address {
            IpAddr::V4(_) => self.lock_ip4,
            IpAddr::V6(_) => self.lock_ip6,
        };
        lock == Some(false)
    }
}

/// A connected route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub network: Network,
    /// Is it one of ours?
    pub ours: bool,
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
    /// Does the kernel not choose it as a source? So IPv4's of scope host, and IPv6's that are deprecated.
    pub no_source: bool,
    /// IPv6: is it not (yet, or any more) usable?
    pub unusable: bool,
    /// In how many seconds the kernel removes it, if it does.
    pub valid_s: Option<u32>,
}

impl NicState {
    /// This address as the interface has it.
    pub fn held(&self, address: IpAddr) -> Option<&Held> {
        self.forms(address).next()
    }

    /// The same with every prefix: an IPv4 address can be there with several.
    pub fn forms(&self, address: IpAddr) -> impl Iterator<Item = &Held> {
        let addresses = self.addresses.iter();
        addresses.filter(move |held| held.address == address)
    }

    /// Is there a route of ours to exactly this network?
    pub fn has_route_of_ours(&self, network: &Network) -> bool {
        let mut routes = self.routes.iter();
        routes.any(|route| route.ours && route.network == *network)
    }

    /// The interface beneath that would answer for every bucket of this address, if it is shared in this mode.
    pub fn answers_beneath(&self, address: IpAddr, mode: L2Mode) -> Option<&Untrusted> {
        let beneath = self.beneath.as_ref()?;
        let answers = beneath.answers(address) && mode.locks_by_sysctl();
        answers.then_some(&beneath.name)
    }

    /// The second lock of the address's family.
    pub fn lock(&self, address: IpAddr) -> Option<bool> {
        match address {
            IpAddr::V4(_) => self.lock_ip4,
            IpAddr::V6(_) => self.lock_ip6,
        }
    }

    /// Is this address here without a sign that it is a VIP? Without its rules a VIP is known by what
    /// survives a flush of them: an IPv4 one by its membership on this interface (of scope host it is, too,
    /// but so are other programs' addresses), an IPv6 one by being deprecated. Another VIP may need the
    /// same membership (`shared`): then only both signs together count. Whatever has none may be the node's
    /// own, or another program's, and is not touched.
    pub fn is_own(&self, address: IpAddr, cluster_mac: Mac, shared: bool) -> bool {
        self.held(address).is_some_and(|held| match address {
            IpAddr::V4(_) => {
                let is_member = self.memberships.contains(&cluster_mac);
                !(is_member && (held.no_source || !shared))
            }
            IpAddr::V6(_) => !held.no_source,
        })
    }

    /// The interface as it is once these addresses are gone.
    pub fn without(&self, gone: &[&Held]) -> Self {
        let mut then = self.clone();
        then.addresses.retain(|held| !gone.contains(&held));
        then
    }

    /// Can the kernel remove the address by itself, and nothing else goes with it? A primary IPv4 address
    /// takes its secondary ones along, and an interface's last one all IPv4 routes by the interface.
    pub fn can_end(&self, held: &Held) -> bool {
        let network = Network::of(held.address, held.prefix);
        let goes = |other: &Held| {
            other.secondary && other.prefix == held.prefix && network.contains(other.address)
        };
        let mut others = self.addresses.iter().filter(|other| *other != held);
        let stays = |other: &Held| other.address.is_ipv4() && other.valid_s.is_none();
        let is_last = !others.any(stays);
        held.address.is_ipv6() || !is_last && (held.secondary || !self.addresses.iter().any(goes))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An interface that is up, with nothing on it.
    pub(crate) fn an_interface() -> NicState {
        NicState {
            index: 2,
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            admin_up: true,
            carrier: true,
            lock_ip4: Some(false),
            lock_ip6: Some(false),
            ..NicState::default()
        }
    }

    /// An address as somebody adds it.
    pub(crate) fn an_address(text: &str, prefix: u8) -> Held {
        Held {
            address: text.parse().expect("an address"),
            prefix,
            label: None,
            noprefixroute: false,
            secondary: false,
            no_source: false,
            unusable: false,
            valid_s: None,
        }
    }
}
