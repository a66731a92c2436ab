//! A VIP on each kind of interface, in each mode that it can have, with traffic: a bridge of the node's own, a macvlan, a
//! VLAN, a bond, and an interface of a VRF.

use crate::kernel_support::{ip_lines, kernel_has};
use crate::preflight_support::*;
use crate::product::*;
use crate::sharing::*;
use lab::{Host, Lab, NodeOptions, Result};
use std::time::Duration;

/// How a kind of interface is made, and what it can.
struct Kind {
    name: &'static str,
    /// The VIP's interface.
    nic: &'static str,
    /// What makes it of eth0, which has no addresses by then; by MAC the node is known.
    made_by: &'static str,
    /// Settings that are wanted beside it, and without which a start is refused.
    keys: &'static [&'static str],
    /// The module that the guest has it by.
    module: &'static str,
    modes: &'static [&'static str],
}

const ALL_MODES: &[&str] = &["multicast", "igmp", "stealth"];

/// With addresses of its own on that interface, and its way to the client.
fn rebuild(host: &Host, kind: &Kind, way: &str) -> Result<()> {
    let (v4, v6, nic) = (host.v4(), host.v6(), kind.nic);
    let made_by = kind.made_by.replace("MAC", &host.mac().to_string());
    let lines = format!(
        "addr flush dev eth0\n{made_by}link set {nic} up\naddr replace {v4}/24 brd + dev {nic}\n\
         addr replace {v6}/64 dev {nic} nodad\n{way}"
    );
    ip_lines(host, &lines)
}

fn there(kind: &Kind) -> Result<bool> {
    let modules: &[&str] = match kind.module {
        "" => &[],
        _ => std::slice::from_ref(&kind.module),
    };
    kernel_has(kind.name, modules, |node| rebuild(node, kind, ""))
}

fn expect_shared_on(kind: &Kind) -> Result<()> {
    if !there(kind)? {
        return Ok(());
    }
    let lab = Lab::new("kinds")?;
    let client = lab.client("c1")?;
    let mut sharing = Sharing::serving(&lab, NodeOptions::default())?;
    let (c4, c6) = (client.v4(), client.v6());
    let way = format!("route replace 10.78.0.0/16 via {c4}\nroute replace fd78::/64 via {c6}\n");
    for node in &sharing.nodes {
        match kind.name {
            "VRFs" => {
                for key in [
                    "tcp_l3mdev_accept",
                    "udp_l3mdev_accept",
                    "raw_l3mdev_accept",
                ] {
                    node.sysctl(&format!("net.ipv4.{key}"), 1)?;
                }
                // The ways to the client are the VRF's.
                rebuild(node, kind, &way.replace(" via", " vrf red via"))?;
            }
            _ => rebuild(node, kind, &way)?,
        }
    }
    if kind.name == "VLANs" {
        rebuild(&client, kind, "")?;
    }
    for (key, vip) in kind.keys.iter().zip([V4, V6]) {
        let key = format!("{key}.drop_unicast_in_l2_multicast");
        let agent = agent(vip).with("nic", kind.nic);
        for node in &sharing.nodes {
            let before = state_of(node)?;
            let reason = agent.call(node, "start", 0)?.expect(5).reason().to_owned();
            assert!(reason.contains(&format!("set {key} to 1")), "{reason}");
            assert_eq!(state_of(node)?, before);
            // What is looked for before tells it too, and what it prints mends it.
            let found = Checked::on(node, &[vip, "--nic", kind.nic, "--local"])?;
            found.expect_only("beneath", "fatal")?;
            found.mend(node, "beneath")?;
            agent.start(node, 0)?;
            node.sysctl(&key, 0)?;
            let reason = agent
                .call(node, "monitor", 0)?
                .expect(1)
                .reason()
                .to_owned();
            assert!(reason.contains("which answers too"), "{reason}");
            agent.call(node, "stop", 0)?.expect(0);
            node.sysctl(&key, 1)?;
        }
    }
    for mode in kind.modes {
        for agent in &mut sharing.agents {
            *agent = agent.clone().with("mode", mode).with("nic", kind.nic);
        }
        // The network is in the VRF's table, where nobody looks for it.
        for (agent, prefix) in sharing.agents.iter_mut().zip(["24", "64"]) {
            *agent = agent.clone().with("cidr_netmask", prefix);
        }
        for agent in &sharing.agents {
            sharing.start(agent)?;
        }
        client.run(&["ip", "neigh", "flush", "all"])?;
        for vip in [V4, V6] {
            let witness = client.witness(&[ip(vip)])?;
            let reports = burst_to(&client, ip(vip), 60, Duration::from_secs(3))?;
            // What answers UDP from a socket outside of the VRF sends by the main table.
            let heard = if kind.name == "VRFs" {
                &reports[1..]
            } else {
                &reports
            };
            for report in heard {
                report.expect_all_answered()?;
                let by_node = report.by_node();
                assert_eq!(by_node.len(), NODES.len(), "{mode} {vip}: {by_node:?}");
            }
            let seen = witness.finish()?;
            // A frame of the VLAN is seen twice, on both interfaces.
            if kind.name != "VLANs" {
                seen.expect_no_double_answers()?;
            }
        }
        sharing.expect_healthy()?;
        for agent in &sharing.agents {
            sharing.stop(agent)?;
        }
        for node in &sharing.nodes {
            for vip in [V4, V6] {
                wait_until_gone(&lab, node, vip)?;
            }
            let filter = node.run(&["bridge", "fdb", "show"])?;
            assert!(!filter.contains("02:bf"), "{filter}");
            let groups = node.run(&["ip", "maddr", "show", "dev", kind.nic])?;
            assert!(!groups.contains("01:00:5e:7f:00:63"), "{groups}");
        }
    }
    Ok(())
}

#[test]
fn a_vip_on_a_nodes_own_bridge_is_shared_in_every_mode() -> Result<()> {
    expect_shared_on(&Kind {
        name: "bridges",
        nic: "br7",
        keys: &[],
        made_by: "link add br7 type bridge stp_state 0\nlink set eth0 master br7\n",
        module: "",
        modes: ALL_MODES,
    })
}

/// It has no filter for unicast MACs, which a start in the mode stealth says (`modes`). What it is made on gets multicast
/// frames too, and would answer for all buckets.
#[test]
fn a_vip_on_a_macvlan_is_shared_by_a_multicast_mac() -> Result<()> {
    expect_shared_on(&Kind {
        name: "macvlans",
        nic: "mv7",
        keys: &["net.ipv4.conf.eth0", "net.ipv6.conf.eth0"],
        made_by: "link set eth0 address 52:54:00:ff:ff:ff\n\
                  link add mv7 link eth0 address MAC type macvlan mode bridge\n",
        module: "",
        modes: &["multicast", "igmp"],
    })
}

#[test]
fn a_vip_on_a_vlan_is_shared_in_every_mode() -> Result<()> {
    expect_shared_on(&Kind {
        name: "VLANs",
        nic: "eth0.7",
        keys: &[],
        made_by: "link add eth0.7 link eth0 type vlan id 7\n",
        module: "8021q",
        modes: ALL_MODES,
    })
}

#[test]
fn a_vip_on_a_bond_is_shared_in_every_mode() -> Result<()> {
    expect_shared_on(&Kind {
        name: "bonds",
        nic: "bond7",
        keys: &[],
        made_by: "link add bond7 type bond mode active-backup\nlink set eth0 down\n\
                  link set eth0 master bond7\n",
        module: "bonding",
        modes: ALL_MODES,
    })
}

#[test]
fn a_vip_in_a_vrf_is_shared_in_every_mode() -> Result<()> {
    expect_shared_on(&Kind {
        name: "VRFs",
        nic: "eth0",
        keys: &[],
        made_by: "link add red type vrf table 77\nlink set red up\nlink set eth0 master red\n",
        module: "vrf",
        modes: ALL_MODES,
    })
}
