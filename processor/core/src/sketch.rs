//! DDSketch: quantiles with a bounded relative error, mergeable in any order.
//!
//! Source: C. Masson, J. E. Rim, H. K. Lee, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error Guarantees",
//! VLDB 2019. A value falls into the bin `floor(m L(x))` of a function `L` that grows at least as fast as `log2 x`; all values of a
//! bin are within a factor `gamma = (1 + a) / (1 - a)` of each other, so that one number per bin is within `a` = 1 % of each.
//!
//! `L` is the cubic interpolation of the binary logarithm between powers of two instead of a logarithm: it takes three
//! multiplications, costs 1 % more bins, and needs no library function whose last bit differs between machines.
//!
//! Cost: constant per value (a new extreme may move the bins once). Memory: at most [`BINS_MAX`] bins of 4 bytes per sign, 8 KiB in
//! all; the bins between the least and the greatest magnitude are kept, so that values within a factor of 100 take less than 1 KB.
//! Past the bound (a ratio of 6e8) the smallest magnitudes share a bin. The sketch is a function of the set of values, not of their
//! order.

use serde::{Deserialize, Serialize};

/// Relative accuracy of a quantile: the value returned is within this share of a value that has the rank.
pub const RELATIVE_ACCURACY: f64 = 0.01;
/// Most bins per sign.
pub const BINS_MAX: usize = 1024;

/// Coefficients of `L(2^e (1 + s)) = e + C s + B s^2 + A s^3`, whose slope against `ln x` is never below C = 10/7.
const A: f64 = 6.0 / 35.0;
const B: f64 = -3.0 / 5.0;
const C: f64 = 10.0 / 7.0;
/// Bins per power of two: `1 / (C ln gamma)`, with `ln gamma = 2 artanh a` by its series.
const BINS_PER_OCTAVE: f64 = {
    let a = RELATIVE_ACCURACY;
    let (a3, a5) = (a * a * a, a * a * a * a * a);
    1.0 / (C * 2.0 * (a + a3 / 3.0 + a5 / 5.0 + a5 * a * a / 7.0))
};

/// Bin of a positive normal number.
fn bin_of(magnitude: f64) -> i32 {
    let bits = magnitude.to_bits();
    let exponent = ((bits >> 52) as i32) - 1023;
    let s = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52)) - 1.0;
    ((f64::from(exponent) + ((A * s + B) * s + C) * s) * BINS_PER_OCTAVE).floor() as i32
}

/// Least magnitude of a bin: the inverse of `L`, by Newton's method.
fn lower_bound(bin: i32) -> f64 {
    let l = f64::from(bin) / BINS_PER_OCTAVE;
    let exponent = l.floor();
    let target = l - exponent;
    let mut s = target;
    for _ in 0..8 {
        s -= (((A * s + B) * s + C) * s - target) / ((3.0 * A * s + 2.0 * B) * s + C);
    }
    let exponent = exponent as i32;
    match exponent {
        ..-1022 => f64::MIN_POSITIVE,
        1024.. => f64::MAX,
        _ => f64::from_bits((exponent + 1023) as u64 * (1 << 52)) * (1.0 + s.clamp(0.0, 1.0)),
    }
}

/// The number that stands for all of a bin: within the relative accuracy of both bounds.
fn representative(bin: i32) -> f64 {
    let (low, high) = (lower_bound(bin), lower_bound(bin + 1));
    low * (2.0 / (1.0 + low / high))
}

/// Counts of consecutive bins, from the first to the last that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Store {
    first: i32,
    counts: Vec<u32>,
}

impl Store {
    fn add(&mut self, bin: i32, count: u32) {
        let slot = self.slot(bin);
        self.counts[slot] = self.counts[slot].saturating_add(count);
    }

    /// Makes room for a bin; says which slot counts it.
    fn slot(&mut self, bin: i32) -> usize {
        let span = BINS_MAX as i32;
        if self.counts.is_empty() {
            self.first = bin;
            self.counts.push(0);
            return 0;
        }
        let last = self.first + self.counts.len() as i32 - 1;
        if bin > last {
            self.collapse_below(bin - span + 1);
            let len = (bin - self.first + 1) as usize;
            self.counts.resize(len, 0);
            return len - 1;
        }
        let bin = bin.max(last - span + 1);
        if bin < self.first {
            let grown = (self.first - bin) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, grown));
            self.first = bin;
        }
        (bin - self.first) as usize
    }

    /// Counts all bins before `least` in `least`.
    fn collapse_below(&mut self, least: i32) {
        let dropped = i64::from(least) - i64::from(self.first);
        if dropped <= 0 {
            return;
        }
        let dropped = (dropped as usize).min(self.counts.len());
        let sum = self.counts.drain(..dropped).fold(0u32, u32::saturating_add);
        self.first = least;
        match self.counts.first_mut() {
            Some(count) => *count = count.saturating_add(sum),
            None => self.counts.push(sum),
        }
    }

    fn merge(&mut self, other: &Self) {
        for (bin, count) in other.bins().rev().filter(|&(_, count)| count > 0) {
            self.add(bin, count);
        }
    }

    fn bins(&self) -> impl DoubleEndedIterator<Item = (i32, u32)> + '_ {
        self.counts.iter().enumerate().map(|(slot, &count)| (self.first + slot as i32, count))
    }
}

/// A sketch of a set of values. See the module's text for accuracy, cost and memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DdSketch {
    zeros: u64,
    positive: Store,
    negative: Store,
}

impl DdSketch {
    /// Takes a value in. Magnitudes below 2.3e-308 count as zero; a value that is not finite is not taken in.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let magnitude = value.abs();
        if magnitude < f64::MIN_POSITIVE {
            self.zeros += 1;
        } else if value > 0.0 {
            self.positive.add(bin_of(magnitude), 1);
        } else {
            self.negative.add(bin_of(magnitude), 1);
        }
    }

    /// Takes in all that another has.
    pub fn merge(&mut self, other: &Self) {
        self.zeros += other.zeros;
        self.positive.merge(&other.positive);
        self.negative.merge(&other.negative);
    }

    /// Values taken in.
    #[must_use]
    pub fn count(&self) -> u64 {
        let of = |store: &Store| store.counts.iter().map(|&count| u64::from(count)).sum::<u64>();
        self.zeros + of(&self.positive) + of(&self.negative)
    }

    /// The value of rank `q (n - 1)`, rounded down, within the relative accuracy. `q` is clamped to `[0, 1]`; `None` when nothing has
    /// been taken in, or when `q` is NaN. Cost: one pass over the bins.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 || q.is_nan() {
            return None;
        }
        let rank = (q.clamp(0.0, 1.0) * (count - 1) as f64) as u64;
        let ascending = (self.negative.bins().rev().map(|(bin, n)| (-representative(bin), u64::from(n))))
            .chain(std::iter::once((0.0, self.zeros)))
            .chain(self.positive.bins().map(|(bin, n)| (representative(bin), u64::from(n))));
        let mut before = 0;
        let mut last = None;
        for (value, n) in ascending.filter(|&(_, n)| n > 0) {
            before += n;
            last = Some(value);
            if before > rank {
                break;
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> DdSketch {
        let mut sketch = DdSketch::default();
        values.iter().for_each(|&v| sketch.add(v));
        sketch
    }

    fn check_accuracy(values: &[f64]) {
        let sketch = of(values);
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        for q in [0.0, 0.01, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0] {
            let exact = sorted[(q * (sorted.len() - 1) as f64) as usize];
            let estimate = sketch.quantile(q).unwrap();
            assert!(
                (estimate - exact).abs() <= RELATIVE_ACCURACY * exact.abs() * (1.0 + 1e-9),
                "q {q}: {estimate} for {exact}"
            );
        }
    }

    #[test]
    fn every_bin_is_as_narrow_as_promised() {
        let gamma = (1.0 + RELATIVE_ACCURACY) / (1.0 - RELATIVE_ACCURACY);
        for bin in -200..200 {
            let (low, high) = (lower_bound(bin), lower_bound(bin + 1));
            assert!(high / low <= gamma * (1.0 + 1e-9), "bin {bin}: {low} to {high}");
            assert_eq!(bin_of(low * (1.0 + 1e-9)), bin);
            assert_eq!(bin_of(high * (1.0 - 1e-9)), bin);
        }
    }

    #[test]
    fn an_empty_sketch_has_no_quantiles() {
        assert_eq!(of(&[]).quantile(0.5), None);
        assert_eq!(of(&[f64::NAN, f64::INFINITY]).quantile(0.5), None);
        assert_eq!(of(&[1.0]).quantile(f64::NAN), None);
    }

    #[test]
    fn the_extremes_of_f64_are_taken() {
        check_accuracy(&[f64::MAX, f64::MAX / 2.0, 1e300]);
        check_accuracy(&[f64::MIN, -1e308]);
        check_accuracy(&[f64::MIN_POSITIVE, 3e-308]);
        check_accuracy(&[0.0, -0.0, 0.0]);
    }

    #[test]
    fn the_number_of_bins_is_bounded_and_high_quantiles_stay_right() {
        let values: Vec<f64> = (0..2000).map(|i| 1.2f64.powi(i % 400)).collect();
        let sketch = of(&values);
        assert_eq!(sketch.positive.counts.len(), BINS_MAX);
        assert_eq!(sketch.count(), 2000);
        let exact = 1.2f64.powi(379);
        assert!((sketch.quantile(0.95).unwrap() / exact - 1.0).abs() <= 0.011);
        let mut backwards = values;
        backwards.reverse();
        assert_eq!(of(&backwards), sketch);
    }

    proptest! {
        #[test]
        fn quantiles_are_within_one_percent(values in prop::collection::vec(prop_oneof![-1e3f64..1e3, 1e-3f64..10.0, Just(0.0)], 1..200)) {
            check_accuracy(&values);
        }

        #[test]
        fn order_and_splits_do_not_matter(values in prop::collection::vec(any::<f64>(), 0..60), cut in 0usize..60) {
            let cut = cut.min(values.len());
            let whole = of(&values);
            for (a, b) in [(&values[..cut], &values[cut..]), (&values[cut..], &values[..cut])] {
                let mut merged = of(a);
                merged.merge(&of(b));
                prop_assert_eq!(&merged, &whole);
            }
        }
    }
}
