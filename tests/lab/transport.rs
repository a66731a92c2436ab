//! Transports that neither Rust's library nor tokio has a type for: SCTP, DCCP and UDP-Lite.
//!
//! All have ports where TCP and UDP have theirs. A socket of any of them can be polled, read and
//! written like one of TCP or UDP, so tokio's types serve for that once the socket is made here.

use std::fmt;
use std::io;

use socket2::{Domain, Protocol, Socket, Type};

/// Linux's `SOCK_DCCP` (include/linux/net.h).
const SOCK_DCCP: i32 = 6;

/// A transport besides TCP and UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// RFC 9260, by one socket for each association (RFC 6458 §4).
    Sctp,
    /// RFC 4340.
    Dccp,
    /// RFC 3828: datagrams.
    UdpLite,
}

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 3] = [Self::Sctp, Self::Dccp, Self::UdpLite];

    /// As in `tcp:80`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sctp => "sctp",
            Self::Dccp => "dccp",
            Self::UdpLite => "udplite",
        }
    }

    /// Its number in IP headers.
    pub fn protocol(self) -> u8 {
        match self {
            Self::Sctp => 132,
            Self::Dccp => 33,
            Self::UdpLite => 136,
        }
    }

    /// A new socket that does not block; an IPv6 one is for IPv6 alone.
    pub fn socket(self, domain: Domain) -> io::Result<Socket> {
        let kind = match self {
            Self::Sctp => Type::STREAM,
            Self::Dccp => Type::from(SOCK_DCCP),
            Self::UdpLite => Type::DGRAM,
        };
        let protocol = Protocol::from(i32::from(self.protocol()));
        let socket = Socket::new(domain, kind.nonblocking(), Some(protocol))?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(true)?;
        }
        Ok(socket)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
