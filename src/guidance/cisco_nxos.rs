//! Cisco NX-OS: Nexus 7000 and Nexus 9000, which differ.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;
use crate::model::l2_mode::L2Mode;
use std::net::IpAddr;

pub(super) const NEXUS_7000: Vendor = Vendor {
    name: "cisco-nxos-7000",
    title: "Cisco NX-OS 5.2 and later, Nexus 7000",
    advice: nexus_7000,
    stealth: nothing_to_do,
};

pub(super) const NEXUS_9000: Vendor = Vendor {
    name: "cisco-nxos-9000",
    title: "Cisco NX-OS 9.2(1) and later, Nexus 9000",
    advice: nexus_9000,
    stealth: nothing_to_do,
};

fn nexus_7000(site: &Site) -> Guide {
    let (vip, mac, vlan) = (site.vip, site.dotted(), site.vlan());
    let source = Some("Cisco 116150, option 1");
    let guide = Guide::default()
        .arp(
            source,
            [
                format!("interface Vlan{vlan}"),
                "  ip pim sparse-mode".to_owned(),
                format!("  ip arp {vip} {mac}"),
            ],
        )
        .flood(
            source,
            [
                format!("vlan configuration {vlan}"),
                "  layer-2 multicast lookup mac".to_owned(),
            ],
        )
        .check(format!("show ip arp {vip}"))
        .check(format!("show mac address-table address {mac}"));
    match (vip, site.mode) {
        (IpAddr::V6(_), _) => guide.beware(
            None,
            "it is written for hosts that join an IPv4 group; whether the group that these nodes report by MLD does \
             as well was not looked up",
        ),
        (IpAddr::V4(_), L2Mode::Igmp) => guide.beware(
            source,
            "it is written for hosts that join the group by IGMP, as these nodes do",
        ),
        (IpAddr::V4(_), _) => guide
            .beware(
                source,
                "it is written for hosts that join the group by IGMP, which these nodes do not; then \
                 the group must be made known by hand",
            )
            .beware(
                None,
                "by hand: 'ip igmp snooping static-group … interface …' in the VLAN's configuration",
            ),
    }
}

fn nexus_9000(site: &Site) -> Guide {
    let (vip, mac, vlan) = (site.vip, site.dotted(), site.vlan());
    let source = Some("Cisco 118951");
    Guide::default()
        .arp(
            source,
            [
                format!("interface Vlan{vlan}"),
                format!("  ip arp {vip} {mac}"),
            ],
        )
        .ports(
            None,
            [format!(
                "mac address-table multicast {mac} vlan {vlan} interface {}",
                site.ports(" ")
            )],
        )
        .check(format!("show ip arp {vip}"))
        .check(format!("show mac address-table address {mac}"))
        .beware(
            source,
            "before 9.2(1) packets to a multicast MAC are not routed into the VLAN",
        )
}
