//! What is on a node that the product could leave behind: its tables, addresses, routes, memberships, settings and
//! processes.

use std::collections::{BTreeMap, BTreeSet};

use lab::cluster::PATIENCE;
use lab::{Error, Node, Result};

use crate::errand;
use crate::rig::{NODES, Rig};

/// What each node has.
pub struct Traces(BTreeMap<&'static str, BTreeSet<String>>);

impl Traces {
    pub fn of_all(rig: &Rig) -> Result<Self> {
        let mut all = BTreeMap::new();
        for name in NODES {
            all.insert(name, of(&rig.cluster.node(name)?)?);
        }
        Ok(Self(all))
    }

    /// What nodes have that they had not then, or lack, after all that drains had time to end.
    pub fn beyond(&self, rig: &Rig) -> Result<Vec<String>> {
        let mut last = Vec::new();
        // What differs in the end is the result, not an error.
        let _ = rig.wait_until("nothing to be left", 6 * PATIENCE, || {
            last.clear();
            for (name, before) in &self.0 {
                let now = of(&rig.cluster.node(name)?)?;
                last.extend(
                    now.difference(before)
                        .map(|line| format!("{name} has: {line}")),
                );
                last.extend(
                    before
                        .difference(&now)
                        .map(|line| format!("{name} lacks: {line}")),
                );
            }
            match last.first() {
                None => Ok(()),
                Some(line) => Err(Error::new(line.clone())),
            }
        });
        Ok(last)
    }
}

fn of(node: &Node) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for words in [
        &["nft", "list", "tables"][..],
        &["ip", "-o", "address", "show", "dev", "eth0"],
        &["ip", "maddress", "show", "dev", "eth0"],
        &["ip", "-4", "route", "show", "table", "main"],
        &["ip", "-6", "route", "show", "table", "main"],
        &[
            "sysctl",
            "net.ipv4.conf.eth0.promote_secondaries",
            "net.ipv4.conf.all.promote_secondaries",
        ],
    ] {
        let text = node.run(words)?;
        // How long something still lives is no matter.
        let lines = text.lines().map(|line| {
            let words = line.split_whitespace();
            words
                .take_while(|word| !["expires", "valid_lft"].contains(word))
                .collect::<Vec<_>>()
                .join(" ")
        });
        all.extend(lines.filter(|line| !line.is_empty()));
    }
    let processes = node.output(&["pgrep", "-fa", errand::REAL])?;
    all.extend(
        String::from_utf8_lossy(&processes.stdout)
            .lines()
            .map(str::to_owned),
    );
    // The folder stays, and a sweeper that is killed leaves its file, which nobody holds.
    let files = node.output(&["find", "/run/clusterip", "-name", "turn-*"])?;
    all.extend(
        String::from_utf8_lossy(&files.stdout)
            .lines()
            .map(str::to_owned),
    );
    Ok(all)
}
