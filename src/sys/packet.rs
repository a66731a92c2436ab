//! Sends whole Ethernet frames out of an interface, and receives them (packet(7)).
//!
//! What is in a frame, and when it is sent, is not decided here. Frames sent
//! in this way pass by the ip, ip6 and arp output hooks; only netdev egress
//! sees them.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socket};
use thiserror::Error;

use super::errno;

/// An Ethernet header: two addresses and the EtherType, in bytes.
const HEADER_LEN: usize = 14;

/// Where a filter finds the kind of a frame's destination: this host, everybody, a group, or somebody else.
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;

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
    /// Nothing can be received any more.
    #[error("cannot receive frames: {}", errno::io_words(.source))]
    Receive {
        /// The system call's error.
        source: io::Error,
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
            Self::Open { source } | Self::Receive { source } | Self::Send { source, .. } => {
                source.raw_os_error()
            }
            _ => None,
        }
    }
}

/// A socket for the frames of one interface.
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

    /// Opens a socket that also receives the frames of one EtherType that come in on the interface, as the
    /// kernel's own protocols would: those to this host, to everybody and to groups, but not what others
    /// are sent, nor what is of a VLAN that has no interface here. `marks` are pairs of bytes, by where they
    /// stand in the frame. Frames without them are not received, so that they cannot crowd out others.
    ///
    /// # Errors
    /// As for [`PacketSocket::open`]; [`PacketError::Open`] with ENODEV or ENXIO where there is no
    /// such interface.
    pub fn open_receiving(
        ifindex: u32,
        ethertype: u16,
        marks: &[(u32, [u8; 2])],
    ) -> Result<Self, PacketError> {
        Self::open_filtering(ifindex, ethertype, &program(marks))
    }

    /// Opens a socket that receives what comes in on the interface as a packet tap does: before any rule of nf_tables,
    /// and what is for others too, if the interface lets it in. Only frames without a VLAN's tag that have one of these
    /// EtherTypes and that byte at that place.
    ///
    /// # Errors
    /// As for [`PacketSocket::open_receiving`].
    pub fn open_overhearing(ifindex: u32, wanted: &[(u16, u32, u8)]) -> Result<Self, PacketError> {
        let all = libc::ETH_P_ALL as u16;
        Self::open_filtering(ifindex, all, &overhearing(wanted))
    }

    fn open_filtering(
        ifindex: u32,
        ethertype: u16,
        program: &[libc::sock_filter],
    ) -> Result<Self, PacketError> {
        let this = Self::open(ifindex)?;
        // As long as it is not bound nothing comes, so nothing passes unfiltered.
        this.filter(program)?;
        let from = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: ethertype.to_be(),
            sll_ifindex: this.ifindex,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: `from` is alive during the call and given with its own length; the kernel reads
        // it and keeps nothing.
        let bound = unsafe {
            libc::bind(
                this.socket.as_raw_fd(),
                (&raw const from).cast(),
                mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        match bound {
            0 => Ok(this),
            _ => Err(PacketError::Open {
                source: io::Error::last_os_error(),
            }),
        }
    }

    /// Has the interface let frames for this MAC in, as long as this socket is open (packet(7),
    /// `PACKET_ADD_MEMBERSHIP`).
    ///
    /// # Errors
    /// [`PacketError::Open`]: EOPNOTSUPP where the device cannot, as a macvlan that is not passthru.
    pub fn let_in(&self, mac: [u8; 6]) -> Result<(), PacketError> {
        let kind = match mac[0] & 1 {
            0 => libc::PACKET_MR_UNICAST,
            _ => libc::PACKET_MR_MULTICAST,
        };
        let mut address = [0; 8];
        address[..6].copy_from_slice(&mac);
        let wish = libc::packet_mreq {
            mr_ifindex: self.ifindex,
            mr_type: kind as u16,
            mr_alen: 6,
            mr_address: address,
        };
        // SAFETY: `wish` is alive during the call and given with its own length; the kernel copies it.
        let done = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                (&raw const wish).cast(),
                mem::size_of::<libc::packet_mreq>() as libc::socklen_t,
            )
        };
        match done {
            0 => Ok(()),
            _ => Err(PacketError::Open {
                source: io::Error::last_os_error(),
            }),
        }
    }

    /// Lets in only what this program lets in (socket(7), SO_ATTACH_FILTER).
    fn filter(&self, program: &[libc::sock_filter]) -> Result<(), PacketError> {
        let program = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_ptr().cast_mut(),
        };
        // SAFETY: `program` and what it points to are alive during the call, `len` is how much that is;
        // the kernel copies it and writes nothing there.
        let attached = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                mem::size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        };
        match attached {
            0 => Ok(()),
            _ => Err(PacketError::Open {
                source: io::Error::last_os_error(),
            }),
        }
    }

    /// Were frames lost since this was asked last, for want of room?
    ///
    /// # Errors
    /// [`PacketError::Receive`].
    pub fn has_lost(&self) -> Result<bool, PacketError> {
        let mut counted = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        let mut length = mem::size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: `counted` and `length` are alive during the call; the kernel writes at most `length`
        // bytes, which is as long as `counted` is, and any bytes are a value of it.
        let told = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut counted).cast(),
                &raw mut length,
            )
        };
        match told {
            0 => Ok(counted.tp_drops > 0),
            _ => Err(PacketError::Receive {
                source: io::Error::last_os_error(),
            }),
        }
    }

    /// The next frame that comes in within `patience`, cut to the buffer's length; `None` if none
    /// does.
    ///
    /// # Errors
    /// [`PacketError::Receive`] (ENETDOWN where the interface goes down).
    pub fn receive<'a>(
        &self,
        buffer: &'a mut [u8],
        patience: Duration,
    ) -> Result<Option<&'a [u8]>, PacketError> {
        let failed = |errno: Errno| PacketError::Receive {
            source: errno.into(),
        };
        // Rounded up: a wait of less than a millisecond is no wait.
        let milliseconds = patience.as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(milliseconds as u64).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(failed(errno)),
        }
        match recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => Ok(buffer.get(..length)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(errno) => Err(failed(errno)),
        }
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
        let send = || unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                length,
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        let sent = errno::uninterrupted(|| match send() {
            sent if sent < 0 => Err(io::Error::last_os_error()),
            sent => Ok(sent.unsigned_abs()),
        });
        let source = match sent {
            Ok(sent) if sent == length => return Ok(()),
            Ok(sent) => io::Error::other(format!("only {sent} bytes were taken")),
            Err(error) => error,
        };
        Err(PacketError::Send {
            length,
            ifindex: self.ifindex.unsigned_abs(),
            source,
        })
    }
}

/// Where a filter finds whether a frame has a VLAN's tag, which the kernel has taken off.
const TAGGED: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT) as u32;
/// Where a frame's EtherType is.
const ETHERTYPE_AT: u32 = 12;

fn step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

/// A filter's program: of what comes in, whoever it is for, frames without a tag of one of these EtherTypes and with that
/// byte at that place.
fn overhearing(wanted: &[(u16, u32, u8)]) -> Vec<libc::sock_filter> {
    let ld = |size: u32, at| step(libc::BPF_LD | size | libc::BPF_ABS, 0, 0, at);
    let equals =
        |value: u32, jt, jf| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, value);
    let end = |bytes| step(libc::BPF_RET | libc::BPF_K, 0, 0, bytes);
    let mut program = vec![
        ld(libc::BPF_W, PACKET_TYPE),
        equals(libc::PACKET_OUTGOING.into(), 0, 1),
        end(0),
        ld(libc::BPF_W, TAGGED),
        equals(0, 1, 0),
        end(0),
    ];
    for (ethertype, at, value) in wanted {
        program.extend([
            ld(libc::BPF_H, ETHERTYPE_AT),
            equals((*ethertype).into(), 0, 3),
            ld(libc::BPF_B, *at),
            equals((*value).into(), 0, 1),
            end(u32::MAX),
        ]);
    }
    program.push(end(0));
    program
}

/// A filter's program: frames for this host, everybody or a group with all these marks pass whole. What is
/// looked for beyond a frame's end is not there, and the frame does not pass.
fn program(marks: &[(u32, [u8; 2])]) -> Vec<libc::sock_filter> {
    let drop = step(libc::BPF_RET | libc::BPF_K, 0, 0, 0);
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let above = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
    let mut program = vec![
        step(
            libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
            0,
            0,
            PACKET_TYPE,
        ),
        step(above, 0, 1, libc::PACKET_MULTICAST.into()),
        drop,
    ];
    for (at, pair) in marks {
        let value = u16::from_be_bytes(*pair).into();
        program.push(step(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, *at));
        program.push(step(equals, 1, 0, value));
        program.push(drop);
    }
    program.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX));
    program
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
