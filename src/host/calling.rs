//! Calling every node on the link, and listening to who calls: frames for the cluster MAC with the VIP inside
//! (`model::call`). Both need no VIP here.

use crate::model::agreement::Question;
use crate::model::call::{CALLED, Call, Heard, LONGEST_ROUND, WANTED};
use crate::model::mac::Mac;
use crate::model::written::Digest;
use crate::sys::packet::{PacketError, PacketSocket};
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

/// The pause between two frames of a round.
const PAUSE: Duration = Duration::from_millis(100);
/// Each question stands for so many frames.
const FRAMES_A_QUESTION: u32 = 10;
/// What of a frame is read; a call has less than 100 bytes.
const LONGEST: usize = 256;
/// The listener looks at the clock so often.
const PATIENCE: Duration = Duration::from_millis(250);

/// Where it is called and listened.
#[derive(Debug, Clone, Copy)]
pub struct Post {
    /// The VIP.
    pub vip: IpAddr,
    /// Its cluster MAC.
    pub cluster_mac: Mac,
    /// The number of the interface.
    pub index: u32,
    /// By which description the VIP is shared here, if it is.
    pub digest: Option<Digest>,
}

/// How many frames a round of so many seconds has.
pub fn frames_in(seconds: u32) -> u32 {
    seconds.saturating_mul(10).clamp(1, LONGEST_ROUND)
}

/// Sends a round of so many frames, and questions among them.
pub fn call(post: Post, nic_mac: Mac, from: IpAddr, frames: u32) -> Result<(), PacketError> {
    let socket = PacketSocket::open(post.index)?;
    let question = Question {
        vip: post.vip,
        digest: CALLED,
        manager: None,
        nic_mac,
    };
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let round = since.map_or(0, |since| since.as_nanos() as u64);
    for number in 0..frames {
        if number > 0 {
            sleep(PAUSE);
        }
        if number % FRAMES_A_QUESTION == 0 {
            socket.send(&question.frame())?;
        }
        let call = Call {
            vip: post.vip,
            to: post.cluster_mac,
            nic_mac,
            from,
            round,
            number,
            of: frames,
            digest: post.digest,
        };
        socket.send(&call.frame())?;
    }
    Ok(())
}

/// Listens for so many seconds, and says when it has `begun`. Meanwhile the interface lets the cluster MAC in.
pub fn listen(post: Post, seconds: u64, begun: impl FnOnce()) -> Result<Heard, PacketError> {
    let socket = PacketSocket::open_overhearing(post.index, &WANTED)?;
    socket.let_in(post.cluster_mac.0)?;
    begun();
    let mut heard = Heard::within(seconds);
    let mut buffer = [0; LONGEST];
    let begin = Instant::now();
    loop {
        let left = Duration::from_secs(seconds).saturating_sub(begin.elapsed());
        if left.is_zero() {
            break;
        }
        if let Some(frame) = socket.receive(&mut buffer, left.min(PATIENCE))? {
            heard.take(frame, post.vip, post.cluster_mac);
        }
    }
    heard.has_lost = socket.has_lost()?;
    Ok(heard)
}
