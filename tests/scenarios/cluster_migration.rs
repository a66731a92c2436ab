//! A cluster whose address the newest IPaddr2 shares becomes ours, node by node, by the steps that `nodectl migrate`
//! prints, to the letter: no bucket is ever answered twice, none is dark for longer than a move takes, and no connection
//! is cut. IPaddr2's part is a stand-in's, with the same rules.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clusterip::model::hash::{HashMode, Hasher, Layout};
use lab::cluster::PATIENCE;
use lab::traffic::ProbeKind;
use lab::{Cluster, ClusterOptions, Context, Error, HoldOptions, Lab, Result, wait_until};
use serde_json::Value;

use crate::cluster_support::{ANSWER_TIME, Rig, Shared};
use crate::product::*;
use crate::sharing::NODES;

const BUCKETS: u16 = 12;
/// What IPaddr2 derives on the lab's nodes (`echo 10.77.0.99 24 10.77.0.255 | md5sum`).
const SEED: u32 = 0xe4e2_5c6e;
/// A move of four buckets, of which each waits for the others, on a machine that does other things too.
const A_MOVE: Duration = Duration::from_secs(1);

/// As people have it, if they want their switch to know the MAC.
const NEWEST: &str = r#"primitive resIP ocf:heartbeat:IPaddr2 \
  params ip="10.77.0.99" nic="eth0" cidr_netmask="24" clusterip_firewall="nft" clusterip_mac_mangle="true" arp_bg="true" \
  op monitor interval="5s" timeout="20s" \
  meta resource-stickiness="0"
clone cloneIP resIP \
  meta clone-max="12" globally-unique="true" clone-node-max="12" interleave="true"
"#;

fn start(lab: &Lab) -> Result<Cluster> {
    let standin = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/standin/IPaddr2");
    let place = "/usr/lib/ocf/resource.d/heartbeat/IPaddr2".to_owned();
    let options = ClusterOptions {
        agent: Some(lab::built("ocf-clusterip")?),
        nodectl: Some(lab::built("nodectl")?),
        files: vec![(standin, place)],
        serve: SERVICES.to_vec(),
        ..ClusterOptions::default()
    };
    Cluster::start(lab, &NODES, options)
}

/// Every instance runs on one node.
fn expect_all_run(cluster: &Cluster) -> Result<()> {
    let placement = cluster.placement("resIP")?;
    let once = placement.values().filter(|on| on.len() == 1).count();
    match once == usize::from(BUCKETS) && placement.len() == once {
        true => Ok(()),
        false => Err(Error::new(format!(
            "{placement:?} {:?}",
            cluster.failures()?
        ))),
    }
}

/// Does a step on a node, and what it has to show.
fn does(rig: &Rig, name: &str, step: &Value) -> Result<String> {
    let node = rig.cluster.node(name)?;
    let commands = step["commands"].as_array().context("commands")?;
    for command in commands {
        let command = command.as_str().context("a command")?;
        let said = node.run(&["sh", "-c", command]);
        let said = said.context(format!("{name}: {command}"))?;
        rig.say(format!("{name}: {command}\n{said}"));
    }
    let check = step["check"].as_str().context("a check")?;
    node.run(&["sh", "-c", check])
        .context(format!("{name}: {check}"))
}

/// The nodes with IPaddr2's clone, which serves every bucket.
fn rig(name: &str) -> Result<Rig> {
    let lab = Lab::new(name)?;
    let client = lab.client("c1")?;
    let cluster = start(&lab)?;
    cluster.load("n1", NEWEST)?;
    let all_run = || expect_all_run(&cluster);
    wait_until("IPaddr2's instances", PATIENCE, all_run).context(cluster.logs("n1")?)?;
    cluster.wait_idle()?;
    let vips = vec![shared(hasher(HashMode::SourceIp, Layout::Network, SEED))];
    let rig = Rig {
        cluster,
        client,
        vips,
        lab,
    };
    rig.wait_served()?;
    Ok(rig)
}

fn shared(hasher: Hasher) -> Shared {
    Shared {
        resource: "resIP",
        address: ip(V4),
        buckets: BUCKETS,
        hasher,
    }
}

/// What nodectl says, asked so on the first node.
fn steps(rig: &Rig, options: &[&str]) -> Result<Vec<Value>> {
    let asked = [&["nodectl", "migrate", "--json"], options].concat();
    let text = rig.cluster.node("n1")?.run(&asked)?;
    let answer: Value = serde_json::from_str(&text).context(&text)?;
    let steps = answer["migrated"][0]["steps"].as_array();
    Ok(steps.context("steps")?.clone())
}

/// On which nodes a step is done.
fn nodes_of(step: &Value) -> Result<&'static [&'static str]> {
    Ok(match step["where"].as_str().context("where")? {
        "one node" => &NODES[..1],
        _ => &NODES,
    })
}

/// Does all of it, and looks whether every check shows what it must.
fn follow(rig: &Rig, options: &[&str]) -> Result<()> {
    for (n, step) in steps(rig, options)?.iter().enumerate() {
        for name in nodes_of(step)? {
            let shown = does(rig, name, step)?;
            rig.say(format!("step {} on {name}: {shown}", n + 1));
            for word in ["DARK", "TWICE", "DIFFERS", "CLONE-MAX", "DRIFTED"] {
                assert!(!shown.contains(word), "step {} on {name}: {shown}", n + 1);
            }
        }
    }
    Ok(())
}

/// One node takes over, and gives back: then IPaddr2 serves everything again, and its rules stand once.
fn take_over_and_give_back(rig: &Rig) -> Result<()> {
    let node = rig.cluster.node("n1")?;
    let steps = steps(rig, &[])?;
    let in_turn = steps
        .iter()
        .position(|step| step["where"] == "one node after the other");
    let until = in_turn.context("a takeover")?;
    for step in &steps[..until] {
        for name in nodes_of(step)? {
            does(rig, name, step)?;
        }
    }
    does(rig, "n1", &steps[until])?;
    let script = steps[until]["commands"][0].as_str().context("a command")?;
    let said = node.run(&["sh", "-c", &format!("{script} back")])?;
    assert!(said.contains("given back"), "{said}");
    let listed = node.run(&["nft", "list", "ruleset"])?;
    assert!(!listed.contains(V4), "{listed}");
    for line in [
        "crm_resource --refresh -r cloneIP",
        "crm_resource --wait",
        "crm_resource -r cloneIP -m -d maintenance",
        "crm_resource --wait",
    ] {
        node.run(&["sh", "-c", line])?;
    }
    wait_until("IPaddr2's instances", PATIENCE, || {
        expect_all_run(&rig.cluster)
    })?;
    let listed = node.run(&["nft", "list", "table", "ip", "IPaddr2_10_77_0_99"])?;
    assert_eq!(listed.matches(" drop").count(), 1, "{listed}");
    rig.wait_served()
}

#[test]
fn the_newest_ipaddr2_is_taken_over_node_by_node_as_nodectl_says() -> Result<()> {
    let rig = rig("migrate")?;
    let before = rig.cluster.placement("resIP")?;
    let vip = rig.vip();
    let sources = rig.client.sources_for(vip.address, 48);
    let target = SocketAddr::new(vip.address, PORT);
    let held = rig.client.hold(
        target,
        sources.iter().map(|source| (*source, 30_000)),
        HoldOptions {
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(20),
        },
    )?;
    let witness = rig.client.witness(&[vip.address])?;
    let every = Duration::from_millis(20);
    let probe = rig
        .client
        .probe(ProbeKind::Udp, target, sources, every, ANSWER_TIME)?;

    follow(&rig, &[])?;

    rig.wait_well_shared(&NODES)?;
    let after = rig.cluster.placement("resIP")?;
    assert_eq!(before, after, "no instance has moved");
    let report = probe.stop()?;
    witness.finish()?.expect_no_double_answers()?;
    let dark: BTreeMap<u16, Duration> =
        report.outages_by(|result| vip.bucket(result.src, result.sport));
    rig.say(format!("{} probes, dark: {dark:?}", report.samples.len()));
    assert!(dark.values().all(|dark| *dark < A_MOVE), "{dark:?}");
    held.stop()?.expect_none_lost()
}

/// With another hash it goes with the clone stopped; in pcs' words. Before, a node that took over has thought better of it.
#[test]
fn another_hash_is_taken_with_the_clone_stopped_as_nodectl_says() -> Result<()> {
    let mut rig = rig("migrate-stopped")?;
    let options = "--for pcs --compat none --seed 0x3f7a91c4";
    let options: Vec<&str> = options.split(' ').collect();
    let witness = rig.client.witness(&[rig.vip().address])?;
    take_over_and_give_back(&rig)?;
    follow(&rig, &options)?;
    rig.vips = vec![shared(hasher(
        HashMode::default(),
        Layout::default(),
        0x3f7a_91c4,
    ))];
    rig.wait_well_shared(&NODES)?;
    witness.finish()?.expect_no_double_answers()?;
    rig.expect_clients(rig.vip(), 60)
}
