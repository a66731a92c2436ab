//! The resource agent `ocf:rust:ClusterIP`; installed as `…/resource.d/rust/ClusterIP`.

use clusterip::agent::environment::Environment;
use clusterip::agent::exit::{Code, Failure};
use clusterip::agent::{actions, metadata, monitor};
use clusterip::logging;
use std::io::Write;
use std::process::ExitCode;
use tracing::error;

/// Whoever closed the pipe does not want to read on.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn main() -> ExitCode {
    let action = std::env::args().nth(1).unwrap_or_default();
    let env = Environment::of_process();
    logging::start(env.wants_debug());
    let outcome = match action.as_str() {
        "start" => actions::start(&env),
        "stop" => actions::stop(&env),
        "monitor" | "status" => monitor::monitor(&env),
        "validate-all" => actions::validate_all(&env),
        "reload-agent" => actions::reload_agent(&env),
        "meta-data" => {
            print(&metadata::xml());
            Ok(())
        }
        "usage" | "help" => {
            print(&format!("{}\n", metadata::USAGE));
            Ok(())
        }
        other => Err(Failure::new(
            Code::Unimplemented,
            format!("there is no action '{other}'; {}", metadata::USAGE),
        )),
    };
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
