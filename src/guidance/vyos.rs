//! VyOS 1.4 and later.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "vyos",
    title: "VyOS 1.4 and later",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    let (vip, mac, interface) = (site.vip, site.mac, site.interface());
    Guide::default()
        .arp(
            Some("VyOS documentation, static ARP"),
            [format!("set protocols static arp interface {interface} address {vip} mac {mac}")],
        )
        .check(format!("run show arp interface {interface}"))
        .beware(None, "VyOS is Linux, which believes replies that name a multicast MAC; the entry is a precaution")
}
