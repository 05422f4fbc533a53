//! What an anomaly looks like: since when it lasts, and which kind of departure it is.
//!
//! Both look at `r`, how far a window is from where the series has been for days, in usual distances, which what happens now hardly moves.
//!
//! *Onset*: the moving average of `r`, at .3, has been beyond one usual distance on one side since then; without such a stretch it is the
//! first anomalous window. This finds the beginning of a drift, which is long past when it is noticed.
//!
//! *Kind*, of an alert that has lasted for a while: with `s` the profile of the season at each window, less its mean, which of three
//! curves explains `r` best since the first anomalous window?
//!
//! ```text
//!   level shift      r = a + b s, b >= 0    the constant, or a share of all there is
//!   drift            r = a + b t            it ends 1.6 times as far out as it began, on the same side, and the slope is five standard
//!                                           errors beyond what the level shift explains; or 1.2 times, of what has left little by little
//!   seasonal break   r = b s, b < -.3       the season has lost its height (-1) or is turned over (-2): a fifth less is left than by the
//!                                           level shift, and no more than by the drift, which has a number more to choose
//! ```
//!
//! All by least squares, from running sums: ten numbers, 10 ns a window.

use serde::{Deserialize, Serialize};
use tidewatch_schemas::record::AnomalyKind;

/// Rate of the moving average, and how far it is out.
const RATE: f64 = 0.3;
const AWAY: f64 = 1.0;
/// Windows away that make a departure a gradual one.
const GRADUAL: u32 = 4;
/// Distances beyond which a window is taken as this far away.
const DISTANCE_MAX: f64 = 1e6;
/// The same of a curve, which is in units of the series where nothing is known of what is usual: no product of two sums overflows.
const CURVE_MAX: f64 = 1e70;
/// What the season has to leave at most of what a level shift leaves, and the square of the standard errors of a drift.
const SEASON_LEAVES: f64 = 0.8;
const DRIFT_SQUARED: f64 = 25.0;
/// How much of the season's height has to be gone.
const SEASON_LOST: f64 = -0.3;
/// How much further out a line has to end than it began.
const GROWTH: f64 = 1.6;
/// The same of what has left little by little, and is far out when it is noticed.
const GROWTH_GRADUAL: f64 = 1.2;

/// Since when a series is away from where it has been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Away {
    average: f64,
    since: Option<i64>,
    windows: u32,
}

impl Away {
    /// Takes a window into account that starts at `start`, so far away.
    pub(super) fn follow(&mut self, start: i64, distance: f64) {
        let was_above = self.average > 0.0;
        self.average += RATE * (distance.clamp(-DISTANCE_MAX, DISTANCE_MAX) - self.average);
        let is_away = self.average.abs() > AWAY;
        let goes_on = is_away && self.since.is_some() && was_above == (self.average > 0.0);
        (self.since, self.windows) = if goes_on {
            (self.since, self.windows.saturating_add(1))
        } else {
            (is_away.then_some(start), u32::from(is_away))
        };
    }

    /// Whether it has been for some windows: a departure that has begun now is sudden.
    pub(super) const fn is_gradual(&self) -> bool {
        self.windows >= GRADUAL
    }

    /// Start of the first window away, if the series is.
    pub(super) const fn since(&self) -> Option<i64> {
        self.since
    }
}

/// Sums over the windows of an anomaly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Curve {
    windows: u32,
    t: f64,
    tt: f64,
    r: f64,
    rr: f64,
    rt: f64,
    s: f64,
    ss: f64,
    rs: f64,
}

impl Curve {
    /// Takes a window that is so far away into account, with what the season adds there.
    pub(super) fn add(&mut self, distance: f64, season: f64) {
        let (t, r) = (f64::from(self.windows), distance.clamp(-CURVE_MAX, CURVE_MAX));
        let s = season.clamp(-CURVE_MAX, CURVE_MAX);
        self.windows = self.windows.saturating_add(1);
        self.t += t;
        self.tt += t * t;
        self.r += r;
        self.rr += r * r;
        self.rt += r * t;
        self.s += s;
        self.ss += s * s;
        self.rs += r * s;
    }

    /// Windows so far.
    pub(super) const fn windows(&self) -> u32 {
        self.windows
    }

    /// What an anomaly of such a curve is called; a series that was away before it was noticed has left little by little.
    pub(super) fn kind(&self, is_gradual: bool) -> AnomalyKind {
        let Self { t, tt, r, rr, rt, s, ss, rs, .. } = *self;
        let n = f64::from(self.windows);
        if n < 3.0 {
            return AnomalyKind::LevelShift;
        }
        let about = |xy: f64, x: f64, y: f64| xy - x * y / n;
        let constant = about(rr, r, r);
        let with_season = about(rs, r, s).max(0.0);
        let of_season = about(ss, s, s);
        let varies = of_season > 1e-9 * ss;
        let level_shift = constant - if varies { with_season * with_season / of_season } else { 0.0 };
        let slope = about(rt, r, t) / about(tt, t, t);
        let drift = (constant - slope * about(rt, r, t)).max(f64::MIN_POSITIVE);
        let seasonal = if ss > 0.0 { rr - rs * rs / ss } else { f64::INFINITY };
        if ss > 0.0 && rs / ss < SEASON_LOST && seasonal < SEASON_LEAVES * level_shift && seasonal <= drift {
            return AnomalyKind::SeasonalBreak;
        }
        let begin = (r - slope * t) / n;
        let end = begin + slope * (n - 1.0);
        let growth = if begin * end >= 0.0 { end.abs() / begin.abs() } else { 0.0 };
        let is_line = level_shift - drift > DRIFT_SQUARED * drift / (n - 2.0);
        let is_drift = growth > GROWTH && is_line || growth > GROWTH_GRADUAL && is_gradual;
        if is_drift { AnomalyKind::Drift } else { AnomalyKind::LevelShift }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(curve: impl Fn(f64) -> (f64, f64)) -> AnomalyKind {
        let mut sums = Curve::default();
        for at in 0..48 {
            let noise = f64::from(at * 7_919 % 101) / 101.0 - 0.5;
            let (distance, season) = curve(f64::from(at));
            sums.add(distance + noise, season);
        }
        sums.kind(false)
    }

    #[test]
    fn kinds_are_told_by_the_curve() {
        let season = |t: f64| 5.0 * (t / 20.0).sin();
        assert_eq!(kind(|t| (4.0, season(t))), AnomalyKind::LevelShift);
        assert_eq!(kind(|t| (-4.0 - 0.6 * season(t), season(t))), AnomalyKind::LevelShift, "a share less");
        assert_eq!(
            kind(|t| (8.0 + 0.8 * (0.2 * t - 4.0), 0.2 * t - 4.0)),
            AnomalyKind::LevelShift,
            "a share more, of a rising season"
        );
        assert_eq!(kind(|t| (1.0 + 0.2 * t, 0.0)), AnomalyKind::Drift);
        assert_eq!(kind(|t| (-1.0 - 0.2 * t, 0.0)), AnomalyKind::Drift);
        assert_eq!(kind(|t| (10.0 - 0.1 * t, 0.0)), AnomalyKind::LevelShift, "it fades");
        assert_eq!(kind(|t| (-season(t), season(t))), AnomalyKind::SeasonalBreak);
        assert_eq!(kind(|t| (-2.0 * season(t), season(t))), AnomalyKind::SeasonalBreak);
        assert_eq!(Curve::default().kind(true), AnomalyKind::LevelShift);
    }

    #[test]
    fn what_has_left_little_by_little_is_a_drift_if_it_still_grows() {
        let mut sums = Curve::default();
        (0..48).for_each(|t| sums.add(6.0 + 0.05 * f64::from(t), 0.0));
        assert_eq!([sums.kind(false), sums.kind(true)], [AnomalyKind::LevelShift, AnomalyKind::Drift]);
    }

    #[test]
    fn the_onset_of_a_drift_is_where_it_left_what_is_usual() {
        let mut away = Away::default();
        for start in 0..60 {
            let noise = f64::from(start * 7_919 % 101) / 101.0 - 0.5;
            away.follow(i64::from(start), noise + if start > 30 { 0.3 * f64::from(start - 30) } else { 0.0 });
        }
        let since = away.since().unwrap();
        assert!((32..=40).contains(&since), "{since}");
        (60..70).for_each(|start| away.follow(start, 0.0));
        assert_eq!(away.since(), None);
    }

    #[test]
    fn what_changes_sides_begins_anew() {
        let mut away = Away::default();
        (0..10).for_each(|start| away.follow(start, 5.0));
        assert_eq!(away.since(), Some(0));
        (10..20).for_each(|start| away.follow(start, -50.0));
        assert_eq!(away.since(), Some(10));
    }
}
