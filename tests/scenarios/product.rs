//! The product as its users call it: the agent with an environment, nodectl with arguments.

use clusterip::model::bucket::BucketCount;
use clusterip::model::hash::{Flow, HashMode, Hasher, Layout};
use clusterip::model::mac::Mac;
use clusterip::model::vip::{L2Mode, Manager, Vip};
use lab::{Client, Error, Host, Lab, Node, Pace, Result, Serve};
use nix::fcntl::{Flock, FlockArg};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub const V4: &str = "10.77.0.99";
pub const V6: &str = "fd77::99";
pub const PORT: u16 = 7000;
pub const SERVICES: [Serve; 2] = [Serve::Tcp(PORT), Serve::Udp(PORT)];

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// What an action of the agent answered.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    /// The sentence for the operator.
    pub fn reason(&self) -> &str {
        let mut lines = self.stderr.lines();
        lines
            .find_map(|line| line.strip_prefix("ocf-exit-reason:"))
            .unwrap_or_default()
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.stderr);
        self
    }
}

/// The agent as Pacemaker calls it for an instance of a globally unique clone.
#[derive(Clone)]
pub struct Agent {
    variables: BTreeMap<String, String>,
}

impl Agent {
    pub fn new(vip: &str, buckets: u16) -> Self {
        let timeout = lab::wait::patient(Duration::from_secs(20));
        let mut agent = Agent {
            variables: BTreeMap::new(),
        };
        agent
            .variables
            .insert("OCF_ROOT".into(), "/usr/lib/ocf".into());
        agent
            .with("ip", vip)
            .with("nic", "eth0")
            .with("arp_count", "1")
            // Without a cluster nobody can tell who drains; scenarios about that say otherwise.
            .with("drain_timeout", "0")
            .meta("clone_max", &buckets.to_string())
            .meta("globally_unique", "true")
            .meta("timeout", &timeout.as_millis().to_string())
            .meta("interval", "10000")
    }

    pub fn with(mut self, parameter: &str, value: &str) -> Self {
        let name = format!("OCF_RESKEY_{parameter}");
        self.variables.insert(name, value.into());
        self
    }

    pub fn without(mut self, parameter: &str) -> Self {
        self.variables.remove(&format!("OCF_RESKEY_{parameter}"));
        self
    }

    pub fn meta(self, name: &str, value: &str) -> Self {
        self.with(&format!("CRM_meta_{name}"), value)
    }

    pub fn without_meta(mut self) -> Self {
        let is_meta = |name: &str| name.starts_with("OCF_RESKEY_CRM_meta_");
        self.variables.retain(|name, _| !is_meta(name));
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// The environment of an action for this instance.
    pub fn environment(&self, instance: u32) -> BTreeMap<String, String> {
        let mut all = self.variables.clone();
        let name = all.entry("OCF_RESOURCE_INSTANCE".into());
        name.or_insert_with(|| format!("resIP:{instance}"));
        if all.contains_key("OCF_RESKEY_CRM_meta_clone_max") {
            all.insert("OCF_RESKEY_CRM_meta_clone".into(), instance.to_string());
        }
        all
    }

    pub fn call(&self, host: &Host, action: &str, instance: u32) -> Result<Answer> {
        self.call_behind(&[], host, action, instance)
    }

    /// The same behind a program that takes a command, such as `setpriv`.
    pub fn call_behind(
        &self,
        before: &[&str],
        host: &Host,
        action: &str,
        instance: u32,
    ) -> Result<Answer> {
        let program = lab::built("ocf-clusterip")?.display().to_string();
        let mut command = before.to_vec();
        command.extend([program.as_str(), action]);
        let output = host
            .exec(&command)
            .envs(self.environment(instance))
            .output()?;
        Ok(Answer {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    pub fn start(&self, host: &Host, instance: u32) -> Result<()> {
        self.call(host, "start", instance)?.expect(0);
        Ok(())
    }
}

/// What actions lock, one for each network namespace.
pub const LOCK: &str = "/proc/sys/net/ipv4/tcp_fastopen_key";

/// Has the lock of a host's actions, which nobody holds.
pub fn hold_lock(host: &Host) -> Result<Flock<File>> {
    host.within(|| {
        let file = File::open(LOCK).expect("root's rights");
        Flock::lock(file, FlockArg::LockExclusive).expect("nobody has it")
    })
}

/// Nothing of the agent's and no VIP is on a host, soon.
pub fn wait_until_gone(lab: &Lab, host: &Host, vip: &str) -> Result<()> {
    lab.wait_until("nothing to be left", Duration::from_secs(20), || {
        let rules = host.run(&["nft", "list", "ruleset"])?;
        match rules.is_empty() && !host.run(&["ip", "addr"])?.contains(vip) {
            true => Ok(()),
            false => Err(Error::new(rules)),
        }
    })
}

/// All that the agent and nodectl may change on a host, as others show it.
pub fn state_of(host: &Host) -> Result<String> {
    // The node's own link-local address may still be under duplicate address detection, and the groups
    // of its own addresses may be joined late.
    let everything = "nft list ruleset; ip -o addr | sed 's/ tentative//'; \
                      ip maddr | grep -vE '33:33:ff:00:00:0[0-9]|ff02::1:ff00:[0-9]( |$)'; \
                      ip route; ip -6 route; \
                      grep -H . /proc/sys/net/ipv?/conf/*/drop_unicast_in_l2_multicast";
    host.run(&["sh", "-ec", everything])
}

/// `setpriv` with which a program has no capability.
pub const UNPRIVILEGED: [&str; 3] = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];

/// nodectl on a host; its standard output.
pub fn nodectl(host: &Host, args: &[&str]) -> Result<String> {
    let program = lab::built("nodectl")?.display().to_string();
    let mut command = vec![program.as_str()];
    command.extend(args);
    host.run(&command)
}

/// nodectl where it is to fail: its exit code and what it said.
pub fn nodectl_fails(host: &Host, args: &[&str]) -> Result<(i32, String)> {
    let program = lab::built("nodectl")?.display().to_string();
    let mut command = vec![program.as_str()];
    command.extend(args);
    let output = host.output(&command)?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code().unwrap_or(-1), stderr))
}

pub fn status(host: &Host) -> Result<serde_json::Value> {
    let text = nodectl(host, &["status", "--json"])?;
    Ok(serde_json::from_str(&text).expect("status --json prints JSON"))
}

/// These nodes, serving, and without a VIP.
pub fn serving(lab: &Lab, names: &[&str]) -> Result<Vec<Node>> {
    let nodes: Vec<Node> = names
        .iter()
        .map(|name| lab.node(name))
        .collect::<Result<_>>()?;
    for node in &nodes {
        node.serve(&SERVICES)?;
    }
    Ok(nodes)
}

/// A flow to the port that is served.
pub fn flow_from(source: IpAddr, source_port: u16) -> Flow {
    Flow {
        source,
        source_port,
        destination_port: PORT,
    }
}

/// The description of a VIP as nodectl makes it.
pub fn described(address: IpAddr, hasher: Hasher, buckets: u16) -> Vip {
    Vip {
        address,
        prefix: if address.is_ipv4() { 24 } else { 64 },
        nic: "eth0".parse().expect("a name"),
        mac: Mac::of_group(address),
        mode: L2Mode::Multicast,
        hasher,
        buckets: BucketCount::new(buckets.into()).expect("a number of buckets"),
        label: None,
        noprefixroute: false,
        lock: true,
        drain_s: 0,
        manager: Manager::Manual,
    }
}

/// Nodes that serve and share both VIPs, each with every third bucket (of three nodes).
pub fn sharing_nodes(lab: &Lab, names: &[&str], buckets: u16, up: &[&str]) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let node = lab.node(name)?;
        node.serve(&SERVICES)?;
        for vip in [V4, V6] {
            let own = own(n, names.len(), buckets);
            let count = buckets.to_string();
            let mut args = vec![
                "up",
                vip,
                "--nic",
                "eth0",
                "--buckets",
                &count,
                "--own",
                &own,
            ];
            args.extend(up);
            nodectl(&node, &args)?;
        }
        nodes.push(node);
    }
    Ok(nodes)
}

/// The buckets of the n-th of `nodes` nodes.
pub fn own(n: usize, nodes: usize, buckets: u16) -> String {
    let mine: Vec<String> = (0..buckets)
        .filter(|bucket| usize::from(*bucket) % nodes == n)
        .map(|bucket| bucket.to_string())
        .collect();
    mine.join(",")
}

/// The node that owns a flow when buckets are dealt out as `own` does, by the mirror of the hash.
pub fn owner_of(names: &[&str], buckets: u16, hasher: &Hasher, flow: &Flow) -> String {
    let bucket = usize::from(hasher.bucket(flow, buckets));
    names[bucket % names.len()].to_owned()
}

pub fn hasher(mode: HashMode, layout: Layout, seed: u32) -> Hasher {
    Hasher { mode, layout, seed }
}

/// Judges a document of nodectl by the published schema, with somebody else's validator.
pub fn expect_fits_schema(document: &str) -> Result<()> {
    const SCRIPT: &str = "import json, sys, jsonschema\n\
                          schema = json.load(open(sys.argv[1]))\n\
                          jsonschema.Draft202012Validator.check_schema(schema)\n\
                          jsonschema.validate(json.loads(sys.argv[2]), schema,\n\
                          \tcls=jsonschema.Draft202012Validator)\n";
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/nodectl.schema.json");
    let judged = std::process::Command::new("/usr/bin/python3")
        .args(["-c", SCRIPT, schema, document])
        .output()
        .map_err(|error| lab::Error::new(format!("python3: {error}")))?;
    match judged.status.success() {
        true => Ok(()),
        false => Err(lab::Error::new(format!(
            "{document}: {}",
            String::from_utf8_lossy(&judged.stderr)
        ))),
    }
}

/// So many new connections to a VIP are all answered, by these nodes and no others.
pub fn expect_answered_by(
    client: &Client,
    vip: IpAddr,
    count: usize,
    nodes: &[&str],
) -> Result<()> {
    let sources = client.sources_for(vip, count);
    let report = client.tcp(SocketAddr::new(vip, PORT), sources, Pace::default())?;
    report.expect_all_answered()?;
    let answered: BTreeSet<String> = report.by_node().into_keys().collect();
    let expected: BTreeSet<String> = nodes.iter().map(|name| (*name).to_owned()).collect();
    match answered == expected {
        true => Ok(()),
        false => Err(Error::new(format!(
            "{vip}: {answered:?} answered, not {expected:?}"
        ))),
    }
}
