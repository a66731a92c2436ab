//! The base chains of other people's tables, as far as they have to do with a VIP. Pure data; `sys::nft` fills it.

use super::untrusted::Untrusted;
use std::net::IpAddr;

/// A base chain of somebody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain {
    /// The family of its table, as nft has it: `inet`, `ip`, `ip6`, `arp` or `netdev`.
    pub family: &'static str,
    /// Its table.
    pub table: Untrusted,
    /// Its name.
    pub name: Untrusted,
    /// Where it is hooked, as nft has it: `prerouting`, `input` …
    pub hook: &'static str,
    /// The devices that it is for; all if there are none.
    pub devices: Vec<Untrusted>,
    /// What becomes of what no rule in it decides about.
    pub rest: Rest,
    /// Addresses that rules in it share as a predecessor did, and by what.
    pub shares: Vec<(SharedBy, IpAddr)>,
}

/// What becomes of what comes to the end of a chain: by its policy, or by a rule that is for everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It goes on.
    Passes,
    /// It is dropped.
    Dropped,
    /// Its sender is told so.
    Rejected,
}

/// By what of iptables' a rule shares an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedBy {
    /// The match `cluster` (`xt_cluster`).
    XtCluster,
    /// The target CLUSTERIP.
    ClusterIp,
}
