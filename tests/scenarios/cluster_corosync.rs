//! Corosync as a daemon sees it, by `gather`, which prints what it is told: what one member sees of gatherings and
//! messages all see, in the same order, whatever happens to processes, nodes, the ring and Corosync itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::sync::{Arc, Mutex, PoisonError};

use lab::cluster::{PATIENCE, Signal};
use lab::{Cluster, ClusterOptions, Context, Error, Lab, Result, Running, wait_until};
use serde_json::Value;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const GATHER: &str = "/usr/sbin/gather";

fn cluster(lab: &Lab) -> Result<Cluster> {
    let options = ClusterOptions {
        pacemaker: false,
        files: vec![(lab::built("gather")?, GATHER.into())],
        ..ClusterOptions::default()
    };
    Cluster::start(lab, &NODES, options)
}

/// Who hears each other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gathering {
    ring: (u64, u64),
    members: BTreeMap<u64, u64>,
}

/// What a member was told; of messages who said what.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Members(Gathering, BTreeSet<u64>),
    Message(u64, String),
    Quorate(bool),
    /// It has joined, as this process.
    Joined(u64),
    /// It waits for Corosync, or has lost it.
    Without,
    Other(Value),
}

fn pair(value: &Value) -> Option<(u64, u64)> {
    let [a, b] = value.as_array()?.as_slice() else {
        return None;
    };
    a.as_u64().zip(b.as_u64())
}

impl Told {
    fn read(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let ring = || pair(&value["ring"]);
        if let Some(members) = value["members"].as_array() {
            let members = members.iter().map(pair).collect::<Option<_>>()?;
            let gathering = Gathering {
                ring: ring()?,
                members,
            };
            let lost = value["lost"].as_array()?.iter().map(Value::as_u64);
            return Some(Told::Members(gathering, lost.collect::<Option<_>>()?));
        }
        if let Some(text) = value["message"].as_str() {
            let (node, _) = pair(&value["from"])?;
            return Some(Told::Message(node, text.into()));
        }
        if let Some(quorate) = value["quorate"].as_bool() {
            return Some(Told::Quorate(quorate));
        }
        if let Some((_, pid)) = pair(&value["joined"]) {
            return Some(Told::Joined(pid));
        }
        if value.get("waits").or(value.get("parted")).is_some() {
            return Some(Told::Without);
        }
        Some(Told::Other(value))
    }
}

/// A process that listens on a node; it ends with this.
struct Listener {
    name: String,
    number: u64,
    running: Running,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Listener {
    fn start(cluster: &Cluster, name: &str) -> Result<Self> {
        let number = name.trim_start_matches('n').parse().context(name)?;
        let argv = [GATHER, "scenario"];
        let mut running = cluster.node(name)?.exec(&argv).spawn_watching_stdin()?;
        let told = Arc::new(Mutex::new(Vec::new()));
        let stdout = running.child().stdout.take().context("its stdout")?;
        let to = told.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let told = Told::read(&line).unwrap_or(Told::Other(line.into()));
                to.lock().unwrap_or_else(PoisonError::into_inner).push(told);
            }
        });
        Ok(Listener {
            name: name.into(),
            number,
            running,
            told,
        })
    }

    /// All that it was told so far.
    fn told(&self) -> Vec<Told> {
        let told = self.told.lock();
        told.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn obey(&mut self, line: &str) -> Result<()> {
        let stdin = self.running.child().stdin.as_mut().context("its stdin")?;
        writeln!(stdin, "{line}").context(&self.name)
    }

    /// Its own process, as it is now.
    fn pid(&self) -> Result<u64> {
        let told = self.told();
        let joined = told.iter().rev().find_map(|told| match told {
            Told::Joined(pid) => Some(*pid),
            _ => None,
        });
        joined.context(format!("{} has not joined", self.name))
    }

    /// The gathering that it is in.
    fn now(&self) -> Option<Gathering> {
        let last = gatherings(self.told()).pop();
        last.map(|(gathering, _)| gathering)
    }

    /// What it was told of something else, by its name, after so much of everything.
    fn other(&self, name: &str, after: usize) -> Option<Value> {
        let told = self.told().into_iter().skip(after);
        let mut others = told.filter_map(|told| match told {
            Told::Other(value) => value.get(name).cloned(),
            _ => None,
        });
        others.next()
    }

    fn quorate(&self) -> Option<bool> {
        let told = self.told();
        told.iter().rev().find_map(|told| match told {
            Told::Quorate(quorate) => Some(*quorate),
            _ => None,
        })
    }

    /// What it was told of gatherings and messages after this one.
    fn since(&self, begin: &Told) -> Result<Vec<Told>> {
        let told = self.told();
        let after = told.iter().position(|told| told == begin);
        let after = after.context(format!("{} was never told {begin:?}", self.name))?;
        let agreed = |told: &&Told| matches!(told, Told::Members(..) | Told::Message(..));
        Ok(told[after..].iter().filter(agreed).cloned().collect())
    }
}

/// Waits until these are in one gathering, and nobody else is; gives it.
fn gathered(listeners: &[&Listener]) -> Result<Gathering> {
    let what = format!("a gathering of {}", listeners.len());
    wait_until(&what, PATIENCE, || {
        let mut wanted = BTreeMap::new();
        for listener in listeners {
            wanted.insert(listener.number, listener.pid()?);
        }
        let seen: Vec<_> = listeners.iter().map(|listener| listener.now()).collect();
        match &seen[0] {
            Some(first) if first.members == wanted && seen.iter().all(|it| *it == seen[0]) => {
                Ok(first.clone())
            }
            _ => Err(Error::new(format!("wanted {wanted:?}, seen {seen:?}"))),
        }
    })
}

/// Has each of these say something of its own, several times, and waits until all have heard all of it; gives what was
/// said first.
fn talk(listeners: &mut [&mut Listener], topic: &str) -> Result<Told> {
    const TIMES: usize = 20;
    for number in 0..TIMES {
        for listener in &mut *listeners {
            listener.obey(&format!("say {topic} {number}"))?;
        }
    }
    let all = TIMES * listeners.len();
    let is_it = |told: &&Told| matches!(told, Told::Message(_, text) if text.starts_with(&format!("{topic} ")));
    for listener in &*listeners {
        wait_until("all messages", PATIENCE, || {
            match listener.told().iter().filter(is_it).count() {
                heard if heard == all => Ok(()),
                heard => Err(Error::new(format!(
                    "{} has heard {heard} of {all}",
                    listener.name
                ))),
            }
        })?;
    }
    let told = listeners[0].told();
    told.iter().find(is_it).cloned().context(topic)
}

/// All of these were told the same from there on; gives what.
#[track_caller]
fn expect_same(listeners: &[&Listener], since: &Told) -> Result<Vec<Told>> {
    let heard = listeners[0].since(since)?;
    for other in &listeners[1..] {
        let others = other.since(since)?;
        let same = heard
            .iter()
            .zip(&others)
            .take_while(|(a, b)| a == b)
            .count();
        let differ = (heard.get(same), others.get(same));
        let who = (&listeners[0].name, &other.name);
        assert_eq!(differ, (None, None), "{who:?} after {same} alike");
    }
    Ok(heard)
}

/// The gatherings among what was told, with the nodes that were lost.
fn gatherings(told: Vec<Told>) -> Vec<(Gathering, BTreeSet<u64>)> {
    let gatherings = told.into_iter().filter_map(|told| match told {
        Told::Members(gathering, lost) => Some((gathering, lost)),
        _ => None,
    });
    gatherings.collect()
}

#[test]
fn processes_that_come_and_go_are_seen_by_all_at_the_same_place() -> Result<()> {
    let lab = Lab::new("processes")?;
    let cluster = cluster(&lab)?;
    let mut n1 = Listener::start(&cluster, "n1")?;
    let alone = gathered(&[&n1])?;
    let mut n2 = Listener::start(&cluster, "n2")?;
    let mut n3 = Listener::start(&cluster, "n3")?;
    let three = gathered(&[&n1, &n2, &n3])?;
    assert_eq!(alone.ring, three.ring);
    let first = talk(&mut [&mut n1, &mut n2, &mut n3], "first")?;
    expect_same(&[&n1, &n2, &n3], &first)?;

    // A daemon is killed, and another one started.
    cluster
        .node("n2")?
        .run(&["kill", "-KILL", &n2.pid()?.to_string()])?;
    let two = gathered(&[&n1, &n3])?;
    n2 = Listener::start(&cluster, "n2")?;
    let another = gathered(&[&n1, &n2, &n3])?;
    let second = talk(&mut [&mut n1, &mut n2, &mut n3], "second")?;
    expect_same(&[&n1, &n2, &n3], &second)?;

    // One leaves and joins again, while the others talk.
    for number in 0..200 {
        n2.obey(&format!("say meanwhile {number}"))?;
        n3.obey(&format!("say too {number}"))?;
    }
    n1.obey("again")?;
    wait_until("n1 to be back", PATIENCE, || {
        gatherings(n2.told()).len() >= 3
    })?;
    assert_eq!(gathered(&[&n1, &n2, &n3])?, another, "the same process");
    let third = talk(&mut [&mut n1, &mut n2, &mut n3], "third")?;
    expect_same(&[&n1, &n2, &n3], &third)?;

    let heard = expect_same(&[&n2, &n3], &second)?;
    assert!(heard.len() > 460, "{}", heard.len());
    let heard = n3.since(&first)?;
    let without_n1 = Gathering {
        ring: two.ring,
        members: [(2, n2.pid()?), (3, n3.pid()?)].into(),
    };
    let expected = [two, another.clone(), without_n1, another];
    assert_eq!(
        gatherings(heard),
        expected.map(|gathering| (gathering, BTreeSet::new()))
    );
    Ok(())
}

#[test]
fn nodes_that_are_lost_and_rings_that_merge_are_told_alike() -> Result<()> {
    let lab = Lab::new("rings")?;
    let cluster = cluster(&lab)?;
    let mut n1 = Listener::start(&cluster, "n1")?;
    let mut n2 = Listener::start(&cluster, "n2")?;
    let mut n3 = Listener::start(&cluster, "n3")?;
    let begin = gathered(&[&n1, &n2, &n3])?;
    let first = talk(&mut [&mut n1, &mut n2, &mut n3], "first")?;

    // The ring is cut: two sides, each with its own talk.
    lab.cable("n3", false)?;
    let two = gathered(&[&n1, &n2])?;
    let alone = gathered(&[&n3])?;
    let quorate = |listener: &Listener, wanted| {
        wait_until("quorum told", PATIENCE, || {
            listener.quorate() == Some(wanted)
        })
    };
    quorate(&n1, true)?;
    quorate(&n3, false)?;
    talk(&mut [&mut n1, &mut n2], "together")?;
    talk(&mut [&mut n3], "alone")?;
    lab.cable("n3", true)?;
    let merged = gathered(&[&n1, &n2, &n3])?;
    quorate(&n3, true)?;
    let second = talk(&mut [&mut n1, &mut n2, &mut n3], "second")?;
    expect_same(&[&n1, &n2, &n3], &second)?;
    let heard = expect_same(&[&n1, &n2], &first)?;
    assert_eq!(
        gatherings(heard.clone()),
        [(two.clone(), [3].into()), (merged.clone(), [].into())]
    );
    let from_there =
        |told: &Told| matches!(told, Told::Message(3, text) if text.starts_with("alone"));
    assert!(
        !heard.iter().any(from_there),
        "what n3 said alone has crossed"
    );
    assert_eq!(
        gatherings(n3.since(&first)?),
        [(alone.clone(), [1, 2].into()), (merged.clone(), [].into())]
    );
    let rings: BTreeSet<_> = [&begin, &two, &alone, &merged].map(|it| it.ring).into();
    assert_eq!(rings.len(), 4, "{rings:?}");

    // A node dies, and comes back with another daemon.
    cluster.power_off("n3")?;
    drop(n3);
    let two = gathered(&[&n1, &n2])?;
    cluster.power_on("n3")?;
    n3 = Listener::start(&cluster, "n3")?;
    gathered(&[&n1, &n2, &n3])?;
    let third = talk(&mut [&mut n1, &mut n2, &mut n3], "third")?;
    expect_same(&[&n1, &n2, &n3], &third)?;
    let heard = gatherings(expect_same(&[&n1, &n2], &second)?);
    assert_eq!(heard[0], (two, [3].into()));
    assert!(
        heard[1..].iter().all(|(_, lost)| lost.is_empty()),
        "{heard:?}"
    );
    Ok(())
}

#[test]
fn a_corosync_that_ends_or_stands_still_is_told_and_joined_again() -> Result<()> {
    let lab = Lab::new("restarts")?;
    let cluster = cluster(&lab)?;
    let mut n1 = Listener::start(&cluster, "n1")?;
    let mut n2 = Listener::start(&cluster, "n2")?;
    let mut n3 = Listener::start(&cluster, "n3")?;
    gathered(&[&n1, &n2, &n3])?;
    let first = talk(&mut [&mut n1, &mut n2, &mut n3], "first")?;

    // Killed: its daemon is told at once, the others when the ring has formed anew.
    cluster.kill_corosync("n3", Signal::SIGKILL)?;
    let without = |listener: &Listener| {
        wait_until("the loss to be told", PATIENCE, || {
            listener.told().last() == Some(&Told::Without)
        })
    };
    without(&n3)?;
    let two = gathered(&[&n1, &n2])?;
    cluster.rejoin("n3")?;
    gathered(&[&n1, &n2, &n3])?;
    let second = talk(&mut [&mut n1, &mut n2, &mut n3], "second")?;
    let heard = gatherings(expect_same(&[&n1, &n2], &first)?);
    assert_eq!(heard[0], (two, [3].into()));

    // Stopped in order: its daemon has left, and is not lost.
    cluster.leave("n3")?;
    without(&n3)?;
    let still = gathered(&[&n1, &n2])?;
    wait_until("another ring", PATIENCE, || {
        n1.now().is_some_and(|now| now.ring != heard[1].0.ring)
    })?;
    cluster.rejoin("n3")?;
    gathered(&[&n1, &n2, &n3])?;
    let third = talk(&mut [&mut n1, &mut n2, &mut n3], "third")?;
    let heard = gatherings(expect_same(&[&n1, &n2], &second)?);
    assert!(heard.iter().all(|(_, lost)| lost.is_empty()), "{heard:?}");
    assert_eq!(heard[0].0.members, still.members);

    // Standing still: nobody gets in.
    cluster.kill_corosync("n2", Signal::SIGSTOP)?;
    let waiting = Listener::start(&cluster, "n2")?;
    let two = gathered(&[&n1, &n3])?;
    assert_eq!(waiting.told(), []);
    // Its daemon is not held up by what is not taken, and is told what has happened once it goes on.
    let before = n2.told().len();
    n2.obey("burst 2000 10")?;
    wait_until("a refusal", PATIENCE, || n2.other("refused", before))?;
    cluster.kill_corosync("n2", Signal::SIGCONT)?;
    wait_until("the newcomer", PATIENCE, || waiting.pid())?;
    wait_until("all of it sent", PATIENCE, || n2.other("burst", before))?;
    drop(n2);
    let all = gathered(&[&n1, &waiting, &n3])?;
    n2 = waiting;
    let fourth = talk(&mut [&mut n1, &mut n2, &mut n3], "fourth")?;
    expect_same(&[&n1, &n2, &n3], &fourth)?;
    let heard = gatherings(expect_same(&[&n1, &n3], &third)?);
    assert_eq!(heard.first(), Some(&(two, [2].into())));
    assert_eq!(heard.last(), Some(&(all, [].into())));
    Ok(())
}

#[test]
fn corosync_is_asked_by_root_for_what_it_takes_and_is_set_to() -> Result<()> {
    let lab = Lab::new("asked")?;
    let cluster = cluster(&lab)?;
    let mut n1 = Listener::start(&cluster, "n1")?;
    let n2 = Listener::start(&cluster, "n2")?;
    gathered(&[&n1, &n2])?;

    let mut answer = |line: &str, name: &str| {
        let before = n1.told().len();
        n1.obey(line)?;
        wait_until(line, PATIENCE, || n1.other(name, before))
    };
    let settings = answer("settings", "settings")?;
    assert_eq!(settings["configured_token"], 1000);
    // token_coefficient for the third node, and consensus is 1.2 times that.
    assert_eq!(settings["token"], 1650);
    assert_eq!(settings["consensus"], 1980);
    assert_eq!(settings["two_node"], false);
    let names = serde_json::json!({"1": "n1", "2": "n2", "3": "n3"});
    assert_eq!(settings["names"], names);
    let members = serde_json::json!({"1": "joined", "2": "joined", "3": "joined"});
    assert_eq!(settings["members"], members);

    // The longest message arrives, a longer one is not sent.
    const LONGEST: usize = 1024 * 1024 - 1024;
    answer(&format!("burst 1 {LONGEST}"), "burst")?;
    let refused = answer(&format!("burst 1 {}", LONGEST + 1), "error")?;
    let sentence = refused.as_str().unwrap_or_default();
    assert!(sentence.contains("in one piece"), "{refused}");
    // What Corosync does not take at once comes later.
    let refused = answer("burst 300 100000", "refused")?;
    let sentence = refused.as_str().unwrap_or_default();
    assert!(sentence.contains("try again"), "{refused}");
    let heard = || {
        let told = n2.told().into_iter().filter_map(|told| match told {
            Told::Message(1, text) => Some(text.len()),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    wait_until("all of it", PATIENCE, || heard().len() == 301)?;
    assert_eq!(heard(), [&[LONGEST][..], &[100_000; 300]].concat());

    let node = cluster.node("n1")?;
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups".split(' ');
    let argv: Vec<&str> = nobody.chain([GATHER, "scenario"]).collect();
    let refused = node.output(&argv)?;
    let sentence = String::from_utf8_lossy(&refused.stderr);
    assert!(sentence.contains("root only"), "{refused:?}");
    assert!(!refused.status.success(), "{refused:?}");
    Ok(())
}
