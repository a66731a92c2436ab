//! How all nodes get to see the packets: the modes beside `multicast`, with real switches between the nodes.

use crate::draining_support::*;
use crate::kernel_support::ip_lines;
use crate::product::*;
use crate::sharing::*;
use crate::switch_support::{snoop, wait_for_silence};
use lab::{Error, HoldOptions, Lab, NodeOptions, Pace, Result};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// The cluster MACs of both VIPs in the mode `stealth`.
const UNLEARNT: [&str; 2] = ["02:bf:0a:4d:00:63", "02:bf:00:00:00:99"];
const GROUP: &str = "239.255.0.99";

/// For how many seconds connections may stay: as long as a scenario takes, on a slow machine too.
fn stay_s() -> String {
    lab::wait::patient(Duration::from_secs(60))
        .as_secs()
        .to_string()
}

/// Both VIPs in a mode, with connections that may stay.
fn scene(name: &str, mode: &str) -> Result<Scene> {
    let mut scene = Scene::prepare(name, &stay_s())?;
    for agent in &mut scene.sharing.agents {
        *agent = agent.clone().with("mode", mode);
    }
    Ok(scene)
}

/// What the switch has learnt, or was told.
fn learnt(lab: &Lab) -> Result<String> {
    lab.switch(&["bridge", "fdb", "show"])
}

/// The switch has never seen a frame from either cluster MAC.
fn expect_unlearnt(lab: &Lab) -> Result<()> {
    let table = learnt(lab)?;
    match UNLEARNT.iter().find(|mac| table.contains(**mac)) {
        None => Ok(()),
        Some(mac) => Err(Error::new(format!("{mac} was learnt: {table}"))),
    }
}

#[test]
fn where_a_bridge_snoops_multicast_is_dead_and_stealth_is_shared_and_never_learnt() -> Result<()> {
    let mut scene = scene("snooping", "stealth")?;
    snoop(&scene.lab)?;
    // A bridge with a querier sends what is for no group that it knows to nobody.
    let multicast = [V4, V6].map(|vip| agent(vip).with("drain_timeout", &stay_s()));
    let stealth = std::mem::replace(&mut scene.sharing.agents, multicast);
    scene.start()?;
    for vip in [V4, V6] {
        wait_for_silence(&scene.lab, &scene.client, vip)?;
    }
    for agent in &scene.sharing.agents {
        scene.sharing.stop(agent)?;
    }
    scene.sharing.agents = stealth;
    scene.client.run(&["ip", "neigh", "flush", "all"])?;
    scene.start()?;
    for vip in [V4, V6] {
        expect_shared(&scene.client, &scene.sharing, vip)?;
    }
    expect_unlearnt(&scene.lab)?;
    // Connections that stay, moves, and neighbours that ask again: by unicast, which goes to the cluster MAC.
    let witness = scene.client.witness(&vips())?;
    let held = scene.hold()?;
    scene.go_on(&held)?;
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        scene.move_all(from, to)?;
        scene.go_on(&held)?;
        expect_unlearnt(&scene.lab)?;
    }
    for (node, own) in scene.sharing.nodes.iter().zip(NODES) {
        assert_eq!(node.name(), own);
        node.run(&["ip", "neigh", "flush", "all"])?;
    }
    let target = |vip| SocketAddr::new(ip(vip), PORT);
    for vip in [V4, V6] {
        let sources = scene.client.sources_for(ip(vip), 500);
        let report = scene.client.tcp(target(vip), sources, Pace::default())?;
        report.expect_all_answered()?;
    }
    for one in held {
        one.stop()?.expect_none_lost()?;
    }
    let seen = witness.finish()?;
    seen.expect_no_double_answers()?;
    let senders: BTreeSet<String> = seen.by_mac().keys().map(|mac| seen.name(*mac)).collect();
    let nodes: BTreeSet<String> = NODES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(senders, nodes, "nothing leaves from a cluster MAC");
    // A node that dies has nothing to unlearn.
    scene.lab.cable("n3", false)?;
    for instance in instances(2) {
        for agent in &scene.sharing.agents {
            agent.start(scene.node(0), instance)?;
        }
    }
    expect_unlearnt(&scene.lab)?;
    Ok(())
}

#[test]
fn a_neighbour_that_asks_by_unicast_is_told_and_a_node_that_asks_from_the_vip_hears_the_answer()
-> Result<()> {
    let scene = scene("asking", "stealth")?;
    scene.start()?;
    for (vip, mac) in [V4, V6].into_iter().zip(UNLEARNT) {
        // A probe by unicast, as the kernel sends it before it gives an entry up.
        scene
            .client
            .sysctl("net.ipv4.neigh.eth0.delay_first_probe_time", 1)?;
        let probe = format!("neigh replace {vip} lladdr {mac} nud probe dev eth0\n");
        ip_lines(&scene.client, &probe)?;
        let reachable = || -> Result<bool> {
            let shown = scene.client.run(&["ip", "neigh", "show", "to", vip])?;
            Ok(shown.contains("REACHABLE") && shown.contains(mac))
        };
        scene.lab.wait_until("an answer", PATIENT, reachable)?;
    }
    for node in &scene.sharing.nodes {
        node.run(&["ip", "neigh", "flush", "all"])?;
        for (vip, near) in [
            (V4, scene.client.v4().to_string()),
            (V6, scene.client.v6().to_string()),
        ] {
            // It asks from the address that it speaks from.
            node.run(&["ping", "-c", "1", "-W", "5", "-I", vip, &near])
                .map(drop)
                .or_else(|_| {
                    // The answer to the ping may be another node's; the one to the question is this one's too.
                    let shown = node.run(&["ip", "neigh", "show", "to", &near])?;
                    match shown.contains("REACHABLE") || shown.contains("STALE") {
                        true => Ok(()),
                        false => Err(Error::new(format!("{}: {shown}", node.name()))),
                    }
                })?;
        }
    }
    Ok(())
}

#[test]
fn with_the_rules_flushed_nobody_answers_what_comes_to_a_stealth_mac() -> Result<()> {
    let scene = scene("stealthy-flush", "stealth")?;
    scene.start()?;
    pin_to(&scene.client, UNLEARNT)?;
    for vip in [V4, V6] {
        expect_shared(&scene.client, &scene.sharing, vip)?;
        // The other lock plays no part here.
        for node in &scene.sharing.nodes {
            let lock = |family: &str| {
                format!("/proc/sys/net/{family}/conf/eth0/drop_unicast_in_l2_multicast")
            };
            let set = node.run(&["cat", &lock("ipv4"), &lock("ipv6")])?;
            assert_eq!(set, "0\n0\n");
        }
    }
    for node in &scene.sharing.nodes {
        node.run(&["nft", "flush", "ruleset"])?;
    }
    for report in burst(&scene.client, Duration::from_millis(500))? {
        assert_eq!(report.answered().len(), 0, "{:?}", report.by_node());
    }
    // Pacemaker repairs.
    for n in 0..NODES.len() {
        scene.sharing.recover(n)?;
    }
    for vip in [V4, V6] {
        expect_shared(&scene.client, &scene.sharing, vip)?;
    }
    scene.sharing.expect_healthy()?;
    for agent in &scene.sharing.agents {
        scene.sharing.stop(agent)?;
    }
    for n in 0..NODES.len() {
        scene.expect_nothing_left(n)?;
        let filter = scene
            .node(n)
            .run(&["bridge", "fdb", "show", "dev", "eth0"])?;
        assert!(!filter.contains("02:bf"), "{filter}");
    }
    Ok(())
}

#[test]
fn nodes_hear_of_another_mode_or_seed_before_they_share() -> Result<()> {
    let lab = Lab::new("disagreeing")?;
    let (first, second) = (lab.node("n1")?, lab.node("n2")?);
    for vip in [V4, V6] {
        let stealth = agent(vip).with("mode", "stealth");
        stealth.start(&first, 0)?;
        for other in [
            stealth.clone().with("hash_seed", "0x0000beef"),
            stealth.clone().with("mac", "02:bf:00:00:be:ef"),
            agent(vip),
            agent(vip).with("mode", "igmp"),
        ] {
            let answer = other.call(&second, "start", 1)?.expect(1);
            assert!(
                answer.reason().starts_with("stop the clone first"),
                "{}",
                answer.stderr
            );
            assert!(!second.run(&["ip", "addr"])?.contains(vip));
        }
        stealth.start(&second, 1)?;
        // And one of the usual mode hears those of stealth, and the other way round.
        for node in [&first, &second] {
            for instance in [0, 1] {
                stealth.call(node, "stop", instance)?.expect(0);
            }
        }
        agent(vip).start(&first, 0)?;
        stealth.call(&second, "start", 1)?.expect(1);
        agent(vip).call(&first, "stop", 0)?.expect(0);
    }
    Ok(())
}

#[test]
fn a_device_that_cannot_receive_a_stealth_mac_says_so_and_nothing_stays() -> Result<()> {
    let lab = Lab::new("macvlan")?;
    let node = lab.node_with("n1", NodeOptions { macvlan: true })?;
    for vip in [V4, V6] {
        let agent = agent(vip).with("mode", "stealth");
        let answer = agent.call(&node, "start", 0)?;
        assert_ne!(answer.code, 0);
        assert!(
            answer.reason().contains("02:bf") && answer.reason().contains("mode"),
            "{}",
            answer.reason()
        );
        agent.call(&node, "stop", 0)?.expect(0);
        wait_until_gone(&lab, &node, vip)?;
    }
    Ok(())
}

#[test]
fn a_group_is_joined_reported_and_left_with_the_last_vip_of_its_mac() -> Result<()> {
    let lab = Lab::new("igmp")?;
    let client = lab.client("c1")?;
    let node = lab.node("n1")?;
    node.serve(&SERVICES)?;
    let tap = lab.switch_tap("n1")?;
    // Two VIPs whose last octets are equal are in one group.
    let twin = "10.78.0.99";
    let agents = [V4, twin].map(|vip| {
        let agent = agent(vip).with("mode", "igmp");
        match vip == twin {
            true => agent.with("cidr_netmask", "24"),
            false => agent,
        }
    });
    let groups = || node.run(&["ip", "maddr", "show", "dev", "eth0"]);
    let reported = |kinds: &[u8]| -> Result<bool> {
        let mut frame = [0; 2048];
        while let Some(len) = tap.receive(&mut frame, PATIENT)? {
            let found = membership_report(&frame[..len], GROUP.parse().expect("an address"));
            if found.is_some_and(|kind| kinds.contains(&kind)) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    for agent in &agents {
        for bucket in 0..u32::from(BUCKETS) {
            agent.start(&node, bucket)?;
        }
    }
    assert!(groups()?.contains(GROUP));
    // Is in, or comes to be in: with a list of sources to leave out, which is empty (RFC 3376 §4.2.12).
    assert!(reported(&[2, 4])?, "nobody was told");
    expect_answered_by(&client, ip(V4), 60, &["n1"])?;
    let shown = node.run(&["ip", "-o", "-4", "addr", "show", "dev", "eth0"])?;
    assert!(shown.contains(&format!("{GROUP}/32 scope host")), "{shown}");
    for agent in &agents {
        assert!(groups()?.contains(GROUP));
        for bucket in 0..u32::from(BUCKETS) {
            agent.call(&node, "monitor", bucket)?.expect(0);
            agent.call(&node, "stop", bucket)?.expect(0);
        }
    }
    assert!(!groups()?.contains(GROUP));
    // Comes to be in it for no source.
    assert!(reported(&[3])?, "nobody was told");
    let shown = node.run(&["ip", "-o", "-4", "addr", "show", "dev", "eth0"])?;
    assert!(!shown.contains(GROUP), "{shown}");
    Ok(())
}

/// The kind of an IGMPv3 report's first record, if it is of this group.
fn membership_report(frame: &[u8], group: std::net::Ipv4Addr) -> Option<u8> {
    const IGMP: u8 = 2;
    const REPORT: u8 = 0x22;
    let ip = frame.get(14..).filter(|_| frame[12..14] == [8, 0])?;
    let header = 4 * usize::from(ip.first()? & 0x0f);
    let report = ip.get(header..).filter(|_| ip[9] == IGMP)?;
    let record = report.get(8..16).filter(|_| report[0] == REPORT)?;
    (record[4..8] == group.octets()).then_some(record[0])
}

#[test]
fn connections_stay_in_the_mode_igmp_as_in_the_others() -> Result<()> {
    let scene = scene("igmp-moves", "igmp")?;
    scene.start()?;
    let witness = scene.client.witness(&vips())?;
    let held = scene.hold_so(HELD, HoldOptions::default())?;
    scene.go_on(&held)?;
    scene.move_all(0, 1)?;
    scene.go_on(&held)?;
    for one in held {
        one.stop()?.expect_none_lost()?;
    }
    witness.finish()?.expect_no_double_answers()?;
    scene.expect_nothing_left(0)
}
