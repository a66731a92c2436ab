//! Buckets that move between living nodes: connections stay where they are, new ones go to the new
//! owner, and in the end nothing is left. Without a cluster; Pacemaker's part is in
//! `cluster_draining`.

use crate::product::*;
use crate::sharing::*;
use clusterip::model::hash::{HashMode, Layout};
use lab::{Client, Context, HoldOptions, Lab, Node, NodeOptions, Pace, Result};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const SEED: u32 = 0x0bad_cafe;
const PATIENT: Duration = Duration::from_secs(20);
/// Connections of each family.
const HELD: usize = 60;

/// An agent whose connections may stay so many seconds.
fn draining(vip: &str, seconds: &str) -> Agent {
    agent(vip).with("drain_timeout", seconds)
}

/// Three nodes that share both VIPs, with this drain time-out.
fn three(lab: &Lab, seconds: &str) -> Result<Sharing> {
    let mut sharing = Sharing::serving(lab, NodeOptions::default())?;
    sharing.agents = [draining(V4, seconds), draining(V6, seconds)];
    for agent in &sharing.agents {
        sharing.start(agent)?;
    }
    Ok(sharing)
}

/// Moves all instances that the first node began with, as Pacemaker does: stops, then starts.
fn move_all(sharing: &Sharing, from: usize, to: usize) -> Result<()> {
    for agent in &sharing.agents {
        for instance in instances(0) {
            agent
                .call(&sharing.nodes[from], "stop", instance)?
                .expect(0);
        }
        for instance in instances(0) {
            agent.start(&sharing.nodes[to], instance)?;
        }
    }
    Ok(())
}

fn hold(client: &Client) -> Result<Vec<lab::traffic::Held>> {
    let options = HoldOptions {
        interval: Duration::from_millis(100),
        ..HoldOptions::default()
    };
    vips()
        .into_iter()
        .map(|vip| {
            let sources = client.sources_for(vip, HELD);
            client.hold(SocketAddr::new(vip, PORT), sources, options)
        })
        .collect()
}

/// Waits until every connection has had some more answers.
fn go_on(lab: &Lab, held: &[lab::traffic::Held]) -> Result<()> {
    for one in held {
        let enough = one.exchanges() + 10 * HELD;
        lab.wait_until("more exchanges", PATIENT, || one.exchanges() >= enough)?;
    }
    Ok(())
}

fn phases(node: &Node, vip: &str, phase: &str) -> Result<BTreeSet<u64>> {
    let text = nodectl(node, &["buckets", vip, "--json"])?;
    let all: serde_json::Value = serde_json::from_str(&text).context("JSON")?;
    let all = all["buckets"].as_array().context("buckets")?;
    let of = all.iter().filter(|bucket| bucket["phase"] == phase);
    Ok(of.filter_map(|bucket| bucket["bucket"].as_u64()).collect())
}

/// New connections to both VIPs are answered by these nodes alone.
fn expect_new_ones_at(client: &Client, nodes: &[&str]) -> Result<()> {
    for vip in vips() {
        let target = SocketAddr::new(vip, PORT);
        let report = client.tcp(target, client.sources_for(vip, 90), Pace::default())?;
        report.expect_all_answered()?;
        let answered: BTreeSet<String> = report.by_node().into_keys().collect();
        let expected: BTreeSet<String> = nodes.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(answered, expected, "{vip}");
    }
    Ok(())
}

/// Nothing of any VIP is on the node.
fn expect_nothing_left(lab: &Lab, node: &Node) -> Result<()> {
    let what = format!("nothing to be left on {}", node.name());
    lab.wait_until(&what, PATIENT, || {
        let state = state_of(node).map_err(|error| error.to_string())?;
        let traces = [V4, V6, "clusterip", "drop_unicast_in_l2_multicast:1", MAC4];
        match traces.iter().find(|trace| state.contains(**trace)) {
            None => Ok(()),
            Some(trace) => Err(format!("{trace} in {state}")),
        }
    })
}

#[test]
fn connections_stay_when_their_buckets_move_and_new_ones_go_to_the_new_owner() -> Result<()> {
    let lab = Lab::new("drain")?;
    let client = lab.client("c1")?;
    let sharing = three(&lab, "60")?;
    let witness = client.witness(&vips())?;
    let held = hold(&client)?;
    go_on(&lab, &held)?;
    move_all(&sharing, 0, 1)?;
    let [from, to] = [&sharing.nodes[0], &sharing.nodes[1]];
    for vip in [V4, V6] {
        let gone: BTreeSet<u64> = instances(0).map(u64::from).collect();
        assert_eq!(phases(from, vip, "draining")?, gone);
        assert_eq!(phases(from, vip, "owned")?, BTreeSet::new());
        assert!(phases(to, vip, "adopting")?.is_superset(&gone));
    }
    for agent in &sharing.agents {
        agent.call(from, "monitor", 0)?.expect(7);
        agent.call(to, "monitor", 0)?.expect(0);
    }
    go_on(&lab, &held)?;
    expect_new_ones_at(&client, &["n2", "n3"])?;
    // And a second time, to yet another node, while the first one still drains.
    move_all(&sharing, 1, 2)?;
    go_on(&lab, &held)?;
    for one in held {
        let report = one.stop()?;
        report.expect_none_lost()?;
        let longest = report.longest_exchange();
        assert!(longest < Duration::from_secs(1), "{longest:?}");
        for flow in &report.flows {
            assert_eq!(flow.answers.len(), 1, "{flow:?}");
        }
    }
    witness.finish()?.expect_no_double_answers()?;
    // With its last connection the first node has done with both VIPs; nobody has to tidy up.
    expect_nothing_left(&lab, from)?;
    for node in &sharing.nodes {
        assert_eq!(node.run(&["conntrack", "-C"])?.trim(), "0");
    }
    Ok(())
}

#[test]
fn a_bucket_that_comes_back_keeps_the_connections_of_both_nodes() -> Result<()> {
    let lab = Lab::new("back")?;
    let client = lab.client("c1")?;
    let sharing = three(&lab, "60")?;
    let first = hold(&client)?;
    move_all(&sharing, 0, 1)?;
    // New ones begin at the second node, in the same buckets.
    let second: Vec<lab::traffic::Held> = vips()
        .into_iter()
        .map(|vip| {
            let sources = client.sources_for(vip, HELD);
            client.hold(SocketAddr::new(vip, PORT), sources, HoldOptions::default())
        })
        .collect::<Result<_>>()?;
    move_all(&sharing, 1, 0)?;
    go_on(&lab, &first)?;
    go_on(&lab, &second)?;
    for one in first.into_iter().chain(second) {
        one.stop()?.expect_none_lost()?;
    }
    // What has come back is simply owned on the first node, and on the second one nothing drains.
    for vip in [V4, V6] {
        assert_eq!(phases(&sharing.nodes[0], vip, "draining")?, BTreeSet::new());
        nodectl(&sharing.nodes[1], &["wait-drained", vip, "--timeout", "20"])?;
    }
    sharing.expect_healthy()?;
    Ok(())
}

#[test]
fn an_idle_connection_is_gone_with_its_time_and_is_refused_by_the_new_owner() -> Result<()> {
    let lab = Lab::new("deadline")?;
    let client = lab.client("c1")?;
    let sharing = three(&lab, "4")?;
    let options = HoldOptions {
        interval: Duration::from_secs(12),
        timeout: Duration::from_secs(10),
    };
    let mut held = Vec::new();
    let hasher = hasher(HashMode::default(), Layout::default(), SEED);
    for vip in vips() {
        let sources: Vec<IpAddr> = client.sources_for(vip, 30);
        held.push((
            vip,
            client.hold(SocketAddr::new(vip, PORT), sources, options)?,
        ));
    }
    move_all(&sharing, 0, 1)?;
    expect_nothing_left(&lab, &sharing.nodes[0])?;
    // Each speaks again when its bucket's time is over.
    for (vip, one) in held {
        let least = 30 * 4 / 12 / 2;
        lab.wait_until("the resets", PATIENT, || one.lost() >= least)?;
        for flow in one.stop()?.flows {
            let bucket = hasher.bucket(&flow_from(flow.src, flow.sport), BUCKETS);
            let moved = instances(0).any(|instance| instance == u32::from(bucket));
            assert_eq!(
                flow.lost.is_some(),
                moved,
                "{vip}, bucket {bucket}: {flow:?}"
            );
            if let Some((_, why)) = flow.lost {
                assert_eq!(why, lab::Failure::Reset);
            }
        }
    }
    Ok(())
}

#[test]
fn where_nobody_drains_after_all_connections_are_reset_within_seconds() -> Result<()> {
    let lab = Lab::new("orphans")?;
    let client = lab.client("c1")?;
    let sharing = three(&lab, "60")?;
    let held = hold(&client)?;
    go_on(&lab, &held)?;
    move_all(&sharing, 0, 1)?;
    go_on(&lab, &held)?;
    // The node that drains is gone, and nobody says so.
    lab.cable("n1", false)?;
    for one in &held {
        lab.wait_until("the resets", PATIENT, || one.lost() >= HELD / 6)?;
    }
    for one in held {
        for flow in one.stop()?.flows {
            let was_first = flow.answers.contains_key("n1");
            assert_eq!(flow.lost.is_some(), was_first, "{flow:?}");
        }
    }
    Ok(())
}
