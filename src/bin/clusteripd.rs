//! `clusteripd`, the daemon by which nodes talk to each other.

use clap::Parser;
use clusterip::daemon::{self, Options};
use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main(&Options::parse())
}
