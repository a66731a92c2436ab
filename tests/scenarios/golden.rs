//! What people read, compared with reviewed copies: the rules as nft lists them (in `nft/`), the
//! agent's meta-data and nodectl's screens (in `tests/golden/`). `make golden` writes them anew.

use crate::product::*;
use lab::{Lab, Node, Result};
use std::path::PathBuf;

/// A file of the repository.
fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(name)
}

/// Compares with the reviewed copy; lines of it that begin with `# ` are for its readers alone.
fn check(name: &str, actual: &str) {
    let path = path(name);
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    let (notes, lines): (Vec<&str>, Vec<&str>) =
        reviewed.lines().partition(|line| line.starts_with("# "));
    let actual: Vec<&str> = actual.lines().map(str::trim_end).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = [notes, actual].concat().join("\n") + "\n";
        std::fs::write(&path, text).expect("the reviewed copy can be written");
        return;
    }
    assert_eq!(
        lines.join("\n"),
        actual.join("\n"),
        "{} differs; if it is meant to, 'make golden' and review the diff",
        path.display()
    );
}

/// A node with one IPv4 and one IPv6 VIP, of which nothing was received yet.
fn node_with_two_vips(lab: &Lab) -> Result<Node> {
    let node = lab.node("n1")?;
    for vip in [V4, V6] {
        nodectl(
            &node,
            &[
                "up",
                vip,
                "--nic",
                "eth0",
                "--buckets",
                "12",
                "--own",
                "0,3-5",
                "--seed",
                "0x516175ce",
            ],
        )?;
    }
    Ok(node)
}

#[test]
fn golden_ruleset_of_the_mode_multicast() -> Result<()> {
    let lab = Lab::new("golden-nft")?;
    let node = node_with_two_vips(&lab)?;
    check("nft/multicast.nft", &node.run(&["nft", "list", "ruleset"])?);
    Ok(())
}

#[test]
fn golden_ruleset_by_source_address_alone() -> Result<()> {
    let lab = Lab::new("golden-sourceip")?;
    let node = lab.node("n1")?;
    nodectl(
        &node,
        &[
            "up",
            V4,
            "--nic",
            "eth0",
            "--buckets",
            "12",
            "--own",
            "0,3-5",
            "--seed",
            "0x516175ce",
            "--hash",
            "sourceip",
            "--layout",
            "network",
        ],
    )?;
    check(
        "nft/multicast-sourceip.nft",
        &node.run(&["nft", "list", "ruleset"])?,
    );
    Ok(())
}

#[test]
fn golden_screens_of_nodectl() -> Result<()> {
    let lab = Lab::new("golden-nodectl")?;
    let node = node_with_two_vips(&lab)?;
    for (name, args) in [
        ("status", &["status"][..]),
        ("status-json", &["status", "--json"]),
        ("buckets", &["buckets", V4]),
        ("buckets-json", &["buckets", V4, "--json"]),
        ("owner", &["owner", V4, "192.0.2.1:40000"]),
        (
            "owner-json",
            &["owner", V6, "[2001:db8::1]:40000", "--json"],
        ),
        ("ruleset", &["ruleset"]),
        ("help", &["--help"]),
        ("help-up", &["up", "--help"]),
    ] {
        check(
            &format!("tests/golden/nodectl-{name}.txt"),
            &nodectl(&node, args)?,
        );
    }
    Ok(())
}

#[test]
fn golden_meta_data() -> Result<()> {
    let lab = Lab::new("golden-meta")?;
    let node = lab.node("n1")?;
    let answer = Agent::new(V4, 12).call(&node, "meta-data", 0)?.expect(0);
    check("tests/golden/meta-data.xml", &answer.stdout);
    node.exec(&["xmllint", "--noout", "-"])
        .stdin(answer.stdout)
        .run()?;
    Ok(())
}

#[test]
fn what_would_be_installed_is_what_is_installed() -> Result<()> {
    let lab = Lab::new("would-be")?;
    let node = lab.node("n1")?;
    let description = [V4, "--nic", "eth0", "--buckets", "12", "--own", "1,2"];
    let would_be = nodectl(&node, &[&["ruleset"], &description[..]].concat())?;
    assert_eq!(node.run(&["nft", "list", "ruleset"])?, "");
    nodectl(&node, &[&["up"], &description[..]].concat())?;
    let installed = nodectl(&node, &["ruleset"])?;
    // Only what is installed knows how the interface was before, and has counted.
    let comparable = |text: &str| {
        let lines = text
            .lines()
            .filter(|line| !line.contains("comment \"before:"));
        let lines = lines.map(|line| {
            line.replace(" packets 0 bytes 0", "")
                .replace(" counter :", " :")
        });
        lines.collect::<Vec<_>>()
    };
    assert_eq!(comparable(&would_be), comparable(&installed));
    Ok(())
}
