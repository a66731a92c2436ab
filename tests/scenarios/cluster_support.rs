//! A real cluster that shares a VIP in the classic way, and the judges: who owns what by Pacemaker
//! and by each kernel, and who answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clusterip::model::hash::{Flow, Hasher};
use clusterip::model::seed::derived_seed;
use lab::cluster::PATIENCE;
use lab::traffic::{Probe, ProbeReport};
use lab::{
    Client, Cluster, ClusterOptions, Context, Daemon, Error, HoldOptions, Instances, Lab, Pace,
    ProbeKind, Report, Result, Serve, Witness,
};

use crate::product::*;

/// How long a datagram waits for its answer; a busy machine is no silent node.
pub const ANSWER_TIME: Duration = Duration::from_secs(2);

/// How often each of so many sources begins a connection while buckets move.
const EVERY: Duration = Duration::from_millis(60);
const PROBES: usize = 36;

/// A VIP as the cluster is told to share it: the resource's name stands for the clone too.
#[derive(Clone, Debug)]
pub struct Shared {
    pub resource: &'static str,
    pub address: IpAddr,
    pub buckets: u16,
    pub hasher: Hasher,
}

impl Shared {
    /// As the agent understands the classic configuration.
    pub fn new(resource: &'static str, address: &str, buckets: u16) -> Self {
        let address = ip(address);
        Self {
            resource,
            address,
            buckets,
            hasher: hasher(
                Default::default(),
                Default::default(),
                derived_seed(address),
            ),
        }
    }

    /// The classic text of 2009, but for the agent's name, the address and the numbers.
    pub fn classic(&self, interval: u32) -> String {
        let Self {
            resource,
            address,
            buckets,
            ..
        } = self;
        let prefix = if address.is_ipv4() { 24 } else { 64 };
        format!(
            r#"primitive {resource} ocf:rust:ClusterIP \
  operations $id="{resource}-operations" \
  op monitor interval="{interval}s" timeout="20s" start-delay="0" \
  params ip="{address}" nic="eth0" cidr_netmask="{prefix}" \
  clusterip_hash="sourceip-sourceport" \
  meta resource-stickiness="0"
clone {} {resource} \
  meta clone-max="{buckets}" globally-unique="true" clone-node-max="{buckets}"
"#,
            self.clone_name()
        )
    }

    /// `cloneIP` for `resIP`.
    pub fn clone_name(&self) -> String {
        self.resource.replacen("res", "clone", 1)
    }

    pub fn target(&self) -> SocketAddr {
        SocketAddr::new(self.address, PORT)
    }

    /// The bucket of a flow with ports.
    pub fn bucket(&self, source: IpAddr, port: u16) -> u16 {
        let flow = flow_from(source, port);
        self.hasher.bucket(&flow, self.buckets)
    }

    /// The bucket of an echo.
    pub fn echo_bucket(&self, source: IpAddr) -> u16 {
        let flow = Flow {
            source,
            source_port: 0,
            destination_port: 0,
        };
        self.hasher.bucket(&flow, self.buckets)
    }
}

/// Nodes that have the agent, its gate and nodectl, and serve this.
pub fn with_gate(serve: Vec<Serve>) -> Result<ClusterOptions> {
    let gate = "/usr/lib/ocf/resource.d/rust/ClusterIPDrain".to_owned();
    Ok(ClusterOptions {
        agent: Some(lab::built("ocf-clusterip")?),
        nodectl: Some(lab::built("nodectl")?),
        files: vec![(lab::built("ocf-clusterip-drain")?, gate)],
        serve,
        ..ClusterOptions::default()
    })
}

/// A cluster, a client and the VIPs that are shared.
pub struct Rig {
    pub cluster: Cluster,
    pub client: Client,
    pub vips: Vec<Shared>,
    pub lab: Lab,
}

impl Rig {
    /// Boots the nodes and shares the VIPs; returns when every bucket is served.
    pub fn start(name: &str, nodes: &[&str], vips: Vec<Shared>, interval: u32) -> Result<Self> {
        Self::begin(name, nodes, vips, interval, None)
    }

    /// The same with `clusteripd` on all nodes.
    pub fn start_with_daemons(
        name: &str,
        nodes: &[&str],
        vips: Vec<Shared>,
        interval: u32,
    ) -> Result<Self> {
        let daemon = Daemon {
            program: lab::built("clusteripd")?,
            debug: true,
        };
        Self::begin(name, nodes, vips, interval, Some(daemon))
    }

    fn begin(
        name: &str,
        nodes: &[&str],
        vips: Vec<Shared>,
        interval: u32,
        daemon: Option<Daemon>,
    ) -> Result<Self> {
        let lab = Lab::new(name)?;
        let client = lab.client("c1")?;
        let options = ClusterOptions {
            agent: Some(lab::built("ocf-clusterip")?),
            nodectl: Some(lab::built("nodectl")?),
            daemon,
            serve: SERVICES.to_vec(),
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start(&lab, nodes, options)?;
        let rig = Self {
            cluster,
            client,
            vips,
            lab,
        };
        for vip in &rig.vips {
            rig.cluster.load(nodes[0], &vip.classic(interval))?;
        }
        rig.wait_well_shared(nodes)?;
        Ok(rig)
    }

    /// The first VIP, in most scenarios the only one.
    pub fn vip(&self) -> &Shared {
        &self.vips[0]
    }

    pub fn say(&self, line: impl std::fmt::Display) {
        self.lab.progress().say(line);
    }

    /// Who sees all answers of the first VIP, and steady new connections to it.
    pub fn watched(&self) -> Result<(Witness, Probe)> {
        let vip = self.vip();
        let sources = self.client.sources_for(vip.address, PROBES);
        let witness = self.client.witness(&[vip.address])?;
        let (kind, target) = (ProbeKind::Tcp, vip.target());
        let probe = self
            .client
            .probe(kind, target, sources, EVERY, ANSWER_TIME)?;
        Ok((witness, probe))
    }

    /// Of three nodes the third goes on standby and comes back. No connection is lost that is held meanwhile, and nobody
    /// answers twice. The new connections.
    pub fn there_and_back(&self) -> Result<ProbeReport> {
        let vip = self.vip();
        let options = HoldOptions {
            interval: Duration::from_millis(200),
            timeout: PATIENCE,
        };
        let flows = self.client.sources_for(vip.address, 240).into_iter();
        let flows = flows
            .enumerate()
            .map(|(n, source)| (source, 20_000 + n as u16));
        let (witness, probe) = self.watched()?;
        let held = self.client.hold(vip.target(), flows, options)?;
        self.cluster.standby("n3")?;
        self.wait_well_shared(&["n1", "n2"])?;
        self.cluster.online("n3")?;
        self.wait_well_shared(&["n1", "n2", "n3"])?;
        let probes = probe.stop()?;
        held.stop()?.expect_none_lost()?;
        witness.finish()?.expect_no_double_answers()?;
        Ok(probes)
    }

    /// Waits until Pacemaker has done all it wants, and every bucket is owned once, by
    /// Pacemaker's word and by the kernels', and evenly by `nodes`; then all must be answered.
    pub fn wait_shared(&self, nodes: &[&str]) -> Result<()> {
        let what = format!("an even share on {}", nodes.join(", "));
        let shared = self.lab.wait_until(&what, PATIENCE, || {
            self.expect_well_shared(nodes)?;
            self.cluster.wait_idle()?;
            // What was seen on the way there may not have been the end.
            self.expect_well_shared(nodes)
        });
        shared.map_err(|error| {
            let tell = |name: &&str| self.pacemaker_log(name).unwrap_or_default();
            let logs: String = nodes.iter().map(tell).map(|log| tail(&log, 60)).collect();
            Error::new(format!("{error}\n{logs}"))
        })?;
        self.wait_served()
    }

    /// As [`Rig::wait_shared`], and no operation has failed on the way.
    pub fn wait_well_shared(&self, nodes: &[&str]) -> Result<()> {
        self.wait_shared(nodes)?;
        let failures = self.cluster.failures()?;
        match failures.is_empty() {
            true => Ok(()),
            false => Err(Error::new(format!("failed operations: {failures:#?}"))),
        }
    }

    fn expect_well_shared(&self, nodes: &[&str]) -> Result<()> {
        for vip in &self.vips {
            self.expect_owned_once(vip, nodes)?;
            let spread = self.cluster.spread(vip.resource)?;
            let shares = nodes
                .iter()
                .map(|name| spread.get(*name).copied().unwrap_or(0));
            let (least, most) = shares.fold((usize::MAX, 0), |(l, m), n| (l.min(n), m.max(n)));
            if most - least > 1 {
                return Err(Error::new(format!("uneven: {spread:?}")));
            }
        }
        Ok(())
    }

    /// Every bucket is one node's, and `nodectl status` on every node agrees with Pacemaker.
    pub fn expect_owned_once(&self, vip: &Shared, nodes: &[&str]) -> Result<()> {
        let placement = self.cluster.placement(vip.resource)?;
        let wrong = |why: String| Err(Error::new(format!("{}: {why}", vip.address)));
        let expected: BTreeSet<u32> = (0..vip.buckets.into()).collect();
        let started: BTreeSet<u32> = placement
            .iter()
            .filter(|(_, on)| !on.is_empty())
            .map(|(number, _)| *number)
            .collect();
        if started != expected || placement.values().any(|on| on.len() > 1) {
            return wrong(format!("Pacemaker has {placement:?}"));
        }
        for name in nodes {
            let status = self.status(name, vip)?;
            let owned: Vec<u32> = placement
                .iter()
                .filter(|(_, on)| on[0] == **name)
                .map(|(number, _)| *number)
                .collect();
            if owned.is_empty() && status.is_none() {
                continue;
            }
            let status = status.context(format!("{name} does not know {}", vip.address))?;
            let healthy = status["healthy"] == true && status["buckets"] == vip.buckets;
            if !healthy || status["owned"] != serde_json::json!(owned) {
                return wrong(format!("{name} should own {owned:?}: {status}"));
            }
        }
        let lost = placement
            .values()
            .flatten()
            .find(|on| !nodes.contains(&on.as_str()));
        match lost {
            Some(name) => wrong(format!("Pacemaker has {name}: {placement:?}")),
            None => Ok(()),
        }
    }

    /// What `nodectl status` says of the VIP, if it knows it.
    pub fn status(&self, name: &str, vip: &Shared) -> Result<Option<serde_json::Value>> {
        let text = self
            .cluster
            .node(name)?
            .run(&["nodectl", "status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&text).context(&text)?;
        let vips = status["vips"].as_array().cloned().unwrap_or_default();
        let address = vip.address.to_string();
        Ok(vips.into_iter().find(|found| found["vip"] == *address))
    }

    /// The node of each bucket, by Pacemaker's word.
    pub fn owners(&self, vip: &Shared) -> Result<BTreeMap<u16, String>> {
        Ok(owners(&self.cluster.placement(vip.resource)?))
    }

    /// Opens connections: none fails, each is answered by the node that the mirror foretells.
    pub fn expect_clients(&self, vip: &Shared, count: usize) -> Result<()> {
        let owners = self.owners(vip)?;
        let sources = self.client.sources_for(vip.address, count.div_ceil(2));
        let flows = sources.iter().flat_map(|source| [(*source, 0); 2]);
        let witness = self.client.witness(&[vip.address])?;
        let report = self
            .client
            .tcp(vip.target(), flows.take(count), Pace::default())?;
        expect_foretold(vip, &owners, &report, true)?;
        witness.finish()?.expect_no_double_answers()
    }

    /// Waits until one request for every bucket of every VIP is answered.
    pub fn wait_served(&self) -> Result<()> {
        for vip in &self.vips {
            let flows = one_flow_a_bucket(vip, &self.client);
            let pace = Pace {
                timeout: ANSWER_TIME,
                ..Pace::default()
            };
            let ask = || {
                let report = self.client.udp(vip.target(), flows.clone(), pace)?;
                report.expect_all_answered()
            };
            self.lab
                .wait_until("every bucket to be served", PATIENCE, ask)?;
        }
        Ok(())
    }

    /// All that Pacemaker has logged on a node in this life.
    pub fn pacemaker_log(&self, name: &str) -> Result<String> {
        let node = self.cluster.node(name)?;
        node.run(&["cat", "/var/log/pacemaker/pacemaker.log"])
    }
}

/// The node of each bucket that has one.
pub fn owners(placement: &Instances) -> BTreeMap<u16, String> {
    let one = placement.iter().filter_map(|(number, on)| {
        let name = on.first()?;
        Some((u16::try_from(*number).ok()?, name.clone()))
    });
    one.collect()
}

/// Fails unless each flow was answered, and by the owner of its bucket.
pub fn expect_foretold(
    vip: &Shared,
    owners: &BTreeMap<u16, String>,
    report: &Report,
    has_ports: bool,
) -> Result<()> {
    report.expect_all_answered()?;
    for (flow, node) in report.answered() {
        let bucket = match has_ports {
            true => vip.bucket(flow.src, flow.sport),
            false => vip.echo_bucket(flow.src),
        };
        if owners.get(&bucket) != Some(&node) {
            return Err(Error::new(format!(
                "{node} answered {flow:?}, which is of bucket {bucket} of {owners:?}"
            )));
        }
    }
    Ok(())
}

/// For each bucket a source and a port that the hash puts there.
fn one_flow_a_bucket(vip: &Shared, client: &Client) -> Vec<(IpAddr, u16)> {
    let mut found = BTreeMap::new();
    for source in client.sources_for(vip.address, 1000) {
        found
            .entry(vip.bucket(source, 1900))
            .or_insert((source, 1900));
    }
    found.into_values().collect()
}

/// The last lines of a log.
pub fn tail(log: &str, lines: usize) -> String {
    let all: Vec<&str> = log.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n") + "\n"
}
