//! The way from the predecessor to this agent, step by step, with the check to make after each. Pure.
//!
//! **Node by node**, where both agents hash alike (`compat`): the clone is put into maintenance, so that Pacemaker
//! neither stops, starts nor monitors its instances; each node takes over by the agent's own start what the predecessor's rules
//! serve there (`takeover`); then the resources get their new agent in the CIB, under their old names, and their
//! history is forgotten, so that Pacemaker probes, and finds every instance where it is. *Why not two clones, an old and a
//! new one?* Rules cannot name an instance: whatever they say, some number runs in both, and its bucket is answered
//! twice. *Why not only unmanaged?* The old monitors would go on, and fail. *Why is the history forgotten?* Where the
//! agent of a running resource has changed Pacemaker stops and starts it.
//!
//! **With the clone stopped** otherwise.

use super::judged::{Renewed, Shared};
use super::words::Shell;

/// Where the files of the procedure are.
const BEFORE: &str = "/root/before-migration.xml";
const TAKEOVER: &str = "/root/clusterip-takeover.sh";

/// Where a step is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// On all nodes.
    Everywhere,
    /// On one node, whichever.
    OnOne,
    /// On one node after the other, each with its check.
    InTurn,
}

impl Where {
    /// In words, which programs read too.
    pub fn name(self) -> &'static str {
        match self {
            Where::Everywhere => "every node",
            Where::OnOne => "one node",
            Where::InTurn => "one node after the other",
        }
    }
}

/// A step.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Where.
    pub on: Where,
    /// What it does.
    pub does: String,
    /// The commands, if it has any.
    pub commands: Vec<String>,
    /// The command that shows whether all is well.
    pub check: String,
    /// What it must show.
    pub expect: String,
}

/// How the verb was called, as it is called again in the steps.
#[derive(Debug, Clone, Copy)]
pub struct Invocation<'a> {
    /// For which shell.
    pub shell: Shell,
    /// What its `--compat` was.
    pub compat: Option<&'a str>,
    /// The seed that the new configuration has, where it needs one.
    pub seed: u32,
    /// Was that its `--seed`, and not chance?
    pub says_seed: bool,
}

/// The way for a clone.
pub fn steps(shared: &Shared, invoked: Invocation<'_>) -> Vec<Step> {
    match shared.is_rolling() {
        true => rolling(shared, invoked),
        false => stopped(shared, invoked),
    }
}

/// What happens meanwhile, and the way back.
pub fn remarks(shared: &Shared) -> Vec<String> {
    if !shared.is_rolling() {
        return vec![
            "The address is dark from the stop until the start, and its connections are cut."
                .to_owned(),
        ];
    }
    let clone = &shared.clone;
    vec![
        format!(
            "No bucket moves, and no connection is cut; a node's buckets are dark for some tenths of a second while it takes them \
             over. From the maintenance's beginning to its end Pacemaker leaves {clone} alone: the buckets of a node that dies \
             meanwhile stay dark until then, and nothing else should be changed."
        ),
        format!(
            "The way back, until the configuration is changed: on the nodes that have taken over, or begun to, \
             'sh {TAKEOVER} back', after which their buckets are dark; then, on one node, crm_resource --refresh -r {clone}, and \
             the maintenance's end. Pacemaker starts there anew what is missing."
        ),
    ]
}

impl Invocation<'_> {
    /// The same again, for one clone and a part of what is printed.
    fn again(self, shared: &Shared, part: &str) -> String {
        let mut line = format!("nodectl migrate {BEFORE} --clone {}", shared.clone.raw());
        if let Some(compat) = self.compat {
            line += &format!(" --compat {compat}");
        }
        if shared.addresses.iter().any(Renewed::has_new_seed) {
            line += &format!(" --seed {:#010x}", self.seed);
        }
        if self.shell != Shell::Crm {
            line += &format!(" --for {}", self.shell.name());
        }
        format!("{line} --print {part}")
    }

    fn file(self) -> &'static str {
        match self.shell {
            Shell::Crm => "/root/migrated.crm",
            Shell::Pcs => "/root/migrated.sh",
        }
    }

    /// What loads the new configuration.
    fn load(self) -> String {
        let file = self.file();
        match self.shell {
            Shell::Crm => format!("crm configure load update {file}"),
            Shell::Pcs => format!("sh {file}"),
        }
    }

    /// What shows that it is loaded.
    fn loaded(self, shared: &Shared) -> String {
        let each = shared.addresses.iter().map(|renewed| {
            format!(
                "cibadmin --query --xpath \"//primitive[@id='{}']\" | grep -c 'provider=\"rust\"'",
                renewed.found.id.raw()
            )
        });
        each.collect::<Vec<_>>().join("; ")
    }
}

fn installed() -> Step {
    Step {
        on: Where::Everywhere,
        does: "Install the package (README, Install). Nothing changes by that.".to_owned(),
        commands: Vec::new(),
        check: "crm_resource --show-metadata ocf:rust:ClusterIP | grep -c 'name=\"compat\"'"
            .to_owned(),
        expect: "1: the agent is there, and knows compat".to_owned(),
    }
}

/// What both ways do to the clone, so that its number of instances stays.
fn clone_max(shared: &Shared) -> Option<String> {
    let Shared { clone, buckets, .. } = shared;
    shared.sets_clone_max.then(|| {
        format!(
            "crm_resource -r {} -m -p clone-max -v {buckets}",
            clone.raw()
        )
    })
}

fn status(shared: &Shared) -> String {
    let status = |netns: Option<&str>| {
        let netns = netns.and_then(crate::model::untrusted::quoted);
        let netns = netns.map_or(String::new(), |name| format!(" --netns {name}"));
        format!("nodectl status{netns}")
    };
    let mut each: Vec<String> = Vec::new();
    for renewed in &shared.addresses {
        let line = status(renewed.found.parameter("network_namespace"));
        if !each.contains(&line) {
            each.push(line);
        }
    }
    each.join("; ")
}

fn rolling(shared: &Shared, invoked: Invocation<'_>) -> Vec<Step> {
    let clone = shared.clone.raw();
    let status = status(shared);
    let managers: Vec<String> = shared
        .addresses
        .iter()
        .map(|renewed| format!("pacemaker:{}", renewed.found.id))
        .collect();
    let managers = managers.join(", ");
    let each = match shared.addresses.len() {
        1 => "the address",
        _ => "each address",
    };
    let in_step = "no line DARK, TWICE, DIFFERS or CLONE-MAX, and every bucket on one node";
    let mut load = vec![format!(
        "{} > {}",
        invoked.again(shared, "configuration"),
        invoked.file()
    )];
    load.extend(clone_max(shared));
    load.push(invoked.load());
    vec![
        installed(),
        Step {
            on: Where::Everywhere,
            does: format!(
                "Keep the CIB as it is now, and have the script for this node written; {TAKEOVER} is worth reading."
            ),
            commands: vec![
                format!("cibadmin --query > {BEFORE}"),
                format!("{} > {TAKEOVER}", invoked.again(shared, "takeover")),
            ],
            check: format!("sh {TAKEOVER} look"),
            expect: format!(
                "for {each} the buckets that the predecessor's rules serve on this node, together all of them once, and no error. It stops where hash, seed, MAC or number of instances of the predecessor's rules are not those of the \
                 configuration"
            ),
        },
        Step {
            on: Where::OnOne,
            does: format!("Have Pacemaker leave {clone} alone."),
            commands: vec![
                format!("crm_resource -r {clone} -m -p maintenance -v true"),
                "crm_resource --wait".to_owned(),
            ],
            check: format!("crm_resource -r {clone} -m -g maintenance"),
            expect: "true".to_owned(),
        },
        Step {
            on: Where::InTurn,
            does: "Take over what this node serves. Go on to the next node only when the check is right; the script may be run \
                   again."
                .to_owned(),
            commands: vec![format!("sh {TAKEOVER}")],
            check: status.replace("nodectl status", "nodectl status --local"),
            expect: format!(
                "{each} healthy, by the manager {managers}, with the buckets that the script has named as owned; nothing \
                 where it has named none"
            ),
        },
        Step {
            on: Where::OnOne,
            does: "When every node has taken over: the new agent, under the old name.".to_owned(),
            commands: load,
            check: invoked.loaded(shared),
            expect: "1 for each address".to_owned(),
        },
        Step {
            on: Where::OnOne,
            does: "Have Pacemaker forget what the predecessor did, and look where the new one's instances are.".to_owned(),
            commands: vec![
                format!("crm_resource --refresh -r {clone}"),
                "crm_resource --wait".to_owned(),
            ],
            check: status.clone(),
            expect: format!(
                "no line DARK, TWICE or DIFFERS, and every bucket on one node, which is the one that has taken it over. Else do not go on: \
                 crm_mon -1 says more of {clone}"
            ),
        },
        Step {
            on: Where::OnOne,
            does: format!("Have Pacemaker care for {clone} again."),
            commands: vec![
                format!("crm_resource -r {clone} -m -d maintenance"),
                "crm_resource --wait".to_owned(),
            ],
            check: status,
            expect: format!("the same, on every node, and each address healthy: {in_step}"),
        },
        Step {
            on: Where::Everywhere,
            does: "Clear up.".to_owned(),
            commands: vec![format!("rm -f {TAKEOVER} {}", invoked.file())],
            check: "nodectl status --json --local --rate 0 | grep -o '\"healthy\":true' | wc -l".to_owned(),
            expect: format!(
                "{}, one for each address, on a node that serves all of them; {BEFORE} may stay until you are sure",
                shared.addresses.len()
            ),
        },
    ]
}

fn stopped(shared: &Shared, invoked: Invocation<'_>) -> Vec<Step> {
    let clone = shared.clone.raw();
    let (stop, start) = match invoked.shell {
        Shell::Crm => ("crm resource stop", "crm resource start"),
        Shell::Pcs => ("pcs resource disable", "pcs resource enable"),
    };
    let mut load: Vec<String> = clone_max(shared).into_iter().collect();
    load.push(invoked.load());
    vec![
        Step {
            check:
                "crm_resource --show-metadata ocf:rust:ClusterIP | grep -c 'name=\"drain_timeout\"'"
                    .to_owned(),
            expect: "1: the agent is there".to_owned(),
            ..installed()
        },
        Step {
            on: Where::OnOne,
            does: "Keep the CIB as it is now, and have the new configuration written.".to_owned(),
            commands: vec![
                format!("cibadmin --query > {BEFORE}"),
                format!(
                    "{} > {}",
                    invoked.again(shared, "configuration"),
                    invoked.file()
                ),
            ],
            check: format!("cat {}", invoked.file()),
            expect: "the configuration above".to_owned(),
        },
        Step {
            on: Where::OnOne,
            does: format!("Stop {clone}, on all nodes."),
            commands: vec![format!("{stop} {clone}"), "crm_resource --wait".to_owned()],
            check: format!("crm_resource -r {clone} --locate"),
            expect: format!("that {clone} is NOT running"),
        },
        Step {
            on: Where::OnOne,
            does: "The new agent, under the old name.".to_owned(),
            commands: load,
            check: invoked.loaded(shared),
            expect: "1 for each address".to_owned(),
        },
        Step {
            on: Where::OnOne,
            does: "Clear the failures of the past, and start.".to_owned(),
            commands: vec![
                format!("crm_resource --cleanup -r {clone}"),
                format!("{start} {clone}"),
                "crm_resource --wait".to_owned(),
            ],
            check: status(shared),
            expect:
                "on every node: each address healthy, no line DARK, TWICE, DIFFERS or CLONE-MAX"
                    .to_owned(),
        },
    ]
}
