//! nodectl: look at and move buckets by hand, and print what belongs around them. One file a verb.
//!
//! Exit codes (`sysexits.h`): 0 done, also when there was nothing to do; 64 usage; 65 bad data (an
//! unknown VIP, another description); 69 the kernel lacks something; 71 the kernel refused; 75 not
//! yet (`wait-drained`); 77 not permitted.

mod arp;
mod buckets;
mod change;
pub mod cli;
mod cluster;
mod configuration;
mod describe;
mod drain;
mod explain;
mod json;
mod outcome;
mod owner;
mod ruleset;
mod screen;
mod status;
mod values;

use crate::host::agreement::Disagreement;
use crate::host::apply::StepError;
use crate::host::features::missing;
use crate::host::lock::LockError;
use crate::host::observe::{Kernel, ObserveError};
use crate::host::reach::ReachError;
use crate::model::host::Observed;
use crate::model::untrusted::in_one_line;
use crate::reading::installed::{Installed, find};
use crate::sys::netns::{Home, NetnsError, enter};
use crate::sys::nft::NftError;
use cli::{Cli, Verb};
use json::json;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// The version of everything that `--json` prints. It changes only when something is taken away or
/// means something else.
pub const SCHEMA: u32 = 1;

/// EX_USAGE.
pub const USAGE: u8 = 64;
/// EX_DATAERR.
pub const DATA: u8 = 65;
/// EX_UNAVAILABLE.
pub const UNAVAILABLE: u8 = 69;
/// EX_OSERR.
pub const REFUSED: u8 = 71;
/// EX_TEMPFAIL.
pub const LATER: u8 = 75;
/// EX_NOPERM.
pub const NOT_PERMITTED: u8 = 77;

/// Why a verb did not do what it was asked to.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// A sentence that says what to do, in one line.
    pub message: String,
}

impl Failure {
    fn new(code: u8, message: impl fmt::Display) -> Self {
        Failure {
            code,
            message: in_one_line(&message.to_string()),
        }
    }

    /// The same with the way out, where that is to be root.
    fn hinting(code: u8, message: impl fmt::Display) -> Self {
        match code {
            NOT_PERMITTED => Failure::new(code, format!("{message}; run nodectl as root")),
            _ => Failure::new(code, message),
        }
    }
}

/// What holds for every verb.
struct Context<'a> {
    /// Programs read what is printed.
    json: bool,
    /// The network namespace that was entered, or that a configuration is for.
    netns: Option<&'a str>,
    /// The one that was left, where Pacemaker is.
    home: Option<Home>,
}

/// Does what the command line says and returns what is to be printed. The calling thread stays in the
/// network namespace that was asked for.
pub fn run(cli: &Cli) -> Result<String, Failure> {
    let (json, netns) = (cli.json, cli.netns.as_deref());
    let home = match &cli.verb {
        // The namespace is on other machines, perhaps, or there is nothing to look at.
        Verb::Crm(_) | Verb::Pcs(_) => None,
        Verb::Arp(args) if args.list || args.mac.is_some() => None,
        _ => netns.map(enter).transpose()?,
    };
    let context = Context { json, netns, home };
    told(cli, &context).map(|text| screen::Screen::of_stdout().clean(&text))
}

fn told(cli: &Cli, context: &Context<'_>) -> Result<String, Failure> {
    let json = context.json;
    match &cli.verb {
        Verb::Up(args) => change::up(args)?.tell(json),
        Verb::Down(args) => change::down(args)?.tell(json),
        Verb::Take(args) => change::take(args)?.tell(json),
        Verb::Release(args) => change::release(args, context)?.tell(json),
        Verb::Drain(args) => drain::drain(args, context)?.tell(json),
        Verb::Undrain(args) => drain::undrain(args)?.tell(json),
        Verb::WaitDrained(args) => drain::wait_drained(args)?.tell(json),
        Verb::Status(args) => status::status(args, context),
        Verb::Buckets(args) => buckets::buckets(args, context),
        Verb::Owner(args) => owner::owner(args, context),
        Verb::Explain(args) => explain::explain(args, context),
        Verb::Ruleset(args) => ruleset::ruleset(args, context),
        Verb::Crm(args) => configuration::crm(args, context),
        Verb::Pcs(args) => configuration::pcs(args, context),
        Verb::Arp(args) => arp::arp(args, context),
    }
}

/// The kernel and what is found there.
fn look() -> Result<(Kernel, Observed), Failure> {
    let mut kernel = Kernel::open()?;
    let (observed, _) = kernel.observe(None, None)?;
    Ok((kernel, observed))
}

/// How many connections are left in each bucket that leaves, 0 among them.
fn connections_left(
    kernel: &mut Kernel,
    observed: &Observed,
    Installed { vip, phases }: &Installed,
) -> Result<BTreeMap<u16, usize>, Failure> {
    let mut left: BTreeMap<u16, usize> = phases.leaving().iter().map(|b| (b, 0)).collect();
    if left.is_empty() {
        return Ok(left);
    }
    for found in kernel.connections(observed, vip.address)? {
        if let Some(count) = left
            .get_mut(&vip.bucket(&found.flow))
            .filter(|_| found.alive)
        {
            *count += 1;
        }
    }
    Ok(left)
}

/// The VIP, which must be installed.
fn known(observed: &Observed, vip: IpAddr) -> Result<Installed, Failure> {
    find(&observed.rules, vip).ok_or_else(|| {
        Failure::new(
            DATA,
            format!("{vip} is not installed here; 'nodectl status' shows what is"),
        )
    })
}

fn code_of_nft(error: &NftError) -> u8 {
    match error {
        error if error.is_permission() => NOT_PERMITTED,
        error if error.is_missing_feature() => UNAVAILABLE,
        _ => REFUSED,
    }
}

fn code_of_errno(errno: Option<i32>) -> u8 {
    match errno {
        Some(libc::EPERM | libc::EACCES) => NOT_PERMITTED,
        _ => REFUSED,
    }
}

impl From<ObserveError> for Failure {
    fn from(error: ObserveError) -> Self {
        let code = match &error {
            ObserveError::Nft(nft) => code_of_nft(nft),
            ObserveError::Route(route) => code_of_errno(route.errno()),
            ObserveError::Mcast(mcast) => code_of_errno(mcast.errno()),
            ObserveError::Connections(_) => REFUSED,
            ObserveError::Sysctl(sysctl) => code_of_errno(sysctl.errno()),
        };
        lacking(code, &error).unwrap_or_else(|| Failure::hinting(code, error))
    }
}

impl From<NetnsError> for Failure {
    fn from(error: NetnsError) -> Self {
        let code = match error.is_gone() {
            true => DATA,
            false => code_of_errno(error.errno()),
        };
        Failure::hinting(code, error)
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let denied = matches!(&error, LockError::Open { error, .. }
            if error.kind() == std::io::ErrorKind::PermissionDenied);
        let code = if denied { NOT_PERMITTED } else { REFUSED };
        Failure::new(code, error)
    }
}

impl From<ReachError> for Failure {
    fn from(error: ReachError) -> Self {
        let of_step = |step: &StepError| match step {
            StepError::Nft(nft) => code_of_nft(nft),
            StepError::Route(route) => code_of_errno(route.errno()),
            StepError::Mcast(mcast) => code_of_errno(mcast.errno()),
            StepError::Sysctl(sysctl) | StepError::Lock(sysctl) => code_of_errno(sysctl.errno()),
            StepError::Disagreement(Disagreement::Packet(packet)) => code_of_errno(packet.errno()),
            StepError::Disagreement(_) => DATA,
            StepError::Vanished(_) => REFUSED,
        };
        let code = match &error {
            ReachError::Refused(_) => DATA,
            ReachError::Failed(errors) => errors.first().map_or(REFUSED, of_step),
            ReachError::Restless(_) => REFUSED,
            ReachError::Observe(_) => {
                let ReachError::Observe(inner) = error else {
                    return Failure::new(REFUSED, "the host cannot be looked at");
                };
                return inner.into();
            }
        };
        lacking(code, &error).unwrap_or_else(|| Failure::new(code, error))
    }
}

/// Where the kernel refused what it should have: what it lacks.
fn lacking(code: u8, error: &impl fmt::Display) -> Option<Failure> {
    let missing = (code == UNAVAILABLE).then(missing).flatten();
    missing.map(|missing| Failure::new(UNAVAILABLE, format!("{missing}; {error}")))
}
