//! The recent rows that trees are grown from.
//!
//! Each row takes the place of a random one of 1,024 with a chance of one half, so that about 2,048 are remembered. They are kept relative
//! to the first one, so that 32 bits are enough for features far from 0. Memory: `4 d` kB.

use serde::{Deserialize, Serialize};

use crate::detect::isolation_forest::SplitMix64;

const RESERVOIR: usize = 1_024;
/// The chance of a row to be kept, once as many are.
const KEEP: f64 = 0.5;
/// Numbers beyond are taken as this.
const MAGNITUDE_MAX: f32 = 1e30;

/// The reservoir.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Reservoir {
    features: u32,
    seen: u64,
    /// The first row.
    origin: Vec<f64>,
    /// Row by row.
    rows: Vec<f32>,
}

impl Reservoir {
    pub(super) fn new(features: usize) -> Self {
        Self { features: features as u32, seen: 0, origin: Vec::new(), rows: Vec::new() }
    }

    /// A copy that knows the first row only.
    pub(super) fn without_rows(&self) -> Self {
        Self { origin: self.origin.clone(), rows: Vec::new(), ..*self }
    }

    pub(super) fn features(&self) -> usize {
        self.features as usize
    }

    /// Rows that it has been given.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// A row as it is kept.
    pub(super) fn kept(&self, row: &[f64]) -> Vec<f32> {
        assert_eq!(row.len(), self.features(), "a row of a forest has one number per feature");
        let origin = self.origin.iter().copied().chain(std::iter::repeat(0.0));
        row.iter().zip(origin).map(|(x, origin)| ((x - origin) as f32).clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX)).collect()
    }

    /// Learns a row of finite numbers, and returns it as it is kept.
    pub(super) fn learn(&mut self, row: &[f64], random: &mut SplitMix64) -> Vec<f32> {
        if self.origin.is_empty() {
            self.origin = row.to_vec();
        }
        self.seen += 1;
        let (kept, features) = (self.kept(row), self.features());
        if self.rows.len() < RESERVOIR * features {
            self.rows.extend(&kept);
        } else if random.unit() < KEEP {
            self.rows[random.below(RESERVOIR) * features..][..features].copy_from_slice(&kept);
        }
        kept
    }

    /// So many different rows at random, or all if there are less.
    pub(super) fn sample(&self, rows: usize, random: &mut SplitMix64) -> Vec<&[f32]> {
        let mut order: Vec<&[f32]> = self.rows.chunks_exact(self.features()).collect();
        let rows = rows.min(order.len());
        for at in 0..rows {
            let other = at + random.below(order.len() - at);
            order.swap(at, other);
        }
        order.truncate(rows);
        order
    }
}
