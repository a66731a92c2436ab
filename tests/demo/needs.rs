//! What must be there before the demo can begin, and what to do if it is not.

use std::path::Path;

use nix::unistd::geteuid;

const PROGRAMS: [&str; 8] = [
    "ip",
    "nft",
    "nsenter",
    "corosync",
    "pacemakerd",
    "crm",
    "crm_mon",
    "crm_simulate",
];
const BUILT: [&str; 3] = ["ocf-clusterip", "nodectl", "lab"];

/// Gives a sentence that says what to do, if something is missing.
pub fn check() -> Result<(), String> {
    if !geteuid().is_root() || !lab::cluster::boot::is_real_root() {
        return Err(
            "the nodes are network namespaces with a real cluster in them, which takes \
             root of the machine; run: sudo make demo"
                .into(),
        );
    }
    let folders = std::env::var("PATH").unwrap_or_default();
    let folders: Vec<&Path> = folders
        .split(':')
        .chain(["/usr/sbin", "/sbin"])
        .map(Path::new)
        .collect();
    let missing: Vec<&str> = PROGRAMS
        .into_iter()
        .filter(|program| !folders.iter().any(|folder| folder.join(program).is_file()))
        .collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(format!("not installed here: {missing}; run: make deps"));
    }
    match BUILT.into_iter().find(|name| lab::built(name).is_err()) {
        None => Ok(()),
        Some(name) => Err(format!("{name} has not been built; run: make demo")),
    }
}
