//! A newcomer's way with nothing but the package, in a Debian of its own that the machine's programs do
//! not reach: configuration, traffic, a node's death, why a client lands where it does, the router.
//!
//! `packaging/test-clean-root` makes that Debian, installs the package, and runs this.

use std::net::SocketAddr;

use lab::cluster::PATIENCE;
use lab::{Client, Cluster, ClusterOptions, Context, Error, Lab, Pace, Result};

use crate::product::*;

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// New connections are answered, by these nodes and no others.
fn expect_answers(lab: &Lab, client: &Client, nodes: &[&str]) -> Result<()> {
    let what = format!("answers of {}", nodes.join(", "));
    lab.wait_until(&what, PATIENCE, || {
        expect_answered_by(client, ip(V4), 120, nodes)
    })
}

#[test]
#[ignore = "wants a Debian with the package in it: make test-deb"]
fn a_newcomer_gets_by_with_the_package_alone() -> Result<()> {
    let root = std::env::var_os("CLEAN_ROOT").context("CLEAN_ROOT")?;
    let lab = Lab::new("packaged")?;
    let client = lab.client("c1")?;
    let options = ClusterOptions {
        root: root.into(),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(&lab, &NODES, options)?;
    let n1 = cluster.node("n1")?;
    // It is that Debian, not this machine's.
    assert!(n1.run(&["dpkg", "-s", "clusterip"])?.contains("install ok"));
    let load = format!(
        "nodectl crm {V4}/24 --nic eth0 --nodes 3 --service ocf:lab:Service | \
         crm configure load update -"
    );
    n1.run(&["sh", "-c", &load])?;
    expect_answers(&lab, &client, &NODES)?;
    assert_eq!(cluster.failures()?, []);

    cluster.power_off("n3")?;
    let status = || n1.run(&["nodectl", "status"]);
    lab.wait_until("the death in status", PATIENCE, || {
        let screen = status()?;
        let n3 = screen.lines().find(|line| line.contains("n3 "));
        let dead = n3.is_some_and(|n3| n3.contains("UNCLEAN") || n3.contains("offline"));
        match dead {
            true => Ok(()),
            false => Err(Error::new(screen)),
        }
    })?;
    expect_answers(&lab, &client, &NODES[..2])?;
    let screen = status()?;
    assert!(
        screen.contains("healthy") && !screen.contains("DARK"),
        "{screen}"
    );

    let source = client.sources_for(ip(V4), 1)[0];
    let flow = [(source, 40_000)];
    let report = client.udp(SocketAddr::new(ip(V4), PORT), flow, Pace::default())?;
    let answered = report
        .answered()
        .into_values()
        .next()
        .context("an answer")?;
    let words = ["nodectl", "explain", V4, &format!("{source}:40000")];
    let said = n1.run(&words)?;
    let owner = said
        .lines()
        .find(|line| line.trim_start().starts_with("owner"));
    assert!(owner.is_some_and(|line| line.contains(&answered)), "{said}");
    assert!(said.contains("agrees"), "{said}");

    // What the router is told is what it needs.
    let words = [
        "nodectl",
        "arp",
        V4,
        "--vendor",
        "linux",
        "--interface",
        "eth0",
    ];
    let said = n1.run(&words)?;
    let entry = said.lines().find(|line| line.contains("ip neigh replace"));
    let entry = entry.and_then(|line| line.split("  <-").next());
    client.run(&["sh", "-c", entry.context("a static entry")?.trim()])?;
    expect_answers(&lab, &client, &NODES[..2])
}
