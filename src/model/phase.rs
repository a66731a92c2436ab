//! What each bucket of a VIP is to this node, and how that changes. Pure.
//!
//! | phase | this node answers |
//! |---|---|
//! | foreign | nothing of it |
//! | owned | everything |
//! | adopting | everything, but it is silent towards connections that it does not know: another node drains them |
//! | closing | TCP, but for new connections, until it is known which connections there are |
//! | draining | the TCP connections that it had when the bucket left |
//! | offered | everything, until another node claims the bucket: the daemons hand it over (`cluster`) |
//!
//! The phases that can answer beside another node end by themselves, in the kernel. What is here
//! decides which phase follows which; the model of `trials::cluster` runs it against every interleaving.

use super::bucket::BucketSet;
use std::collections::BTreeMap;
use std::fmt;

/// How long a bucket may be closing: whoever lists the connections has either done so by then, or
/// been killed.
pub const CLOSING_MS: u64 = 10_000;

/// How long a bucket is offered at most: then the kernel ends it, and whoever starts it may take it.
pub const OFFERED_MS: u64 = 5_000;

/// How long a daemon may take a bucket that comes: for as long as anybody can offer it, and a while.
pub const COMING_MS: u64 = 8_000;

/// Buckets that end a phase by themselves, and in how many milliseconds.
pub type Ending = BTreeMap<u16, u64>;

/// The phases of all buckets; those that stand nowhere are foreign.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Phases {
    /// Owned, adopting ones among them.
    pub owned: BucketSet,
    /// Until then this node is silent towards connections that it does not know, be the bucket owned
    /// (which is then adopting) or closing.
    pub adopting: Ending,
    /// Closing: until then.
    pub closing: Ending,
    /// Draining: until then.
    pub draining: Ending,
    /// Offered: until then.
    pub offered: Ending,
    /// Foreign yet, and the daemon may take it: until then.
    pub coming: Ending,
    /// There are rules for handing over, whether or not any bucket is left to need them.
    pub handover_rules: bool,
    /// There are rules for closing and draining, whether or not any bucket is left to need them.
    pub leaving_rules: bool,
    /// There are rules for adopting, likewise.
    pub adopting_rules: bool,
}

/// A bucket's phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Another node's, or nobody's.
    Foreign,
    /// This node's.
    Owned,
    /// This node's, while another node still drains it.
    Adopting,
    /// Leaving: its connections are being listed.
    Closing,
    /// Leaving: its connections are served until they end.
    Draining,
    /// This node's until another one claims it.
    Offered,
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 6] = [
        Phase::Foreign,
        Phase::Owned,
        Phase::Adopting,
        Phase::Offered,
        Phase::Closing,
        Phase::Draining,
    ];

    /// The word that outputs use.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Foreign => "foreign",
            Phase::Owned => "owned",
            Phase::Adopting => "adopting",
            Phase::Closing => "closing",
            Phase::Draining => "draining",
            Phase::Offered => "offered",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Phases {
    /// These buckets are owned, and nothing moves.
    pub fn owning(owned: BucketSet) -> Self {
        Phases {
            owned,
            ..Phases::default()
        }
    }

    /// The phase of a bucket.
    pub fn of(&self, bucket: u16) -> Phase {
        match bucket {
            b if self.owned.contains(b) && self.adopting.contains_key(&b) => Phase::Adopting,
            b if self.owned.contains(b) => Phase::Owned,
            b if self.offered.contains_key(&b) => Phase::Offered,
            b if self.closing.contains_key(&b) => Phase::Closing,
            b if self.draining.contains_key(&b) => Phase::Draining,
            _ => Phase::Foreign,
        }
    }

    /// In how many milliseconds the phase of a bucket ends by itself, if it does.
    pub fn left_ms(&self, bucket: u16) -> Option<u64> {
        let ending = match self.of(bucket) {
            Phase::Adopting => &self.adopting,
            Phase::Closing => &self.closing,
            Phase::Draining => &self.draining,
            Phase::Offered => &self.offered,
            Phase::Foreign | Phase::Owned => return None,
        };
        ending.get(&bucket).copied()
    }

    /// The buckets that are on their way out: closing or draining.
    pub fn leaving(&self) -> BucketSet {
        let both = self.closing.keys().chain(self.draining.keys());
        both.copied().collect()
    }

    /// In how many milliseconds the last of all that end by themselves has ended, but for what is adopted.
    pub fn moving_ms(&self) -> Option<u64> {
        let handed_over = self.offered.values().chain(self.coming.values());
        self.leaving_ms().max(handed_over.copied().max())
    }

    /// In how many milliseconds the last bucket that leaves has left, if any does.
    pub fn leaving_ms(&self) -> Option<u64> {
        let both = self.closing.values().chain(self.draining.values());
        both.copied().max()
    }

    /// Does nothing of the VIP answer here, nor is anything about to?
    pub fn is_idle(&self) -> bool {
        let leaves = !self.closing.is_empty() || !self.draining.is_empty();
        self.owned.is_empty() && !leaves && !self.is_handed_over()
    }

    /// Is any bucket in the daemons' hands: offered, or coming?
    pub fn is_handed_over(&self) -> bool {
        !self.offered.is_empty() || !self.coming.is_empty()
    }

    /// Takes a bucket. Its own connections, if it was leaving, are simply kept. `adopt_ms` says how
    /// long another node may go on draining it.
    pub fn take(&mut self, bucket: u16, adopt_ms: Option<u64>) {
        self.closing.remove(&bucket);
        self.draining.remove(&bucket);
        self.offered.remove(&bucket);
        self.coming.remove(&bucket);
        self.owned = self.owned.union(&BucketSet::one(bucket));
        match adopt_ms {
            Some(left) if left > 0 => {
                let known = self.adopting.get(&bucket).copied().unwrap_or_default();
                self.adopting.insert(bucket, known.max(left));
            }
            _ => {}
        }
    }

    /// An owned bucket is answered for so long yet, unless another node claims it.
    pub fn offer(&mut self, bucket: u16, for_ms: u64) {
        if self.owned.contains(bucket) {
            self.owned = self.owned.without(&BucketSet::one(bucket));
            self.offered.insert(bucket, for_ms);
        }
    }

    /// The daemon may take a bucket that is not this node's yet, for so long.
    pub fn come(&mut self, bucket: u16, within_ms: u64) {
        if !self.owned.contains(bucket) {
            self.coming.insert(bucket, within_ms);
        }
    }

    /// Nobody drains the bucket any more.
    pub fn adopted(&mut self, bucket: u16) {
        self.adopting.remove(&bucket);
    }

    /// Gives an owned bucket up, at once.
    pub fn release(&mut self, bucket: u16) {
        self.owned = self.owned.without(&BucketSet::one(bucket));
        self.adopting.remove(&bucket);
        self.closing.remove(&bucket);
        self.draining.remove(&bucket);
        self.offered.remove(&bucket);
        self.coming.remove(&bucket);
    }

    /// Gives an owned or offered bucket up: first no new connections, so that those that there are can be
    /// listed. What is not owned stays as it is.
    pub fn close(&mut self, bucket: u16) {
        self.coming.remove(&bucket);
        let was_offered = self.offered.remove(&bucket).is_some();
        if was_offered || self.owned.contains(bucket) {
            self.owned = self.owned.without(&BucketSet::one(bucket));
            self.closing.insert(bucket, CLOSING_MS);
        }
        // Another node may have it before the connections are listed: those that begin there are none of this node's.
        if was_offered {
            self.silent(bucket);
        }
    }

    /// A closing bucket is another node's by now, so that this one is silent towards connections that it does not know.
    pub fn silent(&mut self, bucket: u16) {
        if self.closing.contains_key(&bucket) {
            self.adopting.entry(bucket).or_insert(CLOSING_MS);
        }
    }

    /// The connections of a closing bucket are known: it drains so long, or is foreign if there are
    /// none.
    pub fn listed(&mut self, bucket: u16, any: bool, drain_ms: u64) {
        if self.closing.remove(&bucket).is_some() {
            // Only flows of its own come as far as the stack from now on.
            self.adopting.remove(&bucket);
            if any && drain_ms > 0 {
                self.draining.insert(bucket, drain_ms);
            }
        }
    }

    /// A bucket that leaves has left.
    pub fn drained(&mut self, bucket: u16) {
        self.closing.remove(&bucket);
        self.draining.remove(&bucket);
    }

    /// Without rules that nothing needs any more. Where the kernel still holds elements that have ended,
    /// the chains to which they went cannot be deleted yet.
    pub fn tidied(mut self, ending: bool) -> Self {
        // What the daemon is about to tell the kernel needs all of them.
        let handed_over = self.is_handed_over();
        self.leaving_rules &= ending || handed_over;
        self.adopting_rules &= handed_over;
        self.handover_rules = false;
        self
    }

    /// Has all rules by which the daemon offers buckets, lets them go and takes them.
    pub fn get_ready(&mut self) {
        self.handover_rules = true;
        self.leaving_rules = true;
        self.adopting_rules = true;
    }

    /// Are all of these there?
    pub fn is_ready(&self) -> bool {
        self.handover_rules && self.leaving_rules && self.adopting_rules
    }

    /// Must there be rules for buckets that are handed over?
    pub fn needs_handover_rules(&self) -> bool {
        self.handover_rules || self.is_handed_over()
    }

    /// Must there be rules for buckets that leave?
    pub fn needs_leaving_rules(&self) -> bool {
        self.leaving_rules || !self.closing.is_empty() || !self.draining.is_empty()
    }

    /// Must there be rules for buckets that are adopted?
    pub fn needs_adopting_rules(&self) -> bool {
        self.adopting_rules || !self.adopting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How long connections may stay.
    const DRAIN_MS: u64 = 60_000;

    /// What may happen to a bucket; whoever does it may be killed after any of them.
    #[derive(Debug, Clone, Copy)]
    enum Event {
        Take(Option<u64>),
        Adopted,
        Come,
        Offer,
        Close,
        Listed(bool),
        Drained,
        Release,
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            3 => prop::option::of(0..=DRAIN_MS).prop_map(Event::Take),
            1 => Just(Event::Adopted),
            1 => Just(Event::Come),
            2 => Just(Event::Offer),
            3 => Just(Event::Close),
            2 => any::<bool>().prop_map(Event::Listed),
            1 => Just(Event::Drained),
            1 => Just(Event::Release),
        ]
    }

    #[test]
    fn a_bucket_drains_only_if_it_has_connections_and_they_may_stay() {
        for (any, drain_ms, then) in [
            (true, DRAIN_MS, Phase::Draining),
            (true, 0, Phase::Foreign),
            (false, DRAIN_MS, Phase::Foreign),
            (false, 0, Phase::Foreign),
        ] {
            let mut phases = Phases::owning(BucketSet::one(1));
            phases.adopting.insert(1, DRAIN_MS);
            phases.close(1);
            assert_eq!(phases.of(1), Phase::Closing);
            // What was never this node's is not, whatever is listed.
            for bucket in [1, 2] {
                phases.listed(bucket, any, drain_ms);
            }
            assert_eq!(phases.of(1), then);
            assert_eq!((phases.of(2), phases.adopting.len()), (Phase::Foreign, 0));
        }
    }

    proptest! {
        #[test]
        fn what_can_answer_beside_another_node_ends_by_itself(
            events in prop::collection::vec((0u16..3, any_event()), 1..30),
        ) {
            let mut phases = Phases::default();
            for (bucket, event) in events {
                let before = phases.adopting.get(&bucket).copied();
                match event {
                    Event::Take(adopt_ms) => phases.take(bucket, adopt_ms),
                    Event::Adopted => phases.adopted(bucket),
                    Event::Come => phases.come(bucket, COMING_MS),
                    Event::Offer => phases.offer(bucket, OFFERED_MS),
                    Event::Close => phases.close(bucket),
                    Event::Listed(any) => phases.listed(bucket, any, DRAIN_MS),
                    Event::Drained if phases.of(bucket) == Phase::Draining => phases.drained(bucket),
                    Event::Drained => {}
                    Event::Release => phases.release(bucket),
                }
                for bucket in 0..3 {
                    let longest_ms = match phases.of(bucket) {
                        Phase::Foreign | Phase::Owned => None,
                        Phase::Closing => Some(10_000),
                        Phase::Offered => Some(OFFERED_MS),
                        Phase::Adopting | Phase::Draining => Some(DRAIN_MS),
                    };
                    match (phases.left_ms(bucket), longest_ms) {
                        (None, None) => {}
                        (Some(left), Some(longest)) => prop_assert!((1..=longest).contains(&left)),
                        other => prop_assert!(false, "bucket {bucket} {other:?}: {phases:?}"),
                    }
                    // A bucket is one thing at a time, and silent only while it may be another node's too.
                    let (owned, leaves) = (phases.owned.contains(bucket), phases.leaving().contains(bucket));
                    let offered = phases.offered.contains_key(&bucket);
                    prop_assert!([owned, leaves, offered].into_iter().filter(|is| *is).count() < 2, "{phases:?}");
                    prop_assert!(!(owned && phases.coming.contains_key(&bucket)), "{phases:?}");
                    let adopts = phases.adopting.contains_key(&bucket);
                    let answers = owned || offered || phases.closing.contains_key(&bucket);
                    prop_assert!(!adopts || answers, "{phases:?}");
                }
                // Whoever takes a bucket again knows of no reason why others should have less time.
                if let Event::Take(adopt_ms) = event {
                    let least = before.max(adopt_ms.filter(|ms| *ms > 0));
                    prop_assert!(phases.adopting.get(&bucket).copied() >= least, "{phases:?}");
                }
            }
        }
    }
}
