//! `nodectl watch`: what happens in the cluster, as `clusteripd` comes to know it, a line each.

use super::context::Context;
use super::daemons::{AlarmTold, MemberTold, NodeTold, PATIENCE, Told, screens};
use super::failure::{Failure, REFUSED, UNAVAILABLE};
use super::json::{SCHEMA, json};
use super::screen::Screen;
use crate::host::daemon;
use crate::model::bucket::BucketSet;
use crate::model::untrusted::Untrusted;
use crate::talk::event::{Event, Of, What};
use serde::Serialize;
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;

/// An event, for programs. What an event does not have is null.
#[derive(Serialize)]
struct EventTold {
    schema: u32,
    event: &'static str,
    at_ms: u64,
    vip: Option<IpAddr>,
    node: Option<NodeTold>,
    buckets: Option<BucketSet>,
    quorum: Option<bool>,
    members: Option<Vec<MemberTold>>,
    alarm: Option<AlarmTold>,
    what: Option<Untrusted>,
    by: Option<Untrusted>,
    sentence: String,
}

/// `nodectl watch`: prints as long as somebody reads and the daemon runs.
pub(super) fn watch(context: &Context<'_>) -> Result<String, Failure> {
    let (view, events) = daemon::watch(PATIENCE)?;
    let screen = Screen::of_stdout();
    let begin = match context.json {
        true => json(&Told::from(&view))?,
        false => screens(&view, screen) + "\n",
    };
    if !print(&begin, screen)? {
        return Ok(String::new());
    }
    for event in events {
        let event = event?;
        let line = match context.json {
            true => json(&told(event))?,
            false => format!("{} {}\n", time(event.at_ms), event.what),
        };
        if !print(&line, screen)? {
            return Ok(String::new());
        }
    }
    let what = "clusteripd has ended, or what happened was not read fast enough; watch again";
    Err(Failure::new(UNAVAILABLE, what))
}

/// Prints at once. Does somebody read on?
fn print(text: &str, screen: Screen) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    let printed = out.write_all(screen.clean(text).as_bytes());
    match printed.and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            let what = format!("what happens cannot be written: {error}");
            Err(Failure::new(REFUSED, what))
        }
    }
}

fn told(event: Event) -> EventTold {
    let Event { at_ms, what } = event;
    let sentence = what.to_string();
    let mut told = EventTold {
        schema: SCHEMA,
        event: "unknown",
        at_ms,
        vip: None,
        node: None,
        buckets: None,
        quorum: None,
        members: None,
        alarm: None,
        what: None,
        by: None,
        sentence,
    };
    let mut of = |event, Of { vip, buckets, node }: Of| {
        told.event = event;
        told.vip = Some(vip);
        told.node = Some((&node).into());
        told.buckets = Some(buckets);
    };
    match what {
        What::Offers(it) => of("offers", it),
        What::Claims(it) => of("claims", it),
        What::Releases(it) => of("releases", it),
        What::Takes(it) => of("takes", it),
        What::Drained(it) => of("drained", it),
        What::Members { quorate, members } => {
            told.event = "members";
            told.quorum = quorate;
            told.members = Some(members.iter().map(MemberTold::from).collect());
        }
        What::Alone => told.event = "alone",
        What::Alarm { vip, alarm } => {
            (told.event, told.vip) = ("alarm", Some(vip));
            told.alarm = Some((&alarm).into());
        }
        What::Over { vip, alarm } => {
            (told.event, told.vip) = ("over", Some(vip));
            told.alarm = Some((&alarm).into());
        }
        What::Mended { vip, what, by } => {
            (told.event, told.vip) = ("mended", Some(vip));
            (told.what, told.by) = (Some(what), by);
        }
        What::Unmended { vip, what, by } => {
            (told.event, told.vip) = ("unmended", Some(vip));
            (told.what, told.by) = (Some(what), by);
        }
        What::Unknown => {}
    }
    told
}

/// A time as RFC 3339 writes it, in UTC: events of several nodes are compared.
fn time(at_ms: u64) -> String {
    let (seconds, ms) = (at_ms / 1000, at_ms % 1000);
    let (mut day, second) = (seconds / 86_400, seconds % 86_400);
    // 400 years of the Gregorian calendar have so many days, and end where they began.
    let mut year = 1970 + 400 * (day / 146_097);
    day %= 146_097;
    let leaps = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = |year| if leaps(year) { 366 } else { 365 };
    while day >= days(year) {
        day -= days(year);
        year += 1;
    }
    let february = if leaps(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let (day, second) = (day + 1, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::talk::reply::Reply;
    use crate::talk::reply::tests::{all, an_event};

    #[test]
    fn times_are_those_of_the_calendar() {
        for (at_ms, written) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_735_689_599_007, "2024-12-31T23:59:59.007Z"),
            (1_764_439_200_123, "2025-11-29T18:00:00.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (12_622_780_800_000, "2370-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(time(at_ms), written);
        }
        assert!(time(u64::MAX).ends_with('Z'));
    }

    #[test]
    fn a_program_reads_every_event_by_its_name() {
        let told = json(&told(an_event())).expect("JSON");
        let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!(told["event"], "takes");
        assert_eq!(told["buckets"], serde_json::json!([3, 4, 5]));
        assert_eq!(told["node"]["node"], "n2");
        for reply in all() {
            let Reply::Event(event) = reply else { continue };
            // The name is that which stands on the socket.
            let said = serde_json::to_value(&event).expect("JSON");
            assert_eq!(super::told(event).event, said["event"]);
        }
    }
}
