//! Can the second lock be set on this host? In many containers `/proc/sys` is read-only.

use crate::model::vip::Vip;
use crate::sys::route::Family;
use crate::sys::sysctl::{self, Key, SysctlError, SysctlPath};

/// The setting of the VIP's interface and family.
pub fn path(vip: &Vip) -> Result<SysctlPath, SysctlError> {
    let family = Family::of(&vip.address);
    SysctlPath::new(family, vip.nic.as_str(), Key::DropUnicastInL2Multicast)
}

/// Is it set, or could it be? Nothing is changed.
///
/// # Errors
/// [`SysctlError`], of which `EROFS` and `EACCES` are the likely ones.
pub fn ready(vip: &Vip) -> Result<(), SysctlError> {
    if !vip.lock {
        return Ok(());
    }
    let path = path(vip)?;
    match sysctl::read(&path)? {
        Some(0) => sysctl::check_writable(&path, 1),
        _ => Ok(()),
    }
}
