//! Predicted breaches: a series that will pass its limit, by its own forecast, is told of before it does.
//!
//! A forecast *says* so at a horizon if the chance of a value beyond the limit is at least what the limit asks for: 50 % is an expected
//! value beyond it, 10 % the end of the 80 % band. The chance is read off the forecast's bands, whose ends are quantiles, linearly
//! between them; beyond the widest band it counts as none. The *lead time* is from the end of the window with which the forecast was
//! issued to the end of the first window that it says so of. Nothing is predicted before 30 forecasts for the furthest horizon have been
//! judged: until then the bands are guesses.
//!
//! | state | what a window brings | what happens |
//! |---|---|---|
//! | calm | a value within the limit and a forecast that says so, the chance not falling, `open_after` times in a row | opened |
//! | open | half, then a quarter of the furthest horizon is left, or the limit is passed | updated, a severity higher |
//! | open | a value within and a forecast that says no such thing, at `calm_below` of the chance, `resolve_after` times in a row | resolved |
//!
//! The chance must not fall because it does so after a spike, which the forecast takes a while to forget; on generated drifts that halves
//! the predictions that do not come true and costs none of the others.
//!
//! A prediction has *come true* if the limit was passed while its alert was open. Nothing is predicted of a series that is beyond its limit
//! already: that is for the detectors and the valid range to say.
//!
//! Cost: a path at each window, about half a microsecond a horizon.

use serde::{Deserialize, Serialize};
use tidewatch_schemas::record::{AlertState as Change, AnomalyKind, Severity};

use super::OpenAlert;
use crate::config::{AlertSettings, ForecastParams, Limit};
use crate::forecast::PathPoint;

/// Forecasts for the furthest horizon that are judged before one is believed.
const JUDGED_MIN: u32 = 30;

/// What is known of a series and its limit, where a breach is predicted or may come to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BreachState {
    streak: Option<Streak>,
    open: Option<Box<Open>>,
}

/// Forecasts in a row that say so, no alert yet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Streak {
    since: i64,
    windows: u32,
    first_offset: i64,
    /// Of the last of them.
    chance: f64,
}

/// The alert that is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    alert: OpenAlert,
    breach: Breach,
    /// End of the window with which it opened, in ms since 1970.
    told_at: i64,
}

/// What an alert says of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Breach {
    /// What must not be passed, in units of the series.
    pub limit: f64,
    /// Whether values above are beyond it; else those below.
    pub is_above: bool,
    /// The chance of a value beyond it in the window that is told: the first one of which the forecast says so, or the likeliest.
    pub chance: f64,
    /// The same in units of what the limit asks for.
    pub score: f64,
    /// Of that window: what is expected, and the 95 % band.
    pub expected: [f64; 3],
    /// Start of that window, in ms since 1970.
    pub target_ms: i64,
    /// How long before it came true it was told, or else how long from now it will, in ms.
    pub lead_ms: i64,
    /// Start of the window that passed the limit first, if one did.
    pub came_true_ms: Option<i64>,
}

/// A step in the life of a predicted breach.
pub type BreachStep = (Change, OpenAlert, Breach);

/// A window of a series with a limit, and what is forecast from it on.
#[derive(Clone, Copy, Debug)]
pub struct ForecastWindow<'a> {
    /// Start and end of the window, in ms since 1970.
    pub start: i64,
    /// See there.
    pub end: i64,
    /// How long after it the next one starts, in ms.
    pub step_ms: i64,
    /// Input offset of its first event.
    pub first_offset: i64,
    /// Its value.
    pub value: f64,
    /// The forecast, the nearest horizon first.
    pub path: &'a [PathPoint],
}

impl BreachState {
    /// Takes a window into account; gives what a person has to hear of.
    pub fn judge(&mut self, settings: &AlertSettings, limit: &Limit, window: ForecastWindow<'_>) -> Option<BreachStep> {
        let is_beyond = limit.is_passed_by(window.value);
        let breach = predicted(limit, window);
        match self.open.take() {
            None => self.judge_calm(settings, limit, window, breach.filter(|_| !is_beyond)),
            Some(open) => self.judge_open(settings, window, open, breach, is_beyond),
        }
    }

    fn judge_calm(
        &mut self,
        settings: &AlertSettings,
        limit: &Limit,
        window: ForecastWindow<'_>,
        breach: Option<Breach>,
    ) -> Option<BreachStep> {
        let Some(breach) = breach.filter(|breach| breach.score >= 1.0) else {
            self.streak = None;
            return None;
        };
        let new = Streak { since: window.start, windows: 0, first_offset: window.first_offset, chance: 0.0 };
        let streak = self.streak.get_or_insert(new);
        if breach.chance < streak.chance {
            *streak = Streak { chance: breach.chance, windows: 1, ..new };
            return None;
        }
        streak.windows += 1;
        streak.chance = breach.chance;
        if streak.windows < settings.open_after {
            return None;
        }
        let Streak { since, windows, first_offset, .. } = self.streak.take()?;
        let alert = OpenAlert {
            opened_at: since,
            peak_score: breach.score,
            windows,
            sequence: 0,
            severity: severity(&breach, window),
            // Its record says that it is a predicted breach.
            kind: AnomalyKind::Drift,
            first_offset,
            strength: breach.score,
            is_above: limit.is_above,
            before: None,
            calm_windows: 0,
            curve: Default::default(),
            onset: None,
            gone: Default::default(),
        };
        self.open = Some(Box::new(Open { alert: alert.clone(), breach, told_at: window.end }));
        Some((Change::Opened, alert, breach))
    }

    fn judge_open(
        &mut self,
        settings: &AlertSettings,
        window: ForecastWindow<'_>,
        mut open: Box<Open>,
        breach: Option<Breach>,
        is_beyond: bool,
    ) -> Option<BreachStep> {
        let before = open.breach;
        // Without a forecast that is believed only the value itself says anything.
        open.breach = breach.unwrap_or(Breach { chance: 0.0, score: 0.0, ..before });
        open.breach.came_true_ms = before.came_true_ms.or(is_beyond.then_some(window.start));
        if open.breach.came_true_ms.is_some() {
            open.breach.lead_ms =
                if before.came_true_ms.is_some() { before.lead_ms } else { window.end - open.told_at };
        }
        let Open { alert, breach, .. } = &mut *open;
        if !is_beyond && breach.score < settings.calm_below {
            alert.calm_windows += 1;
            if alert.calm_windows >= settings.resolve_after {
                return self.end_of(open);
            }
            self.open = Some(open);
            return None;
        }
        alert.calm_windows = 0;
        alert.windows += 1;
        alert.peak_score = alert.peak_score.max(breach.score);
        let severity = severity(breach, window);
        let is_worse = severity > alert.severity;
        if is_worse {
            alert.severity = severity;
            alert.sequence += 1;
        }
        let step = (Change::Updated, alert.clone(), *breach);
        self.open = Some(open);
        is_worse.then_some(step)
    }

    fn end_of(&mut self, mut open: Box<Open>) -> Option<BreachStep> {
        self.streak = None;
        open.alert.sequence += 1;
        Some((Change::Resolved, open.alert, open.breach))
    }

    /// Ends the alert that is open, if one is; gives its last step.
    pub fn end(&mut self) -> Option<BreachStep> {
        let open = self.open.take()?;
        self.end_of(open)
    }

    /// Takes note of a window without a value.
    pub(crate) fn pause(&mut self) {
        self.streak = None;
    }

    /// Whether an alert is open.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether there is nothing to be remembered.
    #[must_use]
    pub const fn is_calm(&self) -> bool {
        self.streak.is_none() && self.open.is_none()
    }

    /// Start of the first window of the alert that is open, or that may open.
    #[must_use]
    pub fn since(&self) -> Option<i64> {
        let open = self.open.as_ref().map(|open| open.alert.opened_at);
        open.or(self.streak.map(|streak| streak.since))
    }
}

/// What a forecast says of a limit: of the first window that is likely enough to pass it, or of the likeliest.
fn predicted(limit: &Limit, window: ForecastWindow<'_>) -> Option<Breach> {
    let judged = window.path.last()?.accuracy.as_ref()?.judged;
    if judged < JUDGED_MIN {
        return None;
    }
    let mut likeliest: Option<Breach> = None;
    for point in window.path {
        let chance = chance_beyond(limit, point);
        if likeliest.is_some_and(|breach| breach.chance >= chance) {
            continue;
        }
        let &(_, lower, upper) = point.bands.iter().find(|(level, ..)| *level == ForecastParams::LEVEL)?;
        let lead_ms = i64::from(point.steps) * window.step_ms;
        likeliest = Some(Breach {
            limit: limit.value,
            is_above: limit.is_above,
            chance,
            score: chance / limit.chance,
            expected: [point.mean, lower, upper],
            target_ms: window.start + lead_ms,
            lead_ms,
            came_true_ms: None,
        });
        if chance >= limit.chance {
            break;
        }
    }
    likeliest
}

/// The chance of a value beyond the limit, by the bands of a forecast.
fn chance_beyond(limit: &Limit, point: &PathPoint) -> f64 {
    let beyond = |share_below: f64| if limit.is_above { 1.0 - share_below } else { share_below };
    // Quantiles, ascending: the lower ends of the bands from the widest on, what is expected, the upper ends.
    let lower = point.bands.iter().rev().map(|&(level, lower, _)| (0.5 - 0.5 * level, lower));
    let upper = point.bands.iter().map(|&(level, _, upper)| (0.5 + 0.5 * level, upper));
    let mut known: Option<(f64, f64)> = None;
    for (share, value) in lower.chain([(0.5, point.mean)]).chain(upper) {
        if limit.value <= value {
            let Some((share_before, before)) = known else { return if limit.is_above { 1.0 } else { 0.0 } };
            let part = if value > before { (limit.value - before) / (value - before) } else { 1.0 };
            return beyond(share_before + part * (share - share_before));
        }
        known = Some((share, value));
    }
    if limit.is_above { 0.0 } else { 1.0 }
}

/// The nearer, the worse; it is the worst once it has come true.
fn severity(breach: &Breach, window: ForecastWindow<'_>) -> Severity {
    let furthest_ms = window.path.last().map_or(0, |point| i64::from(point.steps) * window.step_ms);
    if breach.came_true_ms.is_some() {
        Severity::Critical
    } else if 4 * breach.lead_ms <= furthest_ms {
        Severity::High
    } else if 2 * breach.lead_ms <= furthest_ms {
        Severity::Medium
    } else {
        Severity::Low
    }
}
