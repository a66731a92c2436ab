//! The interfaces with what they are made of and what a bridge does with their frames, from `struct ifinfomsg`, its
//! `IFLA_LINKINFO` and in that the attributes of the kinds.

use std::collections::HashMap;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteHeader, RouteMessage};

use super::decode::{
    self, RTA_OIF, RTA_TABLE, RTM_NEWROUTE, RTN_UNICAST, attributes, header, listed, nested,
    number, text,
};
use super::wire::{Answer, Request};
use super::{Family, MAIN_TABLE, RouteError, RouteSocket, decoded, link_request, nothing_there};
use crate::model::link::{Bridge, Link, Port};
use crate::model::protocol::{ETHERTYPE_IP4, ETHERTYPE_IP6};

// include/uapi/linux/rtnetlink.h
const RTA_MULTIPATH: u16 = 9;
const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const TCA_KIND: u16 = 1;
// include/uapi/linux/if_bridge.h
const RTM_NEWMDB: u16 = 84;
const RTM_GETMDB: u16 = 86;
const MDBA_MDB: u16 = 1;
const MDBA_MDB_ENTRY: u16 = 1;
const MDBA_MDB_ENTRY_INFO: u16 = 1;
const MDB_PERMANENT: u8 = 1;
// include/uapi/linux/if_link.h, if.h
const IFLA_XDP: u16 = 43;
const IFLA_PARENT_DEV_BUS_NAME: u16 = 57;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_MACVLAN_MODE: u16 = 1;
const MACVLAN_MODE_PASSTHRU: u32 = 8;
const IFF_ALLMULTI: u32 = 0x200;
const IFF_MULTICAST: u32 = 0x1000;
const IFLA_BR_MCAST_ROUTER: u16 = 22;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_BR_MCAST_QUERIER: u16 = 25;
const IFLA_BR_MULTI_BOOLOPT: u16 = 46;
const IFLA_BR_MCAST_QUERIER_STATE: u16 = 47;
const BOOLOPT_MCAST_VLAN_SNOOPING: u32 = 1 << 1;
const QUERIER_IP_ADDRESS: u16 = 1;
const QUERIER_IPV6_ADDRESS: u16 = 5;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const IFLA_BRPORT_MULTICAST_ROUTER: u16 = 25;
const IFLA_BRPORT_MCAST_FLOOD: u16 = 27;
const IFLA_BRPORT_NEIGH_SUPPRESS: u16 = 32;
const IFLA_BRPORT_ISOLATED: u16 = 33;
/// Always a router's port (`MDB_RTR_TYPE_PERM`). 1, what is by default, is one as long as a router is heard.
const PERMANENT: u8 = 2;

/// An entry in the group table of a bridge: the bridge, its port, and the address.
type Entry = (u32, u32, IpAddr);

impl RouteSocket {
    /// All interfaces of the namespace, with what lets their frames through.
    ///
    /// # Errors
    /// As [`links`](Self::links).
    pub fn ways(&mut self) -> Result<Vec<Link>, RouteError> {
        let what = "list the network interfaces and bridges";
        let request = RouteNetlinkMessage::GetLink(link_request());
        let answers = self.wire.dump(request, what)?;
        let mut links = decoded(&answers, what, way)?;
        for (bridge, port, address) in self.permanent_groups()? {
            let mut bridges = links.iter_mut().filter(|link| link.index == bridge);
            if let Some(link) = bridges.next() {
                link.permanent_groups.push((port, address));
            }
        }
        for index in self.filtering()? {
            let of_it = links.iter_mut().filter(|link| link.index == index);
            of_it.for_each(|link| link.tc = true);
        }
        Ok(links)
    }

    /// The interfaces at which filters of tc may see what comes in before anybody else.
    fn filtering(&mut self) -> Result<Vec<u32>, RouteError> {
        let what = "list the queueing disciplines";
        // struct tcmsg, of all interfaces.
        let (kind, body) = (RTM_GETQDISC, vec![0; 20]);
        let answers = match self.wire.dump(Request { kind, body }, what) {
            Err(error) if nothing_there(&error) => return Ok(Vec::new()),
            other => other?,
        };
        decoded(&answers, what, filtering)
    }

    /// The permanent entries in the group tables of all bridges. The kernel lists no bridge alone.
    fn permanent_groups(&mut self) -> Result<Vec<Entry>, RouteError> {
        let what = "list the groups of bridges";
        // struct br_port_msg.
        let body = vec![libc::AF_BRIDGE as u8, 0, 0, 0, 0, 0, 0, 0];
        let kind = RTM_GETMDB;
        let answers = match self.wire.dump(Request { kind, body }, what) {
            // A kernel without bridges, or without groups for them.
            Err(error) if nothing_there(&error) => return Ok(Vec::new()),
            other => other?,
        };
        let groups = decoded(&answers, what, permanent_groups)?;
        Ok(groups.into_iter().flatten().collect())
    }

    /// The interfaces by which the main table leads to everywhere.
    ///
    /// # Errors
    /// As [`links`](Self::links).
    pub fn default_ways(&mut self, family: Family) -> Result<Vec<u32>, RouteError> {
        let what = format!("list the {family} default routes");
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
        let ways = decoded(&answers, &what, default_ways)?;
        Ok(ways.into_iter().flatten().collect())
    }
}

/// The interfaces of a default route of the main table, from `struct rtmsg`; `None` for any other message.
fn default_ways(answer: &Answer) -> Result<Option<Vec<u32>>, String> {
    if answer.kind != RTM_NEWROUTE {
        return Ok(None);
    }
    let header: &[u8; 12] = header(answer)?;
    let [_, prefix, _, _, table, _, _, kind, ..] = *header;
    let attributes = attributes(answer, header.len())?;
    let table = number(&attributes, RTA_TABLE)?.unwrap_or(u32::from(table));
    if prefix != 0 || kind != RTN_UNICAST || table != MAIN_TABLE {
        return Ok(None);
    }
    let mut ways: Vec<u32> = number(&attributes, RTA_OIF)?.into_iter().collect();
    // Several next hops: struct rtnexthop, each with attributes of its own behind it.
    let mut hops = attributes.get(&RTA_MULTIPATH).copied().unwrap_or_default();
    while let Some(&[low, high, ..]) = hops.first_chunk::<8>() {
        ways.push(decode::u32_at(hops, 4));
        let length = usize::from(u16::from_ne_bytes([low, high])).max(8);
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Some(ways))
}

/// The interface of a discipline that is a place for filters, from `struct tcmsg`; `None` for any other message.
fn filtering(answer: &Answer) -> Result<Option<u32>, String> {
    if answer.kind != RTM_NEWQDISC {
        return Ok(None);
    }
    let header: &[u8; 20] = header(answer)?;
    let attributes = attributes(answer, header.len())?;
    let kind = attributes.get(&TCA_KIND).map(|kind| text(kind));
    let is_place = matches!(kind.as_deref(), Some("clsact" | "ingress"));
    Ok(is_place.then_some(decode::u32_at(header, 4)))
}

/// The permanent entries of one bridge, from `struct br_port_msg` and in its attributes `struct br_mdb_entry`; `None` for
/// any other message.
fn permanent_groups(answer: &Answer) -> Result<Option<Vec<Entry>>, String> {
    // A list's messages are called as the request is (`br_mdb_dump()`, seen on 6.18).
    if !matches!(answer.kind, RTM_NEWMDB | RTM_GETMDB) {
        return Ok(None);
    }
    let header: &[u8; 8] = header(answer)?;
    let bridge = decode::u32_at(header, 4);
    let attributes = attributes(answer, header.len())?;
    let table = attributes.get(&MDBA_MDB).copied().unwrap_or_default();
    let mut found = Vec::new();
    for (kind, group) in listed(table)? {
        let ports = match kind {
            MDBA_MDB_ENTRY => listed(group)?,
            _ => Vec::new(),
        };
        for (kind, entry) in ports {
            let Some(entry) = entry
                .first_chunk::<28>()
                .filter(|_| kind == MDBA_MDB_ENTRY_INFO)
            else {
                continue;
            };
            let address = match u16::from_be_bytes([entry[24], entry[25]]) {
                ETHERTYPE_IP4 => entry[8..].first_chunk::<4>().map(|octets| (*octets).into()),
                ETHERTYPE_IP6 => entry[8..]
                    .first_chunk::<16>()
                    .map(|octets| (*octets).into()),
                // One of a MAC alone.
                _ => None,
            };
            if let Some(address) = address.filter(|_| entry[4] == MDB_PERMANENT) {
                found.push((bridge, decode::u32_at(entry, 0), address));
            }
        }
    }
    Ok(Some(found))
}

/// A link; `None` where the message is about something else.
fn way(answer: &Answer) -> Result<Option<Link>, String> {
    let Some(link) = decode::link(answer)? else {
        return Ok(None);
    };
    let header: &[u8; 16] = header(answer)?;
    let attributes = attributes(answer, header.len())?;
    let flags = decode::u32_at(header, 8);
    let info = nested(&attributes, decode::IFLA_LINKINFO)?;
    let data = nested(&info, decode::IFLA_INFO_DATA)?;
    let slave = nested(&info, IFLA_INFO_SLAVE_DATA)?;
    let xdp = nested(&attributes, IFLA_XDP)?;
    let kind = link.kind.as_deref();
    let is_port = info
        .get(&IFLA_INFO_SLAVE_KIND)
        .is_some_and(|v| text(v) == "bridge");
    let is_macvlan = matches!(kind, Some("macvlan" | "macvtap"));
    let passthru = is_macvlan && number(&data, IFLA_MACVLAN_MODE)? == Some(MACVLAN_MODE_PASSTHRU);
    let bridge = match kind {
        Some("bridge") => Some(bridge(&data)?),
        _ => None,
    };
    Ok(Some(Link {
        index: link.index,
        name: link.name.into(),
        bus: attributes
            .get(&IFLA_PARENT_DEV_BUS_NAME)
            .map(|bus| text(bus)),
        ethernet: link.mac.is_some(),
        noarp: link.noarp,
        multicast: flags & IFF_MULTICAST != 0,
        allmulticast: flags & IFF_ALLMULTI != 0,
        xdp: octet(&xdp, IFLA_XDP_ATTACHED).is_some_and(|how| how != 0),
        tc: false,
        parent: link.parent,
        master: link.master,
        passthru,
        bridge,
        permanent_groups: Vec::new(),
        port: is_port.then(|| port(&slave)),
        kind: link.kind,
    }))
}

fn bridge(data: &HashMap<u16, &[u8]>) -> Result<Bridge, String> {
    let is = |kind| octet(data, kind).is_some_and(|value| value != 0);
    let options = data.get(&IFLA_BR_MULTI_BOOLOPT);
    let options = options.map_or(0, |value| decode::u32_at(value, 0));
    // Without a querier it has none of it; before Linux 5.16 never.
    let querier = nested(data, IFLA_BR_MCAST_QUERIER_STATE)?;
    let asks = is(IFLA_BR_MCAST_QUERIER);
    Ok(Bridge {
        snooping: is(IFLA_BR_MCAST_SNOOPING),
        by_vlan: options & BOOLOPT_MCAST_VLAN_SNOOPING != 0,
        querier_ip4: asks || querier.contains_key(&QUERIER_IP_ADDRESS),
        querier_ip6: asks || querier.contains_key(&QUERIER_IPV6_ADDRESS),
        router: octet(data, IFLA_BR_MCAST_ROUTER) == Some(PERMANENT),
    })
}

/// What a kernel does not tell is as it is by default.
fn port(data: &HashMap<u16, &[u8]>) -> Port {
    let is = |kind, usual: bool| octet(data, kind).map_or(usual, |value| value != 0);
    let usual = Port::default();
    Port {
        flood: is(IFLA_BRPORT_UNICAST_FLOOD, usual.flood),
        mcast_flood: is(IFLA_BRPORT_MCAST_FLOOD, usual.mcast_flood),
        router: octet(data, IFLA_BRPORT_MULTICAST_ROUTER) == Some(PERMANENT),
        isolated: is(IFLA_BRPORT_ISOLATED, usual.isolated),
        neigh_suppress: is(IFLA_BRPORT_NEIGH_SUPPRESS, usual.neigh_suppress),
    }
}

fn octet(attributes: &HashMap<u16, &[u8]>, kind: u16) -> Option<u8> {
    attributes
        .get(&kind)
        .and_then(|value| value.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_input_panics(kind in prop::sample::select(vec![16u16, RTM_NEWROUTE, RTM_NEWMDB, RTM_NEWQDISC]), body in prop::collection::vec(any::<u8>(), 0..96)) {
            let answer = Answer { kind, body };
            let _ = (way(&answer), default_ways(&answer), permanent_groups(&answer), filtering(&answer));
        }
    }

    #[test]
    fn permanent_groups_are_read_and_what_was_joined_is_none() {
        let nest = |kind: u16, inner: &[u8]| {
            let length = inner.len() as u16 + 4;
            [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), inner].concat()
        };
        let entry = |port: u32, state: u8, octets: &[u8], protocol: u16| {
            let mut entry = [&port.to_ne_bytes()[..], &[state, 0, 0, 0], octets].concat();
            entry.resize(24, 0);
            entry.extend(protocol.to_be_bytes());
            entry.resize(28, 0);
            nest(MDBA_MDB_ENTRY_INFO, &entry)
        };
        let v6: [u8; 16] = [0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x99];
        let group = [
            entry(3, MDB_PERMANENT, &v6, ETHERTYPE_IP6),
            entry(4, 0, &v6, ETHERTYPE_IP6),
        ]
        .concat();
        let other = entry(3, MDB_PERMANENT, &[1, 0, 0x5e, 0x7f, 0, 0x63], 0);
        let table = [nest(MDBA_MDB_ENTRY, &group), nest(MDBA_MDB_ENTRY, &other)].concat();
        let header = [&[7, 0, 0, 0][..], &9u32.to_ne_bytes()].concat();
        let body = [header, nest(MDBA_MDB, &table)].concat();
        for kind in [RTM_GETMDB, RTM_NEWMDB] {
            let body = body.clone();
            let found = permanent_groups(&Answer { kind, body });
            assert_eq!(found, Ok(Some(vec![(9, 3, v6.into())])));
        }
    }

    #[test]
    fn each_next_hop_is_a_way() {
        let header = [2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
        let hop = |index: u32| [&8u16.to_ne_bytes()[..], &[0, 0], &index.to_ne_bytes()].concat();
        let hops = [hop(2), hop(7)].concat();
        let length = (hops.len() as u16 + 4).to_ne_bytes();
        let attribute = [&length[..], &RTA_MULTIPATH.to_ne_bytes(), &hops].concat();
        let answer = Answer {
            kind: RTM_NEWROUTE,
            body: [&header[..], &attribute].concat(),
        };
        assert_eq!(default_ways(&answer), Ok(Some(vec![2, 7])));
    }
}
