//! What administrators do to a running cluster: every change ends with every bucket owned once,
//! and no request is answered doubly on the way.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use lab::cluster::PATIENCE;
use lab::{Error, FailedAction, Lab, Result};

use crate::cluster_support::*;
use crate::cluster_watch::Story;
use crate::product::*;

const NODES: [&str; 3] = ["n1", "n2", "n3"];

fn rig(name: &str, interval: u32) -> Result<Rig> {
    Rig::start(name, &NODES, vec![Shared::new("resIP", V4, 12)], interval)
}

/// Does something while the address is watched; in the end these nodes share it evenly.
fn changes(
    rig: &Rig,
    what: &str,
    nodes: &[&str],
    change: impl FnOnce() -> Result<()>,
) -> Result<Story> {
    let watch = rig.watch()?;
    let began = SystemTime::now();
    change()?;
    rig.wait_well_shared(nodes)?;
    let story = watch.finish()?;
    rig.say(story.tell(what, began, None));
    story.expect_all_served_again()?;
    rig.expect_clients(rig.vip(), 500)?;
    Ok(story)
}

/// `crm …` on n1, of whose output nothing is wanted.
fn crm(rig: &Rig, words: &[&str]) -> Result<()> {
    rig.cluster.crm("n1", words).map(drop)
}

fn expect_no_trace(rig: &Rig, node: &str) -> Result<()> {
    match rig.status(node, rig.vip())? {
        None => Ok(()),
        Some(status) => Err(Error::new(format!("{node} still has {status}"))),
    }
}

#[test]
fn standby_and_online() -> Result<()> {
    let rig = rig("standby", 10)?;
    changes(&rig, "standby", &["n1", "n3"], || rig.cluster.standby("n2"))?;
    expect_no_trace(&rig, "n2")?;
    changes(&rig, "online", &NODES, || rig.cluster.online("n2"))?;

    changes(&rig, "crm_resource --restart", &NODES, || {
        // crm shell's own word asks systemd from version 5 on.
        let restart = ["crm_resource", "--restart", "-r", "cloneIP"];
        rig.cluster.node("n1")?.run(&restart).map(drop)
    })?;
    Ok(())
}

#[test]
fn refresh_and_maintenance_touch_nothing() -> Result<()> {
    let rig = rig("untouched", 10)?;
    let n1 = rig.cluster.node("n1")?;
    let owners = rig.owners(rig.vip())?;
    changes(&rig, "crm resource refresh", &NODES, || {
        crm(&rig, &["resource", "refresh", "cloneIP"])
    })?
    .expect_none_unanswered()?;
    changes(&rig, "crm_resource --refresh", &NODES, || {
        n1.run(&["crm_resource", "--refresh"]).map(drop)
    })?
    .expect_none_unanswered()?;

    let cluster = |value: &str| crm(&rig, &["configure", "property", value]);
    let of_node = |value: &str| {
        n1.run(&[
            "crm_attribute",
            "-N",
            "n2",
            "-n",
            "maintenance",
            "-v",
            value,
        ])?;
        rig.cluster.wait_idle()
    };
    changes(&rig, "maintenance mode", &NODES, || {
        cluster("maintenance-mode=true")?;
        rig.cluster.wait_idle()?;
        cluster("maintenance-mode=false")
    })?
    .expect_none_unanswered()?;
    changes(&rig, "maintenance of n2", &NODES, || {
        of_node("true")?;
        of_node("false")
    })?
    .expect_none_unanswered()?;
    assert_eq!(rig.owners(rig.vip())?, owners);
    Ok(())
}

#[test]
fn the_whole_cluster_restarts() -> Result<()> {
    let rig = rig("restart", 10)?;
    let watch = rig.watch()?;
    let everywhere = |act: &(dyn Fn(&str) -> Result<()> + Sync)| -> Result<()> {
        std::thread::scope(|scope| {
            let acts = NODES.map(|name| scope.spawn(move || act(name)));
            acts.into_iter().try_for_each(|act| {
                act.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    };
    everywhere(&|name| rig.cluster.leave(name))?;
    for name in NODES {
        expect_no_trace(&rig, name)?;
    }
    everywhere(&|name| rig.cluster.rejoin(name))?;
    rig.wait_well_shared(&NODES)?;
    watch.finish()?.expect_all_served_again()?;
    rig.expect_clients(rig.vip(), 500)
}

#[test]
fn a_flushed_ruleset_is_repaired() -> Result<()> {
    let rig = rig("flush", 2)?;
    let n2 = rig.cluster.node("n2")?;
    let watch = rig.watch()?;
    let began = SystemTime::now();
    n2.run(&["nft", "flush", "ruleset"])?;
    let noticed = || rig.cluster.failures().is_ok_and(|list| !list.is_empty());
    rig.lab.wait_until("a failed monitor", PATIENCE, noticed)?;
    rig.wait_shared(&NODES)?;
    let story = watch.finish()?;
    rig.say(story.tell("nft flush ruleset", began, None));
    story.expect_all_served_again()?;
    for failure in rig.cluster.failures()? {
        assert_eq!(failure.node, "n2");
        assert!(failure.operation.contains("_monitor_2000"), "{failure:?}");
        assert!(failure.reason.contains("is not served"), "{failure:?}");
    }
    crm(&rig, &["resource", "cleanup", "cloneIP"])?;
    rig.wait_well_shared(&NODES)?;
    rig.expect_clients(rig.vip(), 500)
}

/// Two hashes at once would show as requests answered under the old one after the first that was
/// answered under the new one, even where nobody happens to answer doubly.
fn expect_one_hash_at_a_time(story: &Story, old: &Who, new: &Who) -> Result<()> {
    let (mut last_old, mut first_new) = (Duration::ZERO, Duration::MAX);
    for sample in &story.probes.samples {
        let Ok(node) = &sample.result.outcome else {
            continue;
        };
        let (src, sport) = (sample.result.src, sample.result.sport);
        match (old.is(node, src, sport), new.is(node, src, sport)) {
            (true, true) => {}
            (true, false) => last_old = last_old.max(sample.at),
            (false, true) => first_new = first_new.min(sample.at + sample.result.rtt),
            (false, false) => {
                let text = format!("{node} answered, under no hash its own: {sample:?}");
                return Err(Error::new(text));
            }
        }
    }
    match last_old <= first_new {
        true => Ok(()),
        false => Err(Error::new(format!(
            "asked {last_old:?} after the start and answered under the old hash, but the new one \
             was in use {first_new:?} after it"
        ))),
    }
}

/// Who answers what, at one time.
struct Who {
    vip: Shared,
    owners: BTreeMap<u16, String>,
}

impl Who {
    fn now(rig: &Rig) -> Result<Self> {
        let vip = rig.vip().clone();
        let owners = rig.owners(&vip)?;
        Ok(Self { vip, owners })
    }

    fn is(&self, node: &str, src: IpAddr, sport: u16) -> bool {
        let owner = self.owners.get(&self.vip.bucket(src, sport));
        owner.is_some_and(|owner| owner == node)
    }
}

#[test]
fn parameters_change_everywhere_or_nowhere() -> Result<()> {
    let mut rig = rig("parameters", 10)?;
    let changed = [
        ("hash_seed", "0x0badcafe", "seed", 0x0bad_cafe_u32.into()),
        ("clusterip_hash", "sourceip", "hash", "sourceip".into()),
        (
            "mac",
            "01:00:5e:11:22:33",
            "mac",
            "01:00:5e:11:22:33".into(),
        ),
    ];
    for (parameter, value, field, shown) in changed {
        let shown: serde_json::Value = shown;
        let old = Who::now(&rig)?;
        match parameter {
            "hash_seed" => rig.vips[0].hasher.seed = 0x0bad_cafe,
            "clusterip_hash" => rig.vips[0].hasher.mode = value.parse().expect("a mode"),
            _ => {}
        }
        let n1 = rig.cluster.node("n1")?;
        let story = changes(&rig, parameter, &NODES, || {
            n1.run(&["crm_resource", "-r", "resIP", "-p", parameter, "-v", value])?;
            rig.cluster.wait_idle()
        })?;
        for name in NODES {
            let status = rig.status(name, rig.vip())?.unwrap_or_default();
            assert_eq!(status[field], shown, "{name}: {status}");
        }
        expect_one_hash_at_a_time(&story, &old, &Who::now(&rig)?)?;
    }
    Ok(())
}

fn set_clone_max(rig: &Rig, buckets: u16) -> Result<()> {
    let buckets = buckets.to_string();
    crm(
        rig,
        &["resource", "meta", "cloneIP", "set", "clone-max", &buckets],
    )
}

/// Stops the clone, forgets its failures, starts it with what is configured now.
fn stop_and_start(rig: &mut Rig, buckets: u16) -> Result<()> {
    crm(rig, &["resource", "stop", "cloneIP"])?;
    rig.cluster.wait_idle()?;
    for name in NODES {
        expect_no_trace(rig, name)?;
    }
    // A start that failed bars its node for the instance until it is forgotten.
    crm(rig, &["resource", "cleanup", "cloneIP"])?;
    rig.vips[0].buckets = buckets;
    crm(rig, &["resource", "start", "cloneIP"])?;
    rig.wait_well_shared(&NODES)?;
    rig.expect_clients(rig.vip(), 500)
}

/// All buckets that the kernels own, and the numbers of buckets that they know.
fn in_the_kernels(rig: &Rig) -> Result<(Vec<u64>, Vec<u64>)> {
    let (mut owned, mut numbers) = (Vec::new(), Vec::new());
    for name in NODES {
        let Some(status) = rig.status(name, rig.vip())? else {
            continue;
        };
        let list = status["owned"].as_array().cloned().unwrap_or_default();
        owned.extend(list.iter().filter_map(serde_json::Value::as_u64));
        numbers.extend(status["buckets"].as_u64());
    }
    owned.sort_unstable();
    numbers.dedup();
    Ok((owned, numbers))
}

/// Nothing else has failed, least of all a stop, and nobody was fenced.
fn expect_refused_starts_alone(rig: &Rig, failures: &[FailedAction]) {
    for failure in failures {
        assert!(failure.operation.contains("_start_0"), "{failure:?}");
        assert_eq!(failure.code, "1", "{failure:?}");
        // Pacemaker cuts a reason off after 128 bytes; what to do must stand before that.
        assert!(
            failure.reason.contains("stop the clone first"),
            "{failure:?}"
        );
    }
    assert!(NODES.iter().all(|name| rig.cluster.is_on(name) == Ok(true)));
}

#[test]
fn clone_max_lowered_and_raised_again() -> Result<()> {
    let mut rig = rig("lowered", 2)?;
    let watch = rig.watch()?;
    set_clone_max(&rig, 6)?;
    rig.cluster.wait_idle()?;
    // The orphans are stopped; the others stay, and so does the hash, over twelve.
    assert_eq!(in_the_kernels(&rig)?, ((0..6).collect(), vec![12]));
    assert_eq!(rig.cluster.failures()?, []);
    set_clone_max(&rig, 12)?;
    rig.wait_well_shared(&NODES)?;
    watch.finish()?.expect_all_served_again()?;
    rig.expect_clients(rig.vip(), 500)?;

    set_clone_max(&rig, 6)?;
    rig.cluster.wait_idle()?;
    stop_and_start(&mut rig, 6)
}

#[test]
fn clone_max_raised_is_refused_until_the_clone_was_stopped() -> Result<()> {
    let mut rig = rig("raised", 2)?;
    let owners = rig.owners(rig.vip())?;
    let watch = rig.watch()?;
    let meta = ["resource", "meta", "cloneIP", "set", "clone-node-max", "24"];
    crm(&rig, &meta)?;
    set_clone_max(&rig, 24)?;
    rig.cluster.wait_idle()?;
    let failures = rig.cluster.failures()?;
    // Each new instance was refused by each node.
    assert_eq!(failures.len(), 12 * 3, "{failures:?}");
    expect_refused_starts_alone(&rig, &failures);
    assert_eq!(in_the_kernels(&rig)?, ((0..12).collect(), vec![12]));
    let mut now = rig.owners(rig.vip())?;
    now.retain(|bucket, _| *bucket < 12);
    assert_eq!(now, owners);
    watch.finish()?.expect_none_unanswered()?;
    rig.expect_clients(rig.vip(), 500)?;
    stop_and_start(&mut rig, 24)
}

/// A node that had lost all of its instances knows nothing of the hash that the others use.
#[test]
fn a_node_that_returns_after_clone_max_changed_uses_no_second_hash() -> Result<()> {
    let mut rig = rig("returns", 10)?;
    let watch = rig.watch()?;
    set_clone_max(&rig, 6)?;
    rig.cluster.wait_idle()?;
    rig.cluster.standby("n2")?;
    rig.cluster.wait_idle()?;
    expect_no_trace(&rig, "n2")?;
    rig.cluster.online("n2")?;
    rig.cluster.wait_idle()?;
    let (_, numbers) = in_the_kernels(&rig)?;
    assert_eq!(numbers, [12], "different numbers of buckets at once");
    watch.finish()?;
    let failures = rig.cluster.failures()?;
    expect_refused_starts_alone(&rig, &failures);
    // The returning one is refused by what it hears from the others, not by its own kernel.
    assert!(
        failures.iter().any(|failure| failure.node == "n2"),
        "{failures:?}"
    );
    stop_and_start(&mut rig, 6)
}

/// What Pacemaker does at once on a machine with many processors: many starts of one VIP, all
/// refused, and the stop of another. A stop that had to wait for them would fail in the end, and
/// the node would be fenced for nothing.
#[test]
fn refused_starts_keep_no_other_vip_from_stopping() -> Result<()> {
    let lab = Lab::new("refused")?;
    let (n1, n2) = (lab.node("n1")?, lab.node("n2")?);
    Agent::new(V4, 12).start(&n1, 0)?;
    let other = Agent::new(V6, 12).variable("OCF_RESOURCE_INSTANCE", "resIP6:0");
    other.start(&n2, 0)?;
    let refused = Agent::new(V4, 24);
    std::thread::scope(|scope| {
        let start = |instance| {
            let (refused, n2) = (&refused, &n2);
            scope.spawn(move || refused.call(n2, "start", instance))
        };
        let starts: Vec<_> = (12..20).map(start).collect();
        // All of them are there by then, as far as it matters: the stop must pass them anyhow.
        lab.wait_until("a start that waits", PATIENCE, || {
            n2.output(&["pgrep", "-f", "ocf-clusterip start"])
                .is_ok_and(|found| found.status.success())
        })?;
        let stopped = other.call(&n2, "stop", 0)?;
        for start in starts {
            let answer = start.join().expect("no panic")?.expect(1);
            assert!(
                answer.reason().starts_with("stop the clone first"),
                "{answer:?}"
            );
        }
        stopped.expect(0);
        Ok(())
    })
}
