//! When an event is meant to be sent: an open-loop schedule.
//!
//! Invariant: the intended time is a function of (pace, event), never of when earlier events went out; so a slow receiver
//! shows as lateness against the schedule instead of slowing the schedule (no coordinated omission).

use hdrhistogram::Histogram;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A waiting thread looks this often whether it is to stop.
const SLEEP_MAX: Duration = Duration::from_millis(20);

/// How fast events are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as possible; an event is meant to be sent when it is.
    Unlimited,
    /// So many events a second over all streams, in the mean over the scenario; a burst in event time is a burst here.
    Rate(f64),
    /// So many times as fast as event time; 1 is real time.
    Speed(f64),
}

impl Pace {
    /// Why it cannot be used.
    pub fn problem(self) -> Option<String> {
        match self {
            Self::Rate(rate) if !(rate.is_finite() && rate > 0.0) => {
                Some(format!("a rate of {rate} events/s is not above 0"))
            }
            Self::Speed(speed) if !(speed.is_finite() && speed > 0.0) => {
                Some(format!("a speed of {speed} is not above 0"))
            }
            _ => None,
        }
    }

    /// How long after the start an event is to be sent; `None` without a schedule.
    ///
    /// `position`: how many events are expected before it. `offset_ms`: event time since the first event's.
    pub fn intended(self, position: f64, offset_ms: i64) -> Option<Duration> {
        let seconds = match self {
            Self::Unlimited => return None,
            Self::Rate(rate) => position / rate,
            Self::Speed(speed) => offset_ms as f64 / 1000.0 / speed,
        };
        // Beyond 30,000 years it is the same to everybody; non-finite input must not panic.
        Some(Duration::from_secs_f64(seconds.clamp(0.0, 1e12)))
    }
}

/// How far behind schedule events were sent, microseconds, to two digits; an hour or more counts as an hour.
#[derive(Clone, Debug, PartialEq)]
pub struct Lateness(Histogram<u64>);

const LATENESS_US_MAX: u64 = 3_600_000_000;

impl Default for Lateness {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LATENESS_US_MAX, 2).expect("these bounds are possible"))
    }
}

impl Lateness {
    /// By how much the share `quantile` (0..1) of the events was behind at most; zero without events.
    pub fn at(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(quantile))
    }

    /// By how much the worst was behind.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }

    pub(crate) fn record(&mut self, behind: Duration) {
        self.0.saturating_record(u64::try_from(behind.as_micros()).unwrap_or(LATENESS_US_MAX));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }
}

/// When a schedule began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_ms: u64,
}

/// An event's moment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sending {
    /// When it was meant to come, epoch ms.
    pub(crate) intended_ms: u64,
    /// How much later it is.
    pub(crate) behind: Duration,
    /// Whether there was time to sleep.
    pub(crate) waited: bool,
}

impl Clock {
    /// The schedule begins now.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), started_ms: now_ms() }
    }

    /// Sleeps until an intended time (not at all without one); `None` if it is to stop.
    pub(crate) fn wait(&self, intended: Option<Duration>, is_stopped: &dyn Fn() -> bool) -> Option<Sending> {
        let mut waited = false;
        loop {
            if is_stopped() {
                return None;
            }
            let Some(intended) = intended else {
                return Some(Sending { intended_ms: now_ms(), behind: Duration::ZERO, waited });
            };
            let now = self.started.elapsed();
            if now >= intended {
                let intended_ms = self.started_ms + intended.as_millis() as u64;
                return Some(Sending { intended_ms, behind: now - intended, waited });
            }
            std::thread::sleep((intended - now).min(SLEEP_MAX));
            waited = true;
        }
    }
}

/// The clock, epoch ms.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_measured_over_all_threads() {
        let (mut one, mut other) = (Lateness::default(), Lateness::default());
        assert_eq!((one.at(0.99), one.max()), (Duration::ZERO, Duration::ZERO));
        (1..=99).for_each(|ms| one.record(Duration::from_millis(ms)));
        other.record(Duration::from_secs(100_000));
        one.add(&other);
        assert!((one.at(0.5).as_secs_f64() / 0.05 - 1.0).abs() < 0.02, "{:?}", one.at(0.5));
        assert!((one.max().as_secs_f64() / 3600.0 - 1.0).abs() < 0.02, "{:?}", one.max());
    }

    #[test]
    fn intended_times_depend_on_the_event_alone() {
        let check = |pace: Pace, position: f64, offset_ms: i64, wanted_ms: Option<u64>| {
            assert_eq!(pace.intended(position, offset_ms), wanted_ms.map(Duration::from_millis), "{pace:?}");
        };
        check(Pace::Unlimited, 10.0, 10, None);
        check(Pace::Rate(200.0), 50.0, 7, Some(250));
        check(Pace::Speed(60.0), 1.0, 60_000, Some(1000));
        check(Pace::Speed(1.0), 1.0, -5, Some(0));
        check(Pace::Speed(1e-300), 1.0, 5, Some(1_000_000_000_000_000));
        assert_eq!(Pace::Rate(0.0).problem().unwrap(), "a rate of 0 events/s is not above 0");
        assert_eq!(Pace::Speed(f64::NAN).problem().unwrap(), "a speed of NaN is not above 0");
        assert_eq!(Pace::Speed(2.0).problem(), None);
    }
}
