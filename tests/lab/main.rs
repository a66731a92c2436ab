//! The lab's helper program: the processes that the library starts, one subcommand each.
//! Nothing here is meant to be called by hand.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use lab::{Context, Error, Result, Serve};

fn main() -> ExitCode {
    let mut words = std::env::args();
    let own_name = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let done = if own_name.ends_with("fence_lab") {
        lab::cluster::fence::agent(&words)
    } else {
        dispatch(&words)
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(words: &[String]) -> Result<u8> {
    let (verb, rest) = words
        .split_first()
        .context("lab hold|leash|serve|service|boot|init|stack …")?;
    match (verb.as_str(), rest) {
        ("hold", _) => lab::namespace::hold().map(|()| 0),
        ("leash", argv) => lab::exec::leash(argv).map(|status| status as u8),
        ("boot", [spec]) => lab::cluster::boot::boot(spec),
        ("init", [spec]) => lab::cluster::boot::init(spec).map(|()| 0),
        ("stack", []) => lab::cluster::boot::start_stack().map(|()| 0),
        ("serve", [name, services @ ..]) => {
            // The server must not outlive whoever wanted it.
            std::thread::spawn(|| {
                lab::namespace::outlive_stdin();
                std::process::exit(0);
            });
            serve(name, services).map(|()| 0)
        }
        // As a cluster's resource it lives until its agent stops it.
        ("service", [name, services @ ..]) => serve(name, services).map(|()| 0),
        _ => Err(Error::new(format!(
            "unknown or incomplete: {}",
            words.join(" ")
        ))),
    }
}

fn serve(name: &str, services: &[String]) -> Result<()> {
    let services: Vec<Serve> = services
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .context("start a tokio runtime")?
        .block_on(lab::serve::serve(name, &services))
}
