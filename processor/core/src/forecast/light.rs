//! Forecasts of a series with windows of any length, in little time and room.
//!
//! On the series' scale, with `S` the profiles of the first and the second season (a day in at most 96 buckets, a week in 56), read by
//! linear interpolation between the middles of buckets, `h` windows ahead:
//!
//! | expert | forecast |
//! |---|---|
//! | seasonal, averages | `S(t+h) + A`, `A` the average of `z - S` at .4, and at .02 |
//! | last value, average | `z`, and its average at .1 |
//! | level | `S(t+h) + L`, `L` the level of four days |
//! | level, lately | `S(t+h) + L + e^(-h / 6 hours) (A - L)`, `A` the average of `z - S` at .1 |
//! | trend | `S(t+h) + 2 B - C + 6 hours (1 - e^(-h / 6 hours)) a / (1 - a) (B - C)` a window, `B` the average of `z - S` over an hour (`a`), `C` that of `B` |
//! | by the hour | the path of the forecast of slots ([`super::seasonal`]), between the middles of slots |
//! | by the hour, lately | that `+ e^(-h / 3 hours) D`, `D` the average at .3 of what it is off now |
//!
//! The last two are those of the full tier, from its second season on. Learning, with `r = z - S - L` clipped to two of its usual sizes
//! after the first season:
//! `L += r max(1/n, window / 4 days)`; the first profile's two buckets learn `r` by their shares at `max(.1, 1/(seasons + 1))` a pass,
//! the second's at .25. Outliers are treated as there: a value eight usual errors off is taken as eight, but for the last value; the
//! third in a row on one side is believed. A missing window changes nothing but the time.
//!
//! Cost: .5 us a window with three horizons, 1.1 us with 24. State: 2.0 kB and 2.5 kB. Warm-up: from the first value on, seasonal from the
//! second season on.

use serde::{Deserialize, Serialize};

use super::mixture::{Actual, Banded, Mixture, mix, part_of_day};
use super::scale::Scale;

const DAY_MS: f64 = 86_400_000.0;
const HOUR_MS: f64 = 3_600_000.0;
/// Most buckets of the first season, and those of the second.
const FIRST_BUCKETS: i64 = 96;
const SECOND_BUCKETS: usize = 56;
/// Experts without the hours', and with them, in the order of the table above.
pub(super) const OWN_EXPERTS: usize = 7;
pub(super) const EXPERTS: usize = 9;
const OWN: u16 = 0b111_1111;
const SEASONAL: u16 = 0b111_0011;
const HOURLY: u16 = 0b1_1000_0000;
/// What is left of a loss: with each window one window ahead, with each judged forecast further ahead.
const KEEP_NEXT: f32 = 0.985;
const KEEP_FAR: f32 = 0.99;
/// Rates of the averages of `z - S` and of `z`.
const AVERAGES: [f32; 3] = [0.4, 0.1, 0.02];
const PLAIN: f32 = 0.1;
/// How long the averages of the trend remember, their greatest rate, and how long it is felt ahead.
const TREND_MS: f64 = HOUR_MS;
const TREND_RATE_MAX: f32 = 0.3;
const TREND_AHEAD_MS: f64 = 6.0 * HOUR_MS;
/// Values that are held against those a season before until errors are told by theirs.
const NAIVES_MIN: u32 = 24;
/// How long the level remembers.
const LEVEL_MS: f64 = 4.0 * DAY_MS;
/// How long a remainder is felt ahead, of the level's and of the hours' forecast, and the average of the latter.
const LATELY_MS: f64 = 6.0 * HOUR_MS;
const HOURLY_LATELY_MS: f64 = 3.0 * HOUR_MS;
const HOURLY_RATE: f32 = 0.3;
/// Usual remainders that profiles and level learn, and that the usual one does.
const PROFILE_REACH: f32 = 2.0;
const SIZE_REACH: f32 = 6.0;
/// Usual errors by which a value may be off, values in a row beyond that are believed, and values before any of this.
const REACH: f32 = 8.0;
const BELIEVE_AFTER: u8 = 3;
const SETTLED: u32 = 50;
const ERROR_RATE: f32 = 1.0 / 200.0;

/// What is forecast of the means of slots, on the scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hourly<'a> {
    /// The last slot that is over, the one that is going on, and those after it.
    pub(super) path: &'a [f32],
    /// When the one that is going on began, in local time.
    pub(super) from_ms: i64,
    pub(super) slot_ms: i64,
}

impl Hourly<'_> {
    /// What is forecast of a time, linear between the middles of slots.
    fn at(&self, local_ms: i64) -> f32 {
        let at = ((local_ms - self.from_ms) as f64 / self.slot_ms as f64 + 0.5).max(0.0);
        let of = |at: usize| self.path[at.min(self.path.len() - 1)];
        let (first, share) = (at as usize, (at - at.floor()) as f32);
        of(first) * (1.0 - share) + of(first + 1) * share
    }
}

/// When a window is.
#[derive(Clone, Copy, Debug)]
pub(super) struct When {
    /// Number of the window, from the series' first on.
    pub(super) step: u32,
    /// Its start in local time, ms since 1970.
    pub(super) local_ms: i64,
    pub(super) step_ms: i64,
}

/// The forecaster of a series' windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Light<const N: usize> {
    /// Lengths of the seasons in ms, the shorter first; 0 for none.
    seasons: [i64; 2],
    seen: u32,
    first: Vec<f32>,
    second: Vec<f32>,
    level: f32,
    averages: [f32; 3],
    /// The average of `z - S` of the trend, and the average of that.
    trend: [f32; 2],
    plain: f32,
    last: f32,
    /// Usual size of the remainder, and usual error of the next window.
    size: f32,
    error: f32,
    streak: u8,
    least: f32,
    /// What the hours' forecast is off.
    off: f32,
    mixture: Mixture<N>,
    /// The last value in each 24th of the first season (infinite until there is one), and the mean absolute distance from it a season later.
    before: Vec<f32>,
    naive_error: f64,
    naives: u32,
}

/// The two buckets that a time lies between, and the share of the second.
struct Place {
    at: [usize; 2],
    share: f32,
}

impl Place {
    fn new(local_ms: i64, season_ms: i64, buckets: usize) -> Self {
        let at = local_ms.rem_euclid(season_ms) as f64 / season_ms as f64 * buckets as f64 - 0.5;
        let first = if at < 0.0 { buckets - 1 } else { at as usize };
        Self { at: [first, (first + 1) % buckets], share: (at - at.floor()) as f32 }
    }

    fn shares(&self) -> [f32; 2] {
        [1.0 - self.share, self.share]
    }

    fn read(&self, values: &[f32]) -> f32 {
        values[self.at[0]] * (1.0 - self.share) + values[self.at[1]] * self.share
    }

    fn nudge(&self, values: &mut [f32], by: f32) {
        for (at, share) in self.at.into_iter().zip(self.shares()) {
            values[at] += by * share;
        }
    }
}

fn trend_rate(step_ms: i64) -> f32 {
    ((step_ms as f64 / TREND_MS) as f32).min(TREND_RATE_MAX)
}

impl<const N: usize> Light<N> {
    /// Knows nothing. It compares experts at `horizons`, ascending from 1, in windows of `step_ms`.
    pub(super) fn new(seasons: &[i64], step_ms: i64, horizons: &[u32], levels: &[f64]) -> Self {
        let mut spans = seasons.iter().copied().chain([0, 0]);
        let seasons = [spans.next().unwrap_or(0), spans.next().unwrap_or(0)];
        let buckets = (seasons[0] / step_ms.max(1)).min(FIRST_BUCKETS) as usize;
        let seconds = if seasons[1] > 0 { SECOND_BUCKETS.min((seasons[1] / step_ms) as usize) } else { 0 };
        let horizons = horizons.iter().map(|&steps| (steps, if steps > 1 { KEEP_FAR } else { KEEP_NEXT }));
        Self {
            seasons,
            seen: 0,
            first: vec![0.0; buckets],
            second: vec![0.0; seconds],
            level: 0.0,
            averages: [0.0; 3],
            trend: [0.0; 2],
            plain: 0.0,
            last: 0.0,
            size: 0.0,
            error: 0.0,
            streak: 0,
            least: 0.0,
            off: 0.0,
            mixture: Mixture::new(horizons, levels),
            before: Vec::new(),
            naive_error: 0.0,
            naives: 0,
        }
    }

    /// How good forecasts so many windows ahead have been.
    pub(super) fn accuracy(&self, steps: u32) -> Option<super::Accuracy> {
        self.mixture.accuracy(steps, if self.naives < NAIVES_MIN { 0.0 } else { self.naive_error })
    }

    /// How many first seasons have gone by since the first window, as a number of windows goes.
    fn seasons_seen(&self, step: u32, step_ms: i64) -> f64 {
        if self.seasons[0] == 0 { 0.0 } else { f64::from(step) * step_ms as f64 / self.seasons[0] as f64 }
    }

    fn has_second(&self, step: u32, step_ms: i64) -> bool {
        self.seasons[1] > 0 && i64::from(step) * step_ms >= self.seasons[1]
    }

    /// What the season says of a time.
    fn season(&self, local_ms: i64, has_second: bool) -> f32 {
        let of = |season_ms: i64, values: &[f32]| {
            if values.is_empty() { 0.0 } else { Place::new(local_ms, season_ms, values.len()).read(values) }
        };
        of(self.seasons[0], &self.first) + if has_second { of(self.seasons[1], &self.second) } else { 0.0 }
    }

    fn experts(&self, steps: u32, when: When, has_second: bool, hourly: Option<&Hourly<'_>>) -> [f32; N] {
        let ahead_ms = i64::from(steps) * when.step_ms;
        let season = self.season(when.local_ms + ahead_ms, has_second);
        let [quick, lately, slow] = self.averages;
        let fade = |length_ms: f64| libm::exp(-(ahead_ms as f64) / length_ms) as f32;
        let base = season + self.level;
        let by_hour = hourly.map_or(base, |hourly| hourly.at(when.local_ms + ahead_ms));
        let off = if hourly.is_some() { fade(HOURLY_LATELY_MS) * self.off } else { 0.0 };
        let all = [
            season + quick,
            season + slow,
            self.last,
            self.plain,
            base,
            base + fade(LATELY_MS) * (lately - self.level),
            season + self.trend_ahead(ahead_ms, when.step_ms),
            by_hour,
            by_hour + off,
        ];
        std::array::from_fn(|expert| all[expert])
    }

    /// Brown's double exponential smoothing with a slope that fades.
    fn trend_ahead(&self, ahead_ms: i64, step_ms: i64) -> f32 {
        let [once, twice] = self.trend;
        let rate = trend_rate(step_ms);
        let slope = rate / (1.0 - rate) * (once - twice);
        let windows = TREND_AHEAD_MS / step_ms as f64 * (1.0 - libm::exp(-(ahead_ms as f64) / TREND_AHEAD_MS));
        2.0 * once - twice + slope * windows as f32
    }

    fn least_loss(&self) -> f32 {
        1e-6 * self.size + 1e-12
    }

    /// The forecasts `steps` windows after the last one with a value, which was at `when`.
    pub(super) fn path(&self, steps: &[u32], when: When, hourly: Option<&Hourly<'_>>) -> Vec<Banded> {
        if self.seen == 0 {
            return Vec::new();
        }
        let has_second = self.has_second(when.step + 1, when.step_ms);
        let banded = |&steps: &u32| {
            let forecasts = self.experts(steps, when, has_second, hourly);
            let mean = mix(&self.mixture.weights(steps, self.least_loss()), &forecasts);
            let part = part_of_day(when.local_ms + i64::from(steps) * when.step_ms);
            self.mixture.banded(mean, steps, part)
        };
        steps.iter().map(banded).collect()
    }

    /// The forecast of the window after `step` as it was issued then; `None` if nothing was.
    pub(super) fn issued(&self, step: u32) -> Option<Banded> {
        self.mixture.issued(step).filter(|_| self.seen > 0)
    }

    /// Takes in a window's value. `expected` is what was forecast of it.
    pub(super) fn learn(
        &mut self,
        when: When,
        value: f64,
        expected: Option<f32>,
        hourly: Option<&Hourly<'_>>,
        levels: &[f64],
        scale: Scale,
    ) {
        let came = scale.z(value);
        let z = expected.map_or(came, |expected| self.clean(came, expected));
        let here = part_of_day(when.local_ms);
        self.mixture.judge(&Actual { step: when.step, z: came, value, part: here }, levels, scale);
        if let Some(expected) = expected.filter(|_| self.seen > 4 * SETTLED) {
            self.mixture.learn_part(here, came - expected, self.error, (when.step_ms as f64 / HOUR_MS) as f32);
        }
        self.learn_naive(when, value, came, scale);
        self.absorb(when, z, came);
        if let Some(hourly) = hourly {
            self.off += HOURLY_RATE * (z - hourly.at(when.local_ms) - self.off);
        }
        self.seen = self.seen.saturating_add(1);
        let is_seasonal = self.seasons_seen(when.step + 1, when.step_ms) >= 1.0 || self.seasons[0] == 0;
        let hours = if hourly.is_some() { HOURLY } else { 0 };
        let ready = if is_seasonal { OWN | hours } else { OWN & !SEASONAL };
        self.mixture.join(ready);
        let has_second = self.has_second(when.step + 1, when.step_ms);
        let least = self.least_loss();
        for at in 0..self.mixture.horizons() {
            if let Some(steps) = self.mixture.due(at, when.step) {
                let forecasts = self.experts(steps, when, has_second, hourly);
                let there = part_of_day(when.local_ms + i64::from(steps) * when.step_ms);
                self.mixture.issue(at, when.step, &forecasts, there, least);
            }
        }
    }

    fn clean(&mut self, came: f32, expected: f32) -> f32 {
        let error = came - expected;
        let is_known = self.seen > SETTLED;
        let reach = REACH * self.error;
        let mut z = came;
        if is_known && self.error > 0.0 && error.abs() > reach {
            let is_same_side = self.streak > 0 && (self.least > 0.0) == (error > 0.0);
            (self.streak, self.least) = match is_same_side {
                true if error.abs() < self.least.abs() => (self.streak + 1, error),
                true => (self.streak.saturating_add(1), self.least),
                false => (1, error),
            };
            if self.streak < BELIEVE_AFTER {
                z = expected + error.clamp(-reach, reach);
            } else if self.streak == BELIEVE_AFTER {
                self.averages.iter_mut().chain(&mut self.trend).for_each(|average| *average += self.least);
                self.plain += self.least;
            }
        } else {
            self.streak = 0;
        }
        let floor = 1e-6 * self.size + 1e-12;
        let learnt = if is_known { error.abs().min(1.5 * reach + floor) } else { error.abs() };
        self.error += (learnt - self.error) * ERROR_RATE.max(1.0 / self.seen.max(1) as f32);
        z
    }

    /// How far the value is from the one a season before, of the first window in each 24th of it.
    fn learn_naive(&mut self, when: When, value: f64, z: f32, scale: Scale) {
        const SLOTS: usize = 24;
        let season_ms = self.seasons[0];
        let slot_of = |local_ms: i64| {
            if season_ms == 0 { 0 } else { (local_ms.rem_euclid(season_ms) * SLOTS as i64 / season_ms) as usize }
        };
        let slot = slot_of(when.local_ms);
        if season_ms > 0 && slot == slot_of(when.local_ms - when.step_ms) {
            return;
        }
        if self.before.is_empty() {
            self.before = vec![f32::INFINITY; if self.seasons[0] == 0 { 1 } else { SLOTS }];
        }
        let before = std::mem::replace(&mut self.before[slot], z);
        let is_season_ago = self.seasons[0] == 0 || self.seasons_seen(when.step, when.step_ms) >= 1.0;
        if before.is_finite() && is_season_ago {
            self.naives = self.naives.saturating_add(1);
            let rate = 1.0 / f64::from(self.naives.min(1_000));
            self.naive_error += rate * ((value - scale.value(before)).abs() - self.naive_error);
        }
    }

    fn absorb(&mut self, when: When, z: f32, came: f32) {
        let When { step, local_ms, step_ms } = when;
        let young = 1.0 / (self.seen as f32 + 1.0);
        let seasons = self.seasons_seen(step, step_ms);
        let season = self.season(local_ms, self.has_second(step, step_ms));
        let remainder = z - self.level - season;
        let is_clipped = self.seasons[0] > 0 && seasons > 1.0 || self.seasons[0] == 0 && self.seen > SETTLED;
        let reach = if is_clipped { PROFILE_REACH * self.size } else { f32::INFINITY };
        let learnt = remainder.clamp(-reach, reach);
        let most = if is_clipped { SIZE_REACH * self.size + 1e-9 } else { f32::INFINITY };
        let size_rate = young.max((0.5 * step_ms as f64 / DAY_MS).min(0.02) as f32);
        self.size += (remainder.abs().min(most) - self.size) * size_rate;
        self.level += learnt * young.max((step_ms as f64 / LEVEL_MS) as f32);
        if !self.first.is_empty() {
            let place = Place::new(local_ms, self.seasons[0], self.first.len());
            let windows = (self.seasons[0] as f64 / step_ms as f64 / self.first.len() as f64).max(1.0);
            let gain = (0.1f64.max(1.0 / (seasons.floor() + 1.0)) / windows).min(1.0) as f32;
            let [a, b] = place.shares();
            place.nudge(&mut self.first, gain * learnt / (a * a + b * b).max(0.5));
        }
        if !self.second.is_empty() && seasons >= 1.0 {
            let windows = (self.seasons[1] as f64 / step_ms as f64 / self.second.len() as f64).max(1.0);
            let place = Place::new(local_ms, self.seasons[1], self.second.len());
            place.nudge(&mut self.second, (0.25 / windows) as f32 * learnt);
        }
        let season = self.season(local_ms, self.has_second(step, step_ms));
        for (average, rate) in self.averages.iter_mut().zip(AVERAGES) {
            *average += young.max(rate) * (z - season - *average);
        }
        let [once, twice] = &mut self.trend;
        let rate = young.max(trend_rate(step_ms));
        *once += rate * (z - season - *once);
        *twice += rate * (*once - *twice);
        self.plain += young.max(PLAIN) * (z - self.plain);
        // The last value is the last value: after a spike it is the first to be right again.
        self.last = came;
    }
}
