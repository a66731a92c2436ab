//! An end for system calls that wait for ever: a timer that interrupts one thread.

#![allow(unsafe_code)]

use nix::sys::signal::{
    SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction,
};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::gettid;
use std::io;
use std::time::Duration;

/// Once it has gone off it does so again and again: the first time may come just before the call that waits.
const AGAIN_MS: i64 = 20;

/// From its time on the system calls of the thread that set it end with EINTR, as long as it lives.
#[derive(Debug)]
pub struct Alarm {
    _timer: Timer,
}

extern "C" fn nothing(_: libc::c_int) {}

impl Alarm {
    /// Goes off after this time. The process must not use SIGALRM for anything else.
    ///
    /// # Errors
    /// Those of timer_create(2), such as EAGAIN where the user has too many timers.
    pub fn after(time: Duration) -> io::Result<Self> {
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
