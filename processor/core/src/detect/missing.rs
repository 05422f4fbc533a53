//! Missing windows: is an entity silent for longer than it ever is?
//!
//! With `p` the share of windows that have no event of the entity (over the last hundred or so, the one that is not known counted in), `n`
//! of them in a row have a chance of `p^n`, if they miss independently. It falls silent after the first `n` for which that is not more than
//! the false alarms that are asked for in a window, and after three at least:
//!
//! ```text
//!   n = max(3, ceil(ln(asked) / ln(p)))
//! ```
//!
//! An entity that sends in every window is missed after three windows of five minutes with a false alarm a week, one that sends in every
//! second one after eleven.
//!
//! Cost: 5 ns a window that has events. Memory: 16 bytes. Warm-up: 100 windows, the missing ones counted in. Windows that are missing are
//! learnt when the entity sends again.

use serde::{Deserialize, Serialize};

/// The rate at which the share follows.
const RATE: f64 = 0.01;
const WARM_UP: u32 = 100;
/// The least number of windows, and the greatest share that is believed.
const LEAST: f64 = 3.0;
const SHARE_MOST: f64 = 0.95;

/// How often an entity's windows have no events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Missing {
    share: f64,
    windows: u32,
}

impl Missing {
    /// Learns a window with events, behind so many without.
    pub(crate) fn learn(&mut self, missing: u32) {
        let kept = libm::pow(1.0 - RATE, f64::from(missing));
        self.share = (1.0 - (1.0 - self.share) * kept) * (1.0 - RATE);
        self.windows = self.windows.saturating_add(missing).saturating_add(1);
    }

    /// Missing windows in a row that are more than chance, if so many false alarms are asked for in a window; `None` while warming up.
    pub(crate) fn after(&self, asked: f64) -> Option<u32> {
        if self.windows < WARM_UP {
            return None;
        }
        let share = self.share.max(1.0 / (f64::from(self.windows) + 1.0)).min(SHARE_MOST);
        let windows = libm::ceil(libm::log(asked.min(1.0)) / libm::log(share)).max(LEAST);
        Some(windows as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One false alarm a week, in windows of five minutes.
    const ASKED: f64 = 1.0 / 2_016.0;

    fn learnt(windows: u32, missing: impl Fn(u32) -> u32) -> Missing {
        let mut known = Missing::default();
        (0..windows).for_each(|at| known.learn(missing(at)));
        known
    }

    #[test]
    fn who_sends_always_is_missed_soon_and_who_sends_seldom_late() {
        assert_eq!(learnt(99, |_| 0).after(ASKED), None);
        assert_eq!(learnt(1_000, |_| 0).after(ASKED), Some(3));
        let half = learnt(1_000, |_| 1).after(ASKED).unwrap();
        assert!((10..=13).contains(&half), "{half}");
        let tenth = learnt(1_000, |_| 9).after(ASKED).unwrap();
        assert!((55..=150).contains(&tenth), "{tenth}");
        assert_eq!(learnt(1_000, |_| u32::MAX).after(0.0).map(|after| after > 1_000), Some(true));
    }

    #[test]
    fn one_long_silence_is_forgotten() {
        let known = learnt(1_000, |at| if at == 100 { 500 } else { 0 });
        assert_eq!(known.after(ASKED), Some(3));
        assert!(learnt(200, |at| if at == 190 { 50 } else { 0 }).after(ASKED).unwrap() > 5);
    }
}
