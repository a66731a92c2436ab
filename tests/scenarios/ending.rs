//! The moment at which the time of connections that stay is over: the kernel still holds what has ended,
//! for a second or longer, and whoever starts or stops just then must not fail over that.

use crate::draining_support::*;
use crate::product::*;
use crate::sharing::instances;
use lab::traffic::Held;
use lab::{HoldOptions, Result};
use std::time::Duration;

/// Connections that say nothing, so that nothing but their time ends them.
const IDLE: HoldOptions = HoldOptions {
    interval: Duration::from_secs(60),
    timeout: Duration::from_secs(5),
};
/// As often as it is tried; the kernel collects what has ended at a time of its own.
const TRIES: u32 = 4;

/// Holds connections to both VIPs, all of which have come to be.
fn hold(scene: &Scene) -> Result<Vec<Held>> {
    let all = scene.hold_so(60, IDLE)?;
    if all.iter().any(|held| held.lost() > 0) {
        for held in all {
            held.stop()?.expect_none_lost()?;
        }
        return Ok(Vec::new());
    }
    Ok(all)
}

/// Stops all of the first node's instances, and returns at the very moment at which nothing drains there
/// any more.
fn stop_and_wait(scene: &Scene, agent: &Agent) -> Result<()> {
    for instance in instances(0) {
        agent.call(scene.node(0), "stop", instance)?.expect(0);
    }
    assert!(!scene.phases(0, V4, "draining")?.is_empty());
    scene.lab.wait_until("the end", PATIENT, || {
        match scene.phases(0, V4, "draining") {
            Ok(left) if left.is_empty() => Ok(()),
            // All of it went, if it took long to look.
            Err(gone) if gone.to_string().contains("is not installed here") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
}

#[test]
fn whoever_starts_when_the_time_of_connections_is_over_serves_at_once() -> Result<()> {
    let scene = Scene::begin("ending-start", "2")?;
    let [agent, _] = &scene.sharing.agents;
    let bucket = instances(0).next().expect("an instance");
    for _ in 0..TRIES {
        let held = hold(&scene)?;
        stop_and_wait(&scene, agent)?;
        for instance in instances(0) {
            agent.start(scene.node(0), instance)?;
        }
        agent.call(scene.node(0), "monitor", bucket)?.expect(0);
        drop(held);
    }
    // What was kept for the kernel's sake goes soon.
    let what = "the rules for what leaves to go";
    scene.lab.wait_until(what, PATIENT, || {
        let rules = scene
            .node(0)
            .run(&["nft", "list", "table", "netdev", "clusterip"]);
        rules.is_ok_and(|rules| !rules.contains("leaving-"))
    })?;
    scene.sharing.expect_healthy()
}

#[test]
fn whoever_stops_when_the_time_of_connections_is_over_has_stopped() -> Result<()> {
    let scene = Scene::begin("ending-stop", "2")?;
    let [agent, _] = &scene.sharing.agents;
    for _ in 0..TRIES {
        let held = hold(&scene)?;
        stop_and_wait(&scene, agent)?;
        // Pacemaker stops again what it does not know the state of.
        for instance in instances(0) {
            agent.call(scene.node(0), "stop", instance)?.expect(0);
            agent.call(scene.node(0), "monitor", instance)?.expect(7);
        }
        let addresses = scene.node(0).run(&["ip", "-o", "addr"])?;
        assert!(!addresses.contains(&format!(" {V4}/")), "{addresses}");
        for instance in instances(0) {
            agent.start(scene.node(0), instance)?;
        }
        drop(held);
    }
    scene.sharing.expect_healthy()
}
