//! nodectl: look at and move buckets by hand.

use clap::Parser;
use clap::error::ErrorKind;
use clusterip::nodectl::cli::Cli;
use clusterip::nodectl::{USAGE, run};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are what was asked for.
            let asked = [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion].contains(&error.kind());
            let _ = error.print();
            return ExitCode::from(if asked { 0 } else { USAGE });
        }
    };
    clusterip::logging::start(false);
    match run(&cli) {
        Ok(text) => {
            // Whoever closed the pipe does not want to read on.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "nodectl: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}
