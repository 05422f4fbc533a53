//! The density member: a rolling forest of small random histograms, which sees where the recent rows are sparse.
//!
//! A *reservoir* keeps 1,024 of the recent rows: each row takes the place of a random one with a chance of one half, so that it remembers
//! about 2,048. Each of 64 trees is grown from 128 rows of it: a node cuts the range of its rows at a random place of a random feature,
//! seven nodes deep. With `v` the share of the volume that is left and `m` the share of the rows, a leaf is worth `log2(v / m)` bits of
//! sparsity: 0 where rows are as dense as if they were spread evenly, 7 where one is alone in all of the range.
//!
//! On its way down, a row that lies `e` beyond the range `w` of a node's rows would have been set apart there by a cut with a chance of
//! `e / (e + w)`; as much of it is worth the bits of a row that is alone in the node's volume. The score is the mean over the trees.
//!
//! A feature is cut the more often the heavier its tails are, by the fourth root of its kurtosis in the sample. A constant one is not cut;
//! one of these guards the root, so that a constant that changes is set apart at once.
//!
//! Every 32nd row a tree is grown anew, one after the other: forgetting is that.
//!
//! Cost: 64 ways down seven nodes, and 1/32 of growing a tree: 3 us a row of up to 9 features. Memory: `4 d` kB for the rows and about 70 kB
//! for the trees. Source: this project's; the ancestors are the isolation forest (F. T. Liu, K. M. Ting, Z.-H. Zhou, ICDM 2008), which
//! counts cuts instead of weighing volumes, and half-space trees (S. C. Tan, K. M. Ting, T. F. Liu, IJCAI 2011).

use serde::{Deserialize, Serialize};

use crate::detect::isolation_forest::SplitMix64;

const TREES: usize = 64;
/// Rows of a tree, and the logarithm of their number: its depth.
const SAMPLE: usize = 128;
const DEPTH: u32 = 7;
const RESERVOIR: usize = 1_024;
/// Rows from one tree that is grown anew to the next.
const EVERY: u64 = 32;
/// Numbers of rows at which all trees are grown, before that.
const FIRST: [u64; 3] = [32, 64, 128];
/// Tries to find a feature that is not constant in a node.
const TRIES: usize = 32;
/// Numbers beyond are taken as this.
const MAGNITUDE_MAX: f32 = 1e30;

/// A cut: rows with `feature` up to `split` go to the first child. Children from 0 on are nodes, below 0 leaves (`!number`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Node {
    split: f32,
    /// The range of the node's rows.
    low: f32,
    high: f32,
    /// Bits of a row that is alone here.
    alone: f32,
    feature: u16,
    rows: u16,
    children: [i16; 2],
}

impl Node {
    /// Bits of the node as a whole.
    fn bits(&self) -> f32 {
        self.alone - libm::log2f(f32::from(self.rows))
    }

    /// The chance that a cut here sets a row apart that is outside of the range.
    fn apart(&self, x: f32) -> f32 {
        let beyond = (self.low - x).max(x - self.high);
        // NaN is within.
        if beyond > 0.0 { beyond / (beyond + (self.high - self.low)) } else { 0.0 }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tree {
    root: i16,
    nodes: Vec<Node>,
    leaves: Vec<f32>,
}

/// The forest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Density {
    random: SplitMix64,
    seen: u64,
    /// The first row: what is kept is relative to it, so that 32 bits are enough for features far from 0.
    origin: Vec<f64>,
    /// The reservoir, row by row.
    rows: Vec<f32>,
    features: u32,
    trees: Vec<Tree>,
    /// The tree that is grown anew next.
    next: u32,
}

impl Density {
    pub(super) fn new(seed: u64, features: usize) -> Self {
        Self {
            random: SplitMix64::new(seed),
            seen: 0,
            origin: Vec::new(),
            rows: Vec::new(),
            features: features as u32,
            trees: vec![Tree::default(); TREES],
            next: 0,
        }
    }

    pub(super) fn features(&self) -> usize {
        self.features as usize
    }

    pub(super) fn warming_up(&self) -> bool {
        self.seen < FIRST[0]
    }

    /// A copy that scores as this one does and cannot learn.
    pub(super) fn without_rows(&self) -> Self {
        Self {
            origin: self.origin.clone(),
            rows: Vec::new(),
            trees: self.trees.clone(),
            random: self.random.clone(),
            ..*self
        }
    }

    fn kept(&self, row: &[f64]) -> impl Iterator<Item = f32> {
        assert_eq!(row.len(), self.features(), "a row of a forest has one number per feature");
        let origin = self.origin.iter().copied().chain(std::iter::repeat(0.0));
        row.iter().zip(origin).map(|(x, origin)| ((x - origin) as f32).clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX))
    }

    /// Bits of sparsity.
    pub(super) fn score(&self, row: &[f64]) -> f64 {
        let row: Vec<f32> = self.kept(row).collect();
        let sum: f32 = self.trees.iter().map(|tree| tree.bits(&row)).sum();
        f64::from(sum) / TREES as f64
    }

    /// Each feature's part of the bits.
    pub(super) fn attribute(&self, row: &[f64]) -> Vec<f64> {
        let row: Vec<f32> = self.kept(row).collect();
        let mut parts = vec![0.0; row.len()];
        for tree in &self.trees {
            tree.attribute(&row, &mut parts);
        }
        parts
    }

    /// Learns a row of finite numbers.
    pub(super) fn learn(&mut self, row: &[f64]) {
        if self.origin.is_empty() {
            self.origin = row.to_vec();
        }
        let features = self.features();
        self.seen += 1;
        let kept: Vec<f32> = self.kept(row).collect();
        if self.rows.len() < RESERVOIR * features {
            self.rows.extend(kept);
        } else if self.random.unit() < 0.5 {
            let at = self.random.below(RESERVOIR) * features;
            self.rows[at..at + features].copy_from_slice(&kept);
        }
        if FIRST.contains(&self.seen) {
            (0..TREES).for_each(|tree| self.grow(tree));
        } else if self.seen > FIRST[2] && self.seen.is_multiple_of(EVERY) {
            self.grow(self.next as usize);
            self.next = (self.next + 1) % TREES as u32;
        }
    }

    fn grow(&mut self, tree: usize) {
        let features = self.features();
        let rows = self.rows.len() / features;
        let mut order: Vec<u16> = (0..rows as u16).collect();
        let sample = SAMPLE.min(rows);
        for at in 0..sample {
            order.swap(at, at + self.random.below(rows - at));
        }
        order.truncate(sample);
        let mut tree_of = std::mem::take(&mut self.trees[tree]);
        tree_of.nodes.clear();
        tree_of.leaves.clear();
        let weights: Vec<f32> = (0..features).map(|feature| weight(&self.rows, features, &order, feature)).collect();
        let mut grower = Grower {
            rows: &self.rows,
            features,
            random: &mut self.random,
            weights_sum: weights.iter().sum(),
            sample: sample as f32,
            weights,
            tree: tree_of,
        };
        let root = grower.grow(&mut order, 0, 0.0);
        grower.tree.root = grower.guard(root, order[0]);
        self.trees[tree] = grower.tree;
    }
}

/// How often a feature is cut: the fourth root of its kurtosis; 0 for a constant.
fn weight(rows: &[f32], features: usize, sample: &[u16], feature: usize) -> f32 {
    let values = || sample.iter().map(|&row| rows[usize::from(row) * features + feature]);
    let count = sample.len() as f32;
    let mean = values().sum::<f32>() / count;
    let greatest = values().map(|x| (x - mean).abs()).fold(0.0, f32::max);
    if greatest.is_nan() || greatest <= 0.0 {
        return 0.0;
    }
    let (mut second, mut fourth) = (0.0, 0.0);
    for x in values() {
        let z = (x - mean) / greatest;
        second += z * z;
        fourth += z * z * z * z;
    }
    (fourth * count / (second * second)).sqrt().sqrt()
}

impl Tree {
    fn bits(&self, row: &[f32]) -> f32 {
        let (mut at, mut left, mut bits) = (self.root, 1.0, 0.0);
        while at >= 0 {
            let node = &self.nodes[at as usize];
            let x = row[usize::from(node.feature)];
            let apart = left * node.apart(x);
            bits += apart * node.alone;
            left -= apart;
            at = node.children[usize::from(x > node.split)];
        }
        bits + left * self.leaves[!at as usize]
    }

    fn attribute(&self, row: &[f32], parts: &mut [f64]) {
        let (mut at, mut left) = (self.root, 1.0);
        while at >= 0 {
            let node = &self.nodes[at as usize];
            let x = row[usize::from(node.feature)];
            let apart = left * node.apart(x);
            left -= apart;
            at = node.children[usize::from(x > node.split)];
            let then = if at >= 0 { self.nodes[at as usize].bits() } else { self.leaves[!at as usize] };
            let here = node.bits();
            parts[usize::from(node.feature)] += f64::from(apart * (node.alone - here) + left * (then - here));
        }
    }
}

struct Grower<'a> {
    rows: &'a [f32],
    features: usize,
    random: &'a mut SplitMix64,
    weights: Vec<f32>,
    weights_sum: f32,
    /// Rows of the whole tree.
    sample: f32,
    tree: Tree,
}

impl Grower<'_> {
    fn value(&self, row: u16, feature: usize) -> f32 {
        self.rows[usize::from(row) * self.features + feature]
    }

    fn feature(&mut self) -> usize {
        let mut left = self.random.unit() as f32 * self.weights_sum;
        let mut last = 0;
        for (feature, &weight) in self.weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            last = feature;
            if left < weight {
                return feature;
            }
            left -= weight;
        }
        last
    }

    fn leaf(&mut self, rows: usize, volume_bits: f32) -> i16 {
        self.tree.leaves.push(volume_bits - libm::log2f(rows as f32 / self.sample));
        !((self.tree.leaves.len() - 1) as i16)
    }

    /// Grows the node of these rows, which has the share `2^volume_bits` of all volume.
    fn grow(&mut self, rows: &mut [u16], depth: u32, volume_bits: f32) -> i16 {
        if rows.len() <= 1 || depth >= DEPTH || self.weights_sum <= 0.0 {
            return self.leaf(rows.len(), volume_bits);
        }
        for _ in 0..TRIES {
            let feature = self.feature();
            let (mut low, mut high) = (f32::MAX, f32::MIN);
            for &row in rows.iter() {
                let x = self.value(row, feature);
                (low, high) = (low.min(x), high.max(x));
            }
            if low >= high {
                continue;
            }
            let drawn = low + (high - low) * self.random.unit() as f32;
            // Rounding may have put it at the upper end, where nothing would be beyond it.
            let split = if drawn >= high { low } else { drawn };
            let share = ((split - low) / (high - low)).clamp(1e-3, 1.0 - 1e-3);
            let mut first = 0;
            for at in 0..rows.len() {
                if self.value(rows[at], feature) <= split {
                    rows.swap(at, first);
                    first += 1;
                }
            }
            let here = self.tree.nodes.len();
            self.tree.nodes.push(Node {
                split,
                low,
                high,
                alone: volume_bits + libm::log2f(self.sample),
                feature: feature as u16,
                rows: rows.len() as u16,
                children: [0, 0],
            });
            let (left, right) = rows.split_at_mut(first);
            let left = self.grow(left, depth + 1, volume_bits + libm::log2f(share));
            let right = self.grow(right, depth + 1, volume_bits + libm::log2f(1.0 - share));
            self.tree.nodes[here].children = [left, right];
            return here as i16;
        }
        self.leaf(rows.len(), volume_bits)
    }

    /// Puts a constant feature above the root, if there is one: another value than the constant is set apart at once.
    fn guard(&mut self, root: i16, a_row: u16) -> i16 {
        let constants: Vec<usize> = (0..self.features).filter(|&feature| self.weights[feature] == 0.0).collect();
        if constants.is_empty() {
            return root;
        }
        let feature = constants[self.random.below(constants.len())];
        let value = self.value(a_row, feature);
        self.tree.nodes.push(Node {
            split: value,
            low: value,
            high: value,
            alone: libm::log2f(self.sample),
            feature: feature as u16,
            rows: self.sample as u16,
            children: [root, root],
        });
        (self.tree.nodes.len() - 1) as i16
    }
}
