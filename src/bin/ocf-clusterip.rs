//! The resource agent `ocf:rust:ClusterIP`; installed as `…/resource.d/rust/ClusterIP`.

use clusterip::agent::{actions, metadata, monitor, report, stop};
use std::process::ExitCode;

fn main() -> ExitCode {
    report::run(metadata::USAGE, metadata::xml, |action, env| {
        Some(match action {
            "start" => actions::start(env),
            "stop" => stop::stop(env),
            "monitor" | "status" => monitor::monitor(env),
            "validate-all" => actions::validate_all(env),
            "reload-agent" => actions::reload_agent(env),
            _ => return None,
        })
    })
}
