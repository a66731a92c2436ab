//! The command line, in one place. Its doc comments are the help that people read.
#![allow(rustdoc::broken_intra_doc_links)]

use crate::model::bucket::{BucketCount, BucketSet};
use crate::model::hash::{HashMode, Layout};
use crate::model::mac::Mac;
use crate::model::seed::parse_seed;
use crate::model::vip::Nic;
use clap::{Args, Parser, Subcommand};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Look at the buckets of shared addresses on this node, and move them by hand.
#[derive(Debug, Parser)]
#[command(name = "nodectl", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 64 usage, 65 bad data, 69 the kernel lacks something, \
                        71 the kernel refused, 75 not yet, 77 not permitted."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Install a VIP on this node, and own buckets of it
    Up(Up),
    /// Take a VIP off this node
    Down(Down),
    /// Own more buckets of a VIP
    Take(Take),
    /// Own fewer buckets of a VIP; its connections may stay, if it has a drain time-out
    Release(Release),
    /// Let buckets leave whose connections stay until they end
    Drain(Drain),
    /// Own buckets again that are still draining here
    Undrain(Move),
    /// Wait until nothing drains here any more
    WaitDrained(WaitDrained),
    /// Show the VIPs of this node, their buckets and their health
    Status(Show),
    /// Show every bucket of a VIP with what it has received
    Buckets(OfVip),
    /// Say which bucket a client's packets are in, and whether this node answers them
    Owner(Owner),
    /// Print the rules that are installed, or that 'up' would install, in nft's syntax
    Ruleset(Ruleset),
}

/// Arguments of `take`.
#[derive(Debug, Args)]
pub struct Take {
    /// Which buckets
    #[command(flatten)]
    pub buckets: Move,
    /// For how many seconds another node may go on draining them [default: the VIP's drain time-out]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub adopt: Option<u32>,
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
    pub nic: Option<Nic>,
    /// The number of buckets, 1 to 1024; the same on all nodes
    #[arg(long, value_name = "N")]
    pub buckets: BucketCount,
    /// sourceip, sourceip-sourceport or sourceip-sourceport-destport
    #[arg(long, value_name = "MODE", default_value_t)]
    pub hash: HashMode,
    /// clusterip or network
    #[arg(long, default_value_t)]
    pub layout: Layout,
    /// The initial value of the hash, decimal or hex after 0x [default: follows from the VIP]
    #[arg(long, value_name = "N", value_parser = seed)]
    pub seed: Option<u32>,
    /// The cluster MAC, a multicast one [default: follows from the VIP]
    #[arg(long)]
    pub mac: Option<Mac>,
    /// For how many seconds the connections of a bucket that leaves may stay; 0 cuts them
    #[arg(long = "drain-timeout", value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub drain_s: u32,
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

/// Arguments of `undrain`, and which buckets others mean.
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
pub struct Show {
    /// Print JSON, schema 1
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `buckets`.
#[derive(Debug, Args)]
pub struct OfVip {
    /// The shared address
    pub vip: IpAddr,
    /// Print JSON, schema 1
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `owner`.
#[derive(Debug, Args)]
pub struct Owner {
    /// The shared address
    pub vip: IpAddr,
    /// The client's address, with its port if it has one: 192.0.2.1:40000, [2001:db8::1]:40000
    pub client: Client,
    /// The port that it talks to, needed where the hash includes it
    #[arg(long, value_name = "PORT")]
    pub dport: Option<u16>,
    /// Print JSON, schema 1
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `ruleset`.
#[derive(Debug, Args)]
pub struct Ruleset {
    /// Print what 'up' would install for this address, and install nothing
    #[arg(requires = "buckets")]
    pub vip: Option<AddressWithPrefix>,
    /// The interface [default: that of the connected route]
    #[arg(long, requires = "vip")]
    pub nic: Option<Nic>,
    /// The number of buckets
    #[arg(long, value_name = "N", requires = "vip")]
    pub buckets: Option<BucketCount>,
    /// The buckets that this node would own [default: none]
    #[arg(long, value_name = "SET", requires = "vip")]
    pub own: Option<BucketSet>,
    /// sourceip, sourceip-sourceport or sourceip-sourceport-destport
    #[arg(long, value_name = "MODE", default_value_t, requires = "vip")]
    pub hash: HashMode,
    /// clusterip or network
    #[arg(long, default_value_t, requires = "vip")]
    pub layout: Layout,
    /// The initial value of the hash
    #[arg(long, value_name = "N", value_parser = seed, requires = "vip")]
    pub seed: Option<u32>,
    /// The cluster MAC
    #[arg(long, requires = "vip")]
    pub mac: Option<Mac>,
}

fn seed(text: &str) -> Result<u32, String> {
    parse_seed(text).ok_or_else(|| {
        "use a number from 0 to 4294967295, or 0x and up to eight hex digits".to_owned()
    })
}

/// An address, perhaps with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressWithPrefix {
    /// The address.
    pub address: IpAddr,
    /// The length.
    pub prefix: Option<u8>,
}

impl FromStr for AddressWithPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no address such as 10.0.0.99 or 10.0.0.99/24");
        let (address, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((address, prefix)) => (address, Some(prefix.parse().map_err(|_| wrong())?)),
        };
        let address = address.parse().map_err(|_| wrong())?;
        Ok(AddressWithPrefix { address, prefix })
    }
}

/// A client: an address and a port, 0 if it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

impl FromStr for Client {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse() {
            return Ok(Client { address, port: 0 });
        }
        match text.parse::<SocketAddr>() {
            Ok(socket) => Ok(Client {
                address: socket.ip(),
                port: socket.port(),
            }),
            Err(_) => Err(format!(
                "'{text}' is no client; write 192.0.2.1, 192.0.2.1:40000 or [2001:db8::1]:40000"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn clients_are_read_as_people_write_them() {
        for (text, address, port) in [
            ("192.0.2.1", "192.0.2.1", 0),
            ("192.0.2.1:40000", "192.0.2.1", 40000),
            ("2001:db8::1", "2001:db8::1", 0),
            ("[2001:db8::1]", "2001:db8::1", 0),
            ("[2001:db8::1]:7", "2001:db8::1", 7),
        ] {
            let client: Client = text.parse().expect(text);
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(client, Client { address, port });
        }
        for wrong in ["", "host", "192.0.2.1:", "192.0.2.1:70000", "[192.0.2"] {
            assert!(wrong.parse::<Client>().is_err(), "{wrong}");
        }
    }
}
