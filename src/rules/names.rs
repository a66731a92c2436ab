//! How chains, sets and their elements are called: the one place that the kernel's objects are found
//! again by. Pure.

use crate::model::vip::{Nic, Vip};
use std::net::IpAddr;

/// The chain that passes a packet on as one for this host. Without the packet type `host` Linux
/// ignores TCP that came in a multicast frame, and the second lock drops it all.
pub(crate) const TO_HOST: &str = "to-host";
/// The chain for frames that may be another VLAN's.
pub(crate) const TAGGED: &str = "tagged";
/// The protocols with ports, as they stand in IP headers; for IPv6 as they are found behind the extension
/// headers, which nft takes for another type; and for IPv4 together with the bits that say that it is no
/// fragment.
pub(crate) const PORTS: &str = "with-ports";
pub(crate) const PORTS_IP6: &str = "with-ports-ip6";
pub(crate) const WHOLE_WITH_PORTS_IP4: &str = "whole-with-ports-ip4";
pub(crate) const EVERYWHERE_IP4: &str = "everywhere-ip4";
pub(crate) const EVERYWHERE_IP6: &str = "everywhere-ip6";
pub(crate) const MACS: &str = "macs";
/// The chain and the set of probes for a VIP that need no answer (`model::agreement`).
pub(crate) const AGREE_IP6: &str = "agree-ip6";
pub(crate) const AGREED: &str = "agreed";
pub(crate) const MANAGERS: &str = "managers";
pub(crate) const MANAGERS_IP6: &str = "managers-ip6";
/// The cluster MACs that are unicast.
pub(crate) const STEALTH: &str = "stealth";
/// The IPv4 VIPs, whatever their interfaces.
pub(crate) const VIPS: &str = "vips";

/// The base chains of the tables `arp` and `ip6`.
pub(crate) const INPUT: &str = "input";
pub(crate) const OUTPUT: &str = "output";
/// The base chains for buckets that are adopted: of what comes in, and of what goes out.
pub(crate) const BEFORE: &str = "adopting-in";
pub(crate) const AFTER: &str = "adopting-out";
/// What the names of interfaces' base chains and maps of VIPs begin with.
const INGRESS: &str = "ingress-";
const DISPATCH_IP4: &str = "ip4-";
const DISPATCH_IP6: &str = "ip6-";

/// The set of protocols with ports in which the protocol behind the network header is looked up.
pub(crate) fn ports_set(vip: IpAddr) -> &'static str {
    match vip {
        IpAddr::V4(_) => PORTS,
        IpAddr::V6(_) => PORTS_IP6,
    }
}

/// The name of the interface's base chain.
pub(crate) fn ingress_chain(nic: &Nic) -> String {
    format!("{INGRESS}{nic}")
}

/// Is it the base chain of an interface?
pub(crate) fn is_ingress(name: &str) -> bool {
    name.starts_with(INGRESS)
}

/// The name of the map from an interface's VIPs to their chains.
pub(crate) fn dispatch_map(nic: &Nic, vip: IpAddr) -> String {
    match vip {
        IpAddr::V4(_) => format!("{DISPATCH_IP4}{nic}"),
        IpAddr::V6(_) => format!("{DISPATCH_IP6}{nic}"),
    }
}

/// Is it the map of VIPs of an interface?
pub(crate) fn is_dispatch(name: &str) -> bool {
    name.starts_with(DISPATCH_IP4) || is_dispatch_ip6(name)
}

/// Is it that of its IPv6 VIPs?
pub(crate) fn is_dispatch_ip6(name: &str) -> bool {
    name.starts_with(DISPATCH_IP6)
}

/// The VIP as a part of names; nft knows no colons there.
pub(crate) fn tag(vip: IpAddr) -> String {
    vip.to_string().replace(':', "-")
}

/// The name of the VIP's chain, the one with the description.
pub(crate) fn vip_chain(vip: IpAddr) -> String {
    format!("vip-{}", tag(vip))
}

/// The name of the chain without rules whose comment is the rest of a long description.
pub(crate) fn about_chain(vip: IpAddr) -> String {
    format!("about-{}", tag(vip))
}

/// The name of the VIP's chain for packets with ports.
pub(crate) fn ports_chain(vip: IpAddr) -> String {
    format!("vip-{}-ports", tag(vip))
}

/// The name of the VIP's chain for fragments.
pub(crate) fn fragments_chain(vip: IpAddr) -> String {
    format!("vip-{}-fragments", tag(vip))
}

/// The name of the VIP's chain for fragments that are not the first of their datagrams.
pub(crate) fn later_chain(vip: IpAddr) -> String {
    format!("vip-{}-later", tag(vip))
}

/// The name of the VIP's chain for TCP in closing buckets.
pub(crate) fn closing_chain(vip: IpAddr) -> String {
    format!("vip-{}-closing", tag(vip))
}

/// The name of the VIP's chain for TCP in draining buckets.
pub(crate) fn draining_chain(vip: IpAddr) -> String {
    format!("vip-{}-draining", tag(vip))
}

/// The name of the VIP's chain for data in buckets that are adopted.
pub(crate) fn sightings_chain(vip: IpAddr) -> String {
    format!("{SIGHTINGS}{}", tag(vip))
}

/// What the names of those chains begin with.
pub(crate) const SIGHTINGS: &str = "sightings-";
/// And of what the names of sets of stale connections begin with.
pub(crate) const STALE: &str = "stale-";

/// All chains that the VIP can have of its own at netdev ingress.
pub(crate) fn chains_of(vip: IpAddr) -> [String; 7] {
    [
        vip_chain(vip),
        about_chain(vip),
        ports_chain(vip),
        fragments_chain(vip),
        later_chain(vip),
        closing_chain(vip),
        draining_chain(vip),
    ]
}

/// The name of the map of the VIP's buckets that leave.
pub(crate) fn leaving_map(vip: IpAddr) -> String {
    format!("leaving-{}", tag(vip))
}

/// The name of the map of the VIP's buckets that are offered to other nodes.
pub(crate) fn offered_map(vip: IpAddr) -> String {
    format!("offered-{}", tag(vip))
}

/// The name of the set of the VIP's buckets that the daemon may take.
pub(crate) fn coming_set(vip: IpAddr) -> String {
    format!("coming-{}", tag(vip))
}

/// The name of the set of connections that stay when their buckets leave.
pub fn flows_set(vip: IpAddr) -> String {
    format!("flows-{}", tag(vip))
}

/// The name of the set of the VIP's adopting buckets.
pub(crate) fn adopting_set(vip: IpAddr) -> String {
    format!("adopting-{}", tag(vip))
}

/// The name of the set of what this node has left of connections in buckets that it adopts.
pub fn stale_set(vip: IpAddr) -> String {
    format!("{STALE}{}", tag(vip))
}

/// The name of the set of connections in adopting buckets that nobody has.
pub(crate) fn orphans_set(vip: IpAddr) -> String {
    format!("orphans-{}", tag(vip))
}

/// The name of the set of segments that came lately, and of the set of those that came a moment ago.
pub(crate) fn sighted_set(vip: IpAddr) -> String {
    format!("sighted-{}", tag(vip))
}

/// See [`sighted_set`].
pub(crate) fn fresh_set(vip: IpAddr) -> String {
    format!("fresh-{}", tag(vip))
}

/// All sets and maps that the VIP can have of its own, in whatever table.
pub(crate) fn sets_of(vip: IpAddr) -> [String; 10] {
    [
        buckets_map(vip),
        leaving_map(vip),
        offered_map(vip),
        coming_set(vip),
        flows_set(vip),
        adopting_set(vip),
        stale_set(vip),
        orphans_set(vip),
        fresh_set(vip),
        sighted_set(vip),
    ]
}

/// The names of the sets of what comes in fragments: datagrams whose first one has come, those of
/// them whose first one was foreign, and fragments that have overtaken their first one.
pub(crate) struct FragmentSets {
    pub(crate) begun: &'static str,
    pub(crate) foreign: &'static str,
    pub(crate) early: &'static str,
}

pub(crate) fn fragment_sets(vip: IpAddr) -> FragmentSets {
    match vip {
        IpAddr::V4(_) => FragmentSets {
            begun: "begun-fragments-ip4",
            foreign: "foreign-fragments-ip4",
            early: "early-fragments-ip4",
        },
        IpAddr::V6(_) => FragmentSets {
            begun: "begun-fragments-ip6",
            foreign: "foreign-fragments-ip6",
            early: "early-fragments-ip6",
        },
    }
}

/// The name of the map of the VIP's owned buckets.
pub(crate) fn buckets_map(vip: IpAddr) -> String {
    format!("buckets-{}", tag(vip))
}

/// The key of a bucket in that map.
pub(crate) fn bucket_key(bucket: u16) -> Vec<u8> {
    u32::from(bucket).to_ne_bytes().to_vec()
}

/// The bucket that a key in that map stands for.
pub(crate) fn bucket_of_key(key: &[u8]) -> Option<u16> {
    u16::try_from(u32::from_ne_bytes(key.try_into().ok()?)).ok()
}

/// The name or the kind of an interface as registers have it (IFNAMSIZ): nft loads and compares them whole.
pub(crate) fn register_text(text: &str) -> Vec<u8> {
    let mut whole = text.as_bytes().to_vec();
    whole.resize(16, 0);
    whole
}

/// The key of a VIP in the map of MACs.
pub(crate) fn mac_key(nic: &Nic, vip: IpAddr) -> Vec<u8> {
    let mut key = register_text(nic.as_str());
    key.extend(address_bytes(vip));
    key
}

/// The address as it stands in a packet.
pub(crate) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The key of a VIP in that set.
pub(crate) fn agreed_key(vip: &Vip) -> Vec<u8> {
    let mut key = vip.probe_digest().to_vec();
    key.resize(8, 0);
    key.extend(address_bytes(vip.address));
    key
}

/// The key of a VIP in the set of managers.
pub(crate) fn manager_key(vip: &Vip) -> Vec<u8> {
    let mut key = vip.manager_digest().to_vec();
    key.resize(8, 0);
    key.extend(address_bytes(vip.address));
    key
}

/// Is it the chain of a VIP, readable or not?
pub(crate) fn is_vip_chain(name: &str) -> bool {
    name.starts_with("vip-")
}

/// The VIP whose chain has this name.
pub(crate) fn vip_of_chain(name: &str) -> Option<IpAddr> {
    let tag = name.strip_prefix("vip-")?;
    let address = tag
        .parse()
        .or_else(|_| tag.replace('-', ":").parse())
        .ok()?;
    (vip_chain(address) == name).then_some(address)
}
