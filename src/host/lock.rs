//! One action at a time in a network namespace.
//!
//! Pacemaker starts many instances of a clone at once, and VIPs share base chains, memberships and the second lock, so
//! the lock is one for the namespace. It is an flock on a file that every network namespace has of its own and that root
//! alone can open, `/proc/sys/net/ipv4/tcp_fastopen_key` (net/ipv4/sysctl_net_ipv4.c: mode 0600), which is neither read
//! nor written here. So a stop needs no file system that is there, has room and can be written to; and nothing stays.
//! (Two mounts of /proc have two such files: who is in another container with the same network is not locked out.)

use crate::sys::alarm::Alarm;
use crate::sys::errno::passes;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is locked.
const FILE: &str = "/proc/sys/net/ipv4/tcp_fastopen_key";

/// The lock; it ends with the value, and with the process in any case.
#[derive(Debug)]
pub struct Lock {
    _file: Exclusive,
}

/// An open file with an flock, which ends with it.
#[derive(Debug)]
pub struct Exclusive(Option<Flock<File>>);

impl Deref for Exclusive {
    type Target = File;

    fn deref(&self) -> &File {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Exclusive {
    /// Nix panics where unlocking fails, and a signal is enough for that.
    fn drop(&mut self) {
        let mut locked = self.0.take();
        while let Some(file) = locked {
            locked = match file.unlock() {
                Err((again, Errno::EINTR)) => Some(again),
                Err((again, _)) => return std::mem::forget(again),
                Ok(_) => None,
            };
        }
    }
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file cannot be had.
    #[error("{path}, which is locked, cannot be opened: {error}")]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Another action took too long.
    #[error(
        "waited {} s for the lock, which other actions on this host's VIPs have had, one after the other or one for \
         long: 'fuser {path}' shows who has it or waits for it",
        waited.as_secs()
    )]
    Held {
        /// The file.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
}

impl LockError {
    /// Is it that something was lacking at that moment?
    pub fn passes(&self) -> bool {
        match self {
            LockError::Open { error, .. } => passes(error.raw_os_error()),
            LockError::Held { .. } => false,
        }
    }
}

/// Waits for the lock of this thread's network namespace, at most as long as `patience`.
///
/// # Errors
/// [`LockError::Held`] after that time; [`LockError::Open`] without `/proc` or root's rights.
pub fn lock(patience: Duration) -> Result<Lock, LockError> {
    lock_unless(patience, &|| false)
}

/// The same for one who gives up where it is no longer needed: that is asked whenever a signal comes.
pub(super) fn lock_unless(
    patience: Duration,
    is_spared: &dyn Fn() -> bool,
) -> Result<Lock, LockError> {
    let path = Path::new(FILE);
    let file = File::open(path).map_err(|error| failed(path, error))?;
    match within_unless(patience, file, is_spared) {
        Some(Ok(file)) => Ok(Lock { _file: file }),
        Some(Err(errno)) => Err(failed(path, errno.into())),
        None => Err(LockError::Held {
            path: path.to_owned(),
            waited: patience,
        }),
    }
}

fn failed(path: &Path, error: io::Error) -> LockError {
    LockError::Open {
        path: path.to_owned(),
        error,
    }
}

/// An flock on the file, if it is to be had in that time. First come, first served: whoever waits inside the kernel
/// stands in its queue, each one behind the other (fs/locks.c: `__locks_insert_block()`); only who comes in the moment
/// in which the lock passes on can be before somebody who waits.
pub fn within(patience: Duration, file: File) -> Option<Result<Exclusive, Errno>> {
    within_unless(patience, file, &|| false)
}

/// The same for one who may be spared the wait.
pub(super) fn within_unless(
    patience: Duration,
    file: File,
    is_spared: &dyn Fn() -> bool,
) -> Option<Result<Exclusive, Errno>> {
    let start = Instant::now();
    let file = match at_once(file) {
        Err(file) => file,
        Ok(ended) => return Some(ended),
    };
    if patience.is_zero() {
        return None;
    }
    let Ok(_alarm) = Alarm::after(patience) else {
        return by_asking(patience, file, is_spared);
    };
    let mut file = file;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusive) {
            Err((_, Errno::EINTR)) if start.elapsed() >= patience || is_spared() => return None,
            Err((again, Errno::EINTR)) => again,
            ended => return Some(exclusive(ended)),
        };
    }
}

/// The lock, or what is wrong with it, or the file if somebody else has it.
fn at_once(file: File) -> Result<Result<Exclusive, Errno>, File> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => Err(file),
        ended => Ok(exclusive(ended)),
    }
}

fn exclusive(locked: Result<Flock<File>, (File, Errno)>) -> Result<Exclusive, Errno> {
    let locked = locked.map_err(|(_, errno)| errno)?;
    Ok(Exclusive(Some(locked)))
}

/// The same where no timer is to be had: others may be first again and again.
fn by_asking(
    patience: Duration,
    mut file: File,
    is_spared: &dyn Fn() -> bool,
) -> Option<Result<Exclusive, Errno>> {
    let start = Instant::now();
    loop {
        file = match at_once(file) {
            Err(file) => file,
            Ok(ended) => return Some(ended),
        };
        if start.elapsed() >= patience || is_spared() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::folder::Folder;
    use std::sync::mpsc;
    use std::thread;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn file(folder: &Folder) -> File {
        let path = folder.path().join("x.lock");
        let options = File::options().create(true).append(true).open(path);
        options.expect("a file")
    }

    /// The lock, waited for for long.
    fn taken(folder: &Folder) -> Exclusive {
        let got = within(PATIENCE, file(folder)).expect("in time");
        got.expect("the lock")
    }

    /// Waits until so many wait for the lock of this file inside the kernel.
    fn until_waiting(folder: &Folder, wanted: usize) {
        use std::os::unix::fs::MetadataExt;
        let inode = format!(":{} ", file(folder).metadata().expect("a file").ino());
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(60) {
            let locks = std::fs::read_to_string("/proc/locks").expect("the kernel's locks");
            let waits = |line: &&str| line.contains("->") && line.contains(&inode);
            if locks.lines().filter(waits).count() == wanted {
                return;
            }
            thread::yield_now();
        }
        panic!("{wanted} never waited");
    }

    #[test]
    fn whoever_came_first_is_served_first() {
        const WAITERS: usize = 24;
        let folder = Folder::of("queue");
        let held = taken(&folder);
        let (served, order) = mpsc::channel();
        thread::scope(|scope| {
            for n in 0..WAITERS {
                let (folder, served) = (&folder, served.clone());
                scope.spawn(move || {
                    let lock = taken(folder);
                    served.send(n).expect("somebody who counts");
                    // Nobody new comes while it passes on.
                    thread::sleep(Duration::from_millis(2));
                    drop(lock);
                });
                until_waiting(folder, n + 1);
            }
            drop(held);
        });
        let order: Vec<usize> = order.try_iter().collect();
        assert_eq!(order, (0..WAITERS).collect::<Vec<_>>());
    }

    #[test]
    fn who_waits_in_vain_does_not_keep_the_lock() {
        let folder = Folder::of("in-vain");
        let held = taken(&folder);
        assert!(within(Duration::ZERO, file(&folder)).is_none());
        assert!(within(Duration::from_millis(20), file(&folder)).is_none());
        until_waiting(&folder, 0);
        drop(held);
        taken(&folder);
    }

    #[test]
    fn where_no_timer_is_to_be_had_it_is_asked_for() {
        let folder = Folder::of("asked");
        let held = taken(&folder);
        assert!(by_asking(Duration::from_millis(20), file(&folder), &|| false).is_none());
        thread::scope(|scope| {
            let asks = scope.spawn(|| by_asking(PATIENCE, file(&folder), &|| false));
            drop(held);
            let got = asks.join().expect("no panic").expect("in time");
            got.expect("the lock");
        });
    }
}
