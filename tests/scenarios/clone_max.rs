//! The number of the clone's instances is that of the buckets. Where it is another one Pacemaker sees no failure,
//! so the agent says what is dark.

use crate::product::*;
use lab::{Lab, Result};

fn agent(clone_max: u16) -> Agent {
    Agent::new(V4, clone_max)
}

#[test]
fn the_stop_of_an_orphan_says_that_its_bucket_is_dark() -> Result<()> {
    let lab = Lab::new("orphan")?;
    let node = lab.node("n1")?;
    for instance in 0..3 {
        agent(3).start(&node, instance)?;
    }
    // Pacemaker's stop of an orphan comes without the clone's attributes.
    let stopped = agent(3).without_meta().call(&node, "stop", 2)?.expect(0);
    let said = "bucket 2 of 10.77.0.99 is dark from now on: there are 3 buckets";
    assert!(stopped.stderr.contains(said), "{}", stopped.stderr);
    // What is not there any more does not go dark; what is stopped in order goes elsewhere.
    for (agent, instance) in [(agent(3).without_meta(), 2), (agent(3), 1)] {
        let stopped = agent.call(&node, "stop", instance)?.expect(0);
        assert!(!stopped.stderr.contains("dark"), "{}", stopped.stderr);
    }
    Ok(())
}

#[test]
fn one_monitor_of_a_node_says_that_the_number_of_instances_is_not_that_of_the_buckets() -> Result<()>
{
    let lab = Lab::new("miscounted")?;
    let node = lab.node("n1")?;
    for instance in [1, 2] {
        agent(3).start(&node, instance)?;
    }
    for (clone_max, instance, says) in [(2, 1, true), (2, 2, false), (4, 1, true), (3, 1, false)] {
        let monitor = agent(clone_max).call(&node, "monitor", instance)?.expect(0);
        let said = format!("clone-max is {clone_max} (left out, it is the number of nodes)");
        assert_eq!(
            monitor.stderr.contains(&said),
            says,
            "{clone_max} {}",
            monitor.stderr
        );
        assert_eq!(monitor.stderr.is_empty(), !says, "{}", monitor.stderr);
    }
    Ok(())
}

#[test]
fn a_node_that_may_not_run_all_instances_is_warned_of_when_the_vip_comes_up() -> Result<()> {
    let lab = Lab::new("node-max")?;
    let node = lab.node("n1")?;
    for (node_max, warns) in [("1", true), ("3", false)] {
        let agent = agent(3).meta("clone_node_max", node_max);
        for (action, warns) in [("validate-all", warns), ("start", warns), ("start", false)] {
            let said = agent.call(&node, action, 0)?.expect(0).stderr;
            assert_eq!(
                said.contains("clone-node-max is 1"),
                warns,
                "{action}: {said}"
            );
        }
        agent.call(&node, "stop", 0)?.expect(0);
    }
    Ok(())
}
