//! What a window knows of one measure: moments, and quantiles where an aggregate asks for them.
//!
//! The invariant: a summary of two parts merged equals the summary of all values, exactly in count and extremes, and up to rounding in the
//! rest. Sources: B. P. Welford, "Note on a Method for Calculating Corrected Sums of Squares and Products",
//! Technometrics 4, 1962; T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
//! Variances", 1979; the sketch is [`crate::sketch`].

use serde::{Deserialize, Serialize};

use crate::sketch::DdSketch;

/// Count, sum, mean, variance and extremes of a set of values, in constant memory.
///
/// Values that are not finite are not taken in. Results saturate at the largest finite numbers instead of overflowing. A pane keeps
/// all but the count, 32 bytes (see [`crate::window::Pane`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// Values taken in.
    pub count: u64,
    /// Their sum; 0 without values.
    pub sum: f64,
    /// Sum of squared deviations from the mean.
    pub m2: f64,
    /// Least value; 0 without values.
    pub min: f64,
    /// Greatest value; 0 without values.
    pub max: f64,
}

/// The nearest finite number.
fn finite(x: f64) -> f64 {
    x.clamp(f64::MIN, f64::MAX)
}

impl Moments {
    /// Takes a value in: Welford's update.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        if self.count == 0 {
            *self = Self { count: 1, sum: value, m2: 0.0, min: value, max: value };
            return;
        }
        let before = finite(value - self.mean());
        self.count += 1;
        self.sum = finite(self.sum + value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.m2 = finite(self.m2 + finite(before * finite(value - self.mean())).max(0.0));
    }

    /// Takes in all that another has: Chan's pairwise update.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        let count = self.count + other.count;
        let share = other.count as f64 / count as f64;
        let delta = finite(other.mean() - self.mean());
        // delta^2 n m / (n + m)
        let between = finite(finite(delta * self.count as f64) * finite(delta * share));
        self.m2 = finite(self.m2 + other.m2 + between);
        self.count = count;
        self.sum = finite(self.sum + other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Arithmetic mean; 0 without values.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { (self.sum / self.count as f64).clamp(self.min, self.max) }
    }

    /// Sample variance (divided by `count - 1`), in squared units of the values; 0 for fewer than two values.
    #[must_use]
    pub fn variance(&self) -> f64 {
        if self.count < 2 { 0.0 } else { self.m2 / (self.count - 1) as f64 }
    }

    /// Sample standard deviation, in units of the values; 0 for fewer than two values.
    #[must_use]
    pub fn stddev(&self) -> f64 {
        self.variance().sqrt()
    }
}

/// What is known of the values of one measure in one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary<'a> {
    /// Count, sum, variance and extremes.
    pub moments: Moments,
    /// The distribution, where an aggregate asks for quantiles.
    pub sketch: Option<&'a DdSketch>,
}

impl Summary<'_> {
    /// The `q`-quantile, within 1 % of a value of that rank and within the extremes; `None` without values or without a sketch.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let estimate = self.sketch?.quantile(q)?;
        Some(estimate.clamp(self.moments.min, self.moments.max))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Moments {
        let mut moments = Moments::default();
        values.iter().for_each(|&value| moments.add(value));
        moments
    }

    /// Reference: numpy 2.4.6, `a.mean(), a.var(ddof=1), a.std(ddof=1), a.sum()`.
    #[test]
    fn moments_agree_with_numpy() {
        let m = of(&[3.5, -1.25, 8.0, 0.0, 2.75, 100.5, 7.125]);
        assert!((m.mean() - 17.232_142_857_142_858).abs() < 1e-12);
        assert!((m.variance() - 1_359.627_232_142_857).abs() < 1e-9);
        assert!((m.stddev() - 36.873_123_438_933_91).abs() < 1e-10);
        assert_eq!((m.count, m.sum, m.min, m.max), (7, 120.625, -1.25, 100.5));
    }

    #[test]
    fn a_large_offset_does_not_eat_the_variance() {
        assert_eq!(of(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]).variance(), 30.0);
    }

    #[test]
    fn nothing_and_what_is_not_finite_leave_no_trace() {
        let m = of(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        assert_eq!(m, Moments::default());
        assert_eq!((m.mean(), m.stddev(), m.sum), (0.0, 0.0, 0.0));
    }

    #[test]
    fn the_largest_numbers_saturate() {
        let m = of(&[f64::MAX, f64::MIN, f64::MAX, 1e308, -1e308]);
        for x in [m.mean(), m.m2, m.sum, m.variance(), m.stddev()] {
            assert!(x.is_finite(), "{m:?}");
        }
    }

    #[test]
    fn quantiles_are_within_the_extremes() {
        let mut sketch = DdSketch::default();
        (0..5).for_each(|_| sketch.add(10.0));
        let summary = Summary { moments: of(&[10.0; 5]), sketch: Some(&sketch) };
        assert_eq!([0.0, 0.95, 1.0].map(|q| summary.quantile(q)), [Some(10.0); 3]);
        assert_eq!(Summary { sketch: None, ..summary }.quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn merged_parts_equal_the_whole(a in prop::collection::vec(-1e6f64..1e6, 0..60), b in prop::collection::vec(-1e6f64..1e6, 0..60)) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let (m, w) = (merged, of(&[a, b].concat()));
            prop_assert_eq!((m.count, m.min, m.max), (w.count, w.min, w.max));
            prop_assert!((m.mean() - w.mean()).abs() <= 1e-9 * (1.0 + w.mean().abs()));
            prop_assert!((m.m2 - w.m2).abs() <= 1e-9 * (1.0 + w.m2));
            prop_assert!((m.sum - w.sum).abs() <= 1e-6);
        }

        #[test]
        fn any_input_leaves_finite_numbers(values in prop::collection::vec(any::<f64>(), 0..40)) {
            let m = of(&values);
            prop_assert!([m.mean(), m.m2, m.sum, m.stddev()].iter().all(|x| x.is_finite()));
        }
    }
}
