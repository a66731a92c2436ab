//! The data plane with real packets: every packet is answered by the node that the mirror of the
//! hash foretells, by no other, and none is lost.

use crate::product::*;
use clusterip::model::hash::{Flow, HashMode, Layout};
use lab::{Client, Lab, Node, Pace, Result};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

#[test]
fn three_nodes_share_tcp_udp_and_ping() -> Result<()> {
    let lab = Lab::new("share")?;
    let client = lab.client("c1")?;
    let seed = 0x0bad_cafe;
    let _nodes = sharing_nodes(&lab, &NODES, 12, &["--seed", "0x0badcafe"])?;
    let hasher = hasher(HashMode::default(), Layout::default(), seed);
    for vip in [V4, V6] {
        let target = SocketAddr::new(ip(vip), PORT);
        let sources = client.sources_for(ip(vip), 1000);
        let flows: Vec<_> = sources
            .iter()
            .flat_map(|source| (0..3).map(move |n| (*source, 20_000 + 7 * n)))
            .collect();
        assert_eq!(flows.len(), 3000);
        let witness = client.witness(&[ip(vip)])?;
        for (report, has_ports) in [
            (client.tcp(target, flows.clone(), Pace::default())?, true),
            (client.udp(target, flows.clone(), Pace::default())?, true),
            (
                client.ping(ip(vip), sources.clone(), Pace::default())?,
                false,
            ),
        ] {
            report.expect_all_answered()?;
            for (flow, node) in report.answered() {
                let flow = Flow {
                    source: flow.src,
                    source_port: if has_ports { flow.sport } else { 0 },
                    destination_port: if has_ports { PORT } else { 0 },
                };
                let foretold = owner_of(&NODES, 12, &hasher, &flow);
                assert_eq!(node, foretold, "{flow:?}");
            }
            let total = report.flows.len();
            for (node, share) in report.by_node() {
                // Four of twelve buckets each: a third, within what 12 buckets of a hash allow.
                assert!(
                    share * 100 > total * 25 && share * 100 < total * 42,
                    "{node}: {share}"
                );
            }
        }
        let seen = witness.finish()?;
        seen.expect_no_double_answers()?;
    }
    Ok(())
}

#[test]
fn every_mode_and_layout_hashes_in_the_kernel_as_in_the_mirror() -> Result<()> {
    let lab = Lab::new("modes")?;
    let client = lab.client("c1")?;
    let mut checked = 0;
    let nodes = serving(&lab, &NODES)?;
    for (n, mode) in HashMode::ALL.into_iter().enumerate() {
        for layout in Layout::ALL {
            let seed = [0, 1, 0xffff_fffe][n];
            let buckets = [3, 64, 1024][n];
            share(&nodes, mode, layout, seed, buckets)?;
            let hasher = hasher(mode, layout, seed);
            for vip in [V4, V6] {
                let target = SocketAddr::new(ip(vip), PORT);
                let sources = client.sources_for(ip(vip), 100);
                let flows: Vec<_> = sources.iter().zip(20_000..).map(|(s, p)| (*s, p)).collect();
                let witness = client.witness(&[ip(vip)])?;
                let report = client.udp(target, flows, Pace::default())?;
                report.expect_all_answered()?;
                for (flow, node) in report.answered() {
                    let flow = flow_from(flow.src, flow.sport);
                    assert_eq!(
                        node,
                        owner_of(&NODES, buckets, &hasher, &flow),
                        "{mode} {layout}"
                    );
                    checked += 1;
                }
                witness.finish()?.expect_no_double_answers()?;
            }
        }
    }
    assert_eq!(checked, 3 * 2 * 2 * 100);
    Ok(())
}

/// Shares both VIPs under this description, in place of any other.
pub fn share(
    nodes: &[Node],
    mode: HashMode,
    layout: Layout,
    seed: u32,
    buckets: u16,
) -> Result<()> {
    // As with a clone: all stop before the first starts with another description.
    for node in nodes {
        nodectl(node, &["down", V4])?;
        nodectl(node, &["down", V6])?;
    }
    let (count, seed) = (buckets.to_string(), seed.to_string());
    for (n, node) in nodes.iter().enumerate() {
        let own = own(n, nodes.len(), buckets);
        for vip in [V4, V6] {
            let mut words = vec!["up", vip, "--buckets", &count, "--seed", &seed];
            words.extend(["--hash", mode.name(), "--layout", layout.name()]);
            if !own.is_empty() {
                words.extend(["--own", &own]);
            }
            nodectl(node, &words)?;
        }
    }
    Ok(())
}

/// A description, and flows as (last 16 bits of the source, source port).
type Case = (usize, usize, u32, u16, BTreeSet<(u16, u16)>);

#[test]
fn random_flows_hash_in_the_kernel_as_in_the_mirror() -> Result<()> {
    let lab = Lab::new("random")?;
    let client = lab.client("c1")?;
    let nodes = serving(&lab, &NODES)?;
    let flows = prop::collection::btree_set((any::<u16>(), 1024u16..), 40);
    let cases = (0usize..3, 0usize..2, any::<u32>(), 1u16..=1024, flows);
    let mut runner = TestRunner::new(Config {
        cases: 12,
        failure_persistence: None,
        // Each case installs VIPs on three nodes: report the first that fails, as it is.
        max_shrink_iters: 0,
        ..Config::default()
    });
    let outcome = runner.run(&cases, |case| {
        judge(&client, &nodes, &case).map_err(|error| TestCaseError::fail(error.to_string()))?
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    Ok(())
}

/// Installs the description, sends the flows, and compares who answers with the mirror.
fn judge(
    client: &Client,
    nodes: &[Node],
    (mode, layout, seed, buckets, flows): &Case,
) -> Result<std::result::Result<(), TestCaseError>> {
    let (mode, layout) = (HashMode::ALL[*mode], Layout::ALL[*layout]);
    let hasher = hasher(mode, layout, *seed);
    share(nodes, mode, layout, *seed, *buckets)?;
    for vip in [V4, V6] {
        let source = |low: u16| -> IpAddr {
            let [high, low] = low.to_be_bytes();
            match ip(vip) {
                IpAddr::V4(_) => [10, 78, high, low].into(),
                IpAddr::V6(_) => [0xfd, 0x78, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, high, low].into(),
            }
        };
        let target = SocketAddr::new(ip(vip), PORT);
        let sent: Vec<_> = flows
            .iter()
            .map(|(low, port)| (source(*low), *port))
            .collect();
        let report = client.udp(target, sent, Pace::default())?;
        report.expect_all_answered()?;
        for (flow, node) in report.answered() {
            let flow = flow_from(flow.src, flow.sport);
            let foretold = owner_of(&NODES, *buckets, &hasher, &flow);
            if node != foretold {
                let text = format!("{node} answered instead of {foretold}: {flow:?}");
                return Ok(Err(TestCaseError::fail(text)));
            }
        }
    }
    Ok(Ok(()))
}
