//! How a line is written: its version, how long it may be, and why it is refused. Pure.
//!
//! Every line names the version that it is of. Of one major version a newer minor may say more: fields that are not
//! known are passed over, and what is said in a word that is not known reads as `unknown`.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Programs of different majors do not understand each other.
pub const MAJOR: u16 = 1;
/// What is said besides by a newer minor may be passed over.
pub const MINOR: u16 = 0;
/// The longest request, in bytes, without the end of its line.
pub const LONGEST_REQUEST: usize = 64 * 1024;
/// The longest answer. The longest that is said is a view of 64 nodes that have something of all of 64 VIPs, or what was
/// counted for 64 VIPs of 1,024 buckets.
pub const LONGEST_REPLY: usize = 16 * 1024 * 1024;

/// Why a line is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is too long.
    #[error("a line of more than {0} bytes is refused")]
    Long(usize),
    /// It is not to be understood.
    #[error("a line is refused that nothing of clusterip says: {0}")]
    Garbled(String),
    /// Another major version.
    #[error(
        "a line of version {0} is refused, for this program speaks version {MAJOR}: install clusterip and clusteripd of \
         one version, and restart clusteripd"
    )]
    OtherMajor(u16),
}

/// What every version says in the same place.
#[derive(serde::Deserialize)]
struct Head {
    major: u16,
}

#[derive(Serialize)]
struct Written<'a, T> {
    major: u16,
    minor: u16,
    #[serde(flatten)]
    said: &'a T,
}

/// A line, with its end.
pub(super) fn write<T: Serialize>(said: &T, longest: usize) -> Result<String, LineError> {
    let (major, minor) = (MAJOR, MINOR);
    let written = Written { major, minor, said };
    let mut line = serde_json::to_string(&written).map_err(garbled)?;
    if line.len() > longest {
        return Err(LineError::Long(longest));
    }
    line.push('\n');
    Ok(line)
}

/// What a line says, with its end or without.
pub(super) fn read<T: DeserializeOwned>(line: &[u8], longest: usize) -> Result<T, LineError> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    if line.len() > longest {
        return Err(LineError::Long(longest));
    }
    let head: Head = serde_json::from_slice(line).map_err(garbled)?;
    if head.major != MAJOR {
        return Err(LineError::OtherMajor(head.major));
    }
    serde_json::from_slice(line).map_err(garbled)
}

fn garbled(error: serde_json::Error) -> LineError {
    LineError::Garbled(error.to_string())
}
