//! A VIP in another network namespace than the cluster's: the agent enters it, and Pacemaker must still
//! be asked in its own.

use crate::cluster_support::with_gate;
use crate::product::{UNPRIVILEGED, expect_fits_schema, state_of};
use lab::cluster::PATIENCE;
use lab::{Cluster, Context, Error, Lab, Node, Result};

const VIP: &str = "10.88.0.99";
const NODES: [&str; 2] = ["n1", "n2"];
/// What prints the configuration.
const PRINT: &str = "nodectl crm 10.88.0.99/24 --nic inside --netns inner --nodes 2 --buckets 4 \
                     --service ocf:heartbeat:Dummy";

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
    let cluster = Cluster::start(&lab, &NODES, with_gate(Vec::new())?)?;
    for (name, address) in NODES.into_iter().zip(["10.88.0.1/24", "10.88.0.2/24"]) {
        dig(&cluster.node(name)?, address)?;
    }
    let print: Vec<&str> = PRINT.split_whitespace().collect();
    cluster.load("n1", &cluster.node("n1")?.run(&print)?)?;
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
    expect_seen(&cluster.node("n1")?)?;
    expect_moved_by_hand(&lab, &cluster.node("n2")?)
}

/// A VIP by hand in the other network namespace: everything is done there, and nothing here.
fn expect_moved_by_hand(lab: &Lab, node: &Node) -> Result<()> {
    const BY_HAND: &str = "10.88.0.98";
    let outside = state_of(node)?;
    let inside = |words: &str| -> Result<String> {
        let words: Vec<&str> = words.split(' ').collect();
        node.run(&[&["nodectl", "--netns", "inner"], &words[..]].concat())
    };
    let rules = || node.run(&["ip", "netns", "exec", "inner", "nft", "list", "ruleset"]);
    let up = format!("up {BY_HAND} --nic inside --buckets 4 --own 0-1 --drain-timeout 60");
    inside(&up)?;
    assert!(inside(&format!("explain {BY_HAND} 192.0.2.1:40000"))?.contains("agrees"));
    assert!(rules()?.contains(BY_HAND));
    expect_fits_schema(&inside("ruleset --json")?)?;
    // No connection: nothing has to stay.
    inside(&format!("drain {BY_HAND} 0"))?;
    inside(&format!("wait-drained {BY_HAND} --timeout 60"))?;
    inside(&format!("take {BY_HAND} 0,2"))?;
    let released = inside(&format!("release {BY_HAND} 1 --now"))?;
    assert!(released.contains("owned here 0,2 of 4"), "{released}");
    inside(&format!("down {BY_HAND}"))?;
    lab.wait_until("no trace", PATIENCE, || -> Result<()> {
        match rules()?.contains(BY_HAND) {
            true => Err(Error::new("there are rules")),
            false => Ok(()),
        }
    })?;
    // What is not here does not drain either, and is not taken for something that has ended.
    let said = inside(&format!("wait-drained {BY_HAND} --timeout 60"))?;
    assert_eq!(said, format!("{BY_HAND} is not installed here\n"));
    assert_eq!(state_of(node)?, outside);
    let denied = ["nodectl", "--netns", "inner", "status"];
    let output = node.output(&[&UNPRIVILEGED[..], &denied].concat())?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(77), "{said}");
    assert!(said.contains("as root"), "{said}");
    Ok(())
}

/// From the host the cluster is seen, and where the address is; from within, all of it.
fn expect_seen(node: &Node) -> Result<()> {
    let outside = node.run(&["nodectl", "status"])?;
    let hint = format!("{VIP}: in another network namespace: see nodectl --netns=inner status");
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
