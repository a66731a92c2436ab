//! Open vSwitch.

use super::guide::{Guide, Vendor};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "open-vswitch",
    title: "Open vSwitch",
    advice,
    stealth,
};

fn advice(site: &Site) -> Guide {
    let (mac, ports) = (site.mac, site.ports(",output:"));
    Guide::of_both_families()
        .way(
            "one way: flood what nobody has joined",
            None,
            ["ovs-vsctl set Bridge <BRIDGE> other_config:mcast-snooping-disable-flood-unregistered=false".to_owned()],
        )
        .tried()
        .way(
            "another: flood it to the nodes' ports",
            None,
            site.each_port(|port| format!("ovs-vsctl set Port {port} other_config:mcast-snooping-flood=true")),
        )
        .tried()
        .way(
            "another: an OpenFlow rule of the cluster MAC",
            None,
            [format!("ovs-ofctl add-flow <BRIDGE> dl_dst={mac},actions=output:{ports}")],
        )
        .tried()
        .check_tried("ovs-vsctl list Bridge <BRIDGE>")
        .check_tried("ovs-appctl mdb/show <BRIDGE>")
        .check_tried("ovs-ofctl dump-flows <BRIDGE>")
        .beware_tried(
            "needed only with mcast_snooping_enable and mcast-snooping-disable-flood-unregistered, both false by \
             default: then it drops the VIP's frames, IPv4 and IPv6. With mcast_snooping_enable alone it floods them",
        )
        .beware_tried(
            "it looks up the packet's own address, which is no group's. So no entry of the MAC helps ('ovs-appctl \
             fdb/add' takes it, shows it as static, and does not use it), and nothing that the nodes report (MLD, nor \
             IGMP in the mode igmp)",
        )
        .beware(
            None,
            "the rule sends frames out as they came in: where ports are in VLANs, match those too (dl_vlan, in_port)",
        )
}

fn stealth(_: &Site) -> Guide {
    Guide::of_both_families()
        .check_tried("ovs-appctl fdb/show <BRIDGE>")
        .beware_tried(
            "it needs nothing: it never learns the MAC, and floods it, with mcast-snooping-disable-flood-unregistered \
             too",
        )
        .beware_tried(
            "make no entry of the MAC ('ovs-appctl fdb/add'): for a unicast MAC it is used, and that node alone gets \
             all frames",
        )
}
