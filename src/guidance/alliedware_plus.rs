//! AlliedWare Plus.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "alliedware-plus",
    title: "AlliedWare Plus",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    let source = Some("AlliedWare Plus command reference, arp-mac-disparity");
    Guide::default()
        .believe(
            source,
            [
                format!("interface vlan{}", site.vlan()),
                "  arp-mac-disparity multicast".to_owned(),
            ],
        )
        .check(format!("show arp | include {}", site.vip))
        .beware(source, "without it such replies are dropped")
}
