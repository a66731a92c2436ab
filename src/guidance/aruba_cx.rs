//! Aruba AOS-CX.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "aruba-cx",
    title: "Aruba AOS-CX",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    let (vip, mac, vlan) = (site.vip, site.mac, site.vlan());
    Guide::default()
        .arp(
            None,
            [
                format!("interface vlan {vlan}"),
                format!("  arp ipv4 {vip} mac {mac}"),
            ],
        )
        .check(format!("show arp | include {vip}"))
        .beware(None, "whether it takes a multicast MAC is not known")
}
