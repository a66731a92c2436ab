//! Where `clusteripd` runs on all nodes a planned move is a handover; and whatever becomes of the daemons, no packet is
//! answered twice, and in the end Pacemaker has what it wants.

use lab::cluster::PATIENCE;
use lab::exec::Running;
use lab::{Error, Result};

use crate::cluster_support::*;
use crate::product::*;

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// The daemons of a cluster, which the nodes run from their boot on.
struct Daemons<'a> {
    rig: &'a Rig,
    /// Those that were begun again.
    begun: Vec<Running>,
}

impl<'a> Daemons<'a> {
    fn of(rig: &'a Rig) -> Self {
        let begun = Vec::new();
        Daemons { rig, begun }
    }

    fn begin(&mut self, name: &str) -> Result<()> {
        let node = self.rig.cluster.node(name)?;
        self.begun
            .push(node.exec(&["/usr/sbin/clusteripd"]).spawn()?);
        Ok(())
    }

    /// Sends a daemon a signal, by its number in the node's own namespace.
    fn signal(&self, name: &str, signal: &str) -> Result<()> {
        let node = self.rig.cluster.node(name)?;
        let process = node.run(&["pidof", "clusteripd"])?;
        node.run(&["kill", "-s", signal, process.trim()])?;
        Ok(())
    }

    /// Lets something happen for which buckets are offered, and waits for the first of them.
    fn offers(&self, happens: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = self.moved("offer")?;
        happens()?;
        let what = "buckets that are offered";
        self.rig
            .lab
            .wait_until(what, PATIENCE, || match self.moved("offer")? > before {
                true => Ok(()),
                false => Err(Error::new("none is offered yet")),
            })
    }

    /// How many buckets daemons have moved, by what they told their kernels.
    fn moved(&self, kind: &str) -> Result<u64> {
        let mut sum = 0;
        for name in NODES {
            // Whose daemon does not live has moved nothing that could be asked for.
            let told = self.rig.cluster.node(name)?.run(&["nodectl", "metrics"]);
            let told = told.unwrap_or_default();
            let begin = format!("clusterip_moves_total{{kind=\"{kind}\",outcome=\"done\"}} ");
            let found = told.lines().find_map(|line| line.strip_prefix(&begin));
            sum += found
                .and_then(|number| number.parse::<u64>().ok())
                .unwrap_or_default();
        }
        Ok(sum)
    }
}

/// What a handover is made of.
const KINDS: [&str; 3] = ["offer", "give", "take"];

fn kinds(daemons: &Daemons) -> Result<Vec<u64>> {
    KINDS.iter().map(|kind| daemons.moved(kind)).collect()
}

fn rig(name: &str) -> Result<Rig> {
    Rig::start_with_daemons(name, &NODES, vec![Shared::new("resIP", V4, 12)], 10)
}

#[test]
fn a_planned_move_is_a_handover() -> Result<()> {
    let rig = rig("handover")?;
    let daemons = Daemons::of(&rig);
    let before = kinds(&daemons)?;
    let probes = rig.there_and_back()?;
    // Four buckets there, four back, by a word of the node that had it; but where agents are too slow for an offer.
    let moved = kinds(&daemons)?;
    for (kind, (before, after)) in KINDS.iter().zip(before.iter().zip(moved)) {
        let times = after - before;
        rig.say(format!("{kind}: {times}"));
        assert!((5..=8).contains(&times), "{kind}: {times}");
    }
    // By its agents alone each of eight is dark for as long as Pacemaker takes from its stop to its start.
    let (lost, all) = (probes.failures().len(), probes.samples.len());
    rig.say(format!("{lost} of {all} probes lost"));
    if lost * 100 >= all {
        let logs = NODES
            .iter()
            .map(|name| rig.cluster.logs(name))
            .collect::<Result<String>>()?;
        return Err(Error::new(format!("{lost} of {all} probes lost\n{logs}")));
    }
    Ok(())
}

#[test]
fn whatever_becomes_of_the_daemons_nobody_answers_twice() -> Result<()> {
    let rig = rig("handed")?;
    let mut daemons = Daemons::of(&rig);
    let (witness, probe) = rig.watched()?;
    // n3 gives, n1 and n2 take.
    for (what, stop, who) in [
        ("the giver's daemon is killed", false, ["n3"].as_slice()),
        ("all are killed", false, &NODES),
        ("the giver's daemon is stopped", true, &["n3"]),
        ("a taker's daemon is stopped", true, &["n1"]),
    ] {
        rig.say(what);
        let offered = daemons.moved("offer")?;
        rig.cluster.standby("n3")?;
        rig.lab
            .wait_until("buckets that are offered", PATIENCE, || {
                match daemons.moved("offer")? > offered {
                    true => Ok(()),
                    false => Err(Error::new("none is offered yet")),
                }
            })?;
        for name in who {
            daemons.signal(name, if stop { "STOP" } else { "KILL" })?;
        }
        rig.wait_shared(&["n1", "n2"])?;
        for name in who {
            match stop {
                true => daemons.signal(name, "CONT")?,
                false => daemons.begin(name)?,
            }
        }
        rig.cluster.online("n3")?;
        rig.wait_shared(&NODES)?;
        rig.cluster.wait_for_daemons(&NODES)?;
        // Nothing has failed that Pacemaker would have to mend.
        assert_eq!(rig.cluster.failures()?, [], "{what}");
    }
    probe.stop()?;
    // Connections that nobody could list end, and who has the bucket then says so.
    let doubles = witness.finish()?.answers_in_turn();
    assert!(doubles.is_empty(), "{doubles:?}");
    Ok(())
}

#[test]
fn a_node_that_is_lost_in_the_midst_of_a_handover_is_fenced_and_nobody_answers_twice() -> Result<()>
{
    let rig = rig("halfway")?;
    let daemons = Daemons::of(&rig);
    let vip = rig.vip();
    let (witness, probe) = rig.watched()?;
    // n3 gives, n1 and n2 take. A node whose processes have all died goes on answering until it is fenced.
    for (what, lost, crashes) in [
        ("a taker is off", "n1", false),
        ("the giver's processes die", "n3", true),
    ] {
        rig.say(what);
        daemons.offers(|| rig.cluster.standby("n3"))?;
        match crashes {
            true => rig.cluster.crash(lost)?,
            false => rig.cluster.power_off(lost)?,
        }
        let left: Vec<&str> = ["n1", "n2"]
            .into_iter()
            .filter(|name| *name != lost)
            .collect();
        // Not evenly: Pacemaker has counted on the one that is lost.
        rig.lab
            .wait_until("buckets that are owned once", PATIENCE, || {
                rig.expect_owned_once(vip, &left)?;
                rig.cluster.wait_idle()
            })?;
        rig.lab.wait_until("a node that is off", PATIENCE, || {
            match rig.cluster.is_off(lost)? {
                true => Ok(()),
                false => Err(Error::new(format!("{lost} is on"))),
            }
        })?;
        rig.cluster.power_on(lost)?;
        rig.cluster.online("n3")?;
        rig.wait_shared(&NODES)?;
        rig.cluster.wait_for_daemons(&NODES)?;
    }
    probe.stop()?;
    let doubles = witness.finish()?.answers_in_turn();
    assert!(doubles.is_empty(), "{doubles:?}");
    Ok(())
}
