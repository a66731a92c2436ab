//! A VIP in another network namespace than the cluster's: the agent enters it, and Pacemaker must still
//! be asked in its own.

use crate::product::expect_fits_schema;
use lab::cluster::PATIENCE;
use lab::{Cluster, ClusterOptions, Context, Error, Lab, Node, Result};

const VIP: &str = "10.88.0.99";
const NODES: [&str; 2] = ["n1", "n2"];
const CONFIGURATION: &str = r#"primitive resIP ocf:rust:ClusterIP \
  params ip="10.88.0.99" nic="inside" network_namespace="inner" hash_seed="7" drain_timeout="300s" \
  op start timeout="20s" op stop timeout="20s" op monitor interval="10s" timeout="20s" \
  meta resource-stickiness="0"
clone cloneIP resIP \
  meta globally-unique="true" clone-max="4" clone-node-max="4" interleave="true"
"#;

/// A namespace with a cable into it.
fn dig(node: &Node, address: &str) -> Result<()> {
    for command in [
        "netns add inner",
        "link add outside type veth peer name inside",
        "link set inside netns inner",
        "link set outside up",
        "-n inner link set inside up",
    ] {
        let words: Vec<&str> = ["ip"].into_iter().chain(command.split(' ')).collect();
        node.run(&words)?;
    }
    node.run(&["ip", "-n", "inner", "addr", "add", address, "dev", "inside"])?;
    Ok(())
}

#[test]
fn who_drains_is_asked_where_pacemaker_is() -> Result<()> {
    let lab = Lab::new("netns")?;
    let options = ClusterOptions {
        agent: Some(lab::built("ocf-clusterip")?),
        nodectl: Some(lab::built("nodectl")?),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(&lab, &NODES, options)?;
    for (name, address) in NODES.into_iter().zip(["10.88.0.1/24", "10.88.0.2/24"]) {
        dig(&cluster.node(name)?, address)?;
    }
    cluster.load("n1", CONFIGURATION)?;
    for name in NODES {
        // Nobody drains anything, so that nothing stays adopted.
        lab.wait_until("buckets that are owned", PATIENCE, || {
            let inner = ["nsenter", "--net=/run/netns/inner"];
            let status = ["nodectl", "status", "--json"];
            let words: Vec<&str> = inner.into_iter().chain(status).collect();
            let text = cluster.node(name)?.run(&words)?;
            let status: serde_json::Value = serde_json::from_str(&text).context("JSON")?;
            let vip = &status["vips"][0];
            let count = |what: &str| vip[what].as_array().map_or(0, Vec::len);
            match vip["vip"] == VIP && count("owned") == 2 && count("adopting") == 0 {
                true => Ok(()),
                false => Err(Error::new(text)),
            }
        })?;
    }
    assert!(cluster.failures()?.is_empty());
    expect_seen(&cluster.node("n1")?)
}

/// From the host the cluster is seen, and where the address is; from within, all of it.
fn expect_seen(node: &Node) -> Result<()> {
    let outside = node.run(&["nodectl", "status"])?;
    let hint = format!("{VIP}: in network namespace inner: see 'nodectl --netns inner status'");
    assert!(outside.contains(&hint), "{outside}");
    assert!(!outside.contains("DIFFERS"), "{outside}");
    expect_fits_schema(&node.run(&["nodectl", "status", "--json"])?)?;
    let within = node.run(&["nodectl", "--netns", "inner", "status"])?;
    for word in ["healthy", "<- this node", "cluster   n1"] {
        assert!(within.contains(word), "{within}");
    }
    for word in ["DIFFERS", "DARK"] {
        assert!(!within.contains(word), "{within}");
    }
    let why = ["explain", VIP, "192.0.2.1:40000"];
    let words: Vec<&str> = ["nodectl", "--netns", "inner"]
        .into_iter()
        .chain(why)
        .collect();
    let why = node.run(&words)?;
    assert!(why.contains("according to Pacemaker"), "{why}");
    Ok(())
}
