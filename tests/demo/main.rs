//! The demo: three nodes share an address, one is killed, the share moves, and moves back.
//!
//! Real Corosync, Pacemaker and fencing, real connections, all in network namespaces that end
//! with this program. `make demo` runs it; on a terminal it draws, through a pipe it tells.
//!
//! | module | what lives there |
//! |---|---|
//! | `story` | the steps, in order, and what is wrong if anything is |
//! | `loss` | the steps in which buckets move: a node dies, a node returns |
//! | `map`, `crowd`, `timeline` | who owns what; shares of many connections; what a probe felt |
//! | `screen` | terminal or not: colour, spinner, pictures |
//! | `needs`, `ending` | what must be there before; that nothing is left behind, Ctrl-C too |
#![forbid(unsafe_code)]

mod crowd;
mod ending;
mod loss;
mod map;
mod needs;
mod screen;
mod story;
mod timeline;

use std::process::ExitCode;

use crate::screen::{Screen, Tone, WIDTH, wrap};

fn main() -> ExitCode {
    if let Err(sentence) = needs::check() {
        eprintln!("demo: {sentence}");
        return ExitCode::FAILURE;
    }
    let screen = Screen::new();
    if let Err(error) = ending::on_signals(&screen) {
        eprintln!("demo: {error}");
        return ExitCode::FAILURE;
    }
    let told = story::tell(&screen);
    if screen.is_muted() {
        // A signal came, and its thread ends the process when the lab is gone.
        loop {
            std::thread::park();
        }
    }
    let faults = match told {
        Ok(faults) => faults,
        Err(error) => vec![error.to_string()],
    };
    screen.gap();
    if faults.is_empty() {
        let seconds = screen.elapsed().as_secs_f64();
        let done = format!("Everything was as it should be. {seconds:.0} seconds.");
        screen.line(screen.paint(Tone::Good, done));
        return ExitCode::SUCCESS;
    }
    for fault in faults {
        // The first line is a sentence; what may follow are logs.
        let (sentence, logs) = fault.split_once('\n').unwrap_or((&fault, ""));
        for line in wrap(&format!("WRONG: {sentence}"), WIDTH - 2) {
            screen.line(screen.paint(Tone::Bad, line));
        }
        logs.lines().for_each(|line| screen.line(line));
    }
    ExitCode::FAILURE
}
