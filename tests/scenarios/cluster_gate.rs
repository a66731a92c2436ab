//! A gate that waits is an action under way, and Pacemaker begins nothing new before those have ended.
//! So the gate must open when something is more pressing than its node's connections.

use std::time::Instant;

use lab::cluster::PATIENCE;
use lab::{Failure, Result};

use crate::cluster_drain_support::*;
use crate::product::*;

/// The node that goes on standby and waits for its connections.
const WAITING: &str = "n1";

/// The node is on standby, its connections go on, and its gate waits.
fn waiting(rig: &Rig, node: &str) -> Result<Groups> {
    rig.wait_settled(&NODES)?;
    let groups = rig.hold()?;
    rig.cluster.standby(node)?;
    // Pacemaker counts other resources as well, and has done nothing about it while the gate waits.
    rig.wait_on(&others(node), 1)?;
    rig.go_on(&groups)?;
    Ok(groups)
}

/// Nobody of this node has lost a connection.
fn expect_kept(rig: &Rig, groups: &mut Groups, node: &str) -> Result<()> {
    let longest = rig.end(groups, node)?;
    assert!(longest < lab::wait::prompt(), "{node}: {longest:?}");
    Ok(())
}

/// The connections of this node are as they should be now: each has failed in a way that fits, or not.
fn expect_ends(groups: &mut Groups, node: &str, fits: fn(Option<&Failure>) -> bool) -> Result<()> {
    for held in groups.remove(node).into_iter().flatten() {
        for flow in &held.stop()?.flows {
            let why = flow.lost.as_ref().map(|(_, why)| why);
            assert!(fits(why), "{node}: {flow:?}");
        }
    }
    Ok(())
}

/// The clients of this node were told that their connections are over.
fn expect_told(groups: &mut Groups, node: &str) -> Result<()> {
    expect_ends(groups, node, |why| {
        matches!(why, Some(Failure::Reset | Failure::Closed))
    })
}

#[test]
fn a_standby_that_is_taken_back_while_the_gate_waits_ends_at_once() -> Result<()> {
    let rig = Rig::start("gate-back", Service::Gated)?;
    let mut groups = waiting(&rig, WAITING)?;
    let since = Instant::now();
    rig.cluster.online(WAITING)?;
    rig.wait_shared(&NODES)?;
    rig.say(format!(
        "back after {:.1} s, with its connections",
        since.elapsed().as_secs_f64()
    ));
    rig.go_on(&groups)?;
    for node in NODES {
        expect_kept(&rig, &mut groups, node)?;
    }
    assert_eq!(rig.cluster.failures()?, []);
    rig.wait_settled(&NODES)
}

/// A gate waits on one node while another one dies.
fn dies(rig: &Rig, what: &str, waits: &str, dead: &str, stays: &str) -> Result<()> {
    let mut groups = waiting(rig, waits)?;
    let since = Instant::now();
    rig.cluster.power_off(dead)?;
    rig.wait_shared(&[stays])?;
    rig.say(format!(
        "{what}: {waits} waits, all is served {:.1} s after the death of {dead}",
        since.elapsed().as_secs_f64()
    ));
    rig.expect_new_ones_at(&[stays])?;
    expect_kept(rig, &mut groups, stays)?;
    // A bucket in the dark counts more than a connection; but if the deciding node dies, the next one waits
    // for nothing, and a loss that is over before the gate looks again cuts nobody.
    expect_ends(&mut groups, waits, |why| {
        matches!(why, None | Some(Failure::Reset | Failure::Closed))
    })?;
    drop(groups);
    rig.expect_no_trace(waits)?;
    rig.wait_fenced(dead)?;
    rig.cluster.power_on(dead)?;
    rig.cluster.online(waits)?;
    rig.wait_shared(&NODES)
}

#[test]
fn the_buckets_of_a_node_that_dies_while_a_gate_waits_are_served() -> Result<()> {
    let rig = Rig::start("gate-death", Service::Gated)?;
    // It matters whether the node that decides for all is the one that dies.
    let dc = rig.cluster.dc()?;
    let other = others(&dc);
    dies(&rig, "another dies", other[0], other[1], &dc)?;
    let dc = rig.cluster.dc()?;
    let other = others(&dc);
    dies(&rig, "the deciding node waits", &dc, other[0], other[1])?;
    let dc = rig.cluster.dc()?;
    let other = others(&dc);
    dies(&rig, "the deciding node dies", other[0], &dc, other[1])
}

#[test]
fn a_service_that_fails_while_a_gate_waits_is_recovered() -> Result<()> {
    let rig = Rig::start("gate-failure", Service::Gated)?;
    let mut groups = waiting(&rig, WAITING)?;
    let node = rig.cluster.node("n3")?;
    node.run(&["sh", "-c", "kill -9 $(cat /run/lab-service-web.pid)"])?;
    let since = Instant::now();
    rig.wait_on(&others(WAITING), 1)?;
    rig.say(format!(
        "all is served {:.1} s after the service failed, which is looked for every 20 s",
        since.elapsed().as_secs_f64()
    ));
    expect_kept(&rig, &mut groups, "n2")?;
    for node in [WAITING, "n3"] {
        expect_told(&mut groups, node)?;
    }
    rig.expect_no_trace(WAITING)
}

/// All services are to be restarted in their place, so that no bucket finds another node meanwhile.
#[test]
fn a_service_that_is_changed_beneath_its_connections_is_soon_back() -> Result<()> {
    let rig = Rig::start("gate-change", Service::Gated)?;
    rig.wait_settled(&NODES)?;
    let mut groups = rig.hold()?;
    let since = Instant::now();
    let listen = format!("udp:{PORT} tcp:{PORT}");
    rig.crm(&["resource", "param", "web", "set", "listen", &listen])?;
    rig.lab.wait_until("the first stop", PATIENCE, || {
        let spread = rig.cluster.spread("resIP");
        spread.is_ok_and(|spread| spread.values().sum::<usize>() < usize::from(BUCKETS))
    })?;
    rig.wait_on(&NODES, 1)?;
    rig.say(format!(
        "all is served {:.1} s after the service was changed",
        since.elapsed().as_secs_f64()
    ));
    for node in NODES {
        expect_told(&mut groups, node)?;
    }
    Ok(())
}
