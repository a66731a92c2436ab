//! Dell OS10.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "dell-os10",
    title: "Dell OS10",
    advice,
    stealth: nothing_to_do,
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
