//! Running programs inside a namespace: once, to the end, or in the background.
//!
//! Every program is started by a thread that has entered the namespace; on a booted cluster node
//! `nsenter` enters all of the node's namespaces. Nothing here knows what the programs do.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::namespace::{Namespace, end, lab_binary, read_line, wait_for_line};
use crate::wait::patient;
use crate::{Context, Error, Result};

/// The lab's own program, as a booted node has it.
pub const LAB: &str = "/usr/sbin/lab";

/// Where a program runs.
#[derive(Clone)]
pub(crate) enum Place {
    /// In a network namespace; all else is the caller's own.
    Net(Arc<Namespace>),
    /// In all namespaces of a booted node, whose first process this is.
    Node {
        /// Process id of the node's init, as seen from outside.
        init: u32,
        /// The node's network, for closures.
        net: Arc<Namespace>,
    },
}

impl Place {
    pub(crate) fn net(&self) -> &Arc<Namespace> {
        match self {
            Self::Net(net) | Self::Node { net, .. } => net,
        }
    }

    /// The lab's own program, as it is called there.
    pub(crate) fn lab_program(&self) -> Result<String> {
        match self {
            Self::Net(_) => Ok(lab_binary()?.display().to_string()),
            Self::Node { .. } => Ok(LAB.into()),
        }
    }
}

/// A command to be run somewhere in the lab.
///
/// ```no_run
/// # fn f(n1: &lab::Node) -> lab::Result<()> {
/// n1.exec(&["nft", "-f", "-"]).stdin("table ip t {}").run()?;
/// # Ok(()) }
/// ```
#[must_use = "nothing runs until run, output or spawn is called"]
pub struct Exec {
    place: Result<Place>,
    argv: Vec<String>,
    env: Vec<(String, String)>,
    stdin: Vec<u8>,
    deadline: Duration,
}

impl Exec {
    pub(crate) fn new<S: AsRef<str>>(place: Result<Place>, argv: &[S]) -> Self {
        Self {
            place,
            argv: argv.iter().map(|word| word.as_ref().into()).collect(),
            env: Vec::new(),
            stdin: Vec::new(),
            deadline: Duration::from_secs(120),
        }
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets many environment variables.
    pub fn envs<N: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let variables = variables.into_iter();
        self.env
            .extend(variables.map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// What the program reads on stdin; without this it reads nothing.
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = text.into();
        self
    }

    /// How long the program may take before it is killed (two minutes, unless said otherwise).
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to the end; gives its stdout, or an error with its status and stderr.
    pub fn run(self) -> Result<String> {
        let shown = self.argv.join(" ");
        let output = self.output()?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            return Ok(stdout.into_owned());
        }
        Err(Error::new(format!(
            "`{shown}` ended with {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end(),
            if stdout.is_empty() {
                String::new()
            } else {
                format!("\nstdout: {}", stdout.trim_end())
            }
        )))
    }

    /// Runs it to the end; gives whatever came of it.
    pub fn output(self) -> Result<Output> {
        let shown = self.argv.join(" ");
        let place = self.place.clone()?;
        let mut command = self.command(&place);
        command.stdin(if self.stdin.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = start(&place, &mut command)?;
        finish(child, self.stdin, patient(self.deadline)).context(format!("`{shown}`"))
    }

    /// Starts it in the background; it ends with the returned handle, and with the test process.
    ///
    /// Its output is kept in pipes: who expects much of it must read it by [`Running::child`].
    pub fn spawn(self) -> Result<Running> {
        let place = self.place.clone()?;
        // The leash ends the program when our end of the leash's stdin goes away.
        let mut leashed = self;
        leashed
            .argv
            .splice(0..0, [place.lab_program()?, "leash".into()]);
        leashed.spawn_watching_stdin()
    }

    /// As [`Exec::spawn`] for programs of the tests themselves, which watch their stdin and need no leash.
    pub fn spawn_watching_stdin(self) -> Result<Running> {
        let place = self.place.clone()?;
        let mut command = self.command(&place);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(Running {
            child: start(&place, &mut command)?,
        })
    }

    fn words(&self, place: &Place) -> Vec<String> {
        let mut words = Vec::new();
        if let Place::Node { init, .. } = place {
            words.extend([
                "nsenter".into(),
                "-t".into(),
                init.to_string(),
                "-a".into(),
                "--".into(),
            ]);
        }
        words.extend(self.argv.iter().cloned());
        words
    }

    fn command(&self, place: &Place) -> Command {
        let words = self.words(place);
        let mut command = Command::new(words.first().map(OsStr::new).unwrap_or_default());
        command
            .args(&words[1..])
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        if matches!(place, Place::Node { .. }) {
            command.env("HOME", "/root");
        }
        command
    }
}

/// A program in the background; it is ended when this is dropped.
pub struct Running {
    child: Child,
}

impl Running {
    /// Process id, as seen from outside (of the leash, where there is one).
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The underlying child, for its stdout and stderr.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The next line that it prints.
    pub(crate) fn read_line(&mut self) -> Result<String> {
        read_line(&mut self.child)
    }

    /// Waits until it has printed `line` as its next line.
    pub fn wait_for_line(&mut self, line: &str) -> Result<()> {
        wait_for_line(&mut self.child, line)
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it and waits for its end.
    pub fn stop(self) {}
}

impl Drop for Running {
    fn drop(&mut self) {
        // A leash ends its program when it sees stdin end, so it must not be killed first.
        drop(self.child.stdin.take());
        let gone = crate::wait_until("a program's end", Duration::from_secs(5), || {
            matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
        });
        if gone.is_err() {
            end(&mut self.child);
        }
    }
}

/// The body of `lab leash PROGRAM …`: run it, and kill it when stdin ends.
pub fn leash(argv: &[String]) -> Result<i32> {
    let (program, arguments) = argv.split_first().context("leash what?")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .context(format!("cannot start {program}"))?;
    let pid = Pid::from_raw(child.id() as i32);
    std::thread::spawn(move || {
        crate::namespace::outlive_stdin();
        let _ = kill(pid, Signal::SIGKILL);
    });
    let status = child.wait().context(format!("wait for {program}"))?;
    Ok(status.code().unwrap_or(137))
}

fn start(place: &Place, command: &mut Command) -> Result<Child> {
    let program = PathBuf::from(command.get_program());
    let started = match place {
        Place::Net(net) => net.within(|| command.spawn())?,
        Place::Node { .. } => command.spawn(),
    };
    started.map_err(|error| cannot_start(&program, &error))
}

fn cannot_start(program: &Path, error: &std::io::Error) -> Error {
    let shown = program.display();
    if error.kind() == std::io::ErrorKind::NotFound {
        return Error::new(format!(
            "the lab needs the program {shown}, which is not installed here"
        ));
    }
    Error::new(format!("cannot start {shown}: {error}"))
}

/// Feeds, drains and reaps a child, and kills it when its time is over.
fn finish(mut child: Child, stdin: Vec<u8>, deadline: Duration) -> Result<Output> {
    let pid = Pid::from_raw(child.id() as i32);
    let mut pipe = child.stdin.take();
    // Plain threads, not scoped ones: a grandchild that holds the pipes must not hold us.
    std::thread::spawn(move || {
        if let Some(pipe) = pipe.as_mut() {
            // A program that does not read all of its input says so by its own status.
            let _ = pipe.write_all(&stdin);
        }
    });
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    match ended.recv_timeout(deadline) {
        Ok(output) => output.context("read its output"),
        Err(_) => {
            let _ = kill(pid, Signal::SIGKILL);
            Err(Error::new(format!(
                "not done after {} s, killed",
                deadline.as_secs_f64()
            )))
        }
    }
}
