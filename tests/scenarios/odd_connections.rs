//! Connections that are not simply established when their bucket moves: half-open ones, those of SYN
//! cookies, those that have ended, and those whose clients have vanished.

use crate::draining_support::*;
use crate::product::*;
use crate::sharing::*;
use lab::traffic::Held;
use lab::{Context, Error, HoldOptions, Host, Pace, Result};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What a client's kernel keeps to itself, as nft says it.
const HANDSHAKES_END: &str = "tcp flags & (syn | ack) == ack";
const RESETS: &str = "tcp flags & rst == rst";

/// The client sends none of these to the service, until they are let out again.
fn keep_in(client: &Host, what: &str) -> Result<()> {
    let rules = format!(
        "table inet kept {{ chain out {{ type filter hook output priority 0; \
         tcp dport {PORT} {what} drop; }}; }}"
    );
    client
        .exec(&["nft", "-f", "-"])
        .stdin(rules)
        .run()
        .map(drop)
}

fn let_out(client: &Host) -> Result<()> {
    client
        .run(&["nft", "delete", "table", "inet", "kept"])
        .map(drop)
}

/// How many of the service's sockets are in this state, in `ss`'s words.
fn sockets(host: &Host, state: &str) -> Result<usize> {
    let ours = format!("( sport = :{PORT} or dport = :{PORT} )");
    let listed = host.run(&["ss", "-Htn", "state", state, &ours])?;
    Ok(listed.lines().count())
}

/// Waits until there are so many.
fn wait_for_sockets(scene: &Scene, host: &Host, state: &str, count: usize) -> Result<()> {
    let what = format!("{count} sockets on {} in {state}", host.name());
    scene
        .lab
        .wait_until(&what, PATIENT, || match sockets(host, state)? {
            found if found == count => Ok(()),
            found => {
                let all = host.run(&["ss", "-Htan"])?;
                Err(Error::new(format!("{found} of\n{all}")))
            }
        })
}

fn cookies(scene: &Scene, when: u8) -> Result<()> {
    let mut nodes = scene.sharing.nodes.iter();
    nodes.try_for_each(|node| node.sysctl("net.ipv4.tcp_syncookies", when))
}

#[test]
fn connections_stay_where_syn_cookies_are_sent_always_and_never() -> Result<()> {
    for when in [2, 0] {
        let scene = Scene::begin("cookies", "60")?;
        cookies(&scene, when)?;
        let witness = scene.client.witness(&vips())?;
        let held = scene.hold()?;
        scene.move_all(0, 1)?;
        scene.go_on(&held)?;
        scene.expect_new_ones_at(&["n2", "n3"])?;
        for one in held {
            one.stop()?.expect_none_lost()?;
        }
        witness.finish()?.expect_no_double_answers()?;
    }
    Ok(())
}

/// Connections of which the nodes have sent their SYN-ACK when the first node's buckets move; the
/// clients complete them only then.
fn half_open(scene: &Scene, timeout: Duration) -> Result<Vec<Held>> {
    let options = HoldOptions {
        timeout,
        ..HoldOptions::default()
    };
    keep_in(&scene.client, HANDSHAKES_END)?;
    std::thread::scope(|scope| {
        let opening = vips().map(|vip| {
            scope.spawn(move || {
                let sources = scene.client.sources_for(vip, HELD);
                let target = SocketAddr::new(vip, PORT);
                scene.client.hold(target, sources, options)
            })
        });
        wait_for_sockets(scene, &scene.client, "established", 2 * HELD)?;
        scene.move_all(0, 1)?;
        let_out(&scene.client)?;
        let opened = opening.into_iter().map(|one| one.join().expect("no panic"));
        opened.collect()
    })
}

#[test]
fn a_half_open_connection_is_completed_where_it_was_begun() -> Result<()> {
    let scene = Scene::begin("half-open", "60")?;
    cookies(&scene, 0)?;
    let witness = scene.client.witness(&vips())?;
    for one in half_open(&scene, PATIENT)? {
        let report = one.stop()?;
        report.expect_none_lost()?;
        for flow in &report.flows {
            let first = flow.answers.keys().eq(["n1"]);
            assert_eq!(first, was_the_first_nodes(flow), "{flow:?}");
        }
    }
    witness.finish()?.expect_no_double_answers()
}

/// Nobody knows of them, not even the node that sent the cookie. Nodes of the lab share a kernel, and so
/// the secret of its cookies: the new owner takes them for its own. Elsewhere it would refuse them.
#[test]
fn a_half_open_connection_by_cookie_is_left_to_the_new_owner() -> Result<()> {
    let scene = Scene::begin("half-cookies", "60")?;
    cookies(&scene, 2)?;
    for one in half_open(&scene, PATIENT)? {
        let report = one.stop()?;
        report.expect_none_lost()?;
        for flow in &report.flows {
            let second = flow.answers.keys().eq(["n2"]);
            assert!(second || !was_the_first_nodes(flow), "{flow:?}");
        }
    }
    scene.expect_new_ones_at(&["n2", "n3"])
}

/// The flows of held connections, by VIP.
type Flows = Vec<(IpAddr, Vec<(IpAddr, u16)>)>;

#[test]
fn stale_sockets_say_nothing_beside_their_clients_new_connections() -> Result<()> {
    let scene = Scene::begin("stale", "60")?;
    let held = scene.hold()?;
    scene.go_on(&held)?;
    // The clients vanish, and the nodes do not hear of it.
    keep_in(&scene.client, RESETS)?;
    let mut flows = Flows::new();
    for (vip, one) in vips().into_iter().zip(held) {
        let report = one.abort()?;
        report.expect_none_lost()?;
        let of = report.flows.iter().map(|flow| (flow.src, flow.sport));
        flows.push((vip, of.collect()));
    }
    let_out(&scene.client)?;
    let stale = sockets(scene.node(0), "established")?;
    assert!(stale > HELD / 3, "{stale}");
    scene.move_all(0, 1)?;
    let witness = scene.client.witness(&vips())?;
    // They are back, from the very same ports.
    let again = hold_again(&scene, flows)?;
    scene.go_on(&again)?;
    // With the last of its flows the first node has done, and ends what nobody talks to any more.
    scene.expect_nothing_left(0)?;
    wait_for_sockets(&scene, scene.node(0), "established", 0)?;
    scene.move_all(1, 0)?;
    scene.go_on(&again)?;
    for one in again {
        one.stop()?.expect_none_lost()?;
    }
    expect_no_double_answers_but_resets(witness.finish()?)
}

/// Connections of the first node's that it has ended first, so that it is the one that waits.
fn in_time_wait(name: &str) -> Result<(Scene, Flows)> {
    let scene = Scene::begin(name, "60")?;
    let silent = HoldOptions {
        interval: Duration::from_secs(3600),
        ..HoldOptions::default()
    };
    let held = scene.hold_so(HELD, silent)?;
    scene.node(0).stop_serving();
    // A client that closes before it has heard of the end would be the one that waits.
    wait_for_sockets(&scene, scene.node(0), "established", 0)?;
    wait_for_sockets(&scene, scene.node(0), "fin-wait-1", 0)?;
    let mut flows = Flows::new();
    for (vip, one) in vips().into_iter().zip(held) {
        let ended = one.stop()?.flows.into_iter().filter(was_the_first_nodes);
        flows.push((vip, ended.map(|flow| (flow.src, flow.sport)).collect()));
    }
    scene.node(0).serve(&SERVICES)?;
    let all: usize = flows.iter().map(|(_, flows)| flows.len()).sum();
    wait_for_sockets(&scene, scene.node(0), "time-wait", all)?;
    assert!(all >= HELD / 3, "{all}");
    Ok((scene, flows))
}

/// The clients come again from the same ports, and stay.
fn hold_again(scene: &Scene, flows: Flows) -> Result<Vec<Held>> {
    let options = HoldOptions {
        interval: Duration::from_millis(100),
        ..HoldOptions::default()
    };
    let again = flows.into_iter().map(|(vip, flows)| {
        let target = SocketAddr::new(vip, PORT);
        scene.client.hold(target, flows, options)
    });
    again.collect()
}

#[test]
fn connections_that_have_ended_keep_no_bucket() -> Result<()> {
    let (scene, flows) = in_time_wait("time-wait")?;
    for (from, to, name) in [(0, 1, "n2"), (1, 0, "n1")] {
        scene.move_all(from, to)?;
        if from == 0 {
            for agent in &scene.sharing.agents {
                agent.call(scene.node(from), "monitor", 0)?.expect(7);
            }
            scene.expect_nothing_left(from)?;
        }
        for (vip, flows) in &flows {
            let pace = Pace {
                abort: true,
                timeout: PATIENT,
                ..Pace::default()
            };
            let target = SocketAddr::new(*vip, PORT);
            let report = scene.client.tcp(target, flows.clone(), pace)?;
            report.expect_all_answered().context(name)?;
            assert_eq!(report.by_node().into_keys().collect::<Vec<_>>(), [name]);
        }
    }
    Ok(())
}

/// TIME-WAIT answers every segment, and lasts longer for each; the connection that its client has begun since,
/// from the same port, may be another node's, which drains it.
#[test]
fn what_is_in_time_wait_says_nothing_beside_its_clients_new_connection() -> Result<()> {
    let (scene, flows) = in_time_wait("used-ports")?;
    scene.move_all(0, 1)?;
    let again = hold_again(&scene, flows)?;
    scene.go_on(&again)?;
    let witness = scene.client.witness(&vips())?;
    // It drains two times, with what is in TIME-WAIT on a node that adopts, and that drains itself then.
    scene.move_all(1, 0)?;
    scene.go_on(&again)?;
    let others = scene.hold()?;
    scene.move_all(0, 2)?;
    scene.go_on(&again)?;
    let seen = witness.finish()?;
    for one in again {
        for flow in &one.stop()?.flows {
            assert!(
                flow.lost.is_none() && flow.answers.keys().eq(["n2"]),
                "{flow:?}"
            );
        }
    }
    for one in others {
        one.stop()?.expect_none_lost()?;
    }
    seen.expect_no_double_answers()
}

/// Who loses the rules and not the connections serves these on, though he adopts their buckets.
#[test]
fn living_connections_go_on_where_rules_were_flushed() -> Result<()> {
    let scene = Scene::begin("flushed", "60")?;
    let held = scene.hold()?;
    scene.go_on(&held)?;
    scene.node(0).run(&["nft", "flush", "ruleset"])?;
    for agent in &scene.sharing.agents {
        for instance in instances(0) {
            agent.start(scene.node(0), instance)?;
        }
    }
    for vip in [V4, V6] {
        let adopted: BTreeSet<u64> = instances(0).map(u64::from).collect();
        assert_eq!(scene.phases(0, vip, "adopting")?, adopted);
    }
    scene.go_on(&held)?;
    for one in held {
        one.stop()?.expect_none_lost()?;
    }
    Ok(())
}
