//! What is done to the cluster in a round: moves that an operator plans, in which no connection is lost, and what nobody
//! plans.

use std::thread::sleep;
use std::time::Duration;

use clap::ValueEnum;
use lab::cluster::{PATIENCE, Signal};
use lab::{Context, Result};

use crate::rig::{CLONES, NODES, Rig, VIPS};

/// One kind of deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Deed {
    /// A node goes on standby and comes back
    Standby,
    /// Nodes go on standby and come back at any moment, finished or not
    Flurry,
    /// The clones are banned from a node, and the ban is cleared
    Ban,
    /// All buckets go to one node that is preferred for a while
    Prefer,
    /// Both clones are restarted as a whole
    Restart,
    /// A node's Pacemaker and Corosync are stopped and started
    Stack,
    /// The cluster is in maintenance for a while
    Maintenance,
    /// A node loses its power
    PowerOff,
    /// A node's user space dies, its kernel lives on
    Crash,
    /// Corosync is killed
    KillCorosync,
    /// Corosync stands still for up to three seconds
    Freeze,
    /// A daemon of Pacemaker's is killed
    KillDaemon,
    /// A node's ruleset is flushed
    Flush,
    /// A node's ruleset is saved, flushed and loaded again
    Reload,
    /// Somebody takes a node's VIP away
    TakeAddress,
}

impl Deed {
    /// One of these, or of all; those that are planned twice as often.
    pub fn any(chance: &mut fastrand::Rng, only: &[Self]) -> Self {
        let all: Vec<Self> = match only {
            [] => {
                let every = Self::value_variants().iter().copied();
                every
                    .clone()
                    .chain(every.filter(|deed| deed.is_planned()))
                    .collect()
            }
            some => some.to_vec(),
        };
        all[chance.usize(..all.len())]
    }

    /// As on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value().expect("none is hidden");
        value.get_name().to_owned()
    }

    /// Whether no connection may be lost in it.
    pub fn is_planned(self) -> bool {
        use Deed::*;
        match self {
            Standby | Flurry | Ban | Prefer | Restart | Stack | Maintenance => true,
            PowerOff | Crash | KillCorosync | Freeze | KillDaemon | Flush | Reload
            | TakeAddress => false,
        }
    }

    /// Whether a monitor has to fail, and Pacemaker to heed it.
    fn is_noticed_by_monitors(self) -> bool {
        use Deed::*;
        matches!(self, Flush | Reload | TakeAddress)
    }

    /// Does it, and undoes what it can; what was fenced is the caller's to bring back.
    pub fn perform(self, rig: &Rig, chance: &mut fastrand::Rng) -> Result<()> {
        let name = NODES[chance.usize(..NODES.len())];
        let node = rig.cluster.node(name)?;
        rig.say(format!("{}: {name}", self.name()));
        let on = |words: &[&str]| node.run(words).map(drop);
        match self {
            Self::Standby => {
                rig.cluster.standby(name)?;
                rig.wait_at_rest(&others(name))?;
                rig.cluster.online(name)
            }
            Self::Flurry => {
                for _ in 0..chance.usize(2..6) {
                    let name = NODES[chance.usize(..NODES.len())];
                    rig.cluster.standby(name)?;
                    pause(chance, 0..4_000);
                    rig.cluster.online(name)?;
                    pause(chance, 0..2_000);
                }
                Ok(())
            }
            Self::Ban => {
                for clone in CLONES {
                    rig.crm_resource(&["--ban", "-r", clone, "-N", name])?;
                }
                pause(chance, 0..4_000);
                if chance.bool() {
                    rig.wait_at_rest(&others(name))?;
                }
                CLONES
                    .into_iter()
                    .try_for_each(|clone| rig.crm_resource(&["--clear", "-r", clone]))
            }
            Self::Prefer => {
                for clone in CLONES {
                    let line = format!("location prefer-{clone} {clone} 100: {name}\n");
                    rig.cluster.load(NODES[0], &line)?;
                }
                rig.wait_at_rest(&[name])?;
                CLONES.into_iter().try_for_each(|clone| {
                    let constraint = format!("prefer-{clone}");
                    rig.cluster
                        .crm(NODES[0], &["configure", "delete", &constraint])
                        .map(drop)
                })
            }
            Self::Restart => CLONES
                .into_iter()
                .try_for_each(|clone| rig.crm_resource(&["--restart", "-r", clone])),
            Self::Stack => {
                rig.cluster.leave(name)?;
                if chance.bool() {
                    rig.wait_at_rest(&others(name))?;
                }
                rig.cluster.rejoin(name)?;
                rig.clocks().forget(name);
                Ok(())
            }
            Self::Maintenance => {
                on(&["crm_attribute", "-n", "maintenance-mode", "-v", "true"])?;
                pause(chance, 1_000..15_000);
                on(&["crm_attribute", "-n", "maintenance-mode", "-D"])
            }
            Self::PowerOff => rig.cluster.power_off(name),
            Self::Crash => rig.cluster.crash(name),
            Self::KillCorosync => {
                rig.cluster.kill_corosync(name, Signal::SIGKILL)?;
                let is_off = || rig.cluster.is_off(name).unwrap_or_default();
                rig.wait_until("the fence", PATIENCE, is_off)
            }
            Self::Freeze => {
                rig.cluster.kill_corosync(name, Signal::SIGSTOP)?;
                pause(chance, 200..3_000);
                // It may have been fenced by now.
                let _ = rig.cluster.kill_corosync(name, Signal::SIGCONT);
                Ok(())
            }
            Self::KillDaemon => {
                let daemons = ["pacemaker-execd", "pacemaker-controld", "pacemaker-based"];
                let daemon = daemons[chance.usize(..daemons.len())];
                rig.say(format!("{name}: {daemon} is killed"));
                let pid = node.run(&["pidof", daemon])?;
                on(&["kill", "-KILL", pid.trim()])
            }
            Self::Flush => on(&["nft", "flush", "ruleset"]),
            Self::Reload => {
                let saved = node.run(&["nft", "list", "ruleset"])?;
                on(&["nft", "flush", "ruleset"])?;
                node.exec(&["nft", "-f", "-"])
                    .stdin(saved)
                    .run()
                    .context(name)?;
                Ok(())
            }
            Self::TakeAddress => {
                let vip = VIPS[chance.usize(..VIPS.len())];
                // It may have no bucket of it.
                let _ = on(&["ip", "address", "delete", vip, "dev", "eth0"]);
                Ok(())
            }
        }?;
        if self.is_noticed_by_monitors() && rig.clocks().went_back(name) {
            // What docs/troubleshooting.md says to do then.
            rig.say(format!(
                "{name}: its clock went back, so its history is to be forgotten"
            ));
            for clone in CLONES {
                rig.crm_resource(&["--refresh", "-r", clone])?;
            }
        }
        pause(chance, 0..3_000);
        Ok(())
    }
}

fn others(name: &str) -> Vec<&'static str> {
    NODES.into_iter().filter(|other| *other != name).collect()
}

fn pause(chance: &mut fastrand::Rng, milliseconds: std::ops::Range<u64>) {
    sleep(Duration::from_millis(chance.u64(milliseconds)));
}
