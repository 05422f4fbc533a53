//! IQR: is a value outside Tukey's fences of the recent windows?
//!
//! With `q1` and `q3` the quartiles of the last `window` signals (the standardised residual of the forecast, or the value; see
//! [`super::Observation`]), the score is the distance beyond the nearer quartile in units of `k (q3 - q1)`: 1.0 is on the fence. A
//! quarter of the recent values may be anomalous before the fences give way, so nothing has to be clipped; a new level is usual after
//! that much of the window. The same fences stand around the moving average of the signals (clipped to the inner fences, so that it does
//! not echo one wild value), which shows a small shift or a slow drift; the score is the greater one.
//!
//! Source: J. W. Tukey, "Exploratory Data Analysis", 1977 (`k` = 3: "far out"). Quartiles interpolate linearly between order
//! statistics (R. J. Hyndman, Y. Fan, "Sample Quantiles in Statistical Packages", American Statistician 50, 1996, definition 7, as
//! numpy does).
//!
//! Cost: two binary searches and a move of at most `window` numbers: about 150 ns at 288. Memory: 20 bytes per value of the window,
//! 5.8 kB at 288. Warm-up: `warm_up` values, in each of which it scores 0. A value that is not finite is neither scored nor learnt; a
//! gap leaves the window as it is. Where the quartiles coincide (a constant, rare events), their distance is taken as that of a
//! normal distribution with the least deviation of the series' grain.

use serde::{Deserialize, Serialize};

use super::recent::Recent;
use super::{Basis, Detector, DetectorKind, Grain, Observation, Signal, score_from};

/// Distance of the quartiles of the normal distribution, in standard deviations.
const NORMAL_IQR: f64 = 1.348_979_500_392_163_6;

/// Rate of the moving average, and its deviation in those of independent values: `sqrt(r / (2 - r))`.
const RUN_RATE: f64 = 0.1;
const RUN_SD_LEAST: f64 = 0.229_415_733_870_561_76;
/// Interquartile ranges beyond a quartile at which a value is clipped before it joins the moving average.
const RUN_CLIP: f64 = 1.5;
/// One moving average in so many is kept, and so many are needed.
const RUN_STRIDE: u32 = 4;
const RUNS_LEAST: usize = 24;
/// Least standard deviation of a residual in units of its usual error.
const RESIDUAL_SD_LEAST: f64 = 0.1;

/// Parameters of an [`Iqr`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct IqrParams {
    /// Values that the quartiles are taken of. Default 288: a day of windows of five minutes.
    pub window: u32,
    /// Interquartile ranges beyond a quartile that make a score of 1.0. Default 3: 4.7 standard deviations of a normal distribution.
    pub k: f64,
    /// Values before it scores. Default 48.
    pub warm_up: u32,
}

impl Default for IqrParams {
    fn default() -> Self {
        Self { window: 288, k: 3.0, warm_up: 48 }
    }
}

/// Distance of `x` beyond the nearer quartile, in units of the quartiles' distance, which is at least `least`.
fn beyond(recent: &Recent, x: f64, least: f64) -> f64 {
    let (q1, q3) = (recent.quantile(0.25), recent.quantile(0.75));
    (q1 - x).max(x - q3) / (q3 - q1).max(least)
}

/// Tukey's fences over a sliding window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Iqr {
    params: IqrParams,
    basis: Option<Basis>,
    grain: Grain,
    seen: u32,
    points: Recent,
    /// The moving average, and every [`RUN_STRIDE`]-th of its last values.
    run: f64,
    runs: Recent,
}

impl Iqr {
    /// A detector that knows nothing. A window of less than four values is taken as four.
    #[must_use]
    pub fn new(params: IqrParams) -> Self {
        let params = IqrParams { window: params.window.max(4), ..params };
        let runs = Recent::new((params.window / RUN_STRIDE).max(RUNS_LEAST as u32));
        Self {
            points: Recent::new(params.window),
            runs,
            params,
            basis: None,
            grain: Grain::default(),
            seen: 0,
            run: 0.0,
        }
    }

    /// Least distance of the quartiles of the values.
    fn least_iqr(&self, signal: Signal) -> f64 {
        NORMAL_IQR
            * match signal.basis {
                Basis::Value => self.grain.with(signal.x).least_sd(self.points.quantile(0.5)),
                // A residual is in units of its usual error, which has a floor of its own.
                Basis::Residual => RESIDUAL_SD_LEAST,
            }
    }

    fn point_score(&self, signal: Signal) -> f64 {
        score_from(beyond(&self.points, signal.x, self.least_iqr(signal)) / self.params.k)
    }

    /// The moving average once a value belongs to it.
    fn run_with(&self, signal: Signal) -> f64 {
        let (q1, q3) = (self.points.quantile(0.25), self.points.quantile(0.75));
        let reach = RUN_CLIP * (q3 - q1).max(self.least_iqr(signal));
        self.run + RUN_RATE * (signal.x.clamp(q1 - reach, q3 + reach) - self.run)
    }

    fn run_score(&self, signal: Signal) -> f64 {
        if self.runs.len() < RUNS_LEAST {
            return 0.0;
        }
        score_from(beyond(&self.runs, self.run_with(signal), RUN_SD_LEAST * self.least_iqr(signal)) / self.params.k)
    }
}

impl Detector for Iqr {
    fn kind(&self) -> DetectorKind {
        DetectorKind::Iqr
    }

    fn score(&self, observation: &Observation) -> f64 {
        match observation.signal() {
            Some(signal) if self.basis == Some(signal.basis) && !self.warming_up() => {
                self.point_score(signal).max(self.run_score(signal))
            }
            _ => 0.0,
        }
    }

    fn learn(&mut self, observation: &Observation) {
        let Some(signal) = observation.signal() else { return };
        if self.basis != Some(signal.basis) {
            *self = Self { basis: Some(signal.basis), grain: self.grain, ..Self::new(self.params) };
        }
        let x = signal.x;
        self.run = if self.points.len() == 0 { x } else { self.run_with(signal) };
        if self.seen.is_multiple_of(RUN_STRIDE) && self.points.len() >= self.params.warm_up as usize / 2 {
            self.runs.push(self.run);
        }
        self.points.push(x);
        self.seen = self.seen.wrapping_add(1);
        self.grain = self.grain.with(observation.value);
    }

    fn warming_up(&self) -> bool {
        self.points.len() < self.params.warm_up.min(self.params.window) as usize
    }
}

#[cfg(test)]
mod tests;
