//! What nodectl says of clients, routers and switches, held against packets.

use crate::dataplane::share;
use crate::kernel_support::in_guest;
use crate::product::*;
use crate::sharing::{MAC4, MAC6};
use clusterip::model::hash::{HashMode, Layout};
use lab::{Client, Context, Lab, Node, Pace, Result};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Clients of each family, mode and layout: more than a thousand in all, but in the slow guest.
fn clients() -> u16 {
    if in_guest() { 8 } else { 84 }
}

fn json(node: &Node, words: &[&str]) -> Result<Value> {
    let text = nodectl(node, &[words, &["--json"]].concat())?;
    serde_json::from_str(&text).context("JSON")
}

#[test]
fn explain_agrees_with_the_kernel_and_with_who_answers_for_a_thousand_clients() -> Result<()> {
    let lab = Lab::new("explain")?;
    let client = lab.client("c1")?;
    let nodes = serving(&lab, &NODES)?;
    let mut checked = 0;
    for mode in HashMode::ALL {
        for layout in Layout::ALL {
            share(&nodes, mode, layout, 0x3f7a_91c4, 12)?;
            for vip in [V4, V6] {
                let sources = client.sources_for(ip(vip), usize::from(clients()));
                let flows = sources.into_iter().zip((1..=clients()).map(|n| 769 * n));
                let report = client.udp(SocketAddr::new(ip(vip), PORT), flows, Pace::default())?;
                report.expect_all_answered()?;
                for (flow, answered) in report.answered() {
                    let node = nodes.iter().find(|node| node.name() == answered);
                    let node = node.context("a node")?;
                    let from = SocketAddr::new(flow.src, flow.sport).to_string();
                    let dport = PORT.to_string();
                    let said = json(node, &["explain", vip, &from, "--dport", &dport])?;
                    assert_eq!(said["phase"], "owned", "{mode} {layout} {from}: {said}");
                    assert_eq!(said["kernel"], said["bucket"], "{said}");
                    assert_eq!(said["element"], said["bucket"].to_string(), "{said}");
                    assert!(said["rule"].is_string(), "{said}");
                    checked += 1;
                }
            }
        }
    }
    assert_eq!(checked, 12 * u32::from(clients()));
    Ok(())
}

#[test]
fn explain_names_what_decides_in_every_phase_and_what_was_changed() -> Result<()> {
    let lab = Lab::new("explain-why")?;
    let (client, node) = (lab.client("c1")?, lab.node("n1")?);
    node.serve(&SERVICES)?;
    nodectl(
        &node,
        &[
            "up",
            V4,
            "--buckets",
            "2",
            "--own",
            "0-1",
            "--drain-timeout",
            "60",
        ],
    )?;
    let hasher = hasher(
        Default::default(),
        Default::default(),
        clusterip::model::seed::derived_seed(ip(V4)),
    );
    let source = client.sources_for(ip(V4), 1)[0];
    let of = |bucket| {
        let mut ports = 20_000..30_000;
        let port = ports.find(|port| hasher.bucket(&flow_from(source, *port), 2) == bucket);
        SocketAddr::new(source, port.expect("a port"))
    };
    let (stays, other) = (of(0), of(1));
    let explain = |client: SocketAddr| json(&node, &["explain", V4, &client.to_string()]);
    let target = SocketAddr::new(ip(V4), PORT);
    let held = client.hold(target, [(stays.ip(), stays.port())], Default::default())?;
    nodectl(&node, &["drain", V4, "0-1"])?;
    // Nobody has a connection in bucket 1, so it is foreign at once.
    for (client, phase, set) in [
        (stays, "draining", format!("flows-{V4}").into()),
        (other, "foreign", Value::Null),
    ] {
        let said = explain(client)?;
        assert_eq!(
            (&said["phase"], &said["set"]),
            (&phase.into(), &set),
            "{said}"
        );
        assert!(said["rule"].is_string(), "{said}");
    }
    held.stop()?.expect_none_lost()?;
    nodectl(&node, &["take", V4, "0-1", "--adopt", "60", "--force"])?;
    assert_eq!(explain(other)?["phase"], "adopting");
    let chain = format!("vip-{V4}-ports");
    node.run(&["nft", "flush", "chain", "netdev", "clusterip", &chain])?;
    let said = explain(other)?;
    assert_eq!(said["rule"], Value::Null, "{said}");
    // The kernel is asked about the rules as they should be.
    assert_eq!(said["kernel"], said["bucket"], "{said}");
    Ok(())
}

/// The lines of a vendor's guide that were tried, by the purpose of their step.
fn tried(node: &Node, vip: &str, interface: &str) -> Result<Vec<String>> {
    let said = json(
        node,
        &["arp", vip, "--vendor", "linux", "--interface", interface],
    )?;
    let steps = said["guides"][0]["steps"].as_array().context("steps")?;
    let lines = steps
        .iter()
        .flat_map(|step| step["lines"].as_array().into_iter().flatten());
    let tried = lines.filter(|line| line["confirmed"] == "tried");
    Ok(tried
        .filter_map(|line| Some(line["text"].as_str()?.to_owned()))
        .collect())
}

fn expect_answers(client: &Client, vip: &str) -> Result<()> {
    let sources = client.sources_for(ip(vip), 60);
    let report = client.tcp(SocketAddr::new(ip(vip), PORT), sources, Pace::default())?;
    report.expect_all_answered()
}

#[test]
fn the_lines_for_linux_do_what_they_say() -> Result<()> {
    let lab = Lab::new("arp-linux")?;
    let client = lab.client("c1")?;
    let nodes = sharing_nodes(&lab, &NODES, 12, &[])?;
    for vip in [V4, V6] {
        let lines = tried(&nodes[0], vip, "eth0")?;
        let [neighbour, bridge] = lines.as_slice() else {
            panic!("{lines:?}");
        };
        let words: Vec<&str> = neighbour.split(' ').collect();
        client.run(&words)?;
        let known = client.run(&["ip", "neigh", "show", vip])?;
        assert!(known.contains("PERMANENT"), "{known}");
        expect_answers(&client, vip)?;

        snoop(&lab)?;
        lab.wait_until("frames that are dropped", PATIENCE, || {
            expect_answers(&client, vip).is_err()
        })?;
        // Instead of the line its notes have other ways.
        let on_ports = |words: &str| -> Result<()> {
            NODES
                .iter()
                .try_for_each(|port| on_switch(&lab, &words.replace("PORT", port)))
        };
        on_ports("bridge link set dev PORT mcast_router 2")?;
        expect_answers(&client, vip)?;
        on_ports("bridge link set dev PORT mcast_router 1")?;
        assert!(expect_answers(&client, vip).is_err());
        // An entry of the MAC is taken and not used: the bridge looks the packet's address up.
        let mac = if vip == V4 { MAC4 } else { MAC6 };
        let of_mac = format!("bridge mdb add dev br0 port PORT grp {mac} permanent");
        on_ports(&of_mac)?;
        assert!(expect_answers(&client, vip).is_err());
        on_ports(&of_mac.replace("add", "del"))?;
        // For IPv6 it takes one of the address, which leads to those ports and no others.
        let of_address = format!("bridge mdb add dev br0 port PORT grp {vip} permanent");
        assert_eq!(on_ports(&of_address).is_ok(), vip == V6);
        if vip == V6 {
            expect_answers(&client, vip)?;
            on_switch(
                &lab,
                &of_address.replace("add", "del").replace("PORT", "n3"),
            )?;
            assert!(expect_answers(&client, vip).is_err());
        }
        on_switch(&lab, &bridge.replace("<BRIDGE>", "br0"))?;
        expect_answers(&client, vip)?;
    }
    Ok(())
}

fn on_switch(lab: &Lab, words: &str) -> Result<()> {
    lab.switch(&words.split_whitespace().collect::<Vec<_>>())
        .map(drop)
}

/// The switch snoops and asks, for both families.
fn snoop(lab: &Lab) -> Result<()> {
    // Without an address of its own a bridge sends no MLD query.
    on_switch(lab, "sysctl -qw net.ipv6.conf.br0.disable_ipv6=0")?;
    on_switch(lab, "ip addr replace fe80::b/64 dev br0 nodad")?;
    // It trusts its own query after the response interval that it has by then: first the one, then the other.
    for words in [
        "mcast_query_response_interval 100",
        "mcast_snooping 1 mcast_querier 1",
    ] {
        on_switch(lab, &format!("ip link set br0 type bridge {words}"))?;
    }
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
            expect_answers(&client, vip).is_err()
        })?;
        // nodectl arp says so in a note.
        let said = nodectl(&node, &["arp", vip, "--vendor", "linux"])?;
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = "ip link set BRIDGE type bridge mcast_router 2";
        assert!(words.contains(line), "{words}");
        let line = line.replace("BRIDGE", "br1");
        node.run(&line.split(' ').collect::<Vec<_>>())?;
        expect_answers(&client, vip)?;
        node.run(&[
            "ip",
            "link",
            "set",
            "br1",
            "type",
            "bridge",
            "mcast_router",
            "1",
        ])?;
    }
    Ok(())
}
