//! A linear autoregression that is fitted as values come, by recursive least squares; what it regresses on, and how it is carried forward.
//!
//! With the regressors `x`, the coefficients `b`, their covariance `P` and the forgetting factor `l`:
//!
//! ```text
//!   e = y - b.x  clipped to 4 sqrt(v)      g = P x      d = l + x.g
//!   b += g e / d                           P = (P - g g' / d) / l          v += .02 (min(e^2, 25 v) - v)
//! ```
//!
//! Clipping keeps one wild value from turning the coefficients. `P` grows while nothing is learnt (a constant): it is scaled down when its
//! trace passes 10^4, and starts again should rounding have broken it. Source: L. Ljung, T. Söderström, "Theory and Practice of
//! Recursive Identification", 1983. Cost: O(W^2), 60 ns with 16 regressors. Memory: 4 (W^2 + W + 1) bytes.

use serde::{Deserialize, Serialize};

/// Standardised values are taken as this at most, and the constant regressor's value.
const STANDARD_MAX: f32 = 10.0;
const CONSTANT: f32 = 0.3;
/// Values are moved to the front when so many have become too old.
const SLACK: usize = 32;
const TRACE_MAX: f32 = 1e4;
const RESTART: f32 = 0.1;
/// Standard deviations to which an error is clipped, and rate of their square.
const CLIP: f32 = 4.0;
const VARIANCE_RATE: f32 = 0.02;

/// An autoregression with up to `W` regressors, the constant one of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Autoregression<const W: usize> {
    /// Length `W`.
    coefficients: Vec<f32>,
    /// Rows of length `W`.
    covariance: Vec<f32>,
    variance: f32,
}

impl<const W: usize> Autoregression<W> {
    /// Starts with these coefficients (the rest are 0), each known to a variance of `spread`.
    pub(super) fn new(coefficients: &[f32], spread: f32) -> Self {
        let mut padded = vec![0.0; W];
        padded.iter_mut().zip(coefficients).for_each(|(to, from)| *to = *from);
        Self { coefficients: padded, covariance: diagonal::<W>(spread), variance: 0.05 }
    }

    pub(super) fn coefficients(&self) -> &[f32] {
        &self.coefficients
    }

    pub(super) fn predict(&self, x: &[f32; W]) -> f32 {
        dot(&self.coefficients, x)
    }

    /// Learns that `y` came with `x`; all of about unit size.
    pub(super) fn learn(&mut self, x: &[f32; W], y: f32, forgetting: f32) {
        let error = y - self.predict(x);
        let reach = CLIP * self.variance.sqrt();
        self.variance += VARIANCE_RATE * ((error * error).min(25.0 * self.variance) - self.variance);
        self.variance = self.variance.max(1e-8);
        // The covariance is symmetric: its columns are its rows.
        let mut gain = [0.0f32; W];
        for (row, &x) in self.covariance.chunks_exact(W).zip(x) {
            gain.iter_mut().zip(row).for_each(|(gain, p)| *gain += p * x);
        }
        let inverse = 1.0 / (forgetting + dot(&gain, x));
        let step = inverse * error.clamp(-reach, reach);
        self.coefficients.iter_mut().zip(&gain).for_each(|(b, gain)| *b += gain * step);
        let mut trace = 0.0;
        for (at, row) in self.covariance.chunks_exact_mut(W).enumerate() {
            let share = gain[at] * inverse;
            row.iter_mut().zip(&gain).for_each(|(p, gain)| *p = (*p - share * gain) / forgetting);
            trace += row[at];
        }
        if !(inverse > 0.0 && trace.is_finite()) {
            self.covariance = diagonal::<W>(RESTART);
        } else if trace > TRACE_MAX {
            self.covariance.iter_mut().for_each(|p| *p *= TRACE_MAX / trace);
        }
    }
}

fn diagonal<const W: usize>(value: f32) -> Vec<f32> {
    let mut matrix = vec![0.0; W * W];
    matrix.iter_mut().step_by(W + 1).for_each(|p| *p = value);
    matrix
}

/// The sum of products, in eight lanes: the same order on every machine.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    let mut lanes = [0.0f32; 8];
    for (a, b) in a.zip(b) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    sum(lanes) + rest
}

/// Adds eight lanes up.
pub(super) fn sum([a, b, c, d, e, f, g, h]: [f32; 8]) -> f32 {
    ((a + e) + (b + f)) + ((c + g) + (d + h))
}

/// The last values, the latest the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Recent {
    pub(super) values: Vec<f32>,
    keep: u32,
}

impl Recent {
    pub(super) const fn new(keep: usize) -> Self {
        Self { values: Vec::new(), keep: keep as u32 }
    }

    pub(super) fn push(&mut self, value: f32) {
        if self.values.len() == self.keep as usize + SLACK {
            self.values.drain(..SLACK);
        }
        if self.values.capacity() == self.values.len() {
            // No more room than is ever needed.
            self.values
                .reserve_exact((self.keep as usize + SLACK - self.values.len()).min(self.values.len().max(SLACK)));
        }
        self.values.push(value);
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The value `lag` slots before the next one.
    pub(super) fn back(&self, lag: usize) -> f32 {
        self.values[self.values.len() - lag]
    }

    /// The value a season of `lag` slots before the one that is `ahead` (from 0) slots after the next one, or as many seasons as it takes
    /// to be known; `lag` values are.
    pub(super) fn season_back(&self, lag: usize, ahead: usize) -> f32 {
        self.values[self.values.len() - lag + ahead % lag]
    }
}

/// Distinct lags, ascending.
#[derive(Clone, Copy)]
pub(super) struct Lags {
    lags: [u16; 12],
    count: usize,
    /// The greatest.
    pub(super) last: usize,
}

impl Lags {
    pub(super) fn new(wanted: &[usize]) -> Self {
        let mut is = Self { lags: [0; 12], count: 0, last: 0 };
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        for lag in wanted {
            if lag > is.last {
                is.lags[is.count] = lag as u16;
                (is.count, is.last) = (is.count + 1, lag);
            }
        }
        is
    }

    pub(super) fn all(&self) -> &[u16] {
        &self.lags[..self.count]
    }
}

/// The last value and what it is explained by: the values at the lags before it and a constant.
pub(super) fn regressors<const W: usize>(values: &Recent, lags: &[u16], mean: f32, unit: f32) -> ([f32; W], f32) {
    let standard = |value: f32| ((value - mean) / unit).clamp(-STANDARD_MAX, STANDARD_MAX);
    let mut x = [0.0; W];
    x.iter_mut().zip(lags).for_each(|(x, &lag)| *x = standard(values.back(usize::from(lag) + 1)));
    x[W - 1] = CONSTANT;
    (x, standard(values.back(1)))
}

/// How an autoregression is carried forward.
pub(super) struct Path<'a> {
    pub(super) lags: Lags,
    pub(super) mean: f32,
    pub(super) unit: f32,
    pub(super) range: [f32; 2],
    /// What is added to each step, and is no part of what is regressed on.
    pub(super) season: &'a [f32],
}

impl Path<'_> {
    pub(super) fn fill(&self, coefficients: &[f32], values: &Recent, path: &mut [f32]) {
        let (lags, values) = (self.lags.all(), &values.values[..]);
        // Of standardised values and the constant, in units of the values.
        let sum: f32 = coefficients[..lags.len()].iter().sum();
        path.fill(self.mean * (1.0 - sum) + self.unit * CONSTANT * coefficients[coefficients.len() - 1]);
        for (&lag, b) in lags.iter().zip(coefficients) {
            let known = &values[values.len() - usize::from(lag)..];
            path.iter_mut().zip(known).for_each(|(next, value)| *next += b * value);
        }
        for ahead in 0..path.len() {
            let (before, from) = path.split_at_mut(ahead);
            let known = lags.iter().zip(coefficients).take_while(|(lag, _)| usize::from(**lag) <= ahead);
            let next: f32 = known.map(|(&lag, b)| b * before[ahead - usize::from(lag)]).sum();
            let season = self.season.get(ahead).copied().unwrap_or_default();
            from[0] = (from[0] + next + season).clamp(self.range[0], self.range[1]) - season;
        }
        path.iter_mut().zip(self.season).for_each(|(next, season)| *next += season);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(state: &mut u64) -> f32 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((*state >> 40) as f32 / (1u64 << 24) as f32) - 0.5
    }

    #[test]
    fn the_coefficients_of_a_process_are_found() {
        // y(t) = .6 y(t-1) - .3 y(t-2) + .2 + noise
        let (mut fit, mut seed) = (Autoregression::<8>::new(&[], 0.2), 7);
        let (mut a, mut b) = (0.0f32, 0.0f32);
        for _ in 0..20_000 {
            let y = 0.6 * a - 0.3 * b + 0.2 + 2.0 * noise(&mut seed);
            fit.learn(&[a, b, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0], y, 0.9999);
            (a, b) = (y, a);
        }
        for (found, is) in fit.coefficients().iter().zip([0.6, -0.3, 0.2]) {
            assert!((found - is).abs() < 0.03, "{:?}", fit.coefficients());
        }
    }

    #[test]
    fn a_constant_and_a_wild_value_leave_it_finite() {
        let mut fit = Autoregression::<8>::new(&[0.5], 0.2);
        let x = |a: f32| [a, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0];
        for at in 0..20_000 {
            fit.learn(&x(0.0), if at == 10_000 { 1e9 } else { 0.0 }, 0.99);
        }
        assert!(fit.coefficients().iter().all(|b| b.is_finite()));
        assert!(fit.predict(&x(0.0)).abs() < 10.0, "{}", fit.predict(&x(0.0)));
    }
}
