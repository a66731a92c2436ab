//! What the kernel is told for a VIP: the rules and maps, as values. Pure.
//!
//! An interface has one base chain at netdev ingress. It looks the destination address up in a map
//! of VIPs, so what is not for a VIP pays one failed lookup (two where the interface carries VIPs
//! of both families), and 64 VIPs cost what one does. Each VIP has a chain that hashes, and looks
//! the bucket up in the VIP's own map: an element there means owned; no element means that the
//! lookup ends the rule, and the next one drops the packet.
//!
//! The table `arp` and the table `ip6` make whatever leaves this host and says where the VIP is
//! say the cluster MAC.

use crate::model::agreement::{NONCE_OPTION, solicited_node};
use crate::model::bucket::{BucketCount, BucketSet};
use crate::model::hash::{HashMode, Hasher, Layout};
use crate::model::host::Observed;
use crate::model::mac::Mac;
use crate::model::ruleset::{
    BaseChain, Chain, Data, Element, Expr, Family, Found, Header, Hook, KeyPart, MetaKey, Reg,
    Rule, Ruleset, Set, SetSpec, Table, Target, Verdict,
};
use crate::model::vip::{Nic, Vip};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// netdev ingress comes before other tables' chains there (nft's `filter` is 0), so that foreign
/// packets go as early as possible.
const INGRESS_PRIORITY: i32 = -300;
/// The other hooks' priority: nft's `filter`.
const FILTER_PRIORITY: i32 = 0;
/// The most VIPs on an interface, and of all interfaces together.
const MOST_VIPS: u32 = 1024;

/// The chain that passes a packet on as one for this host. Without the packet type `host` Linux
/// ignores TCP that came in a multicast frame, and the second lock drops it all.
const TO_HOST: &str = "to-host";
const PORTS_IP4: &str = "ports-ip4";
const PORTS_IP6: &str = "ports-ip6";
const EVERYWHERE_IP4: &str = "everywhere-ip4";
const EVERYWHERE_IP6: &str = "everywhere-ip6";
const MACS: &str = "macs";
/// The chain and the set of probes for a VIP that need no answer (`model::agreement`).
pub const AGREE_IP6: &str = "agree-ip6";
const AGREED: &str = "agreed";

/// Protocols with ports in their first four bytes: TCP, UDP, DCCP, SCTP, UDP-Lite; ESP has its SPI
/// there, which is hashed as if it were ports (`proto_ports_offset()`, `include/linux/net.h`).
const PROTOCOLS_WITH_PORTS: [u8; 6] = [6, 17, 33, 132, 136, 50];
/// ICMP errors (RFC 792, RFC 1122 §3.2.2): they concern a connection whose owner the router that
/// sends them cannot know, and nothing answers them.
const ICMP_ERRORS: [u8; 5] = [3, 4, 5, 11, 12];
/// ICMPv6 errors (RFC 4443), and neighbour discovery (RFC 4861) that is sent to the VIP itself.
const ICMP6_EVERYWHERE: [u8; 7] = [1, 2, 3, 4, 135, 136, 137];

const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMP6: u8 = 58;

// Why rules are there, for whoever reads 'nft list ruleset' at night.
const DISPATCH: &str = "for a VIP?";
const ACCEPTED: &str = "or TCP is ignored that came in a multicast frame";
const WITH_PORTS: &str = "whole packets with ports";
const BY_BUCKET: &str = "owned buckets are in the map";
const WITHOUT_PORTS: &str = "packets without ports: owned buckets are in the map";
const FOREIGN: &str = "foreign: another node answers";
const ERRORS: &str = "ICMP errors: to every node, nothing answers them";
const ERRORS_AND_ND: &str = "ICMPv6 errors and neighbour discovery: to every node";
const TCP_PIECE: &str = "a piece of a TCP packet: its owner cannot be told";
const AGREED_PROBE: &str = "a node of the same description asks: silence is consent";
const CLUSTER_MAC: &str = "the VIP is at the cluster MAC";

/// The name of the interface's base chain.
pub fn ingress_chain(nic: &Nic) -> String {
    format!("ingress-{nic}")
}

/// The name of the map from an interface's VIPs to their chains.
pub fn dispatch_map(nic: &Nic, vip: IpAddr) -> String {
    match vip {
        IpAddr::V4(_) => format!("ip4-{nic}"),
        IpAddr::V6(_) => format!("ip6-{nic}"),
    }
}

/// The VIP as a part of names; nft knows no colons there.
pub fn tag(vip: IpAddr) -> String {
    vip.to_string().replace(':', "-")
}

/// The name of the VIP's chain, the one with the description.
pub fn vip_chain(vip: IpAddr) -> String {
    format!("vip-{}", tag(vip))
}

/// The name of the VIP's chain for packets with ports.
pub fn ports_chain(vip: IpAddr) -> String {
    format!("vip-{}-ports", tag(vip))
}

/// The name of the map of the VIP's owned buckets.
pub fn buckets_map(vip: IpAddr) -> String {
    format!("buckets-{}", tag(vip))
}

/// The key of a bucket in that map.
pub fn bucket_key(bucket: u16) -> Vec<u8> {
    u32::from(bucket).to_ne_bytes().to_vec()
}

/// The bucket that a key in that map stands for.
pub fn bucket_of_key(key: &[u8]) -> Option<u16> {
    u16::try_from(u32::from_ne_bytes(key.try_into().ok()?)).ok()
}

/// An element that says: this bucket is owned.
pub fn owned_element() -> Element {
    Element::new(Target::Verdict(Verdict::Goto(TO_HOST.to_owned())))
}

/// Everything that the kernel is to be told for these VIPs and the buckets that each owns here.
pub fn ruleset(vips: &[(Vip, BucketSet)]) -> Ruleset {
    let mut rules = Ruleset::new();
    if vips.is_empty() {
        return rules;
    }
    rules.insert(Family::Netdev, netdev_table(vips));
    if vips.iter().any(|(vip, _)| vip.address.is_ipv4()) {
        rules.insert(Family::Arp, arp_table(vips));
    }
    if vips.iter().any(|(vip, _)| vip.address.is_ipv6()) {
        rules.insert(Family::Ip6, ip6_table(vips));
    }
    rules
}

fn netdev_table(vips: &[(Vip, BucketSet)]) -> Table {
    let mut table = Table::default();
    table.chains.insert(
        TO_HOST.to_owned(),
        chain([Sentence::because(ACCEPTED).pkttype_host().accept()]),
    );
    for (vip, owned) in vips {
        let base = table
            .chains
            .entry(ingress_chain(&vip.nic))
            .or_insert_with(|| base_chain(Hook::Ingress(vip.nic.to_string()), INGRESS_PRIORITY));
        let map = dispatch_map(&vip.nic, vip.address);
        let rule = match vip.address {
            IpAddr::V4(_) => Sentence::because(DISPATCH).ip4_daddr(REG0).vmap(&map, REG0),
            IpAddr::V6(_) => Sentence::because(DISPATCH).ip6_daddr(REG0).vmap(&map, REG0),
        }
        .rule();
        if !base.rules.contains(&rule) {
            base.rules.push(rule);
            // The order must not depend on which VIP came first.
            base.rules.sort_by(|a, b| a.text.cmp(&b.text));
        }
        let part = match vip.address {
            IpAddr::V4(_) => KeyPart::Ip4,
            IpAddr::V6(_) => KeyPart::Ip6,
        };
        table
            .sets
            .entry(map)
            .or_insert_with(|| Set::new(verdict_map(part, MOST_VIPS, false)))
            .elements
            .insert(
                address_bytes(vip.address),
                Element::new(Target::Verdict(Verdict::Goto(vip_chain(vip.address)))),
            );
        add_vip(&mut table, vip, owned);
        if let IpAddr::V6(address) = vip.address {
            agree_on_ip6(&mut table, vip, address);
        }
    }
    table
}

/// Probes for an IPv6 VIP come to its solicited-node group, which is dispatched like a VIP.
fn agree_on_ip6(table: &mut Table, vip: &Vip, address: Ipv6Addr) {
    table.chains.insert(
        AGREE_IP6.to_owned(),
        chain([Sentence::because(AGREED_PROBE).ip6_probe_with_digest()]),
    );
    let group = solicited_node(address).octets().to_vec();
    let goto = Element::new(Target::Verdict(Verdict::Goto(AGREE_IP6.to_owned())));
    if let Some(map) = table.sets.get_mut(&dispatch_map(&vip.nic, vip.address)) {
        map.elements.insert(group, goto);
    }
    let set = table.sets.entry(AGREE_IP6.to_owned());
    set.or_insert_with(|| Set::new(agreed(KeyPart::Ip6)))
        .elements
        .insert(agreed_key(vip), Element::new(Target::None));
}

/// The set of probes that need no answer: the digest, then the VIP.
fn agreed(part: KeyPart) -> SetSpec {
    SetSpec {
        key: vec![KeyPart::Mac, part],
        data: Data::None,
        counters: false,
        size: MOST_VIPS,
    }
}

/// The key of a VIP in that set.
fn agreed_key(vip: &Vip) -> Vec<u8> {
    let mut key = vip.probe_digest().to_vec();
    key.resize(8, 0);
    key.extend(address_bytes(vip.address));
    key
}

/// The VIP's own chains and its map, and the constant sets that they need.
fn add_vip(table: &mut Table, vip: &Vip, owned: &BucketSet) {
    let ported = vip.hasher.mode != HashMode::SourceIp;
    let mut main = match (vip.address, ported) {
        (IpAddr::V4(_), false) => vip4_by_source(vip),
        (IpAddr::V4(_), true) => vip4_by_ports(vip),
        (IpAddr::V6(_), false) => vip6_by_source(vip),
        (IpAddr::V6(_), true) => vip6_by_ports(vip),
    };
    main.comment = Some(vip.written());
    table.chains.insert(vip_chain(vip.address), main);
    if ported {
        let ports = chain([
            Sentence::because(BY_BUCKET).hash(vip, Ports::InPacket),
            Sentence::because(FOREIGN).counter_drop(),
        ]);
        table.chains.insert(ports_chain(vip.address), ports);
    }
    let sets: &[(&str, Set)] = match (vip.address, ported) {
        (IpAddr::V4(_), false) => &[icmp4_set()],
        (IpAddr::V4(_), true) => &[icmp4_set(), ports4_set()],
        (IpAddr::V6(_), false) => &[icmp6_set()],
        (IpAddr::V6(_), true) => &[icmp6_set(), ports6_set()],
    };
    for (name, set) in sets {
        table.sets.insert((*name).to_owned(), set.clone());
    }
    let mut map = Set::new(verdict_map(
        KeyPart::Number,
        u32::from(vip.buckets.get()),
        true,
    ));
    for bucket in owned.iter() {
        map.elements.insert(bucket_key(bucket), owned_element());
    }
    table.sets.insert(buckets_map(vip.address), map);
}

/// Source address only: fragments and protocols make no difference, so nothing is asked first.
fn vip4_by_source(vip: &Vip) -> Chain {
    chain([
        Sentence::because(BY_BUCKET).hash(vip, Ports::None),
        Sentence::because(ERRORS).icmp4_everywhere(),
        Sentence::because(FOREIGN).counter_drop(),
    ])
}

/// With ports: whole packets with ports are the common case and come first, by one lookup of the
/// fragment bits together with the protocol. All else is hashed with ports 0; a TCP packet that
/// comes this far is a piece of one, whose owner cannot be told from it.
fn vip4_by_ports(vip: &Vip) -> Chain {
    chain([
        Sentence::because(WITH_PORTS)
            .fragment_and_protocol(REG0)
            .in_set(PORTS_IP4, REG0)
            .goto(&ports_chain(vip.address)),
        Sentence::because(ERRORS).icmp4_everywhere(),
        Sentence::because(TCP_PIECE)
            .ip4_protocol_is(TCP, "tcp")
            .counter_drop(),
        Sentence::because(WITHOUT_PORTS).hash(vip, Ports::Zero),
        Sentence::because(FOREIGN).counter_drop(),
    ])
}

fn vip6_by_source(vip: &Vip) -> Chain {
    chain([
        Sentence::because(BY_BUCKET).hash(vip, Ports::None),
        Sentence::because(ERRORS_AND_ND).icmp6_everywhere(),
        Sentence::because(FOREIGN).counter_drop(),
    ])
}

/// As for IPv4; a packet with extension headers or in fragments is not the common case.
fn vip6_by_ports(vip: &Vip) -> Chain {
    chain([
        Sentence::because(WITH_PORTS)
            .ip6_nexthdr(REG0)
            .in_set(PORTS_IP6, REG0)
            .goto(&ports_chain(vip.address)),
        Sentence::because(ERRORS_AND_ND).icmp6_everywhere(),
        Sentence::because(TCP_PIECE)
            .l4proto_is(TCP, "tcp")
            .counter_drop(),
        Sentence::because(WITHOUT_PORTS).hash(vip, Ports::Zero),
        Sentence::because(FOREIGN).counter_drop(),
    ])
}

fn arp_table(vips: &[(Vip, BucketSet)]) -> Table {
    let mut base = base_chain(Hook::ArpOutput, FILTER_PRIORITY);
    base.rules.push(
        Sentence::because(CLUSTER_MAC)
            .oifname(Reg(0))
            .arp_sender_ip(Reg(4))
            .value(MACS, Reg(0), Reg(8))
            .set_arp_sender_mac(Reg(8), MACS)
            .rule(),
    );
    let mut table = mac_table(vips, base, KeyPart::Ip4, IpAddr::is_ipv4);
    let mut input = base_chain(Hook::ArpInput, FILTER_PRIORITY);
    let rule = Sentence::because(AGREED_PROBE).arp_probe_with_digest();
    input.rules.push(rule.rule());
    table.chains.insert("input".to_owned(), input);
    let mut set = Set::new(agreed(KeyPart::Ip4));
    for (vip, _) in vips.iter().filter(|(vip, _)| vip.address.is_ipv4()) {
        set.elements
            .insert(agreed_key(vip), Element::new(Target::None));
    }
    table.sets.insert(AGREED.to_owned(), set);
    table
}

fn ip6_table(vips: &[(Vip, BucketSet)]) -> Table {
    let mut base = base_chain(Hook::Ip6Output, FILTER_PRIORITY);
    for nd in [&ADVERTISEMENT, &SOLICITATION] {
        let rule = Sentence::because(CLUSTER_MAC)
            .neighbour_discovery(nd)
            .value(MACS, Reg(0), Reg(8))
            .set_nd_mac(Reg(8), nd)
            .rule();
        base.rules.push(rule);
    }
    mac_table(vips, base, KeyPart::Ip6, IpAddr::is_ipv6)
}

/// A table with one base chain and the map from (interface, VIP) to the cluster MAC.
fn mac_table(
    vips: &[(Vip, BucketSet)],
    base: Chain,
    part: KeyPart,
    of_family: fn(&IpAddr) -> bool,
) -> Table {
    let mut macs = Set::new(SetSpec {
        key: vec![KeyPart::IfName, part],
        data: Data::Mac,
        counters: false,
        size: MOST_VIPS,
    });
    for (vip, _) in vips.iter().filter(|(vip, _)| of_family(&vip.address)) {
        macs.elements.insert(
            mac_key(&vip.nic, vip.address),
            Element::new(Target::Value(vip.mac.0.to_vec())),
        );
    }
    Table {
        chains: BTreeMap::from([("output".to_owned(), base)]),
        sets: BTreeMap::from([(MACS.to_owned(), macs)]),
    }
}

/// The key of a VIP in the map of MACs.
pub fn mac_key(nic: &Nic, vip: IpAddr) -> Vec<u8> {
    let mut key = vec![0; 16];
    key[..nic.as_str().len()].copy_from_slice(nic.as_str().as_bytes());
    key.extend(address_bytes(vip));
    key
}

/// The address as it stands in a packet.
pub fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

// ---- sets and chains -------------------------------------------------------------------------

fn verdict_map(part: KeyPart, size: u32, counters: bool) -> SetSpec {
    SetSpec {
        key: vec![part],
        data: Data::Verdict,
        counters,
        size,
    }
}

fn constant_set(part: KeyPart, keys: impl Iterator<Item = Vec<u8>>) -> Set {
    let elements: BTreeMap<_, _> = keys.map(|key| (key, Element::new(Target::None))).collect();
    Set {
        spec: SetSpec {
            key: vec![part],
            data: Data::None,
            counters: false,
            size: elements.len() as u32,
        },
        elements,
    }
}

fn ports4_set() -> (&'static str, Set) {
    let keys = PROTOCOLS_WITH_PORTS.into_iter().map(|p| vec![0, 0, 0, p]);
    (PORTS_IP4, constant_set(KeyPart::Bits, keys))
}

fn ports6_set() -> (&'static str, Set) {
    let keys = PROTOCOLS_WITH_PORTS.into_iter().map(|p| vec![p]);
    (PORTS_IP6, constant_set(KeyPart::Protocol, keys))
}

fn icmp4_set() -> (&'static str, Set) {
    let keys = ICMP_ERRORS.into_iter().map(|t| vec![t]);
    (EVERYWHERE_IP4, constant_set(KeyPart::IcmpType, keys))
}

fn icmp6_set() -> (&'static str, Set) {
    let keys = ICMP6_EVERYWHERE.into_iter().map(|t| vec![t]);
    (EVERYWHERE_IP6, constant_set(KeyPart::Icmp6Type, keys))
}

fn chain<const N: usize>(sentences: [Sentence; N]) -> Chain {
    Chain {
        base: None,
        comment: None,
        rules: sentences.into_iter().map(Sentence::rule).collect(),
    }
}

fn base_chain(hook: Hook, priority: i32) -> Chain {
    Chain {
        base: Some(BaseChain { hook, priority }),
        ..Chain::default()
    }
}

// ---- the vocabulary: a rule is a sentence ----------------------------------------------------

const REG0: Reg = Reg(0);

/// Which ports enter the hash.
#[derive(Clone, Copy, PartialEq)]
enum Ports {
    /// None: the mode has no ports.
    None,
    /// Those of the packet.
    InPacket,
    /// Zeros: the packet has no ports.
    Zero,
}

/// Where neighbour discovery messages say a link-layer address (RFC 4861 §4.3, §4.4, §4.6.1): the
/// first option follows 24 bytes into the message.
struct NeighbourDiscovery {
    icmp_type: u8,
    option: u8,
    /// The address that the link-layer address is said of.
    address: (Header, u32),
    text: &'static str,
}

const ADVERTISEMENT: NeighbourDiscovery = NeighbourDiscovery {
    icmp_type: 136,
    option: 2,
    address: (Header::Transport, 8),
    text: "icmpv6 type nd-neighbor-advert @th,192,16 0x0201 @th,208,48 set oifname . icmpv6 taddr",
};

const SOLICITATION: NeighbourDiscovery = NeighbourDiscovery {
    icmp_type: 135,
    option: 1,
    address: (Header::Network, 8),
    text: "icmpv6 type nd-neighbor-solicit @th,192,16 0x0101 @th,208,48 set oifname . ip6 saddr",
};

/// A rule that is being written: its expressions and its words.
struct Sentence {
    exprs: Vec<Expr>,
    words: Vec<String>,
    comment: &'static str,
}

impl Sentence {
    fn new() -> Self {
        Sentence {
            exprs: Vec::new(),
            words: Vec::new(),
            comment: "",
        }
    }

    /// A sentence that says why the rule is there.
    fn because(comment: &'static str) -> Self {
        Sentence {
            comment,
            ..Sentence::new()
        }
    }

    fn rule(self) -> Rule {
        Rule {
            exprs: self.exprs,
            text: self.words.join(" "),
            comment: self.comment,
            count: None,
        }
    }

    fn say(mut self, words: impl Into<String>) -> Self {
        self.words.push(words.into());
        self
    }

    fn expr(mut self, expr: Expr) -> Self {
        self.exprs.push(expr);
        self
    }

    fn payload(self, header: Header, offset: u32, len: u32, to: Reg) -> Self {
        self.expr(Expr::Payload {
            header,
            offset,
            len,
            to,
        })
    }

    fn equal(self, from: Reg, value: &[u8]) -> Self {
        self.expr(Expr::Equal {
            from,
            value: value.to_vec(),
        })
    }

    fn protocol(self, ethertype: u16) -> Self {
        self.expr(Expr::Meta {
            key: MetaKey::Protocol,
            to: REG0,
        })
        .equal(REG0, &ethertype.to_be_bytes())
    }

    fn ip4_daddr(self, to: Reg) -> Self {
        self.protocol(0x0800)
            .payload(Header::Network, 16, 4, to)
            .say("ip daddr")
    }

    fn ip6_daddr(self, to: Reg) -> Self {
        self.protocol(0x86dd)
            .payload(Header::Network, 24, 16, to)
            .say("ip6 daddr")
    }

    fn ip4_protocol_is(self, protocol: u8, name: &str) -> Self {
        self.payload(Header::Network, 9, 1, REG0)
            .equal(REG0, &[protocol])
            .say(format!("ip protocol {name}"))
    }

    /// The protocol behind all extension headers.
    fn l4proto_is(self, protocol: u8, name: &str) -> Self {
        self.expr(Expr::Meta {
            key: MetaKey::L4Protocol,
            to: REG0,
        })
        .equal(REG0, &[protocol])
        .say(format!("meta l4proto {name}"))
    }

    fn ip6_nexthdr(self, to: Reg) -> Self {
        self.payload(Header::Network, 6, 1, to).say("ip6 nexthdr")
    }

    /// More-fragments bit, fragment offset and protocol in one load; the TTL between is masked.
    fn fragment_and_protocol(self, to: Reg) -> Self {
        self.payload(Header::Network, 6, 4, to)
            .expr(Expr::And {
                from: to,
                to,
                mask: vec![0x3f, 0xff, 0x00, 0xff],
            })
            .say("@nh,48,32 & 0x3fff00ff")
    }

    fn icmp4_everywhere(self) -> Self {
        self.ip4_protocol_is(ICMP, "icmp")
            .payload(Header::Transport, 0, 1, REG0)
            .say("icmp type")
            .in_set(EVERYWHERE_IP4, REG0)
            .goto(TO_HOST)
    }

    fn icmp6_everywhere(self) -> Self {
        self.ip6_nexthdr(REG0)
            .equal(REG0, &[ICMP6])
            .say("icmpv6")
            .payload(Header::Transport, 0, 1, REG0)
            .say("icmpv6 type")
            .in_set(EVERYWHERE_IP6, REG0)
            .goto(TO_HOST)
    }

    fn in_set(self, set: &str, from: Reg) -> Self {
        self.lookup(set, from, Found::GoOn).say(format!("@{set}"))
    }

    fn vmap(self, map: &str, from: Reg) -> Self {
        self.lookup(map, from, Found::Verdict)
            .say(format!("vmap @{map}"))
    }

    fn value(self, map: &str, from: Reg, to: Reg) -> Self {
        self.lookup(map, from, Found::Value(to))
    }

    fn lookup(self, set: &str, from: Reg, found: Found) -> Self {
        self.expr(Expr::Lookup {
            set: set.to_owned(),
            from,
            found,
        })
    }

    fn goto(self, chain: &str) -> Self {
        self.expr(Expr::Verdict(Verdict::Goto(chain.to_owned())))
            .say(format!("goto {chain}"))
    }

    fn accept(self) -> Self {
        self.expr(Expr::Verdict(Verdict::Accept)).say("accept")
    }

    fn drop(self) -> Self {
        self.expr(Expr::Verdict(Verdict::Drop)).say("drop")
    }

    fn counter_drop(self) -> Self {
        self.expr(Expr::Counter)
            .expr(Expr::Verdict(Verdict::Drop))
            .say("counter drop")
    }

    fn pkttype_host(self) -> Self {
        self.expr(Expr::Load {
            to: REG0,
            value: vec![0],
        })
        .expr(Expr::SetMeta {
            key: MetaKey::PacketType,
            from: REG0,
        })
        .say("meta pkttype set host")
    }

    /// Hash, and the verdict of the bucket's element. The mirror of `Hasher::key`.
    fn hash(mut self, vip: &Vip, ports: Ports) -> Self {
        let Hasher { mode, layout, seed } = vip.hasher;
        let mut words = Vec::new();
        let address_words = match vip.address {
            IpAddr::V4(_) => {
                self = self.payload(Header::Network, 12, 4, REG0);
                if layout == Layout::ClusterIp {
                    self = self.expr(Expr::ToHostOrder {
                        from: REG0,
                        to: REG0,
                    });
                    words.push("ntoh(ip saddr)".to_owned());
                } else {
                    words.push("ip saddr".to_owned());
                }
                1
            }
            IpAddr::V6(_) => {
                self = self.payload(Header::Network, 8, 16, REG0);
                words.push("ip6 saddr".to_owned());
                4
            }
        };
        for port in 0..mode.ports() as u8 {
            let to = Reg(address_words + port);
            self = match ports {
                Ports::InPacket => self.payload(Header::Transport, 2 * u32::from(port), 2, to),
                Ports::Zero | Ports::None => self.expr(Expr::Load {
                    to,
                    value: vec![0; 4],
                }),
            };
            words.push(match (ports, port) {
                (Ports::InPacket, 0) => "th sport".to_owned(),
                (Ports::InPacket, _) => "th dport".to_owned(),
                _ => "0".to_owned(),
            });
        }
        let len = 4 * (u32::from(address_words) + mode.ports() as u32);
        let modulus = u32::from(vip.buckets.get());
        self.expr(Expr::Hash {
            from: REG0,
            len,
            to: REG0,
            modulus,
            seed,
        })
        .say(format!(
            "jhash {} mod {modulus} seed {seed:#x}",
            words.join(" . ")
        ))
        .vmap(&buckets_map(vip.address), REG0)
    }

    fn oifname(self, to: Reg) -> Self {
        self.expr(Expr::Meta {
            key: MetaKey::OutIfName,
            to,
        })
    }

    fn arp_sender_ip(self, to: Reg) -> Self {
        self.payload(Header::Network, 14, 4, to)
    }

    fn set_arp_sender_mac(self, from: Reg, map: &str) -> Self {
        self.expr(Expr::Write {
            header: Header::Network,
            offset: 8,
            len: 6,
            from,
            checksum: None,
        })
        .say(format!(
            "arp saddr ether set oifname . arp saddr ip map @{map}"
        ))
    }

    /// An ARP request from nobody whose target hardware address is an agreed digest (RFC 5227).
    fn arp_probe_with_digest(self) -> Self {
        self.payload(Header::Network, 6, 2, REG0)
            .equal(REG0, &[0, 1])
            .payload(Header::Network, 14, 4, REG0)
            .equal(REG0, &[0; 4])
            .payload(Header::Network, 18, 6, Reg(0))
            .payload(Header::Network, 24, 4, Reg(2))
            .lookup(AGREED, Reg(0), Found::GoOn)
            .say("arp operation request arp saddr ip 0.0.0.0")
            .say(format!("arp daddr ether . arp daddr ip @{AGREED}"))
            .drop()
    }

    /// A neighbour solicitation from nobody whose nonce is an agreed digest (RFC 7527).
    fn ip6_probe_with_digest(self) -> Self {
        self.ip6_nexthdr(REG0)
            .equal(REG0, &[ICMP6])
            .payload(Header::Network, 8, 16, REG0)
            .equal(REG0, &[0; 16])
            .payload(Header::Transport, 0, 1, REG0)
            .equal(REG0, &[SOLICITATION.icmp_type])
            .payload(Header::Transport, 24, 2, REG0)
            .equal(REG0, &[NONCE_OPTION, 1])
            .payload(Header::Transport, 26, 6, Reg(0))
            .payload(Header::Transport, 8, 16, Reg(2))
            .lookup(AGREE_IP6, Reg(0), Found::GoOn)
            .say("icmpv6 ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,192,16 0x0e01")
            .say(format!("@th,208,48 . icmpv6 taddr @{AGREE_IP6}"))
            .drop()
    }

    /// A message of this kind that says a link-layer address; then the key of the map of MACs.
    fn neighbour_discovery(self, nd: &NeighbourDiscovery) -> Self {
        let (header, offset) = nd.address;
        self.ip6_nexthdr(REG0)
            .equal(REG0, &[ICMP6])
            .payload(Header::Transport, 0, 1, REG0)
            .equal(REG0, &[nd.icmp_type])
            .payload(Header::Transport, 24, 2, REG0)
            .equal(REG0, &[nd.option, 1])
            .oifname(Reg(0))
            .payload(header, offset, 16, Reg(4))
            .say("icmpv6")
    }

    /// Writes the address into the option; the ICMPv6 checksum follows the change.
    fn set_nd_mac(self, from: Reg, nd: &NeighbourDiscovery) -> Self {
        self.expr(Expr::Write {
            header: Header::Transport,
            offset: 26,
            len: 6,
            from,
            checksum: Some(2),
        })
        .say(format!("{} map @{MACS}", nd.text))
    }
}

/// The buckets in the order of their numbers, for callers that only have the count.
pub fn all(count: BucketCount) -> BucketSet {
    count.all().collect()
}

/// Does the VIP need a membership of its own, or does the kernel join its group by itself?
pub fn needs_membership(vip: &Vip) -> bool {
    vip.address.is_ipv4() || vip.mac != Mac::of_group(vip.address)
}

// ---- what the interface was before -----------------------------------------------------------

/// The second lock as it was before the interface's first VIP came, kept as the comment of the
/// interface's base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// For IPv4; `None` where there was none.
    pub lock_ip4: Option<bool>,
    /// For IPv6.
    pub lock_ip6: Option<bool>,
}

const BEFORE: &str = "before: drop_unicast_in_l2_multicast";

/// What the interface's base chain says of the time before it.
pub fn before_of(rules: &Ruleset, nic: &Nic) -> Option<Before> {
    let netdev = rules.get(&Family::Netdev)?;
    let comment = netdev.chains.get(&ingress_chain(nic))?.comment.as_ref()?;
    let words: Vec<&str> = comment.strip_prefix(BEFORE)?.split_whitespace().collect();
    let read = |word: &str| match word {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    };
    match words.as_slice() {
        ["ip", ip4, "ip6", ip6] => Some(Before {
            lock_ip4: read(ip4),
            lock_ip6: read(ip6),
        }),
        _ => None,
    }
}

/// Gives the base chains their comments: those that they have, or what is found now.
pub fn remember_before(wanted: &mut Ruleset, observed: &Observed) {
    let Some(netdev) = wanted.get_mut(&Family::Netdev) else {
        return;
    };
    let write = |lock: Option<bool>| lock.map_or("none", |on| if on { "1" } else { "0" });
    let found = observed.rules.get(&Family::Netdev);
    for (name, chain) in &mut netdev.chains {
        let Some(BaseChain {
            hook: Hook::Ingress(nic),
            ..
        }) = &chain.base
        else {
            continue;
        };
        let kept = found.and_then(|table| table.chains.get(name));
        chain.comment = match (kept, observed.nics.get(nic)) {
            (Some(kept), _) => kept.comment.clone(),
            (None, Some(state)) => Some(format!(
                "{BEFORE} ip {} ip6 {}",
                write(state.lock_ip4),
                write(state.lock_ip6)
            )),
            (None, None) => None,
        };
    }
}
