//! Guests of Proxmox VE: its bridges and its firewall.

use super::guide::{Guide, Vendor};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "proxmox",
    title: "Proxmox VE guests (bridges, firewall)",
    advice,
    stealth,
};

const FIREWALL: &str = "pve-firewall(8)";

fn advice(site: &Site) -> Guide {
    let guide = Guide::of_both_families()
        .way(
            "no snooping, on every host, for each bridge on the way (vmbr…, and with the firewall fwbr…)",
            None,
            ["ip link set <BRIDGE> type bridge mcast_snooping 0".to_owned()],
        )
        .tried()
        .way(
            "the same for good, in /etc/network/interfaces, under the bridge",
            Some("ifupdown-addons-interfaces(5)"),
            ["bridge-mcsnoop no".to_owned()],
        )
        .check_tried("ip -d link show <BRIDGE>")
        .beware_tried("needed where a querier is heard; other ways are under '--vendor linux-bridge'");
    firewalled(guide, site)
}

fn stealth(site: &Site) -> Guide {
    let guide = Guide::of_both_families()
        .beware_tried("its bridges need nothing: they never learn the MAC, and flood it");
    firewalled(guide, site)
}

fn firewalled(guide: Guide, site: &Site) -> Guide {
    let vip = site.vip;
    guide
        .way(
            "with the firewall's IP filter, in /etc/pve/firewall/<VMID>.fw of each node: the VIP beside its own address",
            Some(FIREWALL),
            [
                "[IPSET ipfilter-net0]".to_owned(),
                "<NODE>".to_owned(),
                vip.to_string(),
            ],
        )
        .beware(
            None,
            "its MAC filter (macfilter, on by default) may stay: it looks at the source of frames, and the nodes send \
             from their own MACs alone",
        )
        .beware(
            Some(FIREWALL),
            "the set has to name all of the node's addresses, link-local ones too: what is not in it is not let out",
        )
}
