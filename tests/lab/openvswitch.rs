//! Open vSwitch in the place of the lab's bridge: Debian's daemons, with the datapath in user space.
//!
//! They run in the switch's network namespace, in mount and process namespaces of their own: their files are on a file
//! system in memory that only they see, and with the first of them all end, whoever kills it. What is set in them is not
//! known here.

use std::path::Path;
use std::time::Duration;

use crate::exec::{Exec, Place, Running};
use crate::topology::Lab;
use crate::wait::patient;
use crate::{Context, Error, Result};

const SERVER: &str = "/usr/sbin/ovsdb-server";

/// Its database, then the switch itself, which is the first process of its namespace. /proc is the one from outside, so
/// it tells by which number it is known there.
const START: &str = "mount -t tmpfs tmpfs /run\n\
    mkdir /run/openvswitch\n\
    cd /run/openvswitch\n\
    ovsdb-tool create conf.db /usr/share/openvswitch/vswitch.ovsschema\n\
    quiet='-vconsole:off -vsyslog:off --no-chdir'\n\
    ovsdb-server --remote=punix:db.sock --detach --pidfile $quiet --log-file=db.log conf.db\n\
    ovs-vsctl --no-wait init\n\
    read -r pid rest < /proc/self/stat\n\
    echo $pid\n\
    exec ovs-vswitchd --pidfile $quiet --log-file=switch.log\n";

/// A running Open vSwitch, to which all of the lab's cables are plugged; it ends with this handle.
pub struct OpenVSwitch {
    place: Place,
    pid: String,
    _daemons: Running,
}

impl OpenVSwitch {
    /// The name of its bridge.
    pub const BRIDGE: &str = "ovs0";

    /// Starts it beside the lab's bridge, and plugs the cables of these machines over.
    pub fn start(lab: &Lab, machines: &[&str]) -> Result<Self> {
        if !Path::new(SERVER).exists() {
            return Err(Error::new(
                "there is no Open vSwitch here: install Debian's openvswitch-switch (make deps)",
            ));
        }
        let place = lab.inner.switch_place();
        let words = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-euc",
            START,
        ];
        let mut daemons = Exec::new(Ok(place.clone()), &words).spawn()?;
        let pid = daemons.read_line().context("Open vSwitch")?;
        let switch = Self {
            place,
            pid,
            _daemons: daemons,
        };
        let bridge = Self::BRIDGE;
        switch.line(&format!(
            "ovs-vsctl add-br {bridge} -- set bridge {bridge} datapath_type=netdev fail-mode=standalone"
        ))?;
        for name in machines {
            lab.switch(&["ip", "link", "set", name, "nomaster"])?;
            switch.line(&format!("ovs-vsctl add-port {bridge} {name}"))?;
        }
        Ok(switch)
    }

    /// Runs a line of its own programs; gives its stdout.
    pub fn line(&self, line: &str) -> Result<String> {
        let enter = ["nsenter", "-t", &self.pid, "-m", "-p", "--", "timeout"];
        let limit = patient(Duration::from_secs(30)).as_secs().to_string();
        let words = enter.into_iter().chain([limit.as_str()]);
        let words: Vec<&str> = words.chain(line.split_whitespace()).collect();
        Exec::new(Ok(self.place.clone()), &words).run()
    }

    /// What its log says, for an error.
    pub fn log(&self) -> Result<String> {
        self.line("cat /run/openvswitch/switch.log")
    }
}
