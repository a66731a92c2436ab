//! From what is to be, or to go, to rtnetlink's messages. Questions are `RouteSocket`'s own.
//!
//! Pure. What cannot be is refused here, before the kernel is asked.

use std::net::IpAddr;

use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::error::RouteError;
use super::types::{Family, NAME_MAX, NewAddress, NewRoute, short_table};

const FOREVER: u32 = u32::MAX;

/// An interface that is to be up.
pub(super) fn up(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

/// An address that is to be, or to be given another lifetime.
///
/// # Errors
/// [`RouteError::Invalid`] for a prefix, label or lifetime that cannot be.
pub(super) fn new_address(new: &NewAddress, what: &str) -> Result<AddressMessage, RouteError> {
    let mut message = AddressMessage::default();
    message.header.family = Family::of(&new.addr).wire();
    message.header.prefix_len = checked_prefix(new.addr, new.prefix, what)?;
    message.header.index = new.index;
    let add = &mut message.attributes;
    add.push(AddressAttribute::Local(new.addr));
    add.push(AddressAttribute::Address(new.addr));
    let mut flags = AddressFlags::empty();
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
        // With a route of its own and a lifetime, the network's route would get that lifetime too
        // (`net/ipv6/addrconf.c`, `modify_prefix_route`).
        flags |= AddressFlags::Nodad | AddressFlags::Noprefixroute;
        lifetimes.ifa_preferred = 0;
    } else {
        if new.joins {
            flags |= AddressFlags::Mcautojoin;
        }
        message.header.scope = AddressScope::Host;
        lifetimes.ifa_preferred = valid;
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

/// An address that is to go, of exactly this prefix length.
///
/// # Errors
/// [`RouteError::Invalid`] for a prefix that cannot be.
pub(super) fn old_address(
    index: u32,
    addr: IpAddr,
    prefix: u8,
    what: &str,
) -> Result<AddressMessage, RouteError> {
    let mut message = AddressMessage::default();
    message.header.family = Family::of(&addr).wire();
    message.header.prefix_len = checked_prefix(addr, prefix, what)?;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(addr),
        AddressAttribute::Address(addr),
    ];
    Ok(message)
}

/// A connected route that is to be, or to go.
pub(super) fn route(route: &NewRoute) -> RouteMessage {
    let mut message = RouteMessage::default();
    let network = route.network;
    message.header.address_family = Family::of(&network.address()).wire();
    message.header.destination_prefix_length = network.prefix();
    message.header.table = short_table(route.table);
    message.header.protocol = RouteProtocol::from(route.protocol);
    message.header.kind = RouteType::Unicast;
    let destination = match network.address() {
        IpAddr::V4(v4) => {
            message.header.scope = RouteScope::Link;
            RouteAddress::Inet(v4)
        }
        IpAddr::V6(v6) => {
            message.header.scope = RouteScope::Universe;
            RouteAddress::Inet6(v6)
        }
    };
    message.attributes = vec![
        RouteAttribute::Destination(destination),
        RouteAttribute::Oif(route.index),
        RouteAttribute::Table(route.table),
        RouteAttribute::Priority(route.metric),
    ];
    message
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
