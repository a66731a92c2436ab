//! The classic configuration, with nothing but the agent's name changed, shares an address again.

use std::collections::BTreeMap;

use lab::{Error, Pace, Result};

use crate::cluster_support::*;
use crate::product::*;

/// 3,000 connections, 3,000 datagrams, 1,000 echoes: each answered once, by whom the hash says.
fn expect_shared(rig: &Rig, vip: &Shared, nodes: usize) -> Result<()> {
    let owners = rig.owners(vip)?;
    let sources = rig.client.sources_for(vip.address, 1000);
    let ports = (0..3).map(|n| 20_000 + 7 * n);
    let flows: Vec<_> = sources
        .iter()
        .flat_map(|source| ports.clone().map(move |port| (*source, port)))
        .collect();
    assert_eq!(flows.len(), 3000);
    let witness = rig.client.witness(&[vip.address])?;
    let tcp = rig
        .client
        .tcp(vip.target(), flows.clone(), Pace::default())?;
    let udp = rig.client.udp(vip.target(), flows, Pace::default())?;
    let ping = rig.client.ping(vip.address, sources, Pace::default())?;
    for (report, has_ports) in [(&tcp, true), (&udp, true), (&ping, false)] {
        expect_foretold(vip, &owners, report, has_ports)?;
        // The hash is only so even over few buckets; a fifth off its share is too much.
        for (node, share) in report.by_node() {
            let fair = report.flows.len() / nodes;
            assert!(
                share * 5 > fair * 4 && share * 5 < fair * 6,
                "{node}: {share}"
            );
        }
        assert_eq!(report.by_node().len(), nodes);
    }
    rig.say(format!("{}: TCP {:?}", vip.address, tcp.by_node()));
    witness.finish()?.expect_no_double_answers()
}

#[test]
fn twelve_buckets_on_three_nodes() -> Result<()> {
    let vips = vec![Shared::new("resIP", V4, 12), Shared::new("resIP6", V6, 12)];
    let rig = Rig::start("classic", &["n1", "n2", "n3"], vips, 10)?;
    let four_each = BTreeMap::from(["n1", "n2", "n3"].map(|name| (name.to_string(), 4)));
    for vip in &rig.vips {
        assert_eq!(rig.cluster.spread(vip.resource)?, four_each);
        expect_shared(&rig, vip, 3)?;
    }
    tools_know_the_agent(&rig)
}

#[test]
fn the_seeds_own_two_buckets_on_two_nodes() -> Result<()> {
    let vips = vec![Shared::new("resIP", V4, 2), Shared::new("resIP6", V6, 2)];
    let rig = Rig::start("seed", &["n1", "n2"], vips, 10)?;
    let one_each = BTreeMap::from(["n1", "n2"].map(|name| (name.to_string(), 1)));
    for vip in &rig.vips {
        assert_eq!(rig.cluster.spread(vip.resource)?, one_each);
        expect_shared(&rig, vip, 2)?;
    }
    Ok(())
}

/// What administrators' tools say about the agent and the configuration.
fn tools_know_the_agent(rig: &Rig) -> Result<()> {
    let n1 = rig.cluster.node("n1")?;
    let both = |argv: &[&str]| -> Result<String> {
        let output = n1.output(argv)?;
        let (out, err) = (&output.stdout, &output.stderr);
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(out),
            String::from_utf8_lossy(err)
        );
        match output.status.success() {
            true => Ok(text),
            false => Err(Error::new(format!("{}: {text}", argv.join(" ")))),
        }
    };
    // Told nothing means that there is nothing to tell, not even a warning.
    assert_eq!(both(&["crm_verify", "--live-check", "-V"])?, "");
    for describe in [
        ["crm", "-F", "ra", "info", "ocf:rust:ClusterIP"].as_slice(),
        &["pcs", "resource", "describe", "ocf:rust:ClusterIP"],
        &["crm_resource", "--show-metadata", "ocf:rust:ClusterIP"],
    ] {
        let text = both(describe)?;
        for parameter in [
            "ip",
            "nic",
            "cidr_netmask",
            "clusterip_hash",
            "hash_seed",
            "mac",
        ] {
            assert!(text.contains(parameter), "{describe:?}: {text}");
        }
    }
    // The primitive of a globally unique clone has no instance of its own name.
    for name in ["cloneIP", "resIP:0"] {
        both(&["crm_resource", "--validate", "-r", name])?;
    }
    let by_options = |ip: &str| {
        let ip = format!("--option=ip={ip}");
        let class = [
            "--class=ocf",
            "--provider=rust",
            "--agent=ClusterIP",
            "--option=nic=eth0",
        ];
        both(&[["crm_resource", "--validate", &ip].as_slice(), &class].concat())
    };
    by_options(V4)?;
    let refused = by_options("10.77.0.999")
        .expect_err("no address")
        .to_string();
    assert!(refused.contains("is no IPv4 or IPv6 address"), "{refused}");
    Ok(())
}
