//! Actions that are interrupted, and actions that run all at once.

use crate::kernel_support::in_guest;
use crate::product::*;
use clusterip::model::hash::{HashMode, Layout};
use clusterip::model::seed::derived_seed;
use lab::{Client, Context, HoldOptions, Lab, Node, Pace, Result};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

const BUCKETS: u16 = 6;

/// Every how manyth system call is tried. All of them take minutes: `make test-full` does. In an emulated machine every
/// fifth one takes the better part of an hour.
fn stride() -> usize {
    match std::env::var_os("EVERY_SYSCALL") {
        Some(_) => 1,
        None if in_guest() => 31,
        None => 5,
    }
}

/// The action, killed when it enters its n-th system call; whether it got that far.
fn killed_at(agent: &Agent, node: &Node, action: &str, instance: u32, n: usize) -> Result<bool> {
    let inject = format!("inject=all:signal=KILL:when={n}");
    let strace = ["strace", "-qq", "-o", "/dev/null", "-e", &inject];
    Ok(agent.call_behind(&strace, node, action, instance)?.code != 0)
}

/// The client keeps the cluster MAC, whatever it is told.
fn remember_mac(client: &Client) -> Result<()> {
    for (vip, mac) in [(V4, "01:00:5e:7f:00:63"), (V6, "33:33:ff:00:00:99")] {
        client.run(&[
            "ip",
            "neigh",
            "replace",
            vip,
            "lladdr",
            mac,
            "dev",
            "eth0",
            "nud",
            "permanent",
        ])?;
    }
    Ok(())
}

/// Sends requests in all buckets. No node may answer in a bucket that is not among its own.
fn check_nobody_answers_for_others(
    client: &Client,
    vip: &str,
    allowed: &[(&str, BTreeSet<u16>)],
) -> Result<()> {
    let hasher = hasher(
        HashMode::default(),
        Layout::default(),
        derived_seed(ip(vip)),
    );
    let target = SocketAddr::new(ip(vip), PORT);
    let sources = client.sources_for(ip(vip), 40);
    let flows = sources.iter().zip(30_000..).map(|(s, p)| (*s, p));
    let witness = client.witness(&[ip(vip)])?;
    // Most of the buckets are answered by nobody, which is not worth waiting for.
    let pace = Pace {
        timeout: Duration::from_millis(60),
        ..Pace::default()
    };
    let report = client.udp(target, flows, pace)?;
    for (flow, node) in report.answered() {
        let flow = flow_from(flow.src, flow.sport);
        let bucket = hasher.bucket(&flow, BUCKETS);
        let own = allowed.iter().find(|(name, _)| *name == node);
        assert!(
            own.is_some_and(|(_, own)| own.contains(&bucket)),
            "{node} answered in bucket {bucket}"
        );
    }
    witness.finish()?.expect_no_double_answers()
}

#[test]
fn an_agent_killed_at_any_system_call_opens_nothing_and_is_repaired() -> Result<()> {
    let lab = Lab::new("killed")?;
    let client = lab.client("c1")?;
    let (n1, n2) = (lab.node("n1")?, lab.node("n2")?);
    n1.serve(&SERVICES)?;
    n2.serve(&SERVICES)?;
    remember_mac(&client)?;
    let mut tried = 0;
    for vip in [V4, V6] {
        let agent = Agent::new(vip, BUCKETS).with("arp_count", "0");
        for instance in [0, 2, 4] {
            agent.start(&n1, instance)?;
        }
        let allowed = [
            ("n1", BTreeSet::from([0, 2, 4])),
            ("n2", BTreeSet::from([1])),
        ];
        let empty = n2.run(&["nft", "list", "ruleset"])?;
        for n in (1..).step_by(stride()) {
            let mut still_going = killed_at(&agent, &n2, "start", 1, n)?;
            check_nobody_answers_for_others(&client, vip, &allowed)?;
            agent.start(&n2, 1)?;
            agent.call(&n2, "monitor", 1)?.expect(0);

            still_going |= killed_at(&agent, &n2, "stop", 1, n)?;
            check_nobody_answers_for_others(&client, vip, &allowed)?;
            agent.call(&n2, "stop", 1)?.expect(0);
            agent.call(&n2, "monitor", 1)?.expect(7);
            assert_eq!(n2.run(&["nft", "list", "ruleset"])?, empty);
            assert!(!n2.run(&["ip", "addr"])?.contains(vip));
            tried += 1;
            if !still_going {
                break;
            }
        }
    }
    // A start has some two hundred system calls; fewer tries would mean that nothing was killed.
    assert!(tried * stride() > 200, "{tried}");
    Ok(())
}

/// Connections of a bucket that leaves and comes back, again and again, by actions that are killed on
/// their way and then run again, as Pacemaker does after a time-out without fencing.
#[test]
fn an_agent_killed_at_any_system_call_of_a_move_cuts_no_connection() -> Result<()> {
    let lab = Lab::new("killed-move")?;
    let client = lab.client("c1")?;
    let node = lab.node("n1")?;
    node.serve(&SERVICES)?;
    remember_mac(&client)?;
    for vip in [V4, V6] {
        let agent = Agent::new(vip, BUCKETS)
            .with("arp_count", "0")
            .with("drain_timeout", "60");
        agent.start(&node, 1)?;
        let hasher = hasher(
            Default::default(),
            Default::default(),
            derived_seed(ip(vip)),
        );
        let flows = client.sources_for(ip(vip), 60).into_iter().zip(30_000..);
        let flows: Vec<_> = flows
            .filter(|(source, port)| hasher.bucket(&flow_from(*source, *port), BUCKETS) == 1)
            .collect();
        let options = HoldOptions {
            interval: Duration::from_millis(10),
            ..HoldOptions::default()
        };
        let held = client.hold(SocketAddr::new(ip(vip), PORT), flows, options)?;
        let go_on = || {
            let enough = held.exchanges() + 20;
            lab.wait_until("answers", Duration::from_secs(20), || {
                match (held.lost(), held.exchanges()) {
                    (0, now) if now >= enough => Ok(()),
                    (lost, now) => Err(format!("{lost} lost, {now} answers")),
                }
            })
        };
        for n in (1..).step_by(stride()) {
            let at = |what: &str| format!("{vip}, {what} at system call {n}");
            let mut still_going = killed_at(&agent, &node, "stop", 1, n)?;
            go_on().context(at("a stop killed"))?;
            agent.call(&node, "stop", 1)?.expect(0);
            agent.call(&node, "monitor", 1)?.expect(7);
            go_on().context(at("after a stop killed"))?;
            still_going |= killed_at(&agent, &node, "start", 1, n)?;
            go_on().context(at("a start killed"))?;
            agent.start(&node, 1)?;
            agent.call(&node, "monitor", 1)?.expect(0);
            if !still_going {
                break;
            }
        }
        held.stop()?.expect_none_lost()?;
        agent.call(&node, "stop", 1)?.expect(0);
        wait_until_gone(&lab, &node, vip)?;
    }
    Ok(())
}

#[test]
fn twelve_instances_start_and_stop_at_once() -> Result<()> {
    let lab = Lab::new("at-once")?;
    let node = lab.node("n1")?;
    let agents = [Agent::new(V4, 12), Agent::new(V6, 12)];
    // Somebody else changes rules all the time.
    let busy = node.spawn(&[
        "sh",
        "-c",
        "while :; do nft add table inet busy; nft delete table inet busy; done",
    ])?;
    for (action, owned) in [("start", 12), ("stop", 0)] {
        std::thread::scope(|scope| {
            let calls: Vec<_> = (0..24)
                .map(|n| {
                    let (agent, node) = (&agents[n % 2], &node);
                    scope.spawn(move || agent.call(node, action, (n / 2) as u32))
                })
                .collect();
            for call in calls {
                call.join().expect("no panic").expect("an answer").expect(0);
            }
        });
        let vips = status(&node)?["vips"].clone();
        let vips = vips.as_array().expect("a list");
        assert_eq!(vips.len(), if owned > 0 { 2 } else { 0 });
        for vip in vips {
            assert_eq!(vip["owned"].as_array().expect("a list").len(), owned);
            assert_eq!(vip["healthy"], true, "{}", vip["drift"]);
        }
    }
    drop(busy);
    Ok(())
}

#[test]
fn sixteen_vips_start_with_all_their_instances_at_once() -> Result<()> {
    let lab = Lab::new("sixteen")?;
    let node = lab.node("n1")?;
    let agents: Vec<_> = (1..=16)
        .map(|n| Agent::new(&format!("10.77.0.{}", 100 + n), 4).with("arp_count", "0"))
        .collect();
    std::thread::scope(|scope| {
        let calls: Vec<_> = agents
            .iter()
            .flat_map(|agent| (0..4).map(move |n| (agent, n)))
            .map(|(agent, n)| {
                let node = &node;
                scope.spawn(move || agent.call(node, "start", n))
            })
            .collect();
        for call in calls {
            call.join().expect("no panic").expect("an answer").expect(0);
        }
    });
    let vips = status(&node)?["vips"].clone();
    let vips = vips.as_array().expect("a list");
    assert_eq!(vips.len(), 16);
    for vip in vips {
        assert_eq!(vip["owned"].as_array().expect("a list").len(), 4);
        assert_eq!(vip["healthy"], true, "{}", vip["drift"]);
    }
    for agent in &agents {
        for n in 0..4 {
            agent.call(&node, "stop", n)?.expect(0);
        }
    }
    assert_eq!(node.run(&["nft", "list", "ruleset"])?, "");
    Ok(())
}
