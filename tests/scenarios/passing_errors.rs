//! Errors of the kernel's that pass end no action: each one once, at each system call that may meet it.

use crate::kernel_support::in_guest;
use crate::product::*;
use lab::{Context, Error, HoldOptions, Lab, Node, Pace, Result};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const BUCKETS: u16 = 4;

/// Which errors come from which system calls, where memory, files or room are short, or a signal comes.
const ERRORS: [(&str, &[&str]); 4] = [
    ("ENOBUFS", &["sendto", "sendmsg", "recvfrom", "recvmsg"]),
    ("ENOMEM", &["sendto", "socket", "openat", "recvfrom"]),
    (
        "EINTR",
        &[
            "sendto", "sendmsg", "recvfrom", "recvmsg", "openat", "read", "ioctl", "flock", "poll",
        ],
    ),
    ("EMFILE", &["socket", "openat"]),
];

/// Of which system calls all are tried: those that there are few of, each for a thing of its own.
const FEW: usize = 12;

/// Every how manyth is tried, of some thousands; more of them in `make test-full`, fewer in an emulated machine.
fn stride() -> usize {
    match std::env::var_os("EVERY_SYSCALL") {
        Some(_) => 3,
        None if in_guest() => 127,
        None => 61,
    }
}

fn traced(
    agent: &Agent,
    node: &Node,
    (action, instance): (&str, u32),
    how: &[&str],
) -> Result<Answer> {
    let strace = [&["strace", "-qq"], how].concat();
    agent.call_behind(&strace, node, action, instance)
}

/// How often the action makes each system call before and in all: what comes before is the loader's.
fn calls(
    agent: &Agent,
    node: &Node,
    action: (&str, u32),
) -> Result<BTreeMap<String, (usize, usize)>> {
    // What the agent says itself has no parenthesis behind its first word.
    let text = traced(agent, node, action, &[])?.expect(0).stderr;
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    // The first that Rust's runtime does is to poll its standard files.
    let mut loads = true;
    for line in text.lines() {
        let Some((name, _)) = line.split_once('(') else {
            continue;
        };
        loads &= name != "poll";
        let (before, all) = counts.entry(name.to_owned()).or_default();
        *all += 1;
        if loads {
            *before = *all;
        }
    }
    match loads {
        true => Err(Error::new(format!("no poll in {text}"))),
        false => Ok(counts),
    }
}

/// Tries them all; `prepare` brings the node to where the action has something to do, `check` says whether it did.
fn try_all(
    agent: &Agent,
    node: &Node,
    action: (&str, u32),
    prepare: impl Fn() -> Result<()>,
    check: impl Fn() -> Result<()>,
) -> Result<usize> {
    prepare()?;
    let counts = calls(agent, node, action)?;
    let mut tried = 0;
    for (error, names) in ERRORS {
        for name in names {
            let (before, all) = counts.get(*name).copied().unwrap_or_default();
            let stride = if all - before > FEW { stride() } else { 1 };
            for n in (before + 1..=all).step_by(stride) {
                prepare()?;
                let inject = format!("inject={name}:error={error}:when={n}");
                let answer = traced(agent, node, action, &["-o", "/dev/null", "-e", &inject])?;
                assert_eq!(
                    answer.code, 0,
                    "{action:?}, {error} at {name} {n} of {all}: {}",
                    answer.stderr
                );
                check().context(format!("{action:?}, {error} at {name} {n} of {all}"))?;
                let cuts = answer.stderr.contains("are cut");
                assert!(!cuts, "{error} at {name} {n} of {all}: {}", answer.stderr);
                tried += 1;
            }
        }
    }
    Ok(tried)
}

#[test]
fn no_error_that_passes_ends_an_action() -> Result<()> {
    let lab = Lab::new("passing")?;
    let node = lab.node("n1")?;
    let mut tried = 0;
    for (vip, drain_timeout) in [(V4, "0"), (V6, "60")] {
        let agent = Agent::new(vip, BUCKETS)
            .with("arp_count", "0")
            .with("drain_timeout", drain_timeout);
        let up = || agent.start(&node, 1);
        let down = || {
            agent.call(&node, "stop", 1)?.expect(0);
            Ok(())
        };
        let here = |code| {
            agent
                .call(&node, "monitor", 1)
                .map(|call| drop(call.expect(code)))
        };
        tried += try_all(&agent, &node, ("start", 1), down, || here(0))?;
        tried += try_all(&agent, &node, ("monitor", 1), up, || here(0))?;
        tried += try_all(&agent, &node, ("stop", 1), up, || here(7))?;
        down()?;
        assert_eq!(node.run(&["nft", "list", "ruleset"])?, "");
        assert!(!node.run(&["ip", "addr"])?.contains(vip));
    }
    lab.progress().say(format!("{tried} errors"));
    assert!(tried * stride() > 500, "{tried}");
    Ok(())
}

/// Who holds the lock for ever keeps no stop from making its bucket foreign.
#[test]
fn a_stop_that_never_gets_the_lock_cuts_what_it_is_to_stop() -> Result<()> {
    let lab = Lab::new("no-lock")?;
    let client = lab.client("c1")?;
    let node = &serving(&lab, &["n1"])?[0];
    for (vip, drain_timeout) in [(V4, "0"), (V6, "60")] {
        let agent = Agent::new(vip, 2).with("drain_timeout", drain_timeout);
        let late = agent.clone().meta("timeout", "2000");
        for instance in [0, 1] {
            agent.start(node, instance)?;
        }
        let target = SocketAddr::new(ip(vip), PORT);
        let options = HoldOptions::default();
        let flows = client
            .sources_for(ip(vip), 20)
            .into_iter()
            .map(|source| (source, 20_000));
        let held = client.hold(target, flows.collect::<Vec<_>>(), options)?;
        let lock = hold_lock(node)?;
        for instance in [0, 1] {
            let answer = late.call(node, "stop", instance)?.expect(0);
            assert!(
                answer.stderr.contains("are cut: waited"),
                "{}",
                answer.stderr
            );
            agent.call(node, "monitor", instance)?.expect(7);
        }
        // Nothing is answered any more.
        let flows = client.sources_for(ip(vip), 20).into_iter().zip(30_000..);
        let pace = Pace {
            timeout: Duration::from_millis(60),
            ..Pace::default()
        };
        let report = client.udp(target, flows, pace)?;
        assert_eq!(report.answered().len(), 0);
        drop(held);
        drop(lock);
        wait_until_gone(&lab, node, vip)?;
    }
    Ok(())
}
