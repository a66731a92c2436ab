//! What administrators do to a cluster with 500 connections: nodes go on standby, leave and come back,
//! buckets are banned, preferred and restarted. No connection is cut before its client ends it, no
//! exchange takes a second (longer where the machine has too much to do), and no newcomer is refused.

use std::time::Duration;

use lab::Result;

use crate::cluster_drain_support::*;

fn tell(rig: &Rig, what: &str, longest: Duration, newcomers: Newcomers) -> Result<()> {
    let newcomers = newcomers.finish()?;
    rig.say(format!(
        "{what}: none of {} lost, the longest exchange {:.3} s; {newcomers}",
        2 * HELD,
        longest.as_secs_f64()
    ));
    assert!(longest < lab::wait::prompt(), "{longest:?}");
    Ok(())
}

/// A node goes, its connections end one by one, and it comes back.
fn away_and_back(
    rig: &Rig,
    what: &str,
    node: &str,
    go: impl FnOnce() -> Result<()> + Send,
    come: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let others = others(node);
    let newcomers = rig.newcomers()?;
    let mut groups = rig.hold()?;
    let mut longest = std::thread::scope(|scope| {
        let going = scope.spawn(go);
        rig.wait_shared(&others)?;
        rig.go_on(&groups)?;
        rig.expect_new_ones_at(&others)?;
        // Only when its last client has gone the gate opens, and the service ends.
        let longest = rig.end(&mut groups, node)?;
        going.join().expect("no panic")?;
        Ok::<_, lab::Error>(longest)
    })?;
    come()?;
    rig.wait_shared(&NODES)?;
    rig.go_on(&groups)?;
    for other in others {
        longest = longest.max(rig.end(&mut groups, other)?);
    }
    rig.wait_settled(&NODES)?;
    assert_eq!(rig.cluster.failures()?, []);
    tell(rig, &format!("{node} {what}"), longest, newcomers)
}

/// Something is done to the clones while the nodes stay.
fn changes(rig: &Rig, what: &str, change: impl FnOnce(&Groups) -> Result<()>) -> Result<()> {
    let newcomers = rig.newcomers()?;
    let groups = rig.hold()?;
    change(&groups)?;
    rig.go_on(&groups)?;
    let longest = rig.end_all(groups)?;
    rig.wait_settled(&NODES)?;
    assert_eq!(rig.cluster.failures()?, []);
    tell(rig, what, longest, newcomers)
}

#[test]
fn standby_and_resource_restart_cut_no_connection() -> Result<()> {
    let rig = Rig::start("gated", Service::Gated)?;
    for node in NODES {
        let away = || {
            rig.cluster.standby(node)?;
            Ok(())
        };
        let back = || {
            rig.cluster.wait_idle()?;
            rig.expect_no_trace(node)?;
            rig.cluster.online(node)?;
            rig.cluster.wait_idle()
        };
        away_and_back(&rig, "on standby and back", node, away, back)?;
    }
    // The whole clones at once: every bucket leaves, and comes back.
    changes(&rig, "crm_resource --restart", |_| {
        for clone in ["cloneIP", "cloneIP6"] {
            // crm shell's own word asks systemd from version 5 on.
            let restart = ["crm_resource", "--restart", "-r", clone];
            rig.cluster.node("n1")?.run(&restart)?;
        }
        rig.wait_shared(&NODES)
    })
}

#[test]
fn a_rolling_restart_of_the_stack_cuts_no_connection() -> Result<()> {
    let rig = Rig::start("rolling", Service::Gated)?;
    for node in NODES {
        let back = || {
            rig.expect_no_trace(node)?;
            rig.cluster.rejoin(node)
        };
        away_and_back(
            &rig,
            "restarts its stack",
            node,
            || rig.cluster.leave(node),
            back,
        )?;
    }
    Ok(())
}

/// The service runs outside of the cluster: a node whose stack has been shut down drains on, and the
/// others must not take it for dead.
#[test]
fn a_node_drains_on_while_its_stack_is_down() -> Result<()> {
    let rig = Rig::start("apart", Service::Apart)?;
    changes(
        &rig,
        "n2's stack down and up, apart from its service",
        |groups| {
            rig.cluster.leave("n2")?;
            rig.wait_shared(&others("n2"))?;
            // Every monitor asks again, and the sixth sighting of a segment would make it an orphan.
            for _ in 0..5 {
                rig.go_on(groups)?;
            }
            rig.cluster.rejoin("n2")?;
            rig.wait_shared(&NODES)
        },
    )
}

#[test]
fn bans_preferences_and_aborted_transitions_cut_no_connection() -> Result<()> {
    let rig = Rig::start("banned", Service::Apart)?;
    let on =
        |node: &str, words: &[&str]| -> Result<()> { rig.cluster.node(node)?.run(words).map(drop) };
    changes(&rig, "banned from n2 and cleared", |groups| {
        for clone in ["cloneIP", "cloneIP6"] {
            on("n1", &["crm_resource", "--ban", "-r", clone, "-N", "n2"])?;
        }
        rig.wait_shared(&others("n2"))?;
        rig.go_on(groups)?;
        rig.expect_new_ones_at(&others("n2"))?;
        for clone in ["cloneIP", "cloneIP6"] {
            on("n1", &["crm_resource", "--clear", "-r", clone])?;
        }
        rig.wait_shared(&NODES)
    })?;
    changes(&rig, "all to n1 and rebalanced", |groups| {
        for clone in ["cloneIP", "cloneIP6"] {
            let line = format!("location prefer-{clone} {clone} 100: n1\n");
            rig.cluster.load("n1", &line)?;
        }
        rig.wait_shared(&["n1"])?;
        rig.go_on(groups)?;
        for clone in ["cloneIP", "cloneIP6"] {
            rig.crm(&["configure", "delete", &format!("prefer-{clone}")])?;
        }
        rig.wait_shared(&NODES)
    })?;
    changes(&rig, "three standbys that are taken back at once", |_| {
        for _ in 0..3 {
            rig.cluster.standby("n3")?;
            rig.lab
                .wait_until("the first instance to move", lab::cluster::PATIENCE, || {
                    let spread = rig.cluster.spread("resIP");
                    spread.is_ok_and(|spread| spread.get("n3").copied().unwrap_or_default() < 4)
                })?;
            rig.cluster.online("n3")?;
        }
        rig.cluster.wait_idle()?;
        rig.wait_shared(&NODES)
    })
}
