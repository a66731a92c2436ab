//! Hosts that are not as one expects: interfaces that change their names, second cables, rules that
//! somebody else touched in ways that are easily overlooked.

use crate::kernel_support::ip_lines;
use crate::product::*;
use lab::{Lab, Pace, Result};
use std::net::SocketAddr;

/// The addresses of a host, without what changes by itself.
fn has(host: &lab::Host, vip: &str) -> Result<bool> {
    Ok(host
        .run(&["ip", "-o", "addr"])?
        .contains(&format!(" {vip}/")))
}

#[test]
fn a_renamed_interface_loses_the_address_before_the_rules_go() -> Result<()> {
    let lab = Lab::new("renamed")?;
    for by_agent in [true, false] {
        let node = lab.node(if by_agent { "n1" } else { "n2" })?;
        let agent = Agent::new(V4, 12);
        match by_agent {
            true => agent.start(&node, 0)?,
            false => drop(nodectl(
                &node,
                &["up", V4, "--buckets", "12", "--own", "0", "--force"],
            )?),
        }
        // Before Linux 6.2 only an interface that is down can be renamed.
        let renaming = "link set eth0 down\nlink set eth0 name lan0\nlink set lan0 up\n";
        ip_lines(&node, renaming)?;
        assert!(has(&node, V4)?);
        match by_agent {
            true => drop(agent.call(&node, "stop", 0)?.expect(0)),
            false => drop(nodectl(&node, &["down", V4])?),
        }
        assert!(!has(&node, V4)?, "the address is left behind");
        assert!(
            !node
                .run(&["ip", "maddr", "show", "dev", "lan0"])?
                .contains("01:00:5e:7f:00:63")
        );
        assert_eq!(node.run(&["nft", "list", "ruleset"])?, "");
    }
    Ok(())
}

#[test]
fn a_second_cable_into_the_same_network_says_nothing_of_the_vip() -> Result<()> {
    let lab = Lab::new("second-cable")?;
    let client = lab.client("c1")?;
    let (n1, n2) = (lab.node("n1")?, lab.node("n2")?);
    for node in [&n1, &n2] {
        node.serve(&SERVICES)?;
    }
    // n1's second interface is on the same wire: what it hears there, it hears on eth0 as well.
    n1.run(&[
        "ip", "link", "add", "eth1", "link", "eth0", "type", "macvlan", "mode", "bridge",
    ])?;
    n1.run(&["ip", "link", "set", "eth1", "up"])?;
    n1.run(&["ip", "addr", "add", "10.77.0.41/24", "dev", "eth1"])?;
    nodectl(
        &n1,
        &["up", V4, "--nic", "eth0", "--buckets", "4", "--own", "0"],
    )?;
    nodectl(
        &n2,
        &["up", V4, "--nic", "eth0", "--buckets", "4", "--own", "1-3"],
    )?;
    let witness = client.witness(&[ip(V4)])?;
    let target = SocketAddr::new(ip(V4), PORT);
    let report = client.udp(target, client.sources_v4(200), Pace::default())?;
    report.expect_all_answered()?;
    let n1s = report.by_node().get("n1").copied().unwrap_or_default();
    assert!(
        (20..90).contains(&n1s),
        "n1 owns a quarter, but answered {n1s} of 200"
    );
    assert!(
        client
            .run(&["ip", "neigh", "show", V4])?
            .contains("01:00:5e:7f:00:63")
    );
    witness.finish()?.expect_no_double_answers()
}

#[test]
fn a_vip_on_another_interface_is_drift_and_is_taken_away() -> Result<()> {
    let lab = Lab::new("elsewhere")?;
    let node = lab.node("n1")?;
    let agent = Agent::new(V4, 12);
    agent.start(&node, 0)?;
    node.run(&[
        "ip",
        "link",
        "add",
        "other",
        "type",
        "veth",
        "peer",
        "name",
        "other-peer",
    ])?;
    node.run(&["ip", "addr", "add", "10.77.0.99/32", "dev", "other"])?;
    let answer = agent.call(&node, "monitor", 0)?.expect(1);
    assert!(
        answer.reason().contains("address other 10.77.0.99"),
        "{}",
        answer.stderr
    );
    agent.call(&node, "stop", 0)?.expect(0);
    assert!(!has(&node, V4)?);
    Ok(())
}

#[test]
fn a_description_that_cannot_be_read_is_not_nothing() -> Result<()> {
    let lab = Lab::new("unreadable")?;
    let node = lab.node("n1")?;
    let (a, b) = (Agent::new(V4, 12), Agent::new("10.77.0.98", 12));
    for agent in [&a, &b] {
        agent.start(&node, 0)?;
        agent.start(&node, 1)?;
    }
    // The chain of a, but with another comment.
    let listed = node.run(&["nft", "list", "ruleset"])?;
    assert!(listed.contains("comment \"vip 10.77.0.99 rules 1 mac"));
    let script = "delete element netdev clusterip ip4-eth0 { 10.77.0.99 }
        flush chain netdev clusterip vip-10.77.0.99
        delete chain netdev clusterip vip-10.77.0.99
        add chain netdev clusterip vip-10.77.0.99 { comment \"mine\"; }
        add rule netdev clusterip vip-10.77.0.99 goto vip-10.77.0.99-ports
        add element netdev clusterip ip4-eth0 { 10.77.0.99 : goto vip-10.77.0.99 }";
    node.exec(&["nft", "-f", "-"]).stdin(script).run()?;

    for interval in ["0", "10000"] {
        let answer = a
            .clone()
            .meta("interval", interval)
            .call(&node, "monitor", 0)?;
        assert!(answer.expect(1).reason().contains("cannot be read"));
    }
    let answer = a.call(&node, "start", 2)?.expect(1);
    assert!(
        answer.reason().starts_with("stop the clone first"),
        "{}",
        answer.stderr
    );
    // The other one is as well as before, and may come and go.
    b.call(&node, "monitor", 0)?.expect(0);
    b.start(&node, 2)?;
    for instance in 0..3 {
        b.call(&node, "stop", instance)?.expect(0);
    }
    let lock = "net.ipv4.conf.eth0.drop_unicast_in_l2_multicast";
    assert_eq!(
        node.run(&["sysctl", "-n", lock])?.trim(),
        "1",
        "a still needs it"
    );
    for instance in [0, 1] {
        a.call(&node, "stop", instance)?.expect(0);
    }
    assert!(!has(&node, V4)?);
    assert_eq!(node.run(&["nft", "list", "ruleset"])?, "");
    Ok(())
}

#[test]
fn rules_that_are_there_but_do_not_work_are_drift() -> Result<()> {
    let lab = Lab::new("dormant")?;
    let node = lab.node("n1")?;
    let agent = Agent::new(V4, 12);
    for (harm, piece) in [
        (
            "add table netdev clusterip { flags dormant; }",
            "table netdev",
        ),
        (
            "add element netdev clusterip buckets-10.77.0.99 { * : goto to-host }",
            "buckets-10.77.0.99",
        ),
    ] {
        agent.start(&node, 0)?;
        node.exec(&["nft", "-f", "-"]).stdin(harm).run()?;
        let answer = agent.call(&node, "monitor", 0)?.expect(1);
        assert!(answer.reason().contains(piece), "{}", answer.stderr);
        // A start repairs it in place.
        agent.start(&node, 0)?;
        agent.call(&node, "monitor", 0)?.expect(0);
        node.exec(&["nft", "-f", "-"]).stdin(harm).run()?;
        agent.call(&node, "stop", 0)?.expect(0);
        assert_eq!(node.run(&["nft", "list", "ruleset"])?, "");
    }
    Ok(())
}

#[test]
fn addresses_that_are_not_ours_are_left_alone() -> Result<()> {
    let lab = Lab::new("not-ours")?;
    let node = lab.node("n1")?;
    for own in ["10.77.0.5/24", "10.77.0.6/32"] {
        node.run(&["ip", "addr", "add", own, "dev", "eth0"])?;
        let address = own.split('/').next().unwrap_or_default();
        let agent = Agent::new(address, 12).with("cidr_netmask", "24");
        let answer = agent.call(&node, "start", 0)?.expect(1);
        assert!(
            answer.reason().starts_with("use another ip"),
            "{}",
            answer.stderr
        );
        agent.call(&node, "stop", 0)?.expect(0);
        assert!(has(&node, address)?, "{address} was the node's own");
    }
    Ok(())
}

#[test]
fn a_vip_in_a_smaller_network_is_no_source() -> Result<()> {
    let lab = Lab::new("smaller")?;
    let node = lab.node("n1")?;
    node.run(&["ip", "addr", "add", "10.99.0.1/16", "dev", "eth0"])?;
    let agent = Agent::new("10.99.0.99", 12).with("cidr_netmask", "24");
    agent.start(&node, 0)?;
    let route = node.run(&["ip", "route", "get", "10.99.0.5"])?;
    assert!(route.contains("src 10.99.0.1"), "{route}");
    agent.call(&node, "monitor", 0)?.expect(0);
    Ok(())
}

#[test]
fn two_nodes_that_come_at_once_with_different_descriptions_do_not_both_serve() -> Result<()> {
    let lab = Lab::new("at-the-same-time")?;
    let (n1, n2) = (lab.node("n1")?, lab.node("n2")?);
    for vip in [V4, V6] {
        for _ in 0..5 {
            let agents = [Agent::new(vip, 4), Agent::new(vip, 6)];
            let codes: Vec<i32> = std::thread::scope(|scope| {
                let first = scope.spawn(|| agents[0].call(&n1, "start", 0));
                let second = scope.spawn(|| agents[1].call(&n2, "start", 0));
                [first, second]
                    .into_iter()
                    .map(|call| call.join().expect("no panic").expect("an answer").code)
                    .collect()
            });
            assert!(codes.contains(&1), "both serve: {codes:?}");
            agents[0].call(&n1, "stop", 0)?.expect(0);
            agents[1].call(&n2, "stop", 0)?.expect(0);
        }
    }
    Ok(())
}
