//! What one received packet costs a node: many kinds of rules, side by side in one run.
//!
//! | module | what lives there |
//! |---|---|
//! | `variants` | what may be measured |
//! | `lines` | all that is |
//! | `frames` | the packets |
//! | `rules` | how a node gets the rules in question |
//! | `stage` | a sender, a bridge, nodes |
//! | `flood` | sending and timing, and the proof that all was received |
//! | `compared` | what rules cost beside others of the same run |

mod compared;
mod flood;
pub mod frames;
mod lines;
mod rules;
mod stage;
pub mod variants;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use lab::{Context, Error, Result};

use self::frames::{Datagram, Fragment, arp_request};
use self::stage::Stage;
use self::variants::{Packet, Rules, Variant};
use crate::report::{Missing, PacketCosts, VariantCost};
use crate::stats::Summary;
use crate::telling::Telling;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Nodes of a stage.
    pub nodes: u8,
    /// VIPs on the interface where there are many.
    pub vips: u16,
    /// Packets of a slice.
    pub packets: usize,
    /// Slices of each variant.
    pub rounds: usize,
    /// Only variants with one of these words in their names, if there are any, and the floor.
    pub some: Vec<String>,
    /// How many connections stay where some do.
    pub flows: Vec<u32>,
    /// Rules from files for nft, which are measured too.
    pub hand_made: Vec<PathBuf>,
    /// Another build of nodectl, whose rules are measured beside ours.
    pub build: Option<PathBuf>,
}

/// Packets that warm the caches before every slice.
const WARM: usize = 64;
/// How often a slice is measured again before one that was disturbed is taken.
const TRIES: usize = 8;

/// A variant with its frames.
struct Prepared {
    variant: Variant,
    stage: usize,
    frames: Vec<Vec<u8>>,
    /// What is sent before, untimed.
    warm: Vec<Vec<u8>>,
    elapsed: Vec<f64>,
    thrown_away: usize,
    /// Slices that were taken although they were disturbed.
    disturbed: usize,
    sent: u64,
    received: u64,
}

/// Measures everything.
pub fn measure(effort: &Effort, telling: &Telling) -> Result<PacketCosts> {
    let mut variants = lines::all(effort.vips, &effort.flows, effort.build.as_deref());
    variants.retain(|variant| effort.wants(variant));
    for path in &effort.hand_made {
        variants.extend(hand_made(path)?);
    }
    let mut wanted: Vec<Rules> = Vec::new();
    for variant in &variants {
        if !wanted.contains(&variant.rules) {
            wanted.push(variant.rules.clone());
        }
    }
    telling.say(format!(
        "packets: building {} stages of {} nodes, one for each kind of rules",
        wanted.len(),
        effort.nodes
    ));
    let (mut stages, missing) = build(&wanted, effort.nodes, telling)?;
    let mut prepared = Vec::new();
    for variant in variants {
        let Some(stage) = stages.iter().position(|s| *s.rules() == variant.rules) else {
            continue;
        };
        let frames = compose(&variant, &stages[stage], effort.packets, 0)?;
        prepared.push(Prepared {
            stage,
            warm: frames[..WARM.min(frames.len())].to_vec(),
            frames,
            variant,
            elapsed: Vec::new(),
            thrown_away: 0,
            disturbed: 0,
            sent: 0,
            received: 0,
        });
    }
    telling.say(format!(
        "packets: {} variants, {} rounds of {} packets each",
        prepared.len(),
        effort.rounds,
        effort.packets
    ));
    // A thread of its own, for it is pinned and takes precedence.
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood_all(&mut stages, &mut prepared, effort, telling));
        match flood.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    costs(&prepared, effort, missing)
}

impl Effort {
    fn wants(&self, variant: &Variant) -> bool {
        if self.some.is_empty() || matches!(variant.rules, Rules::Floor | Rules::FloorAgain) {
            return true;
        }
        let (rules, packet) = variant.words();
        let name = format!("{rules}: {packet}");
        self.some.iter().any(|word| name.contains(word.as_str()))
    }
}

/// A developer's rules and what they are given: as for IPaddr2 with one of 16 buckets.
fn hand_made(path: &Path) -> Result<[Variant; 2]> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).context(&shown)?;
    let rules = Rules::HandMade { name: shown, text };
    let packets = [
        Packet::Foreign(Fragment::None),
        Packet::Owned(Fragment::None),
    ];
    Ok(packets.map(|packet| Variant {
        rules: rules.clone(),
        packet,
    }))
}

fn build(wanted: &[Rules], nodes: u8, telling: &Telling) -> Result<(Vec<Stage>, Vec<Missing>)> {
    let queue: Mutex<VecDeque<&Rules>> = Mutex::new(wanted.iter().collect());
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    let built: Mutex<Vec<Result<Stage, (Rules, Error)>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(rules) = next() {
                    let stage = Stage::build(rules, nodes);
                    let stage = stage.map_err(|error| (rules.clone(), error));
                    if let Ok(mut built) = built.lock() {
                        built.push(stage);
                        telling.passing(format!("{} of {} stages", built.len(), wanted.len()));
                    }
                }
            });
        }
    });
    let mut stages = Vec::new();
    let mut missing = Vec::new();
    for stage in built.into_inner().unwrap_or_default() {
        match stage {
            Ok(stage) => stages.push(stage),
            // A kernel need not have what it is compared with.
            Err((rules @ Rules::XtCluster, why)) => missing.push(Missing {
                what: rules.name(),
                why: why.to_string(),
            }),
            Err((_, error)) => return Err(error),
        }
    }
    Ok((stages, missing))
}

/// Stage by stage, and then their next lines: who came directly behind one of his own stage would find its memory in
/// the caches, and the others not.
fn in_turns(prepared: &[Prepared]) -> Vec<usize> {
    let nth_of_stage = |at: &usize| {
        let before = prepared[..*at].iter();
        let same = before.filter(|one| one.stage == prepared[*at].stage);
        same.count()
    };
    let mut order: Vec<usize> = (0..prepared.len()).collect();
    order.sort_by_key(nth_of_stage);
    order
}

fn flood_all(
    stages: &mut [Stage],
    prepared: &mut [Prepared],
    effort: &Effort,
    telling: &Telling,
) -> Result<()> {
    let cpu = flood::pin()?;
    let mut order = in_turns(prepared);
    // The first round only warms up.
    for round in 0..=effort.rounds {
        telling.passing(format!("round {round} of {}", effort.rounds));
        // Back again in every other round: who comes first is not always the same.
        order.reverse();
        for at in &order {
            let one = &mut prepared[*at];
            let (slice, thrown_away) = one.measure(&mut stages[one.stage], cpu)?;
            one.thrown_away += thrown_away;
            if round > 0 {
                one.elapsed.push(slice.elapsed.as_nanos() as f64);
                one.disturbed += usize::from(slice.disturbed);
                one.sent += one.frames.len() as u64;
                one.received += slice.received;
            }
        }
    }
    telling.passing("what the rules make of the packets");
    for one in prepared.iter_mut() {
        one.verify(&mut stages[one.stage], cpu)?;
    }
    Ok(())
}

impl Prepared {
    /// Fails unless the rules let pass what the variant's name says, and nothing else.
    fn verify(&mut self, stage: &mut Stage, cpu: usize) -> Result<()> {
        let Some(passes) = self.variant.passes() else {
            return Ok(());
        };
        let mut seen = Vec::new();
        let mut expected = 0;
        // Something else may be received meanwhile, once in a while.
        for _ in 0..=TRIES {
            let before = stage.passed()?;
            if self.variant.fragment() != Fragment::None {
                self.renew(stage)?;
            }
            flood::slice(stage, cpu, &self.warm, &self.frames)?;
            let after = stage.passed()?;
            let sent = (self.warm.len() + self.frames.len()) as u64;
            expected = if passes { sent } else { 0 };
            let passed = after.iter().zip(&before);
            seen = passed.map(|(after, before)| after - before).collect();
            if seen.iter().all(|passed| *passed == expected) {
                return Ok(());
            }
        }
        let (rules, packet) = self.variant.words();
        Err(Error::new(format!(
            "'{rules}': of the packets '{packet}' the nodes let {seen:?} pass, instead of {expected} \
             each: the figure would be another packet's"
        )))
    }

    /// A slice that nothing disturbed, if there is one, and how many were thrown away before it.
    fn measure(&mut self, stage: &mut Stage, cpu: usize) -> Result<(flood::Slice, usize)> {
        for thrown_away in 0.. {
            if self.variant.fragment() != Fragment::None {
                self.renew(stage)?;
            }
            let slice = flood::slice(stage, cpu, &self.warm, &self.frames)?;
            if !slice.disturbed || thrown_away == TRIES {
                return Ok((slice, thrown_away));
            }
        }
        unreachable!("the last try returns")
    }

    /// Fragments of new datagrams: those of the last slice may be remembered.
    fn renew(&mut self, stage: &mut Stage) -> Result<()> {
        let count = self.frames.len();
        let first = stage.identifications(count);
        self.frames = compose(&self.variant, stage, count, first)?;
        let mut before = self.variant.clone();
        // Later fragments follow their first ones.
        before.packet = match self.variant.packet {
            Packet::Foreign(Fragment::Later) => Packet::Foreign(Fragment::First),
            Packet::Owned(Fragment::Later) => Packet::Owned(Fragment::First),
            _ => return Ok(()),
        };
        self.warm = compose(&before, stage, count, first)?;
        Ok(())
    }
}

/// The frames of a slice: as many different flows, all of the kind that the variant wants.
fn compose(variant: &Variant, stage: &Stage, count: usize, first: u16) -> Result<Vec<Vec<u8>>> {
    let mut frames = Vec::with_capacity(count);
    let mut candidates = 0..10_000 * count as u32;
    while frames.len() < count {
        let n = candidates
            .next()
            .context("no flows of the wanted buckets")?;
        let (target, to) = variant.target(frames.len());
        let (source, port) = rules::client(target, n);
        if !variant.fits(source, port) {
            continue;
        }
        if let (Packet::OtherArp, IpAddr::V4(source), IpAddr::V4(target)) =
            (variant.packet, source, target)
        {
            frames.push(arp_request(stage.sender(), source, target));
            continue;
        }
        let datagram = Datagram {
            to,
            from: stage.sender(),
            source: (source, port),
            target: (target, variant.port()),
            segment: matches!(variant.packet, Packet::Segment(_)),
            fragment: variant.fragment(),
            identification: first.wrapping_add(frames.len() as u16),
        };
        frames.push(datagram.frame());
    }
    Ok(frames)
}

fn costs(prepared: &[Prepared], effort: &Effort, missing: Vec<Missing>) -> Result<PacketCosts> {
    let each = (effort.packets * usize::from(effort.nodes)) as f64;
    let floors = prepared
        .iter()
        .filter(|one| one.variant.rules == Rules::Floor);
    let floors: Vec<&Prepared> = floors.collect();
    let floor = |one: &Prepared| {
        let mut fitting = floors.iter();
        let fits = |floor: &&&Prepared| floor.variant.packet == one.variant.floor();
        fitting.find(fits).map_or(&[][..], |floor| &floor.elapsed)
    };
    let again = prepared
        .iter()
        .find(|one| one.variant.rules == Rules::FloorAgain);
    let again = again.context("the floor was not measured twice")?;
    // Round by round, so that what slows a whole round down does not count.
    let above_by_round = |one: &Prepared| -> Vec<f64> {
        let rounds = one.elapsed.iter().zip(floor(one));
        rounds.map(|(all, floor)| (all - floor) / each).collect()
    };
    let above = |one: &Prepared| Summary::of(&above_by_round(one));
    let ours = prepared.iter().find(|one| one.variant.is_the_measure());
    let ours = ours.map(|one| above(one).median);
    let variants = prepared.iter().map(|one| {
        let (rules, packet) = one.variant.words();
        let figures: Vec<f64> = one.elapsed.iter().map(|all| all / each).collect();
        VariantCost {
            rules,
            packet,
            ns: Summary::of(&figures),
            above_floor: above(one),
            to_floor: Summary::of(&one.elapsed).median / Summary::of(floor(one)).median,
            to_ours: ours.map(|ours| above(one).median / ours),
            thrown_away: one.thrown_away,
            disturbed: one.disturbed,
            sent: one.sent,
            received_by_each_node: one.received,
        }
    });
    let measured = prepared.iter();
    let measured: Vec<_> = measured
        .map(|one| (&one.variant, above_by_round(one)))
        .collect();
    Ok(PacketCosts {
        nodes: effort.nodes,
        packets_a_slice: effort.packets,
        rounds: effort.rounds,
        noise: above(again),
        variants: variants.collect(),
        compared: compared::of(&measured, effort.build.as_deref()),
        missing,
    })
}

impl PacketCosts {
    /// What a reader must know of these figures.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let floor = self.variants.first().map_or(0.0, |floor| floor.ns.median);
        let Summary {
            median,
            lower_quartile,
            upper_quartile,
            ..
        } = self.noise;
        if median.abs() > 0.03 * floor || upper_quartile - lower_quartile > 0.2 * floor {
            warnings.push(format!(
                "the floor measured twice differs by {median:+.1} ns (half of the rounds: \
                 {lower_quartile:+.1} to {upper_quartile:+.1}); differences of that size mean nothing"
            ));
        }
        let thrown_away: usize = self.variants.iter().map(|one| one.thrown_away).sum();
        let kept = self.rounds * self.variants.len();
        if thrown_away > kept / 4 {
            warnings.push(format!(
                "{thrown_away} slices were disturbed and measured again, of {kept}: something else \
                 wants the sender's CPU"
            ));
        }
        let disturbed: usize = self.variants.iter().map(|one| one.disturbed).sum();
        if disturbed > 0 {
            warnings.push(format!(
                "{disturbed} slices, of {kept}, are counted although they were disturbed {} times \
                 in a row",
                TRIES + 1
            ));
        }
        warnings
    }
}
