//! Level shift, drift, broken season: has a series been away from what is usual for some windows, each little unusual by itself?
//!
//! An exponentially weighted moving average of the slow residual (that of [`crate::forecast::usual`], whose level follows over four days,
//! so that a shift stays in it), judged by its own tail:
//!
//! ```text
//!   z = slow / (1.2533 usual size of slow), clipped at 10; the deviation is at least the grain's
//!   e <- e + .3 (z - e)
//!   score = max(0, (|e| - m) / sd) / 6 if slow is on the side of e, else 0;   m and sd the mean and deviation of |e|, at a rate of .001
//! ```
//!
//! `|e|` is learnt clipped at four deviations, so that a long fault does not teach that faults are usual. By its own tail, and not by that
//! of white noise, it is as calm on a wandering series as on white noise.
//!
//! Some series are away more often than their deviation tells: as in [`super::Novelty`], each time that the detector would have reached 1.0
//! on the second day, what makes a score of 1.0 rises for good, here by 35 %; for three windows of a stretch at most, so that a fault of
//! that day does not blind it.
//!
//! Adaptation: the slow level follows a shift with a time constant of four days, by three usual residuals a window at most; what is left
//! is learnt, and the score of a shift that stays falls below 1.0 within a week at the latest.
//!
//! Cost: 20 ns. Memory: 40 bytes. Warm-up: two days, 100 values at least: before, the profile is one day's noise. Gaps change nothing; a
//! constant scores 0 until it has changed once.
//!
//! Source: S. W. Roberts, "Control Chart Tests Based on Geometric Moving Averages", Technometrics 1(3), 1959.

use serde::{Deserialize, Serialize};

use super::{Detector, DetectorKind, Observation, score_from};
use crate::forecast::usual::{Comparison, Excess, SD_PER_SIZE, WARM_UP};

/// When there is a profile of the day; before, the residual is no such.
const PROFILE_MS: i64 = 86_400_000;
/// When it is told.
const SILENT_MS: i64 = 2 * PROFILE_MS;
/// Rate of the moving average: it sees about the last five windows.
const RATE: f64 = 0.3;
/// Deviations beyond which a value does not count.
const CLIP: f64 = 10.0;
/// Deviations of the average's size that make a score of 1.0.
const THRESHOLD: f64 = 6.0;
/// What the threshold rises by on the second day: `e^.3`.
const RAISE: f64 = 1.349_858_807_576_003;
/// Windows of one stretch for which it rises.
const STRETCH_MOST: u8 = 3;
/// The least deviation of its size: about that of independent values.
const SD_LEAST: f64 = 0.2;
/// Rate at which its usual size is learnt, and deviations at which it is clipped.
const LEARN_RATE: f64 = 0.001;
const LEARN_REACH: f64 = 4.0;
/// Values before it is clipped.
const CLIP_FROM: u32 = 50;

/// The shift detector of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shift {
    seen: u32,
    average: f64,
    excess: Excess,
    /// Usual size of the slow residual, at its own rate.
    usual: f64,
    /// What makes a score of 1.0.
    threshold: f64,
    /// Windows in a row of the second day that reached it.
    stretch: u8,
}

impl Default for Shift {
    fn default() -> Self {
        Self { seen: 0, average: 0.0, excess: Excess::default(), usual: 0.0, threshold: 1.0, stretch: 0 }
    }
}

impl Shift {
    fn strength(&self, is: &Comparison) -> f64 {
        let average = self.average_with(is);
        // What is back on the other side is no part of a shift.
        if is.slow * average < 0.0 { 0.0 } else { self.excess.of(average.abs(), SD_LEAST) / THRESHOLD }
    }

    fn average_with(&self, is: &Comparison) -> f64 {
        if self.usual <= 0.0 {
            return 0.0;
        }
        let z = (is.slow / (SD_PER_SIZE * self.usual).max(is.least)).clamp(-CLIP, CLIP);
        self.average + RATE * (z - self.average)
    }
}

impl Detector for Shift {
    fn kind(&self) -> DetectorKind {
        DetectorKind::Shift
    }

    fn score(&self, observation: &Observation) -> f64 {
        match &observation.usual {
            Some(is) if !self.warming_up() && observation.start_ms - is.first_ms >= SILENT_MS => {
                score_from(self.strength(is) / self.threshold)
            }
            _ => 0.0,
        }
    }

    fn learn(&mut self, observation: &Observation) {
        let Some(is) = &observation.usual else { return };
        let age_ms = observation.start_ms - is.first_ms;
        if age_ms < PROFILE_MS {
            return;
        }
        let is_above = age_ms < SILENT_MS && !self.warming_up() && self.strength(is) >= self.threshold;
        if is_above && self.stretch < STRETCH_MOST {
            self.threshold *= RAISE;
        }
        self.stretch = if is_above { self.stretch.saturating_add(1) } else { 0 };
        let rate = LEARN_RATE.max(1.0 / (f64::from(self.seen) + 1.0));
        self.average = self.average_with(is);
        let most = if self.seen > CLIP_FROM { self.excess.at(LEARN_REACH) } else { 0.0 };
        let size = self.average.abs();
        self.excess.learn(if most > 0.0 { size.min(most) } else { size }, rate);
        let reach = if self.seen > CLIP_FROM && self.usual > 0.0 { LEARN_REACH * self.usual } else { f64::INFINITY };
        self.usual += rate * (is.slow.abs().min(reach) - self.usual);
        self.seen = self.seen.saturating_add(1);
    }

    fn warming_up(&self) -> bool {
        self.seen < WARM_UP
    }
}

#[cfg(test)]
mod tests;
