//! Buckets that move between living nodes: connections stay where they are, new ones go to the new
//! owner, and in the end nothing is left. Without a cluster.

use crate::draining_support::*;
use crate::product::*;
use crate::sharing::*;
use lab::traffic::HeldFlow;
use lab::{Client, Context, Flow, HoldOptions, Lab, Node, Result};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

#[test]
fn connections_stay_when_their_buckets_move_and_new_ones_go_to_the_new_owner() -> Result<()> {
    let scene = Scene::begin("drain", "60")?;
    let witness = scene.client.witness(&vips())?;
    let held = scene.hold()?;
    scene.go_on(&held)?;
    scene.move_all(0, 1)?;
    for vip in [V4, V6] {
        let gone: BTreeSet<u64> = instances(0).map(u64::from).collect();
        assert_eq!(scene.phases(0, vip, "draining")?, gone);
        assert_eq!(scene.phases(0, vip, "owned")?, BTreeSet::new());
        assert!(scene.phases(1, vip, "adopting")?.is_superset(&gone));
    }
    for agent in &scene.sharing.agents {
        agent.call(scene.node(0), "monitor", 0)?.expect(7);
        agent.call(scene.node(1), "monitor", 0)?.expect(0);
    }
    scene.go_on(&held)?;
    scene.expect_new_ones_at(&["n2", "n3"])?;
    // And a second time, to yet another node, while the first one still drains.
    scene.move_all(1, 2)?;
    scene.go_on(&held)?;
    for one in held {
        let report = one.stop()?;
        report.expect_none_lost()?;
        let longest = report.longest_exchange();
        assert!(longest < lab::wait::prompt(), "{longest:?}");
        for flow in &report.flows {
            assert_eq!(flow.answers.len(), 1, "{flow:?}");
        }
    }
    witness.finish()?.expect_no_double_answers()?;
    // With its last connection the first node has done with both VIPs; nobody has to tidy up.
    scene.expect_nothing_left(0)?;
    for node in &scene.sharing.nodes {
        assert_eq!(node.run(&["conntrack", "-C"])?.trim(), "0");
    }
    Ok(())
}

#[test]
fn a_bucket_that_comes_back_keeps_the_connections_of_both_nodes() -> Result<()> {
    let scene = Scene::begin("back", "60")?;
    let first = scene.hold()?;
    scene.move_all(0, 1)?;
    // New ones begin at the second node, in the same buckets.
    let second = scene.hold_so(HELD, HoldOptions::default())?;
    scene.move_all(1, 0)?;
    scene.go_on(&first)?;
    scene.go_on(&second)?;
    for one in first.into_iter().chain(second) {
        one.stop()?.expect_none_lost()?;
    }
    // What has come back is simply owned on the first node, and on the second one nothing drains.
    for vip in [V4, V6] {
        assert_eq!(scene.phases(0, vip, "draining")?, BTreeSet::new());
        nodectl(scene.node(1), &["wait-drained", vip, "--timeout", "20"])?;
    }
    scene.sharing.expect_healthy()?;
    Ok(())
}

#[test]
fn an_idle_connection_is_gone_with_its_time_and_is_refused_by_the_new_owner() -> Result<()> {
    let scene = Scene::begin("deadline", "4")?;
    let options = HoldOptions {
        interval: Duration::from_secs(12),
        timeout: Duration::from_secs(10),
    };
    let held = scene.hold_so(30, options)?;
    scene.move_all(0, 1)?;
    scene.expect_nothing_left(0)?;
    // No program of the old owner's waits for what is said to nobody any more.
    scene
        .lab
        .wait_until("the sockets to be ended", PATIENT, || {
            let left = scene.node(0).run(&["ss", "-Htn", "state", "established"])?;
            match [V4, V6].iter().any(|vip| left.contains(vip)) {
                true => Err(lab::Error::new(left)),
                false => Ok(()),
            }
        })?;
    // Each speaks again when its bucket's time is over.
    for one in held {
        let moved = count_of_first(&one);
        assert!(moved > 0, "none of {} was the first node's", one.count());
        scene
            .lab
            .wait_until("the resets", PATIENT, || one.lost() >= moved)?;
        for flow in one.stop()?.flows {
            let moved = was_the_first_nodes(&flow);
            assert_eq!(flow.lost.is_some(), moved, "{flow:?}");
            if let Some((_, why)) = flow.lost {
                assert_eq!(why, lab::Failure::Reset);
            }
        }
    }
    Ok(())
}

#[test]
fn where_nobody_drains_after_all_connections_are_reset_within_seconds() -> Result<()> {
    let scene = Scene::begin("orphans", "60")?;
    let held = scene.hold()?;
    scene.go_on(&held)?;
    scene.move_all(0, 1)?;
    scene.go_on(&held)?;
    // The node that drains is gone, and nobody says so.
    scene.lab.cable("n1", false)?;
    for one in &held {
        scene
            .lab
            .wait_until("the resets", PATIENT, || one.lost() >= count_of_first(one))?;
    }
    for one in held {
        for flow in one.stop()?.flows {
            let was_first = flow.answers.contains_key("n1");
            assert_eq!(flow.lost.is_some(), was_first, "{flow:?}");
        }
    }
    Ok(())
}

#[test]
fn a_client_that_comes_again_from_its_old_port_keeps_the_new_connection() -> Result<()> {
    let scene = Scene::begin("again", "60")?;
    let held = scene.hold()?;
    scene.move_all(0, 1)?;
    scene.lab.cable("n1", false)?;
    let mut again = Vec::new();
    for one in &held {
        scene
            .lab
            .wait_until("the resets", PATIENT, || one.lost() >= count_of_first(one))?;
    }
    // Those buckets are another's when their clients begin anew, and come back a moment later. The node that
    // took those flows for orphans does so for ten seconds, as it adopts its other buckets all the while.
    scene.move_all(1, 2)?;
    for (vip, one) in vips().into_iter().zip(held) {
        let lost = one.stop()?.flows.into_iter();
        let flows = lost.filter(|flow| flow.lost.is_some());
        let flows = flows.map(|HeldFlow { src, sport, .. }| Flow { src, sport });
        let target = SocketAddr::new(vip, PORT);
        again.push(scene.client.hold(target, flows, unhurried())?);
    }
    scene.move_all(2, 1)?;
    scene.go_on(&again)?;
    for one in again {
        let report = one.stop()?;
        report.expect_none_lost()?;
        for flow in &report.flows {
            assert_eq!(flow.answers.keys().collect::<Vec<_>>(), ["n3"], "{flow:?}");
        }
    }
    Ok(())
}

/// Two nodes that share an address by hand, without a drain time-out, and connections to it.
fn by_hand(lab: &Lab) -> Result<(Client, [Node; 2])> {
    let client = lab.client("c1")?;
    let nodes = [lab.node("n1")?, lab.node("n2")?];
    for (node, own) in nodes.iter().zip(["0-5", "6-11"]) {
        node.serve(&SERVICES)?;
        let words = ["up", V4, "--nic", "eth0", "--buckets", "12", "--own", own];
        nodectl(node, &words)?;
    }
    Ok((client, nodes))
}

#[test]
fn buckets_moved_by_hand_keep_their_connections_without_a_word_more() -> Result<()> {
    let lab = Lab::new("by-hand")?;
    let (client, [n1, n2]) = by_hand(&lab)?;
    let flows = client.sources_for(ip(V4), HELD).into_iter().zip(20_000..);
    let held = client.hold(SocketAddr::new(ip(V4), PORT), flows, unhurried())?;
    let go_on = || {
        let enough = held.exchanges() + 10 * HELD;
        lab.wait_until("more exchanges", PATIENT, || held.exchanges() >= enough)?;
        assert_eq!(held.lost(), 0, "of {HELD}");
        Ok::<_, lab::Error>(())
    };
    go_on()?;
    nodectl(&n1, &["drain", V4, "0-3", "--timeout", "60"])?;
    nodectl(&n2, &["take", V4, "0-3"])?;
    go_on()?;
    // And as the line says that is printed for the other node.
    let said = nodectl(&n1, &["drain", V4, "4-5", "--timeout", "60"])?;
    let line = said.split("nodectl ").nth(1).context(said.clone())?.trim();
    let adopt_s = line.strip_prefix(&format!("take {V4} 4-5 --adopt "));
    let adopt_s: u32 = adopt_s
        .context(line.to_owned())?
        .parse()
        .context("seconds")?;
    assert!((50..=60).contains(&adopt_s), "{line}");
    nodectl(&n2, &line.split(' ').collect::<Vec<_>>())?;
    go_on()?;
    // Back while they drain: each node keeps its own.
    nodectl(&n2, &["drain", V4, "0-1"])?;
    nodectl(&n1, &["undrain", V4, "0-1"])?;
    go_on()?;
    let report = held.stop()?;
    report.expect_none_lost()?;
    let of_both = |name| {
        report
            .flows
            .iter()
            .any(|flow| flow.answers.contains_key(name))
    };
    assert!(of_both("n1") && of_both("n2"), "{report:?}");
    Ok(())
}

#[test]
fn buckets_taken_outright_tell_clients_at_once_that_nobody_has_their_connections() -> Result<()> {
    let lab = Lab::new("outright")?;
    let (client, [n1, n2]) = by_hand(&lab)?;
    let flows = client.sources_for(ip(V4), HELD).into_iter().zip(20_000..);
    let held = client.hold(SocketAddr::new(ip(V4), PORT), flows, unhurried())?;
    lab.wait_until("exchanges", PATIENT, || held.exchanges() >= 10 * HELD)?;
    // Cut here, so that nobody has them, which is what the line for the other node says.
    let said = nodectl(&n1, &["release", V4, "0-5"])?;
    let line = said.split("nodectl ").nth(1).context(said.clone())?.trim();
    assert_eq!(line, format!("take {V4} 0-5 --adopt 0"));
    let owned = nodectl(&n2, &line.split(' ').collect::<Vec<_>>())?;
    assert!(!owned.contains("adopting"), "{owned}");
    let of_n1 = |flow: &&HeldFlow| flow.answers.contains_key("n1");
    // Where they are adopted the safety net takes six seconds.
    lab.wait_until("the resets", Duration::from_secs(4), || held.lost() > 0)?;
    let report = held.stop()?;
    assert!(report.flows.iter().filter(of_n1).count() > 0);
    Ok(())
}
