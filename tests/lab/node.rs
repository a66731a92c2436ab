//! A node: a host that serves. Its place in a cluster is `cluster`'s business.

use std::ops::Deref;

use crate::host::Host;
use crate::serve::Serve;
use crate::{Context, Result};

/// How a node is attached to the switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeOptions {
    /// eth0 is a macvlan, which filters received frames by MAC as a real card does; veth does not.
    pub macvlan: bool,
}

/// A node of the lab; copies are handles of the same node.
#[derive(Clone)]
pub struct Node {
    host: Host,
}

impl Node {
    pub(crate) fn new(host: Host) -> Self {
        Self { host }
    }

    /// Starts a server that answers every line and datagram with `"<node> <request>"`.
    ///
    /// It listens on all addresses, those added later too; it is listening when this returns,
    /// and it serves until [`Node::stop_serving`], the node's end or the lab's.
    pub fn serve(&self, services: &[Serve]) -> Result<()> {
        let doing = || format!("serve on {}", self.name());
        let program = self.place()?.lab_program()?;
        let mut words = vec![program, "serve".into(), self.name().into()];
        words.extend(services.iter().map(ToString::to_string));
        let mut server = self.exec(&words).spawn_watching_stdin().context(doing())?;
        server.wait_for_line("serving").context(doing())?;
        self.keep(server);
        Ok(())
    }

    /// Ends all servers of this node; their connections are closed.
    pub fn stop_serving(&self) {
        self.drop_servers();
    }
}

impl Deref for Node {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}
