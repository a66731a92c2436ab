//! What verbs have in common: how they were called, and what is found on the host.

use super::failure::{DATA, Failure};
use crate::host::observe::Kernel;
use crate::model::host::Observed;
use crate::reading::installed::{Installed, find};
use crate::sys::netns::Home;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What holds for every verb.
pub(super) struct Context<'a> {
    /// Programs read what is printed.
    pub(super) json: bool,
    /// The network namespace that was entered, or that a configuration is for.
    pub(super) netns: Option<&'a str>,
    /// The one that was left, where Pacemaker is.
    pub(super) home: Option<Home>,
}

/// The kernel and what is found there.
pub(super) fn look() -> Result<(Kernel, Observed), Failure> {
    let mut kernel = Kernel::open()?;
    let (observed, _) = kernel.observe(None, None)?;
    Ok((kernel, observed))
}

/// How many connections are left in each bucket that leaves, 0 among them.
pub(super) fn connections_left(
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
pub(super) fn known(observed: &Observed, vip: IpAddr) -> Result<Installed, Failure> {
    find(&observed.rules, vip).ok_or_else(|| {
        Failure::new(
            DATA,
            format!("{vip} is not installed here; 'nodectl status' shows what is"),
        )
    })
}
