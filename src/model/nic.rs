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
        let shown = |b: u8| b.is_ascii_graphic() && !b"/:\"'\\".contains(&b);
        match (1..=15).contains(&text.len())
            && text != "."
            && text != ".."
            && text.bytes().all(shown)
        {
            true => Ok(Nic(text.to_owned())),
            false => Err(VipError::Nic(text.to_owned())),
        }
    }
}

impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
