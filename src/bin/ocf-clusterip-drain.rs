//! The gate `ocf:rust:ClusterIPDrain`; installed as `…/resource.d/rust/ClusterIPDrain`.

use clusterip::agent::environment::Environment;
use clusterip::agent::exit::{Code, Failure};
use clusterip::agent::{gate, report};
use clusterip::logging;
use std::process::ExitCode;

fn main() -> ExitCode {
    let action = std::env::args().nth(1).unwrap_or_default();
    let env = Environment::of_process();
    logging::start(env.wants_debug());
    report::end(match action.as_str() {
        "start" => gate::start(&env),
        "stop" => gate::stop(&env),
        "monitor" | "status" => gate::monitor(&env),
        "validate-all" => gate::validate_all(&env),
        "meta-data" => {
            report::print(&gate::xml());
            Ok(())
        }
        "usage" | "help" => {
            report::print(&format!("{}\n", gate::USAGE));
            Ok(())
        }
        other => Err(Failure::new(
            Code::Unimplemented,
            format!("there is no action '{other}'; {}", gate::USAGE),
        )),
    })
}
