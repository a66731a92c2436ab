//! Calling every node on the link, and listening to who calls: frames for the cluster MAC with the VIP inside
//! (`model::call`). Both need no VIP here.

use super::cautions::can_speak;
use crate::model::agreement::Question;
use crate::model::call::{CALLED, Call, Heard, LONGEST_ROUND, WANTED};
use crate::model::l2_mode::L2Mode;
use crate::model::mac::Mac;
use crate::model::network::Network;
use crate::model::written::Digest;
use crate::sys::packet::{PacketError, PacketSocket};
use crate::sys::route::{Address, SCOPE_HOST};
use std::cmp::Reverse;
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

/// For so many seconds one can send at most.
pub const LONGEST_S: u32 = LONGEST_ROUND / 10;

/// The node's own address that says best who it is who calls: one in the VIP's network, and rather none that is valid on the
/// link alone. VIPs are nobody's own, nor are groups.
pub fn own_address(vip: IpAddr, held: &[Address], vips: &[IpAddr]) -> Option<IpAddr> {
    let is_own = |held: &&Address| {
        let is_usable = !(held.deprecated || held.tentative || held.dad_failed);
        let is_vip = held.addr == vip || vips.contains(&held.addr);
        is_usable && !is_vip && !held.addr.is_multicast() && held.scope != SCOPE_HOST
    };
    let rank = |held: &&Address| {
        let is_beside = Network::of(held.addr, held.prefix).contains(vip);
        Reverse((is_beside, can_speak(held, vips)))
    };
    let own = held.iter().filter(is_own);
    own.min_by_key(rank).map(|held| held.addr)
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

/// Listens for so many seconds, and says when it has `begun`. Meanwhile the interface lets the cluster MAC in, and those of
/// other modes where it can: so one who sends in another mode is told from one of whom nothing arrives.
pub fn listen(post: Post, seconds: u64, begun: impl FnOnce()) -> Result<Heard, PacketError> {
    let socket = PacketSocket::open_overhearing(post.index, &WANTED)?;
    socket.let_in(post.cluster_mac.0)?;
    for mode in L2Mode::ALL {
        // A macvlan lets no unicast MAC in, which is no reason not to listen.
        let _ = socket.let_in(mode.mac(post.vip).0);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::route::tests::an_address;

    #[test]
    fn who_calls_says_an_address_of_its_own() {
        let at = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let held = |text: &str, scope| Address {
            scope,
            prefix: 24,
            ..an_address(at(text))
        };
        let own = held("10.77.0.1", 0);
        let vip = held("10.77.0.98", SCOPE_HOST);
        // As version 0.1.0 had it.
        let older = held("10.77.0.97", 0);
        let group = held("239.255.0.99", SCOPE_HOST);
        let other = held("192.0.2.1", 0);
        let deprecated = Address {
            deprecated: true,
            ..own.clone()
        };
        let vips = [at("10.77.0.98"), at("10.77.0.97")];
        for (all, expected) in [
            (&[&group, &vip, &older, &other, &own][..], Some(&own)),
            (&[&group, &vip, &older, &other], Some(&other)),
            (&[&group, &vip, &older], None),
            (&[&deprecated, &other], Some(&other)),
            (&[], None),
        ] {
            let all: Vec<Address> = all.iter().copied().cloned().collect();
            let found = own_address(at("10.77.0.99"), &all, &vips);
            assert_eq!(found, expected.map(|held| held.addr), "{all:?}");
        }
        let of_link = held("fe80::1", 253);
        let own = held("fd77::1", 0);
        let all = [of_link.clone(), own.clone()];
        assert_eq!(own_address(at("fd77::99"), &all, &[]), Some(own.addr));
        assert_eq!(
            own_address(at("fd77::99"), &all[..1], &[]),
            Some(of_link.addr)
        );
    }
}
