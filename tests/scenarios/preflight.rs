//! What `nodectl check` finds: each thing that bites is made to bite, found, and mended by the command that is printed;
//! and where all is well nothing is said.

use crate::kernel_support::{ip_lines, kernel_has};
use crate::preflight_support::*;
use crate::product::*;
use crate::switch_support::*;
use lab::{Error, Lab, Node, Result};
use std::time::Duration;

/// V4 with the prefix of its network, for interfaces that have no address in it.
const V4_NET: &str = "10.77.0.99/24";

#[test]
fn a_bridge_that_snoops_and_is_asked_is_found_and_the_printed_command_mends_it() -> Result<()> {
    let lab = Lab::new("check-snooping")?;
    let client = lab.client("c1")?;
    for vip in [V4, V6] {
        let node = node_with(&lab, "n1", vip, "multicast")?;
        let port = format!("{vip} --port n1");
        Checked::on_switch(&lab, &port)?.expect_nothing()?;
        // In the node's own namespace the switch is out of sight, which is said.
        let here = Checked::on(&node, &[vip])?;
        assert_eq!(here.check("bridge-snooping")["outcome"], "unknown");
        here.expect_nothing()?;

        set_bridge(&lab, "mcast_snooping 1")?;
        let unasked = Checked::on_switch(&lab, &port)?;
        unasked.expect_only("bridge-snooping", "warning")?;
        assert_eq!(answered(&client, vip)?, 20);
        snoop(&lab)?;
        wait_for_silence(&lab, &client, vip)?;
        let asked = Checked::on_switch(&lab, &port)?;
        asked.expect_only("bridge-snooping", "fatal")?;
        Checked::on_switch(&lab, &format!("{port} --mode stealth"))?.expect_nothing()?;
        if vip == V6 {
            // An entry of the address itself, for this port and for another.
            let entry = |what: &str, port: &str| {
                let line = format!("bridge mdb {what} dev br0 port {port} grp {vip} permanent");
                lab.switch(&line.split(' ').collect::<Vec<_>>())
            };
            let words = format!("there is not a permanent entry of {vip} itself for n1");
            assert!(asked.answer.to_string().contains(&words));
            entry("add", "c1")?;
            Checked::on_switch(&lab, &port)?.expect_only("bridge-snooping", "fatal")?;
            entry("add", "n1")?;
            let let_through = Checked::on_switch(&lab, &port)?;
            let_through.expect_nothing()?;
            let notes = let_through.check("bridge-snooping")["notes"].to_string();
            assert!(notes.contains("gets there all the same"), "{notes}");
            assert_eq!(answered(&client, vip)?, 20);
            entry("del", "n1")?;
            entry("del", "c1")?;
        }

        asked.mend_on_switch(&lab, "bridge-snooping")?;
        Checked::on_switch(&lab, &port)?.expect_nothing()?;
        assert_eq!(answered(&client, vip)?, 20);
        nodectl(&node, &["down", vip])?;
        set_bridge(&lab, "mcast_snooping 0 mcast_querier 0")?;
        lab.switch(&["bridge", "link", "set", "dev", "n1", "mcast_router", "1"])?;
    }
    Ok(())
}

#[test]
fn a_querier_of_another_host_is_found_as_well_as_the_bridges_own() -> Result<()> {
    let lab = Lab::new("check-querier")?;
    let (client, _node) = (lab.client("c1")?, lab.node("n1")?);
    set_bridge(&lab, "mcast_snooping 1")?;
    let port = format!("{V4} --port n1");
    Checked::on_switch(&lab, &port)?.expect_only("bridge-snooping", "warning")?;
    let [query, _] = queries(&client, &[])?;
    client.wire("eth0")?.send(&query)?;
    lab.wait_until("the bridge to hear it", Duration::from_secs(5), || {
        let checked = Checked::on_switch(&lab, &port)?;
        match checked.check("bridge-snooping")["outcome"] == "fatal" {
            true => Ok(()),
            false => Err(Error::new(checked.answer.to_string())),
        }
    })?;
    // IPv6's querier is another one.
    Checked::on_switch(&lab, &format!("{V6} --port n1"))?.expect_only("bridge-snooping", "warning")
}

#[test]
fn a_port_that_does_not_flood_is_found_and_mended() -> Result<()> {
    let lab = Lab::new("check-flooding")?;
    let client = lab.client("c1")?;
    for (mode, setting) in [("multicast", "mcast_flood"), ("stealth", "flood")] {
        let node = node_with(&lab, "n1", V4, mode)?;
        assert_eq!(answered(&client, V4)?, 20);
        lab.switch(&["bridge", "link", "set", "dev", "n1", setting, "off"])?;
        wait_for_silence(&lab, &client, V4)?;
        let shut = Checked::on_switch(&lab, &format!("{V4} --port n1 --mode {mode}"))?;
        shut.expect_only("bridge-flooding", "fatal")?;
        let other = match mode {
            "stealth" => "multicast",
            _ => "stealth",
        };
        Checked::on_switch(&lab, &format!("{V4} --port n1 --mode {other}"))?.expect_nothing()?;
        shut.mend_on_switch(&lab, "bridge-flooding")?;
        assert_eq!(answered(&client, V4)?, 20);
        nodectl(&node, &["down", V4])?;
        client.run(&["ip", "neigh", "flush", "all"])?;
    }
    Ok(())
}

#[test]
fn ports_that_silence_the_question_are_found_and_nodes_that_disagree_do_start_there() -> Result<()>
{
    let lab = Lab::new("check-silence")?;
    let (first, second) = (lab.node("n1")?, lab.node("n2")?);
    let up = |node: &Node, seed: &str| {
        let words = format!("up {V4} --nic eth0 --buckets 2 --own 0 --seed {seed}");
        nodectl(node, &words.split(' ').collect::<Vec<_>>())
    };
    up(&first, "7")?;
    for (setting, ports) in [("isolated", &["n1", "n2"][..]), ("neigh_suppress", &["n1"])] {
        for port in ports {
            lab.switch(&["bridge", "link", "set", "dev", port, setting, "on"])?;
        }
        let silent = Checked::on_switch(&lab, &format!("{V4} --port n1"))?;
        silent.expect_only("question-silenced", "warning")?;
        match (up(&second, "8"), setting) {
            (Ok(_), _) => drop(nodectl(&second, &["down", V4])?),
            // Debian's 6.12.117 lets probes through there, 6.18.44 does not.
            (Err(_), "neigh_suppress") => {}
            (Err(error), _) => return Err(error),
        }
        silent.mend_on_switch(&lab, "question-silenced")?;
        Checked::on_switch(&lab, &format!("{V4} --port n1"))?.expect_nothing()?;
        assert!(up(&second, "8").is_err(), "{setting}");
    }
    Ok(())
}

#[test]
fn a_bridge_of_the_nodes_own_is_judged_as_the_port() -> Result<()> {
    let lab = Lab::new("check-own-bridge")?;
    let node = lab.node("n1")?;
    ip_lines(
        &node,
        "link add br7 type bridge mcast_snooping 1 mcast_querier 1\nlink set br7 up\n\
         link add link br7 name on7 type macvlan mode bridge\nlink set on7 up\n",
    )?;
    // What is made on it would be beside it.
    node.sysctl("net.ipv4.conf.br7.drop_unicast_in_l2_multicast", 1)?;
    for nic in ["br7", "on7"] {
        let found = Checked::on(&node, &[V4_NET, "--nic", nic])?;
        found.expect_only("bridge-snooping", "fatal")?;
        assert_eq!(
            found.cures("bridge-snooping"),
            ["ip link set br7 type bridge mcast_router 2"]
        );
    }
    node.run(&[
        "ip",
        "link",
        "set",
        "br7",
        "type",
        "bridge",
        "mcast_router",
        "2",
    ])?;
    Checked::on(&node, &[V4_NET, "--nic", "br7"])?.expect_nothing()
}

#[test]
fn a_bridge_that_snoops_for_each_vlan_is_found_whatever_its_ports_are() -> Result<()> {
    let made_by = "link add br7 type bridge mcast_snooping 1 mcast_router 2 vlan_filtering 1\n\
                   link set br7 type bridge mcast_vlan_snooping 1\n";
    if !kernel_has("VLAN filtering", &[], |node| ip_lines(node, made_by))? {
        return Ok(());
    }
    let lab = Lab::new("check-vlans")?;
    let node = lab.node("n1")?;
    ip_lines(&node, made_by)?;
    let found = Checked::on(&node, &[V4_NET, "--nic", "br7"])?;
    found.expect_only("bridge-snooping", "warning")?;
    found.mend(&node, "bridge-snooping")?;
    Checked::on(&node, &[V4_NET, "--nic", "br7"])?.expect_nothing()
}

#[test]
fn interfaces_that_cannot_carry_a_vip_are_found() -> Result<()> {
    let lab = Lab::new("check-interfaces")?;
    let node = lab.node("n1")?;
    ip_lines(
        &node,
        "link add lan0 type veth peer name lan0-far\nlink set lan0 up\nlink set lan0-far up\n\
         link add link lan0 name mv0 type macvlan mode bridge\n\
         link add link lan0-far name mt0 type macvtap mode bridge\n\
         link add port0 type veth peer name port0-far\nlink add br7 type bridge\nlink set port0 master br7\n\
         link add deaf0 type veth peer name deaf0-far\nlink set deaf0 arp off\n\
         link add still0 type veth peer name still0-far\nlink set still0 multicast off\n",
    )?;
    for (nic, mode, name, outcome) in [
        ("lan0", "multicast", "", "fine"),
        ("lan0", "stealth", "", "fine"),
        ("mv0", "multicast", "beneath", "fatal"),
        ("mv0", "stealth", "mac-filter", "fatal"),
        ("mt0", "multicast", "mac-filter", "fatal"),
        ("mt0", "igmp", "mac-filter", "fatal"),
        ("lo", "multicast", "interface", "fatal"),
        ("port0", "multicast", "interface", "fatal"),
        ("deaf0", "stealth", "interface", "fatal"),
        ("still0", "multicast", "interface", "warning"),
        ("still0", "stealth", "", "fine"),
    ] {
        let found = Checked::on(&node, &[V4_NET, "--nic", nic, "--mode", mode])?;
        found.expect_only(name, outcome)?;
    }
    // Each is mended by what is printed.
    for (nic, name) in [
        ("mv0", "beneath"),
        ("mt0", "mac-filter"),
        ("deaf0", "interface"),
        ("still0", "interface"),
    ] {
        Checked::on(&node, &[V4_NET, "--nic", nic])?.mend(&node, name)?;
        Checked::on(&node, &[V4_NET, "--nic", nic])?.expect_nothing()?;
    }
    Ok(())
}

/// What a start refuses at once is said in its words.
#[test]
fn what_a_start_refuses_is_fatal_in_its_own_words() -> Result<()> {
    let lab = Lab::new("check-refused")?;
    let (node, other) = (lab.node("n1")?, lab.node("n2")?);
    let refused = |check: &str, args: &[&str], up: &str| -> Result<()> {
        let found = Checked::on(&node, args)?;
        found.expect_only(check, "fatal")?;
        let words: Vec<&str> = up.split(' ').collect();
        let (_, said) = nodectl_fails(&node, &words)?;
        let what = found.check(check)["findings"][0]["what"].to_string();
        let what = what.trim_matches('"').replace("\\\"", "\"");
        assert!(said.contains(&what), "{what}: {said}");
        Ok(())
    };
    let own = [V4, V6].map(|vip| node.address_like(ip(vip)).to_string());
    for own in &own {
        let up = format!("up {own} --nic eth0 --buckets 2");
        refused("refused", &[own, "--nic", "eth0"], &up)?;
    }
    let elsewhere = "192.0.2.99";
    let up = format!("up {elsewhere} --nic eth0 --buckets 2");
    refused("refused", &[elsewhere, "--nic", "eth0"], &up)?;
    Checked::on(&node, &["192.0.2.99/24", "--nic", "eth0"])?.expect_nothing()?;
    // Others on the link, in another mode.
    let words = format!("up {V4} --nic eth0 --buckets 2 --own 0 --seed 7 --mode stealth");
    nodectl(&other, &words.split(' ').collect::<Vec<_>>())?;
    let up = format!("up {V4} --nic eth0 --buckets 2 --seed 7");
    refused("address-taken", &[V4, "--nic", "eth0"], &up)?;
    let same = Checked::on(&node, &[V4, "--nic", "eth0", "--mode", "stealth"])?;
    same.expect_nothing()?;
    let notes = same.check("address-taken")["notes"].to_string();
    assert!(notes.contains(&lab.mac_of("n2")?.to_string()), "{notes}");
    Ok(())
}

#[test]
fn stealth_on_a_bridge_of_the_nodes_own_is_a_warning() -> Result<()> {
    let lab = Lab::new("check-stealth-bridge")?;
    let node = lab.node("n1")?;
    ip_lines(
        &node,
        "link add br7 type bridge mcast_snooping 0\nlink set br7 up\nlink add p7 type veth peer name p7-far\nlink set p7 master br7\n",
    )?;
    let of = |mode| Checked::on(&node, &[V4_NET, "--nic", "br7", "--mode", mode]);
    of("stealth")?.expect_only("own-bridge", "warning")?;
    of("multicast")?.expect_nothing()
}

#[test]
fn a_service_outside_of_the_vrf_is_found_to_be_deaf() -> Result<()> {
    let made_by = "link add red type vrf table 9\n";
    if !kernel_has("VRFs", &["vrf"], |node| ip_lines(node, made_by))? {
        return Ok(());
    }
    let lab = Lab::new("check-vrf")?;
    let (client, node) = (lab.client("c1")?, lab.node("n1")?);
    ip_lines(
        &node,
        "link add red type vrf table 9\nlink set red up\nlink set eth0 master red\n",
    )?;
    Checked::on(&node, &[V4_NET, "--nic", "red"])?.expect_only("interface", "fatal")?;
    // The routes of its network are in the VRF's table, where nobody looks for a prefix.
    let node = node_with(&lab, "n1", &format!("{V4}/24"), "multicast")?;
    // So is the way to the clients.
    ip_lines(
        &node,
        &format!("route replace 10.78.0.0/16 vrf red via {}\n", client.v4()),
    )?;
    let found = Checked::on(&node, &[V4])?;
    found.expect_only("vrf", "warning")?;
    assert_eq!(answered(&client, V4)?, 0);
    found.mend(&node, "vrf")?;
    Checked::on(&node, &[V4])?.expect_nothing()?;
    assert_eq!(answered(&client, V4)?, 20);
    Ok(())
}

#[test]
fn an_ipvlan_is_found_and_of_two_only_one_can_have_the_vip() -> Result<()> {
    let made_by = "link add lan0 type veth peer name lan0-far\nlink set lan0 up\n\
                   link add link lan0 name iv0 type ipvlan mode l2\nlink add link lan0 name iv1 type ipvlan mode l2\n\
                   link set iv0 up\nlink set iv1 up\n";
    if !kernel_has("ipvlan", &["ipvlan"], |node| ip_lines(node, made_by))? {
        return Ok(());
    }
    let lab = Lab::new("check-ipvlan")?;
    let node = lab.node("n1")?;
    ip_lines(&node, made_by)?;
    // What else is found where one interface stands on another is tried in `kinds`.
    node.sysctl("net.ipv4.conf.lan0.drop_unicast_in_l2_multicast", 1)?;
    let found = Checked::on(&node, &[V4_NET, "--nic", "iv0"])?;
    found.expect_only("ipvlan", "warning")?;
    assert!(found.answer.to_string().contains("iv1 has the same parent"));
    node.run(&["ip", "addr", "add", "10.77.0.99/32", "dev", "iv0"])?;
    let second = node.run(&["ip", "addr", "add", "10.77.0.99/32", "dev", "iv1"]);
    assert!(second.is_err(), "the second one can have it too");
    Ok(())
}

#[test]
fn sysctls_that_bite_are_found_and_mended() -> Result<()> {
    let lab = Lab::new("check-sysctls")?;
    let (client, node) = (lab.client("c1")?, node_with(&lab, "n1", V4, "multicast")?);
    Checked::on(&node, &[])?.expect_nothing()?;
    assert_eq!(answered(&client, V4)?, 20);
    // Clients behind c1 are answered by another interface, to which the default route leads.
    ip_lines(
        &node,
        "link add wan0 type veth peer name wan0-far\nlink set wan0 up\nlink set wan0-far up\n\
         addr add 198.51.100.1/24 dev wan0\nroute add default via 198.51.100.2\n",
    )?;
    for (name, outcome, setting, value) in [
        ("arp-ignore", "fatal", "net.ipv4.conf.eth0.arp_ignore", 8),
        ("arp-ignore", "fatal", "net.ipv4.conf.all.arp_ignore", 3),
        ("rp-filter", "warning", "net.ipv4.conf.eth0.rp_filter", 1),
    ] {
        node.sysctl(setting, value)?;
        let found = Checked::on(&node, &[])?;
        found.expect_only(name, outcome)?;
        if name == "arp-ignore" {
            wait_for_deafness(&lab, &client, V4)?;
        }
        found.mend(&node, name)?;
        Checked::on(&node, &[])?.expect_nothing()?;
        assert_eq!(answered(&client, V4)?, 20, "{setting}");
    }
    node.sysctl("net.ipv6.conf.eth0.disable_ipv6", 1)?;
    // The interface has lost its IPv6 addresses with it.
    let with_prefix = format!("{V6}/64");
    let args = [with_prefix.as_str(), "--nic", "eth0"];
    let found = Checked::on(&node, &args)?;
    found.expect_only("ipv6-off", "fatal")?;
    found.mend(&node, "ipv6-off")?;
    Checked::on(&node, &args)?.expect_nothing()
}

#[test]
fn a_second_lock_that_is_declined_or_cannot_be_set_is_told() -> Result<()> {
    let lab = Lab::new("check-lock")?;
    let node = lab.node("n1")?;
    let words = format!("up {V4} --nic eth0 --buckets 2 --seed 7 --without-second-lock");
    nodectl(&node, &words.split(' ').collect::<Vec<_>>())?;
    Checked::on(&node, &[V4])?.expect_only("second-lock", "warning")?;
    nodectl(&node, &["down", V4])?;
    // As in many containers.
    let program = lab::built("nodectl")?.display().to_string();
    let line = format!(
        "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && {program} check {V4} --nic eth0 --json"
    );
    let output = node.output(&["unshare", "--mount", "sh", "-ec", &line])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let code = output.status.code().unwrap_or(-1);
    Checked::of(code, &text)?.expect_only("second-lock", "fatal")
}

#[test]
fn seeds_that_follow_from_a_predecessor_are_told_with_what_to_do_about_them() -> Result<()> {
    let lab = Lab::new("check-seeds")?;
    let node = lab.node("n1")?;
    for (compat, words) in [
        ("clusterip", "the seed is 0"),
        ("ipaddr2", "as the newest IPaddr2's does"),
    ] {
        let up = format!("up {V4} --nic eth0 --buckets 2 --own 0 --compat {compat}");
        nodectl(&node, &up.split(' ').collect::<Vec<_>>())?;
        let found = Checked::on(&node, &[V4])?;
        found.expect_only("seed", "warning")?;
        let finding = found.check("seed")["findings"].to_string();
        for words in [words, "--seed 0x", "in the place of --compat"] {
            assert!(finding.contains(words), "{finding}");
        }
        nodectl(&node, &["down", V4])?;
        let seeded = format!("{up} --seed 7");
        nodectl(&node, &seeded.split(' ').collect::<Vec<_>>())?;
        Checked::on(&node, &[V4])?.expect_nothing()?;
        nodectl(&node, &["down", V4])?;
        // The agent says it without a look at the node as well.
        let agent = Agent::new(V4, 2)
            .with("compat", compat)
            .without("hash_seed")
            .without("clusterip_hash");
        for level in ["0", "10"] {
            let asked = agent.clone().variable("OCF_CHECK_LEVEL", level);
            let said = asked.call(&node, "validate-all", 0)?.expect(0).stderr;
            assert!(said.contains("in the place of compat"), "{level}: {said}");
        }
    }
    Ok(())
}

#[test]
fn the_agent_says_at_a_start_and_when_it_validates_what_will_bite() -> Result<()> {
    let lab = Lab::new("check-agent")?;
    let node = lab.node("n1")?;
    let agent = Agent::new(V4, 2).with("hash_seed", "7");
    let deep = agent.clone().variable("OCF_CHECK_LEVEL", "10");
    let quiet = deep.call(&node, "validate-all", 0)?.expect(0);
    assert!(!quiet.stderr.contains("WARNING"), "{}", quiet.stderr);
    agent.start(&node, 0)?;
    agent.call(&node, "stop", 0)?.expect(0);

    ip_lines(
        &node,
        "link add br7 type bridge mcast_snooping 1\nlink set br7 up\naddr add 10.78.0.1/24 dev br7\n",
    )?;
    let told = "the bridge br7 snoops";
    let own = agent.with("nic", "br7").with("ip", "10.78.0.99");
    let first = own.call(&node, "start", 0)?.expect(0);
    assert!(first.stderr.contains(told), "{}", first.stderr);
    // It is said when the VIP comes up, not for each bucket.
    let second = own.call(&node, "start", 1)?.expect(0);
    assert!(!second.stderr.contains(told), "{}", second.stderr);
    let deep = own.variable("OCF_CHECK_LEVEL", "10");
    let warned = deep.call(&node, "validate-all", 0)?.expect(0);
    assert!(warned.stderr.contains(told), "{}", warned.stderr);
    node.run(&[
        "ip",
        "link",
        "set",
        "br7",
        "type",
        "bridge",
        "mcast_querier",
        "1",
    ])?;
    let refused = deep.call(&node, "validate-all", 0)?.expect(5);
    assert!(refused.reason().starts_with(told), "{}", refused.stderr);
    let stealth = deep.with("mode", "stealth");
    let quiet = stealth.call(&node, "validate-all", 0)?;
    assert!(!quiet.stderr.contains(told), "{}", quiet.stderr);
    Ok(())
}
