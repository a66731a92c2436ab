//! VMware vSwitch.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;
use std::net::IpAddr;

pub(super) const VENDOR: Vendor = Vendor {
    name: "vmware",
    title: "VMware vSwitch",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    let entries = match site.vip {
        IpAddr::V4(_) => "static ARP and MAC entries",
        IpAddr::V6(_) => "static entries",
    };
    Guide::default()
        .flood(
            Some("VMware KB 1006525"),
            ["vSwitch, port group of the nodes: Notify Switches = Yes".to_owned()],
        )
        .beware(
            Some("VMware KB 1006525"),
            format!(
                "the physical switch and router need the {entries} for {} ({})",
                site.vip, site.mac
            ),
        )
}
