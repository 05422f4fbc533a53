//! How often is a window of a series at least as unusual as this one?
//!
//! The strengths of a series' windows in a histogram on a logarithmic scale, half an octave a bin, in which a window counts half after 1,400
//! more. Among the greatest fiftieth, and beyond the greatest, the bins are too few to count: there the tail is a power of the strength,
//! whose exponent is estimated from the mean number `k` of bins beyond the first of the tail.
//!
//! ```text
//!   P(strength >= x) = share above u * (x / u)^(-1/xi),   xi = ln(sqrt 2) / ln((1 + k) / k)
//! ```
//!
//! That is the generalised Pareto distribution's tail for peaks over a threshold, in the case of a positive `xi`, by the maximum likelihood
//! of what is counted in bins of equal width in logarithms, which are a geometric distribution; without bins it is B. M. Hill's estimator
//! ("A Simple General Approach to Inference About the Tail of a Distribution", Annals of Statistics 3, 1975).
//!
//! Cost: 10 ns to learn, 60 ns to ask. Memory: 100 bytes.

use serde::{Deserialize, Serialize};

/// Bins; the first is of all that is below `2^-4`, the last of all beyond `2^6.5`.
const BINS: usize = 23;
const LOWEST: f64 = 0.0625;
/// What the weight of a window grows by from one to the next, and where all are made small again.
const GROWTH: f32 = 1.0005;
const WEIGHT_MAX: f32 = 1e6;
/// The share of windows, and their number, that makes a tail.
const TAIL: f32 = 0.02;
const TAIL_WINDOWS: f32 = 8.0;
/// Bins beyond the first of a tail that is not known (`xi` is .3), counted as so many windows.
const BEYOND: f64 = 0.46;
const BEYOND_WINDOWS: f64 = 4.0;

/// The recent strengths of a series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Tail {
    weight: f32,
    bins: [f32; BINS],
}

impl Default for Tail {
    fn default() -> Self {
        Self { weight: 1.0, bins: [0.0; BINS] }
    }
}

/// The bin of a strength, and the share of it that is beyond the strength.
fn place(strength: f64) -> (usize, f64) {
    if strength < LOWEST {
        return (0, 1.0);
    }
    let at = 1.0 + 2.0 * libm::log2(strength / LOWEST);
    let bin = (at as usize).min(BINS - 1);
    (bin, (1.0 - (at - bin as f64)).clamp(0.0, 1.0))
}

impl Tail {
    /// Takes a window's strength in.
    pub(super) fn learn(&mut self, strength: f64) {
        self.bins[place(strength).0] += self.weight;
        self.weight *= GROWTH;
        if self.weight > WEIGHT_MAX {
            self.bins.iter_mut().for_each(|bin| *bin /= WEIGHT_MAX);
            self.weight /= WEIGHT_MAX;
        }
    }

    /// The chance of a window at least as strong; 1 where nothing is known.
    pub(super) fn probability(&self, strength: f64) -> f64 {
        let total: f32 = self.bins.iter().sum();
        if total <= 0.0 || strength < LOWEST {
            return 1.0;
        }
        let least = (TAIL * total).max(TAIL_WINDOWS * self.weight);
        let mut above = 0.0;
        let mut first = BINS;
        while first > 1 && above < least {
            first -= 1;
            above += self.bins[first];
        }
        let edge = |bin: usize| LOWEST * libm::exp2((bin as f64 - 1.0) / 2.0);
        let all = f64::from(total + self.weight);
        let u = edge(first);
        if strength <= u {
            let (bin, beyond) = place(strength);
            let counted: f32 = self.bins[bin + 1..].iter().sum();
            return (f64::from(counted) + beyond * f64::from(self.bins[bin])) / all;
        }
        let sum: f64 = (first..BINS).map(|bin| f64::from(self.bins[bin]) * (bin - first) as f64).sum();
        let known = f64::from(self.weight) * BEYOND_WINDOWS;
        let beyond = (sum + known * BEYOND) / (f64::from(above) + known);
        let bins = 2.0 * libm::log2(strength / u);
        f64::from(above + self.weight) / all * libm::exp(-bins * libm::log((1.0 + beyond) / beyond))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::isolation_forest::SplitMix64;

    fn learnt(windows: usize, strength: impl Fn(f64) -> f64) -> Tail {
        let (mut tail, mut random) = (Tail::default(), SplitMix64::new(3));
        (0..windows).for_each(|_| tail.learn(strength(1.0 - random.unit())));
        tail
    }

    #[test]
    fn probabilities_are_those_of_the_distribution_far_beyond_what_was_seen() {
        // P(X > x) = (.2 / x)^4 from .2 on: xi is .25.
        let tail = learnt(20_000, |u| 0.2 * u.powf(-0.25));
        for x in [0.25_f64, 0.3, 0.5, 1.0, 3.0, 10.0] {
            let (found, expected) = (tail.probability(x), (0.2 / x).powi(4));
            assert!((found / expected).ln().abs() < 1.0, "{x}: {found}, not {expected}");
        }
        // Exponential: what is extrapolated is more than there is, and not by orders within ten times the windows.
        let tail = learnt(20_000, |u| -u.ln() / 6.0);
        for x in [0.3_f64, 0.5, 1.0, 1.3] {
            let (found, expected) = (tail.probability(x), (-6.0 * x).exp());
            assert!(found > 0.4 * expected && found < 5.0 * expected, "{x}: {found}, not {expected}");
        }
    }

    #[test]
    fn nothing_known_is_nothing_improbable_and_the_first_strength_is() {
        assert_eq!(Tail::default().probability(5.0), 1.0);
        let quiet = learnt(2_000, |_| 0.0);
        assert_eq!(quiet.probability(0.0), 1.0);
        let first = quiet.probability(3.0);
        assert!(first > 0.0 && first < 1e-3, "{first}");
        assert!(quiet.probability(100.0) < first);
    }

    #[test]
    fn what_was_is_forgotten_and_numbers_stay_finite() {
        let mut tail = learnt(50_000, |_| 2.0);
        assert!(tail.probability(2.0) > 0.2);
        (0..30_000).for_each(|_| tail.learn(0.1));
        assert!(tail.probability(2.0) < 1e-3);
        for strength in [f64::MIN_POSITIVE, 1e300, crate::detect::SCORE_MAX] {
            tail.learn(strength);
            assert!((0.0..=1.0).contains(&tail.probability(strength)), "{strength}");
        }
    }
}
