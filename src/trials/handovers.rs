//! Daemons that hand buckets over, in every interleaving: messages that come late, daemons that are killed, started anew
//! or stopped for a while, rings that part and meet, kernels that fail, nodes that are fenced, agents that give up or are
//! killed.
//!
//! Whatever happens, at most one node answers a bucket, and nobody is told that connections are gone which somebody has;
//! and when all is quiet the node answers to which Pacemaker has given the bucket.

use super::daemons::{BUCKETS, Managed, NODES, World, id, vip};
use crate::cluster::bucket::Answer;
use crate::cluster::order::{Ask, Destination};
use proptest::prelude::*;
use std::time::Duration;

/// Something that happens.
#[derive(Debug, Clone)]
enum Event {
    /// A daemon goes on: it does one thing, or hears so many.
    Work(usize, usize),
    /// Corosync sends what a daemon has given it.
    Transmit(usize),
    Pass(u64),
    /// Pacemaker moves a bucket.
    Move(u16, usize),
    /// An agent looks whether it was answered.
    Agent(u16),
    Kill(usize),
    /// A daemon is told to end.
    End(usize),
    Begin(usize),
    Stop(usize),
    Continue(usize),
    /// Corosync is started anew.
    Corosync(usize),
    /// Power is lost.
    Die(usize),
    /// A node hears nobody any more; it hears everybody again.
    Part(usize),
    Meet(usize),
    /// So many of the next transactions fail.
    Fail(usize, u32),
    /// Pacemaker's patience with an agent is over.
    KillAgent(u16),
    /// Everybody does what there is to do.
    Settle,
}

fn happen(world: &mut World, event: &Event) {
    match *event {
        Event::Work(node, hears) => world.work(node, hears),
        Event::Transmit(node) => world.transmit(node),
        Event::Pass(ms) => world.pass(ms),
        Event::Move(_, to) if world.is_cut(to) => {}
        Event::Move(bucket, to) => match world.managed[usize::from(bucket)] {
            Managed::Started(on) if world.is_cut(on) => {}
            Managed::Started(on) if on != to => world.stops(bucket, on, to),
            Managed::Stopped => world.starts(bucket, to),
            _ => {}
        },
        Event::Agent(bucket) => world.agent(bucket),
        Event::Kill(node) => world.kill(node),
        Event::End(node) => world.end(node),
        Event::Begin(node) => world.begin(node),
        Event::Stop(node) => world.stopped(node, true),
        Event::Continue(node) => world.stopped(node, false),
        Event::Corosync(node) => world.corosync(node),
        Event::Die(node) => world.die(node),
        Event::Part(node) => world.part(node, true),
        Event::Meet(node) => world.part(node, false),
        Event::Fail(node, times) => world.nodes[node].kernel.fails = times,
        Event::KillAgent(bucket) => world.kill_agent(bucket),
        Event::Settle => world.settle(),
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let node = || 0..NODES;
    let bucket = || 0..BUCKETS;
    prop_oneof![
        30 => (node(), 1..4usize).prop_map(|(node, hears)| Event::Work(node, hears)),
        15 => node().prop_map(Event::Transmit),
        8 => prop_oneof![1..20u64, 20..1_000u64, 1_000..4_000u64].prop_map(Event::Pass),
        8 => (bucket(), node()).prop_map(|(bucket, to)| Event::Move(bucket, to)),
        10 => bucket().prop_map(Event::Agent),
        8 => Just(Event::Settle),
        1 => node().prop_map(Event::Kill),
        1 => node().prop_map(Event::End),
        3 => node().prop_map(Event::Begin),
        1 => node().prop_map(Event::Stop),
        3 => node().prop_map(Event::Continue),
        1 => node().prop_map(Event::Corosync),
        1 => node().prop_map(Event::Die),
        1 => node().prop_map(Event::Part),
        2 => node().prop_map(Event::Meet),
        2 => (node(), 1..4u32).prop_map(|(node, times)| Event::Fail(node, times)),
        1 => bucket().prop_map(Event::KillAgent),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]
    #[test]
    fn a_bucket_is_never_answered_twice_and_in_the_end_where_it_belongs(
        events in prop::collection::vec(any_event(), 1..150),
    ) {
        let mut world = World::new();
        world.settle();
        for event in &events {
            happen(&mut world, event);
            prop_assert!(!world.cuts_connections(), "connections are cut after {event:?}");
            for bucket in 0..BUCKETS {
                let answering = world.answering(bucket);
                prop_assert!(answering.len() <= 1, "{bucket}: {answering:?} after {event:?}");
            }
        }
        // All is well from now on.
        for node in 0..NODES {
            world.stopped(node, false);
            world.nodes[node].kernel.fails = 0;
            world.part(node, false);
            world.begin(node);
        }
        for _ in 0..60 {
            world.settle();
            world.pass(500);
            for bucket in 0..BUCKETS {
                let answering = world.answering(bucket);
                prop_assert!(answering.len() <= 1, "{bucket}: {answering:?} in the end");
            }
        }
        for bucket in 0..BUCKETS {
            let managed = world.managed[usize::from(bucket)];
            let right: Vec<usize> = match managed {
                Managed::Stopped => Vec::new(),
                Managed::Started(on) => vec![on],
                other => return Err(TestCaseError::fail(format!("{bucket}: {other:?} in the end"))),
            };
            prop_assert_eq!(world.answering(bucket), right, "{}: {:?}", bucket, managed);
        }
        // Everybody knows.
        for node in 0..NODES {
            let machine = &world.nodes[node].daemon.as_ref().expect("begun").machine;
            prop_assert!(machine.view().is_whole());
            for bucket in 0..BUCKETS {
                let right = world.answering(bucket).into_iter().map(id).collect();
                prop_assert_eq!(world.known(node, bucket), right, "{}", bucket);
            }
        }
    }
}

#[test]
fn a_planned_move_is_a_handover() {
    let mut world = World::new();
    world.settle();
    world.pass(6_000);
    happen(&mut world, &Event::Move(0, 0));
    world.settle();
    assert_eq!(world.managed[0], Managed::Started(0));
    happen(&mut world, &Event::Move(0, 1));
    world.settle();
    // The stop is over, and the bucket is answered as before.
    assert!(matches!(world.managed[0], Managed::Starts { on: 1, .. }));
    assert_eq!(world.answering(0), [0]);
    world.settle();
    assert_eq!(world.managed[0], Managed::Started(1));
    assert_eq!(world.answering(0), [1]);
    // No time has passed, and no kernel was told what it had done already.
    assert_eq!(world.now, Duration::from_secs(106));
    assert_eq!(world.refused, 0);
}

#[test]
fn a_daemon_that_has_just_begun_takes_what_it_is_given_at_once() {
    let mut world = World::new();
    world.settle();
    world.pass(6_000);
    happen(&mut world, &Event::Move(0, 0));
    world.settle();
    happen(&mut world, &Event::Kill(1));
    happen(&mut world, &Event::Begin(1));
    world.settle();
    happen(&mut world, &Event::Move(0, 1));
    world.settle();
    world.settle();
    assert_eq!(world.managed[0], Managed::Started(1));
    assert_eq!(world.answering(0), [1]);
    assert_eq!(world.now, Duration::from_secs(106));
}

#[test]
fn an_offer_outlives_the_daemon_that_made_it_and_whoever_else_gives_up() {
    let mut world = World::new();
    world.settle();
    world.pass(6_000);
    happen(&mut world, &Event::Move(0, 0));
    world.settle();
    world.stops(0, 0, 1);
    // The offer itself is heard by nobody: all is said anew in another gathering.
    world.work(0, 1);
    world.work(0, 1);
    world.corosync(2);
    world.settle();
    assert!(matches!(world.managed[0], Managed::Starts { on: 1, .. }));
    world.kill(0);
    world.kill_agent(0);
    for _ in 0..4 {
        world.settle();
        assert!(world.answering(0).len() <= 1, "{:?}", world.answering(0));
    }
    for _ in 0..4 {
        world.pass(8_000);
        world.settle();
    }
    assert_eq!(world.answering(0).len(), 1, "{:?}", world.managed[0]);
}

/// A claim that is heard while somebody says nothing, by one who remembers what that one held and by one who does not.
#[test]
fn who_says_nothing_is_nobody_to_agree_with() {
    let mut world = World::new();
    world.settle();
    happen(&mut world, &Event::Move(0, 0));
    world.settle();
    world.stopped(0, true);
    world.kill_agent(0);
    world.corosync(1);
    world.settle();
    world.pass(2_000);
    world.settle();
    world.stopped(0, false);
    for _ in 0..40 {
        world.settle();
        world.pass(500);
    }
    assert_eq!(world.answering(0), [1]);
    for node in 0..NODES {
        assert_eq!(world.known(node, 0), [id(1)].into());
    }
}

#[test]
fn the_end_of_a_giver_is_not_the_end_of_all_connections() {
    let mut world = World::new();
    world.settle();
    world.pass(5_000);
    // n3 has connections of it, then n1 has, and then n2 has the bucket.
    for to in [2, 0, 1] {
        happen(&mut world, &Event::Move(0, to));
        for _ in 0..3 {
            world.settle();
        }
    }
    assert_eq!(world.managed[0], Managed::Started(1));
    world.die(0);
    world.settle();
    assert!(!world.cuts_connections());
}

/// Pacemaker seldom says where a bucket starts that it stops. As long as somebody keeps one it may be claimed.
#[test]
fn what_is_stopped_everywhere_is_let_go_of_at_once() {
    let mut world = World::new();
    world.settle();
    world.pass(6_000);
    for (bucket, on) in [(0, 0), (1, 0), (2, 1)] {
        happen(&mut world, &Event::Move(bucket, on));
    }
    world.settle();
    world.settle();
    let stops = |world: &mut World, bucket: u16, on: usize| {
        let ask = Ask::Stop {
            vip: vip(),
            bucket,
            to: Destination::Unknown,
        };
        let ticket = world.ask(on, ask);
        while (0..NODES).any(|node| world.has_work(node)) {
            for node in 0..NODES {
                world.transmit(node);
                world.work(node, 4);
            }
        }
        world.answers.get(&ticket).copied()
    };
    assert_eq!(stops(&mut world, 0, 0), Some(Answer::Left));
    assert_eq!(world.answering(0), [0]);
    assert_eq!(stops(&mut world, 2, 1), Some(Answer::Left));
    assert_eq!((world.answering(0), world.answering(2)), (vec![0], vec![1]));
    // The last one is let go of by its agent, as without a daemon.
    assert_eq!(stops(&mut world, 1, 0), Some(Answer::Alone));
    world.alone(0, |kernel| {
        kernel.owned.remove(&1);
    });
    world.settle();
    assert_eq!((world.answering(0), world.answering(2)), (vec![], vec![]));
}
