//! z-score: how many standard deviations is a value away from the mean?
//!
//! Two charts over one signal `x` (the standardised residual of the forecast, or the value; see [`super::Observation`]):
//!
//! - the point: `|x - m| / (k s)`, with `m` and `s^2` the exponentially decayed mean and variance, and `k` the threshold;
//! - the run: `|e| / (k_run s_e)`, with `e += r (z - e)` the moving average of `z = (x - m) / s` clipped to three deviations, and `s_e`
//!   its own decayed deviation. It sees a small shift or a slow drift that no single window shows. The clipping makes it blind to a
//!   few wild windows, which the point chart sees anyway.
//!
//! The score is the greater one. `s` is taken apart above and below the mean (a semideviation each), so that a signal with a longer
//! tail upwards, as latencies have, is not alarming upwards and not overlooked downwards.
//!
//! Sources: D. H. D. West, "Updating Mean and Variance Estimates: An Improved Method", CACM 22(9), 1979 (here with exponential
//! weights); S. W. Roberts, "Control Chart Tests Based on Geometric Moving Averages", Technometrics 1(3), 1959; clipping before
//! learning after P. J. Huber, "Robust Estimation of a Location Parameter", Ann. Math. Stat. 35, 1964.
//!
//! Cost: about 50 ns a value. Memory: about 100 bytes. Warm-up: `warm_up` values, in each of which it scores 0. A value that is not
//! finite is neither scored nor learnt; a gap leaves everything as it is. A constant has the least deviation of its grain (half a
//! per cent of its magnitude, half a step for whole numbers). An anomalous value is learnt clipped; after `believe_after` anomalous
//! values in a row on the same side, the new level is believed.

use serde::{Deserialize, Serialize};

use super::{Basis, Detector, DetectorKind, Grain, Observation, Signal, score_from};

/// Rate of the run chart's moving average: it sees about the last twenty values.
const RUN_RATE: f64 = 0.1;
/// Deviations of the moving average that are its threshold.
const RUN_THRESHOLD: f64 = 4.0;
/// Deviations beyond which the run chart does not count.
const RUN_CLIP: f64 = 3.0;
/// Deviations of the moving average of independent values, in theirs: `sqrt(r / (2 - r))`.
const RUN_SD_LEAST: f64 = 0.229_415_733_870_561_76;
/// Deviations beyond which a value is learnt as if it were there.
const LEARN_CLIP: f64 = 4.0;
/// A semideviation is at least this share of the deviation.
const SIDE_LEAST: f64 = 0.7;

/// Parameters of a [`ZScore`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ZScoreParams {
    /// Standard deviations from the mean that make a score of 1.0. Default 5.5: a calm series of means of a few log-normal values
    /// reaches it once in several thousand windows, a Gaussian one once in 26 million.
    pub threshold: f64,
    /// Windows after which a value counts half. Default 288: a day of five minutes each.
    pub half_life: u32,
    /// Values before it scores. Default 48.
    pub warm_up: u32,
    /// Anomalous values in a row on one side after which they are believed to be the new normal. Default 12.
    pub believe_after: u32,
}

impl Default for ZScoreParams {
    fn default() -> Self {
        Self { threshold: 5.5, half_life: 288, warm_up: 48, believe_after: 12 }
    }
}

/// The exponentially decayed z-score of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ZScore {
    params: ZScoreParams,
    rate: f64,
    basis: Option<Basis>,
    grain: Grain,
    seen: u32,
    mean: f64,
    /// Decayed mean of the squared deviations above the mean, and below it, each over all values: they add up to the variance.
    above: f64,
    below: f64,
    run_mean: f64,
    run_variance: f64,
    /// Anomalous values in a row: how many, on which side, and their mean.
    streak: u32,
    streak_up: bool,
    streak_mean: f64,
}

impl ZScore {
    /// A detector that knows nothing.
    #[must_use]
    pub fn new(params: ZScoreParams) -> Self {
        let rate = 1.0 - libm::exp2(-1.0 / f64::from(params.half_life.max(1)));
        Self {
            params,
            rate,
            basis: None,
            grain: Grain::default(),
            seen: 0,
            mean: 0.0,
            above: 0.0,
            below: 0.0,
            run_mean: 0.0,
            run_variance: 0.0,
            streak: 0,
            streak_up: false,
            streak_mean: 0.0,
        }
    }

    /// Standard deviation on the side of `x`.
    fn sd(&self, signal: Signal) -> f64 {
        let variance = self.above + self.below;
        let side = 2.0 * if signal.x >= self.mean { self.above } else { self.below };
        let sd = side.max(SIDE_LEAST * SIDE_LEAST * variance).sqrt();
        let least = match signal.basis {
            Basis::Value => self.grain.with(signal.x).least_sd(self.mean),
            // A residual is in units of its usual error, which has a floor of its own.
            Basis::Residual => 0.1,
        };
        sd.max(least)
    }

    fn point_score(&self, signal: Signal) -> f64 {
        score_from((signal.x - self.mean).abs() / (self.params.threshold * self.sd(signal)))
    }

    fn run_mean_with(&self, signal: Signal) -> f64 {
        let z = ((signal.x - self.mean) / self.sd(signal)).clamp(-RUN_CLIP, RUN_CLIP);
        self.run_mean + RUN_RATE * (z - self.run_mean)
    }

    fn run_sd(&self) -> f64 {
        self.run_variance.sqrt().max(RUN_SD_LEAST)
    }

    fn run_score(&self, signal: Signal) -> f64 {
        score_from(self.run_mean_with(signal).abs() / (RUN_THRESHOLD * self.run_sd()))
    }

    fn is_warm_for(&self, signal: Signal) -> bool {
        self.basis == Some(signal.basis) && !self.warming_up()
    }

    fn start_anew(&mut self, basis: Basis) {
        *self = Self { basis: Some(basis), grain: self.grain, ..Self::new(self.params) };
    }

    /// Counts anomalous values in a row on one side; whether the last one makes them believed.
    fn believes(&mut self, signal: Signal, anomalous: bool) -> bool {
        if !anomalous {
            self.streak = 0;
            return false;
        }
        let up = signal.x > self.mean;
        if self.streak == 0 || self.streak_up != up {
            (self.streak, self.streak_up, self.streak_mean) = (0, up, 0.0);
        }
        self.streak += 1;
        self.streak_mean += (signal.x - self.streak_mean) / f64::from(self.streak);
        self.streak >= self.params.believe_after
    }

    fn learn_moments(&mut self, signal: Signal) {
        self.seen = self.seen.saturating_add(1);
        let rate = self.rate.max(1.0 / f64::from(self.seen));
        let reach = LEARN_CLIP * self.sd(signal);
        let spread_known = self.above + self.below > 0.0;
        let x =
            if self.seen > 8 && spread_known { signal.x.clamp(self.mean - reach, self.mean + reach) } else { signal.x };
        let delta = x - self.mean;
        self.mean += rate * delta;
        // West's update, with the squared deviation booked on the value's side.
        let squared = (delta * (x - self.mean)).max(0.0);
        let (up, down) = if delta > 0.0 { (squared, 0.0) } else { (0.0, squared) };
        self.above = ((1.0 - rate) * self.above + rate * up).min(f64::MAX / 4.0);
        self.below = ((1.0 - rate) * self.below + rate * down).min(f64::MAX / 4.0);
    }

    fn learn_run(&mut self, signal: Signal) {
        self.run_mean = self.run_mean_with(signal);
        let reach = 3.0 * self.run_sd();
        let squared = self.run_mean.clamp(-reach, reach) * self.run_mean.clamp(-reach, reach);
        self.run_variance += self.rate.max(1.0 / f64::from(self.seen.max(1))) * (squared - self.run_variance);
    }
}

impl Detector for ZScore {
    fn kind(&self) -> DetectorKind {
        DetectorKind::ZScore
    }

    fn score(&self, observation: &Observation) -> f64 {
        match observation.signal() {
            Some(signal) if self.is_warm_for(signal) => self.point_score(signal).max(self.run_score(signal)),
            _ => 0.0,
        }
    }

    fn learn(&mut self, observation: &Observation) {
        let Some(signal) = observation.signal() else { return };
        if self.basis != Some(signal.basis) {
            self.start_anew(signal.basis);
        }
        let anomalous = self.is_warm_for(signal) && self.point_score(signal).max(self.run_score(signal)) >= 1.0;
        if self.believes(signal, anomalous) {
            // The level has moved; how much the series scatters is still the best guess.
            self.mean = self.streak_mean;
            self.seen = self.params.warm_up.max(1);
            (self.run_mean, self.streak) = (0.0, 0);
        }
        self.learn_run(signal);
        self.learn_moments(signal);
        self.grain = self.grain.with(observation.value);
    }

    fn warming_up(&self) -> bool {
        self.seen < self.params.warm_up
    }
}

#[cfg(test)]
mod tests;
