//! An agent's program from its first argument to its end: the exit code, and the reason where
//! Pacemaker looks for it.

use super::environment::Environment;
use super::exit::{Code, Failure};
use crate::logging;
use std::io::Write;
use std::process::ExitCode;
use tracing::error;

/// Does the action that the process was started for. `act` is given its name, and has no answer to those
/// that the agent does not have; what every agent can tell of itself is told here.
pub fn run(
    usage: &str,
    meta_data: fn() -> String,
    act: fn(&str, &Environment) -> Option<Result<(), Failure>>,
) -> ExitCode {
    let action = std::env::args().nth(1).unwrap_or_default();
    let env = Environment::of_process();
    logging::start(env.wants_debug());
    end(match action.as_str() {
        "meta-data" => print(&meta_data()),
        "usage" | "help" => print(&format!("{usage}\n")),
        action => act(action, &env).unwrap_or_else(|| {
            let reason = format!("there is no action '{action}'; {usage}");
            Err(Failure::new(Code::Unimplemented, reason))
        }),
    })
}

/// Prints; whoever closed the pipe does not want to read on.
fn print(text: &str) -> Result<(), Failure> {
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// Tells why an action failed, and gives its exit code.
fn end(outcome: Result<(), Failure>) -> ExitCode {
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
