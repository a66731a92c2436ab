//! A predecessor and this on one link, each with its buckets of one VIP: with `compat` they hash alike under one MAC, and
//! buckets go from one to the other and back. And the MAC that IPaddr2 derives is the one that is derived here.

use crate::kernel_support::*;
use crate::predecessor_support::*;
use crate::product::*;
use clusterip::model::hash::HashMode;
use lab::{Client, Lab, Node, Pace, Result};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Of one predecessor and one of ours.
const BUCKETS: usize = 8;
/// The predecessor's to begin with; it counts from 1.
const ITS: [usize; 4] = [1, 2, 3, 4];
const OURS: &str = "4-7";
/// Those that go over, and come back.
const MOVED: [usize; 2] = [1, 3];
/// All in all, in three parts.
const FLOWS: usize = 20_000;

/// Who answers each of these flows: always one.
fn owners(client: &Client, part: std::ops::Range<usize>) -> Result<BTreeMap<lab::Flow, String>> {
    let sources = client.sources_v4(part.end).split_off(part.start);
    let ports = (10_000..60_000).step_by(7).cycle();
    let witness = client.witness(&[ip(V4)])?;
    let flows = sources.into_iter().zip(ports);
    let report = client.udp(
        SocketAddr::new(ip(V4), PORT),
        flows.collect::<Vec<_>>(),
        Pace::default(),
    )?;
    report.expect_all_answered()?;
    witness.finish()?.expect_no_double_answers()?;
    Ok(report.answered())
}

/// Two nodes share the VIP, one of them as ever, while buckets go to and fro.
fn side_by_side(kind: Kind, compat: &str, more: &[&str]) -> Result<()> {
    let lab = Lab::new("beside")?;
    let client = lab.client("c1")?;
    let nodes = serving(&lab, &["n1", "n2"])?;
    let (n1, n2) = (&nodes[0], &nodes[1]);
    let count = BUCKETS.to_string();
    let mut up = vec![
        "up",
        V4,
        "--nic",
        "eth0",
        "--buckets",
        &count,
        "--own",
        OURS,
    ];
    up.extend(more);
    // What it derives is asked on the node on which it is to run.
    let its = nodectl(n1, &["mac", V4, "--nic", "eth0", "--compat", compat])?;
    let its = its.trim();
    let seed = match compat {
        "clusterip" => 0,
        _ => 0x0bad_cafe,
    };
    let predecessor = Predecessor {
        node: n1,
        kind,
        vip: V4,
        mac: its.to_owned(),
        seed,
        total: BUCKETS,
    };
    n1.run(&["ip", "addr", "add", &format!("{V4}/24"), "dev", "eth0"])?;
    predecessor.begin(&ITS)?;
    // Who does not say whom it is beside is told that there is somebody.
    let (_, said) = nodectl_fails(n2, &up)?;
    assert!(
        said.contains("as a predecessor did") && said.contains(its),
        "{said}"
    );
    assert_eq!(n2.run(&["nft", "list", "ruleset"])?, "");
    let seed = format!("{seed:#x}");
    up.extend(["--compat", compat, "--seed", &seed]);
    let (_, said) = nodectl_fails(n2, &[&up[..], &["--mac", "03:00:00:00:00:01"]].concat())?;
    assert!(said.contains(&format!("mac=\"{its}\"")), "{said}");
    nodectl(n2, &up)?;
    let at = |owners: &BTreeMap<lab::Flow, String>, name: &str| {
        owners.values().filter(|owner| *owner == name).count()
    };
    let all = |n: usize| owners(&client, n..n + FLOWS / 4);
    let halves = owners(&client, 0..FLOWS / 2)?;
    // Half of the buckets are each one's.
    let share = at(&halves, "n1") * 100 / halves.len();
    assert!((40..60).contains(&share), "{share} %");
    for number in MOVED {
        predecessor.give(number)?;
        nodectl(
            n2,
            &["take", V4, &(number - 1).to_string(), "--compat", compat],
        )?;
    }
    let more_ours = all(FLOWS / 2)?;
    let share = at(&more_ours, "n1") * 100 / more_ours.len();
    assert!((18..33).contains(&share), "{share} %");
    for number in MOVED {
        nodectl(n2, &["release", V4, &(number - 1).to_string(), "--now"])?;
        predecessor.take(number)?;
    }
    let back = all(FLOWS * 3 / 4)?;
    let share = at(&back, "n1") * 100 / back.len();
    assert!((40..60).contains(&share), "{share} %");
    // A node of ours that hashes otherwise is a disagreement all the same, and is found beside the predecessor.
    let n3 = lab.node("n3")?;
    let other = [
        "up",
        V4,
        "--nic",
        "eth0",
        "--buckets",
        "7",
        "--compat",
        compat,
    ];
    let (_, said) = nodectl_fails(&n3, &other)?;
    assert!(said.contains("under another description"), "{said}");
    nodectl(n2, &["down", V4])?;
    match kind {
        Kind::ClusterIp(_) => end_clusterip(&nodes[..1]),
        _ => Ok(()),
    }
}

#[test]
fn the_newest_ipaddr2_and_this_share_an_address() -> Result<()> {
    side_by_side(Kind::Newest, "ipaddr2", &[])
}

#[test]
fn the_real_clusterip_and_this_share_an_address_in_all_modes() -> Result<()> {
    if !kernel_shares_by(Kind::ClusterIp(HashMode::SourceIp))? {
        return Ok(());
    }
    for mode in HashMode::ALL {
        load_clusterip(&Lab::new("kernel")?.node("n1")?)?;
        side_by_side(Kind::ClusterIp(mode), "clusterip", &["--hash", mode.name()])?;
    }
    Ok(())
}

#[test]
fn xt_cluster_and_this_share_an_address() -> Result<()> {
    match kernel_shares_by(Kind::XtCluster)? {
        true => side_by_side(Kind::XtCluster, "ipaddr2", &[]),
        false => Ok(()),
    }
}

/// The MAC that Debian's IPaddr2 derives from these on this node: what it sets while it looks whether it runs.
fn derived_by_ipaddr2(node: &Node, parameters: &[(&str, &str)]) -> Result<String> {
    let agent = "/usr/lib/ocf/resource.d/heartbeat/IPaddr2";
    let traced = ["bash", "-x", agent, "monitor"];
    let mut run = node
        .exec(&traced)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("OCF_ROOT", "/usr/lib/ocf")
        .env("HA_RSCTMP", "/tmp")
        .env("OCF_RESOURCE_INSTANCE", "vip:0")
        .env("OCF_RESKEY_CRM_meta_clone_max", "2");
    for (name, value) in parameters {
        run = run.env(&format!("OCF_RESKEY_{name}"), *value);
    }
    let output = run.output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let macs = text.lines().filter_map(|line| line.rsplit_once("IF_MAC="));
    let mac = macs.map(|(_, mac)| mac.to_owned()).next_back();
    mac.ok_or_else(|| lab::Error::new(format!("IPaddr2 derives no MAC: {text}")))
}

/// The text of the node's own address, 10.99.0.1, is in that of either VIP.
#[test]
fn what_is_derived_stays_when_vips_are_here() -> Result<()> {
    let lab = Lab::new("derived-again")?;
    let node = lab.node("n1")?;
    ip_lines(&node, "address add 10.99.0.1/24 broadcast + dev eth0\n")?;
    let derived = |vip: &str| nodectl(&node, &["mac", vip, "--nic", "eth0", "--compat", "ipaddr2"]);
    let vips = ["10.99.0.100", "10.99.0.101"];
    let before = [derived(vips[0])?, derived(vips[1])?];
    for vip in vips {
        let agent = Agent::new(vip, 4)
            .with("compat", "ipaddr2")
            .with("nic", "eth0")
            .without("hash_seed")
            .without("cidr_netmask");
        for instance in 0..3 {
            agent.start(&node, instance)?;
        }
        agent.call(&node, "monitor", 2)?.expect(0);
    }
    assert_eq!([derived(vips[0])?, derived(vips[1])?], before);
    let shown = status(&node)?;
    let vips = shown["vips"].as_array().expect("a list");
    let macs: Vec<&str> = vips.iter().filter_map(|vip| vip["mac"].as_str()).collect();
    assert_eq!(macs, [before[0].trim(), before[1].trim()]);
    Ok(())
}

/// With `proto` IPaddr2 finds no broadcast address, for `ip route` prints its lines otherwise then.
#[test]
fn what_proto_decides_is_refused_and_not_derived_otherwise() -> Result<()> {
    let lab = Lab::new("proto")?;
    let node = lab.node("n1")?;
    let listed = |more: &str| {
        let line = format!("ip -o -4 route list match 10.77.0.99/24 {more} scope link");
        node.run(&line.split_whitespace().collect::<Vec<_>>())
    };
    let seventh = |line: String| line.split_whitespace().nth(6).map(str::to_owned);
    assert_eq!(seventh(listed("")?), Some(node.v4().to_string()));
    assert_eq!(seventh(listed("proto kernel")?), None);
    for compat in ["clusterip", "ipaddr2"] {
        let agent = Agent::new(V4, 4)
            .with("compat", compat)
            .with("proto", "kernel")
            .without("hash_seed")
            .without("clusterip_hash");
        for action in ["start", "validate-all"] {
            let refused = agent.call(&node, action, 0)?.expect(6);
            let words = "cannot follow proto";
            assert!(refused.reason().contains(words), "{}", refused.stderr);
        }
        // Set as a node of IPaddr2 shows them; a stop goes by what it can read.
        let set = agent
            .with("mac", "51:00:00:00:00:01")
            .with("hash_seed", "7");
        set.start(&node, 0)?;
        set.call(&node, "monitor", 0)?.expect(0);
        set.call(&node, "stop", 0)?.expect(0);
    }
    Ok(())
}

#[test]
fn the_mac_is_the_one_that_ipaddr2_derives_on_this_node() -> Result<()> {
    let lab = Lab::new("derived")?;
    let node = lab.node("n1")?;
    let own: &[&str] = &[
        "10.99.0.1/24",
        "10.99.0.1/24 broadcast +",
        "10.99.0.1 peer 10.99.0.2/24 broadcast 10.99.0.255",
        "10.99.0.1/20 broadcast 10.99.15.254",
    ];
    for own in own {
        let words: Vec<&str> = ["ip", "address", "replace"]
            .into_iter()
            .chain(own.split(' '))
            .collect();
        node.run(&[&words[..], &["dev", "eth0"]].concat())?;
        let vip = "10.99.0.99";
        for (parameters, args) in [
            (&[][..], &[vip][..]),
            (&[("nic", "eth0")], &[vip, "--nic", "eth0"]),
            (&[("nic", "eth0:web")], &[vip, "--nic", "eth0:web"]),
            (&[("cidr_netmask", "28")], &["10.99.0.99/28"]),
            (
                &[("nic", "eth0"), ("cidr_netmask", "24")],
                &["10.99.0.99/24", "--nic", "eth0"],
            ),
            // Longer and shorter than the network's.
            (
                &[("nic", "eth0"), ("cidr_netmask", "18")],
                &["10.99.0.99/18", "--nic", "eth0"],
            ),
            (
                &[("broadcast", "10.99.0.255")],
                &[vip, "--broadcast", "10.99.0.255"],
            ),
            (
                &[("broadcast", "+"), ("cidr_netmask", "24")],
                &["10.99.0.99/24", "--broadcast", "+"],
            ),
        ] {
            let parameters = [parameters, &[("ip", vip)]].concat();
            let expected = derived_by_ipaddr2(&node, &parameters)?;
            let args = [&["mac"], args, &["--compat", "clusterip"]].concat();
            assert_eq!(
                nodectl(&node, &args)?.trim(),
                expected,
                "{own}: {parameters:?}"
            );
        }
        let agent = Agent::new(vip, 12)
            .with("compat", "clusterip")
            .with("nic", "eth0")
            .without("cidr_netmask");
        let expected = derived_by_ipaddr2(&node, &[("ip", vip)])?;
        agent.start(&node, 0)?;
        let status = nodectl(&node, &["status", "--local"])?;
        assert!(status.contains(&expected), "{status}");
        // A monitor goes by what is installed, and a stop with nothing installed any more by what is derived.
        agent.call(&node, "monitor", 0)?.expect(0);
        node.run(&["nft", "flush", "ruleset"])?;
        agent.call(&node, "stop", 0)?.expect(0);
        let memberships = node.run(&["ip", "maddress", "show", "dev", "eth0"])?;
        assert!(!memberships.contains(&expected), "{memberships}");
        node.run(&["ip", "address", "flush", "dev", "eth0", "to", "10.99.0.1"])?;
    }
    Ok(())
}
