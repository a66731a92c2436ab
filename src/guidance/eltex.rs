//! Eltex MES2324 4.0.11.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "eltex",
    title: "Eltex MES2324 4.0.11",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    Guide::default().beware(
        Some("a report with the device's message"),
        format!(
            "impossible: \"ARP MAC address must be Unicast address\". Put another router in front \
             of {}",
            site.vip
        ),
    )
}
