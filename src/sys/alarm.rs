//! An end for system calls that wait for ever: a timer, or what comes through a pipe, interrupts one thread.

#![allow(unsafe_code)]

use nix::sys::signal::{
    SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction,
};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::gettid;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Once it has gone off it does so again and again: the first time may come just before the call that waits.
const AGAIN_MS: i64 = 20;

/// From its time on the system calls of the thread that set it end with EINTR, as long as it lives.
#[derive(Debug)]
pub struct Alarm {
    _timer: Timer,
}

extern "C" fn nothing(_: libc::c_int) {}

/// Has SIGALRM interrupt this thread's system calls, and do nothing else.
fn interrupt() -> io::Result<()> {
    // Without SA_RESTART, so that the call ends.
    let action = SigAction::new(
        SigHandler::Handler(nothing),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing at all, so it can do nothing that a handler must not.
    unsafe { sigaction(Signal::SIGALRM, &action) }?;
    // Whoever started this process may have blocked it.
    let mut alarm = SigSet::empty();
    alarm.add(Signal::SIGALRM);
    alarm.thread_unblock()?;
    Ok(())
}

/// Whenever something is written into this pipe, a system call of this thread ends with EINTR (fcntl(2), "Managing
/// signals"). Once, and not if it begins only afterwards: who waits for it must not wait for it alone.
///
/// # Errors
/// Those of fcntl(2).
pub fn interrupted_by(pipe: &File) -> io::Result<()> {
    // include/uapi/asm-generic/fcntl.h; the crate libc has none of them.
    const F_SETSIG: libc::c_int = 10;
    const F_SETOWN_EX: libc::c_int = 15;
    const F_OWNER_TID: libc::c_int = 0;
    /// `struct f_owner_ex`.
    #[repr(C)]
    struct Owner {
        kind: libc::c_int,
        pid: libc::pid_t,
    }
    interrupt()?;
    let fd = pipe.as_raw_fd();
    let owner = Owner {
        kind: F_OWNER_TID,
        pid: gettid().as_raw(),
    };
    let done = |result: libc::c_int| nix::errno::Errno::result(result);
    // SAFETY: the descriptor is open as long as the file is borrowed; F_SETSIG and F_SETFL take a number, and
    // F_SETOWN_EX reads a `struct f_owner_ex`, which is there until the call returns.
    unsafe {
        done(libc::fcntl(fd, F_SETSIG, libc::SIGALRM))?;
        done(libc::fcntl(fd, F_SETOWN_EX, &raw const owner))?;
        let flags = done(libc::fcntl(fd, libc::F_GETFL))?;
        done(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC))?;
    }
    Ok(())
}

impl Alarm {
    /// Goes off after this time. The process must not use SIGALRM for anything else.
    ///
    /// # Errors
    /// Those of timer_create(2), such as EAGAIN where the user has too many timers.
    pub fn after(time: Duration) -> io::Result<Self> {
        interrupt()?;
        let mut timer = Timer::new(
            ClockId::CLOCK_MONOTONIC,
            SigEvent::new(SigevNotify::SigevThreadId {
                signal: Signal::SIGALRM,
                thread_id: gettid().as_raw(),
                si_value: 0,
            }),
        )?;
        // A time of nothing would disarm it.
        let first = TimeSpec::from_duration(time.max(Duration::from_millis(1)));
        let expiration = Expiration::IntervalDelayed(first, TimeSpec::milliseconds(AGAIN_MS));
        timer.set(expiration, TimerSetTimeFlags::empty())?;
        Ok(Alarm { _timer: timer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::pause;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Instant;

    #[test]
    fn who_waits_is_woken_even_if_it_was_blocked_or_has_gone_off_before() {
        let (ended, waits) = mpsc::channel();
        thread::spawn(move || {
            let mut alarm = SigSet::empty();
            alarm.add(Signal::SIGALRM);
            alarm.thread_block().expect("blocked");
            let first = Duration::from_millis(1);
            let _alarm = Alarm::after(first).expect("a timer");
            // It goes off while nothing waits, and again while something does.
            let begin = Instant::now();
            while begin.elapsed() < 5 * first {
                thread::yield_now();
            }
            pause();
            ended.send(()).expect("somebody who waits");
        });
        let woken = waits.recv_timeout(Duration::from_secs(60));
        woken.expect("an end of the call");
    }
}
