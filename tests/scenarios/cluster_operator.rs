//! What an administrator does with nodectl in a real cluster: configurations that it prints are loaded
//! into crm shell and pcs and carry traffic; status shows who has what, and what is wrong.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use lab::cluster::PATIENCE;
use lab::{Client, Cluster, Context, Error, Lab, Pace, Result};
use serde_json::Value;

use crate::cluster_support::with_gate;
use crate::product::*;
use crate::provisioned::PROVISION;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const BUCKETS: usize = 12;
/// What stands for the service: it runs on every node, and nothing depends on how.
const SERVICE: &str = "ocf:heartbeat:Dummy";

struct Rig {
    cluster: Cluster,
    client: Client,
    lab: Lab,
}

impl Rig {
    fn start(name: &str) -> Result<Self> {
        let lab = Lab::new(name)?;
        let client = lab.client("c1")?;
        let cluster = Cluster::start(&lab, &NODES, with_gate(SERVICES.to_vec())?)?;
        Ok(Rig {
            cluster,
            client,
            lab,
        })
    }

    fn status(&self, name: &str) -> Result<Value> {
        let text = self
            .cluster
            .node(name)?
            .run(&["nodectl", "status", "--json"])?;
        expect_fits_schema(&text)?;
        serde_json::from_str(&text).context("JSON")
    }

    /// Waits until these nodes have all buckets between them, as status on each of them says, and
    /// clients are answered by them all.
    fn wait_shared(&self, vip: &str, nodes: &[&str]) -> Result<()> {
        self.lab.wait_until("buckets on all nodes", PATIENCE, || {
            for name in nodes {
                let status = self.status(name)?;
                let vips = status["vips"].as_array().context("VIPs")?;
                let cluster = &vips.iter().find(|of| of["vip"] == vip).context(vip)?["cluster"];
                let count = |value: &Value| value.as_array().map_or(0, Vec::len);
                let members = cluster["nodes"].as_array().context("nodes")?;
                let having = members.iter().filter(|node| count(&node["buckets"]) > 0);
                let having: BTreeSet<&str> =
                    having.filter_map(|node| node["node"].as_str()).collect();
                let all: usize = members.iter().map(|node| count(&node["buckets"])).sum();
                let expected: BTreeSet<&str> = nodes.iter().copied().collect();
                let wrong = count(&cluster["nowhere"]) + count(&cluster["twice"]);
                if having != expected || all != BUCKETS || wrong > 0 {
                    return Err(Error::new(status.to_string()));
                }
            }
            Ok(())
        })?;
        expect_answered_by(&self.client, ip(vip), 120, nodes)
    }

    /// Loads what is printed for crm shell, which has nothing to say about it.
    fn load_printed(&self, address: &str, service: &str) -> Result<()> {
        let node = self.cluster.node("n1")?;
        let words = [
            "nodectl",
            "crm",
            address,
            "--nic",
            "eth0",
            "--service",
            service,
        ];
        let text = node.run(&words)?;
        let load = ["crm", "-F", "configure", "load", "update", "-"];
        let loaded = node.exec(&load).stdin(text).output()?;
        let said = String::from_utf8_lossy(&loaded.stderr).into_owned();
        let quiet = !said.contains("WARNING") && !said.contains("ERROR");
        assert!(loaded.status.success() && quiet, "{said}");
        Ok(())
    }

    /// Both addresses are shared by all nodes, by a configuration without a fault.
    fn expect_both_shared(&self) -> Result<()> {
        self.wait_shared(V4, &NODES)?;
        self.wait_shared(V6, &NODES)?;
        self.expect_verified()
    }

    /// Lines for pcs do what they should, and nothing is warned of.
    fn run_script(&self, script: &str) -> Result<()> {
        let node = self.cluster.node("n1")?;
        let done = node.exec(&["sh", "-s"]).stdin(script.to_owned()).output()?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        // Where nothing could start services pcs says so; that is the machine's.
        let mut warnings = said.lines().filter(|line| line.contains("arning"));
        let quiet = warnings.all(|line| line.contains("init system"));
        assert!(done.status.success() && quiet, "{said}");
        Ok(())
    }

    /// On a busy node too Pacemaker goes on beside a gate that waits.
    fn expect_unthrottled(&self) -> Result<()> {
        let words = [
            "crm_attribute",
            "-t",
            "crm_config",
            "-n",
            "load-threshold",
            "-G",
            "-q",
        ];
        let set = self.cluster.node("n1")?.run(&words)?;
        assert_eq!(set.trim(), "10000%");
        Ok(())
    }

    /// Neither the tool that loaded it nor Pacemaker has anything to say about the configuration.
    fn expect_verified(&self) -> Result<()> {
        let verified = self
            .cluster
            .node("n1")?
            .output(&["crm_verify", "-L", "-V"])?;
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(
            verified.status.success() && said.trim().is_empty(),
            "{said}"
        );
        Ok(())
    }
}

#[test]
fn what_is_printed_for_crm_shell_loads_and_shares_and_status_shows_a_death() -> Result<()> {
    let rig = Rig::start("crm")?;
    rig.load_printed(&format!("{V4}/24"), SERVICE)?;
    rig.expect_unthrottled()?;
    rig.wait_shared(V4, &NODES)?;
    rig.load_printed(V6, "clone-service-10-77-0-99")?;
    rig.wait_shared(V6, &NODES)?;
    rig.expect_verified()?;

    // A client's bucket, and who has it, as every node says it.
    let source = rig.client.sources_for(ip(V4), 1)[0];
    let report = rig.client.udp(
        SocketAddr::new(ip(V4), PORT),
        [(source, 40_000)],
        Pace::default(),
    )?;
    let answered = report.answered().into_values().next();
    let answered = answered.context("an answer")?.to_owned();
    for name in NODES {
        let from = format!("{source}:40000");
        let words = ["nodectl", "explain", V4, &from, "--json"];
        let said: Value =
            serde_json::from_str(&rig.cluster.node(name)?.run(&words)?).context("JSON")?;
        assert_eq!(
            said["owners"],
            serde_json::json!([answered]),
            "{name}: {said}"
        );
        let expected = if name == answered { "owned" } else { "foreign" };
        assert_eq!(said["phase"], expected, "{name}: {said}");
    }

    // A bucket that Pacemaker runs here and the kernel has not.
    let screen = || rig.cluster.node("n1")?.run(&["nodectl", "status"]);
    assert!(!screen()?.contains("DIFFERS"), "{}", screen()?);

    // Where the service must not run there are no buckets either; they are not dark.
    let service = "clone-service-10-77-0-99";
    let node = rig.cluster.node("n1")?;
    for (change, nodes) in [("--ban", &NODES[..2]), ("--clear", &NODES)] {
        node.run(&["crm_resource", change, "-r", service, "-N", "n3"])?;
        rig.wait_shared(V4, nodes)?;
        rig.wait_shared(V6, nodes)?;
    }

    // Power lost: status says so at once, and shows how the buckets come back.
    rig.cluster.power_off("n3")?;
    rig.lab
        .wait_until("the dead node in status", PATIENCE, || {
            let screen = screen()?;
            match screen.contains("UNCLEAN") || screen.contains("offline") {
                true => Ok(()),
                false => Err(Error::new(screen)),
            }
        })?;
    rig.wait_shared(V4, &["n1", "n2"])
}

#[test]
fn what_is_printed_for_pcs_loads_and_shares() -> Result<()> {
    let rig = Rig::start("pcs")?;
    let node = rig.cluster.node("n1")?;
    let words = ["nodectl", "pcs", V6, "--nic", "eth0", "--service", SERVICE];
    let script = node.run(&words)?;
    rig.run_script(&script)?;
    rig.expect_unthrottled()?;
    rig.wait_shared(V6, &NODES)?;
    rig.expect_verified()?;
    // And back, as the text says.
    let back = script
        .lines()
        .find_map(|line| line.split_once(": crm_attribute "));
    let (_, words) = back.context("how to take it back")?;
    node.run(&["sh", "-c", &format!("crm_attribute {words}")])?;
    assert!(rig.expect_unthrottled().is_err());
    Ok(())
}

/// An example of ocf/, for the lab's network and service.
fn example(text: &str) -> String {
    [
        ("10.0.0.99", V4),
        ("2001:db8::99", V6),
        ("systemd:nginx", SERVICE),
    ]
    .into_iter()
    .fold(text.to_owned(), |text, (theirs, ours)| {
        assert!(text.contains(theirs), "{theirs} is not in the example");
        text.replace(theirs, ours)
    })
}

#[test]
fn the_example_of_three_nodes_for_crm_shares() -> Result<()> {
    let rig = Rig::start("three-crm")?;
    let text = example(include_str!("../../ocf/three-nodes.crm"));
    rig.cluster.load("n1", &text)?;
    rig.expect_both_shared()
}

#[test]
fn the_example_of_three_nodes_for_pcs_shares() -> Result<()> {
    let rig = Rig::start("three-pcs")?;
    let text = example(include_str!("../../ocf/three-nodes.pcs.sh"));
    rig.run_script(&text)?;
    rig.expect_both_shared()
}

#[test]
fn the_script_for_virtual_machines_shares_an_address() -> Result<()> {
    let rig = Rig::start("vagrant")?;
    let prefixed = format!("{V4}/24");
    let words = ["sh", PROVISION, "share", &prefixed, "eth0", "3", SERVICE];
    let said = rig.cluster.node("n3")?.run(&words)?;
    assert!(
        said.contains("healthy") && said.contains("<- this node"),
        "{said}"
    );
    rig.wait_shared(V4, &NODES)
}

#[test]
fn status_shouts_what_runs_nowhere_and_shows_what_is_not_installed_here() -> Result<()> {
    let rig = Rig::start("shout")?;
    let text = rig
        .cluster
        .node("n1")?
        .run(&["nodectl", "crm", V4, "--nic", "eth0"])?;
    // With a template all parameters are elsewhere.
    let primitive = "primitive ip-10-77-0-99 ocf:rust:ClusterIP";
    assert!(text.contains(primitive), "{text}");
    let text = text.replace(primitive, "rsc_template shared ocf:rust:ClusterIP");
    let text = text.replace("\nclone ", "\nprimitive ip-10-77-0-99 @shared\nclone ");
    rig.cluster.load("n1", &text)?;
    rig.wait_shared(V4, &NODES)?;
    let clone = "clone-ip-10-77-0-99";
    rig.cluster.standby("n3")?;
    rig.lab.wait_until("a node without the VIP", PATIENCE, || {
        let screen = rig.cluster.node("n3")?.run(&["nodectl", "status"])?;
        let elsewhere = format!("{V4}: not installed here");
        let shown = screen.contains(&elsewhere) && screen.contains("standby");
        match shown {
            true => Ok(()),
            false => Err(Error::new(screen)),
        }
    })?;
    rig.cluster.online("n3")?;
    rig.wait_shared(V4, &NODES)?;
    // More instances than nodes may run: some buckets have nobody.
    rig.cluster.crm(
        "n1",
        &["resource", "meta", clone, "set", "clone-node-max", "2"],
    )?;
    let shouts = |what: &str| {
        rig.lab.wait_until(what, PATIENCE, || {
            let screen = rig.cluster.node("n1")?.run(&["nodectl", "status"])?;
            match screen.contains(what) {
                true => Ok(()),
                false => Err(Error::new(screen)),
            }
        })
    };
    shouts("DARK")?;
    // Left out, it is the number of nodes, and Pacemaker sees no fault.
    let change = ["resource", "meta", clone, "delete", "clone-max"];
    rig.cluster.crm("n1", &change)?;
    shouts("CLONE-MAX is left out, so it is the number of nodes: 3 instances for 12")
}

/// The classic configuration of two nodes, as it stands where it was not changed since 2009.
const CLASSIC: &str = "primitive resIP ocf:heartbeat:IPaddr2 \
  params ip=10.77.0.99 nic=eth0 cidr_netmask=24 clusterip_hash=sourceip-sourceport \
  op monitor interval=10s meta resource-stickiness=0\n\
  clone cloneIP resIP meta globally-unique=true clone-max=12 clone-node-max=12 target-role=Stopped\n";

/// The lines of a block of the chapter on migration: that which has this word in it.
fn migration(word: &str) -> String {
    let document = include_str!("../../docs/agent.md");
    let (_, chapter) = document
        .split_once("## Migration from IPaddr2")
        .expect("the chapter");
    let blocks = chapter.split("\n\n");
    let block = blocks.filter(|block| block.starts_with("       "));
    let mut found = block.filter(|block| block.contains(word));
    let lines = found.next().expect("such a block").lines();
    lines
        .map(|line| line.trim_start().to_owned() + "\n")
        .collect()
}

/// What runs IPaddr2 is ours by the documented lines, with nothing else changed; and it is shared.
fn expect_migrated(name: &str, word: &str, make: impl Fn(&Rig) -> Result<()>) -> Result<()> {
    let rig = Rig::start(name)?;
    make(&rig)?;
    let node = rig.cluster.node("n1")?;
    let configured = || node.run(&["cibadmin", "-Q", "-o", "resources"]);
    let before = configured()?;
    assert!(before.contains("IPaddr2"), "{before}");
    // What differs is what diff says by its exit code.
    let lines = migration(word).replace("diff old.xml cib.xml", "! diff old.xml cib.xml");
    let done = node.exec(&["sh", "-ec", &lines]).output()?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    let after = configured()?;
    let agents = |text: &str| {
        let words = text.split_whitespace().map(str::to_owned);
        let agent = |word: &String| word.starts_with("type=") || word.starts_with("provider=");
        words.filter(agent).collect::<BTreeSet<String>>()
    };
    let has = |text: &str, word: &str| agents(text).iter().any(|agent| agent.contains(word));
    assert!(has(&after, "ClusterIP") && has(&after, "rust"), "{after}");
    assert!(!has(&after, "IPaddr2"), "{after}");
    let words = |text: &str| text.split_whitespace().count();
    assert_eq!(words(&before), words(&after), "{after}");
    node.run(&["crm_resource", "--cleanup", "-r", "cloneIP"])?;
    node.run(&[
        "crm_resource",
        "--meta",
        "-r",
        "cloneIP",
        "-p",
        "target-role",
        "-v",
        "Started",
    ])?;
    rig.wait_shared(V4, &NODES)
}

#[test]
fn the_documented_lines_for_crm_shell_change_the_one_word() -> Result<()> {
    expect_migrated("word-crm", "crm configure", |rig| {
        rig.cluster.load("n1", CLASSIC)
    })
}

#[test]
fn the_documented_lines_for_pcs_change_the_one_word() -> Result<()> {
    expect_migrated("word-pcs", "pcs cluster cib ", |rig| {
        let words = "pcs cluster cib made.xml && cp made.xml bare.xml && pcs -f made.xml resource create resIP \
            ocf:heartbeat:IPaddr2 ip=10.77.0.99 nic=eth0 cidr_netmask=24 clusterip_hash=sourceip-sourceport \
            op monitor interval=10s meta resource-stickiness=0 && pcs -f made.xml resource clone resIP cloneIP \
            meta globally-unique=true clone-max=12 clone-node-max=12 target-role=Stopped && \
            pcs cluster cib-push made.xml diff-against=bare.xml";
        rig.cluster.node("n1")?.run(&["sh", "-ec", words]).map(drop)
    })
}
