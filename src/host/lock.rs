//! One action at a time in a network namespace.
//!
//! Pacemaker starts many instances of a clone at once, and VIPs share base chains, memberships and
//! the second lock, so the lock is one for the namespace. A lock file is no state: a file whose meaning
//! is that somebody holds an flock on it, and at most when somebody did last.

use crate::model::ruleset::Ruleset;
use crate::sys::netns;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tracing::debug;

/// Where the lock files are: on a tmpfs, writable for root only.
const DIRECTORY: &str = "/run/clusterip";
/// What the names of the files begin with.
const NET: &str = "net";
const TURN: &str = "turn";

/// The lock; it ends with the value, and with the process in any case.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
    path: PathBuf,
}

impl Lock {
    /// Notes that what the lock is for is done from now on.
    pub fn note(&self) -> io::Result<()> {
        self.file.write_all_at(b"\n", 0)
    }

    /// Since when it was last done: whoever wanted it before that has it. By the kernel's clock for files,
    /// which is some milliseconds late.
    fn noted(&self) -> Option<SystemTime> {
        let metadata = self.file.metadata().ok()?;
        metadata.modified().ok().filter(|_| metadata.len() > 0)
    }

    /// Removes the file as well, if it is still the one that others find. Whoever waits for it notices.
    pub fn remove(self) {
        if is_still(&self.file, &self.path) {
            // A file that stays is no harm.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Ends the lock of the network namespace. With the last VIP the file goes, and those of the turns.
    pub fn end(self, rules: &Ruleset) {
        if !rules.is_empty() {
            return;
        }
        let own = self.path.file_name().and_then(|name| name.to_str());
        let Some(end) = own.and_then(|name| name.strip_prefix(NET)) else {
            return;
        };
        let entries = std::fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            if name.starts_with(TURN) && name.ends_with(end) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        self.remove();
    }
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file cannot be had.
    #[error("the lock file {path} cannot be opened: {error}")]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The directory is not root's alone.
    #[error("{0} is not a directory that only its owner can write to; remove it")]
    Insecure(PathBuf),
    /// Another action took too long.
    #[error(
        "waited {} s for the lock {path}, which other actions on this host's VIPs have had, one after the other or \
         one for long: 'fuser {path}' shows who has it or waits for it",
        waited.as_secs()
    )]
    Held {
        /// The file.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// The namespace cannot be told.
    #[error(transparent)]
    Namespace(#[from] netns::NetnsError),
}

/// The right to be the only sweeper of this network namespace, if there is none.
pub fn try_sweeper() -> Option<Lock> {
    try_at(path("sweeper").ok()?)
}

fn try_at(path: PathBuf) -> Option<Lock> {
    let file = Flock::lock(open(&path).ok()?, FlockArg::LockExclusiveNonblock).ok()?;
    is_still(&file, &path).then_some(Lock { file, path })
}

/// The path of a lock of this network namespace.
fn path(what: &str) -> Result<PathBuf, LockError> {
    let directory = Path::new(DIRECTORY);
    secure(directory)?;
    Ok(directory.join(format!("{what}-{}.lock", netns::current_id()?)))
}

/// Waits for the lock of this network namespace, at most as long as `patience`.
pub fn lock(patience: Duration) -> Result<Lock, LockError> {
    wait(path(NET)?, patience)
}

/// The right to ask about a VIP what others want to know too, one after the other; `None` if somebody has
/// asked since it was wanted.
pub fn turn(
    vip: IpAddr,
    wanted: SystemTime,
    patience: Duration,
) -> Result<Option<Lock>, LockError> {
    turn_at(path(&format!("{TURN}-{vip}"))?, wanted, patience)
}

fn turn_at(
    path: PathBuf,
    wanted: SystemTime,
    patience: Duration,
) -> Result<Option<Lock>, LockError> {
    let lock = wait(path, patience)?;
    let is_done = lock.noted().is_some_and(|noted| noted > wanted);
    Ok((!is_done).then_some(lock))
}

/// First come, first served: whoever waits inside the kernel stands in its queue, each one behind the other
/// (fs/locks.c: `__locks_insert_block()`). Only who comes in the moment in which the lock passes on can be before
/// somebody who waits.
fn wait(path: PathBuf, patience: Duration) -> Result<Lock, LockError> {
    let failed = |error| LockError::Open {
        path: path.clone(),
        error,
    };
    let start = Instant::now();
    loop {
        let file = open(&path).map_err(failed)?;
        match within(patience.saturating_sub(start.elapsed()), file) {
            Some(Ok(file)) if is_still(&file, &path) => return Ok(Lock { file, path }),
            // Its last holder removed the file: the next one is another.
            Some(Ok(_)) => {}
            Some(Err(errno)) => return Err(failed(errno.into())),
            None => {
                let waited = start.elapsed();
                return Err(LockError::Held { path, waited });
            }
        }
    }
}

/// The lock on the file, if it is to be had in that time. A thread of its own waits, for nothing else ends a wait in
/// the kernel; one that has waited in vain ends with the process, or gives the lock back at once.
fn within(patience: Duration, file: File) -> Option<Result<Flock<File>, Errno>> {
    let start = Instant::now();
    let file = match at_once(file) {
        Err(file) => file,
        Ok(ended) => return Some(ended),
    };
    if patience.is_zero() {
        return None;
    }
    let (give, given) = mpsc::sync_channel::<File>(1);
    let (got, gets) = mpsc::sync_channel(0);
    let waits = move || {
        let Ok(mut file) = given.recv() else {
            return;
        };
        loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Err((again, Errno::EINTR)) => file = again,
                // Nobody may want it any more.
                ended => return drop(got.send(ended.map_err(|(_, errno)| errno))),
            }
        }
    };
    if let Err(error) = thread::Builder::new().spawn(waits) {
        debug!("no thread to wait for a lock: {error}");
        return by_asking(patience.saturating_sub(start.elapsed()), file);
    }
    // It waits for nothing else.
    let _ = give.send(file);
    gets.recv_timeout(patience).ok()
}

/// The lock, or what is wrong with it, or the file if somebody else has it.
fn at_once(file: File) -> Result<Result<Flock<File>, Errno>, File> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => Err(file),
        ended => Ok(ended.map_err(|(_, errno)| errno)),
    }
}

/// The same where no thread is to be had, as in a control group that is full: others may be first again and again.
fn by_asking(patience: Duration, mut file: File) -> Option<Result<Flock<File>, Errno>> {
    let start = Instant::now();
    loop {
        file = match at_once(file) {
            Err(file) => file,
            Ok(ended) => return Some(ended),
        };
        if start.elapsed() >= patience {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
}

/// Is the file that is locked the one that others will find under its name?
fn is_still(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(held), Ok(found)) => (held.dev(), held.ino()) == (found.dev(), found.ino()),
        _ => false,
    }
}

/// The directory, made if need be; nobody else may be able to put files there.
fn secure(directory: &Path) -> Result<(), LockError> {
    let open = |error| LockError::Open {
        path: directory.to_owned(),
        error,
    };
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(open(error)),
    }
    let found = directory.symlink_metadata().map_err(open)?;
    let ours = found.uid() == nix::unistd::geteuid().as_raw();
    match found.is_dir() && ours && found.mode() & 0o022 == 0 {
        true => Ok(()),
        false => Err(LockError::Insecure(directory.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::folder::Folder;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn file(folder: &Folder) -> PathBuf {
        folder.path().join("x.lock")
    }

    /// Waits until so many wait for the lock of this file inside the kernel.
    fn until_waiting(path: &Path, wanted: usize) {
        let inode = format!(":{} ", path.metadata().expect("a file").ino());
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(60) {
            let locks = std::fs::read_to_string("/proc/locks").expect("the kernel's locks");
            let waits = |line: &&str| line.contains("->") && line.contains(&inode);
            if locks.lines().filter(waits).count() == wanted {
                return;
            }
            thread::yield_now();
        }
        panic!("{wanted} do not wait for {}", path.display());
    }

    #[test]
    fn whoever_came_first_is_served_first() {
        const WAITERS: usize = 24;
        let folder = Folder::of("turns");
        let path = file(&folder);
        let held = wait(path.clone(), PATIENCE).expect("a free lock");
        let (served, order) = mpsc::channel();
        thread::scope(|scope| {
            for n in 0..WAITERS {
                let (own, served) = (path.clone(), served.clone());
                scope.spawn(move || {
                    let lock = wait(own, PATIENCE).expect("the lock");
                    served.send(n).expect("somebody who counts");
                    // Nobody new comes while it passes on.
                    thread::sleep(Duration::from_millis(2));
                    drop(lock);
                });
                until_waiting(&path, n + 1);
            }
            drop(held);
        });
        let order: Vec<usize> = order.try_iter().collect();
        assert_eq!(order, (0..WAITERS).collect::<Vec<_>>());
    }

    #[test]
    fn who_waits_in_vain_says_so_and_does_not_keep_the_lock() {
        let folder = Folder::of("in-vain");
        let path = file(&folder);
        let held = wait(path.clone(), PATIENCE).expect("a free lock");
        let error = wait(path.clone(), Duration::from_millis(20)).expect_err("held");
        assert!(matches!(error, LockError::Held { .. }), "{error}");
        until_waiting(&path, 1);
        drop(held);
        // The one in vain has had it for a moment.
        wait(path.clone(), PATIENCE).expect("the lock");
    }

    #[test]
    fn where_no_thread_is_to_be_had_it_is_asked_for() {
        let folder = Folder::of("asked");
        let path = file(&folder);
        let held = wait(path.clone(), PATIENCE).expect("a free lock");
        let again = || open(&path).expect("the file");
        assert!(by_asking(Duration::from_millis(20), again()).is_none());
        thread::scope(|scope| {
            let asks = scope.spawn(|| by_asking(PATIENCE, again()));
            drop(held);
            let got = asks.join().expect("no panic").expect("in time");
            got.expect("the lock");
        });
    }

    #[test]
    fn a_file_that_its_holder_removes_is_no_lock_any_more() {
        let folder = Folder::of("gone");
        let path = file(&folder);
        let held = wait(path.clone(), PATIENCE).expect("a free lock");
        thread::scope(|scope| {
            let waiter = scope.spawn(|| wait(path.clone(), PATIENCE).expect("the lock"));
            until_waiting(&path, 1);
            held.remove();
            let lock = waiter.join().expect("no panic");
            assert!(is_still(&lock.file, &path));
        });
    }

    #[test]
    fn what_one_holds_no_other_has() {
        let folder = Folder::of("held");
        let held = wait(file(&folder), PATIENCE).expect("free");
        let other = wait(file(&folder), Duration::ZERO);
        assert!(matches!(other, Err(LockError::Held { .. })), "{other:?}");
        assert!(try_at(file(&folder)).is_none());
        drop(held);
        let only = try_at(file(&folder)).expect("free again");
        assert!(try_at(file(&folder)).is_none());
        drop(only);
        wait(file(&folder), PATIENCE).expect("free in the end");
    }

    #[test]
    fn a_file_that_is_another_ones_is_not_removed() {
        let folder = Folder::of("removed");
        let old = wait(file(&folder), PATIENCE).expect("free");
        std::fs::remove_file(file(&folder)).expect("removed");
        let new = wait(file(&folder), PATIENCE).expect("another file");
        old.remove();
        assert!(try_at(file(&folder)).is_none(), "two hold the lock");
        new.remove();
        assert!(!file(&folder).exists());
    }

    #[test]
    fn what_somebody_has_asked_since_is_not_asked_again() {
        let folder = Folder::of("turn");
        let turn = |wanted| turn_at(file(&folder), wanted, PATIENCE).expect("free");
        let wanted = SystemTime::now();
        // The clock for files is late.
        thread::sleep(Duration::from_millis(50));
        let first = turn(wanted).expect("nobody has asked yet");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| turn(wanted).is_some());
            first.note().expect("noted");
            drop(first);
            let asks_again = waiting.join().expect("an end");
            assert!(!asks_again);
        });
        assert!(turn(SystemTime::now()).is_some(), "it was wanted later");
    }
}
