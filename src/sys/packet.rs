//! Sends whole Ethernet frames out of an interface (packet(7)).
//!
//! What is in a frame, and when it is sent, is not decided here. Frames sent
//! in this way pass by the ip, ip6 and arp output hooks; only netdev egress
//! sees them.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use thiserror::Error;

use super::errno;

/// An Ethernet header: two addresses and the EtherType, in bytes.
const HEADER_LEN: usize = 14;

/// A frame that could not be sent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PacketError {
    /// No packet socket to be had.
    #[error("cannot open a packet socket: {}", errno::io_words(.source))]
    Open {
        /// The system call's error.
        source: io::Error,
    },
    /// No interface can have this index.
    #[error("{ifindex} cannot be the index of an interface")]
    BadIndex {
        /// The index.
        ifindex: u32,
    },
    /// Shorter than an Ethernet header.
    #[error("a frame of {length} bytes is too short: an Ethernet header alone has {HEADER_LEN}")]
    TooShort {
        /// The frame's length, in bytes.
        length: usize,
    },
    /// The kernel did not take the frame.
    #[error("cannot send a frame of {length} bytes on interface index {ifindex}: {}",
        errno::io_words(.source))]
    Send {
        /// The frame's length, in bytes.
        length: usize,
        /// The interface index.
        ifindex: u32,
        /// The system call's error.
        source: io::Error,
    },
}

impl PacketError {
    /// The kernel's error number (positive), where there was one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open { source } | Self::Send { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// A socket that sends on one interface and receives nothing.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    /// As `struct sockaddr_ll` has it; 1 or more.
    ifindex: libc::c_int,
}

impl PacketSocket {
    /// Opens the socket. Needs CAP_NET_RAW. Whether there is such an interface
    /// shows when something is sent.
    ///
    /// # Errors
    /// [`PacketError::Open`] (EPERM without CAP_NET_RAW),
    /// [`PacketError::BadIndex`] for 0 and above `i32::MAX`.
    pub fn open(ifindex: u32) -> Result<Self, PacketError> {
        let Some(checked) = i32::try_from(ifindex).ok().filter(|index| *index > 0) else {
            return Err(PacketError::BadIndex { ifindex });
        };
        // With protocol 0 the kernel delivers nothing to the socket.
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .map_err(|errno| PacketError::Open {
            source: errno.into(),
        })?;
        Ok(Self {
            socket,
            ifindex: checked,
        })
    }

    /// Sends one frame, from its destination address to its payload's end
    /// (without FCS). Nothing is padded. Never blocks: a full queue is an
    /// error.
    ///
    /// # Errors
    /// [`PacketError::TooShort`], [`PacketError::Send`] (ENETDOWN where the
    /// interface is down, ENXIO or ENODEV where it is gone, EMSGSIZE above its
    /// MTU, ENOBUFS or EAGAIN where its queue is full).
    pub fn send(&self, frame: &[u8]) -> Result<(), PacketError> {
        let length = frame.len();
        let Some(&[.., high, low]) = frame.first_chunk::<HEADER_LEN>() else {
            return Err(PacketError::TooShort { length });
        };
        let to = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            // Kernels before 4.20 do not find it out by themselves, and
            // egress rules look at it.
            sll_protocol: u16::from_ne_bytes([high, low]),
            sll_ifindex: self.ifindex,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: `frame` and `to` are alive during the call and are given
        // with their own lengths; the kernel reads them and keeps nothing; the
        // descriptor is open as long as `self` lives.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                length,
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        let source = match usize::try_from(sent) {
            Ok(sent) if sent == length => return Ok(()),
            Ok(sent) => io::Error::other(format!("only {sent} bytes were taken")),
            Err(_) => io::Error::last_os_error(),
        };
        Err(PacketError::Send {
            length,
            ifindex: self.ifindex.unsigned_abs(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_that_cannot_be() {
        for ifindex in [0, 1 << 31, u32::MAX] {
            let error = PacketSocket::open(ifindex).unwrap_err();
            assert!(matches!(error, PacketError::BadIndex { .. }), "{error}");
        }
    }
}
