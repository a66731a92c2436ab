//! OpenBSD.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "openbsd",
    title: "OpenBSD",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    let (vip, mac) = (site.vip, site.mac);
    Guide::default()
        .arp(None, [format!("arp -s {vip} {mac} permanent")])
        .check(format!("arp -n {vip}"))
}
