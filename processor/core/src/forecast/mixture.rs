//! Several forecasts of one thing made into one, with bands: by how each has done.
//!
//! At each of a few horizons, of the experts' forecasts `f_i` and the value `z` that came (all on the series' scale):
//!
//! ```text
//!   L_i   = d L_i + |z - f_i|                              discounted loss
//!   w_i   ~ (least L / L_i)^8                              weight; between two horizons the lesser one, again made to sum up to 1
//!   f     = sum w_i f_i                                    what is forecast
//!   f - q_low s u, f + q_high s u                          a band, for each level
//!   s     = (EWMA_short + EWMA_long of |z - f| / u) / 2    usual error; u its share by the part of the day
//!   q    += r max(q, .5) (tail' if outside else -tail)     each end by itself, judged against the band AS IT WAS ISSUED
//! ```
//!
//! The power of eight lets the best few lead and is soon led by others when the series changes; an expert that is ready later starts with
//! 1.2 times the least loss. Tracking the quantile keeps the share of values in the band what it is asked to be whatever the errors'
//! law (I. Gibbs, E. Candès, "Adaptive Conformal Inference Under Distribution Shift", NeurIPS 2021); weights by power are those of
//! V. Vovk, "Aggregating strategies", COLT 1990, with a power of the loss for its exponential.
//!
//! What waits for its value is kept for every `horizon / 7` steps only, so that a horizon takes the same memory whatever its length:
//! 4 (experts + 1 + 2 levels) bytes for each of up to nine forecasts.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::accuracy::{Accuracy, Outcome, Rolling};
use super::scale::Scale;

/// Forecasts of a horizon that wait for their value, about.
const PENDING: u32 = 7;
/// Loss at which an expert starts that is ready later than others, by the least.
const JOIN: f32 = 1.2;
/// Of forecasts that are judged at each step, every so many is told of; each hour has its turn.
const SAMPLED: u32 = 5;
/// How much weight experts have to have at both of two horizons.
const AGREED: f32 = 1e-4;
/// How much wider bands are that rest on one judged forecast: 1 + FEW / n is about the quantile of Student's t distribution by that of
/// the normal one.
const FEW: f32 = 2.2;
/// Judged forecasts that are remembered when a new expert makes them better.
const JOINED: u32 = 20;
/// Rate of the quantiles, at least, and what is added to the judged forecasts in its beginning.
const QUANTILE_RATE: f32 = 0.02;
const QUANTILE_PRIOR: f32 = 25.0;
const QUANTILE_LEAST: f32 = 0.1;
/// Lengths of the averages of the error, in forecasts.
const SHORT: f32 = 50.0;
const LONG: f32 = 1_000.0;
/// Rate at which the error's share by part of the day follows, for windows of an hour; its least, and the most that is learnt of one.
const SHARE_RATE: f32 = 0.05;
const SHARE_LEAST: f32 = 0.2;
const SHARE_REACH: f32 = 6.0;

/// How many parts of the day have a share of the error of their own.
const PARTS: usize = 24;

/// A horizon at which experts are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Horizon {
    steps: u32,
    /// Every so many steps a forecast is kept.
    stride: u32,
    /// What is left of a loss when the next one comes.
    keep: f32,
    losses: Vec<f32>,
    /// Steps at which the rows were issued.
    issued: Vec<u32>,
    /// Rows of experts' forecasts, the mixture's, and the ends of its bands.
    rows: Vec<f32>,
    short: f32,
    long: f32,
    /// By level, how many usual errors the ends of the band are away.
    reach: Vec<[f32; 2]>,
    judged: u32,
    rolling: Rolling,
}

/// A value that came, at which step, and the part of the day it is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Actual {
    pub(super) step: u32,
    pub(super) z: f32,
    pub(super) value: f64,
    pub(super) part: usize,
}

/// What `N` experts make together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Mixture<const N: usize> {
    horizons: Vec<Horizon>,
    /// Which experts are ready, a bit each.
    ready: u16,
    parts: Vec<f32>,
}

/// Levels of bands, at most.
pub(super) const LEVELS: usize = 5;

/// A forecast on the scale: the mean, and the ends of each level's band.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Banded {
    pub(super) mean: f32,
    pub(super) ends: [[f32; 2]; LEVELS],
}

/// How much each expert counts.
pub(super) type Weights<const N: usize> = [f32; N];

impl Horizon {
    fn new(experts: usize, steps: u32, keep: f32, levels: &[f64]) -> Self {
        let stride = stride(steps);
        let pending = (steps + shift(stride)).div_ceil(stride) as usize;
        let width = experts + 1 + 2 * levels.len();
        Self {
            steps,
            stride,
            keep,
            losses: vec![0.0; experts],
            issued: vec![u32::MAX; pending],
            rows: vec![0.0; pending * width],
            short: 0.0,
            long: 0.0,
            reach: levels.iter().map(|&level| [first_reach(level); 2]).collect(),
            judged: 0,
            rolling: Rolling::default(),
        }
    }

    /// A step, and what it is later by.
    const fn phase(&self, step: u32) -> u32 {
        step + step / self.steps * shift(self.stride)
    }

    /// Whether a forecast of this step is kept.
    const fn is_due(&self, step: u32) -> bool {
        self.phase(step).is_multiple_of(self.stride)
    }

    /// The row of what was, or is, issued at a step.
    fn place(&self, step: u32) -> usize {
        (self.phase(step) / self.stride) as usize % self.issued.len()
    }

    fn width(&self) -> usize {
        self.rows.len() / self.issued.len()
    }

    /// The usual error.
    fn size(&self) -> f32 {
        0.5 * (self.short + self.long)
    }

    /// The usual error that bands are made of: more while few forecasts have been judged that do not overlap.
    fn spread(&self) -> f32 {
        let apart = (self.judged * self.stride) as f32 / self.steps as f32;
        self.size() * (1.0 + FEW / apart.max(1.0))
    }

    fn judge(&mut self, actual: &Actual, ready: u16, share: f32, levels: &[f64], scale: Scale) {
        let Some(issued) = actual.step.checked_sub(self.steps).filter(|&at| self.is_due(at)) else { return };
        let (place, width) = (self.place(issued), self.width());
        if self.issued[place] != issued {
            return;
        }
        let row = &self.rows[place * width..(place + 1) * width];
        let (experts, mixed) = row.split_at(self.losses.len());
        for (at, (loss, forecast)) in self.losses.iter_mut().zip(experts).enumerate() {
            *loss *= self.keep;
            if ready & (1 << at) != 0 {
                *loss += (actual.z - forecast).abs();
            }
        }
        let (forecast, ends) = (mixed[0], &mixed[1..]);
        let is_settled = self.judged * self.stride > self.steps + 5 && self.size() > 0.0;
        if is_settled {
            let rate = QUANTILE_RATE.max(1.0 / (QUANTILE_PRIOR + self.judged as f32));
            for ((reach, ends), level) in self.reach.iter_mut().zip(ends.chunks_exact(2)).zip(levels) {
                let tail = (1.0 - *level as f32) / 2.0;
                for (reach, is_outside) in reach.iter_mut().zip([actual.z < ends[0], actual.z > ends[1]]) {
                    let push = if is_outside { 1.0 - tail } else { -tail };
                    *reach = (*reach + rate * reach.max(0.5) * push).max(QUANTILE_LEAST);
                }
            }
            // Of horizons that are judged at each step, neighbours have much the same to say.
            if self.steps == 1 || self.stride > 1 || issued.is_multiple_of(SAMPLED) {
                let mut bands = [(0.0, 0.0, 0.0); LEVELS];
                for (band, (ends, &level)) in bands.iter_mut().zip(ends.chunks_exact(2).zip(levels)) {
                    *band = (level, scale.value(ends[0]), scale.value(ends[1]));
                }
                let (expected, bands) = (scale.value(forecast), &bands[..levels.len()]);
                self.rolling.learn(&Outcome { value: actual.value, expected, bands });
            }
        }
        self.judged = self.judged.saturating_add(1);
        let error = (actual.z - forecast).abs() / share;
        let (judged, stride) = (self.judged as f32, self.stride as f32);
        let overlap = 4.0 * self.steps as f32 / stride;
        self.short += (error - self.short) / judged.min(SHORT + overlap);
        self.long += (error - self.long) / judged.min(LONG / stride + overlap);
    }

    fn weights<const N: usize>(&self, ready: u16, least: f32) -> Weights<N> {
        let is_ready = |at: usize| ready & (1 << at) != 0;
        let ready_losses = self.losses.iter().enumerate().filter(|&(at, _)| is_ready(at)).map(|(_, loss)| *loss);
        let best = ready_losses.fold(f32::INFINITY, f32::min) + least;
        let mut weights = [0.0; N];
        for (at, (weight, loss)) in weights.iter_mut().zip(&self.losses).enumerate() {
            if is_ready(at) {
                let power2 = (best / (loss + least)) * (best / (loss + least));
                let power4 = power2 * power2;
                *weight = power4 * power4;
            }
        }
        let all: f32 = weights.iter().sum();
        weights.map(|weight| weight / all)
    }
}

/// Every how many steps a forecast of so many steps ahead is kept.
pub(super) const fn stride(steps: u32) -> u32 {
    steps.div_ceil(PENDING)
}

/// By how much later they are kept after each horizon: where a day is a multiple of the stride, each hour of it has its turn.
const fn shift(stride: u32) -> u32 {
    if stride == 1 {
        0
    } else if stride < 6 {
        1
    } else {
        stride / 6
    }
}

/// How many mean absolute errors the end of a band is away at first: halfway between the Laplace distribution and the normal one, whose
/// tails those of most forecasts' errors lie between.
fn first_reach(level: f64) -> f32 {
    let laplace = -libm::log(1.0 - level);
    // The inverse error function to three digits (S. Winitzki, "A handy approximation for the error function and its inverse", 2008).
    const A: f64 = 0.147;
    let log = libm::log(1.0 - level * level);
    let half = 2.0 / (PI * A) + log / 2.0;
    let inverse_erf = ((half * half - log / A).sqrt() - half).sqrt();
    (0.5 * (laplace + PI.sqrt() * inverse_erf)) as f32
}

impl<const N: usize> Mixture<N> {
    /// Compares at `horizons`: steps ahead, ascending from 1, and what is left of a loss when the next one is judged.
    pub(super) fn new(horizons: impl Iterator<Item = (u32, f32)>, levels: &[f64]) -> Self {
        let horizons = horizons.map(|(steps, keep)| Horizon::new(N, steps, keep, levels)).collect();
        Self { horizons, ready: 0, parts: vec![1.0; PARTS] }
    }

    /// Judges what was forecast of a value.
    pub(super) fn judge(&mut self, actual: &Actual, levels: &[f64], scale: Scale) {
        let share = self.parts[actual.part];
        for horizon in &mut self.horizons {
            horizon.judge(actual, self.ready, share, levels, scale);
        }
    }

    /// Learns how large the error is in a part of the day, where `usual` is its usual size; each step is `hours` long.
    pub(super) fn learn_part(&mut self, part: usize, error: f32, usual: f32, hours: f32) {
        if usual > 0.0 {
            let size = (error.abs() / usual).min(SHARE_REACH);
            let share = &mut self.parts[part];
            *share = (*share + SHARE_RATE * hours.min(1.0) * (size - *share)).max(SHARE_LEAST);
        }
    }

    /// Lets experts take part that are ready now.
    pub(super) fn join(&mut self, ready: u16) {
        let new = ready & !self.ready;
        if new != 0 && self.ready != 0 {
            for horizon in &mut self.horizons {
                let known = horizon.losses.iter().enumerate().filter(|(at, _)| self.ready & (1 << at) != 0);
                let first = JOIN * known.map(|(_, loss)| *loss).fold(f32::INFINITY, f32::min);
                horizon.judged = horizon.judged.min(JOINED);
                horizon.rolling.fade(JOINED);
                for (at, loss) in horizon.losses.iter_mut().enumerate() {
                    *loss = if new & (1 << at) != 0 { first } else { *loss };
                }
            }
        }
        self.ready = ready;
    }

    /// The two horizons that a step ahead lies between, and the share of the second.
    fn between(&self, steps: u32) -> (&Horizon, &Horizon, f32) {
        let after = self.horizons.partition_point(|horizon| horizon.steps < steps).min(self.horizons.len() - 1);
        let (a, b) = (&self.horizons[after.saturating_sub(1)], &self.horizons[after]);
        let share =
            if b.steps > a.steps { (steps.min(b.steps) - a.steps) as f32 / (b.steps - a.steps) as f32 } else { 1.0 };
        (a, b, share)
    }

    /// How much each expert counts so many steps ahead: between two horizons as much as at the one where it counts less. The last value
    /// may be the best a whole season ahead, and is far off some hours before. `least` is a loss that does not matter.
    pub(super) fn weights(&self, steps: u32, least: f32) -> Weights<N> {
        let (a, b, share) = self.between(steps);
        let of_b = b.weights::<N>(self.ready, least);
        if share == 1.0 {
            return of_b;
        }
        let of_a = a.weights::<N>(self.ready, least);
        let lesser: Weights<N> = std::array::from_fn(|at| of_a[at].min(of_b[at]));
        let all: f32 = lesser.iter().sum();
        if all < AGREED {
            // What is good at one is bad at the other.
            return std::array::from_fn(|at| share * of_b[at] + (1.0 - share) * of_a[at]);
        }
        lesser.map(|weight| weight / all)
    }

    /// The bands around what is forecast so many steps ahead, in a part of the day.
    pub(super) fn banded(&self, mean: f32, steps: u32, part: usize) -> Banded {
        let (a, b, share) = self.between(steps);
        let (size_a, size_b) = ((1.0 - share) * a.spread() * self.parts[part], share * b.spread() * self.parts[part]);
        let mut ends = [[mean; 2]; LEVELS];
        for (ends, (a, b)) in ends.iter_mut().zip(a.reach.iter().zip(&b.reach)) {
            *ends = [mean - (a[0] * size_a + b[0] * size_b), mean + (a[1] * size_a + b[1] * size_b)];
        }
        Banded { mean, ends }
    }

    /// How many horizons experts are compared at.
    pub(super) const fn horizons(&self) -> usize {
        self.horizons.len()
    }

    /// How far ahead a horizon is, if a forecast of it is kept at this step.
    pub(super) fn due(&self, horizon: usize, step: u32) -> Option<u32> {
        let horizon = &self.horizons[horizon];
        horizon.is_due(step).then_some(horizon.steps)
    }

    /// Keeps what experts forecast at this step for a horizon that is due, and what is made of it; `part` is that of the day it is in.
    pub(super) fn issue(&mut self, horizon: usize, step: u32, forecasts: &[f32; N], part: usize, least: f32) {
        let horizon = &mut self.horizons[horizon];
        let mean = mix(&horizon.weights::<N>(self.ready, least), forecasts);
        let (place, width) = (horizon.place(step), horizon.width());
        let size = horizon.spread() * self.parts[part];
        horizon.issued[place] = step;
        let row = &mut horizon.rows[place * width..(place + 1) * width];
        for (at, (kept, &forecast)) in row.iter_mut().zip(forecasts).enumerate() {
            *kept = if self.ready & (1 << at) != 0 { forecast } else { mean };
        }
        row[N] = mean;
        for (ends, reach) in row[N + 1..].chunks_exact_mut(2).zip(&horizon.reach) {
            ends.copy_from_slice(&[mean - reach[0] * size, mean + reach[1] * size]);
        }
    }

    /// What was issued at `step` of the next one.
    pub(super) fn issued(&self, step: u32) -> Option<Banded> {
        let first = &self.horizons[0];
        let (place, width) = (first.place(step), first.width());
        if first.issued[place] != step {
            return None;
        }
        let row = &first.rows[place * width + N..(place + 1) * width];
        let mut ends = [[row[0]; 2]; LEVELS];
        ends.iter_mut().zip(row[1..].chunks_exact(2)).for_each(|(to, ends)| *to = [ends[0], ends[1]]);
        Some(Banded { mean: row[0], ends })
    }

    /// How good forecasts at a horizon have been; `None` where it is not compared, or nothing has been judged.
    pub(super) fn accuracy(&self, steps: u32, naive: f64) -> Option<Accuracy> {
        self.horizons.iter().find(|horizon| horizon.steps == steps)?.rolling.accuracy(naive)
    }
}

/// The weighted mean of what experts say; one that is not ready counts nothing, whatever it says.
pub(super) fn mix<const N: usize>(weights: &Weights<N>, forecasts: &[f32; N]) -> f32 {
    let counts = |(weight, forecast): (&f32, &f32)| if *weight > 0.0 { weight * forecast } else { 0.0 };
    weights.iter().zip(forecasts).map(counts).sum()
}

/// The part of the day that a time is in, local time in ms.
pub(super) fn part_of_day(local_ms: i64) -> usize {
    const DAY_MS: i64 = 86_400_000;
    (local_ms.rem_euclid(DAY_MS) * PARTS as i64 / DAY_MS) as usize
}
