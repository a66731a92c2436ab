//! Lenovo ENOS.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "lenovo-enos",
    title: "Lenovo ENOS",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    Guide::default().beware(
        Some("Lenovo ENOS application guide, chapter 16"),
        format!(
            "a static multicast ARP entry with a list of ports exists, at most 20 of them; its \
             line was not read. It would name {} and {}",
            site.vip, site.mac
        ),
    )
}
