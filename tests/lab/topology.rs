//! The lab itself: one switch, and cables from it to the nodes' and clients' namespaces.
//!
//! Every interface lives in a namespace of its own lab, so labs never meet, and nothing here
//! touches the machine's own network. What runs on the hosts is not known here.
//!
//! | machine | IPv4 | IPv6 | MAC |
//! |---|---|---|---|
//! | node nI | 10.77.0.I | fd77::I | 02:77:00:00:00:I |
//! | client cK | 10.77.0.(200+K) | fd77::20K | 02:77:00:00:01:K |
//! | behind cK | 10.(77+K).0.0/16 | (fd77+K)::/64 | – |

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::client::Client;
use crate::exec::{Exec, Place};
use crate::host::{Host, Mac, write_sysctl};
use crate::namespace::Namespace;
use crate::node::{Node, NodeOptions};
use crate::progress::Progress;
use crate::wait::Awaited;
use crate::wire::Wire;
use crate::{Context, Error, Result};

/// A switch with nodes and clients; everything ends when this is dropped, or its process dies.
pub struct Lab {
    pub(crate) inner: Arc<Inner>,
}

/// What is shared with cluster and traffic threads.
pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) progress: Progress,
    switch: Arc<Namespace>,
    machines: Mutex<BTreeMap<String, Machine>>,
}

#[derive(Clone)]
enum Machine {
    Node(Node, NodeOptions),
    Client(Client),
    /// Has no cable to the switch.
    Far(Host),
}

impl Machine {
    fn host(&self) -> &Host {
        match self {
            Self::Node(node, _) => node,
            Self::Client(client) => client,
            Self::Far(host) => host,
        }
    }
}

impl Lab {
    /// A lab with nothing but its switch; `name` is only for people to read.
    pub fn new(name: &str) -> Result<Self> {
        // Hundreds of connections at once need more descriptors than the usual soft limit.
        if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
        let switch = Arc::new(Namespace::new(&format!("{name}/switch"))?);
        switch.within(|| {
            write_sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
            write_sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
            // A switch does not look into packets; where this exists it would drop malformed ones.
            for what in ["iptables", "ip6tables", "arptables"] {
                let key = format!("bridge-nf-call-{what}");
                if Path::new("/proc/sys/net/bridge").join(&key).exists() {
                    write_sysctl(&format!("net.bridge.{key}"), "0")?;
                }
            }
            Ok::<_, Error>(())
        })??;
        let inner = Inner {
            name: name.into(),
            progress: Progress::new(name),
            switch,
            machines: Mutex::default(),
        };
        inner.switch_ip(
            "link add br0 type bridge stp_state 0 mcast_snooping 0\nlink set br0 up\n",
        )?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The node of this name (`n1`, `n2` …), made and cabled when first asked for.
    pub fn node(&self, name: &str) -> Result<Node> {
        self.node_with(name, NodeOptions::default())
    }

    /// As [`Lab::node`], attached as the options say.
    pub fn node_with(&self, name: &str, options: NodeOptions) -> Result<Node> {
        if let Some(Machine::Node(node, _)) = self.inner.machines().get(name) {
            return Ok(node.clone());
        }
        let number = number_of(name, 199)?;
        let host = Host::new(
            name,
            Mac([2, 0x77, 0, 0, 0, number]),
            Ipv4Addr::new(10, 77, 0, number),
            Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number.into()),
        );
        let node = Node::new(host);
        self.inner.plug_node(&node, options)?;
        self.inner
            .machines()
            .insert(name.into(), Machine::Node(node.clone(), options));
        Ok(node)
    }

    /// The client of this name (`c1`, `c2` …), made and cabled when first asked for.
    pub fn client(&self, name: &str) -> Result<Client> {
        if let Some(Machine::Client(client)) = self.inner.machines().get(name) {
            return Ok(client.clone());
        }
        let number = number_of(name, 50)?;
        let host = Host::new(
            name,
            Mac([2, 0x77, 0, 0, 1, number]),
            Ipv4Addr::new(10, 77, 0, 200 + number),
            // As people write it: c1 is fd77::201.
            Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x200 + u16::from(number)),
        );
        let client = Client::new(host, number, Arc::downgrade(&self.inner));
        self.inner.plug_client(&client)?;
        self.inner
            .machines()
            .insert(name.into(), Machine::Client(client.clone()));
        for node in self.inner.nodes() {
            if node.is_on() {
                node.exec(&["ip", "-batch", "-"])
                    .stdin(client.routes_to_it())
                    .run()?;
            }
        }
        Ok(client)
    }

    /// Pulls the cable between a machine and the switch out, or puts it back.
    pub fn cable(&self, name: &str, up: bool) -> Result<()> {
        self.inner.cable(name, up)
    }

    /// Runs a command on the switch, for instance `bridge fdb show`; gives its stdout.
    pub fn switch<S: AsRef<str>>(&self, argv: &[S]) -> Result<String> {
        Exec::new(Ok(Place::Net(self.inner.switch.clone())), argv)
            .run()
            .context("switch")
    }

    /// An interface on the switch's side, to put frames on its wire.
    pub fn switch_wire(&self, interface: &str) -> Result<Wire> {
        self.inner.switch.within(|| Wire::to_send(interface))?
    }

    /// An interface on the switch's side, to take every frame from its wire.
    pub fn switch_tap(&self, interface: &str) -> Result<Wire> {
        self.inner.switch.within(|| Wire::to_receive(interface))?
    }

    /// The MAC of a machine's eth0.
    pub fn mac_of(&self, name: &str) -> Result<Mac> {
        let machines = self.inner.machines();
        machines
            .get(name)
            .map(|machine| machine.host().mac())
            .context(format!("no machine {name}"))
    }

    /// Asks until the answer is yes; the error names what was awaited and the state last seen.
    pub fn wait_until<A: Awaited>(
        &self,
        what: &str,
        timeout: Duration,
        ask: impl FnMut() -> A,
    ) -> Result<A::Value> {
        crate::wait_until(what, timeout, ask)
    }

    /// Where the lab tells what it is doing.
    pub fn progress(&self) -> &Progress {
        &self.inner.progress
    }

    /// Process ids of all holders: when the lab has gone, so have they.
    pub fn holders(&self) -> Vec<u32> {
        let machines = self.inner.machines();
        let hosts = machines
            .values()
            .filter_map(|machine| machine.host().holder().ok());
        hosts.chain([self.inner.switch.pid()]).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Handles that tests still have must not keep machines alive.
        let machines = std::mem::take(&mut *self.inner.machines());
        for machine in machines.values() {
            machine.host().drop_servers();
            machine.host().set_place(None);
        }
    }
}

impl Inner {
    /// The names behind MACs, to tell who answered.
    pub(crate) fn names(&self) -> BTreeMap<Mac, String> {
        let machines = self.machines();
        machines
            .iter()
            .map(|(name, machine)| (machine.host().mac(), name.clone()))
            .collect()
    }

    /// Gives a node that is switched off its network again, as it first was.
    pub(crate) fn replug(&self, name: &str) -> Result<()> {
        let machine = self.machines().get(name).cloned();
        match machine {
            Some(Machine::Node(node, options)) => self.plug_node(&node, options),
            _ => Err(Error::new(format!("there is no node {name}"))),
        }
    }

    pub(crate) fn cable(&self, name: &str, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.switch_ip(&format!("link set {name} {state}\n"))
            .context(format!("cable of {name}"))
    }

    /// Takes a machine's network away: its cable at once, its namespace when nobody is in it.
    pub(crate) fn unplug(&self, host: &Host) -> Result<()> {
        self.switch_ip(&format!("link del {}\n", host.name()))?;
        host.drop_servers();
        host.set_place(None);
        Ok(())
    }

    fn plug_node(&self, node: &Node, options: NodeOptions) -> Result<()> {
        let place = self.plug(node, options.macvlan)?;
        let mut lines = String::new();
        for machine in self.machines().values() {
            if let Machine::Client(client) = machine {
                lines += &client.routes_to_it();
            }
        }
        self.set_up(node, &place, &lines)?;
        node.set_place(Some(place));
        Ok(())
    }

    fn plug_client(&self, client: &Client) -> Result<()> {
        let place = self.plug(client, false)?;
        self.set_up(client, &place, &client.routes_of_its_own())?;
        client.set_place(Some(place));
        self.allow_any_source(client)
    }

    /// Gives a machine a namespace of its own, without a cable.
    pub(crate) fn place_apart(&self, host: &Host) -> Result<()> {
        host.set_place(Some(Place::Net(self.quiet_namespace(host.name())?)));
        let machine = Machine::Far(host.clone());
        self.machines().insert(host.name().into(), machine);
        Ok(())
    }

    /// A client may send from any address and port of its networks.
    pub(crate) fn allow_any_source(&self, client: &Client) -> Result<()> {
        // Ask for neighbours as a router does, from its own address; have ports for all the flows.
        client.sysctl("net.ipv4.conf.all.arp_announce", 2)?;
        client.sysctl("net.ipv4.ip_local_port_range", "2048 65001")?;
        // Chosen ports may be used again soon: what is tested is not the client's TIME_WAIT.
        client.sysctl("net.ipv4.tcp_tw_reuse", 1)?;
        // A local route is enough to bind in IPv4, in IPv6 it is not.
        client.sysctl("net.ipv6.ip_nonlocal_bind", 1)
    }

    /// Makes the namespace and its cable; the port on the switch has the machine's name.
    fn plug(&self, host: &Host, macvlan: bool) -> Result<Place> {
        let name = host.name();
        let net = self.quiet_namespace(name)?;
        let (pid, mac) = (net.pid(), host.mac());
        let cable = if macvlan {
            // The lower device stays on the switch's side: in the node it would answer by itself.
            format!(
                "link add {name} type veth peer name {name}-phys\nlink set {name}-phys up\n\
                 link add link {name}-phys name {name}-eth0 address {mac} type macvlan mode bridge\n\
                 link set {name}-eth0 netns {pid} name eth0\n"
            )
        } else {
            format!("link add {name} type veth peer name eth0 address {mac} netns {pid}\n")
        };
        self.switch_ip(&format!("{cable}link set {name} master br0 up\n"))?;
        Ok(Place::Net(net))
    }

    /// A namespace that says nothing by itself.
    fn quiet_namespace(&self, name: &str) -> Result<Arc<Namespace>> {
        let net = Arc::new(Namespace::new(&format!("{}/{name}", self.name))?);
        net.within(|| {
            let quiet = ["net.ipv6.conf.all", "net.ipv6.conf.default"];
            for conf in quiet {
                write_sysctl(&format!("{conf}.accept_dad"), "0")?;
                write_sysctl(&format!("{conf}.dad_transmits"), "0")?;
                write_sysctl(&format!("{conf}.accept_ra"), "0")?;
                write_sysctl(&format!("{conf}.router_solicitations"), "0")?;
            }
            write_sysctl("net.ipv4.conf.all.rp_filter", "0")?;
            write_sysctl("net.ipv4.conf.default.rp_filter", "0")
        })??;
        Ok(net)
    }

    fn set_up(&self, host: &Host, place: &Place, further: &str) -> Result<()> {
        let (v4, v6) = (host.v4(), host.v6());
        let lines = format!(
            "link set lo up\nlink set eth0 up\naddr add {v4}/24 brd + dev eth0\n\
             addr add {v6}/64 dev eth0 nodad\n{further}"
        );
        Exec::new(Ok(place.clone()), &["ip", "-batch", "-"])
            .stdin(lines)
            .run()
            .context(host.name())?;
        Ok(())
    }

    fn nodes(&self) -> Vec<Node> {
        let machines = self.machines();
        let nodes = machines.values().filter_map(|machine| match machine {
            Machine::Node(node, _) => Some(node.clone()),
            Machine::Client(_) | Machine::Far(_) => None,
        });
        nodes.collect()
    }

    /// Where the switch is.
    pub(crate) fn switch_place(&self) -> Place {
        Place::Net(self.switch.clone())
    }

    fn switch_ip(&self, batch: &str) -> Result<()> {
        Exec::new(Ok(self.switch_place()), &["ip", "-batch", "-"])
            .stdin(batch)
            .run()
            .context("switch")?;
        Ok(())
    }

    fn machines(&self) -> MutexGuard<'_, BTreeMap<String, Machine>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number at the end of a machine's name, from which its addresses follow.
fn number_of(name: &str, highest: u8) -> Result<u8> {
    let digits = name.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    match digits.parse() {
        // An interface on the switch is called like the machine, with a suffix of five letters.
        Ok(number) if (1..=highest).contains(&number) && name.len() <= 10 => Ok(number),
        _ => Err(Error::new(format!(
            "{name:?} is no name for a machine: a letter and a number from 1 to {highest}, like n1"
        ))),
    }
}
