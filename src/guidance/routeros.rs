//! MikroTik RouterOS.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "routeros",
    title: "MikroTik RouterOS",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    let (vip, mac) = (site.vip, site.mac.to_string().to_uppercase());
    let interface = site.interface();
    Guide::default()
        .arp(
            None,
            [format!(
                "/ip arp add address={vip} mac-address={mac} interface={interface}"
            )],
        )
        .check(format!("/ip arp print where address={vip}"))
        .beware(None, "whether it takes a multicast MAC in ARP is not known")
}
