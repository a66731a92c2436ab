//! Medians and spreads. Pure.

use serde::Serialize;

/// What is told of many figures of one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// The middle one.
    pub median: f64,
    /// A quarter of all is below it.
    pub lower_quartile: f64,
    /// A quarter of all is above it.
    pub upper_quartile: f64,
    /// The median itself is known to about this much, either way (95 %, by order statistics).
    pub uncertainty: f64,
    /// The smallest and the largest.
    pub range: [f64; 2],
    /// How many there were.
    pub count: usize,
}

impl Summary {
    /// Sums figures up; of none at all everything is 0.
    pub fn of(figures: &[f64]) -> Self {
        let mut sorted: Vec<f64> = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else {
            return Self::default();
        };
        // The ranks between which the true median is found 19 times in 20.
        let around = 0.98 / (sorted.len() as f64).sqrt();
        let low = quantile(&sorted, 0.5 - around);
        let high = quantile(&sorted, 0.5 + around);
        Self {
            median: quantile(&sorted, 0.5),
            lower_quartile: quantile(&sorted, 0.25),
            upper_quartile: quantile(&sorted, 0.75),
            uncertainty: (high - low) / 2.0,
            range: [*first, *last],
            count: sorted.len(),
        }
    }
}

/// The figure below which `share` of all figures are; of none at all 0.
pub fn quantile_of(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, share)
}

/// The figure below which `share` of all sorted figures are, interpolated.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = share.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let figure = |at: usize| sorted.get(at).copied().unwrap_or_default();
    figure(below) + (figure(above) - figure(below)) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_far_figure_does_not_move_the_median() {
        let calm = Summary::of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        let disturbed = Summary::of(&[1.0, 2.0, 3.0, 4.0, 5000.0]);
        assert_eq!((calm.median, disturbed.median), (3.0, 3.0));
        assert_eq!((calm.lower_quartile, calm.upper_quartile), (2.0, 4.0));
        assert_eq!(disturbed.range, [1.0, 5000.0]);
    }

    #[test]
    fn nothing_and_a_single_figure_are_summed_up_too() {
        assert_eq!(Summary::of(&[]).count, 0);
        assert_eq!(quantile_of(&[], 0.95), 0.0);
        let one = Summary::of(&[7.0]);
        assert_eq!((one.median, one.uncertainty, one.count), (7.0, 0.0, 1));
    }

    #[test]
    fn nineteen_of_twenty_figures_are_below_their_quantile() {
        let figures: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(quantile_of(&figures, 0.95), 95.0);
    }

    #[test]
    fn more_figures_make_the_median_surer() {
        let few: Vec<f64> = (0..10).map(f64::from).collect();
        let many: Vec<f64> = (0..1000).map(|n| f64::from(n) / 100.0).collect();
        assert!(Summary::of(&many).uncertainty < Summary::of(&few).uncertainty);
    }
}
