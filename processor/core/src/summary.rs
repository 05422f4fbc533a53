//! What a window knows of one measure: moments, and quantiles where an aggregate asks for them.
//!
//! The invariant: a summary of two parts merged equals the summary of all values, exactly in count, extremes and sketch, and up to
//! rounding in the moments. Sources: B. P. Welford, "Note on a Method for Calculating Corrected Sums of Squares and Products",
//! Technometrics 4, 1962; T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
//! Variances", 1979; the sketch is [`crate::sketch`].

use serde::{Deserialize, Serialize};

use crate::sketch::DdSketch;

/// Count, sum, mean, variance and extremes of a set of values, in constant memory (48 bytes).
///
/// Values that are not finite are not taken in. Results saturate at the largest finite numbers instead of overflowing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// Values taken in.
    pub count: u64,
    /// Arithmetic mean; 0 without values.
    pub mean: f64,
    /// Sum of squared deviations from the mean.
    pub m2: f64,
    /// Least value; 0 without values.
    pub min: f64,
    /// Greatest value; 0 without values.
    pub max: f64,
    sum: f64,
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
        self.merge(&Self { count: 1, mean: value, m2: 0.0, min: value, max: value, sum: value });
    }

    /// Takes in all that another has: Chan's pairwise update, of which Welford's is the case of one value.
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
        let delta = finite(other.mean - self.mean);
        let mean = self.mean + delta * share;
        // delta^2 n m / (n + m); for one value this is Welford's (x - old mean)(x - new mean).
        let between = finite(finite(delta * self.count as f64) * finite(delta * share));
        self.m2 = finite(self.m2 + other.m2 + between);
        self.mean = mean.clamp(self.min.min(other.min), self.max.max(other.max));
        self.count = count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum = finite(self.sum + other.sum);
    }

    /// Sum of the values, added up in the order in which they came (so that whole numbers stay whole).
    #[must_use]
    pub const fn sum(&self) -> f64 {
        self.sum
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

/// What is known of the values of one measure in one window or pane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Count, sum, mean, variance and extremes.
    pub moments: Moments,
    /// The distribution, where an aggregate asks for quantiles.
    pub sketch: Option<DdSketch>,
}

impl Summary {
    /// A summary of nothing; `with_quantiles` pays for a sketch (see [`DdSketch`] for its size).
    #[must_use]
    pub fn new(with_quantiles: bool) -> Self {
        Self { moments: Moments::default(), sketch: with_quantiles.then(DdSketch::default) }
    }

    /// Takes a value in. A value that is not finite is not taken in.
    pub fn add(&mut self, value: f64) {
        self.moments.add(value);
        if let Some(sketch) = &mut self.sketch {
            sketch.add(value);
        }
    }

    /// Takes in all that another has. Quantiles are kept only where both have them.
    pub fn merge(&mut self, other: &Self) {
        self.moments.merge(&other.moments);
        match (&mut self.sketch, &other.sketch) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine, _) => *mine = None,
        }
    }

    /// The `q`-quantile, within 1 % of a value of that rank and within the extremes; `None` without values or without a sketch.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let estimate = self.sketch.as_ref()?.quantile(q)?;
        Some(estimate.clamp(self.moments.min, self.moments.max))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Summary {
        let mut summary = Summary::new(true);
        values.iter().for_each(|&v| summary.add(v));
        summary
    }

    /// Reference: numpy 2.4.6, `a.mean(), a.var(ddof=1), a.std(ddof=1), a.sum()`.
    #[test]
    fn moments_agree_with_numpy() {
        let m = of(&[3.5, -1.25, 8.0, 0.0, 2.75, 100.5, 7.125]).moments;
        assert!((m.mean - 17.232_142_857_142_858).abs() < 1e-12);
        assert!((m.variance() - 1_359.627_232_142_857).abs() < 1e-9);
        assert!((m.stddev() - 36.873_123_438_933_91).abs() < 1e-10);
        assert_eq!((m.count, m.sum(), m.min, m.max), (7, 120.625, -1.25, 100.5));
    }

    #[test]
    fn a_large_offset_does_not_eat_the_variance() {
        let m = of(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]).moments;
        assert_eq!(m.variance(), 30.0);
    }

    #[test]
    fn nothing_and_what_is_not_finite_leave_no_trace() {
        let s = of(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        assert_eq!(s, Summary::new(true));
        assert_eq!((s.quantile(0.5), s.moments.stddev(), s.moments.sum()), (None, 0.0, 0.0));
    }

    #[test]
    fn the_largest_numbers_saturate() {
        let m = of(&[f64::MAX, f64::MIN, f64::MAX, 1e308, -1e308]).moments;
        for x in [m.mean, m.m2, m.sum(), m.variance(), m.stddev()] {
            assert!(x.is_finite(), "{m:?}");
        }
    }

    #[test]
    fn quantiles_are_within_the_extremes() {
        let s = of(&[10.0; 5]);
        assert_eq!((s.quantile(0.0), s.quantile(0.95), s.quantile(1.0)), (Some(10.0), Some(10.0), Some(10.0)));
        assert_eq!(Summary::new(false).quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn merged_parts_equal_the_whole(a in prop::collection::vec(-1e6f64..1e6, 0..60), b in prop::collection::vec(-1e6f64..1e6, 0..60)) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let whole = of(&[a, b].concat());
            prop_assert_eq!(&merged.sketch, &whole.sketch);
            let (m, w) = (merged.moments, whole.moments);
            prop_assert_eq!((m.count, m.min, m.max), (w.count, w.min, w.max));
            prop_assert!((m.mean - w.mean).abs() <= 1e-9 * (1.0 + w.mean.abs()));
            prop_assert!((m.m2 - w.m2).abs() <= 1e-9 * (1.0 + w.m2));
            prop_assert!((m.sum() - w.sum()).abs() <= 1e-6);
        }

        #[test]
        fn any_input_leaves_finite_numbers(values in prop::collection::vec(any::<f64>(), 0..40)) {
            let s = of(&values);
            prop_assert!(s.moments.mean.is_finite() && s.moments.m2.is_finite() && s.moments.sum().is_finite());
            prop_assert!(s.quantile(0.5).is_none_or(f64::is_finite));
        }

        #[test]
        fn a_copy_brought_back_is_the_same(values in prop::collection::vec(any::<f64>(), 0..40)) {
            let s = of(&values);
            let bytes = postcard::to_stdvec(&s).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Summary>(&bytes).unwrap(), s);
        }
    }
}
