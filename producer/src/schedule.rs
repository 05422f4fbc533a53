//! When an event is meant to be sent: an open-loop schedule.
//!
//! Invariant: the intended time is a function of (pace, event), never of when earlier events went out; so a slow receiver
//! shows as lateness against the schedule instead of slowing the schedule (no coordinated omission).

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
