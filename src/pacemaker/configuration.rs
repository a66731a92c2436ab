//! A complete configuration for a shared address, as crm shell and as pcs read it. Pure: text from a
//! wish, nothing is loaded.
//!
//! Both say the same: the service, in a group with an attribute that says where it runs, and the
//! group's clone; the gate that keeps it until its connections have ended; the address and its clone;
//! the order of the three, and the rule that buckets go where the service runs. What belongs to the whole cluster
//! (fencing, Corosync's times, Pacemaker's limits) is explained in comments and left alone, but for the one
//! property without which a gate cuts connections on busy nodes.

use crate::model::bucket::BucketCount;
use crate::model::hash::HashMode;
use crate::model::mac::Mac;
use crate::model::nic::is_shown;
use crate::model::untrusted::shown;
use crate::model::vip::Nic;
use std::fmt::Write;
use std::net::IpAddr;
use std::str::FromStr;

/// So many buckets a node, if nobody says how many there are to be: a dead node's share spreads evenly
/// over up to four others.
const BUCKETS_A_NODE: u16 = 4;
/// How much longer than the connections the gate may wait, in seconds.
const GATE_SPARE_S: u32 = 20;
/// The times of the address's and the gate's actions, in seconds.
const ACTION_S: u32 = 20;
const MONITOR_S: u32 = 10;
const GATE_MONITOR_S: u32 = 60;
/// The times of a generated service's actions, in seconds.
const SERVICE_S: u32 = 60;
const SERVICE_MONITOR_S: u32 = 20;
/// How the script for pcs begins and ends.
const PCS_COPY: &str = r#"set -eu
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
pcs cluster cib "$folder/old.xml"
cp "$folder/old.xml" "$folder/new.xml"
change() { pcs -f "$folder/new.xml" "$@"; }
"#;
const PCS_PUSH: &str = r#"
# All of it at once.
pcs cluster cib-push "$folder/new.xml" diff-against="$folder/old.xml"
"#;
/// Pacemaker's default of shutdown-escalation.
const ESCALATION_S: u32 = 20 * 60;
/// The parameter that both agents have.
const NETNS: &str = "network_namespace";
/// What the names of services begin with that are configured here; their address's tag follows.
const OWN_SERVICE: &str = "clone-service-";
/// Why something is set that is not only the address's. Two hyphens in a row cannot stand in a comment of the CIB.
const THRESHOLD: &str = "\n\
# This one is the whole cluster's: a node's load no longer makes Pacemaker do less at once, on any node and for\n\
# any resource; node-action-limit still does. With the default, 80%, one node with a load above 1.6 for each of\n\
# its cores lets the cluster do only half as many actions at once as it has nodes. A gate that waits is one: with\n\
# three nodes nothing else goes on, buckets stay dark, after ten seconds the gate opens, and connections are cut.\n\
# The default again, once the last gate is gone: crm_attribute -t crm_config -n load-threshold -D\n";
/// What the rule is for.
const ONLY_THERE: &str = "Buckets go to nodes where the service runs, and nowhere else.";

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

    /// The cluster MAC.
    pub fn cluster_mac(&self) -> Mac {
        self.mac.unwrap_or_else(|| Mac::of_group(self.ip))
    }

    fn tag(&self) -> String {
        tag(self.ip)
    }

    /// The address's parameters, the values between such quotes.
    fn parameters(&self, quote: char) -> String {
        let mut all = vec![("ip", self.ip.to_string()), ("nic", self.nic.to_string())];
        all.extend(self.netns.as_ref().map(|netns| (NETNS, netns.0.clone())));
        all.extend(
            self.prefix
                .map(|prefix| ("cidr_netmask", prefix.to_string())),
        );
        all.extend(self.mac.map(|mac| ("mac", mac.to_string())));
        all.extend([
            ("clusterip_hash", self.hash.to_string()),
            ("hash_seed", format!("{:#010x}", self.seed)),
            ("drain_timeout", format!("{}s", self.drain_s)),
        ]);
        let all: Vec<String> = all
            .into_iter()
            .map(|(name, value)| format!("{name}={quote}{value}{quote}"))
            .collect();
        all.join(" ")
    }

    /// The node attribute that says where the service runs, if that is known: it is configured here, or was
    /// for another address.
    fn attribute(&self) -> Option<String> {
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
    fn has_gate(&self) -> bool {
        self.drain_s > 0 && self.service.is_some()
    }

    /// The service's clone, and its agent if it is configured here.
    fn service(&self) -> Option<(String, Option<&str>)> {
        self.service.as_ref().map(|service| match service {
            Service::Agent(agent) => (format!("{OWN_SERVICE}{}", self.tag()), Some(&**agent)),
            Service::Clone(name) => (name.clone(), None),
        })
    }

    /// The gate's parameters before its operations, if it has any: each after such words.
    fn gate_parameters(&self, before: &str, quote: char) -> String {
        let netns = self.netns.as_ref();
        netns.map_or(String::new(), |netns| {
            format!("{before}{NETNS}={quote}{}{quote} \\\n", netns.0)
        })
    }

    fn gate_stop_s(&self) -> u32 {
        self.drain_s + GATE_SPARE_S
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

/// What the reader has to look at himself; every line is a comment for crm shell and for a shell.
fn remarks(wish: &Wish, loaded_by: &str) -> String {
    let (ip, buckets, nodes, seed) = (wish.ip, wish.buckets(), wish.nodes, wish.seed);
    let mut text = format!(
        "# {ip}, shared by {nodes} nodes in {buckets} buckets. Load it with:\n\
         #     {loaded_by}\n\
         #\n\
         # To print it again for the running cluster, ask for this seed, {seed:#010x}, and for {buckets} buckets.\n\
         # Another seed restarts every instance and cuts every connection; another number restarts nothing,\n\
         # and leaves buckets dark or refuses to start them: stop the clone before.\n\
         #\n\
         # Left alone, and worth a look before:\n\
         # - Fencing is not optional: a node whose user space is dead goes on answering in its kernel.\n\
         #   Configure a fence device for every node, and leave fencing enabled, as it is by default.\n\
         # - Corosync's token (3 s from Corosync 3.1 on, plus 650 ms for each node beyond the second)\n\
         #   is how long a dead node goes unnoticed; then come consensus, 1.2 times as long, and fencing. So\n\
         #   long its buckets are dark. A shorter token also fences for shorter hiccups.\n\
         # - node-action-limit is 0: twice as many actions at once as a node has cores. A node that\n\
         #   comes back starts its {each} buckets in so many rounds of some 10 ms.\n",
        each = buckets.div_ceil(nodes.max(1)),
    );
    if wish.has_gate() && wish.gate_stop_s() >= ESCALATION_S {
        text += "# - shutdown-escalation (20 min): a cluster stack that is stopped on a node and waits longer for the\n\
                 #   gate gives up, and the node is fenced. Set it to more than the gate's stop takes.\n";
    }
    // No name that somebody gave stands in a comment: those of the CIB take no two hyphens in a row.
    if wish.netns.is_some() && wish.service.is_some() {
        text += "# - The service must listen in the address's network namespace, which is its own business\n\
                 #   (systemd: NetworkNamespacePath=).\n";
    }
    if let Some(Service::Clone(_)) = &wish.service {
        text += &match wish.attribute() {
            Some(up) => format!(
                "# - The rule goes by the node attribute {up}, which stands behind the service in the\n\
                 #   configuration of the first address. Without it no node has a bucket.\n"
            ),
            None => "# - A node where the service cannot run keeps its buckets, and they are dark. A node attribute\n\
                     #   behind the service, and a rule for it, have them move: docs/agent.md, at A service in front.\n"
                .to_owned(),
        };
    }
    text
}

/// For crm shell.
pub fn crm(wish: &Wish) -> String {
    let tag = wish.tag();
    let mut text = remarks(
        wish,
        "crm configure load update FILE  (or - for standard input)",
    );
    // Writing to a String cannot fail.
    if let (Some((clone, Some(agent))), Some(up)) = (wish.service(), wish.attribute()) {
        let _ = write!(
            text,
            "\n# What the address is for, on every node. The attribute {up} says where it runs.\n\
             primitive service-{tag} {agent} \\\n  \
             op start timeout=\"{SERVICE_S}s\" op stop timeout=\"{SERVICE_S}s\" \\\n  \
             op monitor interval=\"{SERVICE_MONITOR_S}s\" timeout=\"{SERVICE_MONITOR_S}s\"\n\
             primitive {up} ocf:pacemaker:attribute \\\n  \
             params name=\"{up}\" active_value=\"1\" inactive_value=\"0\" \\\n  \
             op start timeout=\"{ACTION_S}s\" op stop timeout=\"{ACTION_S}s\" \\\n  \
             op monitor interval=\"{SERVICE_MONITOR_S}s\" timeout=\"{ACTION_S}s\"\n\
             group node-{tag} service-{tag} {up}\n\
             clone {clone} node-{tag} \\\n  meta interleave=\"true\"\n"
        );
    }
    if wish.has_gate() {
        let _ = write!(
            text,
            "\n# Going, it waits until the node's connections have ended, {drain} s at most.\n\
             primitive gate-{tag} ocf:rust:ClusterIPDrain \\\n\
             {parameters}  op start timeout=\"{ACTION_S}s\" op stop timeout=\"{stop}s\" \\\n  \
             op monitor interval=\"{GATE_MONITOR_S}s\" timeout=\"{ACTION_S}s\"\n\
             clone clone-gate-{tag} gate-{tag} \\\n  meta interleave=\"true\"\n",
            drain = wish.drain_s,
            stop = wish.gate_stop_s(),
            parameters = wish.gate_parameters("  params ", '"'),
        );
        text += THRESHOLD;
        text += "property load-threshold=\"10000%\"\n";
    }
    let _ = write!(
        text,
        "\n# The address. Each instance is the right to serve one bucket of the hash.\n\
         primitive ip-{tag} ocf:rust:ClusterIP \\\n  \
         params {parameters} \\\n  \
         op start timeout=\"{ACTION_S}s\" op stop timeout=\"{ACTION_S}s\" \\\n  \
         op monitor interval=\"{MONITOR_S}s\" timeout=\"{ACTION_S}s\" \\\n  \
         meta resource-stickiness=\"0\"\n\
         clone clone-ip-{tag} ip-{tag} \\\n  \
         meta globally-unique=\"true\" clone-max=\"{buckets}\" clone-node-max=\"{buckets}\" \
         interleave=\"true\"\n",
        parameters = wish.parameters('"'),
        buckets = wish.buckets(),
    );
    ordered(&mut text, wish, |first, then| {
        format!("order {first}-before-{then} Mandatory: {first} {then}")
    });
    if let Some(up) = wish.attribute() {
        let _ = write!(
            text,
            "\n# {ONLY_THERE}\n\
             location ip-{tag}-where-service clone-ip-{tag} rule -inf: not_defined {up} or {up} ne 1\n"
        );
    }
    text
}

/// For pcs: lines for a shell. They change a copy, which is loaded as a whole: pcs would start what there is
/// already while the rest is still missing.
pub fn pcs(wish: &Wish) -> String {
    let tag = wish.tag();
    let mut text = remarks(wish, "sh FILE  (on one node, as root)");
    text += PCS_COPY;
    if let (Some((clone, Some(agent))), Some(up)) = (wish.service(), wish.attribute()) {
        let _ = write!(
            text,
            "\n# What the address is for, on every node. The attribute {up} says where it runs.\n\
             change resource create service-{tag} {agent} \\\n    \
             op start timeout={SERVICE_S}s op stop timeout={SERVICE_S}s \
             op monitor interval={SERVICE_MONITOR_S}s timeout={SERVICE_MONITOR_S}s\n\
             change resource create {up} ocf:pacemaker:attribute \\\n    \
             name={up} active_value=1 inactive_value=0 \\\n    \
             op start timeout={ACTION_S}s op stop timeout={ACTION_S}s \
             op monitor interval={SERVICE_MONITOR_S}s timeout={ACTION_S}s\n\
             change resource group add node-{tag} service-{tag} {up}\n\
             change resource clone node-{tag} {clone} meta interleave=true\n"
        );
    }
    if wish.has_gate() {
        let _ = write!(
            text,
            "\n# Going, it waits until the node's connections have ended, {drain} s at most.\n\
             change resource create gate-{tag} ocf:rust:ClusterIPDrain \\\n\
             {parameters}    op start timeout={ACTION_S}s op stop timeout={stop}s \
             op monitor interval={GATE_MONITOR_S}s timeout={ACTION_S}s\n\
             change resource clone gate-{tag} clone-gate-{tag} meta interleave=true\n",
            drain = wish.drain_s,
            stop = wish.gate_stop_s(),
            parameters = wish.gate_parameters("    ", '\''),
        );
        text += THRESHOLD;
        text += "change property set load-threshold=10000%\n";
    }
    let _ = write!(
        text,
        "\n# The address. Each instance is the right to serve one bucket of the hash.\n\
         change resource create ip-{tag} ocf:rust:ClusterIP \\\n    \
         {parameters} \\\n    \
         op start timeout={ACTION_S}s op stop timeout={ACTION_S}s \
         op monitor interval={MONITOR_S}s timeout={ACTION_S}s \\\n    \
         meta resource-stickiness=0\n\
         change resource clone ip-{tag} clone-ip-{tag} \\\n    \
         meta globally-unique=true clone-max={buckets} clone-node-max={buckets} interleave=true\n",
        parameters = wish.parameters('\''),
        buckets = wish.buckets(),
    );
    ordered(&mut text, wish, |first, then| {
        format!("change constraint order {first} then {then}")
    });
    if let Some(up) = wish.attribute() {
        let _ = write!(
            text,
            "\n# {ONLY_THERE}\n\
             where=\"not_defined {up} or {up} ne 1\"\n\
             # Until 0.11 pcs wants the words of a rule one by one, later all in one.\n\
             case $(pcs --version) in\n    \
             0.9.* | 0.10.* | 0.11.*) change constraint location clone-ip-{tag} rule score=-INFINITY $where ;;\n    \
             *) change constraint location clone-ip-{tag} rule score=-INFINITY \"$where\" ;;\n\
             esac\n"
        );
    }
    text += PCS_PUSH;
    text
}

/// Appends what comes before what, if anything does, a line for each pair.
fn ordered(text: &mut String, wish: &Wish, line: impl Fn(&str, &str) -> String) {
    let tag = wish.tag();
    let gate = wish.has_gate().then(|| format!("clone-gate-{tag}"));
    let service = wish.service().map(|(clone, _)| clone);
    let chain: Vec<String> = service
        .into_iter()
        .chain(gate)
        .chain([format!("clone-ip-{tag}")])
        .collect();
    if chain.len() > 1 {
        *text += "\n# Coming: the service, the gate, the buckets. Going: the buckets, the gate, and then the \
                  service.\n";
    }
    for pair in chain.windows(2) {
        *text += &line(&pair[0], &pair[1]);
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        Wish {
            ip: [10, 0, 0, 99].into(),
            prefix: Some(24),
            nic: "eth0".parse().expect("a name"),
            netns: None,
            nodes: 3,
            buckets: None,
            hash: HashMode::default(),
            seed: 0x3f7a_91c4,
            mac: None,
            drain_s: 300,
            service: None,
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
    fn names_are_quoted_and_a_namespace_is_told_to_both_agents() {
        let wish = Wish {
            nic: "a;b$(c)".parse().expect("the kernel takes it"),
            netns: Some("web-1".parse().expect("a name")),
            service: Some("systemd:nginx".parse().expect("an agent")),
            ..wish()
        };
        let (crm, pcs) = (crm(&wish), pcs(&wish));
        assert!(
            pcs.contains("nic='a;b$(c)' network_namespace='web-1'"),
            "{pcs}"
        );
        assert_eq!(
            crm.matches("network_namespace=\"web-1\"").count(),
            2,
            "{crm}"
        );
        assert_eq!(pcs.matches("network_namespace='web-1'").count(), 2, "{pcs}");
        for wrong in ["", ".", "..", "a/b", "a b", "a'b", "a\"b", "a\\b", "\u{e4}"] {
            assert!(wrong.parse::<Netns>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_a_service_there_is_nothing_to_keep_and_nothing_to_order() {
        for text in [crm(&wish()), pcs(&wish())] {
            assert!(
                !text.contains("ClusterIPDrain") && !text.contains("order"),
                "{text}"
            );
            assert!(
                text.contains("0x3f7a91c4") && text.contains("clone-max"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_clone_that_is_there_is_ordered_and_not_made_again() {
        let service = Some("cloneWeb".parse().expect("a clone"));
        let text = crm(&Wish { service, ..wish() });
        assert!(!text.contains("primitive service-"), "{text}");
        // Nothing is known of where it runs.
        assert!(!text.contains("location"), "{text}");
        assert!(text.contains("where the service cannot run"), "{text}");
        assert!(
            text.contains("Mandatory: cloneWeb clone-gate-10-0-0-99\n"),
            "{text}"
        );
        assert!(
            text.contains("Mandatory: clone-gate-10-0-0-99 clone-ip-10-0-0-99\n"),
            "{text}"
        );
    }

    #[test]
    fn a_second_address_goes_where_the_service_of_the_first_runs() {
        let service = Some("clone-service-10-0-0-99".parse().expect("a clone"));
        let ip = "2001:db8::99".parse().expect("an address");
        let wish = Wish {
            ip,
            service,
            ..wish()
        };
        for text in [crm(&wish), pcs(&wish)] {
            assert!(
                text.contains("not_defined up-10-0-0-99 or up-10-0-0-99 ne 1"),
                "{text}"
            );
            assert!(
                !text.contains("service-2001") && !text.contains("ocf:pacemaker"),
                "{text}"
            );
            assert!(!text.contains("cannot run"), "{text}");
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
        let service = Some("clone-service-web".parse().expect("a clone"));
        let text = crm(&Wish { service, ..wish() });
        assert!(
            !text.contains("location") && text.contains("cannot run"),
            "{text}"
        );
    }

    #[test]
    fn where_connections_do_not_stay_nobody_waits_for_them() {
        let service = Some("systemd:nginx".parse().expect("an agent"));
        let drain_s = 0;
        let text = pcs(&Wish {
            service,
            drain_s,
            ..wish()
        });
        assert!(!text.contains("ClusterIPDrain"), "{text}");
        assert!(
            text.contains("order clone-service-10-0-0-99 then clone-ip-10-0-0-99"),
            "{text}"
        );
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
                ..wish()
            }
            .tag()
        });
        let distinct: std::collections::BTreeSet<&String> = tags.iter().collect();
        assert_eq!(distinct.len(), tags.len(), "{tags:?}");
    }

    #[test]
    fn crm_shell_takes_all_comments() {
        for (ip, drain_s) in [("10.0.0.99", 3600), ("2001:db8::99", 300), ("::99", 0)] {
            let ip = ip.parse().expect("an address");
            for service in [None, Some("systemd:nginx"), Some("clone--web-")] {
                let service = service.map(|service| service.parse().expect("a service"));
                let text = crm(&Wish {
                    ip,
                    drain_s,
                    service,
                    nic: "eth--0".parse().expect("a name"),
                    netns: Some("web--1-".parse().expect("a name")),
                    ..wish()
                });
                let wrong = |line: &&str| {
                    let comment = line.strip_prefix('#');
                    comment.is_some_and(|text| text.contains("--") || text.ends_with('-'))
                };
                assert_eq!(text.lines().find(wrong), None, "{text}");
            }
        }
    }

    #[test]
    fn only_who_waits_sets_what_is_the_whole_clusters() {
        let service = Some("systemd:nginx".parse().expect("an agent"));
        let gated = Wish { service, ..wish() };
        let ungated = Wish {
            drain_s: 0,
            ..gated.clone()
        };
        for (text, sets) in [
            (crm(&gated), true),
            (pcs(&gated), true),
            (crm(&ungated), false),
            (pcs(&ungated), false),
            (crm(&wish()), false),
        ] {
            let set = text.lines().any(|line| {
                line.contains("property")
                    && line.contains("load-threshold=")
                    && !line.starts_with('#')
            });
            assert_eq!(set, sets, "{text}");
            assert_eq!(text.contains("the whole cluster's"), sets, "{text}");
        }
    }

    #[test]
    fn who_waits_for_long_is_told_of_the_escalation() {
        let service = Some("systemd:nginx".parse().expect("an agent"));
        let of = |drain_s| {
            crm(&Wish {
                drain_s,
                service: service.clone(),
                ..wish()
            })
        };
        assert!(!of(300).contains("escalation"));
        assert!(of(3600).contains("escalation"));
    }

    #[test]
    fn there_are_four_buckets_a_node_unless_somebody_says_how_many() {
        let of = |nodes| Wish { nodes, ..wish() }.buckets();
        assert_eq!((of(1), of(3), of(16), of(u16::MAX)), (4, 12, 64, 1024));
        let five = Some(BucketCount::new(5).expect("a count"));
        assert_eq!(
            Wish {
                buckets: five,
                ..wish()
            }
            .buckets(),
            5
        );
    }
}
