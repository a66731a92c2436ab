//! A stage: a sender, a bridge that floods, and nodes that all have the same rules.
//!
//! Every variant of rules has a stage of its own, so that a run can go round all of them without
//! changing anything on the way.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};

use lab::{Context, Error, Host, Lab, Mac, Node, Result};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, SockFlag, SockType, bind, socket};

use super::rules;
use super::variants::{EVERYBODY, Rules};

/// The machines, cabled, with their rules, and a socket to send from.
pub struct Stage {
    rules: Rules,
    socket: OwnedFd,
    sender: Mac,
    counters: Vec<File>,
    /// The identification of the next datagram that comes in fragments.
    identification: u16,
    nodes: Vec<Node>,
    _lab: Lab,
}

impl Stage {
    /// Builds it.
    pub fn build(rules: &Rules, nodes: u8) -> Result<Self> {
        let lab = Lab::new("bench")?;
        // Where the kernel has it, the bridge would call netfilter for every copy.
        lab.switch(&[
            "sysctl",
            "--quiet",
            "--ignore",
            "-w",
            "net.bridge.bridge-nf-call-arptables=0",
            "net.bridge.bridge-nf-call-iptables=0",
            "net.bridge.bridge-nf-call-ip6tables=0",
        ])?;
        let mut counters = Vec::new();
        let mut built = Vec::new();
        for number in 1..=nodes {
            let name = format!("n{number}");
            let node = lab.node(&name)?;
            // What the nodes send must not teach the switch where they are: it is to flood.
            lab.switch(&["bridge", "link", "set", "dev", &name, "learning", "off"])?;
            let doing = || format!("{} on {name}", rules.name());
            rules::install(rules, &node).context(doing())?;
            rules::expect_installed(rules, &node).context(doing())?;
            let mac = EVERYBODY.to_string();
            node.run(&["ip", "link", "set", "eth0", "address", &mac])?;
            counters.push(counter(&node)?);
            built.push(node);
        }
        let client = lab.client("c1")?;
        let socket = client.within(open)??;
        Ok(Self {
            rules: rules.clone(),
            socket,
            sender: client.mac(),
            counters,
            identification: 0,
            nodes: built,
            _lab: lab,
        })
    }

    /// What the nodes have.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The descriptor of the packet socket that is bound to the sender's interface.
    pub fn socket(&self) -> i32 {
        self.socket.as_raw_fd()
    }

    /// The sender's MAC.
    pub fn sender(&self) -> Mac {
        self.sender
    }

    /// The first of so many identifications that no datagram of this stage had lately.
    pub fn identifications(&mut self, count: usize) -> u16 {
        let first = self.identification;
        self.identification = first.wrapping_add(count as u16);
        first
    }

    /// How many packets each node has let pass so far.
    pub fn passed(&self) -> Result<Vec<u64>> {
        self.nodes.iter().map(rules::passed).collect()
    }

    /// How many packets each node has received so far.
    pub fn received(&mut self) -> Result<Vec<u64>> {
        self.counters.iter_mut().map(packets_received).collect()
    }
}

/// The file in which a node's kernel counts what its interfaces receive.
fn counter(node: &Host) -> Result<File> {
    let path = format!("/proc/{}/net/dev", node.holder()?);
    File::open(&path).context(path)
}

fn packets_received(file: &mut File) -> Result<u64> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))
        .context("read /proc/net/dev")?;
    file.read_to_string(&mut text)
        .context("read /proc/net/dev")?;
    of_eth0(&text).context("no eth0 in /proc/net/dev")
}

/// Packets that eth0 has received, from the text of `/proc/net/dev`.
fn of_eth0(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    let (_, counts) = lines.find_map(|line| {
        line.trim_start()
            .split_once("eth0:")
            .filter(|(name, _)| name.is_empty())
    })?;
    counts.split_whitespace().nth(1)?.parse().ok()
}

/// A packet socket for eth0 of the calling thread's namespace, which receives nothing.
fn open() -> Result<OwnedFd> {
    let mut addresses = getifaddrs().context("list interfaces")?;
    let eth0: LinkAddr = addresses
        .find_map(|interface| match interface.interface_name == "eth0" {
            true => interface.address?.as_link_addr().copied(),
            false => None,
        })
        .context("the sender has no eth0")?;
    let raw = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    );
    let raw = raw.context("open a packet socket")?;
    bind(raw.as_raw_fd(), &eth0).context("bind a packet socket")?;
    if eth0.ifindex() == 0 {
        return Err(Error::new("the sender's eth0 has no index"));
    }
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_figure_of_eth0_is_what_it_received() {
        let text = "Inter-|   Receive    |  Transmit\n face |bytes    packets\n    \
                    lo:       1       2    0\n  eth0: 1000   17    0    0\n veth0: 5 6 7\n";
        assert_eq!(of_eth0(text), Some(17));
        assert_eq!(of_eth0(""), None);
    }
}
