//! Arista EOS.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "arista-eos",
    title: "Arista EOS",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    let (vip, mac) = (site.vip, site.dotted());
    let (vlan, ports) = (site.vlan(), site.ports(" "));
    Guide::default()
        .arp(None, [format!("arp {vip} {mac} arpa")])
        .ports(
            None,
            [format!(
                "mac address-table static {mac} vlan {vlan} interface {ports}"
            )],
        )
        .check(format!("show ip arp {vip}"))
        .check(format!("show mac address-table address {mac}"))
        .beware(
            Some("Arista, article on network load balancing"),
            "that a static ARP and a static MAC entry are the way is documented",
        )
}
