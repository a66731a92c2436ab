//! The few settings of an interface that live in `/proc/sys/net`.
//!
//! Which value is right, and when it is set, is not decided here. The settings
//! are those of the calling thread's network namespace.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::errno;
use super::route::Family;
use crate::model::untrusted::{Untrusted, in_one_line};

/// A setting (`Documentation/networking/ip-sysctl.rst`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// `drop_unicast_in_l2_multicast`: 1 drops packets with a unicast IP
    /// address that came in a link-layer multicast or broadcast frame
    /// (RFC 1122 §3.3.6). IPv4 and IPv6, Linux 4.6 and later. Only the
    /// interface's value counts for IPv6; for IPv4 `all` or the interface's.
    DropUnicastInL2Multicast,
    /// `promote_secondaries`: 1 keeps the secondary addresses of a deleted
    /// primary one. IPv4 only; `all` or the interface's.
    PromoteSecondaries,
    /// `arp_ignore`: which questions for addresses the kernel answers. IPv4 only; the
    /// greater one of `all` and the interface's.
    ArpIgnore,
    /// `rp_filter`: 1 drops what comes in by another interface than the way back to its source leaves by, 2 what has
    /// no way back at all. IPv4 only; the greater one of `all` and the interface's.
    RpFilter,
    /// `disable_ipv6`: 1 where the interface has no IPv6. IPv6 only.
    DisableIpv6,
}

impl Key {
    fn file(self) -> &'static str {
        match self {
            Self::DropUnicastInL2Multicast => "drop_unicast_in_l2_multicast",
            Self::PromoteSecondaries => "promote_secondaries",
            Self::ArpIgnore => "arp_ignore",
            Self::RpFilter => "rp_filter",
            Self::DisableIpv6 => "disable_ipv6",
        }
    }
}

/// One setting of one interface, for one address family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysctlPath {
    family: Family,
    ifname: String,
    key: Key,
}

impl SysctlPath {
    /// The setting of an interface, or of `all` or `default`. The name may
    /// have dots (`eth0.100`): it is one folder's name and never split.
    ///
    /// # Errors
    /// [`SysctlError::BadName`] (empty, `.`, `..`, with `/` or a zero byte).
    pub fn new(family: Family, ifname: &str, key: Key) -> Result<Self, SysctlError> {
        if matches!(ifname, "" | "." | "..") || ifname.contains(['/', '\0']) {
            return Err(SysctlError::BadName {
                ifname: ifname.into(),
            });
        }
        Ok(Self {
            family,
            ifname: ifname.to_owned(),
            key,
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let family = match self.family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        [
            "/proc/sys/net",
            family,
            "conf",
            &self.ifname,
            self.key.file(),
        ]
        .iter()
        .collect()
    }
}

/// What [`write()`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The setting has the value now.
    Written,
    /// There is no such setting (see [`read`]).
    Missing,
}

/// A setting that could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SysctlError {
    /// No interface can have this name.
    #[error("'{ifname}' cannot be the name of an interface")]
    BadName {
        /// The name.
        ifname: Untrusted,
    },
    /// Reading failed.
    #[error("cannot read {}: {}", words(.path), errno::io_words(.source))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system call's error.
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write {value} to {}: {}", words(.path), errno::io_words(.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// The value.
        value: i32,
        /// The system call's error: EACCES without privilege, EROFS in many
        /// containers.
        source: io::Error,
    },
    /// The file does not hold one number.
    #[error("{} holds '{text}', which is no number", words(.path))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Its text.
        text: Untrusted,
    },
}

impl SysctlError {
    /// The kernel's error number (positive), where there was one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// A path has the name of an interface in it.
fn words(path: &Path) -> String {
    in_one_line(&path.to_string_lossy())
}

/// The setting's value; `None` where there is none: no such interface, IPv6
/// switched off at boot, a kernel that does not have the setting, or no
/// `/proc`.
///
/// # Errors
/// [`SysctlError::Read`], [`SysctlError::Malformed`].
pub fn read(setting: &SysctlPath) -> Result<Option<i32>, SysctlError> {
    number(setting.path())
}

/// Do TCP listeners outside of a VRF get the connections that come in by it (`net.ipv4.tcp_l3mdev_accept`)? Where the
/// kernel has no VRFs they do.
///
/// # Errors
/// As for [`read`].
pub fn tcp_l3mdev_accept() -> Result<bool, SysctlError> {
    let value = number("/proc/sys/net/ipv4/tcp_l3mdev_accept".into())?;
    Ok(value != Some(0))
}

fn number(path: PathBuf) -> Result<Option<i32>, SysctlError> {
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(SysctlError::Malformed {
                path,
                text: text.into(),
            }),
        },
        Err(error) if missing(&error) => Ok(None),
        Err(source) => Err(SysctlError::Read { path, source }),
    }
}

/// Gives the setting a value. Nothing is created.
///
/// # Errors
/// [`SysctlError::Write`].
pub fn write(setting: &SysctlPath, value: i32) -> Result<Written, SysctlError> {
    let path = setting.path();
    let written = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.to_string().as_bytes()));
    match written {
        Ok(()) => Ok(Written::Written),
        Err(error) if missing(&error) => Ok(Written::Missing),
        Err(source) => Err(SysctlError::Write {
            path,
            value,
            source,
        }),
    }
}

/// Does something while the setting has this value, and puts it back. Where there is no such setting it is
/// done all the same.
///
/// # Errors
/// As of [`read`] and [`write()`]; what was done is done if only putting it back fails.
pub fn while_set<T>(
    setting: &SysctlPath,
    value: i32,
    work: impl FnOnce() -> T,
) -> Result<T, SysctlError> {
    let before = read(setting)?.filter(|before| *before != value);
    if before.is_some() {
        write(setting, value)?;
    }
    let done = work();
    if let Some(before) = before {
        write(setting, before)?;
    }
    Ok(done)
}

/// Could the setting be given this value? It is opened, and left as it is.
///
/// # Errors
/// [`SysctlError::Write`].
pub fn check_writable(setting: &SysctlPath, value: i32) -> Result<(), SysctlError> {
    let path = setting.path();
    match fs::OpenOptions::new().write(true).open(&path) {
        Err(source) if !missing(&source) => Err(SysctlError::Write {
            path,
            value,
            source,
        }),
        _ => Ok(()),
    }
}

fn missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::folder::Folder;

    #[test]
    fn dots_are_part_of_the_name() {
        let path = SysctlPath::new(Family::V4, "eth0.100", Key::PromoteSecondaries).unwrap();
        assert_eq!(
            path.path().to_str(),
            Some("/proc/sys/net/ipv4/conf/eth0.100/promote_secondaries")
        );
        let path = SysctlPath::new(Family::V6, "all", Key::DropUnicastInL2Multicast).unwrap();
        assert_eq!(
            path.path().to_str(),
            Some("/proc/sys/net/ipv6/conf/all/drop_unicast_in_l2_multicast")
        );
    }

    #[test]
    fn nobody_leaves_the_folder() {
        for name in ["", ".", "..", "../../vm", "a/b", "a\0"] {
            let path = SysctlPath::new(Family::V4, name, Key::PromoteSecondaries);
            assert!(matches!(path, Err(SysctlError::BadName { .. })), "{name:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_none() {
        let path = SysctlPath::new(Family::V4, "none-such", Key::PromoteSecondaries).unwrap();
        assert_eq!(read(&path).unwrap(), None);
        assert_eq!(write(&path, 1).unwrap(), Written::Missing);
        assert_eq!(while_set(&path, 1, || 7).unwrap(), 7);
        let path = SysctlPath::new(Family::V6, "all", Key::PromoteSecondaries).unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn what_is_set_for_a_while_is_put_back() {
        let folder = Folder::of("sysctl");
        // An absolute name leads there; nobody outside of this module can have one.
        let setting = SysctlPath {
            family: Family::V4,
            ifname: folder.path().to_str().unwrap().to_owned(),
            key: Key::PromoteSecondaries,
        };
        let mut seen = Vec::new();
        for before in [0, 1] {
            fs::write(setting.path(), format!("{before}\n")).unwrap();
            let meanwhile = while_set(&setting, 1, || read(&setting).unwrap()).unwrap();
            seen.push((meanwhile, read(&setting).unwrap()));
        }
        assert_eq!(seen, [(Some(1), Some(0)), (Some(1), Some(1))]);
    }
}
