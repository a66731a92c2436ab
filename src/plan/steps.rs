//! What has to be done, in which order, to serve buckets of a VIP or to stop serving them. Pure.
//!
//! The vital order is written in two places: coming here, going in `going`. Coming: the others'
//! consent, the rules that drop foreign packets, the second lock, the membership, the address, and
//! only then the buckets. Going: the buckets, the address, the membership, and the rules last. So
//! the rules, and with them the description, are there before anything else is and outlast
//! everything else: whoever is interrupted leaves behind what the next action needs to finish the
//! work, and at no moment is a foreign packet answered.
//!
//! Coming repairs whatever is not as it should be.

use super::addressing;
use super::before::remember_before;
use super::dataplane::{self, needs_membership};
use super::going;
use super::guard::is_left_over;
use super::installed::{Installed, find, installed, is_unreadable, phases_of};
use super::older;
use super::stale::{self, Left};
use crate::model::bucket::BucketSet;
use crate::model::change::Change;
use crate::model::hash::Flow;
use crate::model::host::{Held, Master, NicState, Observed};
use crate::model::mac::Mac;
use crate::model::network::Network;
use crate::model::phase::Phases;
use crate::model::ruleset::Ruleset;
use crate::model::untrusted::Untrusted;
use crate::model::vip::{Nic, Vip};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

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
    /// Receive frames for a multicast MAC.
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
    /// Set an interface up.
    SetUp(Nic),
    /// Add the address, tied to nothing (`plan::addressing`).
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

/// The steps to what is asked for; none if it is so already.
pub fn steps(observed: &Observed, intent: &Intent) -> Result<Vec<Step>, Refusal> {
    match intent {
        Intent::Take {
            vip,
            buckets,
            adopt_ms,
        } => take(observed, vip, buckets, *adopt_ms),
        Intent::Release {
            address,
            buckets,
            drain_ms,
        } => match find(&observed.rules, *address) {
            None => Err(Refusal::Unknown(*address)),
            Some(_) => Ok(going::release(observed, *address, buckets, *drain_ms)),
        },
        Intent::Leave {
            address,
            buckets,
            drain_ms,
            place,
        } => Ok(going::leave(
            observed,
            *address,
            buckets.as_ref(),
            *drain_ms,
            place.as_ref(),
        )),
        Intent::Adopted { address, buckets } => Ok(going::adopted(observed, *address, buckets)),
        Intent::Settle { address } => Ok(going::settle(observed, *address)),
    }
}

fn take(
    observed: &Observed,
    vip: &Vip,
    buckets: &BucketSet,
    adopt_ms: Option<u64>,
) -> Result<Vec<Step>, Refusal> {
    let state = observed
        .nics
        .get(vip.nic.as_str())
        .ok_or_else(|| Refusal::NoInterface(vip.nic.clone()))?;
    if state.mac.is_none() {
        return Err(Refusal::NotEthernet(vip.nic.clone()));
    }
    if let Some(Master { name, kind }) = &state.master {
        return Err(Refusal::Enslaved {
            nic: vip.nic.clone(),
            master: name.clone(),
            kind: kind.clone(),
        });
    }
    if vip.address.is_ipv6() && state.ip6_off {
        return Err(Refusal::NoIp6(vip.nic.clone()));
    }
    // What was left over by a file is made anew.
    let left_over = is_left_over(observed, vip.address);
    let found = find(&observed.rules, vip.address).filter(|_| !left_over);
    match &found {
        None if left_over => {}
        Some(found) if !found.vip.is_like(vip) && !found.phases.owned.is_empty() => {
            return Err(Refusal::OtherDescription {
                address: vip.address,
                held: found.phases.owned.clone(),
                differences: found.vip.differences(vip),
            });
        }
        // What was left behind goes first, by somebody who was interrupted or whose buckets drain: their
        // connections cannot be told by another hash.
        Some(found) if !found.vip.is_like(vip) => return make_way(observed, vip.address),
        None if is_unreadable(&observed.rules, vip.address) => {
            let held = phases_of(&observed.rules, vip.address).owned;
            if held.is_empty() {
                return make_way(observed, vip.address);
            }
            return Err(Refusal::OtherDescription {
                address: vip.address,
                held,
                differences: "it cannot be read".to_owned(),
            });
        }
        None if is_own(observed, state, vip) => {
            return Err(Refusal::OwnAddress {
                address: vip.address,
                nic: vip.nic.clone(),
            });
        }
        _ => {}
    }

    let found_nothing = found.is_none();
    // The rest of the description stays as it was found.
    let vip = &found.as_ref().map_or(vip, |found| &found.vip).clone();
    let held = found.map(|found| found.phases).unwrap_or_default();
    let adopts = adopt_ms.is_some_and(|ms| ms > 0);
    // What is silent already is to stay so.
    let adopting_rules = adopts && held.adopting_rules;
    let mut held = held.tidied(observed.ending);
    held.adopting_rules |= adopting_rules;
    let outside = outside(state, vip);
    let mut steps = Vec::new();
    let mut rules = observed.rules.clone();
    if found_nothing {
        steps.push(Step::Agree(vip.clone(), When::BeforeItComes));
    }
    if !outside.is_empty() {
        // Nothing of the VIP may be there before the rules that drop what is foreign.
        rules_step(&mut steps, &mut rules, with_vip(observed, vip, &held));
        steps.extend(outside);
    }
    let mut all = held.clone();
    let coming = buckets.without(&held.owned);
    for bucket in coming.iter() {
        all.take(bucket, adopt_ms);
    }
    if held.owned.is_empty() && !all.owned.is_empty() {
        steps.push(Step::Agree(vip.clone(), When::BeforeItServes));
    }
    let back = held.leaving().without(&all.leaving());
    match (
        stale::left(observed, vip, &coming, &held, adopts),
        going::forgotten(observed, vip, &back, &all),
    ) {
        (Ok(Left { given_up, loud }), Some(forgotten)) => {
            if !given_up.is_empty() {
                steps.push(Step::Abort(vip.address, given_up));
            }
            if !loud.is_empty() {
                let mut ready = held;
                ready.adopting_rules = true;
                rules_step(&mut steps, &mut rules, with_vip(observed, vip, &ready));
                steps.push(Step::Silence(vip.address, loud));
            }
            let wanted = with_vip(observed, vip, &all);
            rules_step_with(&mut steps, &mut rules, wanted, forgotten);
        }
        (Err(look), _) => steps.push(Step::Look(vip.address, look)),
        (_, None) => steps.push(Step::Look(vip.address, Look::Flows)),
    }
    Ok(steps)
}

fn is_own(observed: &Observed, state: &NicState, vip: &Vip) -> bool {
    let shared = going::others_need(observed, vip.address, &vip.nic, vip.mac);
    state.is_own(vip.address, vip.mac, shared)
}

/// What is left of the VIP by another description goes.
fn make_way(observed: &Observed, address: IpAddr) -> Result<Vec<Step>, Refusal> {
    match going::leave(observed, address, None, 0, None) {
        steps if steps.is_empty() => Err(Refusal::Ending(address)),
        steps => Ok(steps),
    }
}

/// What is missing outside of the rules.
fn outside(state: &NicState, vip: &Vip) -> Vec<Step> {
    let mut steps = Vec::new();
    if vip.lock && state.lock(vip.address) == Some(false) {
        steps.push(Step::Lock {
            nic: vip.nic.clone(),
            family: vip.address,
            on: true,
        });
    }
    if needs_membership(vip) && !state.memberships.contains(&vip.mac) {
        steps.push(Step::Join {
            nic: vip.nic.clone(),
            mac: vip.mac,
        });
    }
    if !state.admin_up {
        steps.push(Step::SetUp(vip.nic.clone()));
    }
    steps.extend(addressing::missing(state, vip));
    steps
}

/// The rules with this VIP as it should be; what cannot be read as it is.
pub(super) fn with_vip(observed: &Observed, vip: &Vip, phases: &Phases) -> Ruleset {
    let (left_over, others): (Vec<_>, Vec<_>) = installed(&observed.rules)
        .into_iter()
        .filter(|other| other.vip.address != vip.address)
        .partition(|other| is_left_over(observed, other.vip.address));
    let mut vips: Vec<(Vip, Phases)> = others
        .into_iter()
        // Without its interface a VIP cannot be put right, and must not stand in the way of others.
        .filter(|other| observed.nics.contains_key(other.vip.nic.as_str()))
        .map(|Installed { vip, phases }| (vip, phases))
        .collect();
    vips.push((vip.clone(), phases.clone()));
    let mut wanted = dataplane::ruleset(&vips);
    remember_before(&mut wanted, observed);
    older::keep_comments(&mut wanted, observed);
    let known = vips.iter().map(|(vip, _)| vip.address);
    let known: Vec<IpAddr> = known
        .chain(left_over.iter().map(|other| other.vip.address))
        .collect();
    super::removal::keep_others(&mut wanted, observed, vip, &known);
    wanted
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
    changes.extend(super::diff::changes(rules, &wanted));
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
