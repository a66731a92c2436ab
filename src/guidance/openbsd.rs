//! OpenBSD.

use super::guide::{Guide, Vendor};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "openbsd",
    title: "OpenBSD",
    advice,
};

fn advice(site: &Site) -> Guide {
    let (vip, mac) = (site.vip, site.mac);
    Guide::default()
        .arp(None, [format!("arp -s {vip} {mac} permanent")])
        .check(format!("arp -n {vip}"))
}
