//! ICMP and ICMPv6 echo from chosen sources.
//! An echo reply does not tell its sender's name, so a witness on the wire tells it by its MAC.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{Failure, Flow, FlowResult, Pace, Report, drive};
use crate::Result;
use crate::client::Client;
use crate::frame::checksum;
use crate::wait::patient;

impl Client {
    /// Sends one echo request to `target` for each flow; a flow's port is the echo identifier.
    pub fn ping<I>(&self, target: IpAddr, flows: I, pace: Pace) -> Result<Report>
    where
        I: IntoIterator,
        I::Item: Into<Flow>,
    {
        let witness = self.witness(&[target])?;
        let mut report = drive(self, flows, pace.concurrency, move |flow| {
            echo(target, flow, pace)
        })?;
        let seen = witness.finish()?;
        for flow in &mut report.flows {
            if let Ok(node) = &mut flow.outcome {
                *node = seen
                    .echoed_by(flow.src, flow.sport)
                    .unwrap_or_else(|| "nobody seen".into());
            }
        }
        Ok(report)
    }
}

async fn echo(target: IpAddr, flow: Flow, pace: Pace) -> FlowResult {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let sport = match flow.sport {
        0 => NEXT.fetch_add(1, Ordering::Relaxed),
        chosen => chosen,
    };
    let started = Instant::now();
    let attempt = request_reply(target, flow.src, sport, pace.size);
    let outcome = match timeout(patient(pace.timeout), attempt).await {
        Ok(Ok(())) => Ok(String::new()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Failure::Timeout),
    };
    FlowResult {
        src: flow.src,
        sport,
        outcome,
        rtt: started.elapsed(),
    }
}

async fn request_reply(target: IpAddr, src: IpAddr, id: u16, size: usize) -> io::Result<()> {
    let (domain, protocol, asks, answers) = match target {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(protocol))?;
    socket.bind(&SocketAddr::new(src, 0).into())?;
    // Connected, the socket gets what comes from the target alone.
    socket.connect(&SocketAddr::new(target, 0).into())?;
    // tokio has no type for raw sockets; its UDP socket only sends, receives and polls, as we do.
    let socket = UdpSocket::from_std(socket.into())?;

    let [high, low] = id.to_be_bytes();
    let mut packet = vec![asks, 0, 0, 0, high, low, 0, 1];
    packet.resize(packet.len() + size.max(16), b'.');
    if target.is_ipv4() {
        // For IPv6 the kernel does this.
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
    }
    socket.send(&packet).await?;

    let mut buffer = vec![0; 65536];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // A raw IPv4 socket delivers the IP header too.
        let header = if target.is_ipv4() {
            usize::from(buffer[0] & 15) * 4
        } else {
            0
        };
        let reply = buffer.get(header..length).unwrap_or_default();
        if reply.first() == Some(&answers) && reply.get(4..6) == Some(&[high, low]) {
            return Ok(());
        }
    }
}
