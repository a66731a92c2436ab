//! The TCP connections that this network namespace has to an address: its sockets
//! (`net/ipv4/inet_diag.c`), and where it translates addresses, the connections that it passes on to
//! containers (`net/netfilter/nf_conntrack_netlink.c`).
//!
//! Connection tracking is only asked where it is in use already: the question would load its module.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netlink_packet_core::NlasIterator;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_SOCK_DIAG};

use super::dump::{dump, message_of, request};
use super::errno;
use crate::model::protocol::TCP;

/// A TCP connection of this namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Who began it.
    pub client: SocketAddr,
    /// The port that it was begun to.
    pub port: u16,
    /// It has not ended: it is neither in TIME-WAIT nor closed.
    pub alive: bool,
}

/// The connections could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list {what}: {}", errno::io_words(.source))]
pub struct ConnectionsError {
    /// Which.
    pub what: &'static str,
    /// The system call's error.
    pub source: io::Error,
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// The length of a `struct inet_diag_sockid`.
const SOCKET_ID: usize = 48;
/// INET_DIAG_REQ_BYTECODE and INET_DIAG_BC_S_COND: the kernel leaves out other local addresses.
const REQUEST_BYTECODE: u16 = 1;
const SOURCE_CONDITION: u8 = 7;
/// TCP_ESTABLISHED to TCP_TIME_WAIT, TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_CLOSING, and TCP_NEW_SYN_RECV,
/// the half-open ones.
const STATES: u32 = 0b1_1011_0111_1110;
const TIME_WAIT: u8 = 6;

/// `(NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET`.
const CONNTRACK_GET: u16 = 0x0101;
/// Where it stands how many connections this namespace tracks.
const TRACKED: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
/// IPS_DST_NAT: the destination is translated.
const TRANSLATED: u32 = 1 << 5;
/// TCP_CONNTRACK_SYN_SENT to TCP_CONNTRACK_LAST_ACK.
const TRACKED_ALIVE: std::ops::RangeInclusive<u8> = 1..=6;

/// Every connection to this address.
///
/// # Errors
/// [`ConnectionsError`] if the kernel cannot be asked (without `CONFIG_INET_DIAG`, ENOENT).
pub fn to(address: IpAddr) -> Result<Vec<Connection>, ConnectionsError> {
    let mut all = Vec::new();
    each_socket(address, |_, _, connection| all.push(connection)).map_err(|source| {
        ConnectionsError {
            what: "TCP sockets",
            source,
        }
    })?;
    if tracks() {
        let family = if address.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        let asked = dump(NETLINK_NETFILTER, &tracked(family as u8), |body| {
            all.extend(
                translated(body)
                    .filter(|(to, _)| *to == address)
                    .map(|(_, c)| c),
            );
        });
        asked.map_err(|source| ConnectionsError {
            what: "tracked connections",
            source,
        })?;
    }
    Ok(all)
}

/// Ends the sockets of these connections to an address, as if their programs had: each sends a reset.
/// How many it were; connections that are passed on are not among them.
///
/// # Errors
/// [`ConnectionsError`] if the kernel cannot be asked (without `CONFIG_INET_DIAG_DESTROY`, EOPNOTSUPP).
pub fn abort(
    address: IpAddr,
    which: impl Fn(&Connection) -> bool,
) -> Result<usize, ConnectionsError> {
    let failed = |source| ConnectionsError {
        what: "TCP sockets to be ended",
        source,
    };
    let mut found = Vec::new();
    each_socket(address, |family, body, connection| {
        let id = body.get(4..4 + SOCKET_ID);
        if let Some(id) = id.filter(|_| which(&connection)) {
            found.push((family, id.to_vec()));
        }
    })
    .map_err(failed)?;
    let (mut ended, mut wrong) = (0, None);
    for (family, id) in found {
        let mut body = vec![family, TCP, 0, 0];
        body.extend(STATES.to_ne_bytes());
        body.extend(id);
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        match dump(
            NETLINK_SOCK_DIAG,
            &message_of(SOCK_DESTROY, flags, &body),
            |_| {},
        ) {
            Ok(()) => ended += 1,
            // It has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            // The others are none the worse for it.
            Err(error) => wrong = Some(error),
        }
    }
    wrong.map_or(Ok(ended), |error| Err(failed(error)))
}

/// Hands each socket of a connection to the address to `each`: its family, the kernel's message, and
/// the connection.
fn each_socket(address: IpAddr, mut each: impl FnMut(u8, &[u8], Connection)) -> io::Result<()> {
    for family in families(address).iter().map(|family| *family as u8) {
        dump(
            NETLINK_SOCK_DIAG,
            &sockets(family, address),
            |body| match socket(body) {
                Some((local, connection)) if local == address => each(family, body, connection),
                _ => {}
            },
        )?;
    }
    Ok(())
}

/// The families of sockets that take connections to an address.
fn families(address: IpAddr) -> &'static [i32] {
    match address {
        // Sockets of both families take connections to an IPv4 address.
        IpAddr::V4(_) => &[libc::AF_INET, libc::AF_INET6],
        IpAddr::V6(_) => &[libc::AF_INET6],
    }
}

/// Does this namespace track any connections?
fn tracks() -> bool {
    let count = std::fs::read_to_string(TRACKED).unwrap_or_default();
    !matches!(count.trim(), "" | "0")
}

/// A `struct inet_diag_req_v2`, and a filter for the local address.
fn sockets(family: u8, address: IpAddr) -> Vec<u8> {
    let mut body = vec![family, TCP, 0, 0];
    body.extend(STATES.to_ne_bytes());
    body.extend([0; 48]);
    let (of, octets) = match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    // struct inet_diag_bc_op: code, where to go on if so, and if not: behind the end is "no".
    let length = 12 + octets.len();
    let mut code = vec![SOURCE_CONDITION, length as u8];
    code.extend((length as u16 + 4).to_ne_bytes());
    // struct inet_diag_hostcond: family, prefix length, port (any).
    code.extend([of as u8, 8 * octets.len() as u8, 0, 0]);
    code.extend((-1i32).to_ne_bytes());
    code.extend(octets);
    body.extend((code.len() as u16 + 4).to_ne_bytes());
    body.extend(REQUEST_BYTECODE.to_ne_bytes());
    body.extend(code);
    request(SOCK_DIAG_BY_FAMILY, &body)
}

/// A `struct inet_diag_msg`: the local address, and the connection.
fn socket(body: &[u8]) -> Option<(IpAddr, Connection)> {
    let (family, state) = (*body.first()?, *body.get(1)?);
    let port = |at: usize| Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| {
        let octets: [u8; 16] = body.get(at..at + 16)?.try_into().ok()?;
        Some(match i32::from(family) {
            libc::AF_INET => Ipv4Addr::from(*octets.first_chunk::<4>()?).into(),
            _ => Ipv6Addr::from(octets).to_canonical(),
        })
    };
    let client = SocketAddr::new(address(24)?, port(6)?);
    let connection = Connection {
        client,
        port: port(4)?,
        alive: state != TIME_WAIT,
    };
    Some((address(8)?, connection))
}

/// A `struct nfgenmsg`, and a filter for what is translated (CTA_STATUS, CTA_STATUS_MASK), which older
/// kernels pass over.
fn tracked(family: u8) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 0];
    for kind in [3u16, 26] {
        body.extend(8u16.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(TRANSLATED.to_be_bytes());
    }
    request(CONNTRACK_GET, &body)
}

/// A tracked connection whose destination is translated: the destination that it had before, and the
/// connection.
fn translated(body: &[u8]) -> Option<(IpAddr, Connection)> {
    let all = body.get(4..)?;
    let status = attribute(all, 3)?;
    let status = u32::from_be_bytes(status.try_into().ok()?);
    // CTA_TUPLE_ORIG, CTA_TUPLE_IP, CTA_TUPLE_PROTO.
    let tuple = attribute(all, 1)?;
    let (addresses, protocol) = (attribute(tuple, 1)?, attribute(tuple, 2)?);
    if status & TRANSLATED == 0 || attribute(protocol, 1)? != [TCP] {
        return None;
    }
    let port = |kind| {
        Some(u16::from_be_bytes(
            attribute(protocol, kind)?.try_into().ok()?,
        ))
    };
    let address = |v4, v6| {
        let found = attribute(addresses, v4).or_else(|| attribute(addresses, v6))?;
        match found.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(found).ok()?)),
            _ => Some(IpAddr::from(<[u8; 16]>::try_from(found).ok()?)),
        }
    };
    // CTA_PROTOINFO, CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE.
    let state = attribute(all, 4)
        .and_then(|info| attribute(info, 1))
        .and_then(|tcp| attribute(tcp, 1))
        .and_then(|state| state.first().copied());
    let connection = Connection {
        client: SocketAddr::new(address(1, 3)?, port(2)?),
        port: port(3)?,
        alive: state.is_some_and(|state| TRACKED_ALIVE.contains(&state)),
    };
    Some((address(2, 4)?, connection))
}

/// The value of an attribute of this kind.
fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut all = NlasIterator::new(bytes).filter_map(Result::ok);
    let found = all.find(|attribute| attribute.kind() & 0x3fff == kind)?;
    let value = found.value().len();
    // The iterator's value does not live as long as the bytes that it is in.
    let at = found.value().as_ptr() as usize - bytes.as_ptr() as usize;
    bytes.get(at..at + value)
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    proptest! {
        #[test]
        fn whatever_the_kernel_says_is_no_panic(bytes: Vec<u8>) {
            let _ = (socket(&bytes), translated(&bytes));
        }
    }

    #[test]
    fn connections_are_found_by_their_local_address() {
        let bind = |address: &str| TcpListener::bind(address).expect("a port");
        for (listener, local) in [
            (bind("127.0.0.1:0"), "127.0.0.1"),
            (bind("[::1]:0"), "::1"),
            (bind("[::]:0"), "127.0.0.1"),
        ] {
            let port = listener.local_addr().expect("an address").port();
            let local: IpAddr = local.parse().expect("an address");
            let client = TcpStream::connect((local, port)).expect("a connection");
            let mine = client.local_addr().expect("an address");
            let found = to(local).expect("sockets");
            let connection = Connection {
                client: mine,
                port,
                alive: true,
            };
            assert_eq!(
                found.iter().filter(|c| **c == connection).count(),
                1,
                "{found:?}"
            );
            // The listener itself is no connection.
            assert!(!found.iter().any(|c| c.client.port() == 0));
            drop((client, listener));
        }
        assert_eq!(to([192, 0, 2, 1].into()).expect("none"), vec![]);
    }

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// A connection: the client's end, and the service's.
    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((LOOPBACK, 0)).expect("a port");
        let at = listener.local_addr().expect("an address");
        let client = TcpStream::connect(at).expect("a connection");
        (client, listener.accept().expect("a client").0)
    }

    /// Sends what the other end does not read, until nothing more fits: what is to be said then waits.
    fn clog(stream: &mut TcpStream) {
        stream.set_nonblocking(true).expect("set");
        while stream.write(&[0; 65_536]).is_ok() {}
    }

    fn says_no_more(stream: &TcpStream) {
        stream.shutdown(Shutdown::Write).expect("a connection");
    }

    /// Waits until a socket is in this state (of `net/tcp_states.h`), as the kernel tells everybody.
    fn await_state(client: u16, port: u16, name: &str, state: u8) {
        let local = u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets());
        let wanted = format!("{local:08X}:{port:04X} {local:08X}:{client:04X} {state:02X} ");
        for _ in 0..1000 {
            let all = std::fs::read_to_string("/proc/thread-self/net/tcp").expect("sockets");
            if all.contains(&wanted) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no socket is in {name}");
    }

    #[test]
    fn a_connection_is_listed_until_nothing_more_can_be_said() {
        /// What is done with the client's end and the service's.
        type Way = fn(&mut TcpStream, &mut TcpStream);
        let ways: [(&str, u8, Way); 7] = [
            ("ESTABLISHED", 1, |_, _| {}),
            ("CLOSE-WAIT", 8, |client, _| says_no_more(client)),
            ("FIN-WAIT-2", 5, |_, service| says_no_more(service)),
            ("FIN-WAIT-1", 4, |_, service| {
                clog(service);
                says_no_more(service);
            }),
            ("CLOSING", 11, |client, service| {
                clog(service);
                says_no_more(service);
                says_no_more(client);
            }),
            ("LAST-ACK", 9, |client, service| {
                clog(service);
                says_no_more(client);
                let mut end = [0];
                service.set_nonblocking(false).expect("set");
                assert_eq!(service.read(&mut end).expect("an end"), 0);
                says_no_more(service);
            }),
            ("TIME-WAIT", 6, |client, service| {
                says_no_more(service);
                says_no_more(client);
            }),
        ];
        for (name, state, way) in ways {
            let (mut client, mut service) = connected();
            let connection = Connection {
                client: client.local_addr().expect("an address"),
                port: service.local_addr().expect("an address").port(),
                alive: name != "TIME-WAIT",
            };
            way(&mut client, &mut service);
            await_state(connection.client.port(), connection.port, name, state);
            let found = to(LOOPBACK).expect("sockets");
            assert!(found.contains(&connection), "{name}: {found:?}");
        }
    }

    /// Has the kernel wait for data before it takes a connection for one (tcp(7)).
    fn defer_accept(listener: &TcpListener) {
        let seconds: libc::c_int = 60;
        // SAFETY: a number is read from where one is.
        let set = unsafe {
            libc::setsockopt(
                listener.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_DEFER_ACCEPT,
                (&raw const seconds).cast(),
                size_of_val(&seconds) as libc::socklen_t,
            )
        };
        assert_eq!(set, 0, "{}", io::Error::last_os_error());
    }

    #[test]
    fn a_connection_that_is_half_open_is_listed() {
        let listener = TcpListener::bind((LOOPBACK, 0)).expect("a port");
        defer_accept(&listener);
        let at = listener.local_addr().expect("an address");
        let client = TcpStream::connect(at).expect("a connection");
        let connection = Connection {
            client: client.local_addr().expect("an address"),
            port: at.port(),
            alive: true,
        };
        await_state(connection.client.port(), at.port(), "SYN-RECV", 3);
        let found = to(LOOPBACK).expect("sockets");
        assert!(found.contains(&connection), "{found:?}");
    }

    /// A message of ctnetlink's.
    fn tracked_one(status: u32, protocol: u8, state: u8, of: (IpAddr, IpAddr)) -> Vec<u8> {
        let attribute = |kind: u16, value: &[u8]| {
            let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let address = |kind, address| match address {
            IpAddr::V4(v4) => attribute(kind, &v4.octets()),
            IpAddr::V6(v6) => attribute(kind + 2, &v6.octets()),
        };
        let addresses = [address(1, of.0), address(2, of.1)].concat();
        let ports = [
            attribute(1, &[protocol]),
            attribute(2, &40_000u16.to_be_bytes()),
            attribute(3, &80u16.to_be_bytes()),
        ];
        // CTA_TUPLE_ORIG, CTA_TUPLE_IP, CTA_TUPLE_PROTO are nested.
        let nested = |kind: u16| kind | 0x8000;
        let tuple = [
            attribute(nested(1), &addresses),
            attribute(nested(2), &ports.concat()),
        ];
        let info = attribute(nested(4), &attribute(nested(1), &attribute(1, &[state])));
        let mut body = vec![libc::AF_INET as u8, 0, 0, 0];
        body.extend(attribute(nested(1), &tuple.concat()));
        body.extend(attribute(3, &status.to_be_bytes()));
        body.extend(info);
        body
    }

    #[test]
    fn a_translated_connection_lives_until_both_ends_have_said_their_last() {
        let ip6 = |text: &str| text.parse().expect("an address");
        for (client, to) in [
            (IpAddr::from([192, 0, 2, 7]), IpAddr::from([10, 77, 0, 99])),
            (ip6("2001:db8::7"), ip6("fd77::99")),
        ] {
            // The numbers of `enum tcp_conntrack`, in the kernel's header for programs.
            for (state, number, alive) in [
                ("SYN_SENT", 1, true),
                ("SYN_RECV", 2, true),
                ("ESTABLISHED", 3, true),
                ("FIN_WAIT", 4, true),
                ("CLOSE_WAIT", 5, true),
                ("LAST_ACK", 6, true),
                ("TIME_WAIT", 7, false),
                ("CLOSE", 8, false),
            ] {
                let connection = Connection {
                    client: (client, 40_000).into(),
                    port: 80,
                    alive,
                };
                // IPS_SEEN_REPLY, IPS_CONFIRMED, IPS_DST_NAT, and others.
                let found = tracked_one(0x1ae, TCP, number, (client, to));
                assert_eq!(translated(&found), Some((to, connection)), "{state}");
            }
            // What is not translated is the node's own, and has a socket.
            assert_eq!(translated(&tracked_one(0x18e, TCP, 3, (client, to))), None);
            assert_eq!(translated(&tracked_one(0x1ae, 17, 3, (client, to))), None);
        }
    }
}
