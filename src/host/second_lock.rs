//! Can the second lock be set on this host? In many containers `/proc/sys` is read-only.

use crate::model::vip::Vip;
use crate::sys::route::Family;
use crate::sys::sysctl::{self, Key, SysctlError, SysctlPath};

/// The setting of an interface and a family.
///
/// # Errors
/// [`SysctlError::BadName`].
pub fn path(nic: &str, family: Family) -> Result<SysctlPath, SysctlError> {
    SysctlPath::new(family, nic, Key::DropUnicastInL2Multicast)
}

/// Is it set, or could it be? Nothing is changed.
///
/// # Errors
/// [`SysctlError`], of which `EROFS` and `EACCES` are the likely ones.
pub fn ready(vip: &Vip) -> Result<(), SysctlError> {
    if !vip.needs_lock() {
        return Ok(());
    }
    let path = path(vip.nic.as_str(), Family::of(&vip.address))?;
    match sysctl::read(&path)? {
        Some(0) => sysctl::check_writable(&path, 1),
        _ => Ok(()),
    }
}
