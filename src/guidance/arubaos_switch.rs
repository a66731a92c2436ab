//! HPE ArubaOS-Switch (ProCurve).

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "arubaos-switch",
    title: "HPE ArubaOS-Switch (ProCurve)",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    Guide::default()
        .believe(
            Some("one published configuration"),
            ["ip arp-mcast-replies".to_owned()],
        )
        .check(format!("show arp {}", site.vip))
}
