//! Interface names, as the kernel has them and as people write them. Pure.

use super::untrusted::Untrusted;
use std::fmt;
use std::str::FromStr;

/// Text that names no interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no interface name; use one that 'ip link' shows, such as eth0")]
pub struct NoNic(Untrusted);

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
    type Err = NoNic;

    fn from_str(text: &str) -> Result<Self, NoNic> {
        match is_shown(text, 15, b"/:\"'\\") {
            true => Ok(Nic(text.to_owned())),
            false => Err(NoNic(text.into())),
        }
    }
}

/// An interface as a configuration names it: by its name, by an alternative one (`ip link property`: up
/// to 127 bytes), as `ip link` shows a veth or VLAN (`eth0@if4`), or with a label (`eth0:1`), as IPaddr2
/// takes it. Which interface it is only the kernel can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicName {
    name: String,
    label: Option<String>,
}

impl NicName {
    /// The names under which it may be known, the likeliest first: `@` may be part of one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let shown = self.name.split_once('@').map(|(name, _)| name);
        [Some(self.name.as_str()), shown].into_iter().flatten()
    }

    /// The name that it has if it is no alternative one.
    pub fn plain(&self) -> Option<Nic> {
        self.name.parse().ok()
    }

    /// What stands behind the colon.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }
}

impl FromStr for NicName {
    type Err = NoNic;

    fn from_str(text: &str) -> Result<Self, NoNic> {
        let (name, label) = match text.split_once(':') {
            None => (text, None),
            Some((name, label)) => (name, Some(label.to_owned())),
        };
        // ALTIFNAMSIZ less its terminating zero.
        let fits = is_shown(name, 127, b"/\"'\\") && label.as_deref() != Some("");
        match fits {
            true => Ok(NicName {
                name: name.to_owned(),
                label,
            }),
            false => Err(NoNic(text.into())),
        }
    }
}

impl From<Nic> for NicName {
    fn from(Nic(name): Nic) -> Self {
        NicName { name, label: None }
    }
}

impl fmt::Display for NicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_named_as_people_and_ipaddr2_name_them() {
        for (text, names, label) in [
            ("eth0", &["eth0"][..], None),
            ("eth0:1", &["eth0"], Some("1")),
            ("eth0@if4", &["eth0@if4", "eth0"], None),
            (
                "eth0.10@eth0:web",
                &["eth0.10@eth0", "eth0.10"],
                Some("web"),
            ),
            (
                "the-cable-to-the-core-switch",
                &["the-cable-to-the-core-switch"],
                None,
            ),
        ] {
            let name: NicName = text.parse().expect(text);
            assert_eq!(name.names().collect::<Vec<_>>(), names);
            assert_eq!(name.label(), label);
        }
        let long = "x".repeat(128);
        for wrong in ["", ":1", "eth0:", "a b", "a/b", ".", &long] {
            assert!(wrong.parse::<NicName>().is_err(), "{wrong}");
        }
    }
}
