//! Actions that wait for the lock and want the same but for the bucket: whoever has got the lock does it for all of
//! them, with one look and one transaction.
//!
//! Who waits makes a pipe in `/run/clusterip` whose name says what he wants, and holds an flock on it for as long as he
//! wants it: the request of one who was killed is none. Who has done what was requested writes an answer into the pipes,
//! which ends the wait for the lock: those who are served need not have it one after the other. Nothing hangs on it: where
//! there can be no such pipe, and where nobody answers, everybody does it for himself.

use super::lock::{Exclusive, Lock, LockError, lock_unless, within};
use super::turns::{END, files, folder, is_still};
use crate::sys::alarm::interrupted_by;
use crate::sys::netns;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::cell::OnceCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::debug;

/// What the names of the pipes begin with; the key, the bucket, the process and the network namespace follow. Other
/// versions look for it too.
const NAMED: &str = "wish-";
/// No answer is longer.
const LONGEST: usize = 64;

/// What is wanted: the same for all who may be served together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u8; 32]);

/// What was done for somebody who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Served {
    /// Did it change anything?
    pub changed: bool,
    /// May connections stay where they are: the bucket drains, or is adopted?
    pub stays: bool,
}

/// One's own request; it ends with the value, and with the process in any case.
#[derive(Debug)]
pub struct Request {
    pipe: Exclusive,
    path: PathBuf,
    /// What the names of all who want the same begin with.
    same: String,
    /// What the names of all requests in this network namespace end with.
    here: String,
    answer: OnceCell<Served>,
}

/// Somebody else's request.
#[derive(Debug)]
pub struct Other {
    pipe: File,
    /// The bucket.
    pub bucket: u16,
}

impl Request {
    /// Says that a bucket is wanted, or leaves it, where that cannot be said.
    pub fn tell(key: Key, bucket: u16) -> Option<Request> {
        let named = || Some((folder().ok()?.to_owned(), netns::current_id().ok()?));
        let (folder, id) = named()?;
        match Self::tell_in(&folder, id, key, bucket) {
            Ok(request) => Some(request),
            Err(error) => {
                debug!("nobody does it for us: {error}");
                None
            }
        }
    }

    fn tell_in(folder: &Path, id: u64, key: Key, bucket: u16) -> io::Result<Request> {
        let same = format!("{NAMED}{}-", blake3::Hash::from(key.0).to_hex());
        let here = format!("-{id}{END}");
        let name = format!("{same}{bucket}-{}{here}", std::process::id());
        // Whoever looks sees it when it is held.
        let (hidden, path) = (folder.join(format!(".{name}")), folder.join(name));
        // Of one who had this number before, and was killed.
        let _ = std::fs::remove_file(&hidden);
        mkfifo(&hidden, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let held = || {
            let pipe = open(&hidden)?;
            interrupted_by(&pipe)?;
            let held = within(Duration::ZERO, pipe).ok_or(io::ErrorKind::WouldBlock)??;
            std::fs::rename(&hidden, &path)?;
            Ok::<_, io::Error>(held)
        };
        let pipe = held().inspect_err(|_| {
            let _ = std::fs::remove_file(&hidden);
        })?;
        Ok(Request {
            pipe,
            path,
            same,
            here,
            answer: OnceCell::new(),
        })
    }

    /// What has been done for us.
    pub fn answer(&self) -> Option<Served> {
        if self.answer.get().is_none() && is_answered(&self.pipe) {
            // Who reads it wants nothing any more.
            let _ = std::fs::remove_file(&self.path);
            let mut line = [0; LONGEST];
            let length = (&*self.pipe).read(&mut line).ok()?;
            let first = line.get(..length)?.split(|byte| *byte == b'\n').next()?;
            let served = serde_json::from_slice(first).ok()?;
            let _ = self.answer.set(served);
        }
        self.answer.get().copied()
    }

    /// Waits for the lock, or for the answer.
    pub fn lock(&self, patience: Duration) -> Result<Lock, LockError> {
        lock_unless(patience, &|| self.answer().is_some())
    }

    /// Others who want the same, and are still there to want it.
    pub fn others(&self) -> Vec<Other> {
        let Some(folder) = self.path.parent() else {
            return Vec::new();
        };
        let theirs = files(folder).filter(|(name, path)| {
            name.starts_with(NAMED) && name.ends_with(&self.here) && *path != self.path
        });
        theirs
            .filter_map(|(name, path)| self.other(&name, &path))
            .collect()
    }

    fn other(&self, name: &str, path: &Path) -> Option<Other> {
        let pipe = open(path).ok()?;
        if let Some(nobodys) = within(Duration::ZERO, pipe.try_clone().ok()?) {
            if nobodys.is_ok_and(|pipe| is_still(&pipe, path)) {
                let _ = std::fs::remove_file(path);
            }
            return None;
        }
        let (bucket, _) = name.strip_prefix(&self.same)?.split_once('-')?;
        let bucket = bucket.parse().ok()?;
        let is_pipe = pipe.metadata().ok()?.file_type().is_fifo();
        (is_pipe && !is_answered(&pipe)).then_some(Other { pipe, bucket })
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // A pipe that stays is nobody's, and removed by the next one.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Other {
    /// Tells what was done. Who waits for the lock, or has it afterwards, finds it.
    pub fn tell(&self, served: Served) -> io::Result<()> {
        let line = serde_json::to_string(&served)? + "\n";
        (&self.pipe).write_all(line.as_bytes())
    }
}

/// For both directions, so that nothing waits for the other side.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    options.custom_flags(flags).open(path)
}

fn is_answered(pipe: &File) -> bool {
    let mut waits = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    poll(&mut waits, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::lock::within_unless;
    use crate::sys::folder::Folder;

    const KEY: Key = Key([7; 32]);
    const SERVED: Served = Served {
        changed: true,
        stays: false,
    };

    fn request(folder: &Folder, id: u64, key: Key, bucket: u16) -> Request {
        Request::tell_in(folder.path(), id, key, bucket).expect("a request")
    }

    fn buckets(request: &Request) -> Vec<u16> {
        let mut all: Vec<u16> = request.others().iter().map(|other| other.bucket).collect();
        all.sort();
        all
    }

    #[test]
    fn who_wants_the_same_in_the_same_namespace_is_found_and_answered() {
        let folder = Folder::of("requests");
        let own = request(&folder, 11, KEY, 0);
        let (second, third) = (request(&folder, 11, KEY, 1), request(&folder, 11, KEY, 2));
        let _else = [
            request(&folder, 11, Key([8; 32]), 3),
            request(&folder, 1, KEY, 4),
        ];
        assert_eq!(buckets(&own), [1, 2]);
        assert_eq!(second.answer(), None);
        for other in own.others().iter().filter(|other| other.bucket == 1) {
            other.tell(SERVED).expect("told");
        }
        assert_eq!((second.answer(), third.answer()), (Some(SERVED), None));
        // Who was served wants nothing any more.
        assert_eq!(buckets(&own), [2]);
        drop(third);
        assert!(buckets(&own).is_empty());
    }

    #[test]
    fn the_request_of_one_who_is_gone_is_none() {
        let folder = Folder::of("killed");
        let own = request(&folder, 11, KEY, 0);
        let mut killed = request(&folder, 11, KEY, 1);
        let path = std::mem::take(&mut killed.path);
        drop(killed);
        assert!(path.exists());
        assert!(buckets(&own).is_empty());
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_request_is_passed_over() {
        let folder = Folder::of("no-request");
        let own = request(&folder, 11, KEY, 0);
        // They are held, as requests are, but are no pipes, or say nothing.
        let held: Vec<_> = ["70000-1", "x-1", "1", "1-1"]
            .iter()
            .map(|rest| {
                let path = folder
                    .path()
                    .join(format!("{}{rest}{}", own.same, own.here));
                std::fs::write(&path, "").expect("a file");
                let file = within(Duration::ZERO, open(&path).expect("open"));
                (path, file.expect("free").expect("held"))
            })
            .collect();
        assert!(buckets(&own).is_empty());
        assert!(held.iter().all(|(path, _)| path.exists()));
        drop(held);
        // An answer that cannot be read is none.
        let other = request(&folder, 11, KEY, 1);
        (&*other.pipe).write_all(b"\x01\n").expect("written");
        assert_eq!(other.answer(), None);
    }

    #[test]
    fn an_answer_ends_the_wait_for_the_lock() {
        let folder = Folder::of("spared");
        let path = folder.path().join("x.lock");
        let file = || File::options().create(true).append(true).open(&path);
        let never = Duration::from_secs(600);
        let held = within(Duration::ZERO, file().expect("a file")).expect("free");
        let own = request(&folder, 11, KEY, 0);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                // The signal is for the thread that tells what it wants.
                let request = request(&folder, 11, KEY, 1);
                let lock = within_unless(never, file().expect("a file"), &|| {
                    request.answer().is_some()
                });
                (lock.is_none(), request.answer())
            });
            // A signal may come before the wait begins, so there is one after the other.
            let mut known = Vec::new();
            while !waits.is_finished() {
                known.extend(own.others());
                for other in &known {
                    other.tell(SERVED).expect("told");
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            let (spared, answer) = waits.join().expect("no panic");
            assert_eq!((spared, answer), (true, Some(SERVED)));
        });
        drop(held);
    }
}
