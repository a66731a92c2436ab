//! The sets and maps of a ruleset, as values: what they are made for, and what is in them.

use super::rule::{Count, Header, Verdict};
use std::collections::BTreeMap;
use std::fmt;

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
    /// How often the kernel collects what has ended, in milliseconds; `None` is once a second. It walks
    /// the whole set for that.
    pub collected_ms: Option<u32>,
    /// How nft words it.
    pub words: Words,
}

/// How nft is to word what a set is made for, so that it can read its own listing back: expressions whose
/// types its key and its data have. The kernel only keeps them, so they make no set another one.
#[derive(Clone, Default)]
pub struct Words {
    /// For each part of a key; empty where the type's own name does.
    pub key: Vec<Word>,
    /// For the data, if it is no verdict.
    pub data: Option<Word>,
}

/// An expression of nft's, as the type of a part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// `numgen random mod …`, a number in host order.
    NumberBelow(u32),
    /// `@nh,…` or `@th,…`: these bytes of a header, whatever they are.
    Bytes {
        /// The header.
        header: Header,
        /// In bytes.
        offset: u32,
        /// In bytes.
        len: u32,
    },
    /// `ip saddr`.
    Ip4Source,
    /// `ip6 saddr`.
    Ip6Source,
    /// `th sport`.
    SourcePort,
    /// `th dport`.
    DestinationPort,
    /// `frag id`.
    FragmentId,
    /// `oifname`.
    OutIfName,
}

impl PartialEq for Words {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Words {}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("of no matter")
    }
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
            collected_ms: None,
            words: Words::default(),
        }
    }

    /// A set of numbers below a limit, or a map of them.
    pub fn of_numbers(below: u16, data: Data, size: u32) -> Self {
        SetSpec::new(vec![KeyPart::Number], data, size).worded([Word::NumberBelow(below.into())])
    }

    /// The same for all of them, of which each ends by itself. What has ended takes room until the kernel collects it.
    pub fn of_ending_numbers(below: u16, data: Data) -> Self {
        SetSpec {
            lifetime: Lifetime::Each,
            ..SetSpec::of_numbers(below, data, 2 * u32::from(below))
        }
    }

    /// The same set, whose key nft is to word so.
    pub fn worded(mut self, key: impl IntoIterator<Item = Word>) -> Self {
        self.words.key = key.into_iter().collect();
        self
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

    /// Does it lead to one of these chains?
    pub fn goes_to(&self, chains: &[String]) -> bool {
        matches!(&self.target, Target::Verdict(Verdict::Goto(chain)) if chains.contains(chain))
    }

    /// The same, but it ends by itself after so many milliseconds.
    pub fn ending(self, left_ms: u64) -> Self {
        Element {
            left_ms: Some(left_ms),
            ..self
        }
    }
}

/// Bytes for people, two digits each.
pub fn hex(bytes: &[u8], between: &str) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(between)
}
