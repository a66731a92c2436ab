//! Huawei VRP.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "huawei-vrp",
    title: "Huawei VRP",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    let (vip, mac) = (site.vip, site.dashed());
    let (vlan, ports) = (site.vlan(), site.ports(" "));
    let source = Some("Huawei, multi-interface ARP");
    Guide::default()
        .ports(
            source,
            [format!(
                "mac-address multiport {mac} interface {ports} vlan {vlan}"
            )],
        )
        .arp(source, [format!("arp static {vip} {mac}")])
        .check(format!("display arp {vip}"))
        .check(format!("display mac-address {mac}"))
        .beware(
            source,
            "needs a model that knows 'multiport'; neighbouring ports are written A to B",
        )
        .beware(
            source,
            "the S5720EI refuses 'mac-address static' with a multicast MAC",
        )
        .beware(
            None,
            "where the ARP line is not enough, add 'vid VLAN' to it",
        )
}
