//! HPE ArubaOS-Switch (ProCurve).

use super::guide::{Guide, Vendor};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "arubaos-switch",
    title: "HPE ArubaOS-Switch (ProCurve)",
    advice,
};

fn advice(site: &Site) -> Guide {
    Guide::default()
        .believe(
            Some("one published configuration"),
            ["ip arp-mcast-replies".to_owned()],
        )
        .check(format!("show arp {}", site.vip))
}
