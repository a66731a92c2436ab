//! The steps in which buckets move, each under a steady probe: a node dies, a node returns.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use lab::cluster::{Chronicle, PATIENCE};
use lab::traffic::Probe;
use lab::{Error, ProbeKind, Result, Witness};

use crate::map::Map;
use crate::screen::{Tone, WIDTH, thousands, wrap};
use crate::story::{PORT, Stage, VICTIM, VIPS};
use crate::timeline::{Dark, Timeline};

/// Each source asks this often, and waits this long for an answer.
const EVERY: Duration = Duration::from_millis(30);
const ANSWER: Duration = Duration::from_secs(2);
/// Sources that probe the IPv4 VIP, and the IPv6 one.
const SOURCES: [usize; 2] = [30, 15];
/// How long it is watched before and after anything happens.
const CALM: Duration = Duration::from_millis(700);
/// The nodes that are there all the time.
const SURVIVORS: [&str; 2] = ["n1", "n3"];

/// What the clients lost.
pub struct Loss {
    /// The longest dark time of a bucket that moved.
    longest: Duration,
    /// How many buckets of both VIPs moved, and how many did not.
    moved: usize,
    others: usize,
    /// Lost requests of buckets that did not move.
    unexcused: usize,
}

/// Probes and a witness for both VIPs.
struct Watching {
    began: Instant,
    witness: Witness,
    probes: Vec<Probe>,
}

impl Loss {
    /// Pulls the victim's plug and shows what follows.
    pub fn kill(stage: &mut Stage, before: &[Map; 2]) -> Result<Self> {
        let screen = stage.screen;
        screen.text(&format!(
            "While clients go on asking ({} UDP requests a second over IPv4, {} over IPv6, each \
             from a new port), the plug of {VICTIM} is pulled. Nobody is told.",
            rate(0),
            rate(1)
        ));
        screen.command("crm_mon -1 -m2", "UNCLEAN, then OFFLINE; and the fencing");
        screen.gap();
        let role = match stage.cluster.dc()? == VICTIM {
            true => ", which was Pacemaker's coordinator",
            false => "",
        };
        let watching = Watching::begin(stage)?;
        let busy = screen.busy("asking in peace");
        std::thread::sleep(CALM);

        let (plug, clock) = (Instant::now(), SystemTime::now());
        stage.cluster.power_off(VICTIM)?;
        screen.event(
            Duration::ZERO,
            &format!("pulled: {VICTIM} has no process, no kernel, no cable any more{role}"),
        );
        let log = Chronicle::since(&stage.cluster, &SURVIVORS, clock)?;
        busy.now(&format!("{VICTIM} is dead, and nobody has noticed"));
        let noticed = log.wait_for(&format!("Node {VICTIM} state is now lost"))?;
        screen.event(
            noticed,
            &format!("noticed: for Corosync {VICTIM} is lost, for Pacemaker UNCLEAN"),
        );
        busy.now("Pacemaker thinks it over");
        let decided = log.wait_for(&format!("Requesting fencing .* node {VICTIM}"))?;
        screen.event(decided, "decided: it is to be fenced, then replaced");
        busy.now("being fenced");
        let fenced = log.wait_for(&format!("'off' targeting {VICTIM} by .* OK"))?;
        screen.event(
            fenced,
            "fenced: the device says that it is off; Pacemaker starts its instances elsewhere",
        );
        busy.now("being taken over");
        lab::wait_until("owners of all buckets", PATIENCE, || owned_once(stage))?;
        busy.now("waiting until Pacemaker is idle");
        stage.cluster.wait_idle()?;
        std::thread::sleep(CALM);
        busy.now("collecting the last answers");
        let zero = plug.saturating_duration_since(watching.began);
        let timelines = watching.end(stage, before, "while a node died")?;
        drop(busy);

        let excused = [0, 1].map(|n: usize| {
            let mut excused = before[n].owned(VICTIM);
            excused.extend(timelines[n].moved());
            excused
        });
        let loss = Self::judge(stage, &timelines, &excused, "when the node died");
        if let Some(dark) = eventful(&timelines) {
            let served = dark.until.saturating_sub(zero);
            let after = span(served.saturating_sub(decided));
            screen.event(
                served,
                &format!("served: every bucket answers again, {after} after the decision"),
            );
        }
        loss.show(stage, &timelines, before, zero, "when the plug was pulled");
        Ok(loss)
    }

    /// Switches the victim on again and shows what follows.
    pub fn bring_back(stage: &mut Stage, before: &[Map; 2]) -> Result<Self> {
        let screen = stage.screen;
        screen.text(&format!(
            "{VICTIM} boots and joins. Stickiness is 0, so Pacemaker gives it its share back: \
             it stops instances where they are and then starts them on {VICTIM}. Clients go on \
             asking."
        ));
        screen.command("crm_mon -1 -n", "which instance runs where");
        screen.gap();
        let watching = Watching::begin(stage)?;
        let busy = screen.busy("asking in peace");
        std::thread::sleep(CALM);

        let began = Instant::now();
        screen.event(Duration::ZERO, &format!("{VICTIM} is switched on"));
        busy.now("booting, and joining");
        stage.cluster.power_on(VICTIM)?;
        screen.event(began.elapsed(), &format!("{VICTIM} is a member again"));
        busy.now("Pacemaker looks at what runs there, then moves instances back");
        stage.cluster.wait_idle()?;
        std::thread::sleep(CALM);
        busy.now("collecting the last answers");
        let offset = began.saturating_duration_since(watching.began);
        let timelines = watching.end(stage, before, "while buckets moved back")?;
        drop(busy);

        let moved = [0, 1].map(|n: usize| timelines[n].moved().into_iter().collect());
        let loss = Self::judge(stage, &timelines, &moved, "when the node came back");
        let all = eventful(&timelines);
        if let Some(dark) = all {
            screen.event(
                dark.from.saturating_sub(offset),
                "the first instance is stopped where it was",
            );
            screen.event(
                dark.until.saturating_sub(offset),
                &format!("the last one that moves answers from {VICTIM}"),
            );
        }
        let zero = timelines[0].eventful().or(all);
        let zero = zero.map_or(Duration::ZERO, |dark| dark.from);
        loss.show(stage, &timelines, before, zero, "the first lost request");
        Ok(loss)
    }

    /// In a few words.
    pub fn sentence(&self) -> String {
        format!(
            "{} of {} buckets moved and were dark for {} at most; {}",
            self.moved,
            self.moved + self.others,
            span(self.longest),
            match self.unexcused {
                0 => "the others answered all the time".into(),
                lost => format!("the others lost {} requests", thousands(lost)),
            }
        )
    }

    /// Sums up what both timelines show; only `excused` buckets may have been dark.
    fn judge(
        stage: &mut Stage,
        timelines: &[Timeline; 2],
        excused: &[BTreeSet<u16>; 2],
        when: &str,
    ) -> Self {
        let mut loss = Self {
            longest: Duration::ZERO,
            moved: 0,
            others: 0,
            unexcused: 0,
        };
        for ((vip, timeline), excused) in VIPS.iter().zip(timelines).zip(excused) {
            for bucket in 0..timeline.buckets() {
                let dark = timeline.dark(bucket).map(Dark::length);
                if excused.contains(&bucket) {
                    loss.moved += 1;
                    loss.longest = loss.longest.max(dark.unwrap_or_default());
                    continue;
                }
                loss.others += 1;
                if dark.is_some() {
                    let lost = timeline.lost(bucket);
                    loss.unexcused += lost;
                    stage.faults.push(format!(
                        "{lost} requests of bucket {bucket} of {vip} were lost {when}, though it \
                         did not have to move"
                    ));
                }
            }
        }
        loss
    }

    fn show(
        &self,
        stage: &Stage,
        timelines: &[Timeline; 2],
        before: &[Map; 2],
        zero: Duration,
        zero_is: &str,
    ) {
        let screen = stage.screen;
        screen.gap();
        let [v4, _] = timelines;
        if let Some(dark) = v4.eventful() {
            screen.text(&format!(
                "IPv4, each bucket and its owner before: the number of the node that answered, a \
                 dot where nobody did. Time 0 is {zero_is}."
            ));
            screen.gap();
            for line in v4.picture(screen, &before[0], zero, dark.until) {
                screen.line(line);
            }
            screen.gap();
        }
        for (vip, timeline) in VIPS.iter().zip(timelines) {
            let (sent, lost) = timeline.probes();
            let darks = timeline.darks().into_iter().map(|(_, dark)| dark.length());
            let mut darks: Vec<Duration> = darks.collect();
            darks.sort_unstable();
            let darks = match darks.as_slice() {
                [] => "no bucket dark".into(),
                [one] => format!("1 bucket dark for {}", span(*one)),
                [first, .., last] => match (darks.len(), span(*first), span(*last)) {
                    (count, first, last) if first == last => {
                        format!("{count} buckets dark for {last}")
                    }
                    (count, first, last) => format!("{count} buckets dark for {first} to {last}"),
                },
            };
            let vip = vip.to_string();
            screen.line(format!(
                "{vip:<11} {:>6} requests, {:>5} lost; {darks}",
                thousands(sent),
                thousands(lost)
            ));
        }
        let tone = match self.unexcused {
            0 => Tone::Good,
            _ => Tone::Bad,
        };
        for line in wrap(&self.sentence(), WIDTH - 2) {
            screen.line(screen.paint(tone, line));
        }
    }
}

impl Watching {
    fn begin(stage: &Stage) -> Result<Self> {
        let witness = stage.client.witness(&VIPS)?;
        let began = Instant::now();
        let mut probes = Vec::new();
        for (vip, count) in VIPS.into_iter().zip(SOURCES) {
            let target = SocketAddr::new(vip, PORT);
            let sources = stage.client.sources_for(vip, count);
            let probe = stage
                .client
                .probe(ProbeKind::Udp, target, sources, EVERY, ANSWER);
            probes.push(probe?);
        }
        Ok(Self {
            began,
            witness,
            probes,
        })
    }

    fn end(self, stage: &mut Stage, maps: &[Map; 2], when: &str) -> Result<[Timeline; 2]> {
        let reports = self.probes.into_iter().map(Probe::stop);
        let reports = reports.collect::<Result<Vec<_>>>()?;
        let doubles = self.witness.finish()?.double_answers().len();
        if doubles > 0 {
            let fault = format!("{doubles} requests were answered twice {when}");
            stage.faults.push(fault);
        }
        let [v4, v6] = [0, 1]
            .map(|n: usize| Timeline::new(&reports[n], SocketAddr::new(VIPS[n], PORT), &maps[n]));
        Ok([v4?, v6?])
    }
}

fn owned_once(stage: &Stage) -> Result<()> {
    for vip in VIPS {
        let faults = Map::read(&stage.cluster, vip)?.faults();
        if !faults.is_empty() {
            return Err(Error::new(faults.join(", ")));
        }
    }
    Ok(())
}

/// The time around all that changed, over both VIPs.
fn eventful(timelines: &[Timeline; 2]) -> Option<Dark> {
    let [v4, v6] = timelines.each_ref().map(Timeline::eventful);
    match (v4, v6) {
        (Some(v4), Some(v6)) => Some(Dark {
            from: v4.from.min(v6.from),
            until: v4.until.max(v6.until),
        }),
        (one, other) => one.or(other),
    }
}

/// Requests a second.
fn rate(n: usize) -> String {
    thousands((SOURCES[n] as f64 / EVERY.as_secs_f64()).round() as usize)
}

/// A time as people read it: 4.1 s, 120 ms.
fn span(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
