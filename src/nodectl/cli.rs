//! The command line, in one place. Its doc comments are the help that people read.
#![allow(rustdoc::broken_intra_doc_links)]

use super::values::seed;
pub use super::values::{AddressWithPrefix, Client, Part, Seconds};
use crate::guidance::{Port, Vlan};
use crate::model::bucket::{BucketCount, BucketSet};
use crate::model::hash::{HashMode, Layout};
use crate::model::mac::Mac;
use crate::model::predecessor::{Compat, broadcast};
use crate::model::untrusted::in_one_line;
use crate::model::vip::{DRAIN_S, L2Mode, Nic, NicName};
use crate::pacemaker::migration::words::Shell;
use crate::pacemaker::wish::Service;
use clap::{ArgGroup, Args, Parser, Subcommand};
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

/// Look at the buckets of shared addresses on this node, and move them by hand.
#[derive(Debug, Parser)]
#[command(name = "nodectl", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 64 usage, 65 bad data, 69 the kernel lacks something, or \
                        clusteripd does not answer, 71 the kernel refused, 75 not yet, 77 not permitted."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Print JSON, schema 1
    #[arg(long, global = true)]
    pub json: bool,
    /// The network namespace of the VIP, as 'ip netns' shows it [default: the one that nodectl runs in]
    #[arg(long, global = true, value_name = "NAME")]
    pub netns: Option<String>,
}

impl Cli {
    /// Reads the words of the command line. An error repeats what was typed, so that is shown there.
    ///
    /// # Errors
    /// Usage errors; help and the version too, which were asked for.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let words: Vec<OsString> = words.into_iter().collect();
        Cli::try_parse_from(&words).map_err(|error| {
            let shown = words
                .iter()
                .map(|word| in_one_line(&word.to_string_lossy()));
            // Words that are no text are not repeated.
            Cli::try_parse_from(shown).err().unwrap_or(error)
        })
    }
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Install a VIP on this node, and own buckets of it
    #[command(
        after_help = "Examples:\n  nodectl up 10.0.0.99 --nic eth0 --buckets 12 --own 0-5 --seed 0x3f7a91c4\n  nodectl up 2001:db8::99/64 --buckets 12 --drain-timeout 300"
    )]
    Up(Up),
    /// Take a VIP off this node
    #[command(after_help = "Example:\n  nodectl down 10.0.0.99")]
    Down(Down),
    /// Own more buckets of a VIP
    #[command(
        after_help = "Examples:\n  nodectl take 10.0.0.99 6,8-9\n  nodectl take 10.0.0.99 6 --adopt 0"
    )]
    Take(Take),
    /// Own fewer buckets of a VIP; its connections may stay, if it has a drain time-out
    #[command(
        after_help = "Examples:\n  nodectl release 10.0.0.99 0,3\n  nodectl release 10.0.0.99 0,3 --now"
    )]
    Release(Release),
    /// Let buckets leave whose connections stay until they end
    #[command(after_help = "Example:\n  nodectl drain 10.0.0.99 8-9 --timeout 60")]
    Drain(Drain),
    /// Own buckets again that are still draining here
    #[command(after_help = "Example:\n  nodectl undrain 10.0.0.99 8-9")]
    Undrain(Take),
    /// Wait until nothing drains here any more
    #[command(after_help = "Example:\n  nodectl wait-drained 10.0.0.99 --timeout 300")]
    WaitDrained(WaitDrained),
    /// Show the VIPs of this node, their buckets and their health, and who has what in the cluster
    #[command(
        after_help = "Examples:\n  nodectl status\n  nodectl status --json --local --rate 0\n  nodectl status --cluster\n  watch nodectl status --rate 1"
    )]
    Status(Status),
    /// Show every bucket of a VIP with what it has received
    #[command(
        after_help = "Examples:\n  nodectl buckets 10.0.0.99\n  nodectl buckets 10.0.0.99 --cluster"
    )]
    Buckets(OfVip),
    /// Tell what happens in the cluster, as clusteripd comes to know it, until it is interrupted
    #[command(after_help = "Examples:\n  nodectl watch\n  nodectl watch --json | jq -r .sentence")]
    Watch,
    /// Print what clusteripd has counted, in Prometheus' text format
    #[command(
        after_help = "Example, for the textfile collector:\n  nodectl metrics > clusterip.prom.new && mv clusterip.prom.new clusterip.prom"
    )]
    Metrics,
    /// Say which bucket a client's packets are in, and whether this node answers them
    #[command(
        after_help = "Examples:\n  nodectl owner 10.0.0.99 192.0.2.7:40000\n  nodectl owner 2001:db8::99 '[2001:db8::7]:40000' --dport 443"
    )]
    Owner(Owner),
    /// Say why a client's packets are answered here or not, step by step, checked against the kernel
    #[command(
        after_help = "Examples:\n  nodectl explain 10.0.0.99 192.0.2.7:40000\n  nodectl explain 2001:db8::99 '[2001:db8::7]:40000' --dport 443"
    )]
    Explain(Owner),
    /// Print the rules that are installed, or that 'up' would install, in nft's syntax
    #[command(
        after_help = "Examples:\n  nodectl ruleset\n  nodectl ruleset 10.0.0.99 --nic eth0 --buckets 12 --own 0-5"
    )]
    Ruleset(Ruleset),
    /// Print a complete configuration for crm shell
    #[command(
        after_help = "Example:\n  nodectl crm 10.0.0.99/24 --nic eth0 --service systemd:nginx | crm configure load update -"
    )]
    Crm(Configuration),
    /// Print a complete configuration for pcs, as lines for a shell
    #[command(
        after_help = "Example:\n  nodectl pcs 10.0.0.99/24 --nic eth0 --service systemd:nginx | sh"
    )]
    Pcs(Configuration),
    /// Say how addresses that IPaddr2 shares become ours: what changes, the new configuration, and every step; change
    /// nothing
    #[command(
        after_help = "Examples:\n  nodectl migrate\n  nodectl migrate cib.xml --for pcs\n  crm configure show | nodectl migrate - --clone cloneIP --compat clusterip"
    )]
    Migrate(Migrate),
    /// Print what routers and switches are to be told: static ARP and MAC entries, by vendor
    #[command(
        after_help = "Examples:\n  nodectl arp --list\n  nodectl arp 10.0.0.99 --vendor cisco-ios --vlan 10 --ports Gi1/0/1,Gi1/0/2"
    )]
    Arp(Arp),
    /// Say under which MAC an address is shared, as it follows from the address, or as a predecessor derived it
    #[command(
        after_help = "Examples:\n  nodectl mac 10.0.0.99\n  nodectl mac 2001:db8::99 --mode stealth\n  nodectl mac 10.0.0.99/24 --nic eth0 --compat clusterip"
    )]
    Mac(MacOf),
    /// Look for what will bite a VIP on this node, and say what mends it; changes nothing
    #[command(
        after_help = "Exit codes: 0 nothing was found, 1 warnings, 2 it will not work; with an error those of nodectl.\n\nExamples:\n  nodectl check 10.0.0.99 --nic eth0 --mode stealth\n  nodectl check\n  nodectl check 10.0.0.99 --port vnet3\n  nodectl check 10.0.0.99 --mode stealth --listen --for 30    # on n2 and n3, and meanwhile on n1, in the same mode:\n  nodectl check 10.0.0.99 --mode stealth --send"
    )]
    Check(Check),
}

/// Arguments of `take` and `undrain`.
#[derive(Debug, Args)]
pub struct Take {
    /// Which buckets
    #[command(flatten)]
    pub buckets: Move,
    /// For how many seconds another node may go on draining them; 0: nobody does, so connections that
    /// this node does not know are reset at once [default: the VIP's drain time-out, or 300]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub adopt: Option<u32>,
    /// Who may share the VIP beside this without being a disagreement: clusterip, ipaddr2 or none
    #[arg(long, value_name = "WHOM", default_value = "none")]
    pub compat: Compat,
}

/// Arguments of `release`.
#[derive(Debug, Args)]
pub struct Release {
    /// Which buckets
    #[command(flatten)]
    pub buckets: Move,
    /// Cut the connections of the buckets
    #[arg(long)]
    pub now: bool,
}

/// Arguments of `drain`.
#[derive(Debug, Args)]
pub struct Drain {
    /// Which buckets
    #[command(flatten)]
    pub buckets: Move,
    /// How long connections may stay, in seconds [default: the VIP's drain time-out, or 300]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub timeout: Option<u32>,
}

/// Arguments of `wait-drained`.
#[derive(Debug, Args)]
pub struct WaitDrained {
    /// The shared address
    pub vip: IpAddr,
    /// Give up after so many seconds [default: wait as long as it takes]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u32>,
}

/// The description of a VIP.
#[derive(Debug, Args)]
pub struct Describe {
    /// The interface [default: that of the connected route]
    #[arg(long)]
    pub nic: Option<NicName>,
    /// The number of buckets, 1 to 1024; the same on all nodes
    #[arg(long, value_name = "N")]
    pub buckets: BucketCount,
    /// sourceip, sourceip-sourceport or sourceip-sourceport-destport [default: sourceip-sourceport]
    #[arg(long, value_name = "MODE")]
    pub hash: Option<HashMode>,
    /// clusterip or network [default: clusterip]
    #[arg(long)]
    pub layout: Option<Layout>,
    /// The initial value of the hash, decimal or hex after 0x [default: follows from the VIP]
    #[arg(long, value_name = "N", value_parser = seed)]
    pub seed: Option<u32>,
    /// How all nodes get the packets: multicast, igmp or stealth
    #[arg(long, value_name = "MODE", default_value_t)]
    pub mode: L2Mode,
    /// The cluster MAC, of the mode's kind [default: follows from the mode and the VIP]
    #[arg(long)]
    pub mac: Option<Mac>,
    /// Whom to follow in what is not given, hash, layout, seed and MAC: clusterip (the kernel's former target),
    /// ipaddr2 (the newest IPaddr2) or none. Nodes that share the VIP so are no disagreement then
    #[arg(long, value_name = "WHOM", default_value = "none")]
    pub compat: Compat,
    /// With --compat, the broadcast address that IPaddr2 was given or found, '' if none [default: as it finds
    /// it here]
    #[arg(long, value_name = "ADDRESS", requires = "compat", value_parser = broadcast)]
    pub broadcast: Option<String>,
    /// For how many seconds the connections of a bucket that leaves may stay; 0 cuts them [default: 0, or
    /// what the VIP has]
    #[arg(long = "drain-timeout", value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub drain_s: Option<u32>,
    /// Leave the sysctl drop_unicast_in_l2_multicast as it is, where it cannot be written, say: with the
    /// ruleset flushed this node would then answer for others
    #[arg(long)]
    pub without_second_lock: bool,
}

/// Arguments of `up`.
#[derive(Debug, Args)]
pub struct Up {
    /// The shared address, with its prefix length if it is not that of the connected route
    pub vip: AddressWithPrefix,
    /// The VIP's description
    #[command(flatten)]
    pub describe: Describe,
    /// The buckets that this node is to answer, such as 0,3-5 [default: none]
    #[arg(long, value_name = "SET")]
    pub own: Option<BucketSet>,
    /// For how many seconds another node may go on draining those [default: the VIP's drain time-out, or 0
    /// if the VIP comes here, and 300 if it is here already]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub adopt: Option<u32>,
    /// Change the VIP although Pacemaker manages it, or although others on the link disagree
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `down`.
#[derive(Debug, Args)]
pub struct Down {
    /// The shared address
    pub vip: IpAddr,
    /// Change the VIP although Pacemaker manages it
    #[arg(long)]
    pub force: bool,
}

/// Which buckets are meant.
#[derive(Debug, Args)]
pub struct Move {
    /// The shared address
    pub vip: IpAddr,
    /// The buckets, such as 0,3-5
    pub buckets: BucketSet,
    /// Change the VIP although Pacemaker manages it
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Look at this node's kernel alone; do not ask Pacemaker
    #[arg(long)]
    pub local: bool,
    /// Show what clusteripd knows of the whole cluster, in place of this node's kernel and of Pacemaker
    #[arg(long, conflicts_with_all = ["local", "rate"])]
    pub cluster: bool,
    /// For how many seconds packets are counted, 0 to 60; 0 leaves their rate out
    #[arg(long, value_name = "SECONDS", default_value = "0.2")]
    pub rate: Seconds,
}

/// Arguments of `buckets`.
#[derive(Debug, Args)]
pub struct OfVip {
    /// The shared address
    pub vip: IpAddr,
    /// Show on which nodes each bucket is, as clusteripd knows it
    #[arg(long)]
    pub cluster: bool,
}

/// Arguments of `owner` and `explain`.
#[derive(Debug, Args)]
pub struct Owner {
    /// The shared address
    pub vip: IpAddr,
    /// The client's address, with its port if it has one: 192.0.2.1:40000, [2001:db8::1]:40000
    pub client: Client,
    /// The port that it talks to, needed where the hash includes it
    #[arg(long, value_name = "PORT")]
    pub dport: Option<u16>,
}

/// Arguments of `ruleset`.
#[derive(Debug, Args)]
pub struct Ruleset {
    /// Print what 'up' would install for this address, without a drain time-out, and install nothing
    #[arg(requires = "buckets")]
    pub vip: Option<AddressWithPrefix>,
    /// The interface [default: that of the connected route]
    #[arg(long, requires = "vip")]
    pub nic: Option<NicName>,
    /// The number of buckets
    #[arg(long, value_name = "N", requires = "vip")]
    pub buckets: Option<BucketCount>,
    /// The buckets that this node would own [default: none]
    #[arg(long, value_name = "SET", requires = "vip")]
    pub own: Option<BucketSet>,
    /// sourceip, sourceip-sourceport or sourceip-sourceport-destport [default: sourceip-sourceport]
    #[arg(long, value_name = "MODE", requires = "vip")]
    pub hash: Option<HashMode>,
    /// clusterip or network [default: clusterip]
    #[arg(long, requires = "vip")]
    pub layout: Option<Layout>,
    /// The initial value of the hash
    #[arg(long, value_name = "N", value_parser = seed, requires = "vip")]
    pub seed: Option<u32>,
    /// multicast, igmp or stealth
    #[arg(long, value_name = "MODE", default_value_t, requires = "vip")]
    pub mode: L2Mode,
    /// The cluster MAC
    #[arg(long, requires = "vip")]
    pub mac: Option<Mac>,
    /// Whom to follow in what is not given: none, clusterip or ipaddr2
    #[arg(long, value_name = "WHOM", default_value = "none", requires = "vip")]
    pub compat: Compat,
}

/// Arguments of `crm` and `pcs`.
#[derive(Debug, Args)]
pub struct Configuration {
    /// The shared address, with its prefix length if nodes are not to find it by themselves
    pub vip: AddressWithPrefix,
    /// The interface, by the same name on all nodes
    #[arg(long)]
    pub nic: Nic,
    /// How many nodes share the address
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub nodes: u16,
    /// How many buckets there are, 1 to 1024 [default: four a node]
    #[arg(long, value_name = "N")]
    pub buckets: Option<BucketCount>,
    /// The service behind the address: an agent such as systemd:nginx, or a clone that is there already
    #[arg(long, value_name = "RSC")]
    pub service: Option<Service>,
    /// sourceip, sourceip-sourceport or sourceip-sourceport-destport
    #[arg(long, value_name = "MODE", default_value_t)]
    pub hash: HashMode,
    /// The initial value of the hash, decimal or hex after 0x [default: a random one]
    #[arg(long, value_name = "N", value_parser = seed)]
    pub seed: Option<u32>,
    /// How all nodes get the packets: multicast, igmp or stealth
    #[arg(long, value_name = "MODE", default_value_t)]
    pub mode: L2Mode,
    /// The cluster MAC, of the mode's kind [default: follows from the mode and the VIP]
    #[arg(long)]
    pub mac: Option<Mac>,
    /// For how many seconds the connections of a bucket that leaves may stay; 0 cuts them
    #[arg(long = "drain-timeout", value_name = "SECONDS", default_value_t = DRAIN_S, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub drain_s: u32,
}

/// Arguments of `migrate`.
#[derive(Debug, Args)]
pub struct Migrate {
    /// A CIB, as 'cibadmin --query' prints it, or what 'crm configure show' prints; - is standard input [default:
    /// the CIB of the cluster that runs here]
    pub file: Option<PathBuf>,
    /// For whom the new configuration is: crm or pcs
    #[arg(long = "for", value_name = "SHELL", default_value = "crm")]
    pub shell: Shell,
    /// Only the addresses in this clone [default: all]
    #[arg(long, value_name = "CLONE")]
    pub clone: Option<String>,
    /// What the hash, the seed and the MAC are to stay compatible with: clusterip (IPaddr2 by the kernel's CLUSTERIP),
    /// ipaddr2 (the newest IPaddr2) or none [default: told by the parameters]
    #[arg(long, value_name = "WHAT")]
    pub compat: Option<Compat>,
    /// The seed of an address that does not keep its hash, decimal or hex after 0x [default: a random one]
    #[arg(long, value_name = "N", value_parser = seed)]
    pub seed: Option<u32>,
    /// Only one part, to be kept in a file: configuration, or takeover, the script by which a node takes over
    #[arg(long, value_name = "PART", conflicts_with = "json")]
    pub print: Option<Part>,
}

/// Arguments of `arp`.
#[derive(Debug, Args)]
pub struct Arp {
    /// The shared address
    #[arg(required_unless_present = "list")]
    pub vip: Option<IpAddr>,
    /// The vendor, more than once if need be, or 'all' [default: what holds for every network]
    #[arg(long, value_name = "NAME")]
    pub vendor: Vec<String>,
    /// The VLAN of the nodes, 1 to 4094
    #[arg(long, value_name = "N")]
    pub vlan: Option<Vlan>,
    /// The switch's ports to which the nodes are connected, such as Gi1/0/1,Gi1/0/2
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    pub ports: Vec<Port>,
    /// The router's interface in the nodes' network
    #[arg(long, value_name = "NAME")]
    pub interface: Option<Port>,
    /// The mode [default: that of the VIP if it is installed here, or multicast]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<L2Mode>,
    /// The cluster MAC [default: that of the VIP if it is installed here, or as it follows from the mode and
    /// the VIP]
    #[arg(long)]
    pub mac: Option<Mac>,
    /// List the vendors
    #[arg(long, conflicts_with = "vip")]
    pub list: bool,
}

/// Arguments of `mac`.
#[derive(Debug, Args)]
pub struct MacOf {
    /// The shared address, with --compat and its prefix length if it is not that of the connected route
    pub vip: AddressWithPrefix,
    /// Only that of this mode [default: all]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<L2Mode>,
    /// That under which a predecessor shares the address from this node: clusterip or ipaddr2
    #[arg(
        long,
        value_name = "WHOM",
        default_value = "none",
        conflicts_with = "mode"
    )]
    pub compat: Compat,
    /// With --compat, the interface [default: that of the connected route]
    #[arg(long, requires = "compat")]
    pub nic: Option<NicName>,
    /// With --compat, the broadcast address that IPaddr2 was given or found, '' if none [default: as it finds
    /// it here]
    #[arg(long, value_name = "ADDRESS", requires = "compat", value_parser = broadcast)]
    pub broadcast: Option<String>,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("wire").args(["send", "listen"])))]
pub struct Check {
    /// The shared address, installed or not [default: all that are installed here]
    pub vip: Option<AddressWithPrefix>,
    /// The interface that the VIP is to be on [default: that of the connected route]
    #[arg(long)]
    pub nic: Option<NicName>,
    /// On the host of a guest that is a node: the port of a Linux bridge, or the macvtap, behind which that guest is
    #[arg(long, value_name = "NIC", conflicts_with = "nic")]
    pub port: Option<NicName>,
    /// The mode [default: that of the VIP if it is installed here, or multicast]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<L2Mode>,
    /// Look at this node alone; do not ask the link or Pacemaker
    #[arg(long)]
    pub local: bool,
    /// Send frames for the cluster MAC with the VIP inside, and the question that nodes ask; nobody answers them. Ten a
    /// second for ten seconds, or as long as --for says
    #[arg(long, requires = "vip", conflicts_with_all = ["port", "local", "listen"])]
    pub send: bool,
    /// Say what is heard of that here, and of queries for groups: for 130 seconds, or as long as --for says
    #[arg(long, requires = "vip", conflicts_with_all = ["port", "local"])]
    pub listen: bool,
    /// For how long it is sent (1 to 102 seconds) or listened (1 to 3600)
    #[arg(long = "for", value_name = "SECONDS", requires = "wire", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::untrusted::tests::{NASTY, forbidden_in};
    use clap::CommandFactory;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn what_was_typed_is_repeated_as_text() {
        for words in [
            &[NASTY][..],
            &["status", NASTY],
            &["take", "10.0.0.99", NASTY],
        ] {
            let words = ["nodectl"].iter().chain(words).map(OsString::from);
            let error = Cli::read(words).expect_err("wrong").to_string();
            let others = error.replace('\n', "");
            assert_eq!(forbidden_in(&others), None, "{error:?}");
            assert!(error.contains(r"web'\n\u{9b}31m"), "{error}");
        }
        let no_text = OsString::from_vec(vec![0xff]);
        let error = Cli::read(["nodectl".into(), "--netns".into(), no_text, "status".into()]);
        assert!(error.is_err_and(|error| error.to_string().contains("UTF-8")));
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
