//! Looking at the host: our tables, and the interfaces that matter to our VIPs.

use crate::model::host::{Held, NicState, Observed};
use crate::model::mac::Mac;
use crate::model::vip::Nic;
use crate::plan::installed::{addresses, installed};
use crate::sys::mcast::{self, McastError};
use crate::sys::nft::{NftError, NftSocket};
use crate::sys::route::{Address, Family, Link, RouteError, RouteSocket};
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
        for link in links.into_values() {
            let state = state_of(&link, &held)?;
            observed.nics.insert(link.name, state);
        }
        observed.rules = snapshot.rules;
        Ok((observed, snapshot.generation))
    }
}

fn state_of(link: &Link, all: &[Address]) -> Result<NicState, ObserveError> {
    let addresses = all.iter().filter(|address| address.index == link.index);
    let held = addresses.map(|address| Held {
        address: address.addr,
        prefix: address.prefix,
        label: address.label.clone().filter(|label| *label != link.name),
        noprefixroute: address.noprefixroute,
        secondary: address.secondary,
        deprecated: address.deprecated,
        unusable: address.tentative || address.dad_failed,
    });
    let memberships = mcast::memberships(&link.name)?;
    let by_hand = memberships.iter().filter(|membership| membership.global);
    Ok(NicState {
        index: link.index,
        mac: link.mac.map(Mac),
        admin_up: link.admin_up,
        carrier: link.carrier,
        addresses: held.collect(),
        memberships: by_hand.map(|membership| Mac(membership.mac)).collect(),
        lock_ip4: locked(&link.name, Family::V4)?,
        lock_ip6: locked(&link.name, Family::V6)?,
    })
}

/// The second lock of an interface; `None` where the family is switched off.
fn locked(nic: &str, family: Family) -> Result<Option<bool>, SysctlError> {
    let path = SysctlPath::new(family, nic, Key::DropUnicastInL2Multicast)?;
    Ok(sysctl::read(&path)?.map(|value| value != 0))
}
