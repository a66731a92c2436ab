//! Whether the clocks of nodes agree, told by what they did in the same transitions. Pure.
//!
//! The CIB has the time of each operation by the clock of the node that did it. It also has the transition in
//! which that was, as the controller numbers them (`transition-key`, `pcmk__transition_key()` in Pacemaker's
//! `lib/common/actions.c`: action, transition, expected code and the controller's UUID), and a transition is over
//! in seconds. So of two nodes that did something in the same one the times tell how far apart their clocks are:
//! not exactly, but whoever waited longest in a transition (a gate waits for minutes) is not alone in it.

use super::status::{number, states, was_done_once};
use roxmltree::{Document, Node};
use std::collections::{BTreeMap, BTreeSet};

/// Clocks that differ by no more seconds are not told from operations that waited for others.
const TOLERATED_S: u64 = 10;

/// What is known of another node's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    /// By how many seconds it was behind in the last transition that both took part in; rather more than less.
    pub behind_s: u64,
    /// By how many seconds it is ahead of this node's (behind it, if negative), if the two agreed in none of several
    /// transitions.
    pub apart_s: Option<i64>,
}

/// The clocks of all nodes but this one, by their names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Clocks(BTreeMap<String, Clock>);

/// Which transition, and whose.
type Transition<'a> = (&'a str, u64);
/// When a node did something in each.
type Done<'a> = BTreeMap<Transition<'a>, BTreeSet<u64>>;

impl Clocks {
    /// As a status section tells them to this node.
    pub(super) fn told(status: &Document<'_>, own: &str) -> Self {
        let states: Vec<_> = states(status)
            .filter_map(|state| Some((state.attribute("uname")?, done(state))))
            .collect();
        let Some((_, ours)) = states.iter().find(|(name, _)| *name == own) else {
            return Clocks::default();
        };
        let others = states.iter().filter(|(name, _)| *name != own);
        let of = |(name, theirs): &(&str, _)| ((*name).to_owned(), compare(ours, theirs));
        Clocks(others.map(of).collect())
    }

    /// What is known of the clock of a node.
    pub fn of(&self, node: &str) -> Clock {
        self.0.get(node).copied().unwrap_or_default()
    }

    /// The nodes whose clocks are not this one's, and by how much they are ahead.
    pub fn apart(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0
            .iter()
            .filter_map(|(name, clock)| Some((name.as_str(), clock.apart_s?)))
    }
}

/// When a node did something or began to, by its clock, in which transition. What recurs was done again since.
fn done<'a>(state: Node<'a, '_>) -> Done<'a> {
    let mut all = Done::new();
    let operations = state.descendants().filter(was_done_once);
    for (transition, at) in operations.filter_map(when) {
        all.entry(transition).or_default().insert(at);
    }
    all
}

fn when<'a>(operation: Node<'a, '_>) -> Option<(Transition<'a>, u64)> {
    let at = number(operation, "last-rc-change")?;
    let mut key = operation.attribute("transition-key")?.splitn(4, ':');
    let (number, whose) = (key.nth(1)?.parse().ok()?, key.nth(1)?);
    Some(((whose, number), at))
}

/// Of two nodes, what the one knows of the clock of the other.
fn compare(ours: &Done<'_>, theirs: &Done<'_>) -> Clock {
    let common = ours.iter().filter_map(|(transition, own)| {
        let other = theirs.get(transition)?;
        Some((own.last()?, nearest(own, other)?))
    });
    let common: Vec<(&u64, i64)> = common.collect();
    let last = common.iter().max_by_key(|(at, _)| **at);
    let behind_s = last.map_or(0, |(_, ahead)| ahead.saturating_neg().max(0).unsigned_abs());
    let apart = common.iter().map(|(_, ahead)| *ahead);
    let apart = apart.min_by_key(|ahead| ahead.unsigned_abs());
    Clock {
        behind_s,
        // In a single one the other may have waited for what was slow.
        apart_s: apart.filter(|ahead| common.len() > 1 && ahead.unsigned_abs() > TOLERATED_S),
    }
}

/// By how much the others' times are ahead of ours at least, where they are nearest to each other.
fn nearest(own: &BTreeSet<u64>, other: &BTreeSet<u64>) -> Option<i64> {
    let pairs = other.iter().flat_map(|other| {
        let neighbours = [own.range(..other).next_back(), own.range(other..).next()];
        neighbours.into_iter().flatten().map(|own| (*own, *other))
    });
    let ahead = pairs.map(|(own, other)| {
        let apart = i64::try_from(other.abs_diff(own)).unwrap_or(i64::MAX);
        if other < own { -apart } else { apart }
    });
    ahead.min_by_key(|ahead| ahead.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A status in which nodes have done something at these times in these transitions.
    fn status(nodes: &[(&str, &[(&str, u64)])]) -> String {
        let states = nodes.iter().map(|(name, done)| {
            let operations = done.iter().map(|(transition, at)| {
                format!(
                    "<lrm_rsc_op id=\"a_last_0\" interval=\"0\" transition-key=\"31:{transition}\" \
                     last-rc-change=\"{at}\"/>"
                )
            });
            let operations: String = operations.collect();
            format!("<node_state uname=\"{name}\"><lrm>{operations}</lrm></node_state>")
        });
        format!("<status>{}</status>", states.collect::<String>())
    }

    /// What n1 knows of n2's clock.
    fn known(ours: &[(&str, u64)], theirs: &[(&str, u64)]) -> Clock {
        let text = status(&[("n1", ours), ("n2", theirs)]);
        let status = Document::parse(&text).expect("XML");
        Clocks::told(&status, "n1").of("n2")
    }

    #[test]
    fn clocks_are_apart_if_they_are_in_every_transition_of_both() {
        let clock = |behind_s, apart_s| Clock { behind_s, apart_s };
        for (ours, theirs, expected) in [
            (("5:0:dc", 1000), ("5:0:dc", 1004), clock(0, None)),
            (("5:0:dc", 1000), ("5:0:dc", 700), clock(300, None)),
            (("5:7:dc", 1000), ("5:0:dc", 1300), clock(0, None)),
            // Nothing in common: another transition, or another controller's.
            (("5:0:dc", 1000), ("6:0:dc", 700), clock(0, None)),
            (("5:0:dc", 1000), ("5:0:other", 700), clock(0, None)),
            (("5", 1000), ("5", 700), clock(0, None)),
        ] {
            assert_eq!(known(&[ours], &[theirs]), expected, "{ours:?}, {theirs:?}");
        }
        // In two transitions it is no operation that others waited for.
        let before = |at| ("4:0:dc", at);
        for (first, last, expected) in [
            (600, 700, clock(300, Some(-300))),
            (890, 700, clock(300, None)),
            (1200, 1290, clock(0, Some(290))),
        ] {
            let theirs = [before(first), ("5:0:dc", last)];
            assert_eq!(
                known(&[before(900), ("5:0:dc", 1000)], &theirs),
                expected,
                "{theirs:?}"
            );
        }
        // A gate waited in the last transition; others in it tell that the clocks agree.
        let (begin, end) = (("9:0:dc", 2000), ("9:0:dc", 2200));
        assert_eq!(known(&[begin, end], &[begin]), clock(0, None));
        // Nobody else was in it: rather too late than too early, and no cause to complain.
        let before = ("8:0:dc", 1900);
        assert_eq!(known(&[before, end], &[before, begin]), clock(200, None));
        // A clock was set back since.
        let (then, set) = (("9:0:dc", 2000), ("9:0:dc", 1700));
        assert_eq!(known(&[before, then], &[before, set]), clock(300, None));
    }

    #[test]
    fn what_recurs_or_has_failed_is_of_a_transition_of_long_ago() {
        let (ours, theirs) = (
            [("4:0:dc", 900), ("5:0:dc", 1000)],
            [("4:0:dc", 600), ("5:0:dc", 700)],
        );
        let text = status(&[("n1", &ours), ("n2", &theirs)]);
        for (what, instead) in [
            ("interval=\"0\"", "interval=\"10000\""),
            ("a_last_0", "a_last_failure_0"),
        ] {
            let other = text.replace(what, instead);
            let status = Document::parse(&other).expect("XML");
            assert_eq!(Clocks::told(&status, "n1").of("n2"), Clock::default());
        }
        let status = Document::parse(&text).expect("XML");
        let clocks = Clocks::told(&status, "n1");
        assert_eq!(Vec::from_iter(clocks.apart()), [("n2", -300)]);
        assert_eq!(Clocks::told(&status, "n3"), Clocks::default());
        assert_eq!(clocks.of("n3"), Clock::default());
    }
}
