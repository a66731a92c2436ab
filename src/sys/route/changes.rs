//! That links, addresses or routes have changed: rtnetlink tells, but not who has changed them.

use super::error::RouteError;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

/// RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_IFADDR and RTNLGRP_IPV6_ROUTE.
const GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
/// RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR and RTM_DELROUTE.
const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const DEL_ROUTE: u16 = 25;
/// IFA_ADDRESS and IFA_LOCAL.
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
/// The length of a message's header, of `ifaddrmsg`, and where `rtmsg` has the protocol.
const HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const PROTOCOL: usize = 5;
/// Room for what others do at once.
const ROOM: usize = 1024 * 1024;

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// Something of a link.
    Link,
    /// An address came, or is another one.
    Came(IpAddr),
    /// An address went.
    Went(IpAddr),
    /// A route of this origin (`rtm_protocol`) went.
    Route(u8),
    /// So much at once that the kernel has not told all of it.
    Anything,
}

/// Changes in the network namespace in which this was opened.
pub struct Changes(Socket);

impl Changes {
    /// Listens from now on.
    ///
    /// # Errors
    /// [`RouteError::Open`].
    pub fn listen() -> Result<Self, RouteError> {
        let opened = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.set_rx_buf_sz(i32::try_from(ROOM).unwrap_or(i32::MAX))?;
            for group in GROUPS {
                socket.add_membership(group)?;
            }
            socket.set_non_blocking(true)?;
            Ok(Changes(socket))
        };
        opened().map_err(|source| RouteError::Open { source })
    }

    /// What has changed since, if anything; does not wait.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn take(&mut self) -> io::Result<Vec<Changed>> {
        let mut all = Vec::new();
        loop {
            match self.0.recv_from_full() {
                Ok((bytes, from)) if is_kernel(&from) => read(&bytes, &mut all),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(all),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    all.push(Changed::Anything)
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn is_kernel(from: &SocketAddr) -> bool {
    from.port_number() == 0
}

/// A number of two bytes at this place.
fn number(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at + 2)?.first_chunk::<2>()?;
    Some(u16::from_ne_bytes(*two))
}

fn read(mut bytes: &[u8], all: &mut Vec<Changed>) {
    while let Some(length) = bytes.first_chunk::<4>() {
        let length = usize::try_from(u32::from_ne_bytes(*length)).unwrap_or(usize::MAX);
        let Some(message) = bytes.get(..length).filter(|it| it.len() >= HEADER) else {
            return;
        };
        all.extend(one(message));
        let next = length.checked_next_multiple_of(4);
        bytes = next.and_then(|next| bytes.get(next..)).unwrap_or_default();
    }
}

fn one(message: &[u8]) -> Option<Changed> {
    let body = &message[HEADER..];
    match number(message, 4)? {
        NEW_LINK | DEL_LINK => Some(Changed::Link),
        NEW_ADDRESS => address(body).map(Changed::Came),
        DEL_ADDRESS => address(body).map(Changed::Went),
        DEL_ROUTE => body.get(PROTOCOL).copied().map(Changed::Route),
        _ => None,
    }
}

/// The address that a message is about: of a link between two hosts the near one.
fn address(body: &[u8]) -> Option<IpAddr> {
    let mut attributes = body.get(ADDRESS_HEADER..)?;
    let mut found = None;
    while let (Some(length), Some(kind)) = (number(attributes, 0), number(attributes, 2)) {
        let length = usize::from(length);
        let Some(value) = attributes.get(4..length) else {
            break;
        };
        let value = match value.len() {
            4 => value.first_chunk::<4>().map(|it| IpAddr::from(*it)),
            _ => value.first_chunk::<16>().map(|it| IpAddr::from(*it)),
        };
        match kind {
            LOCAL => return value,
            ADDRESS => found = value,
            _ => {}
        }
        let next = attributes.get(length.next_multiple_of(4)..);
        attributes = next.unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).expect("short");
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.resize(HEADER, 0);
        message.extend(body);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).expect("short");
        [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat()
    }

    #[test]
    fn what_has_changed_is_told() {
        let of_address = |attributes: &[Vec<u8>]| {
            let attributes = attributes.concat();
            [vec![0; ADDRESS_HEADER], attributes].concat()
        };
        let peer = attribute(ADDRESS, &[10, 77, 0, 1]);
        let near = attribute(LOCAL, &[10, 77, 0, 99]);
        let six: [u8; 16] = [0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x99];
        let bytes = [
            message(DEL_ADDRESS, &of_address(&[peer, near])),
            message(NEW_ADDRESS, &of_address(&[attribute(ADDRESS, &six)])),
            message(NEW_LINK, &[0; 16]),
            // A new route is nothing that is missed.
            message(DEL_ROUTE - 1, &[0; 12]),
            message(DEL_ROUTE, &[2, 24, 0, 0, 254, 67, 0, 0, 0, 0, 0, 0]),
        ];
        let mut all = Vec::new();
        read(&bytes.concat(), &mut all);
        let [v4, v6] = ["10.77.0.99", "fd77::99"].map(|it| it.parse().expect("an address"));
        let told = [
            Changed::Went(v4),
            Changed::Came(v6),
            Changed::Link,
            Changed::Route(67),
        ];
        assert_eq!(all, told);
    }

    proptest! {
        #[test]
        fn whatever_the_kernel_says_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 15u16..30) {
            let mut all = Vec::new();
            read(&bytes, &mut all);
            read(&message(kind, &bytes), &mut all);
        }
    }
}
