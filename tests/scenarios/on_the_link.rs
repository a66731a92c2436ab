//! What the neighbours on the link learn of a VIP, and how the address looks on the node.

use crate::product::*;
use crate::sharing::*;
use lab::{Client, Lab, Node, NodeOptions, Result};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);

/// A MAC that nobody has.
const STALE_MAC: &str = "02:de:ad:00:00:01";

/// What the client believes: the line of `ip neigh` about a VIP.
fn believed(client: &Client, vip: &str) -> Result<String> {
    client.run(&["ip", "neigh", "show", "to", vip, "dev", "eth0"])
}

fn misinform(client: &Client, vip: &str) -> Result<()> {
    let words = [
        "ip", "neigh", "replace", vip, "lladdr", STALE_MAC, "nud", "stale", "dev", "eth0",
    ];
    client.run(&words)?;
    Ok(())
}

fn wait_for_belief(lab: &Lab, client: &Client, vip: &str, mac: &str) -> Result<()> {
    lab.wait_until("the client's neighbour entry", SOON, || {
        let found = believed(client, vip).map_err(|error| error.to_string())?;
        match found.contains(mac) {
            true => Ok(()),
            false => Err(found),
        }
    })
}

#[test]
fn whoever_asks_for_a_vip_is_told_the_cluster_mac() -> Result<()> {
    let lab = Lab::new("told")?;
    let client = lab.client("c1")?;
    let sharing = Sharing::new(&lab, NodeOptions { macvlan: true })?;
    for (vip, mac) in [(V4, MAC4), (V6, MAC6)] {
        client.run(&["ip", "neigh", "flush", "all"])?;
        expect_shared(&client, &sharing, vip)?;
        let found = believed(&client, vip)?;
        assert!(found.contains(mac), "{found}");
    }
    Ok(())
}

#[test]
fn a_node_that_asks_with_the_vip_as_sender_says_the_cluster_mac() -> Result<()> {
    let lab = Lab::new("asks")?;
    let client = lab.client("c1")?;
    let sharing = Sharing::new(&lab, NodeOptions::default())?;
    for (vip, mac) in [(V4, MAC4), (V6, MAC6)] {
        for node in &sharing.nodes {
            node.run(&["ip", "neigh", "flush", "all"])?;
            misinform(&client, vip)?;
            let to = SocketAddr::new(client.address_like(ip(vip)), 9);
            let sent = node.within(|| UdpSocket::bind((ip(vip), 0))?.send_to(b"hello", to))?;
            sent.expect("a datagram from the VIP");
            wait_for_belief(&lab, &client, vip, mac)?;
        }
    }
    Ok(())
}

#[test]
fn a_vip_that_comes_up_is_announced_with_the_cluster_mac() -> Result<()> {
    let lab = Lab::new("announced")?;
    let client = lab.client("c1")?;
    let node = lab.node("n1")?;
    for (vip, mac) in [(V4, MAC4), (V6, MAC6)] {
        misinform(&client, vip)?;
        agent(vip).start(&node, 0)?;
        wait_for_belief(&lab, &client, vip, mac)?;
    }
    Ok(())
}

#[test]
fn a_chosen_mac_is_used_for_everything() -> Result<()> {
    let lab = Lab::new("mac")?;
    let client = lab.client("c1")?;
    let sharing = Sharing::serving(&lab, NodeOptions { macvlan: true })?;
    for (vip, mac) in [(V4, "01:00:5e:01:02:03"), (V6, "33:33:00:00:12:34")] {
        misinform(&client, vip)?;
        let agent = agent(vip).with("mac", mac);
        sharing.start(&agent)?;
        wait_for_belief(&lab, &client, vip, mac)?;
        client.run(&["ip", "neigh", "flush", "all"])?;
        expect_shared(&client, &sharing, vip)?;
        let found = believed(&client, vip)?;
        assert!(found.contains(mac), "{found}");
        agent.call(&sharing.nodes[0], "monitor", 0)?.expect(0);
        sharing.stop(&agent)?;
        let left = sharing.nodes[0].run(&["ip", "maddr", "show", "dev", "eth0"])?;
        assert!(!left.contains(mac), "{left}");
    }
    Ok(())
}

/// The line of `ip addr` about a VIP.
fn shown(node: &Node, vip: &str) -> Result<String> {
    node.run(&["ip", "-o", "addr", "show", "to", vip])
}

#[test]
fn the_address_is_a_hosts_and_its_network_has_a_route_behind_all_others() -> Result<()> {
    let lab = Lab::new("looks")?;
    let node = lab.node("n1")?;
    const V4_FORM: &str = "10.77.0.99/32 scope host";
    const V6_FORM: &str = "fd77::99/128 scope global nodad deprecated noprefixroute";
    for (vip, parameters, words, network) in [
        (V4, &[][..], &[" eth0 ", V4_FORM][..], "10.77.0.0/24"),
        (
            V4,
            &[("iflabel", "web")],
            &[V4_FORM, " eth0:web"],
            "10.77.0.0/24",
        ),
        (
            V4,
            &[("cidr_netmask", "255.255.0.0")],
            &[V4_FORM],
            "10.77.0.0/16",
        ),
        // The node's own /24 is the way there; a narrower route of ours would come before it.
        (V4, &[("cidr_netmask", "26")], &[V4_FORM], ""),
        (V4, &[("cidr_netmask", "32")], &[V4_FORM], ""),
        (
            V4,
            &[("noprefixroute", "true"), ("cidr_netmask", "16")],
            &[V4_FORM],
            "",
        ),
        (V6, &[], &[" eth0 ", V6_FORM], "fd77::/64"),
        (V6, &[("cidr_netmask", "48")], &[V6_FORM], "fd77::/48"),
        (V6, &[("cidr_netmask", "128")], &[V6_FORM], ""),
        (
            V6,
            &[("noprefixroute", "yes"), ("cidr_netmask", "48")],
            &[V6_FORM],
            "",
        ),
    ] {
        let routes = |node: &Node| node.run(&["sh", "-ec", "ip route; ip -6 route"]);
        let before = routes(&node)?;
        let agent = parameters
            .iter()
            .fold(agent(vip), |agent, (name, value)| agent.with(name, value));
        agent.start(&node, 0)?;
        let line = shown(&node, vip)?;
        for word in words {
            assert!(line.contains(word), "no '{word}' in '{line}'");
        }
        let now = routes(&node)?;
        let ours: Vec<&str> = now
            .lines()
            .filter(|line| line.contains("proto 67"))
            .collect();
        match network {
            "" => assert_eq!(now, before, "{parameters:?}"),
            network => {
                assert_eq!(ours.len(), 1, "{parameters:?}: {ours:?}");
                let route = format!("{network} dev eth0 proto 67");
                assert!(ours[0].starts_with(&route) && ours[0].contains("metric 1000000000"));
                assert!(!ours[0].contains("src"), "{ours:?}");
            }
        }
        agent.call(&node, "monitor", 0)?.expect(0);
        agent.call(&node, "stop", 0)?.expect(0);
        assert_eq!(shown(&node, vip)?, "");
        assert_eq!(routes(&node)?, before);
    }
    Ok(())
}

#[test]
fn without_nic_the_vip_goes_where_its_network_is_connected() -> Result<()> {
    let lab = Lab::new("nic")?;
    let node = lab.node("n1")?;
    let second = "link add lan1 type veth peer name lan1-far\nlink set lan1 up\n\
                  link set lan1-far up\naddr add 10.80.0.1/20 dev lan1\n\
                  addr add fd80::1/56 dev lan1 nodad\nroute add default via 10.80.0.2\n";
    node.exec(&["ip", "-batch", "-"]).stdin(second).run()?;
    for (vip, at) in [
        (V4, "eth0"),
        (V6, "eth0"),
        ("10.80.0.99", "lan1"),
        ("fd80::99", "lan1"),
    ] {
        let agent = agent(vip).without("nic");
        agent.start(&node, 0)?;
        let line = shown(&node, vip)?;
        let networks = [("10.80.0.99", "10.80.0.0/20"), ("fd80::99", "fd80::/56")];
        for (_, network) in networks.iter().filter(|(of, _)| *of == vip) {
            let routes = node.run(&["sh", "-ec", "ip route; ip -6 route"])?;
            let route = format!("{network} dev lan1 proto 67");
            assert!(routes.contains(&route), "{routes}");
        }
        assert!(line.contains(&format!(" {at} ")), "{line}");
        agent.call(&node, "monitor", 0)?.expect(0);
    }
    for vip in [V4, V6, "10.80.0.99", "fd80::99"] {
        agent(vip).without("nic").call(&node, "stop", 0)?.expect(0);
        assert_eq!(shown(&node, vip)?, "");
    }
    assert_eq!(node.run(&["nft", "list", "ruleset"])?, "");
    Ok(())
}
