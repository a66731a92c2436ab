//! IP networks: an address and how many of its leading bits count. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network, its host bits zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The network of an address; a prefix beyond the family's 32 or 128 bits counts as all of them.
    #[must_use]
    pub fn of(address: IpAddr, prefix: u8) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let prefix = prefix.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                let address = Ipv4Addr::from_bits(v4.to_bits() & mask).into();
                Network { address, prefix }
            }
            IpAddr::V6(v6) => {
                let prefix = prefix.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                let address = Ipv6Addr::from_bits(v6.to_bits() & mask).into();
                Network { address, prefix }
            }
        }
    }

    /// Its first address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits count: 0 to 32, or to 128.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Is it everything (0 bits), or one address (all of them)?
    #[must_use]
    pub fn is_trivial(&self) -> bool {
        let longest = if self.address.is_ipv4() { 32 } else { 128 };
        self.prefix == 0 || self.prefix == longest
    }

    /// Is the address in it?
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && Network::of(address, self.prefix) == *self
    }

    /// Is the whole of the other one in it, and more than that?
    #[must_use]
    pub fn is_wider_than(&self, other: &Network) -> bool {
        self.prefix < other.prefix && self.contains(other.address)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_their_addresses_and_no_others() {
        let network = |text: &str, prefix| Network::of(text.parse().expect("an address"), prefix);
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(network("10.77.3.99", 16).to_string(), "10.77.0.0/16");
        assert_eq!(network("fd77::99", 64).to_string(), "fd77::/64");
        assert_eq!(network("10.77.3.99", 0).to_string(), "0.0.0.0/0");
        assert_eq!(network("10.77.3.99", 200).to_string(), "10.77.3.99/32");
        assert!(network("10.77.0.0", 16).contains(ip("10.77.255.255")));
        assert!(!network("10.77.0.0", 16).contains(ip("10.78.0.0")));
        assert!(!network("0.0.0.0", 0).contains(ip("::")));
        assert!(network("::", 0).contains(ip("fd77::1")));
        assert!(network("10.77.0.0", 16).is_wider_than(&network("10.77.3.0", 24)));
        assert!(!network("10.77.0.0", 16).is_wider_than(&network("10.77.0.0", 16)));
        assert!(!network("10.77.0.0", 16).is_wider_than(&network("10.0.0.0", 8)));
        assert!(network("10.0.0.0", 0).is_trivial() && network("fd77::1", 128).is_trivial());
    }
}
