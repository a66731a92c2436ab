//! What Corosync is set to, and which nodes there are, read from its map (cmap_keys(7)).

use super::error::{CorosyncError, begun, done};
use super::ffi;
use crate::model::untrusted::Untrusted;
use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::time::Duration;

/// The longest value in the map (`ICMAP_MAX_VALUE_LEN`).
const LONGEST: usize = 16 * 1024;

/// What is read. Corosync may be told something else at any time (`corosync-cfgtool -R`), and rings come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The token's time-out as it is configured, if it is.
    pub configured_token: Option<Duration>,
    /// The token's time-out as it is kept (with `token_coefficient`).
    pub token: Duration,
    /// How long it then takes for a new ring, at least.
    pub consensus: Duration,
    /// Of two nodes each goes on alone when it is cut off.
    pub two_node: bool,
    /// The nodes' names, as far as corosync.conf gives them one.
    pub names: BTreeMap<u32, Untrusted>,
    /// Whether Corosync on each node that was ever heard has `joined` this ring or `left` it.
    pub members: BTreeMap<u32, Untrusted>,
}

impl Settings {
    /// Reads them. Waits for Corosync's answers: as long as it is stopped, that is for ever.
    ///
    /// # Errors
    /// No Corosync, no permission; [`CorosyncError::Unexpected`] where it has no timers, which it always has.
    pub fn read() -> Result<Settings, CorosyncError> {
        let map = Map::open()?;
        let timer = |key: &str| Ok(map.number(key)?.map(Duration::from_millis));
        let timer_kept = |key: &str| {
            timer(key)?.ok_or(CorosyncError::Unexpected {
                call: "cmap_get",
                code: ffi::CS_ERR_NOT_EXIST,
            })
        };
        Ok(Settings {
            configured_token: timer("totem.token")?,
            token: timer_kept("runtime.config.totem.token")?,
            consensus: timer_kept("runtime.config.totem.consensus")?,
            two_node: map.number("quorum.two_node")?.is_some_and(|it| it != 0),
            names: map.names()?,
            members: map.members()?,
        })
    }
}

/// A connection to the map.
struct Map(ffi::Handle);

impl Map {
    fn open() -> Result<Self, CorosyncError> {
        let mut handle = 0;
        // SAFETY: it writes the handle.
        let code = unsafe { ffi::cmap_initialize(&raw mut handle) };
        begun("cmap_initialize", code).map(|()| Map(handle))
    }

    /// The type and the bytes of a value, if it is there.
    fn value(&self, key: &str) -> Result<Option<(u32, Vec<u8>)>, CorosyncError> {
        let Ok(key) = CString::new(key) else {
            return Ok(None);
        };
        let mut value = vec![0u8; LONGEST];
        let (mut length, mut kind) = (value.len(), 0);
        // SAFETY: the key ends with a zero; at most `length` bytes are written, and what the pointers name is there
        // until the call returns.
        let code = unsafe {
            ffi::cmap_get(
                self.0,
                key.as_ptr(),
                value.as_mut_ptr().cast(),
                &raw mut length,
                &raw mut kind,
            )
        };
        if code == ffi::CS_ERR_NOT_EXIST {
            return Ok(None);
        }
        done("cmap_get", code)?;
        value.truncate(length);
        Ok(Some((kind, value)))
    }

    fn number(&self, key: &str) -> Result<Option<u64>, CorosyncError> {
        let value = self.value(key)?;
        Ok(value.and_then(|(kind, bytes)| number(kind, &bytes)))
    }

    fn text(&self, key: &str) -> Result<Option<Untrusted>, CorosyncError> {
        let value = self.value(key)?;
        Ok(value.and_then(|(kind, bytes)| text(kind, &bytes)))
    }

    /// The nodes' names; `nodelist.node.POSITION.nodeid` is the number of a node and `….name` its name.
    fn names(&self) -> Result<BTreeMap<u32, Untrusted>, CorosyncError> {
        let mut names = BTreeMap::new();
        for key in self.keys("nodelist.node.")? {
            let Some(place) = key.strip_suffix(".nodeid") else {
                continue;
            };
            let node = self.number(&key)?.and_then(|node| u32::try_from(node).ok());
            let name = self.text(&format!("{place}.name"))?;
            names.extend(node.zip(name));
        }
        Ok(names)
    }

    /// `runtime.members.NODE.status`.
    fn members(&self) -> Result<BTreeMap<u32, Untrusted>, CorosyncError> {
        const ALL: &str = "runtime.members.";
        let mut members = BTreeMap::new();
        for key in self.keys(ALL)? {
            let node = key
                .strip_prefix(ALL)
                .and_then(|key| key.strip_suffix(".status"));
            let node = node.and_then(|node| node.parse().ok());
            if let Some(node) = node {
                members.extend(self.text(&key)?.map(|status| (node, status)));
            }
        }
        Ok(members)
    }

    /// All keys that begin so.
    fn keys(&self, prefix: &str) -> Result<Vec<String>, CorosyncError> {
        let Ok(prefix) = CString::new(prefix) else {
            return Ok(Vec::new());
        };
        let mut iter = 0;
        // SAFETY: the prefix ends with a zero, and it writes the handle.
        let code = unsafe { ffi::cmap_iter_init(self.0, prefix.as_ptr(), &raw mut iter) };
        done("cmap_iter_init", code)?;
        let all = self.keys_of(iter);
        // SAFETY: numbers only; it is not used after this.
        unsafe { ffi::cmap_iter_finalize(self.0, iter) };
        all
    }

    fn keys_of(&self, iter: ffi::Handle) -> Result<Vec<String>, CorosyncError> {
        let mut keys = Vec::new();
        loop {
            let mut key = [0u8; ffi::CMAP_KEYNAME_MAXLEN + 1];
            // SAFETY: a key has up to CMAP_KEYNAME_MAXLEN bytes, and a zero behind them; null is allowed for the rest.
            let code = unsafe {
                ffi::cmap_iter_next(
                    self.0,
                    iter,
                    key.as_mut_ptr().cast::<c_char>(),
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                )
            };
            if code == ffi::CS_ERR_NO_SECTIONS {
                return Ok(keys);
            }
            done("cmap_iter_next", code)?;
            keys.push(until_zero(&key));
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and closed here only. What Corosync answers changes nothing.
        unsafe { ffi::cmap_finalize(self.0) };
    }
}

fn until_zero(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// A number that is not negative, of any of the types that `cmap.h` numbers from 1 to 8: signed and unsigned, of 8, 16,
/// 32 and 64 bits.
fn number(kind: u32, bytes: &[u8]) -> Option<u64> {
    let signed = kind % 2 == 1;
    let number = match (kind, bytes) {
        (1 | 2, [a]) => u64::from(*a),
        (3 | 4, [a, b]) => u16::from_ne_bytes([*a, *b]).into(),
        (5 | 6, [a, b, c, d]) => u32::from_ne_bytes([*a, *b, *c, *d]).into(),
        (7 | 8, [a, b, c, d, e, f, g, h]) => u64::from_ne_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
        _ => return None,
    };
    let negative = signed && number >> (8 * bytes.len() - 1) == 1;
    (!negative).then_some(number)
}

fn text(kind: u32, bytes: &[u8]) -> Option<Untrusted> {
    (kind == ffi::CMAP_VALUETYPE_STRING).then(|| until_zero(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_types_are_read() {
        let ne32 = 1000u32.to_ne_bytes();
        for (kind, bytes, expected) in [
            (1, &[7][..], Some(7)),
            (2, &[200], Some(200)),
            (1, &[200], None),
            (3, &0x8000u16.to_ne_bytes(), None),
            (4, &0x8000u16.to_ne_bytes(), Some(0x8000)),
            (5, &ne32, Some(1000)),
            (6, &ne32, Some(1000)),
            (7, &u64::MAX.to_ne_bytes(), None),
            (8, &u64::MAX.to_ne_bytes(), Some(u64::MAX)),
            (6, &ne32[..3], None),
            (9, &ne32, None),
            (11, b"1000\0", None),
        ] {
            assert_eq!(number(kind, bytes), expected, "{kind} {bytes:?}");
        }
    }

    #[test]
    fn texts_end_with_a_zero_or_with_themselves() {
        assert_eq!(text(11, b"n1\0"), Some("n1".into()));
        assert_eq!(text(11, b"n1"), Some("n1".into()));
        assert_eq!(text(12, b"n1\0"), None);
    }
}
