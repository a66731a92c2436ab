//! From rtnetlink's bytes to links, addresses and routes.
//!
//! Pure. Only the attributes that we need are looked at, so that what newer
//! kernels add cannot break us, and every access is checked: whatever the
//! kernel sends, the result is a value or an error.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::NlasIterator;

use super::types::{Address, ConnectedRoute, Family, Interface};
use super::wire::Answer;
use crate::model::link::Parent;
use crate::model::network::Network;

// include/uapi/linux/rtnetlink.h
pub(super) const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;
const RT_SCOPE_LINK: u8 = 253;
pub(super) const RTN_UNICAST: u8 = 1;
const RTNH_F_DEAD: u32 = 1;
pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_OIF: u16 = 4;
pub(super) const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
pub(super) const RTA_TABLE: u16 = 15;
pub(super) const RTA_VIA: u16 = 18;
// include/uapi/linux/if_link.h, if_arp.h, if.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINK_NETNSID: u16 = 37;
pub(super) const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;
const IFLA_VRF_TABLE: u16 = 1;
const ARPHRD_ETHER: u16 = 1;
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_NOARP: u32 = 0x80;
const IF_OPER_DOWN: u8 = 2;
const IF_OPER_LOWERLAYERDOWN: u8 = 3;
// include/uapi/linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_BROADCAST: u16 = 4;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_F_SECONDARY: u32 = 0x01;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
const FOREVER: u32 = u32::MAX;
// include/uapi/linux/neighbour.h
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;

/// A link, from `struct ifinfomsg` and its attributes; `None` where the
/// message is about something else.
pub(super) fn link(answer: &Answer) -> Result<Option<Interface>, String> {
    if answer.kind != RTM_NEWLINK {
        return Ok(None);
    }
    let header: &[u8; 16] = header(answer)?;
    let attributes = attributes(answer, header.len())?;
    let flags = u32_at(header, 8);
    let operstate = attributes
        .get(&IFLA_OPERSTATE)
        .and_then(|v| v.first().copied());
    let ethernet = u16::from_ne_bytes([header[2], header[3]]) == ARPHRD_ETHER;
    let mac = attributes
        .get(&IFLA_ADDRESS)
        .and_then(|v| <[u8; 6]>::try_from(*v).ok());
    let info = nested(&attributes, IFLA_LINKINFO)?;
    let kind = info.get(&IFLA_INFO_KIND).map(|v| text(v));
    let vrf_table = match kind.as_deref() {
        Some("vrf") => number(&nested(&info, IFLA_INFO_DATA)?, IFLA_VRF_TABLE)?,
        _ => None,
    };
    let index = u32_at(header, 4);
    let parent = match number(&attributes, IFLA_LINK)? {
        None | Some(0) => Parent::None,
        Some(_) if attributes.contains_key(&IFLA_LINK_NETNSID) => Parent::Elsewhere,
        // A card is its own.
        Some(parent) if parent == index => Parent::None,
        Some(parent) => Parent::Here(parent),
    };
    Ok(Some(Interface {
        index,
        name: text(
            attributes
                .get(&IFLA_IFNAME)
                .ok_or("a link without a name")?,
        ),
        mac: mac.filter(|_| ethernet),
        admin_up: flags & IFF_UP != 0,
        carrier: !matches!(operstate, Some(IF_OPER_DOWN | IF_OPER_LOWERLAYERDOWN)),
        loopback: flags & IFF_LOOPBACK != 0,
        noarp: flags & IFF_NOARP != 0,
        mtu: number(&attributes, IFLA_MTU)?.unwrap_or(0),
        parent,
        master: number(&attributes, IFLA_MASTER)?.filter(|index| *index != 0),
        kind,
        vrf_table,
    }))
}

/// A unicast address in the filter of this interface, from `struct ndmsg`; `None` where the message is about something
/// else.
pub(super) fn filtered(answer: &Answer, index: u32) -> Result<Option<[u8; 6]>, String> {
    if answer.kind != RTM_NEWNEIGH {
        return Ok(None);
    }
    let header: &[u8; 12] = header(answer)?;
    let state = u16::from_ne_bytes([header[8], header[9]]);
    let attributes = attributes(answer, header.len())?;
    let mac = attributes
        .get(&NDA_LLADDR)
        .and_then(|mac| <[u8; 6]>::try_from(*mac).ok());
    let is_here = u32_at(header, 4) == index && state & NUD_PERMANENT != 0;
    Ok(mac.filter(|mac| is_here && mac[0] & 1 == 0))
}

/// An address, from `struct ifaddrmsg`; `None` where the message is about
/// something else or another address family.
pub(super) fn address(answer: &Answer) -> Result<Option<Address>, String> {
    if answer.kind != RTM_NEWADDR {
        return Ok(None);
    }
    let header: &[u8; 8] = header(answer)?;
    let [family, prefix, short_flags, scope, ..] = *header;
    let Some(family) = family_of(family) else {
        return Ok(None);
    };
    let attributes = attributes(answer, header.len())?;
    // On a point-to-point link IFA_ADDRESS is the other end.
    let addr = attributes
        .get(&IFA_LOCAL)
        .or_else(|| attributes.get(&IFA_ADDRESS));
    let has_peer = attributes.contains_key(&IFA_LOCAL)
        && attributes.get(&IFA_LOCAL) != attributes.get(&IFA_ADDRESS);
    let flags = number(&attributes, IFA_FLAGS)?.unwrap_or(u32::from(short_flags));
    let (preferred, valid) = match attributes.get(&IFA_CACHEINFO) {
        Some(v) if v.len() >= 8 => (u32_at(v, 0), u32_at(v, 4)),
        Some(v) => return Err(format!("lifetimes of {} bytes", v.len())),
        None => (FOREVER, FOREVER),
    };
    Ok(Some(Address {
        index: u32_at(header, 4),
        addr: ip(addr.ok_or("an address message without an address")?, family)?,
        prefix,
        broadcast: attributes
            .get(&IFA_BROADCAST)
            .filter(|_| !has_peer)
            .and_then(|v| <[u8; 4]>::try_from(*v).ok())
            .map(Ipv4Addr::from),
        label: attributes.get(&IFA_LABEL).map(|v| text(v)),
        secondary: family == Family::V4 && flags & IFA_F_SECONDARY != 0,
        deprecated: flags & IFA_F_DEPRECATED != 0,
        tentative: flags & IFA_F_TENTATIVE != 0,
        dad_failed: flags & IFA_F_DADFAILED != 0,
        nodad: flags & IFA_F_NODAD != 0,
        noprefixroute: flags & IFA_F_NOPREFIXROUTE != 0,
        preferred_s: (preferred != FOREVER).then_some(preferred),
        valid_s: (valid != FOREVER).then_some(valid),
        scope,
    }))
}

/// A connected route, from `struct rtmsg`; `None` for every other message,
/// family and kind of route.
pub(super) fn connected(answer: &Answer, family: Family) -> Result<Option<ConnectedRoute>, String> {
    if answer.kind != RTM_NEWROUTE {
        return Ok(None);
    }
    let header: &[u8; 12] = header(answer)?;
    let [af, prefix, _, _, table, protocol, scope, kind, ..] = *header;
    if family_of(af) != Some(family) || kind != RTN_UNICAST {
        return Ok(None);
    }
    let attributes = attributes(answer, header.len())?;
    let table = number(&attributes, RTA_TABLE)?.unwrap_or(u32::from(table));
    let gateway = attributes.contains_key(&RTA_GATEWAY) || attributes.contains_key(&RTA_VIA);
    if gateway || (family == Family::V4 && scope != RT_SCOPE_LINK) {
        return Ok(None);
    }
    // Several next hops have no interface of their own; they are not connected.
    let Some(oif) = number(&attributes, RTA_OIF)? else {
        return Ok(None);
    };
    let dst = match attributes.get(&RTA_DST) {
        Some(v) => ip(v, family)?,
        None => family.unspecified(),
    };
    if matches!(dst, IpAddr::V6(v6) if v6.is_multicast() || v6.is_unicast_link_local()) {
        return Ok(None);
    }
    let metric = number(&attributes, RTA_PRIORITY)?.unwrap_or(0);
    Ok(Some(ConnectedRoute {
        network: Network::of(dst, prefix),
        oif,
        table,
        protocol,
        metric,
        source: attributes
            .get(&RTA_PREFSRC)
            .map(|v| ip(v, family))
            .transpose()?,
        dead: u32_at(header, 8) & RTNH_F_DEAD != 0,
    }))
}

/// The fixed part at the head of a message.
pub(super) fn header<const N: usize>(answer: &Answer) -> Result<&[u8; N], String> {
    answer.body.first_chunk().ok_or_else(|| {
        format!(
            "message type {} with {} bytes, not {N} or more",
            answer.kind,
            answer.body.len()
        )
    })
}

/// The attributes by kind.
pub(super) fn attributes(answer: &Answer, offset: usize) -> Result<HashMap<u16, &[u8]>, String> {
    by_kind(answer.body.get(offset..).unwrap_or_default())
}

/// The attributes within an attribute; none where that is not there.
pub(super) fn nested<'a>(
    attributes: &HashMap<u16, &'a [u8]>,
    kind: u16,
) -> Result<HashMap<u16, &'a [u8]>, String> {
    by_kind(attributes.get(&kind).copied().unwrap_or_default())
}

/// The last of a kind counts, as in the kernel.
fn by_kind(bytes: &[u8]) -> Result<HashMap<u16, &[u8]>, String> {
    listed(bytes).map(|all| all.into_iter().collect())
}

/// The attributes in these bytes, in their order.
pub(super) fn listed(bytes: &[u8]) -> Result<Vec<(u16, &[u8])>, String> {
    let mut found = Vec::new();
    let mut rest = bytes;
    for attribute in NlasIterator::new(bytes) {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let length = usize::from(attribute.length());
        let value = rest
            .get(4..length)
            .ok_or("an attribute longer than its message")?;
        found.push((attribute.kind(), value));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

pub(super) fn number(attributes: &HashMap<u16, &[u8]>, kind: u16) -> Result<Option<u32>, String> {
    let Some(value) = attributes.get(&kind) else {
        return Ok(None);
    };
    let Ok(bytes) = <[u8; 4]>::try_from(*value) else {
        return Err(format!(
            "attribute {kind} is a number of {} bytes, not 4",
            value.len()
        ));
    };
    Ok(Some(u32::from_ne_bytes(bytes)))
}

/// The number at an offset; 0 beyond the end, which callers have ruled out.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes
        .get(offset..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .map_or(0, u32::from_ne_bytes)
}

pub(super) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value)
        .trim_end_matches('\0')
        .to_owned()
}

fn family_of(number: u8) -> Option<Family> {
    match i32::from(number) {
        libc::AF_INET => Some(Family::V4),
        libc::AF_INET6 => Some(Family::V6),
        _ => None,
    }
}

fn ip(value: &[u8], family: Family) -> Result<IpAddr, String> {
    let parsed = match family {
        Family::V4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        Family::V6 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
    };
    parsed.ok_or_else(|| format!("an {family} address of {} bytes", value.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4)
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, header: &[u8], attributes: &[Vec<u8>]) -> Answer {
        let mut body = header.to_vec();
        body.extend(attributes.concat());
        Answer { kind, body }
    }

    fn vip() -> Answer {
        let lifetimes = [0, FOREVER, 5, 5].map(u32::to_ne_bytes).concat();
        message(
            RTM_NEWADDR,
            &[10, 64, 0xff, 0, 2, 0, 0, 0].map(|b: u8| b),
            &[
                attribute(
                    IFA_ADDRESS,
                    &"2001:db8::99"
                        .parse::<std::net::Ipv6Addr>()
                        .unwrap()
                        .octets(),
                ),
                attribute(IFA_CACHEINFO, &lifetimes),
                attribute(IFA_FLAGS, &(IFA_F_NODAD | IFA_F_DEPRECATED).to_ne_bytes()),
                attribute(0x4fff, &[1, 2, 3]),
            ],
        )
    }

    #[test]
    fn long_flags_win_over_short_ones() {
        let found = address(&vip()).unwrap().unwrap();
        assert_eq!(found.addr, "2001:db8::99".parse::<IpAddr>().unwrap());
        assert!(found.nodad && found.deprecated && !found.tentative && !found.secondary);
        assert_eq!((found.preferred_s, found.valid_s), (Some(0), None));
    }

    #[test]
    fn a_tunnel_is_up_and_has_no_ethernet_address() {
        let header = [0, 0, 0xfe, 0xff, 3, 0, 0, 0, 0x81, 0, 0, 0, 0, 0, 0, 0].map(|b: u8| b);
        let name = attribute(IFLA_IFNAME, b"tun0\0");
        let answer = message(
            RTM_NEWLINK,
            &header,
            &[name, attribute(IFLA_ADDRESS, &[1; 6])],
        );
        if cfg!(target_endian = "little") {
            let link = link(&answer).unwrap().unwrap();
            assert_eq!(
                (link.name.as_str(), link.index, link.mac),
                ("tun0", 3, None)
            );
            assert!(link.admin_up && link.noarp && link.carrier && !link.loopback);
        }
    }

    #[test]
    fn only_connected_routes_count() {
        let header = |table, scope, kind| [2, 24, 0, 0, table, 2, scope, kind, 0, 0, 0, 0];
        let dst = attribute(RTA_DST, &[10, 77, 0, 0]);
        let from = attribute(RTA_PREFSRC, &[10, 77, 0, 1]);
        let oif = attribute(RTA_OIF, &2u32.to_ne_bytes());
        let good = message(
            RTM_NEWROUTE,
            &header(254, 253, 1),
            &[dst.clone(), oif.clone(), from],
        );
        let route = connected(&good, Family::V4).unwrap().unwrap();
        assert_eq!(
            route,
            ConnectedRoute {
                network: Network::of([10, 77, 0, 0].into(), 24),
                oif: 2,
                table: 254,
                protocol: 2,
                metric: 0,
                source: Some([10, 77, 0, 1].into()),
                dead: false
            }
        );
        assert_eq!(connected(&good, Family::V6).unwrap(), None);
        for (table, scope, kind) in [(254, 0, 1), (254, 253, 3)] {
            let other = message(
                RTM_NEWROUTE,
                &header(table, scope, kind),
                &[dst.clone(), oif.clone()],
            );
            assert_eq!(connected(&other, Family::V4).unwrap(), None);
        }
        let via = attribute(RTA_GATEWAY, &[10, 77, 0, 1]);
        let routed = message(RTM_NEWROUTE, &header(254, 253, 1), &[dst, oif, via]);
        assert_eq!(connected(&routed, Family::V4).unwrap(), None);
    }

    #[test]
    fn no_input_panics() {
        let whole = vip().body;
        for kind in [RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE] {
            for at in 0..whole.len() {
                for value in [0, 2, 10, 0xff] {
                    for cut in 0..=whole.len() {
                        let mut body = whole.clone();
                        body[at] = value;
                        body.truncate(cut);
                        let answer = Answer { kind, body };
                        let _ = (
                            link(&answer),
                            address(&answer),
                            connected(&answer, Family::V6),
                        );
                    }
                }
            }
        }
    }
}
