//! One histogram of the forest: a tree of bins that learns and forgets rows without keeping them.
//!
//! Bins live in one vector (the root first) with a list of free places, their supports in another; so a snapshot is flat and the
//! places are a function of what was learnt.

use serde::{Deserialize, Serialize};

use super::{SplitMix64, path_length};

/// Where a bin is cut.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Cut {
    dim: u32,
    at: f32,
    /// The bin of what lies below the cut; the other one follows in `right`.
    left: u32,
    right: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bin {
    depth: u8,
    height: u32,
    cut: Option<Cut>,
}

/// A tree of bins over rows of `dims` numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Tree {
    dims: usize,
    bins: Vec<Bin>,
    /// Per bin: the least value of each dimension, then the greatest. An empty support is inverted.
    supports: Vec<f32>,
    free: Vec<u32>,
}

/// Height at which a leaf is split, and below which a bin is merged.
fn height_to_split(leaf: u32, depth: u8) -> u32 {
    leaf.saturating_mul(1u32.checked_shl(u32::from(depth)).unwrap_or(u32::MAX))
}

/// Whether leaves of this depth may be split when a tree holds `height` rows: `depth < log4(height / leaf)`.
fn may_split(leaf: u32, depth: u8, height: u32) -> bool {
    let least = u64::from(leaf).checked_shl(2 * u32::from(depth)).unwrap_or(u64::MAX);
    u64::from(height) > least
}

impl Tree {
    pub(super) fn new(dims: usize) -> Self {
        let mut tree = Self { dims, bins: Vec::new(), supports: Vec::new(), free: Vec::new() };
        tree.place(0, 0);
        tree
    }

    /// Bins in use.
    #[cfg(test)]
    pub(super) fn bin_count(&self) -> usize {
        self.bins.len() - self.free.len()
    }

    /// A place for a new leaf.
    fn place(&mut self, depth: u8, height: u32) -> u32 {
        let bin = Bin { depth, height, cut: None };
        let at = match self.free.pop() {
            Some(at) => {
                self.bins[at as usize] = bin;
                at
            }
            None => {
                self.bins.push(bin);
                self.supports.resize(self.bins.len() * 2 * self.dims, 0.0);
                self.bins.len() as u32 - 1
            }
        };
        let (low, high) = self.support_mut(at);
        low.fill(f32::INFINITY);
        high.fill(f32::NEG_INFINITY);
        at
    }

    fn support(&self, at: u32) -> (&[f32], &[f32]) {
        let start = at as usize * 2 * self.dims;
        self.supports[start..start + 2 * self.dims].split_at(self.dims)
    }

    fn support_mut(&mut self, at: u32) -> (&mut [f32], &mut [f32]) {
        let start = at as usize * 2 * self.dims;
        self.supports[start..start + 2 * self.dims].split_at_mut(self.dims)
    }

    fn widen(&mut self, at: u32, row: &[f32]) {
        let (low, high) = self.support_mut(at);
        for ((low, high), &x) in low.iter_mut().zip(high).zip(row) {
            *low = low.min(x);
            *high = high.max(x);
        }
    }

    /// Makes a bin's support the box around its children's.
    fn unite(&mut self, at: u32, cut: Cut) {
        for dim in 0..self.dims {
            let low = self.support(cut.left).0[dim].min(self.support(cut.right).0[dim]);
            let high = self.support(cut.left).1[dim].max(self.support(cut.right).1[dim]);
            let (lows, highs) = self.support_mut(at);
            (lows[dim], highs[dim]) = (low, high);
        }
    }

    pub(super) fn learn(&mut self, row: &[f32], leaf: u32, random: &mut SplitMix64) {
        let total = self.bins[0].height + 1;
        let mut at = 0;
        loop {
            self.widen(at, row);
            let bin = &mut self.bins[at as usize];
            bin.height += 1;
            match bin.cut {
                Some(cut) => at = if row[cut.dim as usize] < cut.at { cut.left } else { cut.right },
                None => {
                    let Bin { depth, height, .. } = *bin;
                    if height >= height_to_split(leaf, depth) && may_split(leaf, depth, total) {
                        self.split(at, leaf, total, random);
                    }
                    return;
                }
            }
        }
    }

    /// Splits a leaf as if its points lay uniformly in its support.
    fn split(&mut self, at: u32, leaf: u32, total: u32, random: &mut SplitMix64) {
        let height = self.bins[at as usize].height as usize;
        let (low, high) = self.support(at);
        let mut points = Vec::with_capacity(height * self.dims);
        for _ in 0..height {
            for (&low, &high) in low.iter().zip(high) {
                let (low, high) = (f64::from(low), f64::from(high));
                points.push((low + random.unit() * (high - low)) as f32);
            }
        }
        self.grow(at, &points, leaf, total, random);
    }

    /// Cuts a leaf at random and gives its children the points on their side, as long as there are enough of them.
    fn grow(&mut self, at: u32, points: &[f32], leaf: u32, total: u32, random: &mut SplitMix64) {
        let depth = self.bins[at as usize].depth;
        let height = (points.len() / self.dims) as u32;
        if height < height_to_split(leaf, depth) || !may_split(leaf, depth, total) {
            return;
        }
        let (low, high) = self.support(at);
        let wide: Vec<usize> = (0..self.dims).filter(|&dim| low[dim] < high[dim]).collect();
        if wide.is_empty() {
            return;
        }
        let dim = wide[random.below(wide.len())];
        let (low, high) = (f64::from(low[dim]), f64::from(high[dim]));
        let value = (low + random.unit() * (high - low)) as f32;
        let (below, above): (Vec<&[f32]>, Vec<&[f32]>) =
            points.chunks_exact(self.dims).partition(|point| point[dim] < value);
        let children = [below, above].map(|points| {
            let child = self.place(depth + 1, points.len() as u32);
            for point in &points {
                self.widen(child, point);
            }
            (child, points.concat())
        });
        self.bins[at as usize].cut =
            Some(Cut { dim: dim as u32, at: value, left: children[0].0, right: children[1].0 });
        for (child, points) in &children {
            self.grow(*child, points, leaf, total, random);
        }
    }

    pub(super) fn forget(&mut self, row: &[f32], leaf: u32) {
        let mut way = Vec::with_capacity(16);
        let mut at = 0;
        loop {
            let bin = &mut self.bins[at as usize];
            bin.height = bin.height.saturating_sub(1);
            let Some(cut) = bin.cut else { break };
            if bin.height < height_to_split(leaf, bin.depth) {
                self.merge(at);
                break;
            }
            way.push((at, cut));
            at = if row[cut.dim as usize] < cut.at { cut.left } else { cut.right };
        }
        for (at, cut) in way.into_iter().rev() {
            self.unite(at, cut);
        }
    }

    /// Makes a bin a leaf again, with the support of what was below it.
    fn merge(&mut self, at: u32) {
        let Some(cut) = self.bins[at as usize].cut.take() else { return };
        self.merge(cut.left);
        self.merge(cut.right);
        self.unite(at, cut);
        self.free.extend([cut.left, cut.right]);
    }

    /// How far a row lies outside the root's support, in its widths.
    pub(super) fn beyond(&self, row: &[f32]) -> f64 {
        let (low, high) = self.support(0);
        let beyond = low.iter().zip(high).zip(row).map(|((&low, &high), &x)| {
            let (low, high, x) = (f64::from(low), f64::from(high), f64::from(x));
            let beyond = (low - x).max(x - high);
            if beyond > 0.0 && high > low { beyond / (high - low) } else { 0.0 }
        });
        beyond.fold(0.0, f64::max)
    }

    /// Depth at which a row comes to rest, with the expected depth below a leaf; with `outside`, shortened by the chance of a cut
    /// between the row and a support. A NaN goes where most points are.
    pub(super) fn depth(&self, row: &[f32], leaf: u32, outside: bool) -> f64 {
        let (mut at, mut reached, mut sum) = (0, 1.0, 0.0);
        loop {
            let bin = self.bins[at as usize];
            let depth = f64::from(bin.depth);
            let Some(cut) = bin.cut else {
                return sum + reached * (depth + path_length(bin.height, leaf));
            };
            let x = row[cut.dim as usize];
            if outside {
                let (low, high) = self.support(at);
                let (low, high) = (f64::from(low[cut.dim as usize]), f64::from(high[cut.dim as usize]));
                let beyond = (low - f64::from(x)).max(f64::from(x) - high);
                if beyond > 0.0 && beyond.is_finite() {
                    let chance = beyond / (beyond + (high - low));
                    sum += reached * chance * depth;
                    reached *= 1.0 - chance;
                }
            }
            let (left, right) = (self.bins[cut.left as usize].height, self.bins[cut.right as usize].height);
            at = if x < cut.at || (x.is_nan() && left > right) { cut.left } else { cut.right };
        }
    }
}
