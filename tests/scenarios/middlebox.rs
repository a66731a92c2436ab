//! A middlebox in a client's cable that cuts the packets passing to the switch into pieces.
//!
//! What the client sends is redirected at the switch's port, cut up here, and put on a second port.
//! The way back does not lead through here.

use crate::raw::fragment_header;
use lab::frame::checksum;
use lab::{Client, Error, Lab, Result, Wire};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a middlebox treats the pieces of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As they should come.
    InOrder,
    /// Adjacent pieces in each other's place: the second one overtakes the first.
    Swapped,
    /// Every piece twice.
    Doubled,
    /// Each piece begins with the last eight bytes of the one before.
    Overlapping,
    /// Every third packet in pieces of eight bytes.
    Tiny,
    /// The first piece is lost, or the second, in turns.
    Incomplete,
}

/// A middlebox at work; it ends when this is dropped.
pub struct Middlebox {
    manner: Arc<Mutex<Manner>>,
    cut: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Middlebox {
    /// Puts one into the client's cable; packets of more than `limit` bytes are cut.
    pub fn new(lab: &Lab, client: &Client, limit: usize) -> Result<Self> {
        let name = client.name();
        let offloads = ["tx", "off", "tso", "off", "gso", "off", "sg", "off"];
        client.run(&[&["ethtool", "-K", "eth0"][..], &offloads[..]].concat())?;
        let mac = client.mac();
        // Flooded frames must neither come back to the client nor pile up at the second port.
        let script = format!(
            "ip link add {name}-tap type veth peer name {name}-seen\n\
             ip link add {name}-in type veth peer name {name}-port\n\
             ip link set {name}-port master br0\n\
             for end in tap seen in port; do ip link set {name}-$end up; done\n\
             bridge fdb replace {mac} dev {name} master static\n\
             bridge link set dev {name} learning off isolated on\n\
             bridge link set dev {name}-port learning off isolated on flood off \
             mcast_flood off bcast_flood off"
        );
        lab.switch(&["sh", "-ec", &script])?;
        let (tap, put) = (
            lab.switch_tap(&format!("{name}-seen"))?,
            lab.switch_wire(&format!("{name}-in"))?,
        );
        let redirect = format!(
            "table netdev {name} {{\nchain tap {{\ntype filter hook ingress device {name} \
             priority 0\nfwd to {name}-tap\n}}\n}}"
        );
        lab.switch(&["nft", &redirect])?;
        let manner = Arc::new(Mutex::new(Manner::InOrder));
        let (stop, cut) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let works = Works {
            limit,
            manner: manner.clone(),
            cut: cut.clone(),
            stop: stop.clone(),
        };
        Ok(Middlebox {
            manner,
            cut,
            stop,
            thread: Some(std::thread::spawn(move || works.on(&tap, &put))),
        })
    }

    /// How it is to treat what comes from now on.
    pub fn set(&self, manner: Manner) {
        *self.manner.lock().expect("the middlebox did not panic") = manner;
    }

    /// Ends it; tells how many packets it cut.
    pub fn finish(mut self) -> Result<usize> {
        self.end()?;
        Ok(self.cut.load(Ordering::Relaxed))
    }

    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(Error::new("the middlebox panicked")),
            Some(Ok(ended)) => ended,
            None => Ok(()),
        }
    }
}

impl Drop for Middlebox {
    fn drop(&mut self) {
        // Who wants to know how it went calls finish().
        let _ = self.end();
    }
}

struct Works {
    limit: usize,
    manner: Arc<Mutex<Manner>>,
    cut: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Works {
    fn on(self, tap: &Wire, put: &Wire) -> Result<()> {
        let mut buffer = vec![0; 1 << 17];
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let patience = Duration::from_millis(50);
            let Some(length) = tap.receive(&mut buffer, patience)? else {
                continue;
            };
            let frame = &buffer[..length];
            let manner = *self.manner.lock().expect("nobody panicked");
            match pieces(frame, self.limit, manner, number) {
                Some(pieces) => {
                    number += 1;
                    self.cut.fetch_add(1, Ordering::Relaxed);
                    for piece in pieces {
                        put.send(&piece)?;
                    }
                }
                None => put.send(frame)?,
            }
        }
        Ok(())
    }
}

/// A frame's pieces, as they are sent; `None` if it is not to be cut.
fn pieces(frame: &[u8], limit: usize, manner: Manner, number: u32) -> Option<Vec<Vec<u8>>> {
    let whole = Whole::read(frame, number)?;
    let tiny = manner == Manner::Tiny && number % 3 == 0;
    let step = match tiny {
        true => 8,
        false => (limit - whole.header()) & !7,
    };
    if whole.body.len() <= step || !tiny && frame.len() - 14 <= limit {
        return None;
    }
    let overlap = if manner == Manner::Overlapping { 8 } else { 0 };
    let mut pieces: Vec<_> = (0..whole.body.len())
        .step_by(step)
        .map(|from| whole.piece(from.saturating_sub(overlap), from + step))
        .collect();
    match manner {
        Manner::InOrder | Manner::Overlapping | Manner::Tiny => {}
        Manner::Swapped => pieces.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1)),
        Manner::Doubled => {
            pieces = pieces
                .into_iter()
                .flat_map(|piece| [piece.clone(), piece])
                .collect();
        }
        Manner::Incomplete => drop(pieces.remove(number as usize % 2)),
    }
    Some(pieces)
}

/// A packet that can be cut, perhaps itself a fragment.
struct Whole<'a> {
    /// The Ethernet header and the IP header.
    before: &'a [u8],
    body: &'a [u8],
    is_ip6: bool,
    next: u8,
    id: u32,
    offset: usize,
    more: bool,
}

impl<'a> Whole<'a> {
    fn read(frame: &'a [u8], number: u32) -> Option<Self> {
        let packet = frame.get(14..)?;
        let be16 = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        match frame[12..14] {
            [0x08, 0x00] => {
                let header = 4 * usize::from(packet[0] & 15);
                Some(Whole {
                    before: &frame[..14 + header],
                    body: packet.get(header..usize::from(be16(2)))?,
                    is_ip6: false,
                    next: packet[9],
                    id: be16(4).into(),
                    offset: 8 * usize::from(be16(6) & 0x1fff),
                    more: be16(6) & 0x2000 != 0,
                })
            }
            // Fragments of neighbour discovery are ignored (RFC 6980).
            [0x86, 0xdd] if packet[6] != 58 => {
                let end = 40 + usize::from(be16(4));
                let mut whole = Whole {
                    before: &frame[..54],
                    body: packet.get(40..end)?,
                    is_ip6: true,
                    next: packet[6],
                    id: 0xc000_0000 + number,
                    offset: 0,
                    more: false,
                };
                if whole.next == 44 {
                    whole.next = packet[40];
                    whole.offset = usize::from(be16(42) & 0xfff8);
                    whole.more = be16(42) & 1 != 0;
                    whole.id = u32::from_be_bytes(packet.get(44..48)?.try_into().ok()?);
                    whole.body = &whole.body[8..];
                }
                Some(whole)
            }
            _ => None,
        }
    }

    /// How long a piece's header is.
    fn header(&self) -> usize {
        self.before.len() - 14 + if self.is_ip6 { 8 } else { 0 }
    }

    fn piece(&self, from: usize, to: usize) -> Vec<u8> {
        let to = to.min(self.body.len());
        let (body, offset) = (&self.body[from..to], self.offset + from);
        let more = self.more || to < self.body.len();
        let mut piece = self.before.to_vec();
        if self.is_ip6 {
            let length = (8 + body.len()) as u16;
            piece[18..20].copy_from_slice(&length.to_be_bytes());
            piece[20] = 44;
            piece.extend(fragment_header(self.next, offset as u16, more, self.id));
        } else {
            let bits = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
            let length = (piece.len() - 14 + body.len()) as u16;
            piece[16..18].copy_from_slice(&length.to_be_bytes());
            piece[20..22].copy_from_slice(&bits.to_be_bytes());
            piece[24..26].fill(0);
            let sum = checksum(&piece[14..]);
            piece[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        piece.extend(body);
        piece
    }
}
