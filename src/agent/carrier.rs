//! An interface without a carrier cannot serve: what is asked of it before a start, and what is waited for after the
//! start has set it up.

use super::environment::Environment;
use super::exit::{Code, Failure};
use super::parameters::Parameters;
use crate::host::observe::{Kernel, ObserveError};
use crate::model::vip::Vip;
use crate::plan::step::Refusal;
use std::time::{Duration, Instant};

/// How long an interface that was down is given to find its carrier, where the action's time-out leaves more.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause before a carrier is looked for again.
const PAUSE: Duration = Duration::from_millis(250);

/// An interface without a carrier cannot serve anything, if anybody cares. One that is down is set up.
pub(super) fn require_link(
    kernel: &mut Kernel,
    parameters: &Parameters,
    vip: &Vip,
) -> Result<(), Failure> {
    let link = kernel.route.link(vip.nic.as_str());
    let link = link.map_err(ObserveError::from)?;
    match link {
        None => Err(Failure::new(
            Code::Installed,
            Refusal::NoInterface(vip.nic.clone()),
        )),
        Some(link) if parameters.check_link_status && link.admin_up && !link.carrier => {
            Err(no_carrier(vip))
        }
        Some(_) => Ok(()),
    }
}

fn no_carrier(vip: &Vip) -> Failure {
    let words = "check the cable, or set check_link_status=\"false\"";
    let reason = format!("the interface {} is without a carrier; {words}", vip.nic);
    Failure::new(Code::Generic, reason)
}

/// An interface that was just set up has its carrier after a moment, if it gets one.
pub(super) fn await_carrier(
    env: &Environment,
    kernel: &mut Kernel,
    parameters: &Parameters,
    vip: &Vip,
) -> Result<(), Failure> {
    let patience = env
        .timeout()
        .map_or(PATIENCE, |timeout| (timeout / 3).min(PATIENCE));
    let begin = Instant::now();
    while let Err(failure) = require_link(kernel, parameters, vip) {
        if begin.elapsed() + PAUSE > patience {
            return Err(failure);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
