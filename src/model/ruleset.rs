//! nf_tables rulesets as values: tables and their chains; what they are made of is `rule`'s and `set`'s.
//!
//! The same types say what should be (`rules::dataplane` writes them) and what is (`sys::nft` reads
//! them from the kernel), so the two can be compared. Only what this project puts into the kernel
//! has a name here; whatever else is found reads as `Other` and is therefore never equal.
//!
//! Terms and numbers are those of `include/uapi/linux/netfilter/nf_tables.h`.

use std::collections::BTreeMap;

pub use super::rule::{Comparison, Count, Expr, Found, Header, Learn, MetaKey, Reg, Rule, Verdict};
pub use super::set::{Data, Element, KeyPart, Lifetime, Set, SetSpec, Target, Word, Words};

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

impl Chain {
    /// A chain that others go to, with these rules.
    pub fn of(rules: impl IntoIterator<Item = Rule>) -> Self {
        Chain {
            base: None,
            comment: None,
            rules: rules.into_iter().collect(),
        }
    }

    /// A base chain without rules.
    pub fn hooked(hook: Hook, priority: i32) -> Self {
        Chain {
            base: Some(BaseChain { hook, priority }),
            ..Chain::default()
        }
    }
}
