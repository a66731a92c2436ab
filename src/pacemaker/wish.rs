//! What is wished of a configuration for a shared address: from the command line, and as far as it is said there.
//! Pure.

use crate::model::bucket::BucketCount;
use crate::model::hash::HashMode;
use crate::model::mac::Mac;
use crate::model::nic::is_shown;
use crate::model::untrusted::shown;
use crate::model::vip::{L2Mode, Nic};
use std::net::IpAddr;
use std::str::FromStr;

/// So many buckets a node, if nobody says how many there are to be: a dead node's share spreads evenly
/// over up to four others.
const BUCKETS_A_NODE: u16 = 4;
/// What the names of services begin with that are configured here; their address's tag follows.
const OWN_SERVICE: &str = "clone-service-";

/// What the address is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// A resource agent, such as `systemd:nginx`: it is configured too, on every node.
    Agent(String),
    /// A clone that is configured already.
    Clone(String),
}

impl FromStr for Service {
    type Err = String;

    /// With a colon it is an agent, without one the name of a clone.
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |part: &str, more: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
            !part.is_empty() && part.chars().all(fits)
        };
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            [_, ..] if text.len() > 80 => {}
            [name] if plain(name, "._-") => return Ok(Service::Clone(text.to_owned())),
            ["ocf", provider, agent] if plain(provider, "._-") && plain(agent, "._-") => {
                return Ok(Service::Agent(text.to_owned()));
            }
            ["systemd" | "lsb" | "service", unit] if plain(unit, "._-@") => {
                return Ok(Service::Agent(text.to_owned()));
            }
            _ => {}
        }
        Err(format!(
            "'{}' is no service; use an agent such as systemd:nginx or ocf:heartbeat:apache, or \
             the name of a clone that is configured already",
            shown(text)
        ))
    }
}

/// The name of a network namespace. Quotes, white space and control characters are refused beside what `ip
/// netns` refuses: they could not be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netns(String);

impl Netns {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Netns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match is_shown(text, 255, b"/\"'\\") {
            true => Ok(Netns(text.to_owned())),
            false => Err(format!(
                "'{}' is no name of a network namespace; use one that 'ip netns' shows",
                shown(text)
            )),
        }
    }
}

/// What is to be configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The shared address.
    pub ip: IpAddr,
    /// The length of its network's prefix, if it is not to be found on each node.
    pub prefix: Option<u8>,
    /// The interface.
    pub nic: Nic,
    /// The network namespace that it is in, if it is not the host's.
    pub netns: Option<Netns>,
    /// How many nodes there are.
    pub nodes: u16,
    /// How many buckets, if not so many a node as are usual.
    pub buckets: Option<BucketCount>,
    /// What enters the hash.
    pub hash: HashMode,
    /// The initial value of the hash.
    pub seed: u32,
    /// How all nodes get to see the packets.
    pub mode: L2Mode,
    /// The cluster MAC, if it is not to follow from the address.
    pub mac: Option<Mac>,
    /// For how many seconds connections may stay when their bucket leaves.
    pub drain_s: u32,
    /// The service behind the address, if it is Pacemaker's.
    pub service: Option<Service>,
}

impl Wish {
    /// The number of buckets, which is that of the clone's instances.
    pub fn buckets(&self) -> u16 {
        let usual = self.nodes.saturating_mul(BUCKETS_A_NODE);
        let usual = usual.clamp(1, BucketCount::MAX);
        self.buckets.map_or(usual, BucketCount::get)
    }

    /// What the names of its resources end in.
    pub(super) fn tag(&self) -> String {
        tag(self.ip)
    }

    /// The node attribute that says where the service runs, if that is known: it is configured here, or was
    /// for another address.
    pub(super) fn attribute(&self) -> Option<String> {
        match &self.service {
            Some(Service::Agent(_)) => Some(format!("up-{}", self.tag())),
            Some(Service::Clone(name)) => {
                let tag = name.strip_prefix(OWN_SERVICE)?;
                is_tag(tag).then(|| format!("up-{tag}"))
            }
            None => None,
        }
    }

    /// Is there something that a gate can keep?
    pub(super) fn has_gate(&self) -> bool {
        self.drain_s > 0 && self.service.is_some()
    }

    /// The clone of the service, if there is one.
    pub(super) fn service_clone(&self) -> Option<String> {
        self.service.as_ref().map(|service| match service {
            Service::Agent(_) => format!("{OWN_SERVICE}{}", self.tag()),
            Service::Clone(name) => name.clone(),
        })
    }
}

/// What the names of an address's resources end in, each address's its own: `2001:db8::99` is
/// `2001-db8-x-99`. Two hyphens in a row cannot stand in a comment of the CIB.
fn tag(ip: IpAddr) -> String {
    let address = ip.to_string().replace("::", "-x-");
    address
        .replace([':', '.'], "-")
        .trim_matches('-')
        .to_owned()
}

/// Is it some address's?
fn is_tag(text: &str) -> bool {
    let words = format!("-{text}-").replace("-x-", "::");
    let words = words.trim_matches('-');
    let read = [".", ":"].map(|between| words.replace('-', between).parse::<IpAddr>());
    read.into_iter().flatten().any(|ip| tag(ip) == text)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn a_wish() -> Wish {
        Wish {
            ip: [10, 0, 0, 99].into(),
            prefix: Some(24),
            nic: "eth0".parse().expect("a name"),
            netns: None,
            nodes: 3,
            buckets: None,
            hash: HashMode::default(),
            seed: 0x3f7a_91c4,
            mode: L2Mode::default(),
            mac: None,
            drain_s: 300,
            service: None,
        }
    }

    /// The same for an address in front of this service.
    pub fn in_front(service: &str) -> Wish {
        let service = Some(service.parse().expect("a service"));
        Wish {
            service,
            ..a_wish()
        }
    }

    #[test]
    fn services_are_agents_or_clones_and_nothing_that_a_shell_would_mind() {
        let agent = |text: &str| Ok(Service::Agent(text.to_owned()));
        assert_eq!("systemd:nginx".parse(), agent("systemd:nginx"));
        assert_eq!(
            "ocf:heartbeat:apache".parse(),
            agent("ocf:heartbeat:apache")
        );
        assert_eq!("systemd:a@b".parse(), agent("systemd:a@b"));
        assert_eq!(
            "cloneWeb".parse(),
            Ok(Service::Clone("cloneWeb".to_owned()))
        );
        let long = "a".repeat(81);
        for wrong in [
            "",
            ":",
            "systemd:",
            "ocf:a",
            "ocf:a:b:c",
            "x:y",
            "a b",
            "a;b",
            "$(a)",
            &long,
        ] {
            assert!(wrong.parse::<Service>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_printed_names_no_namespace() {
        assert!("web-1".parse::<Netns>().is_ok());
        for wrong in ["", ".", "..", "a/b", "a b", "a'b", "a\"b", "a\\b", "\u{e4}"] {
            assert!(wrong.parse::<Netns>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_services_of_this_tool_are_known_by_their_names() {
        for ip in [
            "10.0.0.99",
            "2001:db8::99",
            "::99",
            "2001:db8::",
            "fd77::1:0:99",
        ] {
            assert!(is_tag(&tag(ip.parse().expect("an address"))), "{ip}");
        }
        for other in ["web", "10", "10-0-0", "10-0-0-99-web", "", "10.0.0.99"] {
            assert!(!is_tag(other), "{other}");
        }
    }

    #[test]
    fn every_address_has_names_of_its_own() {
        let tags = [
            "2001:db8::1:99",
            "2001:db8:1::99",
            "2001:db8::99",
            "::99",
            "10.0.0.99",
        ];
        let tags = tags.map(|ip| {
            Wish {
                ip: ip.parse().expect("an address"),
                ..a_wish()
            }
            .tag()
        });
        let distinct: std::collections::BTreeSet<&String> = tags.iter().collect();
        assert_eq!(distinct.len(), tags.len(), "{tags:?}");
    }

    #[test]
    fn there_are_four_buckets_a_node_unless_somebody_says_how_many() {
        let of = |nodes| Wish { nodes, ..a_wish() }.buckets();
        assert_eq!((of(1), of(3), of(16), of(u16::MAX)), (4, 12, 64, 1024));
        let five = Some(BucketCount::new(5).expect("a count"));
        assert_eq!(
            Wish {
                buckets: five,
                ..a_wish()
            }
            .buckets(),
            5
        );
    }
}
