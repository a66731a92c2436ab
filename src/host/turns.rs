//! Whose turn it is to ask Pacemaker, and who sweeps: flocks on files in `/run/clusterip`.
//!
//! Nothing that answers packets hangs on them: where no such file can be had, nobody sweeps, and who drains is asked at
//! the next monitor. A file is no state: its meaning is that somebody holds an flock on it, and at most when somebody
//! did last.

use super::lock::{Exclusive, Lock, within};
use crate::model::ruleset::Ruleset;
use crate::sys::netns;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, set_permissions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Where the files are: on a tmpfs, writable for root only.
const DIRECTORY: &str = "/run/clusterip";
const MODE: u32 = 0o700;
/// What the names of the files begin and end with.
const TURN: &str = "turn-";
const SWEEPER: &str = "sweeper-";
pub(super) const END: &str = ".lock";
/// A file that nobody has written to for so long, and that nobody holds, is of no use: its namespace may be gone.
const OLD: Duration = Duration::from_secs(3600);

/// A turn, or the right to sweep; it ends with the value, and with the process in any case.
#[derive(Debug)]
pub struct Turn {
    file: Exclusive,
    path: PathBuf,
}

/// Why there is no turn.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The file cannot be had.
    #[error("the file {path} cannot be had: {error}")]
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
    /// Others took too long.
    #[error("{} s were not enough for others, who hold {path}", waited.as_secs())]
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

impl Turn {
    /// Notes that what the turn is for is done from now on.
    pub fn note(&self) -> io::Result<()> {
        self.file.write_all_at(b"\n", 0)
    }

    /// Since when it was last done: whoever wanted it before that has it. By the kernel's clock for files,
    /// which is some milliseconds late; a time that has not come yet is from before somebody set the clock.
    fn noted(&self) -> Option<SystemTime> {
        let metadata = self.file.metadata().ok()?;
        let noted = metadata.modified().ok().filter(|_| metadata.len() > 0)?;
        (noted <= SystemTime::now()).then_some(noted)
    }

    /// Removes the file as well, if it is still the one that others find. Whoever waits for it notices.
    pub fn remove(self) {
        if is_still(&self.file, &self.path) {
            // A file that stays is no harm.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The right to be the only sweeper of this network namespace, if there is none.
pub fn try_sweeper() -> Option<Turn> {
    remove_old(Path::new(DIRECTORY));
    try_at(path(SWEEPER).ok()?)
}

/// The right to ask about a VIP what others want to know too, one after the other; `None` if somebody has
/// asked since it was wanted.
pub fn turn(
    vip: IpAddr,
    wanted: SystemTime,
    patience: Duration,
) -> Result<Option<Turn>, TurnError> {
    turn_at(path(&format!("{TURN}{vip}-"))?, wanted, patience)
}

/// With the last VIP the files of the turns go. The caller holds the lock, which ends.
pub fn end(lock: Lock, rules: &Ruleset) {
    if let (true, Ok(id)) = (rules.is_empty(), netns::current_id()) {
        let own = format!("-{id}{END}");
        for (name, path) in files(Path::new(DIRECTORY)) {
            if name.starts_with(TURN) && name.ends_with(&own) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
    drop(lock);
}

/// Removes what namespaces that are gone have left, and versions that locked a file of their own.
fn remove_old(directory: &Path) {
    for (name, path) in files(directory) {
        let ours = name.ends_with(END) && !name.starts_with('.');
        let written = path.symlink_metadata().and_then(|found| found.modified());
        let age = written.map(|written| match written.elapsed() {
            Ok(age) => age,
            Err(error) => error.duration(),
        });
        if ours && age.is_ok_and(|age| age > OLD) {
            if let Some(turn) = try_at(path) {
                turn.remove();
            }
        }
    }
}

pub(super) fn files(directory: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
}

fn try_at(path: PathBuf) -> Option<Turn> {
    let file = within(Duration::ZERO, open(&path).ok()?)?.ok()?;
    is_still(&file, &path).then_some(Turn { file, path })
}

/// The directory, which is root's alone.
pub(super) fn folder() -> Result<&'static Path, TurnError> {
    let directory = Path::new(DIRECTORY);
    secure(directory, MODE)?;
    Ok(directory)
}

/// The path of a file of this network namespace.
fn path(what: &str) -> Result<PathBuf, TurnError> {
    Ok(folder()?.join(format!("{what}{}{END}", netns::current_id()?)))
}

fn turn_at(
    path: PathBuf,
    wanted: SystemTime,
    patience: Duration,
) -> Result<Option<Turn>, TurnError> {
    let turn = wait(path, patience)?;
    let is_done = turn.noted().is_some_and(|noted| noted > wanted);
    Ok((!is_done).then_some(turn))
}

fn wait(path: PathBuf, patience: Duration) -> Result<Turn, TurnError> {
    let failed = |error| TurnError::Open {
        path: path.clone(),
        error,
    };
    let start = Instant::now();
    loop {
        let file = open(&path).map_err(failed)?;
        match within(patience.saturating_sub(start.elapsed()), file) {
            Some(Ok(file)) if is_still(&file, &path) => return Ok(Turn { file, path }),
            // Its last holder removed the file: the next one is another.
            Some(Ok(_)) => {}
            Some(Err(errno)) => return Err(failed(errno.into())),
            None => {
                let waited = start.elapsed();
                return Err(TurnError::Held { path, waited });
            }
        }
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
pub(super) fn is_still(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(held), Ok(found)) => (held.dev(), held.ino()) == (found.dev(), found.ino()),
        _ => false,
    }
}

/// A directory, made with this mode if need be; nobody else may be able to put files there.
///
/// # Errors
/// It cannot be made, or is no such directory.
pub fn secure(directory: &Path, mode: u32) -> Result<(), TurnError> {
    let open = |error| TurnError::Open {
        path: directory.to_owned(),
        error,
    };
    match DirBuilder::new().mode(mode).create(directory) {
        // Whoever started this process may have kept some of the mode from it (umask(2)).
        Ok(()) => set_permissions(directory, Permissions::from_mode(mode)).map_err(open)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(open(error)),
    }
    let found = directory.symlink_metadata().map_err(open)?;
    let ours = found.uid() == nix::unistd::geteuid().as_raw();
    match found.is_dir() && ours && found.mode() & 0o022 == 0 {
        true => Ok(()),
        false => Err(TurnError::Insecure(directory.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::folder::Folder;
    use std::thread;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn file(folder: &Folder) -> PathBuf {
        folder.path().join("x.lock")
    }

    #[test]
    fn a_file_that_its_holder_removes_is_nobodys_turn_any_more() {
        let folder = Folder::of("gone");
        let path = file(&folder);
        let held = wait(path.clone(), PATIENCE).expect("free");
        thread::scope(|scope| {
            let waiter = scope.spawn(|| wait(path.clone(), PATIENCE).expect("the turn"));
            held.remove();
            let turn = waiter.join().expect("no panic");
            assert!(is_still(&turn.file, &path));
        });
    }

    #[test]
    fn what_one_holds_no_other_has() {
        let folder = Folder::of("held");
        let held = wait(file(&folder), PATIENCE).expect("free");
        let other = wait(file(&folder), Duration::ZERO);
        assert!(matches!(other, Err(TurnError::Held { .. })), "{other:?}");
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
        assert!(try_at(file(&folder)).is_none(), "two have it");
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

    #[test]
    fn what_was_noted_in_the_future_is_asked_again() {
        let folder = Folder::of("future");
        let first = wait(file(&folder), PATIENCE).expect("free");
        first.note().expect("noted");
        let future = SystemTime::now() + Duration::from_secs(300);
        first.file.set_modified(future).expect("set");
        drop(first);
        let wanted = SystemTime::now();
        let turn = turn_at(file(&folder), wanted, PATIENCE).expect("free");
        assert!(turn.is_some());
    }

    #[test]
    fn a_folder_in_which_others_can_put_files_is_refused() {
        let folder = Folder::of("insecure");
        let own = folder.path().join("own");
        secure(&own, MODE).expect("made");
        assert_eq!(own.metadata().expect("made").mode() & 0o777, 0o700);
        let set = |mode| {
            set_permissions(&own, Permissions::from_mode(mode)).expect("set");
            secure(&own, MODE)
        };
        assert!(set(0o755).is_ok());
        for mode in [0o777, 0o775, 0o757] {
            let refused = set(mode);
            assert!(matches!(refused, Err(TurnError::Insecure(_))), "{mode:o}");
        }
        let (link, file) = (folder.path().join("link"), folder.path().join("file"));
        set(0o700).expect("its owner's alone");
        std::os::unix::fs::symlink(&own, &link).expect("made");
        std::fs::write(&file, "").expect("made");
        for other in [link, file] {
            assert!(matches!(secure(&other, MODE), Err(TurnError::Insecure(_))));
        }
    }

    #[test]
    fn what_is_old_and_held_by_nobody_goes() {
        let folder = Folder::of("old");
        let made = |name: &str, age_s: i64| {
            let turn = wait(folder.path().join(name), PATIENCE).expect("free");
            let age = Duration::from_secs(age_s.unsigned_abs());
            let then = match age_s < 0 {
                true => SystemTime::now() + age,
                false => SystemTime::now() - age,
            };
            turn.file.set_modified(then).expect("set");
            turn
        };
        let names = [
            "turn-a-1.lock",
            "sweeper-1.lock",
            "net-1.lock",
            "turn-b-2.lock",
            "other",
        ];
        let _held = made(names[0], 7200);
        for (name, age_s) in [
            (names[1], 7200),
            (names[2], -7200),
            (names[3], 60),
            (names[4], 7200),
        ] {
            made(name, age_s);
        }
        remove_old(folder.path());
        let left: Vec<bool> = names
            .iter()
            .map(|name| folder.path().join(name).exists())
            .collect();
        assert_eq!(left, [true, false, false, true, true]);
    }
}
