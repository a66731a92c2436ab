//! A real cluster on demand: Corosync, Pacemaker and crmsh on every node, and a fence device.
//!
//! A node boots into mount, UTS, IPC and PID namespaces of its own on top of its network
//! namespace; [`boot`] is what happens inside, [`fence`] the device, `crm` what Pacemaker is
//! asked and told, `chronicle` what it says it did and when. Here is the power: on, off, crash, freeze.

pub mod boot;
mod chronicle;
mod crm;
mod daemon;
pub mod fence;

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::{Pid, geteuid};

pub use chronicle::Chronicle;
pub use crm::{FailedAction, Instances, Membership};
pub use daemon::Daemon;

use crate::exec::{Exec, LAB, Place, Running};
use crate::node::NodeOptions;
use crate::serve::Serve;
use crate::topology::{Inner as LabInner, Lab};
use crate::{Context, Error, Node, Result};

/// How long anything may take that a cluster does by itself (booting, joining, moving).
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What kind of cluster is wanted.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Corosync's token timeout in milliseconds.
    pub token_ms: u32,
    /// Whether Corosync runs before all that is no real-time program, as it does where nobody tells it otherwise.
    /// Many clusters at once would starve this machine.
    pub real_time: bool,
    /// Whether Pacemaker runs on the nodes; without it there is nothing but Corosync, and nobody is fenced.
    pub pacemaker: bool,
    /// Whether lost nodes are fenced (powered off by the lab).
    pub fencing: bool,
    /// What is to be `ocf:rust:ClusterIP` on the nodes.
    pub agent: Option<PathBuf>,
    /// What is to be `/usr/sbin/nodectl` on the nodes.
    pub nodectl: Option<PathBuf>,
    /// The daemon that every node runs from its boot on.
    pub daemon: Option<Daemon>,
    /// Further files to be put on the nodes: where they are here, and where they go there.
    pub files: Vec<(PathBuf, String)>,
    /// What every node serves from its boot on.
    pub serve: Vec<Serve>,
    /// What Pacemaker has in its environment, and with it every agent that it runs.
    pub environment: Vec<(String, String)>,
    /// How the nodes are attached to the switch, unless they exist already.
    pub attachment: NodeOptions,
    /// What is beneath the nodes' private layers: the machine's own root, or another system's.
    pub root: PathBuf,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            token_ms: 1000,
            real_time: false,
            pacemaker: true,
            fencing: true,
            agent: None,
            nodectl: None,
            daemon: None,
            files: Vec::new(),
            serve: Vec::new(),
            environment: Vec::new(),
            attachment: NodeOptions::default(),
            root: "/".into(),
        }
    }
}

/// A running cluster; it ends when this is dropped, with its lab, or with its process.
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    lab: Arc<LabInner>,
    options: ClusterOptions,
    nodes: BTreeMap<String, Member>,
}

struct Member {
    node: Node,
    number: usize,
    power: Mutex<Power>,
    /// Its Corosync has been meddled with, so its view of the cluster is not to be believed.
    doubtful: AtomicBool,
}

/// What a node is doing.
enum Power {
    /// No processes, no kernel, no cable. The logs are those of its last life.
    Off { logs: String },
    /// Booted; everything in it dies with `machine`.
    On {
        machine: Running,
        init: u32,
        fence: fence::Socket,
    },
    /// No process lives, but its kernel goes on answering.
    Crashed { logs: String },
}

impl Cluster {
    /// Boots `names` and waits until they are one cluster, with fencing if that is wanted.
    pub fn start(lab: &Lab, names: &[&str], options: ClusterOptions) -> Result<Self> {
        if !geteuid().is_root() || !boot::is_real_root() {
            return Err(Error::new(
                "a cluster needs real root: inside a user namespace only the plain lab works",
            ));
        }
        let started = Instant::now();
        let mut nodes = BTreeMap::new();
        for (index, name) in names.iter().enumerate() {
            let member = Member {
                node: lab.node_with(name, options.attachment)?,
                number: index + 1,
                power: Mutex::new(Power::Off {
                    logs: String::new(),
                }),
                doubtful: AtomicBool::new(false),
            };
            nodes.insert((*name).to_string(), member);
        }
        let inner = Arc::new(Inner {
            lab: lab.inner.clone(),
            options,
            nodes,
        });
        inner.say(format!("booting {}", names.join(", ")));
        std::thread::scope(|scope| {
            let boots: Vec<_> = names
                .iter()
                .map(|name| scope.spawn(|| inner.boot(name)))
                .collect();
            boots.into_iter().try_for_each(|boot| {
                boot.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
        let cluster = Self { inner };
        cluster.wait_for_members(names)?;
        if cluster.inner.options.pacemaker {
            if cluster.inner.options.fencing {
                cluster.configure_fencing()?;
            }
            cluster.wait_idle()?;
        }
        cluster.wait_for_daemons(names)?;
        let took = started.elapsed().as_secs_f64();
        cluster.inner.say(format!(
            "{} nodes are a cluster after {took:.1} s",
            names.len()
        ));
        Ok(cluster)
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Result<Node> {
        Ok(self.inner.member(name)?.node.clone())
    }

    /// All nodes' names.
    pub fn names(&self) -> Vec<String> {
        self.inner.nodes.keys().cloned().collect()
    }

    /// Pulls the plug: all processes, the kernel's network and the cable are gone on return.
    pub fn power_off(&self, name: &str) -> Result<()> {
        self.inner.power_off(name)
    }

    /// Boots a node that is off, and waits until it is a member of the cluster.
    pub fn power_on(&self, name: &str) -> Result<()> {
        self.inner.power_on(name)?;
        self.wait_for_members(&[name])?;
        self.wait_for_daemons(&[name])
    }

    /// Kills every process of a node while its kernel goes on answering: addresses, rules and
    /// cable stay until it is fenced or powered off.
    pub fn crash(&self, name: &str) -> Result<()> {
        self.inner.crash(name)?;
        self.inner.say(format!("{name}: all processes are dead"));
        Ok(())
    }

    /// Whether a node is switched on and not crashed.
    pub fn is_on(&self, name: &str) -> Result<bool> {
        Ok(matches!(
            *self.inner.member(name)?.power(),
            Power::On { .. }
        ))
    }

    /// Whether a node is powered off for good, by the fence device or by [`Cluster::power_off`].
    /// While that is still going on a node is neither on nor off.
    pub fn is_off(&self, name: &str) -> Result<bool> {
        Ok(matches!(
            *self.inner.member(name)?.power(),
            Power::Off { .. }
        ))
    }

    /// Sends a signal to a node's Corosync: SIGSTOP freezes it, SIGKILL kills it.
    ///
    /// SIGCONT thaws a frozen one, if it has not been fenced by then.
    pub fn kill_corosync(&self, name: &str, signal: Signal) -> Result<()> {
        let doubtful = signal != Signal::SIGCONT;
        self.inner
            .member(name)?
            .doubtful
            .store(doubtful, Ordering::Relaxed);
        self.inner.say(format!("{name}: Corosync gets {signal}"));
        self.signal(name, "corosync", signal)
    }

    /// Stops a node's Pacemaker (if it has one) and Corosync in the orderly way, as `crm cluster stop` does.
    pub fn leave(&self, name: &str) -> Result<()> {
        let node = self.node(name)?;
        self.inner.say(format!("{name} leaves"));
        let pacemaker = self.inner.options.pacemaker.then_some("pacemakerd");
        for program in pacemaker.into_iter().chain(["corosync"]) {
            self.signal(name, program, Signal::SIGTERM)?;
            crate::wait_until(&format!("the end of {program} on {name}"), PATIENCE, || {
                node.output(&["pidof", program])
                    .map(|found| !found.status.success())
                    .unwrap_or(false)
            })
            .context(self.logs(name)?)?;
        }
        Ok(())
    }

    /// Starts Corosync and Pacemaker (if there is to be one) again on a node that had left, and waits for its membership.
    pub fn rejoin(&self, name: &str) -> Result<()> {
        self.node(name)?.run(&[LAB, "stack"])?;
        self.wait_for_members(&[name])?;
        self.wait_for_daemons(&[name])
    }

    /// The tails of a node's logs: Corosync's, Pacemaker's, its init's and the system's. A node that is
    /// off tells those of its last life.
    pub fn logs(&self, name: &str) -> Result<String> {
        Ok(self.inner.member(name)?.power().logs(name))
    }

    fn signal(&self, name: &str, program: &str, signal: Signal) -> Result<()> {
        let node = self.node(name)?;
        let pids = node
            .run(&["pidof", program])
            .context(format!("find {program} on {name}"))?;
        for pid in pids.split_whitespace() {
            node.run(&["kill", "-s", signal.as_str().trim_start_matches("SIG"), pid])?;
        }
        Ok(())
    }
}

impl Inner {
    fn say(&self, line: impl std::fmt::Display) {
        self.lab.progress.say(line);
    }

    fn member(&self, name: &str) -> Result<&Member> {
        self.nodes
            .get(name)
            .context(format!("{name} is no node of this cluster"))
    }

    fn power_on(self: &Arc<Self>, name: &str) -> Result<()> {
        if self.member(name)?.node.is_on() {
            return Err(Error::new(format!("{name} has not been powered off")));
        }
        self.say(format!("{name} is powered on"));
        self.lab.replug(name)?;
        self.boot(name).inspect_err(|_| {
            // It stays off; why it did is what counts, not whether its cable could be taken away.
            if let Ok(member) = self.member(name) {
                let _ = self.lab.unplug(&member.node);
            }
        })
    }

    /// Boots the node's user space in its fresh network namespace.
    fn boot(self: &Arc<Self>, name: &str) -> Result<()> {
        let started = Instant::now();
        let member = self.member(name)?;
        let node = &member.node;
        let net = node.place()?.net().clone();
        let spec =
            serde_json::to_string(&self.spec(name)).context("write the boot specification")?;
        let program = crate::lab_binary()?.display().to_string();
        let words = [program, "boot".into(), spec];
        let mut machine = Exec::new(Ok(Place::Net(net.clone())), &words).spawn_watching_stdin()?;
        let line = machine.read_line().context(format!("boot {name}"))?;
        let init = line.strip_prefix("init ").and_then(|pid| pid.parse().ok());
        let init: u32 = init.context(format!("boot {name}: unexpected {line:?}"))?;
        machine
            .wait_for_line("booted")
            .context(format!("boot {name}"))?;

        let fence = fence::Socket::open(self, node)?;
        node.set_place(Some(Place::Node { init, net }));
        *member.power() = Power::On {
            machine,
            init,
            fence,
        };
        member.doubtful.store(false, Ordering::Relaxed);
        if !self.options.serve.is_empty() {
            node.serve(&self.options.serve)?;
        }
        self.say(format!(
            "{name} has booted in {:.1} s",
            started.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    fn power_off(&self, name: &str) -> Result<()> {
        // Without power a kernel does not say goodbye to its connections.
        if !matches!(*self.member(name)?.power(), Power::Off { .. }) {
            self.lab.cable(name, false)?;
        }
        self.crash(name)?;
        let member = self.member(name)?;
        let mut power = member.power();
        if let Power::Crashed { logs } = &mut *power {
            let logs = std::mem::take(logs);
            self.lab.unplug(&member.node)?;
            *power = Power::Off { logs };
            self.say(format!("{name} is powered off"));
        }
        Ok(())
    }

    fn crash(&self, name: &str) -> Result<()> {
        let member = self.member(name)?;
        let mut power = member.power();
        let logs = power.logs(name);
        let Power::On {
            machine,
            init,
            fence,
        } = &mut *power
        else {
            return Ok(());
        };
        // The kernel ends every process of the PID namespace with its first one.
        kill(Pid::from_raw(*init as i32), Signal::SIGKILL).context(format!("kill {name}"))?;
        fence.close();
        crate::wait_until(
            &format!("the end of all processes of {name}"),
            PATIENCE,
            || !machine.is_alive(),
        )?;
        let net = member.node.place()?.net().clone();
        member.node.set_place(Some(Place::Net(net)));
        member.node.drop_servers();
        *power = Power::Crashed { logs };
        Ok(())
    }

    fn spec(&self, name: &str) -> boot::Spec {
        let mut files = self.options.files.clone();
        let daemon = self.options.daemon.as_ref();
        let own = [
            (&self.options.agent, boot::AGENT),
            (&self.options.nodectl, boot::NODECTL),
            (&daemon.map(|it| it.program.clone()), boot::DAEMON),
        ];
        for (source, target) in own {
            files.extend(
                source
                    .iter()
                    .map(|source| (source.clone(), target.to_string())),
            );
        }
        let members = self.nodes.iter().map(|(name, member)| {
            (
                name.clone(),
                member.number,
                member.node.v4(),
                member.node.v6(),
            )
        });
        boot::Spec::new(name, &self.options, files, &members.collect::<Vec<_>>())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for (name, member) in &self.nodes {
            // On the way out; a node that will not die is killed with its leash just below.
            let _ = self.crash(name);
            *member.power() = Power::Off {
                logs: String::new(),
            };
        }
    }
}

impl Member {
    fn power(&self) -> MutexGuard<'_, Power> {
        self.power.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Power {
    fn logs(&self, name: &str) -> String {
        let init = match self {
            Self::Off { logs } | Self::Crashed { logs } => return logs.clone(),
            Self::On { init, .. } => init,
        };
        let mut all = String::new();
        for log in boot::LOGS {
            let tail = tail(&format!("/proc/{init}/root{log}"), 6000)
                .unwrap_or_else(|error| error.to_string());
            all += &format!("--- {name}:{log}\n{}\n", tail.trim_end());
        }
        all
    }
}

/// The last `length` bytes of a file, from a line's beginning.
fn tail(path: &str, length: u64) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let skipped = file.metadata()?.len().saturating_sub(length);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(match text.split_once('\n') {
        Some((_, rest)) if skipped > 0 => rest.to_string(),
        _ => text,
    })
}
