//! From what an administrator has said, and where the VIP goes, to its whole description: what follows from the rest is
//! filled in here, the cluster MAC and the label's beginning, and all of it is checked. Pure.

use super::bucket::BucketCount;
use super::hash::Hasher;
use super::mac::Mac;
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
    /// The cluster MAC; if it is not given, it follows from the mode and the address.
    pub mac: Option<Mac>,
    /// How its packets are hashed.
    pub hasher: Hasher,
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
        let mode = self.mode.of_family(self.address);
        let label = self.label.map(|own| format!("{}:{own}", self.nic));
        let vip = Vip {
            address: self.address,
            prefix: self.prefix,
            nic: self.nic,
            mac: self.mac.unwrap_or_else(|| mode.mac(self.address)),
            mode,
            hasher: self.hasher,
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
            mac: None,
            hasher: vip.hasher,
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
