//! Who owns which bucket, as every node itself tells it by `nodectl status --json`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use clusterip::model::hash::{Flow, Hasher};
use lab::{Cluster, Context, Error, Result};
use serde::Deserialize;

use crate::screen::{Screen, Tone};

/// What is read of `nodectl status --json`.
#[derive(Deserialize)]
struct Status {
    vips: Vec<Vip>,
}

#[derive(Deserialize)]
struct Vip {
    vip: IpAddr,
    hash: String,
    layout: String,
    seed: u32,
    buckets: u16,
    owned: Vec<u16>,
    healthy: bool,
}

/// The bucket map of one VIP.
pub struct Map {
    vip: IpAddr,
    hasher: Hasher,
    buckets: u16,
    /// For each node, in the cluster's order: its buckets, or nothing when it is off.
    nodes: Vec<(String, Option<BTreeSet<u16>>)>,
    unhealthy: Vec<String>,
}

impl Map {
    /// Asks every node of the cluster that is switched on.
    pub fn read(cluster: &Cluster, vip: IpAddr) -> Result<Self> {
        let mut found: Option<(Hasher, u16)> = None;
        let mut nodes = Vec::new();
        let mut unhealthy = Vec::new();
        for name in cluster.names() {
            if !cluster.is_on(&name)? {
                nodes.push((name, None));
                continue;
            }
            let text = cluster.node(&name)?.run(&["nodectl", "status", "--json"])?;
            let status: Status =
                serde_json::from_str(&text).context(format!("nodectl status of {name}"))?;
            let mut owned = BTreeSet::new();
            for told in status.vips.into_iter().filter(|told| told.vip == vip) {
                let hasher = Hasher {
                    mode: told.hash.parse().context(&name)?,
                    layout: told.layout.parse().context(&name)?,
                    seed: told.seed,
                };
                let first = *found.get_or_insert((hasher, told.buckets));
                if first != (hasher, told.buckets) {
                    return Err(Error::new(format!("{name} hashes {vip} in another way")));
                }
                if !told.healthy {
                    unhealthy.push(name.clone());
                }
                owned.extend(told.owned);
            }
            nodes.push((name, Some(owned)));
        }
        let (hasher, buckets) = found.context(format!("no node has {vip}"))?;
        Ok(Self {
            vip,
            hasher,
            buckets,
            nodes,
            unhealthy,
        })
    }

    /// How many buckets there are.
    pub fn buckets(&self) -> u16 {
        self.buckets
    }

    /// The nodes' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|(name, _)| name.as_str())
    }

    /// The buckets of a node.
    pub fn owned(&self, name: &str) -> BTreeSet<u16> {
        let mut all = self.nodes.iter();
        let node = all.find(|(node, _)| node == name);
        node.and_then(|(_, owned)| owned.clone())
            .unwrap_or_default()
    }

    /// The node that owns a bucket, if it is one.
    pub fn owner(&self, bucket: u16) -> Option<&str> {
        let mut owners = self.owners(bucket);
        let first = owners.next();
        first.filter(|_| owners.next().is_none())
    }

    /// The bucket that a client's packets fall into, by the mirror of the kernel's hash.
    pub fn bucket_of(&self, source: IpAddr, source_port: u16, destination_port: u16) -> u16 {
        let flow = Flow {
            source,
            source_port,
            destination_port,
        };
        self.hasher.bucket(&flow, self.buckets)
    }

    /// What is wrong with it: buckets without an owner or with two, nodes that have drifted.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for bucket in 0..self.buckets {
            let owners: Vec<_> = self.owners(bucket).collect();
            match owners.as_slice() {
                [_] => {}
                [] => faults.push(format!("nobody owns bucket {bucket} of {}", self.vip)),
                several => {
                    let several = several.join(" and ");
                    faults.push(format!(
                        "{several} own bucket {bucket} of {} together",
                        self.vip
                    ));
                }
            }
        }
        let drifted = self.unhealthy.iter();
        faults.extend(drifted.map(|name| format!("{name} says that {} has drifted", self.vip)));
        faults
    }

    /// The map as a picture: a line for each node.
    pub fn picture(&self, screen: &Screen) -> Vec<String> {
        let numbers: Vec<String> = (0..self.buckets).map(|b| format!("{b:>3}")).collect();
        let numbers = format!("bucket  {}", numbers.concat());
        let mut lines = vec![screen.paint(Tone::Dim, numbers)];
        for (n, (name, owned)) in self.nodes.iter().enumerate() {
            let Some(owned) = owned else {
                lines.push(screen.paint(Tone::Bad, format!("{name:<8}  switched off")));
                continue;
            };
            let cell = |bucket| match owned.contains(&bucket) {
                true => screen.paint(Tone::Node(n), "  #"),
                false => screen.paint(Tone::Dim, "  ."),
            };
            let cells: String = (0..self.buckets).map(cell).collect();
            let name = screen.paint(Tone::Node(n), format!("{name:<8}"));
            lines.push(format!("{name}{cells}   {:>2} buckets", owned.len()));
        }
        lines
    }

    /// The map in one line.
    pub fn strip(&self, screen: &Screen) -> String {
        let node = |(n, (name, owned)): (usize, &(String, Option<BTreeSet<u16>>))| {
            let Some(owned) = owned else {
                return screen.paint(Tone::Bad, format!("{name} off"));
            };
            let mark = |bucket| if owned.contains(&bucket) { '#' } else { '.' };
            let strip: String = (0..self.buckets).map(mark).collect();
            screen.paint(Tone::Node(n), format!("{name} [{strip}]"))
        };
        let nodes: Vec<_> = self.nodes.iter().enumerate().map(node).collect();
        format!("{}  {}", self.vip, nodes.join("  "))
    }

    /// How many buckets each node has: "n1 4, n2 4, n3 4".
    pub fn counts(&self) -> BTreeMap<&str, usize> {
        let on = self.nodes.iter();
        on.filter_map(|(name, owned)| Some((name.as_str(), owned.as_ref()?.len())))
            .collect()
    }

    fn owners(&self, bucket: u16) -> impl Iterator<Item = &str> {
        let nodes = self.nodes.iter();
        nodes
            .filter(move |(_, owned)| owned.as_ref().is_some_and(|set| set.contains(&bucket)))
            .map(|(name, _)| name.as_str())
    }
}
