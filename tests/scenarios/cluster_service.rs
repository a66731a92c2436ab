//! `clusteripd` as its unit has it started: with its rights alone, on file systems that it cannot write to, in a `/dev` of
//! its own. What systemd does is done here by `unshare`, `mount` and `setpriv`, by what the unit says.

use std::collections::BTreeMap;

use lab::cluster::PATIENCE;
use lab::exec::Running;
use lab::{Error, Node, Result};

use crate::cluster_support::*;
use crate::product::*;

const UNIT: &str = include_str!("../../packaging/clusteripd.service");
const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Where the daemon's lines go, and what it tells systemd.
const LOG: &str = "/var/log/clusteripd.log";
const NOTIFIED: &str = "/var/log/notified";

/// What systemd does before it starts the program: `$1` are the capabilities, `$2` the groups, `$3` the program.
const START: &str = r#"
install -d -m 0755 /run/clusteripd
exec 2>>/var/log/clusteripd.log unshare --mount --propagation private sh -euc '
    mount --bind /run/clusteripd /run/clusteripd
    mount --bind /proc/sys /proc/sys
    for hidden in /home /root /tmp /var/tmp; do mount -t tmpfs tmpfs "$hidden"; done
    mount -t tmpfs -o mode=0755 tmpfs /mnt
    for device in null zero full random urandom tty; do
        touch "/mnt/$device"
        mount --bind "/dev/$device" "/mnt/$device"
    done
    mkdir /mnt/shm
    mount --bind /dev/shm /mnt/shm
    mount --move /mnt /dev
    mount -o remount,bind,ro /dev
    cut -d " " -f 5 /proc/self/mountinfo | sort -u | while read -r place; do
        case $place in
        /dev/* | /run/clusteripd) continue ;;
        /proc/sys | /proc/sys/*) ;;
        /proc | /proc/*) continue ;;
        esac
        mount -o remount,bind,ro "$place"
    done
    umask 0077
    cd /
    exec setpriv --no-new-privs --inh-caps=-all --bounding-set="-all$1" --groups "$2" "$3"' sh "$@"
"#;

/// Hears what is said to systemd.
const LISTENER: &str = "
import os, socket
heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
heard.bind('/run/notify')
log = open('/var/log/notified', 'a', buffering=1)
print('listens', flush=True)
while True:
    log.write(heard.recv(4096).decode() + '\\n')
";

/// What the unit says of something, word by word.
fn said(name: &str) -> Vec<&'static str> {
    let lines = UNIT.lines().filter_map(|line| line.strip_prefix(name));
    let values = lines.filter_map(|rest| rest.strip_prefix('='));
    values.flat_map(str::split_whitespace).collect()
}

/// A daemon as systemd would have it.
struct Service {
    node: Node,
    _listener: Running,
    running: Option<Running>,
}

impl Service {
    fn start(node: Node) -> Result<Service> {
        node.run(&[
            "groupadd",
            "--system",
            "--force",
            said("SupplementaryGroups")[0],
        ])?;
        let mut listener = node.exec(&["python3", "-c", LISTENER]).spawn()?;
        listener.wait_for_line("listens")?;
        let mut service = Service {
            node,
            _listener: listener,
            running: None,
        };
        service.begin()?;
        Ok(service)
    }

    fn begin(&mut self) -> Result<()> {
        let capabilities = said("CapabilityBoundingSet").into_iter();
        let capabilities: String = capabilities
            .map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()))
            .collect();
        let groups = said("SupplementaryGroups").join(",");
        let program = lab::built("clusteripd")?.display().to_string();
        let words = ["sh", "-euc", START, "sh", &capabilities, &groups, &program];
        let started = self.node.exec(&words).env("NOTIFY_SOCKET", "/run/notify");
        self.running = Some(started.env("WATCHDOG_USEC", "1000000").spawn()?);
        Ok(())
    }

    fn pid(&self) -> Result<String> {
        Ok(self.node.run(&["pidof", "clusteripd"])?.trim().to_owned())
    }

    fn signal(&self, signal: &str) -> Result<()> {
        self.node.run(&["kill", "-s", signal, &self.pid()?])?;
        Ok(())
    }

    fn notified(&self) -> Result<String> {
        self.node.run(&["cat", NOTIFIED])
    }

    fn has_socket(&self) -> Result<bool> {
        let found = self
            .node
            .output(&["test", "-S", "/run/clusteripd/socket"])?;
        Ok(found.status.success())
    }

    fn wait_members(&self, rig: &Rig, number: usize) -> Result<()> {
        let all = format!("clusterip_members {number}");
        rig.lab.wait_until(&all, PATIENCE, || {
            let told = self.node.run(&["nodectl", "metrics"])?;
            match told.lines().any(|line| line == all) {
                true => Ok(()),
                false => Err(Error::new(told)),
            }
        })
    }

    /// The number behind this in the metrics; 0 where it is not there.
    fn counted(&self, begin: &str) -> Result<u64> {
        let told = self.node.run(&["nodectl", "metrics"])?;
        let found = told.lines().find_map(|line| line.strip_prefix(begin));
        let number = found.and_then(|number| number.trim().parse().ok());
        Ok(number.unwrap_or_default())
    }
}

fn rig(name: &str) -> Result<Rig> {
    Rig::start(name, &NODES, vec![Shared::new("resIP", V4, 12)], 10)
}

/// What the kernel says of a process.
fn status(service: &Service, field: &str) -> Result<String> {
    let file = format!("/proc/{}/status", service.pid()?);
    let told = service.node.run(&["cat", &file])?;
    let line = told.lines().find_map(|line| line.strip_prefix(field));
    Ok(line.unwrap_or_default().trim().to_owned())
}

#[test]
fn the_unit_leaves_the_daemon_what_it_needs_and_no_more() -> Result<()> {
    // Each of these would give it another /proc, in which the lock is another one, or other networks and users.
    for name in [
        "ProtectProc",
        "ProcSubset",
        "PrivateNetwork",
        "PrivateUsers",
        "RootDirectory",
    ] {
        assert_eq!(said(name), [""; 0], "{name}");
    }
    let rig = rig("service")?;
    let mut services = BTreeMap::new();
    for name in NODES {
        services.insert(name, Service::start(rig.cluster.node(name)?)?);
    }
    for service in services.values() {
        service.wait_members(&rig, NODES.len())?;
        // CAP_NET_ADMIN and CAP_SYS_NICE.
        for field in ["CapBnd:", "CapPrm:", "CapEff:"] {
            assert_eq!(status(service, field)?, "0000000000801000", "{field}");
        }
        assert_eq!(status(service, "NoNewPrivs:")?, "1");
        let policy = service.node.run(&["chrt", "-p", &service.pid()?])?;
        assert!(policy.contains("SCHED_RR"), "{policy}");
        let owners = ["stat", "-c", "%U:%G %a", "/run/clusteripd/socket"];
        assert_eq!(service.node.run(&owners)?.trim(), "root:clusterip 660");
    }
    // Who is in the group may look, nobody else may.
    let n1 = rig.cluster.node("n1")?;
    let by = |groups: &str| {
        let words = [
            "setpriv",
            "--reuid=nobody",
            "--regid=nogroup",
            groups,
            "nodectl",
            "metrics",
        ];
        n1.output(&words)
    };
    assert!(by("--groups=clusterip")?.status.success());
    assert!(!by("--clear-groups")?.status.success());

    // A planned move there and back.
    let probes = rig.there_and_back()?;
    for kind in ["offer", "give", "take"] {
        let begin = format!("clusterip_moves_total{{kind=\"{kind}\",outcome=\"done\"}}");
        let counted = services.values().map(|service| service.counted(&begin));
        // All but those for which agents on a busy machine are too slow: these take by themselves what was offered.
        let counted = counted.sum::<Result<u64>>()?;
        assert!((5..=8).contains(&counted), "{kind}: {counted}");
    }
    let (lost, all) = (probes.failures().len(), probes.samples.len());
    assert!(lost * 100 < all, "{lost} of {all}");
    for service in services.values() {
        // Nothing was refused to it on the way.
        let log = service.node.run(&["cat", LOG])?;
        let complaint = |line: &&str| line.contains("WARNING") || line.contains("ERROR");
        assert_eq!(log.lines().filter(complaint).collect::<Vec<_>>(), [""; 0]);
    }

    // Corosync goes and comes; the daemon is the same.
    let n3 = &services["n3"];
    let (before, grown) = (n3.pid()?, status(n3, "VmHWM:")?);
    rig.say(format!("the daemon of n3 has had {grown} at most"));
    rig.cluster.leave("n3")?;
    services["n1"].wait_members(&rig, 2)?;
    rig.cluster.rejoin("n3")?;
    for service in services.values() {
        service.wait_members(&rig, NODES.len())?;
    }
    assert_eq!(services["n3"].pid()?, before);

    // What systemd was told; a daemon that was killed leaves the socket's file, and one that ends does not.
    let n1 = services.get_mut("n1").expect("a service");
    let heard = n1.notified()?;
    assert!(heard.starts_with("READY=1"), "{heard}");
    assert!(heard.contains("WATCHDOG=1"), "{heard}");
    n1.signal("KILL")?;
    n1.running = None;
    assert!(n1.has_socket()?);
    n1.begin()?;
    n1.wait_members(&rig, NODES.len())?;
    n1.signal("TERM")?;
    rig.lab.wait_until("an orderly end", PATIENCE, || {
        match (n1.has_socket()?, n1.notified()?.contains("STOPPING=1")) {
            (false, true) => Ok(()),
            seen => Err(Error::new(format!("{seen:?}"))),
        }
    })
}

#[test]
fn a_node_without_a_daemon_beside_two_with_one_answers_nothing_twice() -> Result<()> {
    let rig = rig("mixed")?;
    let mut services = BTreeMap::new();
    for name in &NODES[..2] {
        services.insert(name, Service::start(rig.cluster.node(name)?)?);
    }
    for service in services.values() {
        service.wait_members(&rig, 2)?;
    }
    let (witness, probe) = rig.watched()?;
    for name in ["n1", "n2", "n3"] {
        rig.cluster.standby(name)?;
        let others: Vec<&str> = NODES.into_iter().filter(|other| *other != name).collect();
        rig.wait_well_shared(&others)?;
        rig.cluster.online(name)?;
        rig.wait_well_shared(&NODES)?;
    }
    probe.stop()?;
    witness.finish()?.expect_no_double_answers()
}
