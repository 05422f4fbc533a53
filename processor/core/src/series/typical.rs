//! What the series of a cohort have in common, for one that is new.
//!
//! The mean, over the windows of the cohort's entities that know enough of themselves, of: how far values usually are from what is usual at
//! their time, as such and as a share of the level; the tail of that; and the threshold of alerts. A series borrows it once, when it has
//! twelve values: its own level, the cohort's strays. From then on its own values count, one more each, so that after some dozens what
//! was borrowed is forgotten.
//!
//! Where entities of very different sizes belong to one cohort, the share of the level is what they have in common; where levels are near
//! 0, the distance itself is.

use serde::{Deserialize, Serialize};

use crate::forecast::usual::Stray;

/// The rate at which the means follow in the end.
const RATE: f64 = 0.001;
/// Entities and windows without which nothing is lent.
const ENTITIES: u32 = 3;
const WINDOWS: u32 = 200;
/// The share of the level from which the level says nothing of how far values stray.
const SHARE_MAX: f64 = 0.5;

/// Means over the windows of a cohort's series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Typical {
    entities: u32,
    windows: u32,
    share: f64,
    stray: Stray,
    threshold: f64,
}

/// What one series' window adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Example {
    /// Whether it is the series' first.
    pub(super) is_first: bool,
    pub(super) level: f64,
    /// The tail in units of its usual distance.
    pub(super) stray: Stray,
    pub(super) threshold: f64,
}

impl Typical {
    pub(crate) fn learn(&mut self, example: &Example) {
        let Example { is_first, level, stray, threshold } = *example;
        self.entities = self.entities.saturating_add(u32::from(is_first));
        let rate = RATE.max(1.0 / (f64::from(self.windows) + 1.0));
        self.windows = self.windows.saturating_add(1);
        let follow = |mean: &mut f64, x: f64| *mean += rate * (x - *mean);
        follow(&mut self.share, stray.usual / (level.abs() + stray.usual));
        follow(&mut self.stray.usual, stray.usual);
        follow(&mut self.stray.mean, stray.mean);
        follow(&mut self.stray.sd, stray.sd);
        follow(&mut self.threshold, threshold);
    }

    /// How far the values of a series at this level stray, and its threshold; `None` while too little is known.
    pub(super) fn lend(&self, level: f64) -> Option<(Stray, f64)> {
        if self.entities < ENTITIES || self.windows < WINDOWS {
            return None;
        }
        let by_level = self.share / (1.0 - self.share) * level.abs();
        let usual = if self.share < SHARE_MAX { by_level } else { self.stray.usual };
        Some((Stray { usual, ..self.stray }, self.threshold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(is_first: bool, level: f64, usual: f64) -> Example {
        Example { is_first, level, stray: Stray { usual, mean: 1.0, sd: 0.5 }, threshold: 1.5 }
    }

    #[test]
    fn entities_of_any_size_lend_their_share_of_the_level() {
        let mut typical = Typical::default();
        for at in 0..600 {
            let level = [10.0, 1_000.0, 100_000.0][at % 3];
            typical.learn(&example(at < 3, level, 0.05 * level));
            assert_eq!(typical.lend(50.0).is_some(), at >= 199, "{at}");
        }
        let (stray, threshold) = typical.lend(-50.0).unwrap();
        assert!((stray.usual - 2.5).abs() < 1e-9 && (threshold - 1.5).abs() < 1e-9, "{stray:?} {threshold}");
    }

    #[test]
    fn around_0_they_lend_the_distance_and_one_entity_lends_nothing() {
        let mut typical = Typical::default();
        for at in 0..600 {
            typical.learn(&example(at < 3, 0.1, 8.0));
        }
        assert!((typical.lend(0.0).unwrap().0.usual - 8.0).abs() < 1e-9);
        let mut of_one = Typical::default();
        (0..600).for_each(|at| of_one.learn(&example(at == 0, 0.1, 8.0)));
        assert_eq!(of_one.lend(0.0), None);
    }
}
