//! The resource agent `ocf:rust:ClusterIP`; installed as `…/resource.d/rust/ClusterIP`.

use clusterip::agent::environment::Environment;
use clusterip::agent::exit::{Code, Failure};
use clusterip::agent::{actions, metadata, monitor, report};
use clusterip::logging;
use std::process::ExitCode;

fn main() -> ExitCode {
    let action = std::env::args().nth(1).unwrap_or_default();
    let env = Environment::of_process();
    logging::start(env.wants_debug());
    report::end(match action.as_str() {
        "start" => actions::start(&env),
        "stop" => actions::stop(&env),
        "monitor" | "status" => monitor::monitor(&env),
        "validate-all" => actions::validate_all(&env),
        "reload-agent" => actions::reload_agent(&env),
        "meta-data" => {
            report::print(&metadata::xml());
            Ok(())
        }
        "usage" | "help" => {
            report::print(&format!("{}\n", metadata::USAGE));
            Ok(())
        }
        other => Err(Failure::new(
            Code::Unimplemented,
            format!("there is no action '{other}'; {}", metadata::USAGE),
        )),
    })
}
