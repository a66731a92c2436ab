//! The cluster of an ordeal: two VIPs, IPv4 and IPv6, twelve buckets each, and when it is at rest.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lab::cluster::{Membership, PATIENCE};
use lab::{Client, Cluster, ClusterOptions, Context, Error, Lab, Pace, Result, Serve};

use crate::errand::{self, Errand};
use crate::trouble::{self, Clocks};

pub const NODES: [&str; 3] = ["n1", "n2", "n3"];
pub const CLONES: [&str; 2] = ["cloneIP", "cloneIP6"];
pub const VIPS: [&str; 2] = ["10.77.0.99", "fd77::99"];
const RESOURCES: [&str; 2] = ["resIP", "resIP6"];
const BUCKETS: usize = 12;
const PORT: u16 = 7000;
/// Longer than any round, so that no drained connection of a round ends by the clock.
const DRAIN_TIMEOUT: &str = "300s";

pub struct Rig {
    pub cluster: Cluster,
    pub client: Client,
    lab: Lab,
    clocks: Mutex<Clocks>,
    lost: Mutex<Vec<&'static str>>,
}

/// Where clients connect to.
pub fn targets() -> [SocketAddr; 2] {
    VIPS.map(|vip| SocketAddr::new(vip.parse::<IpAddr>().expect("an address"), PORT))
}

impl Rig {
    /// Boots the nodes, with nothing shared yet.
    pub fn start() -> Result<Self> {
        let lab = Lab::new("ordeal")?;
        let client = lab.client("c1")?;
        let options = ClusterOptions {
            agent: Some(lab::built("ordeal")?),
            nodectl: Some(lab::built("nodectl")?),
            files: vec![(lab::built("ocf-clusterip")?, errand::REAL.into())],
            serve: vec![Serve::Tcp(PORT), Serve::Udp(PORT)],
            environment: trouble::changeable_clocks()?,
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start(&lab, &NODES, options)?;
        Ok(Self {
            cluster,
            client,
            lab,
            clocks: Mutex::default(),
            lost: Mutex::default(),
        })
    }

    /// What the nodes' clocks have been through.
    pub fn clocks(&self) -> MutexGuard<'_, Clocks> {
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn say(&self, line: impl std::fmt::Display) {
        self.lab.progress().say(line);
    }

    /// Shares both VIPs, and waits until all buckets are served.
    pub fn share(&self) -> Result<()> {
        let mut text = String::from("property load-threshold=\"10000%\"\n");
        for ((resource, clone), vip) in RESOURCES.iter().zip(CLONES).zip(VIPS) {
            let prefix = if vip.contains(':') { 64 } else { 24 };
            text += &format!(
                "primitive {resource} ocf:rust:ClusterIP \
                 params ip={vip} nic=eth0 cidr_netmask={prefix} clusterip_hash=sourceip-sourceport \
                 hash_seed=20090 drain_timeout={DRAIN_TIMEOUT} \
                 op start timeout=30s interval=0 op stop timeout=30s interval=0 \
                 op monitor interval=10s timeout=30s meta resource-stickiness=0\n\
                 clone {clone} {resource} meta globally-unique=true clone-max={BUCKETS} \
                 clone-node-max={BUCKETS} interleave=true\n"
            );
        }
        self.cluster.load(NODES[0], &text)?;
        self.wait_at_rest(&NODES)
    }

    /// Stops both clones, and waits until Pacemaker has done it.
    pub fn stop(&self) -> Result<()> {
        for clone in CLONES {
            self.crm_resource(&["--meta", "-r", clone, "-p", "target-role", "-v", "Stopped"])?;
        }
        self.lab.wait_until("the clones' stop", PATIENCE, || {
            for resource in RESOURCES {
                let spread = self.cluster.spread(resource)?;
                if !spread.is_empty() {
                    return Err(Error::new(format!("{resource}: {spread:?}")));
                }
            }
            self.cluster.expect_quiet()
        })
    }

    /// Pacemaker's tool for resources, on a node that is there.
    pub fn crm_resource(&self, words: &[&str]) -> Result<()> {
        let node = self.cluster.node(&self.one_that_is_on()?)?;
        node.run(&[&["crm_resource"], words].concat()).map(drop)
    }

    fn one_that_is_on(&self) -> Result<String> {
        let mut on = NODES
            .iter()
            .filter(|name| self.cluster.is_on(name).unwrap_or_default());
        Ok((*on.next().context("no node is on")?).to_owned())
    }

    /// Nodes that were off since this was last asked.
    pub fn lost_nodes(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.lost())
    }

    fn lost(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Switches on what has been fenced; these nodes must be members. Another may have left in good order.
    fn expect_online(&self, wanted: &[&str]) -> Result<()> {
        let memberships = self.cluster.memberships()?;
        for name in NODES {
            let seen = memberships.get(name);
            // Who comes back before Pacemaker knows that he was away is fenced when it does.
            if self.cluster.is_off(name)? && seen == Some(&Membership::Away) {
                self.lost().push(name);
                // It is a member when this returns.
                self.cluster.power_on(name)?;
                self.clocks().booted(name);
            } else if !self.cluster.is_on(name)? {
                return Err(Error::new(format!("{name} is not fenced yet")));
            } else if wanted.contains(&name) && seen != Some(&Membership::Online) {
                return Err(Error::new(format!("{name} is not online")));
            }
        }
        Ok(())
    }

    /// Waits until each node is a member, and switches on what has been fenced.
    pub fn bring_back(&self) -> Result<()> {
        self.lab
            .wait_until("all nodes", 3 * PATIENCE, || self.expect_online(&NODES))
    }

    /// Waits until every bucket is owned once and answered, by these nodes alone, and nothing moves.
    pub fn wait_at_rest(&self, nodes: &[&str]) -> Result<()> {
        let what = format!("rest, on {}", nodes.join(", "));
        self.lab.wait_until(&what, 2 * PATIENCE, || {
            // Pacemaker may take a while to see that a node is lost.
            self.expect_online(nodes)?;
            self.cluster.expect_quiet()?;
            let placement = self.placement()?;
            for on in placement.values() {
                let right = matches!(on.as_slice(), [name] if nodes.contains(&name.as_str()));
                if !right {
                    return Err(Error::new(format!("{placement:?}")));
                }
            }
            if placement.len() != RESOURCES.len() * BUCKETS {
                return Err(Error::new(format!("not all instances: {placement:?}")));
            }
            self.expect_owned_once()?;
            self.expect_answers()?;
            self.cluster.expect_quiet()?;
            match self.placement()? == placement {
                true => Ok(()),
                false => Err(Error::new("instances move")),
            }
        })
    }

    /// Where Pacemaker has the instances of both clones.
    fn placement(&self) -> Result<BTreeMap<(&'static str, u32), Vec<String>>> {
        let mut all = BTreeMap::new();
        for resource in RESOURCES {
            let placement = self.cluster.placement(resource)?.into_iter();
            all.extend(placement.map(|(number, on)| ((resource, number), on)));
        }
        Ok(all)
    }

    fn expect_answers(&self) -> Result<()> {
        targets().into_iter().try_for_each(|target| {
            let flows = self.client.sources_for(target.ip(), 60);
            self.client
                .udp(target, flows, Pace::default())?
                .expect_all_answered()
        })
    }

    /// By the kernels' word each bucket has one owner, which lacks nothing.
    fn expect_owned_once(&self) -> Result<()> {
        let mut owners: BTreeMap<(String, u64), Vec<&str>> = BTreeMap::new();
        for name in NODES {
            let text = self
                .cluster
                .node(name)?
                .run(&["nodectl", "status", "--json"])?;
            let status: serde_json::Value =
                serde_json::from_str(&text).context("nodectl's JSON")?;
            for vip in status["vips"].as_array().into_iter().flatten() {
                let owned: Vec<u64> = vip["owned"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|n| n.as_u64())
                    .collect();
                if !owned.is_empty() && vip["healthy"] != true {
                    return Err(Error::new(format!("{name}: {vip}")));
                }
                let address = vip["vip"].as_str().unwrap_or_default().to_owned();
                for bucket in owned {
                    owners
                        .entry((address.clone(), bucket))
                        .or_default()
                        .push(name);
                }
            }
        }
        let all = VIPS.len() * BUCKETS;
        match owners.values().any(|names| names.len() != 1) || owners.len() != all {
            true => Err(Error::new(format!("owners by the kernels: {owners:?}"))),
            false => Ok(()),
        }
    }

    /// What became of the actions since this was last asked, on the nodes that live.
    pub fn errands(&self) -> Result<Vec<Errand>> {
        let mut all = Vec::new();
        for name in NODES {
            let node = self.cluster.node(name)?;
            let old = format!("{}.old", errand::LOG);
            // None has acted since the last time; what is written while the file moves goes with it.
            if node.run(&["mv", errand::LOG, &old]).is_err() {
                continue;
            }
            for line in node.run(&["cat", &old]).unwrap_or_default().lines() {
                all.push(serde_json::from_str(line).context(line.to_owned())?);
            }
        }
        Ok(all)
    }

    /// What a round has broken on purpose does not stay for the next one.
    pub fn forget_failures(&self) -> Result<()> {
        // A daemon that was killed is not back at once, and nobody has failed anything while it is away.
        self.lab.wait_until("Pacemaker to forget", PATIENCE, || {
            match self.cluster.failures()?.is_empty() {
                true => Ok(()),
                false => self.crm_resource(&["--cleanup"]),
            }
        })?;
        self.wait_at_rest(&NODES)
    }

    /// Whole logs of the nodes that live.
    pub fn keep_logs(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).context(folder.display())?;
        for name in NODES {
            for (log, suffix) in [
                ("/var/log/pacemaker/pacemaker.log", "pacemaker.log"),
                ("/var/log/syslog", "syslog"),
                ("/var/log/ordeal.jsonl.old", "errands.jsonl"),
            ] {
                // What is not there says nothing.
                if let Ok(text) = self.cluster.node(name)?.run(&["cat", log]) {
                    let place = folder.join(format!("{name}-{suffix}"));
                    fs::write(&place, text).context(place.display())?;
                }
            }
        }
        Ok(())
    }

    /// Waits for a state of the cluster.
    pub fn wait_until<A: lab::wait::Awaited>(
        &self,
        what: &str,
        time: Duration,
        ask: impl FnMut() -> A,
    ) -> Result<A::Value> {
        self.lab.wait_until(what, time, ask)
    }
}
