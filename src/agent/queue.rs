//! An action's wait for the lock, in which somebody else may do it too.

use super::environment::Environment;
use super::exit::Failure;
use super::insist::left;
use crate::host::lock::{Lock, lock};
use crate::host::together::{Key, Other, Request, Served};
use crate::model::bucket::BucketSet;
use tracing::debug;

/// What has become of an action's wait for the lock.
pub(super) enum InTurn {
    /// Somebody else has done it, too.
    Served(Served),
    /// It has to be done, under the lock.
    Own(Result<Lock, Failure>, Option<Request>),
}

/// Waits for the lock; others who have it meanwhile may do for this bucket what they do for theirs.
pub(super) fn in_turn(env: &Environment, action: &str, bucket: Option<u16>) -> InTurn {
    let wanted = env.key(action).zip(bucket);
    let request = wanted.and_then(|(key, bucket)| Request::tell(Key(key), bucket));
    let lock = match &request {
        Some(request) => request.lock(left(env)).map_err(Failure::from),
        None => locked(env),
    };
    match request.as_ref().and_then(Request::answer) {
        Some(served) => InTurn::Served(served),
        None => InTurn::Own(lock, request),
    }
}

pub(super) fn with_others(bucket: u16, others: &[Other]) -> BucketSet {
    let others = others.iter().map(|other| other.bucket);
    std::iter::once(bucket).chain(others).collect()
}

pub(super) fn serve(other: &Other, changed: bool, stays: bool) {
    if let Err(error) = other.tell(Served { changed, stays }) {
        debug!("whoever waits does it for himself: {error}");
    }
}

/// Waits for the lock, for as long as the action may take.
pub(super) fn locked(env: &Environment) -> Result<Lock, Failure> {
    Ok(lock(left(env))?)
}
