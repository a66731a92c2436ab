//! A cluster whose connections may stay, 500 clients that hold one each, and newcomers all the while.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clusterip::model::hash::Hasher;
use lab::cluster::{Membership, PATIENCE};
use lab::traffic::{Held, Probe};
use lab::{Client, Cluster, Context, Error, HoldOptions, Lab, Pace, ProbeKind, Result};

use crate::cluster_support::with_gate;
use crate::product::*;
use crate::sharing::vips;

pub const NODES: [&str; 3] = ["n1", "n2", "n3"];
pub const BUCKETS: u16 = 12;
/// That of ocf/gate.crm.
const SEED: u32 = 0x3f7a_91c4;
/// Connections to each VIP.
pub const HELD: usize = 250;
/// Newcomers to each VIP at a time, so that every bucket is asked for again and again.
const NEWCOMERS: usize = 24;

/// The configuration that is documented: service, gate, address.
const GATE: &str = include_str!("../../ocf/gate.crm");

/// Where the service comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Pacemaker starts and stops it, with the gate in between.
    Gated,
    /// It runs whatever the cluster does.
    Apart,
}

fn configuration(service: Service) -> String {
    let lab_service = format!("ocf:lab:Service params listen=\"tcp:{PORT} udp:{PORT}\"");
    let mut text = match service {
        Service::Gated => GATE.to_owned(),
        Service::Apart => {
            let (_, address) = GATE.split_once("primitive resIP").expect("the address");
            let (address, _) = address.split_once("# Coming").expect("the orders");
            format!("primitive resIP{address}")
        }
    };
    let mut replace = |theirs: &str, ours: &str| {
        assert!(text.contains(theirs), "{theirs} is not in ocf/gate.crm");
        text = text.replace(theirs, ours);
    };
    replace("10.0.0.99", V4);
    replace("interval=\"10s\"", "interval=\"5s\"");
    if service == Service::Gated {
        replace("systemd:nginx", &lab_service);
    }
    // The other address, in the same words.
    let address = |line: &&str| !line.starts_with('#') && !line.is_empty();
    let (_, first) = text.split_once("primitive resIP").expect("the address");
    let (first, rest) = first.split_once("interleave=\"true\"").expect("its end");
    let mut second = format!("primitive resIP{first}interleave=\"true\"\n");
    if rest.contains("gate-before-ip") {
        second += "order gate-before-ip Mandatory: cloneGate cloneIP\n";
    }
    for (theirs, ours) in [
        ("resIP", "resIP6"),
        ("cloneIP", "cloneIP6"),
        ("gate-before-ip", "gate-before-ip6"),
        (V4, V6),
        ("\"24\"", "\"64\""),
    ] {
        second = second.replace(theirs, ours);
    }
    let lines: Vec<&str> = text.lines().chain(second.lines()).filter(address).collect();
    lines.join("\n") + "\n"
}

pub struct Rig {
    pub cluster: Cluster,
    pub client: Client,
    pub lab: Lab,
    hasher: Hasher,
}

/// Connections, by the node that answers them.
pub type Groups = BTreeMap<String, Vec<Held>>;

/// New connections all the while, and datagrams that tell when buckets are dark.
pub struct Newcomers {
    hasher: Hasher,
    connecting: Vec<Probe>,
    asking: Vec<Probe>,
}

impl Newcomers {
    /// No connection was refused. How they fared, in words.
    pub fn finish(self) -> Result<String> {
        let (mut count, mut slowest, mut dark) = (0, Duration::ZERO, Duration::ZERO);
        for probe in self.connecting {
            let report = probe.stop()?;
            if let Some(failed) = report.failures().first() {
                return Err(Error::new(format!("a newcomer failed: {failed:?}")));
            }
            count += report.samples.len();
            let times = report.samples.iter().map(|sample| sample.result.rtt);
            slowest = slowest.max(times.max().unwrap_or_default());
        }
        for probe in self.asking {
            let buckets = probe.stop()?.outages_by(|result| {
                let flow = flow_from(result.src, result.sport);
                self.hasher.bucket(&flow, BUCKETS)
            });
            dark = dark.max(buckets.into_values().max().unwrap_or_default());
        }
        Ok(format!(
            "{count} newcomers, none refused, the slowest after {:.2} s; a bucket was dark for {:.2} s at \
             most",
            slowest.as_secs_f64(),
            dark.as_secs_f64()
        ))
    }
}

impl Rig {
    pub fn start(name: &str, service: Service) -> Result<Self> {
        let lab = Lab::new(name)?;
        let client = lab.client("c1")?;
        let serve = match service {
            Service::Gated => Vec::new(),
            Service::Apart => SERVICES.to_vec(),
        };
        let cluster = Cluster::start(&lab, &NODES, with_gate(serve)?)?;
        let rig = Rig {
            cluster,
            client,
            hasher: hasher(Default::default(), Default::default(), SEED),
            lab,
        };
        rig.cluster.load("n1", &configuration(service))?;
        rig.wait_shared(&NODES)?;
        Ok(rig)
    }

    pub fn say(&self, line: impl std::fmt::Display) {
        self.lab.progress().say(line);
    }

    pub fn crm(&self, words: &[&str]) -> Result<()> {
        self.cluster.crm("n1", words).map(drop)
    }

    /// Waits until these nodes have an even share of both VIPs, and everybody is answered.
    pub fn wait_shared(&self, nodes: &[&str]) -> Result<()> {
        self.wait_on(nodes, usize::from(BUCKETS) / nodes.len())
    }

    /// Waits until these nodes have all buckets of both VIPs, each so many at least, and everybody is
    /// answered.
    pub fn wait_on(&self, nodes: &[&str], least: usize) -> Result<()> {
        let what = format!("all buckets on {}, {least} at least", nodes.join(", "));
        self.lab.wait_until(&what, PATIENCE, || {
            for resource in ["resIP", "resIP6"] {
                let spread = self.cluster.spread(resource)?;
                let enough = nodes.iter().all(|name| spread.get(*name) >= Some(&least));
                let all: usize = nodes.iter().filter_map(|name| spread.get(*name)).sum();
                if !enough || all != usize::from(BUCKETS) {
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
    pub fn owners(&self, vip: IpAddr) -> Result<BTreeMap<u16, String>> {
        let resource = if vip.is_ipv4() { "resIP" } else { "resIP6" };
        let placement = self.cluster.placement(resource)?;
        Ok(placement
            .into_iter()
            .filter_map(|(bucket, mut on)| Some((bucket as u16, on.pop()?)))
            .collect())
    }

    /// Waits until nothing moves any more, and the kernels have what Pacemaker says.
    pub fn wait_settled(&self, nodes: &[&str]) -> Result<()> {
        self.cluster.wait_idle()?;
        for vip in vips() {
            let owners = self.owners(vip)?;
            for name in nodes {
                let node = self.cluster.node(name)?;
                let words = ["nodectl", "buckets", &vip.to_string(), "--json"];
                let what = format!("{vip} to be settled on {name}");
                self.lab.wait_until(&what, PATIENCE, || {
                    let text = node.run(&words)?;
                    let all: serde_json::Value = serde_json::from_str(&text).context("JSON")?;
                    let all = all["buckets"].as_array().context("buckets")?;
                    let wrong = all.iter().find(|bucket| {
                        let number = bucket["bucket"].as_u64().unwrap_or_default() as u16;
                        let own = owners.get(&number).is_some_and(|owner| owner == name);
                        // Nobody tells the owner when the last old connection has ended elsewhere.
                        let right: &[&str] = match own {
                            true => &["owned", "adopting"],
                            false => &["foreign"],
                        };
                        !right.iter().any(|phase| bucket["phase"] == **phase)
                    });
                    match wrong {
                        None => Ok(()),
                        Some(bucket) => Err(Error::new(bucket.to_string())),
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Holds connections to both VIPs, each sending a line a second.
    pub fn hold(&self) -> Result<Groups> {
        let options = HoldOptions {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(60),
        };
        let mut groups = Groups::new();
        for vip in vips() {
            let owners = self.owners(vip)?;
            let mut flows: BTreeMap<&String, Vec<(IpAddr, u16)>> = BTreeMap::new();
            for (n, source) in self.client.sources_for(vip, HELD).into_iter().enumerate() {
                let port = 20_000 + n as u16;
                let bucket = self.hasher.bucket(&flow_from(source, port), BUCKETS);
                let owner = owners.get(&bucket).context("every bucket's owner")?;
                flows.entry(owner).or_default().push((source, port));
            }
            for (node, flows) in flows {
                let target = SocketAddr::new(vip, PORT);
                let held = self.client.hold(target, flows, options)?;
                groups.entry(node.clone()).or_default().push(held);
            }
        }
        Ok(groups)
    }

    /// Others come and go.
    pub fn newcomers(&self) -> Result<Newcomers> {
        let each = |kind, every: u64, patience: u64| -> Result<Vec<Probe>> {
            let probes = vips().into_iter().map(|vip| {
                // Others than those that hold.
                let sources = self.client.sources_for(vip, HELD + NEWCOMERS);
                let sources = sources.into_iter().skip(HELD);
                let (every, patience) = (
                    Duration::from_millis(every),
                    Duration::from_millis(patience),
                );
                let target = SocketAddr::new(vip, PORT);
                self.client.probe(kind, target, sources, every, patience)
            });
            probes.collect()
        };
        Ok(Newcomers {
            hasher: self.hasher,
            connecting: each(ProbeKind::Tcp, 400, 30_000)?,
            asking: each(ProbeKind::Udp, 200, 2_000)?,
        })
    }

    /// Ends the connections of a node as their clients do. None was lost, all were answered by it; the
    /// longest exchange.
    pub fn end(&self, groups: &mut Groups, node: &str) -> Result<Duration> {
        let mut longest = Duration::ZERO;
        for held in groups.remove(node).into_iter().flatten() {
            let report = held.stop()?;
            report.expect_none_lost()?;
            for flow in &report.flows {
                let by: Vec<&str> = flow.answers.keys().map(String::as_str).collect();
                assert_eq!(by, [node], "{flow:?}");
            }
            longest = longest.max(report.longest_exchange());
        }
        Ok(longest)
    }

    /// The same for all that are left.
    pub fn end_all(&self, mut groups: Groups) -> Result<Duration> {
        let nodes: Vec<String> = groups.keys().cloned().collect();
        let mut longest = Duration::ZERO;
        for node in nodes {
            longest = longest.max(self.end(&mut groups, &node)?);
        }
        Ok(longest)
    }

    /// Lets all connections go on for a while.
    pub fn go_on(&self, groups: &Groups) -> Result<()> {
        for (node, all) in groups {
            for held in all {
                let (before, least) = (held.exchanges(), HELD);
                let what = format!("more answers of {node}");
                // What is lost does not come back.
                let lost = self.lab.wait_until(&what, PATIENCE, || {
                    match (held.lost(), held.exchanges()) {
                        (0, now) if now < before + least => {
                            Err(format!("{} answers", now - before))
                        }
                        (lost, _) => Ok(lost),
                    }
                })?;
                if lost > 0 {
                    let first = held.first_lost();
                    return Err(Error::new(format!("{node}: {lost} lost: {first}")));
                }
            }
        }
        Ok(())
    }

    /// New connections are answered, and by these nodes alone.
    pub fn expect_new_ones_at(&self, nodes: &[&str]) -> Result<()> {
        vips()
            .into_iter()
            .try_for_each(|vip| expect_answered_by(&self.client, vip, 90, nodes))
    }

    pub fn expect_no_trace(&self, node: &str) -> Result<()> {
        let node = self.cluster.node(node)?;
        self.lab.wait_until("no trace of the VIPs", PATIENCE, || {
            let status = node.run(&["nodectl", "status"])?;
            match status.contains("no VIP is installed here") {
                true => Ok(()),
                false => Err(Error::new(status)),
            }
        })
    }

    /// Waits until Pacemaker has fenced a node that is lost, and not only the lab knows that it is off.
    pub fn wait_fenced(&self, lost: &str) -> Result<()> {
        self.lab.wait_until("the fence", PATIENCE, || {
            let seen = self.cluster.memberships()?.remove(lost);
            match seen == Some(Membership::Away) && self.cluster.is_off(lost)? {
                true => Ok(()),
                false => Err(Error::new(format!("{seen:?}"))),
            }
        })
    }
}

/// All nodes but this one.
pub fn others(node: &str) -> Vec<&'static str> {
    NODES.into_iter().filter(|name| *name != node).collect()
}
