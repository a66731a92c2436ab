//! A client that is one hop further away, behind a router with the client's place at the switch.
//!
//! ```text
//! switch ── eth0 [router c1: 10.77.0.201] in0 ── a narrow cable ── eth0 [client: 10.78.0.0/16]
//! ```
//!
//! The client tells the nodes that it takes segments of full Ethernet size, so they learn of the
//! narrow cable from the router alone (RFC 1191, RFC 8201).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::client::Client;
use crate::host::{Host, Mac};
use crate::topology::Lab;
use crate::{Context, Result};

/// A client and the router before it.
pub struct Behind {
    /// What sends: its sources are those behind the router.
    pub client: Client,
    /// What the nodes see. Its witness tells their frames apart, the client's sees only the router.
    pub router: Client,
}

impl Lab {
    /// The client of this name behind a router of its own, by a cable of this MTU.
    pub fn client_behind_router(&self, name: &str, mtu: u16) -> Result<Behind> {
        let router = self.client(name)?;
        let number = router.number();
        let host = Host::new(
            &format!("{name}-far"),
            Mac([2, 0x77, 0, 0, 2, number]),
            Ipv4Addr::new(192, 168, number, 2),
            Ipv6Addr::new(0xfd76, 0, 0, u16::from(number), 0, 0, 0, 2),
        );
        let client = Client::new(host, number, Arc::downgrade(&self.inner));
        self.inner.place_apart(&client)?;
        let (near4, near6) = (
            format!("192.168.{number}.1"),
            format!("fd76:0:0:{number:x}::1"),
        );
        let (holder, mac, near_mac) = (client.holder()?, client.mac(), router.mac());
        // The cable's near end has the MAC of eth0, so that a witness takes what passes there for
        // the router's own.
        let mut lines = format!(
            "link add in0 address {near_mac} mtu {mtu} type veth \
             peer name eth0 address {mac} mtu {mtu} netns {holder}\n\
             link set in0 up\naddr add {near4}/30 dev in0\naddr add {near6}/64 dev in0 nodad\n"
        );
        lines += &router.routes_of_its_own().replace("add", "del");
        for (network, far) in [
            (router.networks().0, client.v4().to_string()),
            (router.networks().1, client.v6().to_string()),
        ] {
            lines += &format!("route add {network} via {far}\n");
        }
        batch(&router, &lines)?;
        router.sysctl("net.ipv4.ip_forward", 1)?;
        router.sysctl("net.ipv6.conf.all.forwarding", 1)?;
        let (v4, v6) = (client.v4(), client.v6());
        let lines = format!(
            "link set lo up\nlink set eth0 up\naddr add {v4}/30 dev eth0\n\
             addr add {v6}/64 dev eth0 nodad\n{}\
             route add default via {near4} advmss 1460\nroute add default via {near6} advmss 1440\n",
            client.routes_of_its_own()
        );
        batch(&client, &lines)?;
        self.inner.allow_any_source(&client)?;
        Ok(Behind { client, router })
    }
}

fn batch(host: &Host, lines: &str) -> Result<()> {
    host.exec(&["ip", "-batch", "-"])
        .stdin(lines)
        .run()
        .map(drop)
        .context(host.name())
}
