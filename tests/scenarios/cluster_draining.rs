//! A cluster with a service, the gate in front of it, and both VIPs: nodes go on standby, leave and
//! come back, and no connection is cut before its client ends it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clusterip::model::hash::Hasher;
use lab::cluster::PATIENCE;
use lab::traffic::Held;
use lab::{Client, Cluster, ClusterOptions, Error, HoldOptions, Lab, Pace, Result};

use crate::product::*;
use crate::sharing::vips;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const BUCKETS: u16 = 12;
const SEED: u32 = 0x3f7a_91c4;
/// Connections to each VIP.
const HELD: usize = 240;

/// Service, gate and addresses, in this order.
fn configuration() -> String {
    let address = |name: &str, vip: &str, prefix: u8| {
        format!(
            "primitive res{name} ocf:rust:ClusterIP \
               params ip=\"{vip}\" nic=eth0 cidr_netmask={prefix} hash_seed={SEED} \
               drain_timeout=120s \
               op start timeout=20s op stop timeout=20s op monitor interval=5s timeout=20s \
               meta resource-stickiness=0\n\
             clone clone{name} res{name} meta globally-unique=true clone-max={BUCKETS} \
               clone-node-max={BUCKETS} interleave=true\n\
             order gate-before-{name} Mandatory: cloneGate clone{name}\n"
        )
    };
    // On a loaded node Pacemaker does one thing at a time, and a gate that waits is one.
    format!(
        "property load-threshold=10000%\n\
         primitive web ocf:lab:Service params listen=\"tcp:{PORT} udp:{PORT}\" \
           op start timeout=20s op stop timeout=20s op monitor interval=10s timeout=20s\n\
         clone cloneWeb web meta interleave=true\n\
         primitive gate ocf:rust:ClusterIPDrain op start timeout=20s op stop timeout=130s \
           op monitor interval=60s timeout=20s\n\
         clone cloneGate gate meta interleave=true\n\
         order web-before-gate Mandatory: cloneWeb cloneGate\n\
         {}{}",
        address("IP", V4, 24),
        address("IP6", V6, 64)
    )
}

struct Drained {
    cluster: Cluster,
    client: Client,
    hasher: Hasher,
    lab: Lab,
}

/// Connections, by the node that answers them.
type Groups = BTreeMap<String, Vec<Held>>;

impl Drained {
    fn start(name: &str) -> Result<Self> {
        let lab = Lab::new(name)?;
        let client = lab.client("c1")?;
        let gate = "/usr/lib/ocf/resource.d/rust/ClusterIPDrain".to_owned();
        let options = ClusterOptions {
            agent: Some(lab::built("ocf-clusterip")?),
            nodectl: Some(lab::built("nodectl")?),
            files: vec![(lab::built("ocf-clusterip-drain")?, gate)],
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start(&lab, &NODES, options)?;
        let drained = Drained {
            cluster,
            client,
            hasher: hasher(Default::default(), Default::default(), SEED),
            lab,
        };
        drained.cluster.load("n1", &configuration())?;
        drained.wait_shared(&NODES)?;
        Ok(drained)
    }

    /// Waits until these nodes have an even share of both VIPs, and everybody is answered.
    fn wait_shared(&self, nodes: &[&str]) -> Result<()> {
        let what = format!("an even share on {}", nodes.join(", "));
        self.lab.wait_until(&what, PATIENCE, || {
            for resource in ["resIP", "resIP6"] {
                let spread = self.cluster.spread(resource)?;
                let least = usize::from(BUCKETS) / nodes.len();
                let even = nodes.iter().all(|name| spread.get(*name) >= Some(&least));
                let all: usize = nodes.iter().filter_map(|name| spread.get(*name)).sum();
                if !even || all != usize::from(BUCKETS) {
                    return Err(Error::new(format!("{spread:?}")));
                }
            }
            Ok(())
        })?;
        for vip in vips() {
            let target = SocketAddr::new(vip, PORT);
            self.lab.wait_until("answers to everybody", PATIENCE, || {
                let flows = self.client.sources_for(vip, 60);
                let report = self.client.udp(target, flows, Pace::default())?;
                report.expect_all_answered()
            })?;
        }
        Ok(())
    }

    /// Which node answers which bucket of a VIP.
    fn owners(&self, vip: IpAddr) -> Result<BTreeMap<u16, String>> {
        let resource = if vip.is_ipv4() { "resIP" } else { "resIP6" };
        let placement = self.cluster.placement(resource)?;
        Ok(placement
            .into_iter()
            .filter_map(|(bucket, mut on)| Some((bucket as u16, on.pop()?)))
            .collect())
    }

    /// Holds connections to both VIPs, each sending a line a second.
    fn hold(&self) -> Result<Groups> {
        let options = HoldOptions {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
        };
        let mut groups = Groups::new();
        for vip in vips() {
            let owners = self.owners(vip)?;
            let mut flows: BTreeMap<&String, Vec<(IpAddr, u16)>> = BTreeMap::new();
            for (n, source) in self.client.sources_for(vip, HELD).into_iter().enumerate() {
                let port = 20_000 + n as u16;
                let bucket = self.hasher.bucket(&flow_from(source, port), BUCKETS);
                flows
                    .entry(&owners[&bucket])
                    .or_default()
                    .push((source, port));
            }
            for (node, flows) in flows {
                let target = SocketAddr::new(vip, PORT);
                let held = self.client.hold(target, flows, options)?;
                groups.entry(node.clone()).or_default().push(held);
            }
        }
        Ok(groups)
    }

    /// Ends the connections of a node as their clients do, and looks how they fared.
    fn end(&self, groups: &mut Groups, node: &str) -> Result<Duration> {
        let mut longest = Duration::ZERO;
        for held in groups.remove(node).into_iter().flatten() {
            let report = held.stop()?;
            report.expect_none_lost()?;
            for flow in &report.flows {
                assert!(
                    flow.answers.keys().all(|name| name == node),
                    "{node}: {flow:?}"
                );
            }
            longest = longest.max(report.longest_exchange());
        }
        Ok(longest)
    }

    /// Lets all connections go on for a while.
    fn go_on(&self, groups: &Groups) -> Result<()> {
        for (node, all) in groups {
            for held in all {
                let (before, least) = (held.exchanges(), HELD / NODES.len());
                let what = format!("more answers of {node}");
                self.lab
                    .wait_until(&what, PATIENCE, || match (held.lost(), held.exchanges()) {
                        (0, now) if now >= before + least => Ok(()),
                        (lost, now) => Err(format!("{lost} lost, {} answers", now - before)),
                    })?;
            }
        }
        Ok(())
    }

    /// New connections are answered, and by these nodes alone.
    fn expect_new_ones_at(&self, nodes: &[&str]) -> Result<()> {
        for vip in vips() {
            let target = SocketAddr::new(vip, PORT);
            let flows = self.client.sources_for(vip, 90);
            let report = self.client.tcp(target, flows, Pace::default())?;
            report.expect_all_answered()?;
            let names: Vec<String> = report.by_node().into_keys().collect();
            assert_eq!(names, nodes, "{vip}");
        }
        Ok(())
    }

    fn expect_no_trace(&self, node: &str) -> Result<()> {
        let node = self.cluster.node(node)?;
        self.lab.wait_until("no trace of the VIPs", PATIENCE, || {
            let status = node.run(&["nodectl", "status"])?;
            match status.contains("no VIP is installed here") {
                true => Ok(()),
                false => Err(Error::new(status)),
            }
        })
    }
}

#[test]
fn standby_and_restarts_cut_no_connection() -> Result<()> {
    let rig = Drained::start("gated")?;
    let mut longest = Duration::ZERO;
    for node in NODES {
        let others: Vec<&str> = NODES.into_iter().filter(|name| *name != node).collect();
        let mut groups = rig.hold()?;
        rig.cluster.standby(node)?;
        rig.wait_shared(&others)?;
        rig.go_on(&groups)?;
        rig.expect_new_ones_at(&others)?;
        // Only when its last client has gone the gate opens, and the service ends.
        longest = longest.max(rig.end(&mut groups, node)?);
        rig.cluster.wait_idle()?;
        rig.expect_no_trace(node)?;
        rig.cluster.online(node)?;
        rig.cluster.wait_idle()?;
        rig.wait_shared(&NODES)?;
        rig.go_on(&groups)?;
        for other in others {
            longest = longest.max(rig.end(&mut groups, other)?);
        }
        rig.lab.progress().say(format!(
            "{node} on standby and back: none of {} lost, longest exchange {longest:?}",
            2 * HELD
        ));
    }
    assert_eq!(rig.cluster.failures()?, []);
    assert!(longest < Duration::from_secs(1), "{longest:?}");

    // The whole clone at once: every bucket leaves, and comes back.
    let mut groups = rig.hold()?;
    for clone in ["cloneIP", "cloneIP6"] {
        rig.cluster.crm("n1", &["resource", "restart", clone])?;
    }
    rig.wait_shared(&NODES)?;
    rig.go_on(&groups)?;
    for node in NODES {
        longest = longest.max(rig.end(&mut groups, node)?);
    }
    assert_eq!(rig.cluster.failures()?, []);
    Ok(())
}

#[test]
fn a_node_that_dies_while_it_drains_is_noticed() -> Result<()> {
    let rig = Drained::start("drainer-dies")?;
    let groups = rig.hold()?;
    rig.cluster.standby("n2")?;
    rig.wait_shared(&["n1", "n3"])?;
    rig.go_on(&groups)?;
    // Not even the end of its processes is heard of.
    rig.lab.cable("n2", false)?;
    for (node, held) in groups {
        for held in held {
            if node == "n2" {
                let all = 2 * HELD / NODES.len() / 4;
                rig.lab
                    .wait_until("the resets", PATIENCE, || held.lost() >= all)?;
            }
            for flow in held.stop()?.flows {
                assert_eq!(flow.lost.is_some(), node == "n2", "{node}: {flow:?}");
                if let Some((_, why)) = flow.lost {
                    assert_eq!(why, lab::Failure::Reset);
                }
            }
        }
    }
    Ok(())
}
