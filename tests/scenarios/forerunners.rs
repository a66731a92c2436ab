//! The modules that shared an address before: `ipt_CLUSTERIP` (until Linux 6.2) and `xt_cluster`.
//! What they hash is what this hashes, flow by flow, so that a client keeps its node.

use crate::kernel_support::*;
use crate::product::*;
use crate::sharing::NODES;
use clusterip::model::hash::{HashMode, Hasher, Layout};
use lab::{Client, Lab, Node, Pace, Result};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

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

pub fn iptables(node: &Node, words: &str) -> Result<()> {
    let words = ["iptables-legacy", "--wait"]
        .into_iter()
        .chain(words.split_whitespace());
    node.run(&words.collect::<Vec<_>>()).map(drop)
}

/// What forerunners leave to their agent.
fn hold_other_vip(node: &Node) -> Result<()> {
    let address = format!("{OTHER_VIP}/32");
    node.run(&["ip", "addr", "add", &address, "dev", "eth0"])
        .map(drop)
}

/// The module with which addresses were shared until Linux 6.2.
pub const CLUSTERIP: &str = "ipt_CLUSTERIP";

/// Shares the VIP by ipt_CLUSTERIP: it counts nodes from 1.
fn classic(nodes: &[Node], hasher: &Hasher) -> Result<()> {
    if in_guest() {
        nodes[0].run(&["modprobe", CLUSTERIP])?;
    }
    let (total, mode, seed) = (nodes.len(), hasher.mode.name(), hasher.seed);
    for (n, node) in nodes.iter().enumerate() {
        iptables(
            node,
            &format!(
                "-A INPUT -d {OTHER_VIP} -i eth0 -j CLUSTERIP --new --hashmode {mode} \
                 --clustermac 01:00:5e:7f:00:62 --total-nodes {total} --local-node {} \
                 --hash-init {seed}",
                n + 1
            ),
        )?;
        hold_other_vip(node)?;
    }
    Ok(())
}

/// Ends that. A rule's remains are freed later (`clusterip_config_rcu_free()`), and if its network
/// namespace has gone by then, the kernel dies of it; the module waits for that when it is unloaded.
fn end_classic(nodes: &[Node]) -> Result<()> {
    for node in nodes {
        iptables(node, "-F INPUT")?;
    }
    if in_guest() {
        nodes[0].run(&["modprobe", "--remove", CLUSTERIP])?;
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
    let there = kernel_has(CLUSTERIP, &[], |node| {
        let one = std::slice::from_ref(node);
        classic(one, &hasher(HashMode::SourceIp, Layout::ClusterIp, 0))?;
        end_classic(one)
    })?;
    if !there {
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
        classic(&nodes, &hasher)?;
        let before = owners(&client, OTHER_VIP)?;
        // Not at the same time: the second lock keeps out what CLUSTERIP lets in.
        ours(&nodes, &hasher)?;
        let after = owners(&client, V4)?;
        assert_eq!(before.len(), FLOWS);
        assert_eq!(before, after, "{mode}");
        end_classic(&nodes)?;
        expect_foretold(&after, count, &hasher);
    }
    Ok(())
}

#[test]
fn xt_cluster_gives_every_client_to_the_same_node() -> Result<()> {
    const SEED: u32 = 0xdead_beef;
    let rules = |total: usize, number: usize| {
        let matching = format!(
            "-t mangle -A PREROUTING -i eth0 -d {OTHER_VIP} -m cluster \
             --cluster-total-nodes {total} --cluster-local-node {number} \
             --cluster-hash-seed {SEED:#x} -j ACCEPT"
        );
        let rest = format!("-t mangle -A PREROUTING -i eth0 -d {OTHER_VIP} -j DROP");
        [matching, rest]
    };
    let there = kernel_has("xt_cluster", &["xt_cluster", "iptable_mangle"], |node| {
        iptables(node, &rules(2, 1)[0])
    })?;
    if !there {
        return Ok(());
    }
    let lab = Lab::new("xt-cluster")?;
    let client = lab.client("c1")?;
    let nodes = serving(&lab, &NODES)?;
    for (n, node) in nodes.iter().enumerate() {
        for rule in rules(nodes.len(), n + 1) {
            iptables(node, &rule)?;
        }
        hold_other_vip(node)?;
    }
    // What its manual leaves to arptables: everybody says one multicast MAC.
    let mac = "01:00:5e:7f:00:62";
    client.run(&[
        "ip", "neigh", "add", OTHER_VIP, "lladdr", mac, "dev", "eth0",
    ])?;
    let hasher = hasher(HashMode::SourceIp, Layout::Network, SEED);
    ours(&nodes, &hasher)?;
    let (before, after) = (owners(&client, OTHER_VIP)?, owners(&client, V4)?);
    let by_source = |owners: Owners| -> BTreeMap<IpAddr, String> {
        owners
            .into_iter()
            .map(|(flow, node)| (flow.src, node))
            .collect()
    };
    expect_foretold(&after, NODES.len(), &hasher);
    assert_eq!(by_source(before), by_source(after));
    Ok(())
}

/// As `cip_drop()`, `cip_node()` and `cip_mangle()` of its main branch write them, for node `number` of three.
fn rules_of_the_newest_ipaddr2(seed: &str, number: usize) -> String {
    let words = format!("iif eth0 ip daddr {OTHER_VIP}");
    format!(
        "add table ip newest\n\
         add chain ip newest prerouting {{ type filter hook prerouting priority mangle; }}\n\
         insert rule ip newest prerouting {words} drop\n\
         insert rule ip newest prerouting {words} jhash ip saddr mod 3 seed {seed} offset 1 == {number} \
         meta pkttype set host accept\n\
         add table arp newest\n\
         add chain arp newest output {{ type filter hook output priority 0; }}\n\
         add rule arp newest output arp saddr ip {OTHER_VIP} arp saddr ether set 01:00:5e:7f:00:62\n"
    )
}

#[test]
fn the_newest_ipaddr2_gives_every_client_to_the_same_node() -> Result<()> {
    let lab = Lab::new("newest")?;
    let client = lab.client("c1")?;
    let nodes = serving(&lab, &NODES)?;
    // The seed as docs/agent.md says how to find it.
    let line = format!("echo {OTHER_VIP} 24 10.77.0.255 | md5sum | cut -c1-8");
    let seed = format!("0x{}", nodes[0].run(&["sh", "-c", &line])?.trim());
    for (n, node) in nodes.iter().enumerate() {
        let rules = rules_of_the_newest_ipaddr2(&seed, n + 1);
        node.exec(&["nft", "-f", "-"]).stdin(rules).run()?;
        node.run(&["ip", "maddr", "add", "01:00:5e:7f:00:62", "dev", "eth0"])?;
        hold_other_vip(node)?;
    }
    let seed = clusterip::model::seed::parse_seed(&seed).expect("a seed");
    let hasher = hasher(HashMode::SourceIp, Layout::Network, seed);
    // Not at the same time: the second lock keeps out what its later rules let in.
    let before = owners(&client, OTHER_VIP)?;
    ours(&nodes, &hasher)?;
    let after = owners(&client, V4)?;
    expect_foretold(&after, NODES.len(), &hasher);
    assert_eq!(before, after);
    Ok(())
}
