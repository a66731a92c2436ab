//! Does another node still drain the connections of a bucket that has come here?
//!
//! Where connections may stay at all, a bucket that comes is adopted first: this node is silent
//! towards connections that it does not know, which is right if another node drains them, and does
//! no lasting harm if not. Pacemaker's history of operations tells; reading it takes longer than the
//! whole start, so it is read afterwards, by a process that is left behind, and again after every
//! monitor for as long as the bucket is adopted. Buckets come many at a time: one answer is for all of a
//! VIP's.

use super::environment::Environment;
use crate::host::lock::lock;
use crate::host::observe::{Kernel, ObserveError};
use crate::host::reach::{UnderLockError, reach};
use crate::host::turns;
use crate::model::bucket::BucketSet;
use crate::model::untrusted::shown;
use crate::pacemaker::clocks::Clocks;
use crate::pacemaker::history::{Drained, DrainedElsewhere, History, HistoryError};
use crate::pacemaker::query::{Query, QueryError, ask_at};
use crate::plan::step::Intent;
use crate::reading::installed::phases_of;
use crate::sys::netns::Home;
use crate::sys::process::{detach, detach_with};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Once;
use std::time::{Duration, Instant, SystemTime, SystemTimeError, UNIX_EPOCH};
use tracing::{debug, info, warn};

/// How long the lock is waited for: what is not settled now is at the next monitor.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a process waits for its turn to ask, and how long it then waits for others whose buckets come
/// at the same time.
const TURN: Duration = Duration::from_secs(5);
const BURST: Duration = Duration::from_millis(150);
/// For how long Pacemaker is asked again if its answer is older than the start of a bucket, and after what
/// pauses: the change is on its way.
const INSIST: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(250);
/// An adoption that ends so much later than the one that was asked about is another one: the kernel's
/// times are milliseconds, and buckets come and go in seconds.
const SAME: Duration = Duration::from_millis(500);

/// Who drains the buckets of a VIP that have come here? Which one it is about, and who asks.
#[derive(Clone, Copy)]
pub struct WhoDrains<'a> {
    /// The action's environment.
    pub env: &'a Environment,
    /// The namespace in which Pacemaker is, if the VIP is in another.
    pub home: Option<&'a Home>,
    /// The VIP.
    pub vip: IpAddr,
    /// The bucket.
    pub bucket: u16,
    /// For how many seconds connections may stay.
    pub drain_s: u32,
}

/// Has it settled by a process of its own whether anybody drains the bucket.
pub fn settle_later(about: WhoDrains<'_>) {
    let asked = SystemTime::now();
    let worker = || match Kernel::open() {
        Ok(mut kernel) => settle(&mut kernel, about, asked),
        Err(error) => debug!("{error}"),
    };
    let done = match about.home {
        Some(home) => detach_with(home, worker),
        None => detach(worker),
    };
    if let Err(error) = done {
        let bucket = about.bucket;
        debug!("whether bucket {bucket} is drained is left to the monitor: {error}");
    }
}

/// Ends the adoption of all buckets that nobody drains, unless that was looked into since `asked`.
fn settle(kernel: &mut Kernel, about: WhoDrains<'_>, asked: SystemTime) {
    let WhoDrains { vip, bucket, .. } = about;
    let turn = match turns::turn(vip, asked, TURN) {
        Ok(Some(turn)) => turn,
        Ok(None) => return,
        Err(error) => return debug!("bucket {bucket} of {vip} is left to the monitor: {error}"),
    };
    match adopted(kernel, vip) {
        Ok(adopted) if adopted.is_empty() => return turn.remove(),
        // Somebody was faster.
        Ok(adopted) if !adopted.contains_key(&bucket) => return,
        Ok(_) => {}
        Err(error) => return debug!("{error}"),
    }
    std::thread::sleep(BURST);
    let until = Instant::now() + INSIST;
    loop {
        if let Err(error) = turn.note() {
            debug!("others will ask again: {error}");
        }
        match settled(kernel, about) {
            Ok(HowFar::All) => return turn.remove(),
            Ok(HowFar::AllThatIsKnown) => return,
            Ok(HowFar::NotYet) if Instant::now() < until => std::thread::sleep(AGAIN),
            Ok(HowFar::NotYet) => {
                return info!(
                    "Pacemaker does not know yet what has started here; whether buckets of {vip} are \
                     drained is left to the monitor"
                );
            }
            // Not to know is no reason to cut anybody's connections.
            Err(error) => return warn!("buckets of {vip} stay adopted: {error}"),
        }
    }
}

/// How far one answer has brought it.
#[derive(Debug, PartialEq, Eq)]
enum HowFar {
    /// Nothing is adopted any more.
    All,
    /// The rest is drained, or nobody knows.
    AllThatIsKnown,
    /// The answer was too old for some.
    NotYet,
}

/// Asks once, and ends the adoption of all buckets that nobody drains.
fn settled(kernel: &mut Kernel, about: WhoDrains<'_>) -> Result<HowFar, WhoDrainsError> {
    let vip = about.vip;
    let (now, time) = (Instant::now(), SystemTime::now());
    let adopted = adopted(kernel, vip)?;
    if adopted.is_empty() {
        return Ok(HowFar::All);
    }
    let told = told(vip, who_drains(about, &adopted, time)?);
    let until = |bucket: u16| Some((bucket, now + *adopted.get(&bucket)?));
    let free = told.free.iter().filter_map(until).collect();
    let ended = told.free.is_empty() || end(kernel, vip, &free);
    Ok(told.settles(adopted.len(), ended))
}

/// What one answer says of all buckets that it was about.
struct Told {
    /// Nobody drains these.
    free: BucketSet,
    /// It was too old for some.
    is_outdated: bool,
}

fn told(vip: IpAddr, answers: Vec<(u16, Drained)>) -> Told {
    let (mut free, mut is_outdated) = (Vec::new(), false);
    for (bucket, drained) in answers {
        match drained {
            Drained::For(s) => debug!("bucket {bucket} of {vip} drains elsewhere, {s} s yet"),
            Drained::NotYetKnown => debug!("who drains bucket {bucket} of {vip} is not known yet"),
            Drained::Outdated => is_outdated = true,
            Drained::ByNobody => free.push(bucket),
        }
    }
    let free = free.into_iter().collect();
    Told { free, is_outdated }
}

impl Told {
    /// How far it has brought it, of so many that are adopted, if the adoptions of those that are free have ended.
    fn settles(&self, adopted: usize, ended: bool) -> HowFar {
        match () {
            () if self.free.len() == adopted && ended => HowFar::All,
            () if !self.is_outdated => HowFar::AllThatIsKnown,
            () => HowFar::NotYet,
        }
    }
}

/// The buckets that are adopted, and for how long yet.
fn adopted(kernel: &mut Kernel, vip: IpAddr) -> Result<BTreeMap<u16, Duration>, ObserveError> {
    let (observed, _) = kernel.observe(None, None)?;
    let adopting = phases_of(&observed.rules, vip).adopting.into_iter();
    Ok(adopting
        .map(|(bucket, ms)| (bucket, Duration::from_millis(ms)))
        .collect())
}

/// Who drains is not known.
#[derive(Debug, thiserror::Error)]
enum WhoDrainsError {
    #[error("the clock stands before 1970")]
    Clock(#[from] SystemTimeError),
    #[error("the node's name cannot be read: {0}")]
    Name(#[from] nix::Error),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
}

fn who_drains(
    about: WhoDrains<'_>,
    adopted: &BTreeMap<u16, Duration>,
    time: SystemTime,
) -> Result<Vec<(u16, Drained)>, WhoDrainsError> {
    let WhoDrains { env, drain_s, .. } = about;
    let now = time.duration_since(UNIX_EPOCH)?;
    let host = nix::unistd::gethostname()?;
    let host = host.to_string_lossy();
    let status = ask_at(about.home, Query::Status)?;
    let history = History::read(&status)?;
    let node = env.node().unwrap_or(&host);
    let clocks = history.clocks(node);
    static TOLD: Once = Once::new();
    TOLD.call_once(|| tell_apart(&clocks));
    let of = |(bucket, left): (&u16, &Duration)| {
        let instance = match *bucket == about.bucket {
            true => env.instance_name().to_owned(),
            false => format!("{}:{bucket}", env.resource()),
        };
        let drained = history.drained(DrainedElsewhere {
            instance: &instance,
            node,
            drain_s,
            now_s: now.as_secs(),
            since_s: adopted_since(now, Duration::from_secs(drain_s.into()), *left),
            clocks: &clocks,
        });
        (*bucket, drained)
    };
    Ok(adopted.iter().map(of).collect())
}

/// Warns of clocks that do not agree; once a process.
fn tell_apart(clocks: &Clocks) {
    for (other, ahead_s) in clocks.apart() {
        let (how, by) = match ahead_s < 0 {
            true => ("behind", ahead_s.unsigned_abs()),
            false => ("ahead of", ahead_s.unsigned_abs()),
        };
        warn!(
            "the clock of {} is some {by} s {how} this node's, and who still has connections of a bucket that \
             moved is told by clocks: have all nodes follow the same time ('timedatectl', 'chronyc tracking')",
            shown(other)
        );
    }
}

/// Since when a bucket is adopted that may be so for `left` of `all`, in whole seconds: what was in the same
/// second was before. From the beginning of time on if `drain_timeout` has been shortened meanwhile.
fn adopted_since(now: Duration, all: Duration, left: Duration) -> u64 {
    let age = all.checked_sub(left);
    let began = age.and_then(|age| now.checked_sub(age));
    began.map_or(0, |began| began.as_millis().div_ceil(1000) as u64)
}

/// These buckets are owned, as far as their adoptions are still those that were asked about, which end at
/// these times. Whether nothing stood in the way.
fn end(kernel: &mut Kernel, vip: IpAddr, free: &BTreeMap<u16, Instant>) -> bool {
    let mut ended = || -> Result<BucketSet, UnderLockError> {
        let _lock = lock(PATIENCE)?;
        let now = Instant::now();
        let buckets = still_so(free, &adopted(kernel, vip)?, now);
        if !buckets.is_empty() {
            let intent = Intent::Adopted {
                address: vip,
                buckets: buckets.clone(),
            };
            reach(kernel, &intent, Default::default())?;
        }
        Ok(buckets)
    };
    match ended() {
        Ok(buckets) if buckets.is_empty() => true,
        Ok(buckets) => {
            info!("nobody drains buckets {buckets} of {vip}");
            true
        }
        Err(error) => {
            warn!("buckets of {vip} stay adopted: {error}");
            false
        }
    }
}

/// The buckets whose adoptions are those that were asked about, and end at these times. What has gone and
/// come again since, another process asks about.
fn still_so(
    asked: &BTreeMap<u16, Instant>,
    adopted: &BTreeMap<u16, Duration>,
    now: Instant,
) -> BucketSet {
    let same = asked.iter().filter(|(bucket, until)| {
        let left = adopted.get(bucket);
        left.is_some_and(|left| now + *left <= **until + SAME)
    });
    same.map(|(bucket, _)| *bucket).collect()
}

/// Takes away the rules for what moves when nothing does any more, which is the sweeper's work if that
/// was not killed.
pub fn tidy(kernel: &mut Kernel, vip: IpAddr) {
    let mut tidied = || -> Result<(), UnderLockError> {
        let lock = lock(PATIENCE)?;
        let reached = reach(kernel, &Intent::Settle { address: vip }, Default::default())?;
        turns::end(lock, &reached.observed.rules);
        Ok(())
    };
    if let Err(error) = tidied() {
        debug!("{vip}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_about_one_adoption_ends_no_later_one() {
        let ms = Duration::from_millis;
        let begin = Instant::now();
        let asked = BTreeMap::from([1, 2, 3].map(|bucket| (bucket, begin + ms(300_000))));
        // Two seconds later bucket 1 is as it was, 2 has gone and come again, 3 has gone, 4 has come.
        let adopted = BTreeMap::from([(1, 298_000), (2, 299_400), (4, 298_000)]);
        let adopted = adopted.into_iter().map(|(b, left)| (b, ms(left)));
        let ended = still_so(&asked, &adopted.collect(), begin + ms(2_000));
        assert_eq!(ended, BucketSet::one(1));
    }

    #[test]
    fn what_is_drained_or_not_known_stays_adopted() {
        let vip = IpAddr::from([10, 77, 0, 99]);
        use Drained::*;
        for (answers, free, settled) in [
            (vec![ByNobody, ByNobody], vec![0, 1], HowFar::All),
            (vec![ByNobody, For(7)], vec![0], HowFar::AllThatIsKnown),
            (vec![NotYetKnown, ByNobody], vec![1], HowFar::AllThatIsKnown),
            (vec![Outdated, ByNobody], vec![1], HowFar::NotYet),
            (vec![Outdated, NotYetKnown, For(7)], vec![], HowFar::NotYet),
        ] {
            let count = answers.len();
            let answers: Vec<_> = (0..).zip(answers).collect();
            let told = told(vip, answers.clone());
            assert_eq!(told.free, free.into_iter().collect(), "{answers:?}");
            assert_eq!(told.settles(count, true), settled, "{answers:?}");
        }
        // What could not be ended is not settled.
        let all = told(vip, vec![(0, ByNobody)]);
        assert_eq!(all.settles(1, false), HowFar::AllThatIsKnown);
    }

    #[test]
    fn since_when_a_bucket_is_adopted_is_told_from_what_is_left() {
        let s = Duration::from_secs;
        let now = Duration::from_millis(1_000_400);
        assert_eq!(
            adopted_since(now, s(300), Duration::from_millis(299_900)),
            1001
        );
        assert_eq!(adopted_since(now, s(300), s(260)), 961);
        // Another drain_timeout since, or a clock that was set.
        assert_eq!(adopted_since(now, s(60), s(260)), 0);
        assert_eq!(adopted_since(s(1), s(300), s(0)), 0);
    }
}
