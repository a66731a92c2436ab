//! What the routers and switches around a cluster need to be told, vendor by vendor: one file each.
//!
//! Every line says how far it is confirmed. `Tried` lines were run by a test of this project, `ByHand` ones once by
//! hand; `Documented` ones stand in the vendor's text, or in another source that is named; all others are
//! `Unconfirmed`, a starting point that somebody has to check. Pure: nothing here runs anything.

mod alliedware_plus;
mod arista_eos;
mod aruba_cx;
mod arubaos_switch;
mod cisco_ios;
mod cisco_nxos;
mod comware;
mod dell_os10;
mod dell_os9;
mod eltex;
mod everywhere;
mod exos;
mod fortigate;
mod freebsd;
mod guide;
mod huawei_vrp;
mod junos;
mod lenovo_enos;
mod libvirt;
mod linux;
mod linux_bridge;
mod open_vswitch;
mod openbsd;
mod panos;
mod proxmox;
mod routeros;
mod site;
mod vmware;
mod vxlan;
mod vyos;

pub use everywhere::{Fact, everywhere};
pub use guide::{Confirmed, Guide, Line, Step, Vendor};
pub use site::{Port, Site, Vlan};

/// Every vendor, in the order in which they are listed.
pub const VENDORS: [Vendor; 28] = [
    linux::VENDOR,
    linux_bridge::VENDOR,
    open_vswitch::VENDOR,
    vxlan::VENDOR,
    libvirt::VENDOR,
    proxmox::VENDOR,
    vyos::VENDOR,
    freebsd::VENDOR,
    openbsd::VENDOR,
    cisco_ios::VENDOR,
    cisco_nxos::NEXUS_7000,
    cisco_nxos::NEXUS_9000,
    junos::VENDOR,
    arista_eos::VENDOR,
    comware::VENDOR,
    arubaos_switch::VENDOR,
    aruba_cx::VENDOR,
    dell_os9::VENDOR,
    dell_os10::VENDOR,
    huawei_vrp::VENDOR,
    exos::VENDOR,
    lenovo_enos::VENDOR,
    alliedware_plus::VENDOR,
    eltex::VENDOR,
    routeros::VENDOR,
    fortigate::VENDOR,
    panos::VENDOR,
    vmware::VENDOR,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::l2_mode::L2Mode;

    /// What was looked at here, with packets.
    const SOFTWARE: [&str; 6] = [
        "linux",
        "linux-bridge",
        "open-vswitch",
        "vxlan",
        "libvirt",
        "proxmox",
    ];

    fn sites() -> Vec<Site> {
        sites_in(L2Mode::default())
    }

    fn sites_in(mode: L2Mode) -> Vec<Site> {
        let of = |ip: &str, full: bool| Site {
            vip: ip.parse().expect("an address"),
            mode,
            mac: mode.mac(ip.parse().expect("an address")),
            vlan: full.then(|| "10".parse().expect("a VLAN")),
            ports: match full {
                true => vec![
                    "gi1/0/1".parse().expect("a port"),
                    "gi1/0/2".parse().expect("a port"),
                ],
                false => Vec::new(),
            },
            interface: full.then(|| "eth1".parse().expect("an interface")),
        };
        let all = [
            ("10.0.0.99", true),
            ("10.0.0.99", false),
            ("2001:db8::99", true),
        ];
        all.into_iter().map(|(ip, full)| of(ip, full)).collect()
    }

    #[test]
    fn names_are_words_and_each_is_there_once() {
        let mut names: Vec<&str> = VENDORS.iter().map(|vendor| vendor.name).collect();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(names.iter().all(|name| name.chars().all(plain)));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), VENDORS.len());
    }

    #[test]
    fn every_guide_says_something_and_never_more_than_is_known() {
        for site in L2Mode::ALL.into_iter().flat_map(sites_in) {
            for vendor in VENDORS {
                let guide = vendor.guide(&site);
                assert!(
                    !guide.steps.is_empty() || !guide.beware.is_empty(),
                    "{} for {}",
                    vendor.name,
                    site.vip
                );
                let steps = guide.steps.iter().flat_map(|step| &step.lines);
                for line in steps.chain(&guide.check).chain(&guide.beware) {
                    assert!(
                        !line.text.is_empty() && !line.text.contains('\n'),
                        "{line:?}"
                    );
                    // What was not tried here on a device cannot be said to be.
                    if [Confirmed::Tried, Confirmed::ByHand].contains(&line.confirmed) {
                        assert!(SOFTWARE.contains(&vendor.name), "{line:?}");
                    }
                    assert_eq!(
                        line.confirmed == Confirmed::Documented,
                        line.source.is_some(),
                        "{line:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_not_known_of_the_site_is_asked_for_in_angle_brackets() {
        let [full, bare, _] = sites().try_into().expect("three");
        let text = |site: &Site| -> String {
            let guides = VENDORS.iter().map(|vendor| vendor.guide(site));
            let steps = guides.flat_map(|guide| guide.steps);
            let lines = steps
                .flat_map(|step| step.lines)
                .map(|line| line.text + "\n");
            lines.collect()
        };
        assert!(text(&bare).contains("vlan <VLAN>"));
        assert!(text(&bare).contains("<PORT> …"));
        assert!(!text(&full).contains("<VLAN>") && !text(&full).contains("<PORT>"));
    }

    #[test]
    fn for_ipv6_only_what_was_looked_at_here_is_confirmed() {
        let site = sites().pop().expect("a site");
        for vendor in VENDORS {
            let guide = vendor.guide(&site);
            for line in guide.steps.iter().flat_map(|step| &step.lines) {
                assert_eq!(
                    line.confirmed != Confirmed::Unconfirmed,
                    SOFTWARE.contains(&vendor.name),
                    "{}: {line:?}",
                    vendor.name
                );
            }
        }
    }

    #[test]
    fn for_ipv6_nothing_is_said_of_what_only_ipv4_has() {
        let site = sites().pop().expect("a site");
        for vendor in VENDORS {
            let guide = vendor.guide(&site);
            let lines = guide.steps.iter().flat_map(|step| &step.lines);
            let lines = lines.chain(&guide.check).chain(&guide.beware);
            for text in lines.map(|line| &line.text) {
                let only_ipv4 = ["01:00:5e", "igmp snooping", "IGMP snooping", "by IGMP"];
                let is_arps =
                    !SOFTWARE.contains(&vendor.name) && text.to_lowercase().contains("arp");
                assert!(!is_arps, "{}: {text}", vendor.name);
                let said = only_ipv4.iter().find(|words| text.contains(**words));
                assert_eq!(said, None, "{}: {text}", vendor.name);
            }
            let purposes = guide.steps.iter().map(|step| step.purpose);
            for purpose in purposes {
                assert!(!purpose.contains("ARP entry"), "{}: {purpose}", vendor.name);
            }
        }
    }

    #[test]
    fn each_port_of_a_software_switch_has_a_line_of_its_own() {
        let [full, bare, _] = sites().try_into().expect("three");
        let lines = |site: &Site| linux_bridge::VENDOR.guide(site).steps[0].lines.len();
        assert_eq!((lines(&full), lines(&bare)), (2, 1));
    }
}
