//! What else is on the node goes on as before: its own addresses and connections, other tables,
//! marks, connection tracking; ICMP errors reach whoever they concern.

use crate::product::*;
use crate::raw::{Sender, UDP, ip4, ip6, udp};
use crate::sharing::*;
use lab::{Lab, Node, NodeOptions, Pace, Result};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

const PATIENT: Duration = Duration::from_secs(5);

/// The source that a node's UDP socket gets for this destination.
fn source_to(node: &Node, to: IpAddr) -> Result<IpAddr> {
    let source = node.within(|| {
        let any: IpAddr = match to {
            IpAddr::V4(_) => [0; 4].into(),
            IpAddr::V6(_) => [0; 16].into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((to, 9))?;
        socket.local_addr()
    })?;
    Ok(source.expect("a route").ip())
}

#[test]
fn a_node_never_uses_a_vip_as_the_source_of_its_own_connections() -> Result<()> {
    let lab = Lab::new("source")?;
    let client = lab.client("c1")?;
    let sharing = Sharing::new(&lab, NodeOptions::default())?;
    for (n, node) in sharing.nodes.iter().enumerate() {
        let other = &sharing.nodes[(n + 1) % NODES.len()];
        for near in [client.v4().into(), client.v6().into()] {
            // On the link, and behind a router.
            for to in [near, client.sources_for(near, 1)[0]] {
                assert_eq!(source_to(node, to)?, node.address_like(to), "to {to}");
            }
            let to = SocketAddr::new(other.address_like(near), PORT);
            let (source, answer) = node
                .within(|| {
                    let mut stream = TcpStream::connect_timeout(&to, PATIENT)?;
                    stream.write_all(b"hello\n")?;
                    let mut answer = String::new();
                    BufReader::new(&stream).read_line(&mut answer)?;
                    std::io::Result::Ok((stream.local_addr()?.ip(), answer))
                })?
                .expect("a connection to another node");
            assert_eq!(source, node.address_like(near));
            assert_eq!(answer, format!("{} hello\n", other.name()));
        }
    }
    Ok(())
}

#[test]
fn a_node_chooses_its_own_source_in_networks_that_were_there_before_the_vip() -> Result<()> {
    let lab = Lab::new("prefix")?;
    let client = lab.client("c1")?;
    let node = lab.node("n1")?;
    // Prefixes other than that of the node's own address.
    for (vip, prefix) in [(V4, "32"), (V4, "25"), (V4, "16"), (V6, "128"), (V6, "80")] {
        let agent = agent(vip).with("cidr_netmask", prefix);
        agent.start(&node, 0)?;
        for near in [client.v4().into(), client.v6().into()] {
            for to in [near, client.sources_for(near, 1)[0]] {
                let source = source_to(&node, to)?;
                assert_eq!(source, node.address_like(to), "{vip}/{prefix}, to {to}");
            }
        }
        agent.call(&node, "monitor", 0)?.expect(0);
        agent.call(&node, "stop", 0)?.expect(0);
    }
    Ok(())
}

#[test]
fn a_nodes_own_addresses_answer_as_before() -> Result<()> {
    let lab = Lab::new("own")?;
    let client = lab.client("c1")?;
    let sharing = Sharing::new(&lab, NodeOptions::default())?;
    for node in &sharing.nodes {
        for own in [node.v4().into(), node.v6().into()] {
            let large = Pace {
                size: 9000,
                ..Pace::default()
            };
            let sources = client.sources_for(own, 20);
            let fragments = client.udp(SocketAddr::new(own, PORT), sources, large)?;
            fragments.expect_all_answered()?;
            for report in burst_to(&client, own, 100, PATIENT)? {
                report.expect_all_answered()?;
                assert_eq!(report.by_node().keys().collect::<Vec<_>>(), [node.name()]);
            }
        }
    }
    Ok(())
}

/// A firewall that lets in the service and what belongs to connections, and nothing else.
const FIREWALL: &str = "table inet firewall {
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        meta l4proto { tcp, udp } th dport 7000 accept
        icmp type echo-request accept
        icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept
    }
}";

#[test]
fn a_firewall_that_drops_by_default_lets_the_service_through() -> Result<()> {
    let lab = Lab::new("firewall")?;
    let client = lab.client("c1")?;
    let sharing = Sharing::serving(&lab, NodeOptions::default())?;
    let listed = |node: &Node| node.run(&["nft", "-s", "list", "table", "inet", "firewall"]);
    for node in &sharing.nodes {
        node.exec(&["nft", "-f", "-"]).stdin(FIREWALL).run()?;
    }
    let before = listed(&sharing.nodes[0])?;
    for agent in &sharing.agents {
        sharing.start(agent)?;
    }
    for vip in [V4, V6] {
        expect_shared(&client, &sharing, vip)?;
    }
    let shut = SocketAddr::new(ip(V4), 7001);
    let pace = Pace {
        timeout: Duration::from_millis(200),
        ..Pace::default()
    };
    let dropped = client.udp(shut, client.sources_v4(12), pace)?;
    assert_eq!(
        dropped.failures().len(),
        12,
        "the firewall is still a firewall"
    );
    for node in &sharing.nodes {
        assert_eq!(listed(node)?, before);
        assert_ne!(tracked(node)?, "0", "it is the firewall that tracks");
    }
    for agent in &sharing.agents {
        sharing.stop(agent)?;
    }
    for node in &sharing.nodes {
        assert_eq!(listed(node)?, before);
        let tables = node.run(&["nft", "list", "tables"])?;
        assert_eq!(tables, "table inet firewall\n");
    }
    Ok(())
}

/// The connections that a node tracks.
fn tracked(node: &Node) -> Result<String> {
    let count = node.run(&["cat", "/proc/sys/net/netfilter/nf_conntrack_count"])?;
    Ok(count.trim().to_owned())
}

#[test]
fn connection_tracking_is_not_switched_on() -> Result<()> {
    let lab = Lab::new("untracked")?;
    let client = lab.client("c1")?;
    let sharing = Sharing::new(&lab, NodeOptions::default())?;
    for report in burst(&client, PATIENT)? {
        report.expect_all_answered()?;
    }
    for node in &sharing.nodes {
        assert_eq!(tracked(node)?, "0");
    }
    for agent in &sharing.agents {
        sharing.stop(agent)?;
    }
    for node in &sharing.nodes {
        assert_eq!(tracked(node)?, "0");
    }
    Ok(())
}

/// Marks before our chain, counts behind it. What is marked must come marked so, and what is not
/// must come unmarked.
const MARKS: &str = "table netdev early {
    chain ingress {
        type filter hook ingress device eth0 priority -500;
        udp dport 7000 meta mark set 0x2a
    }
}
table inet late {
    counter marked { }
    counter unmarked { }
    counter wrong { }
    counter answers { }
    chain input {
        type filter hook input priority 0;
        udp dport 7000 meta mark 0x2a counter name marked accept
        udp dport 7000 counter name wrong
        tcp dport 7000 meta mark 0 counter name unmarked accept
        tcp dport 7000 counter name wrong
    }
    chain output {
        type filter hook output priority 0;
        meta l4proto { tcp, udp } meta mark 0 counter name answers accept
        meta l4proto { tcp, udp } counter name wrong
    }
}";

#[test]
fn marks_of_packets_are_left_alone() -> Result<()> {
    let lab = Lab::new("marks")?;
    let client = lab.client("c1")?;
    let sharing = Sharing::serving(&lab, NodeOptions::default())?;
    for node in &sharing.nodes {
        node.exec(&["nft", "-f", "-"]).stdin(MARKS).run()?;
    }
    for agent in &sharing.agents {
        sharing.start(agent)?;
    }
    for report in burst(&client, PATIENT)? {
        report.expect_all_answered()?;
    }
    let mut marked = 0;
    for node in &sharing.nodes {
        let counters = node.run(&["nft", "-j", "list", "counters", "table", "inet", "late"])?;
        let counters: serde_json::Value = serde_json::from_str(&counters).expect("JSON");
        let packets = |name: &str| {
            let all = counters["nftables"].as_array().expect("a list");
            let mut counters = all.iter().map(|object| &object["counter"]);
            let counter = counters.find(|counter| counter["name"] == name);
            counter.expect(name)["packets"].as_u64().expect("a number")
        };
        assert_eq!(packets("wrong"), 0, "{}", node.name());
        assert!(packets("unmarked") > 0 && packets("answers") > 0);
        marked += packets("marked");
    }
    // Each datagram comes to one node.
    assert_eq!(marked, 200);
    Ok(())
}

/// One number of a node's SNMP counters.
fn snmp(node: &Node, name: &str) -> Result<u64> {
    let value = node.run(&["nstat", "-asz", name])?;
    let line = value.lines().last().unwrap_or_default();
    let number = line.split_whitespace().nth(1).and_then(|n| n.parse().ok());
    Ok(number.unwrap_or_else(|| panic!("no {name} in {value}")))
}

#[test]
fn an_icmp_error_reaches_every_node_and_nobody_answers_it() -> Result<()> {
    let lab = Lab::new("errors")?;
    let client = lab.client("c1")?;
    let sharing = Sharing::new(&lab, NodeOptions::default())?;
    // The client answers what the nodes answer with "port unreachable".
    let reject = "table inet refuse { chain input { type filter hook input priority 0; \
                  udp sport 7000 reject; }; }";
    client.exec(&["nft", "-f", "-"]).stdin(reject).run()?;
    client.sysctl("net.ipv4.icmp_ratelimit", 0)?;
    client.sysctl("net.ipv6.icmp.ratelimit", 0)?;
    let names = ["IcmpInDestUnreachs", "Icmp6InDestUnreachs"];
    let sent = [
        "IcmpOutDestUnreachs",
        "IcmpOutErrors",
        "Icmp6OutDestUnreachs",
    ];
    let pace = Pace {
        timeout: Duration::from_millis(300),
        ..Pace::default()
    };
    for (vip, name) in vips().into_iter().zip(names) {
        let target = SocketAddr::new(vip, PORT);
        let report = client.udp(target, client.sources_for(vip, 30), pace)?;
        assert_eq!(report.by_node().len(), 0);
        for node in &sharing.nodes {
            // Each node has 30 of them, although it has answered only its share of the requests.
            lab.wait_until(name, PATIENT, || match snmp(node, name) {
                Ok(30) => Ok(()),
                other => Err(format!("{name} of {}: {other:?}", node.name())),
            })?;
        }
    }
    for node in &sharing.nodes {
        for name in sent {
            assert_eq!(snmp(node, name)?, 0, "{name} of {}", node.name());
        }
    }
    Ok(())
}

#[test]
fn what_was_meant_for_another_host_is_not_taken_by_a_promiscuous_node() -> Result<()> {
    let lab = Lab::new("promiscuous")?;
    let client = lab.client("c1")?;
    let sharing = Sharing::new(&lab, NodeOptions::default())?;
    for node in &sharing.nodes {
        node.run(&["ip", "link", "set", "eth0", "promisc", "on"])?;
    }
    for (vip, mac) in [(ip(V4), MAC4), (ip(V6), MAC6)] {
        let witness = client.witness(&[vip])?;
        let datagram = |source, port| {
            let payload = udp(source, vip, [port, PORT], b"to whom?");
            match (source, vip) {
                (IpAddr::V4(source), IpAddr::V4(vip)) => {
                    ip4([source, vip], (0, 0), UDP, &[], &payload)
                }
                (IpAddr::V6(source), IpAddr::V6(vip)) => ip6([source, vip], UDP, &payload),
                _ => unreachable!("of one family"),
            }
        };
        let source = client.sources_for(vip, 1)[0];
        // The switch knows nobody of this MAC, and floods.
        let elsewhere = Sender::new(&client, "02:00:00:00:00:99")?;
        let here = Sender::new(&client, mac)?;
        for port in 2000..2030 {
            elsewhere.send(&datagram(source, port))?;
        }
        // By the time that these are answered, so are those before them.
        for port in 3000..3030 {
            here.send(&datagram(source, port))?;
        }
        let answered = lab.wait_until("30 answers", PATIENT, || match witness.frames() {
            frames if frames >= 30 => Ok(frames),
            frames => Err(format!("{frames}")),
        })?;
        assert_eq!(answered, 30, "{vip}");
        witness.finish()?;
    }
    Ok(())
}
