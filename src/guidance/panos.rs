//! Palo Alto PAN-OS.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "panos",
    title: "Palo Alto PAN-OS",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    let (vip, mac) = (site.vip, site.mac);
    let interface = site.interface();
    Guide::default()
        .arp(
            None,
            [format!(
                "set network interface ethernet {interface} layer3 arp {vip} hw-address {mac}"
            )],
        )
        .check(format!("show arp {interface}"))
        .beware(
            None,
            "that a static ARP entry is often needed is what others report of it",
        )
}
