//! nodectl with bad arguments: the exit code of the contract, a way out, and nothing changes.

use crate::product::*;
use lab::{Lab, Result};

const MANAGED: &str = "10.77.0.98";
const WITH_DPORT: &str = "10.77.0.97";

/// Arguments in one line, the exit code, and what is to be said.
const CASES: &[(&str, i32, &str)] = &[
    ("", 64, "Usage"),
    ("frobnicate", 64, "frobnicate"),
    ("up 10.77.0.50", 64, "--buckets"),
    ("up 10.77.0.50 --buckets 0", 64, "1 to 1024"),
    ("up 10.77.0.50 --buckets 5000", 64, "1 to 1024"),
    ("up 10.77.0.50 --buckets many", 64, "1 to 1024"),
    ("up 10.77.0.300 --buckets 12", 64, "10.77.0.300"),
    ("up 10.77.0.50 --buckets 12 --own 5-3", 64, "5-3"),
    (
        "up 10.77.0.50 --buckets 12 --seed zebra",
        64,
        "0 to 4294967295",
    ),
    (
        "up 10.77.0.50 --buckets 12 --seed=-1",
        64,
        "0 to 4294967295",
    ),
    ("up 10.77.0.50 --buckets 12 --mac 01:00", 64, "six octets"),
    ("up 10.77.0.50 --buckets 12 --hash destip", 64, "sourceip"),
    ("up 10.77.0.50 --buckets 12 --layout ipvs", 64, "network"),
    ("up 10.77.0.50 --buckets 12 --nic a/b", 64, "ip link"),
    ("take 10.77.0.99", 64, "BUCKETS"),
    ("take 10.77.0.99 x", 64, "'x'"),
    ("release 10.77.0.99 1,,2", 64, "1,,2"),
    ("drain 10.77.0.99 1 --timeout 0", 64, "1..=86400"),
    ("drain 10.77.0.99 1 --timeout 90000", 64, "1..=86400"),
    ("take 10.77.0.99 1 --adopt soon", 64, "soon"),
    ("wait-drained 10.77.0.99 --timeout x", 64, "x"),
    ("drain 10.77.0.50 1", 65, "nodectl status"),
    ("undrain 10.77.0.99 1", 65, "nodectl take"),
    ("owner 10.77.0.99 host", 64, "192.0.2.1:40000"),
    ("owner 10.77.0.97 10.78.0.1:1000", 64, "--dport"),
    ("explain 10.77.0.99", 64, "CLIENT"),
    ("explain 10.77.0.50 10.78.0.1:1000", 65, "nodectl status"),
    ("explain 10.77.0.97 10.78.0.1:1000", 64, "--dport"),
    ("explain 10.77.0.99 [fd78::1]:1000", 65, "IPv6"),
    ("status --rate 61", 64, "0 to 60 seconds"),
    ("status --rate soon", 64, "0 to 60 seconds"),
    ("status --cluster --rate 1", 64, "--rate"),
    (
        "status --cluster",
        69,
        "clusteripd is not used on this node",
    ),
    ("buckets 10.77.0.99 --cluster", 69, "clusteripd is not used"),
    ("watch --json", 69, "'nodectl status' shows"),
    ("metrics", 69, "there is no /run/clusteripd/socket"),
    ("check 10.77.0.50 --nic eth0 --for 5", 64, "--send|--listen"),
    (
        "check 10.77.0.50 --nic eth0 --send --for 103",
        64,
        "1 to 102",
    ),
    (
        "check 10.77.0.50 --port eth0",
        65,
        "eth0 is no port of a bridge and no macvtap",
    ),
    ("crm 10.77.0.99", 64, "--nic"),
    ("crm 10.77.0.99 --nic eth0 --nodes 0", 64, "1..=1024"),
    ("crm 10.77.0.99 --nic eth0 --buckets 0", 64, "1 to 1024"),
    (
        "crm 10.77.0.99 --nic eth0 --service a;b",
        64,
        "systemd:nginx",
    ),
    ("crm 224.0.0.99 --nic eth0", 65, "unicast address"),
    ("pcs 10.77.0.99/33 --nic eth0", 65, "/33"),
    (
        "pcs 10.77.0.99 --nic eth0 --mac 02:77:00:00:00:63",
        65,
        "multicast MAC",
    ),
    ("arp", 64, "VIP"),
    ("arp 10.77.0.99 --vlan 4095", 64, "1 to 4094"),
    ("arp 10.77.0.99 --ports a$b", 64, "no port"),
    ("arp 10.77.0.99 --vendor acme", 64, "nodectl arp --list"),
    ("arp 10.77.0.99 --list", 64, "--list"),
    ("arp 224.0.0.5", 65, "unicast address"),
    (
        "arp 10.77.0.99 --mac 00:11:22:33:44:55",
        65,
        "multicast MAC",
    ),
    ("status --netns a/b", 65, "network namespace"),
    ("status --netns no-such-one", 65, "ip netns"),
    (
        "up 10.77.0.50 --buckets 2 --netns no-such-one",
        65,
        "ip netns",
    ),
    ("crm 10.77.0.99 --nic eth0 --netns a'b", 64, "ip netns"),
    ("crm 10.77.0.99 --nic eth0 --netns a/b", 64, "ip netns"),
    ("ruleset 10.77.0.50", 64, "--buckets"),
    ("ruleset 10.77.0.50 --buckets 2 --own 2", 65, "0 to 1"),
    ("up 224.0.0.99 --buckets 2", 65, "unicast address"),
    (
        "up 10.77.0.99 --buckets 12 --seed 7 --drain-timeout 300",
        65,
        "drain time-out of 0 s",
    ),
    ("take 10.77.0.50 1", 65, "nodectl status"),
    ("release 10.77.0.50 1", 65, "nodectl status"),
    ("buckets 10.77.0.50", 65, "nodectl status"),
    ("owner 10.77.0.50 10.78.0.1:1000", 65, "nodectl status"),
    ("owner 10.77.0.99 [fd78::1]:1000", 65, "IPv6"),
    ("take 10.77.0.99 12", 65, "12"),
    ("release 10.77.0.99 0,1023", 65, "1023"),
    ("up 10.77.0.50 --buckets 12 --own 12", 65, "12"),
    ("up 10.77.0.99 --buckets 6", 65, "12"),
    ("up 10.77.0.99 --buckets 12 --seed 8", 65, "0x00000007"),
    (
        "up 10.77.0.99 --buckets 12 --seed 7 --mode stealth",
        65,
        "(mode multicast, asked for stealth; mac",
    ),
    (
        "up 10.77.0.99 --buckets 12 --seed 7 --mode igmp",
        65,
        "give --mode multicast",
    ),
    ("mac 2001:db8::99 --compat clusterip", 65, "no IPv6"),
    ("up 10.77.0.50 --buckets 12 --nic eth9", 65, "ip link"),
    (
        "up 10.77.0.50 --buckets 12 --mac 02:77:00:00:00:63",
        65,
        "multicast MAC",
    ),
    (
        "up 224.0.0.99/24 --nic eth0 --buckets 12",
        65,
        "unicast address",
    ),
    ("up 10.77.0.50/33 --nic eth0 --buckets 12", 65, "/33"),
    ("up 10.77.0.1 --buckets 12", 65, "own address"),
    ("up 172.16.0.1 --buckets 12", 65, "172.16.0.1"),
    ("up 10.77.0.98 --buckets 12 --own 1", 77, "--force"),
    ("take 10.77.0.98 1", 77, "--force"),
    ("release 10.77.0.98 0", 77, "--force"),
    ("down 10.77.0.98", 77, "--force"),
];

#[test]
fn bad_arguments_change_nothing_and_have_the_exit_codes_of_the_contract() -> Result<()> {
    let lab = Lab::new("nodectl")?;
    let node = lab.node("n1")?;
    nodectl(
        &node,
        &["up", V4, "--buckets", "12", "--seed", "7", "--own", "0,3"],
    )?;
    let mode = "sourceip-sourceport-destport";
    nodectl(
        &node,
        &["up", WITH_DPORT, "--buckets", "12", "--hash", mode],
    )?;
    Agent::new(MANAGED, 12).start(&node, 0)?;
    let before = state_of(&node)?;
    let mut wrong = Vec::new();
    for (line, code, says) in CASES {
        let args: Vec<&str> = line.split_whitespace().collect();
        let (found, said) = nodectl_fails(&node, &args)?;
        if found != *code || !said.contains(says) {
            wrong.push(format!("'{line}' ended with {found}: {said}"));
        }
        if state_of(&node)? != before {
            wrong.push(format!("'{line}' has changed something"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn without_the_capability_nodectl_is_not_permitted_anything() -> Result<()> {
    let lab = Lab::new("nodectl")?;
    let node = lab.node("n1")?;
    nodectl(&node, &["up", V4, "--buckets", "12", "--own", "0"])?;
    let before = state_of(&node)?;
    let program = lab::built("nodectl")?.display().to_string();
    for line in [
        "up 10.77.0.50 --buckets 12",
        "take 10.77.0.99 1",
        "down 10.77.0.99",
        "status",
    ] {
        let mut command = UNPRIVILEGED.to_vec();
        command.push(&program);
        command.extend(line.split(' '));
        let output = node.output(&command)?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(77), "{line}: {said}");
        assert!(said.contains("as root"), "{line}: {said}");
    }
    assert_eq!(state_of(&node)?, before);
    Ok(())
}

#[test]
fn what_cannot_be_written_is_no_success() -> Result<()> {
    let lab = Lab::new("nodectl-full")?;
    let node = lab.node("n1")?;
    let nodectl = lab::built("nodectl")?;
    let nodectl = nodectl.display();
    let full = format!("{nodectl} crm 10.77.0.99 --nic eth0 > /dev/full");
    let output = node.output(&["sh", "-c", &full])?;
    assert_eq!(output.status.code(), Some(71));
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left"));
    // Who closes the pipe has seen enough.
    let first = format!("{nodectl} arp 10.77.0.99 --vendor all | head -n 1");
    assert!(
        node.run(&["sh", "-c", &first])?
            .contains("10.77.0.99 is at")
    );
    Ok(())
}

#[test]
fn what_is_done_already_is_done_again_without_a_change() -> Result<()> {
    let lab = Lab::new("nodectl")?;
    let node = lab.node("n1")?;
    let clean = state_of(&node)?;
    nodectl(&node, &["down", V4])?;
    assert_eq!(state_of(&node)?, clean);
    for line in [
        "up 10.77.0.99 --buckets 12 --own 0,3-5",
        "take 10.77.0.99 7,8 --adopt 0",
        "release 10.77.0.99 3,7",
        "up fd77::99 --buckets 12",
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        nodectl(&node, &args)?;
        let once = state_of(&node)?;
        nodectl(&node, &args)?;
        assert_eq!(state_of(&node)?, once, "{line}");
    }
    assert_eq!(status(&node)?["vips"][0]["owned"].to_string(), "[0,4,5,8]");
    for vip in [V4, V6, V4] {
        nodectl(&node, &["down", vip])?;
    }
    assert_eq!(state_of(&node)?, clean);
    Ok(())
}

#[test]
fn by_force_a_vip_of_pacemaker_is_changed_and_stays_pacemakers() -> Result<()> {
    let lab = Lab::new("force")?;
    let node = lab.node("n1")?;
    Agent::new(MANAGED, 12).start(&node, 0)?;
    nodectl(&node, &["take", MANAGED, "1", "--force"])?;
    let vips = status(&node)?;
    assert_eq!(vips["vips"][0]["owned"].to_string(), "[0,1]");
    assert_eq!(vips["vips"][0]["manager"], "pacemaker:resIP");
    Agent::new(MANAGED, 12).call(&node, "monitor", 1)?.expect(0);
    nodectl(&node, &["release", MANAGED, "0", "--force"])?;
    Agent::new(MANAGED, 12).call(&node, "monitor", 0)?.expect(7);
    nodectl(&node, &["down", MANAGED, "--force"])?;
    assert_eq!(status(&node)?["vips"].to_string(), "[]");
    Ok(())
}
