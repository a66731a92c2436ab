//! The agent's parameters as types. Pure: no value reaches the rest of the program unchecked.

use super::environment::Environment;
use super::exit::{Code, Failure};
use crate::host::announce::Announcements;
use crate::model::bucket::BucketCount;
use crate::model::hash::{HashMode, Layout};
use crate::model::mac::Mac;
use crate::model::predecessor::{Compat, Predecessor, broadcast};
use crate::model::seed::parse_seed;
use crate::model::untrusted::Untrusted;
use crate::model::vip::{
    DRAIN_S, L2Mode, LONGEST_DRAIN_S, Manager, NicName, VipError, check_address, check_in_network,
    check_label, longest_prefix, parse_prefix,
};
pub use crate::pacemaker::ipaddr2::IGNORED;
use crate::pacemaker::ipaddr2::{BROADCAST, ITS_SEED, proto_decides};
use std::net::IpAddr;
use std::time::Duration;

/// What the length of the prefix is called, the younger name first.
const PREFIX: [&str; 2] = ["cidr_netmask", "netmask"];

/// The parameters of the primitive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// `ip`.
    pub ip: IpAddr,
    /// `nic`; if it is not given, the interface of the connected route.
    pub nic: Option<NicName>,
    /// `cidr_netmask`; if it is not given, that of the connected route.
    pub prefix: Option<u8>,
    /// `iflabel`, without the interface, or what stands behind a colon in `nic`.
    pub label: Option<String>,
    /// `mode`.
    pub mode: L2Mode,
    /// `compat`.
    pub compat: Compat,
    /// `broadcast`, of which only a predecessor makes something.
    pub broadcast: Option<String>,
    /// `mac`; if it is not given, it follows from the mode and the address, or is the predecessor's.
    pub mac: Option<Mac>,
    /// `clusterip_hash`.
    pub hash: Option<HashMode>,
    /// `hash_layout`.
    pub layout: Option<Layout>,
    /// `hash_seed`, or what the newest IPaddr2 had as `clusterip_hash_seed` where it is to be followed.
    pub seed: Option<u32>,
    /// `buckets`.
    pub buckets: Option<BucketCount>,
    /// `noprefixroute`.
    pub noprefixroute: bool,
    /// `check_link_status`.
    pub check_link_status: bool,
    /// `drop_unicast_in_l2_multicast`.
    pub lock: bool,
    /// `conflict_detection`.
    pub conflict_detection: bool,
    /// `network_namespace`.
    pub network_namespace: Option<Untrusted>,
    /// `arp_count` and `arp_interval`.
    pub announcements: Announcements,
    /// `drain_timeout`, in seconds.
    pub drain_s: u32,
    /// The resource.
    pub manager: Manager,
    /// Does `proto` decide what the predecessor would derive?
    pub proto_decides: bool,
    /// Parameters that were given and are ignored, with the reason.
    pub ignored: Vec<(&'static str, &'static str)>,
}

/// What stop and monitor need to know, read leniently: a parameter that became impossible while the
/// instance runs must keep nobody from stopping it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Essentials {
    /// `ip`.
    pub ip: IpAddr,
    /// `nic`, if it can be read.
    pub nic: Option<NicName>,
    /// `mac` if it can be read, or the one that follows from `mode` and the address.
    pub mac: Mac,
    /// The predecessor whose MAC it is instead, if `compat` names one and `mac` cannot be read.
    pub predecessor: Option<Predecessor>,
    /// `cidr_netmask` if it can be read.
    pub prefix: Option<u8>,
    /// `broadcast`.
    pub broadcast: Option<Untrusted>,
    /// `network_namespace`.
    pub network_namespace: Option<Untrusted>,
    /// `drain_timeout` in seconds if it can be read, or the default.
    pub drain_s: u32,
    /// The resource.
    pub manager: Manager,
}

/// A time in seconds, as Pacemaker writes it: 300, 300s or 5min.
pub fn parse_drain(text: &str) -> Option<u32> {
    let (number, factor) = match text.trim_end_matches(|c: char| c.is_ascii_alphabetic()) {
        number if number.len() == text.len() => (number, 1),
        number => match &text[number.len()..] {
            "s" | "sec" => (number, 1),
            "m" | "min" => (number, 60),
            "h" | "hr" => (number, 3600),
            _ => return None,
        },
    };
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let seconds = plain
        .then(|| number.parse::<u32>().ok())??
        .checked_mul(factor)?;
    (seconds <= LONGEST_DRAIN_S).then_some(seconds)
}

impl Essentials {
    /// Reads them; `None` if there is no address, without which nothing was ever started.
    pub fn read(env: &Environment) -> Option<Self> {
        let ip = env.parameter("ip")?.parse().ok()?;
        let mode = env.parameter("mode");
        let mode = mode.and_then(|mode| mode.parse::<L2Mode>().ok());
        let mac = env.parameter("mac").and_then(|mac| mac.parse().ok());
        let compat = env.parameter("compat");
        let compat = compat.and_then(|compat| compat.parse::<Compat>().ok());
        let prefix = PREFIX.into_iter().find_map(|name| env.parameter(name));
        Some(Essentials {
            ip,
            nic: env.parameter("nic").and_then(|nic| nic.parse().ok()),
            mac: mac.unwrap_or_else(|| mode.unwrap_or_default().mac(ip)),
            predecessor: compat.unwrap_or_default().0.filter(|_| mac.is_none()),
            prefix: prefix.and_then(|text| parse_prefix(text.raw(), ip)),
            broadcast: env.parameter(BROADCAST),
            network_namespace: env.parameter("network_namespace"),
            drain_s: env
                .parameter("drain_timeout")
                .and_then(|text| parse_drain(text.raw()))
                .unwrap_or(DRAIN_S),
            manager: Manager::pacemaker(env.resource()),
        })
    }
}

/// The instance's place in its clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    /// The bucket that the instance is the right to serve.
    pub bucket: u16,
    /// How many buckets there are.
    pub buckets: BucketCount,
}

impl Parameters {
    /// Reads and checks the parameters.
    pub fn read(env: &Environment) -> Result<Self, Failure> {
        let wrong = |reason: String| Failure::new(Code::Configured, reason);
        let ip = env.parameter("ip").ok_or_else(|| {
            wrong("the parameter ip is missing; set ip=\"10.0.0.99\", say".into())
        })?;
        let ip: IpAddr = ip.parse().map_err(|_| {
            wrong(format!("ip=\"{ip}\" is no IPv4 or IPv6 address; write one without a prefix, such as 10.0.0.99"))
        })?;
        check_address(ip).map_err(|error| wrong(error.to_string()))?;
        if env.flag("unique_clone_address") == Some(true) {
            return Err(wrong(
                "unique_clone_address=\"true\" would give every instance an address of its own; \
                 use ocf:heartbeat:IPaddr2 for that, or leave the parameter out"
                    .into(),
            ));
        }
        let in_words =
            |name: &'static str| move |error: VipError| wrong(format!("{name}: {error}"));
        let nic = env
            .parameter("nic")
            .map(|nic| nic.parse::<NicName>())
            .transpose();
        let nic = nic.map_err(|error| wrong(format!("nic: {error}")))?;
        // As in IPaddr2: the one in nic counts, and netmask is the elder name of cidr_netmask.
        // An IPv6 address has no label, and needs none.
        let own = nic
            .as_ref()
            .and_then(|nic| nic.label())
            .filter(|_| ip.is_ipv4());
        let label = own
            .map(Untrusted::from)
            .or_else(|| env.parameter("iflabel"));
        if let Some(label) = &label {
            check_label(label.raw(), None, ip).map_err(in_words("iflabel"))?;
        }
        let named = PREFIX.map(|name| Some((name, env.parameter(name)?)));
        let prefix = match named.into_iter().flatten().next() {
            None => None,
            Some((name, text)) => Some(parse_prefix(text.raw(), ip).ok_or_else(|| {
                let longest = longest_prefix(ip);
                wrong(format!(
                    "{name}=\"{text}\" is no prefix length for {ip}; use 1 to {longest}"
                ))
            })?),
        };
        if let Some(prefix) = prefix {
            check_in_network(ip, prefix).map_err(in_words("ip"))?;
        }
        let l2_mode = env.parameter("mode").map(|mode| mode.parse::<L2Mode>());
        let l2_mode = l2_mode.transpose();
        let l2_mode = l2_mode.map_err(|error| wrong(format!("mode: {error}")))?;
        let l2_mode = l2_mode.unwrap_or_default();
        let mac = env
            .parameter("mac")
            .map(|mac| mac.parse::<Mac>())
            .transpose();
        let mac = mac.map_err(|error| wrong(format!("mac: {error}")))?;
        let checked = mac.map_or(Ok(()), |mac| l2_mode.check(ip, mac));
        checked.map_err(VipError::from).map_err(in_words("mac"))?;
        let hash = env
            .parameter("clusterip_hash")
            .map(|hash| hash.parse::<HashMode>());
        let hash = hash.transpose();
        let hash = hash.map_err(|error| wrong(format!("clusterip_hash: {error}")))?;
        let layout = env
            .parameter("hash_layout")
            .map(|layout| layout.parse::<Layout>());
        let layout = layout.transpose();
        let layout = layout.map_err(|error| wrong(format!("hash_layout: {error}")))?;
        let compat = env
            .parameter("compat")
            .map(|compat| compat.parse::<Compat>());
        let compat = compat.transpose();
        let compat = compat.map_err(|error| wrong(format!("compat: {error}")))?;
        let compat = compat.unwrap_or_default();
        let told = env.parameter(BROADCAST);
        let told = match (told.map(|told| broadcast(told.raw())), compat.0) {
            (None, _) => None,
            (Some(Err(error)), Some(_)) => return Err(wrong(format!("broadcast: {error}"))),
            (Some(told), _) => told.ok(),
        };
        let its_seed = (compat.0 == Some(Predecessor::Ipaddr2)).then_some(ITS_SEED);
        let names = [Some("hash_seed"), its_seed].into_iter().flatten();
        let mut seeds = names.filter_map(|name| Some((name, env.parameter(name)?)));
        let seed = match seeds.next() {
            None => None,
            Some((name, text)) => Some(parse_seed(text.raw()).ok_or_else(|| {
                wrong(format!(
                    "{name}=\"{text}\" is no seed; use a number from 0 to 4294967295, or 0x and \
                     up to eight hex digits"
                ))
            })?),
        };
        let buckets = env
            .parameter("buckets")
            .map(|count| count.parse::<BucketCount>());
        let buckets = buckets.transpose();
        let buckets = buckets.map_err(|error| wrong(format!("buckets: {error}")))?;
        let number = |name: &str, default: u32| match env.parameter(name) {
            None => Ok(default),
            Some(text) => text
                .parse::<u32>()
                .ok()
                .filter(|n| *n <= 100_000)
                .ok_or_else(|| wrong(format!("{name}=\"{text}\" is no number from 0 to 100000"))),
        };
        let announcements = Announcements {
            count: number("arp_count", 5)?,
            interval: Duration::from_millis(number("arp_interval", 200)?.into()),
        };
        let drain_s = match env.parameter("drain_timeout") {
            None => DRAIN_S,
            Some(text) => parse_drain(text.raw()).ok_or_else(|| {
                wrong(format!(
                    "drain_timeout=\"{text}\" is no time from 0 to {LONGEST_DRAIN_S} seconds; write \
                     300, 300s or 5min"
                ))
            })?,
        };
        let network_namespace = env.parameter("network_namespace");
        let no_name = |name: &&Untrusted| {
            let name = name.raw();
            name.contains('/') || name == "." || name == ".."
        };
        if let Some(name) = network_namespace.as_ref().filter(no_name) {
            return Err(wrong(format!(
                "network_namespace=\"{name}\" is no name of a namespace; use one that 'ip netns' shows"
            )));
        }
        let followed: &[&str] = match compat.0 {
            None => &[],
            Some(Predecessor::ClusterIp) => &[BROADCAST],
            Some(Predecessor::Ipaddr2) => &[BROADCAST, ITS_SEED],
        };
        let flag = |name: &str, default: bool| env.flag(name).unwrap_or(default);
        Ok(Parameters {
            ip,
            nic,
            prefix,
            label: label.map(|label| label.raw().to_owned()),
            mode: l2_mode,
            compat,
            broadcast: told,
            mac,
            hash,
            layout,
            seed,
            buckets,
            noprefixroute: flag("noprefixroute", false),
            check_link_status: flag("check_link_status", true),
            lock: flag("drop_unicast_in_l2_multicast", true),
            conflict_detection: flag("conflict_detection", true),
            network_namespace,
            announcements,
            drain_s,
            manager: Manager::pacemaker(env.resource()),
            proto_decides: compat.0.is_some_and(|predecessor| {
                proto_decides(predecessor, ip, |name| env.parameter(name).is_some())
            }),
            ignored: IGNORED
                .into_iter()
                .filter(|(name, _)| !followed.contains(name))
                .filter(|(name, _)| env.parameter(name).is_some())
                .collect(),
        })
    }

    /// The place of the instance in its clone, as start and validate-all need it.
    pub fn instance(&self, env: &Environment) -> Result<Instance, Failure> {
        let wrong = |reason: String| Err(Failure::new(Code::Configured, reason));
        let (Some(instance), Some(clone_max)) = (env.instance(), env.clone_max()) else {
            return wrong(
                "this resource is no clone: every instance serves one bucket, so put it into a \
                 clone with the meta attributes globally-unique=\"true\" clone-max=\"12\" \
                 clone-node-max=\"12\" (for three nodes, say)"
                    .into(),
            );
        };
        if env.globally_unique() != Some(true) {
            return wrong(
                "the clone is not globally unique, so its instances cannot be told apart; set the \
                 clone's meta attribute globally-unique=\"true\""
                    .into(),
            );
        }
        let count = match clone_max.parse::<BucketCount>() {
            Ok(count) => count,
            Err(error) => return wrong(format!("clone-max: {error}")),
        };
        let buckets = self.buckets.unwrap_or(count);
        if buckets != count {
            return wrong(format!(
                "buckets=\"{buckets}\", but the clone has clone-max=\"{count}\": every bucket needs \
                 one instance; make them equal, with the clone stopped"
            ));
        }
        match u16::try_from(instance) {
            Ok(bucket) if bucket < buckets.get() => Ok(Instance { bucket, buckets }),
            _ => wrong(format!(
                "instance {instance} has no bucket: there are {buckets}, numbered from 0 to {}",
                buckets.get() - 1
            )),
        }
    }
}
