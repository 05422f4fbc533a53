//! When events happen: a rate profile over a scenario, as a cumulative count that can be inverted.
//!
//! Invariant: the time of an entity's i-th event is `Timeline::time_of(i + jitter)`, monotone in i and independent of any
//! other event, so that generation can start at any index.

use crate::random::Random;
use crate::shape::wave;

/// Steps into which a scenario is cut at most; within a step the rate is constant.
const SLOTS_MAX: usize = 8192;
/// All entities' own steps together: 8 bytes each, 64 MB.
const SLOTS_TOTAL_MAX: usize = 8 << 20;
const SLOT_MS_MIN: i64 = 1000;

/// How the rate of events moves over a scenario. Only the proportions matter: the number of events is the scenario's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Profile {
    /// The same rate throughout.
    Constant,
    /// Linear from `from` at the start to `to` at the end (proportions).
    Ramp {
        /// Relative rate at the start.
        from: f64,
        /// Relative rate at the end.
        to: f64,
    },
    /// `1 + amplitude cos`, with its peak `peak_ms` after the period's start (of the epoch, so 24 h periods peak at a time of day).
    Sine(Wave),
    /// `factor` times the base rate for `length_ms` of every `every_ms`.
    Burst {
        /// From one burst's start to the next, milliseconds.
        every_ms: i64,
        /// Length of a burst, milliseconds.
        length_ms: i64,
        /// Rate in a burst over the rate outside.
        factor: f64,
    },
    /// Counts per step are Poisson, entity by entity, around a sine (amplitude 0: around a constant).
    Poisson(Wave),
}

/// A sine's parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wave {
    /// 0 (flat) to 1 (silent at the trough).
    pub amplitude: f64,
    /// Milliseconds.
    pub period_ms: i64,
    /// Milliseconds.
    pub peak_ms: i64,
}

impl Profile {
    /// Events between `from_ms` and `to_ms` after `start_ms`, in units of its own.
    fn mass(&self, start_ms: i64, duration_ms: i64, from_ms: f64, to_ms: f64) -> f64 {
        let width = to_ms - from_ms;
        match *self {
            Self::Constant => width,
            Self::Ramp { from, to } => {
                let middle = (from_ms + to_ms) / 2.0 / duration_ms as f64;
                width * (from + (to - from) * middle)
            }
            Self::Sine(w) | Self::Poisson(w) => {
                let middle = start_ms + ((from_ms + to_ms) / 2.0) as i64;
                width * (1.0 + w.amplitude * wave(middle, w.period_ms, w.peak_ms))
            }
            Self::Burst { every_ms, length_ms, factor } => {
                let inside = |t: f64| {
                    let whole = (t / every_ms as f64).floor();
                    whole * length_ms as f64 + (t - whole * every_ms as f64).min(length_ms as f64)
                };
                width + (factor - 1.0) * (inside(to_ms) - inside(from_ms))
            }
        }
    }
}

/// A cumulative count over a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    slot_ms: f64,
    duration_ms: i64,
    /// Count before the k-th step; one more than there are steps.
    cumulative: Vec<f64>,
}

impl Timeline {
    /// The expected course, with `events` in all.
    pub fn expected(profile: &Profile, start_ms: i64, duration_ms: i64, events: f64) -> Self {
        let slots = slots(duration_ms, 1);
        let mut timeline = Self::build(slots, duration_ms, |from, to| profile.mass(start_ms, duration_ms, from, to));
        let scale = events / timeline.total();
        timeline.cumulative.iter_mut().for_each(|count| *count *= scale);
        if let Some(last) = timeline.cumulative.last_mut() {
            *last = events;
        }
        timeline
    }

    /// One entity's own course: Poisson counts around `expected` times `share`, drawn from `random`.
    pub fn poisson(expected: &Self, share: f64, entities: usize, random: Random) -> Self {
        let slots = slots(expected.duration_ms, entities);
        let mut slot = 0;
        Self::build(slots, expected.duration_ms, |from, to| {
            let mean = share * (expected.count_at(to) - expected.count_at(from));
            slot += 1;
            random.poisson(mean, slot, 0) as f64
        })
    }

    fn build(slots: usize, duration_ms: i64, mut mass: impl FnMut(f64, f64) -> f64) -> Self {
        let slot_ms = duration_ms as f64 / slots as f64;
        let mut cumulative = Vec::with_capacity(slots + 1);
        let mut count = 0.0;
        cumulative.push(count);
        for slot in 0..slots {
            count += mass(slot as f64 * slot_ms, (slot + 1) as f64 * slot_ms);
            cumulative.push(count);
        }
        Self { slot_ms, duration_ms, cumulative }
    }

    /// Events over the whole scenario.
    pub fn total(&self) -> f64 {
        self.cumulative.last().copied().unwrap_or(0.0)
    }

    /// Length of the scenario, milliseconds.
    pub fn duration_ms(&self) -> i64 {
        self.duration_ms
    }

    /// Events before `offset_ms` after the scenario's start.
    pub fn count_at(&self, offset_ms: f64) -> f64 {
        let at = (offset_ms / self.slot_ms).clamp(0.0, (self.cumulative.len() - 1) as f64);
        let slot = (at as usize).min(self.cumulative.len() - 2);
        let (low, high) = (self.cumulative[slot], self.cumulative[slot + 1]);
        low + (high - low) * (at - slot as f64)
    }

    /// Milliseconds after the scenario's start at which the count reaches `count`. `slot` remembers the last answer's step:
    /// it only makes neighbouring questions cheap and never changes an answer.
    pub fn time_of(&self, count: f64, slot: &mut usize) -> i64 {
        let last = self.cumulative.len() - 2;
        let here = (*slot).min(last);
        let near =
            self.cumulative[here] <= count && here + 2 < self.cumulative.len() && count < self.cumulative[here + 2];
        *slot = if near {
            here + usize::from(count >= self.cumulative[here + 1])
        } else {
            self.cumulative.partition_point(|&before| before <= count).saturating_sub(1).min(last)
        };
        let (low, high) = (self.cumulative[*slot], self.cumulative[*slot + 1]);
        let within = if high > low { ((count - low) / (high - low)).clamp(0.0, 1.0) } else { 0.0 };
        let offset_ms = (*slot as f64 + within) * self.slot_ms;
        (offset_ms as i64).min(self.duration_ms - 1)
    }
}

fn slots(duration_ms: i64, entities: usize) -> usize {
    let fine = (duration_ms / SLOT_MS_MIN).max(1) as usize;
    fine.min(SLOTS_MAX).min((SLOTS_TOTAL_MAX / entities.max(1)).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR_MS: i64 = 3_600_000;

    fn check(profile: Profile, at: &[(f64, f64)]) {
        let timeline = Timeline::expected(&profile, 0, 24 * HOUR_MS, 1000.0);
        assert_eq!(timeline.total(), 1000.0);
        for &(hour, wanted) in at {
            let found = timeline.count_at(hour * HOUR_MS as f64);
            assert!((found - wanted).abs() < 0.5, "{profile:?} at {hour} h: {found}, wanted {wanted}");
        }
    }

    #[test]
    fn the_cumulative_counts_are_the_profiles_integrals() {
        check(Profile::Constant, &[(0.0, 0.0), (6.0, 250.0), (24.0, 1000.0)]);
        // Rate from 1 to 3: after half the time 1.5 of 4 parts.
        check(Profile::Ramp { from: 1.0, to: 3.0 }, &[(12.0, 375.0)]);
        // Half a day around the peak holds 1/2 + amplitude/pi.
        let wave = Wave { amplitude: 0.5, period_ms: 24 * HOUR_MS, peak_ms: 12 * HOUR_MS };
        let around = 1000.0 * (0.5 + 0.5 / std::f64::consts::PI);
        check(Profile::Sine(wave), &[(6.0, (1000.0 - around) / 2.0), (18.0, (1000.0 + around) / 2.0)]);
        // One hour of six at five times the rate: half of the six hours' events.
        let burst = Profile::Burst { every_ms: 6 * HOUR_MS, length_ms: HOUR_MS, factor: 5.0 };
        check(burst, &[(1.0, 125.0), (6.0, 250.0), (7.0, 375.0)]);
    }

    #[test]
    fn poisson_counts_vary_as_they_should() {
        let profile = Profile::Poisson(Wave { amplitude: 0.0, period_ms: 24 * HOUR_MS, peak_ms: 0 });
        let expected = Timeline::expected(&profile, 0, 24 * HOUR_MS, 100_000.0);
        let own = Timeline::poisson(&expected, 0.1, 10, Random::new(3));
        // 10,000 wanted, standard deviation 100.
        assert!((own.total() - 10_000.0).abs() < 400.0, "{}", own.total());
        let hours: Vec<f64> = (0..24).map(|h| h as f64 * HOUR_MS as f64).collect();
        let counts = hours.iter().map(|&h| own.count_at(h + HOUR_MS as f64) - own.count_at(h));
        let variance = counts.map(|c| (c - 10_000.0 / 24.0).powi(2)).sum::<f64>() / 24.0;
        // Chi-square with 24 degrees of freedom, 0.01 % and 99.99 % points.
        let ratio = variance / (10_000.0 / 24.0) * 24.0;
        assert!((5.0..65.0).contains(&ratio), "dispersion {ratio}");
    }

    proptest! {
        #[test]
        fn times_are_monotone_inside_the_scenario_and_invert_the_count(
            counts in prop::collection::vec(0.0..1000.0_f64, 2..50), hint in 0_usize..9000, ramp in 0.0..5.0_f64,
        ) {
            let timeline = Timeline::expected(&Profile::Ramp { from: ramp, to: 1.0 }, 0, 7 * HOUR_MS, 1000.0);
            let mut counts = counts;
            counts.sort_by(f64::total_cmp);
            let (mut slot, mut last) = (hint, 0);
            for count in counts {
                let time = timeline.time_of(count, &mut slot);
                prop_assert_eq!(time, timeline.time_of(count, &mut 0));
                prop_assert!(time >= last && time < 7 * HOUR_MS);
                prop_assert!((timeline.count_at(time as f64) - count).abs() < 1.0);
                last = time;
            }
        }
    }
}
