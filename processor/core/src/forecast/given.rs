//! A forecaster of given seasons: the tier that suits them, and where in time it stands.

use serde::{Deserialize, Serialize};

use super::Accuracy;
use super::light::{EXPERTS, Hourly, Light, OWN_EXPERTS, When};
use super::mixture::{Banded, part_of_day};
use super::scale::Scale;
use super::seasonal::{Lengths, Seasonal};
use crate::config::{ForecastParams, Tier, slot_ms};

/// Slots that the path of the hours' forecast has at most.
const HOURS_MAX: u32 = 50;
/// Horizons at which the hours' forecast compares its experts, in slots.
const HOURS_COMPARED: [u32; 5] = [1, 3, 6, 12, 24];

/// What one series is forecast by, with a window each so many ms.
#[derive(Clone, Copy, Debug)]
pub(super) struct By<'a> {
    pub(super) params: &'a ForecastParams,
    pub(super) step_ms: i64,
    pub(super) scale: Scale,
}

/// A forecaster of given seasons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Given {
    /// The shorter first.
    seasons_ms: Vec<i64>,
    tier: Tiered,
    /// Starts of the first window and of the last one with a value, in ms since 1970.
    first_ms: i64,
    last_ms: i64,
    seen: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tiered {
    Slots(Box<Seasonal>),
    Windows(Box<Light<OWN_EXPERTS>>),
    Both(Box<Light<EXPERTS>>, Box<Hours>),
}

/// How many slots seasons have.
fn lengths(seasons_ms: &[i64], slot_ms: i64) -> Option<Lengths> {
    let slots = |season_ms: &i64| ((season_ms + slot_ms / 2) / slot_ms) as u32;
    Some(Lengths { day: slots(seasons_ms.first()?), long: slots(seasons_ms.last()?) })
}

impl Tiered {
    fn new(seasons_ms: &[i64], params: &ForecastParams, step_ms: i64) -> Self {
        let slot_ms = slot_ms(seasons_ms.first().copied(), step_ms);
        let (compared, levels) = (&params.compared[..], &params.levels[..]);
        match (params.tier, lengths(seasons_ms, slot_ms)) {
            (Tier::Full, Some(lengths)) if slot_ms == step_ms => {
                Self::Slots(Box::new(Seasonal::new(lengths, compared, levels)))
            }
            (Tier::Full, Some(lengths)) => {
                let light = Light::new(seasons_ms, step_ms, compared, levels);
                Self::Both(Box::new(light), Box::new(Hours::new(lengths)))
            }
            _ => Self::Windows(Box::new(Light::new(seasons_ms, step_ms, compared, levels))),
        }
    }
}

impl Given {
    /// Knows nothing.
    pub(super) fn new(seasons_ms: Vec<i64>, params: &ForecastParams, step_ms: i64) -> Self {
        let tier = Tiered::new(&seasons_ms, params, step_ms);
        Self { seasons_ms, tier, first_ms: 0, last_ms: 0, seen: 0 }
    }

    pub(super) fn seasons_ms(&self) -> &[i64] {
        &self.seasons_ms
    }

    /// Starts of the first window and of the last one with a value, in ms since 1970.
    pub(super) const fn span_ms(&self) -> (i64, i64) {
        (self.first_ms, self.last_ms)
    }

    /// Values that were learnt.
    pub(super) const fn seen(&self) -> u32 {
        self.seen
    }

    /// How good forecasts so many windows ahead have been.
    pub(super) fn accuracy(&self, steps: u32) -> Option<Accuracy> {
        match &self.tier {
            Tiered::Slots(seasonal) => seasonal.accuracy(steps),
            Tiered::Windows(light) => light.accuracy(steps),
            Tiered::Both(light, _) => light.accuracy(steps),
        }
    }

    /// Learns the value of the window that starts at `start_ms`.
    pub(super) fn learn(&mut self, by: By<'_>, start_ms: i64, value: f64) {
        let By { params, step_ms, scale } = by;
        if self.seen == 0 {
            (self.first_ms, self.last_ms) = (start_ms, start_ms - step_ms);
        }
        let expected = self.expect(by, start_ms).map(|of| of.mean);
        let local_ms = params.local_ms(start_ms);
        let when = When { step: ((start_ms - self.first_ms) / step_ms) as u32, local_ms, step_ms };
        let slot_ms = slot_ms(self.seasons_ms.first().copied(), step_ms);
        let levels = &params.levels[..];
        match &mut self.tier {
            Tiered::Slots(seasonal) => {
                let slot = local_ms.div_euclid(step_ms);
                let next = params.local_ms(self.last_ms).div_euclid(step_ms) + 1;
                let first = if self.seen == 0 { slot } else { next };
                // A slot that comes twice counts once.
                for at in first..=slot {
                    let part = |steps: u32| part_of_day((at + i64::from(steps)) * step_ms);
                    seasonal.learn(at, (at == slot).then_some(value), hours(step_ms), part, levels, scale);
                }
            }
            Tiered::Windows(light) => light.learn(when, value, expected, None, levels, scale),
            Tiered::Both(light, hours) => {
                let steps = (i64::from(params.last_horizon()) * step_ms / slot_ms) as u32 + 2;
                hours.learn(local_ms, slot_ms, steps.min(HOURS_MAX), value, scale);
                light.learn(when, value, expected, hours.path(slot_ms).as_ref(), levels, scale);
            }
        }
        self.last_ms = self.last_ms.max(start_ms);
        self.seen = self.seen.saturating_add(1);
    }

    /// The forecast of the window that starts at `start_ms`; `None` before the first value.
    pub(super) fn expect(&self, by: By<'_>, start_ms: i64) -> Option<Banded> {
        if self.seen == 0 {
            return None;
        }
        let steps = self.steps_to(by, start_ms);
        let issued = match &self.tier {
            Tiered::Slots(seasonal) if steps == 1 => seasonal.next(),
            Tiered::Windows(light) if steps == 1 => light.issued(self.last_step(by.step_ms)),
            Tiered::Both(light, _) if steps == 1 => light.issued(self.last_step(by.step_ms)),
            _ => None,
        };
        issued.or_else(|| self.ahead(by, &[steps]).pop())
    }

    fn last_step(&self, step_ms: i64) -> u32 {
        ((self.last_ms - self.first_ms) / step_ms) as u32
    }

    /// How many windows, or slots, after the last one with a value a window is, at least 1.
    fn steps_to(&self, By { params, step_ms, .. }: By<'_>, start_ms: i64) -> u32 {
        let (from, to) = match &self.tier {
            Tiered::Slots(_) => (params.local_ms(self.last_ms), params.local_ms(start_ms)),
            Tiered::Windows(_) | Tiered::Both(..) => (self.last_ms, start_ms),
        };
        u32::try_from((to - from) / step_ms).unwrap_or(1).max(1)
    }

    /// The forecasts so many windows after the last one with a value; empty before it.
    pub(super) fn ahead(&self, by: By<'_>, steps: &[u32]) -> Vec<Banded> {
        let By { params, step_ms, .. } = by;
        let local_ms = params.local_ms(self.last_ms);
        let when = When { step: self.last_step(step_ms), local_ms, step_ms };
        match &self.tier {
            Tiered::Slots(seasonal) => {
                let slot = local_ms.div_euclid(step_ms);
                let part = |steps: u32| part_of_day((slot + i64::from(steps)) * step_ms);
                let to = |&steps: &u32| self.steps_to(by, self.last_ms + i64::from(steps) * step_ms);
                let slots: Vec<u32> = steps.iter().map(to).collect();
                seasonal.path(&slots, slot + 1, part)
            }
            Tiered::Windows(light) => light.path(steps, when, None),
            Tiered::Both(light, hours) => {
                light.path(steps, when, hours.path(slot_ms(self.seasons_ms.first().copied(), step_ms)).as_ref())
            }
        }
    }
}

fn hours(ms: i64) -> f32 {
    ms as f32 / 3_600_000.0
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

impl Hours {
    fn new(lengths: Lengths) -> Self {
        let seasonal = Seasonal::new(lengths, &HOURS_COMPARED, &[]);
        Self { seasonal, slot: None, sum: 0.0, count: 0, path: Vec::new() }
    }

    /// Takes a window's value in. When a slot is over, it is learnt, and the path is forecast anew, so many slots of it.
    fn learn(&mut self, local_ms: i64, slot_ms: i64, steps: u32, value: f64, scale: Scale) {
        let slot = local_ms.div_euclid(slot_ms);
        let part = |at: i64| part_of_day(at * slot_ms);
        let from = *self.slot.get_or_insert(slot);
        for over in from..slot {
            let mean = (self.count > 0).then(|| self.sum / f64::from(self.count));
            self.seasonal.learn(over, mean, hours(slot_ms), |steps| part(over + i64::from(steps)), &[], scale);
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
        let is_known = self.seasonal.is_seasonal() && !self.path.is_empty();
        is_known.then_some(Hourly { path: &self.path, from_ms, slot_ms })
    }
}
