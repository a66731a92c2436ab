//! A real cluster of the lab that shares an address, with `clusteripd` on its nodes or without.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clusterip::model::hash::{Flow, Hasher};
use lab::cluster::PATIENCE;
use lab::{
    Client, Cluster, ClusterOptions, Context, Daemon, Error, Instances, Lab, Pace, Result, Serve,
};

/// The nodes.
pub const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// The node to which things happen, and those that see it.
pub const VICTIM: &str = "n2";
/// See [`VICTIM`].
pub const SURVIVORS: [&str; 2] = ["n1", "n3"];
/// The address.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 99);
/// Where the nodes answer, TCP and UDP.
pub const PORT: u16 = 7000;
const SEED: u32 = 0x3f7a_91c4;
const RESOURCE: &str = "resIP";

/// A cluster that shares an address among `buckets`.
pub struct Sharing {
    pub cluster: Cluster,
    pub client: Client,
    pub buckets: u16,
    hasher: Hasher,
    _lab: Lab,
}

impl Sharing {
    /// Boots it; returns when every bucket is served.
    pub fn begin(buckets: u16, daemon: bool) -> Result<Self> {
        let lab = Lab::new("bench")?;
        lab.progress().redirect(|_, _| {});
        let client = lab.client("c1")?;
        let daemon = daemon.then(|| lab::built("clusteripd")).transpose()?;
        let options = ClusterOptions {
            agent: Some(lab::built("ocf-clusterip")?),
            nodectl: Some(lab::built("nodectl")?),
            daemon: daemon.map(|program| Daemon {
                program,
                debug: false,
            }),
            real_time: true,
            serve: vec![Serve::Udp(PORT), Serve::Tcp(PORT)],
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start(&lab, &NODES, options)?;
        let configuration = format!(
            "primitive {RESOURCE} ocf:rust:ClusterIP \
               params ip={VIP} nic=eth0 cidr_netmask=24 hash_seed={SEED} \
               op monitor interval=10s timeout=20s meta resource-stickiness=0\n\
             clone cloneIP {RESOURCE} meta globally-unique=true clone-max={buckets} \
               clone-node-max={buckets} interleave=true\n"
        );
        cluster.load(NODES[0], &configuration)?;
        cluster.wait_idle()?;
        let sharing = Self {
            cluster,
            client,
            buckets,
            hasher: Hasher {
                mode: Default::default(),
                layout: Default::default(),
                seed: SEED,
            },
            _lab: lab,
        };
        sharing.wait_shared(&NODES)?;
        Ok(sharing)
    }

    /// Where the nodes answer.
    pub fn target(&self) -> SocketAddr {
        (VIP, PORT).into()
    }

    /// The bucket of a flow to one of the address's ports.
    pub fn bucket(&self, source: IpAddr, source_port: u16, destination_port: u16) -> u16 {
        let flow = Flow {
            source,
            source_port,
            destination_port,
        };
        self.hasher.bucket(&flow, self.buckets)
    }

    /// Where each bucket is, by Pacemaker's word.
    pub fn placement(&self) -> Result<Instances> {
        self.cluster.placement(RESOURCE)
    }

    /// The buckets that a node has.
    pub fn buckets_of(&self, name: &str) -> Result<BTreeSet<u16>> {
        let placement = self.placement()?.into_iter();
        let its = placement.filter(|(_, on)| on.iter().any(|node| node == name));
        its.map(|(number, _)| u16::try_from(number).context("a bucket's number"))
            .collect()
    }

    /// Waits until these nodes have about as many instances each, and all are served.
    pub fn wait_shared(&self, nodes: &[&str]) -> Result<()> {
        let least = usize::from(self.buckets) / nodes.len();
        let what = format!("an even share on {}", nodes.join(", "));
        lab::wait_until(&what, PATIENCE, || {
            self.cluster.wait_idle()?;
            let spread = self.cluster.spread(RESOURCE)?;
            let share = |name: &&str| spread.get(*name).copied().unwrap_or(0);
            let all: usize = nodes.iter().map(share).sum();
            let even = nodes.iter().all(|name| share(name) >= least);
            match even && all == usize::from(self.buckets) {
                true => Ok(()),
                false => Err(Error::new(format!("{spread:?}"))),
            }
        })?;
        let sources = self.client.sources_for(VIP.into(), 200);
        lab::wait_until("answers to everybody", PATIENCE, || {
            let flows = sources.iter().map(|source| (*source, 0));
            let report = self.client.udp(self.target(), flows, Pace::default())?;
            report.expect_all_answered()
        })
    }
}
