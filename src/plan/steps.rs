//! What has to be done, in which order, to serve buckets of a VIP or to stop serving them. Pure.
//!
//! The vital order is written here, once. Coming: the others' consent, the rules that drop foreign packets, the second
//! lock, the membership, the address, and only then the buckets. Going: the buckets, the address,
//! the membership, and the rules last. So the rules, and with them the description, are there
//! before anything else is and outlast everything else: whoever is interrupted leaves behind what
//! the next action needs to finish the work, and at no moment is a foreign packet answered.
//!
//! Coming repairs whatever is not as it should be. Going touches nothing but what goes: a stop
//! must not fail because something else is broken.

use super::before::{before_of, remember_before};
use super::dataplane::{self, needs_membership};
use super::diff::changes;
use super::installed::{
    Installed, addresses, find, installed, is_unreadable, others_unreadable, owned_of,
};
use super::names::{bucket_key, bucket_of_key, buckets_map};
use super::removal::without_vip;
use crate::model::bucket::BucketSet;
use crate::model::change::Change;
use crate::model::host::{Held, NicState, Observed};
use crate::model::mac::Mac;
use crate::model::ruleset::{Family, Ruleset};
use crate::model::vip::{Nic, Vip};
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
    },
    /// Serve these buckets no more, but stay ready to.
    Release {
        /// The VIP.
        address: IpAddr,
        /// The buckets to be foreign.
        buckets: BucketSet,
    },
    /// Serve these buckets no more, and if none is left, leave no trace of the VIP.
    Leave {
        /// The VIP.
        address: IpAddr,
        /// The buckets to be foreign; `None` for all of them.
        buckets: Option<BucketSet>,
        /// Where the VIP was, and its MAC, in case that its rules are gone.
        place: Option<(Nic, Mac)>,
    },
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
    /// Add the address.
    AddAddress {
        /// The VIP.
        vip: Vip,
        /// Without a route to its network.
        noprefixroute: bool,
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
            Step::Lock { nic, on, .. } => {
                let value = u8::from(*on);
                write!(f, "set drop_unicast_in_l2_multicast of {nic} to {value}")
            }
            Step::Join { nic, mac } => write!(f, "receive {mac} on {nic}"),
            Step::LeaveMac { nic, mac } => write!(f, "receive {mac} on {nic} no more"),
            Step::AddAddress { vip, .. } => {
                write!(f, "add {}/{} to {}", vip.address, vip.prefix, vip.nic)
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
    /// The VIP is not there.
    #[error("{0} is not installed here; 'nodectl status' shows what is")]
    Unknown(IpAddr),
}

/// The steps to what is asked for; none if it is so already.
pub fn steps(observed: &Observed, intent: &Intent) -> Result<Vec<Step>, Refusal> {
    match intent {
        Intent::Take { vip, buckets } => take(observed, vip, buckets),
        Intent::Release { address, buckets } => match find(&observed.rules, *address) {
            None => Err(Refusal::Unknown(*address)),
            Some(_) => Ok(release(observed, *address, buckets)),
        },
        Intent::Leave {
            address,
            buckets,
            place,
        } => Ok(leave(observed, *address, buckets.as_ref(), place.as_ref())),
    }
}

fn take(observed: &Observed, vip: &Vip, buckets: &BucketSet) -> Result<Vec<Step>, Refusal> {
    let state = observed
        .nics
        .get(vip.nic.as_str())
        .ok_or_else(|| Refusal::NoInterface(vip.nic.clone()))?;
    if state.mac.is_none() {
        return Err(Refusal::NotEthernet(vip.nic.clone()));
    }
    let found = find(&observed.rules, vip.address);
    match &found {
        Some(found) if found.vip != *vip && !found.owned.is_empty() => {
            return Err(Refusal::OtherDescription {
                address: vip.address,
                held: found.owned.clone(),
                differences: found.vip.differences(vip),
            });
        }
        // What was left behind by somebody who was interrupted goes first.
        Some(found) if found.vip != *vip => {
            return Ok(leave(observed, vip.address, None, None));
        }
        None if is_unreadable(&observed.rules, vip.address) => {
            let held = owned_of(&observed.rules, vip.address);
            if held.is_empty() {
                return Ok(leave(observed, vip.address, None, None));
            }
            return Err(Refusal::OtherDescription {
                address: vip.address,
                held,
                differences: "it cannot be read".to_owned(),
            });
        }
        None if state.is_own(vip.address, vip.mac) => {
            return Err(Refusal::OwnAddress {
                address: vip.address,
                nic: vip.nic.clone(),
            });
        }
        _ => {}
    }

    let found_nothing = found.is_none();
    let held = found.map(|found| found.owned).unwrap_or_default();
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
    let all = held.union(buckets);
    if held.is_empty() && !all.is_empty() {
        steps.push(Step::Agree(vip.clone(), When::BeforeItServes));
    }
    rules_step(&mut steps, &mut rules, with_vip(observed, vip, &all));
    Ok(steps)
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
    let held = state.held(vip.address);
    if let Some(held) = held.filter(|held| !fits(state, held, vip)) {
        steps.push(delete_address(&vip.nic, held));
    }
    if !held.is_some_and(|held| fits(state, held, vip)) {
        steps.push(Step::AddAddress {
            vip: vip.clone(),
            noprefixroute: vip.noprefixroute || state.has_other_route(vip.address, vip.prefix),
        });
        steps.push(Step::Announce(vip.clone()));
    }
    steps
}

/// Is the address on the interface as it should be?
pub fn fits(state: &NicState, held: &Held, vip: &Vip) -> bool {
    let family = match vip.address {
        IpAddr::V4(_) => held.label == vip.label && !state.comes_first(held),
        IpAddr::V6(_) => held.deprecated && !held.unusable,
    };
    family && held.prefix == vip.prefix && (held.noprefixroute || !vip.noprefixroute)
}

fn leave(
    observed: &Observed,
    address: IpAddr,
    buckets: Option<&BucketSet>,
    place: Option<&(Nic, Mac)>,
) -> Vec<Step> {
    let found = find(&observed.rules, address);
    let described = found.map(|found| (found.vip.nic, found.vip.mac));
    let left = match buckets {
        Some(buckets) => owned_of(&observed.rules, address).without(buckets),
        None => BucketSet::default(),
    };
    let mut steps = Vec::new();
    let mut rules = observed.rules.clone();
    let wanted = without_buckets(&rules, address, buckets);
    rules_step(&mut steps, &mut rules, wanted);
    if !left.is_empty() {
        return steps;
    }
    let mac = match described.as_ref().or(place) {
        Some((_, mac)) => *mac,
        None => Mac::of_group(address),
    };
    // The address may be on another interface than the described one, which may have been renamed.
    let has_rules = addresses(&observed.rules).contains(&address);
    for (name, state) in &observed.nics {
        let Ok(nic) = name.parse::<Nic>() else {
            continue;
        };
        // Without its rules an address may be anybody's.
        let ours = |_: &&Held| has_rules || !state.is_own(address, mac);
        let held = state.held(address).filter(ours);
        steps.extend(held.map(|held| delete_address(&nic, held)));
        let named = [described.as_ref(), place].into_iter().flatten();
        let here = held.is_some() || named.into_iter().any(|(named, _)| *named == nic);
        if here && state.memberships.contains(&mac) && !others_need(observed, address, &nic, mac) {
            let nic = nic.clone();
            steps.push(Step::LeaveMac { nic, mac });
        }
        // Before the rules, for they remember how the lock was.
        if here {
            steps.extend(unlocking(observed, address, &nic));
        }
    }
    let wanted = without_vip(&rules, address);
    rules_step(&mut steps, &mut rules, wanted);
    steps
}

/// Does another VIP on the interface need this MAC? Equal last octets share one.
fn others_need(observed: &Observed, address: IpAddr, nic: &Nic, mac: Mac) -> bool {
    others_unreadable(&observed.rules, address)
        || installed(&observed.rules).iter().any(|other| {
            other.vip.address != address && other.vip.nic == *nic && other.vip.mac == mac
        })
}

/// The second lock goes back to what it was when the last VIP of the interface goes.
fn unlocking(observed: &Observed, address: IpAddr, nic: &Nic) -> Vec<Step> {
    let Some(before) = before_of(&observed.rules, nic) else {
        return Vec::new();
    };
    if others_unreadable(&observed.rules, address) {
        return Vec::new();
    }
    let others = installed(&observed.rules);
    let mut others = others.iter().filter(|other| other.vip.address != address);
    if others.any(|other| other.vip.nic == *nic) {
        return Vec::new();
    }
    let Some(state) = observed.nics.get(nic.as_str()) else {
        return Vec::new();
    };
    let families: [IpAddr; 2] = [[0u8; 4].into(), [0u8; 16].into()];
    let changed = families.into_iter().filter(|family| {
        let was = match family {
            IpAddr::V4(_) => before.lock_ip4,
            IpAddr::V6(_) => before.lock_ip6,
        };
        was == Some(false) && state.lock(*family) == Some(true)
    });
    changed
        .map(|family| Step::Lock {
            nic: nic.clone(),
            family,
            on: false,
        })
        .collect()
}

/// The one transaction that makes these buckets foreign, if any of them is not.
fn release(observed: &Observed, address: IpAddr, buckets: &BucketSet) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rules = observed.rules.clone();
    let wanted = without_buckets(&rules, address, Some(buckets));
    rules_step(&mut steps, &mut rules, wanted);
    steps
}

fn without_buckets(rules: &Ruleset, address: IpAddr, buckets: Option<&BucketSet>) -> Ruleset {
    let mut rules = rules.clone();
    let map = rules
        .get_mut(&Family::Netdev)
        .and_then(|table| table.sets.get_mut(&buckets_map(address)));
    if let Some(map) = map {
        // What is no bucket (an element that matches everything) goes with any of them.
        map.elements.retain(|key, _| bucket_of_key(key).is_some());
        match buckets {
            None => map.elements.clear(),
            Some(buckets) => {
                for bucket in buckets.iter() {
                    map.elements.remove(&bucket_key(bucket));
                }
            }
        }
    }
    rules
}

/// The rules with this VIP as it should be; what cannot be read as it is.
pub(super) fn with_vip(observed: &Observed, vip: &Vip, owned: &BucketSet) -> Ruleset {
    let mut vips: Vec<(Vip, BucketSet)> = installed(&observed.rules)
        .into_iter()
        .filter(|other| other.vip.address != vip.address)
        // Without its interface a VIP cannot be put right, and must not stand in the way of others.
        .filter(|other| observed.nics.contains_key(other.vip.nic.as_str()))
        .map(|Installed { vip, owned }| (vip, owned))
        .collect();
    vips.push((vip.clone(), owned.clone()));
    let mut wanted = dataplane::ruleset(&vips);
    remember_before(&mut wanted, observed);
    let known: Vec<IpAddr> = vips.iter().map(|(vip, _)| vip.address).collect();
    super::removal::keep_others(&mut wanted, observed, vip, &known);
    wanted
}

/// Appends the changes from `rules` to `wanted`, and goes on from there.
fn rules_step(steps: &mut Vec<Step>, rules: &mut Ruleset, wanted: Ruleset) {
    let changes = changes(rules, &wanted);
    if !changes.is_empty() {
        steps.push(Step::Rules(changes));
    }
    *rules = wanted;
}

fn delete_address(nic: &Nic, held: &Held) -> Step {
    Step::DeleteAddress {
        nic: nic.clone(),
        address: held.address,
        prefix: held.prefix,
    }
}
