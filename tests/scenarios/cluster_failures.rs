//! Nodes are lost in four ways; Pacemaker fences them, the others take over their buckets, and
//! nothing is answered doubly at any time.

use std::time::SystemTime;

use lab::cluster::{Chronicle, PATIENCE, Signal};
use lab::{Context, Result};

use crate::cluster_support::*;
use crate::product::*;

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// Which node is struck.
#[derive(Clone, Copy)]
enum Victim {
    /// The one that decides for all: its successor must be elected first.
    Dc,
    Another,
}

/// What the client hears of the node until it is fenced.
#[derive(Clone, Copy, PartialEq)]
enum Meanwhile {
    Silent,
    /// Its kernel lives, and so do its rules and its cable.
    AnswersOn,
}

/// Loses a node, judges what the client sees, brings the node back and judges again.
fn survives(
    name: &str,
    address: &str,
    victim: Victim,
    meanwhile: Meanwhile,
    strike: impl Fn(&Rig, &str) -> Result<()>,
) -> Result<()> {
    let rig = Rig::start(name, &NODES, vec![Shared::new("resIP", address, 12)], 10)?;
    let dc = rig.cluster.dc()?;
    let lost = match victim {
        Victim::Dc => dc.as_str(),
        Victim::Another => NODES[usize::from(dc == NODES[0])],
    };
    let rest: Vec<&str> = NODES.into_iter().filter(|name| *name != lost).collect();

    let watch = rig.watch()?;
    let struck = SystemTime::now();
    strike(&rig, lost)?;
    let done = SystemTime::now();
    rig.lab
        .wait_until(&format!("{lost} to be fenced"), PATIENCE, || {
            rig.cluster.is_off(lost).unwrap_or(false)
        })?;
    rig.wait_well_shared(&rest)?;
    let story = watch.finish()?;

    let log = Chronicle::since(&rig.cluster, &rest, struck)?;
    let first = |what: &str| Some(struck + log.first(what)?);
    let decided = first("Initiating start operation resIP").context("nothing was started")?;
    let after = |at: SystemTime| at.duration_since(struck).unwrap_or_default().as_secs_f64();
    rig.say(format!(
        "{name}: {lost} fenced {:.2} s after the event, starts decided after {:.2} s",
        first(&format!("Peer {lost} was terminated")).map_or(f64::NAN, after),
        after(decided),
    ));
    rig.say(story.tell(name, struck, Some(decided)));
    story.expect_all_served_again()?;
    let last_word = story.last_word(lost).context("it never answered")?;
    rig.say(format!(
        "{name}: the last answer {:.2} s after the event",
        after(last_word)
    ));
    assert!(meanwhile == Meanwhile::Silent || last_word > done);
    rig.expect_clients(rig.vip(), 1000)?;

    let watch = rig.watch()?;
    let returned = SystemTime::now();
    rig.cluster.power_on(lost)?;
    rig.wait_well_shared(&NODES)?;
    let story = watch.finish()?;
    rig.say(story.tell(&format!("{name}, failback"), returned, None));
    story.expect_all_served_again()?;
    rig.expect_clients(rig.vip(), 500)
}

#[test]
fn a_killed_node() -> Result<()> {
    survives("killed", V4, Victim::Dc, Meanwhile::Silent, |rig, lost| {
        rig.cluster.power_off(lost)
    })
}

#[test]
fn a_frozen_corosync() -> Result<()> {
    survives(
        "frozen",
        V6,
        Victim::Another,
        Meanwhile::AnswersOn,
        |rig, lost| rig.cluster.kill_corosync(lost, Signal::SIGSTOP),
    )
}

#[test]
fn a_pulled_cable() -> Result<()> {
    survives("cable", V6, Victim::Dc, Meanwhile::Silent, |rig, lost| {
        rig.lab.cable(lost, false)
    })
}

#[test]
fn a_dead_user_space() -> Result<()> {
    survives(
        "crashed",
        V4,
        Victim::Another,
        Meanwhile::AnswersOn,
        |rig, lost| rig.cluster.crash(lost),
    )
}
