//! HPE Comware, H3C.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "comware",
    title: "HPE Comware, H3C",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    let (vip, mac) = (site.vip, site.dashed());
    let (vlan, ports) = (site.vlan(), site.ports(" "));
    let source = Some("HPE 5500HI, multiport ARP; FlexFabric 11900 guide");
    Guide::default()
        .ports(
            source,
            [format!(
                "mac-address multicast {mac} interface {ports} vlan {vlan}"
            )],
        )
        .arp(source, [format!("arp static {vip} {mac}")])
        .check(format!("display arp {vip}"))
        .check(format!("display mac-address {mac}"))
        .beware(source, "on the 11900 'undo arp check enable' comes first")
}
