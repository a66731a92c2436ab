//! Very many TCP connections: more than one process may have open files for. The clients are several
//! processes of this program; on the node nobody accepts the connections, so that they are the kernel's
//! alone: established, in its tables, and without a file.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use lab::{Client, Context, Error, Node, Result, Running};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, listen, setsockopt,
    socket, sockopt,
};

/// The first word of the command line that makes the program a part of the crowd.
const CROWD: &str = "crowd";
/// Ports that each source address uses, and the first of them.
const PORTS: u16 = 50;
const FIRST_PORT: u16 = 20_000;
/// Connections of one process: no more open files than are allowed nearly everywhere.
const OF_ONE: usize = 15_000;
/// Open files besides those of connections.
const SPARE: u64 = 100;

/// Listens, and accepts nothing; ends with its guard.
pub fn wait_for_crowd(node: &Node, port: u16, count: usize) -> Result<Running> {
    node.sysctl("net.core.somaxconn", count + 1)?;
    node.sysctl("net.ipv4.tcp_max_syn_backlog", count + 1)?;
    let program = lab::built("bench")?.display().to_string();
    let port = port.to_string();
    let mut running = node.spawn(&[program.as_str(), CROWD, "listen", &port])?;
    running.wait_for_line("ready")?;
    Ok(running)
}

/// So many connections, open for as long as the guards live.
pub fn crowd(client: &Client, target: SocketAddr, count: usize) -> Result<Vec<Running>> {
    let program = lab::built("bench")?.display().to_string();
    let sources = client.sources_for(target.ip(), count.div_ceil(usize::from(PORTS)));
    let target = target.to_string();
    let mut left = count;
    let crowds = sources.chunks(OF_ONE / usize::from(PORTS)).map(|some| {
        let mine = left.min(some.len() * usize::from(PORTS));
        left -= mine;
        let number = mine.to_string();
        let mut words = vec![program.as_str(), CROWD, "hold", &target, &number];
        let sources: Vec<String> = some.iter().map(IpAddr::to_string).collect();
        words.extend(sources.iter().map(String::as_str));
        let mut running = client.spawn(&words)?;
        running.wait_for_line("ready")?;
        Ok(running)
    });
    crowds.collect()
}

/// What this process is to do as a part of the crowd, if it is one.
pub fn part() -> Option<Result<()>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [CROWD, "listen", port] => Some(stay(port.parse().context("a port").and_then(nobody))),
        [CROWD, "hold", target, count, sources @ ..] => Some(stay(hold(target, count, sources))),
        _ => None,
    }
}

/// Says that all is done, and keeps it until the guard kills this process.
fn stay<T>(kept: Result<T>) -> Result<()> {
    let _kept = kept?;
    println!("ready");
    loop {
        std::thread::park();
    }
}

fn tcp(family: AddressFamily) -> Result<OwnedFd> {
    let made =
        socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).context("a socket")?;
    setsockopt(&made, sockopt::ReuseAddr, &true).context("reuse")?;
    Ok(made)
}

fn nobody(port: u16) -> Result<OwnedFd> {
    let listener = tcp(AddressFamily::Inet)?;
    let here = SockaddrStorage::from(SocketAddr::from(([0, 0, 0, 0], port)));
    bind(listener.as_raw_fd(), &here).context("bind")?;
    listen(&listener, Backlog::MAXALLOWABLE).context("listen")?;
    Ok(listener)
}

fn hold(target: &str, count: &str, sources: &[&str]) -> Result<Vec<OwnedFd>> {
    let target: SocketAddr = target.parse().context("a target")?;
    let count: usize = count.parse().context("a count")?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit on open files")?;
    let files = count as u64 + SPARE;
    setrlimit(Resource::RLIMIT_NOFILE, files.min(hard), hard).context("open files")?;
    let flows = sources
        .iter()
        .flat_map(|source| (0..PORTS).map(move |n| (source, FIRST_PORT + n)));
    let connections = flows.take(count).map(|(source, port)| {
        let source: IpAddr = source.parse().context("a source")?;
        let connection = tcp(AddressFamily::Inet)?;
        let raw = connection.as_raw_fd();
        bind(raw, &SockaddrStorage::from(SocketAddr::new(source, port))).context("bind")?;
        connect(raw, &SockaddrStorage::from(target))
            .map_err(|error| Error::new(format!("connect from {source}:{port}: {error}")))?;
        Ok(connection)
    });
    connections.collect()
}
