//! The Gaussian member: the distance of a row from the mean in units of the covariance (P. C. Mahalanobis, 1936).
//!
//! Mean, deviations and correlations follow the rows at a rate of 1/2048, each number clipped at six deviations, so that what is odd does
//! not hide itself. The correlations' inverse, with a ridge of .05 on the diagonal, is made anew every 64 rows by Cholesky's decomposition.
//! Memory: `16 d + 16 d^2` bytes. Cost: `d^2` multiplications to score and to learn, `d^3` every 64 rows.

use ndarray::{Array1, Array2, ArrayView1};
use serde::{Deserialize, Serialize};

const RATE: f64 = 1.0 / 2_048.0;
const CLIP: f64 = 6.0;
const RIDGE: f64 = 0.05;
/// Rows before the correlations are learnt, and before they are used.
const SPREAD_FIRST: u64 = 32;
const READY: u64 = 64;
/// Correlation, with the sign turned, from which features usually go opposite ways; and deviations from which one is out.
const GOES_OPPOSITE: f64 = 0.3;
const OUT: f64 = 2.0;
/// Rows from one inverse to the next.
const EVERY: u64 = 64;

/// Mean and covariance of the recent rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Gauss {
    rows: u64,
    mean: Vec<f64>,
    variance: Vec<f64>,
    /// Correlations, row by row.
    correlation: Vec<f64>,
    /// Their inverse; empty while too little is known.
    inverse: Vec<f64>,
}

impl Gauss {
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

    /// The row in deviations from the mean; what is not a number is where the mean is.
    fn standardised(&self, row: &[f64]) -> Array1<f64> {
        let of = |((x, mean), variance): ((&f64, &f64), &f64)| {
            let z = if *variance > 0.0 { (x - mean) / variance.sqrt() } else { 0.0 };
            if z.is_nan() { 0.0 } else { z.clamp(-CLIP, CLIP) }
        };
        row.iter().zip(&self.mean).zip(&self.variance).map(of).collect()
    }

    /// `z` and the product of the inverse with it.
    fn weighed(&self, row: &[f64]) -> Option<(Array1<f64>, Array1<f64>)> {
        let features = self.mean.len();
        let z = self.standardised(row);
        let mut weighed = Array1::zeros(features);
        if self.inverse.is_empty() {
            return None;
        }
        for (sum, line) in weighed.iter_mut().zip(self.inverse.chunks_exact(features)) {
            *sum = ArrayView1::from(line).dot(&z);
        }
        Some((z, weighed))
    }

    /// The distance, 0 while too little is known.
    pub(super) fn score(&self, row: &[f64]) -> f64 {
        self.weighed(row).map_or(0.0, |(z, weighed)| z.dot(&weighed).max(0.0).sqrt())
    }

    /// Each feature's part of the squared distance.
    pub(super) fn attribute(&self, row: &[f64]) -> Vec<f64> {
        self.weighed(row).map_or_else(|| vec![0.0; row.len()], |(z, weighed)| (z * weighed).to_vec())
    }

    /// Whether two features are out in ways that do not go together: one up and the other down though they do not usually go opposite ways,
    /// or both to one side though they do.
    pub(super) fn opposes(&self, row: &[f64], i: usize, j: usize) -> bool {
        let z = self.standardised(row);
        let goes_together = self.correlation[i * self.mean.len() + j] > -GOES_OPPOSITE;
        z[i].abs().min(z[j].abs()) >= OUT && (z[i] * z[j] < 0.0) == goes_together
    }

    pub(super) fn learn(&mut self, row: &[f64]) {
        let features = self.mean.len();
        self.rows += 1;
        if self.rows > SPREAD_FIRST {
            let z = self.standardised(row);
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
            let error = if clips { (x - *mean).clamp(-reach, reach) } else { x - *mean };
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
