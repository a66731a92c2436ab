//! Extreme EXOS.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "exos",
    title: "Extreme EXOS",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    let (vip, mac) = (site.vip, site.mac);
    let ports = site.ports(",");
    Guide::default()
        .arp(
            Some("EXOS command reference, configure iparp add"),
            [format!("configure iparp add {vip} vr VR-Default {mac}")],
        )
        .ports(
            None,
            [format!("create fdb {mac} vlan <VLAN-NAME> ports {ports}")],
        )
        .check(format!("show iparp {vip}"))
        .check(format!("show fdb {mac}"))
        .beware(None, "whether it takes a multicast MAC is not known")
        .beware(None, "the VLAN is given by its name")
}
