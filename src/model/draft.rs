//! From what an administrator has said, and where the VIP goes, to its whole description: what follows from the rest is
//! filled in here, the cluster MAC and the label's beginning, and all of it is checked. Pure.

use super::bucket::BucketCount;
use super::hash::{HashMode, Hasher, Layout};
use super::mac::Mac;
use super::predecessor::{Given, Like, Predecessor};
use super::seed::derived_seed;
use super::vip::{L2Mode, Manager, Nic, Vip, VipError};
use std::net::IpAddr;

/// A description in which what follows from the rest may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The shared address.
    pub address: IpAddr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// The interface that carries it.
    pub nic: Nic,
    /// How all nodes get to see its packets.
    pub mode: L2Mode,
    /// What shared it before, and is to be followed in what is not given: hash, layout, seed and MAC.
    pub like: Option<Like>,
    /// The cluster MAC; if it is not given, it follows from the mode and the address.
    pub mac: Option<Mac>,
    /// What enters the hash.
    pub hash: Option<HashMode>,
    /// How the address enters the hash.
    pub layout: Option<Layout>,
    /// The initial value of the hash; if it is not given, it follows from the address.
    pub seed: Option<u32>,
    /// Among how many buckets they are spread.
    pub buckets: BucketCount,
    /// What stands behind the interface and a colon in the address's label, if it has one.
    pub label: Option<String>,
    /// Add no route to the network with the address.
    pub noprefixroute: bool,
    /// The second lock.
    pub lock: bool,
    /// For how many seconds the connections of a bucket that leaves may stay.
    pub drain_s: u32,
    /// Who puts it here.
    pub manager: Manager,
}

impl Draft {
    /// The whole description.
    ///
    /// # Errors
    /// Such a VIP cannot be shared, or not so.
    pub fn complete(self) -> Result<Vip, VipError> {
        let given = Given {
            address: self.address,
            prefix: self.prefix,
            buckets: self.buckets,
            mode: self.mode,
            hash: self.hash,
            layout: self.layout,
        };
        let predecessor = self.like.as_ref().map(|like| like.predecessor);
        let made = self.like.map(|like| like.made(&given)).transpose()?;
        let mode = self.mode.of_family(self.address);
        let mac = self.mac.or(made.map(|made| made.mac));
        let hash = self.hash.or(predecessor.and_then(Predecessor::hash));
        let layout = self.layout.or(predecessor.map(Predecessor::layout));
        let seed = self.seed.or(made.map(|made| made.seed));
        let label = self.label.map(|own| format!("{}:{own}", self.nic));
        let vip = Vip {
            address: self.address,
            prefix: self.prefix,
            nic: self.nic,
            mac: mac.unwrap_or_else(|| mode.mac(self.address)),
            mode,
            hasher: Hasher {
                mode: hash.unwrap_or_default(),
                layout: layout.unwrap_or_default(),
                seed: seed.unwrap_or_else(|| derived_seed(self.address)),
            },
            buckets: self.buckets,
            label,
            noprefixroute: self.noprefixroute,
            lock: self.lock,
            drain_s: self.drain_s,
            manager: self.manager,
        };
        vip.validate()?;
        Ok(vip)
    }
}

#[cfg(test)]
mod tests {
    use super::super::predecessor::derived;
    use super::super::vip::tests::a_vip;
    use super::*;

    /// The draft of `a_vip`.
    fn a_draft(address: &str) -> Draft {
        let vip = a_vip(address);
        Draft {
            address: vip.address,
            prefix: vip.prefix,
            nic: vip.nic,
            mode: vip.mode,
            like: None,
            mac: None,
            hash: Some(vip.hasher.mode),
            layout: Some(vip.hasher.layout),
            seed: Some(vip.hasher.seed),
            buckets: vip.buckets,
            label: None,
            noprefixroute: vip.noprefixroute,
            lock: vip.lock,
            drain_s: vip.drain_s,
            manager: vip.manager,
        }
    }

    #[test]
    fn what_was_not_said_follows_from_the_rest() {
        for address in ["10.77.0.99", "fd77::99"] {
            assert_eq!(a_draft(address).complete(), Ok(a_vip(address)));
        }
        for (mode, address, described) in [
            (L2Mode::Igmp, "10.77.0.99", L2Mode::Igmp),
            (L2Mode::Igmp, "fd77::99", L2Mode::Multicast),
            (L2Mode::Stealth, "fd77::99", L2Mode::Stealth),
        ] {
            let draft = Draft {
                mode,
                ..a_draft(address)
            };
            let vip = draft.complete().expect("a description");
            assert_eq!((vip.mode, vip.mac), (described, mode.mac(vip.address)));
        }
        let mac = Mac([3, 0, 0, 0, 0, 1]);
        let said = Draft {
            mac: Some(mac),
            label: Some("web".to_owned()),
            ..a_draft("10.77.0.99")
        };
        let vip = said.complete().expect("a description");
        assert_eq!((vip.mac, vip.label.as_deref()), (mac, Some("eth0:web")));
    }

    /// The draft of who says no more than which predecessor it was.
    fn bare(address: &str, predecessor: Predecessor) -> Draft {
        let broadcast = String::new();
        Draft {
            like: Some(Like {
                predecessor,
                broadcast,
            }),
            hash: None,
            layout: None,
            seed: None,
            ..a_draft(address)
        }
    }

    #[test]
    fn what_was_not_said_is_as_the_predecessor_had_it() {
        for (address, predecessor) in [
            ("10.77.0.99", Predecessor::ClusterIp),
            ("10.77.0.99", Predecessor::Ipaddr2),
            ("fd77::99", Predecessor::Ipaddr2),
        ] {
            let draft = bare(address, predecessor);
            let made = derived(predecessor, draft.address, draft.prefix, "");
            let vip = draft.clone().complete().expect("a description");
            let hasher = Hasher {
                mode: predecessor.hash().unwrap_or_default(),
                layout: predecessor.layout(),
                seed: made.seed,
            };
            assert_eq!((vip.mac, vip.hasher), (made.mac, hasher));
            let mac = Mac([3, 0, 0, 0, 0, 1]);
            let said = Draft {
                mac: Some(mac),
                seed: Some(7),
                ..draft
            };
            let vip = said.complete().expect("a description");
            assert_eq!((vip.mac, vip.hasher.seed), (mac, 7));
        }
    }

    #[test]
    fn what_a_predecessor_could_not_do_is_told() {
        let classic = || bare("10.77.0.99", Predecessor::ClusterIp);
        let newest = || bare("10.77.0.99", Predecessor::Ipaddr2);
        let seventeen = BucketCount::new(17).expect("a count");
        for (draft, words) in [
            (bare("fd77::99", Predecessor::ClusterIp), "no IPv6"),
            (
                Draft {
                    buckets: seventeen,
                    ..classic()
                },
                "at most 16 nodes",
            ),
            (
                Draft {
                    mode: L2Mode::Stealth,
                    ..classic()
                },
                "under a multicast MAC",
            ),
            (
                Draft {
                    mode: L2Mode::Igmp,
                    ..newest()
                },
                "of no group",
            ),
            (
                Draft {
                    layout: Some(Layout::Network),
                    ..classic()
                },
                "by network, but by clusterip",
            ),
            (
                Draft {
                    layout: Some(Layout::ClusterIp),
                    ..newest()
                },
                "by clusterip, but by network",
            ),
            (
                Draft {
                    hash: Some(HashMode::SourceIpSourcePort),
                    ..newest()
                },
                "by sourceip-sourceport, but by sourceip",
            ),
        ] {
            let error = draft.complete().expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
        let many = Draft {
            buckets: seventeen,
            ..newest()
        };
        assert!(many.complete().is_ok());
    }

    #[test]
    fn what_cannot_be_shared_is_no_description() {
        let wrong = Draft {
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            ..a_draft("10.77.0.99")
        };
        assert!(matches!(wrong.complete(), Err(VipError::Mac(_))));
        let wrong = Draft {
            label: Some("a-long-label".to_owned()),
            ..a_draft("10.77.0.99")
        };
        assert!(matches!(wrong.complete(), Err(VipError::Label(..))));
    }
}
