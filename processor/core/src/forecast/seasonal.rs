//! Forecasts of a series with a season, slot by slot: nine experts that each know it in another way.
//!
//! A slot is a 24th of the (first) season or a window, whichever is longer; `d` slots are that season and `l` the longest one (a day and a
//! week of hours: 24 and 168). On the series' scale, with `z` the values cleaned and `h >= 1` slots ahead:
//!
//! | expert | forecast | learning |
//! |---|---|---|
//! | seasonal naive, slow | `z[t+h-d] + .97^h b` | `b += .3 (z - z[t-d] - b)` |
//! | seasonal naive, fast | `z[t+h-d] + .9^h b` | `b = z - z[t-d]` |
//! | seasonal naive, long | `z[t+h-l] + .6^h b` | `b = z - z[t-l]` |
//! | analogs, far and near | `sum w_k (z[t+h-kd] + m_k)` over the last 21 seasons | none: `w ~ 1/distance^p` |
//! | autoregression | lags 1..3, d-1..d+2, 2d, 2d+1, l-1..l+1 | forgetting .99, from .5 on `d` and `l` |
//! | autoregression, short | lags 1, 2, d, d+1 | forgetting .998, from .7 on 1 and .3 on `d` |
//! | profile | `S[t+h] + L + .9^h (r - L)`, `r = z - S[t]` | `S += .15 (r - L)`, `L += .005 (r - L)` |
//! | profile, autoregression | `S[t+h] +` the path of `r - L`, lags 1..3, d-1..d+1 | forgetting .999, from .8 on 1, .1 on `d` |
//!
//! Until a season is known, the first two are the last value and its average at .3. An analog is a past season whose last `d` slots looked
//! like those now: with the weights `u_i ~ e^(-a i)` of slots back (`a = .05` and `p = 8` far, `.5` and `4` near, for 24 slots),
//! `m_k = sum u_i (z[t-i] - z[t-kd-i])`, `distance_k = sum u_i |z[t-i] - z[t-kd-i] - m_k|`. Forecasts are made and mixed as in
//! [`super::mixture`]; `L_i` keeps .985 a slot up to three slots ahead and .997 beyond.
//!
//! Cleaning, before experts learn (losses and bands see what came): a value more than eight usual errors off is taken as eight; the third
//! in a row on one side is believed, and levels jump by the least of them. A missing value is taken as what was forecast, and neither
//! losses nor bands learn.
//!
//! Cost: 2.5 us a slot that compares its experts up to 24 hours ahead. State: 7 kB with a day and a week of hours. Warm-up: the last value
//! from the first on, seasonal from the second season on, all experts after the longest one and a season.
//!
//! Sources: seasonal naive with a decaying bias and double seasons: J. W. Taylor, J. Oper. Res. Soc. 54, 2003; analogs: E. N. Lorenz,
//! "Atmospheric Predictability as Revealed by Naturally Occurring Analogues", J. Atmos. Sci. 26, 1969; profile and remainder: the
//! online cousin of STL (R. B. Cleveland et al., J. Official Statistics 6, 1990) with an autoregression. What each is worth was measured
//! on the even series of the M4 competition's hourly set and on public hourly series; Holt-Winters with two seasons and weekly naives
//! of a slower bias added nothing to these.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::autoregression::{Autoregression, Lags, Path, Recent, dot, regressors, sum};
use super::mixture::{Actual, Banded, Mixture, mix, stride};
use super::scale::Scale;

/// Experts, in the order of the table above.
pub(super) const EXPERTS: usize = 9;
const NAIVE_LONG: usize = 2;
const ANALOG: usize = 3;
const AUTOREGRESSION: usize = 5;
const SHORT: usize = 6;
const PROFILE: usize = 7;
const PROFILE_PATH: usize = 8;

/// Seasons that analogs are looked for in.
const ANALOGS: usize = 21;
/// How fast slots back fade in an analog, for 24 of them, and the power of its distance, far and near.
const FADE: [f32; 2] = [0.05, 0.5];
const POWER: [i32; 2] = [8, 4];
/// What is left of a loss after a slot, up to `NEXT` slots ahead and beyond.
const KEEP_NEXT: f32 = 0.985;
const KEEP_FAR: f32 = 0.997;
const NEXT: u32 = 3;
/// Usual errors by which a value may be off, and values in a row beyond that are believed.
const REACH: f32 = 8.0;
const BELIEVE_AFTER: u8 = 3;
/// Rates of the usual error of the next slot, of the profile and its level, and of the average until a season is known.
const ERROR_RATE: f32 = 0.01;
const PROFILE_RATE: f32 = 0.15;
const LEVEL_RATE: f32 = 0.005;
const AVERAGE_RATE: f32 = 0.3;
/// Share of its remainder that the profile's forecast keeps with each slot.
const REMAINDER_KEPT: f32 = 0.9;
/// A path may leave the range that was seen by this share of it.
const RANGE_LEFT: f32 = 0.3;

/// Slots of the first season, at most.
pub(super) const DAY_MAX: usize = 32;

/// The lengths of seasons, in slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lengths {
    /// The first season: 2 or more.
    pub(super) day: u32,
    /// The longest one: that, or another.
    pub(super) long: u32,
}

/// Values in a row that are off on one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Streak {
    length: u8,
    /// The error of the least magnitude, with its sign.
    least: f32,
}

/// The forecaster of a series' slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Seasonal {
    lengths: Lengths,
    /// Slots so far, with the missing ones.
    seen: u32,
    values: Recent,
    /// The last two values as they came.
    raw: [f32; 2],
    average: f32,
    /// Rolling mean and size of the values.
    mean: f32,
    size: f32,
    least: f32,
    most: f32,
    /// Usual error of the next slot.
    error: f32,
    streak: Streak,
    bias: f32,
    autoregression: Autoregression<16>,
    short: Autoregression<8>,
    /// From the first `long` slots on, by slot of the longest season.
    profile: Vec<f32>,
    level: f32,
    remainders: Recent,
    remainder_path: Autoregression<8>,
    mixture: Mixture<EXPERTS>,
    /// Mean absolute difference from the value a season before, in units of the series.
    naive_error: f64,
}

/// What experts forecast so many slots ahead, expert by expert.
struct Paths {
    steps: usize,
    values: Vec<f32>,
    ready: u16,
}

impl Paths {
    fn new(steps: usize) -> Self {
        Self { steps, values: vec![0.0; EXPERTS * steps], ready: 0 }
    }

    /// The path of an expert that is ready.
    fn of(&mut self, expert: usize) -> &mut [f32] {
        self.ready |= 1 << expert;
        &mut self.values[expert * self.steps..(expert + 1) * self.steps]
    }

    fn at(&self, steps: u32) -> [f32; EXPERTS] {
        std::array::from_fn(|expert| self.values[expert * self.steps + steps as usize - 1])
    }
}

impl Seasonal {
    /// Knows nothing. It compares experts at `horizons`, ascending from 1.
    pub(super) fn new(lengths: Lengths, horizons: &[u32], levels: &[f64]) -> Self {
        let (day, long) = (lengths.day as usize, lengths.long as usize);
        let keep = (ANALOGS * day + day).max(long + 3).max(2 * day + 2);
        let left = |steps: u32| if steps > NEXT { KEEP_FAR } else { KEEP_NEXT };
        let horizons = horizons.iter().map(|&steps| (steps, left(steps).powi(stride(steps) as i32)));
        Self {
            lengths,
            seen: 0,
            values: Recent::new(keep),
            raw: [0.0; 2],
            average: 0.0,
            mean: 0.0,
            size: 0.0,
            least: f32::INFINITY,
            most: f32::NEG_INFINITY,
            error: 0.0,
            streak: Streak::default(),
            bias: 0.0,
            autoregression: Autoregression::new(&prior(&lags(lengths), &[(day, 0.5), (long, 0.5)]), 1.0),
            short: Autoregression::new(&prior(&short_lags(day), &[(1, 0.7), (day, 0.3)]), 0.1),
            profile: Vec::new(),
            level: 0.0,
            remainders: Recent::new(day + 2),
            remainder_path: Autoregression::new(&prior(&remainder_lags(day), &[(1, 0.8), (day, 0.1)]), 0.2),
            mixture: Mixture::new(horizons, levels),
            naive_error: 0.0,
        }
    }

    /// Whether the first season is known.
    pub(super) const fn is_seasonal(&self) -> bool {
        self.seen > self.lengths.day
    }

    /// The last value, as experts learnt it.
    pub(super) fn last(&self) -> f32 {
        self.values.values.last().copied().unwrap_or_default()
    }

    /// How good forecasts so many slots ahead have been.
    pub(super) fn accuracy(&self, steps: u32) -> Option<super::Accuracy> {
        // Of fewer than a season of them nothing is known.
        let naive_error = if self.values.len() < 2 * self.lengths.day as usize { 0.0 } else { self.naive_error };
        self.mixture.accuracy(steps, naive_error)
    }

    /// The forecast of the next slot as it was issued; `None` before the first value.
    pub(super) fn next(&self) -> Option<Banded> {
        self.mixture.issued(self.seen.checked_sub(1)?)
    }

    /// The forecasts `steps` slots ahead (1 is the next one); `part` gives the part of the day that so many slots ahead is in, and `slot`
    /// is the number of the next one.
    pub(super) fn path(&self, steps: &[u32], slot: i64, part: impl Fn(u32) -> usize) -> Vec<Banded> {
        let Some(&last) = steps.iter().max().filter(|_| self.seen > 0) else { return Vec::new() };
        let mut paths = Paths::new(last as usize);
        self.fill(&mut paths, slot);
        let banded = |&steps: &u32| {
            let mean = mix(&self.mixture.weights(steps, self.least_loss()), &paths.at(steps));
            self.mixture.banded(mean, steps, part(steps))
        };
        steps.iter().map(banded).collect()
    }

    /// A loss that does not matter.
    fn least_loss(&self) -> f32 {
        1e-6 * self.unit()
    }

    /// The usual distance from the mean, more than 0.
    fn unit(&self) -> f32 {
        self.size + 1e-9 * self.mean.abs() + 1e-12
    }

    /// Takes in what came in the slot with this number, the one after the last; `None` if nothing did.
    pub(super) fn learn(
        &mut self,
        slot: i64,
        value: Option<f64>,
        hours: f32,
        part: impl Fn(u32) -> usize,
        levels: &[f64],
        scale: Scale,
    ) {
        let expected = self.next().map(|next| next.mean);
        let came = value.map(|value| scale.z(value));
        let z = match (came, expected) {
            (Some(came), Some(expected)) => self.clean(came, expected),
            (came, expected) => came.or(expected).unwrap_or_default(),
        };
        if let (Some(value), Some(came)) = (value, came) {
            let actual = Actual { step: self.seen, z: came, value, part: part(0) };
            self.mixture.judge(&actual, levels, scale);
            if let Some(expected) = expected.filter(|_| self.seen > self.lengths.long) {
                self.mixture.learn_part(part(0), came - expected, self.error, hours);
            }
            let day = self.lengths.day as usize;
            if self.values.len() >= day {
                let error = (value - scale.value(self.values.back(day))).abs();
                let judged = self.seen - self.lengths.day + 1;
                self.naive_error += (error - self.naive_error) / f64::from(judged.min(10 * self.lengths.day));
            }
        }
        self.raw = [came.unwrap_or(z), self.raw[0]];
        self.absorb(slot, z);
        self.seen = self.seen.saturating_add(1);
        self.issue(slot + 1, part);
    }

    /// What the experts learn of a value; counts those that are off.
    fn clean(&mut self, came: f32, expected: f32) -> f32 {
        let (error, seen) = (came - expected, self.seen as f32);
        let mut z = came;
        let is_known = self.seen > self.lengths.day;
        let reach = REACH * self.error;
        if is_known && self.error > 0.0 && error.abs() > reach {
            let is_same_side = self.streak.length > 0 && (self.streak.least > 0.0) == (error > 0.0);
            if !is_same_side {
                self.streak = Streak { length: 0, least: error };
            }
            self.streak.length = self.streak.length.saturating_add(1);
            if error.abs() < self.streak.least.abs() {
                self.streak.least = error;
            }
            if self.streak.length < BELIEVE_AFTER {
                z = expected + error.clamp(-reach, reach);
            } else if self.streak.length == BELIEVE_AFTER {
                self.jump(self.streak.least);
            }
        } else {
            self.streak = Streak::default();
        }
        let learnt = if is_known { error.abs().min(1.5 * reach + 1e-9 * self.unit()) } else { error.abs() };
        self.error += (learnt - self.error) * ERROR_RATE.max(1.0 / seen);
        z
    }

    /// Believes a new level, and the values before the one that showed it.
    fn jump(&mut self, by: f32) {
        let recent = self.values.values.iter_mut().rev();
        recent.zip(self.raw).for_each(|(value, raw)| *value = raw);
        let remainders = self.remainders.values.iter_mut().rev();
        remainders.take(usize::from(BELIEVE_AFTER) - 1).for_each(|remainder| *remainder += by);
        self.level += by;
    }

    fn absorb(&mut self, slot: i64, z: f32) {
        let (day, long) = (self.lengths.day as usize, self.lengths.long as usize);
        if self.seen == 0 {
            self.average = z;
        }
        self.average += AVERAGE_RATE * (z - self.average);
        (self.least, self.most) = (self.least.min(z), self.most.max(z));
        let rate = 1.0 / (self.seen as f32 + 1.0).min(2.0 * long as f32);
        self.mean += (z - self.mean) * rate;
        self.size += (1.25 * (z - self.mean).abs() - self.size) * rate;
        self.values.push(z);
        if self.values.len() > day {
            self.bias += 0.3 * (z - self.values.back(day + 1) - self.bias);
        }
        let (mean, unit) = (self.mean, self.unit());
        if self.values.len() > lags(self.lengths).last {
            let (x, y) = regressors(&self.values, lags(self.lengths).all(), mean, unit);
            self.autoregression.learn(&x, y, 0.99);
        }
        if self.values.len() > day + 1 {
            let (x, y) = regressors(&self.values, short_lags(day).all(), mean, unit);
            self.short.learn(&x, y, 0.998);
        }
        self.absorb_profile(slot, z, long, day);
    }

    fn absorb_profile(&mut self, slot: i64, z: f32, long: usize, day: usize) {
        if self.profile.is_empty() {
            if self.values.len() >= long {
                self.level = self.mean;
                self.profile = vec![0.0; long];
                for back in 1..=long {
                    let at = place(slot + 1 - back as i64, long);
                    self.profile[at] = self.values.back(back) - self.level;
                }
            }
            return;
        }
        let at = place(slot, long);
        let remainder = z - self.profile[at];
        self.remainders.push(remainder);
        if self.remainders.len() > remainder_lags(day).last {
            let (x, y) = regressors(&self.remainders, remainder_lags(day).all(), self.level, self.unit());
            self.remainder_path.learn(&x, y, 0.999);
        }
        self.level += LEVEL_RATE * (remainder - self.level);
        self.profile[at] += PROFILE_RATE * (remainder - self.level);
    }

    /// Keeps what is forecast now.
    fn issue(&mut self, slot: i64, part: impl Fn(u32) -> usize) {
        let step = self.seen - 1;
        let due = |at: usize| self.mixture.due(at, step);
        let mut paths = Paths::new((0..self.mixture.horizons()).filter_map(due).max().unwrap_or(1) as usize);
        self.fill(&mut paths, slot);
        self.mixture.join(paths.ready);
        let least = self.least_loss();
        for at in 0..self.mixture.horizons() {
            if let Some(steps) = self.mixture.due(at, step) {
                self.mixture.issue(at, step, &paths.at(steps), part(steps), least);
            }
        }
    }

    /// Has the experts that are ready forecast.
    fn fill(&self, paths: &mut Paths, slot: i64) {
        let (day, long) = (self.lengths.day as usize, self.lengths.long as usize);
        let values = &self.values;
        if values.len() < day {
            paths.of(0).fill(values.back(1));
            paths.of(1).fill(self.average);
            return;
        }
        let since = |lag: usize| if values.len() > lag { values.back(1) - values.back(lag + 1) } else { 0.0 };
        for (expert, lag, kept, bias) in
            [(0, day, 0.97, self.bias), (1, day, 0.9, since(day)), (NAIVE_LONG, long, 0.6, since(long))]
        {
            if values.len() < lag || (expert == NAIVE_LONG && long == day) {
                continue;
            }
            let mut bias = bias;
            for (ahead, to) in paths.of(expert).iter_mut().enumerate() {
                bias *= kept;
                *to = values.season_back(lag, ahead) + bias;
            }
        }
        if values.len() > 2 * day {
            self.fill_analogs(paths);
        }
        let left = RANGE_LEFT * (self.most - self.least);
        let range = [self.least - left, self.most + left];
        let unit = self.unit();
        let path = |lags, mean| Path { lags, mean, unit, range, season: &[] };
        if values.len() > lags(self.lengths).last + 1 {
            let path = path(lags(self.lengths), self.mean);
            path.fill(self.autoregression.coefficients(), values, paths.of(AUTOREGRESSION));
        }
        if values.len() > day + 2 {
            path(short_lags(day), self.mean).fill(self.short.coefficients(), values, paths.of(SHORT));
        }
        if self.remainders.len() == 0 {
            return;
        }
        let (after, before) = (&self.profile[place(slot, long)..], &self.profile[..]);
        let season: Vec<f32> = after.iter().chain(before.iter().cycle()).take(paths.steps).copied().collect();
        let mut remainder = self.remainders.back(1) - self.level;
        for (to, season) in paths.of(PROFILE).iter_mut().zip(&season) {
            remainder *= REMAINDER_KEPT;
            *to = season + self.level + remainder;
        }
        if self.remainders.len() > remainder_lags(day).last + 1 {
            let path = Path { season: &season, ..path(remainder_lags(day), self.level) };
            path.fill(self.remainder_path.coefficients(), &self.remainders, paths.of(PROFILE_PATH));
        }
    }

    fn fill_analogs(&self, paths: &mut Paths) {
        let day = self.lengths.day as usize;
        let values = &self.values.values[..];
        let now = &values[values.len() - day..];
        let count = (values.len() / day - 1).min(ANALOGS);
        let fadings = fadings(day);
        // Of each past season: how far it is from now, and how far its level is.
        let mut found = [[(0.0f32, 0.0f32); ANALOGS]; 2];
        let mut buffer = [0.0f32; DAY_MAX];
        let off = &mut buffer[..day];
        for back in 1..=count {
            let end = values.len() - back * day;
            let then = &values[end - day..end];
            off.iter_mut().zip(now.iter().zip(then)).for_each(|(off, (now, then))| *off = now - then);
            for (found, fading) in found.iter_mut().zip(fadings) {
                let fading = &fading[..day];
                let shift = dot(fading, off);
                found[back - 1] = (distance(fading, off, shift), shift);
            }
        }
        let least = 1e-9 * self.unit();
        for (kind, (found, power)) in found.iter_mut().zip(POWER).enumerate() {
            let found = &mut found[..count];
            let nearest = found.iter().map(|of| of.0).fold(f32::INFINITY, f32::min) + least;
            found.iter_mut().for_each(|of| of.0 = (nearest / (of.0 + least)).powi(power));
            let all: f32 = found.iter().map(|of| of.0).sum();
            found.iter_mut().for_each(|of| of.0 /= all);
            let shift: f32 = found.iter().map(|(weight, shift)| weight * shift).sum();
            let path = paths.of(ANALOG + kind);
            path.fill(shift);
            for (back, &(weight, _)) in (1..).zip(found.iter()) {
                let after = &values[values.len() - back * day..];
                // Where the analog's own path ends, its last season goes on.
                let (near, far) = path.split_at_mut(after.len().min(path.len()));
                near.iter_mut().zip(after).for_each(|(to, value)| *to += weight * value);
                far.iter_mut().zip(now.iter().cycle()).for_each(|(to, value)| *to += weight * value);
            }
        }
    }
}

/// How much slots count in an analog, far and near, the latest the last; 1 in all.
fn fadings(day: usize) -> &'static [[f32; DAY_MAX]; 2] {
    static KNOWN: [OnceLock<[[f32; DAY_MAX]; 2]>; DAY_MAX + 1] = [const { OnceLock::new() }; DAY_MAX + 1];
    KNOWN[day].get_or_init(|| {
        FADE.map(|fade| {
            let kept = libm::expf(-fade * 24.0 / day as f32);
            let mut weights = [0.0f32; DAY_MAX];
            weights[day - 1] = 1.0;
            for at in (0..day - 1).rev() {
                weights[at] = weights[at + 1] * kept;
            }
            let all: f32 = weights.iter().sum();
            weights.map(|weight| weight / all)
        })
    })
}

/// The weighted mean distance of `off` from `shift`.
fn distance(weights: &[f32], off: &[f32], shift: f32) -> f32 {
    let (pairs, rest) = (weights.len() / 8 * 8, weights.len() % 8);
    let mut lanes = [0.0f32; 8];
    for (weights, off) in weights.chunks_exact(8).zip(off.chunks_exact(8)) {
        for lane in 0..8 {
            lanes[lane] += weights[lane] * (off[lane] - shift).abs();
        }
    }
    let tail = weights[pairs..].iter().zip(&off[pairs..]).take(rest);
    sum(lanes) + tail.map(|(weight, off)| weight * (off - shift).abs()).sum::<f32>()
}

/// Where in a season of `length` slots a slot is.
fn place(slot: i64, length: usize) -> usize {
    slot.rem_euclid(length as i64) as usize
}

fn lags(Lengths { day, long }: Lengths) -> Lags {
    let (day, long) = (day as usize, long as usize);
    if long == day {
        return Lags::new(&[1, 2, 3, day - 1, day, day + 1, day + 2, 2 * day, 2 * day + 1]);
    }
    Lags::new(&[1, 2, 3, day - 1, day, day + 1, day + 2, 2 * day, 2 * day + 1, long - 1, long, long + 1])
}

fn short_lags(day: usize) -> Lags {
    Lags::new(&[1, 2, day, day + 1])
}

fn remainder_lags(day: usize) -> Lags {
    Lags::new(&[1, 2, 3, day - 1, day, day + 1])
}

/// Coefficients of the lags, those that are not named 0.
fn prior(lags: &Lags, named: &[(usize, f32)]) -> Vec<f32> {
    let of = |lag: &u16| named.iter().filter(|(named, _)| *named == usize::from(*lag)).map(|(_, b)| *b).sum();
    lags.all().iter().map(of).collect()
}
