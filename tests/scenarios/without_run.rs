//! Where there is nothing to be written in `/run`, or what is there is not the agent's, everything works but what
//! spares work.

use crate::kernel_support::in_user_namespace;
use crate::product::*;
use lab::{Lab, Node, Result};

/// What is done to the /run of an action, which is its own.
const STATES: [(&str, &str); 4] = [
    ("full", "mount -t tmpfs -o size=4k,nr_inodes=1 lab /run"),
    ("read-only", "mount -t tmpfs -o ro lab /run"),
    (
        "a link",
        "mount -t tmpfs lab /run; ln -s /var/empty /run/clusterip",
    ),
    ("a file", "mount -t tmpfs lab /run; touch /run/clusterip"),
];
/// The same where there are others.
const ANOTHERS: (&str, &str) = (
    "another's",
    "mount -t tmpfs lab /run; mkdir -m 777 /run/clusterip; chown 65534 /run/clusterip",
);

fn call(agent: &Agent, node: &Node, run: &str, action: &str, instance: u32) -> Result<()> {
    let script = format!("{run}; exec \"$@\"");
    let behind = ["unshare", "--mount", "sh", "-ec", &script, "sh"];
    let answer = agent.call_behind(&behind, node, action, instance)?;
    assert_eq!(
        answer.code, 0,
        "{action} with /run {run}: {}",
        answer.stderr
    );
    Ok(())
}

#[test]
fn actions_need_nothing_in_run() -> Result<()> {
    let lab = Lab::new("run")?;
    let node = &serving(&lab, &["n1"])?[0];
    let anothers = (!in_user_namespace()?).then_some(ANOTHERS);
    for drain_timeout in ["0", "60"] {
        let agent = Agent::new(V4, 4).with("drain_timeout", drain_timeout);
        for (what, run) in STATES.into_iter().chain(anothers) {
            lab.progress().say(format!("/run is {what}"));
            for instance in [0, 1] {
                call(&agent, node, run, "start", instance)?;
                call(&agent, node, run, "monitor", instance)?;
            }
            for instance in [0, 1] {
                call(&agent, node, run, "stop", instance)?;
            }
            assert_eq!(node.run(&["nft", "list", "ruleset"])?, "", "/run {what}");
            assert!(!node.run(&["ip", "addr"])?.contains(V4));
        }
    }
    Ok(())
}
