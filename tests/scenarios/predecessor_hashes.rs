//! What predecessors hash is what this hashes, flow by flow, so that a client keeps its node: the kernel's `ipt_CLUSTERIP`
//! (until Linux 6.2) and `xt_cluster`, and the newest IPaddr2's rules.

use crate::predecessor_support::*;
use crate::product::*;
use crate::sharing::NODES;
use clusterip::model::hash::{HashMode, Hasher, Layout};
use lab::{Client, Lab, Node, Pace, Result};
use std::collections::BTreeMap;
use std::net::SocketAddr;

const FLOWS: usize = 300;
const OTHER_VIP: &str = "10.77.0.98";

type Owners = BTreeMap<lab::Flow, String>;

/// Who answers each of many flows to this address.
fn owners(client: &Client, vip: &str) -> Result<Owners> {
    let sources = client.sources_v4(FLOWS);
    let flows: Vec<_> = sources.into_iter().zip((20_000..).step_by(7)).collect();
    let witness = client.witness(&[ip(vip)])?;
    let report = client.udp(SocketAddr::new(ip(vip), PORT), flows, Pace::default())?;
    report.expect_all_answered()?;
    witness.finish()?.expect_no_double_answers()?;
    Ok(report.answered())
}

/// Every flow was answered by the node that the mirror of the hash foretells.
fn expect_foretold(owners: &Owners, nodes: usize, hasher: &Hasher) {
    for (flow, node) in owners {
        let key = flow_from(flow.src, flow.sport);
        let foretold = owner_of(&NODES[..nodes], nodes as u16, hasher, &key);
        assert_eq!(*node, foretold, "{hasher:?} {flow:?}");
    }
}

/// Shares the other VIP as a predecessor does, a bucket for each node.
fn theirs(nodes: &[Node], kind: Kind, seed: u32) -> Result<()> {
    for (n, node) in nodes.iter().enumerate() {
        let one = Predecessor {
            node,
            kind,
            vip: OTHER_VIP,
            mac: "01:00:5e:7f:00:62".to_owned(),
            seed,
            total: nodes.len(),
        };
        one.begin(&[n + 1])?;
        // What predecessors leave to their agent.
        let address = format!("{OTHER_VIP}/32");
        node.run(&["ip", "addr", "add", &address, "dev", "eth0"])?;
    }
    Ok(())
}

/// Shares the VIP as this project does, a bucket for each node.
fn ours(nodes: &[Node], hasher: &Hasher) -> Result<()> {
    let (count, seed) = (nodes.len().to_string(), hasher.seed.to_string());
    for (n, node) in nodes.iter().enumerate() {
        let own = n.to_string();
        let (mode, layout) = (hasher.mode.name(), hasher.layout.name());
        let mut words = vec![
            "up",
            V4,
            "--buckets",
            &count,
            "--own",
            &own,
            "--seed",
            &seed,
        ];
        words.extend(["--hash", mode, "--layout", layout]);
        nodectl(node, &words)?;
    }
    Ok(())
}

#[test]
fn the_real_clusterip_gives_every_flow_to_the_same_node() -> Result<()> {
    if !kernel_shares_by(Kind::ClusterIp(HashMode::SourceIp))? {
        return Ok(());
    }
    for (mode, seed, count) in [
        (HashMode::SourceIp, 0, 3),
        (HashMode::SourceIpSourcePort, 0, 2),
        (HashMode::SourceIpSourcePortDestPort, 0x0bad_cafe, 3),
    ] {
        let lab = Lab::new("classic")?;
        let client = lab.client("c1")?;
        let nodes = serving(&lab, &NODES[..count])?;
        let hasher = hasher(mode, Layout::ClusterIp, seed);
        load_clusterip(&nodes[0])?;
        theirs(&nodes, Kind::ClusterIp(mode), seed)?;
        let before = owners(&client, OTHER_VIP)?;
        // Not at the same time: the second lock keeps out what CLUSTERIP lets in.
        ours(&nodes, &hasher)?;
        let after = owners(&client, V4)?;
        assert_eq!(before.len(), FLOWS);
        assert_eq!(before, after, "{mode}");
        end_clusterip(&nodes)?;
        expect_foretold(&after, count, &hasher);
    }
    Ok(())
}

#[test]
fn xt_cluster_gives_every_client_to_the_same_node() -> Result<()> {
    match kernel_shares_by(Kind::XtCluster)? {
        true => by_source_address(Kind::XtCluster, 0xdead_beef),
        false => Ok(()),
    }
}

#[test]
fn the_newest_ipaddr2_gives_every_client_to_the_same_node() -> Result<()> {
    let lab = Lab::new("seed")?;
    // The seed as docs/agent.md says how to find it.
    let line = format!("echo {OTHER_VIP} 24 10.77.0.255 | md5sum | cut -c1-8");
    let seed = format!("0x{}", lab.node("n1")?.run(&["sh", "-c", &line])?.trim());
    drop(lab);
    let seed = clusterip::model::seed::parse_seed(&seed).expect("a seed");
    by_source_address(Kind::Newest, seed)
}

fn by_source_address(kind: Kind, seed: u32) -> Result<()> {
    let lab = Lab::new("by-source")?;
    let client = lab.client("c1")?;
    let nodes = serving(&lab, &NODES)?;
    theirs(&nodes, kind, seed)?;
    let hasher = hasher(HashMode::SourceIp, Layout::Network, seed);
    // Not at the same time: the second lock keeps out what its later rules let in.
    let before = owners(&client, OTHER_VIP)?;
    ours(&nodes, &hasher)?;
    let after = owners(&client, V4)?;
    expect_foretold(&after, NODES.len(), &hasher);
    assert_eq!(before, after);
    Ok(())
}
