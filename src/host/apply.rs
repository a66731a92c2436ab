//! Doing one step of a plan. No step decides anything.

use super::agreement::{Disagreement, agree};
use super::announce::{Announcements, announce};
use super::observe::{Kernel, flow_of};
use super::second_lock;
use crate::model::host::{NicState, Observed};
use crate::model::mac::Mac;
use crate::model::network::Network;
use crate::model::predecessor::Predecessor;
use crate::model::vip::{Nic, longest_prefix};
use crate::plan::stale::silence;
use crate::plan::step::Step;
use crate::rules::addressing::{ROUTE_METRIC, ROUTE_PROTOCOL};
use crate::sys::connections::{Connection, abort};
use crate::sys::errno::passes;
use crate::sys::mcast::{self, McastError};
use crate::sys::nft::NftError;
use crate::sys::route::{Family, NewAddress, NewRoute, RouteError, lost_with};
use crate::sys::sysctl::{self, Key, SysctlError, SysctlPath};
use std::net::IpAddr;
use tracing::warn;

/// How to behave towards others on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manners {
    /// How often the VIP is announced.
    pub announcements: Announcements,
    /// Ask whether others agree with the description before the VIP comes up.
    pub ask: bool,
    /// A predecessor that shares the VIP under the same MAC is no disagreement.
    pub beside: Option<Predecessor>,
}

/// Why a step could not be done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A change of the rules.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// A change of addresses.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// A unicast MAC cannot be received.
    #[error(
        "{nic} cannot receive {mac}, a unicast MAC beside its own, as a macvlan cannot unless it is passthru: use the \
         mode multicast, or another interface: {source}"
    )]
    Filter {
        /// The interface.
        nic: Nic,
        /// The MAC.
        mac: Mac,
        /// What the kernel said.
        source: RouteError,
    },
    /// A change of memberships.
    #[error(transparent)]
    Mcast(#[from] McastError),
    /// The second lock.
    #[error(
        "set drop_unicast_in_l2_multicast=\"false\" (nodectl: --without-second-lock), or make it \
         writable: {0}"
    )]
    Lock(SysctlError),
    /// Another setting.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// Somebody on the link does not agree.
    #[error(transparent)]
    Disagreement(#[from] Disagreement),
    /// The interface vanished between looking and doing.
    #[error("the interface {0} has just vanished; try again when it is there")]
    Vanished(Nic),
}

impl StepError {
    /// Is it that something was lacking at that moment, or that others were faster?
    pub fn passes(&self) -> bool {
        match self {
            StepError::Nft(error) => error.passes(),
            StepError::Route(error) | StepError::Filter { source: error, .. } => error.passes(),
            StepError::Mcast(error) => passes(error.errno()),
            StepError::Lock(error) | StepError::Sysctl(error) => passes(error.errno()),
            StepError::Disagreement(Disagreement::Packet(error)) => passes(error.errno()),
            StepError::Disagreement(_) => false,
            StepError::Vanished(_) => true,
        }
    }
}

/// Does a step. `generation` is that of the rules; it is kept up to date.
pub fn apply(
    kernel: &mut Kernel,
    observed: &Observed,
    step: &Step,
    generation: &mut u32,
    manners: Manners,
) -> Result<(), StepError> {
    let index = |nic: &Nic| {
        let state = observed.nics.get(nic.as_str());
        state.ok_or_else(|| StepError::Vanished(nic.clone()))
    };
    match step {
        Step::Agree(vip, when) => {
            if manners.ask {
                agree(vip, index(&vip.nic)?, *when, manners.beside)?;
            }
        }
        Step::Rules(changes) => {
            *generation = kernel.nft.apply(changes, *generation)?;
        }
        Step::Lock { nic, family, on } => {
            let path = second_lock::path(nic.as_str(), Family::of(family))?;
            sysctl::write(&path, i32::from(*on)).map_err(StepError::Lock)?;
        }
        Step::Join { nic, mac } if mac.is_multicast() => mcast::join(nic.as_str(), mac.0)?,
        Step::Join { nic, mac } => {
            let done = kernel.route.let_in(index(nic)?.index, mac.0);
            done.map_err(|source| StepError::Filter {
                nic: nic.clone(),
                mac: *mac,
                source,
            })?;
        }
        Step::LeaveMac { nic, mac } if mac.is_multicast() => mcast::leave(nic.as_str(), mac.0)?,
        Step::LeaveMac { nic, mac } => {
            kernel.route.shut_out(index(nic)?.index, mac.0)?;
        }
        Step::JoinGroup { nic, group } => {
            let mut new = NewAddress::new(index(nic)?.index, (*group).into(), 32);
            new.joins = true;
            kernel.route.add_address(&new)?;
        }
        Step::SetUp(nic) => kernel.route.set_up(index(nic)?.index)?,
        Step::AddAddress(vip) => {
            let prefix = longest_prefix(vip.address);
            let mut new = NewAddress::new(index(&vip.nic)?.index, vip.address, prefix);
            new.label = vip.label.clone();
            kernel.route.add_address(&new)?;
        }
        Step::AddRoute { nic, network } => {
            kernel.route.add_route(&route(index(nic)?, *network))?;
        }
        Step::DeleteRoute { nic, network } => {
            kernel.route.delete_route(&route(index(nic)?, *network))?;
        }
        Step::Abort(address, flows) => {
            let stale = |connection: &Connection| flows.contains(&flow_of(connection));
            // A kernel that cannot do that leaves them to themselves.
            if let Err(error) = abort(*address, stale) {
                warn!("{error}");
            }
        }
        Step::Silence(address, flows) => kernel.nft.add_unseen(silence(*address, flows))?,
        // It is the caller who looks, for what is planned hangs on it.
        Step::Look(..) => {}
        Step::Lifetime {
            nic,
            address,
            prefix,
            valid_s,
        } => {
            let mut new = NewAddress::new(index(nic)?.index, *address, *prefix);
            new.valid_s = *valid_s;
            kernel.route.replace_address(&new)?;
        }
        Step::DeleteAddress {
            nic,
            address,
            prefix,
        } => delete_address(kernel, nic, index(nic)?.index, *address, *prefix)?,
        Step::Announce(vip) => {
            let state = index(&vip.nic)?;
            let Some(mac) = state.mac else {
                return Ok(());
            };
            // Neighbours ask when they need to know; nobody depends on being told.
            if let Err(error) = announce(vip, state.index, mac, manners.announcements) {
                warn!("{} is not announced: {error}", vip.address);
            }
        }
    }
    Ok(())
}

/// A route of ours.
fn route(state: &NicState, network: Network) -> NewRoute {
    NewRoute {
        index: state.index,
        network,
        table: state.table,
        protocol: ROUTE_PROTOCOL,
        metric: ROUTE_METRIC,
    }
}

/// Deletes the address, and nothing else: an IPv4 address that came first in its network would take
/// the others with it, so for that moment they are promoted; and the last one of an interface takes the
/// routes by it, which are brought back.
fn delete_address(
    kernel: &mut Kernel,
    nic: &Nic,
    index: u32,
    address: IpAddr,
    prefix: u8,
) -> Result<(), StepError> {
    let all = kernel.route.addresses(Some(index), None)?;
    let is_last = all.iter().filter(|held| held.addr.is_ipv4()).count() == 1;
    let others = match address {
        IpAddr::V4(gone) if is_last => kernel.route.save_routes(index, gone),
        _ => Ok(Vec::new()),
    };
    // Whatever is with them, the address goes.
    let others = others.unwrap_or_else(|error| {
        warn!("routes may go with the last address of {nic}: {error}");
        Vec::new()
    });
    let mut delete = || kernel.route.delete_address(index, address, prefix);
    let deleted = match lost_with(&all, index, address, prefix).is_empty() {
        true => delete(),
        false => {
            let path = SysctlPath::new(Family::V4, nic.as_str(), Key::PromoteSecondaries)?;
            sysctl::while_set(&path, 1, delete)?
        }
    };
    for error in kernel.route.restore(&others) {
        warn!("a route went with the last address of {nic}: {error}");
    }
    deleted?;
    Ok(())
}
