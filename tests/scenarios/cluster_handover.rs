//! Where `clusteripd` runs on all nodes a planned move is a handover.

use std::time::Duration;

use lab::exec::Running;
use lab::{ProbeKind, Result};

use crate::cluster_support::*;
use crate::product::*;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const EVERY: Duration = Duration::from_millis(20);

/// The daemon on each of these nodes.
fn daemons(rig: &Rig, nodes: &[&str]) -> Result<Vec<Running>> {
    let program = lab::built("clusteripd")?.display().to_string();
    let mut all = Vec::new();
    for name in nodes {
        let node = rig.cluster.node(name)?;
        all.push(node.exec(&[program.as_str()]).spawn()?);
    }
    for name in nodes {
        let node = rig.cluster.node(name)?;
        rig.lab
            .wait_until("a daemon that answers", ANSWER_TIME * 10, || {
                node.run(&["nodectl", "status"]).map(|_| ())
            })?;
    }
    Ok(all)
}

#[test]
fn a_planned_move_is_a_handover() -> Result<()> {
    let vips = vec![Shared::new("resIP", V4, 12)];
    let rig = Rig::start("handover", &NODES, vips, 10)?;
    let mut daemons = daemons(&rig, &NODES)?;
    std::thread::sleep(Duration::from_secs(8));
    let vip = rig.vip();
    let sources = rig.client.sources_for(vip.address, 60);
    let witness = rig.client.witness(&[vip.address])?;
    let probe = rig
        .client
        .probe(ProbeKind::Tcp, vip.target(), sources, EVERY, ANSWER_TIME)?;
    rig.cluster.standby("n3")?;
    rig.wait_well_shared(&["n1", "n2"])?;
    rig.cluster.online("n3")?;
    rig.wait_well_shared(&NODES)?;
    let report = probe.stop()?;
    let bucket = |result: &lab::FlowResult| vip.bucket(result.src, result.sport);
    for (bucket, dark) in report.outages_by(bucket) {
        rig.say(format!("bucket {bucket}: dark {dark:?}"));
    }
    rig.say(format!(
        "{} of {} lost",
        report.failures().len(),
        report.samples.len()
    ));
    witness.finish()?.expect_no_double_answers()?;
    for daemon in &mut daemons {
        assert!(daemon.is_alive());
    }
    Ok(())
}
