//! A VIP's whole, validated description: what an administrator asks for, and what every later action
//! reads back from the kernel, where it stands next to the rules (`written` is how). Pure.

use super::bucket::BucketCount;
use super::hash::{Flow, Hasher};
pub use super::l2_mode::{L2Mode, NoClusterMac};
use super::mac::Mac;
use super::network::Network;
pub use super::nic::{Nic, NicName, NoNic};
use super::predecessor::Unlike;
use super::untrusted::Untrusted;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// The revision of the packet rules (`rules::ingress`, `rules::fragments`): which packets are hashed by what. It is part
/// of a description, for two versions that treat a packet differently could both answer it. Whoever
/// changes what `model::packet` says of any packet raises it.
pub const RULES: u16 = 1;

/// The most VIPs on an interface, and of all interfaces together.
pub const MOST_VIPS: u32 = 1024;

/// Who put the VIP here, and may change it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Manager {
    /// A person, with nodectl.
    Manual,
    /// Pacemaker, by this resource (without the number of the instance).
    Pacemaker(String),
}

impl Manager {
    /// The longest resource name that is kept whole: two comments have room for the longest description.
    const LONGEST: usize = 17;

    /// Pacemaker, by this resource. Names that are too long or that cannot be written between
    /// quotes are shortened to something that is still their own.
    pub fn pacemaker(resource: &str) -> Self {
        let mut name: String = resource.chars().filter(Self::is_plain).collect();
        if name != resource || name.len() > Self::LONGEST {
            let digest = blake3::hash(resource.as_bytes()).to_hex();
            name.truncate(Self::LONGEST - 9);
            name = format!("{name}-{}", &digest[..8]);
        }
        Manager::Pacemaker(name)
    }

    /// The resource, or the program of who did it by hand.
    pub fn name(&self) -> &str {
        match self {
            Manager::Manual => "nodectl",
            Manager::Pacemaker(resource) => resource,
        }
    }

    /// May a kept name have this character?
    pub(super) fn is_plain(c: &char) -> bool {
        c.is_ascii_alphanumeric() || "._-".contains(*c)
    }
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Manager::Manual => f.write_str("manual"),
            Manager::Pacemaker(resource) => write!(f, "pacemaker:{resource}"),
        }
    }
}

/// A VIP's whole description. All nodes of a cluster must share [`Vip::identity`]; the rest may
/// differ from node to node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    /// The shared address.
    pub address: IpAddr,
    /// The length of its network's prefix: 1 to 32, or 1 to 128.
    pub prefix: u8,
    /// The interface that carries it.
    pub nic: Nic,
    /// The link-layer address under which all nodes receive it.
    pub mac: Mac,
    /// How they get to see it.
    pub mode: L2Mode,
    /// How its packets are hashed.
    pub hasher: Hasher,
    /// Among how many buckets they are spread.
    pub buckets: BucketCount,
    /// The address's label (IPv4 only), such as `eth0:web`.
    pub label: Option<String>,
    /// Add no route to the network with the address.
    pub noprefixroute: bool,
    /// The second lock: unicast packets in multicast frames are dropped unless the rules vouch
    /// for them.
    pub lock: bool,
    /// For how many seconds the connections of a bucket that leaves may stay; 0 cuts them.
    pub drain_s: u32,
    /// Who put it here.
    pub manager: Manager,
}

/// What is wrong with a description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VipError {
    /// An address that cannot be shared.
    #[error("{0} cannot be a shared address: it is {1}; use a unicast address of your network")]
    Address(IpAddr, &'static str),
    /// A prefix length that the address family does not have.
    #[error("/{prefix} is no prefix length for {address}; use 1 to {longest}")]
    Prefix {
        /// The address.
        address: IpAddr,
        /// The prefix length asked for.
        prefix: u8,
        /// The longest that there is.
        longest: u8,
    },
    /// A MAC that cannot be the cluster's.
    #[error(transparent)]
    Mac(#[from] NoClusterMac),
    /// What a predecessor could not do.
    #[error(transparent)]
    Unlike(#[from] Unlike),
    /// A time that is too long.
    #[error("connections cannot stay for {0} seconds; use 0 to {LONGEST_DRAIN_S}")]
    Drain(u32),
    /// A label that the kernel would not take.
    #[error("'{0}' is no address label: {1}")]
    Label(Untrusted, &'static str),
    /// A written description that is not one.
    #[error("the description '{text}' in the kernel cannot be read: {why}")]
    Written {
        /// The description as it was found.
        text: Untrusted,
        /// What is wrong with it.
        why: String,
    },
}

/// How long connections may stay if nothing is said, in seconds.
pub const DRAIN_S: u32 = 300;
/// The longest time for which connections may stay, in seconds.
pub const LONGEST_DRAIN_S: u32 = 86_400;

impl Vip {
    /// Is it the same but for what only matters when a bucket leaves?
    pub fn is_like(&self, other: &Vip) -> bool {
        let drain_s = self.drain_s;
        *self
            == Vip {
                drain_s,
                ..other.clone()
            }
    }

    /// The bucket of a flow.
    pub fn bucket(&self, flow: &Flow) -> u16 {
        self.hasher.bucket(flow, self.buckets.get())
    }

    /// Is the sysctl to be set that keeps a node silent whose rules are gone?
    pub fn needs_lock(&self) -> bool {
        self.lock && self.mode.locks_by_sysctl()
    }

    /// The IPv4 group that the node is to be in.
    pub fn group(&self) -> Option<Ipv4Addr> {
        self.mode.group(self.address, self.mac)
    }

    /// The network to which it needs a way, if its prefix names one and the way is wanted.
    pub fn network(&self) -> Option<Network> {
        let network = Network::of(self.address, self.prefix);
        (!network.is_trivial() && !self.noprefixroute).then_some(network)
    }

    /// Checks what the types alone cannot say.
    pub fn validate(&self) -> Result<(), VipError> {
        check_address(self.address)?;
        let longest = longest_prefix(self.address);
        if !(1..=longest).contains(&self.prefix) {
            return Err(VipError::Prefix {
                address: self.address,
                prefix: self.prefix,
                longest,
            });
        }
        check_in_network(self.address, self.prefix)?;
        self.mode.check(self.address, self.mac)?;
        if self.drain_s > LONGEST_DRAIN_S {
            return Err(VipError::Drain(self.drain_s));
        }
        let Some(label) = &self.label else {
            return Ok(());
        };
        let own = label.strip_prefix(self.nic.as_str());
        match own.and_then(|rest| rest.strip_prefix(':')) {
            Some(own) => check_label(own, Some(&self.nic), self.address),
            None => Err(VipError::Label(label.as_str().into(), NOT_OF_NIC)),
        }
    }
}

/// Can this address be a host's in a network of this prefix length?
///
/// # Errors
/// [`VipError::Address`].
pub fn check_in_network(address: IpAddr, prefix: u8) -> Result<(), VipError> {
    match unfit_in_network(address, prefix) {
        Some(why) => Err(VipError::Address(address, why)),
        None => Ok(()),
    }
}

/// The longest prefix that an address of this family has.
pub fn longest_prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The length of a prefix, written so or as an IPv4 netmask.
pub fn parse_prefix(text: &str, ip: IpAddr) -> Option<u8> {
    let bits = match (text.parse::<Ipv4Addr>(), ip) {
        (Ok(mask), IpAddr::V4(_)) => {
            let bits = mask.to_bits();
            (bits.leading_ones() == bits.count_ones()).then(|| bits.count_ones() as u8)?
        }
        _ => text.parse().ok()?,
    };
    (1..=longest_prefix(ip)).contains(&bits).then_some(bits)
}

/// Can this address be shared at all?
pub fn check_address(address: IpAddr) -> Result<(), VipError> {
    match unfit(address) {
        Some(why) => Err(VipError::Address(address, why)),
        None => Ok(()),
    }
}

/// Why an IPv4 address cannot be a host's in its network: all bits of the host's part are equal
/// (RFC 1122 §3.2.1.3; networks of one or two addresses have no such, RFC 3021).
fn unfit_in_network(address: IpAddr, prefix: u8) -> Option<&'static str> {
    let IpAddr::V4(v4) = address else {
        return None;
    };
    let mask = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    match v4.to_bits() & mask {
        _ if prefix >= 31 => None,
        0 => Some("the address of its whole network"),
        host if host == mask => Some("the broadcast address of its network"),
        _ => None,
    }
}

/// Why an address cannot be shared, if so.
fn unfit(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("the unspecified address");
    }
    if address.is_loopback() {
        return Some("a loopback address");
    }
    if address.is_multicast() {
        return Some("a multicast address");
    }
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("an IPv4-mapped address"),
        _ => None,
    }
}

const NOT_OF_NIC: &str = "it does not begin with the interface and a colon";

/// Can this stand behind the interface and a colon in a label? The kernel takes labels of up to 15 bytes
/// (`IFNAMSIZ`); tools expect them to begin so. Where the interface is not known yet it may be short.
///
/// # Errors
/// [`VipError::Label`].
pub fn check_label(own: &str, nic: Option<&Nic>, address: IpAddr) -> Result<(), VipError> {
    let wrong = |why| Err(VipError::Label(own.into(), why));
    if address.is_ipv6() {
        return wrong("IPv6 addresses have none; leave iflabel out");
    }
    if nic.map_or(1, |nic| nic.as_str().len()) + 1 + own.len() > 15 {
        return wrong("with the interface and a colon it must not be longer than 15 characters");
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match !own.is_empty() && own.chars().all(fits) {
        true => Ok(()),
        false => wrong("use letters, digits, dots, hyphens and underscores"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::hash::{HashMode, Layout};
    use super::*;
    use proptest::prelude::*;

    /// Any valid description.
    pub(crate) fn any_vip() -> impl Strategy<Value = Vip> {
        let v4 = (1u8..224, any::<[u8; 3]>())
            .prop_filter("no loopback", |(a, _)| *a != 127)
            .prop_map(|(a, [b, c, d])| IpAddr::from([a, b, c, d]));
        let v6 = any::<[u8; 15]>().prop_map(|tail| {
            let mut octets = [0x20; 16];
            octets[1..].copy_from_slice(&tail);
            IpAddr::from(octets)
        });
        let hasher = (0usize..3, 0usize..2, any::<u32>()).prop_map(|(mode, layout, seed)| Hasher {
            mode: HashMode::ALL[mode],
            layout: Layout::ALL[layout],
            seed,
        });
        let rest = (
            1u8..=32,
            (any::<[u8; 6]>(), 0usize..3),
            1u64..=1024,
            any::<[bool; 4]>(),
            0..=LONGEST_DRAIN_S,
            "[a-zA-Z0-9_.:-]{1,80}",
        );
        (prop_oneof![v4, v6], hasher, rest).prop_map(
            |(address, hasher, (prefix, (mac, mode), buckets, [a, b, c, d], seconds, resource))| {
                let mode = L2Mode::ALL[mode].of_family(address);
                let mac = match mode {
                    L2Mode::Multicast => {
                        Mac([(mac[0] | 1) & 0x7f, mac[1], mac[2], mac[3], mac[4], mac[5]])
                    }
                    L2Mode::Igmp => mode.mac(address),
                    L2Mode::Stealth => Mac([0x02, 0xbf, mac[2], mac[3], mac[4], mac[5]]),
                };
                // In a short prefix of many zeros or ones it could be the network's.
                let prefix = match super::unfit_in_network(address, prefix) {
                    Some(_) => 32,
                    None => prefix,
                };
                Vip {
                    address,
                    prefix,
                    nic: "eth0".parse().expect("a name"),
                    mac,
                    mode,
                    hasher,
                    buckets: BucketCount::new(buckets).expect("in range"),
                    label: (a && address.is_ipv4()).then(|| "eth0:web-1".to_owned()),
                    noprefixroute: b,
                    lock: c,
                    drain_s: seconds,
                    manager: match d {
                        true => Manager::Manual,
                        false => Manager::pacemaker(&resource),
                    },
                }
            },
        )
    }

    /// A description to start from.
    pub(crate) fn a_vip(address: &str) -> Vip {
        let address: IpAddr = address.parse().expect("an address");
        Vip {
            address,
            prefix: 24,
            nic: "eth0".parse().expect("a name"),
            mac: L2Mode::Multicast.mac(address),
            mode: L2Mode::Multicast,
            hasher: Hasher {
                mode: HashMode::default(),
                layout: Layout::default(),
                seed: 0,
            },
            buckets: BucketCount::new(12).expect("in range"),
            label: None,
            noprefixroute: false,
            lock: true,
            drain_s: 0,
            manager: Manager::Manual,
        }
    }

    #[test]
    fn impossible_descriptions_are_refused_in_a_sentence() {
        let refused = |change: fn(&mut Vip), words: &str| {
            let mut vip = a_vip("10.77.0.99");
            change(&mut vip);
            let error = vip.validate().expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        };
        refused(|v| v.address = [224, 0, 0, 1].into(), "a multicast address");
        refused(|v| v.address = [127, 0, 0, 1].into(), "a loopback address");
        refused(|v| v.address = [255; 4].into(), "the broadcast address");
        refused(|v| v.address = [0; 4].into(), "the unspecified address");
        refused(
            |v| v.address = [10, 77, 0, 255].into(),
            "the broadcast address of its network",
        );
        refused(
            |v| v.address = [10, 77, 0, 0].into(),
            "the address of its whole network",
        );
        refused(|v| v.prefix = 33, "use 1 to 32");
        refused(|v| v.prefix = 0, "use 1 to 32");
        refused(|v| v.mac = Mac([2, 0, 0, 0, 0, 1]), "is a unicast MAC");
        refused(|v| v.mac = Mac([0xff; 6]), "the broadcast MAC");
        refused(|v| v.label = Some("eth0:a-long-label".into()), "15");
        refused(|v| v.label = Some("eth0:a b".into()), "use letters");
        refused(|v| v.label = Some("eth1:a".into()), "does not begin with");
    }

    #[test]
    fn interface_names_are_what_the_kernel_takes() {
        for right in ["eth0", "eth0.10", "br-lan", "a@b"] {
            assert!(right.parse::<Nic>().is_ok(), "{right}");
        }
        for wrong in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "eth0:1",
            "sixteen-letters-",
            "ü",
            "a\"b",
        ] {
            assert!(wrong.parse::<Nic>().is_err(), "{wrong}");
        }
    }
}
