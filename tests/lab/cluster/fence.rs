//! The fence device: an agent on the nodes, and the lab's power switch behind a socket.
//!
//! The socket has an abstract name in the node's network namespace, so it needs no file, and it
//! works as an out-of-band line does, whatever happens to the node's cable. The answer comes only
//! when the target is really dead.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::{Arc, Weak};
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};

use super::Inner;
use crate::{Context, Error, Node, Result};

const NAME: &str = "clusterip-lab-power";

/// The power switch's socket in one node.
pub(super) struct Socket {
    listener: Arc<UnixListener>,
}

impl Socket {
    /// Opens the socket in `node` and serves it until it is closed.
    pub(super) fn open(cluster: &Arc<Inner>, node: &Node) -> Result<Self> {
        let listener = node
            .within(listen)?
            .context("open the fence device's socket")?;
        let listener = Arc::new(listener);
        let (served, cluster) = (listener.clone(), Arc::downgrade(cluster));
        std::thread::spawn(move || {
            for stream in served.incoming() {
                let Ok(stream) = stream else { return };
                let cluster = cluster.clone();
                std::thread::spawn(move || answer(&stream, &cluster));
            }
        });
        Ok(Self { listener })
    }

    /// Ends the serving; the node can no longer fence others.
    pub(super) fn close(&self) {
        // A listener that is shut down makes accept fail, which ends its thread.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.close();
    }
}

fn listen() -> std::io::Result<UnixListener> {
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(NAME)?)
}

/// Answers one request; a peer that goes away is its own fault.
fn answer(stream: &UnixStream, cluster: &Weak<Inner>) {
    let mut line = String::new();
    if BufReader::new(stream).read_line(&mut line).is_err() {
        return;
    }
    let answer = match cluster.upgrade().context("the cluster is gone") {
        Ok(cluster) => obey(&cluster, line.trim()),
        Err(error) => Err(error),
    };
    let text = match answer {
        Ok(text) => format!("ok {text}\n"),
        Err(error) => format!("error {error}\n"),
    };
    let mut stream = stream;
    let _ = stream.write_all(text.as_bytes());
}

fn obey(cluster: &Arc<Inner>, request: &str) -> Result<String> {
    let (action, target) = request.split_once(' ').unwrap_or((request, ""));
    match action {
        "off" => cluster.power_off(target).map(|()| String::new()),
        "reboot" => {
            cluster.power_off(target)?;
            power_on_later(cluster, target);
            Ok(String::new())
        }
        "on" => {
            power_on_later(cluster, target);
            Ok(String::new())
        }
        "status" => Ok(if cluster.member(target)?.node.is_on() {
            "on"
        } else {
            "off"
        }
        .into()),
        "list" => Ok(cluster.nodes.keys().cloned().collect::<Vec<_>>().join(",")),
        _ => Err(Error::new(format!(
            "the power switch does not know {action:?}"
        ))),
    }
}

/// A fence device does not wait for the boot.
fn power_on_later(cluster: &Arc<Inner>, target: &str) {
    let (cluster, target) = (cluster.clone(), target.to_string());
    std::thread::spawn(move || {
        if let Err(error) = cluster.power_on(&target) {
            cluster.say(format!("{target} does not come up again: {error}"));
        }
    });
}

/// The body of `fence_lab`, the agent that Pacemaker's fencer starts; gives its exit status.
pub fn agent(words: &[String]) -> Result<u8> {
    let options = options(words)?;
    let action = options.get("action").map_or("off", String::as_str);
    let target = ["port", "plug", "nodename"]
        .iter()
        .find_map(|key| options.get(*key));
    let target = target.map(String::as_str).unwrap_or_default();
    match action {
        "metadata" | "meta-data" => print!("{METADATA}"),
        "list" => ask("list")?.split(',').for_each(|name| println!("{name},")),
        // Monitoring the device is asking it anything; asking for a plug's state tells by status.
        "monitor" => drop(ask("list")?),
        "status" => {
            let state = ask(&format!("status {target}"))?;
            println!("Status: {}", state.to_uppercase());
            return Ok(if state == "on" { 0 } else { 2 });
        }
        "on" | "off" | "reboot" => drop(ask(&format!("{action} {target}"))?),
        "validate-all" => {}
        other => return Err(Error::new(format!("unknown action {other:?}"))),
    }
    Ok(0)
}

/// Options come as `name=value` lines on stdin, or as `--name=value` and `-o action`.
fn options(words: &[String]) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.trim_start_matches('-').split_once('=') {
            Some((name, value)) => drop(options.insert(name.into(), value.into())),
            None => {
                let name = match word.as_str() {
                    "-o" | "--action" => "action",
                    "-n" | "--plug" => "plug",
                    other => return Err(Error::new(format!("unknown option {other}"))),
                };
                let value = words.next().context(format!("{word} wants a value"))?;
                options.insert(name.into(), value.clone());
            }
        }
    }
    if options.is_empty() && !std::io::stdin().is_terminal() {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("read the options")?;
        let pairs = text.lines().filter_map(|line| line.trim().split_once('='));
        options.extend(pairs.map(|(name, value)| (name.to_string(), value.to_string())));
    }
    Ok(options)
}

fn ask(request: &str) -> Result<String> {
    let doing = "reach the lab's power switch";
    let address = SocketAddr::from_abstract_name(NAME).context(doing)?;
    let mut stream = UnixStream::connect_addr(&address).context(doing)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .context(doing)?;
    stream
        .write_all(format!("{request}\n").as_bytes())
        .context(doing)?;
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .context(doing)?;
    match answer
        .trim_end()
        .split_once(' ')
        .unwrap_or((answer.trim_end(), ""))
    {
        ("ok", text) => Ok(text.to_string()),
        (_, error) => Err(Error::new(format!(
            "the power switch refused {request:?}: {error}"
        ))),
    }
}

const METADATA: &str = r#"<?xml version="1.0" ?>
<resource-agent name="fence_lab" shortdesc="Fence agent of the lab">
<longdesc>Asks the lab to power a node off or on.</longdesc>
<vendor-url></vendor-url>
<parameters>
<parameter name="action" unique="0" required="1"><getopt mixed="-o, --action=[action]" /><content type="string" default="off" /><shortdesc lang="en">Fencing action</shortdesc></parameter>
<parameter name="port" unique="0" required="0"><getopt mixed="-n, --plug=[id]" /><content type="string" /><shortdesc lang="en">The node</shortdesc></parameter>
</parameters>
<actions>
<action name="on" automatic="0" />
<action name="off" />
<action name="reboot" />
<action name="status" />
<action name="list" />
<action name="monitor" />
<action name="metadata" />
<action name="validate-all" />
</actions>
</resource-agent>
"#;
