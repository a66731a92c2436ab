//! Two nodes must never hash differently: a node that comes asks whether the others agree.

use crate::product::*;
use lab::{Lab, Result};

/// nodectl's answer to a description that others on the link do not share.
const DATA: i32 = 65;

#[test]
fn a_node_with_another_description_is_kept_out() -> Result<()> {
    let lab = Lab::new("disagree")?;
    let (n1, n2) = (lab.node("n1")?, lab.node("n2")?);
    for vip in [V4, V6] {
        nodectl(
            &n1,
            &["up", vip, "--buckets", "12", "--own", "0-5", "--seed", "1"],
        )?;
        let before = n2.run(&["ip", "addr"])?;
        for other in [
            [
                "--buckets",
                "6",
                "--seed",
                "1",
                "--hash",
                "sourceip-sourceport",
            ],
            [
                "--buckets",
                "12",
                "--seed",
                "2",
                "--hash",
                "sourceip-sourceport",
            ],
            ["--buckets", "12", "--seed", "1", "--hash", "sourceip"],
        ] {
            let args = [&["up", vip, "--own", "1"], &other[..]].concat();
            let (code, said) = nodectl_fails(&n2, &args)?;
            assert_eq!(code, DATA, "{said}");
            assert!(said.contains("stop the clone first"), "{said}");
            assert!(said.contains(&lab.mac_of("n1")?.to_string()), "{said}");
            assert_eq!(n2.run(&["nft", "list", "ruleset"])?, "");
            assert_eq!(n2.run(&["ip", "addr"])?, before);
        }
        nodectl(
            &n2,
            &["up", vip, "--buckets", "12", "--own", "6-11", "--seed", "1"],
        )?;
        nodectl(&n2, &["down", vip])?;
        // By force it is its user's affair.
        nodectl(
            &n2,
            &["up", vip, "--buckets", "6", "--seed", "1", "--force"],
        )?;
        nodectl(&n2, &["down", vip])?;
        // Once the others have gone, anything goes.
        nodectl(&n1, &["down", vip])?;
        nodectl(&n2, &["up", vip, "--buckets", "6"])?;
        nodectl(&n2, &["down", vip])?;
    }
    Ok(())
}

#[test]
fn a_stranger_who_has_the_address_is_warned_of() -> Result<()> {
    let lab = Lab::new("stranger")?;
    let (n1, stranger) = (lab.node("n1")?, lab.node("n2")?);
    stranger.run(&["ip", "addr", "add", "10.77.0.99/24", "dev", "eth0"])?;
    stranger.run(&["ip", "addr", "add", "fd77::99/64", "dev", "eth0", "nodad"])?;
    let his = lab.mac_of("n2")?.to_string();
    for vip in [V4, V6] {
        let agent = Agent::new(vip, 12);
        let answer = agent.call(&n1, "start", 0)?.expect(0);
        let warned = |line: &str| line.starts_with("WARNING") && line.contains(&his);
        assert!(answer.stderr.lines().any(warned), "{}", answer.stderr);
        agent.call(&n1, "stop", 0)?.expect(0);
        let unasked = agent.with("conflict_detection", "false");
        let answer = unasked.call(&n1, "start", 0)?.expect(0);
        assert!(!answer.stderr.contains("WARNING"), "{}", answer.stderr);
        unasked.call(&n1, "stop", 0)?.expect(0);
    }
    Ok(())
}

#[test]
fn the_agent_waits_a_while_and_then_says_what_to_do() -> Result<()> {
    let lab = Lab::new("patience")?;
    let (n1, n2) = (lab.node("n1")?, lab.node("n2")?);
    for vip in [V4, V6] {
        Agent::new(vip, 6).start(&n2, 0)?;
        let agent = Agent::new(vip, 12).meta("timeout", "1500");
        let answer = agent.call(&n1, "start", 0)?.expect(1);
        let reason = answer.reason();
        assert!(reason.starts_with("stop the clone first"), "{reason}");
        assert!(reason.len() <= 128, "crm_mon would cut it off: {reason}");
        assert_eq!(n1.run(&["nft", "list", "ruleset"])?, "");
        agent.with("conflict_detection", "false").start(&n1, 0)?;
        agent_stops(&n1, vip)?;
    }
    Ok(())
}

fn agent_stops(node: &lab::Node, vip: &str) -> Result<()> {
    Agent::new(vip, 12).call(node, "stop", 0)?.expect(0);
    Ok(())
}

#[test]
fn a_start_waits_for_who_is_just_leaving() -> Result<()> {
    let lab = Lab::new("leaving")?;
    let (n1, n2) = (lab.node("n1")?, lab.node("n2")?);
    for vip in [V4, V6] {
        nodectl(&n2, &["up", vip, "--buckets", "6", "--own", "0"])?;
        let agent = Agent::new(vip, 12);
        std::thread::scope(|scope| {
            let start = scope.spawn(|| agent.call(&n1, "start", 0));
            // It asks again and again, so one of its questions is counted.
            let rules = format!(
                "table netdev watch {{ chain in {{ type filter hook ingress device eth0 priority 0; \
                 ether saddr {} counter; }}; }}",
                lab.mac_of("n1")?
            );
            n2.exec(&["nft", "-f", "-"]).stdin(rules).run()?;
            lab.wait_until("n1 asks", std::time::Duration::from_secs(5), || {
                let listed = n2.run(&["nft", "list", "table", "netdev", "watch"]);
                listed.is_ok_and(|listed| !listed.contains("packets 0 "))
            })?;
            n2.run(&["nft", "delete", "table", "netdev", "watch"])?;
            assert!(!start.is_finished());
            nodectl(&n2, &["down", vip])?;
            start.join().expect("no panic")?.expect(0);
            Ok::<_, lab::Error>(())
        })?;
        let answer = agent.call(&n1, "monitor", 0)?.expect(0);
        assert_eq!(answer.reason(), "");
    }
    Ok(())
}
