//! The actions `start`, `validate-all` and `reload-agent`.

use super::adoption::{WhoDrains, settle_later};
use super::carrier::await_carrier;
use super::environment::Environment;
use super::exit::{Code, Failure};
use super::failures::of_nft;
use super::handed::{self, Started};
use super::insist::{PATIENCE, insist};
use super::newest_ipaddr2;
use super::parameters::{Instance, Parameters};
use super::prepare::{described_if_known, enter_namespace, former_mac, prepared, privileged};
use super::queue::{InTurn, in_turn, locked, serve, with_others};
use super::twins;
use crate::host::apply::Manners;
use crate::host::cautions::{cautions, warn_of};
use crate::host::lock::Lock;
use crate::host::observe::Kernel;
use crate::host::reach::{ReachError, Reached, reach_from};
use crate::host::surroundings::{all, ask_the_link, of_the_kernel};
use crate::host::sweeper::sweep_what_is_left;
use crate::host::together::{Other, Request, Served};
use crate::model::bucket::{BucketCount, BucketSet};
use crate::model::mac::Mac;
use crate::model::phase::{COMING_MS, Phase, Phases};
use crate::model::vip::{L2Mode, Vip};
use crate::plan::step::{Intent, Refusal, Step};
use crate::plan::steps;
use crate::preflight::{Checked, Severity, Wish, at_start, judged};
use crate::reading::installed::phases_of;
use crate::sys::errno::passes;
use crate::sys::netns::Home;
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
    let Instance { bucket, buckets } = parameters.instance(env)?;
    privileged("start")?;
    let home = entered(parameters)?;
    let starting = Starting {
        env,
        parameters,
        home: home.as_ref(),
        bucket,
    };
    if handed::is_used(parameters.network_namespace.as_ref()) {
        let vip = starting.arrive(How::ByDaemon, buckets)?;
        match handed::start(env, parameters, &vip, bucket)? {
            Started::Alone => {}
            Started::Owned => return starting.was_taken(),
        }
    }
    starting.arrive(How::Alone, buckets).map(|_| ())
}

/// Enters the VIP's namespace, if it has one of its own; the one that was left then.
fn entered(parameters: &Parameters) -> Result<Option<Home>, Failure> {
    enter_namespace(parameters.network_namespace.as_ref()).map_err(|error| {
        let passes = passes(error.errno());
        Failure::new(Code::Installed, error).passing(passes)
    })
}

/// Did the VIP's address come?
fn came_up(reached: &Reached) -> bool {
    let mut done = reached.done.iter();
    done.any(|step| matches!(step, Step::AddAddress(_)))
}

/// Says what will bite, as far as the kernel tells it at once. What could not be looked at ends no start.
fn warn_of_surroundings(kernel: &mut Kernel, parameters: &Parameters, vip: &Vip) {
    let wish = wish(parameters, vip);
    for checked in at_start(&of_the_kernel(kernel, &wish), &wish) {
        tell(&checked);
    }
}

/// The VIP as its resource wants it.
fn wish(parameters: &Parameters, vip: &Vip) -> Wish {
    Wish {
        compat: Some(parameters.compat),
        ..Wish::of(vip)
    }
}

/// Says what a check has found.
fn tell(checked: &Checked) {
    for note in &checked.notes {
        info!("{note}");
    }
    for finding in &checked.findings {
        warn!("{finding}");
    }
}

/// Was the interface set up, which now looks for a carrier?
fn was_set_up(reached: &Reached) -> bool {
    let mut done = reached.done.iter();
    done.any(|step| matches!(step, Step::SetUp(_)))
}

fn tell_up(vip: &Vip) {
    let (ip, nic, mac) = (vip.address, &vip.nic, vip.mac);
    info!("{ip} is up on {nic} with the cluster MAC {mac}");
}

/// Under which MAC IPaddr2 would have shared the VIP, for whoever has its entries in routers and switches.
fn tell_former_mac(kernel: &mut Kernel, parameters: &Parameters, vip: &Vip) {
    if parameters.compat.0.is_some() || parameters.mac.is_some() {
        return;
    }
    let former = former_mac(kernel, parameters, vip);
    if let Some(former) = former.filter(|former| *former != vip.mac) {
        info!("{}", other_mac(vip, former));
    }
}

/// A predecessor's MAC is a multicast one, so that the mode that does without refuses compat.
fn other_mac(vip: &Vip, former: Mac) -> String {
    let way_out = match vip.mode {
        L2Mode::Multicast | L2Mode::Igmp => ", or compat keeps it",
        L2Mode::Stealth => "",
    };
    format!(
        "IPaddr2 would share {} under {former}, which is {} here: entries for the old one have to go{way_out}",
        vip.address, vip.mac
    )
}

/// Tells others who wait that their buckets have come, too.
fn serve_others(how: How, others: &[Other], phases: &Phases, reached: &Reached) {
    // Whether there is a carrier everybody has to see for himself.
    if was_set_up(reached) {
        return;
    }
    for other in others {
        if how.has(phases, other.bucket) {
            let stays = phases.of(other.bucket) == Phase::Adopting;
            serve(other, !reached.done.is_empty(), stays);
        }
    }
}

/// How a bucket comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// Everything but the bucket, which the daemon takes then.
    ByDaemon,
    /// With all else, by this action.
    Alone,
}

impl How {
    /// The name under which it waits for others who want the same.
    fn action(self) -> &'static str {
        match self {
            How::ByDaemon => "start, come",
            How::Alone => "start",
        }
    }

    /// Is the bucket as far as it comes by this?
    fn has(self, phases: &Phases, bucket: u16) -> bool {
        let owned = matches!(phases.of(bucket), Phase::Owned | Phase::Adopting);
        owned || self == How::ByDaemon && phases.coming.contains_key(&bucket)
    }
}

/// The instance that starts.
#[derive(Clone, Copy)]
struct Starting<'a> {
    env: &'a Environment,
    parameters: &'a Parameters,
    /// The namespace in which Pacemaker is, if the VIP is in another.
    home: Option<&'a Home>,
    bucket: u16,
}

/// What a start has taken, and for whom.
struct Taken {
    lock: Lock,
    others: Vec<Other>,
    reached: Reached,
}

impl<'a> Starting<'a> {
    /// Brings the VIP up, and the bucket if it is not the daemon who takes it. The VIP then.
    fn arrive(self, how: How, buckets: BucketCount) -> Result<Vip, Failure> {
        let Starting {
            env,
            parameters,
            bucket,
            ..
        } = self;
        let (lock, request) = match in_turn(env, how.action(), Some(bucket)) {
            InTurn::Served(served) => {
                self.was_served(how, served);
                return prepared(&mut Kernel::open()?, parameters, buckets);
            }
            InTurn::Own(lock, request) => (lock?, request),
        };
        let mut kernel = Kernel::open()?;
        let vip = prepared(&mut kernel, parameters, buckets)?;
        let Taken {
            lock,
            others,
            reached,
        } = self.take(how, lock, request, &mut kernel, &vip)?;
        let phases = phases_of(&reached.observed.rules, vip.address);
        serve_others(how, &others, &phases, &reached);
        drop(lock);
        sweep_what_is_left(vip.address, Some(&reached.observed));
        if phases.of(bucket) == Phase::Adopting {
            settle_later(self.who_drains());
        }
        if came_up(&reached) {
            tell_up(&vip);
            tell_former_mac(&mut kernel, parameters, &vip);
            warn_of_configuration(env, parameters);
            warn_of(cautions(&mut kernel, &reached.observed, &vip));
            warn_of_surroundings(&mut kernel, parameters, &vip);
        }
        if was_set_up(&reached) {
            info!("{} was down and has been set up", vip.nic);
            await_carrier(env, &mut kernel, parameters, &vip)?;
        }
        if how == How::Alone && !reached.done.is_empty() {
            self.tell_owned();
        }
        Ok(vip)
    }

    /// The daemon has taken the bucket. What it says the kernel has to say too.
    fn was_taken(self) -> Result<(), Failure> {
        let rules = Kernel::open()?
            .nft
            .snapshot()
            .map_err(|error| of_nft(&error))?
            .rules;
        let ip = self.parameters.ip;
        match phases_of(&rules, ip).of(self.bucket) {
            Phase::Adopting => settle_later(self.who_drains()),
            Phase::Owned => {}
            phase => {
                let bucket = self.bucket;
                let reason =
                    format!("clusteripd has taken bucket {bucket} of {ip}, which is {phase}");
                return Err(Failure::new(Code::Generic, reason).passing(true));
            }
        }
        self.tell_owned();
        Ok(())
    }

    /// Somebody else has done it.
    fn was_served(self, how: How, Served { changed, stays }: Served) {
        if stays {
            settle_later(self.who_drains());
        }
        if changed && how == How::Alone {
            self.tell_owned();
        }
    }

    fn who_drains(self) -> WhoDrains<'a> {
        WhoDrains {
            env: self.env,
            home: self.home,
            vip: self.parameters.ip,
            bucket: self.bucket,
            drain_s: self.parameters.drain_s,
        }
    }

    fn tell_owned(self) {
        info!(
            "bucket {} of {} is owned here",
            self.bucket, self.parameters.ip
        );
    }

    /// Takes the bucket, and those of others who wait. Who shares the VIP under another description, or for another
    /// resource, is given a while to leave; meanwhile the lock is free, for others have nothing to do with it, and may
    /// have given up.
    fn take(
        self,
        how: How,
        mut lock: Lock,
        request: Option<Request>,
        kernel: &mut Kernel,
        vip: &Vip,
    ) -> Result<Taken, Failure> {
        let manners = Manners {
            announcements: self.parameters.announcements,
            ask: self.parameters.conflict_detection,
            beside: self.parameters.compat.0,
        };
        let patience = self.env.timeout().unwrap_or(PATIENCE) / 3;
        let patience = patience.min(PATIENCE_WITH_OTHERS);
        let begin = Instant::now();
        loop {
            // Who comes while we look is there in time.
            let seen = kernel.observe(Some(&vip.nic), Some(vip.address))?;
            let mut others: Vec<Other> = request.iter().flat_map(Request::others).collect();
            others.retain(|other| other.bucket < vip.buckets.get());
            match reach_from(kernel, Some(seen), &self.intent(how, vip, &others), manners) {
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
                    return Err(twins::failure(self.env, self.home, kernel, vip, error));
                }
                Err(_) => {}
            }
            drop(lock);
            std::thread::sleep(PAUSE);
            lock = locked(self.env)?;
        }
    }

    fn intent(self, how: How, vip: &Vip, others: &[Other]) -> Intent {
        let (vip, buckets) = (vip.clone(), with_others(self.bucket, others));
        match how {
            How::ByDaemon => Intent::Come {
                vip,
                buckets,
                within_ms: COMING_MS,
            },
            How::Alone => Intent::Take {
                vip,
                buckets,
                adopt_ms: Some(1000 * u64::from(self.parameters.drain_s)),
            },
        }
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
    // The deep look says it as well.
    let follows = parameters.seed.is_none() && env.check_level() < 10;
    match parameters.compat.0 {
        None if follows => warn!(
            "hash_seed is not set, so it follows from ip and anybody can guess it and aim traffic \
             at one node; set a random one, such as hash_seed=\"0x$(openssl rand -hex 4)\""
        ),
        Some(predecessor) if follows => warn!(
            "hash_seed is not set, so it is the one of {}, which anybody can guess, and aim traffic at one node; once no \
             node has that any more, stop the clone and put a random one in the place of compat, such as \
             hash_seed=\"0x$(openssl rand -hex 4)\"",
            predecessor.called()
        ),
        _ => {}
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
    look_around(&mut kernel, &parameters, &vip)?;
    try_rules(&mut kernel, vip)
}

/// Says what will bite on this node, and fails where it will not work.
fn look_around(kernel: &mut Kernel, parameters: &Parameters, vip: &Vip) -> Result<(), Failure> {
    let wish = wish(parameters, vip);
    let here = all(kernel, &wish);
    let here = match parameters.conflict_detection {
        true => ask_the_link(kernel, &wish, Some(vip), here),
        false => here,
    };
    let mut fatal = None;
    for checked in judged(&here, &wish) {
        if let Some(why) = &checked.unknown {
            info!("not looked at ({}): {why}", checked.check);
        }
        tell(&checked);
        let mut findings = checked.findings.into_iter();
        fatal = fatal.or_else(|| findings.find(|finding| finding.severity == Severity::Fatal));
    }
    match fatal {
        None => Ok(()),
        Some(finding) => Err(Failure::new(Code::Installed, finding)),
    }
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
    if let Some(sentence) = newest_ipaddr2::other_hash(env, parameters) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::vip::tests::a_vip;

    #[test]
    fn compat_is_advised_only_where_it_is_not_refused() {
        for mode in L2Mode::ALL {
            let vip = Vip {
                mode,
                ..a_vip("10.0.0.99")
            };
            let told = other_mac(&vip, Mac([0x51, 0, 0, 0, 0, 1]));
            let is_refused = mode == L2Mode::Stealth;
            assert_eq!(told.contains("compat"), !is_refused, "{told}");
        }
    }
}
