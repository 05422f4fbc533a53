//! Forecasts: what will the next windows bring, and how sure is that?
//!
//! A [`Forecaster`] is updated once per window, in microseconds, and its forecast is always made before the value is known. It is a
//! mixture of simple experts, each weighted by how it has done lately ([`mixture`]), with bands that are held to the share of values that
//! they are to contain. Where a window is a slot of the season (a 24th of it) or longer, the full tier is [`seasonal`]; where it is
//! shorter, it is [`light`] with [`seasonal`] on the means of slots beside it; the light tier is [`light`] alone. All of them work on the
//! logarithm of what is never negative ([`scale`]).
//!
//! | a series that | is treated so |
//! |---|---|
//! | misses windows | what was forecast stands in; after 21 seasons without a value it starts anew |
//! | has outliers | a value eight usual errors off is learnt as eight; the third in a row is believed |
//! | shifts | levels jump at the third value, or follow |
//! | is constant | is forecast as itself, with a band of its grain |
//! | counts, with zeros | is on the scale of `ln(y + .3 mean)`, so that a band reaches 0 and not below |
//! | turns negative | starts anew on the bare scale at the third negative value |
//! | has a window a day | has no season of a day; that of a week, where it is declared, is its first |
//! | is in a time zone | has its seasons in local time: the hour that is skipped in spring is missing, the one that comes twice counts once |

use serde::{Deserialize, Serialize};

use crate::config::{ForecastParams, Tier};
use crate::detect::Grain;

pub use accuracy::Accuracy;
use light::{EXPERTS, Hourly, Light, OWN_EXPERTS, When};
use mixture::Banded;
use scale::Scale;
use seasonal::{Lengths, Seasonal};

mod accuracy;
mod autoregression;
mod light;
mod mixture;
mod scale;
mod seasonal;
pub mod usual;

/// Values before the first forecast, and before the scale is chosen.
const READY: u32 = 12;
const SCALE_AFTER: usize = 24;
/// Values in a row off the scale after which it is given up.
const GIVE_UP_AFTER: u8 = 3;
/// First seasons without a value after which a series starts anew.
const FORGET_SEASONS: i64 = 21;
/// Slots that the path of the hours' forecast has at most.
const HOURS_MAX: u32 = 50;
/// Width of a band, as a share of what is expected, up to which a series is constant.
const CONSTANT_SHARE: f64 = 1e-6;
/// The 97.5 % quantile of the normal distribution.
const NORMAL_95: f64 = 1.959_963_984_540_054;

/// A forecast of one window's value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// Expected value, in units of the series.
    pub mean: f64,
    /// Lower end of the 95 % prediction interval.
    pub lower: f64,
    /// Upper end of the 95 % prediction interval.
    pub upper: f64,
    /// Standard deviation of the error that is usual for such a forecast; always positive.
    pub sd: f64,
}

/// A point of a forecast path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathPoint {
    /// How many windows ahead.
    pub steps: u32,
    /// Expected value, in units of the series.
    pub mean: f64,
    /// Level, lower and upper end of each band, levels ascending.
    pub bands: Vec<(f64, f64, f64)>,
    /// How good such forecasts have been, where that is judged.
    pub accuracy: Option<Accuracy>,
}

/// The forecaster of one series. Its state is bounded, serialisable, and all that its answers depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecaster {
    /// [`ForecastParams::identity`] of what it was made by.
    declared: u32,
    engine: Engine,
    scale: Scale,
    /// The first values and when they were, until the scale is chosen.
    first: Vec<(i64, f64)>,
    /// Starts of the first window and of the last one with a value, in ms since 1970.
    first_ms: i64,
    last_ms: i64,
    seen: u32,
    /// Values in a row that are not on the scale.
    off_scale: u8,
    grain: Grain,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Engine {
    Slots(Box<Seasonal>),
    Windows(Box<Light<OWN_EXPERTS>>),
    Both(Box<Light<EXPERTS>>, Box<Hours>),
}

/// Forecasts of the means of slots, beside those of windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Hours {
    seasonal: Seasonal,
    /// The slot that is going on, once there is one.
    slot: Option<i64>,
    sum: f64,
    count: u32,
    /// The last slot and those from the one that is going on, on the scale.
    path: Vec<f32>,
}

impl Engine {
    fn new(params: &ForecastParams, step_ms: i64) -> Self {
        let lengths = params.slot_ms(step_ms).map(|slot_ms| lengths(params, slot_ms));
        match (params.tier, lengths) {
            (Tier::Full, Some((lengths, slot_ms))) if slot_ms == step_ms => {
                Self::Slots(Box::new(Seasonal::new(lengths, &params.compared, &params.levels)))
            }
            (Tier::Full, Some((lengths, _))) => {
                let light = Light::new(&params.seasons_ms, step_ms, &params.compared, &params.levels);
                Self::Both(Box::new(light), Box::new(Hours::new(lengths)))
            }
            _ => Self::Windows(Box::new(Light::new(&params.seasons_ms, step_ms, &params.compared, &params.levels))),
        }
    }
}

/// How many slots seasons have, and how long a slot is.
fn lengths(params: &ForecastParams, slot_ms: i64) -> (Lengths, i64) {
    let slots = |season: Option<&i64>| season.map_or(0, |season_ms| ((season_ms + slot_ms / 2) / slot_ms) as u32);
    let (day, long) = (slots(params.seasons_ms.first()), slots(params.seasons_ms.last()));
    (Lengths { day, long: long.max(day) }, slot_ms)
}

impl Hours {
    fn new(lengths: Lengths) -> Self {
        let horizons = [1, 3, 6, 12, 24];
        let seasonal = Seasonal::new(lengths, &horizons, &[]);
        Self { seasonal, slot: None, sum: 0.0, count: 0, path: Vec::new() }
    }

    /// Takes a window's value in. When a slot is over, it is learnt, and the path is forecast anew, so many slots of it.
    fn learn(&mut self, local_ms: i64, slot_ms: i64, steps: u32, value: f64, scale: Scale) {
        let slot = local_ms.div_euclid(slot_ms);
        let part = |at: i64| mixture::part_of_day(at * slot_ms);
        let hours = slot_ms as f32 / 3_600_000.0;
        let from = *self.slot.get_or_insert(slot);
        for over in from..slot {
            let mean = (self.count > 0).then(|| self.sum / f64::from(self.count));
            self.seasonal.learn(over, mean, hours, |steps| part(over + i64::from(steps)), &[], scale);
            (self.sum, self.count) = (0.0, 0);
        }
        if slot > from {
            self.slot = Some(slot);
            let ahead: Vec<u32> = (1..=steps).collect();
            let path = self.seasonal.path(&ahead, slot, |steps| part(slot - 1 + i64::from(steps)));
            self.path.clear();
            self.path.push(self.seasonal.last());
            self.path.extend(path.iter().map(|of| of.mean));
        }
        // A slot that comes twice counts once.
        if slot >= from {
            self.sum += value;
            self.count += 1;
        }
    }

    /// What is forecast; `None` until a season is known.
    fn path(&self, slot_ms: i64) -> Option<Hourly<'_>> {
        let from_ms = self.slot? * slot_ms;
        (self.seasonal.is_seasonal() && !self.path.is_empty()).then_some(Hourly { path: &self.path, from_ms, slot_ms })
    }
}

impl Forecaster {
    /// A forecaster that knows nothing, of a series with a window each `step_ms`.
    #[must_use]
    pub fn new(params: &ForecastParams, step_ms: i64) -> Self {
        Self {
            declared: params.identity(),
            engine: Engine::new(params, step_ms),
            scale: Scale::linear(0.0),
            first: Vec::new(),
            first_ms: 0,
            last_ms: 0,
            seen: 0,
            off_scale: 0,
            grain: Grain::default(),
        }
    }

    /// [`ForecastParams::identity`] of what it was made by: it suits no other.
    #[must_use]
    pub const fn declared(&self) -> u32 {
        self.declared
    }

    /// Whether it still learns what is needed for a good forecast.
    #[must_use]
    pub fn warming_up(&self) -> bool {
        self.seen < READY
    }

    /// The forecast of the window that starts at `start_ms`, one each `step_ms`; `None` until there is one. All its numbers are finite.
    #[must_use]
    pub fn expect(&self, params: &ForecastParams, start_ms: i64, step_ms: i64) -> Option<Expectation> {
        if self.warming_up() {
            return None;
        }
        let banded = self.banded(params, start_ms, step_ms)?;
        let at = params.levels.iter().position(|level| *level == ForecastParams::LEVEL)?;
        let mean = self.scale.value(banded.mean);
        let [lower, upper] = self.ends(mean, banded.ends[at]);
        Some(Expectation { mean, lower, upper, sd: (upper - lower) / (2.0 * NORMAL_95) })
    }

    /// The forecasts at each horizon from the window on that starts at `from_ms`, the last one; empty until there are some.
    #[must_use]
    pub fn path(&self, params: &ForecastParams, from_ms: i64, step_ms: i64) -> Vec<PathPoint> {
        self.path_at(params, from_ms, step_ms, &params.horizons)
    }

    /// The same so many windows ahead.
    #[must_use]
    pub fn path_at(&self, params: &ForecastParams, from_ms: i64, step_ms: i64, steps: &[u32]) -> Vec<PathPoint> {
        if self.warming_up() {
            return Vec::new();
        }
        // From the last window with a value on.
        let missing = u32::try_from((from_ms - self.last_ms) / step_ms).unwrap_or(0);
        let ahead: Vec<u32> = steps.iter().map(|steps| steps + missing).collect();
        let banded = self.ahead(params, step_ms, &ahead);
        let point = |(&steps, banded): (&u32, &Banded)| {
            let mean = self.scale.value(banded.mean);
            let band = |(&level, ends): (&f64, &[f32; 2])| {
                let [lower, upper] = self.ends(mean, *ends);
                (level, lower, upper)
            };
            let bands = params.levels.iter().zip(&banded.ends).map(band).collect();
            PathPoint { steps, mean, bands, accuracy: self.accuracy(steps) }
        };
        steps.iter().zip(&banded).map(point).collect()
    }

    /// How good forecasts so many windows ahead have been; `None` where that is not judged, or nothing has been yet.
    #[must_use]
    pub fn accuracy(&self, steps: u32) -> Option<Accuracy> {
        match &self.engine {
            Engine::Slots(seasonal) => seasonal.accuracy(steps),
            Engine::Windows(light) => light.accuracy(steps),
            Engine::Both(light, _) => light.accuracy(steps),
        }
    }

    /// Learns the value of the window that starts at `start_ms`, one each `step_ms`; call it after [`Self::expect`]. Windows without a
    /// value are not learnt.
    pub fn learn(&mut self, params: &ForecastParams, start_ms: i64, step_ms: i64, value: f64) {
        let season_ms = params.seasons_ms.first().copied().unwrap_or(step_ms);
        if self.seen > 0 && (start_ms - self.last_ms) / season_ms > FORGET_SEASONS {
            *self = Self::new(params, step_ms);
        }
        if self.seen == 0 {
            (self.first_ms, self.last_ms) = (start_ms, start_ms - step_ms);
            self.scale = Scale::linear(value);
        }
        if self.seen as usize == SCALE_AFTER && !self.first.is_empty() {
            self.choose_scale(params, step_ms);
        }
        if self.seen < SCALE_AFTER as u32 {
            self.first.push((start_ms, value));
        }
        if self.scale.suits(value) {
            self.off_scale = 0;
        } else {
            self.off_scale += 1;
            if self.off_scale == GIVE_UP_AFTER {
                *self = Self { seen: SCALE_AFTER as u32, ..Self::new(params, step_ms) };
                (self.first_ms, self.last_ms) = (start_ms, start_ms - step_ms);
                self.scale = Scale::linear(value);
            }
        }
        self.take(params, start_ms, step_ms, value);
    }

    /// Chooses the scale by the first values, and learns them again on it.
    fn choose_scale(&mut self, params: &ForecastParams, step_ms: i64) {
        let first = std::mem::take(&mut self.first);
        let scale = Scale::of(first.iter().map(|&(_, value)| value));
        if matches!(scale, Scale::Linear { .. }) {
            return;
        }
        *self = Self { scale, first_ms: self.first_ms, ..Self::new(params, step_ms) };
        self.last_ms = self.first_ms - step_ms;
        for (start_ms, value) in first {
            self.take(params, start_ms, step_ms, value);
        }
    }

    fn take(&mut self, params: &ForecastParams, start_ms: i64, step_ms: i64, value: f64) {
        let local_ms = params.local_ms(start_ms);
        let scale = self.scale;
        let expected = self.banded(params, start_ms, step_ms).map(|of| of.mean);
        let when = When { step: ((start_ms - self.first_ms) / step_ms) as u32, local_ms, step_ms };
        match &mut self.engine {
            Engine::Slots(seasonal) => {
                let slot = local_ms.div_euclid(step_ms);
                let hours = step_ms as f32 / 3_600_000.0;
                let next = params.local_ms(self.last_ms).div_euclid(step_ms) + 1;
                let first = if seasonal.seen() == 0 { slot } else { next };
                // A slot that comes twice counts once.
                for at in first..=slot {
                    let part = |steps: u32| mixture::part_of_day((at + i64::from(steps)) * step_ms);
                    seasonal.learn(at, (at == slot).then_some(value), hours, part, &params.levels, scale);
                }
            }
            Engine::Windows(light) => {
                light.learn(when, value, expected, None, &params.levels, scale);
            }
            Engine::Both(light, hours) => {
                let slot_ms = params.slot_ms(step_ms).unwrap_or(step_ms);
                let steps = (i64::from(params.last_horizon()) * step_ms / slot_ms) as u32 + 2;
                hours.learn(local_ms, slot_ms, steps.min(HOURS_MAX), value, scale);
                light.learn(when, value, expected, hours.path(slot_ms).as_ref(), &params.levels, scale);
            }
        }
        self.last_ms = self.last_ms.max(start_ms);
        self.seen = self.seen.saturating_add(1);
        self.grain = self.grain.with(value);
    }

    /// The forecast of the window that starts at `start_ms`, on the scale; `None` before the first value.
    fn banded(&self, params: &ForecastParams, start_ms: i64, step_ms: i64) -> Option<Banded> {
        if self.seen == 0 {
            return None;
        }
        let steps = self.steps_to(params, start_ms, step_ms);
        let issued = match &self.engine {
            Engine::Slots(seasonal) if steps == 1 => seasonal.next(),
            Engine::Windows(light) if steps == 1 => light.issued(self.last_step(step_ms)),
            Engine::Both(light, _) if steps == 1 => light.issued(self.last_step(step_ms)),
            _ => None,
        };
        issued.or_else(|| self.ahead(params, step_ms, &[steps]).pop())
    }

    fn last_step(&self, step_ms: i64) -> u32 {
        ((self.last_ms - self.first_ms) / step_ms) as u32
    }

    /// How many windows or slots after the last one with a value a window is, at least 1.
    fn steps_to(&self, params: &ForecastParams, start_ms: i64, step_ms: i64) -> u32 {
        let (from, to) = match &self.engine {
            Engine::Slots(_) => (params.local_ms(self.last_ms), params.local_ms(start_ms)),
            Engine::Windows(_) | Engine::Both(..) => (self.last_ms, start_ms),
        };
        u32::try_from((to - from) / step_ms).unwrap_or(1).max(1)
    }

    /// The forecasts so many windows after the last one with a value, on the scale.
    fn ahead(&self, params: &ForecastParams, step_ms: i64, steps: &[u32]) -> Vec<Banded> {
        let local_ms = params.local_ms(self.last_ms);
        let when = When { step: self.last_step(step_ms), local_ms, step_ms };
        match &self.engine {
            Engine::Slots(seasonal) => {
                let slot = local_ms.div_euclid(step_ms);
                let part = |steps: u32| mixture::part_of_day((slot + i64::from(steps)) * step_ms);
                let to = |&steps: &u32| {
                    let start_ms = self.last_ms + i64::from(steps) * step_ms;
                    self.steps_to(params, start_ms, step_ms)
                };
                let slots: Vec<u32> = steps.iter().map(to).collect();
                seasonal.path(&slots, slot + 1, part)
            }
            Engine::Windows(light) => light.path(steps, when, None),
            Engine::Both(light, hours) => {
                let slot_ms = params.slot_ms(step_ms).unwrap_or(step_ms);
                light.path(steps, when, hours.path(slot_ms).as_ref())
            }
        }
    }

    /// The ends of a band in units of the series, around `mean`; of a constant, whose band would have no width, those of its grain.
    fn ends(&self, mean: f64, ends: [f32; 2]) -> [f64; 2] {
        let [lower, upper] = ends.map(|end| self.scale.value(end));
        if upper - lower > CONSTANT_SHARE * mean.abs() {
            return [lower, upper];
        }
        let least = NORMAL_95 * self.grain.least_sd(mean);
        [lower.min(mean - least), upper.max(mean + least)]
    }
}

#[cfg(test)]
mod tests;
