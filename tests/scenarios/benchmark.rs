//! The benchmark runs, and what it tells is complete. How fast anything is does not matter here.

use std::process::Command;

use lab::{Context, Result};
use serde_json::Value;

/// A run with next to no packets; its JSON.
fn few_packets(words: &[&str]) -> Result<Value> {
    let few = "--only packets --nodes 2 --vips 2 --packets 64 --rounds 2 --flows 100";
    bench(few, words)
}

/// What the benchmark tells, as JSON.
fn bench(line: &str, words: &[&str]) -> Result<Value> {
    let output = Command::new(lab::built("bench")?)
        .arg("--json")
        .args(line.split(' '))
        .args(words)
        .output();
    let output = output.context("run the benchmark")?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).context(said)
}

#[test]
fn every_variant_is_measured_and_every_node_has_received_all_its_packets() -> Result<()> {
    let report = few_packets(&[])?;
    assert_eq!(report["schema"], 1);
    for word in ["date", "kernel", "cpu"] {
        assert!(report["machine"][word].is_string(), "{report:#}");
    }
    let packets = &report["packets"];
    let variants = packets["variants"].as_array().context("no variants")?;
    let missing = packets["missing"].as_array().context("no list")?;
    // A kernel need not have iptables' cluster match, with its three variants.
    assert_eq!(variants.len() + 3 * missing.len(), 77, "{packets:#}");
    for variant in variants {
        assert!(variant["ns"]["median"].as_f64() > Some(0.0), "{variant:#}");
        assert_eq!(variant["ns"]["count"], 2, "{variant:#}");
        assert_eq!(variant["sent"], 128, "{variant:#}");
        assert!(
            variant["received_by_each_node"].as_u64() >= Some(128),
            "{variant:#}"
        );
    }
    assert_eq!(variants[0]["rules"], "floor");
    assert_eq!(variants[0]["above_floor"]["median"], 0.0);
    // Stealth beside multicast: whole packets of both families in two modes of the hash, and what is not the VIP's.
    let compared = packets["compared"].as_array().context("none compared")?;
    assert_eq!(compared.len(), 10, "{packets:#}");
    Ok(())
}

#[test]
fn another_build_of_the_product_is_measured_beside_this_one() -> Result<()> {
    let other = lab::built("nodectl")?.display().to_string();
    let rules = "ClusterIP IPv4 sourceip, 16 buckets";
    let report = few_packets(&["--variant", rules, "--nodectl", &other])?;
    let compared = report["packets"]["compared"].as_array().context("none")?;
    let packets: Vec<&Value> = compared.iter().map(|one| &one["packet"]).collect();
    assert_eq!(packets, ["foreign", "owned"], "{report:#}");
    for one in compared {
        assert_eq!(one["rules"], rules);
        assert_eq!(one["beside"], format!("{rules}, by {other}"));
        assert_eq!(one["more"]["count"], 2);
    }
    Ok(())
}

#[test]
fn rules_of_a_developers_own_can_be_measured_too() -> Result<()> {
    let text = "table ip own {\n  chain c { type filter hook prerouting priority -150; }\n}\n";
    let path = std::env::temp_dir().join(format!("own-rules-{}.nft", std::process::id()));
    std::fs::write(&path, text).context("write rules")?;
    let shown = path.display().to_string();
    let report = few_packets(&["--variant", "no rules", "--rules", &shown]);
    std::fs::remove_file(&path).context("remove rules")?;
    let report = report?;
    let variants = report["packets"]["variants"].as_array().context("none")?;
    let own = variants.iter().filter(|variant| variant["rules"] == *shown);
    // Two packets' floor and one again, three packets without rules, and what is owned and what is not.
    assert_eq!((own.count(), variants.len()), (2, 8));
    Ok(())
}

#[test]
fn the_agents_actions_are_measured_with_connections_too() -> Result<()> {
    let report = bench("--only operations --quick --flows 100", &[])?;
    let all = &report["operations"]["operations"];
    let all = all.as_array().context(report.to_string())?;
    for action in ["start", "monitor", "stop, a bucket's connections stay"] {
        let ours = all.iter().find(|cost| {
            let agent = cost["agent"].as_str().unwrap_or_default();
            agent.starts_with("ocf:rust:ClusterIP") && cost["action"] == action
        });
        let ours = ours.context(format!("no {action}: {report:#}"))?;
        assert!(ours["ms"]["median"].as_f64() > Some(0.0), "{ours:#}");
    }
    Ok(())
}
