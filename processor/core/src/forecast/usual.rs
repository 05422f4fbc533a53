//! What is usual of a series at a time of day and of week, and how unusual it is that a value differs from it.
//!
//! Of a window with the value `y` (each line by what was known before; `ew(r)` follows a value at the rate `max(r, 1/(n+1))`, `n` the
//! values so far):
//!
//! ```text
//!   base      profile of the day, in at most 288 slots; ew(.05) of y while the slot has not been seen
//!   week      profile of the week, in 56 slots of three hours, linear between them; counts from the eighth day on
//!   daily     = y - base - week
//!   residual  = daily - level, or y less the last value while the slot, or none at all, has not been seen
//!   slow      = y - base - week profile - slow level (four days)
//!   excess    = max(0, (|residual| - m) / sqrt(v)), m and v the mean and variance, ew(.0001), of |residual|
//! ```
//!
//! Mean and variance of `excess` are deliberately not robust: what is far out in a heavy tail makes the next one less unusual, so that
//! excesses compare between series of light and heavy tails.
//!
//! Learning: the level follows `daily` at .15, by four usual residuals at most, so that a spike leaves no echo; the third value in a row
//! that is twice as far away on one side is believed, and the level jumps. The profiles and the slow level learn `slow`, by
//! two of its usual sizes at most, so that a fault leaves no echo a day later; at the rate `max(.1, 1/visits)` by day, .25 a pass by week.
//!
//! `skill` says whether the profile explains the series: how much smaller residuals are than the distance from a moving average, 0 (not
//! at all) to 1 (by 30 % or more).
//!
//! Cost: about 60 ns a value to compare and to learn. Memory: 2.6 kB with windows of five minutes and below, 1 kB with an hour. Warm-up:
//! `excess` is 0 for the first 100 values, or for the first twelve where there are others to borrow from. A missing window changes nothing
//! but the time. A constant has no excess until it changes, and then in units of its grain.
//!
//! Source: the daily profile with a level is additive exponential smoothing (P. R. Winters, Management Science 6, 1960) with clipped
//! errors (S. Gelper, R. Fried, C. Croux, J. Forecasting 29, 2010); the constants were chosen on half of the Numenta Anomaly Benchmark
//! and on generated series, and judged on the others.

use serde::{Deserialize, Serialize};

use super::Expectation;
use crate::detect::Grain;

const DAY_MS: i64 = 86_400_000;
const WEEK_MS: i64 = 7 * DAY_MS;
/// Most slots of a day.
const DAY_SLOTS_MAX: i64 = 288;
/// Slots of a week, and how long each is.
const WEEK_SLOTS: usize = 56;
const WEEK_SLOT_MS: i64 = WEEK_MS / WEEK_SLOTS as i64;
/// Values before anything is unusual.
pub(crate) const WARM_UP: u32 = 100;
/// Values after which a series that is new borrows from others.
const BORROW_AT: u32 = 12;
/// Values before errors are clipped.
const CLIP_FROM: u32 = 30;
/// Usual residuals by which the level follows one value, in which a residual is learnt, and a slow one, at most.
const LEVEL_REACH: f64 = 4.0;
const RESIDUAL_REACH: f64 = 6.0;
const SLOW_REACH: f64 = 4.0;
/// Values in a row, at more than twice the level's reach on one side, that are believed.
const BELIEVE_AFTER: u8 = 3;
/// Usual sizes of the slow residual that the profiles and the slow level learn at most.
const PROFILE_REACH: f64 = 2.0;
/// Standard deviation of a Gaussian value, in its mean sizes.
pub(crate) const SD_PER_SIZE: f64 = 1.253_314_137_315_500_3;
/// How long the slow level remembers.
const SLOW_MS: f64 = 4.0 * DAY_MS as f64;
/// How much smaller residuals are than distances from the moving average where the profile explains all that it can.
const SKILL_FULL: f64 = 0.3;

/// A mean and a variance of magnitudes, and how far one is beyond them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Excess {
    mean: f64,
    variance: f64,
}

impl Excess {
    /// Standard deviations beyond the mean, at least 0; the deviation is at least `least`.
    pub(crate) fn of(&self, magnitude: f64, least: f64) -> f64 {
        let sd = (self.variance.sqrt() + 1e-9 * self.mean).max(least);
        if sd > 0.0 { ((magnitude - self.mean) / sd).max(0.0) } else { 0.0 }
    }

    /// A magnitude that is so many deviations beyond the mean.
    pub(crate) fn at(&self, deviations: f64) -> f64 {
        self.mean + deviations * self.variance.sqrt()
    }

    /// Follows a magnitude at a rate (D. H. D. West, CACM 22(9), 1979, with exponential weights).
    pub(crate) fn learn(&mut self, magnitude: f64, rate: f64) {
        let delta = magnitude - self.mean;
        self.mean += rate * delta;
        self.variance = (1.0 - rate) * (self.variance + rate * delta * delta);
    }
}

/// How far values usually are from what is usual at their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stray {
    /// In units of the series.
    pub(crate) usual: f64,
    /// Mean and standard deviation of the distance, in usual ones.
    pub(crate) mean: f64,
    pub(crate) sd: f64,
}

/// A value held against what is usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// What was to be expected, in units of the series.
    pub expected: f64,
    /// The value less the profile.
    pub daily: f64,
    /// The value less profile and level.
    pub residual: f64,
    /// The value less profile and slow level.
    pub slow: f64,
    /// The profile, less its mean over the day.
    pub season: f64,
    /// How far the residual's size is beyond what is usual, in its standard deviations; 0 while warming up.
    pub excess: f64,
    /// The residual's usual size.
    pub usual: f64,
    /// The slow residual's usual size.
    pub usual_slow: f64,
    /// The least deviation that is of interest, by the grain of the series.
    pub least: f64,
    /// How well the profile explains the series, 0 to 1.
    pub skill: f64,
    /// Values so far.
    pub seen: u32,
    /// Whether so much is known that a value can be unusual.
    pub is_warm: bool,
    /// Start of the first window, in ms since 1970.
    pub first_ms: i64,
}

impl Comparison {
    /// What was expected, with the band that holds 95 % of Gaussian residuals; `None` while warming up.
    #[must_use]
    pub fn expectation(&self) -> Option<Expectation> {
        self.around(self.expected, self.usual)
    }

    /// The same by the slow level: where the series has been for days.
    pub(crate) fn expectation_of_days(&self) -> Option<Expectation> {
        self.around(self.expected + self.residual - self.slow, self.usual_slow)
    }

    fn around(&self, mean: f64, usual: f64) -> Option<Expectation> {
        let sd = SD_PER_SIZE * usual;
        let reach = 1.96 * sd;
        self.is_warm.then_some(Expectation { mean, lower: mean - reach, upper: mean + reach, sd })
    }
}

/// What is usual of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usual {
    first_ms: i64,
    seen: u32,
    has_borrowed: bool,
    day: Vec<f64>,
    visits: Vec<u8>,
    /// Over the slots that have been seen.
    day_sum: f64,
    slots_seen: u16,
    week: Vec<f64>,
    last: f64,
    /// Moving averages of the values, at .05 and .15.
    near: f64,
    plain: f64,
    level: f64,
    /// Whether it is a level over the profile: from the first value on whose slot had been seen.
    has_level: bool,
    slow_level: f64,
    /// Usual sizes of the residual and of the slow one.
    usual: f64,
    usual_slow: f64,
    excess: Excess,
    /// Usual sizes of the residual and of the distance from `plain`, over a few hundred values.
    error: f64,
    error_plain: f64,
    /// Far values in a row on one side, and the nearest of them.
    far: u8,
    nearest: f64,
    grain: Grain,
}

/// Where a time is in the profiles.
struct Place {
    slot: usize,
    week: [usize; 2],
    /// Share of the second slot of the week.
    share: f64,
}

impl Usual {
    /// Of a series of which nothing is known, with a window each `step_ms`.
    #[must_use]
    pub fn new(step_ms: i64) -> Self {
        let slots = (DAY_MS / step_ms.max(1)).clamp(1, DAY_SLOTS_MAX) as usize;
        Self {
            first_ms: 0,
            seen: 0,
            has_borrowed: false,
            day: vec![0.0; slots],
            visits: vec![0; slots],
            day_sum: 0.0,
            slots_seen: 0,
            week: vec![0.0; WEEK_SLOTS],
            last: 0.0,
            near: 0.0,
            plain: 0.0,
            level: 0.0,
            has_level: false,
            slow_level: 0.0,
            usual: 0.0,
            usual_slow: 0.0,
            excess: Excess::default(),
            error: 0.0,
            error_plain: 0.0,
            far: 0,
            nearest: 0.0,
            grain: Grain::default(),
        }
    }

    fn place(&self, start_ms: i64) -> Place {
        let slot = (start_ms.rem_euclid(DAY_MS) * self.day.len() as i64 / DAY_MS) as usize;
        // Between the middles of two slots.
        let at = (start_ms - WEEK_SLOT_MS / 2).rem_euclid(WEEK_MS);
        let first = (at / WEEK_SLOT_MS) as usize;
        let share = (at % WEEK_SLOT_MS) as f64 / WEEK_SLOT_MS as f64;
        Place { slot, week: [first, (first + 1) % WEEK_SLOTS], share }
    }

    fn week_at(&self, place: &Place) -> f64 {
        self.week[place.week[0]] * (1.0 - place.share) + self.week[place.week[1]] * place.share
    }

    /// Holds the value of the window that starts at `start_ms` against what is usual then; nothing is learnt.
    #[must_use]
    pub fn compare(&self, start_ms: i64, value: f64) -> Comparison {
        let place = self.place(start_ms);
        let (near, last) = if self.seen == 0 { (value, value) } else { (self.near, self.last) };
        let is_known = self.visits[place.slot] > 0;
        let base = if is_known { self.day[place.slot] } else { near };
        let week = self.week_at(&place);
        let counts = self.seen > 0 && start_ms - self.first_ms >= WEEK_MS;
        let daily = value - base - if counts { week } else { 0.0 };
        let residual = if is_known && self.has_level { daily - self.level } else { value - last };
        let least = self.grain.least_sd(near);
        let least_excess = if self.excess.at(1.0) == 0.0 { least } else { 0.0 };
        let gain = 1.0 - self.error / self.error_plain.max(f64::MIN_POSITIVE);
        Comparison {
            expected: value - residual,
            daily,
            residual,
            slow: value - base - week - self.slow_level,
            season: if is_known { base + week - self.day_sum / f64::from(self.slots_seen.max(1)) } else { 0.0 },
            excess: if self.is_warm() { self.excess.of(residual.abs(), least_excess) } else { 0.0 },
            usual: self.usual,
            usual_slow: self.usual_slow,
            least,
            skill: (gain / SKILL_FULL).clamp(0.0, 1.0),
            seen: self.seen,
            is_warm: self.is_warm(),
            first_ms: if self.seen == 0 { start_ms } else { self.first_ms },
        }
    }

    /// Whether so much is known that a value can be unusual.
    pub(crate) const fn is_warm(&self) -> bool {
        self.has_borrowed || self.seen >= WARM_UP
    }

    /// Values so far.
    pub(crate) const fn seen(&self) -> u32 {
        self.seen
    }

    /// Where values have been lately.
    pub(crate) const fn near(&self) -> f64 {
        self.near
    }

    /// How far values stray, where enough of them have been seen to say so.
    pub(crate) fn stray(&self) -> Option<Stray> {
        let unit = self.usual;
        let is_known = self.seen >= WARM_UP && unit > 0.0;
        // One wild value of one series is not how those of others stray.
        let in_units = |size: f64| (size / unit).min(RESIDUAL_REACH);
        let (mean, sd) = (in_units(self.excess.mean), in_units(self.excess.variance.sqrt()));
        is_known.then_some(Stray { usual: unit, mean, sd })
    }

    /// Whether it is time to borrow how far values stray.
    pub(crate) const fn may_borrow(&self) -> bool {
        self.seen == BORROW_AT && !self.has_borrowed
    }

    /// Takes on how far the values of others stray, or its own do if that is further.
    pub(crate) fn borrow(&mut self, stray: Stray) {
        let unit = stray.usual.max(self.usual);
        self.has_borrowed = true;
        (self.usual, self.usual_slow) = (unit, self.usual_slow.max(unit));
        self.excess = Excess { mean: stray.mean * unit, variance: (stray.sd * unit) * (stray.sd * unit) };
    }

    /// Learns the value of the window that starts at `start_ms`, one each `step_ms`.
    pub fn learn(&mut self, start_ms: i64, step_ms: i64, value: f64) {
        if self.seen == 0 {
            (self.first_ms, self.last, self.near, self.plain) = (start_ms, value, value, value);
        }
        let is = self.compare(start_ms, value);
        let place = self.place(start_ms);
        let is_known = self.visits[place.slot] > 0;
        let young = 1.0 / (f64::from(self.seen) + 1.0);
        let clips = self.seen > CLIP_FROM || self.has_borrowed;
        let size = is.residual.abs();
        self.excess.learn(size, young.max(0.0001));
        let reach = if clips && self.usual > 0.0 { RESIDUAL_REACH * self.usual } else { f64::INFINITY };
        self.usual += young.max(0.02) * (size.min(reach) - self.usual);
        self.error += young.max(0.003) * (size - self.error);
        self.error_plain += young.max(0.003) * ((value - self.plain).abs() - self.error_plain);
        self.plain += 0.15 * (value - self.plain);
        if is_known && !self.has_level {
            (self.level, self.has_level) = (is.daily, true);
        } else if clips && is_known {
            self.follow(is.daily - self.level);
        } else {
            self.level += 0.15 * (is.daily - self.level);
        }
        if clips {
            let reach = PROFILE_REACH * self.usual_slow;
            let slow = is.slow.clamp(-reach, reach);
            self.slow_level += slow * young.max(step_ms as f64 / SLOW_MS);
            if start_ms - self.first_ms >= DAY_MS {
                let gain = 0.25 / (WEEK_SLOT_MS as f64 / step_ms as f64).max(1.0);
                self.week[place.week[0]] += gain * slow * (1.0 - place.share);
                self.week[place.week[1]] += gain * slow * place.share;
            }
        }
        self.learn_day(&place, &is, value, clips);
        let reach = if clips && self.usual_slow > 0.0 { SLOW_REACH * self.usual_slow } else { f64::INFINITY };
        self.usual_slow += young.max(0.003) * (is.slow.abs().min(reach) - self.usual_slow);
        self.near += 0.05 * (value - self.near);
        self.last = value;
        self.grain = self.grain.with(value);
        self.seen = self.seen.saturating_add(1);
    }

    /// Lets the level follow an error.
    fn follow(&mut self, error: f64) {
        let reach = LEVEL_REACH * self.usual;
        self.level += 0.15 * error.clamp(-reach, reach);
        if error.abs() <= 2.0 * reach {
            self.far = 0;
            return;
        }
        let is_one_more = self.far > 0 && (error > 0.0) == (self.nearest > 0.0);
        self.far = if is_one_more { self.far + 1 } else { 1 };
        if !is_one_more || error.abs() < self.nearest.abs() {
            self.nearest = error;
        }
        if self.far >= BELIEVE_AFTER {
            self.level += self.nearest;
            self.far = 0;
        }
    }

    fn learn_day(&mut self, place: &Place, is: &Comparison, value: f64, clips: bool) {
        let (slot, visits) = (&mut self.day[place.slot], &mut self.visits[place.slot]);
        *visits = visits.saturating_add(1);
        if *visits == 1 {
            *slot = value;
            self.day_sum += value;
            self.slots_seen += 1;
            return;
        }
        let reach = PROFILE_REACH * self.usual_slow;
        let error = if clips { is.slow.clamp(-reach, reach) } else { is.daily };
        let change = f64::max(0.1, 1.0 / f64::from(*visits)) * error;
        *slot += change;
        self.day_sum += change;
    }
}

#[cfg(test)]
mod tests;
