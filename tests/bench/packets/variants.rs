//! What may be measured: which rules, and which packets meet them. Pure data.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use clusterip::model::hash::{Flow, HashMode, Hasher, Layout};
use clusterip::model::vip::L2Mode;
use lab::Mac;

use super::frames::Fragment;

/// The seed of every hash in the run.
pub const SEED: u32 = 0x3f7a_91c4;
/// The port that packets go to.
pub const PORT: u16 = 7000;

/// A unicast MAC that all nodes of a stage have, so that what is sent there is every node's own.
pub const EVERYBODY: Mac = Mac([2, 0x77, 0, 0, 0xff, 1]);

/// The rules on the nodes of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Everything is dropped as early as nf_tables can.
    Floor,
    /// The same once more, on other nodes: what differs is noise.
    FloorAgain,
    /// Nobody's rules.
    Nothing,
    /// The product's.
    Ours(Ours),
    /// Those of the newest IPaddr2, with its first so many of 16 buckets.
    IpAddr2 {
        /// How many buckets the node has.
        owned: u16,
    },
    /// Those of iptables' cluster match, with the first of 16 nodes' share.
    XtCluster,
    /// A developer's own, from a file for nft.
    HandMade {
        /// The file's name.
        name: String,
        /// What nft is given.
        text: String,
    },
}

/// How the product shares the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    /// What is hashed.
    pub mode: HashMode,
    /// How the address enters the hash.
    pub layout: Layout,
    /// How all nodes get the packets.
    pub l2: L2Mode,
    /// IPv6 instead of IPv4.
    pub ip6: bool,
    /// Number of buckets.
    pub buckets: u16,
    /// Every node owns the first so many of them.
    pub owned: u16,
    /// How many VIPs share the interface.
    pub vips: u16,
    /// Half of the buckets drain, with so many connections.
    pub draining: Option<u32>,
    /// Another build of nodectl, which puts them there instead of this one's.
    pub build: Option<PathBuf>,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// To the VIP, in a bucket that is not the node's.
    Foreign(Fragment),
    /// To the VIP, in a bucket of the node's.
    Owned(Fragment),
    /// Foreign ones to all VIPs in turn.
    ForeignEveryVip,
    /// A TCP segment.
    Segment(Segment),
    /// To another address of the node, over IPv4.
    OtherIp4,
    /// The same over IPv6.
    OtherIp6,
    /// An ARP request for another address.
    OtherArp,
}

/// Whose a TCP segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Of a bucket that is neither owned nor draining.
    Foreign,
    /// Of a connection that stays while its bucket drains.
    Stays,
    /// Of another connection of such a bucket: the new owner's.
    Leaves,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// What the nodes have.
    pub rules: Rules,
    /// What they get.
    pub packet: Packet,
}

impl Rules {
    /// A word or a few, for a table and for machines.
    pub fn name(&self) -> String {
        match self {
            Self::Floor => "floor".into(),
            Self::FloorAgain => "floor, again".into(),
            Self::Nothing => "no rules".into(),
            Self::Ours(_) => "ClusterIP".into(),
            Self::IpAddr2 { owned: 1 } => "IPaddr2 nft, 1 of 16 buckets".into(),
            Self::IpAddr2 { owned } => format!("IPaddr2 nft, {owned} of 16 buckets"),
            Self::XtCluster => "xt_cluster, 1 of 16 nodes".into(),
            Self::HandMade { name, .. } => name.clone(),
        }
    }

    /// How packets are given to buckets: the hash, how many there are, and the owned ones.
    fn sharing(&self) -> (Hasher, u16, u16) {
        let (mode, layout, buckets, owned) = match self {
            Self::Ours(ours) => (ours.mode, ours.layout, ours.buckets, ours.owned),
            Self::IpAddr2 { owned } => (HashMode::SourceIp, Layout::Network, 16, *owned),
            _ => (HashMode::SourceIp, Layout::Network, 16, 1),
        };
        let hasher = Hasher {
            mode,
            layout,
            seed: SEED,
        };
        (hasher, buckets, owned)
    }

    /// The buckets that drain, if any do.
    pub fn draining(&self) -> std::ops::Range<u16> {
        match self {
            Self::Ours(ours) if ours.draining.is_some() => {
                ours.owned..ours.owned + ours.buckets / 2
            }
            _ => 0..0,
        }
    }

    /// The bucket of a whole packet's flow.
    pub fn bucket(&self, source: IpAddr, source_port: u16) -> u16 {
        let (hasher, buckets, _) = self.sharing();
        let flow = Flow {
            source,
            source_port,
            destination_port: PORT,
        };
        hasher.bucket(&flow, buckets)
    }

    /// Whether the VIP is an IPv6 address.
    pub fn is_ip6(&self) -> bool {
        matches!(self, Self::Ours(ours) if ours.ip6)
    }

    /// How all nodes get the packets.
    pub fn l2(&self) -> L2Mode {
        match self {
            Self::Ours(ours) => ours.l2,
            _ => L2Mode::Multicast,
        }
    }

    /// All VIPs of the stage.
    pub fn vips(&self) -> Vec<IpAddr> {
        let count = match self {
            Self::Ours(ours) => ours.vips,
            _ => 1,
        };
        // Between the lab's nodes and its clients there is room for a hundred.
        let number = |n: u16| 99 + n % 100;
        let vips = (0..count).map(|n| match self.is_ip6() {
            false => Ipv4Addr::new(10, 77, 0, number(n) as u8).into(),
            true => Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x1000 + number(n)).into(),
        });
        vips.collect()
    }

    /// Whether a node owns the packets of this flow, also if its ports cannot be seen; `None` if
    /// that depends on whether they can.
    pub fn owns(&self, source: IpAddr, port: u16) -> Option<bool> {
        let (hasher, buckets, owned) = self.sharing();
        let of = |source_port, destination_port| {
            let flow = Flow {
                source,
                source_port,
                destination_port,
            };
            hasher.bucket(&flow, buckets) < owned
        };
        let (seen, unseen) = (of(port, PORT), of(0, 0));
        (seen == unseen).then_some(seen)
    }
}

impl Variant {
    /// The words of the table's columns: rules, packet.
    pub fn words(&self) -> (String, String) {
        let rules = match &self.rules {
            Rules::Ours(ours) => {
                let family = if ours.ip6 { "IPv6" } else { "IPv4" };
                let layout = match ours.layout {
                    Layout::ClusterIp => String::new(),
                    Layout::Network => ", layout network".into(),
                };
                let buckets = if ours.buckets == 1 {
                    "bucket"
                } else {
                    "buckets"
                };
                let vips = match ours.vips {
                    1 => String::new(),
                    many => format!(", {many} VIPs"),
                };
                let draining = match ours.draining {
                    None => String::new(),
                    Some(flows) => format!(
                        ", {} draining {flows} connections",
                        self.rules.draining().len()
                    ),
                };
                let (mode, count) = (ours.mode, ours.buckets);
                let l2 = match ours.l2 {
                    L2Mode::Multicast => String::new(),
                    other => format!(" {other}"),
                };
                let build = match &ours.build {
                    None => String::new(),
                    Some(program) => format!(", by {}", program.display()),
                };
                format!(
                    "ClusterIP{l2} {family} {mode}{layout}, {count} {buckets}{draining}{vips}{build}"
                )
            }
            other => other.name(),
        };
        (rules, self.packet.name().into())
    }

    /// Whether the others are told in units of this one.
    pub fn is_the_measure(&self) -> bool {
        let Rules::Ours(ours) = &self.rules else {
            return false;
        };
        let sharing = (ours.mode, ours.layout, ours.ip6, ours.buckets, ours.vips);
        ours.draining.is_none()
            && ours.build.is_none()
            && ours.l2 == L2Mode::Multicast
            && sharing == (HashMode::SourceIp, Layout::ClusterIp, false, 16, 1)
            && self.packet == Packet::Foreign(Fragment::None)
    }

    /// The same packet with the rules that this one's are to be compared with: those of the usual mode, and, where they
    /// are that mode's, those of another build.
    pub fn counterpart(&self, build: Option<&Path>) -> Option<Self> {
        let Rules::Ours(ours) = &self.rules else {
            return None;
        };
        let ours = match (ours.l2, &ours.build) {
            (_, Some(_)) => return None,
            (L2Mode::Multicast, None) => Ours {
                build: Some(build?.to_owned()),
                ..ours.clone()
            },
            (_, None) => Ours {
                l2: L2Mode::Multicast,
                ..ours.clone()
            },
        };
        Some(Self {
            rules: Rules::Ours(ours),
            packet: self.packet,
        })
    }

    /// The address and the MAC that a packet number `n` is sent to.
    pub fn target(&self, n: usize) -> (IpAddr, Mac) {
        match self.packet {
            Packet::OtherIp4 | Packet::OtherArp => {
                (Ipv4Addr::new(10, 77, 0, 250).into(), EVERYBODY)
            }
            Packet::OtherIp6 => (
                Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x250).into(),
                EVERYBODY,
            ),
            Packet::Foreign(_)
            | Packet::Owned(_)
            | Packet::ForeignEveryVip
            | Packet::Segment(_) => {
                let vips = self.rules.vips();
                // The last one: should order matter, it is not the best one's turn.
                let vip = match self.packet {
                    Packet::ForeignEveryVip => vips[n % vips.len()],
                    _ => vips[vips.len() - 1],
                };
                (vip, Mac(self.rules.l2().mac(vip).0))
            }
        }
    }

    /// Is a flow of the kind that is sent?
    pub fn fits(&self, source: IpAddr, port: u16) -> bool {
        let drains = || {
            let bucket = self.rules.bucket(source, port);
            self.rules.draining().contains(&bucket)
        };
        match self.packet {
            // The floor is the same for all, and has no buckets.
            _ if matches!(
                self.rules,
                Rules::Floor | Rules::FloorAgain | Rules::Nothing
            ) =>
            {
                true
            }
            Packet::Foreign(_) | Packet::ForeignEveryVip => {
                self.rules.owns(source, port) == Some(false)
            }
            Packet::Owned(_) => self.rules.owns(source, port) == Some(true),
            Packet::Segment(Segment::Foreign) => {
                self.rules.owns(source, port) == Some(false) && !drains()
            }
            Packet::Segment(_) => drains(),
            _ => true,
        }
    }

    /// The port that is sent to. That of connections which do not stay is another than that of those
    /// that do.
    pub fn port(&self) -> u16 {
        match self.packet {
            Packet::Segment(Segment::Leaves) => PORT + 1,
            _ => PORT,
        }
    }

    /// The packet whose floor is this one's. The switch itself gets what is sent to a multicast MAC,
    /// which is a part of the time, and what is sent to a unicast one it does not.
    pub fn floor(&self) -> Packet {
        match self.packet {
            Packet::OtherIp4 | Packet::OtherIp6 => Packet::OtherIp4,
            Packet::Foreign(_) | Packet::Owned(_) if self.rules.l2() == L2Mode::Stealth => {
                Packet::OtherIp4
            }
            _ => Packet::Foreign(Fragment::None),
        }
    }

    /// Whether the rules let the packet pass; of a developer's own nobody knows.
    pub fn passes(&self) -> Option<bool> {
        match (&self.rules, self.packet) {
            (Rules::HandMade { .. }, _) => None,
            (Rules::Floor | Rules::FloorAgain, _) => Some(false),
            (Rules::Nothing, _) => Some(true),
            (_, Packet::Foreign(_) | Packet::ForeignEveryVip) => Some(false),
            (_, Packet::Segment(segment)) => Some(segment == Segment::Stays),
            _ => Some(true),
        }
    }

    /// Which fragment of a datagram is sent.
    pub fn fragment(&self) -> Fragment {
        match self.packet {
            Packet::Foreign(fragment) | Packet::Owned(fragment) => fragment,
            _ => Fragment::None,
        }
    }
}

impl Packet {
    /// In words, for a table and for machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Foreign(Fragment::None) => "foreign",
            Self::Foreign(Fragment::First) => "foreign, first fragment",
            Self::Foreign(Fragment::Later) => "foreign, later fragment",
            Self::Owned(Fragment::None) => "owned",
            Self::Owned(Fragment::First) => "owned, first fragment",
            Self::Owned(Fragment::Later) => "owned, later fragment",
            Self::ForeignEveryVip => "foreign, to all VIPs in turn",
            Self::Segment(Segment::Foreign) => "foreign, TCP",
            Self::Segment(Segment::Stays) => "of a connection that stays",
            Self::Segment(Segment::Leaves) => "of another one in its bucket",
            Self::OtherIp4 => "not the VIP's, IPv4",
            Self::OtherIp6 => "not the VIP's, IPv6",
            Self::OtherArp => "not the VIP's, ARP",
        }
    }
}
