//! Dell OS9 (FTOS).

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "dell-os9",
    title: "Dell OS9 (FTOS)",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    let (vip, mac) = (site.vip, site.mac);
    let (vlan, ports) = (site.vlan(), site.ports(","));
    let source = Some("Dell OS9 command reference");
    Guide::default()
        .arp(source, [format!("arp {vip} {mac} vlan {vlan}")])
        .ports(
            source,
            [format!(
                "mac-address-table static {mac} multicast vlan {vlan} range-output {ports}"
            )],
        )
        .check(format!("show arp ip {vip}"))
        .check("show mac-address-table static")
}
