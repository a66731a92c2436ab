//! Lines on stderr, for people and for Pacemaker's log: the executor writes each line of an agent's stderr into it, with the
//! resource, the action and the time in front, so a line is a severity and a sentence.

use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

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
        // A line break would end the line in Pacemaker's log.
        self.0.push_str(&text.replace('\n', " "));
    }
}

/// Starts logging to stderr. `debug` adds what is done step by step.
pub fn start(debug: bool) {
    let level = if debug { Level::DEBUG } else { Level::INFO };
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .log_internal_errors(false)
        .event_format(OcfFormat)
        .finish();
    // Only a second call fails, and then logging is started already.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
