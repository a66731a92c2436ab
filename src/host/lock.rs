//! One action at a time in a network namespace.
//!
//! Pacemaker starts many instances of a clone at once, and VIPs share base chains, memberships and
//! the second lock, so the lock is one for the namespace. A lock file is no state: a file whose meaning
//! is that somebody holds an flock on it, and at most when somebody did last.

use crate::model::ruleset::Ruleset;
use crate::sys::netns;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

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
    pub fn noted(&self) -> Option<SystemTime> {
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
        "'fuser {path}' shows which other action on this host's VIPs has held the lock for {} s",
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
    let path = path("sweeper").ok()?;
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
    wait(NET, patience)
}

/// The right to ask about a VIP what others want to know too, one after the other.
pub fn turn(vip: IpAddr, patience: Duration) -> Result<Lock, LockError> {
    wait(&format!("{TURN}-{vip}"), patience)
}

fn wait(what: &str, patience: Duration) -> Result<Lock, LockError> {
    let path = path(what)?;
    let failed = |error| LockError::Open {
        path: path.clone(),
        error,
    };
    let start = Instant::now();
    loop {
        let file = open(&path).map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) if is_still(&file, &path) => return Ok(Lock { file, path }),
            // Its last holder removed the file: the next one is another.
            Ok(_) => continue,
            Err((_, nix::errno::Errno::EWOULDBLOCK | nix::errno::Errno::EINTR)) => {}
            Err((_, errno)) => return Err(failed(errno.into())),
        }
        let waited = start.elapsed();
        if waited >= patience {
            return Err(LockError::Held { path, waited });
        }
        std::thread::sleep(pause_after(waited));
    }
}

/// How long to wait before asking again: a sixteenth of the wait so far. What takes a moment is not
/// prolonged, and many who wait for long do not keep the processor from the one who works: 64
/// starts at once on a slow machine never ended when all of them asked every 8 ms.
fn pause_after(waited: Duration) -> Duration {
    (waited / 16).clamp(Duration::from_millis(1), Duration::from_millis(64))
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

    #[test]
    fn who_waits_for_long_asks_seldom() {
        let pauses = [0, 10, 160, 1_000, 10_000].map(Duration::from_millis);
        let pauses = pauses.map(|waited| pause_after(waited).as_millis());
        assert_eq!(pauses, [1, 1, 10, 62, 64]);
    }
}
