//! How an agent's program ends: its exit code, and the reason where Pacemaker looks for it.

use super::exit::Failure;
use std::io::Write;
use std::process::ExitCode;
use tracing::error;

/// Prints; whoever closed the pipe does not want to read on.
pub fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Tells why an action failed, and gives its exit code.
pub fn end(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.reason.is_empty() {
                let short = failure.exit_reason();
                if short != failure.reason {
                    error!("{}", failure.reason);
                }
                // Pacemaker looks for this word and shows the rest to the operator.
                let _ = writeln!(std::io::stderr(), "ocf-exit-reason:{short}");
            }
            ExitCode::from(failure.code as u8)
        }
    }
}
