//! The witness: sees every frame on a client's wire and tells who answered what.
//!
//! It is the judge of "at most one node answers". A packet socket on all of the client's
//! interfaces is read by a thread; frames that the kernel had to drop make the verdict fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::client::Client;
use crate::frame::{ACK, Frame, RST, SYN, What};
use crate::host::Mac;
use crate::{Context, Error, Result};

/// A running witness; [`Witness::finish`] gives what it saw.
pub struct Witness {
    client: Client,
    end_mark: String,
    stop: Arc<AtomicBool>,
    kept: Arc<AtomicUsize>,
    thread: Option<JoinHandle<Result<Vec<Seen>>>>,
}

/// One frame that the witness kept.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When, since the witness's start.
    pub at: Duration,
    /// The frame.
    pub frame: Frame,
    /// For TCP: which connection of this pair of addresses and ports it belongs to. A SYN of the
    /// client with a new sequence number begins the next one.
    pub connection: u32,
}

/// What a witness saw.
#[derive(Clone, Debug)]
pub struct Witnessed {
    /// Every frame that was sent to the client by one of the addresses in question.
    pub frames: Vec<Seen>,
    names: BTreeMap<Mac, String>,
}

/// One request or connection that was answered by more than one node, or more than once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DoubleAnswer {
    /// Who was asked.
    pub vip: SocketAddr,
    /// Who asked.
    pub client: SocketAddr,
    /// The request: `TCP #n`, the datagram's payload, or the echo's numbers.
    pub request: String,
    /// All that answered, each as often as it did (TCP: each once).
    pub answered_by: Vec<String>,
}

impl Witness {
    pub(crate) fn start(client: &Client, vips: &[IpAddr]) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let end_mark = format!("witness {} {number} ends", std::process::id());
        let socket = client.within(open)?.context("open a packet socket")?;
        let stop = Arc::new(AtomicBool::new(false));
        let kept = Arc::new(AtomicUsize::new(0));
        let watch = Watch {
            own: client.mac(),
            vips: vips.iter().copied().collect(),
            end_mark: end_mark.clone(),
            stop: stop.clone(),
            kept: kept.clone(),
        };
        let thread = std::thread::spawn(move || watch.all(&socket));
        Ok(Self {
            client: client.clone(),
            end_mark,
            stop,
            kept,
            thread: Some(thread),
        })
    }

    /// How many frames it has kept so far.
    pub fn frames(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    /// Waits until everything sent to the client so far has been seen, and tells what it was.
    pub fn finish(mut self) -> Result<Witnessed> {
        // A datagram of our own passes the same queue behind all the frames before it.
        let mark = self.end_mark.clone();
        self.client
            .within(|| {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.send_to(mark.as_bytes(), socket.local_addr()?)
            })?
            .context("mark the end of what is witnessed")?;
        let thread = self
            .thread
            .take()
            .context("the witness has already finished")?;
        let frames = match thread.join() {
            Ok(frames) => frames?,
            Err(_) => return Err(Error::new("the witness's thread panicked")),
        };
        let names = self.client.lab().map(|lab| lab.names()).unwrap_or_default();
        Ok(Witnessed { frames, names })
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It was not asked for its verdict, so nobody wants to hear why it has none.
            let _ = thread.join();
        }
    }
}

impl Witnessed {
    /// All requests and connections with more than one answerer, or more than one answer.
    pub fn double_answers(&self) -> Vec<DoubleAnswer> {
        let mut connections: BTreeMap<_, BTreeSet<Mac>> = BTreeMap::new();
        let mut requests: BTreeMap<_, Vec<Mac>> = BTreeMap::new();
        for Seen {
            frame, connection, ..
        } in &self.frames
        {
            let between = (frame.src, frame.dst);
            match &frame.what {
                What::Tcp { .. } => {
                    let request = format!("TCP #{connection}");
                    connections
                        .entry((between, request))
                        .or_default()
                        .insert(frame.from);
                }
                What::Association { protocol } | What::Sealed { protocol, .. } => {
                    let request = format!("protocol {protocol}");
                    connections
                        .entry((between, request))
                        .or_default()
                        .insert(frame.from);
                }
                What::Udp { payload } => {
                    // The lab's servers put their own name before what they were asked.
                    let asked = payload
                        .split_once(' ')
                        .map_or(payload.as_str(), |(_, asked)| asked);
                    requests
                        .entry((between, asked.into()))
                        .or_default()
                        .push(frame.from);
                }
                What::EchoReply { id, sequence } => {
                    let request = format!("echo {id}/{sequence}");
                    requests
                        .entry((between, request))
                        .or_default()
                        .push(frame.from);
                }
                What::EchoRequest { .. } => {}
            }
        }
        let connections = connections
            .into_iter()
            .map(|(key, macs)| (key, macs.into_iter().collect::<Vec<_>>()));
        let all = connections
            .chain(requests)
            .filter(|(_, answers)| answers.len() > 1);
        all.map(|(((vip, client), request), answers)| DoubleAnswer {
            vip,
            client,
            request,
            answered_by: answers.iter().map(|mac| self.name(*mac)).collect(),
        })
        .collect()
    }

    /// The same where one machine may take another's place: of connections only those that somebody answers again after
    /// another has. A machine that takes a dead one's place ends its connections, and nobody is heard after that.
    pub fn answers_in_turn(&self) -> Vec<DoubleAnswer> {
        let mut speakers: BTreeMap<_, Vec<Mac>> = BTreeMap::new();
        for seen in &self.frames {
            if matches!(seen.frame.what, What::Tcp { .. }) {
                let key = (seen.frame.src, seen.frame.dst, seen.connection);
                let turns = speakers.entry(key).or_default();
                if turns.last() != Some(&seen.frame.from) {
                    turns.push(seen.frame.from);
                }
            }
        }
        let is_connection = |double: &DoubleAnswer| double.request.starts_with("TCP ");
        let returned = speakers.into_iter().filter(|(_, turns)| turns.len() > 2);
        let returned = returned.map(|((vip, client, connection), turns)| DoubleAnswer {
            vip,
            client,
            request: format!("TCP #{connection}"),
            answered_by: turns.into_iter().map(|mac| self.name(mac)).collect(),
        });
        let others = self.double_answers().into_iter();
        others
            .filter(|double| !is_connection(double))
            .chain(returned)
            .collect()
    }

    /// Fails, telling the first few, if anything was answered doubly.
    pub fn expect_no_double_answers(&self) -> Result<()> {
        let doubles = self.double_answers();
        if doubles.is_empty() {
            return Ok(());
        }
        let some = doubles.iter().take(5).map(|double| {
            let DoubleAnswer {
                vip,
                client,
                request,
                answered_by,
            } = double;
            format!(
                "{client} to {vip} ({request}) by {}",
                answered_by.join(" and ")
            )
        });
        let some = some.collect::<Vec<_>>().join("; ");
        Err(Error::new(format!(
            "{} double answers: {some}",
            doubles.len()
        )))
    }

    /// How many frames each node sent.
    pub fn by_node(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for seen in &self.frames {
            *counts.entry(self.name(seen.frame.from)).or_default() += 1;
        }
        counts
    }

    /// How many frames each MAC sent.
    pub fn by_mac(&self) -> BTreeMap<Mac, usize> {
        let mut counts = BTreeMap::new();
        for seen in &self.frames {
            *counts.entry(seen.frame.from).or_default() += 1;
        }
        counts
    }

    /// The frames that reset a TCP connection.
    pub fn resets(&self) -> Vec<&Seen> {
        let is_reset =
            |seen: &&Seen| matches!(seen.frame.what, What::Tcp { flags, .. } if flags & RST != 0);
        self.frames.iter().filter(is_reset).collect()
    }

    /// The machine behind a MAC, or the MAC itself if it belongs to none.
    pub fn name(&self, mac: Mac) -> String {
        self.names
            .get(&mac)
            .cloned()
            .unwrap_or_else(|| mac.to_string())
    }

    /// Who answered the echo with this identifier to this address.
    pub(crate) fn echoed_by(&self, client: IpAddr, id: u16) -> Option<String> {
        let reply = self.frames.iter().find(|seen| {
            seen.frame.dst.ip() == client
                && matches!(seen.frame.what, What::EchoReply { id: seen, .. } if seen == id)
        })?;
        Some(self.name(reply.frame.from))
    }
}

/// Opens the packet socket; from here on nothing is missed.
fn open() -> std::io::Result<Socket> {
    let every_protocol = Protocol::from(i32::from(0x0003_u16.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(every_protocol))?;
    // Forcing needs real root; inside a user namespace the system's maximum must do.
    if setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20)).is_err() {
        socket.set_recv_buffer_size(64 << 20)?;
    }
    setsockopt(&socket, sockopt::RxqOvfl, &1)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket)
}

struct Watch {
    own: Mac,
    vips: BTreeSet<IpAddr>,
    end_mark: String,
    stop: Arc<AtomicBool>,
    kept: Arc<AtomicUsize>,
}

impl Watch {
    fn all(self, socket: &Socket) -> Result<Vec<Seen>> {
        let started = Instant::now();
        let mut buffer = vec![0; 1 << 18];
        let mut connections = Connections::default();
        let mut frames = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let Some((length, dropped)) = receive(socket, &mut buffer)? else {
                continue;
            };
            if dropped > 0 {
                return Err(Error::new(format!(
                    "the witness missed {dropped} frames, so it cannot testify: send less at once"
                )));
            }
            let Some(frame) = Frame::read(&buffer[..length]) else {
                continue;
            };
            if matches!(&frame.what, What::Udp { payload } if *payload == self.end_mark) {
                return Ok(frames);
            }
            if frame.from == self.own {
                connections.note_request(&frame);
            } else if frame.from != Mac([0; 6]) && self.concerns(&frame) {
                let connection = connections.current(frame.dst, frame.src);
                frames.push(Seen {
                    at: started.elapsed(),
                    frame,
                    connection,
                });
                self.kept.store(frames.len(), Ordering::Relaxed);
            }
        }
        Ok(frames)
    }

    fn concerns(&self, frame: &Frame) -> bool {
        self.vips.is_empty() || self.vips.contains(&frame.src.ip())
    }
}

/// Counts the connections of each pair of addresses and ports, by the client's SYNs.
#[derive(Default)]
struct Connections {
    last: BTreeMap<(SocketAddr, SocketAddr), (u32, u32)>,
}

impl Connections {
    fn note_request(&mut self, frame: &Frame) {
        let What::Tcp {
            flags, sequence, ..
        } = frame.what
        else {
            return;
        };
        if flags & (SYN | ACK) != SYN {
            return;
        }
        let (count, last) = self
            .last
            .entry((frame.src, frame.dst))
            .or_insert((0, sequence));
        if *count == 0 || *last != sequence {
            (*count, *last) = (*count + 1, sequence);
        }
    }

    fn current(&self, client: SocketAddr, vip: SocketAddr) -> u32 {
        self.last.get(&(client, vip)).map_or(0, |(count, _)| *count)
    }
}

/// One frame's length and how many were lost before it; `None` when none came for a while.
fn receive(socket: &Socket, buffer: &mut [u8]) -> Result<Option<(usize, u32)>> {
    let mut control = [0; 128];
    let mut parts = [IoSliceMut::new(buffer)];
    let received = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    );
    let message = match received {
        Ok(message) => message,
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
        // The link going down is news, not a fault of the socket.
        Err(Errno::ENETDOWN) => return Ok(None),
        Err(errno) => return Err(errno).context("read from the packet socket"),
    };
    let dropped = message
        .cmsgs()
        .context("read the packet socket's counters")?
        .find_map(|control| match control {
            ControlMessageOwned::RxqOvfl(dropped) => Some(dropped),
            _ => None,
        });
    Ok(Some((message.bytes, dropped.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: &str = "10.77.0.99:7000";
    const CLIENT: &str = "10.78.0.7:40000";

    /// Segments of one connection, from these machines in this order.
    fn segments(from: &[u8]) -> Witnessed {
        let frames = from.iter().map(|machine| Seen {
            at: Duration::ZERO,
            frame: Frame {
                from: Mac([2, 0, 0, 0, 0, *machine]),
                to: Mac([2, 0, 0, 0, 0, 99]),
                src: VIP.parse().expect("an address"),
                dst: CLIENT.parse().expect("an address"),
                what: What::Tcp {
                    flags: ACK,
                    sequence: 1,
                    acknowledged: 1,
                },
            },
            connection: 1,
        });
        Witnessed {
            frames: frames.collect(),
            names: BTreeMap::new(),
        }
    }

    #[test]
    fn who_takes_a_place_is_told_from_who_answers_beside_another() {
        let counts = |from: &[u8]| {
            let seen = segments(from);
            (seen.double_answers().len(), seen.answers_in_turn().len())
        };
        assert_eq!(counts(&[1, 1, 1]), (0, 0));
        assert_eq!(counts(&[1, 1, 2]), (1, 0));
        assert_eq!(counts(&[1, 2, 1]), (1, 1));
        assert_eq!(counts(&[1, 2, 3]), (1, 1));
    }
}
