//! The server behind `lab serve`: says which node answered, over TCP, UDP and what is like them.
//!
//! It listens on the wildcard addresses, so a VIP added later is served too, and a UDP answer
//! leaves from the very address that was asked. It runs as a process of its own in a node.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::str::FromStr;
use std::sync::Arc;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::transport::Transport;
use crate::{Context, Error, Result};

/// A port to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    /// Lines over TCP; a connection stays open as long as the client wants.
    Tcp(u16),
    /// Datagrams.
    Udp(u16),
    /// Associations that carry lines, or datagrams.
    Other(Transport, u16),
}

impl fmt::Display for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "tcp:{port}"),
            Self::Udp(port) => write!(f, "udp:{port}"),
            Self::Other(transport, port) => write!(f, "{transport}:{port}"),
        }
    }
}

impl FromStr for Serve {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || format!("{text:?} is no service, say tcp:PORT or udp:PORT, or sctp, dccp, udplite");
        let (kind, port) = text.split_once(':').context(wrong())?;
        let port = port.parse().context(wrong())?;
        match kind {
            "tcp" => Ok(Self::Tcp(port)),
            "udp" => Ok(Self::Udp(port)),
            _ => {
                let mut all = Transport::ALL.into_iter();
                let transport = all.find(|transport| transport.name() == kind);
                Ok(Self::Other(transport.context(wrong())?, port))
            }
        }
    }
}

/// The body of `lab serve NAME SERVICE…`: prints `serving` when all ports listen; never returns.
pub async fn serve(name: &str, services: &[Serve]) -> Result<()> {
    let name: Arc<str> = name.into();
    for service in services {
        for domain in [Domain::IPV4, Domain::IPV6] {
            let doing = format!("listen on {service}");
            match service {
                Serve::Tcp(port) => {
                    let listener = listen(domain, *port).context(doing)?;
                    tokio::spawn(accept(listener, name.clone()));
                }
                Serve::Udp(port) => {
                    let socket = datagrams(domain).context(&doing)?;
                    let socket = bind(&socket, domain, *port).context(doing)?;
                    tokio::spawn(answer_datagrams(socket, name.clone()));
                }
                Serve::Other(transport, port) => {
                    let socket = transport.socket(domain).context(&doing)?;
                    if *transport == Transport::UdpLite {
                        let socket = bind(&socket, domain, *port).context(doing)?;
                        tokio::spawn(answer_datagrams(socket, name.clone()));
                    } else {
                        let listener = hear(socket, domain, *port).context(doing)?;
                        tokio::spawn(accept(listener, name.clone()));
                    }
                }
            }
        }
    }
    println!("serving");
    std::future::pending().await
}

fn any(domain: Domain, port: u16) -> SocketAddr {
    if domain == Domain::IPV4 {
        (Ipv4Addr::UNSPECIFIED, port).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, port).into()
    }
}

fn listen(domain: Domain, port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    hear(socket, domain, port)
}

fn hear(socket: Socket, domain: Domain, port: u16) -> io::Result<TcpListener> {
    socket.set_reuse_address(true)?;
    socket.bind(&any(domain, port).into())?;
    socket.listen(4096)?;
    TcpListener::from_std(socket.into())
}

fn datagrams(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn bind(socket: &Socket, domain: Domain, port: u16) -> io::Result<UdpSocket> {
    // Only a hint: the kernel's own maximum is what an unprivileged lab gets.
    socket.set_recv_buffer_size(8 << 20)?;
    if domain == Domain::IPV4 {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    socket.bind(&any(domain, port).into())?;
    UdpSocket::from_std(socket.try_clone()?.into())
}

async fn accept(listener: TcpListener, name: Arc<str>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(answer_lines(stream, name.clone()))),
            // A client that gave up in between; the listener itself is fine.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

async fn answer_lines(stream: TcpStream, name: Arc<str>) -> io::Result<()> {
    // Only TCP has that delay; others refuse the option.
    let _ = stream.set_nodelay(true);
    let (input, mut output) = stream.into_split();
    let mut lines = BufReader::new(input).lines();
    while let Some(line) = lines.next_line().await? {
        output
            .write_all(format!("{name} {line}\n").as_bytes())
            .await?;
    }
    Ok(())
}

async fn answer_datagrams(socket: UdpSocket, name: Arc<str>) {
    let mut buffer = vec![0; 65536];
    loop {
        // Errors are about single datagrams (an unreachable client); the next one is another's.
        let _ = answer_datagram(&socket, &mut buffer, &name).await;
    }
}

async fn answer_datagram(socket: &UdpSocket, buffer: &mut [u8], name: &str) -> io::Result<()> {
    let (length, peer, info) = socket
        .async_io(Interest::READABLE, || receive(socket, buffer))
        .await?;
    let mut answer = format!("{name} ").into_bytes();
    answer.extend_from_slice(&buffer[..length]);
    let parts = [IoSlice::new(&answer)];
    socket
        .async_io(Interest::WRITABLE, || {
            // The interface is left to the routes, the source is the address that was asked.
            let sent = match &info {
                Some(ControlMessageOwned::Ipv4PacketInfo(info)) => {
                    let mut info = *info;
                    info.ipi_ifindex = 0;
                    info.ipi_spec_dst = info.ipi_addr;
                    let control = [ControlMessage::Ipv4PacketInfo(&info)];
                    sendmsg(
                        socket.as_raw_fd(),
                        &parts,
                        &control,
                        MsgFlags::empty(),
                        Some(&peer),
                    )
                }
                Some(ControlMessageOwned::Ipv6PacketInfo(info)) => {
                    let mut info = *info;
                    info.ipi6_ifindex = 0;
                    let control = [ControlMessage::Ipv6PacketInfo(&info)];
                    sendmsg(
                        socket.as_raw_fd(),
                        &parts,
                        &control,
                        MsgFlags::empty(),
                        Some(&peer),
                    )
                }
                _ => {
                    return Err(io::Error::other(
                        "the kernel did not say which address was asked",
                    ));
                }
            };
            Ok(sent?)
        })
        .await?;
    Ok(())
}

type Received = (usize, SockaddrStorage, Option<ControlMessageOwned>);

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = vec![0; 256];
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let peer = message.address.ok_or(io::ErrorKind::InvalidData)?;
    let info = message.cmsgs()?.next();
    Ok((message.bytes, peer, info))
}
