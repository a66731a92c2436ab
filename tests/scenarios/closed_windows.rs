//! Connections whose service does not read, and whose bucket moves: what their clients send again and again
//! into the closed window is answered by the node that drains, and makes no orphan of them. What nobody answers
//! does.

use crate::draining_support::*;
use crate::kernel_support::{kernel_is_at_least, tell_skipped};
use crate::raw::{Sender, TCP, ip4, ip6, tcp};
use crate::sharing::*;
use lab::frame::{ACK, Frame, RST, SYN, What};
use lab::{Context, Error, Result, Wire};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// A service that does not read listens there.
const DEAF: u16 = 7100;
const PSH: u8 = 8;
/// When the same is sent again. Linux answers what has no data at most twice a second.
const TIMES_S: [f32; 6] = [0.0, 0.8, 2.0, 3.8, 6.5, 10.0];
/// No reset is waited for longer than that, once a segment is late enough for one.
const SOON: Duration = Duration::from_millis(500);
/// The client's own kernel knows nothing of connections that are written by hand.
const NO_RESETS: &str = "table inet kept {
  chain out {
    type filter hook output priority 0
    tcp dport 7100 tcp flags & rst == rst drop
  }
}
";

/// Listens on the first node, for connections of which little is taken.
fn listen(scene: &Scene, vip: IpAddr, room: usize) -> Result<TcpListener> {
    let any: IpAddr = match vip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let address = SocketAddr::new(any, DEAF);
    let listening = scene.node(0).within(|| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if vip.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_recv_buffer_size(room)?;
        socket.bind(&address.into())?;
        socket.listen(16)?;
        Ok::<_, std::io::Error>(socket.into())
    })?;
    listening.context("listen")
}

/// Clients of the first node's buckets.
fn places(scene: &Scene, vip: IpAddr, count: usize) -> Vec<SocketAddr> {
    let sources = scene.client.sources_for(vip, 20 * count).into_iter();
    let firsts = sources.zip(30_000..);
    let firsts = firsts.filter(|(src, sport)| is_the_first_nodes(*src, *sport));
    firsts.take(count).map(SocketAddr::from).collect()
}

/// A node that has no room for what has come says so since Linux 6.6 (before, it said nothing), and Linux's own
/// client sends the whole segment again, with PSH.
#[test]
fn a_linux_client_keeps_a_connection_whose_service_does_not_read() -> Result<()> {
    if !kernel_is_at_least(6, 6) {
        tell_skipped("a node without room says nothing before Linux 6.6");
        return Ok(());
    }
    let scene = Scene::begin("deaf", "60")?;
    let mut held = Vec::new();
    for vip in vips() {
        let listener = listen(&scene, vip, 1 << 16)?;
        let from = places(&scene, vip, 1)[0];
        let opened = scene.client.within(|| {
            let socket = Socket::new(Domain::for_address(from), Type::STREAM, None)?;
            socket.bind(&from.into())?;
            socket.connect_timeout(&SocketAddr::new(vip, DEAF).into(), PATIENT)?;
            socket.set_tcp_nodelay(true)?;
            Ok::<_, std::io::Error>(TcpStream::from(socket))
        })?;
        let (peer, _) = listener.accept().context("accept")?;
        // Its window is open still, and cannot be taken back.
        let room = SockRef::from(&peer).set_recv_buffer_size(1);
        room.context("take its room away")?;
        held.push((opened.context("connect")?, peer));
    }
    scene.move_all(0, 1)?;
    let part = [7; 1000];
    for _ in 0..8 {
        for (client, _) in &mut held {
            client.write_all(&part).context("write")?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(10));
    for (client, peer) in &mut held {
        let lost = client.take_error().context("SO_ERROR")?;
        assert!(lost.is_none(), "{lost:?}");
        let filter = format!("dport = :{DEAF}");
        let sent_again = scene.client.run(&["ss", "-Htin", &filter])?;
        assert!(sent_again.contains("retrans:"), "{sent_again}");
        let room = SockRef::from(&*peer).set_recv_buffer_size(1 << 20);
        room.context("give it room")?;
        let waits = peer.set_read_timeout(Some(PATIENT));
        waits.context("a time-out")?;
        let mut all = [0; 8000];
        peer.read_exact(&mut all).context("read at last")?;
    }
    Ok(())
}

/// How a client is that is written by hand.
#[derive(Debug, Clone, Copy)]
struct Kind {
    /// It has timestamps.
    stamped: bool,
    /// What it sends again has so many bytes.
    length: usize,
    /// It has sent that byte before, and asks whether anybody is there.
    keeps_alive: bool,
}

const fn kind(stamped: bool, length: usize, keeps_alive: bool) -> Kind {
    Kind {
        stamped,
        length,
        keeps_alive,
    }
}

/// A client whose kernel knows nothing of its connection.
struct ByHand {
    kind: Kind,
    from: SocketAddr,
    to: SocketAddr,
    /// The next numbers: its own, and its peer's.
    sequence: u32,
    acknowledged: u32,
    /// What the peer has said last: its time, and its window.
    heard: u32,
    window: u16,
    answers: usize,
    reset: bool,
}

impl ByHand {
    fn of(kind: Kind, from: SocketAddr, vip: IpAddr) -> Self {
        ByHand {
            kind,
            from,
            to: SocketAddr::new(vip, DEAF),
            sequence: 1_000,
            acknowledged: 0,
            heard: 0,
            window: 0,
            answers: 0,
            reset: false,
        }
    }

    fn packet(&self, began: Instant, flags: u8, sequence: u32, length: usize) -> Vec<u8> {
        let mut options = Vec::new();
        if self.kind.stamped {
            options.extend([1, 1, 8, 10]);
            options.extend((1 + began.elapsed().as_millis() as u32).to_be_bytes());
            options.extend(self.heard.to_be_bytes());
        }
        let (ends, numbers) = ([self.from, self.to], [sequence, self.acknowledged]);
        let segment = tcp(ends, flags, numbers, &options, &vec![b'x'; length]);
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ip4([from, to], (1, 0x4000), TCP, &[], &segment),
            (IpAddr::V6(from), IpAddr::V6(to)) => ip6([from, to], TCP, &segment),
            _ => panic!("{} and {} are of two families", self.from, self.to),
        }
    }

    /// What it sends again and again.
    fn again(&self, began: Instant) -> Vec<u8> {
        let back = u32::from(self.kind.keeps_alive);
        self.packet(began, PSH | ACK, self.sequence - back, self.kind.length)
    }

    fn hears(&mut self, frame: &[u8]) {
        let Some(Frame { what, .. }) = Frame::read(frame) else {
            return;
        };
        let What::Tcp {
            flags,
            sequence,
            acknowledged,
        } = what
        else {
            return;
        };
        self.reset |= flags & RST != 0;
        if flags & ACK == 0 {
            return;
        }
        self.answers += 1;
        self.acknowledged = sequence + u32::from(flags & SYN != 0);
        self.sequence = acknowledged;
        let header = if self.from.is_ipv4() { 34 } else { 54 };
        let bytes = |at: usize, length: usize| &frame[header + at..][..length];
        self.window = u16::from_be_bytes(bytes(14, 2).try_into().expect("two bytes"));
        let options = bytes(20, 4 * usize::from(bytes(12, 1)[0] >> 4) - 20);
        if let Some(at) = options.windows(2).position(|two| two == [8, 10]) {
            let heard = options[at + 2..at + 6].try_into().expect("four bytes");
            self.heard = u32::from_be_bytes(heard);
        }
    }
}

/// Those clients of a VIP.
struct Crowd {
    all: Vec<ByHand>,
    sender: Sender,
    tap: Wire,
    began: Instant,
}

impl Crowd {
    /// They connect, and fill the windows that they are given.
    fn connected(scene: &Scene, vip: IpAddr, kinds: &[Kind]) -> Result<Self> {
        let froms = places(scene, vip, kinds.len()).into_iter();
        let all = kinds.iter().zip(froms);
        let mac = if vip.is_ipv4() { MAC4 } else { MAC6 };
        let mut crowd = Crowd {
            all: all
                .map(|(kind, from)| ByHand::of(*kind, from, vip))
                .collect(),
            sender: Sender::new(&scene.client, mac)?,
            tap: scene.lab.switch_tap(scene.client.name())?,
            began: Instant::now(),
        };
        crowd.send(|one, began| Some(one.packet(began, SYN, one.sequence - 1, 0)))?;
        crowd.listen(SOON)?;
        crowd.send(|one, began| Some(one.packet(began, ACK, one.sequence, 0)))?;
        let deadline = Instant::now() + PATIENT;
        while crowd.all.iter().any(|one| one.window > 0) {
            if Instant::now() > deadline {
                return Err(Error::new(format!("{vip}: a window does not close")));
            }
            crowd.send(|one, began| {
                let length = one.window.min(1_400).into();
                let data = || one.packet(began, PSH | ACK, one.sequence, length);
                (one.window > 0).then(data)
            })?;
            crowd.listen(Duration::from_millis(100))?;
        }
        assert!(crowd.all.iter().all(|one| one.answers > 1 && !one.reset));
        Ok(crowd)
    }

    fn send(&self, packet: impl Fn(&ByHand, Instant) -> Option<Vec<u8>>) -> Result<()> {
        let mut packets = self.all.iter().filter_map(|one| packet(one, self.began));
        packets.try_for_each(|packet| self.sender.send(&packet))
    }

    /// Hears what comes within so long.
    fn listen(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut buffer = vec![0; 1 << 16];
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            // A socket has no time-out of nothing.
            let left = left.max(Duration::from_millis(1));
            let Some(length) = self.tap.receive(&mut buffer, left)? else {
                continue;
            };
            let frame = &buffer[..length];
            let to = Frame::read(frame).map(|frame| frame.dst);
            let mut all = self.all.iter_mut();
            if let Some(one) = all.find(|one| to == Some(one.from)) {
                one.hears(frame);
            }
        }
        Ok(())
    }

    /// All send the same again and again; who has got an answer to each is told.
    fn go_on(&mut self) -> Result<Vec<bool>> {
        let (begin, before) = (Instant::now(), self.answers());
        for at in TIMES_S.map(Duration::from_secs_f32) {
            self.listen(at.saturating_sub(begin.elapsed()))?;
            self.send(|one, began| Some(one.again(began)))?;
        }
        self.listen(SOON)?;
        let answered = self.answers().into_iter().zip(before);
        Ok(answered
            .map(|(now, before)| now >= before + TIMES_S.len())
            .collect())
    }

    fn answers(&self) -> Vec<usize> {
        self.all.iter().map(|one| one.answers).collect()
    }
}

fn go_on_at_once(crowds: &mut [Crowd]) -> Result<Vec<Vec<bool>>> {
    std::thread::scope(|scope| {
        let going = crowds.iter_mut().map(|crowd| scope.spawn(|| crowd.go_on()));
        let going: Vec<_> = going.collect();
        let gone = going.into_iter().map(|one| one.join().expect("no panic"));
        gone.collect()
    })
}

#[test]
fn what_is_answered_makes_no_orphan_and_what_is_not_does() -> Result<()> {
    let scene = Scene::begin("windows", "60")?;
    let client = &scene.client;
    client.exec(&["nft", "-f", "-"]).stdin(NO_RESETS).run()?;
    // What is cut when nobody answers: all but a byte of a client without timestamps, which may be a probe.
    let kinds = [
        (kind(true, 1, false), true),
        (kind(true, 1_000, false), true),
        (kind(true, 1, true), true),
        (kind(false, 1, false), false),
        (kind(false, 1, true), false),
        (kind(false, 0, true), false),
    ];
    let (kinds, orphans): (Vec<Kind>, Vec<bool>) = kinds.into_iter().unzip();
    let (mut listeners, mut crowds) = (Vec::new(), Vec::new());
    for vip in vips() {
        // So much that the window closes before the room ends: Linux counts more than the data.
        listeners.push(listen(&scene, vip, 8_192)?);
        crowds.push(Crowd::connected(&scene, vip, &kinds)?);
    }
    scene.move_all(0, 1)?;
    for answered in go_on_at_once(&mut crowds)? {
        assert_eq!(answered, vec![true; kinds.len()]);
    }
    for one in crowds.iter().flat_map(|crowd| &crowd.all) {
        assert!(!one.reset, "{} of {:?}", one.from, one.kind);
    }
    scene.lab.cable("n1", false)?;
    go_on_at_once(&mut crowds)?;
    for crowd in &mut crowds {
        for (one, orphan) in crowd.all.iter_mut().zip(&orphans) {
            assert_eq!(one.reset, *orphan, "{} of {:?}", one.from, one.kind);
            // Two bytes that come again are no probe.
            (one.reset, one.kind.length, one.kind.keeps_alive) = (false, 2, false);
        }
    }
    go_on_at_once(&mut crowds)?;
    for one in crowds.iter().flat_map(|crowd| &crowd.all) {
        assert!(one.reset, "{} of {:?}", one.from, one.kind);
    }
    Ok(())
}
