//! Frames of VLANs that come in by the VIP's interface are not the VIP's, though the address in them is; those with
//! a priority and no VLAN are.

use crate::kernel_support::*;
use crate::product::*;
use crate::raw::{Sender, ip4, ip6, udp};
use crate::sharing::*;
use clusterip::model::agreement::Question;
use clusterip::model::hash::{HashMode, Layout};
use clusterip::model::packet::is_in_vlan;
use lab::{Client, Context, Lab, Node, NodeOptions, Pace, Result};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// What the nodes' kernels are asked to count behind the product's rules.
const BEHIND: &str = "table netdev watch {
    chain behind {
        type filter hook ingress device eth0 priority 0
        meta pkttype multicast ip daddr 10.77.0.99 counter comment \"as it came, 10.77.0.99\"
        meta pkttype multicast ip6 daddr fd77::99 counter comment \"as it came, fd77::99\"
        meta pkttype host ip daddr 10.77.0.99 counter comment \"taken, 10.77.0.99\"
        meta pkttype host ip6 daddr fd77::99 counter comment \"taken, fd77::99\"
        ip6 daddr ff02::1:ff00:99 counter comment \"asked\"
    }
}";

/// How many packets have come as far as the rule with this comment.
fn counted(node: &Node, comment: &str) -> Result<u64> {
    let rules = node.run(&["nft", "list", "table", "netdev", "watch"])?;
    let line = rules.lines().find(|line| line.contains(comment));
    let mut words = line.context("a rule")?.split(' ');
    let number = words.find(|word| *word == "packets").and(words.next());
    number.context("a counter")?.parse().context("a number")
}

/// What a node says that it has dropped of this VIP.
fn foreign(node: &Node, vip: &str) -> Result<u64> {
    let status = status(node)?;
    let mut vips = status["vips"].as_array().expect("a list").iter();
    let found = vips.find(|found| found["vip"] == vip).context("a VIP")?;
    let packets = found["foreign_packets"].as_u64();
    packets.context(format!("{found}"))
}

/// UDP to the VIP from the n-th port.
fn datagram(from: IpAddr, vip: IpAddr, n: u16) -> Vec<u8> {
    let datagram = udp(from, vip, [40_000 + n, PORT], b"hello\n");
    match (from, vip) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ip4([from, to], (n, 0), 17, &[], &datagram),
        (IpAddr::V6(from), IpAddr::V6(to)) => ip6([from, to], 17, &datagram),
        _ => unreachable!("of one family"),
    }
}

/// More than there are buckets, so that every node gets what is not its own.
const DATAGRAMS: u16 = 36;

fn expect_untouched(lab: &Lab, client: &Client, sharing: &Sharing, vip: &str) -> Result<()> {
    let sender = Sender::new(client, if ip(vip).is_ipv4() { MAC4 } else { MAC6 })?;
    let witness = client.witness(&[ip(vip)])?;
    let tags = [[0x81, 0, 0, 10], [0x81, 0, 0xef, 0xfe], [0x88, 0xa8, 0, 10]];
    for tag in tags {
        for n in 0..DATAGRAMS {
            sender.send_tagged(tag, &datagram(client.address_like(ip(vip)), ip(vip), n))?;
        }
    }
    let all = tags.len() as u64 * u64::from(DATAGRAMS);
    for node in &sharing.nodes {
        let came = format!("as it came, {vip}");
        let what = format!("{} has let what is of a VLAN through", node.name());
        lab.wait_until(&what, PATIENCE, || match counted(node, &came) {
            Ok(packets) if packets == all => Ok(()),
            Ok(packets) => Err(format!("{packets} of {all}")),
            Err(error) => Err(error.to_string()),
        })?;
        assert_eq!(
            counted(node, &format!("taken, {vip}"))?,
            0,
            "{}",
            node.name()
        );
        assert_eq!(foreign(node, vip)?, 0, "{}", node.name());
        let buckets = nodectl(node, &["buckets", vip, "--json"])?;
        let buckets: serde_json::Value = serde_json::from_str(&buckets).context("JSON")?;
        let buckets = buckets["buckets"].as_array().expect("a list").clone();
        let counting = |bucket: &&serde_json::Value| bucket["packets"] != 0;
        assert_eq!(buckets.iter().find(counting), None, "{}", node.name());
    }
    let answers = witness.finish()?.frames;
    assert!(answers.is_empty(), "{answers:?}");
    Ok(())
}

/// Linux hands these to the interface itself.
fn expect_priorities_shared(
    lab: &Lab,
    client: &Client,
    sharing: &Sharing,
    vip: &str,
) -> Result<()> {
    let sender = Sender::new(client, if ip(vip).is_ipv4() { MAC4 } else { MAC6 })?;
    let witness = client.witness(&[ip(vip)])?;
    for n in 0..DATAGRAMS {
        let tag = [0x81, 0, 0xa0, 0];
        sender.send_tagged(tag, &datagram(client.address_like(ip(vip)), ip(vip), n))?;
    }
    lab.wait_until("an answer to each", PATIENCE, || match witness.frames() {
        frames if frames >= usize::from(DATAGRAMS) => Ok(()),
        frames => Err(format!("{frames} of {DATAGRAMS}")),
    })?;
    let seen = witness.finish()?;
    assert_eq!(seen.by_node().len(), NODES.len(), "{:?}", seen.by_node());
    assert_eq!(seen.frames.len(), usize::from(DATAGRAMS));
    sharing.judge(&seen)
}

/// A probe with the VIP's own digest, of a VLAN: whoever has the address there is to hear it.
fn expect_heard(lab: &Lab, client: &Client, sharing: &Sharing) -> Result<()> {
    let hasher = hasher(HashMode::default(), Layout::default(), 0x0bad_cafe);
    let nic_mac = clusterip::model::mac::Mac(client.mac().0);
    let question = Question {
        vip: ip(V6),
        digest: described(ip(V6), hasher, BUCKETS).probe_digest(),
        manager: None,
        nic_mac,
    };
    let wire = client.wire("eth0")?;
    let mut of_vlan = question.frame();
    of_vlan.splice(12..12, [0x81, 0, 0, 10]);
    assert!(is_in_vlan(&of_vlan));
    // The first is consent, and stays unheard.
    for frame in [question.frame(), of_vlan] {
        wire.send(&frame)?;
    }
    for node in &sharing.nodes {
        let what = format!("{} lets what is asked in a VLAN through", node.name());
        lab.wait_until(&what, PATIENCE, || match counted(node, "asked") {
            Ok(1) => Ok(()),
            Ok(packets) => Err(format!("{packets}")),
            Err(error) => Err(error.to_string()),
        })?;
    }
    Ok(())
}

#[test]
fn frames_of_a_vlan_pass_as_they_came_and_those_with_a_priority_alone_are_shared() -> Result<()> {
    let lab = Lab::new("tags")?;
    let client = lab.client("c1")?;
    let sharing = Sharing::new(&lab, NodeOptions::default())?;
    for node in &sharing.nodes {
        node.exec(&["nft", "-f", "-"]).stdin(BEHIND).run()?;
    }
    for vip in [V4, V6] {
        expect_untouched(&lab, &client, &sharing, vip).context(vip.to_owned())?;
        expect_priorities_shared(&lab, &client, &sharing, vip).context(vip.to_owned())?;
    }
    expect_heard(&lab, &client, &sharing)?;
    sharing.expect_healthy()
}

/// Connections and datagrams from many ports, and an echo, all answered by this node.
fn expect_answered_by(name: &str, client: &Client, vip: IpAddr) -> Result<()> {
    let from = client.address_like(vip);
    let flows = || (0..DATAGRAMS).map(|n| (from, 40_000 + n));
    let target = SocketAddr::new(vip, PORT);
    for report in [
        client.tcp(target, flows(), Pace::default())?,
        client.udp(target, flows(), Pace::default())?,
    ] {
        report.expect_all_answered().context(vip.to_string())?;
        let nodes: Vec<String> = report.by_node().into_keys().collect();
        assert_eq!(nodes, [name], "{vip}");
    }
    // Who answers an echo is told by his MAC, and that is n1's.
    let echo = client.ping(vip, [from], Pace::default())?;
    echo.expect_all_answered()
}

/// The address that a client has learnt for a VIP.
fn learnt(client: &Client, vip: &str, nic: &str) -> Result<String> {
    let words = ["ip", "neigh", "show", "to", vip, "dev", nic];
    let told = client.run(&words)?;
    let mut words = told.split_whitespace().skip_while(|word| *word != "lladdr");
    words.nth(1).map(str::to_owned).context(told.clone())
}

#[test]
fn who_has_the_address_in_a_vlan_of_the_interface_keeps_all_connections() -> Result<()> {
    let made_by = "link add link eth0 name eth0.10 type vlan id 10\n";
    if !kernel_has("VLANs", &["8021q"], |node| ip_lines(node, made_by))? {
        return Ok(());
    }
    let lab = Lab::new("vlans")?;
    let (client, other) = (lab.client("c1")?, lab.client("c2")?);
    let sharing = Sharing::new(&lab, NodeOptions::default())?;
    let n1 = &sharing.nodes[0];
    // The VLAN on n1's interface is somebody else's, in another namespace, and so is what is in it.
    let tenant = lab.node("n4")?;
    let pid = tenant.holder()?;
    ip_lines(n1, &format!("{made_by}link set eth0.10 netns {pid}\n"))?;
    ip_lines(
        &tenant,
        &format!(
            "link set eth0 down\nlink set eth0.10 up\naddr add {V4}/24 dev eth0.10\n\
             addr add {V6}/64 dev eth0.10 nodad\n"
        ),
    )?;
    tenant.serve(&SERVICES)?;
    let (v4, v6) = (other.v4(), other.v6());
    ip_lines(
        &other,
        &format!(
            "addr flush dev eth0\n{made_by}link set eth0.10 up\naddr add {v4}/24 dev eth0.10\n\
             addr add {v6}/64 dev eth0.10 nodad\n"
        ),
    )?;
    for vip in vips() {
        expect_answered_by("n4", &other, vip)?;
    }
    for (vip, mac) in [(V4, MAC4), (V6, MAC6)] {
        assert_eq!(foreign(n1, vip)?, 0, "{vip}");
        assert_eq!(learnt(&other, vip, "eth0.10")?, n1.mac().to_string());
        expect_shared(&client, &sharing, vip)?;
        assert_eq!(learnt(&client, vip, "eth0")?, mac);
    }
    sharing.expect_healthy()
}

/// What a client sends by an interface without a VLAN's number has a priority alone; what comes back has no tag.
#[test]
fn connections_whose_frames_have_a_priority_alone_are_shared() -> Result<()> {
    let made_by = "link add link eth0 name eth0.0 type vlan id 0 egress-qos-map 0:5\n";
    if !kernel_has("VLANs", &["8021q"], |node| ip_lines(node, made_by))? {
        return Ok(());
    }
    let lab = Lab::new("priorities")?;
    let client = lab.client("c1")?;
    let sharing = Sharing::new(&lab, NodeOptions::default())?;
    let lines = format!(
        "{made_by}link set eth0.0 up\nneigh add {V4} lladdr {MAC4} dev eth0.0\n\
         neigh add {V6} lladdr {MAC6} dev eth0.0\nroute add {V4}/32 dev eth0.0\nroute add {V6}/128 dev eth0.0\n"
    );
    ip_lines(&client, &lines)?;
    for vip in [V4, V6] {
        expect_shared(&client, &sharing, vip)?;
    }
    Ok(())
}
