//! The socket's file: in a folder that only root can write to, open for root and one group, and one daemon's alone.
//!
//! The file is put in its place when it listens already, by renaming: whoever comes finds the old one or the new one, and
//! never none. It stays when the daemon is killed, for agents go by it: where it is a daemon is to be.

use crate::host::lock::{Exclusive, within};
use crate::host::turns::{TurnError, secure};
use crate::talk::SOCKET;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use nix::unistd::{Gid, Group, chown};
use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::warn;

/// Who is in this group may look.
pub const GROUP: &str = "clusterip";
/// The folder's mode, where systemd has not made it, and the socket's.
const FOLDER_MODE: u32 = 0o755;
const MODE: u32 = 0o660;
/// So many may wait until they are let in.
const QUEUE: i32 = 128;

/// The daemon's own socket, and the right to be the only one.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    _lock: Exclusive,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Its folder will not do.
    #[error(transparent)]
    Folder(#[from] TurnError),
    /// Another daemon runs.
    #[error("clusteripd runs already: it holds {0}")]
    Runs(PathBuf),
    /// Something else is in its place.
    #[error("{0} is no socket; remove it")]
    Occupied(PathBuf),
    /// It cannot be had.
    #[error("the socket {path} cannot be had: {error}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

impl Socket {
    /// Listens, if no other daemon does.
    ///
    /// # Errors
    /// Why it does not.
    pub fn open() -> Result<Socket, SocketError> {
        let group = Group::from_name(GROUP).unwrap_or_else(|errno| {
            warn!("whether there is a group {GROUP}, who could look, is not known: {errno}");
            None
        });
        Socket::open_at(Path::new(SOCKET), group.map(|group| group.gid))
    }

    pub(super) fn open_at(path: &Path, group: Option<Gid>) -> Result<Socket, SocketError> {
        let failed = |error: io::Error| SocketError::Failed {
            path: path.to_owned(),
            error,
        };
        if let Some(folder) = path.parent() {
            secure(folder, FOLDER_MODE)?;
        }
        let lock = only_one(&path.with_extension("lock"))?;
        let found = path.symlink_metadata();
        if found.is_ok_and(|found| !found.file_type().is_socket()) {
            return Err(SocketError::Occupied(path.to_owned()));
        }
        // Somebody may listen without the lock: who has replaced it.
        if somebody_listens(path).map_err(|errno| failed(errno.into()))? {
            return Err(SocketError::Runs(path.to_owned()));
        }
        let listener = put(path, group).map_err(failed)?;
        Ok(Socket {
            listener,
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Nobody listens from now on; after that time the file is removed, by which agents know that no daemon is to be here.
    /// In between they wait, as they do where one has died: this daemon may have been offered something.
    pub fn retire(self, patience: Duration) {
        let Socket {
            listener,
            path,
            _lock,
        } = self;
        drop(listener);
        std::thread::sleep(patience);
        if let Err(error) = std::fs::remove_file(&path) {
            warn!("{} stays: {error}", path.display());
        }
    }
}

/// The lock that one daemon has.
fn only_one(path: &Path) -> Result<Exclusive, SocketError> {
    let failed = |error| SocketError::Failed {
        path: path.to_owned(),
        error,
    };
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(false).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    let file = options.open(path).map_err(failed)?;
    match within(Duration::ZERO, file) {
        Some(Ok(lock)) => Ok(lock),
        Some(Err(errno)) => Err(failed(errno.into())),
        None => Err(SocketError::Runs(path.to_owned())),
    }
}

fn a_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

fn somebody_listens(path: &Path) -> nix::Result<bool> {
    let (fd, address) = (a_socket()?, UnixAddr::new(path)?);
    match connect(fd.as_raw_fd(), &address) {
        Ok(()) | Err(Errno::EAGAIN) => Ok(true),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// A socket that listens, under this name.
fn put(path: &Path, group: Option<Gid>) -> io::Result<UnixListener> {
    let hidden = path.with_extension("new");
    // Of a daemon that was killed.
    match std::fs::remove_file(&hidden) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let fd = a_socket()?;
    bind(fd.as_raw_fd(), &UnixAddr::new(&hidden)?)?;
    let put = || {
        std::fs::set_permissions(&hidden, Permissions::from_mode(MODE))?;
        if let Some(group) = group {
            chown(&hidden, None, Some(group))?;
        }
        listen(&fd, Backlog::new(QUEUE)?)?;
        std::fs::rename(&hidden, path)
    };
    put().inspect_err(|_| {
        let _ = std::fs::remove_file(&hidden);
    })?;
    Ok(UnixListener::from(fd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::folder::Folder;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    fn path(folder: &Folder) -> PathBuf {
        folder.path().join("run").join("socket")
    }

    fn open(folder: &Folder) -> Result<Socket, SocketError> {
        Socket::open_at(&path(folder), None)
    }

    #[test]
    fn the_socket_is_for_its_owner_and_the_group_alone() {
        let folder = Folder::of("socket-mode");
        let group = nix::unistd::getegid();
        let _socket = Socket::open_at(&path(&folder), Some(group)).expect("a socket");
        let found = path(&folder).metadata().expect("there");
        assert!(found.file_type().is_socket());
        assert_eq!(found.mode() & 0o777, 0o660);
        assert_eq!(found.gid(), group.as_raw());
        let above = folder.path().join("run").metadata().expect("there");
        assert_eq!(above.mode() & 0o777, 0o755);
        assert!(UnixStream::connect(path(&folder)).is_ok());
    }

    #[test]
    fn there_is_one_daemon() {
        let folder = Folder::of("socket-one");
        let first = open(&folder).expect("the first");
        assert!(matches!(open(&folder), Err(SocketError::Runs(_))));
        drop(first);
        open(&folder).expect("the next one");
        // Who listens without the lock counts too.
        std::fs::remove_file(path(&folder)).expect("removed");
        let other = UnixListener::bind(path(&folder)).expect("bound");
        assert!(matches!(open(&folder), Err(SocketError::Runs(_))));
        drop(other);
        open(&folder).expect("nobody listens there any more");
    }

    #[test]
    fn a_file_of_one_who_was_killed_is_replaced_and_one_of_somebody_else_is_not() {
        let folder = Folder::of("socket-stale");
        drop(open(&folder).expect("the first"));
        assert!(path(&folder).exists());
        let left = path(&folder).with_extension("new");
        drop(UnixListener::bind(&left).expect("bound"));
        let second = open(&folder).expect("the second");
        assert!(!left.exists());
        assert!(UnixStream::connect(path(&folder)).is_ok());
        second.retire(Duration::ZERO);
        assert!(!path(&folder).exists());
        std::fs::write(path(&folder), "precious").expect("written");
        assert!(matches!(open(&folder), Err(SocketError::Occupied(_))));
        assert_eq!(
            std::fs::read_to_string(path(&folder)).expect("there"),
            "precious"
        );
    }

    #[test]
    fn a_folder_in_which_others_can_put_files_is_refused() {
        let folder = Folder::of("socket-insecure");
        let above = folder.path().join("run");
        std::os::unix::fs::symlink(folder.path(), &above).expect("made");
        assert!(matches!(open(&folder), Err(SocketError::Folder(_))));
    }
}
