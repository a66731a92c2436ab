//! VIPs in networks in which no node has an address of its own, an ordinary address of IPaddr2 among
//! them: load, moves, standby, death, return. No monitor fails, no held connection is lost in a planned
//! move, and the nodes' own connections work from every node all the while.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use lab::cluster::PATIENCE;
use lab::traffic::Held;
use lab::{Client, Cluster, ClusterOptions, Error, HoldOptions, Lab, Node, Pace, Result};

use crate::kernel_support::ip_lines;
use crate::product::*;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// A host of the VIPs' networks, and what lies behind it.
const OTHERS: [&str; 4] = ["192.0.2.7", "2001:db8::7", "198.51.100.7", "2001:db8:1::7"];
/// Connections that are held, to all VIPs together.
const HELD: usize = 500;

struct Rig {
    cluster: Cluster,
    client: Client,
    lab: Lab,
    vips: Vec<IpAddr>,
    buckets: usize,
}

/// So many VIPs of each family.
fn vips(each: u8) -> Vec<IpAddr> {
    let both = |n: u8| {
        [
            format!("192.0.2.{}", 80 + n),
            format!("2001:db8::{}", 80 + n),
        ]
    };
    (0..each).flat_map(both).map(|vip| ip(&vip)).collect()
}

impl Rig {
    fn start(name: &str, each: u8, buckets: usize) -> Result<Self> {
        let lab = Lab::new(name)?;
        let client = lab.client("c1")?;
        let host = serving(&lab, &["n9"])?.remove(0);
        ip_lines(
            &host,
            "addr add 192.0.2.7/24 dev eth0\naddr add 2001:db8::7/64 dev eth0 nodad\n\
             addr add 198.51.100.7/32 dev lo\naddr add 2001:db8:1::7/128 dev lo\n",
        )?;
        ip_lines(
            &client,
            "route add 192.0.2.0/24 dev eth0\nroute add 2001:db8::/64 dev eth0\n",
        )?;
        let options = ClusterOptions {
            agent: Some(lab::built("ocf-clusterip")?),
            nodectl: Some(lab::built("nodectl")?),
            serve: SERVICES.to_vec(),
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start(&lab, &NODES, options)?;
        let rig = Rig {
            cluster,
            client,
            lab,
            vips: vips(each),
            buckets,
        };
        for node in NODES {
            rig.ways(&rig.cluster.node(node)?)?;
        }
        rig.cluster.load("n1", &rig.configuration())?;
        rig.wait_shared(&NODES)?;
        Ok(rig)
    }

    /// A node's way to everywhere is through the VIPs' networks too.
    fn ways(&self, node: &Node) -> Result<()> {
        ip_lines(
            node,
            "route add default via 192.0.2.7 dev eth0 onlink\nroute add ::/0 via 2001:db8::7 dev eth0 onlink\n",
        )
    }

    fn configuration(&self) -> String {
        let mut text = "primitive plain ocf:heartbeat:IPaddr2 params ip=192.0.2.50 nic=eth0 \
             cidr_netmask=24 op monitor interval=2s timeout=20s\n"
            .to_owned();
        for (n, vip) in self.vips.iter().enumerate() {
            let prefix = if vip.is_ipv4() { 24 } else { 64 };
            let buckets = self.buckets;
            // Two CPUs have to carry the monitors of all nodes.
            let interval = if self.vips.len() > 4 { "10s" } else { "3s" };
            text += &format!(
                "primitive res{n}x ocf:rust:ClusterIP params ip={vip} nic=eth0 cidr_netmask={prefix} \
                 hash_seed={n} op monitor interval={interval} timeout=60s op start timeout=60s op stop \
                 timeout=60s meta resource-stickiness=0\n\
                 clone clone{n}x res{n}x meta globally-unique=true clone-max={buckets} \
                 clone-node-max={buckets} interleave=true\n"
            );
        }
        text
    }

    fn say(&self, line: impl std::fmt::Display) {
        self.lab.progress().say(line);
    }

    /// Waits until these nodes have all buckets of all VIPs, and everybody is answered.
    fn wait_shared(&self, nodes: &[&str]) -> Result<()> {
        let what = format!("all buckets on {}", nodes.join(", "));
        self.lab.wait_until(&what, 3 * PATIENCE, || {
            for n in 0..self.vips.len() {
                let spread = self.cluster.spread(&format!("res{n}x"))?;
                let here: usize = nodes.iter().filter_map(|name| spread.get(*name)).sum();
                if here != self.buckets || spread.values().sum::<usize>() != self.buckets {
                    let failures = self.cluster.failures()?;
                    return Err(Error::new(format!("res{n}x: {spread:?}, {failures:#?}")));
                }
            }
            self.cluster.wait_idle()
        })?;
        for vip in &self.vips {
            let target = SocketAddr::new(*vip, PORT);
            self.lab.wait_until("answers to everybody", PATIENCE, || {
                let flows = self.client.sources_for(*vip, 40);
                let report = self.client.udp(target, flows, Pace::default())?;
                report.expect_all_answered()
            })?;
        }
        Ok(())
    }

    fn hold(&self) -> Result<Vec<Held>> {
        let options = HoldOptions {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(60),
        };
        let each = HELD / self.vips.len();
        let held = self.vips.iter().map(|vip| {
            let sources = self.client.sources_for(*vip, each);
            let flows = sources.into_iter().map(|source| (source, 20_000));
            self.client.hold(
                SocketAddr::new(*vip, PORT),
                flows.collect::<Vec<_>>(),
                options,
            )
        });
        held.collect()
    }

    /// Every connection goes on, from every node one's own can be made, and no operation has failed.
    fn expect_well(&self, held: &[Held], nodes: &[&str], when: &str) -> Result<()> {
        for one in held {
            let (before, least) = (one.exchanges(), 2 * one.count());
            let lost = self.lab.wait_until("more answers", PATIENCE, || {
                match (one.lost(), one.exchanges()) {
                    (0, now) if now < before + least => Err(format!("{} answers", now - before)),
                    (lost, _) => Ok(lost),
                }
            })?;
            if lost > 0 {
                return Err(Error::new(format!(
                    "{when}: {lost} lost: {}",
                    one.first_lost()
                )));
            }
        }
        for name in nodes {
            let node = self.cluster.node(name)?;
            for to in OTHERS {
                let to = SocketAddr::new(ip(to), PORT);
                let connected = node.within(|| {
                    let patience = lab::wait::patient(Duration::from_secs(2));
                    TcpStream::connect_timeout(&to, patience)?.local_addr()
                })?;
                let from = connected
                    .map_err(|error| Error::new(format!("{when}: {name} to {to}: {error}")))?;
                assert!(
                    !self.vips.contains(&from.ip()),
                    "{when}: {name} speaks as {from}"
                );
            }
        }
        match self.cluster.failures()? {
            failures if failures.is_empty() => Ok(()),
            failures => Err(Error::new(format!("{when}: {failures:#?}"))),
        }
    }

    /// IPaddr2's address goes from node to node, and comes to be the first and the last of the network.
    fn move_the_plain_one(&self, held: &[Held]) -> Result<()> {
        let n1 = self.cluster.node("n1")?;
        for name in NODES {
            let line = format!("location plain-goes plain inf: {name}\n");
            self.cluster.load("n1", &line)?;
            self.cluster.wait_idle()?;
            let node = self.cluster.node(name)?;
            let there = node.run(&["ip", "-o", "addr", "show", "to", "192.0.2.50"])?;
            assert!(there.contains("192.0.2.50/24"), "{name}: {there}");
            let when = format!("IPaddr2's address moved to {name}");
            self.expect_well(held, &NODES, &when)?;
        }
        n1.run(&["crm", "-F", "configure", "delete", "plain-goes"])?;
        Ok(())
    }

    fn live(&self, standbys: &[&'static str]) -> Result<()> {
        let held = self.hold()?;
        self.expect_well(&held, &NODES, "all is up")?;
        self.move_the_plain_one(&held)?;
        for away in standbys {
            self.cluster.standby(away)?;
            let others: Vec<&str> = NODES.into_iter().filter(|name| name != away).collect();
            self.wait_shared(&others)?;
            self.expect_well(&held, &NODES, &format!("{away} on standby"))?;
            self.cluster.online(away)?;
            self.wait_shared(&NODES)?;
            self.expect_well(&held, &NODES, &format!("{away} is back"))?;
        }
        let mut longest = Duration::ZERO;
        for one in held {
            let report = one.stop()?;
            report.expect_none_lost()?;
            longest = longest.max(report.longest_exchange());
        }
        self.say(format!(
            "none of {HELD} lost, the longest exchange {longest:.2?}"
        ));
        self.cluster.power_off("n2")?;
        self.lab
            .wait_until("n2's end to be noticed", PATIENCE, || {
                let spread = self.cluster.spread("res0x")?;
                match spread.get("n2") {
                    None => Ok(()),
                    Some(_) => Err(Error::new(format!("{spread:?}"))),
                }
            })?;
        self.wait_shared(&["n1", "n3"])?;
        self.expect_well(&[], &["n1", "n3"], "n2 is dead")?;
        self.cluster.power_on("n2")?;
        self.ways(&self.cluster.node("n2")?)?;
        self.wait_shared(&NODES)?;
        self.expect_well(&[], &NODES, "n2 is back")
    }
}

#[test]
fn vips_in_networks_of_their_own_come_go_and_move() -> Result<()> {
    Rig::start("public", 2, 6)?.live(&["n3"])
}

/// Sixteen instead of four; part of `make test-full`.
#[test]
#[ignore = "takes minutes; make test-full runs it"]
fn many_vips_in_networks_of_their_own_come_go_and_move() -> Result<()> {
    Rig::start("public-16", 8, 6)?.live(&NODES)
}
