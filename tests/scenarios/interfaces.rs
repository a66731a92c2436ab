//! The interface of a VIP: what it may be, how it may be named, and that validate-all says of it what a
//! start would.

use crate::kernel_support::{ip_lines, kernel_has};
use crate::product::*;
use lab::{Error, Lab, Node, Result};
use std::time::Duration;

fn shown(node: &Node, vip: &str) -> Result<String> {
    node.run(&["ip", "-o", "addr", "show", "to", vip])
}

/// A VIP's interface comes under another one: that is drift, stops, and is refused from then on.
fn expect_refused_below(lab: &Lab, kind: &str, name: &str, made_by: &str) -> Result<()> {
    let node = lab.node("n1")?;
    ip_lines(&node, made_by)?;
    let agent = Agent::new(V4, 4).with("cidr_netmask", "24");
    agent.start(&node, 0)?;
    // A bond takes only what is down.
    ip_lines(
        &node,
        &format!("link set eth0 down\nlink set eth0 master {name}\nlink set eth0 up\n"),
    )?;
    let answer = agent.call(&node, "monitor", 0)?.expect(1);
    assert!(
        answer.reason().contains("interface eth0"),
        "{}",
        answer.stderr
    );
    let status = status(&node)?;
    let drift = status["vips"][0]["drift"].to_string();
    let wanted = format!("a port of the {kind} {name}");
    assert!(drift.contains(&wanted), "{drift}");
    agent.call(&node, "stop", 0)?.expect(0);
    assert_eq!(shown(&node, V4)?, "");
    for (vip, prefix) in [(V4, "24"), (V6, "64")] {
        let agent = Agent::new(vip, 4).with("cidr_netmask", prefix);
        let answer = agent.call(&node, "start", 0)?.expect(5);
        let wanted = format!("use {name}: eth0 is a port of");
        assert!(answer.reason().starts_with(&wanted), "{}", answer.stderr);
        assert_eq!(shown(&node, vip)?, "");
    }
    let up = ["up", &format!("{V4}/24"), "--nic", "eth0", "--buckets", "4"];
    let (code, said) = nodectl_fails(&node, &up)?;
    assert!(
        code == 65 && said.contains(&format!("use {name}")),
        "{said}"
    );
    assert_eq!(node.run(&["nft", "list", "ruleset"])?, "");
    Ok(())
}

#[test]
fn a_port_of_a_bridge_is_refused_and_drift() -> Result<()> {
    let lab = Lab::new("port")?;
    expect_refused_below(&lab, "bridge", "br0", "link add br0 type bridge\n")
}

#[test]
fn a_slave_of_a_bond_is_refused_and_drift() -> Result<()> {
    let made_by = "link add bond0 type bond mode active-backup\n";
    if !kernel_has("bonds", &["bonding"], |node| ip_lines(node, made_by))? {
        return Ok(());
    }
    let lab = Lab::new("slave")?;
    expect_refused_below(&lab, "bond", "bond0", made_by)
}

#[test]
fn in_a_vrf_the_way_to_the_network_is_in_its_table() -> Result<()> {
    let made_by = "link add red type vrf table 77\n";
    if !kernel_has("VRFs", &["vrf"], |node| ip_lines(node, made_by))? {
        return Ok(());
    }
    let lab = Lab::new("vrf")?;
    let node = lab.node("n1")?;
    ip_lines(&node, made_by)?;
    ip_lines(&node, "link set red up\nlink set eth0 master red\n")?;
    for (vip, prefix) in [("192.0.2.99", "24"), ("2001:db8::99", "64")] {
        let agent = Agent::new(vip, 4).with("cidr_netmask", prefix);
        agent.start(&node, 0)?;
        agent.call(&node, "monitor", 0)?.expect(0);
        let family = if prefix == "24" { "-4" } else { "-6" };
        let all = |table| node.run(&["ip", family, "route", "show", "table", table]);
        assert!(all("77")?.contains("proto 67"), "{}", all("77")?);
        assert!(!all("main")?.contains("proto 67"), "{}", all("main")?);
        agent.call(&node, "stop", 0)?.expect(0);
        assert!(!all("77")?.contains("proto 67"), "{}", all("77")?);
    }
    Ok(())
}

#[test]
fn interfaces_may_be_named_as_for_ipaddr2_and_by_any_of_their_names() -> Result<()> {
    let lab = Lab::new("named")?;
    let node = lab.node("n1")?;
    ip_lines(
        &node,
        "link property add dev eth0 altname core\n\
         link property add dev eth0 altname the-cable-to-the-core-switch\n",
    )?;
    for (parameters, word) in [
        (&[("nic", "eth0:1")][..], " eth0:1\\"),
        (&[("nic", "eth0:1"), ("iflabel", "web")], " eth0:1\\"),
        (&[("nic", "eth0@if4")], " eth0\\"),
        (&[("nic", "eth0"), ("netmask", "255.255.255.0")], " eth0\\"),
        (&[("nic", "core"), ("iflabel", "web")], " eth0:web\\"),
        (&[("nic", "the-cable-to-the-core-switch")], " eth0\\"),
    ] {
        let agent = parameters
            .iter()
            .fold(Agent::new(V4, 4), |agent, (name, value)| {
                agent.with(name, value)
            });
        for level in ["0", "10"] {
            let check = agent.clone().variable("OCF_CHECK_LEVEL", level);
            check.call(&node, "validate-all", 0)?.expect(0);
        }
        agent.start(&node, 0)?;
        assert!(
            shown(&node, V4)?.contains(word),
            "{parameters:?}: {}",
            shown(&node, V4)?
        );
        agent.call(&node, "monitor", 0)?.expect(0);
        agent.call(&node, "stop", 0)?.expect(0);
        assert_eq!(shown(&node, V4)?, "");
        assert_eq!(node.run(&["nft", "list", "ruleset"])?, "");
    }
    let netmask = Agent::new(V4, 4)
        .with("netmask", "26")
        .with("cidr_netmask", "25");
    netmask.start(&node, 0)?;
    assert!(nodectl(&node, &["status"])?.contains("10.77.0.99/25"));
    netmask.call(&node, "stop", 0)?.expect(0);
    for nic in ["core", "the-cable-to-the-core-switch", "eth0:1"] {
        nodectl(
            &node,
            &["up", V4, "--nic", nic, "--buckets", "4", "--own", "0"],
        )?;
        nodectl(&node, &["down", V4])?;
    }
    let (code, said) = nodectl_fails(&node, &["up", V4, "--nic", "none-such", "--buckets", "4"])?;
    assert!(
        code == 65 && said.contains("there is no interface none-such"),
        "{said}"
    );
    Ok(())
}

/// What validate-all says at both levels, and then what start does: they agree.
#[track_caller]
fn expect_agreement(node: &Node, agent: &Agent, code: i32, words: &str) -> Result<()> {
    for level in ["0", "10"] {
        let check = agent.clone().variable("OCF_CHECK_LEVEL", level);
        let answer = check.call(node, "validate-all", 0)?;
        assert!(
            answer.code == code && answer.reason().contains(words),
            "level {level}: {} {}",
            answer.code,
            answer.stderr
        );
    }
    let answer = agent.call(node, "start", 0)?.expect(code);
    assert!(answer.reason().contains(words), "{}", answer.stderr);
    agent.call(node, "stop", 0)?.expect(0);
    Ok(())
}

#[test]
fn validate_all_says_what_a_start_would() -> Result<()> {
    let lab = Lab::new("validate")?;
    let node = lab.node("n1")?;
    ip_lines(&node, "addr add 10.80.3.4/16 dev eth0\n")?;
    for fits in ["10.80.0.255", "10.80.3.0"] {
        expect_agreement(&node, &Agent::new(fits, 4), 0, "")?;
        expect_agreement(&node, &Agent::new(fits, 4).without("nic"), 0, "")?;
        let narrow = Agent::new(fits, 4).with("cidr_netmask", "24");
        expect_agreement(&node, &narrow, 6, "of its")?;
    }
    expect_agreement(
        &node,
        &Agent::new("10.80.255.255", 4),
        6,
        "the broadcast address",
    )?;
    let labelled = |label| Agent::new(V4, 4).with("iflabel", label);
    expect_agreement(&node, &labelled("ten-letter"), 0, "")?;
    expect_agreement(&node, &labelled("eleven-lett"), 6, "not be longer than 15")?;
    expect_agreement(
        &node,
        &labelled("eleven-lett").without("nic"),
        6,
        "not be longer than 15",
    )?;
    expect_agreement(
        &node,
        &Agent::new(V4, 4).with("mac", "02:00:00:00:00:01"),
        6,
        "unicast MAC",
    )?;

    // Where the place is not known, nothing is guessed.
    let elsewhere = Agent::new("198.51.100.255", 4).without("nic");
    elsewhere.call(&node, "validate-all", 0)?.expect(0);
    let check = elsewhere.clone().variable("OCF_CHECK_LEVEL", "10");
    let answer = check.call(&node, "validate-all", 0)?.expect(5);
    assert!(
        answer.reason().contains("is in no network"),
        "{}",
        answer.stderr
    );
    Ok(())
}

#[test]
fn settings_that_cannot_be_written_are_said_before_the_start() -> Result<()> {
    let lab = Lab::new("read-only")?;
    let node = lab.node("n1")?;
    let behind = [
        "unshare",
        "--mount",
        "sh",
        "-ec",
        "mount -o remount,ro,bind /proc/sys 2>/dev/null || mount --bind -o ro /proc/sys /proc/sys; exec \"$@\"",
        "sh",
    ];
    let agent = Agent::new(V4, 4);
    let before = state_of(&node)?;
    for (action, level) in [("validate-all", "10"), ("start", "0")] {
        let agent = agent.clone().variable("OCF_CHECK_LEVEL", level);
        let answer = agent.call_behind(&behind, &node, action, 0)?.expect(5);
        for words in ["drop_unicast_in_l2_multicast=\"false\"", "read-only"] {
            assert!(answer.stderr.contains(words), "{}", answer.stderr);
        }
        assert_eq!(state_of(&node)?, before);
    }
    let without = agent.with("drop_unicast_in_l2_multicast", "false");
    without.call_behind(&behind, &node, "start", 0)?.expect(0);
    without.call_behind(&behind, &node, "monitor", 0)?.expect(0);
    without.call_behind(&behind, &node, "stop", 0)?.expect(0);

    let program = lab::built("nodectl")?.display().to_string();
    let up = |more: &[&str]| {
        let up = [
            &program,
            "up",
            V4,
            "--nic",
            "eth0",
            "--buckets",
            "4",
            "--own",
            "0",
        ];
        node.output(&[&behind[..], &up, more].concat())
    };
    let said = String::from_utf8_lossy(&up(&[])?.stderr).into_owned();
    assert!(said.contains("--without-second-lock"), "{said}");
    assert_eq!(state_of(&node)?, before);
    assert!(up(&["--without-second-lock"])?.status.success());
    nodectl(&node, &["down", V4])?;
    Ok(())
}

#[test]
fn an_interface_that_is_down_is_set_up_and_one_without_ipv6_named() -> Result<()> {
    let lab = Lab::new("down")?;
    let node = lab.node("n1")?;
    for vip in [V4, V6] {
        // Its own addresses bring their routes again when it comes up; IPv6's are gone.
        let agent = Agent::new(vip, 4).with("cidr_netmask", if vip == V4 { "24" } else { "64" });
        node.run(&["ip", "link", "set", "eth0", "down"])?;
        agent.start(&node, 0)?;
        agent.call(&node, "monitor", 0)?.expect(0);
        agent.call(&node, "stop", 0)?.expect(0);
    }
    // A cable that is out is not put in by setting the interface up.
    lab.cable("n1", false)?;
    lab.wait_until("the carrier to go", Duration::from_secs(10), || match node
        .run(&["ip", "link", "show", "eth0"])?
        .contains("NO-CARRIER")
    {
        true => Ok(()),
        false => Err(Error::new("it is there")),
    })?;
    node.run(&["ip", "link", "set", "eth0", "down"])?;
    let agent = Agent::new(V4, 4).with("cidr_netmask", "24");
    let answer = agent.call(&node, "start", 0)?.expect(1);
    assert!(
        answer.reason().contains("without a carrier"),
        "{}",
        answer.stderr
    );
    agent.call(&node, "stop", 0)?.expect(0);
    lab.cable("n1", true)?;

    node.sysctl("net.ipv6.conf.eth0.disable_ipv6", "1")?;
    let agent = Agent::new(V6, 4).with("cidr_netmask", "64");
    let answer = agent.call(&node, "start", 0)?.expect(5);
    assert!(
        answer.reason().starts_with("IPv6 is switched off on eth0"),
        "{}",
        answer.stderr
    );
    let check = agent.variable("OCF_CHECK_LEVEL", "10");
    check.call(&node, "validate-all", 0)?.expect(5);
    Ok(())
}

#[test]
fn settings_of_arp_that_hide_a_vip_are_said() -> Result<()> {
    let lab = Lab::new("arp-ignore")?;
    let node = lab.node("n1")?;
    for (value, is_deaf) in [
        ("0", false),
        ("1", false),
        ("2", false),
        ("3", true),
        ("8", true),
    ] {
        node.sysctl("net.ipv4.conf.all.arp_ignore", value)?;
        let agent = Agent::new(V4, 4);
        let said = agent.call(&node, "start", 0)?.expect(0).stderr;
        assert_eq!(
            said.contains(&format!("arp_ignore is {value}")),
            is_deaf,
            "{said}"
        );
        assert_eq!(nodectl(&node, &["status"])?.contains("arp_ignore"), is_deaf);
        agent.call(&node, "stop", 0)?.expect(0);
    }
    Ok(())
}
