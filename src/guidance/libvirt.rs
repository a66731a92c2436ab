//! Guests of libvirt: what stands between their cards and the bridge.

use super::guide::{Guide, Vendor};
use super::site::Site;
use std::net::IpAddr;

pub(super) const VENDOR: Vendor = Vendor {
    name: "libvirt",
    title: "libvirt guests (macvtap, network filters)",
    advice,
    stealth,
};

const TRUST: &str = "libvirt, domain XML, trustGuestRxFilters; IBM, Linux on systems";
const FILTERS: &str = "libvirt 9.0.0, its nwfilter/*.xml";
const TABLE: &str = "libvirt, network XML, macTableManager";
const BRIDGED: &str =
    "a guest on a bridge depends on that: see '--vendor linux-bridge' or open-vswitch";

fn advice(site: &Site) -> Guide {
    let guide = Guide::of_both_families()
        .way(
            "macvtap (interface type='direct'): on the host, for each node's device",
            None,
            ["ip link set <MACVTAP> allmulticast on".to_owned()],
        )
        .tried()
        .way(
            "the same for good: the guest's own filter is trusted (a virtio card)",
            Some(TRUST),
            ["<interface type='direct' trustGuestRxFilters='yes'>".to_owned()],
        )
        .check_tried("ip -d link show <MACVTAP>")
        .beware_tried(
            "without it a macvtap drops the VIP's frames, but for the few MACs that get through its filter by chance",
        );
    filtered(guide, site).beware(None, BRIDGED)
}

fn stealth(site: &Site) -> Guide {
    let guide = Guide::of_both_families()
        .beware_by_hand(
            "macvtap (interface type='direct'): not but with mode='passthrough', for it has one unicast MAC alone; use the \
             mode multicast there",
        )
        .beware(
            Some(TABLE),
            "a network with <bridge macTableManager='libvirt'/> gives its guests' ports flood off, so that nothing for the \
             MAC gets through: use the mode multicast there",
        );
    filtered(guide, site).beware(None, BRIDGED)
}

/// What clean-traffic forbids: ARP that names another MAC than the guest's, addresses that it was not told, IPv6.
fn filtered(guide: Guide, site: &Site) -> Guide {
    let vip = site.vip;
    let guide = guide.way(
        "a guest with the filter clean-traffic: a filter of its own, in which, in place of no-arp-spoofing, stands",
        None,
        ["<filterref filter='no-arp-ip-spoofing'/>".to_owned()],
    );
    let guide = match vip {
        IpAddr::V4(_) => guide.by_hand().way(
            "and the interface's filterref names the VIP beside the node's own address",
            None,
            [
                "<parameter name='IP' value='<NODE>'/>".to_owned(),
                format!("<parameter name='IP' value='{vip}'/>"),
            ],
        ),
        IpAddr::V6(_) => guide.by_hand().way(
            "and, in front of no-other-l2-traffic, which drops IPv6",
            None,
            ["<filterref filter='allow-ipv6'/>".to_owned()],
        ),
    };
    guide
        .by_hand()
        .beware(
            Some(FILTERS),
            "clean-traffic lets out ARP with the guest's own MAC and addresses alone, and no IPv6, so nobody answers",
        )
        .beware_by_hand(
            "it also keeps the nodes from hearing each other's questions: a node of another description comes up \
             there. Compare the digests that 'nodectl status' shows",
        )
}
