//! What an action of our agent takes where there are many connections: a stop has to list them, and
//! those of its bucket stay; the start that brings the bucket back has to forget them.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lab::{Client, Context, Error, HoldOptions, Lab, Node, Result, Serve};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::operations::Effort;
use crate::report::{Missing, OperationCost, Operations};
use crate::stats::Summary;
use crate::telling::Telling;

const VIP: &str = "10.77.0.99";
const PORT: u16 = 7000;
const BUCKETS: u32 = 12;
/// Ports that each client uses.
const PORTS: u16 = 50;
/// Connections that are opened at once.
const AT_ONCE: usize = 10_000;
/// Descriptors that the service, and the clients, need besides those of the connections.
const SPARE: u64 = 1_000;

/// Measures with each number of connections, and adds the figures.
pub fn measure(effort: &Effort, telling: &Telling, costs: &mut Operations) -> Result<()> {
    for count in &effort.connections {
        let agent = format!("ocf:rust:ClusterIP, {count} connections to {BUCKETS} buckets");
        match allow(u64::from(*count) + SPARE) {
            Ok(()) => costs
                .operations
                .extend(with(*count as usize, &agent, telling)?),
            Err(error) => costs.missing.push(Missing {
                what: agent,
                why: error.to_string(),
            }),
        }
    }
    Ok(())
}

/// Raises the limit on open files, for the programs that are started too.
fn allow(files: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit on open files")?;
    if soft >= files {
        return Ok(());
    }
    let raised = setrlimit(Resource::RLIMIT_NOFILE, files, hard.max(files));
    raised.context(format!("so many open files are not allowed ({files})"))
}

fn with(count: usize, agent: &str, telling: &Telling) -> Result<Vec<OperationCost>> {
    telling.say(format!("operations: opening {count} connections"));
    let lab = Lab::new("bench")?;
    let files = count as u64 + SPARE;
    allow(files)?;
    let (node, client) = (lab.node("n1")?, lab.client("c1")?);
    node.serve(&[Serve::Tcp(PORT)])?;
    for instance in 0..BUCKETS {
        call(&node, "start", instance)?;
    }
    let held = hold(&client, count)?;
    let (mut stops, mut starts) = (Vec::new(), Vec::new());
    // The first one only warms up.
    for instance in 0..BUCKETS {
        telling.passing(format!("stop {} of {BUCKETS}", instance + 1));
        let (stop, start) = (
            call(&node, "stop", instance)?,
            call(&node, "start", instance)?,
        );
        if instance > 0 {
            stops.push(stop);
            starts.push(start);
        }
    }
    for one in held {
        let report = one.abort()?;
        report.expect_none_lost()?;
    }
    let cost = |action: &str, ms: &[f64]| OperationCost {
        agent: agent.to_owned(),
        action: action.to_owned(),
        ms: Summary::of(ms),
        to_ours: None,
    };
    Ok(vec![
        cost("stop, a bucket's connections stay", &stops),
        cost("start, the bucket comes back", &starts),
    ])
}

/// Opens connections, which say nothing after their first word.
fn hold(client: &Client, count: usize) -> Result<Vec<lab::traffic::Held>> {
    let vip: IpAddr = VIP
        .parse()
        .map_err(|_| Error::new("the VIP is an address"))?;
    let options = HoldOptions {
        interval: Duration::from_secs(3600),
        timeout: Duration::from_secs(60),
    };
    let sources = client.sources_for(vip, count.div_ceil(usize::from(PORTS)));
    let flows = sources
        .into_iter()
        .flat_map(|source| (0..PORTS).map(move |n| (source, 20_000 + n)));
    let flows: Vec<_> = flows.take(count).collect();
    let all = flows
        .chunks(AT_ONCE)
        .map(|some| client.hold(SocketAddr::new(vip, PORT), some.to_vec(), options));
    all.collect()
}

/// An action as Pacemaker calls it, in milliseconds.
fn call(node: &Node, action: &str, instance: u32) -> Result<f64> {
    let program = lab::built("ocf-clusterip")?.display().to_string();
    let (number, count) = (instance.to_string(), BUCKETS.to_string());
    let variables = [
        ("OCF_ROOT", "/usr/lib/ocf"),
        ("OCF_RESOURCE_INSTANCE", &format!("ip:{instance}")),
        ("OCF_RESKEY_ip", VIP),
        ("OCF_RESKEY_nic", "eth0"),
        ("OCF_RESKEY_cidr_netmask", "24"),
        ("OCF_RESKEY_arp_count", "1"),
        ("OCF_RESKEY_CRM_meta_timeout", "60000"),
        ("OCF_RESKEY_CRM_meta_globally_unique", "true"),
        ("OCF_RESKEY_CRM_meta_clone_max", &count),
        ("OCF_RESKEY_CRM_meta_clone_node_max", &count),
        ("OCF_RESKEY_CRM_meta_clone", &number),
    ];
    let exec = node.exec(&[program.as_str(), action]).envs(variables);
    let began = Instant::now();
    exec.run()?;
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}
