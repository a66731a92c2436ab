//! Several VIPs on one interface: each is shared by itself, and none goes with another.

use crate::product::*;
use crate::sharing::*;
use clusterip::sys::nft::NftSocket;
use lab::{HoldOptions, Lab, Node, NodeOptions, Result};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Ends with the same two octets as the other VIP, and so has the same cluster MAC.
const EQUAL: &str = "10.79.0.99";

fn sixteen() -> Vec<String> {
    let both = |n| [format!("10.77.0.{n}"), format!("fd77::{n}")];
    (100..108).flat_map(both).collect()
}

fn memberships(node: &Node) -> Result<usize> {
    let all = node.run(&["ip", "maddr", "show", "dev", "eth0"])?;
    Ok(all.matches(MAC4).count())
}

#[test]
fn two_vips_with_equal_last_octets_share_a_membership_and_nothing_else() -> Result<()> {
    let lab = Lab::new("equal")?;
    let client = lab.client("c1")?;
    let sharing = Sharing::serving(&lab, NodeOptions { macvlan: true })?;
    client.run(&["ip", "addr", "add", "10.79.0.201/24", "dev", "eth0"])?;
    for (n, node) in sharing.nodes.iter().enumerate() {
        let own = format!("10.79.0.{}/24", n + 1);
        node.run(&["ip", "addr", "add", &own, "dev", "eth0"])?;
    }
    let agents = [agent(V4), agent(EQUAL)];
    for agent in &agents {
        sharing.start(agent)?;
    }
    for (gone, kept) in [(0, 1), (1, 0)] {
        for vip in [V4, EQUAL] {
            expect_shared(&client, &sharing, vip)?;
        }
        sharing.stop(&agents[gone])?;
        expect_shared(&client, &sharing, [V4, EQUAL][kept])?;
        for (n, node) in sharing.nodes.iter().enumerate() {
            assert_eq!(memberships(node)?, 1);
            for instance in instances(n) {
                agents[kept].call(node, "monitor", instance)?.expect(0);
            }
        }
        sharing.start(&agents[gone])?;
    }
    for agent in &agents {
        sharing.stop(agent)?;
    }
    for node in &sharing.nodes {
        assert_eq!(memberships(node)?, 0);
    }
    Ok(())
}

#[test]
fn sixteen_vips_share_one_interface_and_one_stops_without_the_others_noticing() -> Result<()> {
    let lab = Lab::new("sixteen")?;
    let client = lab.client("c1")?;
    let sharing = Sharing::serving(&lab, NodeOptions::default())?;
    let vips = sixteen();
    assert_eq!(vips.len(), 16);
    for vip in &vips {
        sharing.start(&agent(vip))?;
    }
    for vip in &vips {
        expect_shared(&client, &sharing, vip)?;
    }
    let mut held = Vec::new();
    for vip in &vips[2..4] {
        let target = SocketAddr::new(ip(vip), PORT);
        let sources = client.sources_for(ip(vip), 24);
        held.push(client.hold(target, sources, HoldOptions::default())?);
    }
    for vip in &vips[..2] {
        sharing.stop(&agent(vip))?;
    }
    for held in held {
        held.stop()?.expect_none_lost()?;
    }
    for vip in &vips[2..] {
        expect_shared(&client, &sharing, vip)?;
        agent(vip).call(&sharing.nodes[0], "monitor", 0)?.expect(0);
    }
    for vip in &vips[2..] {
        sharing.stop(&agent(vip))?;
    }
    for node in &sharing.nodes {
        assert_eq!(node.run(&["nft", "list", "ruleset"])?, "");
    }
    Ok(())
}

/// The kernel counts what a transaction prepares when it goes on with a list that it gives in parts: what comes next
/// has been listed or is left out, and nothing of the kind is said.
#[test]
fn somebody_elses_transaction_changes_nothing_of_what_is_read() -> Result<()> {
    /// Enough that their preparation takes a while.
    const RULES: usize = 2000;
    const TIMES: usize = 60;
    const BUCKETS: u16 = 1024;
    const OWNED: u16 = 700;
    let lab = Lab::new("prepared")?;
    let node = &serving(&lab, &["n1"])?[0];
    let vips = sixteen();
    for vip in &vips {
        agent(vip).start(node, 0)?;
    }
    let large = "10.77.0.98";
    let [buckets, own] = [BUCKETS.to_string(), format!("0-{}", OWNED - 1)];
    let up = format!("{large}/16");
    nodectl(
        node,
        &[
            "up",
            &up,
            "--nic",
            "eth0",
            "--buckets",
            &buckets,
            "--own",
            &own,
        ],
    )?;
    let before = nodectl(node, &["ruleset", "--json"])?;
    // Only checked, so that nothing is ever changed.
    let rules = "insert rule netdev clusterip to-host counter\n".repeat(RULES);
    let elements = (OWNED..BUCKETS).map(|bucket| format!("{bucket} : goto to-host"));
    let elements = format!(
        "add element netdev clusterip buckets-{large} {{ {} }}\n",
        elements.collect::<Vec<_>>().join(", ")
    );
    let checks = std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            (0..TIMES).try_for_each(|n| {
                let vip = &vips[n % vips.len()];
                agent(vip).call(node, "monitor", 0)?.expect(0);
                let now = nodectl(node, &["ruleset", "--json"])?;
                assert_eq!(now, before, "at look {n}");
                Ok::<(), lab::Error>(())
            })
        });
        let mut checks = 0;
        while !looks.is_finished() {
            let checked = [&rules, &elements][checks % 2];
            let check = node.exec(&["nft", "-c", "-f", "-"]);
            check.stdin(checked.as_str()).run()?;
            checks += 1;
        }
        looks.join().expect("no panic")?;
        Ok::<usize, lab::Error>(checks)
    })?;
    lab.progress()
        .say(format!("{checks} checks beside {TIMES} looks"));
    assert!(checks >= TIMES / 4, "{checks} checks are no disturbance");
    Ok(())
}

/// Chains are listed for a whole family, and other tables' hidden ones count while the kernel looks for the place.
#[test]
fn chains_that_somebody_prepares_hide_none_of_ours() -> Result<()> {
    /// More than two parts of the list, before ours.
    const CHAINS: usize = 600;
    const PREPARED: usize = 3000;
    const LOOKS: usize = 1500;
    let lab = Lab::new("hidden")?;
    let node = &serving(&lab, &["n1"])?[0];
    let named = |count: usize, before: &str| -> String {
        (0..count)
            .map(|n| format!("{before} netdev-chain-of-somebody-{n}"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let script = |text: &str, how: &[&str]| {
        let nft = node.exec(&[&["nft"], how, &["-f", "-"]].concat());
        nft.stdin(text).run()
    };
    let filled = named(CHAINS, "add chain netdev bbb");
    script(
        &format!("add table netdev aaa\nadd table netdev bbb\n{filled}\n"),
        &[],
    )?;
    agent(V4).start(node, 0)?;
    // What else is in our table is counted with it.
    script("add counter netdev clusterip of-somebody\n", &[])?;
    let prepared = named(PREPARED, "add chain netdev aaa");
    let beside_ours = format!("add chain netdev clusterip somebodys\n{prepared}\n");
    let looked = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            node.within(|| {
                let mut socket = NftSocket::open().expect("a socket");
                let before = socket.snapshot().expect("a snapshot").rules;
                for n in 0..LOOKS {
                    assert_eq!(
                        socket.snapshot().expect("a snapshot").rules,
                        before,
                        "at look {n}"
                    );
                    looked.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let mut checks = 0;
        while !looks.is_finished() {
            let checked = [&prepared, &beside_ours][checks % 2];
            script(checked, &["-c"])?;
            checks += 1;
        }
        looks.join().expect("no panic")?;
        lab.progress().say(format!(
            "{checks} checks beside {} looks",
            looked.load(Ordering::Relaxed)
        ));
        Ok(())
    })
}
