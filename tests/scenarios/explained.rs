//! What nodectl says of clients, held against packets.

use crate::dataplane::share;
use crate::kernel_support::in_guest;
use crate::product::*;
use clusterip::model::hash::{HashMode, Layout};
use lab::{Context, Lab, Node, Pace, Result};
use serde_json::Value;
use std::net::SocketAddr;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Under which V4 is shared.
const MAC: &str = "01:00:5e:7f:00:63";
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
    let said = explain(other)?;
    assert_eq!(
        (&said["phase"], &said["healthy"]),
        (&"adopting".into(), &true.into())
    );
    // Whatever the phase, a VIP whose frames the node does not let in answers nothing.
    let words = ["explain", V4, &other.to_string()];
    assert!(!nodectl(&node, &words)?.contains("DRIFTED"));
    node.run(&["ip", "maddr", "del", MAC, "dev", "eth0"])?;
    let said = nodectl(&node, &words)?;
    let words: Vec<&str> = said.split_whitespace().collect();
    let but = format!("but {V4} is DRIFTED here (membership eth0 {MAC}): see 'nodectl status'");
    assert!(words.join(" ").contains(&but), "{said}");
    node.run(&["ip", "maddr", "add", MAC, "dev", "eth0"])?;
    let chain = format!("vip-{V4}-ports");
    node.run(&["nft", "flush", "chain", "netdev", "clusterip", &chain])?;
    let said = explain(other)?;
    assert_eq!(
        (&said["rule"], &said["healthy"]),
        (&Value::Null, &false.into()),
        "{said}"
    );
    // The kernel is asked about the rules as they should be.
    assert_eq!(said["kernel"], said["bucket"], "{said}");
    Ok(())
}
