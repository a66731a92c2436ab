//! The rules of a ruleset, as values: expressions, what they load and compare, verdicts, counts.
//!
//! Terms and numbers are those of `include/uapi/linux/netfilter/nf_tables.h`.

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
    /// The Ethernet header; the kernel puts a VLAN tag back that it has taken out.
    Link,
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
    /// The name of the incoming interface, 16 bytes.
    InIfName,
    /// The name of the outgoing interface, 16 bytes.
    OutIfName,
    /// What makes the incoming interface (`vlan`, `veth`), 16 bytes; a card has none, and the rule ends.
    InIfKind,
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
    /// On to another chain, and back behind this rule unless that decides.
    Jump(String),
    /// Back to where it came from.
    Return,
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
    /// Turns the first two of four bytes from network to host order.
    FirstTwoToHostOrder {
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
    /// The same, but if it is in it already its time goes on.
    Note,
    /// The key is not in it any more.
    Forget,
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
