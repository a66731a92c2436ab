//! What Pacemaker, crmsh and pcs are told about the agent (OCF 1.1). Needs no privilege.

use super::parameters::IGNORED;
use std::fmt::Write;

/// The actions, in one line.
pub const USAGE: &str = "usage: ClusterIP start|stop|monitor|validate-all|reload-agent|meta-data";

/// A parameter as it is described.
struct Described {
    name: &'static str,
    kind: &'static str,
    default: Option<&'static str>,
    required: bool,
    unique: bool,
    reloadable: bool,
    short: &'static str,
    long: &'static str,
}

const fn parameter(
    name: &'static str,
    kind: &'static str,
    default: Option<&'static str>,
    short: &'static str,
    long: &'static str,
) -> Described {
    Described {
        name,
        kind,
        default,
        required: false,
        unique: false,
        reloadable: false,
        short,
        long,
    }
}

const PARAMETERS: [Described; 19] = [
    Described {
        required: true,
        unique: true,
        ..parameter(
            "ip",
            "string",
            None,
            "The shared IPv4 or IPv6 address",
            "The address that all nodes share, without a prefix, such as 10.0.0.99 or \
             2001:db8::99. No node may have it for itself.",
        )
    },
    parameter(
        "nic",
        "string",
        None,
        "Network interface",
        "The interface that carries the address. If it is not set, it is that of the most specific \
         connected route that has the address. It must be an Ethernet, and no port of a bridge or \
         bond. Alternative names will do, and eth0:web, of which web is the label.",
    ),
    parameter(
        "cidr_netmask",
        "string",
        None,
        "Length of the network's prefix",
        "1 to 32 (or a netmask such as 255.255.255.0), for IPv6 1 to 128. If it is not set, it is \
         that of the connected route.",
    ),
    parameter(
        "iflabel",
        "string",
        None,
        "Label of the address",
        "IPv4 only: 'ip address' and old tools show the address as nic:iflabel, of at most 15 \
         characters.",
    ),
    parameter(
        "mode",
        "select",
        Some("multicast"),
        "How all nodes get to see the packets",
        "multicast: by a multicast MAC, which switches flood or have in static entries. igmp: the same, \
         and every node joins the IPv4 group 239.255.Y.Z, for hardware that snoops and forwards by MAC; \
         software switches look the address inside up, so it does not help there. stealth: by a unicast \
         MAC that nothing is ever sent from, so that switches flood it: for snooping bridges, and routers \
         that refuse a multicast MAC. The same on all nodes.",
    ),
    parameter(
        "mac",
        "string",
        None,
        "The cluster MAC",
        "The MAC under which all nodes receive the address, a multicast one but for the mode stealth. If it \
         is not set: 01:00:5e:7f:Y:Z with the last two octets of an IPv4 address, 33:33:ff:… for IPv6; in \
         the mode stealth 02:bf and the address's last four octets.",
    ),
    parameter(
        "clusterip_hash",
        "select",
        Some("sourceip-sourceport"),
        "What of a packet chooses its bucket",
        "sourceip keeps a client on one node; sourceip-sourceport spreads its connections; \
         sourceip-sourceport-destport takes the destination port in as well.",
    ),
    parameter(
        "hash_layout",
        "select",
        Some("clusterip"),
        "How the address enters the hash",
        "clusterip: as the kernel's former CLUSTERIP target hashed (with hash_seed=0 the same \
         buckets). network: as xt_cluster hashes.",
    ),
    parameter(
        "hash_seed",
        "string",
        None,
        "Initial value of the hash",
        "0 to 4294967295, or hex after 0x; the same on all nodes. Set a random one: who knows it \
         can aim all of his traffic at one node. If it is not set, it follows from ip.",
    ),
    parameter(
        "compat",
        "select",
        Some("none"),
        "Share the address as a predecessor did",
        "clusterip: as the kernel's former target CLUSTERIP under IPaddr2, with its hash and the MAC that \
         IPaddr2 derived from ip, cidr_netmask and broadcast. ipaddr2: as the newest IPaddr2, with its hash, \
         seed and MAC. What is set explicitly counts (mac, hash_seed). Nodes that still are the predecessor's \
         may go on serving their buckets beside this. none: a MAC, and a seed, of this agent's own.",
    ),
    parameter(
        "buckets",
        "integer",
        None,
        "Number of buckets",
        "1 to 1024, equal to the clone's clone-max, which is the default. Several buckets a node \
         (12 for three nodes) spread a dead node's share evenly.",
    ),
    Described {
        reloadable: true,
        ..parameter(
            "drain_timeout",
            "time",
            Some("300s"),
            "How long connections may stay with a node whose bucket leaves",
            "0 to 86400 seconds. When a bucket moves to another living node, its TCP connections stay \
             where they are until they end, at most so long; new ones go to the other node at once. \
             0 cuts them. The same on all nodes.",
        )
    },
    parameter(
        "noprefixroute",
        "boolean",
        Some("false"),
        "Add no route to the address's network",
        "That route is left to others. Otherwise there is one of the agent's own, behind all others.",
    ),
    Described {
        reloadable: true,
        ..parameter(
            "check_link_status",
            "boolean",
            Some("true"),
            "An interface without a carrier is a failure",
            "Start and monitor fail while the interface has no carrier. One that is down is set up by \
             start, and a failure for monitor.",
        )
    },
    parameter(
        "drop_unicast_in_l2_multicast",
        "boolean",
        Some("true"),
        "The second lock",
        "Sets the sysctl of this name on the interface while the address is there, so that no node \
         answers for others should somebody flush the ruleset. Other unicast packets in multicast \
         frames are dropped as well, as RFC 1122 wants it.",
    ),
    Described {
        reloadable: true,
        ..parameter(
            "conflict_detection",
            "boolean",
            Some("true"),
            "Ask before the address comes up",
            "Before the address comes up on a node, the link is asked whether anybody shares it under \
             another description (some 60 ms); then start fails, for two nodes that hash differently \
             would answer the same packet. A stranger who has the address is only warned of.",
        )
    },
    parameter(
        "network_namespace",
        "string",
        None,
        "Network namespace",
        "The name of the namespace in which everything is done, as 'ip netns' shows it.",
    ),
    Described {
        reloadable: true,
        ..parameter(
            "arp_count",
            "integer",
            Some("5"),
            "Number of announcements",
            "Gratuitous ARP packets or unsolicited neighbour advertisements when the address comes \
             up on a node. None are needed when buckets move: the MAC stays.",
        )
    },
    Described {
        reloadable: true,
        ..parameter(
            "arp_interval",
            "integer",
            Some("200"),
            "Pause between announcements",
            "In milliseconds.",
        )
    },
];

const SELECTIONS: [(&str, &[&str]); 4] = [
    ("mode", &["multicast", "igmp", "stealth"]),
    (
        "clusterip_hash",
        &[
            "sourceip",
            "sourceip-sourceport",
            "sourceip-sourceport-destport",
        ],
    ),
    ("hash_layout", &["clusterip", "network"]),
    ("compat", &["none", "clusterip", "ipaddr2"]),
];

const LONG: &str = "\
Shares one IP address actively between all nodes: an active-active address without a director.
Every node receives every packet under one cluster MAC; each node's kernel hashes the source
and answers only the buckets whose instances Pacemaker runs there. Put the primitive into a clone
with globally-unique=true, with clone-max and clone-node-max several times the number of nodes,
interleave=true, and resource-stickiness=0 on the primitive. Without fencing a node that lost its
user space goes on answering in its kernel while another takes its buckets over. Where clusteripd
runs on all nodes a planned move leaves buckets dark for milliseconds; it is not needed.";

/// The meta-data.
pub fn xml() -> String {
    let mut xml = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut xml);
    xml
}

fn write(xml: &mut String) -> std::fmt::Result {
    writeln!(xml, "<?xml version=\"1.0\"?>")?;
    writeln!(xml, "<!DOCTYPE resource-agent SYSTEM \"ra-api-1.dtd\">")?;
    let version = env!("CARGO_PKG_VERSION");
    writeln!(
        xml,
        "<resource-agent name=\"ClusterIP\" version=\"{version}\">"
    )?;
    writeln!(xml, "<version>1.1</version>")?;
    writeln!(xml, "<longdesc lang=\"en\">\n{LONG}\n</longdesc>")?;
    writeln!(
        xml,
        "<shortdesc lang=\"en\">One address shared actively by all nodes</shortdesc>"
    )?;
    writeln!(xml, "<parameters>")?;
    for parameter in &PARAMETERS {
        describe(xml, parameter)?;
    }
    for (name, why) in IGNORED {
        let short = "Ignored, for compatibility with IPaddr2";
        deprecated(xml, name, why, short)?;
    }
    let why = "start refuses it when it is true, for all instances share one address";
    deprecated(xml, "unique_clone_address", why, "Refused when true")?;
    writeln!(xml, "</parameters>")?;
    writeln!(xml, "<actions>")?;
    for (name, timeout, more) in [
        ("start", "20s", ""),
        ("stop", "20s", ""),
        ("monitor", "20s", " depth=\"0\" interval=\"10s\""),
        ("meta-data", "5s", ""),
        ("validate-all", "20s", ""),
        ("reload-agent", "20s", ""),
    ] {
        writeln!(xml, "<action name=\"{name}\" timeout=\"{timeout}\"{more}/>")?;
    }
    writeln!(xml, "</actions>")?;
    writeln!(xml, "</resource-agent>")
}

fn describe(xml: &mut String, parameter: &Described) -> std::fmt::Result {
    let flag = |on: bool| if on { "1" } else { "0" };
    let Described { name, .. } = parameter;
    write!(xml, "<parameter name=\"{name}\"")?;
    if parameter.unique {
        write!(xml, " unique=\"1\" unique-group=\"address\"")?;
    }
    writeln!(
        xml,
        " required=\"{}\" reloadable=\"{}\">",
        flag(parameter.required),
        flag(parameter.reloadable)
    )?;
    let default = parameter
        .default
        .map(|default| format!(" default=\"{default}\""));
    texts(xml, parameter.long, parameter.short)?;
    let default = default.unwrap_or_default();
    match SELECTIONS.iter().find(|(of, _)| of == name) {
        None => writeln!(xml, "<content type=\"{}\"{default}/>", parameter.kind)?,
        Some((_, options)) => {
            writeln!(xml, "<content type=\"{}\"{default}>", parameter.kind)?;
            for option in *options {
                writeln!(xml, "<option value=\"{option}\"/>")?;
            }
            writeln!(xml, "</content>")?;
        }
    }
    writeln!(xml, "</parameter>")
}

fn deprecated(xml: &mut String, name: &str, why: &str, short: &str) -> std::fmt::Result {
    writeln!(
        xml,
        "<parameter name=\"{name}\" required=\"0\" reloadable=\"0\">"
    )?;
    writeln!(
        xml,
        "<deprecated><desc lang=\"en\">{why}</desc></deprecated>"
    )?;
    let long = format!("A parameter of ocf:heartbeat:IPaddr2: {why}.");
    texts(xml, &long, short)?;
    writeln!(xml, "<content type=\"string\"/>")?;
    writeln!(xml, "</parameter>")
}

fn texts(xml: &mut String, long: &str, short: &str) -> std::fmt::Result {
    writeln!(xml, "<longdesc lang=\"en\">{long}</longdesc>")?;
    writeln!(xml, "<shortdesc lang=\"en\">{short}</shortdesc>")
}
