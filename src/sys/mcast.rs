//! Link-layer multicast memberships of an interface: which destination
//! addresses its filter lets in beyond its own.
//!
//! The kernel counts a membership's users (`net/core/dev_addr_lists.c`), but
//! all of SIOCADDMULTI together count as **one**, the *global* user. So
//! [`join`] may be repeated without harm, one [`leave`] undoes any number of
//! them, and who shares an address with others decides himself when the last
//! one has gone: that is policy and does not live here. Users of other kinds
//! (an IGMP or MLD group, a macvlan on top) are counted apart and survive.
//!
//! A membership is of the interface, not of the process: it survives setting
//! the interface down and renaming it, and goes with it.
//!
//! A macvlan's own filter forgets an address only at the *next* change of its
//! list (`macvlan_set_mac_lists` reads the list before it tidies it), so after
//! [`leave`] frames may come in for a while. Harmless, but tests see it.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use thiserror::Error;

use super::errno;
use crate::model::mac::Mac;
use crate::model::untrusted::Untrusted;

/// The table of all memberships of the namespace
/// (`net/core/dev_addr_lists.c` and `net-procfs.c`).
const TABLE: &str = "/proc/thread-self/net/dev_mcast";

/// A membership operation that failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum McastError {
    /// The kernel refused.
    #[error("cannot {verb} link-layer multicast address {} on interface {ifname}: {}",
        Mac(*.mac), errno::io_words(.source))]
    Refused {
        /// "add" or "remove".
        verb: &'static str,
        /// The address.
        mac: [u8; 6],
        /// The interface.
        ifname: Untrusted,
        /// The system call's error.
        source: io::Error,
    },
    /// Not a multicast address: its first octet is even. Unicast addresses
    /// have a filter of their own.
    #[error("{} is not a link-layer multicast address", Mac(*.mac))]
    NotMulticast {
        /// The address.
        mac: [u8; 6],
    },
    /// No interface can have this name.
    #[error("'{ifname}' cannot be the name of an interface")]
    BadName {
        /// The name.
        ifname: Untrusted,
    },
    /// The table cannot be read.
    #[error("cannot read the multicast memberships from {TABLE}: {}", errno::io_words(.source))]
    Read {
        /// The system call's error.
        source: io::Error,
    },
    /// A line of the table is not what it should be.
    #[error("a line of {TABLE} is malformed: '{line}'")]
    Malformed {
        /// The line.
        line: Untrusted,
    },
}

impl McastError {
    /// The kernel's error number (positive), where there was one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::Read { source } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// One address that an interface listens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The link-layer address.
    pub mac: [u8; 6],
    /// The number of users, 1 or more: the global one, groups of IP, and one
    /// for each lower device that the address was handed on to (macvlan, VLAN,
    /// bond).
    pub users: u32,
    /// One of the users is [`join`] (or `ip maddress add`, or another program
    /// with the same system call: the kernel keeps no names).
    pub global: bool,
}

/// Lets frames for a multicast address in. Idempotent: the kernel counts all
/// such calls as one. Needs CAP_NET_ADMIN.
///
/// # Errors
/// [`McastError::NotMulticast`], [`McastError::BadName`],
/// [`McastError::Refused`] (ENODEV without the interface, EPERM, EINVAL where
/// the driver filters nothing).
pub fn join(ifname: &str, mac: [u8; 6]) -> Result<(), McastError> {
    change(Verb::Add, ifname, mac)
}

/// Takes [`join`] back. Idempotent: without a membership, or without the
/// interface, there is nothing to do. Needs CAP_NET_ADMIN.
///
/// # Errors
/// As [`join`], without ENODEV.
pub fn leave(ifname: &str, mac: [u8; 6]) -> Result<(), McastError> {
    match change(Verb::Remove, ifname, mac) {
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV)) => Ok(()),
        other => other,
    }
}

/// The memberships of an interface with Ethernet addresses; none where there
/// is no such interface.
///
/// # Errors
/// [`McastError::Read`], [`McastError::Malformed`].
pub fn memberships(ifname: &str) -> Result<Vec<Membership>, McastError> {
    let text = fs::read_to_string(TABLE).map_err(|source| McastError::Read { source })?;
    parse(&text, ifname)
}

/// The lines of one interface from the text of `/proc/net/dev_mcast`: index,
/// name, users, global use, address in hexadecimal digits. Addresses of other
/// lengths than Ethernet's are passed over.
///
/// # Errors
/// [`McastError::Malformed`] for a line of this interface that cannot be read.
pub fn parse(text: &str, ifname: &str) -> Result<Vec<Membership>, McastError> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        if fields.nth(1) != Some(ifname) {
            continue;
        }
        let malformed = || McastError::Malformed { line: line.into() };
        let mut number = || fields.next().and_then(|f| f.parse::<u32>().ok());
        let (Some(users), Some(global)) = (number(), number()) else {
            return Err(malformed());
        };
        let digits = fields.next().unwrap_or_default();
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(malformed());
        }
        if digits.len() != 12 {
            continue;
        }
        let value = u64::from_str_radix(digits, 16).map_err(|_| malformed())?;
        let [_, _, mac @ ..] = value.to_be_bytes();
        found.push(Membership {
            mac,
            users,
            global: global != 0,
        });
    }
    Ok(found)
}

#[derive(Clone, Copy)]
enum Verb {
    Add,
    Remove,
}

fn change(verb: Verb, ifname: &str, mac: [u8; 6]) -> Result<(), McastError> {
    if mac[0] & 1 == 0 {
        return Err(McastError::NotMulticast { mac });
    }
    if ifname.is_empty() || ifname.len() >= libc::IFNAMSIZ || ifname.contains('\0') {
        return Err(McastError::BadName {
            ifname: ifname.into(),
        });
    }
    let (number, verb) = match verb {
        Verb::Add => (libc::SIOCADDMULTI, "add"),
        Verb::Remove => (libc::SIOCDELMULTI, "remove"),
    };
    ioctl(number, ifname, mac).map_err(|source| {
        let ifname = ifname.into();
        McastError::Refused {
            verb,
            mac,
            ifname,
            source,
        }
    })
}

/// `ifname` is shorter than IFNAMSIZ.
fn ioctl(number: libc::c_ulong, ifname: &str, mac: [u8; 6]) -> io::Result<()> {
    // Any socket will do: it names the network namespace.
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // The kernel wants the family AF_UNSPEC (0), not the link's.
    let mut hwaddr = libc::sockaddr {
        sa_family: 0,
        sa_data: [0; 14],
    };
    for (to, from) in hwaddr.sa_data.iter_mut().zip(mac) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_hwaddr: hwaddr,
        },
    };
    for (to, from) in request.ifr_name.iter_mut().zip(ifname.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: `request` is a whole `struct ifreq`, with a name that ends in a
    // zero (shorter than IFNAMSIZ), alive during the call, which reads it and
    // keeps nothing; the descriptor is open as long as `socket` lives.
    let mut call = || unsafe { libc::ioctl(socket.as_raw_fd(), number as _, &raw mut request) };
    errno::uninterrupted(|| match call() {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
2    eth0            2     1     01005e7f0063
2    eth0            1     0     333300000001
3    eth0.100        1     1     01005e7f0063
4    ib0             1     0     00ffffffff12401b80010000000000000000000001
";

    #[test]
    fn the_table_is_read() {
        let eth0 = parse(TEXT, "eth0").unwrap();
        let vip = Membership {
            mac: [1, 0, 0x5e, 0x7f, 0, 0x63],
            users: 2,
            global: true,
        };
        let all = Membership {
            mac: [0x33, 0x33, 0, 0, 0, 1],
            users: 1,
            global: false,
        };
        assert_eq!(eth0, [vip, all]);
        assert_eq!(parse(TEXT, "eth0.100").unwrap().len(), 1);
        assert_eq!(parse(TEXT, "ib0").unwrap(), []);
        assert_eq!(parse(TEXT, "eth").unwrap(), []);
    }

    #[test]
    fn malformed_lines_are_errors() {
        for line in [
            "2 eth0 x 1 01005e7f0063",
            "2 eth0 1 1 01:00:5e",
            "2 eth0 1",
            "2 eth0",
        ] {
            assert!(
                matches!(parse(line, "eth0"), Err(McastError::Malformed { .. })),
                "{line}"
            );
            assert_eq!(parse(line, "eth1").unwrap(), []);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_without_the_kernel() {
        let error = join("eth0", [2, 0xbf, 0, 0, 0, 1]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "02:bf:00:00:00:01 is not a link-layer multicast address"
        );
        for name in ["", "sixteen-bytes-xx", "a\0b"] {
            assert!(matches!(
                join(name, [1; 6]),
                Err(McastError::BadName { .. })
            ));
        }
    }
}
