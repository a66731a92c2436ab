//! Very many instances of one clone at once, as a node's whole share comes and goes: how long all of them take, and how
//! long the one that waits longest.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use lab::{Context, Lab, Node, Result};

use crate::report::RushCost;
use crate::stats::Summary;
use crate::telling::Telling;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Instances of the clone.
    pub instances: u32,
    /// Actions at the same time, Pacemaker's `node-action-limit`.
    pub at_once: u32,
    /// How often all of it is done.
    pub runs: usize,
    /// Another build of the agent, to be measured beside ours.
    pub other: Option<PathBuf>,
}

/// Who is in a hurry.
struct Agent {
    name: String,
    program: PathBuf,
    node: Node,
    taken: [Taken; 2],
}

#[derive(Default)]
struct Taken {
    totals: Vec<f64>,
    longest: Vec<f64>,
    failed: usize,
}

const ACTIONS: [&str; 2] = ["start", "stop"];

/// Measures all agents in turns, and a program that does nothing as often: what the processes alone take.
pub fn measure(effort: &Effort, telling: &Telling) -> Result<Vec<RushCost>> {
    let lab = Lab::new("bench")?;
    let mut agents = Vec::new();
    let mut add = |name: &str, program: &Path, node: &str| -> Result<()> {
        agents.push(Agent {
            name: name.into(),
            program: program.to_owned(),
            node: lab.node(node)?,
            taken: Default::default(),
        });
        Ok(())
    };
    add("ocf:rust:ClusterIP", &lab::built("ocf-clusterip")?, "n1")?;
    if let Some(other) = &effort.other {
        // What it is compared with is run from wherever the caller stands.
        let other = std::path::absolute(other).context(other.display())?;
        add(&format!("the agent {}", other.display()), &other, "n2")?;
    }
    add("a process that does nothing", Path::new("/bin/true"), "n3")?;
    telling.say(format!(
        "rush: {} instances, {} at once, {} runs of {} programs",
        effort.instances,
        effort.at_once,
        effort.runs,
        agents.len()
    ));
    for run in 1..=effort.runs {
        telling.passing(format!("run {run} of {}", effort.runs));
        for agent in &mut agents {
            for (action, taken) in ACTIONS.iter().zip(&mut agent.taken) {
                let (total, waits, failed) = rush(&agent.node, &agent.program, action, effort)?;
                taken.totals.push(total);
                taken.longest.push(waits);
                taken.failed += failed;
            }
        }
    }
    let of_ours = |n: usize| {
        let taken = &agents[0].taken[n];
        (
            Summary::of(&taken.totals).median,
            Summary::of(&taken.longest).median,
        )
    };
    let costs = agents.iter().flat_map(|agent| {
        ACTIONS
            .iter()
            .zip(&agent.taken)
            .enumerate()
            .map(|(n, (action, taken))| {
                let (total_s, longest_s) =
                    (Summary::of(&taken.totals), Summary::of(&taken.longest));
                let (total, longest) = of_ours(n);
                RushCost {
                    agent: agent.name.clone(),
                    action: (*action).into(),
                    instances: effort.instances,
                    at_once: effort.at_once,
                    failed: taken.failed,
                    total_s,
                    longest_s,
                    ours_to_its_total: total / total_s.median,
                    ours_to_its_longest: longest / longest_s.median,
                }
            })
    });
    Ok(costs.collect())
}

/// The action of all instances; how long all took, how long the longest, and how many failed.
fn rush(node: &Node, program: &Path, action: &str, effort: &Effort) -> Result<(f64, f64, usize)> {
    let next = AtomicU32::new(0);
    let waits: Mutex<Vec<(f64, bool)>> = Mutex::default();
    let one = |instance: u32| {
        let began = Instant::now();
        let status = command(program, action, instance, effort.instances).status();
        let done = status.is_ok_and(|status| status.success());
        let took = began.elapsed().as_secs_f64();
        waits.lock().expect("no thread panics").push((took, done));
    };
    let began = Instant::now();
    // Threads are where the one is that makes them: in the node.
    node.within(|| {
        std::thread::scope(|scope| {
            for _ in 0..effort.at_once {
                scope.spawn(|| {
                    loop {
                        let instance = next.fetch_add(1, Ordering::Relaxed);
                        if instance >= effort.instances {
                            break;
                        }
                        one(instance);
                    }
                });
            }
        });
    })?;
    let total = began.elapsed().as_secs_f64();
    let waits = waits.into_inner().expect("no thread panics");
    let longest = waits.iter().map(|(took, _)| *took).fold(0.0, f64::max);
    Ok((
        total,
        longest,
        waits.iter().filter(|(_, done)| !done).count(),
    ))
}

fn command(program: &Path, action: &str, instance: u32, instances: u32) -> Command {
    let mut command = Command::new(program);
    command
        .arg(action)
        .env_clear()
        .env("OCF_ROOT", "/usr/lib/ocf")
        .env("OCF_RESOURCE_INSTANCE", format!("ip:{instance}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    for (name, value) in [
        ("ip", "10.77.0.99"),
        ("nic", "eth0"),
        ("cidr_netmask", "16"),
        ("hash_seed", "1"),
        ("arp_count", "0"),
        // What stops is to be gone, not to drain: nobody else is there.
        ("drain_timeout", "0"),
        ("CRM_meta_timeout", "20000"),
        ("CRM_meta_interval", "0"),
        ("CRM_meta_globally_unique", "true"),
        ("CRM_meta_clone_max", &instances.to_string()),
        ("CRM_meta_clone_node_max", &instances.to_string()),
        ("CRM_meta_clone", &instance.to_string()),
    ] {
        command.env(format!("OCF_RESKEY_{name}"), value);
    }
    command
}
