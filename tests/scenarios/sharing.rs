//! Nodes that share both VIPs as Pacemaker would have them, and the judge of who answered.

use crate::product::*;
use clusterip::model::hash::{Flow, HashMode, Hasher, Layout};
use lab::frame::{Frame, What};
use lab::{Client, Context, Error, Lab, Node, NodeOptions, Pace, Report, Result, Witnessed};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub const NODES: [&str; 3] = ["n1", "n2", "n3"];
pub const BUCKETS: u16 = 12;
const SEED: u32 = 0x0bad_cafe;

pub const MAC4: &str = "01:00:5e:7f:00:63";
pub const MAC6: &str = "33:33:ff:00:00:99";

/// The agent of one of the two VIPs.
pub fn agent(vip: &str) -> Agent {
    Agent::new(vip, BUCKETS).with("hash_seed", "0x0badcafe")
}

/// Three nodes, each with the instances whose numbers leave its own number as the remainder.
pub struct Sharing {
    pub nodes: Vec<Node>,
    pub agents: [Agent; 2],
    hasher: Hasher,
}

impl Sharing {
    /// With both VIPs.
    pub fn new(lab: &Lab, options: NodeOptions) -> Result<Self> {
        let sharing = Sharing::serving(lab, options)?;
        for agent in &sharing.agents {
            sharing.start(agent)?;
        }
        Ok(sharing)
    }

    /// Nodes that serve, and have no VIP yet.
    pub fn serving(lab: &Lab, options: NodeOptions) -> Result<Self> {
        let sharing = Sharing {
            nodes: NODES
                .iter()
                .map(|name| lab.node_with(name, options))
                .collect::<Result<_>>()?,
            agents: [agent(V4), agent(V6)],
            hasher: hasher(HashMode::default(), Layout::default(), SEED),
        };
        for node in &sharing.nodes {
            node.serve(&SERVICES)?;
        }
        Ok(sharing)
    }

    /// Starts a VIP's instances on all nodes.
    pub fn start(&self, agent: &Agent) -> Result<()> {
        self.everywhere(agent, "start")
    }

    /// Stops them all.
    pub fn stop(&self, agent: &Agent) -> Result<()> {
        self.everywhere(agent, "stop")
    }

    fn everywhere(&self, agent: &Agent, action: &str) -> Result<()> {
        for (n, node) in self.nodes.iter().enumerate() {
            for instance in instances(n) {
                agent.call(node, action, instance)?.expect(0);
            }
        }
        Ok(())
    }

    /// Does what Pacemaker would: it stops the instances of a node whose monitors fail, and then
    /// starts them again.
    pub fn recover(&self, n: usize) -> Result<()> {
        let node = &self.nodes[n];
        for agent in &self.agents {
            let mut failed = Vec::new();
            for instance in instances(n) {
                if agent.call(node, "monitor", instance)?.code != 0 {
                    failed.push(instance);
                }
            }
            for instance in &failed {
                agent.call(node, "stop", *instance)?.expect(0);
            }
            for instance in &failed {
                agent.start(node, *instance)?;
            }
        }
        Ok(())
    }

    pub fn expect_healthy(&self) -> Result<()> {
        for (n, node) in self.nodes.iter().enumerate() {
            for agent in &self.agents {
                for instance in instances(n) {
                    agent.call(node, "monitor", instance)?.expect(0);
                }
            }
        }
        Ok(())
    }

    /// Every frame that a VIP sent to a client came from the owner of its bucket.
    pub fn judge(&self, seen: &Witnessed) -> Result<()> {
        judge_by(&self.hasher, seen)
    }
}

/// Every frame that a VIP sent to a client came from the node that the mirror foretells.
pub fn judge_by(hasher: &Hasher, seen: &Witnessed) -> Result<()> {
    for witnessed in &seen.frames {
        let foretold = owner_of(&NODES, BUCKETS, hasher, &answered_flow(&witnessed.frame));
        let sender = seen.name(witnessed.frame.from);
        if sender != foretold {
            let text = format!("{sender} sent what is {foretold}'s: {witnessed:?}");
            return Err(Error::new(text));
        }
    }
    seen.expect_no_double_answers()
}

/// The flow that a frame to a client belongs to.
pub fn answered_flow(frame: &Frame) -> Flow {
    let has_ports = !matches!(frame.what, What::EchoReply { .. });
    Flow {
        source: frame.dst.ip(),
        source_port: if has_ports { frame.dst.port() } else { 0 },
        destination_port: if has_ports { frame.src.port() } else { 0 },
    }
}

/// Every answer of a report came from the node that the mirror foretells.
pub fn expect_foretold(hasher: &Hasher, report: &Report) -> Result<()> {
    for (flow, node) in report.answered() {
        let flow = flow_from(flow.src, flow.sport);
        let foretold = owner_of(&NODES, BUCKETS, hasher, &flow);
        if node != foretold {
            let text = format!("{node} answered what is {foretold}'s: {flow:?}");
            return Err(Error::new(text));
        }
    }
    Ok(())
}

/// The instances of the n-th node.
pub fn instances(n: usize) -> impl Iterator<Item = u32> {
    (0..u32::from(BUCKETS)).filter(move |instance| *instance as usize % NODES.len() == n)
}

/// UDP, TCP and echo to both VIPs, from many sources at once.
pub fn burst(client: &Client, patience: Duration) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    for vip in vips() {
        reports.extend(burst_to(client, vip, 100, patience)?);
    }
    Ok(reports)
}

/// UDP, TCP and echo to one address.
pub fn burst_to(
    client: &Client,
    vip: IpAddr,
    sources: usize,
    patience: Duration,
) -> Result<[Report; 3]> {
    let pace = Pace {
        concurrency: 200,
        timeout: patience,
        ..Pace::default()
    };
    let target = SocketAddr::new(vip, PORT);
    let sources = client.sources_for(vip, sources);
    Ok([
        client.udp(target, sources.clone(), pace)?,
        client.tcp(target, sources.clone(), pace)?,
        client.ping(vip, sources, pace)?,
    ])
}

/// Fails unless all of a burst to this address is answered, every flow by its owner.
pub fn expect_shared(client: &Client, sharing: &Sharing, vip: &str) -> Result<()> {
    let witness = client.witness(&[ip(vip)])?;
    for report in burst_to(client, ip(vip), 60, Duration::from_secs(3))? {
        report.expect_all_answered().context(vip.to_owned())?;
        assert_eq!(report.by_node().len(), NODES.len(), "{vip}");
    }
    sharing.judge(&witness.finish()?)
}

/// The client never asks for the VIPs' MACs again.
pub fn pin_neighbours(client: &Client) -> Result<()> {
    pin_to(client, [MAC4, MAC6])
}

/// The same, where both have these MACs.
pub fn pin_to(client: &Client, macs: [&str; 2]) -> Result<()> {
    for (vip, mac) in [V4, V6].into_iter().zip(macs) {
        let words = format!("neigh replace {vip} lladdr {mac} nud permanent dev eth0");
        let words: Vec<&str> = ["ip"].into_iter().chain(words.split(' ')).collect();
        client.run(&words)?;
    }
    Ok(())
}

/// Both VIPs, for a witness.
pub fn vips() -> [IpAddr; 2] {
    [ip(V4), ip(V6)]
}
