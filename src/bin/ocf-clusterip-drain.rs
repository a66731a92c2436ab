//! The gate `ocf:rust:ClusterIPDrain`; installed as `…/resource.d/rust/ClusterIPDrain`.

use clusterip::agent::{gate, report};
use std::process::ExitCode;

fn main() -> ExitCode {
    report::run(gate::USAGE, gate::xml, |action, env| {
        Some(match action {
            "start" => gate::start(env),
            "stop" => gate::stop(env),
            "monitor" | "status" => gate::monitor(env),
            "validate-all" => gate::validate_all(env),
            _ => return None,
        })
    })
}
