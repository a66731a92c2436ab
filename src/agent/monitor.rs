//! Does this instance run here, and is it well?
//!
//! Running means that the kernel's map has the instance's bucket. The number of buckets is the
//! kernel's: Pacemaker leaves running monitors with the `clone-max` of the time at which they were
//! started. Nothing is locked and nothing is changed, but for two things: a bucket that is adopted is
//! owned as soon as nobody drains it any more, and the way to the VIP's network is put back, which is no fault
//! of the VIP's.

use super::adoption::{WhoDrains, settle_later, tidy};
use super::describe::describe;
use super::environment::Environment;
use super::exit::{Code, Failure};
use super::insist::insist;
use super::parameters::{Essentials, Parameters};
use super::prepare::enter_namespace;
use crate::host::apply::Manners;
use crate::host::lock::lock;
use crate::host::observe::{Kernel, ObserveError};
use crate::host::place::Place;
use crate::host::reach::reach;
use crate::model::bucket::BucketSet;
use crate::model::host::Observed;
use crate::model::phase::{Phase, Phases};
use crate::model::ruleset::Family;
use crate::model::vip::{Nic, Vip};
use crate::plan::step::Intent;
use crate::reading::addressing::is_cut_off;
use crate::reading::health::{Drift, MISSING, drift, is_only_a_route};
use crate::reading::installed::{find, is_unreadable, phases_of};
use crate::reading::loaded::is_loaded;
use std::net::IpAddr;
use std::time::Duration;
use tracing::warn;

/// The most pieces that an exit reason names.
const NAMED: usize = 3;
/// How long the lock is waited for where Pacemaker does not say how long a monitor may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The action `monitor`, and the probe.
pub fn monitor(env: &Environment) -> Result<(), Failure> {
    insist(env, || monitor_once(env))
}

fn monitor_once(env: &Environment) -> Result<(), Failure> {
    let (Some(essentials), Some(number)) = (Essentials::read(env), env.instance()) else {
        // Without an address or a number nothing is ever started.
        return Err(Failure::not_running());
    };
    let generic = |error: &dyn std::fmt::Display| Failure::new(Code::Generic, error);
    let home = match enter_namespace(essentials.network_namespace.as_ref()) {
        Err(error) if error.is_gone() => return Err(Failure::not_running()),
        entered => entered.map_err(|error| generic(&error))?,
    };
    let failed = |error: ObserveError| generic(&error).passing(error.passes());
    let absent = |error: &ObserveError| matches!(error, ObserveError::Nft(nft) if nft.is_absent());
    let mut kernel = match Kernel::open() {
        Err(error) if absent(&error) => return Err(Failure::not_running()),
        kernel => kernel.map_err(failed)?,
    };
    let looked = kernel.nic_of(essentials.nic.as_ref()).and_then(|nic| {
        let (observed, _) = kernel.observe(nic.as_ref(), Some(essentials.ip))?;
        Ok((nic, observed))
    });
    let (nic, mut observed) = match looked {
        // Without nf_tables nothing can have been started.
        Err(error) if absent(&error) => return Err(Failure::not_running()),
        looked => looked.map_err(failed)?,
    };
    if !env.is_probe() {
        if let Some(mended) = with_route(env, &mut kernel, essentials.ip, &observed) {
            observed = mended;
        }
    }
    let drift = judge(env, &essentials, number, nic, &observed)?;
    if !drift.is_empty() {
        // It may be gone when somebody looks.
        for piece in &drift {
            warn!("{}", one_in_words(piece, true));
        }
        return Err(generic(&in_words(&drift)));
    }
    let Ok(bucket) = u16::try_from(number) else {
        return Ok(());
    };
    if env.is_probe() {
        return Ok(());
    }
    if let Some(sentence) = miscounted(env, essentials.ip, bucket, &observed) {
        warn!("{sentence}");
    }
    let phases = phases_of(&observed.rules, essentials.ip);
    if phases.of(bucket) == Phase::Adopting {
        settle_later(WhoDrains {
            env,
            home: home.as_ref(),
            vip: essentials.ip,
            bucket,
            drain_s: essentials.drain_s,
        });
    } else if has_idle_rules(&phases) {
        tidy(&mut kernel, essentials.ip);
    }
    Ok(())
}

/// Are there rules for what moves, and nothing moves?
fn has_idle_rules(phases: &Phases) -> bool {
    let idle = phases.adopting_rules && phases.adopting.is_empty()
        || phases.leaving_rules && phases.leaving().is_empty()
        || phases.handover_rules;
    idle && !phases.is_handed_over()
}

/// Puts the way to the VIP's network back, if nothing else is missing; the host then. Pacemaker would stop and start
/// all instances for it. What fails here is told as drift.
fn with_route(
    env: &Environment,
    kernel: &mut Kernel,
    ip: IpAddr,
    observed: &Observed,
) -> Option<Observed> {
    let vip = find(&observed.rules, ip)?.vip;
    if !is_cut_off(observed, &vip) || !is_only_a_route(&drift(observed, &vip, false)) {
        return None;
    }
    let patience = env.timeout().map_or(PATIENCE, |timeout| timeout / 3);
    let lock = lock(patience).ok()?;
    let intent = Intent::Take {
        vip,
        buckets: BucketSet::default(),
        adopt_ms: None,
    };
    let reached = reach(kernel, &intent, Manners::default());
    drop(lock);
    match reached {
        Ok(reached) => {
            let words: Vec<String> = reached.done.iter().map(ToString::to_string).collect();
            warn!(
                "the way to the network of {ip} was gone: {}",
                words.join(", ")
            );
            Some(reached.observed)
        }
        Err(error) => {
            warn!("{error}");
            None
        }
    }
}

/// What the first bucket's monitor has to say if the clone's number of instances is another one than that of the
/// buckets. Monitors keep the number with which they began, so that not every change is seen here.
fn miscounted(env: &Environment, ip: IpAddr, bucket: u16, observed: &Observed) -> Option<String> {
    let clone_max: u16 = env.clone_max()?.parse().ok()?;
    let found = find(&observed.rules, ip)?;
    let buckets = found.vip.buckets;
    let is_first = found.phases.owned.iter().next() == Some(bucket);
    (is_first && clone_max != buckets.get()).then(|| {
        format!(
            "clone-max is {clone_max} (left out, it is the number of nodes), but {ip} has {buckets} buckets: those \
             without an instance are dark, and what starts anew is refused. Stop the clone, set \
             clone-max=\"{buckets}\", start it"
        )
    })
}

/// The judgement on what was found: what is not as it should be of an instance that runs. Pure.
fn judge(
    env: &Environment,
    essentials: &Essentials,
    number: u32,
    nic: Option<Nic>,
    observed: &Observed,
) -> Result<Vec<Drift>, Failure> {
    let ip = essentials.ip;
    let not_here = |reason: String| {
        // A probe that finds nothing has nothing to tell.
        let reason = if env.is_probe() {
            String::new()
        } else {
            reason
        };
        Err(Failure::new(Code::NotRunning, reason))
    };
    if is_unreadable(&observed.rules, ip) {
        return Err(Failure::new(
            Code::Generic,
            format!("the description of {ip} in the kernel cannot be read; it was changed by hand"),
        ));
    }
    let Some(found) = find(&observed.rules, ip) else {
        let missing = match observed.rules.contains_key(&Family::Netdev) {
            true => format!("the chains of {ip} are gone from 'table netdev clusterip'"),
            false => "the 'table netdev clusterip' is gone".to_owned(),
        };
        return not_here(format!(
            "bucket {number} of {ip} is not served: {missing}; somebody flushed the ruleset"
        ));
    };
    if found.vip.manager != essentials.manager {
        return not_here(format!(
            "{ip} is here, but by {}, not by {}",
            found.vip.manager, essentials.manager
        ));
    }
    if is_loaded(&observed.rules) {
        return not_here(format!(
            "bucket {number} of {ip} is not served: nft has loaded its rules from a file, so no bucket \
             counts as owned; a start makes them anew"
        ));
    }
    let owned = u16::try_from(number).is_ok_and(|bucket| found.phases.owned.contains(bucket));
    if !owned {
        return not_here(format!(
            "bucket {number} of {ip} is not served: its element is gone from the map of buckets"
        ));
    }
    // It runs; what is configured badly now is a failure of what runs.
    let generic = |failure: Failure| Failure::new(Code::Generic, failure.reason);
    let parameters = Parameters::read(env).map_err(generic)?;
    let expected = expected(&parameters, nic, &found.vip)?;
    if !expected.is_like(&found.vip) {
        return Err(Failure::new(
            Code::Generic,
            format!(
                "stop the clone and start it again: {ip} is installed with another description than \
                 the configuration has: {}",
                found.vip.differences(&expected)
            ),
        ));
    }
    Ok(drift(observed, &found.vip, parameters.check_link_status))
}

/// What the configuration says, with what it leaves open as it is in the kernel.
fn expected(parameters: &Parameters, nic: Option<Nic>, found: &Vip) -> Result<Vip, Failure> {
    let place = Place {
        nic: nic.unwrap_or_else(|| found.nic.clone()),
        prefix: parameters.prefix.unwrap_or(found.prefix),
    };
    let buckets = parameters.buckets.unwrap_or(found.buckets);
    describe(&with_found(parameters, found), place, None, buckets)
        .map_err(|failure| Failure::new(Code::Generic, failure.reason))
}

/// What a predecessor made of an address goes by what it found on the node, and stays while the VIP is here.
fn with_found(parameters: &Parameters, found: &Vip) -> Parameters {
    let mut with_found = parameters.clone();
    if let Some(predecessor) = parameters.compat.0 {
        with_found.mac = parameters.mac.or(Some(found.mac));
        with_found.seed = parameters.seed.or(Some(found.hasher.seed));
        with_found.hash = parameters.hash.or(predecessor.hash());
        with_found.layout = parameters.layout.or(Some(predecessor.layout()));
    }
    with_found
}

fn in_words(drift: &[Drift]) -> String {
    let pieces = drift.iter().take(NAMED);
    let mut words: Vec<String> = pieces.map(|piece| one_in_words(piece, false)).collect();
    if drift.len() > NAMED {
        words.push(format!("{} more pieces", drift.len() - NAMED));
    }
    format!("{}; 'nodectl status' has the details", words.join("; "))
}

/// What is wrong with a piece. An exit reason has no room for the rules of a chain; the log has.
fn one_in_words(drift: &Drift, in_full: bool) -> String {
    const SHORT: usize = 40;
    let Drift {
        piece,
        expected,
        found,
    } = drift;
    match (found.as_str(), expected.as_str()) {
        (MISSING, _) => format!("{piece} is missing"),
        (_, MISSING) => format!("{piece} should not be there"),
        _ if found.len() + expected.len() <= SHORT => {
            format!("{piece} is '{found}' instead of '{expected}'")
        }
        _ if in_full => format!("{piece} {}", drift.difference()),
        _ => format!("{piece} has been changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bucket::BucketCount;
    use crate::model::ruleset::Ruleset;
    use crate::rules::dataplane::ruleset;
    use crate::trials::saved::booted_with;

    fn environment(resource: &str, seed: &str) -> Environment {
        let pairs = [
            ("OCF_RESOURCE_INSTANCE", resource),
            ("OCF_RESKEY_ip", "10.77.0.99"),
            ("OCF_RESKEY_nic", "eth0"),
            ("OCF_RESKEY_cidr_netmask", "24"),
            ("OCF_RESKEY_hash_seed", seed),
            ("OCF_RESKEY_CRM_meta_interval", "10000"),
        ];
        Environment::new(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())))
    }

    /// Does this instance run, going by what is seen?
    fn judged(env: &Environment, number: u32, observed: &Observed) -> Result<(), Code> {
        let essentials = Essentials::read(env).expect("an address");
        let judged = judge(env, &essentials, number, None, observed);
        judged.map(|_| ()).map_err(|failure| failure.code)
    }

    #[test]
    fn what_serves_its_bucket_runs_and_nothing_else() {
        let own = environment("resIP:1", "7");
        let parameters = Parameters::read(&own).expect("parameters");
        let place = Place {
            nic: "eth0".parse().expect("a name"),
            prefix: 24,
        };
        let buckets = BucketCount::new(4).expect("in range");
        let vip = describe(&parameters, place, None, buckets).expect("a description");
        let of = |phases| ruleset(&[(vip.clone(), phases)]);
        let seen = |rules| Observed {
            rules,
            ..Observed::default()
        };
        let serving = of(Phases::owning(BucketSet::one(1)));
        let here = seen(serving.clone());
        assert_eq!(judged(&own, 1, &here), Ok(()));
        let not_here = Err(Code::NotRunning);
        // Another bucket, and none at all.
        assert_eq!(judged(&own, 2, &here), not_here);
        assert_eq!(judged(&own, 70_000, &here), not_here);
        // One that leaves no longer runs, whatever it still answers.
        let mut leaves = Phases::default();
        leaves.draining.insert(1, 1_000);
        leaves.closing.insert(2, 1_000);
        for number in [1, 2] {
            assert_eq!(judged(&own, number, &seen(of(leaves.clone()))), not_here);
        }
        // Somebody else's, what a file brought, and what was flushed.
        assert_eq!(judged(&environment("other:1", "7"), 1, &here), not_here);
        assert_eq!(judged(&own, 1, &booted_with(serving.clone())), not_here);
        assert_eq!(judged(&own, 1, &seen(Ruleset::new())), not_here);
        // What runs, but not as it should.
        let failed = Err(Code::Generic);
        assert_eq!(judged(&environment("resIP:1", "8"), 1, &here), failed);
        let mut strange = serving;
        let table = strange.get_mut(&Family::Netdev).expect("a table");
        for chain in table.chains.values_mut() {
            chain.comment = chain.comment.as_ref().map(|_| "strange".to_owned());
        }
        assert_eq!(judged(&own, 1, &seen(strange)), failed);
    }

    #[test]
    fn the_log_has_the_rules_that_differ_and_no_seed() {
        let differ = |expected, found| {
            let piece = "chain netdev vip-10.0.0.99";
            let texts = [expected, found].map(str::to_owned);
            let [expected, found] = texts;
            one_in_words(
                &Drift {
                    piece: piece.to_owned(),
                    expected,
                    found,
                },
                true,
            )
        };
        let whole = "jhash ip saddr mod 4 seed 0x1234abcd vmap @buckets; counter drop";
        for (found, says) in [
            ("missing", "is missing"),
            (
                "counter drop",
                "lacks 'jhash ip saddr mod 4 seed … vmap @buckets'",
            ),
            (
                "jhash ip saddr mod 4 seed 0x1234abcd vmap @buckets; counter drop; counter drop",
                "has 'counter drop' besides",
            ),
            (
                "jhash ip saddr mod 4 seed 0x1234abcd vmap @buckets; counter accept",
                "has 'counter accept' in place of 'counter drop'",
            ),
            (
                "jhash ip saddr mod 4 seed 0x1234abce vmap @buckets; counter drop",
                "differs in the order of its rules or in the seed",
            ),
            (
                "[Counter, Hash { modulus: 4, seed: 305441741 }]; counter drop",
                "has '[Counter, Hash { modulus: 4, seed: … }]' in place of 'jhash ip saddr mod 4 seed … vmap @buckets'",
            ),
        ] {
            let said = differ(whole, found);
            assert_eq!(said, format!("chain netdev vip-10.0.0.99 {says}"));
        }
    }
}
