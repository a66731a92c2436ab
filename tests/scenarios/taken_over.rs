//! The script of `nodectl migrate` on one node, where the predecessor's rules stand as each program lists them: it finds the
//! buckets, refuses what does not fit, takes over, and leaves nothing of them. `cluster_migration` does all of the way, in nft.

use crate::kernel_support::*;
use crate::predecessor_support::{CLUSTERIP, iptables};
use crate::product::*;
use clusterip::model::hash::HashMode;
use lab::{Lab, Node, Result};

const ALL: usize = 8;
/// The predecessor's numbers here, and the buckets that they are. From the seventh on iptables does not read what it lists.
const NUMBERS: [usize; 2] = [1, 7];
const BUCKETS: &str = "0,6";
/// What clients must not lose: rules of others for the same address.
const OTHERS: &str = "-p tcp -m tcp --dport 22";

/// What is on a node that the predecessor is to share addresses on.
fn with_addresses(lab: &Lab) -> Result<Node> {
    let node = lab.node("n1")?;
    for vip in [V4, V6] {
        let bits = if vip == V6 { 64 } else { 24 };
        let address = format!("{vip}/{bits}");
        let mut words = vec!["ip", "address", "add", &address, "dev", "eth0"];
        if vip == V6 {
            words.push("nodad");
        }
        node.run(&words)?;
    }
    Ok(node)
}

/// MAC and seed that the predecessor derives here, which joins the MAC.
fn joined(node: &Node, vip: &str, compat: &str) -> Result<(String, u64)> {
    let told = nodectl(
        node,
        &["mac", vip, "--nic", "eth0", "--compat", compat, "--json"],
    )?;
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    expect_fits_schema(&told.to_string())?;
    let it = &told["macs"][0];
    let (mac, seed) = (it["mac"].as_str(), it["seed"].as_u64());
    let (mac, seed) = (mac.expect("a MAC").to_owned(), seed.expect("a seed"));
    if compat == "ipaddr2" {
        node.run(&["ip", "maddr", "add", &mac, "dev", "eth0"])?;
    }
    Ok((mac, seed))
}

/// Runs the script for these addresses with a word; what it said, and whether it went well.
fn script(node: &Node, vips: &[&str], own: &str, word: &str) -> Result<(bool, String)> {
    let mut text = String::new();
    for (n, vip) in vips.iter().enumerate() {
        text += &format!("primitive ip{n} IPaddr2 params ip=\"{vip}\" nic=eth0 {own}\n");
    }
    let names: Vec<String> = (0..vips.len()).map(|n| format!("ip{n}")).collect();
    text += &format!(
        "group g {}\nclone c g meta globally-unique=true clone-max={ALL} clone-node-max={ALL}\n",
        names.join(" ")
    );
    let program = lab::built("nodectl")?.display().to_string();
    let agent = lab::built("ocf-clusterip")?.display().to_string();
    let written = node
        .exec(&[program.as_str(), "migrate", "-", "--print", "takeover"])
        .stdin(text)
        .run()?;
    // There is no cluster, which would have installed them.
    let written = written
        .replace("/usr/lib/ocf/resource.d/rust/ClusterIP", &agent)
        .replace("nodectl ", &format!("{program} "))
        .replace("$(crm_node --name)", "n1");
    let output = node.output(&["sh", "-c", &written, "takeover", word])?;
    let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    Ok((output.status.success(), said.concat()))
}

/// It refuses another seed and another number, and takes over what fits.
fn takes_over(node: &Node, vips: &[&str], own: &str, other_seed: Option<&str>) -> Result<()> {
    let before = state_of(node)?;
    if let Some(other) = other_seed {
        let (went_well, said) = script(node, vips, &format!("{own} {other}"), "take")?;
        assert!(!went_well && said.contains("the seed is 0x"), "{said}");
    }
    let (went_well, said) = script(node, vips, own, "look")?;
    assert!(went_well, "{said}");
    for vip in vips {
        let line = format!("{vip}: the predecessor's rules serve here: {BUCKETS}\n");
        assert!(said.contains(&line), "{said}");
    }
    assert_eq!(state_of(node)?, before, "looking changes nothing");
    // Without its rules the address would be answered for all.
    let (went_well, said) = script(node, vips, own, "back")?;
    assert!(
        went_well && said.contains("nothing is given back"),
        "{said}"
    );
    assert_eq!(state_of(node)?, before, "there is nothing to give back");
    let (went_well, said) = script(node, vips, own, "take")?;
    assert!(went_well, "{said}");
    let status = status(node)?;
    let all = status["vips"].as_array().expect("VIPs");
    assert_eq!(all.len(), vips.len(), "{status}");
    for vip in all {
        assert_eq!(vip["owned"].to_string(), "[0,6]", "{status}");
        assert_eq!(vip["healthy"], true, "{status}");
    }
    Ok(())
}

#[test]
fn the_script_takes_over_from_the_newest_ipaddr2_by_iptables() -> Result<()> {
    let there = kernel_has("xt_cluster", &["xt_cluster", "nft_compat"], |node| {
        let rule = "iptables -t mangle -A PREROUTING -i eth0 -m cluster --cluster-total-nodes 2 --cluster-local-node 1 \
                    --cluster-hash-seed 0x1 -j ACCEPT";
        node.run(&rule.split(' ').collect::<Vec<_>>()).map(drop)
    })?;
    if !there {
        return Ok(());
    }
    let lab = Lab::new("taken-over")?;
    let node = with_addresses(&lab)?;
    let vips = [V4, V6];
    for (vip, program) in vips.into_iter().zip(["iptables", "ip6tables"]) {
        let (_, seed) = joined(&node, vip, "ipaddr2")?;
        let insert = |words: &str| {
            let line = format!("{program} -t mangle -I PREROUTING -d {vip} -i eth0 {words}");
            node.run(&line.split(' ').collect::<Vec<_>>()).map(drop)
        };
        insert(&format!("{OTHERS} -j DROP"))?;
        insert("-j DROP")?;
        if vip == V6 {
            insert("-p ipv6-icmp -m icmp6 --icmpv6-type neighbour-advertisement -j ACCEPT")?;
        }
        for number in NUMBERS {
            insert(&format!(
                "-m cluster --cluster-hash-seed {seed:#x} --cluster-total-nodes {ALL} --cluster-local-node {number} -j ACCEPT"
            ))?;
        }
    }
    let own = "clusterip_firewall=iptables";
    takes_over(&node, &vips, own, Some("clusterip_hash_seed=0x51"))?;
    for (vip, program) in vips.into_iter().zip(["iptables", "ip6tables"]) {
        let listed = node.run(&[program, "-t", "mangle", "-S", "PREROUTING"])?;
        let left: Vec<&str> = listed.lines().filter(|line| line.contains(vip)).collect();
        assert!(left.len() == 1 && left[0].contains(OTHERS), "{listed}");
    }
    Ok(())
}

#[test]
fn the_script_takes_over_from_the_newest_ipaddr2_by_nft() -> Result<()> {
    let lab = Lab::new("taken-over")?;
    let node = with_addresses(&lab)?;
    let vips = [V4, V6];
    for (vip, family) in vips.into_iter().zip(["ip", "ip6"]) {
        let (_, seed) = joined(&node, vip, "ipaddr2")?;
        let table = format!("IPaddr2_{}", vip.replace([':', '.'], "_"));
        let mut rules = format!(
            "add table {family} {table}\nadd chain {family} {table} prerouting {{ type filter hook prerouting priority mangle; }}\n\
             insert rule {family} {table} prerouting iif eth0 {family} daddr {vip} drop\n"
        );
        for number in NUMBERS {
            rules += &format!(
                "insert rule {family} {table} prerouting iif eth0 {family} daddr {vip} jhash {family} saddr mod {ALL} \
                 seed {seed:#x} offset 1 == {number} meta pkttype set host accept comment \"cip-node-{number}\"\n"
            );
        }
        node.exec(&["nft", "-f", "-"]).stdin(rules).run()?;
    }
    let own = "clusterip_firewall=nft";
    takes_over(&node, &vips, own, Some("clusterip_hash_seed=0x51"))?;
    let listed = node.run(&["nft", "list", "tables"])?;
    assert!(!listed.contains("IPaddr2_"), "{listed}");
    let (went_well, said) = script(&node, &vips, own, "back")?;
    assert!(went_well && said.contains("given back: dark"), "{said}");
    let addresses = node.run(&["ip", "-o", "address", "show", "dev", "eth0"])?;
    assert!(
        !vips.iter().any(|vip| addresses.contains(vip)),
        "{addresses}"
    );
    Ok(())
}

#[test]
fn the_script_takes_over_from_the_real_clusterip() -> Result<()> {
    let rule = |mac: &str, mode: HashMode, first: usize| {
        format!(
            "-I INPUT -d {V4} -i eth0 -j CLUSTERIP --new --clustermac {mac} --total-nodes {ALL} --local-node {first} \
             --hashmode {}",
            mode.name()
        )
    };
    // What is left of a rule is freed later, and the module's end waits for it (`forerunners`).
    let unload = |node: &Node| match in_guest() {
        true => node.run(&["modprobe", "--remove", CLUSTERIP]).map(drop),
        false => Ok(()),
    };
    let there = kernel_has(CLUSTERIP, &[CLUSTERIP], |node| {
        iptables(node, &rule("01:00:5e:7f:00:62", HashMode::SourceIp, 1))?;
        iptables(node, "-F INPUT")?;
        unload(node)
    })?;
    if !there {
        return Ok(());
    }
    let lab = Lab::new("taken-over")?;
    let node = with_addresses(&lab)?;
    if in_guest() {
        node.run(&["modprobe", CLUSTERIP])?;
    }
    let (mac, _) = joined(&node, V4, "clusterip")?;
    let [first, second] = NUMBERS;
    iptables(&node, &rule(&mac, HashMode::SourceIp, first))?;
    let add = format!("echo +{second} > /proc/net/ipt_CLUSTERIP/{V4}");
    node.run(&["sh", "-c", &add])?;
    let (went_well, said) = script(&node, &[V4], "clusterip_hash=sourceip-sourceport", "take")?;
    let why = "the hash is sourceip by the predecessor's rules here and sourceip-sourceport by";
    assert!(!went_well && said.contains(why), "{said}");
    takes_over(&node, &[V4], "clusterip_hash=sourceip", None)?;
    let listed = node.run(&["iptables-legacy", "-S", "INPUT"])?;
    assert!(!listed.contains("CLUSTERIP"), "{listed}");
    nodectl(&node, &["down", V4, "--force"])?;
    unload(&node)
}
