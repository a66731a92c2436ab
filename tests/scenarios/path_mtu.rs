//! Path-MTU discovery for the connections of every node: a router that is not the client says
//! "fragmentation needed", and cannot know who is meant. There is no witness: without root it
//! misses some of so much.

use crate::fragments::*;
use crate::product::*;
use crate::sharing::*;
use clusterip::model::hash::HashMode;
use lab::{Context, Error, Lab, Node, Pace, Result};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const NARROW: u16 = 1300;
const FLOWS: usize = 36;

/// The path MTU that a node has learnt for a client.
fn learnt(node: &Node, client: IpAddr) -> Result<Option<u16>> {
    let text = node.run(&["ip", "route", "get", &client.to_string()])?;
    let mut words = text.split_whitespace();
    match words.find(|word| *word == "mtu").and(words.next()) {
        Some(mtu) => mtu.parse().map(Some).context(text.clone()),
        None => Ok(None),
    }
}

#[test]
fn every_node_learns_the_path_mtu_of_its_connections() -> Result<()> {
    let lab = Lab::new("pmtu")?;
    let nodes = serving(&lab, &NODES)?;
    let behind = lab.client_behind_router("c1", NARROW)?;
    let pace = Pace {
        size: 1_000_000,
        concurrency: 6,
        timeout: Duration::from_secs(30),
        ..Pace::default()
    };
    for (run, mode) in [HashMode::default(), HashMode::SourceIp]
        .into_iter()
        .enumerate()
    {
        let hasher = shared(&nodes, mode)?;
        for vip in vips() {
            let what = format!("{mode}, {vip}");
            // Others in each run: what was learnt stays.
            let sources = behind.client.sources_for(vip, FLOWS * (run + 1));
            let sources = sources[FLOWS * run..].to_vec();
            for source in &sources {
                assert_eq!(learnt(&nodes[0], *source)?, None);
            }
            let target = SocketAddr::new(vip, PORT);
            let report = behind.client.tcp(target, sources, pace)?;
            report.expect_all_answered().context(&what)?;
            expect_foretold(&hasher, &report).context(&what)?;
            let shares: BTreeMap<String, usize> = report.by_node();
            assert_eq!(shares.len(), NODES.len(), "{what}");
            for (flow, name) in report.answered() {
                let node = nodes.iter().find(|node| node.name() == name);
                let found = learnt(node.context("a node")?, flow.src)?;
                if found != Some(NARROW) {
                    let text = format!("{what}: {name} learnt {found:?} for {}", flow.src);
                    return Err(Error::new(text));
                }
            }
            let slowest = report.rtt_quantile(1.0).unwrap_or_default();
            lab.progress().say(format!(
                "{what}: {shares:?} echoed 1 MB each, the slowest in {slowest:.2?}"
            ));
        }
    }
    Ok(())
}
