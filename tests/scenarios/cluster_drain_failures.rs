//! Nodes die with 500 connections: those of the dead one are reset as soon as their clients speak
//! again, the others notice nothing; also where the dead one only drained them.

use std::time::{Duration, Instant};

use lab::cluster::{PATIENCE, Signal};
use lab::{Error, Failure, Result};

use crate::cluster_drain_support::*;

/// The node that is lost.
const LOST: &str = "n2";

/// Waits for the resets of the lost node's clients, and judges how everybody fared.
fn expect_lost_ones_reset(rig: &Rig, what: &str, groups: Groups, since: Instant) -> Result<()> {
    let (mut first, mut reset) = (None, 0);
    for held in groups.get(LOST).into_iter().flatten() {
        let all = held.count();
        rig.lab.wait_until("the resets", PATIENCE, || {
            if held.lost() > 0 {
                first.get_or_insert(since.elapsed());
            }
            match held.lost() >= all {
                true => Ok(()),
                false => Err(Error::new(format!("{} of {all}", held.lost()))),
            }
        })?;
        reset += all;
    }
    let last = since.elapsed();
    let mut longest = Duration::ZERO;
    for (node, held) in groups {
        for held in held {
            let report = held.stop()?;
            for flow in &report.flows {
                let why = flow.lost.as_ref().map(|(_, why)| why);
                let expected = (node == LOST).then_some(&Failure::Reset);
                assert_eq!(why, expected, "{node}: {flow:?}");
            }
            if node != LOST {
                longest = longest.max(report.longest_exchange());
            }
        }
    }
    rig.say(format!(
        "{what}: {reset} connections reset {:.1} to {:.1} s after it; of the other {}, the longest \
         exchange {:.3} s",
        first.unwrap_or_default().as_secs_f64(),
        last.as_secs_f64(),
        2 * HELD - reset,
        longest.as_secs_f64()
    ));
    assert!(longest < lab::wait::prompt(), "{longest:?}");
    Ok(())
}

/// How often the survivors' system logs say why, by processes that were left behind.
fn told(rig: &Rig) -> Result<usize> {
    let of = |node| {
        let words = "/clusterip\\[.*nobody drains buckets/p";
        let lines = rig
            .cluster
            .node(node)?
            .run(&["sed", "-n", words, "/var/log/syslog"])?;
        Ok(lines.lines().count())
    };
    others(LOST).into_iter().map(of).sum()
}

#[test]
fn connections_of_a_dead_node_are_reset_and_the_others_notice_nothing() -> Result<()> {
    let rig = Rig::start("dead", Service::Apart)?;
    for (what, die) in [
        ("power lost", true),
        ("Corosync killed, its node fenced", false),
    ] {
        let newcomers = rig.newcomers()?;
        let groups = rig.hold()?;
        rig.go_on(&groups)?;
        let before = told(&rig)?;
        let since = Instant::now();
        match die {
            true => rig.cluster.power_off(LOST)?,
            false => rig.cluster.kill_corosync(LOST, Signal::SIGKILL)?,
        }
        expect_lost_ones_reset(&rig, what, groups, since)?;
        rig.wait_shared(&others(LOST))?;
        // The second time somebody who lives has given those buckets up lately, and may drain them.
        if die {
            rig.lab.wait_until("the reason in the log", PATIENCE, || {
                told(&rig).is_ok_and(|now| now > before)
            })?;
        }
        rig.wait_fenced(LOST)?;
        rig.cluster.power_on(LOST)?;
        rig.wait_shared(&NODES)?;
        rig.wait_settled(&NODES)?;
        rig.say(format!("{what}: {}", newcomers.finish()?));
    }
    Ok(())
}

#[test]
fn connections_of_a_node_that_dies_while_it_drains_are_reset() -> Result<()> {
    let rig = Rig::start("drainer-dies", Service::Gated)?;
    for (what, die) in [
        ("power lost while draining", true),
        ("cable cut while draining", false),
    ] {
        let groups = rig.hold()?;
        rig.cluster.standby(LOST)?;
        rig.wait_shared(&others(LOST))?;
        rig.go_on(&groups)?;
        let since = Instant::now();
        match die {
            true => rig.cluster.power_off(LOST)?,
            false => rig.lab.cable(LOST, false)?,
        }
        expect_lost_ones_reset(&rig, what, groups, since)?;
        rig.wait_fenced(LOST)?;
        rig.cluster.power_on(LOST)?;
        rig.cluster.online(LOST)?;
        rig.wait_shared(&NODES)?;
        rig.wait_settled(&NODES)?;
    }
    Ok(())
}

/// A stop that fails: the agent is not there any more.
#[test]
fn a_failed_stop_is_fenced_and_its_connections_are_reset() -> Result<()> {
    let rig = Rig::start("stop-fails", Service::Apart)?;
    let groups = rig.hold()?;
    rig.go_on(&groups)?;
    let node = rig.cluster.node(LOST)?;
    let agent = "/usr/lib/ocf/resource.d/rust/ClusterIP";
    node.run(&["mount", "--bind", "/bin/false", agent])?;
    let since = Instant::now();
    rig.cluster.standby(LOST)?;
    expect_lost_ones_reset(&rig, "a stop that failed", groups, since)?;
    rig.wait_fenced(LOST)?;
    rig.wait_shared(&others(LOST))
}
