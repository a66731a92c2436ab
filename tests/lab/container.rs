//! A container: a host behind a node, which translates addresses for it as container engines do.
//!
//! ```text
//! switch ── eth0 [node] box0: 172.31.0.1 ── eth0 [container: 172.31.0.2]
//! ```
//!
//! Every node's container has the same addresses, as containers of one image have.

use crate::host::{Host, Mac};
use crate::node::Node;
use crate::topology::Lab;
use crate::{Context, Result};
use std::net::{Ipv4Addr, Ipv6Addr};

const NETWORKS: [(&str, &str); 2] = [("172.31.0.1", "/24"), ("fd31::1", "/64")];

impl Lab {
    /// The node's container, to which the node passes on what comes in for this TCP port.
    pub fn container(&self, node: &Node, port: u16) -> Result<Node> {
        let [.., number] = node.mac().0;
        let host = Host::new(
            &format!("{}-box", node.name()),
            Mac([2, 0x77, 0, 0, 3, number]),
            Ipv4Addr::new(172, 31, 0, 2),
            Ipv6Addr::new(0xfd31, 0, 0, 0, 0, 0, 0, 2),
        );
        let container = Node::new(host);
        self.inner.place_apart(&container)?;
        let (holder, mac) = (container.holder()?, container.mac());
        let mut lines = format!(
            "link add box0 type veth peer name eth0 address {mac} netns {holder}\n\
             link set box0 up\n"
        );
        let mut inside = "link set lo up\nlink set eth0 up\n".to_owned();
        let own = [container.v4().to_string(), container.v6().to_string()];
        for ((near, prefix), own) in NETWORKS.into_iter().zip(own) {
            let nodad = if near.contains(':') { " nodad" } else { "" };
            lines += &format!("addr add {near}{prefix} dev box0{nodad}\n");
            inside += &format!("addr add {own}{prefix} dev eth0{nodad}\n");
            inside += &format!("route add default via {near}\n");
        }
        for (host, lines) in [(&**node, lines), (&*container, inside)] {
            let done = host.exec(&["ip", "-batch", "-"]).stdin(lines).run();
            done.context(host.name())?;
        }
        node.sysctl("net.ipv4.ip_forward", 1)?;
        node.sysctl("net.ipv6.conf.all.forwarding", 1)?;
        let (v4, v6) = (container.v4(), container.v6());
        let rules = format!(
            "table inet engine {{ chain in {{ type nat hook prerouting priority dstnat; \
             iifname eth0 meta nfproto ipv4 tcp dport {port} dnat ip to {v4}; \
             iifname eth0 meta nfproto ipv6 tcp dport {port} dnat ip6 to {v6}; }}; }}"
        );
        let done = node.exec(&["nft", "-f", "-"]).stdin(rules).run();
        done.context(node.name())?;
        Ok(container)
    }
}
