//! Cisco IOS, IOS-XE.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;
use std::net::IpAddr;

pub(super) const VENDOR: Vendor = Vendor {
    name: "cisco-ios",
    title: "Cisco IOS, IOS-XE",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    let (vip, mac) = (site.vip, site.dotted());
    let (vlan, ports) = (site.vlan(), site.ports(" "));
    let source = Some("Cisco 107995 and 216092; VMware KB 1006525");
    let (joined, conflict) = match vip {
        IpAddr::V4(_) => (
            "show ip igmp snooping groups",
            "a MAC that begins with 01:00:5e may conflict with IGMP snooping; the 6500 with a Sup2T \
             needs 'disable-snooping' at the end of the line",
        ),
        IpAddr::V6(_) => (
            "show ipv6 mld snooping address",
            "a MAC that begins with 33:33 may conflict with MLD snooping",
        ),
    };
    Guide::default()
        .arp(source, [format!("arp {vip} {mac} arpa")])
        .ports(
            source,
            [format!(
                "mac address-table static {mac} vlan {vlan} interface {ports}"
            )],
        )
        .check(format!("show ip arp {vip}"))
        .check(format!("show mac address-table address {mac}"))
        .check(joined)
        .beware(
            source,
            "without the static MAC entry the frames are flooded in the VLAN, which works too",
        )
        .beware(source, "older systems write 'mac-address-table static'")
        .beware(None, conflict)
}
