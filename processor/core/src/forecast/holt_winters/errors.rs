//! How large the errors of a forecast usually are, at which time of the season, and what they have to do with one another.

use serde::{Deserialize, Serialize};

use super::cycle::Cycle;
use super::{Expectation, READY};

/// Most buckets of the errors' share by time of season.
const BUCKETS_SHARE: u32 = 24;
/// A share never goes below this.
const SHARE_LEAST: f64 = 0.2;
/// Windows that the prior share of 1 weighs.
const SHARE_PRIOR: f64 = 6.0;
/// Rates of the mean absolute error and of the remainder's autocovariances: the last 200 and 600 windows.
const SCALE_RATE: f64 = 1.0 / 200.0;
const AUTOCOVARIANCE_RATE: f64 = 1.0 / 600.0;
/// Autocorrelations above are taken as this.
const AUTOCORRELATION_MAX: f64 = 0.98;
/// Standard deviation of a normal distribution in mean absolute deviations: `sqrt(pi / 2)`.
const SD_PER_MEAN_ABSOLUTE: f64 = 1.253_314_137_315_500_3;
/// The 97.5 % quantile of the normal distribution, where the interval's quantiles start; they stay within the bounds.
const QUANTILE_START: f64 = 1.959_963_984_540_054;
const QUANTILE_BOUNDS: (f64, f64) = (0.5, 20.0);
const QUANTILE_RATE: f64 = 0.02;
/// Share of the values that may lie beyond each end of the interval.
const TAIL: f64 = 0.025;

/// How large errors usually are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ErrorScale {
    seen: u32,
    mean_absolute: f64,
    share: Option<Cycle>,
    share_visits: Vec<f64>,
    pub(super) quantile_low: f64,
    pub(super) quantile_high: f64,
}

impl ErrorScale {
    /// A scale of nothing yet; `season` is the span by whose phase errors are told apart.
    pub(super) fn new(season: Option<u32>) -> Self {
        let share = season.map(|span| Cycle::new(span, BUCKETS_SHARE, 1.0));
        let share_visits = vec![SHARE_PRIOR; season.map_or(0, |span| span.min(BUCKETS_SHARE)) as usize];
        Self {
            seen: 0,
            mean_absolute: 0.0,
            share,
            share_visits,
            quantile_low: QUANTILE_START,
            quantile_high: QUANTILE_START,
        }
    }

    /// Usual deviation of the error at a window.
    pub(super) fn sd(&self, window: i64) -> f64 {
        let share = self.share.as_ref().map_or(1.0, |share| share.at(window).max(SHARE_LEAST));
        SD_PER_MEAN_ABSOLUTE * self.mean_absolute * share
    }

    /// Learns an error of one step.
    pub(super) fn learn(&mut self, window: i64, error: f64) {
        let magnitude = error.abs();
        self.seen = self.seen.saturating_add(1);
        if self.seen > READY {
            self.learn_share(window, magnitude);
        }
        let share = self.share.as_ref().map_or(1.0, |share| share.at(window).max(SHARE_LEAST));
        let level = (magnitude / share).min(if self.seen > READY { 6.0 * self.mean_absolute } else { f64::INFINITY });
        // A scale that has been 0 has to be able to grow again.
        let level = if self.mean_absolute > 0.0 { level } else { magnitude / share };
        self.mean_absolute += SCALE_RATE.max(1.0 / f64::from(self.seen)) * (level - self.mean_absolute);
    }

    fn learn_share(&mut self, window: i64, magnitude: f64) {
        let Some(share) = &mut self.share else { return };
        if self.mean_absolute <= 0.0 {
            return;
        }
        let relative = (magnitude / self.mean_absolute).min(4.0);
        let place = share.place(window);
        let visits_max = 10.0 * share.windows_per_bucket().max(1.0);
        for (bucket, part) in place.buckets.into_iter().zip(place.shares) {
            let visits = &mut self.share_visits[bucket];
            *visits = (*visits + part).min(visits_max.max(2.0 * SHARE_PRIOR));
            let value = &mut share.values_mut()[bucket];
            *value += part / *visits * (relative - *value);
        }
    }

    /// Usual deviation whatever the time of the season.
    pub(super) fn overall_sd(&self) -> f64 {
        SD_PER_MEAN_ABSOLUTE * self.mean_absolute
    }

    /// Forgets how much is known, so that the next errors count more.
    pub(super) fn freshen(&mut self) {
        self.seen = self.seen.min(READY);
    }

    /// Judges the interval that was issued.
    pub(super) fn track(&mut self, value: f64, issued: &Expectation) {
        let step = |outside: bool| 1.0 + QUANTILE_RATE * if outside { 1.0 - TAIL } else { -TAIL };
        let (least, most) = QUANTILE_BOUNDS;
        self.quantile_low = (self.quantile_low * step(value < issued.lower)).clamp(least, most);
        self.quantile_high = (self.quantile_high * step(value > issued.upper)).clamp(least, most);
    }
}

/// Decayed autocorrelation of what level and seasons leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Autocorrelation {
    seen: u32,
    square: f64,
    product: f64,
}

impl Autocorrelation {
    pub(super) fn learn(&mut self, previous: f64, current: f64) {
        self.seen = self.seen.saturating_add(1);
        let rate = AUTOCOVARIANCE_RATE.max(1.0 / f64::from(self.seen));
        self.square += rate * (0.5 * (current * current + previous * previous) - self.square);
        self.product += rate * (current * previous - self.product);
    }

    /// Shrunk towards 0 while little is known.
    pub(super) fn rho(&self) -> f64 {
        if self.square <= 0.0 {
            return 0.0;
        }
        let trust = f64::from(self.seen) / (f64::from(self.seen) + 30.0);
        (trust * self.product / self.square).clamp(0.0, AUTOCORRELATION_MAX)
    }
}
