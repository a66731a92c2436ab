//! nodectl: look at and move buckets by hand.

use clap::error::ErrorKind as Kind;
use clusterip::nodectl::cli::Cli;
use clusterip::nodectl::{REFUSED, USAGE, run};
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are what was asked for.
            let asked = [Kind::DisplayHelp, Kind::DisplayVersion].contains(&error.kind());
            let _ = error.print();
            return ExitCode::from(if asked { 0 } else { USAGE });
        }
    };
    clusterip::logging::start(false);
    match run(&cli) {
        Ok(told) => {
            let mut out = std::io::stdout();
            match out
                .write_all(told.text.as_bytes())
                .and_then(|()| out.flush())
            {
                // Whoever closed the pipe does not want to read on.
                Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                    let _ = writeln!(
                        std::io::stderr(),
                        "nodectl: what was to be told cannot be written: {error}"
                    );
                    ExitCode::from(REFUSED)
                }
                _ => ExitCode::from(told.code),
            }
        }
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "nodectl: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}
