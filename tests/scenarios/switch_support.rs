//! What the scenarios of switches have in common: nodes that share VIPs of every mode, who gets their frames, and
//! the lines that nodectl prints for a switch, which they run.

use crate::kernel_support::ip_lines;
use crate::product::*;
use crate::raw;
pub use crate::sharing::NODES;
use clusterip::model::vip::L2Mode;
use lab::{Client, Context, Error, Host, Lab, Mac, Node, Pace, Result};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// A row of the tables of docs/network.md comes to be so within this.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many connections are asked of each VIP: every node has some of them.
const CONNECTIONS: usize = 40;
/// A bridge believes its querier when this is over (its own queries' max response time).
pub const QUERIED: Duration = Duration::from_secs(30);

/// A VIP of each mode and family; `igmp` has no IPv6 of its own.
pub const VIPS: [(L2Mode, &str); 5] = [
    (L2Mode::Multicast, V4),
    (L2Mode::Multicast, V6),
    (L2Mode::Igmp, "10.77.0.98"),
    (L2Mode::Stealth, "10.77.0.97"),
    (L2Mode::Stealth, "fd77::97"),
];

/// Who answers each of these VIPs: the nodes that get its frames.
pub type Row = [&'static [&'static str]; 5];

pub const ALL: &[&str] = &NODES;
pub const NOBODY: &[&str] = &[];
pub const ARRIVE: Row = [ALL; 5];
/// Frames to groups are dropped.
pub const GROUPS_DROPPED: Row = [NOBODY, NOBODY, NOBODY, ALL, ALL];
/// Frames to MACs that nobody has learnt are dropped.
pub const UNLEARNT_DROPPED: Row = [ALL, ALL, ALL, NOBODY, NOBODY];

pub fn mac_of((mode, vip): (L2Mode, &str)) -> String {
    mode.mac(ip(vip)).to_string()
}

/// How many of twenty connections to a VIP are answered.
pub fn answered(client: &Client, vip: &str) -> Result<usize> {
    let pace = Pace {
        concurrency: 20,
        timeout: Duration::from_millis(500),
        ..Pace::default()
    };
    let sources = client.sources_for(ip(vip), 20);
    let report = client.tcp(SocketAddr::new(ip(vip), PORT), sources, pace)?;
    Ok(report.answered().len())
}

pub fn wait_for_silence(lab: &Lab, client: &Client, vip: &str) -> Result<()> {
    lab.wait_until("silence", QUERIED, || {
        Ok::<_, Error>(answered(client, vip)? == 0)
    })?;
    Ok(())
}

/// Settings of the lab's own bridge.
pub fn set_bridge(lab: &Lab, settings: &str) -> Result<()> {
    let line = format!("ip link set br0 type bridge {settings}");
    lab.switch(&line.split(' ').collect::<Vec<_>>()).map(drop)
}

/// It snoops, and asks who is in which group: what is for no group that it knows it sends to nobody.
pub fn snoop(lab: &Lab) -> Result<()> {
    set_bridge(
        lab,
        "mcast_snooping 1 mcast_querier 1 mcast_query_response_interval 100 mcast_startup_query_interval 100",
    )
}

/// One general query of IGMPv2 (RFC 2236 §2) and one of MLD (RFC 2710 §3) from a host, by a VLAN if one is given. They
/// leave a second for the reports.
pub fn queries(host: &Host, tag: &[u8]) -> Result<[Vec<u8>; 2]> {
    let (all4, all6) = (
        Ipv4Addr::new(224, 0, 0, 1),
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
    );
    let own = u16::from_be_bytes([host.mac().0[4], host.mac().0[5]]);
    let own = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, own);
    let mut igmp = vec![0x11, 10, 0, 0, 0, 0, 0, 0];
    let sum = lab::frame::checksum(&igmp);
    igmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let router_alert = [0x94, 4, 0, 0];
    let mut mld = vec![130, 0, 0, 0, 0x03, 0xe8, 0, 0];
    mld.extend([0; 16]);
    let sum = raw::transport_checksum(own.into(), all6.into(), 58, &mld);
    mld[2..4].copy_from_slice(&sum.to_be_bytes());
    // The option that tells routers to look (RFC 2711), and two bytes of padding.
    let hop_by_hop = [58, 0, 5, 2, 0, 0, 1, 0];
    let payload = [&hop_by_hop[..], &mld].concat();
    let mut four = raw::ip4([host.v4(), all4], (1, 0), 2, &router_alert, &igmp);
    let mut six = raw::ip6([own, all6], 0, &payload);
    // Hosts hear none that could come from beyond a router (RFC 3810 §6.2).
    (four[8], six[7]) = (1, 1);
    four[10..12].fill(0);
    let sum = lab::frame::checksum(&four[..24]);
    four[10..12].copy_from_slice(&sum.to_be_bytes());
    let frame = |to: &str, kind: u16, packet: &[u8]| -> Result<Vec<u8>> {
        let to: Mac = to.parse()?;
        Ok([&to.0[..], &host.mac().0, tag, &kind.to_be_bytes(), packet].concat())
    };
    Ok([
        frame("01:00:5e:00:00:01", 0x0800, &four)?,
        frame("33:33:00:00:00:01", 0x86dd, &six)?,
    ])
}

/// Both of them are sent.
pub fn ask(host: &Host, tag: &[u8]) -> Result<()> {
    let wire = host.wire("eth0")?;
    let queries = queries(host, tag)?;
    queries.iter().try_for_each(|query| wire.send(query))
}

/// Three nodes that share all five VIPs behind one switch, a client, and somebody else.
pub struct Modes {
    pub lab: Lab,
    pub client: Client,
    pub other: Client,
    pub nodes: Vec<Node>,
}

impl Modes {
    /// Whose switch floods as yet.
    pub fn new(name: &str) -> Result<Self> {
        let lab = Lab::new(name)?;
        let (client, other) = (lab.client("c1")?, lab.client("c2")?);
        let nodes = serving(&lab, &NODES)?;
        for (n, node) in nodes.iter().enumerate() {
            let own = own(n, NODES.len(), 12);
            for (mode, vip) in VIPS {
                let words = format!(
                    "up {vip} --nic eth0 --buckets 12 --own {own} --mode {}",
                    mode.name()
                );
                nodectl(node, &words.split(' ').collect::<Vec<_>>())?;
            }
        }
        Ok(Modes {
            lab,
            client,
            other,
            nodes,
        })
    }

    /// Nobody asks who is where, so that all that is seen is what becomes of the VIPs' frames.
    pub fn pin(&self) -> Result<()> {
        for vip in VIPS {
            let line = format!(
                "neigh replace {} lladdr {} nud permanent dev eth0\n",
                vip.1,
                mac_of(vip)
            );
            ip_lines(&self.client, &line)?;
        }
        let (v4, v6, mac) = (self.client.v4(), self.client.v6(), self.client.mac());
        for node in &self.nodes {
            for own in [v4.to_string(), v6.to_string()] {
                let line = format!("neigh replace {own} lladdr {mac} nud permanent dev eth0\n");
                ip_lines(node, &line)?;
            }
        }
        Ok(())
    }

    /// Everybody asks again.
    pub fn unpin(&self) -> Result<()> {
        let hosts = self.nodes.iter().map(|node| &**node);
        for host in hosts.chain([&*self.client]) {
            ip_lines(
                host,
                "neigh flush nud permanent dev eth0\nneigh flush dev eth0\n",
            )?;
        }
        Ok(())
    }

    /// Waits until the VIPs are answered as a row of the tables says, and tells it.
    pub fn expect(&self, what: &str, row: Row) -> Result<()> {
        let wanted = row.map(|nodes| nodes.iter().map(|node| (*node).to_owned()).collect());
        self.lab.wait_until(what, PATIENCE, || {
            let seen = self.seen()?;
            match seen == wanted {
                true => Ok(()),
                false => Err(Error::new(format!("{seen:?}, not {wanted:?}"))),
            }
        })?;
        let told = row.map(|nodes| match nodes {
            ALL => "arrives".to_owned(),
            NOBODY => "dropped".to_owned(),
            some => some.join(" "),
        });
        let [multicast4, multicast6, igmp, stealth4, stealth6] = told;
        self.lab.progress().say(format!(
            "{what:<48} | {multicast4:<7} | {multicast6:<7} | {igmp:<7} | {stealth4:<7} | {stealth6}"
        ));
        Ok(())
    }

    /// The nodes that answer each VIP. Where all do, no connection must be without an answer.
    fn seen(&self) -> Result<[BTreeSet<String>; 5]> {
        let pace = Pace {
            concurrency: CONNECTIONS,
            timeout: Duration::from_millis(600),
            abort: true,
            ..Pace::default()
        };
        let ask = |vip: &str| -> Result<BTreeSet<String>> {
            let sources = self.client.sources_for(ip(vip), CONNECTIONS);
            let report = self
                .client
                .tcp(SocketAddr::new(ip(vip), PORT), sources, pace)?;
            let mut nodes: BTreeSet<String> = report.by_node().into_keys().collect();
            if nodes.len() == NODES.len() && !report.failures().is_empty() {
                nodes.insert(format!("{} unanswered", report.failures().len()));
            }
            Ok(nodes)
        };
        std::thread::scope(|scope| {
            let asked = VIPS.map(|(_, vip)| scope.spawn(move || ask(vip)));
            let mut seen = asked.map(|one| one.join().expect("it does not panic"));
            let mut nodes: [BTreeSet<String>; 5] = Default::default();
            for (nodes, seen) in nodes.iter_mut().zip(&mut seen) {
                *nodes = std::mem::replace(seen, Ok(BTreeSet::new()))?;
            }
            Ok(nodes)
        })
    }

    /// Runs a line in the switch's namespace.
    pub fn on_switch(&self, line: &str) -> Result<String> {
        self.lab
            .switch(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs a line for each of the nodes' ports.
    pub fn on_ports(&self, line: &str) -> Result<()> {
        let mut ports = NODES.iter();
        ports.try_for_each(|port| self.on_switch(&line.replace("PORT", port)).map(drop))
    }

    /// What nodectl prints for a switch and a VIP.
    pub fn guide(&self, vendor: &str, (mode, vip): (L2Mode, &str)) -> Result<Guide> {
        Guide::of(&self.nodes[0], vendor, mode, vip)
    }
}

/// The lines of a vendor's guide that were tried, which has to be true of each.
pub struct Guide {
    lines: Vec<String>,
    checks: Vec<String>,
    taken: RefCell<BTreeSet<String>>,
}

impl Guide {
    pub fn of(node: &Node, vendor: &str, mode: L2Mode, vip: &str) -> Result<Self> {
        let words = format!(
            "arp {vip} --mode {} --vendor {vendor} --vlan 1 --ports {} --json",
            mode.name(),
            NODES.join(",")
        );
        let text = nodectl(node, &words.split(' ').collect::<Vec<_>>())?;
        let said: Value = serde_json::from_str(&text).context("JSON")?;
        let guide = &said["guides"][0];
        let tried = |lines: &Value| -> Vec<String> {
            let lines = lines.as_array().into_iter().flatten();
            let tried = lines.filter(|line| line["confirmed"] == "tried");
            tried
                .filter_map(|line| Some(line["text"].as_str()?.to_owned()))
                .collect()
        };
        let steps = guide["steps"].as_array().into_iter().flatten();
        Ok(Guide {
            lines: steps.flat_map(|step| tried(&step["lines"])).collect(),
            checks: tried(&guide["check"]),
            taken: RefCell::default(),
        })
    }

    /// The lines with these words, with their blanks filled in.
    pub fn lines(&self, words: &str, blanks: &[(&str, &str)]) -> Result<Vec<String>> {
        let of_them = self.lines.iter().filter(|line| line.contains(words));
        let found: Vec<String> = of_them.cloned().collect();
        if found.is_empty() {
            return Err(Error::new(format!(
                "no line has '{words}': {:?}",
                self.lines
            )));
        }
        self.taken.borrow_mut().extend(found.iter().cloned());
        Ok(found.iter().map(|line| filled(line, blanks)).collect())
    }

    /// The lines that show whether it took.
    pub fn checks(&self, blanks: &[(&str, &str)]) -> Vec<String> {
        self.checks
            .iter()
            .map(|line| filled(line, blanks))
            .collect()
    }

    /// No line is left that was not run, but for those with these words, which another scenario runs.
    pub fn expect_all_taken(&self, elsewhere: &[&str]) -> Result<()> {
        let taken = self.taken.borrow();
        let left = self.lines.iter().filter(|line| {
            let is_elsewhere = elsewhere.iter().any(|words| line.contains(words));
            !taken.contains(*line) && !is_elsewhere
        });
        match left.collect::<Vec<_>>().as_slice() {
            [] => Ok(()),
            left => Err(Error::new(format!("nothing has run {left:?}"))),
        }
    }
}

fn filled(line: &str, blanks: &[(&str, &str)]) -> String {
    let fill = |line: String, (blank, text): &(&str, &str)| line.replace(blank, text);
    blanks.iter().fold(line.to_owned(), fill)
}
