//! Actions that wait for the lock are served together, and nobody who was killed meanwhile is among them.

use crate::draining_support::locked;
use crate::product::*;
use clusterip::sys::nft::NftSocket;
use lab::{Context, Error, Lab, Node, Result};
use std::time::Duration;

const BUCKETS: u16 = 8;
const PATIENCE: Duration = Duration::from_secs(20);

/// Has all instances do it while the lock is held, and two of them killed before they get it. How many transactions
/// the others needed.
fn all_at_once(lab: &Lab, node: &Node, agent: &Agent, action: &str, killed: &[u32]) -> Result<u32> {
    let generation = || {
        node.within(|| {
            let mut socket = NftSocket::open().expect("a socket");
            socket.generation().expect("a generation")
        })
    };
    let lock = hold_lock(node)?;
    let program = lab::built("ocf-clusterip")?.display().to_string();
    let mut running = Vec::new();
    for instance in 0..u32::from(BUCKETS) {
        let words = match killed.contains(&instance) {
            true => vec!["timeout", "-s", "KILL", "4", &program, action],
            false => vec![program.as_str(), action],
        };
        running.push(
            node.exec(&words)
                .envs(agent.environment(instance))
                .spawn()?,
        );
    }
    let inode = node.run(&["stat", "-c", "%i", LOCK])?;
    let inode = format!(":{} ", inode.trim());
    let waiting = |wanted: usize| {
        lab.wait_until(&format!("{wanted} to wait"), PATIENCE, || {
            let locks = std::fs::read_to_string("/proc/locks").context("/proc/locks")?;
            let waits = |line: &&str| line.contains("->") && line.contains(&inode);
            match locks.lines().filter(waits).count() {
                found if found == wanted => Ok(()),
                found => Err(Error::new(format!("{found} wait"))),
            }
        })
    };
    waiting(usize::from(BUCKETS))?;
    waiting(usize::from(BUCKETS) - killed.len())?;
    let before = generation()?;
    drop(lock);
    for (instance, one) in running.iter_mut().enumerate() {
        // Waiting for a child would end its input, and with that the child.
        let ended = lab.wait_until("an end", PATIENCE, || {
            let ended = one.child().try_wait().context("a child")?;
            ended.ok_or_else(|| Error::new("it goes on"))
        })?;
        let was_killed = killed.contains(&(instance as u32));
        assert_eq!(
            ended.success(),
            !was_killed,
            "{action} of {instance}: {ended}"
        );
    }
    Ok(generation()?.wrapping_sub(before))
}

#[test]
fn who_waits_is_served_with_others_and_who_was_killed_is_not() -> Result<()> {
    let lab = Lab::new("together")?;
    let node = &lab.node("n1")?;
    for vip in [V4, V6] {
        let agent = Agent::new(vip, BUCKETS).with("arp_count", "0");
        let here = |instance: u32, code| {
            let answer = agent.call(node, "monitor", instance)?;
            answer.expect(code);
            Ok::<(), Error>(())
        };
        let mut changes = all_at_once(&lab, node, &agent, "start", &[5, 6])?;
        for instance in 0..u32::from(BUCKETS) {
            here(instance, if [5, 6].contains(&instance) { 7 } else { 0 })?;
        }
        agent.start(node, 5)?;
        agent.start(node, 6)?;
        changes += all_at_once(&lab, node, &agent, "stop", &[1, 2])?;
        for instance in 0..u32::from(BUCKETS) {
            here(instance, if [1, 2].contains(&instance) { 0 } else { 7 })?;
        }
        // One by one they would be twelve.
        assert!((2..8).contains(&changes), "{changes} transactions");
        lab.progress().say(format!("{vip}: {changes} transactions"));
        for instance in [1, 2] {
            agent.call(node, "stop", instance)?.expect(0);
        }
        assert_eq!(node.run(&["nft", "list", "ruleset"])?, "");
    }
    assert_eq!(locked(node)?, "");
    Ok(())
}
