//! The Linux bridge, and what is one inside: KVM, Proxmox, containers, some switches.

use super::guide::{Guide, Vendor};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "linux-bridge",
    title: "Linux bridge (KVM, Proxmox, containers)",
    advice,
    stealth,
};

fn advice(site: &Site) -> Guide {
    let (vip, vlan) = (site.vip, site.vlan());
    let mut guide = Guide::of_both_families()
        .way(
            "one way: the nodes' ports are given what is for groups",
            None,
            site.each_port(|port| format!("bridge link set dev {port} mcast_router 2")),
        )
        .tried()
        .way(
            "the same, where the bridge has mcast_vlan_snooping 1",
            None,
            site.each_port(|port| format!("bridge vlan set dev {port} vid {vlan} mcast_router 2")),
        )
        .tried();
    if vip.is_ipv6() {
        let entry =
            |port: &str| format!("bridge mdb add dev <BRIDGE> port {port} grp {vip} permanent");
        guide = guide
            .way(
                "another, for IPv6: an entry of the address, for exactly these ports",
                None,
                site.each_port(entry),
            )
            .tried();
    }
    guide
        .way(
            "another: no snooping",
            None,
            ["ip link set <BRIDGE> type bridge mcast_snooping 0".to_owned()],
        )
        .tried()
        .way(
            "where a port has mcast_flood off: flood to it again",
            None,
            site.each_port(|port| format!("bridge link set dev {port} mcast_flood on")),
        )
        .tried()
        .way(
            "where the VIP is on a bridge of the node's own that snoops: on the node, for that bridge",
            None,
            ["ip link set <BRIDGE> type bridge mcast_router 2".to_owned()],
        )
        .tried()
        .check_tried("ip -d link show <BRIDGE>")
        .check_tried("bridge -d link show")
        .check_tried("bridge -d -s mdb show dev <BRIDGE>")
        .beware_tried(
            "with mcast_snooping 1 and a querier it drops the VIP's frames, IPv4 and IPv6, but for those to the \
             port behind which the querier is; without a querier it floods them, and nothing is needed",
        )
        .beware_tried(
            "one general query of any host is enough, in another VLAN of the bridge even: it drops from the query's \
             response time on (10 s, as a rule), for 255 s. So what works today can fail at the first query",
        )
        .beware_tried(
            "it looks up the packet's own address, which is no group's. So no entry of the MAC helps ('bridge mdb add \
             … grp MAC' and 'bridge fdb add MAC' are taken and not used), and nothing that the nodes report (MLD, nor \
             IGMP in the mode igmp); an mdb entry of an IPv4 VIP is refused",
        )
        .beware_tried(
            "with mcast_vlan_snooping 1 'bridge link set … mcast_router 2' does nothing, and says nothing",
        )
        .beware_tried("none of it outlasts the port or the bridge: it belongs where these are made")
}

fn stealth(site: &Site) -> Guide {
    Guide::of_both_families()
        .way(
            "where a port has flood off: flood to it again",
            None,
            site.each_port(|port| format!("bridge link set dev {port} flood on")),
        )
        .tried()
        .check_tried("bridge fdb show br <BRIDGE>")
        .beware_tried(
            "nothing else is needed: it never learns the MAC, and floods it; snooping and queriers play no part, nor \
             do ports with learning off, isolated on, neigh_suppress on or mcast_flood off",
        )
        .beware_tried(
            "make no entry of the MAC ('bridge fdb add MAC dev PORT master static'): that node alone gets all frames",
        )
}
