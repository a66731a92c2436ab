//! What nft lists of our rules it reads back, in every state; and what was saved so, or was written by an older
//! version, owns and answers nothing that this node does not.
//!
//! All by the nft of the machine, whichever that is: `make test-trixie` has another one.

use crate::golden::still;
use crate::kernel_support::{in_user_namespace, tell_skipped};
use crate::product::*;
use crate::sharing::*;
use crate::tampering::left_on;
use clusterip::model::hash::{HashMode, Hasher, Layout};
use clusterip::model::vip::L2Mode;
use lab::traffic::Held;
use lab::{Client, Context, HoldOptions, Lab, Node, Result};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What packets put into sets, one of each.
const LEARNT: [(&str, &str, &str); 12] = [
    ("netdev", "begun-fragments-ip4", IN_FRAGMENTS4),
    ("netdev", "foreign-fragments-ip4", IN_FRAGMENTS4),
    (
        "netdev",
        "early-fragments-ip4",
        "0x0a4e00070a4d0063 . 17 . 4660 . 185",
    ),
    ("netdev", "begun-fragments-ip6", IN_FRAGMENTS6),
    ("netdev", "foreign-fragments-ip6", IN_FRAGMENTS6),
    (
        "netdev",
        "early-fragments-ip6",
        "0xfd780000000000000000000000000007fd770000000000000000000000000099 . 4660 . 1480",
    ),
    ("ip", "fresh-10.77.0.99", SEGMENT4),
    ("ip", "orphans-10.77.0.99", SEGMENT4),
    ("ip", "sighted-10.77.0.99", SEGMENT4),
    ("ip6", "fresh-fd77--99", SEGMENT6),
    ("ip6", "orphans-fd77--99", SEGMENT6),
    ("ip6", "sighted-fd77--99", SEGMENT6),
];
const IN_FRAGMENTS4: &str = "0x0a4e00070a4d0063 . 17 . 4660";
const IN_FRAGMENTS6: &str =
    "0xfd780000000000000000000000000007fd770000000000000000000000000099 . 4660";
const SEGMENT4: &str = "10.78.0.7 . 40000 . 7000 . 4660";
const SEGMENT6: &str = "fd78::7 . 40000 . 7000 . 4660";

fn load(node: &Node, rules: &str) -> Result<()> {
    node.exec(&["nft", "-f", "-"]).stdin(rules).run()?;
    Ok(())
}

fn list(node: &Node) -> Result<String> {
    node.run(&["nft", "list", "ruleset"])
}

/// nft reads back what it lists here, where it is, and on another node; and what it lists there.
fn expect_read_back(node: &Node, other: &Node) -> Result<()> {
    for list_words in [
        &["nft", "list", "ruleset"][..],
        &["nft", "-s", "list", "ruleset"],
    ] {
        let listed = node.run(list_words)?;
        node.exec(&["nft", "-c", "-f", "-"])
            .stdin(listed.clone())
            .run()
            .context("where it is")?;
        load(other, &listed).context("elsewhere")?;
        let loaded = list(other)?;
        other.run(&["nft", "flush", "ruleset"])?;
        load(other, &loaded).context("what was loaded")?;
        assert_eq!(still(&loaded), still(&list(other)?));
        other.run(&["nft", "flush", "ruleset"])?;
        let objects = |text: &str| {
            let lines = text.lines().map(str::trim_start);
            let is_object = |line: &&str| {
                let mut kinds = ["table ", "chain ", "set ", "map ", "typeof ", "type "].iter();
                kinds.any(|kind| line.starts_with(kind))
            };
            lines
                .filter(is_object)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(objects(&listed), objects(&loaded));
    }
    Ok(())
}

/// A connection in this bucket of 12, which says nothing after its first exchange: what segments put into sets
/// ends after seconds, between two listings on a slow machine.
fn hold_in(client: &Client, vip: IpAddr, hasher: &Hasher, bucket: u16) -> Result<Held> {
    let flow = client
        .sources_for(vip, 200)
        .into_iter()
        .map(|source| (source, 40_000))
        .find(|(source, port)| hasher.bucket(&flow_from(*source, *port), 12) == bucket);
    let silent = HoldOptions {
        interval: Duration::from_secs(3_600),
        ..HoldOptions::default()
    };
    client.hold(SocketAddr::new(vip, PORT), flow, silent)
}

/// Both VIPs own, drain and adopt buckets, with what packets put into sets.
fn in_every_state(lab: &Lab, mode: HashMode, layout: Layout, l2: L2Mode) -> Result<()> {
    let (client, node, other) = (lab.client("c1")?, lab.node("n1")?, lab.node("n2")?);
    node.serve(&SERVICES)?;
    let mut held = Vec::new();
    for vip in [V4, V6] {
        let words = format!(
            "up {vip} --nic eth0 --buckets 12 --own 0-4 --seed 7 --hash {} --layout {} \
             --mode {l2} --drain-timeout 300 --force",
            mode.name(),
            layout.name()
        );
        nodectl(&node, &words.split(' ').collect::<Vec<_>>())?;
        expect_read_back(&node, &other).context("owned")?;
        held.push(hold_in(&client, ip(vip), &hasher(mode, layout, 7), 1)?);
        nodectl(&node, &["drain", vip, "1"])?;
        nodectl(&node, &["take", vip, "5", "--adopt", "300"])?;
    }
    let lacks = |name: &str| !mode.has_ports() && name.contains("fragments");
    for (family, set, element) in LEARNT.iter().filter(|(_, set, _)| !lacks(set)) {
        // So long that none ends meanwhile.
        let element = format!("{{ {element} timeout 300s }}");
        node.run(&["nft", "add", "element", family, "clusterip", set, &element])?;
    }
    let expect_moving = || -> Result<()> {
        let listed = list(&node)?;
        for state in [
            "map leaving-",
            "set flows-",
            "set adopting-",
            "set orphans-",
        ] {
            assert_eq!(listed.matches(state).count(), 2, "{state} in {listed}");
        }
        Ok(())
    };
    expect_moving()?;
    expect_read_back(&node, &other).context("moving")?;
    expect_moving().context("what was read back was of this state all the time")?;
    for held in held {
        held.stop()?.expect_none_lost()?;
    }
    Ok(())
}

#[test]
fn nft_reads_back_what_it_lists_of_every_state_by_source() -> Result<()> {
    for layout in Layout::ALL {
        in_every_state(
            &Lab::new("saved-ip")?,
            HashMode::SourceIp,
            layout,
            L2Mode::Igmp,
        )?;
    }
    Ok(())
}

#[test]
fn nft_reads_back_what_it_lists_of_every_state_by_port() -> Result<()> {
    for layout in Layout::ALL {
        in_every_state(
            &Lab::new("saved-port")?,
            HashMode::SourceIpSourcePort,
            layout,
            L2Mode::Multicast,
        )?;
    }
    Ok(())
}

#[test]
fn nft_reads_back_what_it_lists_of_every_state_by_both_ports() -> Result<()> {
    let mode = HashMode::SourceIpSourcePortDestPort;
    for layout in Layout::ALL {
        in_every_state(&Lab::new("saved-ports")?, mode, layout, L2Mode::Stealth)?;
    }
    Ok(())
}

#[test]
fn nft_reads_back_what_it_lists_of_sixteen_vips_and_of_the_longest_descriptions() -> Result<()> {
    if in_user_namespace()? {
        tell_skipped("without root nft cannot hand the kernel so much at once");
        return Ok(());
    }
    let lab = Lab::new("saved-many")?;
    let (node, other) = (lab.node("n1")?, lab.node("n2")?);
    for n in 100..108 {
        for vip in [format!("10.77.0.{n}"), format!("fd77::{n}")] {
            agent(&vip).start(&node, 0)?;
        }
    }
    for (vip, name, value) in [
        (V4, "iflabel", "longest-1"),
        (
            "fd77:1234:1234:1234:1234:1234:1234:1234",
            "cidr_netmask",
            "16",
        ),
    ] {
        let agent = agent(vip)
            .with(name, value)
            .with("clusterip_hash", "sourceip-sourceport-destport")
            .with("drain_timeout", "86400")
            .with("drop_unicast_in_l2_multicast", "false")
            .variable("OCF_RESOURCE_INSTANCE", "resource-of-17-ab:0");
        agent.start(&node, 0)?;
        agent.call(&node, "monitor", 0)?.expect(0);
        let about = format!("chain about-{}", vip.replace(':', "-"));
        assert!(list(&node)?.contains(&about));
    }
    expect_read_back(&node, &other)
}

/// What a node with these VIPs saves that has four of their buckets.
fn saved(lab: &Lab, agents: &[Agent]) -> Result<String> {
    let node = lab.node("n9")?;
    for agent in agents {
        for instance in instances(0) {
            agent.start(&node, instance)?;
        }
    }
    let rules = list(&node)?;
    assert!(rules.contains("goto to-host"));
    for agent in agents {
        for instance in instances(0) {
            agent.call(&node, "stop", instance)?.expect(0);
        }
    }
    Ok(rules)
}

fn owned(node: &Node, vip: &str) -> Result<serde_json::Value> {
    let status = status(node)?;
    let vips = status["vips"].as_array().expect("a list");
    let found = vips.iter().find(|found| found["vip"] == vip);
    Ok(found.map_or(serde_json::Value::Null, |found| found["owned"].clone()))
}

#[test]
fn what_was_saved_owns_nothing_after_a_boot_and_a_start_makes_it_anew() -> Result<()> {
    let lab = Lab::new("booted")?;
    let agents = [agent(V4), agent(V6)];
    let rules = saved(&lab, &agents)?;
    let node = lab.node("n1")?;
    load(&node, &rules)?;
    for agent in &agents {
        let probe = agent.clone().meta("interval", "0");
        for instance in 0..12 {
            probe.call(&node, "monitor", instance)?.expect(7);
        }
    }
    let said = agents[0].call(&node, "monitor", 0)?.expect(7);
    assert!(said.reason().contains("from a file"), "{}", said.stderr);
    assert_eq!(owned(&node, V4)?, serde_json::json!([]));
    // One line says it, not every rule.
    let drift = status(&node)?["vips"][0]["drift"].clone();
    assert_eq!(drift.as_array().map(Vec::len), Some(1), "{drift}");
    assert_eq!(drift[0]["piece"], "rules");
    let shown = node.output(&[
        lab::built("nodectl")?.display().to_string().as_str(),
        "status",
    ])?;
    let shown = String::from_utf8_lossy(&shown.stderr).into_owned();
    assert!(shown.contains("nodectl down 10.77.0.99"), "{shown}");

    agents[0].start(&node, 5)?;
    assert_eq!(owned(&node, V4)?, serde_json::json!([5]));
    agents[0].call(&node, "monitor", 5)?.expect(0);
    for instance in instances(0) {
        agents[0].call(&node, "monitor", instance)?.expect(7);
    }
    // Of the other VIP nothing was here.
    assert!(!list(&node)?.contains("fd77::99"));
    agents[1].start(&node, 4)?;
    assert_eq!(owned(&node, V6)?, serde_json::json!([4]));
    agents[0].call(&node, "monitor", 5)?.expect(0);
    for (agent, instance) in agents.iter().zip([5, 4]) {
        agent.call(&node, "stop", instance)?.expect(0);
    }
    assert_eq!(left_on(&node)?, "");
    Ok(())
}

#[test]
fn what_was_saved_goes_with_a_stop_or_with_nodectl() -> Result<()> {
    let lab = Lab::new("booted-stop")?;
    let agents = [agent(V4), agent(V6)];
    let rules = saved(&lab, &agents)?;
    let node = lab.node("n1")?;
    load(&node, &rules)?;
    for agent in &agents {
        agent.call(&node, "stop", 7)?.expect(0);
    }
    assert_eq!(left_on(&node)?, "");
    load(&node, &rules)?;
    for vip in [V4, V6] {
        nodectl(&node, &["down", vip])?;
    }
    assert_eq!(left_on(&node)?, "");
    load(&node, &rules)?;
    nodectl(
        &node,
        &["up", V4, "--nic", "eth0", "--buckets", "4", "--own", "2"],
    )?;
    assert_eq!(owned(&node, V4)?, serde_json::json!([2]));
    assert_eq!(status(&node)?["vips"][0]["manager"], "manual");
    nodectl(&node, &["down", V4])?;
    assert_eq!(left_on(&node)?, "");
    Ok(())
}

#[test]
fn what_was_saved_knows_nothing_of_how_the_second_lock_is_now() -> Result<()> {
    let lab = Lab::new("booted-lock")?;
    let rules = saved(&lab, &[agent(V4)])?;
    let node = lab.node("n1")?;
    let lock = "/proc/sys/net/ipv4/conf/eth0/drop_unicast_in_l2_multicast";
    node.run(&["sh", "-ec", &format!("echo 1 > {lock}")])?;
    load(&node, &rules)?;
    agent(V4).call(&node, "stop", 7)?.expect(0);
    assert_eq!(node.run(&["cat", lock])?.trim(), "1");
    load(&node, &rules)?;
    agent(V4).start(&node, 7)?;
    agent(V4).call(&node, "stop", 7)?.expect(0);
    assert_eq!(node.run(&["cat", lock])?.trim(), "1");
    assert!(!list(&node)?.contains("clusterip"));
    Ok(())
}

#[test]
fn another_description_than_that_of_a_saved_file_starts() -> Result<()> {
    let lab = Lab::new("booted-other")?;
    let rules = saved(&lab, &[agent(V4)])?;
    let node = lab.node("n1")?;
    load(&node, &rules)?;
    let other = agent(V4).with("hash_seed", "8");
    other.start(&node, 2)?;
    assert_eq!(owned(&node, V4)?, serde_json::json!([2]));
    other.call(&node, "monitor", 2)?.expect(0);
    other.call(&node, "stop", 2)?.expect(0);
    assert_eq!(left_on(&node)?, "");
    Ok(())
}

/// Sends recorded transactions to the kernel again: a message a line, in hex, a blank line behind each.
const REPLAY: &str = "import socket, struct, sys\n\
                      lines = [line for line in open(sys.argv[1]) if line[0] != '#']\n\
                      kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)\n\
                      for batch in ''.join(lines).split('\\n\\n'):\n\
                      \tif not batch.strip():\n\
                      \t\tcontinue\n\
                      \tkernel.send(bytes.fromhex(batch))\n\
                      \ttry:\n\
                      \t\twhile True:\n\
                      \t\t\tanswer = kernel.recv(65536, socket.MSG_DONTWAIT)\n\
                      \t\t\tkind, error = struct.unpack('<4xH10xi', answer[:20])\n\
                      \t\t\tassert kind == 2 and error == 0, error\n\
                      \texcept BlockingIOError:\n\
                      \t\tpass\n";

/// What the agent of 0.1.0 wrote when it started the instances 0, 3, 6 and 9 of both VIPs.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/recorded/0.1.0.hex");

#[test]
fn rules_that_0_1_0_wrote_are_known_and_repaired_without_losing_a_bucket() -> Result<()> {
    let lab = Lab::new("older")?;
    let node = lab.node("n1")?;
    node.run(&["/usr/bin/python3", "-c", REPLAY, RECORDED])?;
    let is_rules = |piece: &str| {
        let mut kinds = ["table ", "chain ", "map ", "element "].iter();
        kinds.any(|kind| piece.starts_with(kind))
    };
    let drifted = |node: &Node| -> Result<Vec<String>> {
        let status = status(node)?;
        let vips = status["vips"].as_array().expect("a list").iter();
        let drift = vips.flat_map(|vip| vip["drift"].as_array().expect("a list"));
        let pieces = drift.map(|drift| drift["piece"].as_str().expect("a text").to_owned());
        Ok(pieces.filter(|piece| is_rules(piece)).collect())
    };
    assert_eq!(drifted(&node)?, Vec::<String>::new());
    for vip in [V4, V6] {
        assert_eq!(owned(&node, vip)?, serde_json::json!([0, 3, 6, 9]));
        // Only the rules were recorded: the address is put back, and with it all buckets.
        let agent = agent(vip);
        agent.start(&node, 3)?;
        for instance in instances(0) {
            agent.call(&node, "monitor", instance)?.expect(0);
        }
        assert_eq!(owned(&node, vip)?, serde_json::json!([0, 3, 6, 9]));
    }
    assert!(list(&node)?.contains("as nft loads it"));
    for vip in [V4, V6] {
        for instance in instances(0) {
            agent(vip).call(&node, "stop", instance)?.expect(0);
        }
    }
    assert_eq!(left_on(&node)?, "");
    Ok(())
}

#[test]
fn buckets_that_have_moved_since_are_not_revived_by_a_file_loaded_on_top() -> Result<()> {
    let lab = Lab::new("on-top")?;
    let client = lab.client("c1")?;
    let nodes = serving(&lab, &["n1", "n2"])?;
    let vips = [V4, V6];
    let up = |node: &Node, vip: &str, own: &str| {
        let all = ["up", vip, "--nic", "eth0", "--buckets", "4", "--own", own];
        nodectl(node, &all).map(drop)
    };
    for vip in vips {
        up(&nodes[0], vip, "0-3")?;
    }
    let rules = list(&nodes[0])?;
    for vip in vips {
        nodectl(&nodes[0], &["release", vip, "0-3", "--now"])?;
        up(&nodes[1], vip, "0-3")?;
    }
    // Without a word of flushing.
    nodes[0].exec(&["nft", "-f", "-"]).stdin(rules).run()?;
    for vip in vips {
        let witness = client.witness(&[ip(vip)])?;
        expect_answered_by(&client, ip(vip), 60, &["n2"])?;
        witness.finish()?.expect_no_double_answers()?;
        assert_eq!(owned(&nodes[0], vip)?, serde_json::json!([]));
    }
    for vip in vips {
        nodectl(&nodes[0], &["down", vip])?;
    }
    assert_eq!(left_on(&nodes[0])?, "");
    Ok(())
}

#[test]
fn where_a_vip_goes_is_not_told_by_a_saved_file() -> Result<()> {
    let lab = Lab::new("booted-elsewhere")?;
    let agent = agent(V4).without("nic");
    let rules = saved(&lab, std::slice::from_ref(&agent))?;
    let node = lab.node("n1")?;
    // The network is on another interface since, and wider.
    let own = node.v4();
    let moved = format!(
        "addr flush dev eth0\nlink add lan1 type veth peer name far1\nlink set lan1 up\nlink set far1 up\n\
         addr add {own}/16 dev lan1\n"
    );
    node.exec(&["ip", "-batch", "-"]).stdin(moved).run()?;
    load(&node, &rules)?;
    agent.start(&node, 0)?;
    let status = status(&node)?;
    assert_eq!(status["vips"][0]["nic"], "lan1");
    assert!(
        node.run(&["ip", "route"])?
            .contains("10.77.0.0/16 dev lan1 proto 67")
    );
    agent.call(&node, "stop", 0)?.expect(0);
    assert_eq!(left_on(&node)?, "");
    Ok(())
}
