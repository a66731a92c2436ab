//! Two resources with one address: who is the other?
//!
//! Both would serve, each on nodes of its own, and answer the same packets. The link tells that somebody has the
//! address for another resource (`host::agreement`), but no name; Pacemaker's configuration has the names,
//! and for whom of them the others keep silent, the link tells again.

use super::environment::Environment;
use super::exit::{Code, Failure};
use crate::host::agreement::{Disagreement, is_shared_for};
use crate::host::observe::Kernel;
use crate::host::reach::ReachError;
use crate::model::untrusted::Untrusted;
use crate::model::vip::{Manager, Vip};
use crate::pacemaker::query::{Query, ask_at};
use crate::pacemaker::twins::twins;
use crate::sys::netns::Home;
use std::time::Duration;
use tracing::debug;

/// Pacemaker is not asked for a name where the action has less than this left.
const ENOUGH: Duration = Duration::from_secs(4);

/// Why the VIP did not come up; if another resource has it, its name, as far as it can be known. Pacemaker is asked at
/// `home`, if the VIP is in another namespace.
pub(super) fn failure(
    env: &Environment,
    home: Option<&Home>,
    kernel: &mut Kernel,
    vip: &Vip,
    error: ReachError,
) -> Failure {
    let Some(Disagreement::OtherManager {
        address,
        nic,
        mac,
        own,
        other: None,
    }) = error.disagreement()
    else {
        return error.into();
    };
    let other = other(env, home, kernel, vip);
    let named = Disagreement::OtherManager {
        address: *address,
        nic: nic.clone(),
        mac: *mac,
        own: own.clone(),
        other,
    };
    Failure::new(Code::Generic, named)
}

/// For whom others share the VIP.
fn other(
    env: &Environment,
    home: Option<&Home>,
    kernel: &mut Kernel,
    vip: &Vip,
) -> Option<Untrusted> {
    let observed = kernel.observe(Some(&vip.nic), Some(vip.address));
    let (observed, _) = observed.map_err(|error| debug!("{error}")).ok()?;
    let state = observed.nics.get(vip.nic.as_str())?;
    let is_shared_for = |manager: Manager| {
        let answer = is_shared_for(manager, vip, state);
        answer.map_err(|error| debug!("{error}")).unwrap_or(false)
    };
    if is_shared_for(Manager::Manual) {
        return Some(Manager::Manual.name().into());
    }
    let is_late = || {
        let left = env.timeout().map(|all| all.saturating_sub(env.passed()));
        left.is_some_and(|left| left < ENOUGH)
    };
    if is_late() {
        return None;
    }
    let resources = ask_at(home, Query::Resources);
    let resources = resources.map_err(|error| debug!("{error}")).ok()?;
    let names = twins(&resources, vip.address, env.resource());
    let names = names.map_err(|error| debug!("{error}")).ok()?;
    names
        .into_iter()
        .take_while(|_| !is_late())
        .find(|name| is_shared_for(Manager::pacemaker(name.raw())))
}
