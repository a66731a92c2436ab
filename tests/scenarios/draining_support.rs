//! Nodes whose connections may stay, without a cluster; Pacemaker's part is in `cluster_draining`.

use crate::kernel_support::in_guest;
use crate::product::*;
use crate::sharing::*;
use lab::namespace::lock_files;
use lab::traffic::Held;
use lab::{Client, Context, Flow, HoldOptions, Lab, Node, NodeOptions, Result, Witnessed};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

pub const SEED: u32 = 0x0bad_cafe;
pub const PATIENT: Duration = Duration::from_secs(20);
/// Below those that the kernel chooses from.
const FIRST_PORT: u16 = 20_000;
/// Connections of each family.
pub const HELD: usize = 60;

/// In the guest a crowd in a hurry keeps the machine so busy that segments wait for seconds, and then the
/// safety net takes them for orphans.
pub fn unhurried() -> HoldOptions {
    let pause_ms = if in_guest() { 1000 } else { 100 };
    HoldOptions {
        interval: Duration::from_millis(pause_ms),
        ..HoldOptions::default()
    }
}

/// Three nodes that share both VIPs, and a client.
pub struct Scene {
    /// Source ports that were not used yet.
    next_port: AtomicU16,
    pub client: Client,
    pub sharing: Sharing,
    pub lab: Lab,
}

impl Scene {
    /// Connections may stay so many seconds.
    pub fn begin(name: &str, drain_s: &str) -> Result<Self> {
        let scene = Scene::prepare(name, drain_s)?;
        scene.start()?;
        Ok(scene)
    }

    /// The same, but no VIP is there yet.
    pub fn prepare(name: &str, drain_s: &str) -> Result<Self> {
        let lab = Lab::new(name)?;
        let client = lab.client("c1")?;
        let mut sharing = Sharing::serving(&lab, NodeOptions::default())?;
        let draining = |vip| agent(vip).with("drain_timeout", drain_s);
        sharing.agents = [draining(V4), draining(V6)];
        Ok(Scene {
            next_port: AtomicU16::new(FIRST_PORT),
            client,
            sharing,
            lab,
        })
    }

    /// Starts both VIPs on all nodes.
    pub fn start(&self) -> Result<()> {
        let mut agents = self.sharing.agents.iter();
        agents.try_for_each(|agent| self.sharing.start(agent))
    }

    /// The n-th node, counted from 0.
    pub fn node(&self, n: usize) -> &Node {
        &self.sharing.nodes[n]
    }

    /// Moves all instances that the first node began with, as Pacemaker does: stops, then starts.
    pub fn move_all(&self, from: usize, to: usize) -> Result<()> {
        for agent in &self.sharing.agents {
            for instance in instances(0) {
                agent.call(self.node(from), "stop", instance)?.expect(0);
            }
            for instance in instances(0) {
                agent.start(self.node(to), instance)?;
            }
        }
        Ok(())
    }

    /// Holds connections to both VIPs.
    pub fn hold(&self) -> Result<Vec<Held>> {
        self.hold_so(HELD, unhurried())
    }

    /// So many, in this manner.
    pub fn hold_so(&self, each: usize, options: HoldOptions) -> Result<Vec<Held>> {
        vips()
            .into_iter()
            .map(|vip| {
                let sources = self.client.sources_for(vip, each).into_iter();
                let sources = sources.map(|src| {
                    // Chosen here, so that a bucket is known while a connection is held.
                    let sport = self.next_port.fetch_add(1, Ordering::Relaxed);
                    Flow { src, sport }
                });
                let target = SocketAddr::new(vip, PORT);
                self.client.hold(target, sources, options)
            })
            .collect()
    }

    /// Waits until every connection has had some more answers.
    pub fn go_on(&self, held: &[Held]) -> Result<()> {
        for one in held {
            let enough = one.exchanges() + 10 * HELD;
            self.lab
                .wait_until("more exchanges", PATIENT, || one.exchanges() >= enough)?;
        }
        Ok(())
    }

    /// The buckets of a VIP that are in this phase on the n-th node.
    pub fn phases(&self, n: usize, vip: &str, phase: &str) -> Result<BTreeSet<u64>> {
        let text = nodectl(self.node(n), &["buckets", vip, "--json"])?;
        let all: serde_json::Value = serde_json::from_str(&text).context("JSON")?;
        let all = all["buckets"].as_array().context("buckets")?;
        let of = all.iter().filter(|bucket| bucket["phase"] == phase);
        Ok(of.filter_map(|bucket| bucket["bucket"].as_u64()).collect())
    }

    /// New connections to both VIPs are answered by these nodes alone.
    pub fn expect_new_ones_at(&self, nodes: &[&str]) -> Result<()> {
        vips()
            .into_iter()
            .try_for_each(|vip| expect_answered_by(&self.client, vip, 90, nodes))
    }

    /// Nothing of any VIP is on the n-th node, soon.
    pub fn expect_nothing_left(&self, n: usize) -> Result<()> {
        let node = self.node(n);
        let what = format!("nothing to be left on {}", node.name());
        self.lab.wait_until(&what, PATIENT, || {
            let state = state_of(node).map_err(|error| error.to_string())?;
            let state = state + &locked(node).map_err(|error| error.to_string())?;
            let traces = [V4, V6, "clusterip", "drop_unicast_in_l2_multicast:1", MAC4];
            match traces.iter().find(|trace| state.contains(**trace)) {
                None => Ok(()),
                Some(trace) => Err(format!("{trace} in {state}")),
            }
        })
    }
}

/// The files that are locked for this node's namespace, by their paths.
pub fn locked(node: &Node) -> Result<String> {
    let number = node.run(&["stat", "-L", "-c", "%i", "/proc/self/ns/net"])?;
    let files = lock_files(number.trim().parse().context("an inode's number")?);
    let paths: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    Ok(paths.join("\n"))
}

/// Was the bucket of this client the first node's in the beginning?
pub fn was_the_first_nodes(flow: &lab::traffic::HeldFlow) -> bool {
    is_the_first_nodes(flow.src, flow.sport)
}

/// The same, by its address and port.
pub fn is_the_first_nodes(src: IpAddr, sport: u16) -> bool {
    let hasher = hasher(Default::default(), Default::default(), SEED);
    let bucket = hasher.bucket(&flow_from(src, sport), BUCKETS);
    instances(0).any(|instance| instance == u32::from(bucket))
}

/// How many of these were the first node's in the beginning.
pub fn count_of_first(held: &Held) -> usize {
    let flows = held.flows().iter();
    flows
        .filter(|flow| is_the_first_nodes(flow.src, flow.sport))
        .count()
}

/// No two nodes answered the same, resets left aside: when a node ends what is left of a connection that
/// its client has given up, its kernel says so to the client, for whom that is out of every window.
pub fn expect_no_double_answers_but_resets(mut seen: Witnessed) -> Result<()> {
    let resets: BTreeSet<Duration> = seen.resets().iter().map(|seen| seen.at).collect();
    seen.frames.retain(|seen| !resets.contains(&seen.at));
    seen.expect_no_double_answers()
}
