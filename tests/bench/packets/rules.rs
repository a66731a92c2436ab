//! Putting rules on a node: the product puts its own there, the peers' are written here.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clusterip::host::observe::Kernel;
use clusterip::model::hash::Flow;
use clusterip::model::host::Connection;
use clusterip::model::vip::L2Mode;
use clusterip::plan::step::{Intent, Step};
use clusterip::plan::steps;
use lab::{Context, Error, Node, Result};

use super::variants::{Ours, PORT, Rules, SEED};

/// Longer than a run.
const A_DAY_MS: u64 = 86_400_000;

/// All is dropped before anything else happens.
const FLOOR: &str = "
table netdev bench {
  chain floor { type filter hook ingress device eth0 priority -300; policy drop; }
}
";
/// Where everything ends that got so far: behind the peers' rules (mangle is -150), before routing.
const LATE: &str = "
table ip bench {
  chain late { type filter hook prerouting priority -100; counter name passed drop; }
  counter passed { }
}
table ip6 bench {
  chain late { type filter hook prerouting priority -100; counter name passed drop; }
  counter passed { }
}
table arp bench {
  chain late { type filter hook input priority 10; counter name passed drop; }
  counter passed { }
}
";

/// Gives a node its rules.
pub fn install(rules: &Rules, node: &Node) -> Result<()> {
    match rules {
        Rules::Floor | Rules::FloorAgain => return nft(node, FLOOR),
        Rules::Nothing => {}
        Rules::Ours(ours) => {
            share(ours, &rules.vips(), node)?;
            if let Some(count) = ours.draining {
                drain(rules, node, count)?;
            }
        }
        Rules::IpAddr2 { owned } => nft(node, &ipaddr2(rules.vips()[0], *owned))?,
        Rules::XtCluster => xt_cluster(rules.vips()[0], node)?,
        Rules::HandMade { text, .. } => nft(node, text)?,
    }
    nft(node, LATE)
}

/// The program that gives a node the product's rules, this build's or another one's.
fn nodectl(ours: &Ours) -> Result<String> {
    let program = match &ours.build {
        None => lab::built("nodectl")?,
        Some(other) => other.clone(),
    };
    Ok(program.display().to_string())
}

/// The product's own program does it, so that what is measured is what is shipped.
fn share(ours: &Ours, vips: &[IpAddr], node: &Node) -> Result<()> {
    let nodectl = nodectl(ours)?;
    let (count, seed) = (ours.buckets.to_string(), SEED.to_string());
    // What is to drain is owned first.
    let owned = match ours.draining {
        None => ours.owned,
        Some(_) => ours.owned + ours.buckets / 2,
    };
    let own = format!("0-{}", owned.saturating_sub(1));
    for vip in vips {
        let vip = vip.to_string();
        let mut words = vec![nodectl.as_str(), "up", &vip, "--nic", "eth0", "--force"];
        // Another build may be from before the modes.
        if ours.l2 != L2Mode::default() {
            words.extend(["--mode", ours.l2.name()]);
        }
        words.extend(["--buckets", &count, "--seed", &seed]);
        words.extend(["--hash", ours.mode.name(), "--layout", ours.layout.name()]);
        match owned {
            0 => {}
            1 => words.extend(["--own", "0"]),
            _ => words.extend(["--own", &own]),
        }
        node.run(&words)?;
    }
    Ok(())
}

/// The n-th client of the target's family: its address and port.
pub fn client(target: IpAddr, n: u32) -> (IpAddr, u16) {
    let port = 1024 + (n.wrapping_mul(40_503) % 60_000) as u16;
    (source(target, n), port)
}

fn source(target: IpAddr, n: u32) -> IpAddr {
    match target {
        IpAddr::V4(_) => Ipv4Addr::from(0x0a4e_0000 + (n.wrapping_mul(2_654_435_761) >> 16)).into(),
        IpAddr::V6(_) => {
            let low = u128::from(n.wrapping_mul(2_654_435_761));
            Ipv6Addr::from((0xfd78_u128 << 112) + low).into()
        }
    }
}

/// Lets half of the buckets drain. The product plans and changes what it would if it had found so many
/// connections, for so many sockets on every node would fill the machine.
fn drain(rules: &Rules, node: &Node, count: u32) -> Result<()> {
    let vip = rules.vips()[0];
    let drains =
        |(source, port): &(IpAddr, u16)| rules.draining().contains(&rules.bucket(*source, *port));
    let clients: BTreeSet<(IpAddr, u16)> = (0..)
        .map(|n| client(vip, n))
        .filter(drains)
        .take(count as usize)
        .collect();
    let connections = clients.into_iter().map(|(source, source_port)| Connection {
        flow: Flow {
            source,
            source_port,
            destination_port: PORT,
        },
        alive: true,
    });
    let connections: Vec<Connection> = connections.collect();
    let intent = Intent::Release {
        address: vip,
        buckets: rules.draining().collect(),
        drain_ms: A_DAY_MS,
    };
    let done = node.within(|| -> Result<()> {
        let mut kernel = Kernel::open().context("open netlink")?;
        // First the buckets close, then their connections are known.
        for known in [None, Some(connections)] {
            let (mut observed, mut generation) = kernel.observe(None, None).context("look")?;
            observed.connections = known;
            for step in steps(&observed, &intent).context("plan")? {
                match step {
                    Step::Rules(changes) => {
                        let changed = kernel.nft.apply(&changes, generation);
                        generation = changed.context("change")?;
                    }
                    Step::Look(..) => {}
                    step => return Err(Error::new(format!("unexpected: {step}"))),
                }
            }
        }
        Ok(())
    })?;
    done.context(node.name())
}

/// The rules of the newest IPaddr2 (nft backend): each owned bucket's was inserted before all
/// that were there.
fn ipaddr2(vip: IpAddr, owned: u16) -> String {
    let mut text = String::from(
        "table ip peer {\n  chain prerouting { type filter hook prerouting priority mangle; }\n}\n",
    );
    let rule = format!("insert rule ip peer prerouting iif eth0 ip daddr {vip}");
    text += &format!("{rule} drop\n");
    for number in 1..=owned {
        text += &format!(
            "{rule} jhash ip saddr mod 16 seed {SEED:#x} offset 1 == {number} \
             meta pkttype set host accept comment \"cip-node-{number}\"\n"
        );
    }
    text
}

/// The older way, which tracks connections.
fn xt_cluster(vip: IpAddr, node: &Node) -> Result<()> {
    let (vip, seed) = (vip.to_string(), format!("{SEED:#x}"));
    let rule = ["iptables", "-w", "-t", "mangle", "-A", "PREROUTING", "-d"];
    let share = [
        &vip,
        "-i",
        "eth0",
        "-m",
        "cluster",
        "--cluster-total-nodes",
        "16",
        "--cluster-local-node",
        "1",
        "--cluster-hash-seed",
        &seed,
        "-j",
        "ACCEPT",
    ];
    let rest = [&vip, "-i", "eth0", "-j", "DROP"];
    node.run(&[&rule[..], &share].concat())?;
    node.run(&[&rule[..], &rest].concat()).map(drop)
}

fn nft(node: &Node, text: &str) -> Result<()> {
    let done = node.exec(&["nft", "-f", "-"]).stdin(text).run();
    done.map(drop).context(node.name())
}

/// How many packets have come as far as where everything ends, on this node.
pub fn passed(node: &Node) -> Result<u64> {
    // Without what is in sets, which may be very much.
    let text = node.run(&["nft", "-j", "-t", "list", "counters"])?;
    let listed: serde_json::Value = serde_json::from_str(&text).context("nft's counters")?;
    let objects = listed["nftables"].as_array().into_iter().flatten();
    let counters = objects.filter(|object| object["counter"]["name"] == "passed");
    Ok(counters
        .filter_map(|object| object["counter"]["packets"].as_u64())
        .sum())
}

/// Fails unless the product's rules are really there, on this node.
pub fn expect_installed(rules: &Rules, node: &Node) -> Result<()> {
    let Rules::Ours(ours) = rules else {
        return Ok(());
    };
    let nodectl = nodectl(ours)?;
    let text = node.run(&[nodectl.as_str(), "status", "--json"])?;
    let status: serde_json::Value = serde_json::from_str(&text).context("nodectl status")?;
    let vips = status["vips"].as_array().map_or(0, Vec::len);
    match vips == usize::from(ours.vips) {
        true => Ok(()),
        false => Err(Error::new(format!(
            "{} should have {} VIPs: {text}",
            node.name(),
            ours.vips
        ))),
    }
}
