//! Linux.

use super::guide::{Guide, Vendor};
use super::site::Site;
use std::net::IpAddr;

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
    let guide = guide
        .tried()
        .check_tried(format!("ip neigh show {vip}"))
        .check_tried("ip -d link show <BRIDGE>")
        .beware_tried(
            "as a router Linux needs no entry: it believes replies that name a multicast MAC",
        )
        .beware_tried(
            "a bridge drops the VIP's frames, IPv4 and IPv6, only with mcast_snooping 1 and a querier; \
             instead of switching snooping off, set 'bridge link set dev PORT mcast_router 2' on each \
             node's port",
        )
        .beware_tried(
            "for a VIP on a node's own bridge that snoops: 'ip link set BRIDGE type bridge mcast_router 2' \
             on the node",
        )
        .beware_tried(
            "an entry of the cluster MAC ('bridge mdb add … grp MAC') is taken and not used: the bridge \
             looks up the packet's address",
        );
    match vip {
        IpAddr::V4(_) => guide,
        IpAddr::V6(_) => guide.beware_tried(format!(
            "one of the VIP leads to exactly its ports: 'bridge mdb add dev BRIDGE port PORT grp {vip} \
             permanent'"
        )),
    }
}
