//! Short TCP connections: connect, one line, one answer, close.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{Failure, Flow, FlowResult, Pace, Report, drive, node_of, open_patiently, request};
use crate::Result;
use crate::client::Client;
use crate::wait::patient;

impl Client {
    /// Opens one short connection to `target` for each flow.
    ///
    /// ```no_run
    /// # fn f(lab: &lab::Lab) -> lab::Result<()> {
    /// let c1 = lab.client("c1")?;
    /// let target = "10.77.0.100:80".parse().unwrap();
    /// let report = c1.tcp(target, c1.sources_v4(300), lab::Pace::default())?;
    /// report.expect_all_answered()?;
    /// assert_eq!(report.by_node().len(), 3);
    /// # Ok(()) }
    /// ```
    pub fn tcp<I>(&self, target: SocketAddr, flows: I, pace: Pace) -> Result<Report>
    where
        I: IntoIterator,
        I::Item: Into<Flow>,
    {
        drive(self, flows, pace.concurrency, move |flow| {
            exchange_once(target, flow, pace)
        })
    }
}

pub(super) async fn exchange_once(target: SocketAddr, flow: Flow, pace: Pace) -> FlowResult {
    let started = Instant::now();
    let mut sport = flow.sport;
    let attempt = async {
        let mut line = Line::connect(target, flow).await?;
        sport = line.sport;
        let answer = line.exchange(pace.size).await;
        if pace.abort {
            line.reset_on_close()?;
        }
        answer
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

/// An open connection to a server that answers lines.
pub(super) struct Line {
    stream: BufReader<TcpStream>,
    pub(super) sport: u16,
}

impl Line {
    pub(super) async fn connect(target: SocketAddr, flow: Flow) -> io::Result<Self> {
        let stream = open_patiently(|| async move {
            let socket = if target.is_ipv4() {
                TcpSocket::new_v4()
            } else {
                TcpSocket::new_v6()
            }?;
            // A chosen port may still be in TIME_WAIT from an earlier flow.
            socket.set_reuseaddr(flow.sport != 0)?;
            socket.bind((flow.src, flow.sport).into())?;
            socket.connect(target).await
        })
        .await?;
        stream.set_nodelay(true)?;
        let sport = stream.local_addr()?.port();
        Ok(Self {
            stream: BufReader::new(stream),
            sport,
        })
    }

    /// Makes the coming close a reset.
    pub(super) fn reset_on_close(&self) -> io::Result<()> {
        SockRef::from(self.stream.get_ref()).set_linger(Some(Duration::ZERO))
    }

    pub(super) async fn exchange(&mut self, size: usize) -> Result<String, Failure> {
        let request = request(size);
        self.stream
            .get_mut()
            .write_all(format!("{request}\n").as_bytes())
            .await?;
        let mut answer = String::new();
        if self.stream.read_line(&mut answer).await? == 0 {
            return Err(Failure::Closed);
        }
        node_of(&answer, &request)
    }
}
