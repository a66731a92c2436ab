//! Asking Pacemaker: one program, by its absolute path, with fixed arguments, a cleared environment
//! and a deadline.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where distributions install it.
const PROGRAMS: [&str; 2] = ["/usr/sbin/cibadmin", "/usr/bin/cibadmin"];
/// The status section of the CIB.
const ARGUMENTS: [&str; 3] = ["--query", "--scope", "status"];
/// The answer takes some ten milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// An answer is never that long; this only keeps a fault from filling the memory.
const LONGEST: u64 = 64 << 20;
/// Who waits asks so often whether the program has ended.
const PAUSE: Duration = Duration::from_millis(2);

/// Pacemaker could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// There is no such program.
    #[error("there is no cibadmin; it is part of Pacemaker's command line tools")]
    Missing,
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
        status: std::process::ExitStatus,
    },
    /// It did not end.
    #[error("{0} did not answer within {s} s", s = PATIENCE.as_secs())]
    Late(&'static str),
}

/// The status section of the CIB, as XML.
///
/// # Errors
/// [`QueryError`]; without a running Pacemaker it is [`QueryError::Failed`].
pub fn status() -> Result<String, QueryError> {
    let program = PROGRAMS
        .into_iter()
        .find(|program| std::path::Path::new(program).exists())
        .ok_or(QueryError::Missing)?;
    let broken = |source| QueryError::Run { program, source };
    let mut child = Command::new(program)
        .args(ARGUMENTS)
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
            None if begin.elapsed() > PATIENCE => {
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
