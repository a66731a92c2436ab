//! VXLAN between Linux hypervisors.

use super::guide::{Guide, Vendor};
use super::site::Site;

pub(super) const VENDOR: Vendor = Vendor {
    name: "vxlan",
    title: "VXLAN between Linux hypervisors",
    advice,
    stealth,
};

/// What is sent to nobody who is known goes to all of these.
const TO_ALL: &str = "bridge fdb append 00:00:00:00:00:00 dev <VXLAN> dst <HYPERVISOR>";
const ON_ALL: &str = "on every hypervisor, once for each other one (its address)";

fn advice(site: &Site) -> Guide {
    let mac = site.mac;
    Guide::of_both_families()
        .way(
            "without an entry of all zeros: on every hypervisor, once for each other one that has a node (its address)",
            None,
            [format!("bridge fdb append {mac} dev <VXLAN> dst <HYPERVISOR>")],
        )
        .tried()
        .way(ON_ALL, None, [TO_ALL.to_owned()])
        .tried()
        .check_tried("bridge fdb show dev <VXLAN>")
        .beware_tried(
            "one of the two, and only with 'nolearning' and no entry of all zeros, as controllers set it up: then \
             frames for the cluster MAC reach the nodes of the same hypervisor alone. With head-end replication \
             (entries of all zeros) nothing is needed",
        )
        .beware_tried("it is 'append': 'add' refuses the second hypervisor, and 'replace' any")
        .beware_tried(
            "the first way carries no ARP and no neighbour discovery, which who has no entry of all zeros answers \
             otherwise, or not at all",
        )
        .beware_tried("with a multicast group instead of entries (vxlan … group) nothing is needed")
}

fn stealth(_: &Site) -> Guide {
    Guide::of_both_families()
        .way(ON_ALL, None, [TO_ALL.to_owned()])
        .tried()
        .check_tried("bridge fdb show dev <VXLAN>")
        .beware_tried(
            "only with 'nolearning' and no entry of all zeros, as controllers set it up: then frames for the MAC reach \
             the nodes of the same hypervisor alone. With head-end replication (entries of all zeros) nothing is \
             needed",
        )
        .beware_tried(
            "an entry of the MAC is no way: it has one destination, and 'bridge fdb append' with a second ends with 0 \
             and is ignored. Where entries of all zeros are not wanted, use the mode multicast",
        )
        .beware_tried("with a multicast group instead of entries (vxlan … group) nothing is needed")
}
