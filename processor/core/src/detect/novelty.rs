//! Range novelty: does a value leave the range that the series has kept to, as a whole, at that time of day, or coming from there?
//!
//! ```text
//!   beyond(l, u) = max(0, y - u, l - y)
//!   N = (beyond(range) + beyond(the hour's range) + beyond(the range after values of that height)) / width of the range
//!   S = N (.5 + min(2.5, |fast - slow| / (1.5 usual))) (.5 + min(2.5, |daily| / (1.5 usual))) (w + (1 - w) min(1, excess / 3))
//!   r = S / sqrt(1 + .1 busy) / .18,   busy <- busy e^(-1/4000) + min(1, S / .2)
//!   score = 3 r^4 below 1, 3 r from there on
//! ```
//!
//! The hour's range is that of the hours around it; heights are eight parts of the range, and the height is that of the last value. A
//! context counts once it has ten values. `fast` and `slow` are moving averages at .03 and .003; `daily` and `excess` are those of
//! [`crate::forecast::usual`]. A record is evidence by itself, `w = .5`, as far as the profile does not explain the series (`w` falls to
//! 0 with its skill). Where it explains some of it, no more counts than is beyond three usual residuals, times its skill, or beyond three
//! usual distances from where the series has been for days.
//!
//! All bounds relax towards the mean, by 3 in a million of the distance a value. A value extends them by four ranges at most.
//!
//! Records come often while a series is young, more often in some series than in others. So in its first day the detector is silent, and
//! learns: each time it would have reached 1.0, what makes a score of 1.0 rises by 16 %, for good.
//!
//! Cost: about 60 ns a value to score and as much to learn. Memory: 750 bytes. Warm-up: a day, 100 values at least. A gap changes
//! nothing. A constant has the width of its grain. A value that is not finite is neither scored nor learnt.
//!
//! Source: a range rule stands in the NAB detectors (A. Lavin, S. Ahmad, ICMLA 2015, arXiv 1510.03336, as `SPATIAL_TOLERANCE`); contexts,
//! evidence, `busy` and the silent day are this project's.

use serde::{Deserialize, Serialize};

use super::{Detector, DetectorKind, Grain, Observation, score_from};
use crate::forecast::usual::{Comparison, WARM_UP};

const DAY_MS: i64 = 86_400_000;
/// Contexts: hours of the day, and parts of the range.
const HOURS: usize = 24;
const HEIGHTS: usize = 8;
/// Values before a context counts.
const CONTEXT_LEAST: u32 = 10;
/// Evidence that makes r = 1.
const UNIT: f64 = 0.18;
/// What a record is worth without evidence from the residual, where the profile explains nothing.
const BARE: f64 = 0.5;
/// Deviations of the residual that are full evidence, and usual residuals that the profile explains at full skill.
const EXCESS_FULL: f64 = 3.0;
const EXPLAINED: f64 = 3.0;
/// `e^(-1/4000)`.
const BUSY_KEPT: f64 = 0.999_750_031_247_397_3;
/// What the threshold rises by in the silent day: `e^.15`.
const RAISE: f64 = 1.161_834_242_728_283;
/// Share of its distance from the mean by which a bound relaxes a value.
const RELAX: f64 = 3e-6;
/// Ranges by which a value extends a bound at most.
const EXTEND_MAX: f64 = 4.0;

/// The range of some of the values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Range {
    low: f64,
    high: f64,
    values: u32,
}

impl Range {
    fn beyond(&self, value: f64) -> f64 {
        (value - self.high).max(self.low - value).max(0.0)
    }

    fn take(&mut self, value: f64) {
        if self.values == 0 {
            (self.low, self.high) = (value, value);
        }
        (self.low, self.high) = (self.low.min(value), self.high.max(value));
        self.values = self.values.saturating_add(1);
    }

    fn relax(&mut self, mean: f64) {
        if self.values > 0 {
            self.low += RELAX * (mean - self.low).max(0.0);
            self.high -= RELAX * (self.high - mean).max(0.0);
        }
    }
}

/// The range novelty of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Novelty {
    seen: u32,
    all: Range,
    hours: [Range; HOURS],
    heights: [Range; HEIGHTS],
    mean: f64,
    fast: f64,
    slow: f64,
    last: f64,
    /// Usual sizes of `fast - slow` and of `daily`.
    usual_shift: f64,
    usual_daily: f64,
    busy: f64,
    /// What makes a score of 1.0.
    threshold: f64,
    grain: Grain,
}

impl Default for Novelty {
    fn default() -> Self {
        Self {
            seen: 0,
            all: Range::default(),
            hours: [Range::default(); HOURS],
            heights: [Range::default(); HEIGHTS],
            mean: 0.0,
            fast: 0.0,
            slow: 0.0,
            last: 0.0,
            usual_shift: 0.0,
            usual_daily: 0.0,
            busy: 0.0,
            threshold: 1.0,
            grain: Grain::default(),
        }
    }
}

/// A value in the light of the ranges.
struct Seen {
    fast: f64,
    slow: f64,
    /// S.
    evidence: f64,
    /// The score, were the threshold 1.
    score: f64,
}

impl Novelty {
    fn contexts(&self, start_ms: i64) -> (usize, usize) {
        let hour = (start_ms.rem_euclid(DAY_MS) * HOURS as i64 / DAY_MS) as usize;
        let width = self.all.high - self.all.low;
        let height = if width > 0.0 { (self.last - self.all.low) / width * HEIGHTS as f64 } else { 0.0 };
        (hour, (height as usize).min(HEIGHTS - 1))
    }

    /// A share of the way to a value, all of it for the first.
    fn rate(&self, least: f64) -> f64 {
        least.max(1.0 / (f64::from(self.seen) + 1.0))
    }

    fn look(&self, start_ms: i64, value: f64, is: &Comparison) -> Seen {
        let fast = self.fast + self.rate(0.03) * (value - self.fast);
        let slow = self.slow + self.rate(0.003) * (value - self.slow);
        let mut seen = Seen { fast, slow, evidence: 0.0, score: 0.0 };
        if self.seen < WARM_UP {
            return seen;
        }
        let (hour, height) = self.contexts(start_ms);
        let ranges = [self.hours[hour], self.heights[height]];
        let unexplained = if is.skill > 0.0 {
            let of_residual = is.residual.abs() - EXPLAINED * is.skill * is.usual;
            of_residual.max(is.slow.abs() - EXPLAINED * is.usual_slow).max(0.0)
        } else {
            f64::INFINITY
        };
        let beyond: f64 = std::iter::once(self.all)
            .chain(ranges.into_iter().filter(|range| range.values >= CONTEXT_LEAST))
            .map(|range| range.beyond(value).min(unexplained))
            .sum();
        let width = self.all.high - self.all.low;
        let width = if width > 0.0 { width } else { self.grain.least_sd(self.mean) };
        let against = |size: f64, usual: f64| if usual > 0.0 { 0.5 + (size / (1.5 * usual)).min(2.5) } else { 1.0 };
        let bare = BARE * (1.0 - is.skill);
        seen.evidence = beyond / width
            * against((fast - slow).abs(), self.usual_shift)
            * against(is.daily.abs(), self.usual_daily)
            * (bare + (1.0 - bare) * (is.excess / EXCESS_FULL).min(1.0));
        let r = seen.evidence / (1.0 + 0.1 * self.busy).sqrt() / UNIT;
        seen.score = 3.0 * if r < 1.0 { r * r * r * r } else { r };
        seen
    }
}

impl Detector for Novelty {
    fn kind(&self) -> DetectorKind {
        DetectorKind::Novelty
    }

    fn score(&self, observation: &Observation) -> f64 {
        match &observation.usual {
            Some(is) if !is_silent(observation, is) => {
                score_from(self.look(observation.start_ms, observation.value, is).score / self.threshold)
            }
            _ => 0.0,
        }
    }

    fn learn(&mut self, observation: &Observation) {
        let Observation { value, start_ms, usual: Some(is), .. } = observation else { return };
        let (value, start_ms) = (*value, *start_ms);
        if self.seen == 0 {
            (self.mean, self.fast, self.slow, self.last) = (value, value, value, value);
            self.all.take(value);
        }
        let seen = self.look(start_ms, value, is);
        if is_silent(observation, is) && seen.score >= self.threshold {
            self.threshold *= RAISE;
        }
        let (hour, height) = self.contexts(start_ms);
        self.busy = self.busy * BUSY_KEPT + (seen.evidence / 0.2).min(1.0);
        self.usual_shift += self.rate(0.0001) * ((seen.fast - seen.slow).abs() - self.usual_shift);
        self.usual_daily += self.rate(0.0001) * (is.daily.abs() - self.usual_daily);
        (self.fast, self.slow) = (seen.fast, seen.slow);
        for range in std::iter::once(&mut self.all).chain(&mut self.hours).chain(&mut self.heights) {
            range.relax(self.mean);
        }
        let reach = EXTEND_MAX * (self.all.high - self.all.low);
        let extends = self.seen >= WARM_UP && reach > 0.0;
        let clamped = if extends { value.clamp(self.all.low - reach, self.all.high + reach) } else { value };
        self.all.take(clamped);
        for around in [hour + HOURS - 1, hour, hour + 1] {
            self.hours[around % HOURS].take(clamped);
        }
        self.heights[height].take(clamped);
        self.mean += self.rate(0.0002) * (value - self.mean);
        self.last = value;
        self.grain = self.grain.with(value);
        self.seen = self.seen.saturating_add(1);
    }

    fn warming_up(&self) -> bool {
        self.seen < WARM_UP
    }
}

/// Whether it is the first day.
fn is_silent(observation: &Observation, is: &Comparison) -> bool {
    observation.start_ms - is.first_ms < DAY_MS
}

#[cfg(test)]
mod tests;
