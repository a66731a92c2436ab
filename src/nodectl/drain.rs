//! `drain`, `undrain` and `wait-drained`: buckets whose connections stay until they end.

use super::change::{begin_move, leave_buckets, manners, take_buckets, usual_drain};
use super::cli::{Drain, Take, WaitDrained};
use super::context::{Context, look};
use super::failure::{DATA, Failure, LATER};
use super::outcome::Outcome;
use crate::host::lock::lock;
use crate::host::sweeper::settle;
use crate::host::turns;
use crate::model::ruleset::Ruleset;
use crate::reading::installed::phases_of;
use std::io::{IsTerminal, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How often it is looked.
const PAUSE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(20);

/// `nodectl drain`.
pub fn drain(args: &Drain, context: &Context) -> Result<Outcome, Failure> {
    let (lock, mut kernel, found) = begin_move(&args.buckets)?;
    let drain_s = args.timeout.unwrap_or_else(|| usual_drain(&found.vip));
    leave_buckets(lock, &mut kernel, &found, &args.buckets, drain_s, context)
}

/// `nodectl undrain`. Who had the buckets meanwhile may drain them in turn.
pub fn undrain(
    Take {
        buckets: args,
        adopt,
        compat,
    }: &Take,
) -> Result<Outcome, Failure> {
    let (_lock, mut kernel, found) = begin_move(args)?;
    let here = found.phases.leaving().union(&found.phases.owned);
    let elsewhere = args.buckets.without(&here);
    if !elsewhere.is_empty() {
        return Err(Failure::new(
            DATA,
            format!(
                "buckets {elsewhere} of {} neither drain here nor are owned; to own them use 'nodectl take'",
                args.vip
            ),
        ));
    }
    let adopt_s = adopt.unwrap_or_else(|| usual_drain(&found.vip));
    take_buckets(
        &mut kernel,
        found.vip,
        args.buckets.clone(),
        adopt_s,
        manners(args.force, compat.0),
    )
}

/// `nodectl wait-drained`.
pub fn wait_drained(args: &WaitDrained) -> Result<Outcome, Failure> {
    let begin = Instant::now();
    let mut shown = String::new();
    loop {
        let rules = settled(args.vip)?;
        let phases = phases_of(&rules, args.vip);
        let leaving = phases.leaving();
        if leaving.is_empty() {
            progress(&mut shown, "");
            // With its last connection a VIP of Pacemaker goes as a whole.
            let sentence = format!("{}: nothing drains here", args.vip);
            return Ok(Outcome::of(&rules, args.vip, false).saying(sentence));
        }
        let left_s = phases.leaving_ms().unwrap_or_default().div_ceil(1000);
        if args
            .timeout
            .is_some_and(|timeout| begin.elapsed() >= Duration::from_secs(timeout.into()))
        {
            progress(&mut shown, "");
            return Err(Failure::new(
                LATER,
                format!(
                    "buckets {leaving} of {vip} still drain here, for {left_s} s at most; wait on, or cut \
                     their connections with 'nodectl release {vip} {leaving} --now'",
                    vip = args.vip
                ),
            ));
        }
        progress(
            &mut shown,
            &format!("buckets {leaving} drain, {left_s} s left"),
        );
        std::thread::sleep(PAUSE);
    }
}

/// The rules, after what has ended of the VIP was taken away.
fn settled(vip: IpAddr) -> Result<Ruleset, Failure> {
    let (mut kernel, observed) = look()?;
    if phases_of(&observed.rules, vip).leaving().is_empty() {
        return Ok(observed.rules);
    }
    let lock = lock(PATIENCE)?;
    let settled = settle(&mut kernel)?;
    turns::end(lock, &settled.rules);
    match settled.failed {
        Some(error) => Err(error.into()),
        None => Ok(settled.rules),
    }
}

/// One line that is written over, on a terminal.
fn progress(shown: &mut String, line: &str) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() && shown != line {
        // Nobody may be left to read it.
        let _ = write!(stderr, "\r\x1b[K{line}");
        *shown = line.to_owned();
    }
}
