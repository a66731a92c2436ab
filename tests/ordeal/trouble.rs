//! What happens on the nodes beside a round's deed: other people's programs that change nf_tables, killed sweepers,
//! clocks that are changed, and agents that get into trouble of their own.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use lab::storm::Storm;
use lab::{Context, Node, Result};

use crate::errand;
use crate::rig::{NODES, Rig};

/// Where libraries are, each architecture's in a folder of its own.
const LIBRARIES: &str = "/usr/lib";
const FAKETIME: &str = "faketime/libfaketime.so.1";
/// How far a node's clock is from the true one.
const CLOCK: &str = "/run/ordeal-clock";
/// What clocks are set to, in seconds.
const OFFSETS: [i32; 8] = [0, 0, 2, -2, 30, -30, 300, -300];

/// A firewall that comes and goes.
const FIREWALL: &str = "table inet ordeal { set seen { type ipv4_addr; elements = { 192.0.2.1 } }\n\
                        chain input { type filter hook input priority 0; policy accept;\n\
                        ip saddr @seen counter drop; }; }";

/// What Pacemaker has in its environment, so that its clock and its agents' can be changed.
pub fn changeable_clocks() -> Result<Vec<(String, String)>> {
    let folders = fs::read_dir(LIBRARIES).context(LIBRARIES)?;
    let mut places = folders.filter_map(|folder| Some(folder.ok()?.path().join(FAKETIME)));
    let library = places.find(|place| place.exists()).context(format!(
        "there is no {FAKETIME} in {LIBRARIES}, by which clocks are changed: install the package faketime"
    ))?;
    let library = library.display().to_string();
    let all = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", CLOCK),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    Ok(all
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec())
}

/// What the nodes' clocks have been through since they booted.
#[derive(Default)]
pub struct Clocks(BTreeMap<&'static str, (i32, bool)>);

impl Clocks {
    /// It is so far from the true time now.
    fn set(&mut self, name: &'static str, offset: i32) {
        let (old, went_back) = self.0.get(name).copied().unwrap_or_default();
        self.0.insert(name, (offset, went_back || offset < old));
    }

    /// What Pacemaker knew of the node is forgotten.
    pub fn forget(&mut self, name: &'static str) {
        let offset = self.0.get(name).map_or(0, |(offset, _)| *offset);
        self.0.insert(name, (offset, false));
    }

    /// It has booted with a right clock.
    pub fn booted(&mut self, name: &'static str) {
        self.0.remove(name);
    }

    /// Whether it was set back. Pacemaker heeds no failure that seems older than the action before it.
    pub fn went_back(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|(_, went_back)| *went_back)
    }
}

/// Trouble on all nodes, until it is ended.
pub struct Trouble {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    sweepers: Arc<AtomicUsize>,
}

impl Trouble {
    /// Changes a clock perhaps, and lets everything else begin.
    pub fn begin(rig: &Rig, chance: &mut fastrand::Rng) -> Result<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let sweepers = Arc::new(AtomicUsize::new(0));
        let mut threads = Vec::new();
        for name in NODES {
            let node = rig.cluster.node(name)?;
            node.run(&["touch", errand::WILD])?;
            if chance.u32(0..100) < 25 {
                let offset = OFFSETS[chance.usize(..OFFSETS.len())];
                rig.say(format!(
                    "{name}: its clock is {offset:+} s from the true time"
                ));
                set_clock(&node, offset)?;
                rig.clocks().set(name, offset);
            }
            let (ends, sweepers) = (ends.clone(), sweepers.clone());
            let seed = chance.u64(..);
            threads.push(std::thread::spawn(move || {
                meddle(&node, seed, &ends, &sweepers)
            }));
        }
        Ok(Self {
            ends,
            threads,
            sweepers,
        })
    }

    /// Ends all but what clocks show.
    pub fn end(self, rig: &Rig) -> Result<()> {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        let sweepers = self.sweepers.load(Ordering::Relaxed);
        if sweepers > 0 {
            rig.say(format!("{sweepers} sweepers were killed"));
        }
        for name in NODES {
            // Where it stays the node has just died, and everything in its /run with it.
            let _ = rig.cluster.node(name)?.run(&["rm", "-f", errand::WILD]);
        }
        Ok(())
    }
}

/// At once, whoever reads it.
fn set_clock(node: &Node, offset: i32) -> Result<()> {
    let new = format!("{CLOCK}.new");
    node.exec(&["tee", &new])
        .stdin(format!("{offset:+}s\n"))
        .run()?;
    node.run(&["mv", &new, CLOCK]).map(drop)
}

/// One node's trouble. What fails because the node has just lost its power is no matter.
fn meddle(node: &Node, seed: u64, ends: &AtomicBool, sweepers: &AtomicUsize) {
    let mut chance = fastrand::Rng::with_seed(seed);
    while !ends.load(Ordering::Relaxed) {
        match chance.u32(0..10) {
            0..3 => {
                let _ = node.exec(&["nft", "-f", "-"]).stdin(FIREWALL).run();
                let _ = node.run(&["nft", "delete", "table", "inet", "ordeal"]);
            }
            3..6 => {
                let _ = node.run(&["nft", "list", "ruleset"]);
            }
            6 => {
                if let Ok(storm) = Storm::begin(node, Some(Duration::from_micros(200))) {
                    sleep(Duration::from_millis(chance.u64(100..1_500)));
                    drop(storm);
                }
            }
            _ => {
                let killed = kill_sweepers(node).unwrap_or_default();
                sweepers.fetch_add(killed, Ordering::Relaxed);
            }
        }
        sleep(Duration::from_millis(chance.u64(50..1_500)));
    }
}

/// Sweepers are what is left of an agent when nobody waits for it any more.
fn kill_sweepers(node: &Node) -> Result<usize> {
    let found = node.run(&["pgrep", "-P", "1", "-f", errand::REAL])?;
    let pids: Vec<&str> = found.split_whitespace().collect();
    node.run(&[&["kill", "-KILL"], pids.as_slice()].concat())?;
    Ok(pids.len())
}
