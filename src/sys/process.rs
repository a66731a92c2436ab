//! The process itself: leaving a small worker behind, and what it is allowed
//! to do.
//!
//! What a worker does is its caller's business.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, chdir, fork, setsid};
use thiserror::Error;

use super::errno;

const TASKS: &str = "/proc/self/task";
const STATUS: &str = "/proc/thread-self/status";
const CAP_NET_ADMIN: u32 = 12;
/// The intermediate child's exit status where all went well.
const FINE: i32 = 0;
/// Where it failed without an error number.
const FAILED: i32 = 255;
/// How long a file is held that is to be closed elsewhere: longer than we live on.
const LONG_ENOUGH: std::time::Duration = std::time::Duration::from_secs(1);

/// A worker that could not be left behind.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DetachError {
    /// A copy of a process with several threads has one thread and all the
    /// locks of the others: not even memory may be allocated in it (fork(2),
    /// signal-safety(7)).
    #[error(
        "this process has {threads} threads; only one with a single thread can leave a worker behind"
    )]
    Threads {
        /// The number of threads.
        threads: usize,
    },
    /// It is not known how many threads there are.
    #[error("cannot count the threads of this process in {TASKS}: {}", errno::io_words(.source))]
    Count {
        /// The system call's error.
        source: io::Error,
    },
    /// A step on the way to the worker failed.
    #[error("cannot leave a worker behind ({step}): {}", errno::io_words(.source))]
    Step {
        /// The step.
        step: &'static str,
        /// The system call's error.
        source: io::Error,
    },
}

/// Runs `worker` in a process of its own that nobody waits for, and returns at
/// once. The worker has no terminal and a session of its own (who kills our
/// process group spares it), `/` as its folder, `/dev/null` as standard input,
/// output and error, and **no other open file**: what it needs it opens itself,
/// and nothing that `worker` captures may own a file. Signal handling, network
/// namespace and privileges stay as they are. Values of the caller are never
/// dropped in the worker; a panic of `worker` ends it.
///
/// When this returns, no copy of the caller's files is open any more, so that
/// locks (flock(2)) end when the caller closes them. No zombie remains.
///
/// # Errors
/// [`DetachError::Threads`] unless the process has one thread, for the worker
/// is an ordinary program after fork(2); [`DetachError::Count`] without
/// `/proc`; [`DetachError::Step`]. On every error the worker did not run.
pub fn detach(worker: impl FnOnce()) -> Result<(), DetachError> {
    leave_behind(None, worker)
}

/// The same with one open file, which the caller closes as if there were no worker.
///
/// # Errors
/// As for [`detach`].
pub fn detach_with(held: &impl AsRawFd, worker: impl FnOnce()) -> Result<(), DetachError> {
    leave_behind(Some(held.as_raw_fd()), worker)
}

/// Has a file closed by a process of its own, for a file whose closing takes long: it is held there
/// for a second, and closing it here then takes no time.
///
/// # Errors
/// As for [`detach`]; closing the file here then takes as long as it takes.
pub fn close_elsewhere(file: &impl AsRawFd) -> Result<(), DetachError> {
    leave_behind(Some(file.as_raw_fd()), || std::thread::sleep(LONG_ENOUGH))
}

fn leave_behind(held: Option<RawFd>, worker: impl FnOnce()) -> Result<(), DetachError> {
    let count = fs::read_dir(TASKS).map(Iterator::count);
    match count.map_err(|source| DetachError::Count { source })? {
        1 => {}
        threads => return Err(DetachError::Threads { threads }),
    }
    let step = |step, source| DetachError::Step { step, source };
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|source| step("opening /dev/null", source))?;
    // SAFETY: the process has one thread (counted above; nothing here starts
    // another), so its copy is whole and may do whatever the original may.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => leave(intermediate(&null, held, worker)),
        Ok(ForkResult::Parent { child }) => match outcome(child) {
            Ok(FINE) => Ok(()),
            Ok(FAILED) => Err(step("preparing it", io::Error::other("it ended early"))),
            Ok(errno) => Err(step("preparing it", io::Error::from_raw_os_error(errno))),
            Err(errno) => Err(step("waiting for its parent", errno.into())),
        },
        Err(errno) => Err(step("first fork", errno.into())),
    }
}

/// In the first child: prepares everything, starts the worker and gives the
/// exit status. In the second child it does not return.
fn intermediate(null: &File, held: Option<RawFd>, worker: impl FnOnce()) -> i32 {
    let prepared = setsid()
        .map_err(io::Error::from)
        .and_then(|_| Ok(chdir("/")?))
        .and_then(|()| only_standard_files(null.as_raw_fd(), held));
    if let Err(error) = prepared {
        return error.raw_os_error().unwrap_or(FAILED);
    }
    // SAFETY: as in `detach`: this process has one thread.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            let ended = catch_unwind(AssertUnwindSafe(worker));
            leave(if ended.is_ok() { FINE } else { FAILED })
        }
        Ok(ForkResult::Parent { .. }) => FINE,
        Err(errno) => errno as i32,
    }
}

/// Ends the process without running anything of the original: no exit
/// handlers, no flushing of buffers that the original will flush too.
fn leave(status: i32) -> ! {
    // SAFETY: `_exit` touches no memory of ours and does not return.
    unsafe { libc::_exit(status) }
}

/// Waits for the first child; its exit status.
fn outcome(child: Pid) -> Result<i32, Errno> {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, status)) => return Ok(status),
            Ok(WaitStatus::Signaled(..)) => return Ok(FAILED),
            Ok(_) | Err(Errno::EINTR) => {}
            // Who ignores SIGCHLD learns nothing of his children but that
            // they have ended.
            Err(Errno::ECHILD) => return Ok(FINE),
            Err(errno) => return Err(errno),
        }
    }
}

/// Makes `null` the standard files, `held` the next one, and closes all others.
fn only_standard_files(null: RawFd, held: Option<RawFd>) -> io::Result<()> {
    const NEXT: RawFd = 3;
    if let Some(held) = held.filter(|held| *held != NEXT) {
        // SAFETY: numbers only. What is replaced belongs to a value of the original, which this
        // process never touches again; `null` is not needed by its number below if it was that.
        if unsafe { libc::dup2(null, 0) } < 0 || unsafe { libc::dup2(held, NEXT) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let null = if held.is_some_and(|held| held != NEXT) {
        0
    } else {
        null
    };
    let kept = if held.is_some() { NEXT } else { 2 };
    for standard in 0..=2 {
        // SAFETY: numbers only. What is replaced is used by nobody in this
        // process but Rust's standard streams, which name it by number.
        if unsafe { libc::dup2(null, standard) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: numbers only. The files' owners are values of the original that
    // this process never touches again and never drops (it ends by `_exit`).
    let closed = unsafe { libc::syscall(libc::SYS_close_range, kept as u32 + 1, u32::MAX, 0u32) };
    if closed == 0 {
        return Ok(());
    }
    // Before Linux 5.9. The folder's own descriptor is among the names; it is
    // closed twice, and the second time does nothing.
    let names = fs::read_dir("/proc/self/fd")?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    for number in names
        .iter()
        .filter_map(|name| name.to_str()?.parse::<RawFd>().ok())
    {
        if number > kept {
            // SAFETY: as above.
            unsafe { libc::close(number) };
        }
    }
    Ok(())
}

/// The privileges of the process are not to be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CapError {
    /// The file cannot be read: no `/proc`.
    #[error("cannot read the privileges of this process from {STATUS}: {}", errno::io_words(.source))]
    Read {
        /// The system call's error.
        source: io::Error,
    },
    /// The file does not say.
    #[error("{STATUS} has no readable line CapEff")]
    Malformed,
}

/// Has this thread run before all that are not real-time threads, in turns with its like (`sched(7)`: SCHED_RR), at the
/// lowest of those priorities. Needs CAP_SYS_NICE, or a limit for real-time priorities (RLIMIT_RTPRIO).
///
/// # Errors
/// The kernel's.
pub fn real_time() -> io::Result<()> {
    // SAFETY: the structure is plain numbers, of which zero is one.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = 1;
    // SAFETY: the structure lives for the call, which only reads it; 0 is this thread. Children do not inherit it.
    let done = unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_RR | libc::SCHED_RESET_ON_FORK,
            &raw const parameters,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the calling thread may configure the network: holds CAP_NET_ADMIN
/// in its effective set (capabilities(7)). Being root is neither needed nor
/// enough. In a user namespace this may be true and the kernel refuse
/// nevertheless, if the network namespace belongs to another.
///
/// # Errors
/// [`CapError`] without `/proc`.
pub fn has_cap_net_admin() -> Result<bool, CapError> {
    let text = fs::read_to_string(STATUS).map_err(|source| CapError::Read { source })?;
    let effective = effective_capabilities(&text).ok_or(CapError::Malformed)?;
    Ok(effective & (1 << CAP_NET_ADMIN) != 0)
}

/// The effective capabilities, one bit each, from the text of
/// `/proc/…/status`.
fn effective_capabilities(status: &str) -> Option<u64> {
    let digits = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{getpgrp, getsid};
    use std::io::{Read, Write};
    use std::os::fd::FromRawFd;
    use std::os::unix::net::UnixStream;
    use std::path::{Path, PathBuf};

    #[test]
    fn capabilities_are_read() {
        let status = |digits| format!("Name:\tx\nCapPrm:\t0000000000001000\nCapEff:\t{digits}\n");
        assert_eq!(
            effective_capabilities(&status("0000000000003000")),
            Some(0x3000)
        );
        assert_eq!(
            effective_capabilities(&status("000001ffffffffff")),
            Some(0x1ff_ffff_ffff)
        );
        for bad in ["", "x", "1ffffffffffffffff"] {
            assert_eq!(effective_capabilities(&status(bad)), None);
        }
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
        assert!(has_cap_net_admin().is_ok());
    }

    /// What `detach_with` does, but for counting threads: the harness has several.
    fn left_behind(held: &impl AsRawFd, worker: impl FnOnce()) -> i32 {
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = null.expect("/dev/null");
        // SAFETY: the copy only makes system calls (before Linux 5.9 it allocates memory too, which glibc
        // makes safe), as long as `worker` does, and ends by `_exit`.
        match unsafe { fork() }.expect("a process") {
            ForkResult::Child => leave(intermediate(&null, Some(held.as_raw_fd()), worker)),
            ForkResult::Parent { child } => outcome(child).expect("its end"),
        }
    }

    #[test]
    fn who_is_left_behind_has_nothing_of_the_caller() {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        // The worker's only file is its end; it tells its number, and ends when the other end is closed.
        let worker = || {
            // SAFETY: the next file after the standard ones.
            let mut theirs = unsafe { UnixStream::from_raw_fd(3) };
            let _ = theirs.write_all(&Pid::this().as_raw().to_ne_bytes());
            let _ = theirs.read(&mut [0]);
        };
        assert_eq!(left_behind(&theirs, worker), FINE);
        drop(theirs);
        let patience = Some(std::time::Duration::from_secs(60));
        ours.set_read_timeout(patience).expect("set");
        let mut number = [0; 4];
        (&ours).read_exact(&mut number).expect("a number");
        let pid = Pid::from_raw(i32::from_ne_bytes(number));
        let proc = |what: &str| PathBuf::from(format!("/proc/{pid}/{what}"));

        // Whoever ends our session or process group spares it.
        let stat = fs::read_to_string(proc("stat")).expect("/proc");
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        // Behind the name: the state, the parent, the process group, the session.
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |at: usize| Pid::from_raw(fields[at].parse().expect("a number"));
        let (group, session) = (number(2), number(3));
        assert_ne!(group, getpgrp());
        assert_ne!(session, getsid(None).expect("a session"));
        // It leads no session, and so never gets a terminal.
        assert_ne!(session, pid);

        assert_eq!(fs::read_link(proc("cwd")).expect("/proc"), Path::new("/"));
        let files = fs::read_dir(proc("fd")).expect("/proc").map(|entry| {
            let entry = entry.expect("an entry");
            let is = fs::read_link(entry.path()).expect("a file");
            (entry.file_name(), is == Path::new("/dev/null"))
        });
        let mut files: Vec<_> = files.collect();
        files.sort();
        let standard = ["0", "1", "2"].map(|name| (name.into(), true));
        assert_eq!(files[..3], standard);
        assert_eq!(files[3..], [("3".into(), false)]);
    }

    #[test]
    fn threads_are_refused() {
        // The test harness has at least two.
        let (block, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(matches!(
            detach(|| ()),
            Err(DetachError::Threads { threads: 2.. })
        ));
        drop(block);
        let _ = other.join();
    }
}
