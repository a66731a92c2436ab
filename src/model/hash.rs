//! The hash that gives every packet its bucket, in plain Rust.
//!
//! This is the mirror of what the data plane tells the kernel to compute (`rules::dataplane`), so
//! that people and tests can ask "whose packet is this?" without sending one. Nothing here talks
//! to the kernel.
//!
//! Source of truth: `include/linux/jhash.h` (Bob Jenkins' lookup3 as the kernel has it),
//! `net/ipv4/netfilter/ipt_CLUSTERIP.c` (Linux 4.1 to 6.2) for the layout `clusterip`, and
//! `net/netfilter/xt_cluster.c` for the layout `network`. jhash is not a keyed hash: whoever knows
//! the seed can aim all of his traffic at one bucket.

use super::untrusted::Untrusted;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

#[cfg(target_endian = "big")]
compile_error!(
    "the bucket of a packet was never verified on big-endian hosts; build for a little-endian one"
);

/// Which parts of a packet choose its bucket: IPaddr2's parameter `clusterip_hash`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum HashMode {
    /// The source address alone: a client stays on one node.
    SourceIp,
    /// Source address and source port (the default, as it always was).
    #[default]
    SourceIpSourcePort,
    /// Source address, source port and destination port.
    SourceIpSourcePortDestPort,
}

impl HashMode {
    /// Every mode, in the order in which they are documented.
    pub const ALL: [HashMode; 3] = [
        HashMode::SourceIp,
        HashMode::SourceIpSourcePort,
        HashMode::SourceIpSourcePortDestPort,
    ];

    /// The number of ports in the key: 0, 1 or 2.
    pub fn ports(self) -> usize {
        match self {
            HashMode::SourceIp => 0,
            HashMode::SourceIpSourcePort => 1,
            HashMode::SourceIpSourcePortDestPort => 2,
        }
    }

    /// Do ports enter the hash? Then it matters which protocol a packet is of, and whether it is whole.
    pub fn has_ports(self) -> bool {
        self.ports() > 0
    }

    /// The name that the cluster configuration uses.
    pub fn name(self) -> &'static str {
        match self {
            HashMode::SourceIp => "sourceip",
            HashMode::SourceIpSourcePort => "sourceip-sourceport",
            HashMode::SourceIpSourcePortDestPort => "sourceip-sourceport-destport",
        }
    }
}

/// How the source address enters the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Layout {
    /// IPv4 addresses in host byte order: with seed 0 identical to `ipt_CLUSTERIP`.
    #[default]
    ClusterIp,
    /// Addresses as they stand in the packet: identical to `xt_cluster`.
    Network,
}

impl Layout {
    /// Every layout, in the order in which they are documented.
    pub const ALL: [Layout; 2] = [Layout::ClusterIp, Layout::Network];

    /// The name that the cluster configuration uses.
    pub fn name(self) -> &'static str {
        match self {
            Layout::ClusterIp => "clusterip",
            Layout::Network => "network",
        }
    }
}

/// A word that names no hash mode or no layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{value}' is no {what}; use one of: {choices}")]
pub struct UnknownName {
    what: &'static str,
    value: Untrusted,
    choices: &'static str,
}

impl FromStr for HashMode {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        HashMode::ALL
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| UnknownName {
                what: "hash mode",
                value: text.into(),
                choices: "sourceip, sourceip-sourceport, sourceip-sourceport-destport",
            })
    }
}

impl FromStr for Layout {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Layout::ALL
            .into_iter()
            .find(|layout| layout.name() == text)
            .ok_or_else(|| UnknownName {
                what: "hash layout",
                value: text.into(),
                choices: "clusterip, network",
            })
    }
}

impl fmt::Display for HashMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What of a packet may enter the hash. Protocols without ports have both ports 0; ESP and AH have
/// the two halves of their SPI there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// The packet's source address.
    pub source: IpAddr,
    /// The packet's source port, in host order.
    pub source_port: u16,
    /// The packet's destination port, in host order.
    pub destination_port: u16,
}

/// How packets are hashed: the part of a VIP's description that all nodes must share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hasher {
    /// What enters the hash.
    pub mode: HashMode,
    /// How the address enters it.
    pub layout: Layout,
    /// The initial value of jhash.
    pub seed: u32,
}

impl Hasher {
    /// The bytes that are hashed for this flow: 4, 8 or 12 for IPv4; 16, 20 or 24 for IPv6. A port
    /// is two bytes in network order, padded to four.
    pub fn key(&self, flow: &Flow) -> Vec<u8> {
        let mut key = match (flow.source, self.layout) {
            (IpAddr::V4(address), Layout::Network) => address.octets().to_vec(),
            (IpAddr::V4(address), Layout::ClusterIp) => address.to_bits().to_ne_bytes().to_vec(),
            (IpAddr::V6(address), _) => address.octets().to_vec(),
        };
        for port in [flow.source_port, flow.destination_port]
            .into_iter()
            .take(self.mode.ports())
        {
            key.extend_from_slice(&port.to_be_bytes());
            key.extend_from_slice(&[0, 0]);
        }
        key
    }

    /// The 32-bit hash of this flow.
    pub fn hash(&self, flow: &Flow) -> u32 {
        jhash(&self.key(flow), self.seed)
    }

    /// The flow's bucket, `0 .. buckets` (classic tools print one more).
    pub fn bucket(&self, flow: &Flow, buckets: u16) -> u16 {
        reciprocal_scale(self.hash(flow), u32::from(buckets)) as u16
    }
}

/// `reciprocal_scale()` of `include/linux/kernel.h`: maps a hash to `0 .. range` without a modulo.
fn reciprocal_scale(value: u32, range: u32) -> u32 {
    ((u64::from(value) * u64::from(range)) >> 32) as u32
}

/// `jhash()` of `include/linux/jhash.h`, for keys of any length.
pub fn jhash(key: &[u8], seed: u32) -> u32 {
    const INITVAL: u32 = 0xdead_beef;
    let start = INITVAL.wrapping_add(key.len() as u32).wrapping_add(seed);
    let (mut a, mut b, mut c) = (start, start, start);

    let mut rest = key;
    while rest.len() > 12 {
        a = a.wrapping_add(word(rest, 0));
        b = b.wrapping_add(word(rest, 1));
        c = c.wrapping_add(word(rest, 2));
        (a, b, c) = mix(a, b, c);
        rest = &rest[12..];
    }
    if rest.is_empty() {
        return c;
    }
    a = a.wrapping_add(word(rest, 0));
    b = b.wrapping_add(word(rest, 1));
    c = c.wrapping_add(word(rest, 2));
    finish(a, b, c)
}

/// The n-th 32-bit word of the key; bytes beyond its end count as 0.
fn word(key: &[u8], n: usize) -> u32 {
    let mut bytes = [0; 4];
    for (byte, from) in bytes.iter_mut().zip(key.iter().skip(4 * n)) {
        *byte = *from;
    }
    u32::from_le_bytes(bytes)
}

fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    (a, b, c)
}

fn finish(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with the kernel's own header: address, ports, seed, then for each mode the hash
    /// and its buckets of 2, 5 and 16, counted from 1; at last the layout `network`, source only.
    const VECTORS: &str = include_str!("hash-vectors.txt");

    #[test]
    fn agrees_with_the_kernels_header() {
        let mut checked = 0;
        for line in VECTORS
            .lines()
            .filter(|l| !l.starts_with('#') && !l.is_empty())
        {
            let mut fields = line.split_whitespace();
            let mut next = || fields.next().expect("a field");
            let flow = Flow {
                source: next().parse().expect("address"),
                source_port: next().parse().expect("port"),
                destination_port: next().parse().expect("port"),
            };
            let seed = u32::from_str_radix(next(), 16).expect("seed");
            let rows = [
                (HashMode::SourceIp, Layout::ClusterIp),
                (HashMode::SourceIpSourcePort, Layout::ClusterIp),
                (HashMode::SourceIpSourcePortDestPort, Layout::ClusterIp),
                (HashMode::SourceIp, Layout::Network),
            ];
            for (mode, layout) in rows {
                let hasher = Hasher { mode, layout, seed };
                let hash = u32::from_str_radix(next(), 16).expect("hash");
                assert_eq!(hasher.hash(&flow), hash, "{line}: {mode} {layout}");
                for buckets in [2, 5, 16] {
                    let one_based: u16 = next().parse().expect("bucket");
                    assert_eq!(hasher.bucket(&flow, buckets) + 1, one_based, "{line}");
                    checked += 1;
                }
            }
        }
        assert_eq!(checked, 10 * 4 * 3);
    }

    #[test]
    fn keys_have_the_lengths_that_the_kernel_hashes() {
        for (source, lengths) in [("192.0.2.1", [4, 8, 12]), ("2001:db8::1", [16, 20, 24])] {
            let flow = Flow {
                source: source.parse().expect("address"),
                source_port: 1,
                destination_port: 2,
            };
            for (mode, length) in HashMode::ALL.into_iter().zip(lengths) {
                let hasher = Hasher {
                    mode,
                    layout: Layout::ClusterIp,
                    seed: 0,
                };
                assert_eq!(hasher.key(&flow).len(), length);
            }
        }
    }

    #[test]
    fn names_are_read_back_and_others_refused() {
        for mode in HashMode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
        }
        for layout in Layout::ALL {
            assert_eq!(layout.name().parse(), Ok(layout));
        }
        let error = "destip".parse::<HashMode>().expect_err("no such mode");
        assert!(error.to_string().contains("'destip'"), "{error}");
    }
}
