//! Services in containers: the node translates addresses for them, so their connections are not among
//! its own sockets. Their moves break nothing either.

use crate::draining_support::*;
use crate::product::*;
use crate::sharing::*;
use lab::{Error, Result, Serve};
use std::net::SocketAddr;

#[test]
fn connections_to_containers_stay_when_their_buckets_move() -> Result<()> {
    let scene = Scene::prepare("containers", "60")?;
    for node in &scene.sharing.nodes {
        let container = scene.lab.container(node, PORT)?;
        container.serve(&[Serve::Tcp(PORT)])?;
    }
    scene.start()?;
    let witness = scene.client.witness(&vips())?;
    let held = scene.hold()?;
    scene.go_on(&held)?;
    scene.move_all(0, 1)?;
    scene.go_on(&held)?;
    scene.expect_new_ones_at(&["n2-box", "n3-box"])?;
    scene.move_all(1, 2)?;
    scene.go_on(&held)?;
    // And home again.
    scene.move_all(2, 0)?;
    scene.go_on(&held)?;
    scene.expect_new_ones_at(&["n1-box", "n2-box", "n3-box"])?;
    scene.move_all(0, 1)?;
    for one in held {
        let report = one.stop()?;
        report.expect_none_lost()?;
        for flow in &report.flows {
            let by: Vec<&str> = flow.answers.keys().map(String::as_str).collect();
            assert_eq!(by == ["n1-box"], was_the_first_nodes(flow), "{flow:?}");
        }
    }
    witness.finish()?.expect_no_double_answers()?;
    // Closed connections are tracked on for a while, but they keep no bucket.
    scene.expect_nothing_left(0)
}

#[test]
fn connections_to_a_container_that_dies_are_reset_by_the_new_owner() -> Result<()> {
    let scene = Scene::prepare("lost-box", "60")?;
    for node in &scene.sharing.nodes {
        let container = scene.lab.container(node, PORT)?;
        container.serve(&[Serve::Tcp(PORT)])?;
    }
    scene.start()?;
    let held = scene.hold()?;
    scene.go_on(&held)?;
    scene.move_all(0, 1)?;
    scene.go_on(&held)?;
    scene.lab.cable("n1", false)?;
    for (vip, one) in vips().into_iter().zip(held) {
        let target = SocketAddr::new(vip, PORT);
        scene.lab.wait_until("the resets", PATIENT, || {
            match one.lost() >= count_of_first(&one) {
                true => Ok(()),
                false => Err(Error::new(format!("{target}: {} lost", one.lost()))),
            }
        })?;
        for flow in one.stop()?.flows {
            assert_eq!(flow.lost.is_some(), was_the_first_nodes(&flow), "{flow:?}");
        }
    }
    Ok(())
}
