//! The sum of all rounds: a table for people, JSON for programs (schema 1; it may gain fields, and loses none).

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::errand::Errand;
use crate::traffic::Felt;

/// All rounds.
#[derive(Debug, Serialize)]
pub struct Tally {
    /// The schema's number.
    pub schema: u32,
    /// What gives the same rounds again.
    pub seed: u64,
    /// Each of them.
    pub rounds: Vec<Round>,
    /// What nodes had at the end that they had not before, and what they lacked.
    pub left: Vec<String>,
}

/// What became of a round.
#[derive(Debug, Serialize)]
pub struct Round {
    /// What was done.
    pub deed: String,
    /// Whether no connection may be lost in it.
    pub planned: bool,
    /// How long it took.
    pub seconds: f64,
    /// What clients felt.
    pub felt: Felt,
    /// What became of the agent's actions.
    #[serde(skip)]
    pub errands: Vec<Errand>,
    /// What was wrong, as sentences.
    pub faults: Vec<String>,
}

impl Round {
    /// It in a line, or in more if anything was wrong.
    pub fn line(&self) -> String {
        let Felt {
            held,
            lost,
            longest,
            newcomers,
            refused,
            dark,
            frames,
            doubles,
            ..
        } = &self.felt;
        let trouble = self
            .errands
            .iter()
            .filter(|errand| errand.kind() != "none")
            .count();
        let mut line = format!(
            "{}, {:.0} s: {} of {held} held lost (longest exchange {longest:.2} s), {refused} of {newcomers} newcomers \
             refused, dark {dark:.2} s, {} doubles in {frames} frames, {} actions, {trouble} in trouble",
            self.deed,
            self.seconds,
            lost.len(),
            doubles.len(),
            self.errands.len(),
        );
        for fault in &self.faults {
            let first = fault.lines().next().unwrap_or_default();
            // Writing to a text does not fail.
            let _ = write!(line, "\n    WRONG: {first}");
        }
        line
    }
}

/// How actions of one kind, with one kind of trouble, fared.
#[derive(Default)]
struct Actions {
    count: usize,
    failed: usize,
    had_time: usize,
    slowest: u64,
}

impl Tally {
    pub fn new(seed: u64) -> Self {
        Self {
            schema: 1,
            seed,
            rounds: Vec::new(),
            left: Vec::new(),
        }
    }

    /// Whether nothing was wrong, and something was tried.
    pub fn is_clean(&self) -> bool {
        let faults = self.rounds.iter().any(|round| !round.faults.is_empty());
        !self.rounds.is_empty() && !faults && self.left.is_empty()
    }

    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain values")
    }

    pub fn table(&self) -> String {
        let mut text = format!("seed {}\n", self.seed);
        let mut line = |words: String| {
            text += &words;
            text.push('\n');
        };
        line(format!(
            "{:<14} {:>6} {:>6} {:>6} {:>8} {:>9} {:>9} {:>8} {:>8} {:>8}",
            "deed",
            "rounds",
            "held",
            "lost",
            "longest",
            "newcomers",
            "refused",
            "dark",
            "doubles",
            "wrong"
        ));
        let mut deeds: BTreeMap<(bool, &str), Vec<&Round>> = BTreeMap::new();
        for round in &self.rounds {
            deeds
                .entry((!round.planned, &round.deed))
                .or_default()
                .push(round);
        }
        let mut row = |name: &str, rounds: &[&Round]| {
            let sum =
                |of: fn(&Felt) -> usize| rounds.iter().map(|round| of(&round.felt)).sum::<usize>();
            let most = |of: fn(&Felt) -> f64| {
                rounds
                    .iter()
                    .map(|round| of(&round.felt))
                    .fold(0.0, f64::max)
            };
            let wrong = rounds
                .iter()
                .filter(|round| !round.faults.is_empty())
                .count();
            line(format!(
                "{name:<14} {:>6} {:>6} {:>6} {:>6.2} s {:>9} {:>9} {:>6.2} s {:>8} {wrong:>8}",
                rounds.len(),
                sum(|felt| felt.held),
                sum(|felt| felt.lost.len()),
                most(|felt| felt.longest),
                sum(|felt| felt.newcomers),
                sum(|felt| felt.refused),
                most(|felt| felt.dark),
                sum(|felt| felt.doubles.len()),
            ));
        };
        for ((_, deed), rounds) in &deeds {
            row(deed, rounds);
        }
        for (name, planned) in [("all planned", true), ("all others", false)] {
            let rounds: Vec<&Round> = self
                .rounds
                .iter()
                .filter(|round| round.planned == planned)
                .collect();
            row(name, &rounds);
        }
        line(format!(
            "\n{:<8} {:<8} {:>8} {:>8} {:>22} {:>10}",
            "action", "trouble", "count", "failed", "with time left", "slowest"
        ));
        let mut kinds: BTreeMap<(&str, &str), Actions> = BTreeMap::new();
        for errand in self.rounds.iter().flat_map(|round| &round.errands) {
            let actions = kinds.entry((&errand.action, errand.kind())).or_default();
            actions.count += 1;
            actions.slowest = actions.slowest.max(errand.ms);
            actions.failed += usize::from(errand.failed());
            actions.had_time += usize::from(errand.failed() && errand.had_time_left());
        }
        for ((action, kind), actions) in &kinds {
            let Actions {
                count,
                failed,
                had_time,
                slowest,
            } = actions;
            line(format!(
                "{action:<8} {kind:<8} {count:>8} {failed:>8} {had_time:>22} {slowest:>7} ms"
            ));
        }
        line(match self.left.as_slice() {
            [] => "\nNothing was left behind.".to_owned(),
            some => format!("\nLeft behind or lost:\n  {}", some.join("\n  ")),
        });
        text
    }
}
