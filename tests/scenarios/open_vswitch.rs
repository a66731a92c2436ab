//! Open vSwitch with its datapath in user space: each row of the table of switches in docs/network.md that it has, and
//! each line that nodectl prints for it.

use crate::kernel_support::{in_user_namespace, kernel_has, tell_skipped};
use crate::switch_support::*;
use lab::{OpenVSwitch, Result};

const VENDOR: &str = "open-vswitch";
const BRIDGE: [(&str, &str); 1] = [("<BRIDGE>", OpenVSwitch::BRIDGE)];
const STRICT: &str = "other_config:mcast-snooping-disable-flood-unregistered=true";

/// The datapath makes a tap for the bridge's own port.
fn has_taps() -> Result<bool> {
    if in_user_namespace()? {
        tell_skipped("Open vSwitch wants the machine's own root");
        return Ok(false);
    }
    kernel_has("taps", &["tun"], |node| {
        node.run(&["ip", "tuntap", "add", "name", "t0", "mode", "tap"])
            .map(drop)
    })
}

#[test]
fn open_vswitch_treats_each_mode_as_the_table_says_and_the_lines_for_it_help() -> Result<()> {
    if !has_taps()? {
        return Ok(());
    }
    let modes = Modes::new("ovs")?;
    modes.pin()?;
    // What a card would do the datapath does not: it hands on what it reads, with the checksums as they are.
    let hosts = modes.nodes.iter().map(|node| &**node);
    for host in hosts.chain([&*modes.client]) {
        host.run(&["ethtool", "-K", "eth0", "tx", "off"])?;
    }
    let switch = OpenVSwitch::start(&modes.lab, &["n1", "n2", "n3", "c1", "c2"])?;
    let version = switch.line("ovs-vsctl --version")?;
    modes
        .lab
        .progress()
        .say(version.lines().next().unwrap_or_default());
    let run = |lines: Vec<String>| {
        lines
            .iter()
            .try_for_each(|line| switch.line(line).map(drop))
    };
    let set = |what: &str| {
        switch.line(&format!(
            "ovs-vsctl set Bridge {} {what}",
            OpenVSwitch::BRIDGE
        ))
    };
    let [multicast4, multicast6, igmp, stealth4, _] = VIPS;
    let stealth = modes.guide(VENDOR, stealth4)?;

    modes.expect("Open vSwitch", ARRIVE)?;
    set("mcast_snooping_enable=true")?;
    modes.expect("mcast_snooping_enable", ARRIVE)?;
    set(STRICT)?;
    modes.expect("mcast-snooping-disable-flood-unregistered", GROUPS_DROPPED)?;
    for (n, vip) in [multicast4, multicast6, igmp].into_iter().enumerate() {
        let guide = modes.guide(VENDOR, vip)?;
        // Taken, listed, and of no use.
        let entry = format!("{} n1 0 {}", OpenVSwitch::BRIDGE, mac_of(vip));
        switch.line(&format!("ovs-appctl fdb/add {entry}"))?;
        let table = switch.line(&format!("ovs-appctl fdb/show {}", OpenVSwitch::BRIDGE))?;
        let mut listed = table.lines().filter(|line| line.contains(&mac_of(vip)));
        assert!(listed.any(|line| line.contains("static")), "{table}");
        modes.expect("… fdb/add of the MAC", GROUPS_DROPPED)?;

        run(guide.lines("disable-flood-unregistered=false", &BRIDGE)?)?;
        modes.expect("… flood what nobody has joined", ARRIVE)?;
        set(STRICT)?;
        modes.expect("… do not", GROUPS_DROPPED)?;
        run(guide.lines("mcast-snooping-flood=true", &BRIDGE)?)?;
        modes.expect("… mcast-snooping-flood=true on the nodes' ports", ARRIVE)?;
        for port in NODES {
            switch.line(&format!(
                "ovs-vsctl remove Port {port} other_config mcast-snooping-flood"
            ))?;
        }
        modes.expect("… without it", GROUPS_DROPPED)?;
        run(guide.lines("ovs-ofctl add-flow", &BRIDGE)?)?;
        let mut row = GROUPS_DROPPED;
        row[n] = ALL;
        modes.expect("… an OpenFlow rule of the MAC", row)?;
        let checks = guide.checks(&BRIDGE);
        assert_eq!(checks.len(), 3);
        run(checks)?;
        switch.line(&format!(
            "ovs-ofctl del-flows {} dl_dst={}",
            OpenVSwitch::BRIDGE,
            mac_of(vip)
        ))?;
        modes.expect("… without it", GROUPS_DROPPED)?;
        guide.expect_all_taken(&[])?;
    }
    let one: &[&str] = &["n1"];
    let entry = format!("{} n1 0 {}", OpenVSwitch::BRIDGE, mac_of(stealth4));
    switch.line(&format!("ovs-appctl fdb/add {entry}"))?;
    modes.expect(
        "… fdb/add of a stealth MAC",
        [NOBODY, NOBODY, NOBODY, one, ALL],
    )?;
    let checks = stealth.checks(&BRIDGE);
    assert!(!checks.is_empty());
    run(checks)?;
    stealth.expect_all_taken(&[])
}
