//! The forest of a cohort: how odd is a combination of values, against the recent ones?
//!
//! Two members look at the same rows. `density` is a forest of small random histograms: it sees where rows are sparse, in any shape.
//! `gauss` is the distance from the mean in units of the covariance: it sees what leaves a line along which the rows lie, which cuts
//! across one feature at a time do not. Each member's value is replaced by its `rank` among its last 2,048, as a quantile of the normal
//! distribution, and the score is the greater one, the second with a handicap of half a deviation:
//!
//! ```text
//!   score = max(q(rank(density)), q(rank(gauss)) - .5)     standard deviations of the normal distribution
//! ```
//!
//! A mean, a product, or a third member (the online forest of [`super::isolation_forest`]) did not do better on the sets that it was
//! chosen on.
//!
//! Cost: 2 to 4 us for a row of up to 9 numbers, scored and learnt. Memory: about 120 kB. Warm-up: 32 rows. A number that is NaN counts as
//! usual; a row with a number that is not finite is scored and not learnt. A constant feature says nothing until it changes.

use serde::{Deserialize, Serialize};

use self::density::Density;
use self::gauss::Gauss;
use self::rank::Ranks;

mod density;
mod gauss;
mod rank;

/// Deviations by which the Gaussian member stands back.
const HANDICAP: f64 = 0.5;

/// Scores that make a tail known.
const TAILS_FROM: usize = 1_024;
/// Numbers of a row, at most.
pub const FEATURES_MAX: usize = 256;

/// A forest over rows of so many numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forest {
    density: Density,
    gauss: Gauss,
    ranks: [Ranks; 2],
}

/// What a forest says of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Oddness {
    /// Quantile of the normal distribution: 0 is a row in the middle of the recent ones, 3 one of a thousand.
    pub score: f64,
    density: f64,
    gauss: f64,
}

impl Forest {
    /// A forest that has seen nothing.
    ///
    /// # Panics
    /// Without features, or with more than [`FEATURES_MAX`].
    #[must_use]
    pub fn new(seed: u64, features: usize) -> Self {
        assert!((1..=FEATURES_MAX).contains(&features), "a row has 1 to {FEATURES_MAX} numbers, not {features}");
        Self { density: Density::new(seed, features), gauss: Gauss::new(features), ranks: Default::default() }
    }

    /// Numbers of a row.
    #[must_use]
    pub fn features(&self) -> usize {
        self.density.features()
    }

    /// Bytes of its state as it is written.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        postcard::to_stdvec(self).map_or(0, |bytes| bytes.len())
    }

    /// Whether it has scored so many rows that the tails of its scores are known.
    pub(crate) fn knows_tails(&self) -> bool {
        self.ranks[0].len() >= TAILS_FROM
    }

    /// Bytes that a forest over so many features takes at most, about.
    pub(crate) const fn bytes_max(features: usize) -> usize {
        120_000 + 4_096 * features + 16 * features * features
    }

    /// A copy that scores as this one does and cannot learn.
    pub(crate) fn without_rows(&self) -> Self {
        Self { density: self.density.without_rows(), ..self.clone() }
    }

    /// Whether too little is known to score.
    #[must_use]
    pub fn warming_up(&self) -> bool {
        self.density.warming_up()
    }

    /// How odd a row is; 0 while warming up.
    ///
    /// # Panics
    /// When the row has not as many numbers as the forest has features.
    #[must_use]
    pub fn score(&self, row: &[f64]) -> Oddness {
        if self.warming_up() {
            return Oddness { score: 0.0, density: 0.0, gauss: 0.0 };
        }
        let (density, gauss) = (self.density.score(row), self.gauss.score(row));
        let [of_density, of_gauss] = [self.ranks[0].quantile(density), self.ranks[1].quantile(gauss)];
        Oddness { score: of_density.max(of_gauss - HANDICAP), density, gauss }
    }

    /// Learns a row that was scored.
    ///
    /// # Panics
    /// As [`Self::score`].
    pub fn learn(&mut self, row: &[f64], oddness: Oddness) {
        if !self.warming_up() {
            self.ranks[0].take(oddness.density);
            self.ranks[1].take(oddness.gauss);
        }
        if row.iter().all(|number| number.is_finite()) {
            self.density.learn(row);
            self.gauss.learn(row);
        }
    }

    /// Whether two features of a row are out in ways that do not go together.
    ///
    /// # Panics
    /// As [`Self::score`], and where there is no such feature.
    #[must_use]
    pub fn opposes(&self, row: &[f64], i: usize, j: usize) -> bool {
        self.gauss.opposes(row, i, j)
    }

    /// Each feature's share of a row's oddness, at least 0, 1 in all; equal shares where nothing is odd.
    ///
    /// # Panics
    /// As [`Self::score`].
    #[must_use]
    pub fn attribute(&self, row: &[f64], oddness: Oddness) -> Vec<f64> {
        let equal = 1.0 / row.len() as f64;
        if self.warming_up() {
            return vec![equal; row.len()];
        }
        let by_gauss = self.ranks[1].quantile(oddness.gauss) - HANDICAP > self.ranks[0].quantile(oddness.density);
        let mut shares = if by_gauss { self.gauss.attribute(row) } else { self.density.attribute(row) };
        shares.iter_mut().for_each(|share| *share = share.max(0.0));
        let sum: f64 = shares.iter().sum();
        shares.iter_mut().for_each(|share| *share = if sum > 0.0 { *share / sum } else { equal });
        shares
    }
}

#[cfg(test)]
mod tests;
