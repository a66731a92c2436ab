//! The actions, but for monitor: start, stop, validate-all, reload-agent.
//!
//! A stop that fails means that the node is fenced, so stop never fails for what is configured
//! badly or not there; it fails only if something that can answer packets is still there.

use super::adoption;
use super::environment::Environment;
use super::exit::{Code, Failure};
use super::insist::{PATIENCE, insist, left};
use super::newest;
use super::parameters::{Essentials, Parameters};
use super::prepare::{await_carrier, described_if_known, prepared};
use crate::host::apply::Manners;
use crate::host::cautions::{cautions, warn_of};
use crate::host::features::missing;
use crate::host::lock::lock;
use crate::host::observe::{Kernel, ObserveError};
use crate::host::reach::{ReachError, Reached, reach};
use crate::host::sweeper::sweep_later;
use crate::host::turns;
use crate::model::bucket::{BucketCount, BucketSet};
use crate::model::phase::Phase;
use crate::model::untrusted::Untrusted;
use crate::model::vip::Vip;
use crate::plan::going::deletions;
use crate::plan::installed::{Installed, find, phases_of};
use crate::plan::steps::{Intent, Refusal, Step, steps};
use crate::sys::errno::passes;
use crate::sys::netns::{self, Home, NetnsError};
use crate::sys::nft::{NftError, NftSocket};
use crate::sys::process::has_cap_net_admin;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// A stop that has tried in vain for this part of its time no longer looks.
const LATE: u32 = 4;

/// A stop that has less time left than this does not list connections, which takes milliseconds, or
/// for a hundred thousand of them a second.
const TO_LIST: Duration = Duration::from_secs(5);

/// How long somebody with another description is given to leave. Pacemaker ends all stops of a clone
/// before it begins its starts, and other actions wait for this one.
const PATIENCE_WITH_OTHERS: Duration = Duration::from_secs(3);
/// The pause before others on the link are asked again.
const PAUSE: Duration = Duration::from_millis(250);

/// Enters the namespace that was named, if one was; the one that was left then.
pub fn enter_namespace(name: Option<&Untrusted>) -> Result<Option<Home>, NetnsError> {
    name.map(|name| netns::enter(name.raw())).transpose()
}

/// The action `start`.
pub fn start(env: &Environment) -> Result<(), Failure> {
    let parameters = Parameters::read(env)?;
    insist(env, || start_once(env, &parameters))
}

fn start_once(env: &Environment, parameters: &Parameters) -> Result<(), Failure> {
    let instance = parameters.instance(env)?;
    privileged("start")?;
    let home = enter_namespace(parameters.network_namespace.as_ref()).map_err(|error| {
        let passes = error.errno().is_some_and(passes);
        Failure::new(Code::Installed, error).passing(passes)
    })?;
    let mut kernel = Kernel::open()?;
    let vip = prepared(&mut kernel, parameters, instance.buckets)?;
    let intent = Intent::Take {
        vip: vip.clone(),
        buckets: BucketSet::one(instance.bucket),
        adopt_ms: Some(1000 * u64::from(parameters.drain_s)),
    };
    let Reached { done, observed } = take(env, &mut kernel, &intent, parameters)?;
    if observed.ending {
        sweep_later();
    }
    let phase = phases_of(&observed.rules, vip.address).of(instance.bucket);
    if phase == Phase::Adopting {
        let question = adoption::Question {
            env,
            home: home.as_ref(),
            vip: vip.address,
            bucket: instance.bucket,
            drain_s: parameters.drain_s,
        };
        adoption::settle_later(question);
    }
    let came_up = done.iter().any(|step| matches!(step, Step::AddAddress(_)));
    if came_up {
        info!(
            "{} is up on {} with the cluster MAC {}",
            vip.address, vip.nic, vip.mac
        );
        warn_of_configuration(env, parameters);
        warn_of(cautions(&mut kernel, &observed, &vip));
    }
    if done.iter().any(|step| matches!(step, Step::SetUp(_))) {
        info!("{} was down and has been set up", vip.nic);
        await_carrier(env, &mut kernel, parameters, &vip)?;
    }
    if !done.is_empty() {
        info!(
            "bucket {} of {} is owned here",
            instance.bucket, vip.address
        );
    }
    Ok(())
}

/// Takes the bucket. Who shares the VIP under another description is given a while to leave;
/// meanwhile the lock is free, for others have nothing to do with it.
fn take(
    env: &Environment,
    kernel: &mut Kernel,
    intent: &Intent,
    parameters: &Parameters,
) -> Result<Reached, Failure> {
    let manners = Manners {
        announcements: parameters.announcements,
        ask: parameters.conflict_detection,
    };
    let patience = (env.timeout().unwrap_or(PATIENCE) / 3).min(PATIENCE_WITH_OTHERS);
    let begin = Instant::now();
    loop {
        let lock = locked(env)?;
        match reach(kernel, intent, manners) {
            Err(error) if error.is_disagreement() && begin.elapsed() + PAUSE < patience => {}
            reached => return Ok(reached?),
        }
        drop(lock);
        std::thread::sleep(PAUSE);
    }
}

/// The action `stop`.
pub fn stop(env: &Environment) -> Result<(), Failure> {
    let Some(essentials) = Essentials::read(env) else {
        warn!("nothing to stop: without a readable ip nothing is ever started");
        return Ok(());
    };
    let Some(number) = env.instance() else {
        warn!("nothing to stop: outside of a globally unique clone nothing is ever started");
        return Ok(());
    };
    insist(env, || {
        match enter_namespace(essentials.network_namespace.as_ref()) {
            Err(error) if error.is_gone() => {
                warn!("nothing to stop: {error}");
                return Ok(());
            }
            Err(error) => return Err(Failure::new(Code::Generic, error).passing(true)),
            Ok(_) => {}
        }
        match stop_here(env, &essentials, number) {
            Err(failure) if failure.code == Code::Permission => Err(failure),
            Err(failure) if is_late(env) => cut_unseen(essentials.ip, number, failure),
            // Codes that mean "not here" or "not anywhere" would be taken for a failed stop all the same.
            Err(failure) => Err(Failure::new(Code::Generic, failure.reason).passing(true)),
            Ok(()) => Ok(()),
        }
    })
}

/// Has a stop tried in vain for so long that it no longer wants to know how things stand?
fn is_late(env: &Environment) -> bool {
    env.passed() > env.timeout().unwrap_or(PATIENCE) / LATE
}

/// The last way of a stop, without a look and without the lock: the kernel no longer has the bucket for this node's, so
/// nothing of it is answered. What is left of the VIP answers nothing and is swept.
fn cut_unseen(ip: IpAddr, number: u32, why: Failure) -> Result<(), Failure> {
    let Ok(bucket) = u16::try_from(number) else {
        return Err(why);
    };
    let cut = NftSocket::open().and_then(|mut nft| nft.delete_unseen(&deletions(ip, bucket)));
    match cut {
        Ok(()) => {
            warn!(
                "the connections of bucket {number} of {ip} are cut: {}",
                why.reason
            );
            sweep_later();
            Ok(())
        }
        Err(error) => {
            warn!("{error}");
            Err(why.passing(true))
        }
    }
}

/// Stops the instance in the namespace that was entered.
fn stop_here(env: &Environment, essentials: &Essentials, number: u32) -> Result<(), Failure> {
    let ip = essentials.ip;
    privileged("stop")?;
    let observed = Kernel::open().and_then(|mut kernel| {
        let nic = kernel.nic_of(essentials.nic.as_ref())?;
        let (observed, _) = kernel.observe(nic.as_ref(), Some(ip))?;
        Ok((kernel, nic, observed))
    });
    let (mut kernel, nic, observed) = match observed {
        Err(ObserveError::Nft(error)) if error.is_absent() => {
            warn!("nothing to stop, for nothing can have been started: {error}");
            return Ok(());
        }
        observed => observed?,
    };
    // An instance with a number beyond all buckets is an orphan that owns none.
    let buckets = u16::try_from(number).map(BucketSet::one);
    let leave = |drain_ms| Intent::Leave {
        address: ip,
        buckets: Some(buckets.clone().unwrap_or_default()),
        drain_ms,
        place: nic.clone().map(|nic| (nic, essentials.mac)),
    };
    let drain_ms = 1000 * u64::from(essentials.drain_s);
    let manners = Manners::default();
    let found = find(&observed.rules, ip);
    let is_others = |found: &&Installed| found.vip.manager != essentials.manager;
    if let Some(found) = found.as_ref().filter(is_others) {
        warn!(
            "nothing to stop: {ip} is here by {}, not by {}",
            found.vip.manager, essentials.manager
        );
        return Ok(());
    }
    // Only the stop of an orphan comes without the clone's attributes.
    let found = found.filter(|_| env.clone_max().is_none());
    if let (Some(found), Ok(gone)) = (found, &buckets) {
        if !gone.shared_with(&found.phases.owned).is_empty() {
            warn!("{}", orphaned(number, gone, &found.vip));
        }
    }
    let lock = match locked(env) {
        // Whoever cannot be locked out has nothing to change.
        Err(failure) if steps(&observed, &leave(drain_ms)).is_ok_and(|todo| todo.is_empty()) => {
            warn!("{}", failure.reason);
            return Ok(());
        }
        lock => lock?,
    };
    let may_list = may_list(env.timeout(), env.passed());
    let bucket = format!("bucket {number} of {ip}");
    let reached = drain_or_cut(drain_ms, may_list, &bucket, |ms| {
        // A list that was not read to its end has the old socket.
        if ms != drain_ms {
            kernel = Kernel::open()?;
        }
        reach(&mut kernel, &leave(ms), manners)
    });
    let Reached { done, observed } = reached?;
    let left = phases_of(&observed.rules, ip);
    match buckets.map(|buckets| buckets.iter().any(|bucket| left.leaving().contains(bucket))) {
        Ok(true) => info!("bucket {number} of {ip} leaves; its connections stay until they end"),
        _ if !done.is_empty() => info!("bucket {number} of {ip} is foreign here now"),
        _ => {}
    }
    let gone = |step: &Step| matches!(step, Step::DeleteAddress { .. });
    if done.iter().any(gone) {
        info!("{ip} is gone from this node");
    }
    if !done.is_empty() {
        kernel.nft.close_elsewhere();
    }
    turns::end(lock, &observed.rules);
    if observed.ending || !left.leaving().is_empty() {
        sweep_later();
    }
    Ok(())
}

/// Is there time to list connections: of the action's time-out and what has passed of it?
fn may_list(timeout: Option<Duration>, passed: Duration) -> bool {
    timeout.is_none_or(|timeout| passed + TO_LIST <= timeout)
}

/// Has a bucket leave, and lets its connections stay if they may, and if there is time to list them. Where that fails
/// they are cut, for connections are worth no fencing.
fn drain_or_cut<T, E: std::fmt::Display>(
    drain_ms: u64,
    may_list: bool,
    bucket: &str,
    mut leave: impl FnMut(u64) -> Result<T, E>,
) -> Result<T, E> {
    if drain_ms == 0 {
        return leave(0);
    }
    let why = match may_list {
        false => "others held the lock too long".to_owned(),
        true => match leave(drain_ms) {
            Err(error) => error.to_string(),
            left => return left,
        },
    };
    warn!("the connections of {bucket} are cut: {why}");
    leave(0)
}

/// What Pacemaker's giving up an instance means for its bucket.
fn orphaned(number: u32, gone: &BucketSet, vip: &Vip) -> String {
    let (ip, count) = (vip.address, vip.buckets);
    format!(
        "Pacemaker has no instance {number} any more. Unless the resource was deleted, bucket {gone} of {ip} is \
         dark from now on: there are {count} buckets, and clone-max is less (left out, it is the number of \
         nodes). Stop the clone, set clone-max=\"{count}\", start it"
    )
}

/// The action `validate-all`. With `OCF_CHECK_LEVEL` 10 it also asks this node.
pub fn validate_all(env: &Environment) -> Result<(), Failure> {
    let parameters = Parameters::read(env)?;
    // Without clone variables (crm_resource --validate, pcs) there is only the primitive to check.
    let instance = match env.clone_max() {
        Some(_) => Some(parameters.instance(env)?),
        None => None,
    };
    let buckets = instance
        .map(|instance| instance.buckets)
        .or(parameters.buckets);
    let one = BucketCount::new(1).map_err(|error| Failure::new(Code::Configured, error))?;
    let buckets = buckets.unwrap_or(one);
    if !parameters.seed_given {
        warn!(
            "hash_seed is not set, so it follows from ip and anybody can guess it and aim traffic \
             at one node; set a random one, such as hash_seed=\"0x$(openssl rand -hex 4)\""
        );
    }
    warn_of_configuration(env, &parameters);
    if env.check_level() < 10 {
        return described_if_known(&parameters, buckets);
    }
    privileged("validate-all with OCF_CHECK_LEVEL=10")?;
    enter_namespace(parameters.network_namespace.as_ref())
        .map_err(|error| Failure::new(Code::Installed, error))?;
    let mut kernel = Kernel::open()?;
    let vip = prepared(&mut kernel, &parameters, buckets)?;
    try_rules(&mut kernel, vip)
}

/// Has the kernel check all of the rules, without keeping them.
fn try_rules(kernel: &mut Kernel, vip: Vip) -> Result<(), Failure> {
    let (observed, generation) = kernel.observe(Some(&vip.nic), Some(vip.address))?;
    let buckets = BucketSet::one(0);
    let todo = match steps(
        &observed,
        &Intent::Take {
            vip,
            buckets,
            adopt_ms: None,
        },
    ) {
        // A running VIP with another description proves that the kernel can.
        Err(Refusal::OtherDescription { .. }) => return Ok(()),
        todo => todo.map_err(ReachError::Refused)?,
    };
    let first = todo.into_iter().find_map(|step| match step {
        Step::Rules(changes) => Some(changes),
        _ => None,
    });
    match first {
        None => Ok(()),
        Some(changes) => match kernel.nft.check(&changes, generation) {
            Ok(()) | Err(NftError::Outdated) => Ok(()),
            Err(error) => Err(of_nft(&error)),
        },
    }
}

/// The action `reload-agent`: the parameters that allow it are read at every action anyway, so that
/// there is nothing to do but to check them.
pub fn reload_agent(env: &Environment) -> Result<(), Failure> {
    Parameters::read(env).map(|_| ())
}

fn warn_of_configuration(env: &Environment, parameters: &Parameters) {
    if let Some(sentence) = newest::other_hash(env, parameters) {
        warn!("{sentence}");
    }
    let clone_max = env.clone_max().and_then(|max| max.parse::<u16>().ok());
    let both = env.clone_node_max().zip(clone_max);
    if let Some((each, all)) = both.filter(|(each, all)| each < all) {
        warn!(
            "clone-node-max is {each}, clone-max {all}: when too few nodes are left for all buckets, the rest is \
             dark; set clone-node-max=\"{all}\""
        );
    }
    if parameters.ignored.is_empty() {
        return;
    }
    let words: Vec<String> = parameters
        .ignored
        .iter()
        .map(|(name, why)| format!("{name} ({why})"))
        .collect();
    warn!("ignored, they mean nothing here: {}", words.join(", "));
}

fn privileged(action: &str) -> Result<(), Failure> {
    match has_cap_net_admin() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(
            Code::Permission,
            format!("{action} needs the capability CAP_NET_ADMIN; run it as root"),
        )),
        Err(error) => Err(Failure::new(Code::Generic, error).passing(true)),
    }
}

fn locked(env: &Environment) -> Result<crate::host::lock::Lock, Failure> {
    lock(left(env)).map_err(|error| {
        let passes = error.passes();
        Failure::new(Code::Generic, error).passing(passes)
    })
}

fn of_nft(error: &NftError) -> Failure {
    let code = match error {
        error if error.is_permission() => Code::Permission,
        error if error.is_missing_feature() => Code::Installed,
        _ => Code::Generic,
    };
    // The kernel's own error names a rule; what is missing under it says more.
    match (code == Code::Installed).then(missing).flatten() {
        Some(lacking) => {
            warn!("{error}");
            Failure::new(code, lacking)
        }
        None => Failure::new(code, error),
    }
}

impl From<ObserveError> for Failure {
    fn from(error: ObserveError) -> Self {
        let failure = match &error {
            ObserveError::Nft(nft) => of_nft(nft),
            _ => Failure::new(Code::Generic, &error),
        };
        failure.passing(error.passes())
    }
}

impl From<ReachError> for Failure {
    fn from(error: ReachError) -> Self {
        let passes = error.passes();
        let failure = match &error {
            ReachError::Observe(ObserveError::Nft(nft)) => of_nft(nft),
            ReachError::Failed(errors) => match errors.as_slice() {
                [crate::host::apply::StepError::Nft(nft)] => of_nft(nft),
                _ => Failure::new(Code::Generic, &error),
            },
            ReachError::Refused(refusal) => {
                let code = match refusal {
                    Refusal::NoInterface(_)
                    | Refusal::NotEthernet(_)
                    | Refusal::Enslaved { .. }
                    | Refusal::NoIp6(_) => Code::Installed,
                    Refusal::OwnAddress { .. }
                    | Refusal::OtherDescription { .. }
                    | Refusal::Ending(_)
                    | Refusal::Unknown(_) => Code::Generic,
                };
                Failure::new(code, refusal)
            }
            _ => Failure::new(Code::Generic, &error),
        };
        failure.passing(passes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long connections may stay in what a stop does, one thing after the other, and whether it succeeds,
    /// where only what is in `possible` does.
    fn stopped(
        drain_ms: u64,
        timeout_s: Option<u64>,
        passed_s: u64,
        possible: &[u64],
    ) -> (Vec<u64>, bool) {
        let s = Duration::from_secs;
        let mut tried = Vec::new();
        let stopped = drain_or_cut(
            drain_ms,
            may_list(timeout_s.map(s), s(passed_s)),
            "bucket 3",
            |ms| {
                tried.push(ms);
                possible.contains(&ms).then_some(()).ok_or("impossible")
            },
        );
        (tried, stopped.is_ok())
    }

    #[test]
    fn a_stop_that_cannot_drain_cuts_and_fails_only_if_that_fails_too() {
        let timeout = Some(20);
        assert_eq!(stopped(300, timeout, 0, &[300, 0]), (vec![300], true));
        assert_eq!(stopped(300, timeout, 0, &[0]), (vec![300, 0], true));
        assert_eq!(stopped(300, timeout, 0, &[]), (vec![300, 0], false));
        assert_eq!(stopped(0, timeout, 0, &[0]), (vec![0], true));
        assert_eq!(stopped(0, timeout, 0, &[]), (vec![0], false));
    }

    #[test]
    fn a_late_stop_does_not_begin_to_list() {
        for (timeout_s, passed_s, lists) in [
            (Some(20), 0, true),
            (Some(20), 10, true),
            (Some(20), 18, false),
            (Some(20), 25, false),
            (Some(3), 0, false),
            (None, 18, true),
        ] {
            let done = stopped(300, timeout_s, passed_s, &[300, 0]);
            let expected = if lists { 300 } else { 0 };
            assert_eq!(
                done,
                (vec![expected], true),
                "{passed_s} of {timeout_s:?} s"
            );
        }
    }
}
