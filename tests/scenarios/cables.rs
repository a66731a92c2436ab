//! The VIP on interfaces that stand on others: a VLAN, and a bond whose cables fail.

use crate::kernel_support::*;
use crate::product::*;
use crate::sharing::*;
use lab::{Client, Context, HoldOptions, Lab, Node, NodeOptions, Pace, Report, Result};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// Takes eth0's addresses to another interface; the routes to what is behind the client follow.
fn move_addresses(node: &Node, client: &Client, to: &str) -> Result<()> {
    let (v4, v6) = (node.v4(), node.v6());
    let (c4, c6) = (client.v4(), client.v6());
    let lines = format!(
        "addr flush dev eth0\nlink set {to} up\naddr add {v4}/24 brd + dev {to}\n\
         addr add {v6}/64 dev {to} nodad\nroute replace 10.78.0.0/16 via {c4}\n\
         route replace fd78::/64 via {c6}\n"
    );
    ip_lines(node, &lines)
}

/// Starts both VIPs on this interface of all nodes.
fn start(sharing: &mut Sharing, nic: &str) -> Result<()> {
    sharing.agents = [V4, V6].map(|vip| agent(vip).with("nic", nic));
    sharing
        .agents
        .iter()
        .try_for_each(|agent| sharing.start(agent))
}

/// The node's card must let the VIP's frames through: the membership is on this interface.
fn expect_membership(lab: &Lab, node: &Node, nic: &str) -> Result<()> {
    for mac in [MAC4, MAC6] {
        let what = format!("{mac} on {nic} of {}", node.name());
        lab.wait_until(&what, PATIENCE, || -> Result<bool> {
            Ok(node
                .run(&["ip", "maddr", "show", "dev", nic])?
                .contains(mac))
        })?;
    }
    Ok(())
}

#[test]
fn a_vip_on_a_vlan_is_shared() -> Result<()> {
    let has_vlans = kernel_has("VLANs", &["8021q"], |node| {
        ip_lines(
            node,
            "link add br9 type bridge vlan_filtering 1\n\
             link add link eth0 name eth0.7 type vlan id 7\n",
        )
    })?;
    if !has_vlans {
        return Ok(());
    }
    let lab = Lab::new("vlan")?;
    let client = lab.client("c1")?;
    // Cards that filter by MAC, so that the membership must have come down to them.
    let mut sharing = Sharing::serving(&lab, NodeOptions { macvlan: true })?;
    lab.switch(&[
        "ip",
        "link",
        "set",
        "br0",
        "type",
        "bridge",
        "vlan_filtering",
        "1",
    ])?;
    let on_port = |words: &str| -> Result<()> {
        let words: Vec<&str> = ["bridge", "vlan"]
            .into_iter()
            .chain(words.split(' '))
            .collect();
        lab.switch(&words).map(drop)
    };
    on_port("add dev c1 vid 7 pvid untagged")?;
    for node in &sharing.nodes {
        on_port(&format!("add dev {} vid 7", node.name()))?;
        // On one node the kernel leaves the tag of the VLAN in the frame.
        let reorder = if node.name() == "n2" { "off" } else { "on" };
        ip_lines(
            node,
            &format!("link add link eth0 name eth0.7 type vlan id 7 reorder_hdr {reorder}\n"),
        )?;
        move_addresses(node, &client, "eth0.7")?;
    }
    start(&mut sharing, "eth0.7")?;
    for node in &sharing.nodes {
        expect_membership(&lab, node, "eth0.7")?;
        expect_membership(&lab, node, "eth0")?;
    }
    for vip in [V4, V6] {
        expect_shared(&client, &sharing, vip)?;
    }
    sharing.expect_healthy()?;
    for agent in &sharing.agents {
        sharing.stop(agent)?;
    }
    for node in &sharing.nodes {
        let left = node.run(&["ip", "maddr", "show", "dev", "eth0"])?;
        assert!(!left.contains(MAC4), "{left}");
    }
    Ok(())
}

/// Gives a node a second cable, and bonds it with the first one.
fn bond(lab: &Lab, node: &Node, client: &Client) -> Result<()> {
    let (name, pid) = (node.name(), node.holder()?.to_string());
    let port = format!("{name}b");
    let lines = format!(
        "link add {port} type veth peer name {port}-phys\nlink set {port}-phys up\n\
         link add link {port}-phys name {port}-eth1 type macvlan mode bridge\n\
         link set {port}-eth1 netns {pid} name eth1\nlink set {port} master br0 up\n"
    );
    for line in lines.lines() {
        let words: Vec<&str> = ["ip"].into_iter().chain(line.split(' ')).collect();
        lab.switch(&words)?;
    }
    ip_lines(
        node,
        "link add bond0 type bond mode active-backup miimon 20\nlink set eth0 down\n\
         link set eth0 master bond0\nlink set eth1 master bond0\n",
    )?;
    move_addresses(node, client, "bond0")?;
    ip_lines(node, "link set bond0 type bond active_slave eth0\n")?;
    assert_eq!(active(node)?, "eth0");
    Ok(())
}

/// The cable that a bond uses.
fn active(node: &Node) -> Result<String> {
    // sysfs shows the machine's own interfaces; procfs those of the namespace.
    let told = node.run(&["ip", "-d", "link", "show", "bond0"])?;
    let mut words = told
        .split_whitespace()
        .skip_while(|word| *word != "active_slave");
    Ok(words.nth(1).unwrap_or_default().to_owned())
}

#[test]
fn a_vip_on_a_bond_stays_when_a_cable_fails() -> Result<()> {
    let has_bonds = kernel_has("bonds", &["bonding"], |node| {
        ip_lines(node, "link add bond9 type bond mode active-backup\n")
    })?;
    if !has_bonds {
        return Ok(());
    }
    let lab = Lab::new("bond")?;
    let client = lab.client("c1")?;
    let mut sharing = Sharing::serving(&lab, NodeOptions { macvlan: true })?;
    for node in &sharing.nodes {
        bond(&lab, node, &client)?;
    }
    start(&mut sharing, "bond0")?;
    let witness = client.witness(&vips())?;
    for vip in [V4, V6] {
        expect_shared(&client, &sharing, vip)?;
    }
    for node in &sharing.nodes {
        expect_membership(&lab, node, "bond0")?;
        expect_membership(&lab, node, "eth0")?;
    }

    // Connections are open and in use while n2 loses the cable that it uses, and gets it back.
    let mut held = Vec::new();
    for vip in vips() {
        let sources = client.sources_for(vip, 30);
        held.push(client.hold(SocketAddr::new(vip, PORT), sources, HoldOptions::default())?);
    }
    for (cable, up, uses) in [
        ("n2", false, "eth1"),
        ("n2", true, "eth1"),
        ("n2b", false, "eth0"),
    ] {
        lab.cable(cable, up)?;
        let n2 = &sharing.nodes[1];
        lab.wait_until("the bond's other cable", PATIENCE, || -> Result<bool> {
            Ok(active(n2)? == uses)
        })?;
        expect_membership(&lab, n2, uses)?;
        for vip in vips() {
            wait_for_answers(&lab, &client, vip)?;
        }
        sharing.expect_healthy()?;
    }
    for held in held {
        held.stop()?
            .expect_none_lost()
            .context("while n2's cables failed")?;
    }
    for vip in [V4, V6] {
        expect_shared(&client, &sharing, vip)?;
    }
    sharing.judge(&witness.finish()?)
}

/// Until the bond has noticed, frames are lost: asks until everybody is answered again.
fn wait_for_answers(lab: &Lab, client: &Client, vip: IpAddr) -> Result<()> {
    let pace = Pace {
        timeout: Duration::from_millis(250),
        ..Pace::default()
    };
    lab.wait_until("answers from all nodes", PATIENCE, || -> Result<Report> {
        let report = client.udp(
            SocketAddr::new(vip, PORT),
            client.sources_for(vip, 60),
            pace,
        )?;
        report.expect_all_answered()?;
        Ok(report)
    })?;
    Ok(())
}
