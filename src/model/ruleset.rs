//! nf_tables rulesets as values: tables, chains, rules made of expressions, sets and maps.
//!
//! The same types say what should be (`plan::dataplane` writes them) and what is (`sys::nft` reads
//! them from the kernel), so the two can be compared. Only what this project puts into the kernel
//! has a name here; whatever else is found reads as `Other` and is therefore never equal.
//!
//! Terms and numbers are those of `include/uapi/linux/netfilter/nf_tables.h`.

use std::collections::BTreeMap;

/// The name of every table of ours.
pub const TABLE: &str = "clusterip";

/// The families in which we have a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Frames as they come in on an interface.
    Netdev,
    /// ARP.
    Arp,
    /// IPv4.
    Ip4,
    /// IPv6.
    Ip6,
}

impl Family {
    /// Every family that we use.
    pub const ALL: [Family; 4] = [Family::Netdev, Family::Arp, Family::Ip4, Family::Ip6];

    /// Its name in nft's syntax.
    pub fn name(self) -> &'static str {
        match self {
            Family::Netdev => "netdev",
            Family::Arp => "arp",
            Family::Ip4 => "ip",
            Family::Ip6 => "ip6",
        }
    }
}

/// All of our tables.
pub type Ruleset = BTreeMap<Family, Table>;

/// One table: its chains and its sets (maps are sets with data), by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Its flags; ours has none. A dormant table (1) does nothing.
    pub flags: u32,
    /// The chains.
    pub chains: BTreeMap<String, Chain>,
    /// The sets and maps.
    pub sets: BTreeMap<String, Set>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// Where it is hooked in; `None` for a chain that others go to.
    pub base: Option<BaseChain>,
    /// Its comment.
    pub comment: Option<String>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// What makes a chain a base chain. The policy is always accept, the type always filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain {
    /// The hook.
    pub hook: Hook,
    /// Chains with a lower priority come first.
    pub priority: i32,
}

/// The hooks that we use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// netdev ingress of this interface: before everything else that sees the packet as a packet.
    Ingress(String),
    /// ARP packets that this host receives.
    ArpInput,
    /// ARP packets that this host sends.
    ArpOutput,
    /// IPv6 packets that this host sends.
    Ip6Output,
    /// IPv4 or IPv6 packets that come in, before anything is translated.
    Before,
    /// IPv4 or IPv6 packets that go out, after everything was translated.
    After,
    /// A hook (and device) that is none of ours.
    Other(String),
}

/// A rule. Two rules are equal when they do the same; counts and wording do not matter.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// What it does, in order.
    pub exprs: Vec<Expr>,
    /// The rule in nft's words, for people; empty for a rule that was read from the kernel.
    pub text: String,
    /// Why it is there: the comment that nft lists with it.
    pub comment: &'static str,
    /// What its counter shows, if it has one and was read from the kernel.
    pub count: Option<Count>,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.exprs == other.exprs
    }
}

impl Eq for Rule {}

/// Packets and bytes. Received packets that the NIC or the kernel merged (GRO) count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A register, by its first 32-bit word (0 to 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reg(pub u8);

/// What an offset into the packet counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The network header (for ARP: the ARP header).
    Network,
    /// The transport header; a fragment that is not the first has none.
    Transport,
    /// Anything else.
    Other(u32),
}

/// What `meta` can tell or set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaKey {
    /// The EtherType, two bytes in network order.
    Protocol,
    /// The transport protocol, behind IPv6 extension headers, one byte.
    L4Protocol,
    /// The name of the outgoing interface, 16 bytes.
    OutIfName,
    /// The packet type (`PACKET_HOST` and so on), one byte.
    PacketType,
    /// Anything else.
    Other(u32),
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It goes on to the next hook.
    Accept,
    /// It is gone.
    Drop,
    /// On to another chain, not to return.
    Goto(String),
    /// Anything else.
    Other(i32),
}

/// One expression of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Loads bytes of the packet.
    Payload {
        /// What the offset counts from.
        header: Header,
        /// In bytes.
        offset: u32,
        /// In bytes.
        len: u32,
        /// Where to.
        to: Reg,
    },
    /// Writes bytes of the packet.
    Write {
        /// What the offset counts from.
        header: Header,
        /// In bytes.
        offset: u32,
        /// In bytes.
        len: u32,
        /// Where from.
        from: Reg,
        /// Where the Internet checksum stands that must follow the change, counted likewise.
        checksum: Option<u32>,
    },
    /// Loads something that is known about the packet.
    Meta {
        /// What.
        key: MetaKey,
        /// Where to.
        to: Reg,
    },
    /// Changes something that is known about the packet.
    SetMeta {
        /// What.
        key: MetaKey,
        /// Where from.
        from: Reg,
    },
    /// Loads bytes of the IPv6 fragment header (RFC 8200 §4.5), wherever among the extension headers
    /// it stands; a packet without one ends the rule.
    FragmentHeader {
        /// In bytes.
        offset: u32,
        /// In bytes.
        len: u32,
        /// Where to.
        to: Reg,
    },
    /// Goes on only if a register compares so with this value, byte by byte.
    Compare {
        /// The register.
        from: Reg,
        /// How.
        how: Comparison,
        /// The value.
        value: Vec<u8>,
    },
    /// Goes on for so many packets a second; those that a quiet second leaves over may come at once.
    AtMostASecond {
        /// The rate, and how many may come at once.
        packets: u32,
    },
    /// `to = from & mask`.
    And {
        /// The operand.
        from: Reg,
        /// Where to.
        to: Reg,
        /// The other operand.
        mask: Vec<u8>,
    },
    /// Turns a 32-bit number from network to host order.
    ToHostOrder {
        /// Where from.
        from: Reg,
        /// Where to.
        to: Reg,
    },
    /// `reciprocal_scale(jhash(bytes, seed), modulus)`.
    Hash {
        /// The first byte's register.
        from: Reg,
        /// In bytes.
        len: u32,
        /// Where to.
        to: Reg,
        /// The results are `0 .. modulus`.
        modulus: u32,
        /// The initial value.
        seed: u32,
    },
    /// Goes on only if a register's value is in the set; with a map, to what it is mapped to.
    Lookup {
        /// The set or map.
        set: String,
        /// The key's register.
        from: Reg,
        /// What to do with what was found.
        found: Found,
    },
    /// Puts a register's value into a set or takes it out; the rule goes on whether it was there or
    /// not, but ends where the set is full.
    Learn {
        /// The set.
        set: String,
        /// The key's register.
        from: Reg,
        /// What to do.
        what: Learn,
    },
    /// Loads a constant.
    Load {
        /// Where to.
        to: Reg,
        /// The constant.
        value: Vec<u8>,
    },
    /// Ends the rule.
    Verdict(Verdict),
    /// Counts the packets that come as far as here.
    Counter,
    /// An expression that we never use, by its kernel name and what was found of it.
    Other(String),
}

/// What a lookup does with what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The set has no data: the rule goes on.
    GoOn,
    /// The rule goes on only if it is not in the set.
    Missing,
    /// The map's verdict is the packet's.
    Verdict,
    /// The map's value is loaded.
    Value(Reg),
}

/// How a register compares with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// It is the value.
    Equal,
    /// It is another.
    NotEqual,
    /// It is the value or less.
    AtMost,
    /// It is more.
    MoreThan,
}

/// What a packet does to a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learn {
    /// The key is in it from now on, for the set's lifetime.
    Keep,
    /// The key is not in it any more.
    Forget,
}

/// A set, or a map if it has data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// What it is made for.
    pub spec: SetSpec,
    /// What is in it, by key. Parts of a key are padded to four bytes each.
    pub elements: BTreeMap<Vec<u8>, Element>,
}

/// What a set is made for; it cannot be changed while the set exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSpec {
    /// The parts of a key.
    pub key: Vec<KeyPart>,
    /// What an element is mapped to.
    pub data: Data,
    /// Every element counts the packets that find it.
    pub counters: bool,
    /// The most elements that it takes. A known size gets the fixed hash table, the fastest.
    pub size: u32,
    /// How elements end.
    pub lifetime: Lifetime,
}

/// How the elements of a set end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// They stay until they are deleted.
    Endless,
    /// Each ends by itself, after a time of its own.
    Each,
    /// Packets put them in or take them out; without a time of its own an element ends so many
    /// milliseconds after its last packet. What is in such a set is neither compared nor read with
    /// the rest: there may be very much.
    Learnt(u64),
}

/// The types of key parts, numbered as nft numbers its data types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPart {
    /// A 32-bit number in host order.
    Number,
    /// 32 bits as they stand in the packet.
    Bits,
    /// An IPv4 address.
    Ip4,
    /// An IPv6 address.
    Ip6,
    /// An IP protocol.
    Protocol,
    /// An ICMP type.
    IcmpType,
    /// An ICMPv6 type.
    Icmp6Type,
    /// A link-layer address.
    Mac,
    /// An interface name, 16 bytes.
    IfName,
    /// Two bytes as they stand in the packet, which nft lists as a port: a port, the identification of
    /// an IPv4 datagram.
    Short,
    /// Four bytes as they stand in the packet, which nft lists as a mark: a sequence number, the
    /// identification of an IPv6 datagram.
    Long,
    /// Anything else, by its number.
    Other(u32),
}

/// What elements of a set are mapped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// Nothing: it is a set.
    None,
    /// A verdict.
    Verdict,
    /// A link-layer address.
    Mac,
    /// Anything else, by its number.
    Other(u32),
}

/// An element of a set.
#[derive(Debug, Clone)]
pub struct Element {
    /// What it is mapped to.
    pub target: Target,
    /// What its counter shows, if it was read from the kernel.
    pub count: Option<Count>,
    /// In how many milliseconds it ends by itself, if it does. Time goes on, so two elements that
    /// differ in this are equal.
    pub left_ms: Option<u64>,
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.target == other.target
    }
}

impl Eq for Element {}

/// What an element is mapped to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Nothing.
    None,
    /// A verdict.
    Verdict(Verdict),
    /// A value.
    Value(Vec<u8>),
}

impl KeyPart {
    /// Its length in bytes, without the padding.
    pub fn width(self) -> usize {
        match self {
            KeyPart::Number | KeyPart::Bits | KeyPart::Ip4 => 4,
            KeyPart::Ip6 | KeyPart::IfName => 16,
            KeyPart::Protocol | KeyPart::IcmpType | KeyPart::Icmp6Type => 1,
            KeyPart::Mac => 6,
            KeyPart::Short => 2,
            KeyPart::Long => 4,
            KeyPart::Other(_) => 0,
        }
    }
}

impl SetSpec {
    /// A set that only rules change, without counters.
    pub fn new(key: Vec<KeyPart>, data: Data, size: u32) -> Self {
        SetSpec {
            key,
            data,
            counters: false,
            size,
            lifetime: Lifetime::Endless,
        }
    }

    /// The length of a key in bytes: parts of a concatenation are padded to four bytes each.
    pub fn key_len(&self) -> usize {
        match self.key.as_slice() {
            [one] => one.width(),
            parts => parts
                .iter()
                .map(|part| part.width().next_multiple_of(4))
                .sum(),
        }
    }
}

impl Rule {
    /// Does it look anything up in one of these sets, or change them?
    pub fn uses(&self, sets: &[String]) -> bool {
        self.exprs.iter().any(|expr| match expr {
            Expr::Lookup { set, .. } | Expr::Learn { set, .. } => sets.contains(set),
            _ => false,
        })
    }
}

impl Chain {
    /// A chain that others go to, with these rules.
    pub fn of(rules: impl IntoIterator<Item = Rule>) -> Self {
        Chain {
            base: None,
            comment: None,
            rules: rules.into_iter().collect(),
        }
    }
}

impl Set {
    /// A set that is still empty.
    pub fn new(spec: SetSpec) -> Self {
        Set {
            spec,
            elements: BTreeMap::new(),
        }
    }
}

impl Element {
    /// An element that is mapped to this.
    pub fn new(target: Target) -> Self {
        Element {
            target,
            count: None,
            left_ms: None,
        }
    }

    /// The same, but it ends by itself after so many milliseconds.
    pub fn ending(self, left_ms: u64) -> Self {
        Element {
            left_ms: Some(left_ms),
            ..self
        }
    }
}
