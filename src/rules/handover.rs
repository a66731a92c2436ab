//! The rules for buckets that daemons hand over, and only while some are. Pure.
//!
//! A bucket that is offered is an element of the map `offered-…` in place of one of `buckets-…`: it is answered like an
//! owned one, and the kernel ends that by itself. So the map that every packet is looked up in has no time-outs, and
//! what is foreign pays for a second look-up only while something is handed over.
//!
//! Nothing is looked up in the set `coming-…`: it says what the daemon may take, and ends by itself. A daemon takes a
//! bucket by deleting its element there in the same transaction, which fails as a whole where it is gone. So whoever has
//! slept for too long takes nothing.

use super::names::*;
use super::sentence::{Ports, REG0, Sentence, Way};
use crate::model::phase::{Ending, Phases};
use crate::model::ruleset::{Data, Element, Set, SetSpec, Target, Verdict};
use crate::model::vip::Vip;

const OFFERED: &str = "offered to other nodes, and answered until one claims it";

/// What a look-up of owned buckets has behind it: the same for those that are offered, of the packets that `of` begins to
/// describe. `None` while nothing is handed over.
pub(super) fn rule(
    vip: &Vip,
    phases: &Phases,
    ports: Ports,
    of: impl FnOnce(Sentence) -> Sentence,
) -> Option<Sentence> {
    phases.needs_handover_rules().then(|| {
        of(Sentence::because(OFFERED))
            .bucket(vip, ports, Way::In)
            .vmap(&offered_map(vip.address), REG0)
    })
}

/// The element of a bucket that is offered.
pub fn offered_element(left_ms: u64) -> Element {
    Element::new(Target::Verdict(Verdict::Goto(TO_HOST.to_owned()))).ending(left_ms)
}

/// What the map of offered buckets is made for.
fn offered_spec(vip: &Vip) -> SetSpec {
    let buckets = vip.buckets.get();
    SetSpec::of_ending_numbers(buckets, Data::Verdict)
}

/// What the set of coming buckets is made for.
fn coming_spec(vip: &Vip) -> SetSpec {
    let buckets = vip.buckets.get();
    SetSpec::of_ending_numbers(buckets, Data::None)
}

/// The map and the set; none while nothing is handed over.
pub(super) fn sets(vip: &Vip, phases: &Phases) -> Vec<(String, Set)> {
    if !phases.needs_handover_rules() {
        return Vec::new();
    }
    let with = |spec, ending: &Ending, element: &dyn Fn(u64) -> Element| {
        let mut set = Set::new(spec);
        let elements = ending.iter();
        let elements = elements.map(|(bucket, left)| (bucket_key(*bucket), element(*left)));
        set.elements.extend(elements);
        set
    };
    let coming = |left| Element::new(Target::None).ending(left);
    let address = vip.address;
    vec![
        (
            offered_map(address),
            with(offered_spec(vip), &phases.offered, &offered_element),
        ),
        (
            coming_set(address),
            with(coming_spec(vip), &phases.coming, &coming),
        ),
    ]
}
