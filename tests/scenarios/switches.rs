//! Linux bridges: each row of the table of switches in docs/network.md that one can show, with connections to VIPs of
//! every mode, and each line that nodectl prints for a bridge.

use crate::kernel_support::{ip_lines, kernel_has};
use crate::product::*;
use crate::switch_support::*;
use clusterip::model::vip::L2Mode;
use lab::{Error, Lab, Result};
use std::time::Duration;

const VENDOR: &str = "linux-bridge";
const BRIDGE: [(&str, &str); 1] = [("<BRIDGE>", "br0")];
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_linux_bridge_treats_each_mode_as_the_table_says_and_the_lines_for_it_help() -> Result<()> {
    let modes = Modes::new("bridge")?;
    modes.pin()?;
    let [multicast4, multicast6, igmp, stealth4, _] = VIPS;
    let guides = [multicast4, multicast6, igmp].map(|vip| modes.guide(VENDOR, vip));
    let [four, six, joined] = guides;
    let (four, six, joined) = (four?, six?, joined?);
    let stealth = modes.guide(VENDOR, stealth4)?;
    let run = |lines: Vec<String>| {
        lines
            .iter()
            .try_for_each(|line| modes.on_switch(line).map(drop))
    };

    modes.expect("snooping off", ARRIVE)?;
    modes.on_switch("ip link set br0 type bridge mcast_snooping 1")?;
    modes.expect("snooping, and nobody has asked", ARRIVE)?;
    let shown = modes.on_switch("ip -d link show br0")?;
    assert!(shown.contains("mcast_querier_interval 25500"), "{shown}");
    ask(&modes.other, &[])?;
    modes.expect("snooping, one query of any host", GROUPS_DROPPED)?;

    // That the nodes report the groups of their MACs changes nothing.
    modes.lab.wait_until("the nodes' reports", PATIENCE, || {
        let table = modes.on_switch("bridge mdb show dev br0")?;
        let ports = |group: &str| table.lines().filter(|line| line.contains(group)).count();
        match (ports("grp ff02::1:ff00:99"), ports("grp 239.255.0.98")) {
            // A node that hears another one's report keeps its own to itself.
            (1.., 1..) => Ok(()),
            _ => Err(Error::new(table)),
        }
    })?;
    modes.expect("… and the groups are reported", GROUPS_DROPPED)?;
    for vip in [multicast4, multicast6, igmp] {
        let mac = mac_of(vip);
        modes.on_ports(&format!(
            "bridge mdb add dev br0 port PORT grp {mac} permanent"
        ))?;
        modes.on_switch(&format!("bridge fdb add {mac} dev n1 master static"))?;
        assert!(modes.on_switch("bridge mdb show dev br0")?.contains(&mac));
        assert!(modes.on_switch("bridge fdb show br br0")?.contains(&mac));
    }
    modes.expect("… entries of the MACs (mdb, fdb)", GROUPS_DROPPED)?;
    for vip in [multicast4, multicast6, igmp] {
        let mac = mac_of(vip);
        modes.on_ports(&format!(
            "bridge mdb del dev br0 port PORT grp {mac} permanent"
        ))?;
        modes.on_switch(&format!("bridge fdb del {mac} dev n1 master"))?;
    }
    let of_address = six.lines("bridge mdb add", &BRIDGE)?;
    assert!(four.lines("bridge mdb add", &BRIDGE).is_err());
    for line in &of_address {
        assert!(modes.on_switch(&line.replace(V6, V4)).is_err(), "{line}");
    }
    run(of_address.clone())?;
    modes.expect(
        "… an mdb entry of the IPv6 VIP",
        [NOBODY, ALL, NOBODY, ALL, ALL],
    )?;
    modes.on_switch(&of_address[2].replace(" add ", " del "))?;
    modes.expect(
        "… for two of the ports",
        [NOBODY, &["n1", "n2"], NOBODY, ALL, ALL],
    )?;
    for line in &of_address[..2] {
        modes.on_switch(&line.replace(" add ", " del "))?;
    }
    modes.expect("… without it", GROUPS_DROPPED)?;
    for guide in [&four, &six, &joined] {
        run(guide.lines("bridge link set dev n", &BRIDGE)?)?;
        modes.expect("… mcast_router 2 on the nodes' ports", ARRIVE)?;
        modes.on_ports("bridge link set dev PORT mcast_router 1")?;
        modes.expect("… without it", GROUPS_DROPPED)?;
        run(guide.lines("mcast_snooping 0", &BRIDGE)?)?;
        modes.expect("… without snooping", ARRIVE)?;
        modes.on_switch("ip link set br0 type bridge mcast_snooping 1")?;
        ask(&modes.other, &[])?;
        modes.expect("… with it again", GROUPS_DROPPED)?;
    }
    // Whoever has asked is thought to be a router, and gets all. A lower address is the querier of two (RFC 2236 §3).
    ask(&modes.nodes[0], &[])?;
    let one: &[&str] = &["n1"];
    modes.expect("… a query from behind n1's port", [one, one, one, ALL, ALL])?;
    modes.on_switch("bridge link set dev n1 mcast_router 0")?;
    modes.on_switch("bridge link set dev n1 mcast_router 1")?;
    modes.expect("… which is no router's any more", GROUPS_DROPPED)?;
    // One is enough for as long as this: 255 s, if nobody says otherwise.
    modes.on_switch("ip link set br0 type bridge mcast_querier_interval 200")?;
    ask(&modes.nodes[0], &[])?;
    modes.expect("… nobody asks again for the querier's interval", ARRIVE)?;

    modes.on_switch("ip link set br0 type bridge mcast_snooping 0")?;
    modes.on_ports("bridge link set dev PORT mcast_flood off")?;
    modes.expect("mcast_flood off on the nodes' ports", GROUPS_DROPPED)?;
    run(four.lines("mcast_flood on", &BRIDGE)?)?;
    modes.expect("mcast_flood on", ARRIVE)?;
    modes.on_ports("bridge link set dev PORT flood off")?;
    modes.expect("flood off on the nodes' ports", UNLEARNT_DROPPED)?;
    run(stealth.lines("flood on", &BRIDGE)?)?;
    modes.expect("flood on", ARRIVE)?;
    let mac = mac_of(stealth4);
    modes.on_switch(&format!("bridge fdb add {mac} dev n1 master static"))?;
    modes.expect(
        "an fdb entry of a stealth MAC for n1's port",
        [ALL, ALL, ALL, one, ALL],
    )?;
    modes.on_switch(&format!("bridge fdb del {mac} dev n1 master"))?;
    // From here on hosts find each other by themselves.
    modes.unpin()?;
    for setting in ["learning off", "isolated on", "neigh_suppress on"] {
        modes.on_ports(&format!("bridge link set dev PORT {setting}"))?;
        modes.expect(&format!("{setting}, on the nodes' ports"), ARRIVE)?;
    }
    for guide in [&four, &six, &joined, &stealth] {
        let checks = guide.checks(&BRIDGE);
        assert!(!checks.is_empty());
        run(checks)?;
    }
    // The VLANs', and a bridge's on the node, are run below.
    let elsewhere = [
        "bridge vlan set",
        "type bridge mcast_router 2",
        "mcast_flood on",
    ];
    for guide in [&six, &joined] {
        guide.expect_all_taken(&elsewhere)?;
    }
    four.expect_all_taken(&elsewhere[..2])?;
    stealth.expect_all_taken(&[])
}

#[test]
fn a_query_in_another_vlan_is_enough_and_with_snooping_by_vlan_another_line_helps() -> Result<()> {
    let made_by = "link add b7 type bridge vlan_filtering 1\nlink add p7 type veth peer name q7\nlink set p7 master b7\n";
    let has_vlans = kernel_has("bridges with VLANs", &[], |node| {
        ip_lines(node, made_by)?;
        node.run(&["bridge", "vlan", "add", "dev", "p7", "vid", "20"])
            .map(drop)
    })?;
    if !has_vlans {
        return Ok(());
    }
    let modes = Modes::new("bridge-vlans")?;
    modes.pin()?;
    let [four, six] = [VIPS[0], VIPS[1]].map(|vip| modes.guide(VENDOR, vip));
    let (four, six) = (four?, six?);
    let run = |lines: Vec<String>| {
        lines
            .iter()
            .try_for_each(|line| modes.on_switch(line).map(drop))
    };
    modes.on_switch("ip link set br0 type bridge vlan_filtering 1 mcast_snooping 1")?;
    modes.on_switch("bridge vlan add dev c2 vid 20")?;
    modes.expect("VLANs, snooping, and nobody has asked", ARRIVE)?;
    ask(&modes.other, &[0x81, 0, 0, 20])?;
    modes.expect("… one query in another VLAN", GROUPS_DROPPED)?;
    let of_address = six.lines("bridge mdb add", &BRIDGE)?;
    run(of_address.clone())?;
    modes.expect(
        "… an mdb entry of the IPv6 VIP",
        [NOBODY, ALL, NOBODY, ALL, ALL],
    )?;
    for line in of_address {
        modes.on_switch(&line.replace(" add ", " del "))?;
    }
    run(four.lines("bridge link set dev n", &BRIDGE)?)?;
    modes.expect("… mcast_router 2 on the nodes' ports", ARRIVE)?;
    modes.on_ports("bridge link set dev PORT mcast_router 1")?;
    modes.on_switch("ip link set br0 type bridge mcast_vlan_snooping 1")?;
    ask(&modes.other, &[])?;
    modes.expect("… snooping by VLAN, one query in it", GROUPS_DROPPED)?;
    run(four.lines("bridge link set dev n", &BRIDGE)?)?;
    modes.expect("… mcast_router 2 on the ports", GROUPS_DROPPED)?;
    run(four.lines("bridge vlan set", &BRIDGE)?)?;
    modes.expect("… mcast_router 2 on the ports' VLAN", ARRIVE)
}

#[test]
fn a_bridge_whose_frames_pass_a_firewall_with_connections_lets_each_mode_through() -> Result<()> {
    const CALLS: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    const RULES: &str = "table inet wall { counter begun { }; chain forward { type filter hook forward priority 0; \
                         ct state invalid drop; ct state new counter name begun; }; }";
    let has_calls = kernel_has("br_netfilter", &["br_netfilter"], |node| {
        node.run(&["cat", CALLS]).map(drop)
    })?;
    if !has_calls {
        return Ok(());
    }
    let modes = Modes::new("wall")?;
    for family in ["iptables", "ip6tables"] {
        modes.on_switch(&format!("sysctl -qw net.bridge.bridge-nf-call-{family}=1"))?;
    }
    modes.lab.switch(&["nft", RULES])?;
    modes.expect("br_netfilter with connection tracking", ARRIVE)?;
    let counted = modes.on_switch("nft list counters")?;
    assert!(!counted.contains("packets 0 "), "{counted}");
    Ok(())
}

#[test]
fn a_vip_on_a_nodes_own_bridge_that_snoops_wants_it_to_be_a_routers() -> Result<()> {
    let lab = Lab::new("own-bridge")?;
    let (client, node) = (lab.client("c1")?, lab.node("n1")?);
    node.serve(&SERVICES)?;
    let (v4, v6, c4, c6) = (node.v4(), node.v6(), client.v4(), client.v6());
    let lines = format!(
        "addr flush dev eth0\nlink add br1 type bridge stp_state 0 mcast_snooping 1 \
         mcast_query_response_interval 100\nlink set br1 type bridge mcast_querier 1\nlink set eth0 master br1\nlink set br1 up\n\
         addr add {v4}/24 brd + dev br1\naddr add {v6}/64 dev br1 nodad\naddr add fe80::c/64 dev br1 nodad\n\
         route replace 10.78.0.0/16 via {c4}\nroute replace fd78::/64 via {c6}\n"
    );
    node.exec(&["ip", "-batch", "-"]).stdin(lines).run()?;
    for vip in [V4, V6] {
        nodectl(
            &node,
            &["up", vip, "--nic", "br1", "--buckets", "2", "--own", "0-1"],
        )?;
        lab.wait_until("frames that are dropped", PATIENCE, || {
            expect_answered_by(&client, ip(vip), 60, &["n1"]).is_err()
        })?;
        let guide = Guide::of(&node, VENDOR, L2Mode::Multicast, vip)?;
        for line in guide.lines("type bridge mcast_router 2", &[("<BRIDGE>", "br1")])? {
            node.run(&line.split(' ').collect::<Vec<_>>())?;
        }
        expect_answered_by(&client, ip(vip), 60, &["n1"])?;
        ip_lines(&node, "link set br1 type bridge mcast_router 1\n")?;
    }
    Ok(())
}

#[test]
fn the_line_for_a_linux_router_makes_the_entry_that_it_names() -> Result<()> {
    let lab = Lab::new("arp-linux")?;
    let client = lab.client("c1")?;
    let nodes = sharing_nodes(&lab, &NODES, 12, &[])?;
    for vip in [V4, V6].map(ip) {
        let guide = Guide::of(&nodes[0], "linux", L2Mode::Multicast, &vip.to_string())?;
        let mac = L2Mode::Multicast.mac(vip).to_string();
        for line in guide.lines("ip neigh", &[("<INTERFACE>", "eth0")])? {
            client.run(&line.split(' ').collect::<Vec<_>>())?;
        }
        for line in guide.checks(&[]) {
            let known = client.run(&line.split(' ').collect::<Vec<_>>())?;
            assert!(
                known.contains("PERMANENT") && known.contains(&mac),
                "{known}"
            );
        }
        expect_answered_by(&client, vip, 60, &NODES)?;
        guide.expect_all_taken(&[])?;
    }
    Ok(())
}
