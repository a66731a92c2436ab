//! The lab's cluster tested with itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use lab::cluster::{PATIENCE, Signal};
use lab::{Cluster, ClusterOptions, Failure, Lab, Pace, Result, Serve, wait_until};

#[test]
fn a_killed_node_is_fenced_and_its_instances_move() -> Result<()> {
    let lab = Lab::new("cluster")?;
    let c1 = lab.client("c1")?;
    let options = ClusterOptions {
        serve: vec![Serve::Tcp(7000)],
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(&lab, &["n1", "n2", "n3"], options)?;
    cluster.load(
        "n1",
        "primitive dummy ocf:heartbeat:Dummy meta resource-stickiness=0 op monitor interval=10s\n\
         clone dummies dummy meta globally-unique=true clone-max=6 clone-node-max=6 interleave=true\n",
    )?;
    cluster.wait_idle()?;
    let two_each = BTreeMap::from(["n1", "n2", "n3"].map(|name| (name.to_string(), 2)));
    assert_eq!(cluster.spread("dummy")?, two_each);
    assert_eq!(cluster.failures()?, []);
    for name in cluster.names() {
        let target = (lab.node(&name)?.v4(), 7000).into();
        c1.tcp(target, c1.sources_v4(10), Pace::default())?
            .expect_all_answered()?;
    }

    // The plug is pulled; the cluster must notice, fence, and move what was there.
    cluster.power_off("n2")?;
    let started = Instant::now();
    lab.wait_until(
        "all six instances on n1 and n3",
        Duration::from_secs(60),
        || {
            let spread = cluster.spread("dummy").unwrap_or_default();
            let moved = !spread.contains_key("n2") && spread.values().sum::<usize>() == 6;
            if moved {
                Ok(())
            } else {
                Err(format!("{spread:?}"))
            }
        },
    )?;
    lab.progress().say(format!(
        "moved after {:.1} s",
        started.elapsed().as_secs_f64()
    ));
    cluster.power_on("n2")?;
    cluster.wait_idle()?;
    assert_eq!(cluster.spread("dummy")?, two_each);

    // A node whose kernel lives on is dead only when it has been fenced.
    cluster.crash("n3")?;
    assert_eq!(
        c1.ping(
            lab.node("n3")?.v4().into(),
            c1.sources_v4(3),
            Pace::default()
        )?
        .failures()
        .len(),
        0
    );
    lab.wait_until("n3 to be fenced", Duration::from_secs(60), || {
        cluster.is_off("n3").unwrap_or(false)
    })?;
    lab.wait_until(
        "all six instances on n1 and n2",
        Duration::from_secs(60),
        || {
            let spread = cluster.spread("dummy").unwrap_or_default();
            let moved = !spread.contains_key("n3") && spread.values().sum::<usize>() == 6;
            if moved {
                Ok(())
            } else {
                Err(format!("{spread:?}"))
            }
        },
    )?;

    cluster.standby("n1")?;
    cluster.wait_idle()?;
    assert_eq!(
        cluster.spread("dummy")?,
        BTreeMap::from([("n2".to_string(), 6)])
    );
    let pids = lab.holders();
    drop(cluster);
    drop(lab);
    for pid in pids {
        wait_until("a process's end", Duration::from_secs(5), || {
            !Path::new(&format!("/proc/{pid}")).exists()
        })?;
    }
    Ok(())
}
#[test]
fn nodes_leave_freeze_and_reboot() -> Result<()> {
    let lab = Lab::new("comings")?;
    let c1 = lab.client("c1")?;
    let cluster = Cluster::start(&lab, &["n1", "n2", "n3"], ClusterOptions::default())?;
    cluster.load(
        "n1",
        "primitive service ocf:lab:Service params listen=\"tcp:7000 udp:7000\" op monitor interval=10s\n\
         clone services service meta interleave=true\n",
    )?;
    cluster.wait_idle()?;
    assert_eq!(cluster.failures()?, []);
    for name in cluster.names() {
        let target = (lab.node(&name)?.v4(), 7000).into();
        c1.udp(target, c1.sources_v4(10), Pace::default())?
            .expect_all_answered()?;
    }

    cluster.leave("n3")?;
    cluster.wait_idle()?;
    let target = (lab.node("n3")?.v4(), 7000).into();
    assert_eq!(
        c1.tcp(target, c1.sources_v4(1), Pace::default())?
            .failures()[0]
            .outcome,
        Err(Failure::Refused)
    );
    cluster.rejoin("n3")?;
    cluster.wait_idle()?;
    c1.tcp(target, c1.sources_v4(1), Pace::default())?
        .expect_all_answered()?;

    cluster.kill_corosync("n1", Signal::SIGSTOP)?;
    lab.wait_until("n1 to be fenced", PATIENCE, || {
        cluster.is_off("n1").unwrap_or(false)
    })?;
    assert!(cluster.logs("n1")?.contains("A new membership"));
    cluster.power_on("n1")?;
    cluster.wait_idle()?;

    lab.cable("n2", false)?;
    lab.wait_until("n2 to be fenced", PATIENCE, || {
        cluster.is_off("n2").unwrap_or(false)
    })?;
    let status = lab
        .node("n1")?
        .output(&["fence_lab", "-o", "status", "-n", "n2"])?
        .status;
    assert_eq!(status.code(), Some(2), "n2 is off");
    lab.node("n1")?
        .run(&["fence_lab", "-o", "reboot", "-n", "n2"])?;
    cluster.wait_for_members(&["n1", "n2", "n3"])?;
    cluster.wait_idle()?;

    cluster.kill_corosync("n3", Signal::SIGKILL)?;
    lab.wait_until("n3 to be fenced", PATIENCE, || {
        cluster.is_off("n3").unwrap_or(false)
    })
}

#[test]
fn the_machine_outside_stays_as_it_was() -> Result<()> {
    let lab = Lab::new("outside")?;
    let options = ClusterOptions {
        fencing: false,
        agent: Some("/usr/lib/ocf/resource.d/heartbeat/Dummy".into()),
        nodectl: Some(lab::lab_binary()?),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(&lab, &["n1", "n2"], options)?;
    let n1 = cluster.node("n1")?;
    n1.run(&[
        "sh",
        "-c",
        "echo lost > /etc/lab-was-here; echo lost > /root/lab-was-here",
    ])?;
    assert_eq!(n1.run(&["hostname"])?.trim(), "n1");
    assert!(!Path::new("/etc/lab-was-here").exists() && !Path::new("/root/lab-was-here").exists());
    let meta_data = n1.run(&["crm_resource", "--show-metadata", "ocf:rust:ClusterIP"])?;
    assert!(meta_data.contains("Dummy"), "{meta_data}");
    assert_eq!(n1.output(&["nodectl"])?.status.code(), Some(1));
    for path in ["/usr/sbin/fence_lab", "/usr/lib/ocf/resource.d/lab"] {
        assert!(!Path::new(path).exists(), "{path}");
    }
    assert_eq!(
        cluster
            .crm("n1", &["configure", "show", "type:node"])?
            .lines()
            .count(),
        2
    );
    // The kernel's panic buttons, where it has any, are /dev/null in there.
    for trigger in ["/proc/sysrq-trigger", "/proc/sys/kernel/sysrq"] {
        if Path::new(trigger).exists() {
            assert!(n1.run(&["cat", trigger])?.is_empty(), "{trigger}");
        }
    }
    Ok(())
}
