//! The words of the way: what is asked for, one thing to do, what has to be looked at first, and why nothing is
//! done. Both directions, coming and going, speak them. Pure.

use super::diff;
use crate::model::bucket::BucketSet;
use crate::model::change::Change;
use crate::model::hash::Flow;
use crate::model::host::Held;
use crate::model::mac::Mac;
use crate::model::network::Network;
use crate::model::ruleset::Ruleset;
use crate::model::untrusted::Untrusted;
use crate::model::vip::{Nic, Vip};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// Serve these buckets (and those that are served already).
    Take {
        /// The whole description.
        vip: Vip,
        /// The buckets to be owned.
        buckets: BucketSet,
        /// For how many milliseconds another node may go on draining those that come, if one does.
        adopt_ms: Option<u64>,
    },
    /// Have everything ready but the buckets, so that the daemon can take these in one transaction.
    Come {
        /// The whole description.
        vip: Vip,
        /// The buckets that may come.
        buckets: BucketSet,
        /// For how many milliseconds they may.
        within_ms: u64,
    },
    /// Have the rules ready by which the daemon offers buckets and lets them go.
    Ready {
        /// The VIP.
        address: IpAddr,
    },
    /// Serve these buckets no more, but stay ready to.
    Release {
        /// The VIP.
        address: IpAddr,
        /// The buckets that leave.
        buckets: BucketSet,
        /// For how many milliseconds their connections may stay; 0 cuts them.
        drain_ms: u64,
    },
    /// Serve these buckets no more, and if none is left, leave no trace of the VIP.
    Leave {
        /// The VIP.
        address: IpAddr,
        /// The buckets that leave; `None` for all of them.
        buckets: Option<BucketSet>,
        /// For how many milliseconds their connections may stay; 0 cuts them.
        drain_ms: u64,
        /// Where the VIP was, and its MAC, in case that its rules are gone.
        place: Option<(Nic, Mac)>,
    },
    /// These buckets are adopted: nobody drains them any more.
    Adopted {
        /// The VIP.
        address: IpAddr,
        /// The buckets.
        buckets: BucketSet,
    },
    /// Take away what has ended by itself, and let buckets go whose connections have all ended.
    Settle {
        /// The VIP.
        address: IpAddr,
    },
}

/// Something that is only looked at where it is needed, for there may be very much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// The node's TCP connections to the VIP.
    Connections,
    /// The flows that the VIP's set of them has.
    Flows,
    /// The flows of which this node has only something left.
    Stale,
}

/// When it is asked whether others agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before anything of the VIP is here.
    BeforeItComes,
    /// When the address is here and answers such questions itself, before its first bucket is
    /// owned: of two nodes that come at the same time at least one hears the other.
    BeforeItServes,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask the link whether anybody shares the VIP under another description, for this node's kernel
    /// cannot know.
    Agree(Vip, When),
    /// Change the rules, in one transaction.
    Rules(Vec<Change>),
    /// Look at these of the VIP too, and plan anew.
    Look(IpAddr, Look),
    /// Set the second lock of an interface.
    Lock {
        /// The interface.
        nic: Nic,
        /// Chooses the family.
        family: IpAddr,
        /// Locked or as it was.
        on: bool,
    },
    /// Receive frames for a MAC.
    Join {
        /// The interface.
        nic: Nic,
        /// The MAC.
        mac: Mac,
    },
    /// Receive them no more.
    LeaveMac {
        /// The interface.
        nic: Nic,
        /// The MAC.
        mac: Mac,
    },
    /// Be in an IPv4 group, and say so to whoever queries: an address that the kernel joins. It goes as addresses do.
    JoinGroup {
        /// The interface.
        nic: Nic,
        /// The group.
        group: Ipv4Addr,
    },
    /// Set an interface up.
    SetUp(Nic),
    /// Add the address, tied to nothing (`rules::addressing`).
    AddAddress(Vip),
    /// Add a route of ours.
    AddRoute {
        /// By which interface.
        nic: Nic,
        /// Where it leads.
        network: Network,
    },
    /// Delete a route of ours.
    DeleteRoute {
        /// By which interface.
        nic: Nic,
        /// Where it leads.
        network: Network,
    },
    /// End sockets whose connections this node has given up: they would say so beside the node that has
    /// the connection now.
    Abort(IpAddr, BTreeSet<Flow>),
    /// Have what is left of these connections say nothing. Whatever the rules are by then: nobody else's
    /// changes are in the way of it, nor it in theirs.
    Silence(IpAddr, Vec<Flow>),
    /// Say when the kernel is to remove the address, if at all.
    Lifetime {
        /// The interface.
        nic: Nic,
        /// The address.
        address: IpAddr,
        /// The prefix with which it is there.
        prefix: u8,
        /// In how many seconds; `None` for never.
        valid_s: Option<u32>,
    },
    /// Delete the address.
    DeleteAddress {
        /// The interface.
        nic: Nic,
        /// The address.
        address: IpAddr,
        /// The prefix with which it is there.
        prefix: u8,
    },
    /// Tell the neighbours the cluster MAC, in the background. Only where the VIP comes up: when a
    /// bucket moves nothing changes for them.
    Announce(Vip),
}

impl fmt::Display for Step {
    /// For the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Agree(vip, _) => write!(f, "ask whether others agree on {}", vip.address),
            Step::Rules(changes) => {
                let words: Vec<String> = changes.iter().map(ToString::to_string).collect();
                write!(f, "in one transaction: {}", words.join(", "))
            }
            Step::Look(address, Look::Connections) => {
                write!(f, "list the connections to {address}")
            }
            Step::Look(address, Look::Flows) => write!(f, "list the flows of {address} that stay"),
            Step::Look(address, Look::Stale) => {
                write!(f, "list what is left of connections to {address}")
            }
            Step::Abort(address, flows) => {
                write!(f, "end {} stale connections to {address}", flows.len())
            }
            Step::Silence(address, flows) => {
                write!(
                    f,
                    "silence what is left of {} connections to {address}",
                    flows.len()
                )
            }
            Step::Lifetime {
                nic,
                address,
                prefix,
                valid_s,
                ..
            } => match valid_s {
                Some(valid_s) => write!(f, "let {address}/{prefix} on {nic} end in {valid_s} s"),
                None => write!(f, "let {address}/{prefix} on {nic} stay"),
            },
            Step::Lock { nic, on, .. } => {
                let value = u8::from(*on);
                write!(f, "set drop_unicast_in_l2_multicast of {nic} to {value}")
            }
            Step::Join { nic, mac } => write!(f, "receive {mac} on {nic}"),
            Step::JoinGroup { nic, group } => write!(f, "join the group {group} on {nic}"),
            Step::LeaveMac { nic, mac } => write!(f, "receive {mac} on {nic} no more"),
            Step::SetUp(nic) => write!(f, "set {nic} up"),
            Step::AddAddress(vip) => write!(f, "add {} to {}", vip.address, vip.nic),
            Step::AddRoute { nic, network } => write!(f, "add a route to {network} by {nic}"),
            Step::DeleteRoute { nic, network } => {
                write!(f, "delete the route to {network} by {nic}")
            }
            Step::DeleteAddress {
                nic,
                address,
                prefix,
            } => write!(f, "delete {address}/{prefix} from {nic}"),
            Step::Announce(vip) => write!(f, "announce {}", vip.address),
        }
    }
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The interface does not exist.
    #[error("there is no interface {0}; 'ip link' shows those that exist")]
    NoInterface(Nic),
    /// The interface is not one on which frames have MACs.
    #[error("the interface {0} has no MAC address: a VIP can only be shared on an Ethernet")]
    NotEthernet(Nic),
    /// Another interface takes its frames.
    #[error(
        "use {master}: {nic} is a port of the {kind} {master}, which takes its frames before the rules for \
         the VIP could; set nic to {master}, or take {nic} out of it"
    )]
    Enslaved {
        /// The interface.
        nic: Nic,
        /// What takes its frames.
        master: Untrusted,
        /// What that is.
        kind: Untrusted,
    },
    /// The interface beneath would answer too.
    #[error(
        "set net.{family}.conf.{beneath}.drop_unicast_in_l2_multicast to 1: {beneath}, on which {nic} is made, would answer \
         for {address} too, for it takes frames for a multicast MAC besides passing them on. Or set nic to {beneath}",
        family = if .address.is_ipv4() { "ipv4" } else { "ipv6" }
    )]
    Beneath {
        /// The VIP.
        address: IpAddr,
        /// The interface.
        nic: Nic,
        /// What it is made on.
        beneath: Untrusted,
    },
    /// The interface has no IPv6.
    #[error(
        "IPv6 is switched off on {0}: set net.ipv6.conf.{0}.disable_ipv6 (or the kernel's ipv6.disable) to \
         0, or use another interface"
    )]
    NoIp6(Nic),
    /// The VIP is there with another description, and holds buckets.
    #[error(
        "stop the clone first: {address} is installed here with another description ({differences}) \
         and holds buckets {held}; two descriptions would hash differently. Stop all instances on \
         all nodes, then start them"
    )]
    OtherDescription {
        /// The VIP.
        address: IpAddr,
        /// The buckets that it holds.
        held: BucketSet,
        /// What differs, in words.
        differences: String,
    },
    /// The address is one of the node's own.
    #[error(
        "use another ip: {address} is on {nic} already and looks like this node's own address; a VIP \
         must be an address that no node has for itself"
    )]
    OwnAddress {
        /// The VIP.
        address: IpAddr,
        /// Where it is.
        nic: Nic,
    },
    /// It is still there by another description, with nothing that answers.
    #[error(
        "{0} has just been here by another description, and the kernel has not yet let go of it; try \
         again in a few seconds"
    )]
    Ending(IpAddr),
    /// The VIP is not there.
    #[error("{0} is not installed here; 'nodectl status' shows what is")]
    Unknown(IpAddr),
}

/// Appends the changes from `rules` to `wanted`, and goes on from there.
pub(super) fn rules_step(steps: &mut Vec<Step>, rules: &mut Ruleset, wanted: Ruleset) {
    rules_step_with(steps, rules, wanted, Vec::new());
}

/// The same with changes of what is not compared, which come first.
pub(super) fn rules_step_with(
    steps: &mut Vec<Step>,
    rules: &mut Ruleset,
    wanted: Ruleset,
    mut changes: Vec<Change>,
) {
    changes.extend(diff::changes(rules, &wanted));
    if !changes.is_empty() {
        steps.push(Step::Rules(changes));
    }
    *rules = wanted;
}

pub(super) fn delete_address(nic: &Nic, held: &Held) -> Step {
    Step::DeleteAddress {
        nic: nic.clone(),
        address: held.address,
        prefix: held.prefix,
    }
}

/// Says when the kernel is to remove the address, as it is there.
pub(super) fn lifetime(nic: &Nic, held: &Held, valid_s: Option<u32>) -> Step {
    Step::Lifetime {
        nic: nic.clone(),
        address: held.address,
        prefix: held.prefix,
        valid_s,
    }
}
