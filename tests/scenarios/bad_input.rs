//! Bad input: a clear error each, and nothing changes. Stop and probe never mind.

use crate::product::*;
use clusterip::agent::parameters::IGNORED;
use lab::{Lab, Node, Result};

fn agent() -> Agent {
    Agent::new(V4, 12).with("hash_seed", "7")
}

/// A change of a good environment, the code of a start, and what its reason must name.
type Case = (fn(Agent) -> Agent, i32, [&'static str; 2]);

/// A parameter with a bad value.
macro_rules! bad {
    ($parameter:literal, $value:literal, $code:literal, $way_out:literal) => {
        (
            |agent: Agent| agent.with($parameter, $value),
            $code,
            [$value, $way_out],
        )
    };
}

const CASES: &[Case] = &[
    (|agent| agent.without("ip"), 6, ["ip is missing", "set ip="]),
    bad!("ip", "10.77.0.300", 6, "such as 10.0.0.99"),
    bad!("ip", "10.77.0.99/24", 6, "without a prefix"),
    bad!("ip", "224.0.0.99", 6, "use a unicast address"),
    bad!("ip", "127.0.0.99", 6, "use a unicast address"),
    bad!("ip", "0.0.0.0", 6, "use a unicast address"),
    bad!("ip", "255.255.255.255", 6, "use a unicast address"),
    bad!("ip", "ff02::99", 6, "use a unicast address"),
    bad!("ip", "fe80::99", 6, "use a unicast address"),
    bad!("ip", "10.77.0.1", 1, "that no node has for itself"),
    bad!("ip", "172.16.0.1", 5, "cidr_netmask"),
    bad!("nic", "eth9", 5, "ip link"),
    bad!("nic", "a/b", 6, "ip link"),
    (
        |agent| agent.with("nic", "lo").with("cidr_netmask", "24"),
        5,
        ["lo", "Ethernet"],
    ),
    bad!("mac", "02:77:00:00:00:63", 6, "use a multicast MAC"),
    bad!("mac", "ff:ff:ff:ff:ff:ff", 6, "use a multicast MAC"),
    bad!("mac", "01:00:5e", 6, "six octets"),
    bad!("cidr_netmask", "33", 6, "use 1 to 32"),
    bad!("cidr_netmask", "0", 6, "use 1 to 32"),
    bad!("cidr_netmask", "255.255.0.255", 6, "use 1 to 32"),
    bad!("cidr_netmask", "wide", 6, "use 1 to 32"),
    bad!("CRM_meta_clone_max", "0", 6, "1 to 1024"),
    bad!("CRM_meta_clone_max", "5000", 6, "1 to 1024"),
    bad!("CRM_meta_clone_max", "many", 6, "1 to 1024"),
    bad!("CRM_meta_clone_max", "-1", 6, "1 to 1024"),
    bad!("buckets", "5000", 6, "1 to 1024"),
    bad!("buckets", "6", 6, "clone-max=\"12\""),
    (
        |agent| agent.meta("globally_unique", "false"),
        6,
        ["not globally unique", "globally-unique=\"true\""],
    ),
    (
        |agent| agent.without("CRM_meta_globally_unique"),
        6,
        ["not globally unique", "globally-unique=\"true\""],
    ),
    (
        |agent| {
            agent
                .without_meta()
                .variable("OCF_RESOURCE_INSTANCE", "resIP")
        },
        6,
        ["is no clone", "clone-max="],
    ),
    (
        |agent| agent.meta("clone_max", "1").meta("clone", "1"),
        6,
        ["instance 1 has no bucket", "numbered from 0 to 0"],
    ),
    bad!("hash_seed", "zebra", 6, "0 to 4294967295"),
    bad!("hash_seed", "4294967296", 6, "0 to 4294967295"),
    bad!("hash_seed", "0x100000000", 6, "0 to 4294967295"),
    bad!("hash_seed", "-1", 6, "0 to 4294967295"),
    bad!("clusterip_hash", "destip", 6, "sourceip-sourceport"),
    bad!("hash_layout", "ipvs", 6, "network"),
    bad!("iflabel", "much-too-long-a-label", 6, "15 characters"),
    bad!("iflabel", "a b", 6, "letters, digits"),
    (
        |agent| agent.with("ip", V6).with("iflabel", "web"),
        6,
        ["web", "leave iflabel out"],
    ),
    (
        |agent| agent.with("unique_clone_address", "true"),
        6,
        ["unique_clone_address", "leave the parameter out"],
    ),
    bad!("network_namespace", "nowhere", 5, "ip netns"),
    bad!("network_namespace", "../etc", 6, "ip netns"),
    bad!("arp_count", "many", 6, "0 to 100000"),
    bad!("arp_interval", "-5", 6, "0 to 100000"),
    bad!("drain_timeout", "-1", 6, "0 to 86400"),
    bad!("drain_timeout", "5 weeks", 6, "5min"),
    bad!("drain_timeout", "25h", 6, "0 to 86400"),
];

/// Fails unless the action ends so, says all of these words, and changes nothing.
fn expect_refusal(
    node: &Node,
    agent: &Agent,
    (instance, code): (u32, i32),
    words: &[&str],
) -> Result<(), String> {
    let state = |node| state_of(node).map_err(|error| error.to_string());
    let before = state(node)?;
    let answer = agent.call(node, "start", instance);
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.code != code {
        return Err(format!(
            "{} instead of {code}: {}",
            answer.code, answer.stderr
        ));
    }
    match words.iter().find(|word| !answer.stderr.contains(**word)) {
        Some(word) => Err(format!("does not say '{word}': {}", answer.stderr)),
        None if answer.reason().is_empty() => Err("gives no reason".to_owned()),
        None if state(node)? != before => Err("something has changed".to_owned()),
        None => Ok(()),
    }
}

#[test]
fn a_start_with_bad_input_says_what_is_wrong_and_changes_nothing() -> Result<()> {
    let lab = Lab::new("bad")?;
    let node = lab.node("n1")?;
    let mut wrong = Vec::new();
    for (change, code, words) in CASES {
        let agent = change(agent());
        // The interface is found by itself, unless it is what the case is about.
        let agent = match words[0] {
            "172.16.0.1" => agent.without("nic"),
            _ => agent,
        };
        if let Err(error) = expect_refusal(&node, &agent, (1, *code), words) {
            wrong.push(format!("{words:?}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn stop_and_probe_never_mind_a_bad_environment() -> Result<()> {
    let lab = Lab::new("mind")?;
    let node = lab.node("n1")?;
    let before = state_of(&node)?;
    for (change, _, words) in CASES {
        let agent = change(agent());
        let stopped = agent.call(&node, "stop", 1)?;
        assert_eq!(stopped.code, 0, "{words:?}: {}", stopped.stderr);
        let probed = agent.meta("interval", "0").call(&node, "monitor", 1)?;
        assert_eq!(probed.code, 7, "{words:?}: {}", probed.stderr);
        assert_eq!(probed.stderr, "", "a probe has nothing to say: {words:?}");
    }
    assert_eq!(state_of(&node)?, before);
    Ok(())
}

#[test]
fn a_stop_with_a_bad_parameter_still_stops_what_runs() -> Result<()> {
    let lab = Lab::new("still")?;
    let node = lab.node("n1")?;
    let mut wrong = Vec::new();
    for (parameter, value) in [
        ("hash_seed", "zebra"),
        ("mac", "02:77:00:00:00:63"),
        ("cidr_netmask", "33"),
        ("clusterip_hash", "destip"),
        ("buckets", "5000"),
        ("CRM_meta_clone_max", "5000"),
        ("nic", "eth9"),
        ("unique_clone_address", "true"),
        ("arp_count", "many"),
        ("drain_timeout", "many"),
    ] {
        agent().start(&node, 1)?;
        let bad = agent().with(parameter, value);
        bad.call(&node, "stop", 1)?.expect(0);
        if state_of(&node)?.contains("clusterip") {
            wrong.push((parameter, value));
        }
        nodectl(&node, &["down", V4, "--force"])?;
    }
    assert!(wrong.is_empty(), "said stopped, but was not: {wrong:?}");
    Ok(())
}

#[test]
fn without_the_capability_everything_that_changes_something_is_refused() -> Result<()> {
    let lab = Lab::new("unprivileged")?;
    let node = lab.node("n1")?;
    agent().start(&node, 0)?;
    let before = state_of(&node)?;
    for action in ["start", "stop"] {
        let answer = agent().call_behind(&UNPRIVILEGED, &node, action, 1)?;
        let answer = answer.expect(4);
        assert!(answer.reason().contains("CAP_NET_ADMIN"), "{answer:?}");
    }
    let asks_the_node = agent().variable("OCF_CHECK_LEVEL", "10");
    asks_the_node
        .call_behind(&UNPRIVILEGED, &node, "validate-all", 1)?
        .expect(4);
    for action in ["meta-data", "validate-all"] {
        agent()
            .call_behind(&UNPRIVILEGED, &node, action, 1)?
            .expect(0);
    }
    assert_eq!(state_of(&node)?, before);
    Ok(())
}

#[test]
fn another_description_is_refused_while_buckets_are_held() -> Result<()> {
    let lab = Lab::new("other")?;
    let node = lab.node("n1")?;
    agent().start(&node, 0)?;
    for (parameter, value, says) in [
        ("hash_seed", "8", ["0x00000007", "0x00000008"]),
        (
            "clusterip_hash",
            "sourceip",
            ["sourceip-sourceport", "sourceip"],
        ),
        ("hash_layout", "network", ["clusterip", "network"]),
        (
            "mac",
            "01:00:5e:7f:0a:0b",
            ["01:00:5e:7f:00:63", "01:00:5e:7f:0a:0b"],
        ),
        ("CRM_meta_clone_max", "6", ["12", "6"]),
        ("CRM_meta_clone_max", "24", ["12", "24"]),
    ] {
        let other = agent().with(parameter, value);
        let words = [says[0], says[1], "stop the clone first"];
        let refused = expect_refusal(&node, &other, (1, 1), &words);
        assert_eq!(refused, Ok(()), "{parameter}={value}");
        // A monitor that Pacemaker leaves running with the old clone-max is not disturbed.
        let monitored = other.call(&node, "monitor", 0)?;
        let expected = if parameter.contains("clone_max") {
            0
        } else {
            1
        };
        assert_eq!(
            monitored.code, expected,
            "{parameter}: {}",
            monitored.stderr
        );
    }
    agent().call(&node, "monitor", 0)?.expect(0);
    Ok(())
}

#[test]
fn clone_max_changes_once_all_instances_have_stopped() -> Result<()> {
    let lab = Lab::new("clone_max")?;
    let node = lab.node("n1")?;
    let clean = state_of(&node)?;
    let numbered = |count: &str| agent().meta("clone_max", count);
    for instance in 0..12 {
        agent().start(&node, instance)?;
    }
    for (count, last) in [("6", 5), ("24", 23), ("12", 11)] {
        // Orphans are stopped without any meta variable, the others with the new ones.
        let held: Vec<u32> = (0..24)
            .filter(|n| {
                numbered(count)
                    .call(&node, "monitor", *n)
                    .is_ok_and(|answer| answer.code == 0)
            })
            .collect();
        assert!(!held.is_empty());
        for instance in held {
            let orphan = agent()
                .without_meta()
                .variable("OCF_RESOURCE_INSTANCE", &format!("resIP:{instance}"));
            numbered(count).call(&node, "start", 0)?.expect(1);
            match instance > last {
                true => orphan.call(&node, "stop", instance)?.expect(0),
                false => numbered(count).call(&node, "stop", instance)?.expect(0),
            };
        }
        assert_eq!(state_of(&node)?, clean);
        for instance in 0..=last {
            numbered(count).start(&node, instance)?;
        }
        numbered(count).call(&node, "start", last + 1)?.expect(6);
        numbered(count).call(&node, "monitor", last)?.expect(0);
    }
    Ok(())
}

#[test]
fn the_stop_of_an_orphan_needs_no_meta_variables() -> Result<()> {
    let lab = Lab::new("orphan")?;
    let node = lab.node("n1")?;
    let clean = state_of(&node)?;
    agent().start(&node, 3)?;
    agent().start(&node, 4)?;
    let orphan = |n: u32| {
        agent()
            .without_meta()
            .variable("OCF_RESOURCE_INSTANCE", &format!("resIP:{n}"))
    };
    let before = state_of(&node)?;
    orphan(21).call(&node, "stop", 21)?.expect(0);
    assert_eq!(state_of(&node)?, before);
    orphan(3).call(&node, "stop", 3)?.expect(0);
    agent().call(&node, "monitor", 3)?.expect(7);
    agent().call(&node, "monitor", 4)?.expect(0);
    orphan(4).call(&node, "stop", 4)?.expect(0);
    assert_eq!(state_of(&node)?, clean);
    Ok(())
}

#[test]
fn what_another_resource_has_is_neither_stopped_nor_monitored() -> Result<()> {
    let lab = Lab::new("another")?;
    let node = lab.node("n1")?;
    agent().start(&node, 3)?;
    let before = state_of(&node)?;
    let other = agent().variable("OCF_RESOURCE_INSTANCE", "resOther:3");
    other.call(&node, "monitor", 3)?.expect(7);
    other.call(&node, "stop", 3)?.expect(0);
    assert_eq!(state_of(&node)?, before);
    agent().call(&node, "monitor", 3)?.expect(0);
    agent().call(&node, "stop", 3)?.expect(0);
    Ok(())
}

#[test]
fn a_stop_after_the_interface_has_vanished_leaves_nothing() -> Result<()> {
    let lab = Lab::new("vanished")?;
    let node = lab.node("n1")?;
    for vip in [V4, V6] {
        Agent::new(vip, 12).start(&node, 0)?;
        Agent::new(vip, 12).start(&node, 1)?;
    }
    node.run(&["ip", "link", "del", "eth0"])?;
    for vip in [V4, V6] {
        let agent = Agent::new(vip, 12);
        let monitored = agent.call(&node, "monitor", 0)?;
        assert!([1, 7].contains(&monitored.code), "{monitored:?}");
        for instance in [0, 1] {
            agent.call(&node, "stop", instance)?.expect(0);
        }
    }
    assert_eq!(node.run(&["nft", "list", "ruleset"])?, "");
    Ok(())
}

#[test]
fn parameters_of_ipaddr2_that_mean_nothing_here_are_ignored_with_one_warning() -> Result<()> {
    let lab = Lab::new("ignored")?;
    let node = lab.node("n1")?;
    let plain = agent();
    plain.start(&node, 0)?;
    let without = state_of(&node)?;
    plain.call(&node, "stop", 0)?.expect(0);
    let names = IGNORED.map(|(name, _)| name);
    let with = names
        .iter()
        .fold(agent(), |agent, name| agent.with(name, "true"));
    let first = with.call(&node, "start", 0)?.expect(0);
    let warnings = first.stderr.lines().filter(|line| line.contains("ignored"));
    assert_eq!(warnings.count(), 1, "{}", first.stderr);
    for name in names {
        assert!(first.stderr.contains(name), "{name}: {}", first.stderr);
    }
    // Some are the newest IPaddr2's alone, whose hash is another one.
    let other_hash = "clusterip_firewall is the newest IPaddr2's, which hashes otherwise";
    assert!(first.stderr.contains(other_hash), "{}", first.stderr);
    let second = with.call(&node, "start", 1)?.expect(0);
    assert!(!second.stderr.contains("WARNING"), "{}", second.stderr);
    with.call(&node, "stop", 1)?.expect(0);
    assert_eq!(state_of(&node)?, without);
    Ok(())
}

#[test]
fn validate_all_asks_the_node_at_level_10_alone_and_changes_nothing() -> Result<()> {
    let lab = Lab::new("validate")?;
    let node = lab.node("n1")?;
    for vip in [V4, V6] {
        // As crm_resource --validate and pcs call it: without a clone.
        let primitive = Agent::new(vip, 12)
            .without_meta()
            .variable("OCF_RESOURCE_INSTANCE", "resIP");
        let elsewhere = primitive.clone().with("nic", "eth9");
        elsewhere.call(&node, "validate-all", 0)?.expect(0);
        let asking = |agent: Agent| agent.variable("OCF_CHECK_LEVEL", "10");
        let before = state_of(&node)?;
        asking(primitive.clone())
            .call(&node, "validate-all", 0)?
            .expect(0);
        let answer = asking(elsewhere).call(&node, "validate-all", 0)?.expect(5);
        assert!(answer.reason().contains("eth9"), "{}", answer.stderr);
        assert_eq!(state_of(&node)?, before);
        // What runs already can be checked as well.
        let agent = Agent::new(vip, 12);
        agent.start(&node, 0)?;
        let rules = node.run(&["nft", "list", "ruleset"])?;
        asking(agent.clone())
            .call(&node, "validate-all", 0)?
            .expect(0);
        assert_eq!(node.run(&["nft", "list", "ruleset"])?, rules);
        agent.call(&node, "stop", 0)?.expect(0);
        let seeded = primitive.with("hash_seed", "7");
        let answer = seeded.call(&node, "validate-all", 0)?.expect(0);
        assert!(!answer.stderr.contains("hash_seed"), "{}", answer.stderr);
    }
    Ok(())
}
