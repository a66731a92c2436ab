//! What an action of an agent takes: real processes with the environment that Pacemaker gives,
//! ours beside the shell's IPaddr2.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lab::{Context, Error, Lab, Node, Result};

use crate::report::{Missing, OperationCost, Operations};
use crate::stats::Summary;
use crate::telling::Telling;

/// The installed IPaddr2 and the library that all shell agents read.
const INSTALLED: &str = "/usr/lib/ocf/resource.d/heartbeat/IPaddr2";
const OCF_ROOT: &str = "/usr/lib/ocf";

/// What is measured.
#[derive(Clone, Debug)]
pub struct Effort {
    /// How often each action runs.
    pub runs: usize,
    /// A newer IPaddr2, to be run as a clone.
    pub ipaddr2: Option<PathBuf>,
    /// How many connections there are where some are.
    pub connections: Vec<u32>,
}

/// An agent, its parameters, and what it is called in the table.
struct Agent {
    name: &'static str,
    program: PathBuf,
    variables: Vec<(String, String)>,
    /// It runs as an instance of a clone, beside others.
    clone: bool,
    node: Node,
    /// Milliseconds, by action, in the order in which they are done.
    taken: Vec<(&'static str, Vec<f64>)>,
}

/// Measures all agents, round by round.
pub fn measure(effort: &Effort, telling: &Telling) -> Result<Operations> {
    let lab = Lab::new("bench")?;
    let scratch = Scratch::new()?;
    let mut missing = Vec::new();
    let ours = lab::built("ocf-clusterip")?;
    let mut agents = vec![Agent::new(
        "ocf:rust:ClusterIP, a clone's instance",
        &ours,
        "10.77.0.99",
        true,
        lab.node("n1")?,
        &scratch,
    )];
    let shell = [
        (
            Some(Path::new(INSTALLED)),
            "IPaddr2 as installed, a plain address",
            false,
            "n2",
            "10.77.0.98",
        ),
        (
            effort.ipaddr2.as_deref(),
            "newest IPaddr2 (nft), a clone's instance",
            true,
            "n3",
            "10.77.0.97",
        ),
    ];
    for (program, name, clone, node, vip) in shell {
        match program {
            Some(program) if program.is_file() => {
                let node = lab.node(node)?;
                // As an agent is installed: it may have been fetched as a mere file.
                let program = scratch.executable(program)?;
                agents.push(Agent::new(name, &program, vip, clone, node, &scratch));
            }
            Some(program) => missing.push(Missing {
                what: name.into(),
                why: format!("there is no {}", program.display()),
            }),
            None => missing.push(Missing {
                what: name.into(),
                why: "its file was not given: --ipaddr2 PATH".into(),
            }),
        }
    }
    missing.push(Missing {
        what: "IPaddr2 as installed, a clone's instance".into(),
        why: "it needs iptables' CLUSTERIP, which ended with Linux 6.3".into(),
    });
    telling.say(format!(
        "operations: {} runs of each action of {} agents",
        effort.runs,
        agents.len()
    ));
    let mut nothing = Vec::new();
    for run in 0..=effort.runs {
        telling.passing(format!("run {run} of {}", effort.runs));
        for agent in &mut agents {
            agent.cycle(run > 0)?;
        }
        let began = Instant::now();
        agents[0].node.run(&["true"])?;
        if run > 0 {
            nothing.push(began.elapsed().as_secs_f64() * 1000.0);
        }
    }
    Ok(costs(&agents, &nothing, missing))
}

impl Agent {
    fn new(
        name: &'static str,
        program: &Path,
        vip: &str,
        clone: bool,
        node: Node,
        scratch: &Scratch,
    ) -> Self {
        let mut variables = vec![
            ("OCF_ROOT".to_owned(), OCF_ROOT.to_owned()),
            ("HA_RSCTMP".to_owned(), scratch.path.display().to_string()),
        ];
        let mut reskey = |name: &str, value: &str| {
            variables.push((format!("OCF_RESKEY_{name}"), value.to_owned()));
        };
        reskey("ip", vip);
        reskey("nic", "eth0");
        reskey("cidr_netmask", "24");
        reskey("arp_count", "1");
        reskey("CRM_meta_timeout", "20000");
        if clone {
            reskey("CRM_meta_globally_unique", "true");
            reskey("CRM_meta_clone_max", "12");
            reskey("CRM_meta_clone_node_max", "12");
        }
        Self {
            name,
            program: program.to_owned(),
            variables,
            clone,
            node,
            taken: Vec::new(),
        }
    }

    /// Everything once: the first instance's start on the node, another's life, the last stop.
    fn cycle(&mut self, counts: bool) -> Result<()> {
        if !self.clone {
            self.call("start", "start", 0, counts)?;
            self.call("monitor", "monitor", 0, counts)?;
            return self.call("stop", "stop", 0, counts);
        }
        self.call("first start on the node", "start", 0, counts)?;
        self.call("start", "start", 1, counts)?;
        self.call("monitor", "monitor", 1, counts)?;
        self.call("stop", "stop", 1, counts)?;
        self.call("last stop on the node", "stop", 0, counts)
    }

    fn call(
        &mut self,
        what: &'static str,
        action: &str,
        instance: u32,
        counts: bool,
    ) -> Result<()> {
        let program = self.program.display().to_string();
        let mut exec = self
            .node
            .exec(&[program.as_str(), action])
            .envs(self.variables.iter().cloned());
        let number = instance.to_string();
        let interval = if action == "monitor" { "10000" } else { "0" };
        exec = exec.env("OCF_RESKEY_CRM_meta_interval", interval);
        exec = match self.clone {
            true => exec
                .env("OCF_RESKEY_CRM_meta_clone", number.as_str())
                .env("OCF_RESOURCE_INSTANCE", format!("ip:{number}")),
            false => exec.env("OCF_RESOURCE_INSTANCE", "ip"),
        };
        let began = Instant::now();
        let output = exec.output().context(self.name)?;
        let took = began.elapsed().as_secs_f64() * 1000.0;
        if !output.status.success() {
            return Err(Error::new(format!(
                "{}: {what} ended with {}: {}",
                self.name,
                output.status,
                String::from_utf8_lossy(&output.stderr).trim_end()
            )));
        }
        if counts {
            match self.taken.iter_mut().find(|(known, _)| *known == what) {
                Some((_, taken)) => taken.push(took),
                None => self.taken.push((what, vec![took])),
            }
        }
        Ok(())
    }
}

fn costs(agents: &[Agent], nothing: &[f64], missing: Vec<Missing>) -> Operations {
    let of_ours = |what: &str| {
        let mut all = agents.first()?.taken.iter();
        let (_, taken) = all.find(|(known, _)| *known == what)?;
        Some(Summary::of(taken).median)
    };
    let mut operations = Vec::new();
    for agent in agents {
        for (what, taken) in &agent.taken {
            let ms = Summary::of(taken);
            operations.push(OperationCost {
                agent: agent.name.into(),
                action: (*what).into(),
                ms,
                to_ours: of_ours(what).map(|ours| ms.median / ours),
            });
        }
    }
    Operations {
        empty_process_ms: Summary::of(nothing),
        operations,
        missing,
    }
}

/// A folder for what shell agents write, which goes with the run.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> Result<Self> {
        let name = format!("clusterip-bench-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).context(path.display())?;
        Ok(Self { path })
    }

    /// A copy that may be run.
    fn executable(&self, program: &Path) -> Result<PathBuf> {
        let name = program.file_name().context("an agent without a name")?;
        let copy = self.path.join(name);
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::copy(program, &copy)
            .and_then(|_| std::fs::set_permissions(&copy, executable))
            .context(program.display())?;
        Ok(copy)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // On the way out; an empty folder that stays does no harm.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
