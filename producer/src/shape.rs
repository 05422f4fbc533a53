//! The shape of a day and of a week: what a quantity is multiplied by at an event time.
//!
//! Invariant: pure functions of the event time, with mean 1 over a whole period.

use std::f64::consts::TAU;

/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;
const WEEK_MS: i64 = 7 * DAY_MS;
/// 1970-01-01 was a Thursday: Wednesday noon, the middle of the working week, is 6.5 days later.
const WEDNESDAY_NOON_MS: i64 = 6 * DAY_MS + DAY_MS / 2;

/// `cos` of the phase of `time_ms` within a period, 1 at the peak and -1 half a period away.
pub fn wave(time_ms: i64, period_ms: i64, peak_ms: i64) -> f64 {
    let phase = (time_ms - peak_ms).rem_euclid(period_ms);
    (TAU * phase as f64 / period_ms as f64).cos()
}

/// How an entity's load moves over the day and the week.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Share by which a day's peak exceeds its mean, 0..1.
    pub daily_amplitude: f64,
    /// Share by which the working week exceeds the week's mean, 0..1.
    pub weekly_amplitude: f64,
    /// Time of day of the peak in UTC, milliseconds after midnight.
    pub peak_ms: i64,
}

impl Shape {
    /// -1 (a day's trough) to 1 (its peak).
    pub fn daily_wave(&self, time_ms: i64) -> f64 {
        wave(time_ms, DAY_MS, self.peak_ms)
    }

    /// The week's factor.
    pub fn weekly(&self, time_ms: i64) -> f64 {
        if self.weekly_amplitude == 0.0 {
            return 1.0;
        }
        1.0 + self.weekly_amplitude * wave(time_ms, WEEK_MS, WEDNESDAY_NOON_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_where_they_are_declared() {
        let shape = Shape { daily_amplitude: 0.3, weekly_amplitude: 0.1, peak_ms: 13 * 3_600_000 };
        let monday: i64 = "2026-01-05T00:00:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond();
        assert!((shape.daily_wave(monday + 13 * 3_600_000) - 1.0).abs() < 1e-12);
        assert!((shape.daily_wave(monday + 3_600_000) + 1.0).abs() < 1e-12);
        assert!((shape.weekly(monday + 2 * DAY_MS + DAY_MS / 2) - 1.1).abs() < 1e-12);
        let mean = (0..24 * 60).map(|minute| shape.daily_wave(monday + minute * 60_000)).sum::<f64>() / 1440.0;
        assert!(mean.abs() < 1e-12);
    }
}
