//! What some scenarios need of the kernel, and not every kernel has.
//!
//! In the guest (`make test-guest`) it has to be there: its modules are loaded, and if it is still
//! missing the scenario fails. Elsewhere a sentence says that the scenario was skipped, and where
//! it is not.

use lab::{Context, Error, Lab, Node, Result};
use std::io::Write;

/// Whether this is the guest, whose kernel has everything.
pub fn in_guest() -> bool {
    std::env::var_os("LAB_GUEST").is_some()
}

/// Whether this is a user namespace (`make test-unprivileged`): root's own buffers may not be larger than anybody's
/// there, and there may be nobody but root.
pub fn in_user_namespace() -> Result<bool> {
    let map = std::fs::read_to_string("/proc/self/uid_map").context("/proc/self/uid_map")?;
    let all = u32::MAX.to_string();
    Ok(!map.split_whitespace().eq(["0", "0", &all]))
}

/// The module that the guest was booted without, if this is such a guest.
pub fn missing_module() -> Option<String> {
    std::env::var("LAB_GUEST_WITHOUT")
        .ok()
        .filter(|name| !name.is_empty())
}

/// What Linux has no more, and since which version.
const GONE: [(&str, (u32, u32)); 2] = [("CLUSTERIP", (6, 3)), ("DCCP", (6, 16))];

/// Whether the guest's kernel is one that has it no more.
fn is_gone(what: &str) -> bool {
    let release = std::env::var("LAB_GUEST").unwrap_or_default();
    let mut numbers = release.split('.').map_while(|number| number.parse().ok());
    let version = numbers.next().zip(numbers.next());
    let since = GONE
        .iter()
        .find(|(gone, _)| what.to_uppercase().contains(gone));
    since.is_some_and(|(_, since)| version.is_some_and(|version| version >= *since))
}

/// Whether the kernel has something. `ask` tries it on a node of its own.
pub fn kernel_has(
    what: &str,
    modules: &[&str],
    ask: impl FnOnce(&Node) -> Result<()>,
) -> Result<bool> {
    if is_gone(what) {
        skip(&format!("Linux has no {what} any more"));
        return Ok(false);
    }
    let lab = Lab::new("kernel")?;
    let node = lab.node("n1")?;
    if in_guest() && !modules.is_empty() {
        let load = ["modprobe", "--all"].iter().chain(modules);
        node.run(&load.copied().collect::<Vec<_>>())?;
    }
    match ask(&node) {
        Ok(()) => Ok(true),
        Err(error) if in_guest() => Err(Error::new(format!("the guest has no {what}: {error}"))),
        Err(_) => {
            skip(&format!("this kernel has no {what}"));
            Ok(false)
        }
    }
}

/// Tells that the running scenario is skipped here, and where it is not.
pub fn skip(why: &str) {
    tell_skipped(&format!("{why}; make test-guest runs it"));
}

/// Tells that the running scenario is skipped, past libtest, which hides what is printed.
pub fn tell_skipped(why: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a scenario").to_owned();
    let line = format!("{name}: skipped, {why}\n");
    // Whoever does not read it cannot be told.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Runs lines of `ip`, in this order.
pub fn ip_lines(host: &lab::Host, lines: &str) -> Result<()> {
    host.exec(&["ip", "-batch", "-"]).stdin(lines).run()?;
    Ok(())
}

/// Is this kernel that version, or a later one?
pub fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().ok());
    let found = (numbers.next().flatten(), numbers.next().flatten());
    found >= (Some(major), Some(minor))
}
