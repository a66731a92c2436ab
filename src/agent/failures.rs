//! What the host's errors are in OCF's codes, and whether they may pass.

use super::exit::{Code, Failure};
use crate::host::apply::StepError;
use crate::host::features::missing;
use crate::host::lock::LockError;
use crate::host::observe::ObserveError;
use crate::host::place::PlaceError;
use crate::host::reach::ReachError;
use crate::plan::step::Refusal;
use crate::sys::nft::NftError;
use tracing::warn;

pub(super) fn of_nft(error: &NftError) -> Failure {
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

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let passes = error.passes();
        Failure::new(Code::Generic, error).passing(passes)
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

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        let passes = matches!(&error, PlaceError::Route(route) if route.passes());
        Failure::new(Code::Installed, error).passing(passes)
    }
}

impl From<ReachError> for Failure {
    fn from(error: ReachError) -> Self {
        let passes = error.passes();
        let failure = match &error {
            ReachError::Observe(ObserveError::Nft(nft)) => of_nft(nft),
            ReachError::Failed(errors) => match errors.as_slice() {
                [StepError::Nft(nft)] => of_nft(nft),
                _ => Failure::new(Code::Generic, &error),
            },
            ReachError::Refused(refusal) => {
                let code = match refusal {
                    Refusal::NoInterface(_)
                    | Refusal::NotEthernet(_)
                    | Refusal::Enslaved { .. }
                    | Refusal::Beneath { .. }
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
