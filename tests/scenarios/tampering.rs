//! Somebody changes things behind the agent's back. At no moment a node answers what it does not
//! own; the monitor says what is missing, Pacemaker repairs it, and a stop succeeds in any case.

use crate::product::*;
use crate::sharing::*;
use lab::{Lab, Node, NodeOptions, ProbeKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a client waits for an answer that may never come.
fn patience() -> Duration {
    lab::wait::prompt() / 4
}

/// What was done, and what the monitors of the first instance of each VIP say about it then.
struct Tampering {
    commands: &'static [&'static str],
    says4: Said,
    says6: Said,
    /// Is the loss of something told apart only where frames are filtered by MAC?
    macvlan: bool,
    everywhere: bool,
    /// Does nobody answer any more on a node that was tampered with?
    silences: bool,
}

#[derive(Clone, Copy)]
enum Said {
    Nothing,
    Stopped(&'static str),
    Failed(&'static str),
}
use Said::{Failed, Nothing, Stopped};

const SOMETHING: Tampering = Tampering {
    commands: &[],
    says4: Nothing,
    says6: Nothing,
    macvlan: false,
    everywhere: false,
    silences: false,
};

const FLUSHED: Tampering = Tampering {
    commands: &["nft flush ruleset"],
    says4: Stopped("'table netdev clusterip' is gone"),
    says6: Stopped("'table netdev clusterip' is gone"),
    silences: true,
    ..SOMETHING
};

const FLUSHED_EVERYWHERE: Tampering = Tampering {
    everywhere: true,
    ..FLUSHED
};

// What `systemctl restart nftables` does: Debian's unit flushes, then loads a file that flushes.
const NFTABLES_RESTARTED: Tampering = Tampering {
    commands: &[
        "nft flush ruleset",
        "echo 'flush ruleset; table inet filter { chain input { type filter hook input \
         priority 0; policy accept; }; }' | nft -f -",
    ],
    everywhere: true,
    ..FLUSHED
};

// A file that `nft list ruleset` has written is loaded while the VIPs are up.
const RESTORED: Tampering = Tampering {
    commands: &["saved=$(nft list ruleset); nft flush ruleset; echo \"$saved\" | nft -f -"],
    says4: Stopped("nft has loaded its rules from a file"),
    says6: Stopped("nft has loaded its rules from a file"),
    silences: true,
    ..SOMETHING
};

const RESTORED_EVERYWHERE: Tampering = Tampering {
    everywhere: true,
    ..RESTORED
};

// Without the flush that Debian's file begins with.
const LOADED_ON_TOP: Tampering = Tampering {
    commands: &["nft list ruleset | nft -f -"],
    silences: false,
    ..RESTORED
};

const ADDRESSES_DELETED: Tampering = Tampering {
    commands: &[
        "ip addr del 10.77.0.99/32 dev eth0",
        "ip addr del fd77::99/128 dev eth0",
    ],
    says4: Failed("address eth0 10.77.0.99"),
    says6: Failed("address eth0 fd77::99"),
    silences: true,
    ..SOMETHING
};

const MEMBERSHIP_DELETED: Tampering = Tampering {
    commands: &["ip maddr del 01:00:5e:7f:00:63 dev eth0"],
    says4: Failed("membership eth0 01:00:5e:7f:00:63"),
    macvlan: true,
    ..SOMETHING
};

const ELEMENT_DELETED: Tampering = Tampering {
    commands: &[
        "nft delete element netdev clusterip buckets-10.77.0.99 '{ 0 }'",
        "nft delete element netdev clusterip buckets-fd77--99 '{ 0 }'",
    ],
    says4: Stopped("bucket 0 of 10.77.0.99"),
    says6: Stopped("bucket 0 of fd77::99"),
    ..SOMETHING
};

const DISPATCH_DELETED: Tampering = Tampering {
    commands: &[
        "nft delete element netdev clusterip ip4-eth0 '{ 10.77.0.99 }'",
        "nft delete element netdev clusterip ip6-eth0 '{ fd77::99 }'",
    ],
    says4: Failed("element netdev ip4-eth0 10.77.0.99"),
    says6: Failed("element netdev ip6-eth0 fd77::99"),
    silences: true,
    ..SOMETHING
};

const CHAINS_FLUSHED: Tampering = Tampering {
    commands: &[
        "nft flush chain netdev clusterip vip-10.77.0.99",
        "nft flush chain netdev clusterip vip-fd77--99",
    ],
    says4: Failed("chain netdev vip-10.77.0.99"),
    says6: Failed("chain netdev vip-fd77--99"),
    silences: true,
    ..SOMETHING
};

const DROP_RULES_DELETED: Tampering = Tampering {
    commands: &["for chain in vip-10.77.0.99-ports vip-fd77--99-ports; do \
         nft -a list chain netdev clusterip $chain | sed -n 's/.*counter.*drop.*handle //p' | \
         xargs nft delete rule netdev clusterip $chain handle; done"],
    says4: Failed("chain netdev vip-10.77.0.99-ports"),
    says6: Failed("chain netdev vip-fd77--99-ports"),
    everywhere: true,
    ..SOMETHING
};

const ACCEPT_RULE_DELETED: Tampering = Tampering {
    commands: &["nft flush chain netdev clusterip to-host"],
    says4: Failed("chain netdev to-host"),
    says6: Failed("chain netdev to-host"),
    silences: true,
    ..SOMETHING
};

const INGRESS_RULES_DELETED: Tampering = Tampering {
    commands: &["nft flush chain netdev clusterip ingress-eth0"],
    says4: Failed("chain netdev ingress-eth0"),
    says6: Failed("chain netdev ingress-eth0"),
    everywhere: true,
    silences: true,
    ..SOMETHING
};

const REWRITING_DELETED: Tampering = Tampering {
    commands: &[
        "nft delete table arp clusterip",
        "nft delete table ip6 clusterip",
    ],
    says4: Failed("chain arp output"),
    says6: Failed("chain ip6 output"),
    everywhere: true,
    ..SOMETHING
};

const SECOND_LOCK_OPENED: Tampering = Tampering {
    commands: &[
        "echo 0 > /proc/sys/net/ipv4/conf/eth0/drop_unicast_in_l2_multicast",
        "echo 0 > /proc/sys/net/ipv6/conf/eth0/drop_unicast_in_l2_multicast",
    ],
    says4: Failed("sysctl net.ipv4.conf.eth0.drop_unicast_in_l2_multicast"),
    says6: Failed("sysctl net.ipv6.conf.eth0.drop_unicast_in_l2_multicast"),
    everywhere: true,
    ..SOMETHING
};

fn tamper(node: &Node, with: &Tampering) -> Result<()> {
    for command in with.commands {
        node.run(&["sh", "-ec", command])?;
    }
    Ok(())
}

#[track_caller]
fn expect_said(answer: &Answer, said: Said) {
    let (code, piece) = match said {
        Nothing => (0, ""),
        Failed(piece) => (1, piece),
        Stopped(piece) => (7, piece),
    };
    assert_eq!(answer.code, code, "{}", answer.stderr);
    let reason = answer.reason();
    assert!(reason.contains(piece), "'{reason}' does not say '{piece}'");
}

/// Tampers under traffic, and lets Pacemaker repair it under traffic.
fn nobody_foreign_answers_and_pacemaker_repairs(tampering: &Tampering) -> Result<()> {
    let lab = Lab::new("tamper")?;
    let client = lab.client("c1")?;
    let macvlan = tampering.macvlan;
    let sharing = Sharing::new(&lab, NodeOptions { macvlan })?;
    pin_neighbours(&client)?;
    let tampered_with = match tampering.everywhere {
        true => 0..NODES.len(),
        false => 0..1,
    };

    let witness = client.witness(&vips())?;
    let mut probes = Vec::new();
    for vip in vips() {
        for kind in [ProbeKind::Udp, ProbeKind::Tcp] {
            let target = SocketAddr::new(vip, PORT);
            let every = Duration::from_millis(60);
            let sources = client.sources_for(vip, 12);
            probes.push(client.probe(kind, target, sources, every, patience())?);
        }
    }
    for report in burst(&client, Duration::from_secs(3))? {
        report.expect_all_answered()?;
    }
    for node in &sharing.nodes[tampered_with.clone()] {
        tamper(node, tampering)?;
    }
    for report in burst(&client, patience())? {
        for (n, name) in NODES.iter().enumerate() {
            let answers = report.by_node().get(*name).copied().unwrap_or_default();
            if !tampered_with.contains(&n) {
                assert!(answers > 0, "{name}, which is whole, is silent");
            } else if tampering.silences {
                assert_eq!(answers, 0, "{name} answers");
            }
        }
    }
    for n in tampered_with.clone() {
        let said = [tampering.says4, tampering.says6];
        for (agent, said) in sharing.agents.iter().zip(said) {
            let first = n as u32;
            expect_said(&agent.call(&sharing.nodes[n], "monitor", first)?, said);
        }
    }
    for n in tampered_with {
        sharing.recover(n)?;
    }
    sharing.expect_healthy()?;
    for report in burst(&client, Duration::from_secs(3))? {
        report.expect_all_answered()?;
    }
    for probe in probes {
        probe.stop()?;
    }
    let seen = witness.finish()?;
    assert!(seen.frames.len() > 2000, "{} frames", seen.frames.len());
    sharing.judge(&seen)
}

#[test]
fn a_flushed_ruleset_on_one_node_lets_nobody_foreign_answer() -> Result<()> {
    nobody_foreign_answers_and_pacemaker_repairs(&FLUSHED)
}

#[test]
fn a_flushed_ruleset_on_all_nodes_lets_nobody_foreign_answer() -> Result<()> {
    nobody_foreign_answers_and_pacemaker_repairs(&FLUSHED_EVERYWHERE)
}

#[test]
fn a_restart_of_nftables_lets_nobody_foreign_answer() -> Result<()> {
    nobody_foreign_answers_and_pacemaker_repairs(&NFTABLES_RESTARTED)
}

#[test]
fn a_saved_ruleset_that_is_loaded_on_one_node_lets_nobody_foreign_answer() -> Result<()> {
    nobody_foreign_answers_and_pacemaker_repairs(&RESTORED)
}

#[test]
fn a_saved_ruleset_that_is_loaded_on_all_nodes_lets_nobody_foreign_answer() -> Result<()> {
    nobody_foreign_answers_and_pacemaker_repairs(&RESTORED_EVERYWHERE)
}

#[test]
fn a_saved_ruleset_that_is_loaded_on_top_lets_nobody_foreign_answer() -> Result<()> {
    nobody_foreign_answers_and_pacemaker_repairs(&LOADED_ON_TOP)
}

#[test]
fn deleted_addresses_lets_nobody_foreign_answer() -> Result<()> {
    nobody_foreign_answers_and_pacemaker_repairs(&ADDRESSES_DELETED)
}

#[test]
fn a_deleted_membership_of_a_card_that_filters_lets_nobody_foreign_answer() -> Result<()> {
    nobody_foreign_answers_and_pacemaker_repairs(&MEMBERSHIP_DELETED)
}

#[test]
fn a_deleted_element_of_the_map_of_buckets_lets_nobody_foreign_answer() -> Result<()> {
    nobody_foreign_answers_and_pacemaker_repairs(&ELEMENT_DELETED)
}

#[test]
fn a_deleted_element_of_the_map_of_vips_lets_nobody_foreign_answer() -> Result<()> {
    nobody_foreign_answers_and_pacemaker_repairs(&DISPATCH_DELETED)
}

#[test]
fn flushed_chains_of_the_vips_lets_nobody_foreign_answer() -> Result<()> {
    nobody_foreign_answers_and_pacemaker_repairs(&CHAINS_FLUSHED)
}

#[test]
fn deleted_rules_that_drop_what_is_foreign_lets_nobody_foreign_answer() -> Result<()> {
    nobody_foreign_answers_and_pacemaker_repairs(&DROP_RULES_DELETED)
}

#[test]
fn a_deleted_rule_that_accepts_what_is_owned_lets_nobody_foreign_answer() -> Result<()> {
    nobody_foreign_answers_and_pacemaker_repairs(&ACCEPT_RULE_DELETED)
}

#[test]
fn deleted_rules_of_the_interface_lets_nobody_foreign_answer() -> Result<()> {
    nobody_foreign_answers_and_pacemaker_repairs(&INGRESS_RULES_DELETED)
}

#[test]
fn deleted_tables_that_rewrite_neighbour_discovery_lets_nobody_foreign_answer() -> Result<()> {
    nobody_foreign_answers_and_pacemaker_repairs(&REWRITING_DELETED)
}

#[test]
fn an_opened_second_lock_lets_nobody_foreign_answer() -> Result<()> {
    nobody_foreign_answers_and_pacemaker_repairs(&SECOND_LOCK_OPENED)
}

/// What of ours is on a node.
pub fn left_on(node: &Node) -> Result<String> {
    node.run(&[
        "sh",
        "-ec",
        "nft list tables | grep clusterip || true; \
         ip -o addr | grep -E '10.77.0.99|fd77::99' || true; \
         ip maddr show dev eth0 | grep -iE '01:00:5e:7f|33:33:ff:00:00:99' || true; \
         grep -H 1 /proc/sys/net/ipv?/conf/eth0/drop_unicast_in_l2_multicast || true",
    ])
}

/// What is left where the ruleset was flushed: what the locks were went with the rules, and closed
/// is the safe side.
const LOCKS: &str = "/proc/sys/net/ipv4/conf/eth0/drop_unicast_in_l2_multicast:1\n\
                     /proc/sys/net/ipv6/conf/eth0/drop_unicast_in_l2_multicast:1\n";

#[test]
fn a_stop_succeeds_in_every_tampered_state_and_leaves_nothing() -> Result<()> {
    let all = [
        (SOMETHING, ""),
        (FLUSHED, LOCKS),
        (NFTABLES_RESTARTED, LOCKS),
        (RESTORED, ""),
        (LOADED_ON_TOP, ""),
        (ADDRESSES_DELETED, ""),
        (MEMBERSHIP_DELETED, ""),
        (ELEMENT_DELETED, ""),
        (DISPATCH_DELETED, ""),
        (CHAINS_FLUSHED, ""),
        (DROP_RULES_DELETED, ""),
        (ACCEPT_RULE_DELETED, ""),
        (INGRESS_RULES_DELETED, ""),
        (REWRITING_DELETED, ""),
        (SECOND_LOCK_OPENED, ""),
    ];
    let lab = Lab::new("stopped")?;
    let mut surprises = Vec::new();
    for (n, (tampering, left)) in (1..).zip(&all) {
        let node = lab.node(&format!("n{n}"))?;
        for agent in [agent(V4), agent(V6)] {
            for instance in instances(0) {
                agent.start(&node, instance)?;
            }
        }
        assert_ne!(left_on(&node)?, "");
        tamper(&node, tampering)?;
        for agent in [agent(V4), agent(V6)] {
            for instance in instances(0) {
                agent.call(&node, "stop", instance)?.expect(0);
            }
        }
        let found = left_on(&node)?;
        if found != *left {
            surprises.push((tampering.commands, found));
        }
    }
    assert!(surprises.is_empty(), "{surprises:#?}");
    Ok(())
}

#[test]
fn a_stop_after_a_flush_takes_the_membership_of_a_chosen_mac_with_it() -> Result<()> {
    let lab = Lab::new("chosen")?;
    let node = lab.node("n1")?;
    let agent = agent(V4).with("mac", "01:00:5e:7f:0a:0b");
    agent.start(&node, 0)?;
    tamper(&node, &FLUSHED)?;
    agent.call(&node, "stop", 0)?.expect(0);
    let left = left_on(&node)?;
    assert!(!left.contains("01:00:5e"), "{left}");
    Ok(())
}

#[test]
fn a_vip_that_is_alone_in_its_network_recovers_from_a_flush() -> Result<()> {
    let lab = Lab::new("alone")?;
    let node = lab.node("n1")?;
    let agent = Agent::new("10.99.0.99", BUCKETS).with("cidr_netmask", "24");
    for instance in instances(0) {
        agent.start(&node, instance)?;
    }
    tamper(&node, &FLUSHED)?;
    agent.call(&node, "monitor", 0)?.expect(7);
    for instance in instances(0) {
        agent.call(&node, "stop", instance)?.expect(0);
    }
    let left = node.run(&["ip", "-o", "addr", "show", "to", "10.99.0.99"])?;
    assert_eq!(left, "", "the address is still there after the stop");
    for instance in instances(0) {
        agent.start(&node, instance)?;
    }
    agent.call(&node, "monitor", 0)?.expect(0);
    Ok(())
}

#[test]
fn with_both_locks_broken_the_judge_sees_foreign_answers() -> Result<()> {
    let lab = Lab::new("control")?;
    let client = lab.client("c1")?;
    let sharing = Sharing::new(&lab, NodeOptions::default())?;
    pin_neighbours(&client)?;
    for node in &sharing.nodes {
        tamper(node, &SECOND_LOCK_OPENED)?;
        tamper(node, &FLUSHED)?;
    }
    let witness = client.witness(&vips())?;
    burst(&client, patience())?;
    let verdict = sharing.judge(&witness.finish()?);
    assert!(verdict.is_err(), "the judge is blind");
    Ok(())
}
