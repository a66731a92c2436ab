//! The gate `ocf:rust:ClusterIPDrain`: a resource between the service and the address whose stop
//! waits until this node drains nothing more.
//!
//! With the order service, then gate, then address, Pacemaker stops a node's instances of the address
//! first, then the gate, then the service: so the service ends after its last connection. While it waits
//! Pacemaker begins nothing new, so it opens when something is more pressing than connections. The gate
//! holds nothing and does nothing else. That it runs is a file on a tmpfs, as for every agent without
//! a process of its own.

use super::environment::Environment;
use super::exit::{Code, Failure};
use super::prepare::enter_namespace;
use crate::host::lock::lock;
use crate::host::observe::{Kernel, ObserveError};
use crate::host::reach::UnderLockError;
use crate::host::sweeper::settle;
use crate::host::turns;
use crate::model::bucket::BucketSet;
use crate::pacemaker::cluster::ClusterError;
use crate::pacemaker::pressing::{Bucket, Moment, Pressing, Watch};
use crate::pacemaker::query::{Query, QueryError, ask_at};
use crate::reading::installed::{Installed, installed};
use crate::sys::netns::Home;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// The gate's actions, in one line.
pub const USAGE: &str = "usage: ClusterIPDrain start|stop|monitor|validate-all|meta-data";

/// Where agents keep such files (`HA_RSCTMP`), on a tmpfs.
const FOLDER: &str = "/run/resource-agents";
/// How often it is looked.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a stop may take when Pacemaker does not say, and how long before it gives up the gate
/// opens: then the service ends beneath the connections that are left.
const PATIENCE: Duration = Duration::from_secs(300);
const MARGIN: Duration = Duration::from_secs(5);
/// How often Pacemaker is asked meanwhile whether something presses; an answer takes a tenth of a second.
const LOOK: Duration = Duration::from_secs(2);

/// The action `start`.
pub fn start(env: &Environment) -> Result<(), Failure> {
    let path = file(env);
    let made = std::fs::create_dir_all(FOLDER).and_then(|()| std::fs::write(&path, ""));
    made.map_err(|error| broken(&path, error))
}

/// The action `monitor`, and the probe.
pub fn monitor(env: &Environment) -> Result<(), Failure> {
    let path = file(env);
    match path.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::not_running()),
        Err(error) => Err(broken(&path, error)),
    }
}

/// The action `stop`: waits until no bucket leaves this node any more. It never fails for what it
/// cannot see, for a stop that fails means that the node is fenced.
pub fn stop(env: &Environment) -> Result<(), Failure> {
    let path = file(env);
    match enter_namespace(env.parameter("network_namespace").as_ref()) {
        Ok(home) => {
            let patience = env.timeout().unwrap_or(PATIENCE).saturating_sub(MARGIN);
            wait(patience, Lookout::new(home, env.node()));
        }
        Err(error) => warn!("nothing is waited for: {error}"),
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(broken(&path, error)),
        _ => Ok(()),
    }
}

/// Waits, but not longer than this, and not if something presses.
fn wait(patience: Duration, mut lookout: Lookout<'_>) {
    let begin = Instant::now();
    let mut told = false;
    loop {
        let (leaving, buckets, why) = match leaving() {
            Ok(leaving) if leaving.vips.is_empty() => return,
            Ok(leaving) => (leaving.vips.join(", "), leaving.buckets, String::new()),
            Err(error) => {
                let unseen = "VIPs that cannot be seen".to_owned();
                (unseen, BTreeSet::new(), format!(" ({error})"))
            }
        };
        if begin.elapsed() >= patience {
            warn!("the connections of {leaving} are cut: the time of this stop is over{why}");
            return;
        }
        match lookout.look(&buckets) {
            Some(Pressing::TakenBack) => {
                return info!("{}; {leaving} need not be waited for", Pressing::TakenBack);
            }
            Some(pressing) => {
                let hint = match pressing {
                    Pressing::Dark(..) => {
                        "; where nodes are busy, does Pacemaker wait for this gate? Then set \
                         load-threshold=10000%, docs/moves.md"
                    }
                    _ => "",
                };
                return warn!(
                    "the connections of {leaving} are cut so that Pacemaker can act: {pressing}{hint}"
                );
            }
            None => {}
        }
        if !told {
            info!("waiting for the connections of {leaving}{why}");
            told = true;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Looks now and then whether anything presses.
struct Lookout<'a> {
    /// The namespace in which Pacemaker is, if the VIPs are in another.
    home: Option<Home>,
    node: Option<&'a str>,
    watch: Watch,
    looked: Option<Instant>,
    /// That nothing was seen has been said.
    told: bool,
}

/// It cannot be told.
#[derive(Debug, thiserror::Error)]
enum LookoutError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

impl<'a> Lookout<'a> {
    fn new(home: Option<Home>, node: Option<&'a str>) -> Self {
        Lookout {
            home,
            node,
            watch: Watch::default(),
            looked: None,
            told: false,
        }
    }

    fn look(&mut self, leaving: &BTreeSet<Bucket>) -> Option<Pressing> {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return None;
        }
        let at = Instant::now();
        self.looked = Some(at);
        match self.moment() {
            Ok(now) => {
                let own = self.node.unwrap_or_default();
                self.watch.look(now, at, own, leaving)
            }
            // Not to know is no reason to cut anybody's connections.
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    warn!("whether anything presses is not known: {error}");
                }
                None
            }
        }
    }

    fn moment(&self) -> Result<Moment, LookoutError> {
        let placement = ask_at(self.home.as_ref(), Query::Placement)?;
        Ok(Moment::read(&placement)?)
    }
}

/// The action `validate-all`: there is nothing to be wrong.
pub fn validate_all(_: &Environment) -> Result<(), Failure> {
    Ok(())
}

/// What leaves this node.
#[derive(Default)]
struct Leaving {
    vips: Vec<String>,
    buckets: BTreeSet<Bucket>,
}

/// What leaves. What has ended is taken away before, if nobody else is at it.
fn leaving() -> Result<Leaving, UnderLockError> {
    let mut kernel = match Kernel::open() {
        // Without nf_tables nothing was ever there.
        Err(ObserveError::Nft(error)) if error.is_absent() => return Ok(Leaving::default()),
        kernel => kernel?,
    };
    let settled = lock(Duration::ZERO)
        .map_err(UnderLockError::from)
        .and_then(|lock| {
            let settled = settle(&mut kernel)?;
            turns::end(lock, &settled.rules);
            Ok(settled)
        });
    let rules = match settled {
        Ok(settled) => settled.rules,
        Err(error) => {
            debug!("{error}");
            kernel.observe(None, None)?.0.rules
        }
    };
    let mut found = Leaving::default();
    for Installed { vip, phases } in installed(&rules) {
        // What is offered leaves as well, and is served until then.
        let offered: BucketSet = phases.offered.keys().copied().collect();
        let leaving = phases.leaving().union(&offered);
        if !leaving.is_empty() {
            found.vips.push(vip.address.to_string());
            let buckets = leaving.iter().map(|bucket| (vip.manager.clone(), bucket));
            found.buckets.extend(buckets);
        }
    }
    Ok(found)
}

/// The file of this resource. A name that is no file's is replaced by its digest.
fn file(env: &Environment) -> PathBuf {
    let name = env.resource();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name = match name.chars().all(plain) && name.len() <= 128 {
        true => name.to_owned(),
        false => blake3::hash(name.as_bytes()).to_hex().to_string(),
    };
    Path::new(FOLDER).join(format!("ClusterIPDrain-{name}.state"))
}

fn broken(path: &Path, error: io::Error) -> Failure {
    Failure::new(Code::Generic, format!("{}: {error}", path.display()))
}

/// The meta-data.
pub fn xml() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        r#"<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="ClusterIPDrain" version="{version}">
<version>1.1</version>
<longdesc lang="en">
A gate between a service and the address that ocf:rust:ClusterIP shares. Its stop waits until the
connections of all buckets that left this node have ended (at most until the stop's timeout, less five
seconds). It opens sooner when a node of the cluster is lost, an operation fails, buckets are dark for ten
seconds or the standby is taken back, for Pacemaker begins nothing new while it waits. Clone it, and order the service's clone, then the gate's, then the address's, with
interleave=true on all three: then a node on standby serves its connections to their end. Give its
stop a timeout that is longer than the address's drain_timeout.
</longdesc>
<shortdesc lang="en">Keeps a service until its connections have ended</shortdesc>
<parameters>
<parameter name="network_namespace" required="0">
<longdesc lang="en">The network_namespace of the address, if it has one.</longdesc>
<shortdesc lang="en">Network namespace</shortdesc>
<content type="string"/>
</parameter>
</parameters>
<actions>
<action name="start" timeout="20s"/>
<action name="stop" timeout="320s"/>
<action name="monitor" timeout="20s" depth="0" interval="60s"/>
<action name="meta-data" timeout="5s"/>
<action name="validate-all" timeout="20s"/>
</actions>
</resource-agent>
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gates_file_is_its_own_and_nowhere_else() {
        let env =
            |name: &str| Environment::new([("OCF_RESOURCE_INSTANCE".to_owned(), name.to_owned())]);
        let path = file(&env("gate:3"));
        assert_eq!(
            path,
            Path::new("/run/resource-agents/ClusterIPDrain-gate.state")
        );
        // A stop must not fail over a name that is strange.
        let long = "x".repeat(300);
        for strange in ["../gate", "a/b", "é", "a b", &long] {
            let path = file(&env(strange));
            assert_eq!(path.parent(), Some(Path::new(FOLDER)), "{strange}");
            assert!(path.as_os_str().len() < 128, "{strange}");
        }
    }
}
