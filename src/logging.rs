//! Lines on stderr, for people and for Pacemaker's log: the executor writes each line of an agent's stderr
//! into it, with the resource, the action and the time in front, so a line is a severity and a sentence.
//!
//! A process that is left behind has no stderr any more. Its lines go to the system log, as `clusterip`.

use crate::model::untrusted::in_one_line;
use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// Where the system log takes lines (`syslog(3)`), and LOG_DAEMON.
const SYSTEM_LOG: &str = "/dev/log";
const DAEMON: u8 = 3 << 3;

/// `SEVERITY: sentence`, as `ocf_log` words severities.
struct OcfFormat;

impl<S, N> FormatEvent<S, N> for OcfFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let severity = match *event.metadata().level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            Level::DEBUG | Level::TRACE => "DEBUG",
        };
        let mut line = Line(String::new());
        event.record(&mut line);
        writeln!(writer, "{severity}: {}", line.0)
    }
}

/// The message first, then the fields.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = match field.name() {
            "message" => format!("{value:?}"),
            name => format!(" {name}={value:?}"),
        };
        // A line break would end the line in Pacemaker's log, and a terminal would obey other characters.
        self.0.push_str(&in_one_line(&text));
    }
}

/// Where lines go, in the process that began to log and in those that it has left behind.
struct Outlet {
    began: u32,
}

impl<'a> MakeWriter<'a> for Outlet {
    type Writer = Out;

    fn make_writer(&'a self) -> Out {
        self.out(Level::INFO)
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Out {
        self.out(*meta.level())
    }
}

impl Outlet {
    fn out(&self, level: Level) -> Out {
        match std::process::id() == self.began {
            true => Out::Stderr,
            false => Out::System(level),
        }
    }
}

enum Out {
    Stderr,
    System(Level),
}

impl Write for Out {
    /// Takes one line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self {
            Out::Stderr => return io::stderr().write(line),
            // A log that is not there, or that nobody reads at the moment, must not keep anybody waiting.
            Out::System(level) => drop(send(*level, line)),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends a line to the system log, where that takes datagrams, without waiting.
fn send(level: Level, line: &[u8]) -> io::Result<()> {
    let log = UnixDatagram::unbound()?;
    log.set_nonblocking(true)?;
    log.connect(SYSTEM_LOG)?;
    log.send(datagram(level, line).as_bytes()).map(drop)
}

/// What `syslog(3)` sends, but for the time, which the log knows.
fn datagram(level: Level, line: &[u8]) -> String {
    let severity = match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    };
    let line = String::from_utf8_lossy(line);
    let (priority, own) = (DAEMON | severity, std::process::id());
    format!("<{priority}>clusterip[{own}]: {}", line.trim_end())
}

/// Starts logging. `debug` adds what is done step by step.
pub fn start(debug: bool) {
    let level = if debug { Level::DEBUG } else { Level::INFO };
    let subscriber = tracing_subscriber::fmt()
        .with_writer(Outlet {
            began: std::process::id(),
        })
        .with_max_level(level)
        .log_internal_errors(false)
        .event_format(OcfFormat)
        .finish();
    // Only a second call fails, and then logging is started already.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::untrusted::tests::{NASTY, forbidden_in};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("a thread that lives").write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_forgets_to_show_a_text_still_writes_one_line() {
        let sink = Sink::default();
        let out = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || out.clone())
            .event_format(OcfFormat)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(other = NASTY, "{NASTY} is lost");
        });
        let told = sink.0.lock().expect("a thread that lives").clone();
        let told = String::from_utf8(told).expect("text");
        let line = told.strip_suffix('\n').expect("a line");
        assert_eq!(forbidden_in(line), None, "{line:?}");
        assert!(line.starts_with(r"WARNING: web'\n\u{9b}31m"), "{line}");
    }

    #[test]
    fn a_line_for_the_system_log_has_its_priority_and_who_says_it() {
        let own = std::process::id();
        let expected = format!("<28>clusterip[{own}]: WARNING: two words");
        assert_eq!(datagram(Level::WARN, b"WARNING: two words\n"), expected);
        assert!(datagram(Level::INFO, b"").starts_with("<30>"));
    }
}
