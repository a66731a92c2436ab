//! SYNs at a steady beat, and who answered each of them: how long nobody does is seen to the millisecond.
//!
//! With each beat one SYN of every stream is put on the client's wire, written by hand and from another port than the
//! one before, so that no kernel keeps anything of it. The port that is asked is to be a closed one: a node answers with
//! a reset that names the SYN, which is the least that an answer can cost. A SYN's number is its sequence number, so who
//! answered which one does not depend on how soon the answers are read.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::frame::{ACK, Frame, RST, SYN, What, checksum};
use crate::host::Mac;
use crate::traffic::Flow;
use crate::wire::{Wire, take_precedence};
use crate::{Context, Error, Result};

/// How long answers are waited for after the last SYN, while none comes.
const LAST_ANSWER: Duration = Duration::from_millis(200);

/// SYNs that are being sent; [`Syns::stop`] tells what came of them.
pub struct Syns {
    shared: Arc<Shared>,
    sender: Option<JoinHandle<Result<Sent>>>,
    reader: Option<JoinHandle<Result<Heard>>>,
    names: BTreeMap<Mac, String>,
}

/// What sender, reader and whoever waits know of each other.
struct Shared {
    stops: AtomicBool,
    has_ended: AtomicBool,
    /// Who answered each stream last, by his MAC; 0 is nobody.
    last: Vec<AtomicU64>,
}

/// What was sent: when each beat was, from the first one on.
struct Sent {
    beats: Vec<Duration>,
}

/// What came back.
#[derive(Default)]
struct Heard {
    /// The SYN's number, and who answered it.
    answers: Vec<(u32, Mac)>,
    /// Resets from the address that was asked which answer none of the SYNs.
    resets: usize,
}

/// What came of the SYNs.
#[derive(Clone, Debug)]
pub struct SynReport {
    /// How many were sent.
    pub sent: usize,
    /// How many were answered more than once, by whomever.
    pub answered_twice: usize,
    /// Resets of the address that was asked which answer none of these SYNs.
    pub resets: usize,
    /// The longest time between two beats: what is shorter than that was perhaps not seen.
    pub longest_pause: Duration,
    /// Of each stream: when it was dark, in the order of time. The end is that of the first SYN that was answered again,
    /// the beginning that of the first that was not.
    pub dark: Vec<Vec<Dark>>,
    /// How often each machine answered each stream.
    pub answered_by: Vec<BTreeMap<String, usize>>,
}

/// A time in which a stream was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dark {
    /// When the first SYN without an answer was sent, since the first of all.
    pub from: Duration,
    /// When the first one was sent that was answered again, if one was.
    pub until: Option<Duration>,
}

impl Client {
    /// Sends one SYN of each stream with every beat to `target`, in frames for `to`. A stream goes round its flows: it
    /// needs so many that none comes twice while an answer to it is under way.
    pub fn syns(
        &self,
        target: SocketAddrV4,
        to: Mac,
        streams: &[Vec<Flow>],
        beat: Duration,
    ) -> Result<Syns> {
        let mut frames = Vec::new();
        for flows in streams {
            let written = flows
                .iter()
                .map(|flow| written(self.mac(), to, *flow, target));
            let written: Vec<Vec<u8>> = written.collect::<Result<_>>()?;
            if written.is_empty() {
                return Err(Error::new("a stream without flows"));
            }
            frames.push(written);
        }
        let shared = Arc::new(Shared {
            stops: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            last: streams.iter().map(|_| AtomicU64::new(0)).collect(),
        });
        let out = self.wire("eth0")?;
        let back = self.within(|| Wire::to_receive_ipv4("eth0"))??;
        let (to_read, to_send) = (shared.clone(), shared.clone());
        let reader = std::thread::spawn(move || {
            // Where it reads too seldom the kernel has no room for answers any more.
            take_precedence();
            read(&back, target, &to_read)
        });
        let sender = std::thread::spawn(move || {
            take_precedence();
            let sent = send(&out, frames, beat, &to_send);
            to_send.has_ended.store(true, Ordering::Relaxed);
            sent
        });
        Ok(Syns {
            shared,
            sender: Some(sender),
            reader: Some(reader),
            names: self.lab().map(|lab| lab.names()).unwrap_or_default(),
        })
    }
}

impl Syns {
    /// Who answered each stream last.
    pub fn answering(&self) -> Vec<Option<String>> {
        let all = self.shared.last.iter();
        let all = all.map(|last| match last.load(Ordering::Relaxed) {
            0 => None,
            number => Some(self.name(mac(number))),
        });
        all.collect()
    }

    /// Ends it, and tells what came of all SYNs.
    pub fn stop(mut self) -> Result<SynReport> {
        let (sent, heard) = self.end().context("the SYNs had already ended")?;
        let (sent, heard) = (sent?, heard?);
        let streams = self.shared.last.len();
        Ok(judge(&sent.beats, streams, &heard, |mac| self.name(mac)))
    }

    fn name(&self, mac: Mac) -> String {
        let known = self.names.get(&mac).cloned();
        known.unwrap_or_else(|| mac.to_string())
    }

    fn end(&mut self) -> Option<(Result<Sent>, Result<Heard>)> {
        self.shared.stops.store(true, Ordering::Relaxed);
        let sender = joined(self.sender.take()?);
        Some((sender, joined(self.reader.take()?)))
    }
}

impl Drop for Syns {
    fn drop(&mut self) {
        // Nobody asks any more what came of them.
        let _ = self.end();
    }
}

fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Sends until it is told to stop. A beat that comes too late is not made up for.
fn send(
    wire: &Wire,
    mut frames: Vec<Vec<Vec<u8>>>,
    beat: Duration,
    shared: &Shared,
) -> Result<Sent> {
    let began = Instant::now();
    let (mut beats, mut next) = (Vec::new(), began);
    let mut number: u32 = 0;
    while !shared.stops.load(Ordering::Relaxed) {
        let turn = beats.len();
        beats.push(began.elapsed());
        for flows in &mut frames {
            let place = turn % flows.len();
            let frame = &mut flows[place];
            give_number(frame, number);
            wire.send(frame)?;
            number = number.checked_add(1).context("more SYNs than numbers")?;
        }
        next = (next + beat).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(Sent { beats })
}

fn read(wire: &Wire, target: SocketAddrV4, shared: &Shared) -> Result<Heard> {
    let (mut heard, mut buffer) = (Heard::default(), vec![0; 2048]);
    let mut last = Instant::now();
    let streams = shared.last.len() as u32;
    loop {
        let length = wire.receive(&mut buffer, LAST_ANSWER / 4)?;
        match length.and_then(|length| Frame::read(&buffer[..length])) {
            Some(frame) if frame.src.ip() == IpAddr::V4(*target.ip()) => {
                let answer = answered(&frame, target);
                if let Some(number) = answer {
                    heard.answers.push((number, frame.from));
                    let stream = &shared.last[(number % streams) as usize];
                    stream.store(as_number(frame.from), Ordering::Relaxed);
                    last = Instant::now();
                } else if is_reset(&frame) {
                    heard.resets += 1;
                }
            }
            _ => {}
        }
        if !shared.has_ended.load(Ordering::Relaxed) {
            last = Instant::now();
        } else if last.elapsed() >= LAST_ANSWER {
            return Ok(heard);
        }
    }
}

/// The number of the SYN that a frame answers, if it answers one.
fn answered(frame: &Frame, target: SocketAddrV4) -> Option<u32> {
    let What::Tcp {
        flags,
        acknowledged,
        ..
    } = frame.what
    else {
        return None;
    };
    let is_answer = flags & ACK != 0 && flags & (SYN | RST) != 0;
    (is_answer && frame.src == SocketAddr::V4(target)).then(|| acknowledged.wrapping_sub(1))
}

fn is_reset(frame: &Frame) -> bool {
    matches!(frame.what, What::Tcp { flags, .. } if flags & RST != 0)
}

fn judge(
    beats: &[Duration],
    streams: usize,
    heard: &Heard,
    name: impl Fn(Mac) -> String,
) -> SynReport {
    let sent = beats.len() * streams;
    let mut times = vec![0u8; sent];
    let mut answered_by = vec![BTreeMap::<Mac, usize>::new(); streams];
    for (number, from) in &heard.answers {
        let number = *number as usize;
        if let Some(times) = times.get_mut(number) {
            *times = times.saturating_add(1);
            *answered_by[number % streams].entry(*from).or_default() += 1;
        }
    }
    let mut dark = vec![Vec::<Dark>::new(); streams];
    for (turn, at) in beats.iter().enumerate() {
        for (stream, dark) in dark.iter_mut().enumerate() {
            let is_dark = times[turn * streams + stream] == 0;
            let open = dark.last_mut().filter(|dark| dark.until.is_none());
            match (open, is_dark) {
                (None, true) => dark.push(Dark {
                    from: *at,
                    until: None,
                }),
                (Some(dark), false) => dark.until = Some(*at),
                _ => {}
            }
        }
    }
    let pauses = beats.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    let named = |by: BTreeMap<Mac, usize>| by.into_iter().map(|(mac, n)| (name(mac), n)).collect();
    SynReport {
        sent,
        answered_twice: times.iter().filter(|times| **times > 1).count(),
        resets: heard.resets,
        longest_pause: pauses.max().unwrap_or_default(),
        dark,
        answered_by: answered_by.into_iter().map(named).collect(),
    }
}

/// A SYN's frame, still without a number.
fn written(from: Mac, to: Mac, flow: Flow, target: SocketAddrV4) -> Result<Vec<u8>> {
    let IpAddr::V4(source) = flow.src else {
        return Err(Error::new(format!("{} is no IPv4 address", flow.src)));
    };
    let mut frame = [to.0, from.0].concat();
    frame.extend([8, 0]);
    frame.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0]);
    frame.extend(source.octets());
    frame.extend(target.ip().octets());
    let sum = checksum(&frame[IP..SEGMENT]).to_be_bytes();
    frame[IP + 10..IP + 12].copy_from_slice(&sum);
    frame.extend(flow.sport.to_be_bytes());
    frame.extend(target.port().to_be_bytes());
    frame.extend([0; 8]);
    frame.extend([0x50, SYN, 0xff, 0xff, 0, 0, 0, 0]);
    Ok(frame)
}

const TCP: u8 = 6;
/// Where the IPv4 header begins, and the segment behind it.
const IP: usize = 14;
const SEGMENT: usize = IP + 20;

/// Writes a SYN's number, and the checksum that it has with it.
fn give_number(frame: &mut [u8], number: u32) {
    frame[SEGMENT + 4..SEGMENT + 8].copy_from_slice(&number.to_be_bytes());
    frame[SEGMENT + 16..SEGMENT + 18].fill(0);
    let mut summed = [0; 32];
    summed[..8].copy_from_slice(&frame[SEGMENT - 8..SEGMENT]);
    summed[8..12].copy_from_slice(&[0, TCP, 0, 20]);
    summed[12..].copy_from_slice(&frame[SEGMENT..SEGMENT + 20]);
    let sum = checksum(&summed).to_be_bytes();
    frame[SEGMENT + 16..SEGMENT + 18].copy_from_slice(&sum);
}

fn as_number(Mac([a, b, c, d, e, f]): Mac) -> u64 {
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn mac(number: u64) -> Mac {
    let [_, _, a, b, c, d, e, f] = number.to_be_bytes();
    Mac([a, b, c, d, e, f])
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ONE: Mac = Mac([2, 0x77, 0, 0, 0, 1]);
    const TWO: Mac = Mac([2, 0x77, 0, 0, 0, 2]);

    fn target() -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 99), 7001)
    }

    fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    /// Of two streams, a beat a millisecond.
    fn judged(beats: u64, answers: &[(u32, Mac)]) -> SynReport {
        let beats: Vec<Duration> = (0..beats).map(ms).collect();
        let heard = Heard {
            answers: answers.to_vec(),
            resets: 0,
        };
        judge(&beats, 2, &heard, |mac| mac.to_string())
    }

    #[test]
    fn a_stream_is_dark_from_the_first_without_an_answer_to_the_first_with_one() {
        // The second stream's SYNs have the odd numbers; those of the beats 1 and 2 are lost.
        let answers = [(0, ONE), (1, ONE), (2, ONE), (4, ONE), (6, ONE), (7, TWO)];
        let report = judged(4, &answers);
        let gap = Dark {
            from: ms(1),
            until: Some(ms(3)),
        };
        assert_eq!(report.dark, [vec![], vec![gap]]);
        assert_eq!((report.sent, report.answered_twice), (8, 0));
        assert_eq!(report.longest_pause, ms(1));
        assert_eq!(report.answered_by[1].len(), 2);
    }

    #[test]
    fn what_is_dark_at_the_end_has_no_end() {
        let report = judged(2, &[(0, ONE), (1, ONE), (2, ONE)]);
        let open = Dark {
            from: ms(1),
            until: None,
        };
        assert_eq!(report.dark, [vec![], vec![open]]);
    }

    #[test]
    fn a_syn_is_answered_twice_by_two_nodes_or_by_one() {
        let all = [(0, ONE), (1, ONE)];
        assert_eq!(judged(1, &all).answered_twice, 0);
        assert_eq!(
            judged(1, &[&all[..], &[(1, TWO)]].concat()).answered_twice,
            1
        );
        assert_eq!(
            judged(1, &[&all[..], &[(0, ONE)]].concat()).answered_twice,
            1
        );
    }

    #[test]
    fn a_syn_is_read_as_one_and_its_reset_names_it() {
        let flow = Flow {
            src: Ipv4Addr::new(10, 78, 0, 1).into(),
            sport: 4711,
        };
        let mut frame = written(ONE, TWO, flow, target()).expect("an IPv4 flow");
        give_number(&mut frame, 77);
        let mut read = Frame::read(&frame).expect("a frame that counts");
        assert_eq!(
            (read.src, read.dst),
            ((flow.src, flow.sport).into(), target().into())
        );
        let syn = What::Tcp {
            flags: SYN,
            sequence: 77,
            acknowledged: 0,
        };
        assert_eq!(read.what, syn);
        assert_eq!(checksum(&frame[IP..SEGMENT]), 0);
        let pseudo = [
            &frame[SEGMENT - 8..SEGMENT],
            &[0, TCP, 0, 20],
            &frame[SEGMENT..],
        ]
        .concat();
        assert_eq!(checksum(&pseudo), 0);

        (read.src, read.dst) = (read.dst, read.src);
        read.what = What::Tcp {
            flags: RST | ACK,
            sequence: 0,
            acknowledged: 78,
        };
        assert_eq!(answered(&read, target()), Some(77));
        read.what = What::Tcp {
            flags: RST,
            sequence: 78,
            acknowledged: 0,
        };
        assert_eq!(answered(&read, target()), None);
        assert!(is_reset(&read));
    }
}
