//! Lines that show a person how far a long thing has come.
//! Colour goes to terminals alone, and `NO_COLOR` is honoured.

use std::fmt::Display;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

type Sink = Box<dyn Fn(f64, &str) + Send>;

/// Where progress is told: to stderr, unless a scenario or a demo gives a callback.
#[derive(Clone)]
pub struct Progress {
    name: String,
    started: Instant,
    sink: Arc<Mutex<Option<Sink>>>,
}

impl Progress {
    /// Progress of the lab called `name`; the clock starts now.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            started: Instant::now(),
            sink: Arc::default(),
        }
    }

    /// Hands every line, with the seconds since the start, to `sink` instead of stderr.
    pub fn redirect(&self, sink: impl Fn(f64, &str) + Send + 'static) {
        *self.sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(sink));
    }

    /// Tells one line.
    pub fn say(&self, line: impl Display) {
        let elapsed = self.started.elapsed().as_secs_f64();
        let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        match sink.as_ref() {
            Some(sink) => sink(elapsed, &line.to_string()),
            None => eprintln!("{}", self.render(elapsed, &line.to_string())),
        }
    }

    fn render(&self, elapsed: f64, line: &str) -> String {
        if colour() {
            format!("\x1b[2m{elapsed:7.2} s  {}\x1b[0m  {line}", self.name)
        } else {
            format!("{elapsed:7.2} s  {}  {line}", self.name)
        }
    }
}

/// Whether stderr should get colour.
pub fn colour() -> bool {
    let declined = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !declined && std::io::stderr().is_terminal()
}
