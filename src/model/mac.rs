//! Link-layer addresses, and how a VIP gets its cluster MAC. Pure.

use super::untrusted::Untrusted;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// A 48-bit link-layer address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Is this a multicast (group) address: the lowest bit of the first octet (IEEE 802)?
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// The broadcast address.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// Does it begin as the cluster MACs of the mode `stealth` do? They are locally administered (IEEE 802), and known
    /// by that from whatever MAC a host may have for itself.
    pub fn is_unlearnt(self) -> bool {
        self.0[..2] == [0x02, 0xbf]
    }

    /// Is it a MAC under which several hosts receive packets?
    pub fn is_shared(self) -> bool {
        self.is_multicast() || self.is_unlearnt()
    }

    /// The IPv4 group whose MAC this is, if it is one's. Of the 32 that share a MAC it is the one that stays within
    /// the site (239/8, RFC 2365) and begins its last three octets with a one, as 239.255.Y.Z does.
    pub fn group(self) -> Option<Ipv4Addr> {
        match self.0 {
            [0x01, 0x00, 0x5e, x @ 0..=0x7f, y, z] => Some(Ipv4Addr::new(239, 0x80 | x, y, z)),
            _ => None,
        }
    }

    /// The cluster MAC of the mode `stealth`: `02:bf` and the last four octets of the VIP, which is locally
    /// administered.
    pub fn unlearnt(vip: IpAddr) -> Mac {
        let [a, b, c, d] = match vip {
            IpAddr::V4(address) => address.octets(),
            IpAddr::V6(address) => {
                let [.., a, b, c, d] = address.octets();
                [a, b, c, d]
            }
        };
        Mac([0x02, 0xbf, a, b, c, d])
    }

    /// The cluster MAC of the mode `multicast`: for IPv4 `01:00:5e:7f:Y:Z` from the last two
    /// octets, which is the MAC of the group 239.255.Y.Z (RFC 1112 §6.4); for IPv6 the MAC of the
    /// VIP's own solicited-node group (RFC 4291 §2.7.1, RFC 2464 §7), which every node joins by
    /// itself.
    pub fn of_group(vip: IpAddr) -> Mac {
        match vip {
            IpAddr::V4(address) => {
                let [_, _, y, z] = address.octets();
                Mac([0x01, 0x00, 0x5e, 0x7f, y, z])
            }
            IpAddr::V6(address) => {
                let octets = address.octets();
                Mac([0x33, 0x33, 0xff, octets[13], octets[14], octets[15]])
            }
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        f.pad(&format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"))
    }
}

/// Text that is no link-layer address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no MAC address; write six octets in hex, such as 01:00:5e:7f:00:63")]
pub struct NoMac(Untrusted);

impl FromStr for Mac {
    type Err = NoMac;

    /// Six octets of two hex digits, with colons or hyphens between them.
    fn from_str(text: &str) -> Result<Self, NoMac> {
        let wrong = || NoMac(text.into());
        let mut mac = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut mac {
            let part = parts.next().ok_or_else(wrong)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        match parts.next() {
            None => Ok(Mac(mac)),
            Some(_) => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_mac_follows_from_the_address() {
        for (vip, mac) in [
            ("10.77.0.99", "01:00:5e:7f:00:63"),
            ("192.0.2.255", "01:00:5e:7f:02:ff"),
            ("fd77::99", "33:33:ff:00:00:99"),
            ("2001:db8::12:3456", "33:33:ff:12:34:56"),
        ] {
            let vip = vip.parse().expect("address");
            assert_eq!(Mac::of_group(vip).to_string(), mac);
        }
        for (vip, mac) in [
            ("10.77.0.99", "02:bf:0a:4d:00:63"),
            ("2001:db8::12:3456", "02:bf:00:12:34:56"),
        ] {
            let vip = vip.parse().expect("address");
            assert_eq!(Mac::unlearnt(vip).to_string(), mac);
        }
    }

    #[test]
    fn reads_what_people_write_and_nothing_else() {
        assert_eq!(
            "01-00-5E-7F-00-63".parse(),
            Ok(Mac([1, 0, 0x5e, 0x7f, 0, 0x63]))
        );
        for wrong in [
            "",
            "01:00:5e:7f:00",
            "01:00:5e:7f:00:63:00",
            "1:0:5e:7f:0:63",
            "0x:00:5e:7f:00:63",
            "+1:00:5e:7f:00:63",
        ] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }
}
