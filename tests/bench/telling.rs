//! Progress on stderr: lines that stay, and on a terminal one that is written over.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Where progress is told.
pub struct Telling {
    began: Instant,
    terminal: bool,
}

impl Telling {
    /// The clock starts now.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// A line that stays.
    pub fn say(&self, line: impl Display) {
        let seconds = self.began.elapsed().as_secs_f64();
        let erase = if self.terminal { "\r\x1b[K" } else { "" };
        eprintln!("{erase}{seconds:7.1} s  {line}");
    }

    /// Wipes what is passing away.
    pub fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }

    /// A line that the next one takes the place of; only people who watch see it.
    pub fn passing(&self, line: impl Display) {
        if self.terminal {
            let seconds = self.began.elapsed().as_secs_f64();
            let mut stderr = std::io::stderr().lock();
            // Who closes stderr does not want to know.
            let _ = write!(stderr, "\r\x1b[K{seconds:7.1} s  {line}");
            let _ = stderr.flush();
        }
    }
}
