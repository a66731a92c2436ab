//! What an action of our agent takes where there are many connections: a stop has to list them, and
//! those of its bucket stay; the start that brings the bucket back has to forget them.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use lab::{Error, Lab, Node, Result};

use crate::crowd::{crowd, wait_for_crowd};
use crate::operations::Effort;
use crate::report::{OperationCost, Operations};
use crate::stats::Summary;
use crate::telling::Telling;

const VIP: &str = "10.77.0.99";
const PORT: u16 = 7000;
const BUCKETS: u32 = 12;

/// Measures with each number of connections, and adds the figures.
pub fn measure(effort: &Effort, telling: &Telling, costs: &mut Operations) -> Result<()> {
    for count in &effort.connections {
        let agent = format!("ocf:rust:ClusterIP, {count} connections to {BUCKETS} buckets");
        let measured = with(*count as usize, &agent, telling)?;
        costs.operations.extend(measured);
    }
    Ok(())
}

fn with(count: usize, agent: &str, telling: &Telling) -> Result<Vec<OperationCost>> {
    telling.say(format!("operations: opening {count} connections"));
    let lab = Lab::new("bench")?;
    let (node, client) = (lab.node("n1")?, lab.client("c1")?);
    let _nobody = wait_for_crowd(&node, PORT, count)?;
    for instance in 0..BUCKETS {
        call(&node, "start", instance)?;
    }
    let vip: IpAddr = VIP
        .parse()
        .map_err(|_| Error::new("the VIP is an address"))?;
    let crowd = crowd(&client, SocketAddr::new(vip, PORT), count)?;
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
    let left = established(&node)?;
    if left != count {
        return Err(Error::new(format!(
            "{left} of {count} connections are left"
        )));
    }
    drop(crowd);
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

/// The node's connections to the VIP.
fn established(node: &Node) -> Result<usize> {
    let listed = node.run(&["ss", "-Htn", "state", "established", "src", VIP])?;
    Ok(listed.lines().count())
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
