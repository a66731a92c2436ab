//! Why an address cannot be migrated: each reason with the way out. Pure.

use super::super::ipaddr2::{ITS_SEED, is_true, proto_decides};
use super::found::{Address, Bundle, CloneFound};
use crate::model::bucket::BucketCount;
use crate::model::hash::HashMode;
use crate::model::mac::Mac;
use crate::model::predecessor::{Compat, Predecessor};
use crate::model::seed::parse_seed;
use crate::model::untrusted::{Untrusted, quoted, shown};
use crate::model::vip::{L2Mode, NicName, check_address, longest_prefix, parse_prefix};
use std::net::IpAddr;

/// What to do where one node has the address.
const TO_SHARE: &str = "leave it with IPaddr2; to share the address, delete the resource and load what 'nodectl crm' or \
                        'nodectl pcs' prints";

/// A reason, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Why it cannot be migrated.
    pub why: String,
    /// What to do.
    pub instead: String,
}

impl Obstacle {
    fn new(why: impl Into<String>, instead: impl Into<String>) -> Self {
        Obstacle {
            why: why.into(),
            instead: instead.into(),
        }
    }

    /// Nothing is wrong with it itself.
    pub(super) fn of_the_others() -> Self {
        Obstacle::new(
            "another address in the same clone cannot be migrated",
            "see that one; the instances of a clone are stopped and started together",
        )
    }

    /// What Pacemaker makes for a bundle is no resource of the configuration.
    pub(super) fn of_a_bundle(bundle: &Bundle) -> Self {
        Obstacle::new(
            format!(
                "it is a bundle: Pacemaker gives each of its replicas an address of its own, from {} on, by an IPaddr2 that \
                 it makes itself, and nothing is shared",
                bundle.from
            ),
            "nothing; it stays as it is, beside shared addresses too",
        )
    }
}

/// All that stands in the way.
pub(super) fn obstacles(
    found: &Address,
    nodes: Option<u16>,
    chosen: Option<Compat>,
) -> Vec<Obstacle> {
    if let Some(template) = &found.missing {
        return vec![Obstacle::new(
            format!(
                "its template '{template}' is not in the configuration, so nobody can tell whether it is IPaddr2's"
            ),
            "give the whole configuration, as 'cibadmin --query' or 'crm configure show' print it; if that has no such \
             template Pacemaker passes over the resource too",
        )];
    }
    if let Some(bundle) = &found.bundle {
        return vec![Obstacle::new(
            format!(
                "it is in the bundle {bundle}: every replica has it for itself, and nothing is shared"
            ),
            "leave it with IPaddr2",
        )];
    }
    let Some(clone) = &found.clone else {
        return vec![Obstacle::new(
            "it is not cloned: one node has it at a time, and nothing is shared",
            TO_SHARE,
        )];
    };
    let buckets = clone.instances(nodes);
    let mut all = of_clone(clone, buckets);
    if found.is_set("unique_clone_address") {
        all.push(Obstacle::new(
            "unique_clone_address: every instance has an address of its own, so nothing is shared",
            "leave it with IPaddr2",
        ));
    }
    if found.is_set("lvs_support") {
        all.push(Obstacle::new(
            "lvs_support: the address is a director's or a real server's, and IPaddr2 itself refuses to share one of those",
            "leave it with IPaddr2; to share the address without a director, leave lvs_support out",
        ));
    }
    all.extend(of_address(found));
    all.extend(of_nic(found));
    let seed = found.parameter(ITS_SEED);
    if let Some(seed) = seed.filter(|seed| parse_seed(seed).is_none()) {
        all.push(Obstacle::new(
            format!(
                "clusterip_hash_seed=\"{}\" is no number of 32 bits",
                shown(seed)
            ),
            "set it to one from 0 to 4294967295, or 0x and up to eight hex digits",
        ));
    }
    let before = match chosen {
        Some(Compat(before)) => before,
        None => found.predecessor(buckets),
    };
    let ip = found.parameter("ip").and_then(|ip| ip.parse().ok());
    let has = |name: &str| found.parameter(name).is_some();
    let derived = before
        .zip(ip)
        .filter(|(before, ip)| proto_decides(*before, *ip, has));
    if let Some((before, _)) = derived {
        all.push(Obstacle::new(
            "proto: IPaddr2 derives its MAC, and the newest its seed, from what it finds by it, most often without a broadcast \
             address, and compat does not follow that",
            match before {
                Predecessor::ClusterIp => {
                    "set mac to what 'ip maddr show' shows on a node that runs it: that restarts the clone, and cuts; choose \
                     the hour, and then ask again; or ask with --compat none"
                }
                Predecessor::Ipaddr2 => {
                    "set mac and clusterip_hash_seed to what 'ip maddr show' and 'nft list ruleset' show on a node that runs \
                     it: that restarts the clone, and cuts; choose the hour, and then ask again; or ask with --compat none"
                }
            },
        ));
    }
    let hash = found.parameter("clusterip_hash");
    let is_hash = |hash: &&str| HashMode::ALL.iter().any(|mode| mode.name() == *hash);
    if let Some(hash) = hash.filter(|hash| before != Some(Predecessor::Ipaddr2) && !is_hash(hash)) {
        all.push(Obstacle::new(
            format!(
                "clusterip_hash=\"{}\" is none of the three hashes",
                shown(hash)
            ),
            "set it to sourceip, sourceip-sourceport or sourceip-sourceport-destport",
        ));
    }
    all.extend(of_words(found, clone));
    // Who is in the way of everything is not chosen which one he is.
    if all.is_empty() && before.is_none() && chosen.is_none() {
        all.push(Obstacle::new(
            "nothing that is set tells which IPaddr2 it is, and the two hash differently",
            "see what 'grep -c clusterip_firewall /usr/lib/ocf/resource.d/heartbeat/IPaddr2' prints on a node: for 0 ask \
             again with --compat clusterip, else with --compat ipaddr2",
        ));
    }
    all
}

fn of_clone(clone: &CloneFound, buckets: Option<u16>) -> Vec<Obstacle> {
    let mut all = Vec::new();
    let id = &clone.id;
    let promotable = clone.meta("promotable").is_some_and(is_true);
    if clone.promotable || promotable {
        all.push(Obstacle::new(
            "the clone is promotable, and an address is not promoted",
            "make it a plain clone",
        ));
    }
    match clone.meta("globally-unique").map(is_true) {
        Some(true) => {}
        unique => all.push(Obstacle::new(
            match unique {
                Some(_) => "the clone is not globally unique: every node has the whole address, and nothing is shared",
                None => {
                    "globally-unique is not set: whether the address is shared goes by the version of Pacemaker then"
                }
            },
            format!(
                "if the address is to be shared, set it with the clone stopped: crm_resource -r {id} -m -p globally-unique -v true"
            ),
        )),
    }
    match buckets {
        None => all.push(Obstacle::new(
            match clone.meta("clone-max") {
                None => {
                    "clone-max is not set, and the configuration does not say how many nodes there are, of which remote \
                     ones and guests count too"
                        .to_owned()
                }
                Some(max) => format!("clone-max=\"{}\" is no number of instances", shown(max)),
            },
            "set clone-max to the number of instances that run",
        )),
        Some(0 | 1) => all.push(Obstacle::new(
            "the clone has one instance, so one node has the address at a time",
            TO_SHARE,
        )),
        Some(buckets) if buckets > BucketCount::MAX => all.push(Obstacle::new(
            format!("the clone has {buckets} instances, and there are {} buckets at most", BucketCount::MAX),
            "set clone-max to at most that, with the clone stopped",
        )),
        Some(_) => {}
    }
    all
}

fn of_address(found: &Address) -> Vec<Obstacle> {
    let mut all = Vec::new();
    let text = found.parameter("ip").unwrap_or_default();
    let Ok(ip) = text.parse::<IpAddr>() else {
        all.push(Obstacle::new(
            format!("ip=\"{}\" is no address", shown(text)),
            "write an IPv4 or IPv6 address there, without a prefix",
        ));
        return all;
    };
    if let Err(error) = check_address(ip) {
        all.push(Obstacle::new(
            error.to_string(),
            "leave it with IPaddr2, or share another address",
        ));
    }
    all.extend(of_prefix(found, ip));
    if ip.is_ipv6()
        && found
            .inherited()
            .any(|(name, value)| name.raw() == "iflabel" && !value.raw().trim().is_empty())
    {
        all.push(Obstacle::new(
            "iflabel is set on the group or the clone around it, and IPv6 addresses have no label",
            "set it with those resources alone whose address is IPv4",
        ));
    }
    if let Some(text) = found.parameter("mac") {
        match text.parse::<Mac>() {
            Err(error) => all.push(Obstacle::new(
                format!("mac: {error}"),
                "correct it, or leave it out",
            )),
            Ok(mac) => {
                if let Err(error) = L2Mode::Multicast.check(ip, mac) {
                    all.push(Obstacle::new(
                        format!("mac: {error}; IPaddr2 refuses it too"),
                        "leave mac out; for a unicast MAC that no switch learns set mode=\"stealth\" after the migration \
                         (docs/network.md, Which mode)",
                    ));
                }
            }
        }
    }
    all
}

/// As the agents find it: the elder name counts where the other is not set.
fn of_prefix(found: &Address, ip: IpAddr) -> Option<Obstacle> {
    let names = ["cidr_netmask", "netmask"].into_iter();
    let (name, text) = names
        .filter_map(|name| Some((name, found.parameter(name)?)))
        .next()?;
    let longest = longest_prefix(ip);
    let what = match ip {
        IpAddr::V4(_) => ", or to a netmask such as 255.255.255.0",
        IpAddr::V6(_) => "",
    };
    parse_prefix(text, ip).is_none().then(|| {
        Obstacle::new(
            format!("{name}=\"{}\" is no length of a prefix", shown(text)),
            format!("set it to a number from 1 to {longest}{what}"),
        )
    })
}

/// What the name of the interface tells; the rest only a node knows.
fn of_nic(found: &Address) -> Option<Obstacle> {
    let text = found.parameter("nic")?;
    let Ok(nic) = text.parse::<NicName>() else {
        return Some(Obstacle::new(
            format!("nic=\"{}\" names no interface", shown(text)),
            "use a name that 'ip link' shows",
        ));
    };
    let name = nic.to_string();
    let behind = |begin: &str| {
        name.strip_prefix(begin)
            .and_then(|rest| rest.chars().next())
    };
    if name == "lo" {
        return Some(Obstacle::new(
            "nic=\"lo\": nothing is received there, so nothing is shared",
            "name the interface that the clients' packets come in by",
        ));
    }
    let infiniband = behind("ib").is_some_and(|next| next.is_ascii_digit() || "psP".contains(next));
    infiniband.then(|| {
        Obstacle::new(
            format!("nic=\"{}\" is an InfiniBand interface by its name, and those have no Ethernet MAC to share", shown(text)),
            "share the address on an Ethernet interface",
        )
    })
}

/// Can it stand between quotes in the words of both shells?
pub(super) fn can_be_written(text: &Untrusted) -> bool {
    quoted(text.raw()).is_some() && !text.raw().contains(['"', '\\'])
}

/// What cannot be said otherwise than it is, or not in a command.
fn of_words(found: &Address, clone: &CloneFound) -> Vec<Obstacle> {
    let mut all: Vec<Obstacle> = found
        .unclear
        .iter()
        .map(|why| {
            Obstacle::new(
                why.as_str(),
                "say it in plain values, or change agent and parameters by hand (docs/agent.md, Migration from IPaddr2)",
            )
        })
        .collect();
    let is_name = |id: &&Untrusted| quoted(id.raw()).is_none_or(|word| word != id.raw());
    let names = [&found.id, &clone.id];
    let names = names.into_iter().filter(is_name);
    let pairs = || {
        let operations = found.operations.iter();
        let operations = operations.flat_map(|op| op.attributes.iter().chain(&op.parameters));
        // What stands on the clone or the group is written for the agent too, by the takeover.
        let own = [
            &found.parameters,
            &found.meta,
            &found.utilization,
            &found.around,
        ];
        own.into_iter().flatten().chain(operations)
    };
    let values = pairs().filter(|(name, value)| {
        quoted(name.raw()).is_none_or(|word| word != name.raw()) || !can_be_written(value)
    });
    all.extend(names.map(|id| {
        Obstacle::new(
            format!("the name '{id}' cannot stand in a command"),
            "give it a name of letters, digits, hyphens and underscores",
        )
    }));
    all.extend(values.map(|(name, value)| {
        Obstacle::new(
            format!("{name}='{value}' cannot be written in all languages"),
            "write it without quotes, backslashes and what nobody sees",
        )
    }));
    all
}
