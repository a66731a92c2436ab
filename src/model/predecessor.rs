//! What shared an address before this, and what it made of the parameters that it was given: a cluster MAC, a layout and a
//! seed, so that its nodes and these can share an address side by side (`compat`). Pure.
//!
//! | `compat` | is | key | layout | seed | cluster MAC |
//! |---|---|---|---|---|---|
//! | `clusterip` | the target CLUSTERIP (`net/ipv4/netfilter/ipt_CLUSTERIP.c`, Linux 4.1 to 6.2) under IPaddr2 as it was until resource-agents 4.18 | `clusterip_hash` | `clusterip` | 0 | the digest's first six bytes, made a multicast one |
//! | `ipaddr2` | the IPaddr2 after it, by nft or xt_cluster | `sourceip` | `network` | `clusterip_hash_seed`, or the digest's first four bytes | the same; for IPv6 its first two are 33:33 |
//!
//! The digest is the MD5 of "IP NETMASK BROADCAST" and the end of the line, in which what is empty is left out
//! (`ip_init()` in heartbeat/IPaddr2). Which broadcast that is, `host::place` finds out.

use super::bucket::BucketCount;
use super::hash::{HashMode, Layout};
use super::l2_mode::L2Mode;
use super::mac::Mac;
use super::untrusted::Untrusted;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// The most nodes that CLUSTERIP knew (`CLUSTERIP_MAX_NODES`).
const MOST_CLUSTERIP: u16 = 16;

/// What shared an address before this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predecessor {
    /// The kernel's target CLUSTERIP, as IPaddr2 used it.
    ClusterIp,
    /// The IPaddr2 that does without it.
    Ipaddr2,
}

impl Predecessor {
    /// All of them.
    pub const ALL: [Predecessor; 2] = [Predecessor::ClusterIp, Predecessor::Ipaddr2];

    /// The name that parameters use.
    pub fn name(self) -> &'static str {
        match self {
            Predecessor::ClusterIp => "clusterip",
            Predecessor::Ipaddr2 => "ipaddr2",
        }
    }

    /// In a sentence.
    pub fn called(self) -> &'static str {
        match self {
            Predecessor::ClusterIp => "IPaddr2 with CLUSTERIP",
            Predecessor::Ipaddr2 => "the newest IPaddr2",
        }
    }

    /// Among how many instances it can share an address, by `xt_cluster` (`XT_CLUSTER_NODES_MAX`) or otherwise
    /// (`CLUSTERIP_MAX_NODES`).
    pub fn most(self, by_iptables: bool) -> u16 {
        match self {
            Predecessor::ClusterIp => MOST_CLUSTERIP,
            Predecessor::Ipaddr2 if by_iptables => 32,
            Predecessor::Ipaddr2 => BucketCount::MAX,
        }
    }

    /// Could it share this address at all?
    ///
    /// # Errors
    /// [`Unlike::Family`].
    pub fn knows(self, vip: IpAddr) -> Result<(), Unlike> {
        match self {
            Predecessor::ClusterIp if vip.is_ipv6() => Err(Unlike::Family(vip)),
            _ => Ok(()),
        }
    }

    /// What entered its hash, if it always was the same.
    pub fn hash(self) -> Option<HashMode> {
        match self {
            Predecessor::ClusterIp => None,
            Predecessor::Ipaddr2 => Some(HashMode::SourceIp),
        }
    }

    /// How the address entered its hash.
    pub fn layout(self) -> Layout {
        match self {
            Predecessor::ClusterIp => Layout::ClusterIp,
            Predecessor::Ipaddr2 => Layout::Network,
        }
    }
}

impl fmt::Display for Predecessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Nobody, or a predecessor: what `compat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compat(pub Option<Predecessor>);

impl Compat {
    /// As the parameter has it.
    pub fn name(self) -> &'static str {
        self.0.map_or("none", Predecessor::name)
    }
}

/// A word that is no predecessor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no predecessor; use none, clusterip or ipaddr2")]
pub struct NoPredecessor(Untrusted);

impl FromStr for Compat {
    type Err = NoPredecessor;

    fn from_str(text: &str) -> Result<Self, NoPredecessor> {
        let mut all = Predecessor::ALL.into_iter();
        match all.find(|predecessor| predecessor.name() == text) {
            None if text == "none" => Ok(Compat(None)),
            None => Err(NoPredecessor(text.into())),
            known => Ok(Compat(known)),
        }
    }
}

/// A predecessor on the node where the VIP is to be shared as it shared it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Like {
    /// The predecessor.
    pub predecessor: Predecessor,
    /// The broadcast address that it would have found, or was told; empty if there was none.
    pub broadcast: String,
}

/// Text that IPaddr2 takes for no broadcast address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no broadcast address; use an IPv4 address, '+' or '-', as it stands in IPaddr2's parameter"
)]
pub struct NoBroadcast(Untrusted);

/// A broadcast address as it stands in IPaddr2's parameter, or nothing.
///
/// # Errors
/// [`NoBroadcast`].
pub fn broadcast(text: &str) -> Result<String, NoBroadcast> {
    match text {
        "" | "+" | "-" => Ok(text.to_owned()),
        _ => text
            .parse::<Ipv4Addr>()
            .map(|address| address.to_string())
            .map_err(|_| NoBroadcast(text.into())),
    }
}

/// What is asked for, and must be as the predecessor had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// The shared address.
    pub address: IpAddr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// Among how many buckets its packets are spread.
    pub buckets: BucketCount,
    /// How all nodes get to see them.
    pub mode: L2Mode,
    /// What enters the hash, if that is said.
    pub hash: Option<HashMode>,
    /// How the address enters the hash, if that is said.
    pub layout: Option<Layout>,
}

/// What a predecessor made of its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// The cluster MAC.
    pub mac: Mac,
    /// The initial value of the hash.
    pub seed: u32,
}

/// Why an address cannot be shared as a predecessor shared it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unlike {
    /// CLUSTERIP knew IPv4 alone.
    #[error(
        "{0} cannot be shared as CLUSTERIP did, which knew no IPv6; leave compat out, or use \
         compat=\"ipaddr2\" if it was the newest IPaddr2's"
    )]
    Family(IpAddr),
    /// CLUSTERIP knew few nodes.
    #[error(
        "there are {0} buckets, and CLUSTERIP knew at most {MOST_CLUSTERIP} nodes; use as many as there were, \
         or leave compat out"
    )]
    Buckets(BucketCount),
    /// Its MAC was a multicast one.
    #[error(
        "{predecessor} shared addresses under a multicast MAC, and the mode {mode} does without; leave out \
         mode or compat"
    )]
    Mode {
        /// The predecessor.
        predecessor: Predecessor,
        /// The mode asked for.
        mode: L2Mode,
    },
    /// It hashed otherwise.
    #[error("{predecessor} did not hash by {asked}, but by {made}; leave that out, or compat")]
    Hash {
        /// The predecessor.
        predecessor: Predecessor,
        /// What is asked for.
        asked: &'static str,
        /// How it hashed.
        made: &'static str,
    },
}

impl Like {
    /// What the predecessor made of an address and the length of its network's prefix.
    pub fn derived(&self, vip: IpAddr, prefix: u8) -> Made {
        derived(self.predecessor, vip, prefix, &self.broadcast)
    }

    /// What the predecessor made of these.
    ///
    /// # Errors
    /// What it could not do.
    pub fn made(&self, given: &Given) -> Result<Made, Unlike> {
        let predecessor = self.predecessor;
        if given.mode == L2Mode::Stealth {
            let mode = given.mode;
            return Err(Unlike::Mode { predecessor, mode });
        }
        let differs = |asked, made| Unlike::Hash {
            predecessor,
            asked,
            made,
        };
        let of_old = predecessor.layout();
        match (given.layout, given.hash, predecessor.hash()) {
            (Some(layout), ..) if layout != of_old => {
                return Err(differs(layout.name(), of_old.name()));
            }
            (_, Some(hash), Some(made)) if hash != made => {
                return Err(differs(hash.name(), made.name()));
            }
            _ => {}
        }
        predecessor.knows(given.address)?;
        match predecessor {
            Predecessor::ClusterIp if given.buckets.get() > MOST_CLUSTERIP => {
                Err(Unlike::Buckets(given.buckets))
            }
            _ => Ok(self.derived(given.address, given.prefix)),
        }
    }
}

/// What a predecessor made of an address, the length of its network's prefix and a broadcast address, which is empty if
/// there is none.
pub(super) fn derived(predecessor: Predecessor, vip: IpAddr, prefix: u8, broadcast: &str) -> Made {
    let mut line = format!("{vip} {prefix}");
    if !broadcast.is_empty() {
        line = line + " " + broadcast;
    }
    let [a, b, c, d, e, f, ..] = *md5::compute(line + "\n");
    let seed = u32::from_be_bytes([a, b, c, d]);
    Made {
        mac: match vip {
            IpAddr::V4(_) => Mac([odd(a), b, c, d, e, f]),
            IpAddr::V6(_) => Mac([0x33, 0x33, c, d, e, f]),
        },
        seed: match predecessor {
            Predecessor::ClusterIp => 0,
            Predecessor::Ipaddr2 => seed,
        },
    }
}

/// Whose seed this is, so that anybody can compute it: the one that CLUSTERIP has unless another is given, or the one
/// that the newest IPaddr2 derives. It derives the MAC from the same digest; where another MAC was given, the broadcast
/// address is taken for the network's or none.
pub fn whose_seed(vip: IpAddr, prefix: u8, mac: Mac, seed: u32) -> Option<Predecessor> {
    let broadcast = match vip {
        IpAddr::V4(v4) => {
            let host = u32::MAX.checked_shr(prefix.into()).unwrap_or_default();
            Ipv4Addr::from(u32::from(v4) | host).to_string()
        }
        IpAddr::V6(_) => String::new(),
    };
    let its = |broadcast: &str| derived(Predecessor::Ipaddr2, vip, prefix, broadcast).seed == seed;
    let [a, b, c, d] = seed.to_be_bytes();
    let is_in_mac = vip.is_ipv4() && mac.0[..4] == [odd(a), b, c, d];
    match seed {
        0 => Some(Predecessor::ClusterIp),
        _ if is_in_mac || its("") || its(&broadcast) => Some(Predecessor::Ipaddr2),
        _ => None,
    }
}

/// The first octet of a multicast MAC: an even second digit becomes a 1; IPaddr2 looks at digits, not at bits.
fn odd(octet: u8) -> u8 {
    match octet % 2 {
        0 => (octet & 0xf0) | 1,
        _ => octet,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What IPaddr2's own lines made of these (`echo IP NETMASK BROADCAST | md5sum | sed …`).
    #[test]
    fn macs_and_seeds_are_those_that_ipaddr2_derives() {
        for (vip, prefix, broadcast, mac, seed) in [
            ("10.9.0.80", 24, "", "51:61:75:ce:4d:2e", 0x5161_75ce),
            (
                "10.0.0.99",
                24,
                "10.0.0.255",
                "39:fb:b8:02:09:50",
                0x39fb_b802,
            ),
            (
                "192.0.2.7",
                28,
                "192.0.2.15",
                "c1:3d:75:99:52:af",
                0xc03d_7599,
            ),
            ("fd77::99", 64, "", "33:33:d7:48:5b:2b", 0x794e_d748),
        ] {
            let vip: IpAddr = vip.parse().expect("an address");
            let made = derived(Predecessor::Ipaddr2, vip, prefix, broadcast);
            assert_eq!((made.mac.to_string().as_str(), made.seed), (mac, seed));
            if vip.is_ipv4() {
                let classic = derived(Predecessor::ClusterIp, vip, prefix, broadcast);
                assert_eq!((classic.mac, classic.seed), (made.mac, 0));
            }
        }
    }

    #[test]
    fn a_seed_that_a_predecessor_had_is_known_for_one() {
        let vip: IpAddr = "10.0.0.99".parse().expect("an address");
        let given = Mac([3, 0, 0, 0, 0, 1]);
        let seed_of = |broadcast: &str| derived(Predecessor::Ipaddr2, vip, 24, broadcast);
        assert_eq!(whose_seed(vip, 24, given, 0), Some(Predecessor::ClusterIp));
        for broadcast in ["", "10.0.0.255"] {
            let made = seed_of(broadcast);
            for mac in [made.mac, given] {
                let whose = whose_seed(vip, 24, mac, made.seed);
                assert_eq!(whose, Some(Predecessor::Ipaddr2));
            }
        }
        // An unusual one can be read in the MAC.
        let made = seed_of("10.0.0.127");
        assert_eq!(
            whose_seed(vip, 24, made.mac, made.seed),
            Some(Predecessor::Ipaddr2)
        );
        assert_eq!(whose_seed(vip, 24, given, made.seed), None);
        assert_eq!(whose_seed(vip, 24, made.mac, made.seed ^ 1), None);
        let vip: IpAddr = "fd77::99".parse().expect("an address");
        for prefix in [0, 64, 128] {
            let made = derived(Predecessor::Ipaddr2, vip, prefix, "");
            let whose = whose_seed(vip, prefix, made.mac, made.seed);
            assert_eq!(whose, Some(Predecessor::Ipaddr2));
        }
        for prefix in [0, 32] {
            let v4 = IpAddr::from([10, 0, 0, 99]);
            assert_eq!(whose_seed(v4, prefix, given, 7), None);
        }
    }

    #[test]
    fn clusterip_alone_knew_no_ipv6() {
        let [four, six] = ["10.0.0.99", "2001:db8::99"].map(|ip| ip.parse().expect("an address"));
        for (predecessor, vip, is_known) in [
            (Predecessor::ClusterIp, four, true),
            (Predecessor::ClusterIp, six, false),
            (Predecessor::Ipaddr2, six, true),
        ] {
            assert_eq!(
                predecessor.knows(vip).is_ok(),
                is_known,
                "{predecessor}, {vip}"
            );
        }
    }

    #[test]
    fn a_word_is_nobody_or_a_predecessor() {
        for predecessor in Predecessor::ALL {
            assert_eq!(predecessor.name().parse(), Ok(Compat(Some(predecessor))));
        }
        assert_eq!("none".parse(), Ok(Compat(None)));
        assert!("IPaddr2".parse::<Compat>().is_err());
        for text in ["", "+", "-", "10.0.0.255"] {
            assert_eq!(broadcast(text).as_deref(), Ok(text));
        }
        assert!(broadcast("10.0.0").is_err() && broadcast("++").is_err());
    }
}
