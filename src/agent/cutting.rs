//! When a stop cuts connections: where it cannot drain, where there is no time to list them, and as its last way,
//! without a look. For connections are worth no fencing, and a stop that fails is a fenced node.

use super::environment::Environment;
use super::exit::{Code, Failure};
use super::insist::PATIENCE;
use crate::host::sweeper::sweep_what_is_left;
use crate::plan::removal::deletions;
use crate::sys::nft::NftSocket;
use std::net::IpAddr;
use std::time::Duration;
use tracing::warn;

/// A stop that has tried in vain for this part of its time no longer looks.
const LATE: u32 = 4;

/// A stop that has less time left than this does not list connections, which takes milliseconds, or
/// for a hundred thousand of them a second.
const TO_LIST: Duration = Duration::from_secs(5);

/// Has a stop tried in vain for so long that it no longer wants to know how things stand?
pub(super) fn is_late(env: &Environment) -> bool {
    env.passed() > env.timeout().unwrap_or(PATIENCE) / LATE
}

/// Is there time to list connections?
fn may_list(env: &Environment) -> bool {
    let passed = env.passed();
    env.timeout()
        .is_none_or(|timeout| passed + TO_LIST <= timeout)
}

/// Has a bucket leave, and lets its connections stay if they may, and if there is time to list them. Where that fails
/// they are cut, for connections are worth no fencing; but what passes is an error as long as there is time for the
/// whole stop to begin anew.
pub(super) fn drain_or_cut<T, E: std::fmt::Display>(
    env: &Environment,
    drain_ms: u64,
    bucket: &str,
    passes: impl Fn(&E) -> bool,
    mut leave: impl FnMut(u64) -> Result<T, E>,
) -> Result<T, E> {
    if drain_ms == 0 {
        return leave(0);
    }
    let why = match may_list(env) {
        false => "others held the lock too long".to_owned(),
        true => match leave(drain_ms) {
            Err(error) if passes(&error) && !is_late(env) => return Err(error),
            Err(error) => error.to_string(),
            left => return left,
        },
    };
    warn!("the connections of {bucket} are cut: {why}");
    leave(0)
}

/// What a stop's failure leads to: another try, or if it is late to its last way.
pub(super) fn in_the_end(
    stopped: Result<(), Failure>,
    is_late: bool,
    cut: impl FnOnce(Failure) -> Result<(), Failure>,
) -> Result<(), Failure> {
    match stopped {
        Err(failure) if failure.code == Code::Permission => Err(failure),
        Err(failure) if is_late => cut(failure),
        // Codes that mean "not here" or "not anywhere" would be taken for a failed stop all the same.
        Err(failure) => Err(Failure::new(Code::Generic, failure.reason).passing(true)),
        Ok(()) => Ok(()),
    }
}

/// The last way of a stop, without a look and without the lock: the kernel no longer has the bucket for this node's, so
/// nothing of it is answered. What is left of the VIP answers nothing and is swept.
pub(super) fn cut_unseen(ip: IpAddr, number: u32, why: Failure) -> Result<(), Failure> {
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
            // Nobody has looked.
            sweep_what_is_left(ip, None);
            Ok(())
        }
        Err(error) => {
            warn!("{error}");
            Err(why.passing(true))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An action that may take so long, and began so long ago.
    fn environment(timeout_s: Option<u64>, passed_s: u64) -> Environment {
        let name = "OCF_RESKEY_CRM_meta_timeout".to_owned();
        let timeout = timeout_s.map(|s| (name, format!("{s}000")));
        Environment::new(timeout).begun_before(Duration::from_secs(passed_s))
    }

    /// The same where what fails does not pass.
    fn stopped(
        drain_ms: u64,
        timeout_s: Option<u64>,
        passed_s: u64,
        possible: &[u64],
    ) -> (Vec<u64>, bool) {
        stopped_where(false, drain_ms, timeout_s, passed_s, possible)
    }

    /// How long connections may stay in what a stop does, one thing after the other, and whether it succeeds,
    /// where only what is in `possible` does.
    fn stopped_where(
        passes: bool,
        drain_ms: u64,
        timeout_s: Option<u64>,
        passed_s: u64,
        possible: &[u64],
    ) -> (Vec<u64>, bool) {
        let env = environment(timeout_s, passed_s);
        let mut tried = Vec::new();
        let leave = |ms| {
            tried.push(ms);
            possible.contains(&ms).then_some(()).ok_or("impossible")
        };
        let stopped = drain_or_cut(&env, drain_ms, "bucket 3", |_| passes, leave);
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
    fn connections_are_cut_for_nothing_that_passes_while_there_is_time() {
        for (passes, passed_s, cuts) in [
            (false, 0, true),
            (true, 0, false),
            (true, 4, false),
            (true, 6, true),
        ] {
            let (tried, done) = stopped_where(passes, 300, Some(20), passed_s, &[0]);
            let expected = if cuts { vec![300, 0] } else { vec![300] };
            assert_eq!(
                (tried, done),
                (expected, cuts),
                "{passes} after {passed_s} s"
            );
        }
    }

    #[test]
    fn a_stop_tries_again_until_it_is_late_and_then_no_longer_looks() {
        for (timeout_s, passed_s, late) in [
            (Some(20), 0, false),
            (Some(20), 4, false),
            (Some(20), 6, true),
            (Some(20), 30, true),
            (None, 3, false),
            (None, 5, true),
        ] {
            let is_late = is_late(&environment(timeout_s, passed_s));
            assert_eq!(is_late, late, "{passed_s} of {timeout_s:?} s");
        }
        let failed = |code| Err(Failure::new(code, "no room"));
        let ended = |stopped, late, possible: bool| {
            let mut cut = false;
            let ended = in_the_end(stopped, late, |why| {
                cut = true;
                possible.then_some(()).ok_or(why)
            });
            (ended.map_err(|failure| (failure.code, failure.passes)), cut)
        };
        let again = Err((Code::Generic, true));
        for code in [Code::Generic, Code::Installed, Code::Configured] {
            assert_eq!(ended(failed(code), false, true), (again, false));
            assert_eq!(ended(failed(code), true, true), (Ok(()), true));
        }
        assert_eq!(ended(Ok(()), true, true), (Ok(()), false));
        // Who may not change anything cannot cut either.
        let forbidden = (Err((Code::Permission, false)), false);
        assert_eq!(ended(failed(Code::Permission), true, true), forbidden);
        assert!(ended(failed(Code::Generic), true, false).0.is_err());
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
