//! Telling the neighbours which MAC the VIP has, in a process of its own that nobody waits for.

use crate::model::announce::frame;
use crate::model::mac::Mac;
use crate::model::vip::Vip;
use crate::sys::packet::PacketSocket;
use crate::sys::process::{DetachError, detach};
use crate::sys::route::RouteSocket;
use std::time::Duration;

/// How often and how fast: IPaddr2's `arp_count` and `arp_interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcements {
    /// How many; 0 for none.
    pub count: u32,
    /// The pause between two of them.
    pub interval: Duration,
}

impl Default for Announcements {
    /// As IPaddr2 does by default: five, a fifth of a second apart.
    fn default() -> Self {
        Announcements {
            count: 5,
            interval: Duration::from_millis(200),
        }
    }
}

/// Announces the VIP in the background: gratuitous ARP, or unsolicited neighbour advertisements.
/// Nothing depends on their arrival, so the background process reports nothing; it is safe to kill.
pub fn announce(
    vip: &Vip,
    index: u32,
    nic_mac: Mac,
    plan: Announcements,
) -> Result<(), DetachError> {
    if plan.count == 0 {
        return Ok(());
    }
    let frame = frame(vip.address, vip.mac.0, nic_mac.0, vip.probe_digest());
    let address = vip.address;
    detach(move || {
        let (Ok(socket), Ok(mut route)) = (PacketSocket::open(index), RouteSocket::open()) else {
            return;
        };
        for n in 0..plan.count {
            if n > 0 {
                std::thread::sleep(plan.interval);
            }
            // What has gone is not announced any more.
            let held = route.addresses(Some(index), None);
            if !held.is_ok_and(|held| held.iter().any(|held| held.addr == address)) {
                return;
            }
            if socket.send(&frame).is_err() {
                return;
            }
        }
    })
}
