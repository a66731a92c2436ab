//! The actions `start`, `validate-all` and `reload-agent`.

use super::adoption::{WhoDrains, settle_later};
use super::environment::Environment;
use super::exit::{Code, Failure};
use super::failures::of_nft;
use super::insist::{PATIENCE, insist};
use super::newest;
use super::parameters::Parameters;
use super::prepare::{await_carrier, described_if_known, enter_namespace, prepared, privileged};
use super::queue::{InTurn, in_turn, locked, serve, with_others};
use super::twins;
use crate::host::apply::Manners;
use crate::host::cautions::{cautions, warn_of};
use crate::host::lock::Lock;
use crate::host::observe::Kernel;
use crate::host::reach::{ReachError, Reached, reach};
use crate::host::sweeper::sweep_what_is_left;
use crate::host::together::{Other, Wish};
use crate::model::bucket::{BucketCount, BucketSet};
use crate::model::phase::Phase;
use crate::model::vip::Vip;
use crate::plan::step::{Intent, Refusal, Step};
use crate::plan::steps;
use crate::reading::installed::phases_of;
use crate::sys::errno::passes;
use crate::sys::nft::NftError;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long somebody with another description is given to leave. Pacemaker ends all stops of a clone
/// before it begins its starts, and other actions wait for this one.
const PATIENCE_WITH_OTHERS: Duration = Duration::from_secs(3);
/// The pause before others on the link are asked again.
const PAUSE: Duration = Duration::from_millis(250);

/// The action `start`.
pub fn start(env: &Environment) -> Result<(), Failure> {
    let parameters = Parameters::read(env)?;
    insist(env, || start_once(env, &parameters))
}

fn start_once(env: &Environment, parameters: &Parameters) -> Result<(), Failure> {
    let instance = parameters.instance(env)?;
    privileged("start")?;
    let home = enter_namespace(parameters.network_namespace.as_ref()).map_err(|error| {
        let passes = passes(error.errno());
        Failure::new(Code::Installed, error).passing(passes)
    })?;
    let about = WhoDrains {
        env,
        home: home.as_ref(),
        vip: parameters.ip,
        bucket: instance.bucket,
        drain_s: parameters.drain_s,
    };
    let owned = format!(
        "bucket {} of {} is owned here",
        instance.bucket, parameters.ip
    );
    let (lock, wish) = match in_turn(env, "start", Some(instance.bucket)) {
        InTurn::Served(served) => {
            if served.stays {
                settle_later(about);
            }
            if served.changed {
                info!("{owned}");
            }
            return Ok(());
        }
        InTurn::Own(lock, wish) => (lock?, wish),
    };
    let mut kernel = Kernel::open()?;
    let vip = prepared(&mut kernel, parameters, instance.buckets)?;
    let taken = take(
        about,
        lock,
        &mut kernel,
        &vip,
        (instance.bucket, wish),
        parameters,
    )?;
    let Taken {
        lock,
        others,
        reached: Reached { done, observed },
    } = taken;
    let phases = phases_of(&observed.rules, vip.address);
    let set_up = done.iter().any(|step| matches!(step, Step::SetUp(_)));
    // Whether there is a carrier everybody has to see for himself.
    for other in others.iter().filter(|_| !set_up) {
        let phase = phases.of(other.bucket);
        if matches!(phase, Phase::Owned | Phase::Adopting) {
            serve(other, !done.is_empty(), phase == Phase::Adopting);
        }
    }
    drop(lock);
    sweep_what_is_left(vip.address, Some(&observed));
    if phases.of(instance.bucket) == Phase::Adopting {
        settle_later(about);
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
    if set_up {
        info!("{} was down and has been set up", vip.nic);
        await_carrier(env, &mut kernel, parameters, &vip)?;
    }
    if !done.is_empty() {
        info!("{owned}");
    }
    Ok(())
}

/// What a start has taken, and for whom.
struct Taken {
    lock: Lock,
    others: Vec<Other>,
    reached: Reached,
}

/// Takes the bucket, and those of others who wait. Who shares the VIP under another description, or for another
/// resource, is given a while to leave; meanwhile the lock is free, for others have nothing to do with it, and may have
/// given up.
fn take(
    about: WhoDrains<'_>,
    mut lock: Lock,
    kernel: &mut Kernel,
    vip: &Vip,
    (bucket, wish): (u16, Option<Wish>),
    parameters: &Parameters,
) -> Result<Taken, Failure> {
    let manners = Manners {
        announcements: parameters.announcements,
        ask: parameters.conflict_detection,
    };
    let env = about.env;
    let patience = (env.timeout().unwrap_or(PATIENCE) / 3).min(PATIENCE_WITH_OTHERS);
    let begin = Instant::now();
    loop {
        let mut others: Vec<Other> = wish.iter().flat_map(Wish::others).collect();
        others.retain(|other| other.bucket < vip.buckets.get());
        let intent = Intent::Take {
            vip: vip.clone(),
            buckets: with_others(bucket, &others),
            adopt_ms: Some(1000 * u64::from(parameters.drain_s)),
        };
        match reach(kernel, &intent, manners) {
            Ok(reached) => {
                return Ok(Taken {
                    lock,
                    others,
                    reached,
                });
            }
            Err(error) if error.disagreement().is_none() => return Err(error.into()),
            Err(error) if begin.elapsed() + PAUSE >= patience => {
                drop(lock);
                return Err(twins::failure(env, about.home, kernel, vip, error));
            }
            Err(_) => {}
        }
        drop(lock);
        std::thread::sleep(PAUSE);
        lock = locked(env)?;
    }
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
