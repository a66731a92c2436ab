//! VIPs in networks in which the node has no address of its own, as with public addresses: nobody drifts,
//! nobody loses an address, the node's own connections leave with its own address, and the routes stay as
//! they were.

use crate::kernel_support::ip_lines;
use crate::product::*;
use lab::{Error, Lab, Node, Pace, Result};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

const PUBLIC: [&str; 2] = ["192.0.2.99", "192.0.2.98"];
const PUBLIC6: &str = "2001:db8::99";

fn up(node: &Node, vip: &str, own: &str) -> Result<()> {
    let buckets = ["--nic", "eth0", "--buckets", "4", "--own", own, "--force"];
    nodectl(node, &[&["up", vip][..], &buckets].concat()).map(drop)
}

/// All VIPs are healthy, and so many are there.
fn expect_healthy(node: &Node, count: usize, when: &str) -> Result<()> {
    let document = status(node)?;
    let vips = document["vips"].as_array().cloned().unwrap_or_default();
    let ill: Vec<_> = vips.iter().filter(|vip| vip["healthy"] != true).collect();
    match vips.len() == count && ill.is_empty() {
        true => Ok(()),
        false => Err(Error::new(format!("{when}: {} VIPs, {ill:?}", vips.len()))),
    }
}

fn addresses(node: &Node) -> Result<String> {
    node.run(&["ip", "-o", "addr", "show", "dev", "eth0"])
}

#[test]
fn vips_and_the_addresses_of_other_managers_leave_each_other_alone() -> Result<()> {
    let lab = Lab::new("no-own")?;
    let node = lab.node("n1")?;
    for promote in ["0", "1"] {
        node.sysctl("net.ipv4.conf.eth0.promote_secondaries", promote)?;
        let other = |verb| {
            ip_lines(
                &node,
                &format!("addr {verb} 192.0.2.50/24 brd + dev eth0\n"),
            )
        };
        for first in ["vip", "other"] {
            if first == "other" {
                other("add")?;
            }
            for n in 80..96 {
                up(&node, &format!("192.0.2.{n}/24"), "0-3")?;
            }
            expect_healthy(&node, 16, "sixteen VIPs")?;
            if first == "vip" {
                other("add")?;
                expect_healthy(&node, 16, "another manager's address came")?;
            }
            other("del")?;
            expect_healthy(&node, 16, "another manager's address went")?;
            other("add")?;
            // The first, the last and one between them.
            for n in [80, 95, 87] {
                nodectl(&node, &["down", &format!("192.0.2.{n}")])?;
            }
            expect_healthy(&node, 13, "three VIPs went")?;
            assert!(addresses(&node)?.contains("192.0.2.50/24"));
            for n in [95, 80, 87] {
                up(&node, &format!("192.0.2.{n}/24"), "0-3")?;
            }
            other("del")?;
            expect_healthy(&node, 16, "they came back")?;
            for n in 80..96 {
                nodectl(&node, &["down", &format!("192.0.2.{n}")])?;
            }
            assert!(!addresses(&node)?.contains("192.0.2."));
        }
    }
    Ok(())
}

/// A connection of the node's own; the address with which it left.
fn speak(node: &Node, to: SocketAddr) -> Result<IpAddr> {
    let connected = node.within(|| {
        let stream = TcpStream::connect_timeout(&to, lab::wait::patient(Duration::from_secs(2)))?;
        stream.local_addr()
    })?;
    let from =
        connected.map_err(|error| Error::new(format!("{} to {to}: {error}", node.name())))?;
    Ok(from.ip())
}

#[test]
fn the_nodes_own_connections_never_leave_with_a_vip() -> Result<()> {
    let lab = Lab::new("own-source")?;
    let client = lab.client("c1")?;
    let nodes = serving(&lab, &["n1", "n2"])?;
    // A host of the VIPs' network, which is the way to everywhere as well.
    let gateway = serving(&lab, &["n3"])?.remove(0);
    ip_lines(
        &gateway,
        "addr add 192.0.2.7/24 dev eth0\naddr add 2001:db8::7/64 dev eth0 nodad\n\
         addr add 198.51.100.7/32 dev lo\naddr add 2001:db8:1::7/128 dev lo\n",
    )?;
    ip_lines(
        &client,
        "route add 192.0.2.0/24 dev eth0\nroute add 2001:db8::/64 dev eth0\n",
    )?;
    for (node, own) in nodes.iter().zip(["0,1", "2,3"]) {
        for vip in PUBLIC {
            up(node, &format!("{vip}/24"), own)?;
        }
        up(node, &format!("{PUBLIC6}/64"), own)?;
        ip_lines(
            node,
            "route add default via 192.0.2.7 dev eth0\nroute add ::/0 via 2001:db8::7 dev eth0\n",
        )?;
    }
    let speak_from_all = || -> Result<()> {
        for node in &nodes {
            for to in ["192.0.2.7", "198.51.100.7", "2001:db8::7", "2001:db8:1::7"] {
                for _ in 0..20 {
                    let from = speak(node, SocketAddr::new(ip(to), PORT))?;
                    assert!(
                        [node.v4().into(), IpAddr::from(node.v6())].contains(&from),
                        "{from}"
                    );
                }
            }
        }
        Ok(())
    };
    speak_from_all()?;
    // The node's own address comes anew, and so after the VIPs.
    for node in &nodes {
        let own = format!("{}/24 dev eth0", node.v4());
        ip_lines(node, &format!("addr del {own}\naddr add {own}\n"))?;
    }
    speak_from_all()?;
    for node in &nodes {
        expect_healthy(node, 3, "own address came anew")?;
    }
    for vip in [PUBLIC[0], PUBLIC[1], PUBLIC6] {
        let witness = client.witness(&[ip(vip)])?;
        let sources = client.sources_for(ip(vip), 100);
        let report = client.tcp(SocketAddr::new(ip(vip), PORT), sources, Pace::default())?;
        report.expect_all_answered()?;
        witness.finish()?.expect_no_double_answers()?;
    }
    Ok(())
}

#[test]
fn a_node_with_no_address_to_speak_with_is_told_of() -> Result<()> {
    let lab = Lab::new("speechless")?;
    let node = lab.node("n1")?;
    ip_lines(
        &node,
        &format!(
            "addr del {}/24 dev eth0\naddr del {}/64 dev eth0\n",
            node.v4(),
            node.v6()
        ),
    )?;
    for (vip, family) in [("192.0.2.99", "IPv4"), ("2001:db8::99", "IPv6")] {
        let agent =
            Agent::new(vip, 4).with("cidr_netmask", if vip.contains(':') { "64" } else { "24" });
        let said = agent.call(&node, "start", 0)?.expect(0).stderr;
        let wanted = format!("this node has no {family} address of its own");
        assert!(said.contains(&wanted), "{said}");
    }
    Ok(())
}

/// Routes without the time that is left of them, and without the default groups.
fn routes(node: &Node) -> Result<String> {
    let shown = node.run(&["sh", "-ec", "ip route; echo; ip -6 route"])?;
    let mut lines: Vec<String> = shown.lines().map(str::to_owned).collect();
    for line in &mut lines {
        let mut words: Vec<&str> = line.split(' ').collect();
        if let Some(at) = words.iter().position(|word| *word == "expires") {
            words[at + 1] = "N";
        }
        *line = words.join(" ");
    }
    Ok(lines.join("\n"))
}

#[test]
fn routes_stay_as_they_were_whoever_brought_them() -> Result<()> {
    // What is there of the VIP's network before it comes.
    let situations = [
        "",
        "addr add 2001:db8::2/128 dev eth0 nodad\n\
         route add 2001:db8::/64 dev eth0 proto kernel metric 256 expires 600\n",
        "addr add 2001:db8::2/128 dev eth0 nodad\n\
         route add 2001:db8::/64 dev eth0 proto ra metric 100\n",
        "addr add 2001:db8::2/128 dev eth0 nodad\n\
         route add 2001:db8::/64 dev eth0 proto ra metric 1024 expires 600\n",
        "addr add 2001:db8::2/64 dev eth0 nodad noprefixroute\n\
         route add 2001:db8::/64 dev eth0 proto kernel metric 100\n",
        "addr add 2001:db8::2/64 dev eth0 nodad noprefixroute\n",
        "addr add 2001:db8::2/64 dev eth0 nodad\n",
        "addr add 2001:db8::2/64 dev eth0 nodad valid_lft 3600 preferred_lft 3600\n",
        "route add 2001:db8::/64 dev eth0 proto static\n",
        "addr add 192.0.2.2/24 dev eth0\n",
        "addr add 192.0.2.2/32 dev eth0\nroute add 192.0.2.0/24 dev eth0 proto dhcp metric 100\n",
        "addr add 192.0.2.2/24 dev eth0 noprefixroute\n",
        "route add 192.0.2.0/24 dev eth0\nroute add default via 192.0.2.1 dev eth0 metric 7\n",
    ];
    let lab = Lab::new("routes")?;
    for (n, situation) in situations.into_iter().enumerate() {
        let node = lab.node(&format!("n{}", n + 1))?;
        ip_lines(&node, situation)?;
        let before = routes(&node)?;
        for _ in 0..3 {
            for vip in ["192.0.2.99/24", "2001:db8::99/64"] {
                up(&node, vip, "0-3")?;
            }
            expect_healthy(&node, 2, situation)?;
            let added: Vec<String> = routes(&node)?
                .lines()
                .filter(|line| !before.lines().any(|old| old == *line))
                .map(str::to_owned)
                .collect();
            assert!(
                added.len() == 2 && added.iter().all(|line| line.contains("proto 67")),
                "{situation}: {added:?}"
            );
            for vip in ["192.0.2.99", "2001:db8::99"] {
                nodectl(&node, &["down", vip])?;
            }
            assert_eq!(routes(&node)?, before, "{situation}");
        }
    }
    Ok(())
}

#[test]
fn the_last_address_of_an_interface_takes_no_route_with_it() -> Result<()> {
    let lab = Lab::new("last")?;
    let node = lab.node("n1")?;
    ip_lines(
        &node,
        "link add eth1 type veth peer name far1\nlink set eth1 up\nlink set far1 up\n\
         addr add 10.9.0.1/24 dev eth1\naddr flush dev eth0 scope global\n\
         route add 192.0.2.0/24 dev eth0 proto static metric 50\n\
         route add 198.51.100.0/24 dev eth0 table 777 mtu 1400\n\
         route add 198.51.100.0/25 dev eth0 congctl reno\n\
         route add 198.51.101.0/24 dev eth0 proto kernel\n\
         route add default via 192.0.2.1 dev eth0 proto static\n\
         route add 203.0.113.0/24 via 203.0.113.9 dev eth0 onlink metric 9\n\
         route add 203.0.114.0/24 nexthop via 192.0.2.1 dev eth0 nexthop via 192.0.2.2 dev eth0\n\
         route add 203.0.115.0/24 nexthop via 192.0.2.1 dev eth0 nexthop via 10.9.0.2 dev eth1\n",
    )?;
    let all = || node.run(&["sh", "-ec", "ip route; ip route show table 777"]);
    let before = all()?;
    let agent = Agent::new("192.0.2.99", 4).with("cidr_netmask", "24");
    agent.start(&node, 0)?;
    agent.call(&node, "monitor", 0)?.expect(0);
    agent.call(&node, "stop", 0)?.expect(0);
    assert_eq!(all()?, before);
    assert!(!addresses(&node)?.contains("192.0.2.99"));
    // A gateway to which only the VIP's own route leads.
    ip_lines(&node, "route flush dev eth0\n")?;
    agent.start(&node, 0)?;
    ip_lines(&node, "route add default via 192.0.2.1 metric 7\n")?;
    agent.call(&node, "stop", 0)?.expect(0);
    let left = all()?;
    assert!(
        left.contains("default via 192.0.2.1 dev eth0 metric 7"),
        "{left}"
    );
    Ok(())
}

#[test]
fn vips_that_end_by_themselves_take_no_route_with_them() -> Result<()> {
    let lab = Lab::new("ending-alone")?;
    let client = lab.client("c1")?;
    let node = serving(&lab, &["n1"])?.remove(0);
    ip_lines(&client, "route add 192.0.2.0/24 dev eth0\n")?;
    let agents = PUBLIC.map(|vip| {
        let agent = Agent::new(vip, 4).with("cidr_netmask", "24");
        agent.with("drain_timeout", "3")
    });
    for (agent, vip) in agents.iter().zip(PUBLIC) {
        for instance in 0..4 {
            agent.start(&node, instance)?;
        }
        expect_answered_by(&client, ip(vip), 20, &["n1"])?;
    }
    let own = format!("{}/24", node.v4());
    ip_lines(
        &node,
        &format!("route add default via 203.0.113.1 dev eth0 onlink\naddr del {own} dev eth0\n"),
    )?;
    let options = lab::HoldOptions {
        interval: Duration::from_millis(500),
        timeout: Duration::from_secs(30),
    };
    let held = PUBLIC.map(|vip| {
        let flows = client
            .sources_for(ip(vip), 20)
            .into_iter()
            .map(|source| (source, 20_000));
        client.hold(
            SocketAddr::new(ip(vip), PORT),
            flows.collect::<Vec<_>>(),
            options,
        )
    });
    let held = held.into_iter().collect::<Result<Vec<_>>>()?;
    for agent in &agents {
        for instance in 0..4 {
            agent.call(&node, "stop", instance)?.expect(0);
        }
    }
    let limited = addresses(&node)?;
    let ending = limited
        .lines()
        .filter(|line| line.contains("192.0.2.") && !line.contains("forever"))
        .count();
    assert!(ending < 2, "the last one must not end by itself: {limited}");
    lab.wait_until(
        "both to be gone",
        lab::wait::patient(Duration::from_secs(30)),
        || match addresses(&node)?.contains("192.0.2.") {
            false => Ok(()),
            true => Err(Error::new("still there")),
        },
    )?;
    assert!(
        node.run(&["ip", "route"])?
            .contains("default via 203.0.113.1")
    );
    for one in held {
        one.abort()?;
    }
    Ok(())
}

#[test]
fn the_way_to_the_network_is_put_back_by_the_monitor() -> Result<()> {
    let lab = Lab::new("way-back")?;
    let node = lab.node("n1")?;
    let agent = Agent::new("192.0.2.99", 4).with("cidr_netmask", "24");
    let agent6 = Agent::new(PUBLIC6, 4).with("cidr_netmask", "64");
    let way = || -> Result<bool> {
        Ok(node
            .run(&["ip", "route"])?
            .contains("192.0.2.0/24 dev eth0 proto 67"))
    };
    // A wider one was as good, as long as it was there.
    ip_lines(&node, "addr add 192.0.2.50/16 dev eth0\n")?;
    agent.start(&node, 0)?;
    assert!(!way()?);
    ip_lines(&node, "addr del 192.0.2.50/16 dev eth0\n")?;
    assert!(nodectl(&node, &["status"])?.contains("route 192.0.2.0/24"));
    agent.call(&node, "monitor", 0)?.expect(0);
    assert!(way()?);
    // Another VIP's way is none to rely on.
    up(&node, "192.0.2.98/16", "0")?;
    nodectl(&node, &["down", "192.0.2.98"])?;
    expect_healthy(&node, 1, "the wider VIP went")?;
    // Down and up.
    agent6.start(&node, 0)?;
    node.run(&["ip", "link", "set", "eth0", "down"])?;
    let lenient = agent.clone().with("check_link_status", "false");
    lenient.call(&node, "monitor", 0)?.expect(0);
    node.run(&["ip", "link", "set", "eth0", "up"])?;
    agent.call(&node, "monitor", 0)?.expect(0);
    assert!(way()?);
    // Routes that are passed over for want of a carrier are there.
    node.sysctl("net.ipv4.conf.eth0.ignore_routes_with_linkdown", "1")?;
    lab.cable("n1", false)?;
    lab.wait_until(
        "the carrier to go",
        lab::wait::patient(Duration::from_secs(10)),
        || match node
            .run(&["ip", "link", "show", "eth0"])?
            .contains("NO-CARRIER")
        {
            true => Ok(()),
            false => Err(Error::new("it is there")),
        },
    )?;
    lenient.call(&node, "monitor", 0)?.expect(0);
    lenient.start(&node, 1)?;
    Ok(())
}

#[test]
fn addresses_of_scope_host_that_others_added_are_left_alone() -> Result<()> {
    let lab = Lab::new("scope-host")?;
    let node = lab.node("n1")?;
    // As for LVS with direct routing, or keepalived.
    ip_lines(
        &node,
        "addr add 10.77.0.99/32 dev lo scope host\naddr add 10.77.0.98/32 dev eth0 scope host\n\
         link add br0 type bridge\nlink add p0 type veth peer name p1\nlink set p0 master br0\n",
    )?;
    let all = || node.run(&["ip", "-o", "-4", "addr"]);
    let before = all()?;
    for vip in ["10.77.0.99", "10.77.0.98"] {
        nodectl(&node, &["down", vip])?;
        Agent::new(vip, 4).call(&node, "stop", 0)?.expect(0);
        assert_eq!(all()?, before);
    }
    // What is refused changes nothing.
    nodectl_fails(
        &node,
        &[
            "up",
            "10.77.0.99/24",
            "--nic",
            "p0",
            "--buckets",
            "4",
            "--own",
            "0",
        ],
    )?;
    nodectl_fails(
        &node,
        &[
            "up",
            "10.77.0.98/24",
            "--nic",
            "eth0",
            "--buckets",
            "4",
            "--own",
            "0",
        ],
    )?;
    assert_eq!(all()?, before);
    // Another VIP's membership makes none of them a VIP.
    up(&node, "10.78.0.99/24", "0")?;
    nodectl(&node, &["down", "10.77.0.99"])?;
    nodectl(&node, &["down", "10.78.0.99"])?;
    assert_eq!(all()?, before);
    Ok(())
}

#[test]
fn addresses_that_version_0_1_0_added_are_sound_and_put_right_by_a_start() -> Result<()> {
    let lab = Lab::new("older-forms")?;
    let node = lab.node("n1")?;
    for (vip, prefix, old) in [
        (V4, "24", "10.77.0.99/24 brd + dev eth0"),
        (V4, "32", "10.77.0.99/32 dev eth0 noprefixroute"),
        (V4, "16", "10.77.0.99/16 dev eth0 noprefixroute"),
        (V6, "64", "fd77::99/64 dev eth0 nodad preferred_lft 0"),
    ] {
        let agent = Agent::new(vip, 4).with("cidr_netmask", prefix);
        agent.start(&node, 0)?;
        let host = if vip == V4 { "32" } else { "128" };
        ip_lines(
            &node,
            &format!("addr del {vip}/{host} dev eth0\naddr add {old}\n"),
        )?;
        agent.call(&node, "monitor", 0)?.expect(0);
        agent.start(&node, 1)?;
        let shown = node.run(&["ip", "-o", "addr", "show", "to", vip])?;
        assert!(
            shown.contains(&format!("{vip}/{host}")) && shown.lines().count() == 1,
            "{shown}"
        );
        for instance in [0, 1] {
            agent.call(&node, "stop", instance)?.expect(0);
        }
        assert_eq!(node.run(&["ip", "-o", "addr", "show", "to", vip])?, "");
    }
    Ok(())
}

#[test]
fn addresses_behind_one_that_version_0_1_0_added_outlive_it() -> Result<()> {
    const SETTING: &str = "/proc/sys/net/ipv4/conf/eth0/promote_secondaries";
    let lab = Lab::new("older-first")?;
    let node = lab.node("n1")?;
    for interface in ["all", "eth0"] {
        let setting = format!("net.ipv4.conf.{interface}.promote_secondaries");
        node.sysctl(&setting, "0")?;
    }
    let agent = Agent::new("192.0.2.80", 4).with("cidr_netmask", "24");
    // A start puts it right, and a stop takes it away.
    for (action, instance) in [("start", 1), ("stop", 0)] {
        agent.start(&node, 0)?;
        ip_lines(
            &node,
            "addr del 192.0.2.80/32 dev eth0\naddr add 192.0.2.80/24 brd + dev eth0\n\
             addr add 192.0.2.50/24 brd + dev eth0\n",
        )?;
        agent.call(&node, action, instance)?.expect(0);
        let left = addresses(&node)?;
        assert!(!left.contains("192.0.2.80/24"), "{action}: {left}");
        assert!(left.contains("192.0.2.50/24"), "{action}: {left}");
        assert_eq!(node.run(&["cat", SETTING])?.trim(), "0", "{action}");
        for instance in [0, 1] {
            agent.call(&node, "stop", instance)?.expect(0);
        }
        ip_lines(&node, "addr del 192.0.2.50/24 dev eth0\n")?;
    }
    Ok(())
}
