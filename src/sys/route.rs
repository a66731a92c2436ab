//! Links, addresses and connected routes, over rtnetlink.
//!
//! Synchronous: every call is one conversation with the kernel and ends by
//! itself, at the latest [`ANSWER_TIMEOUT_S`] after the last sign of life. What
//! should be there, and in which order it is put there or taken away, is not
//! decided here.
//!
//! The socket belongs to the network namespace in which it was opened, and
//! goes on belonging to it when the process enters another one.

mod changes;
mod decode;
mod encode;
mod error;
mod filter;
mod saved;
mod types;
mod ways;
mod wire;

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage};
use tracing::debug;

use crate::model::untrusted::shown;

pub use changes::{Changed, Changes};
pub use error::RouteError;
pub use saved::SavedRoute;
use types::short_table;
#[cfg(test)]
pub(crate) use types::tests;
pub use types::{
    Added, Address, ConnectedRoute, Deleted, Family, Interface, MAIN_TABLE, NAME_MAX, NewAddress,
    NewRoute, SCOPE_GLOBAL, SCOPE_HOST, SCOPE_SITE, lost_with,
};
pub use wire::ANSWER_TIMEOUT_S;
use wire::{Answer, Wire, malformed};

/// The longest alternative interface name, in bytes (`ALTIFNAMSIZ` less its
/// terminating zero).
const ALT_NAME_MAX: usize = 127;
const IFLA_ALT_IFNAME: u16 = 53;

/// An open conversation with rtnetlink. Calls take `&mut self`, for the socket
/// has one conversation at a time.
pub struct RouteSocket {
    wire: Wire,
}

impl RouteSocket {
    /// Opens a socket in the present network namespace. Needs no privilege;
    /// changing something needs CAP_NET_ADMIN.
    ///
    /// # Errors
    /// [`RouteError::Open`], for instance without free file descriptors.
    pub fn open() -> Result<Self, RouteError> {
        Wire::open().map(|wire| Self { wire })
    }

    /// All interfaces of the namespace.
    ///
    /// # Errors
    /// As every reading here: [`RouteError::Refused`], [`RouteError::Io`],
    /// [`RouteError::Timeout`], [`RouteError::Malformed`], and
    /// [`RouteError::Interrupted`] where the list changes faster than it can
    /// be read.
    pub fn links(&mut self) -> Result<Vec<Interface>, RouteError> {
        let what = "list the network interfaces";
        let answers = self
            .wire
            .dump(RouteNetlinkMessage::GetLink(link_request()), what)?;
        decoded(&answers, what, decode::link)
    }

    /// The interface of a name, which may be an alternative one (`ip link
    /// property`); `None` where there is none, or nothing can have that name.
    ///
    /// # Errors
    /// As [`links`](Self::links), without `Interrupted`.
    pub fn link(&mut self, name: &str) -> Result<Option<Interface>, RouteError> {
        if name.is_empty() || name.len() > ALT_NAME_MAX || name.contains('\0') {
            return Ok(None);
        }
        let what = format!("look up network interface '{}'", shown(name));
        let mut message = link_request();
        message.attributes.push(if name.len() <= NAME_MAX {
            LinkAttribute::IfName(name.to_owned())
        } else {
            let zero_terminated = [name.as_bytes(), b"\0"].concat();
            LinkAttribute::Other(DefaultNla::new(IFLA_ALT_IFNAME, zero_terminated))
        });
        self.one_link(message, &what)
    }

    /// The interface of an index, if there is one.
    ///
    /// # Errors
    /// As [`links`](Self::links), without `Interrupted`.
    pub fn link_at(&mut self, index: u32) -> Result<Option<Interface>, RouteError> {
        let what = format!("look up the network interface of index {index}");
        let mut message = link_request();
        message.header.index = index;
        self.one_link(message, &what)
    }

    fn one_link(
        &mut self,
        message: LinkMessage,
        what: &str,
    ) -> Result<Option<Interface>, RouteError> {
        match self.wire.get(RouteNetlinkMessage::GetLink(message), what) {
            Ok(answers) => Ok(decoded(&answers, what, decode::link)?.into_iter().next()),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets an interface up.
    ///
    /// # Errors
    /// [`RouteError::Refused`] (EPERM without CAP_NET_ADMIN, ENODEV without the interface),
    /// [`RouteError::Io`], [`RouteError::Timeout`], [`RouteError::Malformed`].
    pub fn set_up(&mut self, index: u32) -> Result<(), RouteError> {
        let what = format!("set interface index {index} up");
        let message = RouteNetlinkMessage::SetLink(encode::up(index));
        self.wire.change(message, 0, &what)?;
        debug!("{what}: done");
        Ok(())
    }

    /// The addresses of one interface or of all, of one family or of both, in
    /// the kernel's order (of one subnet the primary one comes first). An
    /// interface that is not there has none.
    ///
    /// # Errors
    /// As [`links`](Self::links).
    pub fn addresses(
        &mut self,
        index: Option<u32>,
        family: Option<Family>,
    ) -> Result<Vec<Address>, RouteError> {
        let what = match index {
            Some(index) => format!("list the addresses of interface index {index}"),
            None => "list the addresses".to_owned(),
        };
        let mut message = AddressMessage::default();
        message.header.family = family.map(Family::wire).unwrap_or_default();
        message.header.index = index.unwrap_or(0);
        let answers = match self
            .wire
            .dump(RouteNetlinkMessage::GetAddress(message), &what)
        {
            Err(error) if nothing_there(&error) => return Ok(Vec::new()),
            other => other?,
        };
        // Kernels without strict checking send all interfaces', and one
        // without IPv6 sends IPv4's when asked for IPv6's.
        let mut found = decoded(&answers, &what, decode::address)?;
        found.retain(|a| {
            index.is_none_or(|wanted| a.index == wanted)
                && family.is_none_or(|wanted| Family::of(&a.addr) == wanted)
        });
        Ok(found)
    }

    /// Adds an address that the kernel does not choose as a source by itself, and that brings no
    /// connected route. An IPv6 one is added without duplicate address detection and with a
    /// preferred lifetime of 0 (deprecated: it answers, and is chosen only where there is no other
    /// of its scope; RFC 6724 §5 rules 2 and 3). An IPv4 one gets scope host, which
    /// `inet_select_addr()` (`net/ipv4/devinet.c`) passes over for every other destination than
    /// this host; its prefix should be 32, with any other it has a route all the same, and is the
    /// primary or a secondary address of its network.
    ///
    /// *There already* means, for IPv4, the same address with the same prefix
    /// length; for IPv6 the same address with any.
    ///
    /// # Errors
    /// [`RouteError::Invalid`] for a prefix, label or lifetime that cannot be;
    /// else [`RouteError::Refused`] (EPERM without CAP_NET_ADMIN, ENODEV
    /// without the interface, EACCES where IPv6 is switched off on it),
    /// [`RouteError::Io`], [`RouteError::Timeout`], [`RouteError::Malformed`].
    pub fn add_address(&mut self, new: &NewAddress) -> Result<Added, RouteError> {
        let what = format!(
            "add {}/{} to interface index {}",
            new.addr, new.prefix, new.index
        );
        let message = RouteNetlinkMessage::NewAddress(encode::new_address(new, &what)?);
        match self.wire.change(message, NLM_F_CREATE | NLM_F_EXCL, &what) {
            Ok(()) => {
                debug!("{what}: done");
                Ok(Added::Added)
            }
            Err(error) if error.errno() == Some(libc::EEXIST) => Ok(Added::AlreadyThere),
            Err(error) => Err(error),
        }
    }

    /// Gives an address the lifetime of `new`; adds it where it is not there
    /// (the kernel knows no other way, so a caller that must not add holds its
    /// lock and looks first). Of an IPv4 address nothing but the lifetime
    /// changes.
    ///
    /// The kernel removes the address at the earliest when the time is over,
    /// and up to half a second later. An IPv4 primary address takes its
    /// secondaries with it then, as when it is deleted.
    ///
    /// # Errors
    /// As [`add_address`](Self::add_address).
    pub fn replace_address(&mut self, new: &NewAddress) -> Result<(), RouteError> {
        let what = format!(
            "set the lifetime of {}/{} on interface index {}",
            new.addr, new.prefix, new.index
        );
        let message = RouteNetlinkMessage::NewAddress(encode::new_address(new, &what)?);
        self.wire
            .change(message, NLM_F_CREATE | NLM_F_REPLACE, &what)?;
        debug!("{what}: done");
        Ok(())
    }

    /// Deletes an address of exactly this prefix length. **Deleting an IPv4
    /// primary address takes its secondaries with it** unless
    /// `promote_secondaries` is on; ask [`lost_with`] before.
    ///
    /// # Errors
    /// [`RouteError::Invalid`] for a prefix that cannot be; else
    /// [`RouteError::Refused`] (EPERM without CAP_NET_ADMIN),
    /// [`RouteError::Io`], [`RouteError::Timeout`], [`RouteError::Malformed`].
    pub fn delete_address(
        &mut self,
        index: u32,
        addr: IpAddr,
        prefix: u8,
    ) -> Result<Deleted, RouteError> {
        let what = format!("delete {addr}/{prefix} from interface index {index}");
        let message = encode::old_address(index, addr, prefix, &what)?;
        let message = RouteNetlinkMessage::DelAddress(message);
        match self.wire.change(message, 0, &what) {
            Ok(()) => {
                debug!("{what}: done");
                Ok(Deleted::Deleted)
            }
            Err(error) if nothing_there(&error) => Ok(Deleted::WasNotThere),
            Err(error) => Err(error),
        }
    }

    /// The connected routes of the main table (254): unicast, alive, with one
    /// interface and no gateway; for IPv4 of scope link, for IPv6 neither
    /// link-local nor multicast.
    ///
    /// # Errors
    /// As [`links`](Self::links).
    pub fn connected_routes(&mut self, family: Family) -> Result<Vec<ConnectedRoute>, RouteError> {
        let what = format!("list the {family} routes of the main table");
        let mut message = RouteMessage::default();
        message.header.address_family = family.wire();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        let mut found = self.connected(message, family, &what)?;
        found.retain(|route| route.table == MAIN_TABLE && !route.dead);
        Ok(found)
    }

    /// The connected routes of one interface in one table, as
    /// [`connected_routes`](Self::connected_routes), dead ones too. The kernel looks for them, so that a large
    /// table costs little.
    ///
    /// # Errors
    /// As [`links`](Self::links).
    pub fn routes_of(
        &mut self,
        index: u32,
        table: u32,
        family: Family,
    ) -> Result<Vec<ConnectedRoute>, RouteError> {
        let what = format!("list the {family} routes of interface index {index} in table {table}");
        let mut message = RouteMessage::default();
        message.header.address_family = family.wire();
        message.header.table = short_table(table);
        message.attributes = vec![RouteAttribute::Table(table), RouteAttribute::Oif(index)];
        let mut found = self.connected(message, family, &what)?;
        // Kernels without strict checking (before Linux 4.20) send all.
        found.retain(|route| route.table == table && route.oif == index);
        Ok(found)
    }

    fn connected(
        &mut self,
        message: RouteMessage,
        family: Family,
        what: &str,
    ) -> Result<Vec<ConnectedRoute>, RouteError> {
        let dump = self.wire.dump(RouteNetlinkMessage::GetRoute(message), what);
        let answers = match dump {
            // A namespace without any address has no main table yet.
            Err(error) if error.errno() == Some(libc::ENOENT) || nothing_there(&error) => {
                return Ok(Vec::new());
            }
            other => other?,
        };
        decoded(&answers, what, |answer| decode::connected(answer, family))
    }

    /// All IPv4 routes by one interface that are to outlast an address, to be brought back by
    /// [`restore`](Self::restore): the kernel deletes them with the interface's last IPv4 address
    /// (`net/ipv4/fib_frontend.c`, `fib_inetaddr_event()`), whoever brought them.
    ///
    /// # Errors
    /// As [`links`](Self::links), but for routes that cannot be read: those are passed over.
    pub fn save_routes(
        &mut self,
        index: u32,
        gone: Ipv4Addr,
    ) -> Result<Vec<SavedRoute>, RouteError> {
        let what = format!("list the IPv4 routes of interface index {index}");
        let mut message = RouteMessage::default();
        message.header.address_family = Family::V4.wire();
        message.attributes = vec![RouteAttribute::Oif(index)];
        let dump = self
            .wire
            .dump(RouteNetlinkMessage::GetRoute(message), &what);
        let answers = match dump {
            Err(error) if nothing_there(&error) => return Ok(Vec::new()),
            other => other?,
        };
        let saved = |answer| saved::saved(answer, index, gone).ok().flatten();
        Ok(answers.iter().filter_map(saved).collect())
    }

    /// Adds these routes again, unless they are there. Those that could not be added, in words.
    pub fn restore(&mut self, routes: &[SavedRoute]) -> Vec<RouteError> {
        let mut left: Vec<&SavedRoute> = routes.iter().collect();
        // A route that leads elsewhere too is there yet, with a dead part. Routes of equal next hops share them
        // (`fib_find_info()`), and so the dead part, until all of them are gone.
        for route in routes.iter().filter(|route| route.has_other_ways) {
            let message = RouteNetlinkMessage::DelRoute(route.message.clone());
            if let Err(error) = self.wire.change(message, 0, &route.what) {
                debug!("{error}");
            }
        }
        loop {
            let before = left.len();
            let mut errors = Vec::new();
            // A route by a gateway can only be added after the one that leads to the gateway.
            left.retain(|route| {
                let flags = NLM_F_CREATE | NLM_F_APPEND;
                let message = RouteNetlinkMessage::NewRoute(route.message.clone());
                match self.wire.change(message, flags, &route.what) {
                    Ok(()) => false,
                    Err(error) if error.errno() == Some(libc::EEXIST) => false,
                    Err(error) => {
                        errors.push(error);
                        true
                    }
                }
            });
            if left.is_empty() || left.len() == before {
                return errors;
            }
        }
    }

    /// Adds a connected route beside whatever leads there already.
    ///
    /// # Errors
    /// [`RouteError::Refused`] (EPERM without CAP_NET_ADMIN, ENETDOWN where the interface is down,
    /// ENODEV without it), [`RouteError::Io`], [`RouteError::Timeout`], [`RouteError::Malformed`].
    pub fn add_route(&mut self, new: &NewRoute) -> Result<Added, RouteError> {
        let what = format!(
            "add a route to {} by interface index {}",
            new.network, new.index
        );
        // To append does not mind a route of somebody else's with the same metric; EEXIST is this very one.
        let flags = NLM_F_CREATE | NLM_F_APPEND;
        let message = RouteNetlinkMessage::NewRoute(encode::route(new));
        match self.wire.change(message, flags, &what) {
            Ok(()) => {
                debug!("{what}: done");
                Ok(Added::Added)
            }
            Err(error) if error.errno() == Some(libc::EEXIST) => Ok(Added::AlreadyThere),
            Err(error) => Err(error),
        }
    }

    /// Deletes exactly this route.
    ///
    /// # Errors
    /// [`RouteError::Refused`] (EPERM without CAP_NET_ADMIN), [`RouteError::Io`],
    /// [`RouteError::Timeout`], [`RouteError::Malformed`].
    pub fn delete_route(&mut self, old: &NewRoute) -> Result<Deleted, RouteError> {
        let what = format!(
            "delete the route to {} by interface index {}",
            old.network, old.index
        );
        let message = RouteNetlinkMessage::DelRoute(encode::route(old));
        match self.wire.change(message, 0, &what) {
            Ok(()) => {
                debug!("{what}: done");
                Ok(Deleted::Deleted)
            }
            Err(error) if error.errno() == Some(libc::ESRCH) || nothing_there(&error) => {
                Ok(Deleted::WasNotThere)
            }
            Err(error) => Err(error),
        }
    }
}

/// A question about links, without the statistics, which would make up most
/// of the answer (`RTEXT_FILTER_SKIP_STATS`).
fn link_request() -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

/// No such interface, address or (IPv6 switched off at boot) address family.
fn nothing_there(error: &RouteError) -> bool {
    matches!(
        error.errno(),
        Some(
            libc::ENODEV
                | libc::ENXIO
                | libc::EADDRNOTAVAIL
                | libc::EAFNOSUPPORT
                | libc::EOPNOTSUPP
        )
    )
}

fn decoded<T>(
    answers: &[Answer],
    what: &str,
    decode: impl Fn(&Answer) -> Result<Option<T>, String>,
) -> Result<Vec<T>, RouteError> {
    answers
        .iter()
        .filter_map(|answer| decode(answer).transpose())
        .collect::<Result<_, _>>()
        .map_err(|detail| malformed(what, detail))
}
