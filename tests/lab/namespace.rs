//! A network namespace that lives no longer than the process that wanted it.
//!
//! A holder process (`lab hold`) keeps the namespace; it leaves when its stdin ends, which the
//! kernel sees to even when the test process is killed. Nothing is named under /run/netns, so
//! this works for plain root inside a user namespace too. What is *in* a namespace (addresses,
//! cables, servers) is not known here.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::sched::{CloneFlags, setns, unshare};

use crate::{Context, Error, Result};

/// A network namespace and its holder.
pub struct Namespace {
    net: File,
    pid: u32,
    holder: Mutex<Child>,
}

impl Namespace {
    /// A new, empty network namespace; `label` shows up in `ps` behind `lab hold`.
    pub fn new(label: &str) -> Result<Self> {
        let program = lab_binary()?;
        let mut holder = Command::new(&program)
            .args(["hold", label])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(format!("cannot start {}", program.display()))?;
        let pid = holder.id();
        let opened = wait_for_line(&mut holder, "held")
            .and_then(|()| File::open(format!("/proc/{pid}/ns/net")).context("open the namespace"));
        match opened {
            Ok(net) => Ok(Self {
                net,
                pid,
                holder: Mutex::new(holder),
            }),
            Err(error) => {
                end(&mut holder);
                Err(error).context(format!("namespace {label}"))
            }
        }
    }

    /// The holder's process id: `nsenter -t PID -n` looks in from outside.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Runs `work` on a thread of its own that has entered the namespace.
    ///
    /// Sockets opened in there stay in there, wherever they are used later.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let net = &self.net;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(net.as_fd(), CloneFlags::CLONE_NEWNET).context("enter the namespace")?;
                Ok(work())
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// A copy of the namespace's handle, for threads that outlive a call.
    pub(crate) fn handle(&self) -> Result<File> {
        self.net.try_clone().context("copy a namespace's handle")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        drop(holder.stdin.take());
        // It has something to tidy up, which takes no time; if it hangs it is killed.
        for _ in 0..200 {
            match holder.try_wait() {
                Ok(None) => std::thread::sleep(std::time::Duration::from_millis(5)),
                _ => return,
            }
        }
        end(&mut holder);
    }
}

/// Enters the namespace behind `handle` with the calling thread, for good.
pub(crate) fn enter(handle: &File) -> Result<()> {
    setns(handle.as_fd(), CloneFlags::CLONE_NEWNET).context("enter the namespace")
}

/// The body of `lab hold`: make a network namespace, say so, and stay until stdin ends.
pub fn hold() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| {
        Error::new(format!(
            "cannot make a network namespace ({errno}); the lab needs root, or root inside a user \
             namespace: unshare --user --map-root-user --mount --net cargo test …"
        ))
    })?;
    println!("held");
    outlive_stdin();
    forget_lock();
    Ok(())
}

/// The files that what is tested locks for a network namespace, by the inode of that.
pub fn lock_files(namespace: u64) -> Vec<PathBuf> {
    let end = format!("-{namespace}.lock");
    let files = std::fs::read_dir("/run/clusterip").into_iter().flatten();
    let paths = files.flatten().map(|file| file.path());
    paths
        .filter(|path| path.to_string_lossy().ends_with(&end))
        .collect()
}

/// They are of no use after it.
fn forget_lock() {
    let Ok(namespace) = std::fs::metadata("/proc/self/ns/net") else {
        return;
    };
    for file in lock_files(std::os::linux::fs::MetadataExt::st_ino(&namespace)) {
        let _ = std::fs::remove_file(file);
    }
}

/// Returns when stdin has ended, that is when the parent has gone.
pub fn outlive_stdin() {
    let mut sink = [0; 64];
    let mut stdin = std::io::stdin().lock();
    while matches!(stdin.read(&mut sink), Ok(read) if read > 0) {}
}

/// Waits until a child of ours has printed `wanted` as its next line.
pub(crate) fn wait_for_line(child: &mut Child, wanted: &str) -> Result<()> {
    let line = read_line(child)?;
    if line == wanted {
        return Ok(());
    }
    Err(Error::new(format!(
        "expected the child to say {wanted:?}, it said {line:?}"
    )))
}

/// The next line of a child of ours; if it ends instead, its stderr is the error.
pub(crate) fn read_line(child: &mut Child) -> Result<String> {
    let stdout = child
        .stdout
        .as_mut()
        .context("the child's stdout is not piped")?;
    let mut line = String::new();
    // One byte at a time, so that nothing of the lines behind is swallowed.
    let read = BufReader::with_capacity(1, stdout).read_line(&mut line);
    if matches!(read, Ok(length) if length > 0) {
        return Ok(line.trim_end().to_string());
    }
    let mut said = String::new();
    if let Some(stderr) = child.stderr.as_mut() {
        // It has closed its stdout, so it is on its way out and stderr ends soon.
        stderr
            .read_to_string(&mut said)
            .context("read the child's stderr")?;
    }
    Err(Error::new(if said.is_empty() {
        "it ended in silence"
    } else {
        said.trim_end()
    }))
}

/// Ends a child of ours and reaps it.
pub(crate) fn end(child: &mut Child) {
    drop(child.stdin.take());
    // Both fail only if it is gone already, which is what is wanted.
    let _ = child.kill();
    let _ = child.wait();
}

/// The `lab` program: `$LAB_BIN`, or this program itself, or the one built beside the test.
pub fn lab_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("LAB_BIN") {
        return Ok(path.into());
    }
    built("lab").context("the lab's own program is needed")
}

/// A program of this workspace, found beside the running one (`target/<profile>/NAME`).
pub fn built(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find the running program")?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .context(format!(
            "there is no program {name} near {}; build it first: cargo build --workspace --bins",
            own.display()
        ))
}
