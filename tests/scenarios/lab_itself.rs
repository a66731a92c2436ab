//! The lab tested with itself: what every other scenario takes for granted.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use lab::{Context, HoldOptions, Lab, NodeOptions, Pace, ProbeKind, Result, Serve, wait_until};

const EVERYTHING: [Serve; 2] = [Serve::Tcp(7000), Serve::Udp(7000)];

fn targets(node: &lab::Node) -> [SocketAddr; 2] {
    [(node.v4(), 7000).into(), (node.v6(), 7000).into()]
}

/// Nodes `n1` and `n2`, both with the same extra addresses, so that both answer to them.
fn two_nodes_that_both_answer(lab: &Lab) -> Result<[IpAddr; 2]> {
    for name in ["n1", "n2"] {
        let node = lab.node(name)?;
        node.serve(&EVERYTHING)?;
        node.run(&["ip", "addr", "add", "10.77.0.100/32", "dev", "eth0"])?;
        node.run(&["ip", "addr", "add", "fd77::100/128", "dev", "eth0", "nodad"])?;
    }
    Ok(["10.77.0.100".parse().unwrap(), "fd77::100".parse().unwrap()])
}

#[test]
fn every_kind_of_traffic_reaches_the_node_it_is_sent_to() -> Result<()> {
    let lab = Lab::new("traffic")?;
    let c1 = lab.client("c1")?;
    for name in ["n1", "n2"] {
        let node = lab.node(name)?;
        node.serve(&EVERYTHING)?;
        for target in targets(&node) {
            let sources = c1.sources_for(target.ip(), 200);
            let witness = c1.witness(&[target.ip()])?;
            let large = Pace {
                size: 20_000,
                ..Pace::default()
            };
            for report in [
                c1.tcp(target, sources.clone(), Pace::default())?,
                c1.udp(target, sources.clone(), Pace::default())?,
                c1.udp(target, sources[..20].to_vec(), large)?,
                c1.ping(target.ip(), sources.clone(), Pace::default())?,
            ] {
                report.expect_all_answered()?;
                assert_eq!(report.by_node().keys().collect::<Vec<_>>(), [name]);
            }
            let seen = witness.finish()?;
            seen.expect_no_double_answers()?;
            assert_eq!(
                seen.by_mac().keys().collect::<Vec<_>>(),
                [&lab.mac_of(name)?]
            );
            // Three frames at least a connection, one a datagram, one an echo.
            assert!(
                seen.frames.len() >= 200 * 3 + 220 + 200,
                "{} frames",
                seen.frames.len()
            );
        }
    }
    Ok(())
}

#[test]
fn chosen_ports_are_used_and_failures_are_told_apart() -> Result<()> {
    let lab = Lab::new("failures")?;
    let (n1, c1) = (lab.node("n1")?, lab.client("c1")?);
    n1.serve(&EVERYTHING)?;
    let source = c1.sources_v4(1)[0];
    let ports = (20_000..20_050).map(|port| (source, port));
    let report = c1.tcp(targets(&n1)[0], ports.clone(), Pace::default())?;
    report.expect_all_answered()?;
    assert!(
        report
            .flows
            .iter()
            .all(|flow| (20_000..20_050).contains(&flow.sport))
    );

    let again = Pace {
        abort: true,
        ..Pace::default()
    };
    for _ in 0..3 {
        let others = (30_000..30_050).map(|port| (source, port));
        c1.tcp(targets(&n1)[0], others, again)?
            .expect_all_answered()?;
    }

    let closed = (n1.v4(), 9).into();
    for report in [
        c1.tcp(closed, [source], Pace::default())?,
        c1.udp(closed, [source], Pace::default())?,
    ] {
        assert_eq!(report.failures()[0].outcome, Err(lab::Failure::Refused));
    }
    n1.exec(&["nft", "-f", "-"])
        .stdin("table inet t { chain c { type filter hook input priority 0; meta l4proto { tcp, udp, icmp } drop; }; }")
        .run()?;
    let hasty = Pace {
        timeout: Duration::from_millis(200),
        ..Pace::default()
    };
    for report in [
        c1.tcp(targets(&n1)[0], [source], hasty)?,
        c1.udp(targets(&n1)[0], [source], hasty)?,
        c1.ping(n1.v4().into(), [source], hasty)?,
    ] {
        assert_eq!(report.failures()[0].outcome, Err(lab::Failure::Timeout));
    }
    Ok(())
}

#[test]
fn the_witness_sees_two_nodes_answering_one_client() -> Result<()> {
    let lab = Lab::new("witness")?;
    let c1 = lab.client("c1")?;
    let vips = two_nodes_that_both_answer(&lab)?;
    // One multicast MAC for both nodes, which is what a cluster address does, without any rules.
    c1.run(&[
        "ip",
        "neigh",
        "add",
        "10.77.0.100",
        "lladdr",
        "01:00:5e:7f:00:64",
        "dev",
        "eth0",
    ])?;
    c1.run(&[
        "ip",
        "neigh",
        "add",
        "fd77::100",
        "lladdr",
        "33:33:00:00:00:01",
        "dev",
        "eth0",
    ])?;
    for vip in vips {
        let witness = c1.witness(&[vip])?;
        let sources = c1.sources_for(vip, 20);
        c1.ping(vip, sources.clone(), Pace::default())?
            .expect_all_answered()?;
        c1.udp((vip, 7000).into(), sources, Pace::default())?
            .expect_all_answered()?;
        // The slower node's last answer may still be on its way when the faster one's has come.
        lab.wait_until("both nodes' answers", Duration::from_secs(5), || {
            Some(witness.frames())
                .filter(|frames| *frames >= 80)
                .ok_or(witness.frames())
        })?;
        let seen = witness.finish()?;
        let doubles = seen.double_answers();
        assert_eq!(doubles.len(), 40, "{vip}");
        assert!(
            doubles.iter().all(|double| double.answered_by.len() == 2),
            "{doubles:?}"
        );
        assert_eq!(seen.by_node().keys().collect::<Vec<_>>(), ["n1", "n2"]);
        assert!(seen.expect_no_double_answers().is_err());
    }
    Ok(())
}

#[test]
fn held_connections_and_probes_feel_a_pulled_cable() -> Result<()> {
    let lab = Lab::new("cable")?;
    let (n1, c1) = (lab.node("n1")?, lab.client("c1")?);
    n1.serve(&EVERYTHING)?;
    let target = targets(&n1)[0];
    let options = HoldOptions {
        timeout: Duration::from_millis(700),
        ..HoldOptions::default()
    };
    let held = c1.hold(target, c1.sources_v4(20), options)?;
    let probe = c1.probe(
        ProbeKind::Udp,
        target,
        c1.sources_v4(3),
        Duration::from_millis(20),
        Duration::from_millis(300),
    )?;
    let patience = Duration::from_secs(10);
    lab.wait_until("100 exchanges", patience, || held.exchanges() >= 100)?;
    assert_eq!(held.lost(), 0);

    lab.cable("n1", false)?;
    lab.wait_until("the loss of all held connections", patience, || {
        held.lost() == 20
    })?;
    lab.cable("n1", true)?;
    c1.tcp(target, c1.sources_v4(5), Pace::default())?
        .expect_all_answered()?;

    let report = held.stop()?;
    assert!(report.exchanges() >= 100);
    assert!(report.expect_none_lost().is_err());
    let timeline = probe.stop()?;
    assert_eq!(timeline.outages().len(), 3, "every source felt it");
    assert!(
        timeline.longest_outage() >= Duration::from_millis(400),
        "{:?}",
        timeline.outages()
    );
    assert_eq!(timeline.owners(c1.sources_v4(1)[0]).len(), 1);
    Ok(())
}

#[test]
fn connections_stay_open_when_nothing_happens() -> Result<()> {
    let lab = Lab::new("hold")?;
    let (n1, c1) = (lab.node("n1")?, lab.client("c1")?);
    n1.serve(&EVERYTHING)?;
    for target in targets(&n1) {
        let sources = c1.sources_for(target.ip(), 50);
        let held = c1.hold(target, sources, HoldOptions::default())?;
        lab.wait_until("500 exchanges", Duration::from_secs(20), || {
            held.exchanges() >= 500
        })?;
        let report = held.stop()?;
        report.expect_none_lost()?;
        assert!(
            report
                .flows
                .iter()
                .all(|flow| flow.answers.keys().eq(["n1"]))
        );
    }
    Ok(())
}

#[test]
fn macvlan_filters_frames_by_their_mac_and_veth_does_not() -> Result<()> {
    let lab = Lab::new("macvlan")?;
    let n1 = lab.node_with("n1", NodeOptions { macvlan: true })?;
    let (n2, c1) = (lab.node("n2")?, lab.client("c1")?);
    // The filter has 256 bits, chosen by a hash that is another one for every macvlan: some MACs pass by chance.
    let macs = [
        "01:00:5e:7f:12:34",
        "01:00:5e:01:02:03",
        "01:00:5e:55:aa:00",
    ];
    let hasty = Pace {
        timeout: Duration::from_millis(300),
        ..Pace::default()
    };
    for (node, filters) in [(&n1, true), (&n2, false)] {
        node.serve(&EVERYTHING)?;
        for target in targets(node) {
            c1.udp(target, c1.sources_for(target.ip(), 5), Pace::default())?
                .expect_all_answered()?;
        }
        let ping = |pace| c1.ping(node.v4().into(), c1.sources_v4(3), pace);
        let mut stopped = None;
        for mac in macs {
            let address = node.v4().to_string();
            let line = format!("ip neigh replace {address} lladdr {mac} dev eth0 nud permanent");
            c1.run(&line.split(' ').collect::<Vec<_>>())?;
            if !filters {
                ping(Pace::default())?.expect_all_answered()?;
                continue;
            }
            // Twice, for a busy machine is late.
            let is_stopped = || Ok::<bool, lab::Error>(ping(hasty)?.failures().len() == 3);
            if is_stopped()? && is_stopped()? {
                stopped = Some(mac);
                break;
            }
        }
        if filters {
            let mac = stopped.context("all of the MACs have passed the filter")?;
            node.run(&["ip", "maddr", "add", mac, "dev", "eth0"])?;
            ping(Pace::default())?.expect_all_answered()?;
        }
    }
    Ok(())
}

#[test]
fn programs_get_environment_and_input_and_their_errors_are_told() -> Result<()> {
    let lab = Lab::new("exec")?;
    let n1 = lab.node("n1")?;
    let said = n1
        .exec(&["sh", "-c", "echo $GREETING; cat"])
        .env("GREETING", "hello")
        .stdin("world")
        .run()?;
    assert_eq!(said, "hello\nworld");
    let error = n1
        .run(&["sh", "-c", "echo sorry >&2; exit 3"])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("sorry") && error.contains("exit status: 3"),
        "{error}"
    );
    assert_eq!(n1.output(&["false"])?.status.code(), Some(1));
    let late = n1
        .exec(&["sleep", "100"])
        .deadline(Duration::from_millis(100))
        .run()
        .unwrap_err();
    assert!(late.to_string().contains("killed"), "{late}");
    let missing = n1.run(&["no-such-program"]).unwrap_err().to_string();
    assert!(missing.contains("no-such-program"), "{missing}");
    assert_eq!(
        n1.within(|| std::fs::read_to_string("/proc/thread-self/net/dev"))?
            .unwrap()
            .lines()
            .count(),
        4
    );
    Ok(())
}

#[test]
fn labs_do_not_meet_and_leave_nothing_behind() -> Result<()> {
    let labs = [Lab::new("one")?, Lab::new("two")?];
    let mut pids = Vec::new();
    for lab in &labs {
        let (n1, c1) = (lab.node("n1")?, lab.client("c1")?);
        n1.serve(&EVERYTHING)?;
        pids.push(n1.spawn(&["sleep", "1000"])?.pid());
        c1.tcp(targets(&n1)[0], c1.sources_v4(5), Pace::default())?
            .expect_all_answered()?;
        pids.extend(lab.holders());
    }
    assert_eq!(pids.len(), 2 * 4);
    drop(labs);
    for pid in pids {
        wait_until("a process's end", Duration::from_secs(5), || {
            !Path::new(&format!("/proc/{pid}")).exists()
        })?;
    }
    Ok(())
}

#[test]
fn aborted_connections_whose_resets_are_lost_leave_stale_sockets() -> Result<()> {
    let lab = Lab::new("stale")?;
    let (n1, c1) = (lab.node("n1")?, lab.client("c1")?);
    n1.serve(&EVERYTHING)?;
    let established = || {
        n1.run(&["ss", "-Htn", "state", "established"])
            .map(|text| text.lines().count())
    };
    for (resets_leave, expected) in [(true, 0), (false, 10)] {
        let held = c1.hold(targets(&n1)[0], c1.sources_v4(10), HoldOptions::default())?;
        assert_eq!(established()?, 10);
        if !resets_leave {
            c1.exec(&["nft", "-f", "-"])
                .stdin("table inet t { chain c { type filter hook output priority 0; tcp flags rst drop; }; }")
                .run()?;
        }
        held.abort()?.expect_none_lost()?;
        lab.wait_until("the sockets' state", Duration::from_secs(5), || {
            established()
                .map(|count| count == expected)
                .unwrap_or(false)
        })?;
    }
    Ok(())
}
