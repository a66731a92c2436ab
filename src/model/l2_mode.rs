//! How all nodes get to see the VIP's packets: under which MAC, and what keeps a node without its rules silent.
//! Pure.
//!
//! | mode | cluster MAC | the second lock, with the rules flushed |
//! |---|---|---|
//! | `multicast` | a multicast one, in the interface's filter | the sysctl `drop_unicast_in_l2_multicast` |
//! | `igmp` | the same, and the node is in a group with that MAC | the same |
//! | `stealth` | a unicast one that no switch learns, in the interface's filter | it is no interface's own, so the stack takes none of its frames (`PACKET_OTHERHOST`) |

use super::mac::Mac;
use super::untrusted::Untrusted;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// How all nodes get to see the VIP's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum L2Mode {
    /// A multicast MAC, which switches flood or have in a static entry.
    #[default]
    Multicast,
    /// The same, and every node is in an IP group with that MAC, for hardware that snoops and forwards by MAC.
    Igmp,
    /// A unicast MAC that nothing is ever sent from, so that switches flood it.
    Stealth,
}

impl L2Mode {
    /// All of them.
    pub const ALL: [L2Mode; 3] = [L2Mode::Multicast, L2Mode::Igmp, L2Mode::Stealth];

    /// The name that parameters and outputs use.
    pub fn name(self) -> &'static str {
        match self {
            L2Mode::Multicast => "multicast",
            L2Mode::Igmp => "igmp",
            L2Mode::Stealth => "stealth",
        }
    }

    /// The mode as it is described: an IPv6 VIP is in its solicited-node group anyway, which the kernel reports (MLD), so
    /// there is nothing that `igmp` adds.
    pub fn of_family(self, vip: IpAddr) -> Self {
        match (self, vip) {
            (L2Mode::Igmp, IpAddr::V6(_)) => L2Mode::Multicast,
            (mode, _) => mode,
        }
    }

    /// The cluster MAC that follows from the VIP.
    pub fn mac(self, vip: IpAddr) -> Mac {
        match self {
            L2Mode::Multicast | L2Mode::Igmp => Mac::of_group(vip),
            L2Mode::Stealth => Mac::unlearnt(vip),
        }
    }

    /// Can this be the MAC of the VIP?
    ///
    /// # Errors
    /// [`NoClusterMac`].
    pub fn check(self, vip: IpAddr, mac: Mac) -> Result<(), NoClusterMac> {
        match self.of_family(vip) {
            _ if mac == Mac::BROADCAST => Err(NoClusterMac::Broadcast),
            L2Mode::Multicast | L2Mode::Igmp if !mac.is_multicast() => {
                Err(NoClusterMac::Unicast(mac))
            }
            L2Mode::Igmp if mac.group().is_none() => Err(NoClusterMac::NoGroup(mac, vip)),
            L2Mode::Stealth if mac.is_multicast() => Err(NoClusterMac::Multicast(mac)),
            L2Mode::Stealth if !mac.is_unlearnt() => Err(NoClusterMac::Own(mac)),
            _ => Ok(()),
        }
    }

    /// The IPv4 group that the node joins for this MAC.
    pub fn group(self, vip: IpAddr, mac: Mac) -> Option<Ipv4Addr> {
        match (self, vip) {
            (L2Mode::Igmp, IpAddr::V4(_)) => mac.group(),
            _ => None,
        }
    }

    /// Is it the sysctl that keeps a node silent whose rules are gone?
    pub fn locks_by_sysctl(self) -> bool {
        match self {
            L2Mode::Multicast | L2Mode::Igmp => true,
            L2Mode::Stealth => false,
        }
    }
}

impl fmt::Display for L2Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no mode; use multicast, igmp or stealth")]
pub struct NoMode(Untrusted);

impl FromStr for L2Mode {
    type Err = NoMode;

    fn from_str(text: &str) -> Result<Self, NoMode> {
        let mut all = Self::ALL.into_iter();
        all.find(|mode| mode.name() == text)
            .ok_or_else(|| NoMode(text.into()))
    }
}

/// Why a MAC cannot be the cluster's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoClusterMac {
    /// A unicast one, where a multicast one is needed.
    #[error(
        "{0} is a unicast MAC: only the node that a switch last saw it on would get the packets; \
         use a multicast MAC (an odd first octet) such as 01:00:5e:7f:00:63, leave it out, or use the mode \
         stealth"
    )]
    Unicast(Mac),
    /// A multicast one, where a unicast one is needed.
    #[error(
        "{0} is a multicast MAC, and the mode stealth is there to do without; use a unicast MAC \
         that begins with 02:bf, such as 02:bf:0a:00:00:63, or leave it out"
    )]
    Multicast(Mac),
    /// A unicast one that may be one host's.
    #[error(
        "{0} may be the MAC of one host, and nodes would not know each other by it; use one that begins with 02:bf, \
         such as 02:bf:0a:00:00:63, or leave it out"
    )]
    Own(Mac),
    /// The broadcast MAC.
    #[error(
        "ff:ff:ff:ff:ff:ff is the broadcast MAC; use a multicast MAC such as 01:00:5e:7f:00:63"
    )]
    Broadcast,
    /// One that no group has.
    #[error(
        "{0} is the MAC of no group that a node could join for {1}; leave it out, use one that begins with \
         01:00:5e (IPv4), or use the mode multicast"
    )]
    NoGroup(Mac, IpAddr),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What follows from an address is what may be said of it.
        #[test]
        fn every_mode_agrees_with_itself(v4: [u8; 4], v6: [u8; 16]) {
            for vip in [IpAddr::from(v4), v6.into()] {
                for mode in L2Mode::ALL {
                    let mac = mode.mac(vip);
                    prop_assert_eq!(mode.check(vip, mac), Ok(()));
                    let group = mode.group(vip, mac);
                    prop_assert_eq!(group.is_some(), mode == L2Mode::Igmp && vip.is_ipv4());
                    prop_assert_eq!(mode.name().parse(), Ok(mode));
                }
            }
        }
    }

    #[test]
    fn a_mac_must_be_of_the_modes_kind() {
        let vip: IpAddr = [10, 77, 0, 99].into();
        let said = |mode: L2Mode, vip, mac: &str| {
            let error = mode.check(vip, mac.parse().expect("a MAC"));
            error.expect_err(mac).to_string()
        };
        for (mode, mac, words) in [
            (
                L2Mode::Multicast,
                "02:bf:00:00:00:63",
                "use the mode stealth",
            ),
            (L2Mode::Igmp, "02:bf:00:00:00:63", "is a unicast MAC"),
            (L2Mode::Igmp, "03:00:5e:00:00:01", "of no group"),
            (L2Mode::Igmp, "01:00:5e:80:00:01", "of no group"),
            (L2Mode::Stealth, "01:00:5e:7f:00:63", "is a multicast MAC"),
            (L2Mode::Stealth, "02:bf:00:00:00:01", ""),
            (L2Mode::Stealth, "52:54:00:00:00:01", "of one host"),
            (L2Mode::Stealth, "ff:ff:ff:ff:ff:ff", "the broadcast MAC"),
        ] {
            match words {
                "" => assert_eq!(mode.check(vip, mac.parse().expect("a MAC")), Ok(())),
                words => assert!(said(mode, vip, mac).contains(words), "{mode} {mac}"),
            }
        }
        assert!("mesh".parse::<L2Mode>().is_err());
    }

    #[test]
    fn of_the_groups_of_a_mac_it_is_the_one_of_the_site() {
        let vip: IpAddr = [10, 77, 0, 99].into();
        let group = |mac: &str| L2Mode::Igmp.group(vip, mac.parse().expect("a MAC"));
        assert_eq!(group("01:00:5e:7f:00:63"), Some([239, 255, 0, 99].into()));
        assert_eq!(group("01:00:5e:01:02:03"), Some([239, 129, 2, 3].into()));
    }
}
