//! What the machine tells its guest: which program to run, and how.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;

use lab::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::kernel::Kernel;

/// Where the job lies in the first file system.
pub const PATH: &str = "job.json";

/// How much slower everything is under emulation, at worst; the lab's waits are as much longer.
const PATIENCE: &str = "8";

/// A program to be run in the guest.
#[derive(Serialize, Deserialize)]
pub struct Job {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its environment: that of this program, and what the guest adds.
    pub environment: BTreeMap<String, String>,
    /// Its folder.
    pub folder: PathBuf,
    /// Where the unpacked package has the kernel's modules.
    pub modules: PathBuf,
    /// Modules that the guest is not to have, as file names without `.ko`.
    pub without: Vec<String>,
}

impl Job {
    /// The job for this kernel, to be run as if it were run here.
    pub fn new(argv: Vec<String>, kernel: &Kernel, without: Vec<String>) -> Result<Self> {
        let mut environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        environment.insert("LAB_GUEST".into(), kernel.release.clone());
        environment.insert("LAB_GUEST_WITHOUT".into(), without.join(" "));
        environment
            .entry(lab::wait::PATIENCE.into())
            .or_insert_with(|| PATIENCE.into());
        if !std::io::stdout().is_terminal() {
            // The guest's console looks like a terminal, wherever its output goes.
            environment.insert("TERM".into(), "dumb".into());
        }
        Ok(Self {
            argv,
            environment,
            folder: std::env::current_dir().context("find the current folder")?,
            modules: kernel.modules.clone(),
            without,
        })
    }
}
