//! The end, in order or by Ctrl-C: nothing may be left behind.
//!
//! Every process of the lab hangs on a pipe to this one and would end by itself; here that is
//! waited for and, after a signal, hurried.

use std::time::Duration;

use lab::{Context, Result, wait_until};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::screen::Screen;

/// From here on a signal ends the lab first and this process then.
///
/// To be called before any other thread is there: threads inherit what is blocked.
pub fn on_signals(screen: &Screen) -> Result<()> {
    let mut awaited = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        awaited.add(signal);
    }
    awaited.thread_block().context("block signals")?;
    // Whatever loses its parent becomes our child, so that it is seen if it stays.
    set_child_subreaper(true).context("adopt orphans")?;
    let screen = screen.clone();
    std::thread::spawn(move || {
        if let Ok(signal) = awaited.wait() {
            screen.mute(&format!("\n  {signal}: taking the lab down"));
            take_down();
            std::process::exit(128 + signal as i32);
        }
    });
    Ok(())
}

/// Kills what there is of the lab and waits for its end.
///
/// The story may still be starting short-lived programs; those end by themselves.
fn take_down() {
    let lab = children();
    // If one will not die in that time, its pipe to us ends it when we are gone.
    let _ = wait_until("the end of the lab", Duration::from_secs(5), || {
        let left = children();
        for pid in &left {
            // It may be gone by now, which is what is wanted.
            let _ = kill(*pid, Signal::SIGKILL);
        }
        !left.iter().any(|pid| lab.contains(pid))
    });
}

/// Waits until no process of the lab is there any more; an error tells which ones stay.
pub fn nothing_left() -> Result<()> {
    wait_until(
        "the end of the lab's processes",
        Duration::from_secs(5),
        || {
            let left = children();
            if left.is_empty() {
                return Ok(());
            }
            Err(format!("{left:?} are still there"))
        },
    )
}

/// Our children, but for the dead ones that nobody has asked about.
fn children() -> Vec<Pid> {
    let own = std::process::id();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let of_ours = processes.flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name may hold anything, its closing bracket is the last one of the line.
        let mut words = stat.rsplit_once(')')?.1.split_whitespace();
        let (state, parent) = (words.next()?, words.next()?);
        (state != "Z" && parent.parse() == Ok(own)).then_some(Pid::from_raw(pid))
    });
    of_ours.collect()
}
