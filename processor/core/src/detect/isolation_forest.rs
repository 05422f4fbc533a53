//! Online Isolation Forest: how few random cuts set a point apart from the recent ones?
//!
//! Source: F. Leveni, G. Weigert Cassales, B. Pfahringer, A. Bifet, G. Boracchi, "Online Isolation Forest", ICML 2024
//! (arXiv 2505.09593). An ensemble of histograms over several dimensions, refined where points are dense. Each histogram is a tree
//! of bins; a bin knows its height (how many points) and its support (the box around them), never the points. A leaf whose height
//! reaches `eta 2^depth` is split at a random place of a random dimension, and its heights and supports are those of as many points
//! drawn uniformly in its support. When a point leaves the sliding window of `omega`, heights go down along its way; a bin that falls
//! below `eta 2^depth` is merged. Leaves no deeper than `log4(n / eta)` are split, `n` points being in the window.
//!
//! With the depth of a leaf of height `h` counted as `depth + log4(h / eta)`, the score is `2^(-E(depth) / log4(n / eta))`, in (0, 1].
//!
//! [`ForestScore`] puts that on the one score scale. It looks further, too: a point outside the support of a bin on its way would, with
//! a chance of `e / (e + width)` for a distance of `e`, be set apart by the very next cut; its expected depth is shortened by that.
//! Without it, nothing beyond the outermost leaf is told apart.
//!
//! Cost: a walk down each tree; about 2 us per score and 4 us per learnt row at 32 trees and up to 9 dimensions. Memory: `4 omega dims`
//! bytes for the rows and about `16 + 8 dims` bytes for each of at most `2 omega / eta` bins of each tree. Rows with a component that is
//! not finite are not learnt; they are scored as if that component were where most points are. A constant dimension is not cut.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::score_from;
use tree::Tree;

mod tree;

/// Parameters of a forest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForestParams {
    /// Trees. Default 32.
    pub trees: u32,
    /// Rows that are remembered: `omega`. Default 512; the paper has 2048.
    pub window: u32,
    /// Rows that fill a leaf at depth 0: `eta`. Default 16; the paper has 32.
    pub leaf: u32,
    /// Seed of the random cuts.
    pub seed: u64,
}

impl Default for ForestParams {
    fn default() -> Self {
        Self { trees: 32, window: 512, leaf: 16, seed: 0x7469_6465 }
    }
}

/// Random numbers by SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, OOPSLA 2014), kept with the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SplitMix64(u64);

impl SplitMix64 {
    /// A sequence of its own for each seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `0..n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.unit() * n as f64) as usize
    }
}

/// The forest of the paper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnlineIsolationForest {
    params: ForestParams,
    dims: usize,
    random: SplitMix64,
    trees: Vec<Tree>,
    /// The rows of the window, the oldest first, `dims` numbers each.
    rows: VecDeque<f32>,
}

impl OnlineIsolationForest {
    /// A forest that has seen nothing, for rows of `dims` numbers. Parameters of 0 are taken as 1.
    #[must_use]
    pub fn new(params: ForestParams, dims: usize) -> Self {
        let params = ForestParams {
            trees: params.trees.max(1),
            leaf: params.leaf.max(1),
            window: params.window.max(1),
            ..params
        };
        let trees = (0..params.trees).map(|_| Tree::new(dims)).collect();
        Self { params, dims, random: SplitMix64::new(params.seed), trees, rows: VecDeque::new() }
    }

    /// Rows in the window.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len().checked_div(self.dims).unwrap_or(0)
    }

    /// Whether no row has been learnt.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The score of the paper, in `[0, 1]`: the nearer to 1, the easier a row is to set apart. 0.5 for a forest that knows too little.
    ///
    /// # Panics
    /// When the row has not as many numbers as the forest has dimensions.
    #[must_use]
    pub fn score_raw(&self, row: &[f64]) -> f64 {
        self.score_by(row, false)
    }

    /// Like [`Self::score_raw`], with cuts outside the supports taken into account.
    ///
    /// # Panics
    /// When the row has not as many numbers as the forest has dimensions.
    #[must_use]
    pub fn score_outside(&self, row: &[f64]) -> f64 {
        self.score_by(row, true)
    }

    fn score_by(&self, row: &[f64], outside: bool) -> f64 {
        assert_eq!(row.len(), self.dims, "a row of a forest has one number per dimension");
        let norm = path_length(self.len() as u32, self.params.leaf);
        if norm <= 0.0 {
            return 0.5;
        }
        let row = stored(row);
        let sum: f64 = self.trees.iter().map(|tree| tree.depth(&row, self.params.leaf, outside)).sum();
        libm::exp2(-sum / (self.trees.len() as f64 * norm))
    }

    /// How far a row lies beyond the box around the rows of the window, in widths of the box: the greatest of its dimensions'; 0 inside.
    fn beyond(&self, row: &[f64]) -> f64 {
        self.trees.first().map_or(0.0, |tree| tree.beyond(&stored(row)))
    }

    /// Learns a row, and forgets the oldest one when the window is full. A row with a component that is not finite is passed over.
    ///
    /// # Panics
    /// When the row has not as many numbers as the forest has dimensions.
    pub fn learn(&mut self, row: &[f64]) {
        assert_eq!(row.len(), self.dims, "a row of a forest has one number per dimension");
        if self.dims == 0 || row.iter().any(|x| !x.is_finite()) {
            return;
        }
        let row = stored(row);
        for tree in &mut self.trees {
            tree.learn(&row, self.params.leaf, &mut self.random);
        }
        self.rows.extend(&row);
        if self.len() > self.params.window as usize {
            let oldest: Vec<f32> = self.rows.drain(..self.dims).collect();
            for tree in &mut self.trees {
                tree.forget(&oldest, self.params.leaf);
            }
        }
    }
}

/// A row as it is kept: infinities become the largest numbers, NaN stays.
fn stored(row: &[f64]) -> Vec<f32> {
    row.iter().map(|&x| x.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32).collect()
}

/// Expected depth that `count` points add below a bin: `log4(count / leaf)`, 0 for fewer than `leaf`.
fn path_length(count: u32, leaf: u32) -> f64 {
    if count <= leaf { 0.0 } else { 0.5 * libm::log2(f64::from(count) / f64::from(leaf)) }
}

/// Deviations of the score that are the threshold, and the least distance from the mean that is.
const THRESHOLD: f64 = 10.0;
const REACH_LEAST: f64 = 0.05;
/// Anomalous rows in a row after which they are believed.
const BELIEVE_AFTER: u32 = 12;

/// A forest with a threshold of its own: `(s - m) / (10 d) (1 + b)`, with `s` the row's score, `m` and `d` the decayed mean and standard
/// deviation of the scores of the rows before (over about a window), and `b` how far the row lies beyond the box around the
/// remembered rows, in widths of that box.
///
/// It warms up over half a window. An anomalous row is not learnt, so that a fault does not become part of what is usual; after twelve
/// anomalous rows in a row they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForestScore {
    forest: OnlineIsolationForest,
    seen: u32,
    scored: u32,
    mean: f64,
    variance: f64,
    streak: u32,
}

impl ForestScore {
    /// Numbers of a row.
    #[must_use]
    pub fn dims(&self) -> usize {
        self.forest.dims
    }

    /// A forest that has seen nothing, for rows of `dims` numbers.
    #[must_use]
    pub fn new(params: ForestParams, dims: usize) -> Self {
        let forest = OnlineIsolationForest::new(params, dims);
        Self { forest, seen: 0, scored: 0, mean: 0.0, variance: 0.0, streak: 0 }
    }

    /// The row's score: 1.0 is the threshold, 0 while warming up.
    ///
    /// # Panics
    /// When the row has not as many numbers as the forest has dimensions.
    #[must_use]
    pub fn score(&self, row: &[f64]) -> f64 {
        if self.warming_up() { 0.0 } else { self.calibrated(row, self.forest.score_outside(row)) }
    }

    fn calibrated(&self, row: &[f64], raw: f64) -> f64 {
        let reach = (THRESHOLD * self.variance.sqrt()).max(REACH_LEAST);
        score_from((raw - self.mean) / reach * (1.0 + self.forest.beyond(row)))
    }

    /// Learns a row; after [`Self::score`]. A row with a component that is not finite is passed over.
    ///
    /// # Panics
    /// When the row has not as many numbers as the forest has dimensions.
    pub fn learn(&mut self, row: &[f64]) {
        if row.iter().any(|x| !x.is_finite()) {
            return;
        }
        let raw = self.forest.score_outside(row);
        let anomalous = !self.warming_up() && self.calibrated(row, raw) >= 1.0;
        self.streak = if anomalous { self.streak + 1 } else { 0 };
        if anomalous && self.streak < BELIEVE_AFTER {
            return;
        }
        self.streak = 0;
        self.seen = self.seen.saturating_add(1);
        // The first scores, of a forest of few bins, say nothing about the later ones.
        if self.forest.len() >= 4 * self.forest.params.leaf as usize {
            self.scored = self.scored.saturating_add(1);
            let rate = (1.0 / f64::from(self.forest.params.window)).max(1.0 / f64::from(self.scored));
            let delta = raw - self.mean;
            self.mean += rate * delta;
            self.variance = (1.0 - rate) * (self.variance + rate * delta * delta);
        }
        self.forest.learn(row);
    }

    /// Whether too few rows have been seen for a threshold.
    #[must_use]
    pub fn warming_up(&self) -> bool {
        self.seen < self.forest.params.window / 2
    }
}

#[cfg(test)]
mod tests;
