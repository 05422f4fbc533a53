//! The forest of a cohort: how odd is a combination of values, against the recent ones?
//!
//! Two members look at rows from the same `reservoir`. The first is a forest of small random histograms (`density`): it sees where rows are
//! sparse, in any shape, but cuts across one feature at a time. The second is such a forest over the `residuals`, what is left of each
//! feature when the others have said what it should be: it sees what leaves a line or a plane along which the rows lie. Both answer in bits
//! of sparsity; the greater answer counts, the second one with a handicap of one bit. Its `rank` among the last 2,048, or where it lies in
//! the exponential tail beyond them, makes it a quantile:
//!
//! ```text
//!   bits = max(density(row), density(residuals(row)) - 1)
//!   score = q(rank(bits))                              standard deviations of the normal distribution
//! ```
//!
//! A member sees no difference between five and fifty deviations off the plane: beyond the rows that it knows all is sparse. So the row's
//! greatest residual is told, too, by the deviations in which it is `apart` from what greatest residuals usually are.
//!
//! All trees are grown anew each time that twice as many rows are known, up to 1,024, and after that one after the other.
//!
//! Cost: 3.5 us for a row of up to 9 numbers, scored and learnt. Memory: about 100 kB at 9 numbers. Warm-up: 32 rows, 64 for the second
//! member. A number that is NaN counts as usual, and its row for the first member only, as without it the others' residuals are not known; a
//! row with a number that is not finite is scored and not learnt. A constant feature says nothing until it changes.
//!
//! Source: trees of random cuts over mass are those of F. T. Liu, K. M. Ting, Z.-H. Zhou, "Isolation Forest", ICDM 2008, and of S. C. Tan,
//! K. M. Ting, F. T. Liu, "Fast Anomaly Detection for Streaming Data" (Half-Space Trees), IJCAI 2011; the density of random histograms is
//! T. Pevný's (LODA, Machine Learning 102, 2016); residuals, their handicap and `apart` are this project's.

use serde::{Deserialize, Serialize};

use self::density::{Density, Sample};
use self::rank::Ranks;
use self::reservoir::Reservoir;
use self::residuals::Residuals;
use super::isolation_forest::SplitMix64;
use crate::forecast::usual::Excess;

mod density;
mod rank;
mod reservoir;
mod residuals;

/// Trees of the two members.
const TREES: usize = 64;
const TREES_OF_RESIDUALS: usize = 20;
/// Rows of a tree of theirs.
const SAMPLE: usize = 96;
const SAMPLE_OF_RESIDUALS: usize = 128;
/// Bits by which the second member stands back.
const HANDICAP: f64 = 1.0;
/// Numbers of rows at which all trees are grown.
const FIRST: [u64; 6] = [32, 64, 128, 256, 512, 1_024];
/// Rows from one tree that is grown anew to the next, after that: forgetting is that.
const EVERY: u64 = 32;

/// Scores that make a tail known.
const TAILS_FROM: usize = 1_024;
/// Greatest residuals that make theirs known, and the rate at which they are learnt.
const APART_FROM: u32 = 1_024;
const APART_RATE: f64 = 1e-4;
/// Numbers of a row, at most.
pub const FEATURES_MAX: usize = 256;

/// A forest over rows of so many numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forest {
    random: SplitMix64,
    reservoir: Reservoir,
    density: Density,
    residuals: Residuals,
    density_of_residuals: Density,
    ranks: Ranks,
    /// Of the greatest residual of a row.
    apart: Excess,
    rows_apart: u32,
}

/// What a forest says of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Oddness {
    /// Quantile of the normal distribution: 0 is a row in the middle of the recent ones, 3 one of a thousand.
    pub score: f64,
    /// Standard deviations by which the greatest residual is beyond what it usually is, at least 0.
    pub apart: f64,
    bits: f64,
    by_residuals: bool,
    residual: Option<f64>,
}

impl Oddness {
    /// Of a row of which nothing is known.
    const NONE: Self = Self { score: 0.0, apart: 0.0, bits: 0.0, by_residuals: false, residual: None };
}

impl Forest {
    /// A forest that has seen nothing.
    ///
    /// # Panics
    /// Without features, or with more than [`FEATURES_MAX`].
    #[must_use]
    pub fn new(seed: u64, features: usize) -> Self {
        assert!((1..=FEATURES_MAX).contains(&features), "a row has 1 to {FEATURES_MAX} numbers, not {features}");
        Self {
            random: SplitMix64::new(seed),
            reservoir: Reservoir::new(features),
            density: Density::new(TREES),
            residuals: Residuals::new(features),
            density_of_residuals: Density::new(TREES_OF_RESIDUALS),
            ranks: Ranks::default(),
            apart: Excess::default(),
            rows_apart: 0,
        }
    }

    /// Numbers of a row.
    #[must_use]
    pub fn features(&self) -> usize {
        self.reservoir.features()
    }

    /// Bytes of its state as it is written.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        postcard::to_stdvec(self).map_or(0, |bytes| bytes.len())
    }

    /// Whether it has scored so many rows that the tail of its scores is known.
    pub(crate) fn knows_tail(&self) -> bool {
        self.ranks.len() >= TAILS_FROM
    }

    /// Bytes that a forest over so many features takes at most, about.
    pub(crate) const fn bytes_max(features: usize) -> usize {
        90_000 + 4_200 * features + 16 * features * features
    }

    /// A copy that scores as this one does and cannot learn.
    pub(crate) fn without_rows(&self) -> Self {
        Self {
            random: self.random.clone(),
            reservoir: self.reservoir.without_rows(),
            density: self.density.clone(),
            residuals: self.residuals.clone(),
            density_of_residuals: self.density_of_residuals.clone(),
            ranks: self.ranks.clone(),
            apart: self.apart,
            rows_apart: self.rows_apart,
        }
    }

    /// Whether too little is known to score.
    #[must_use]
    pub fn warming_up(&self) -> bool {
        self.reservoir.seen() < FIRST[0]
    }

    /// How odd a row is; 0 while warming up.
    ///
    /// # Panics
    /// When the row has not as many numbers as the forest has features.
    #[must_use]
    pub fn score(&self, row: &[f64]) -> Oddness {
        let row = self.reservoir.kept(row);
        let Some(density) = self.density.score(&row) else {
            return Oddness::NONE;
        };
        let is_whole = !row.iter().any(|number| number.is_nan());
        let residuals = (is_whole && self.residuals.ready()).then(|| self.residuals.of(&row));
        let of_residuals = residuals.as_ref().and_then(|residuals| self.density_of_residuals.score(residuals));
        let of_residuals = of_residuals.map(|bits| bits - HANDICAP);
        let by_residuals = of_residuals.is_some_and(|bits| bits > density);
        let bits = of_residuals.map_or(density, |bits| bits.max(density));
        let residual =
            residuals.map(|residuals| residuals.iter().fold(0.0, |most: f64, of| most.max(f64::from(of.abs()))));
        let knows = self.rows_apart >= APART_FROM;
        let apart = residual.filter(|_| knows).map_or(0.0, |residual| self.apart.of(residual, 0.0));
        Oddness { score: self.ranks.quantile(bits), apart, bits, by_residuals, residual }
    }

    /// Learns a row that was scored.
    ///
    /// # Panics
    /// As [`Self::score`].
    pub fn learn(&mut self, row: &[f64], oddness: Oddness) {
        if !self.warming_up() {
            self.ranks.take(oddness.bits);
        }
        if let Some(residual) = oddness.residual {
            self.rows_apart = self.rows_apart.saturating_add(1);
            self.apart.learn(residual, f64::max(1.0 / f64::from(self.rows_apart), APART_RATE));
        }
        if row.iter().all(|number| number.is_finite()) {
            let kept = self.reservoir.learn(row, &mut self.random);
            self.residuals.learn(&kept);
            self.grow();
        }
    }

    /// Grows the trees whose turn it is.
    fn grow(&mut self) {
        let seen = self.reservoir.seen();
        let (of_plain, of_residuals) = (self.density.trees(), self.density_of_residuals.trees());
        if FIRST.contains(&seen) {
            (0..of_plain).for_each(|tree| self.grow_plain(tree));
            (0..of_residuals).for_each(|tree| self.grow_of_residuals(tree));
        } else if seen > FIRST[FIRST.len() - 1] && seen.is_multiple_of(EVERY) {
            let turn = (seen / EVERY) as usize;
            self.grow_plain(turn % of_plain);
            // Both come round in about the same time.
            let slower = of_plain / of_residuals;
            if turn.is_multiple_of(slower) {
                self.grow_of_residuals(turn / slower % of_residuals);
            }
        }
    }

    fn grow_plain(&mut self, tree: usize) {
        let sample = Sample::new(&self.reservoir.sample(SAMPLE, &mut self.random));
        self.density.grow(tree, &sample, &mut self.random);
    }

    fn grow_of_residuals(&mut self, tree: usize) {
        if self.residuals.ready() {
            let rows = self.reservoir.sample(SAMPLE_OF_RESIDUALS, &mut self.random);
            let residuals: Vec<Vec<f32>> = rows.into_iter().map(|row| self.residuals.of(row)).collect();
            self.density_of_residuals.grow(tree, &Sample::new(&residuals), &mut self.random);
        }
    }

    /// Each feature's share of what a row is apart by, 1 in all: of the squares of its residuals.
    ///
    /// # Panics
    /// As [`Self::score`].
    #[must_use]
    pub fn attribute_apart(&self, row: &[f64]) -> Vec<f64> {
        let squares = self.residuals.of(&self.reservoir.kept(row)).into_iter().map(|of| f64::from(of) * f64::from(of));
        let squares: Vec<f64> = squares.map(|square| if square.is_nan() { 0.0 } else { square }).collect();
        let sum: f64 = squares.iter().sum();
        squares.iter().map(|square| if sum > 0.0 { square / sum } else { 1.0 / row.len() as f64 }).collect()
    }

    /// Whether no feature of a row is out by itself, so that only their combination can be odd.
    ///
    /// # Panics
    /// As [`Self::score`].
    #[must_use]
    pub fn none_is_out(&self, row: &[f64]) -> bool {
        self.residuals.none_is_out(&self.reservoir.kept(row))
    }

    /// Whether two features of a row are out in ways that do not go together.
    ///
    /// # Panics
    /// As [`Self::score`], and where there is no such feature.
    #[must_use]
    pub fn opposes(&self, row: &[f64], i: usize, j: usize) -> bool {
        self.residuals.opposes(&self.reservoir.kept(row), i, j)
    }

    /// Each feature's share of a row's oddness, at least 0, 1 in all; equal shares where nothing is odd.
    ///
    /// # Panics
    /// As [`Self::score`].
    #[must_use]
    pub fn attribute(&self, row: &[f64], oddness: Oddness) -> Vec<f64> {
        let row = self.reservoir.kept(row);
        let mut shares = if oddness.by_residuals {
            self.density_of_residuals.attribute(&self.residuals.of(&row))
        } else {
            self.density.attribute(&row)
        };
        for (share, number) in shares.iter_mut().zip(&row) {
            *share = if number.is_nan() { 0.0 } else { share.max(0.0) };
        }
        let (sum, equal) = (shares.iter().sum::<f64>(), 1.0 / row.len() as f64);
        shares.iter_mut().for_each(|share| *share = if sum > 0.0 { *share / sum } else { equal });
        shares
    }
}

#[cfg(test)]
mod tests;
