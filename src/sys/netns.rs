//! Network namespaces: entering a named one or a new one, and telling them apart.
//!
//! Only the calling thread changes its namespace. Sockets opened before stay
//! in the old one; `/proc/thread-self/net` and `/proc/sys/net` show the new
//! one, `/sys/class/net` still the old one (it belongs to the mount).

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use thiserror::Error;

use super::errno;
use crate::model::untrusted::Untrusted;

/// Where `ip netns add` keeps its names. The second is the first nearly
/// everywhere; where it is not, iproute2 uses the second.
const FOLDERS: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// The present thread's namespace.
const OWN: &str = "/proc/thread-self/ns/net";
/// That of the first process.
const FIRST: &str = "/proc/1/ns/net";

/// A namespace that could not be entered or identified.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NetnsError {
    /// No file name at all.
    #[error("'{name}' cannot be the name of a network namespace")]
    BadName {
        /// The name.
        name: Untrusted,
    },
    /// No namespace of this name.
    #[error(
        "there is no network namespace named '{name}' (looked in {}); 'ip netns' shows those that \
         exist",
        FOLDERS.join(" and ")
    )]
    Missing {
        /// The name.
        name: Untrusted,
    },
    /// It is there and cannot be entered.
    #[error("cannot enter network namespace '{name}': {}", errno::io_words(.source))]
    Enter {
        /// The name.
        name: Untrusted,
        /// The system call's error: EPERM without CAP_SYS_ADMIN, EINVAL where
        /// the file is no network namespace (any more).
        source: io::Error,
    },
    /// The one that was left cannot be entered again.
    #[error("cannot return to the network namespace of before: {}", errno::io_words(.source))]
    Return {
        /// The system call's error.
        source: io::Error,
    },
    /// There is none to be had.
    #[error("cannot make a network namespace: {}", errno::io_words(.source))]
    New {
        /// The system call's error.
        source: io::Error,
    },
    /// A namespace cannot be identified: no `/proc`, or another's file without the right to it.
    #[error("cannot identify the network namespace from {path}: {}", errno::io_words(.source))]
    Identify {
        /// The file.
        path: &'static str,
        /// The system call's error.
        source: io::Error,
    },
}

impl NetnsError {
    /// Is it that there is no such namespace, or none any more?
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match self {
            Self::BadName { .. } | Self::Missing { .. } => true,
            // A file that outlived its namespace.
            Self::Enter { source, .. } => source.raw_os_error() == Some(libc::EINVAL),
            Self::Return { .. } | Self::New { .. } | Self::Identify { .. } => false,
        }
    }

    /// The kernel's error number (positive), where there was one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Enter { source, .. }
            | Self::Return { source }
            | Self::New { source }
            | Self::Identify { source, .. } => source.raw_os_error(),
            Self::Missing { .. } => Some(libc::ENOENT),
            Self::BadName { .. } => None,
        }
    }
}

/// The namespace that a thread has left.
#[derive(Debug)]
pub struct Home(File);

impl Home {
    /// Does something there, in a thread that ends with it: a program that is started, for instance, is
    /// started there.
    ///
    /// # Errors
    /// [`NetnsError::Return`] (EPERM without CAP_SYS_ADMIN), or without a thread.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        let failed = |source| NetnsError::Return { source };
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
                Ok(work())
            });
            let ended = thread.join();
            ended.unwrap_or_else(|_| Err(io::Error::other("its thread ended early")))
        })
        .map_err(failed)
    }
}

impl AsRawFd for Home {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Moves the calling thread into a namespace that `ip netns add` has made, and
/// returns the one that it leaves. Needs CAP_SYS_ADMIN. A program enters once,
/// before it opens any socket and while it has one thread.
///
/// # Errors
/// [`NetnsError::BadName`] (empty, `.`, `..`, with `/` or a zero byte),
/// [`NetnsError::Missing`], [`NetnsError::Enter`], [`NetnsError::Identify`].
pub fn enter(name: &str) -> Result<Home, NetnsError> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        return Err(NetnsError::BadName { name: name.into() });
    }
    let failed = |source| NetnsError::Enter {
        name: name.into(),
        source,
    };
    let home = File::open(OWN).map_err(|source| NetnsError::Identify { path: OWN, source })?;
    for folder in FOLDERS {
        match File::open(Path::new(folder).join(name)) {
            Ok(file) => {
                setns(file, CloneFlags::CLONE_NEWNET).map_err(|e| failed(e.into()))?;
                return Ok(Home(home));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(NetnsError::Missing { name: name.into() })
}

/// Moves the calling thread into a network namespace of its own, which ends with the thread and the
/// sockets that it opens there. Needs CAP_SYS_ADMIN.
///
/// # Errors
/// [`NetnsError::New`]: EPERM without the capability, ENOSPC where there are too many of them
/// (`user.max_net_namespaces`).
pub fn new() -> Result<(), NetnsError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| NetnsError::New {
        source: errno.into(),
    })
}

/// Is the calling thread in the namespace of the first process, in which the system's services are?
///
/// # Errors
/// [`NetnsError::Identify`] without `/proc`, or without the right to look at that process.
pub fn is_first() -> Result<bool, NetnsError> {
    Ok(id_of(FIRST)? == current_id()?)
}

/// The number of the calling thread's namespace: the inode in nsfs, unique on
/// this machine among the namespaces that live (nsfs(5)); a later one may get
/// the number of one that is gone.
///
/// # Errors
/// [`NetnsError::Identify`] without `/proc`.
pub fn current_id() -> Result<u64, NetnsError> {
    id_of(OWN)
}

fn id_of(path: &'static str) -> Result<u64, NetnsError> {
    fs::metadata(path)
        .map(|meta| meta.ino())
        .map_err(|source| NetnsError::Identify { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be() {
        for name in ["", ".", "..", "../../proc/1/ns/net", "a/b", "a\0"] {
            assert!(
                matches!(enter(name), Err(NetnsError::BadName { .. })),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_missing_one_is_named() {
        let error = enter("no-such-namespace-here").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("there is no network namespace named 'no-such-namespace-here'")
        );
        assert_eq!(error.errno(), Some(libc::ENOENT));
    }

    #[test]
    fn the_file_that_cannot_be_read_is_named() {
        let error = id_of("/proc/1/ns/no-such-file").unwrap_err().to_string();
        assert!(error.contains("from /proc/1/ns/no-such-file: "), "{error}");
    }

    #[test]
    fn the_own_one_keeps_its_number() {
        assert_eq!(current_id().unwrap(), current_id().unwrap());
    }
}
