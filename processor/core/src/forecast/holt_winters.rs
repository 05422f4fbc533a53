//! Rolling additive Holt-Winters with several seasons, robust to outliers, gaps and level shifts.
//!
//! With level `L`, optional damped trend `b`, seasonal cycles `S_i` (a day, a week), remainder `r` and its autocorrelation `rho`:
//!
//! ```text
//! f(t+h) = L + (phi + ... + phi^h) b + sum S_i(t+h) + rho^h r          forecast
//! e = y - f(t+1),  c = e clipped to 3 usual errors                     error of one step
//! L += phi b + alpha c,  b = phi b + alpha beta c,  S_i += gamma c     learning
//! r = f + c - L - sum S_i                                              what level and seasons leave
//! ```
//!
//! The interval is `f - q_low sd, f + q_high sd`: `sd(t) = 1.2533 s w(t)` from the decayed mean absolute error `s` and its share `w` by
//! time of the (first) season; the two quantiles start as the normal distribution's and are tracked, so that each end is exceeded by
//! 2.5 % of the values, judged against the interval as it was issued. `h` steps ahead, `sd` grows by
//! `sqrt(1 + sum_{j<h} (alpha + (1 - alpha) rho^j)^2)`, as the errors of the corresponding state space model do.
//!
//! Sources: C. C. Holt 1957 (reprinted in Int. J. Forecasting 20, 2004) and P. R. Winters, Management Science 6, 1960; two seasons and
//! the correction by `rho`: J. W. Taylor, "Short-Term Electricity Demand Forecasting Using Double Seasonal Exponential Smoothing",
//! J. Oper. Res. Soc. 54, 2003; clipping: S. Gelper, R. Fried, C. Croux, "Robust Forecasting with Exponential and Holt-Winters
//! Smoothing", J. Forecasting 29, 2010; growth with the horizon: R. J. Hyndman et al., "Forecasting with Exponential Smoothing", 2008;
//! tracking: I. Gibbs, E. Candès, "Adaptive Conformal Inference Under Distribution Shift", NeurIPS 2021.
//!
//! Cost: constant per window, about 300 ns with two seasons. Memory: 8 bytes for each of at most 96 buckets of the first season, 168
//! of every other one, and 24 of the errors' share: 2.5 kB with a day and a week. Warm-up: the first forecast after 12 values, by level
//! and remainder alone; each season joins once it has been seen whole, the shortest first, the next one from then on.
//!
//! A missing value (or one that is not finite) leaves everything but time as it is; the interval widens as for a longer horizon. A
//! constant is forecast as itself, with the least deviation of its grain. An error beyond 5 usual ones is an outlier: the level learns
//! it clipped, the seasons not at all; after `believe_after` outliers in a row on one side, the level jumps by the least of them.

use serde::{Deserialize, Serialize};

use self::cycle::{Cycle, FirstCycle};
use self::errors::{Autocorrelation, ErrorScale};
use super::{Expectation, Forecaster};
use crate::detect::Grain;

mod cycle;
mod errors;

/// Values before the first forecast.
const READY: u32 = 12;
/// Most buckets of the first season, and of the others.
const BUCKETS_FIRST: u32 = 96;
const BUCKETS_OTHER: u32 = 168;
/// Rate of the level until a season is known.
const FIRST_LEVEL_RATE: f64 = 0.3;
/// Usual errors to which a remainder is clipped before its autocovariances are learnt: a fault that lasts is not autocorrelation.
const AUTOCOVARIANCE_CLIP: f64 = 2.0;
/// Usual errors to which an error is clipped before it is learnt, and beyond which it is an outlier.
const CLIP: f64 = 3.0;
const OUTLIER: f64 = 5.0;
/// Magnitudes beyond are taken as this, so that no square overflows.
const MAGNITUDE_MAX: f64 = 1e150;

/// A trend that fades: it contributes `phi + phi^2 + ...` of itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DampedTrend {
    /// Rate at which the trend follows the level's changes, in (0, 1).
    pub beta: f64,
    /// What is left of it a window later, in (0, 1).
    pub phi: f64,
}

/// Parameters of a [`HoltWinters`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoltWintersParams {
    /// Lengths of the seasons in windows, the shortest first; may be empty. A length below 2 is passed over.
    pub seasons: Vec<u32>,
    /// Rate at which the level follows the values once a season is known: small, so that a drift over hours is seen as one. Default 0.01.
    pub level_rate: f64,
    /// Rate at which the level follows the values of a series without seasons. Default 0.1.
    pub level_rate_plain: f64,
    /// Rate at which a season's bucket follows the values, per season. Default 0.1.
    pub season_rate: f64,
    /// A trend; `None` (the default) for none.
    pub trend: Option<DampedTrend>,
    /// Outliers in a row on one side after which they are believed to be the new level. Default 12.
    pub believe_after: u32,
}

impl Default for HoltWintersParams {
    fn default() -> Self {
        Self {
            seasons: Vec::new(),
            level_rate: 0.01,
            level_rate_plain: 0.1,
            season_rate: 0.1,
            trend: None,
            believe_after: 12,
        }
    }
}

/// Outliers in a row on one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Streak {
    length: u32,
    /// The error of the least magnitude, with its sign.
    least: f64,
}

/// The forecaster of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoltWinters {
    params: HoltWintersParams,
    /// Number of the window that comes next.
    window: i64,
    /// Windows missing since the last value.
    missing: u32,
    /// Values learnt, and values learnt since the newest season joined.
    seen: u32,
    settled: u32,
    level: f64,
    trend: f64,
    remainder: f64,
    autocorrelation: Autocorrelation,
    seasons: Vec<Cycle>,
    /// The season that is being learnt for the first time.
    first: Option<FirstCycle>,
    scale: ErrorScale,
    streak: Streak,
    grain: Grain,
}

impl HoltWinters {
    /// A forecaster that knows nothing. `first_window_index` is the number of the first window that will be learnt, counted from a
    /// fixed origin: it fixes the phase of the seasons.
    #[must_use]
    pub fn new(params: HoltWintersParams, first_window_index: i64) -> Self {
        let params =
            HoltWintersParams { seasons: params.seasons.into_iter().filter(|&span| span >= 2).collect(), ..params };
        let shortest = params.seasons.first().copied();
        Self {
            window: first_window_index,
            missing: 0,
            seen: 0,
            settled: 0,
            level: 0.0,
            trend: 0.0,
            remainder: 0.0,
            autocorrelation: Autocorrelation::default(),
            seasons: Vec::new(),
            first: shortest.map(|span| FirstCycle::new(span, BUCKETS_FIRST)),
            scale: ErrorScale::new(shortest),
            streak: Streak::default(),
            grain: Grain::default(),
            params,
        }
    }

    fn level_rate(&self) -> f64 {
        let rate = match (self.params.seasons.is_empty(), self.seasons.is_empty()) {
            (true, _) => self.params.level_rate_plain,
            (false, true) => FIRST_LEVEL_RATE,
            (false, false) => self.params.level_rate.max(1.0 / (20.0 + f64::from(self.settled))),
        };
        rate.max(1.0 / (f64::from(self.seen) + 1.0))
    }

    fn seasonal(&self, window: i64) -> f64 {
        self.seasons.iter().map(|season| season.at(window)).sum()
    }

    /// How much larger errors are `h` windows ahead of the last value than one ahead.
    fn growth(&self, h: u32) -> f64 {
        let (alpha, rho, n) = (self.level_rate(), self.autocorrelation.rho(), h.saturating_sub(1));
        let power = power(rho, n);
        let sum = f64::from(n) * alpha * alpha
            + 2.0 * alpha * (1.0 - alpha) * rho * (1.0 - power) / (1.0 - rho)
            + (1.0 - alpha) * (1.0 - alpha) * rho * rho * (1.0 - power * power) / (1.0 - rho * rho);
        (1.0 + sum).sqrt()
    }

    /// The forecast `h >= 1` windows ahead.
    fn ahead(&self, h: u32) -> Expectation {
        let window = self.window + i64::from(h) - 1;
        let trend = self.params.trend.map_or(0.0, |t| self.trend * t.phi * (1.0 - power(t.phi, h)) / (1.0 - t.phi));
        let mean = self.level + trend + self.seasonal(window) + power(self.autocorrelation.rho(), h) * self.remainder;
        let sd = self.scale.sd(window) * self.growth(h.saturating_add(self.missing));
        let sd = sd.max(self.grain.least_sd(mean));
        Expectation {
            mean,
            lower: mean - self.scale.quantile_low * sd,
            upper: mean + self.scale.quantile_high * sd,
            sd,
        }
    }

    fn miss(&mut self) {
        if let Some(first) = &mut self.first {
            first.add(self.window, None);
        }
        self.remainder *= self.autocorrelation.rho();
        self.missing = self.missing.saturating_add(1);
        self.end_window();
    }

    fn take(&mut self, value: f64) {
        self.grain = self.grain.with(value);
        if self.seen == 0 {
            self.level = value;
        }
        let expected = self.ahead(1);
        let error = value - expected.mean;
        let ready = self.seen >= READY;
        let outlier = ready && error.abs() > OUTLIER * expected.sd;
        if ready {
            self.scale.track(value, &expected);
        }
        if self.believes(error, outlier) {
            self.level += self.streak.least;
            self.streak = Streak::default();
            self.remainder = 0.0;
        } else {
            let reach = if ready { CLIP * expected.sd } else { f64::INFINITY };
            self.absorb(expected.mean, error.clamp(-reach, reach), expected.sd, outlier);
            if self.missing == 0 {
                self.scale.learn(self.window, error);
            }
        }
        self.missing = 0;
        self.seen = self.seen.saturating_add(1);
        self.settled = self.settled.saturating_add(1);
        self.end_window();
    }

    /// Counts outliers in a row on one side; whether they are believed now.
    fn believes(&mut self, error: f64, outlier: bool) -> bool {
        if !outlier {
            self.streak = Streak::default();
            return false;
        }
        let same_side = self.streak.length > 0 && (self.streak.least > 0.0) == (error > 0.0);
        if !same_side {
            self.streak = Streak { length: 0, least: error };
        }
        self.streak.length += 1;
        if error.abs() < self.streak.least.abs() {
            self.streak.least = error;
        }
        self.streak.length >= self.params.believe_after
    }

    /// Lets level, trend, seasons and remainder learn a clipped error.
    fn absorb(&mut self, expected: f64, clipped: f64, sd: f64, outlier: bool) {
        let alpha = self.level_rate();
        if let Some(DampedTrend { beta, phi }) = self.params.trend {
            self.level += phi * self.trend;
            self.trend = phi * self.trend + alpha * beta * clipped;
        }
        self.level += alpha * clipped;
        if let Some(first) = &mut self.first {
            // The first season learns values, the next ones what the known ones leave.
            let known = if self.seasons.is_empty() {
                0.0
            } else {
                self.level + self.seasons.iter().map(|s| s.at(self.window)).sum::<f64>()
            };
            first.add(self.window, Some(expected + clipped - known));
        }
        if !outlier {
            for (season, &span) in self.seasons.iter_mut().zip(&self.params.seasons) {
                // Fast while it is young.
                let gain = self.params.season_rate.max(1.0 / (2.0 + f64::from(self.settled / span)));
                season.nudge(self.window, gain / season.windows_per_bucket() * clipped);
            }
        }
        let remainder = expected + clipped - self.level - self.seasonal(self.window);
        let reach = AUTOCOVARIANCE_CLIP * sd;
        self.autocorrelation.learn(self.remainder.clamp(-reach, reach), remainder.clamp(-reach, reach));
        self.remainder = remainder;
    }

    fn end_window(&mut self) {
        self.window += 1;
        if let Some(cycle) = self.first.as_ref().and_then(FirstCycle::finished) {
            self.join(cycle);
        }
    }

    /// Lets a season that has been seen whole take part.
    fn join(&mut self, mut cycle: Cycle) {
        let last = self.window - 1;
        let last_value = self.level + self.seasonal(last) + self.remainder;
        if self.seasons.is_empty() {
            self.level = cycle.centre();
        } else {
            cycle.centre();
            cycle.shrink(self.scale.overall_sd());
        }
        self.seasons.push(cycle);
        self.remainder = last_value - self.level - self.seasonal(last);
        self.autocorrelation = Autocorrelation::default();
        self.scale.freshen();
        self.settled = 0;
        let next = self.params.seasons.get(self.seasons.len()).copied();
        self.first = next.map(|span| FirstCycle::new(span, BUCKETS_OTHER));
    }
}

/// `x^n`, by squaring, with the same bits on every machine.
fn power(x: f64, n: u32) -> f64 {
    let (mut result, mut square, mut n) = (1.0, x, n);
    while n > 0 {
        if n & 1 == 1 {
            result *= square;
        }
        square *= square;
        n >>= 1;
    }
    result
}

impl Forecaster for HoltWinters {
    fn expect(&self) -> Option<Expectation> {
        (self.seen >= READY).then(|| self.ahead(1))
    }

    fn path(&self, steps: &[u32]) -> Vec<Expectation> {
        if self.seen < READY {
            return Vec::new();
        }
        steps.iter().map(|&h| self.ahead(h.max(1))).collect()
    }

    fn learn(&mut self, value: Option<f64>) {
        match value.filter(|v| v.is_finite()) {
            Some(value) => self.take(value.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX)),
            None => self.miss(),
        }
    }

    fn warming_up(&self) -> bool {
        self.seen < READY || (self.seasons.is_empty() && !self.params.seasons.is_empty())
    }
}

#[cfg(test)]
mod tests;
