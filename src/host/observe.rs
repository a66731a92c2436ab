//! Looking at the host: our tables, and the interfaces that matter to our VIPs.

use super::place::find_link;
use super::second_lock;
use crate::model::hash::Flow;
use crate::model::host::{Beneath, Connection, Held, Master, NicState, Observed, Route};
use crate::model::link::Parent;
use crate::model::mac::Mac;
use crate::model::ruleset::Family;
use crate::model::vip::{Nic, NicName};
use crate::reading::installed::{addresses, find, installed};
use crate::rules::addressing::ROUTE_PROTOCOL;
use crate::rules::adopting;
use crate::rules::leaving::flow_of_bytes;
use crate::rules::names::{flows_set, stale_set};
use crate::sys::connections::{self, ConnectionsError};
use crate::sys::errno::passes;
use crate::sys::mcast::{self, McastError};
use crate::sys::nft::{NftError, NftSocket};
use crate::sys::route::{
    self, Address, ConnectedRoute, Interface, MAIN_TABLE, RouteError, RouteSocket, SCOPE_HOST,
};
use crate::sys::sysctl::{self, Key, SysctlError, SysctlPath};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Why the host cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// nf_tables.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// Links and addresses.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// Memberships.
    #[error(transparent)]
    Mcast(#[from] McastError),
    /// The second lock.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// TCP connections.
    #[error(transparent)]
    Connections(#[from] ConnectionsError),
}

impl ObserveError {
    /// Is it that something was lacking at that moment, or that others were faster?
    pub fn passes(&self) -> bool {
        match self {
            ObserveError::Nft(error) => error.passes(),
            ObserveError::Route(error) => error.passes(),
            ObserveError::Mcast(error) => passes(error.errno()),
            ObserveError::Sysctl(error) => passes(error.errno()),
            ObserveError::Connections(error) => passes(error.source.raw_os_error()),
        }
    }
}

/// The sockets through which the host is looked at and changed.
pub struct Kernel {
    /// nf_tables.
    pub nft: NftSocket,
    /// Links and addresses.
    pub route: RouteSocket,
}

impl Kernel {
    /// Opens the sockets, in the network namespace of this thread.
    pub fn open() -> Result<Self, ObserveError> {
        Ok(Kernel {
            nft: NftSocket::open()?,
            route: RouteSocket::open()?,
        })
    }

    /// The interface that a configuration names. Where there is none of that name, it is the name that it
    /// would have, if it can be one.
    pub fn nic_of(&mut self, name: Option<&NicName>) -> Result<Option<Nic>, ObserveError> {
        let Some(name) = name else {
            return Ok(None);
        };
        Ok(match find_link(&mut self.route, name)? {
            Some(link) => link.name.parse().ok(),
            None => name.plain(),
        })
    }

    /// What is there, and the generation of the rules: of this interface, of every one that an
    /// installed VIP names, and of every one that has this address or an installed VIP's, whatever
    /// its name is by now.
    pub fn observe(
        &mut self,
        nic: Option<&Nic>,
        address: Option<IpAddr>,
    ) -> Result<(Observed, u32), ObserveError> {
        let snapshot = self.nft.snapshot()?;
        let held = self.route.addresses(None, None)?;
        let vips: BTreeSet<IpAddr> = addresses(&snapshot.rules)
            .into_iter()
            .chain(address)
            .collect();
        let known = installed(&snapshot.rules);
        let names: BTreeSet<&str> = known
            .iter()
            .map(|known| known.vip.nic.as_str())
            .chain(nic.map(Nic::as_str))
            .collect();
        let mut links = BTreeMap::new();
        for name in names {
            // An alternative name is not the one that nf_tables knows.
            if let Some(link) = self.route.link(name)?.filter(|link| link.name == name) {
                links.insert(link.index, link);
            }
        }
        let holds = |index: &u32| !links.contains_key(index);
        let holders = held.iter().filter(|held| vips.contains(&held.addr));
        let others: BTreeSet<u32> = holders.map(|held| held.index).filter(holds).collect();
        if !others.is_empty() {
            let all = self.route.links()?.into_iter();
            let others = all.filter(|link| others.contains(&link.index));
            links.extend(others.map(|link| (link.index, link)));
        }
        let mut observed = Observed::default();
        let families: BTreeSet<bool> = vips.iter().map(IpAddr::is_ipv4).collect();
        for link in links.into_values() {
            let mut state = state_of(&link, &held)?;
            let filter = self.route.filter(link.index)?.into_iter();
            state.memberships.extend(filter.map(Mac));
            if let Some(index) = link.master {
                self.look_at_master(index, &mut state)?;
            }
            state.beneath = beneath(&mut self.route, &link)?;
            for is_ipv4 in &families {
                let family = if *is_ipv4 {
                    route::Family::V4
                } else {
                    route::Family::V6
                };
                let routes = self.route.routes_of(link.index, state.table, family)?;
                state.routes.extend(routes.into_iter().map(|route| Route {
                    network: route.network,
                    ours: route.protocol == ROUTE_PROTOCOL,
                }));
            }
            observed.nics.insert(link.name, state);
        }
        observed.rules = snapshot.rules;
        Ok((observed, snapshot.generation))
    }

    /// A VRF only has a routing table of its own; anything else takes the interface's frames.
    fn look_at_master(&mut self, index: u32, state: &mut NicState) -> Result<(), ObserveError> {
        // It may be in another namespace, or just gone.
        let master = self.route.link_at(index)?;
        match master.as_ref().and_then(|master| master.vrf_table) {
            Some(table) => state.table = table,
            None => {
                let named =
                    |name: Option<String>| name.unwrap_or_else(|| "unknown".to_owned()).into();
                let (name, kind) = master.map_or((None, None), |it| (Some(it.name), it.kind));
                let (name, kind) = (named(name), named(kind));
                state.master = Some(Master { name, kind });
            }
        }
        Ok(())
    }

    /// The node's TCP connections to a VIP that come in by its interface: none from the node itself, nor
    /// from networks that another interface is connected to, such as containers'.
    pub fn connections(
        &mut self,
        observed: &Observed,
        vip: IpAddr,
    ) -> Result<Vec<Connection>, ObserveError> {
        let own = self.route.addresses(None, None)?;
        let own: BTreeSet<IpAddr> = own.into_iter().map(|held| held.addr).collect();
        let nic = find(&observed.rules, vip).map(|found| found.vip.nic);
        let nic = nic.and_then(|nic| observed.nics.get(nic.as_str()));
        let index = nic.map(|state| state.index);
        let networks = self.route.connected_routes(route::Family::of(&vip))?;
        let elsewhere = |client: IpAddr| {
            let is_in =
                |net: &&ConnectedRoute| net.network.prefix() > 0 && net.network.contains(client);
            let reached = networks.iter().filter(is_in);
            let best = reached.clone().map(|net| net.network.prefix()).max();
            // Of two interfaces in one network either may be the way.
            let mut ways = reached.filter(|net| Some(net.network.prefix()) == best);
            best.is_some() && index.is_some_and(|index| ways.all(|net| net.oif != index))
        };
        let all = connections::to(vip)?.into_iter();
        Ok(all
            .filter(|found| !own.contains(&found.client.ip()) && !elsewhere(found.client.ip()))
            .map(|found| Connection {
                flow: flow_of(&found),
                alive: found.alive,
            })
            .collect())
    }

    /// The flows that stay while buckets of a VIP leave.
    pub fn flows(&mut self, vip: IpAddr) -> Result<BTreeSet<Flow>, ObserveError> {
        self.flows_in(Family::Netdev, &flows_set(vip))
    }

    /// The flows of which this node has only something left, while buckets of a VIP are adopted.
    pub fn stale(&mut self, vip: IpAddr) -> Result<BTreeSet<Flow>, ObserveError> {
        self.flows_in(adopting::family(vip), &stale_set(vip))
    }

    fn flows_in(&mut self, family: Family, set: &str) -> Result<BTreeSet<Flow>, ObserveError> {
        let keys = self.nft.keys(family, set)?;
        Ok(keys.iter().filter_map(|key| flow_of_bytes(key)).collect())
    }
}

/// What of a connection enters the hash.
pub fn flow_of(found: &connections::Connection) -> Flow {
    Flow {
        source: found.client.ip(),
        source_port: found.client.port(),
        destination_port: found.port,
    }
}

/// Of what a macvlan or ipvlan is made on, whether it keeps silent.
fn beneath(route: &mut RouteSocket, link: &Interface) -> Result<Option<Beneath>, ObserveError> {
    let lower = match beside(link.kind.as_deref(), link.parent) {
        Some(index) => route.link_at(index)?,
        None => None,
    };
    let beneath = lower.map(|lower| silence_of(&lower.name)).transpose();
    Ok(beneath?)
}

/// The number of the interface that an interface of this kind is made on, if that takes multicast frames beside it.
pub(super) fn beside(kind: Option<&str>, parent: Parent) -> Option<u32> {
    match (kind, parent) {
        (Some("macvlan" | "ipvlan"), Parent::Here(index)) => Some(index),
        _ => None,
    }
}

/// Whether an interface beneath keeps silent.
pub(super) fn silence_of(name: &str) -> Result<Beneath, SysctlError> {
    // Of IPv4 the setting of all interfaces counts as well (IN_DEV_ORCONF).
    let all = locked("all", route::Family::V4)? == Some(true);
    Ok(Beneath {
        lock_ip4: locked(name, route::Family::V4)?.map(|locked| locked || all),
        lock_ip6: locked(name, route::Family::V6)?,
        name: name.into(),
    })
}

fn state_of(link: &Interface, all: &[Address]) -> Result<NicState, ObserveError> {
    let addresses = all.iter().filter(|address| address.index == link.index);
    let held = addresses.map(|address| Held {
        address: address.addr,
        prefix: address.prefix,
        label: address.label.clone().filter(|label| *label != link.name),
        noprefixroute: address.noprefixroute,
        secondary: address.secondary,
        no_source: match address.addr {
            IpAddr::V4(_) => address.scope == SCOPE_HOST,
            IpAddr::V6(_) => address.deprecated,
        },
        unusable: address.tentative || address.dad_failed,
        valid_s: address.valid_s,
    });
    let ip6 = SysctlPath::new(route::Family::V6, &link.name, Key::DisableIpv6)?;
    let memberships = mcast::memberships(&link.name)?;
    let by_hand = memberships.iter().filter(|membership| membership.global);
    Ok(NicState {
        index: link.index,
        mac: link.mac.map(Mac),
        master: None,
        beneath: None,
        table: MAIN_TABLE,
        routes: Vec::new(),
        admin_up: link.admin_up,
        carrier: link.carrier,
        addresses: held.collect(),
        memberships: by_hand.map(|membership| Mac(membership.mac)).collect(),
        lock_ip4: locked(&link.name, route::Family::V4)?,
        lock_ip6: locked(&link.name, route::Family::V6)?,
        ip6_off: sysctl::read(&ip6)? != Some(0),
    })
}

/// The second lock of an interface; `None` where the family is switched off.
fn locked(nic: &str, family: route::Family) -> Result<Option<bool>, SysctlError> {
    let path = second_lock::path(nic, family)?;
    Ok(sysctl::read(&path)?.map(|value| value != 0))
}
