//! Linux.

use super::guide::Guide;
use super::{Site, Vendor};

pub(super) const VENDOR: Vendor = Vendor {
    name: "linux",
    title: "Linux",
    advice,
};

fn advice(site: &Site) -> Guide {
    let (vip, mac) = (site.vip, site.mac);
    let interface = site.interface();
    let mut guide = Guide::default().arp(
        None,
        [format!(
            "ip neigh replace {vip} lladdr {mac} dev {interface} nud permanent"
        )],
    );
    guide = guide.tried().flood(
        None,
        ["ip link set <BRIDGE> type bridge mcast_snooping 0".to_owned()],
    );
    guide
        .tried()
        .check_tried(format!("ip neigh show {vip}"))
        .check_tried("ip -d link show <BRIDGE>")
        .beware_tried(
            "as a router Linux needs no entry: it believes replies that name a multicast MAC",
        )
        .beware_tried(
            "a bridge drops IPv4 frames to the cluster MAC only with mcast_snooping 1 and an active \
             querier; instead of switching snooping off, set 'bridge link set dev PORT mcast_router 2' \
             on each node's port",
        )
}
