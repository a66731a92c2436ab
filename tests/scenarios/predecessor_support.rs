//! What scenarios about predecessors share: one of them on a node, with buckets that it takes and gives up.

use crate::kernel_support::*;
use crate::product::*;
use clusterip::model::hash::HashMode;
use lab::{Node, Result};

/// The module with which addresses were shared until Linux 6.2.
pub const CLUSTERIP: &str = "ipt_CLUSTERIP";

/// Which predecessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The kernel's target CLUSTERIP.
    ClusterIp(HashMode),
    /// xt_cluster, by `iptables-legacy`; what its manual leaves to arptables nft does here.
    XtCluster,
    /// The newest IPaddr2's rules, with nft.
    Newest,
    /// The same without `clusterip_mac_mangle`: its ARP names the node's own MAC.
    NewestUnmangled,
}

/// One of them on a node. It counts buckets from 1.
pub struct Predecessor<'a> {
    pub node: &'a Node,
    pub kind: Kind,
    pub vip: &'a str,
    pub mac: String,
    pub seed: u32,
    pub total: usize,
}

pub fn iptables(node: &Node, words: &str) -> Result<()> {
    let words = ["iptables-legacy", "--wait"]
        .into_iter()
        .chain(words.split_whitespace());
    node.run(&words.collect::<Vec<_>>()).map(drop)
}

pub fn nft(node: &Node, lines: &str) -> Result<()> {
    node.exec(&["nft", "-f", "-"]).stdin(lines).run()?;
    Ok(())
}

impl Predecessor<'_> {
    /// Shares the VIP with these buckets. The address is its agent's.
    pub fn begin(&self, numbers: &[usize]) -> Result<()> {
        let (node, vip, mac) = (self.node, self.vip, &self.mac);
        let mut rest = numbers;
        match self.kind {
            Kind::ClusterIp(mode) => {
                let first;
                (first, rest) = numbers.split_first().expect("a bucket");
                iptables(
                    node,
                    &format!(
                        "-A INPUT -d {vip} -i eth0 -j CLUSTERIP --new --hashmode {} --clustermac {mac} \
                         --total-nodes {} --local-node {first} --hash-init {}",
                        mode.name(),
                        self.total,
                        self.seed
                    ),
                )?;
            }
            Kind::XtCluster => {
                iptables(
                    node,
                    &format!("-t mangle -A PREROUTING -i eth0 -d {vip} -j DROP"),
                )?;
                self.says_the_mac()?;
            }
            Kind::Newest | Kind::NewestUnmangled => {
                let table = self.table();
                nft(
                    node,
                    &format!(
                        "add table {table}\n\
                         add chain {table} prerouting {{ type filter hook prerouting priority mangle; }}\n\
                         insert rule {table} prerouting iif eth0 ip daddr {vip} drop\n"
                    ),
                )?;
                if self.kind == Kind::Newest {
                    self.says_the_mac()?;
                }
            }
        }
        rest.iter().try_for_each(|number| self.take(*number))
    }

    /// Its table, called as IPaddr2 calls it: by the address, with other signs between its numbers.
    pub fn table(&self) -> String {
        format!("ip {}", self.named())
    }

    fn named(&self) -> String {
        format!("IPaddr2_{}", self.vip.replace('.', "_"))
    }

    fn says_the_mac(&self) -> Result<()> {
        let (vip, mac, table) = (self.vip, &self.mac, format!("arp {}", self.named()));
        nft(
            self.node,
            &format!(
                "add table {table}\n\
                 add chain {table} output {{ type filter hook output priority 0; }}\n\
                 add rule {table} output arp saddr ip {vip} arp saddr ether set {mac}\n"
            ),
        )?;
        let join = ["ip", "maddr", "add", mac, "dev", "eth0"];
        self.node.run(&join).map(drop)
    }

    /// What xt_cluster matches for a bucket.
    fn matching(&self, how: &str, number: usize) -> String {
        let (vip, total, seed) = (self.vip, self.total, self.seed);
        format!(
            "-t mangle {how} PREROUTING -i eth0 -d {vip} -m cluster --cluster-total-nodes {total} \
             --cluster-local-node {number} --cluster-hash-seed {seed:#x} -j ACCEPT"
        )
    }

    pub fn take(&self, number: usize) -> Result<()> {
        match self.kind {
            Kind::ClusterIp(_) => self.tell(&format!("+{number}")),
            Kind::XtCluster => iptables(self.node, &self.matching("-I", number)),
            Kind::Newest | Kind::NewestUnmangled => {
                let (table, vip, total, seed) = (self.table(), self.vip, self.total, self.seed);
                nft(
                    self.node,
                    &format!(
                        "insert rule {table} prerouting iif eth0 ip daddr {vip} jhash ip saddr mod {total} seed {seed:#x} \
                         offset 1 == {number} meta pkttype set host accept comment \"number-{number}\"\n"
                    ),
                )
            }
        }
    }

    pub fn give(&self, number: usize) -> Result<()> {
        match self.kind {
            Kind::ClusterIp(_) => self.tell(&format!("-{number}")),
            Kind::XtCluster => iptables(self.node, &self.matching("-D", number)),
            Kind::Newest | Kind::NewestUnmangled => {
                let chain = format!("{} prerouting", self.table());
                let list = format!("nft -a list chain {chain}");
                let listed = self.node.run(&list.split(' ').collect::<Vec<_>>())?;
                let of_bucket = format!("\"number-{number}\"");
                let line = listed.lines().find(|line| line.contains(&of_bucket));
                let handle = line.and_then(|line| line.rsplit(' ').next());
                let handle = handle.expect("a rule");
                nft(self.node, &format!("delete rule {chain} handle {handle}\n"))
            }
        }
    }

    /// As IPaddr2 and strongSwan do.
    fn tell(&self, word: &str) -> Result<()> {
        let line = format!("echo {word} >/proc/net/ipt_CLUSTERIP/{}", self.vip);
        self.node.run(&["sh", "-c", &line]).map(drop)
    }
}

/// Before the first of CLUSTERIP's rules.
pub fn load_clusterip(node: &Node) -> Result<()> {
    match in_guest() {
        true => node.run(&["modprobe", CLUSTERIP]).map(drop),
        false => Ok(()),
    }
}

/// Ends CLUSTERIP on all nodes. A rule's remains are freed later (`clusterip_config_rcu_free()`), and if its network
/// namespace has gone by then, the kernel dies of it; the module waits for that when it is unloaded.
pub fn end_clusterip(nodes: &[Node]) -> Result<()> {
    for node in nodes {
        iptables(node, "-F INPUT")?;
    }
    match (in_guest(), nodes.first()) {
        (true, Some(node)) => node.run(&["modprobe", "--remove", CLUSTERIP]).map(drop),
        _ => Ok(()),
    }
}

/// Has this kernel a predecessor that is part of it?
pub fn kernel_shares_by(kind: Kind) -> Result<bool> {
    let (what, modules) = match kind {
        Kind::ClusterIp(_) => (CLUSTERIP, &[CLUSTERIP][..]),
        Kind::XtCluster => ("xt_cluster", &["xt_cluster", "iptable_mangle"][..]),
        Kind::Newest | Kind::NewestUnmangled => return Ok(true),
    };
    kernel_has(what, modules, |node| {
        let one = Predecessor {
            node,
            kind,
            vip: V4,
            mac: "01:00:5e:7f:00:62".to_owned(),
            seed: 1,
            total: 2,
        };
        one.begin(&[1])?;
        match kind {
            Kind::ClusterIp(_) => end_clusterip(std::slice::from_ref(node)),
            _ => Ok(()),
        }
    })
}
