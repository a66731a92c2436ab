//! Actions that wait for the lock and want the same but for the bucket: whoever has got the lock does it for all of
//! them, with one look and one transaction.
//!
//! Who waits says what he wants in a file in `/run/clusterip`, and holds an flock on it for as long as he wants it: the
//! wish of one who was killed is none. Who has fulfilled wishes answers into their files before the lock passes on.
//! Nothing hangs on it: where there can be no such file, and where nobody answers, everybody does it for himself.

use super::lock::{Exclusive, within};
use super::turns::{END, files, folder, is_still};
use crate::sys::netns;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::debug;

/// What the names of the files begin with.
const WISH: &str = "wish-";
/// No file is longer: a key has 64 bytes, an answer less than 50.
const LONGEST: u64 = 256;

/// What is wanted: the same for all who may be served together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u8; 32]);

/// A bucket of the key's, for which an action waits.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Wanted {
    key: String,
    bucket: u16,
}

/// What was done for somebody who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Served {
    /// Did it change anything?
    pub changed: bool,
    /// May connections stay where they are: the bucket drains, or is adopted?
    pub stays: bool,
}

/// One's own wish; it ends with the value, and with the process in any case.
#[derive(Debug)]
pub struct Wish {
    file: Exclusive,
    path: PathBuf,
    /// As it is written.
    key: String,
}

/// Somebody else's wish.
#[derive(Debug)]
pub struct Other {
    file: File,
    /// The bucket.
    pub bucket: u16,
}

impl Wish {
    /// Says that a bucket is wanted, or leaves it, where that cannot be said.
    pub fn tell(key: Key, bucket: u16) -> Option<Wish> {
        let named = || Some((folder().ok()?.to_owned(), netns::current_id().ok()?));
        let (folder, id) = named()?;
        match Self::tell_in(&folder, id, key, bucket) {
            Ok(wish) => Some(wish),
            Err(error) => {
                debug!("nobody does it for us: {error}");
                None
            }
        }
    }

    fn tell_in(folder: &Path, id: u64, key: Key, bucket: u16) -> io::Result<Wish> {
        let name = format!("{WISH}{}-{bucket}-{id}{END}", std::process::id());
        // Whoever looks sees it when it is whole and held.
        let (hidden, path) = (folder.join(format!(".{name}")), folder.join(name));
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&hidden)?;
        let held = within(Duration::ZERO, file).ok_or(io::ErrorKind::WouldBlock)?;
        let wish = Wish {
            file: held.map_err(io::Error::from)?,
            path,
            key: blake3::Hash::from(key.0).to_hex().to_string(),
        };
        let wanted = Wanted {
            key: wish.key.clone(),
            bucket,
        };
        let line = serde_json::to_string(&wanted)? + "\n";
        wish.file.write_all_at(line.as_bytes(), 0)?;
        std::fs::rename(&hidden, &wish.path)?;
        Ok(wish)
    }

    /// What has been done for us.
    pub fn answer(&self) -> Option<Served> {
        let text = text_of(&self.file)?;
        serde_json::from_str(text.lines().nth(1)?).ok()
    }

    /// Others who want the same, and are still there to want it.
    pub fn others(&self) -> Vec<Other> {
        let Some((folder, own)) = self.path.parent().zip(self.path.file_name()) else {
            return Vec::new();
        };
        let end = own.to_str().and_then(|own| own.rsplit_once('-'));
        let Some((_, end)) = end else {
            return Vec::new();
        };
        let theirs = files(folder).filter(|(name, path)| {
            name.starts_with(WISH)
                && name
                    .rsplit_once('-')
                    .is_some_and(|(_, theirs)| theirs == end)
                && *path != self.path
        });
        theirs.filter_map(|(_, path)| self.other(&path)).collect()
    }

    fn other(&self, path: &Path) -> Option<Other> {
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
            options.custom_flags(flags).open(path).ok()
        };
        if let Some(nobodys) = within(Duration::ZERO, open()?) {
            if nobodys.is_ok_and(|file| is_still(&file, path)) {
                let _ = std::fs::remove_file(path);
            }
            return None;
        }
        let file = open()?;
        let text = text_of(&file)?;
        let mut lines = text.lines();
        let wanted: Wanted = serde_json::from_str(lines.next()?).ok()?;
        let bucket = wanted.bucket;
        (wanted.key == self.key && lines.next().is_none()).then_some(Other { file, bucket })
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        // A file that stays is nobody's, and removed by the next one.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Other {
    /// Tells what was done. Who has the lock afterwards finds it.
    pub fn tell(&self, served: Served) -> io::Result<()> {
        let line = serde_json::to_string(&served)? + "\n";
        let at = self.file.metadata()?.len();
        self.file.write_all_at(line.as_bytes(), at)
    }
}

fn text_of(file: &File) -> Option<String> {
    let mut bytes = vec![0; usize::try_from(LONGEST).ok()?];
    let length = file.read_at(&mut bytes, 0).ok()?;
    let mut text = String::new();
    bytes.get(..length)?.read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::folder::Folder;

    const KEY: Key = Key([7; 32]);
    const SERVED: Served = Served {
        changed: true,
        stays: false,
    };

    fn wish(folder: &Folder, id: u64, key: Key, bucket: u16) -> Wish {
        Wish::tell_in(folder.path(), id, key, bucket).expect("a wish")
    }

    fn buckets(wish: &Wish) -> Vec<u16> {
        let mut all: Vec<u16> = wish.others().iter().map(|other| other.bucket).collect();
        all.sort();
        all
    }

    #[test]
    fn who_wants_the_same_in_the_same_namespace_is_found_and_answered() {
        let folder = Folder::of("wishes");
        let own = wish(&folder, 11, KEY, 0);
        let (second, third) = (wish(&folder, 11, KEY, 1), wish(&folder, 11, KEY, 2));
        let _else = [wish(&folder, 11, Key([8; 32]), 3), wish(&folder, 1, KEY, 4)];
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
    fn the_wish_of_one_who_is_gone_is_none() {
        let folder = Folder::of("killed");
        let own = wish(&folder, 11, KEY, 0);
        let mut killed = wish(&folder, 11, KEY, 1);
        let path = std::mem::take(&mut killed.path);
        drop(killed);
        assert!(path.exists());
        assert!(buckets(&own).is_empty());
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_wish_is_passed_over() {
        let folder = Folder::of("no-wish");
        let own = wish(&folder, 11, KEY, 0);
        for text in ["", "{}", "{\"key\":\"\",\"bucket\":70000}", "\u{1}\n\n"] {
            let other = wish(&folder, 11, KEY, 1);
            other.file.set_len(0).expect("empty");
            other
                .file
                .write_all_at(text.as_bytes(), 0)
                .expect("written");
            assert!(buckets(&own).is_empty(), "{text}");
            assert_eq!(other.answer(), None);
        }
    }
}
