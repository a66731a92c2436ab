//! The agent as Pacemaker finds it in an ordeal: the real one stands behind it, and now and then gets into trouble.
//!
//! What became of each action is a line of JSON in a file of the node, which the ordeal reads after the round.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Where the real agent is on a node.
pub const REAL: &str = "/usr/lib/ocf/ordeal/ClusterIP";
/// While this file is there, agents get into trouble.
pub const WILD: &str = "/run/ordeal-wild";
/// What became of the actions.
pub const LOG: &str = "/var/log/ordeal.jsonl";
/// An action with less left than this of its time had none left.
const NONE_LEFT: Duration = Duration::from_millis(1500);

/// Errors that pass, and where they come from: calls that neither the loader nor a changed clock makes.
const ERRORS: [(&str, &str); 14] = [
    ("ENOBUFS", "sendto"),
    ("ENOBUFS", "sendmsg"),
    ("ENOBUFS", "recvfrom"),
    ("ENOBUFS", "recvmsg"),
    ("ENOMEM", "sendto"),
    ("ENOMEM", "socket"),
    ("ENOMEM", "recvfrom"),
    ("EINTR", "sendto"),
    ("EINTR", "sendmsg"),
    ("EINTR", "recvfrom"),
    ("EINTR", "recvmsg"),
    ("EINTR", "flock"),
    ("EINTR", "ioctl"),
    ("EMFILE", "socket"),
];
/// Which of such calls fails, at most: an action makes some tens of each.
const CALLS: usize = 60;
/// An action takes some milliseconds; it is struck at any time of these, in microseconds.
const STRUCK: std::ops::Range<u64> = 0..25_000;
/// How long one stands still, in milliseconds.
const STILL: std::ops::Range<u64> = 50..2_000;

/// What became of an action.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Errand {
    /// Which action.
    pub action: String,
    /// Of which instance.
    pub instance: String,
    /// What trouble it had: `none`, `error …`, `killed` or `still`.
    pub trouble: String,
    /// The exit code.
    pub code: i32,
    /// How long it took.
    pub ms: u64,
    /// How long it may take.
    pub timeout_ms: u64,
    /// The last that it said, if it failed.
    pub said: String,
}

impl Errand {
    /// The word for its kind of trouble.
    pub fn kind(&self) -> &str {
        self.trouble.split(' ').next().unwrap_or_default()
    }

    /// Whether it did not do what it was to do. A monitor fails too that says "not running".
    pub fn failed(&self) -> bool {
        self.code != 0
    }

    /// Whether it ended so early that it could have tried on.
    pub fn had_time_left(&self) -> bool {
        Duration::from_millis(self.ms) + NONE_LEFT < Duration::from_millis(self.timeout_ms)
    }

    /// What is wrong with it, as a sentence. A stop never fails while there is time left; nothing fails where nothing
    /// was broken. A probe is no failure.
    pub fn fault(&self, planned: bool) -> Option<String> {
        let matters = match self.action.as_str() {
            "stop" => self.had_time_left(),
            "start" => planned,
            "monitor" => planned,
            _ => false,
        };
        (self.failed() && matters).then(|| {
            let Self { action, instance, trouble, code, ms, said, .. } = self;
            format!("{action} of {instance} ended with {code} after {ms} ms (trouble: {trouble}): {said}")
        })
    }
}

/// Does what Pacemaker asks, if this program was called as an agent.
pub fn as_agent() -> Option<ExitCode> {
    let mut words = std::env::args();
    if !words.next()?.ends_with("/ClusterIP") {
        return None;
    }
    let action = words.next().unwrap_or_default();
    let code = match act(&action) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ordeal: {error}");
            1
        }
    };
    Some(ExitCode::from(code as u8))
}

fn act(action: &str) -> io::Result<i32> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let interval = variable("OCF_RESKEY_CRM_meta_interval");
    let probes = action == "monitor" && ["", "0"].contains(&interval.as_str());
    let acts = ["start", "stop", "monitor"].contains(&action) && !probes;
    let begun = Instant::now();
    let wild = acts && fs::exists(WILD).unwrap_or_default();
    let (trouble, output) = match if wild { fastrand::u32(0..100) } else { 100 } {
        0..15 => with_error(action)?,
        15..25 => killed(action)?,
        25..30 => still(action)?,
        _ => ("none".into(), real(action).output()?),
    };
    let code = output.status.code().unwrap_or(-1);
    if acts {
        let said = String::from_utf8_lossy(&output.stderr);
        let errand = Errand {
            action: action.into(),
            instance: variable("OCF_RESOURCE_INSTANCE"),
            trouble,
            code,
            ms: begun.elapsed().as_millis() as u64,
            timeout_ms: variable("OCF_RESKEY_CRM_meta_timeout")
                .parse()
                .unwrap_or_default(),
            said: said
                .lines()
                .last()
                .filter(|_| code != 0)
                .unwrap_or_default()
                .into(),
        };
        note(&errand)?;
    }
    io::stdout().write_all(&output.stdout)?;
    io::stderr().write_all(&output.stderr)?;
    Ok(code)
}

fn note(errand: &Errand) -> io::Result<()> {
    let line = serde_json::to_string(errand)? + "\n";
    let log = OpenOptions::new().create(true).append(true).open(LOG);
    log?.write_all(line.as_bytes())
}

fn real(action: &str) -> Command {
    let mut command = Command::new(REAL);
    command.arg(action);
    command
}

fn with_error(action: &str) -> io::Result<(String, Output)> {
    let (error, call) = ERRORS[fastrand::usize(..ERRORS.len())];
    let which = 1 + fastrand::usize(..CALLS);
    let trace = format!("/run/ordeal-trace-{}", std::process::id());
    let inject = format!("inject={call}:error={error}:when={which}");
    let output = Command::new("strace")
        .args([
            "-qq",
            "-o",
            &trace,
            "-e",
            &format!("trace={call}"),
            "-e",
            &inject,
            REAL,
            action,
        ])
        .output();
    let traced = fs::read_to_string(&trace).unwrap_or_default();
    // What stays behind is in the node's memory alone, and small.
    let _ = fs::remove_file(&trace);
    let trouble = match traced.contains("(INJECTED)") {
        true => format!("error {error} at {call} {which}"),
        false => "none it made fewer calls".into(),
    };
    Ok((trouble, output?))
}

/// Starts the real one, and returns at any moment of its life.
fn begun(action: &str) -> io::Result<Child> {
    let child = real(action)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    std::thread::sleep(Duration::from_micros(fastrand::u64(STRUCK)));
    Ok(child)
}

/// Killed in the middle, and asked again, as after a time-out or the death of Pacemaker's executor.
fn killed(action: &str) -> io::Result<(String, Output)> {
    let child = begun(action)?;
    strike(&child, Signal::SIGKILL);
    let output = child.wait_with_output()?;
    match output.status.code() {
        Some(_) => Ok(("none it had ended".into(), output)),
        None => Ok(("killed".into(), real(action).output()?)),
    }
}

/// Stands still in the middle, with whatever it has locked.
fn still(action: &str) -> io::Result<(String, Output)> {
    let child = begun(action)?;
    strike(&child, Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(fastrand::u64(STILL)));
    strike(&child, Signal::SIGCONT);
    Ok(("still".into(), child.wait_with_output()?))
}

fn strike(child: &Child, signal: Signal) {
    // It is not reaped yet, so the number is its own; and if it has ended, nothing happens.
    let _ = kill(Pid::from_raw(child.id() as i32), signal);
}
