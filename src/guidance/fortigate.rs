//! FortiGate.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "fortigate",
    title: "FortiGate",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    let (vip, mac) = (site.vip, site.mac);
    let interface = site.interface();
    Guide::default()
        .arp(
            Some("FortiOS CLI reference, system arp-table"),
            [
                "config system arp-table".to_owned(),
                "  edit <FREE-ID>".to_owned(),
                format!("    set interface \"{interface}\""),
                format!("    set ip {vip}"),
                format!("    set mac {mac}"),
                "  next".to_owned(),
                "end".to_owned(),
            ],
        )
        .check("get system arp")
        .beware(
            Some("FortiOS CLI reference, system arp-table"),
            "the number behind edit is the entry's: one that is taken already would be changed",
        )
        .beware(
            None,
            "for NAT mode; whether it takes a multicast MAC is not known",
        )
        .beware(
            Some("Fortinet technical tip"),
            "in transparent mode it does not work: traffic to a multicast MAC has no session, \
             is not inspected, and answers are blocked",
        )
}
