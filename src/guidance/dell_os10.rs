//! Dell OS10.

use super::guide::{Guide, Vendor};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "dell-os10",
    title: "Dell OS10",
    advice,
};

fn advice(site: &Site) -> Guide {
    Guide::default().beware(
        None,
        format!(
            "nothing was found on a multicast MAC in ARP; try whether it learns {} by itself",
            site.vip
        ),
    )
}
