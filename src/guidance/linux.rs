//! Linux as a router or a client. As a switch it is `linux_bridge`'s.

use super::guide::{Guide, Vendor};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "linux",
    title: "Linux, as a router or client",
    advice,
    stealth,
};

fn advice(site: &Site) -> Guide {
    let (vip, mac) = (site.vip, site.mac);
    let interface = site.interface();
    Guide::of_both_families()
        .arp(
            None,
            [format!(
                "ip neigh replace {vip} lladdr {mac} dev {interface} nud permanent"
            )],
        )
        .tried()
        .check_tried(format!("ip neigh show {vip}"))
        .beware_tried("it needs no entry: it believes replies that name a multicast MAC")
        .beware_tried("as a bridge it is another system: see '--vendor linux-bridge'")
}

fn stealth(_: &Site) -> Guide {
    Guide::of_both_families()
        .beware_tried("it needs nothing: it learns the MAC as any other")
        .beware_tried("as a bridge it is another system: see '--vendor linux-bridge'")
}
