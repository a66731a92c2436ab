//! Juniper Junos.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "junos",
    title: "Juniper Junos",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    let (vip, mac) = (site.vip, site.mac);
    let interface = site.interface_or(&format!("irb unit {}", site.vlan()));
    let source = Some("Juniper, arp statement (interfaces)");
    Guide::default()
        .arp(
            source,
            [format!(
                "set interfaces {interface} family inet address <ADDRESS/PREFIX> arp {vip} \
                 multicast-mac {mac}"
            )],
        )
        .check(format!("show arp no-resolve hostname {vip}"))
        .beware(
            source,
            "ADDRESS is the router's own; the VIP must be in that network",
        )
        .beware(
            Some("Juniper, EX2200 example"),
            "the EX2200 refuses a static forwarding entry for a multicast MAC",
        )
}
