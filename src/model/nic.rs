//! Interface names. Pure.

use super::vip::VipError;
use std::fmt;
use std::str::FromStr;

/// The name of a network interface as the kernel accepts it (`dev_valid_name()`): 1 to 15 bytes,
/// no slash, colon or white space. Quotes and control characters are refused as well: they could
/// not be shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nic(String);

impl Nic {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Nic {
    type Err = VipError;

    fn from_str(text: &str) -> Result<Self, VipError> {
        match is_shown(text, 15, b"/:\"'\\") {
            true => Ok(Nic(text.to_owned())),
            false => Err(VipError::Nic(text.to_owned())),
        }
    }
}

/// Is it the name of something that is a file to the kernel, and can it be shown: 1 to so many bytes, all
/// of them visible and none refused?
pub(crate) fn is_shown(text: &str, longest: usize, refused: &[u8]) -> bool {
    let fits = |b: u8| b.is_ascii_graphic() && !refused.contains(&b);
    (1..=longest).contains(&text.len()) && text != "." && text != ".." && text.bytes().all(fits)
}

impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
