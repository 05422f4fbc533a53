//! What is left of each feature of a row when the other ones have said what it should be.
//!
//! With `z` the row in deviations from the mean and `P` the inverse of the correlations, the feature `j` is off by
//! `u_j = (P z)_j / sqrt(P_jj)` deviations of what a linear regression on all others leaves of it: 0.3 deviations off by itself may be ten
//! of these. Rows that leave a plane along which the others lie are sparse in `u`, wherever each of their numbers is.
//!
//! Mean, deviations and correlations follow the rows at a rate of 1/2048, each number clipped at six deviations, so that what is odd does
//! not hide itself. The inverse, with a ridge of .05 on the diagonal, is made anew every 64 rows by Cholesky's decomposition.
//! Memory: `16 d + 16 d^2` bytes. Cost: `d^2` multiplications for a row's residuals and to learn it, `d^3` every 64 rows.

use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};

const RATE: f64 = 1.0 / 2_048.0;
/// Deviations at which a number is clipped, to learn it and to see it.
const CLIP: f64 = 6.0;
const CLIP_SEEN: f64 = 30.0;
const RIDGE: f64 = 0.05;
/// Rows before the correlations are learnt, and before they are used.
const SPREAD_FIRST: u64 = 32;
const READY: u64 = 64;
/// Correlation, with the sign turned, from which features usually go opposite ways; and deviations from which one is out.
const GOES_OPPOSITE: f64 = 0.3;
const OUT: f64 = 2.0;
/// Deviations from which one is out by itself.
const OUT_ALONE: f64 = 3.0;
/// Rows from one inverse to the next.
const EVERY: u64 = 64;

/// Mean and covariance of the recent rows, relative to where the caller has put 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Residuals {
    rows: u64,
    mean: Vec<f64>,
    variance: Vec<f64>,
    /// Correlations, row by row.
    correlation: Vec<f64>,
    /// Their inverse, each line divided by the root of its diagonal element; empty while too little is known.
    inverse: Vec<f64>,
}

impl Residuals {
    pub(super) fn new(features: usize) -> Self {
        let zeros = vec![0.0; features];
        Self {
            rows: 0,
            mean: zeros.clone(),
            variance: zeros,
            correlation: vec![0.0; features * features],
            inverse: Vec::new(),
        }
    }

    /// The row in deviations from the mean.
    fn standardised(&self, row: &[f32], clip: f64) -> Vec<f64> {
        let of = |((x, mean), variance): ((&f32, &f64), &f64)| {
            if *variance > 0.0 { ((f64::from(*x) - mean) / variance.sqrt()).clamp(-clip, clip) } else { 0.0 }
        };
        row.iter().zip(&self.mean).zip(&self.variance).map(of).collect()
    }

    /// Whether enough is known.
    pub(super) fn ready(&self) -> bool {
        !self.inverse.is_empty()
    }

    /// The residuals of a row of numbers, 0 while too little is known.
    pub(super) fn of(&self, row: &[f32]) -> Vec<f32> {
        if !self.ready() {
            return vec![0.0; row.len()];
        }
        let z = self.standardised(row, CLIP_SEEN);
        let residual = |line: &[f64]| line.iter().zip(&z).map(|(weight, z)| weight * z).sum::<f64>() as f32;
        self.inverse.chunks_exact(row.len()).map(residual).collect()
    }

    /// Whether two features are out in ways that do not go together: one up and the other down though they do not usually go opposite ways,
    /// or both to one side though they do.
    pub(super) fn opposes(&self, row: &[f32], i: usize, j: usize) -> bool {
        let z = self.standardised(row, CLIP_SEEN);
        let goes_together = self.correlation[i * self.mean.len() + j] > -GOES_OPPOSITE;
        z[i].abs() >= OUT && z[j].abs() >= OUT && (z[i] * z[j] < 0.0) == goes_together
    }

    /// Whether no feature is out by itself.
    pub(super) fn none_is_out(&self, row: &[f32]) -> bool {
        self.standardised(row, CLIP_SEEN).iter().all(|z| z.abs() < OUT_ALONE)
    }

    pub(super) fn learn(&mut self, row: &[f32]) {
        let features = self.mean.len();
        self.rows += 1;
        if self.rows > SPREAD_FIRST {
            let z = self.standardised(row, CLIP);
            let rate = RATE.max(1.0 / (self.rows - SPREAD_FIRST) as f64);
            for (line, zi) in self.correlation.chunks_exact_mut(features).zip(&z) {
                for (known, zj) in line.iter_mut().zip(&z) {
                    *known += rate * (zi * zj - *known);
                }
            }
        }
        let rate = RATE.max(1.0 / self.rows as f64);
        for ((x, mean), variance) in row.iter().zip(&mut self.mean).zip(&mut self.variance) {
            let reach = CLIP * variance.sqrt();
            let clips = self.rows > SPREAD_FIRST && reach > 0.0;
            let error = f64::from(*x) - *mean;
            let error = if clips { error.clamp(-reach, reach) } else { error };
            *mean += rate * error;
            *variance = (1.0 - rate) * (*variance + rate * error * error);
        }
        if self.rows >= READY && self.rows.is_multiple_of(EVERY) {
            self.invert();
        }
    }

    /// The inverse by Cholesky: with the ridge the matrix is positive definite but for rounding; where it is not, the last one stays.
    fn invert(&mut self) {
        let features = self.mean.len();
        let Ok(mut matrix) = Array2::from_shape_vec((features, features), self.correlation.clone()) else { return };
        matrix.diag_mut().iter_mut().for_each(|x| *x += RIDGE);
        let Some(lower) = cholesky(&matrix) else { return };
        let mut inverse = Array2::<f64>::zeros((features, features));
        for column in 0..features {
            // L y = e, then L' x = y.
            let mut x = Array1::<f64>::zeros(features);
            for i in column..features {
                let known: f64 = (column..i).map(|k| lower[[i, k]] * x[k]).sum();
                x[i] = (f64::from(u8::from(i == column)) - known) / lower[[i, i]];
            }
            for i in (0..features).rev() {
                let known: f64 = (i + 1..features).map(|k| lower[[k, i]] * x[k]).sum();
                x[i] = (x[i] - known) / lower[[i, i]];
            }
            inverse.column_mut(column).assign(&x);
        }
        for (at, mut line) in inverse.rows_mut().into_iter().enumerate() {
            let scale = line[at].sqrt();
            line.iter_mut().for_each(|weight| *weight /= scale);
        }
        self.inverse = inverse.into_raw_vec_and_offset().0;
    }
}

fn cholesky(matrix: &Array2<f64>) -> Option<Array2<f64>> {
    let size = matrix.nrows();
    let mut lower = Array2::<f64>::zeros((size, size));
    for i in 0..size {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| lower[[i, k]] * lower[[j, k]]).sum();
            let left = matrix[[i, j]] - known;
            lower[[i, j]] = if i != j {
                left / lower[[j, j]]
            } else if left > 0.0 {
                left.sqrt()
            } else {
                return None;
            };
        }
    }
    Some(lower)
}
