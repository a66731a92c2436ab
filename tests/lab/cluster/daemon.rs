//! `clusteripd` on the nodes: how it is run, and when they hear each other. A node's init starts it, so it is there
//! again after every boot, and dies with the node.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::{Cluster, PATIENCE, Power};
use crate::{Context, Error, Result};

/// Where it listens (docs/socket.md).
const SOCKET: &str = "/run/clusteripd/socket";
/// How long one question may wait for its answer.
const ANSWER: Duration = Duration::from_secs(5);

/// A daemon that every node runs.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// The program.
    pub program: PathBuf,
    /// Whether it tells everything that it does, in its log.
    pub debug: bool,
}

impl Daemon {
    /// The words behind its name.
    pub(super) fn words(&self) -> Vec<String> {
        let debug = self.debug.then(|| "--debug".to_owned());
        debug.into_iter().collect()
    }
}

impl Cluster {
    /// What the daemon of a node knows of the cluster, as it tells it on its socket.
    pub fn view(&self, name: &str) -> Result<Value> {
        let init = match *self.inner.member(name)?.power() {
            Power::On { init, .. } => init,
            Power::Off { .. } | Power::Crashed { .. } => {
                return Err(Error::new(format!("{name} is switched off")));
            }
        };
        ask(init).context(format!("{name}'s daemon"))
    }

    /// Waits until each of these nodes' daemons has heard what those of all of them hold, and those of all others that
    /// it knows; does nothing where no daemon is to run.
    pub fn wait_for_daemons(&self, names: &[&str]) -> Result<()> {
        if self.inner.options.daemon.is_none() {
            return Ok(());
        }
        let what = format!("the daemons of {} to hear all", names.join(", "));
        let heard = crate::wait_until(&what, PATIENCE, || {
            names
                .iter()
                .try_for_each(|name| self.expect_heard(name, names))
        });
        self.with_logs(heard)
    }

    fn expect_heard(&self, name: &str, names: &[&str]) -> Result<()> {
        let view = self.view(name)?;
        let members = view["members"].as_array().context("no members")?;
        let is_heard = |member: &Value| member["heard"] == true;
        let knows = |name: &&str| -> Result<bool> {
            let number = self.inner.member(name)?.number;
            let mut all = members.iter();
            Ok(all.any(|member| member["id"] == number && is_heard(member)))
        };
        for other in names {
            if !knows(other)? {
                return Err(Error::new(format!("{name} has not heard {other}")));
            }
        }
        match members.iter().all(is_heard) {
            true => Ok(()),
            false => Err(Error::new(format!("{name} has not heard all: {view}"))),
        }
    }
}

/// One question, and the line that answers it.
fn ask(init: u32) -> Result<Value> {
    let path = format!("/proc/{init}/root{SOCKET}");
    let mut stream = UnixStream::connect(&path).context(&path)?;
    stream.set_read_timeout(Some(ANSWER)).context(&path)?;
    let question = concat!(r#"{"major":1,"ask":"view"}"#, "\n");
    stream.write_all(question.as_bytes()).context(&path)?;
    let mut line = String::new();
    let mut answer = BufReader::new(stream);
    answer.read_line(&mut line).context(&path)?;
    serde_json::from_str(&line).context(line)
}
