//! Asking Pacemaker: programs of its own, by their absolute paths, with fixed arguments, a cleared
//! environment and a deadline. They only read.

use crate::sys::netns::{Home, NetnsError};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The answer takes some ten milliseconds, `crm_mon`'s a hundred.
const PATIENCE: Duration = Duration::from_secs(2);
/// An answer is never that long; this only keeps a fault from filling the memory.
const LONGEST: u64 = 64 << 20;
/// Who waits asks so often whether the program has ended.
const PAUSE: Duration = Duration::from_millis(2);

/// What can be asked. Each answer is XML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query {
    /// The status section of the CIB: what every node has done.
    Status,
    /// Its resources section: how they are configured.
    Resources,
    /// The whole CIB.
    Configuration,
    /// What runs where.
    Placement,
}

impl Query {
    fn program(self) -> &'static str {
        match self {
            Query::Status | Query::Resources | Query::Configuration => "cibadmin",
            Query::Placement => "crm_mon",
        }
    }

    /// Where distributions install it.
    fn paths(self) -> [&'static str; 2] {
        match self {
            Query::Status | Query::Resources | Query::Configuration => {
                ["/usr/sbin/cibadmin", "/usr/bin/cibadmin"]
            }
            Query::Placement => ["/usr/sbin/crm_mon", "/usr/bin/crm_mon"],
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Query::Status => &["--query", "--scope", "status"],
            Query::Resources => &["--query", "--scope", "resources"],
            Query::Configuration => &["--query"],
            Query::Placement => &["--one-shot", "--inactive", "--output-as=xml"],
        }
    }
}

/// Pacemaker could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// There is no such program.
    #[error("there is no {0}; it is part of Pacemaker's command line tools")]
    Missing(&'static str),
    /// The program could not be run.
    #[error("cannot run {program}: {source}")]
    Run {
        /// The program.
        program: &'static str,
        /// The system call's error.
        source: io::Error,
    },
    /// It failed.
    #[error("{program} ended with {status}")]
    Failed {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
    /// The network namespace in which Pacemaker is cannot be entered.
    #[error(transparent)]
    Home(#[from] NetnsError),
    /// It did not end.
    #[error("{0} did not answer within {s} s", s = PATIENCE.as_secs())]
    Late(&'static str),
}

impl QueryError {
    /// Is it that Pacemaker is not installed here, or does not run?
    pub fn is_absent(&self) -> bool {
        matches!(self, QueryError::Missing(_) | QueryError::Failed { .. })
    }
}

/// Asks Pacemaker where it is, if this thread has left that network namespace: its sockets are its
/// namespace's.
///
/// # Errors
/// As for [`ask`], and [`QueryError::Home`].
pub fn ask_at(home: Option<&Home>, query: Query) -> Result<String, QueryError> {
    match home {
        Some(home) => home.within(|| ask(query))?,
        None => ask(query),
    }
}

/// Asks Pacemaker; the answer is XML.
///
/// # Errors
/// [`QueryError`]; without a running Pacemaker it is [`QueryError::Failed`].
pub fn ask(query: Query) -> Result<String, QueryError> {
    let mut paths = query.paths().into_iter();
    let program = paths
        .find(|program| Path::new(program).exists())
        .ok_or(QueryError::Missing(query.program()))?;
    told_by(program, query.arguments(), PATIENCE)
}

/// What a program prints, if it ends well and in time.
fn told_by(
    program: &'static str,
    arguments: &[&str],
    patience: Duration,
) -> Result<String, QueryError> {
    let broken = |source| QueryError::Run { program, source };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(broken)?;
    let output = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let output = output.map(|output| output.take(LONGEST).read_to_string(&mut text));
        output.transpose().map(|_| text)
    });
    let begin = Instant::now();
    let status = loop {
        match child.try_wait().map_err(broken)? {
            Some(status) => break status,
            None if begin.elapsed() > patience => {
                // It is our child and still there; when it is gone the reader ends too.
                let _ = child.kill();
                let _ = child.wait();
                return Err(QueryError::Late(program));
            }
            None => std::thread::sleep(PAUSE),
        }
    };
    let text = reader
        .join()
        .map_err(|_| broken(io::Error::other("its output was lost")))?;
    match status.success() {
        true => text.map_err(broken),
        false => Err(QueryError::Failed { program, status }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_ever_for_a_program() {
        const PATIENT: Duration = Duration::from_secs(60);
        let shell = |script, patience| told_by("/bin/sh", &["-c", script], patience);
        let begin = Instant::now();
        let late = shell("exec sleep 60", Duration::from_millis(20));
        assert!(matches!(late, Err(QueryError::Late(_))), "{late:?}");
        assert!(begin.elapsed() < PATIENT);
        assert_eq!(shell("echo $HOME yes", PATIENT).expect("told"), "yes\n");
        let failed = shell("echo half; exit 3", PATIENT);
        assert!(
            matches!(failed, Err(QueryError::Failed { .. })),
            "{failed:?}"
        );
    }
}
