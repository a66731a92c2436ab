//! Links, addresses and connected routes, over rtnetlink.
//!
//! Synchronous: every call is one conversation with the kernel and ends by
//! itself, at the latest [`ANSWER_TIMEOUT_S`] after the last sign of life. What
//! should be there, and in which order it is put there or taken away, is not
//! decided here.
//!
//! The socket belongs to the network namespace in which it was opened, and
//! goes on belonging to it when the process enters another one.

mod decode;
mod error;
mod types;
mod wire;

use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteHeader, RouteMessage};
use tracing::debug;

pub use error::RouteError;
pub use types::{
    Added, Address, ConnectedRoute, Deleted, Family, Link, NAME_MAX, NewAddress, derived_broadcast,
    lost_with,
};
use wire::{Answer, Wire, malformed};

/// How long a sign of life of the kernel is waited for, in seconds.
pub const ANSWER_TIMEOUT_S: i64 = 5;

/// The longest alternative interface name, in bytes (`ALTIFNAMSIZ` less its
/// terminating zero).
const ALT_NAME_MAX: usize = 127;
const IFLA_ALT_IFNAME: u16 = 53;
const FOREVER: u32 = u32::MAX;

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
    pub fn links(&mut self) -> Result<Vec<Link>, RouteError> {
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
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, RouteError> {
        if name.is_empty() || name.len() > ALT_NAME_MAX || name.contains('\0') {
            return Ok(None);
        }
        let what = format!("look up network interface {name:?}");
        let mut message = link_request();
        message.attributes.push(if name.len() <= NAME_MAX {
            LinkAttribute::IfName(name.to_owned())
        } else {
            let zero_terminated = [name.as_bytes(), b"\0"].concat();
            LinkAttribute::Other(DefaultNla::new(IFLA_ALT_IFNAME, zero_terminated))
        });
        match self.wire.get(RouteNetlinkMessage::GetLink(message), &what) {
            Ok(answers) => Ok(decoded(&answers, &what, decode::link)?.into_iter().next()),
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
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.wire
            .change(RouteNetlinkMessage::SetLink(message), 0, &what)?;
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

    /// Adds an address, with global scope. An IPv6 one is added without
    /// duplicate address detection and with a preferred lifetime of 0
    /// (deprecated: it answers, and is never chosen as a source; RFC 6724 §5
    /// rule 3). IPv4 has no such lock: there the kernel chooses the first
    /// fitting primary address.
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
        let message = RouteNetlinkMessage::NewAddress(new_address(new, &what)?);
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
        let message = RouteNetlinkMessage::NewAddress(new_address(new, &what)?);
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
        let mut message = AddressMessage::default();
        message.header.family = Family::of(&addr).wire();
        message.header.prefix_len = checked_prefix(addr, prefix, &what)?;
        message.header.index = index;
        message.attributes = vec![
            AddressAttribute::Local(addr),
            AddressAttribute::Address(addr),
        ];
        match self
            .wire
            .change(RouteNetlinkMessage::DelAddress(message), 0, &what)
        {
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
        let answers = match self
            .wire
            .dump(RouteNetlinkMessage::GetRoute(message), &what)
        {
            // A namespace without any address has no main table yet.
            Err(error) if error.errno() == Some(libc::ENOENT) || nothing_there(&error) => {
                return Ok(Vec::new());
            }
            other => other?,
        };
        decoded(&answers, &what, |answer| decode::connected(answer, family))
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

fn invalid(what: &str, why: String) -> RouteError {
    RouteError::Invalid {
        what: what.to_owned(),
        why,
    }
}

fn checked_prefix(addr: IpAddr, prefix: u8, what: &str) -> Result<u8, RouteError> {
    let family = Family::of(&addr);
    if prefix > family.bits() {
        let why = format!("an {family} prefix has at most {} bits", family.bits());
        return Err(invalid(what, why));
    }
    Ok(prefix)
}

fn new_address(new: &NewAddress, what: &str) -> Result<AddressMessage, RouteError> {
    let mut message = AddressMessage::default();
    message.header.family = Family::of(&new.addr).wire();
    message.header.prefix_len = checked_prefix(new.addr, new.prefix, what)?;
    message.header.index = new.index;
    let add = &mut message.attributes;
    add.push(AddressAttribute::Local(new.addr));
    add.push(AddressAttribute::Address(new.addr));
    let mut flags = AddressFlags::empty();
    if new.noprefixroute || (new.addr.is_ipv6() && new.valid_s.is_some()) {
        flags |= AddressFlags::Noprefixroute;
    }
    let valid = match new.valid_s {
        Some(0) => {
            return Err(invalid(
                what,
                "a lifetime of 0 s would end it at once".into(),
            ));
        }
        Some(seconds) => seconds,
        None => FOREVER,
    };
    let mut lifetimes = CacheInfo::default();
    lifetimes.ifa_valid = valid;
    if new.addr.is_ipv6() {
        flags |= AddressFlags::Nodad;
        lifetimes.ifa_preferred = 0;
    } else {
        lifetimes.ifa_preferred = valid;
        if let Some(broadcast) = new.broadcast {
            add.push(AddressAttribute::Broadcast(broadcast));
        }
        if let Some(label) = &new.label {
            if label.is_empty() || label.len() > NAME_MAX || label.contains('\0') {
                let why = format!("a label has 1 to {NAME_MAX} bytes, {label:?} does not");
                return Err(invalid(what, why));
            }
            add.push(AddressAttribute::Label(label.clone()));
        }
    }
    add.push(AddressAttribute::Flags(flags));
    add.push(AddressAttribute::CacheInfo(lifetimes));
    Ok(message)
}
