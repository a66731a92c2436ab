//! What is particular to a site: the VIP, its cluster MAC, the VLAN, the ports.

use crate::model::frame::solicited_node;
use crate::model::l2_mode::L2Mode;
use crate::model::mac::Mac;
use crate::model::untrusted::shown;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Where the cluster is, as its switches and routers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The VIP.
    pub vip: IpAddr,
    /// How all nodes get to see its packets.
    pub mode: L2Mode,
    /// Its cluster MAC.
    pub mac: Mac,
    /// The VLAN of the nodes, if it is known.
    pub vlan: Option<Vlan>,
    /// The switch's ports to which nodes are connected, if they are known.
    pub ports: Vec<Port>,
    /// The router's interface in the nodes' network, if it is known.
    pub interface: Option<Port>,
}

impl Site {
    /// The multicast group to which the cluster MAC belongs; `None` for a MAC of somebody's own. Of the 32
    /// IPv4 groups that share a MAC it is the one that stays within the site (239/8, RFC 2365).
    pub fn group(&self) -> Option<IpAddr> {
        let is_vips = self.mac == Mac::of_group(self.vip);
        match self.vip {
            IpAddr::V4(_) if is_vips || self.mode == L2Mode::Igmp => {
                self.mac.group().map(IpAddr::from)
            }
            IpAddr::V6(vip) if is_vips => Some(solicited_node(vip).into()),
            _ => None,
        }
    }

    /// The cluster MAC as `0100.5e7f.0063`.
    pub(super) fn dotted(&self) -> String {
        self.quads('.')
    }

    /// The cluster MAC as `0100-5e7f-0063`.
    pub(super) fn dashed(&self) -> String {
        self.quads('-')
    }

    fn quads(&self, between: char) -> String {
        let [a, b, c, d, e, f] = self.mac.0;
        format!("{a:02x}{b:02x}{between}{c:02x}{d:02x}{between}{e:02x}{f:02x}")
    }

    /// The VLAN, or a blank to fill in.
    pub(super) fn vlan(&self) -> String {
        let known = self.vlan.as_ref().map(Vlan::to_string);
        known.unwrap_or_else(|| "<VLAN>".to_owned())
    }

    /// The nodes' ports with this between them, or a blank to fill in.
    pub(super) fn ports(&self, between: &str) -> String {
        match self.ports.as_slice() {
            [] => format!("<PORT>{between}<PORT> …"),
            known => known
                .iter()
                .map(Port::as_str)
                .collect::<Vec<_>>()
                .join(between),
        }
    }

    /// A line for each of the nodes' ports, or one with a blank to fill in.
    pub(super) fn each_port(&self, line: impl Fn(&str) -> String) -> Vec<String> {
        match self.ports.as_slice() {
            [] => vec![line("<PORT>")],
            known => known.iter().map(|port| line(port.as_str())).collect(),
        }
    }

    /// The router's interface, or a blank to fill in.
    pub(super) fn interface(&self) -> String {
        self.interface_or("<INTERFACE>")
    }

    /// The router's interface; where it is not known, what it usually is called.
    pub(super) fn interface_or(&self, usual: &str) -> String {
        let known = self.interface.as_ref().map(|port| port.as_str().to_owned());
        known.unwrap_or_else(|| usual.to_owned())
    }
}

/// A VLAN's number, 1 to 4094 (IEEE 802.1Q).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlan(u16);

impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Vlan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text
            .parse()
            .ok()
            .filter(|number| (1..=4094).contains(number));
        number
            .map(Vlan)
            .ok_or_else(|| format!("'{}' is no VLAN; use a number from 1 to 4094", shown(text)))
    }
}

/// The name of a switch's or router's port or interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port(String);

impl Port {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Port {
    type Err = String;

    /// 1 to 40 letters, digits and `/ . - _ :`, so that nothing else gets into a command line.
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/.-_:".contains(c);
        match (1..=40).contains(&text.len()) && text.chars().all(plain) {
            true => Ok(Port(text.to_owned())),
            false => Err(format!(
                "'{}' is no port; use up to 40 letters, digits and / . - _ :, such as Gi1/0/1",
                shown(text)
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_a_line_is_checked() {
        for good in ["1", "4094"] {
            assert!(good.parse::<Vlan>().is_ok(), "{good}");
        }
        for wrong in ["", "0", "4095", "10a", "-1"] {
            assert!(wrong.parse::<Vlan>().is_err(), "{wrong}");
        }
        for good in ["Gi1/0/1", "ge-0/0/1.0", "swp1", "1:2"] {
            assert!(good.parse::<Port>().is_ok(), "{good}");
        }
        for wrong in ["", "a b", "a;b", "a\nb", "$x", &"x".repeat(41)] {
            assert!(wrong.parse::<Port>().is_err(), "{wrong}");
        }
    }
}
