//! UDP: one datagram, one answer, no retry.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{Failure, Flow, FlowResult, Pace, Report, drive, node_of, open_patiently, request};
use crate::Result;
use crate::client::Client;
use crate::wait::patient;

impl Client {
    /// Sends one datagram to `target` for each flow and waits for its answer.
    ///
    /// The sockets are connected, so an answer from any other address than `target` is none.
    pub fn udp<I>(&self, target: SocketAddr, flows: I, pace: Pace) -> Result<Report>
    where
        I: IntoIterator,
        I::Item: Into<Flow>,
    {
        drive(self, flows, pace.concurrency, move |flow| {
            ask(target, flow, pace)
        })
    }
}

pub(super) async fn ask(target: SocketAddr, flow: Flow, pace: Pace) -> FlowResult {
    let started = Instant::now();
    let mut sport = flow.sport;
    let attempt = async {
        let socket = open_patiently(|| UdpSocket::bind((flow.src, flow.sport))).await?;
        sport = socket.local_addr()?.port();
        socket.connect(target).await?;
        let request = request(pace.size);
        socket.send(request.as_bytes()).await?;
        let mut answer = vec![0; 65536];
        let length = socket.recv(&mut answer).await?;
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
