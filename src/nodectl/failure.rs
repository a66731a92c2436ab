//! Why a verb did not do what it was asked to: the exit codes (`sysexits.h`), and what the host's errors are in them.

use crate::host::agreement::Disagreement;
use crate::host::apply::StepError;
use crate::host::daemon::DaemonError;
use crate::host::features::missing;
use crate::host::lock::LockError;
use crate::host::observe::ObserveError;
use crate::host::reach::ReachError;
use crate::model::untrusted::in_one_line;
use crate::sys::netns::NetnsError;
use crate::sys::nft::NftError;
use std::fmt;

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
    pub(super) fn new(code: u8, message: impl fmt::Display) -> Self {
        Failure {
            code,
            message: in_one_line(&message.to_string()),
        }
    }

    /// The same with the way out, where that is to be root.
    pub(super) fn hinting(code: u8, message: impl fmt::Display) -> Self {
        match code {
            NOT_PERMITTED => Failure::new(code, format!("{message}; run nodectl as root")),
            _ => Failure::new(code, message),
        }
    }
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

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        let without = "'nodectl status' shows this node's kernel and what Pacemaker says";
        match &error {
            DaemonError::NotThere(_) => Failure::new(UNAVAILABLE, format!("{error}; {without}")),
            DaemonError::Denied(_) => Failure::new(NOT_PERMITTED, error),
            _ => Failure::new(UNAVAILABLE, error),
        }
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
            StepError::Route(route) | StepError::Filter { source: route, .. } => {
                code_of_errno(route.errno())
            }
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
