//! A complete configuration for a shared address, as data: the resources and rules that follow from a wish. Each
//! is said once; `crm` and `pcs` have the words. Pure, nothing is loaded.
//!
//! They are the service, in a group with an attribute that says where it runs, and the group's clone; the gate that
//! keeps it until its connections have ended; the address and its clone; the order of the three, and the rule that
//! buckets go where the service runs. What belongs to the whole cluster is left alone, and is `remarks`', but for the
//! one property without which a gate cuts connections on busy nodes.

use super::wish::{Service, Wish};
use crate::model::vip::L2Mode;

/// How much longer than the connections the gate may wait, in seconds.
const GATE_SPARE_S: u32 = 20;
/// The times of the address's and the gate's actions, in seconds.
const ACTION_S: u32 = 20;
const MONITOR_S: u32 = 10;
const GATE_MONITOR_S: u32 = 60;
/// The times of a generated service's actions, in seconds.
const SERVICE_S: u32 = 60;
const SERVICE_MONITOR_S: u32 = 20;
/// The parameter that both agents have.
const NETNS: &str = "network_namespace";
/// Why something is set that is not only the address's. Two hyphens in a row cannot stand in a comment of the CIB.
const THRESHOLD: &str = "\
# This one is the whole cluster's: a node's load no longer makes Pacemaker do less at once, on any node and for\n\
# any resource; node-action-limit still does. With the default, 80%, one node with a load above 1.6 for each of\n\
# its cores lets the cluster do only half as many actions at once as it has nodes. A gate that waits is one: with\n\
# three nodes nothing else goes on, buckets stay dark, after ten seconds the gate opens, and connections are cut.\n\
# The default again, once the last gate is gone: crm_attribute -t crm_config -n load-threshold -D";

/// Resources or rules that belong together.
#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    /// What they are for: lines that are comments for crm shell and for a shell.
    pub why: String,
    /// They themselves.
    pub parts: Vec<Part>,
}

/// A piece of the configuration, as both languages have it.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// A resource.
    Primitive(Primitive),
    /// Resources that run together, the later ones after the earlier ones.
    Group {
        /// Its name.
        id: String,
        /// The resources.
        members: Vec<String>,
    },
    /// Instances of a resource on all nodes.
    Clone {
        /// Its name.
        id: String,
        /// Of what.
        of: String,
        /// Its meta attributes.
        meta: Vec<(&'static str, String)>,
    },
    /// A property of the whole cluster.
    Property(&'static str, &'static str),
    /// One starts before the other, and stops after it.
    Order {
        /// What starts first.
        first: String,
        /// What starts then.
        then: String,
    },
    /// Where something never runs.
    Location {
        /// The rule's name.
        id: String,
        /// What it is for.
        of: String,
        /// On nodes of which this is true, in the words of Pacemaker's rules, which both languages take.
        never_where: String,
    },
}

/// A resource of an agent.
#[derive(Debug, PartialEq, Eq)]
pub struct Primitive {
    /// Its name.
    pub id: String,
    /// The agent.
    pub agent: String,
    /// Its parameters.
    pub parameters: Vec<(&'static str, Value)>,
    /// The times of its actions.
    pub times: Times,
    /// Its meta attributes.
    pub meta: Vec<(&'static str, String)>,
}

/// A parameter's value.
#[derive(Debug, PartialEq, Eq)]
pub enum Value {
    /// What was wished: in a shell it wants quotes.
    Wished(String),
    /// A word of the configuration's own, of letters, digits and hyphens.
    Own(String),
}

/// How long actions may take, and how often there is a monitor, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// A start.
    pub start_s: u32,
    /// A stop.
    pub stop_s: u32,
    /// A monitor.
    pub monitor_s: u32,
    /// From one monitor to the next.
    pub every_s: u32,
}

/// The whole configuration, in the order in which it is said.
pub fn sections(wish: &Wish) -> Vec<Section> {
    let all = [
        service(wish),
        gate(wish),
        threshold(wish),
        Some(address(wish)),
        order(wish),
        place(wish),
    ];
    all.into_iter().flatten().collect()
}

/// The service, if it is configured here: with the attribute it is a group, and that has a clone.
fn service(wish: &Wish) -> Option<Section> {
    let Some(Service::Agent(agent)) = &wish.service else {
        return None;
    };
    let (tag, up, clone) = (wish.tag(), wish.attribute()?, wish.service_clone()?);
    let service = Primitive {
        id: format!("service-{tag}"),
        agent: agent.clone(),
        parameters: Vec::new(),
        times: Times {
            start_s: SERVICE_S,
            stop_s: SERVICE_S,
            monitor_s: SERVICE_MONITOR_S,
            every_s: SERVICE_MONITOR_S,
        },
        meta: Vec::new(),
    };
    let own = |word: &str| Value::Own(word.to_owned());
    let attribute = Primitive {
        id: up.clone(),
        agent: "ocf:pacemaker:attribute".to_owned(),
        parameters: vec![
            ("name", own(&up)),
            ("active_value", own("1")),
            ("inactive_value", own("0")),
        ],
        times: usual_times(SERVICE_MONITOR_S),
        meta: Vec::new(),
    };
    let group = format!("node-{tag}");
    let together = Part::Group {
        id: group.clone(),
        members: vec![service.id.clone(), up.clone()],
    };
    Some(Section {
        why: format!(
            "# What the address is for, on every node. The attribute {up} says where it runs."
        ),
        parts: vec![
            Part::Primitive(service),
            Part::Primitive(attribute),
            together,
            clone_on_all(clone, group),
        ],
    })
}

/// The gate, if there is something that it can keep.
fn gate(wish: &Wish) -> Option<Section> {
    if !wish.has_gate() {
        return None;
    }
    let id = format!("gate-{}", wish.tag());
    let gate = Primitive {
        id: id.clone(),
        agent: "ocf:rust:ClusterIPDrain".to_owned(),
        parameters: netns_parameter(wish).into_iter().collect(),
        times: Times {
            stop_s: gate_stop_s(wish),
            ..usual_times(GATE_MONITOR_S)
        },
        meta: Vec::new(),
    };
    Some(Section {
        why: format!(
            "# Going, it waits until the node's connections have ended, {} s at most.",
            wish.drain_s
        ),
        parts: vec![Part::Primitive(gate), clone_on_all(gate_clone(wish), id)],
    })
}

/// What lets a gate wait on a busy node.
fn threshold(wish: &Wish) -> Option<Section> {
    wish.has_gate().then(|| Section {
        why: THRESHOLD.to_owned(),
        parts: vec![Part::Property("load-threshold", "10000%")],
    })
}

/// The address and its instances, of which a node takes as many as there are.
fn address(wish: &Wish) -> Section {
    let id = format!("ip-{}", wish.tag());
    let wished = Value::Wished;
    let mut parameters = vec![
        ("ip", wished(wish.ip.to_string())),
        ("nic", wished(wish.nic.to_string())),
    ];
    parameters.extend(netns_parameter(wish));
    let prefix = wish.prefix.map(|prefix| prefix.to_string());
    parameters.extend(prefix.map(|prefix| ("cidr_netmask", wished(prefix))));
    if wish.mode != L2Mode::default() {
        parameters.push(("mode", wished(wish.mode.to_string())));
    }
    let mac = wish.mac.map(|mac| mac.to_string());
    parameters.extend(mac.map(|mac| ("mac", wished(mac))));
    parameters.extend([
        ("clusterip_hash", wished(wish.hash.to_string())),
        ("hash_seed", wished(format!("{:#010x}", wish.seed))),
        ("drain_timeout", wished(format!("{}s", wish.drain_s))),
    ]);
    let address = Primitive {
        id: id.clone(),
        agent: "ocf:rust:ClusterIP".to_owned(),
        parameters,
        times: usual_times(MONITOR_S),
        meta: vec![("resource-stickiness", "0".to_owned())],
    };
    let clone = Part::Clone {
        id: address_clone(wish),
        of: id,
        meta: vec![
            ("globally-unique", "true".to_owned()),
            ("clone-max", wish.buckets().to_string()),
            ("clone-node-max", wish.buckets().to_string()),
            ("interleave", "true".to_owned()),
        ],
    };
    Section {
        why: "# The address. Each instance is the right to serve one bucket of the hash."
            .to_owned(),
        parts: vec![Part::Primitive(address), clone],
    }
}

/// What comes before what, if anything does.
fn order(wish: &Wish) -> Option<Section> {
    let gate = wish.has_gate().then(|| gate_clone(wish));
    let chain = wish.service_clone().into_iter().chain(gate);
    let chain: Vec<String> = chain.chain([address_clone(wish)]).collect();
    let pairs = chain.windows(2).map(|pair| Part::Order {
        first: pair[0].clone(),
        then: pair[1].clone(),
    });
    (chain.len() > 1).then(|| Section {
        why: "# Coming: the service, the gate, the buckets. Going: the buckets, the gate, and then the service."
            .to_owned(),
        parts: pairs.collect(),
    })
}

/// Where buckets go, if it is known where the service runs.
fn place(wish: &Wish) -> Option<Section> {
    let up = wish.attribute()?;
    let rule = Part::Location {
        id: format!("ip-{}-where-service", wish.tag()),
        of: address_clone(wish),
        never_where: format!("not_defined {up} or {up} ne 1"),
    };
    Some(Section {
        why: "# Buckets go to nodes where the service runs, and nowhere else.".to_owned(),
        parts: vec![rule],
    })
}

fn gate_clone(wish: &Wish) -> String {
    format!("clone-gate-{}", wish.tag())
}

fn address_clone(wish: &Wish) -> String {
    format!("clone-ip-{}", wish.tag())
}

/// For how long a gate may wait.
pub(super) fn gate_stop_s(wish: &Wish) -> u32 {
    wish.drain_s + GATE_SPARE_S
}

/// The namespace, which both agents have to know.
fn netns_parameter(wish: &Wish) -> Option<(&'static str, Value)> {
    let netns = wish.netns.as_ref()?;
    Some((NETNS, Value::Wished(netns.as_str().to_owned())))
}

/// An instance on every node, which waits for nothing but what is on its own.
fn clone_on_all(id: String, of: String) -> Part {
    let meta = vec![("interleave", "true".to_owned())];
    Part::Clone { id, of, meta }
}

/// The times of actions that are done at once.
fn usual_times(every_s: u32) -> Times {
    Times {
        start_s: ACTION_S,
        stop_s: ACTION_S,
        monitor_s: ACTION_S,
        every_s,
    }
}

/// The whole configuration in the words of a language, which has some for each part.
pub(super) fn said(wish: &Wish, word: impl Fn(&Part) -> String) -> String {
    let section = |Section { why, parts }: &Section| {
        let parts: String = parts.iter().map(|part| word(part) + "\n").collect();
        format!("\n{why}\n{parts}")
    };
    sections(wish).iter().map(section).collect()
}

/// `name=value`, one after the other, each value as the language has it.
pub(super) fn pairs<V>(all: &[(&str, V)], value: impl Fn(&V) -> String) -> String {
    let all = all.iter().map(|(name, it)| format!("{name}={}", value(it)));
    all.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::wish::tests::{a_wish, in_front};
    use super::*;

    const GATE_AND_ADDRESS: [&str; 2] = ["ocf:rust:ClusterIPDrain", "ocf:rust:ClusterIP"];

    fn parts(wish: &Wish) -> Vec<Part> {
        let sections = sections(wish).into_iter();
        sections.flat_map(|section| section.parts).collect()
    }

    fn agents(wish: &Wish) -> Vec<String> {
        let parts = parts(wish).into_iter();
        let agents = parts.filter_map(|part| match part {
            Part::Primitive(primitive) => Some(primitive.agent),
            _ => None,
        });
        agents.collect()
    }

    fn orders(wish: &Wish) -> Vec<(String, String)> {
        let parts = parts(wish).into_iter();
        let orders = parts.filter_map(|part| match part {
            Part::Order { first, then } => Some((first, then)),
            _ => None,
        });
        orders.collect()
    }

    /// Where buckets do not go.
    fn nowhere(wish: &Wish) -> Option<String> {
        parts(wish).into_iter().find_map(|part| match part {
            Part::Location { never_where, .. } => Some(never_where),
            _ => None,
        })
    }

    fn pair(first: &str, then: &str) -> (String, String) {
        (first.to_owned(), then.to_owned())
    }

    #[test]
    fn without_a_service_there_is_nothing_to_keep_and_nothing_to_order() {
        assert_eq!(agents(&a_wish()), ["ocf:rust:ClusterIP"]);
        assert_eq!((orders(&a_wish()), nowhere(&a_wish())), (vec![], None));
    }

    #[test]
    fn a_clone_that_is_there_is_ordered_and_not_made_again() {
        let wish = in_front("cloneWeb");
        assert_eq!(agents(&wish), GATE_AND_ADDRESS);
        // Nothing is known of where it runs.
        assert_eq!(nowhere(&wish), None);
        let (gate, address) = ("clone-gate-10-0-0-99", "clone-ip-10-0-0-99");
        assert_eq!(orders(&wish), [pair("cloneWeb", gate), pair(gate, address)]);
    }

    #[test]
    fn a_second_address_goes_where_the_service_of_the_first_runs() {
        let wish = Wish {
            ip: "2001:db8::99".parse().expect("an address"),
            ..in_front("clone-service-10-0-0-99")
        };
        let rule = nowhere(&wish).expect("a rule");
        assert_eq!(rule, "not_defined up-10-0-0-99 or up-10-0-0-99 ne 1");
        assert_eq!(agents(&wish), GATE_AND_ADDRESS);
        assert_eq!(nowhere(&in_front("clone-service-web")), None);
    }

    #[test]
    fn where_connections_do_not_stay_nobody_waits_for_them() {
        let wish = Wish {
            drain_s: 0,
            ..in_front("systemd:nginx")
        };
        assert!(!agents(&wish).iter().any(|it| it == GATE_AND_ADDRESS[0]));
        let (service, address) = ("clone-service-10-0-0-99", "clone-ip-10-0-0-99");
        assert_eq!(orders(&wish), [pair(service, address)]);
    }

    #[test]
    fn only_who_waits_sets_what_is_the_whole_clusters() {
        let gated = in_front("systemd:nginx");
        let ungated = Wish {
            drain_s: 0,
            ..gated.clone()
        };
        for (wish, sets) in [(gated, true), (ungated, false), (a_wish(), false)] {
            let property = Part::Property("load-threshold", "10000%");
            assert_eq!(parts(&wish).contains(&property), sets);
            let sections = sections(&wish);
            let told = |section: &Section| section.why.contains("the whole cluster's");
            assert_eq!(sections.iter().any(told), sets);
        }
    }
}
