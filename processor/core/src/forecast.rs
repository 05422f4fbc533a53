//! Forecasts: what will the next windows bring, and how sure is that?
//!
//! A [`Forecaster`] is updated once per window, in microseconds, and its forecast is always made before the value is known. It is a
//! mixture of simple experts, each weighted by how it has done lately (`mixture`), with bands that are held to the share of values that
//! they are to contain. Where a window is a slot of the season (a 24th of it) or longer, the full tier is `seasonal`; where it is
//! shorter, it is `light` with `seasonal` on the means of slots beside it; the light tier is `light` alone. All of them work on the
//! logarithm of what is never negative (`scale`).
//!
//! | a series that | is treated so |
//! |---|---|
//! | misses windows | by slots: what was forecast stands in; by windows: nothing but the time goes on; after 21 seasons without a value it starts anew |
//! | has outliers | a value eight usual errors off is learnt as eight; the third in a row is believed |
//! | shifts | levels jump at the third value, or follow |
//! | is constant | is forecast as itself, with a band of its grain |
//! | counts, with zeros | is on the scale of `ln(y + .3 mean)`, and a band reaches 0 and not below; on the bare scale if its first 24 values are 0 |
//! | has revised windows | is forecast from what windows held when they became final; a revision changes what is told, never what was learnt |
//! | turns negative | starts anew on the bare scale at the third negative value |
//! | has a window a day | has no season of a day; that of a week, where it is declared, is its first |
//! | has seasons that nobody named (`"auto"`) | is forecast without until they are found (`seasons`), and by them once they were seen |
//! | is in a time zone | has its seasons in local time: the hour that is skipped in spring is missing, the one that comes twice counts once by slots, twice by windows |

use serde::{Deserialize, Serialize};

use crate::config::ForecastParams;
use crate::detect::Grain;

pub use accuracy::Accuracy;
use given::{By, Given};
use mixture::Banded;
use scale::Scale;
use seasons::Finder;

mod accuracy;
mod autoregression;
mod given;
mod light;
mod mixture;
mod scale;
mod seasonal;
mod seasons;
pub mod usual;

/// Values before the first forecast, and before the scale is chosen.
const READY: u32 = 12;
const SCALE_AFTER: usize = 24;
/// Values in a row off the scale after which it is given up.
const GIVE_UP_AFTER: u8 = 3;
/// First seasons without a value after which a series starts anew.
const FORGET_SEASONS: i64 = 21;
const DAY_MS: i64 = 86_400_000;
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
    given: Given,
    /// Where seasons are found: by what, and who learns those that were found last.
    finder: Option<Box<Finder>>,
    next: Option<Box<Given>>,
    scale: Scale,
    /// The first values and when they were, until the scale is chosen.
    first: Vec<(i64, f64)>,
    seen: u32,
    /// Values in a row that are not on the scale.
    off_scale: u8,
    grain: Grain,
}

impl Forecaster {
    /// A forecaster that knows nothing, of a series with a window each `step_ms`.
    #[must_use]
    pub fn new(params: &ForecastParams, step_ms: i64) -> Self {
        Self {
            declared: params.identity(),
            given: Given::new(params.seasons_ms.clone(), params, step_ms),
            finder: params.finds_seasons.then(|| Box::new(Finder::new(step_ms))),
            next: None,
            scale: Scale::linear(0.0),
            first: Vec::new(),
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
    pub const fn warming_up(&self) -> bool {
        self.given.seen() < READY
    }

    /// The lengths of the seasons that it forecasts by, in ms.
    #[must_use]
    pub fn seasons_ms(&self) -> &[i64] {
        self.given.seasons_ms()
    }

    const fn by<'a>(&self, params: &'a ForecastParams, step_ms: i64) -> By<'a> {
        By { params, step_ms, scale: self.scale }
    }

    /// The forecast of the window that starts at `start_ms`, one each `step_ms`; `None` until there is one. All its numbers are finite.
    #[must_use]
    pub fn expect(&self, params: &ForecastParams, start_ms: i64, step_ms: i64) -> Option<Expectation> {
        if self.warming_up() {
            return None;
        }
        let banded = self.given.expect(self.by(params, step_ms), start_ms)?;
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
        let (_, last_ms) = self.given.span_ms();
        let missing = u32::try_from((from_ms - last_ms) / step_ms).unwrap_or(0);
        let ahead: Vec<u32> = steps.iter().map(|steps| steps + missing).collect();
        let banded = self.given.ahead(self.by(params, step_ms), &ahead);
        let point = |(&steps, banded): (&u32, &Banded)| {
            let mean = self.scale.value(banded.mean);
            let band = |(&level, ends): (&f64, &[f32; 2])| {
                let [lower, upper] = self.ends(mean, *ends);
                (level, lower, upper)
            };
            let bands = params.levels.iter().zip(&banded.ends).map(band).collect();
            PathPoint { steps, mean, bands, accuracy: self.given.accuracy(steps) }
        };
        steps.iter().zip(&banded).map(point).collect()
    }

    /// Learns the value of the window that starts at `start_ms`, one each `step_ms`; call it after [`Self::expect`]. Windows without a
    /// value are not learnt.
    pub fn learn(&mut self, params: &ForecastParams, start_ms: i64, step_ms: i64, value: f64) {
        let season_ms = self.seasons_ms().first().copied().unwrap_or(DAY_MS);
        let (_, last_ms) = self.given.span_ms();
        if self.seen > 0 && (start_ms - last_ms) / season_ms > FORGET_SEASONS {
            *self = Self::new(params, step_ms);
        }
        if self.seen == 0 {
            self.scale = Scale::linear(value);
        }
        if self.seen as usize == SCALE_AFTER {
            self.choose_scale(params, step_ms);
        }
        if (self.seen as usize) < SCALE_AFTER {
            self.first.push((start_ms, value));
        }
        self.off_scale = if self.scale.suits(value) { 0 } else { self.off_scale + 1 };
        if self.off_scale == GIVE_UP_AFTER {
            let scale = Scale::linear(value);
            *self = Self { scale, seen: self.seen.max(SCALE_AFTER as u32), ..Self::new(params, step_ms) };
        }
        self.take(params, start_ms, step_ms, value);
        if self.seen as usize > SCALE_AFTER {
            self.find_seasons(params, start_ms, step_ms, value);
        }
    }

    /// Chooses the scale by the first values, and learns them again on it.
    fn choose_scale(&mut self, params: &ForecastParams, step_ms: i64) {
        let first = std::mem::take(&mut self.first);
        let scale = Scale::of(first.iter().map(|&(_, value)| value));
        if matches!(scale, Scale::Linear { .. }) {
            return;
        }
        *self = Self { scale, ..Self::new(params, step_ms) };
        for (start_ms, value) in first {
            self.take(params, start_ms, step_ms, value);
        }
    }

    fn take(&mut self, params: &ForecastParams, start_ms: i64, step_ms: i64, value: f64) {
        let by = self.by(params, step_ms);
        self.given.learn(by, start_ms, value);
        self.seen = self.seen.saturating_add(1);
        self.grain = self.grain.with(value);
    }

    /// Looks for seasons. Those that are found are learnt beside those that were, until they have been seen.
    fn find_seasons(&mut self, params: &ForecastParams, start_ms: i64, step_ms: i64, value: f64) {
        let Some(finder) = &mut self.finder else { return };
        let z = self.scale.z(value);
        if let Some(found) = finder.learn(start_ms, params.local_ms(start_ms), z) {
            let is_other = found != self.given.seasons_ms();
            self.next = is_other.then(|| Box::new(Given::new(found.to_vec(), params, step_ms)));
        }
        let by = self.by(params, step_ms);
        let Some(next) = &mut self.next else { return };
        next.learn(by, start_ms, value);
        let (first_ms, last_ms) = next.span_ms();
        let (shortest, longest) = (next.seasons_ms().first(), next.seasons_ms().last());
        if last_ms - first_ms > shortest.copied().unwrap_or(0) + longest.copied().unwrap_or(0)
            && let Some(next) = self.next.take()
        {
            self.given = *next;
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
