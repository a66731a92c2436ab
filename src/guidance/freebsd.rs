//! FreeBSD, pfSense, OPNsense.

use super::guide::{Guide, Vendor, nothing_to_do};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "freebsd",
    title: "FreeBSD, pfSense, OPNsense",
    advice,
    stealth: nothing_to_do,
};

fn advice(site: &Site) -> Guide {
    let (vip, mac) = (site.vip, site.mac);
    Guide::default()
        .believe(
            Some("arp(4); pfSense documentation"),
            ["sysctl net.link.ether.inet.allow_multicast=1".to_owned()],
        )
        .arp(None, [format!("arp -s {vip} {mac}")])
        .check(format!("arp -n {vip}"))
        .beware(
            Some("arp(4)"),
            "by default such replies are refused, and logged as \"arp: ... is multicast\"",
        )
        .beware(None, "one of the two is enough; put the sysctl into /etc/sysctl.conf (pfSense, OPNsense: System Tunables)")
}
