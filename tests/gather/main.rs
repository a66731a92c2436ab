//! A daemon that does nothing but listen: joins a group of Corosync's, prints what it is told, a JSON object a line, and
//! obeys lines on stdin, with whose end it ends. It joins again whenever the connection is lost.
//!
//!     gather GROUP
//!
//! | line | what follows |
//! |---|---|
//! | `say TEXT` | a message to all |
//! | `burst COUNT LENGTH` | so many messages of that length as fast as Corosync takes them; the first time that it does not is told |
//! | `settings` | what Corosync is set to |
//! | `again` | leaves and joins again |
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use clusterip::sys::corosync::{Corosync, CorosyncError, Event, Process, Settings};
use lab::{Context, Error, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

/// How long it is waited before the same is tried again.
const PAUSE: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [group] = words.as_slice() else {
        eprintln!("gather GROUP");
        return ExitCode::FAILURE;
    };
    match gather(group) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gather: {error}");
            ExitCode::FAILURE
        }
    }
}

fn gather(group: &str) -> Result<()> {
    let mut lines = Lines::default();
    loop {
        let mut corosync = join(group)?;
        match listen(&mut corosync, &mut lines) {
            Ok(End::Leaves) => {}
            Ok(End::Ends) => return Ok(()),
            Err(CorosyncError::Lost) => tell(&json!({"parted": CorosyncError::Lost.to_string()}))?,
            Err(error) => return Err(Error::new(error.to_string())),
        }
    }
}

/// Joins as soon as there is a Corosync; tells why it has to wait, once for each reason.
fn join(group: &str) -> Result<Corosync> {
    let mut told = None;
    loop {
        match Corosync::join(group) {
            Ok(corosync) => {
                tell(&json!({"joined": address(corosync.me())}))?;
                return Ok(corosync);
            }
            Err(
                error @ (CorosyncError::NotRunning
                | CorosyncError::TryAgain(_)
                | CorosyncError::Lost),
            ) => {
                if told.as_ref() != Some(&error) {
                    tell(&json!({"waits": error.to_string()}))?;
                    told = Some(error);
                }
                sleep(PAUSE);
            }
            Err(error) => return Err(Error::new(error.to_string())),
        }
    }
}

enum End {
    /// To join again.
    Leaves,
    Ends,
}

fn listen(corosync: &mut Corosync, lines: &mut Lines) -> Result<End, CorosyncError> {
    loop {
        hear(corosync)?;
        let is_in = |place: &PollFd| place.any().unwrap_or(false);
        let stdin = std::io::stdin();
        let [cpg, quorum] = corosync.fds()?;
        let mut places = [cpg, quorum, stdin.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // An interrupted call says nothing, and is made again.
        let _ = poll(&mut places, PollTimeout::NONE);
        if !is_in(&places[2]) {
            continue;
        }
        if !lines.read() {
            return Ok(End::Ends);
        }
        while let Some(line) = lines.next() {
            match obey(corosync, &line) {
                Ok(None) => {}
                Ok(Some(end)) => return Ok(end),
                Err(CorosyncError::Lost) => return Err(CorosyncError::Lost),
                Err(error) => say(&json!({"error": error.to_string()})),
            }
        }
    }
}

fn obey(corosync: &mut Corosync, line: &str) -> Result<Option<End>, CorosyncError> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let numbers: Vec<usize> = rest
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    match (verb, numbers.as_slice()) {
        ("say", _) => {
            send(corosync, rest.as_bytes(), &mut false)?;
        }
        ("burst", [count, length]) => {
            let mut told = false;
            for _ in 0..*count {
                send(corosync, &vec![b'.'; *length], &mut told)?;
            }
            say(&json!({"burst": count}));
        }
        ("settings", _) => say(&settings(&Settings::read()?)),
        ("again", _) => return Ok(Some(End::Leaves)),
        _ => say(&json!({"error": format!("what is {line:?}?")})),
    }
    Ok(None)
}

/// Sends it as soon as Corosync takes it; tells if that is not at once, unless that was told already.
fn send(corosync: &mut Corosync, bytes: &[u8], told: &mut bool) -> Result<(), CorosyncError> {
    loop {
        match corosync.send(bytes) {
            Err(error @ CorosyncError::TryAgain(_)) => {
                if !std::mem::replace(told, true) {
                    say(&json!({"refused": error.to_string()}));
                }
            }
            sent => return sent,
        }
        hear(corosync)?;
        sleep(PAUSE);
    }
}

/// Tells all that has happened.
fn hear(corosync: &mut Corosync) -> Result<(), CorosyncError> {
    loop {
        let events = corosync.dispatch()?;
        if events.is_empty() {
            return Ok(());
        }
        for event in events {
            say(&written(&event));
        }
    }
}

fn address(process: Process) -> Value {
    json!([process.node, process.pid])
}

fn written(event: &Event) -> Value {
    match event {
        Event::Members {
            ring,
            members,
            without,
            lost,
        } => {
            let members: Vec<_> = members.iter().collect();
            let ring = [u64::from(ring.node), ring.number];
            json!({"members": members, "ring": ring, "without": without, "lost": lost})
        }
        Event::Message { from, bytes } => {
            json!({"message": String::from_utf8_lossy(bytes), "from": address(*from)})
        }
        Event::Quorate { ring, quorate } => {
            json!({"quorate": quorate, "ring": [ring.node, ring.number]})
        }
    }
}

fn settings(settings: &Settings) -> Value {
    json!({"settings": {
        "configured_token": settings.configured_token.map(|it| it.as_millis()),
        "token": settings.token.as_millis(),
        "consensus": settings.consensus.as_millis(),
        "two_node": settings.two_node,
        "names": settings.names,
        "members": settings.members,
    }})
}

fn tell(value: &Value) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{value}").context("write to stdout")
}

/// As [`tell`]. Where nobody listens any more stdin ends as well.
fn say(value: &Value) {
    let _ = tell(value);
}

/// The lines of stdin, as they come.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Reads what is there; not if that is the end.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        match std::io::stdin().lock().read(&mut bytes) {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.0.extend(&bytes[..length]);
                true
            }
        }
    }

    fn next(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.0.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }
}
