//! What rules cost beside others that were measured in the same rounds: another L2 mode beside the usual one, and that one
//! beside another build's. Pure.

use std::path::Path;

use super::variants::Variant;
use crate::report::Compared;
use crate::stats::Summary;

/// All pairs of what was measured, with each round's nanoseconds above the floor.
pub fn of(measured: &[(&Variant, Vec<f64>)], build: Option<&Path>) -> Vec<Compared> {
    let pairs = measured.iter().filter_map(|(variant, above)| {
        let counterpart = variant.counterpart(build)?;
        let (other, beside) = measured.iter().find(|(one, _)| **one == counterpart)?;
        let (rules, packet) = variant.words();
        let rounds = above.iter().zip(beside);
        let more: Vec<f64> = rounds.map(|(ours, its)| ours - its).collect();
        let more = Summary::of(&more);
        let its = Summary::of(beside).median;
        Some(Compared {
            rules,
            packet,
            beside: other.words().0,
            more,
            to_beside: (its + more.median) / its,
        })
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packets::lines;

    #[test]
    fn what_slows_both_down_in_a_round_is_no_difference() {
        let build = Path::new("/before/nodectl");
        let all = lines::all(2, &[], Some(build));
        let is_measure = |variant: &&Variant| variant.is_the_measure();
        let ours = all.iter().find(is_measure).expect("the measure");
        let its = ours.counterpart(Some(build)).expect("another build's");
        let measured = [
            (ours, vec![110.0, 510.0, 111.0]),
            (&its, vec![100.0, 500.0, 100.0]),
        ];
        let compared = of(&measured, Some(build));
        let [one] = compared.as_slice() else {
            panic!("{compared:?}")
        };
        assert_eq!((one.more.median, one.to_beside), (10.0, 1.1));
        assert!(one.beside.ends_with("by /before/nodectl"), "{}", one.beside);
        assert!(one.rules.ends_with("16 buckets"), "{}", one.rules);
        assert!(of(&measured[..1], Some(build)).is_empty());
    }
}
