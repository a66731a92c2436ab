//! SCTP and DCCP associations and UDP-Lite datagrams: connect, one line, one answer, close.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use nix::errno::Errno;
use socket2::{Domain, SockRef};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{Failure, Flow, FlowResult, Pace, Report, drive, node_of, open_patiently, request};
use crate::Result;
use crate::client::Client;
use crate::transport::Transport;
use crate::wait::patient;

impl Client {
    /// Asks `target` once by this transport for each flow, each by a socket of its own.
    pub fn ask_by<I>(
        &self,
        transport: Transport,
        target: SocketAddr,
        flows: I,
        pace: Pace,
    ) -> Result<Report>
    where
        I: IntoIterator,
        I::Item: Into<Flow>,
    {
        drive(self, flows, pace.concurrency, move |flow| {
            ask(transport, target, flow, pace)
        })
    }
}

async fn ask(transport: Transport, target: SocketAddr, flow: Flow, pace: Pace) -> FlowResult {
    let started = Instant::now();
    let mut sport = flow.sport;
    let attempt = async {
        let socket = open_patiently(|| open(transport, target, flow)).await?;
        sport = socket.local_addr()?.port();
        let request = request(pace.size);
        socket.send(format!("{request}\n").as_bytes()).await?;
        let mut answer = vec![0; 65536];
        let length = socket.recv(&mut answer).await?;
        if length == 0 {
            return Err(Failure::Closed);
        }
        node_of(&String::from_utf8_lossy(&answer[..length]), &request)
    };
    let outcome = timeout(patient(pace.timeout), attempt)
        .await
        .unwrap_or(Err(Failure::Timeout));
    FlowResult {
        src: flow.src,
        sport,
        outcome,
        rtt: started.elapsed(),
    }
}

/// A connected socket; tokio's UDP socket only sends, receives and polls, as is needed here.
async fn open(transport: Transport, target: SocketAddr, flow: Flow) -> io::Result<UdpSocket> {
    let socket = transport.socket(Domain::for_address(target))?;
    socket.bind(&SocketAddr::new(flow.src, flow.sport).into())?;
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => return Err(error),
        _ => {}
    }
    let socket = UdpSocket::from_std(socket.into())?;
    socket.writable().await?;
    match SockRef::from(&socket).take_error()? {
        Some(error) => Err(error),
        None => Ok(socket),
    }
}
