//! What a VIP has lost on this node, whether it may be put back, and how often. Pure; time comes in.
//!
//! A stop is never mended, whatever of it has been done. As long as the kernel says that buckets are owned here whatever
//! else the VIP needs was taken away by somebody else, for a stop takes the buckets first. Where the rules are gone
//! nothing in the kernel says so; then this holds for what was there before:
//!
//! - Nobody of ours has changed rules since they were seen: of each change the kernel tells who made it.
//! - The address is there, and looks like a VIP's. A stop that finds no rules takes it away, by the same signs, and both
//!   act under the lock: so whoever finds the address comes before any stop, and so before any other node may have
//!   the buckets.
//!
//! Buckets whose elements alone are gone are not put back: nothing would tell a stop from a loss. Nor is an interface set
//! up that somebody has set down.

use super::addressing::{is_sound, reaches};
use super::before::Before;
use super::health::Drift;
use super::installed::{Installed, addresses};
use super::loaded::is_loaded;
use crate::model::host::{NicState, Observed};
use crate::model::phase::Phases;
use crate::model::vip::Vip;
use crate::rules::addressing::{is_in_group, needed_route, needs_membership};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// How often a VIP is mended within [`QUIET`].
const MOST: usize = 10;
/// A VIP of which nothing was lost for so long is mended again.
const QUIET: Duration = Duration::from_secs(60);
/// How many pieces are named.
const NAMED: usize = 3;

/// Programs that take buckets away in order, by the 15 bytes of their names that the kernel has: the agent and its gate, as
/// they are built and as they are installed, and nodectl.
const ORDERLY: [&str; 5] = [
    "ocf-clusterip",
    "ocf-clusterip-d",
    "ClusterIP",
    "ClusterIPDrain",
    "nodectl",
];
/// The daemon's threads, but for the one that does errands: what these change it knows already.
const TOLD: [&str; 2] = ["clusteripd", "mends"];
/// That one takes away nothing that is owned.
const ERRANDS: &str = "errands";

/// Is this the daemon itself, which knows what it does?
pub fn is_told(name: &str) -> bool {
    TOLD.contains(&name)
}

/// Is this neither the daemon nor another program of ours?
pub fn is_stranger(name: &str) -> bool {
    !is_told(name) && name != ERRANDS && !ORDERLY.contains(&name)
}

/// A VIP as it was when its rules were last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// The VIP and its buckets.
    pub installed: Installed,
    /// What its interface was before the first VIP came.
    pub before: Option<Before>,
    /// The generation of the rules then.
    pub generation: u32,
}

/// Who has taken rules away between two generations, if it was none of ours and nothing is in doubt. `changes` are those
/// that the kernel has told, with the generations that they made.
pub fn culprit<'a>(
    changes: impl IntoIterator<Item = (u32, &'a str)>,
    seen: u32,
    now: u32,
) -> Option<&'a str> {
    let mut next = seen.checked_add(1)?;
    let mut stranger = None;
    for (generation, name) in changes {
        if generation <= seen || generation > now {
            continue;
        }
        if generation != next || ORDERLY.contains(&name) {
            return None;
        }
        if is_stranger(name) {
            stranger = Some(name);
        }
        next = generation.checked_add(1)?;
    }
    stranger.filter(|_| next == now.wrapping_add(1))
}

/// Does the VIP have buckets here that are answered, on an interface that is up?
pub fn is_in_use(observed: &Observed, vip: &Vip, phases: &Phases) -> bool {
    let state = observed.nics.get(vip.nic.as_str());
    let serves = !phases.owned.is_empty() || !phases.offered.is_empty();
    serves && state.is_some_and(|state| state.admin_up) && !is_loaded(&observed.rules)
}

/// Does it lack anything outside of its rules?
pub fn lacks(state: &NicState, vip: &Vip) -> bool {
    let mut forms = state.forms(vip.address);
    let has_address = forms.any(|held| is_sound(state, held, vip));
    let has_membership = !needs_membership(vip) || state.memberships.contains(&vip.mac);
    let has_group = vip.group().is_none_or(|group| is_in_group(state, group));
    let has_lock = !vip.needs_lock() || state.lock(vip.address) != Some(false);
    let has_way = needed_route(state, vip).is_none_or(|network| reaches(state, &network));
    !(has_address && has_membership && has_group && has_lock && has_way)
}

/// May a VIP whose rules are gone be put back, with what it had?
pub fn may_return(observed: &Observed, vip: &Vip) -> bool {
    let state = observed.nics.get(vip.nic.as_str());
    let is_there = |state: &NicState| {
        // With another VIP's membership a stop wants both signs.
        let looks_like_ours = !state.is_own(vip.address, vip.mac, true);
        state.admin_up && state.held(vip.address).is_some() && looks_like_ours
    };
    !addresses(&observed.rules).contains(&vip.address)
        && !is_loaded(&observed.rules)
        && state.is_some_and(is_there)
}

/// What is lost, in words.
pub fn named(drift: &[Drift]) -> String {
    let pieces = drift.iter().take(NAMED).map(|drift| drift.piece.as_str());
    let pieces = pieces.collect::<Vec<_>>().join(", ");
    match drift.len().saturating_sub(NAMED) {
        0 => pieces,
        more => format!("{pieces} and {more} more"),
    }
}

/// What becomes of a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is put back.
    Mend,
    /// It is left to the monitor from now on.
    GiveUp,
    /// It is left to the monitor.
    Leave,
}

/// How often what was lost; whoever takes the same away again and again may have a reason.
#[derive(Debug, Default)]
pub struct Patience(BTreeMap<IpAddr, Losses>);

#[derive(Debug, Default)]
struct Losses {
    /// When; the latest is the last.
    times: VecDeque<Duration>,
    given_up: bool,
}

impl Patience {
    /// Something of the VIP is lost.
    pub fn turn(&mut self, now: Duration, vip: IpAddr) -> Turn {
        let losses = self.0.entry(vip).or_default();
        let is_over = |at: &Duration| now.saturating_sub(*at) >= QUIET;
        if losses.times.back().is_none_or(is_over) {
            *losses = Losses::default();
        }
        if losses.given_up {
            losses.times.push_back(now);
            losses.times.pop_front();
            return Turn::Leave;
        }
        losses.times.retain(|at| !is_over(at));
        losses.times.push_back(now);
        if losses.times.len() <= MOST {
            return Turn::Mend;
        }
        losses.given_up = true;
        Turn::GiveUp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bucket::BucketSet;
    use crate::model::host::Held;
    use crate::model::vip::tests::a_vip;
    use crate::rules::dataplane::ruleset;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_flushed_is_known_only_where_every_change_is() {
        let nft = [(8, "nft")];
        assert_eq!(culprit(nft, 7, 8), Some("nft"));
        // Others' changes before what was seen make no difference.
        assert_eq!(culprit([(7, "nodectl"), (8, "nft")], 7, 8), Some("nft"));
        // The daemon's own, and those of strangers, neither.
        let mixed = [(8, "mends"), (9, "nft"), (10, "clusteripd")];
        assert_eq!(culprit(mixed, 7, 10), Some("nft"));
        for (changes, now) in [
            // One was not told, in between, at the beginning or at the end.
            (vec![(8, "nft"), (10, "nft")], 10),
            (vec![(9, "nft")], 9),
            (vec![(8, "nft")], 9),
            (vec![], 8),
            // One of ours was there too.
            (vec![(8, "ClusterIP"), (9, "nft")], 9),
            (vec![(8, "nft"), (9, "nodectl")], 9),
            (vec![(8, "ocf-clusterip-d")], 8),
            // Nobody but the daemon.
            (vec![(8, "clusteripd")], 8),
        ] {
            assert_eq!(culprit(changes.clone(), 7, now), None, "{changes:?}");
        }
    }

    #[test]
    fn after_ten_times_a_minute_a_vip_is_left_to_the_monitor_until_it_was_quiet() {
        let (one, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut patience = Patience::default();
        let mut turn = |seconds, vip| patience.turn(at(seconds), vip);
        for n in 0..10 {
            assert_eq!(turn(n, one), Turn::Mend);
        }
        assert_eq!(turn(10, one), Turn::GiveUp);
        // It never becomes quiet.
        for n in 1..10 {
            assert_eq!(turn(10 + 59 * n, one), Turn::Leave);
        }
        assert_eq!(turn(11, other), Turn::Mend);
        assert_eq!(turn(10 + 59 * 9 + 60, one), Turn::Mend);
    }

    #[test]
    fn what_is_lost_now_and_then_is_always_mended() {
        let mut patience = Patience::default();
        for n in 0..100 {
            assert_eq!(patience.turn(at(7 * n), [10, 0, 0, 1].into()), Turn::Mend);
        }
    }

    /// A VIP that is as it should be, but for its rules.
    fn outside(vip: &Vip) -> NicState {
        NicState {
            admin_up: true,
            carrier: true,
            addresses: vec![Held {
                address: vip.address,
                prefix: 32,
                label: vip.label.clone(),
                noprefixroute: false,
                secondary: false,
                no_source: true,
                unusable: false,
                valid_s: None,
            }],
            memberships: [vip.mac].into(),
            lock_ip4: Some(true),
            routes: vip
                .network()
                .map(|network| crate::model::host::Route {
                    network,
                    ours: true,
                })
                .into_iter()
                .collect(),
            ..NicState::default()
        }
    }

    fn observed(vip: &Vip, state: NicState, phases: Option<Phases>) -> Observed {
        let vips: Vec<(Vip, Phases)> = phases.map(|it| (vip.clone(), it)).into_iter().collect();
        let rules = match vips.is_empty() {
            true => Default::default(),
            false => ruleset(&vips),
        };
        Observed {
            rules,
            nics: [(vip.nic.to_string(), state)].into(),
            ..Observed::default()
        }
    }

    #[test]
    fn whatever_goes_outside_of_the_rules_is_lacked() {
        let vip = a_vip("10.77.0.99");
        assert!(!lacks(&outside(&vip), &vip));
        let without: [fn(&mut NicState); 5] = [
            |state| state.addresses.clear(),
            |state| state.addresses[0].no_source = false,
            |state| state.memberships.clear(),
            |state| state.lock_ip4 = Some(false),
            |state| state.routes.clear(),
        ];
        for (n, take) in without.into_iter().enumerate() {
            let mut state = outside(&vip);
            take(&mut state);
            assert!(lacks(&state, &vip), "{n}");
        }
    }

    #[test]
    fn a_vip_without_its_rules_returns_only_where_no_stop_was() {
        let vip = a_vip("10.77.0.99");
        let flushed = observed(&vip, outside(&vip), None);
        assert!(may_return(&flushed, &vip));
        // A stop takes the address, and the membership; without the latter it would not know the former.
        let without: [fn(&mut NicState); 3] = [
            |state| state.addresses.clear(),
            |state| state.memberships.clear(),
            |state| state.admin_up = false,
        ];
        for (n, take) in without.into_iter().enumerate() {
            let mut state = outside(&vip);
            take(&mut state);
            assert!(!may_return(&observed(&vip, state, None), &vip), "{n}");
        }
        // Its rules are there, with or without buckets: nobody has flushed them.
        for phases in [Phases::default(), Phases::owning(BucketSet::one(1))] {
            let seen = observed(&vip, outside(&vip), Some(phases));
            assert!(!may_return(&seen, &vip));
        }
    }

    #[test]
    fn what_goes_in_order_is_not_in_use() {
        let vip = a_vip("10.77.0.99");
        let mut state = outside(&vip);
        state.addresses.clear();
        let is = |phases: &Phases, state: &NicState| {
            let seen = observed(&vip, state.clone(), Some(phases.clone()));
            is_in_use(&seen, &vip, phases)
        };
        let owning = Phases::owning(BucketSet::one(1));
        let mut leaving = Phases::default();
        leaving.draining.insert(1, 1_000);
        leaving.closing.insert(2, 1_000);
        assert!(is(&owning, &state));
        assert!(!is(&leaving, &state));
        assert!(!is(&Phases::default(), &state));
        // Whoever sets an interface down wants it so.
        state.admin_up = false;
        assert!(!is(&owning, &state));
    }
}
