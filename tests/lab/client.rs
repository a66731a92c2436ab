//! A client: a host with a whole network of source addresses behind it.
//! What it can send is in `traffic`, what it sees on its wire in `witness`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::sync::{Arc, Weak};

use crate::Result;
use crate::host::Host;
use crate::topology::Inner;
use crate::witness::Witness;

/// A client of the lab; copies are handles of the same client.
#[derive(Clone)]
pub struct Client {
    host: Host,
    number: u8,
    lab: Weak<Inner>,
}

impl Client {
    pub(crate) fn new(host: Host, number: u8, lab: Weak<Inner>) -> Self {
        Self { host, number, lab }
    }

    /// `count` different IPv4 addresses behind this client, the same at every call.
    pub fn sources_v4(&self, count: usize) -> Vec<IpAddr> {
        let base = u32::from(Ipv4Addr::new(10, 77 + self.number, 0, 0));
        (1..=count as u32)
            .map(|offset| Ipv4Addr::from(base + offset).into())
            .collect()
    }

    /// `count` different IPv6 addresses behind this client, the same at every call.
    pub fn sources_v6(&self, count: usize) -> Vec<IpAddr> {
        let base = u128::from(Ipv6Addr::new(
            0xfd77 + u16::from(self.number),
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ));
        (1..=count as u128)
            .map(|offset| Ipv6Addr::from(base + offset).into())
            .collect()
    }

    /// `count` addresses behind this client of the same family as `target`.
    pub fn sources_for(&self, target: IpAddr, count: usize) -> Vec<IpAddr> {
        match target {
            IpAddr::V4(_) => self.sources_v4(count),
            IpAddr::V6(_) => self.sources_v6(count),
        }
    }

    /// Begins to record every frame from `vips` (or, with none given, from anybody) on this wire.
    pub fn witness(&self, vips: &[IpAddr]) -> Result<Witness> {
        Witness::start(self, vips)
    }

    pub(crate) fn lab(&self) -> Option<Arc<Inner>> {
        self.lab.upgrade()
    }

    /// Lines for `ip -batch` on every node.
    pub(crate) fn routes_to_it(&self) -> String {
        let (net4, net6) = self.networks();
        let (v4, v6) = (self.v4(), self.v6());
        format!("route replace {net4} via {v4}\nroute replace {net6} via {v6}\n")
    }

    /// Lines for `ip -batch` on the client: it may use any address of its networks.
    pub(crate) fn routes_of_its_own(&self) -> String {
        let (net4, net6) = self.networks();
        format!("route add local {net4} dev lo\nroute add local {net6} dev lo\n")
    }

    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    pub(crate) fn networks(&self) -> (String, String) {
        let k = u16::from(self.number);
        (
            format!("10.{}.0.0/16", 77 + k),
            format!("{:x}::/64", 0xfd77 + k),
        )
    }
}

impl Deref for Client {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}
