//! Routes as the kernel told them, to be told to the kernel again.
//!
//! Only what has to be changed is looked at: attributes that we do not know, or that no library reads,
//! must come back as they were.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::DefaultNla;
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::decode::{
    RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_TABLE, RTA_VIA, RTM_NEWROUTE, attributes, header, number,
};
use super::types::{Family, short_table};
use super::wire::Answer;
use crate::model::network::Network;

// include/uapi/linux/rtnetlink.h
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_CACHEINFO: u16 = 12;
const RTA_NH_ID: u16 = 30;
const RT_TABLE_LOCAL: u32 = 255;
/// Of the flags of a next hop those that are told to the kernel, not by it: pervasive and on-link.
const RTNH_F_GIVEN: u8 = 2 | 4;
/// `struct rtnexthop`: its length, flags, weight, and the interface.
const RTNEXTHOP_LEN: usize = 8;

/// A route by some interface.
#[derive(Debug, Clone)]
pub struct SavedRoute {
    pub(super) message: RouteMessage,
    pub(super) what: String,
    /// Does it lead by other interfaces too? Then it is still there when its part by this one is gone.
    pub(super) has_other_ways: bool,
}

/// An IPv4 route by this interface; `None` for every other message and route, for what the kernel keeps with
/// its addresses, and for what goes with an address because it names that as the source.
///
/// # Errors
/// What is wrong with the bytes.
pub(super) fn saved(
    answer: &Answer,
    index: u32,
    gone: Ipv4Addr,
) -> Result<Option<SavedRoute>, String> {
    if answer.kind != RTM_NEWROUTE {
        return Ok(None);
    }
    let header: &[u8; 12] = header(answer)?;
    let [
        af,
        prefix,
        source_prefix,
        tos,
        table,
        protocol,
        scope,
        kind,
        flags,
        ..,
    ] = *header;
    if i32::from(af) != libc::AF_INET {
        return Ok(None);
    }
    let mut known = attributes(answer, header.len())?;
    let table = number(&known, RTA_TABLE)?.unwrap_or(u32::from(table));
    let names_the_gone = known.get(&RTA_PREFSRC) == Some(&&gone.octets()[..]);
    let ways = match known.get(&RTA_MULTIPATH) {
        Some(bytes) => Ways::read(bytes)?,
        None => Ways::one(number(&known, RTA_OIF)?),
    };
    if table == RT_TABLE_LOCAL || names_the_gone || !ways.interfaces.contains(&index) {
        return Ok(None);
    }
    known.remove(&RTA_CACHEINFO);
    known.remove(&RTA_MULTIPATH);
    if known.contains_key(&RTA_NH_ID) {
        // The next hop is an object of its own, and says the rest.
        for attribute in [RTA_OIF, RTA_GATEWAY, RTA_VIA] {
            known.remove(&attribute);
        }
    }
    let dst = match known.get(&RTA_DST) {
        Some(bytes) => <[u8; 4]>::try_from(*bytes).map_err(|_| "no IPv4 address")?,
        None => [0; 4],
    };
    let network = Network::of(IpAddr::from(dst), prefix);
    let mut message = RouteMessage::default();
    message.header.address_family = Family::V4.wire();
    message.header.destination_prefix_length = prefix;
    message.header.source_prefix_length = source_prefix;
    message.header.tos = tos;
    message.header.table = short_table(table);
    message.header.protocol = RouteProtocol::from(protocol);
    message.header.scope = RouteScope::from(scope);
    message.header.kind = RouteType::from(kind);
    message.header.flags = RouteFlags::from_bits_retain(u32::from(flags & RTNH_F_GIVEN));
    let raw =
        |kind: u16, value: &[u8]| RouteAttribute::Other(DefaultNla::new(kind, value.to_vec()));
    message.attributes = known
        .iter()
        .map(|(kind, value)| raw(*kind, value))
        .collect();
    if !ways.bytes.is_empty() {
        message.attributes.push(raw(RTA_MULTIPATH, &ways.bytes));
    }
    Ok(Some(SavedRoute {
        message,
        what: format!("bring back the route to {network}"),
        has_other_ways: ways.interfaces.iter().any(|other| *other != index),
    }))
}

/// The next hops of a route.
struct Ways {
    interfaces: Vec<u32>,
    /// As they are told again; empty where there is one, which the route's own attributes tell.
    bytes: Vec<u8>,
}

impl Ways {
    fn one(interface: Option<u32>) -> Self {
        Ways {
            interfaces: interface.into_iter().collect(),
            bytes: Vec::new(),
        }
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut ways = Ways::one(None);
        ways.bytes = bytes.to_vec();
        let mut at = 0;
        while let Some(hop) = bytes.get(at..at + RTNEXTHOP_LEN) {
            let length = usize::from(u16::from_ne_bytes([hop[0], hop[1]]));
            if length < RTNEXTHOP_LEN {
                return Err(format!("a next hop of {length} bytes"));
            }
            ways.bytes[at + 2] &= RTNH_F_GIVEN;
            let interface = [hop[4], hop[5], hop[6], hop[7]];
            ways.interfaces.push(u32::from_ne_bytes(interface));
            at += length.next_multiple_of(4);
        }
        Ok(ways)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn route(table: u8, attributes: &[Vec<u8>]) -> Answer {
        let mut body = vec![2, 24, 0, 0, table, 3, 253, 1, 16 | 4, 0, 0, 0];
        body.extend(attributes.concat());
        Answer {
            kind: RTM_NEWROUTE,
            body,
        }
    }

    const GONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);

    #[test]
    fn what_a_route_says_comes_back_whatever_it_is() {
        let dst = attribute(RTA_DST, &[198, 51, 100, 0]);
        let oif = attribute(RTA_OIF, &2u32.to_ne_bytes());
        let odd = attribute(8, &[9, 0, 16, 0, b'r', b'e', b'n', b'o', 0]);
        let told = attribute(RTA_CACHEINFO, &[0; 32]);
        let all = [dst.clone(), oif.clone(), odd, told];
        let found = saved(&route(254, &all), 2, GONE).unwrap().unwrap();
        assert_eq!(found.what, "bring back the route to 198.51.100.0/24");
        assert_eq!(found.message.attributes.len(), 3);
        assert_eq!(found.message.header.flags.bits(), 4);
        assert!(!found.has_other_ways);
        assert!(saved(&route(254, &all), 3, GONE).unwrap().is_none());
        assert!(saved(&route(255, &all), 2, GONE).unwrap().is_none());
        let its = attribute(RTA_PREFSRC, &GONE.octets());
        let answer = route(254, &[dst, oif, its]);
        assert!(saved(&answer, 2, GONE).unwrap().is_none());
    }

    #[test]
    fn of_several_ways_all_come_back_alive() {
        let hop = |flags: u8, interface: u32| {
            let mut bytes = 16u16.to_ne_bytes().to_vec();
            bytes.extend([flags, 0]);
            bytes.extend(interface.to_ne_bytes());
            bytes.extend(attribute(RTA_GATEWAY, &[192, 0, 2, 1]));
            bytes
        };
        let both = attribute(RTA_MULTIPATH, &[hop(1 | 16, 2), hop(4, 3)].concat());
        let found = saved(&route(254, &[both]), 2, GONE).unwrap().unwrap();
        assert!(found.has_other_ways);
        let wanted = [hop(0, 2), hop(4, 3)].concat();
        let told = RouteAttribute::Other(DefaultNla::new(RTA_MULTIPATH, wanted));
        assert_eq!(found.message.attributes, [told]);
    }

    #[test]
    fn no_input_panics() {
        let whole = route(
            254,
            &[attribute(RTA_MULTIPATH, &[16, 0, 4, 0, 2, 0, 0, 0, 1])],
        );
        for at in 0..whole.body.len() {
            for value in [0, 1, 2, 8, 0xff] {
                for cut in 0..=whole.body.len() {
                    let mut answer = whole.clone();
                    answer.body[at] = value;
                    answer.body.truncate(cut);
                    let _ = saved(&answer, 2, GONE);
                }
            }
        }
    }
}
