//! When a person hears of an anomaly: alerts open, are updated and resolve, with hysteresis, as often as was asked for.
//!
//! A window's *strength* is the greatest of its detectors' scores. Divided by the series' threshold it is the *evidence*; 1.0 is enough.
//!
//! | state | what a window brings | what happens |
//! |---|---|---|
//! | calm | news, and then evidence of 1.0 and more, `open_after` times in a row, or once of at least `open_at_once` | opened |
//! | open | severity rises or the kind becomes clear | updated |
//! | open | evidence below `calm_below` and the value back where it was, `resolve_after` times in a row | resolved |
//!
//! Between `calm_below` and 1.0 an open alert stays as it is. A level that has shifted is usual after some windows to every detector, and
//! keeps its alert open all the same, until the series is back or `repeat_after` is over: then that is the new normal, and it is resolved.
//! So is the alert of a series that has had no value for as long. An alert does not repeat while it is open, nor soon after: what is no
//! more than twice as strong as what was told within `repeat_after`, on the same side, is no news. Nor is a return: a value where the
//! series was before it, at most a week later, unless its evidence is so great that there is more to it. A window's *score* is below .5 if
//! it is no news, its evidence up to 1.0, and from there on the geometric mean of evidence and strength, at least 1.0: how rare it is in
//! its own series, and how odd by any series' standard.
//!
//! The threshold makes alerts as rare as `false_alarms` asks. It is multiplied by `e^eta` each time that an alert opens, and falls by `eta`
//! times the number that was asked for; where both balance, as many open as were asked for, whatever the series is like. It starts at 1 and
//! falls below only as fast as periods of what was asked for have been seen, so that a short history lowers nothing; while an alert is open
//! it stands still, as no other can open. The same feedback keeps the coverage of prediction intervals (I. Gibbs, E. Candès, "Adaptive
//! Conformal Inference Under Distribution Shift", NeurIPS 2021).

use serde::{Deserialize, Serialize};
use tidewatch_schemas::record::{AlertState as Change, AnomalyKind, Severity};

use self::shape::{Away, Curve};
use self::tail::Tail;
use crate::config::AlertSettings;
use crate::detect::DetectorKind;
use crate::series::Verdict;
use crate::state::format::{Until, in_4, one_in_4};

pub mod breach;
mod shape;
mod tail;

/// What the threshold rises by when an alert opens: `eta`, and `e^eta`.
const ETA: f64 = 0.15;
const RAISE: f64 = 1.161_834_242_728_283;
/// By how much more it falls than `eta` a period: alerts that open follow each other closely, and the first ones teach most.
const FALL: f64 = 1.4;
/// Periods of what was asked for, of which so many have to be seen until it falls below 1 at half of the pace.
const PERIODS_SLOW: f64 = 4.0;
/// The lowest and the highest threshold.
const THRESHOLD_LEAST: f64 = 0.1;
const THRESHOLD_MOST: f64 = 20.0;
/// What was told is news again if it is so many times as strong, or after so many windows.
const REPEAT_FACTOR: f64 = 2.0;
const REPEAT_WINDOWS: i64 = 100;
/// The greatest score of what is no news.
const NO_NEWS: f64 = 0.49;
/// How long it is known where the series was before an alert, in ms, and usual residuals within which a value is there again.
const RETURN_MS: i64 = 7 * 86_400_000;
const RETURN_REACH: f64 = 4.0;
/// Usual residuals within which the values that resolve an alert are.
const STAY_REACH: f64 = 2.0;
/// Evidence from which no window is a mere return.
const RETURN_MOST: f64 = 8.0;
/// Usual distances from where the series has been for days, within which it is back.
const RETURN_SLOW: f64 = 1.5;
/// Windows, and time in ms, after which half of what can be known of a series is.
const CONFIDENT_WINDOWS: f64 = 100.0;
const CONFIDENT_MS: f64 = 2.0 * 86_400_000.0;
/// A deviation of this share of what was expected is far.
const FAR: f64 = 0.5;
/// Windows of an alert in which it may turn out that only the combination with other measures is odd.
const COMBINATION_WINDOWS: u32 = 3;
/// How often alerts may be false, in windows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// False alarms that were asked for, a window.
    pub asked: f64,
    /// How long what was told is no news, in ms.
    pub repeat_ms: i64,
}

impl Pace {
    /// How long what was told is remembered of a series with a window each `step_ms`, in ms.
    pub(crate) fn memory_ms(self, step_ms: i64) -> i64 {
        self.repeat_ms.min(REPEAT_WINDOWS.saturating_mul(step_ms))
    }
}

/// What opens alerts of a series, and its alert: the one that is open, or the windows in a row that may open one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertState {
    #[serde(deserialize_with = "one_in_4")]
    threshold: f64,
    /// Windows judged.
    #[serde(deserialize_with = "in_4")]
    windows: u32,
    #[serde(deserialize_with = "in_4")]
    told: Option<Told>,
    #[serde(deserialize_with = "in_4")]
    away: Away,
    #[serde(deserialize_with = "in_4")]
    tail: Tail,
    streak: Option<Streak>,
    open: Option<OpenAlert>,
}

impl Default for AlertState {
    fn default() -> Self {
        let (away, tail) = (Away::default(), Tail::default());
        Self { threshold: 1.0, windows: 0, told: None, away, tail, streak: None, open: None }
    }
}

/// An alert that is over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    strength: f64,
    /// Whether its strongest window was above what was expected.
    is_above: bool,
    /// Start of the window in which it was resolved.
    at: i64,
    before: Option<Before>,
}

/// Where a series was before an alert.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Before {
    /// At this level, until it left it at once.
    Level(f64),
    /// Where it had been for days; it left that little by little, and the level went along.
    Days,
}

/// Where a window's value is, less what the time of day and of week explains.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The value.
    pub value: f64,
    /// The level that it was expected at.
    pub level: f64,
    /// How far from it values usually are.
    pub usual: f64,
    /// How far it is from where the series has been for days, in usual distances.
    pub slow: f64,
    /// How far its level is from there.
    pub level_slow: f64,
    /// What the season adds at this time, in the same unit.
    pub season: f64,
    /// Whether the time of day has been seen before.
    pub has_profile: bool,
}

impl Standing {
    /// Whether it is where it was.
    fn is_back(&self, before: Before) -> bool {
        match before {
            Before::Level(level) => (self.value - level).abs() <= RETURN_REACH * self.usual,
            Before::Days => self.is_where_it_was_for_days(),
        }
    }

    /// The same, less generously: of several values in a row, each is as near as most are.
    fn stays_back(&self, before: Before) -> bool {
        match before {
            Before::Level(level) => (self.value - level).abs() <= STAY_REACH * self.usual,
            Before::Days => self.is_where_it_was_for_days(),
        }
    }

    /// Whether it comes back now: its level is still away from where it was.
    fn comes_back(&self, before: Before) -> bool {
        let is_away = match before {
            Before::Level(level) => (self.level - level).abs() > RETURN_REACH * self.usual,
            Before::Days => self.level_slow.abs() > RETURN_SLOW,
        };
        is_away && self.is_back(before)
    }

    fn is_where_it_was_for_days(&self) -> bool {
        self.slow.abs() <= RETURN_SLOW
    }
}

/// How strong a window is, in units that are the same for all series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strength {
    /// By the detectors of the series.
    pub own: f64,
    /// By the forest over the entity's series. Where it sees an odd combination, each value may be where it always was.
    pub joint: f64,
    /// Whether the value is above what was expected.
    pub is_above: bool,
    /// Whether the value cannot be right, whatever was told before.
    pub is_certain: bool,
}

impl Strength {
    /// The greater one.
    #[must_use]
    pub fn greatest(&self) -> f64 {
        self.own.max(self.joint)
    }
}

/// What a window's strength comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    /// In units of the series' threshold.
    pub evidence: f64,
    /// What windows of all series are ordered by: 1.0 and more if the evidence is and it is news; below .5 if it is none.
    pub score: f64,
}

/// Anomalous windows in a row, not yet an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Streak {
    since: i64,
    windows: u32,
    first_offset: i64,
    peak_score: f64,
    #[serde(deserialize_with = "in_4")]
    strength: f64,
    #[serde(deserialize_with = "in_4")]
    before: Option<Before>,
    #[serde(deserialize_with = "in_4")]
    curve: Curve,
    #[serde(deserialize_with = "in_4")]
    onset: Option<i64>,
}

/// An alert from its opening to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenAlert {
    /// Start of the first anomalous window, in ms since 1970.
    pub opened_at: i64,
    /// The greatest score so far.
    pub peak_score: f64,
    /// Anomalous windows so far.
    pub windows: u32,
    /// Records of this alert so far, less one.
    pub sequence: u32,
    /// How bad it is.
    pub severity: Severity,
    /// What it looks like.
    pub kind: AnomalyKind,
    /// Input offset of the first event in its first window.
    pub first_offset: i64,
    /// The greatest strength so far, and whether that window was above what was expected.
    #[serde(deserialize_with = "in_4")]
    strength: f64,
    #[serde(deserialize_with = "in_4")]
    is_above: bool,
    #[serde(deserialize_with = "in_4")]
    before: Option<Before>,
    calm_windows: u32,
    /// What the series looks like since `opened_at`.
    #[serde(deserialize_with = "in_4")]
    curve: Curve,
    /// When it began, where that is before `opened_at`.
    #[serde(deserialize_with = "in_4")]
    onset: Option<i64>,
    gone: [Until<4, f64>; 2],
}

impl OpenAlert {
    /// Start of the first window in which it was under way, by what is known now.
    #[must_use]
    pub fn onset(&self) -> i64 {
        self.onset.map_or(self.opened_at, |onset| onset.min(self.opened_at))
    }
}

/// One window of a series, as far as alerts need it.
#[derive(Clone, Copy, Debug)]
pub struct JudgedWindow<'a> {
    /// Start of the window, in ms since 1970.
    pub start: i64,
    /// Input offset of its first event.
    pub first_offset: i64,
    /// What the detectors made of it.
    pub verdict: &'a Verdict,
}

impl AlertState {
    /// What strengths come to in the window that starts at `start`, one each `step_ms`.
    #[must_use]
    pub fn weigh(
        &self,
        pace: Pace,
        step_ms: i64,
        start: i64,
        strength: Strength,
        standing: Option<Standing>,
    ) -> Weight {
        let memory_ms = pace.memory_ms(step_ms);
        // Without a profile nobody can tell a return from a departure to the other side.
        let has_profile = standing.is_some_and(|standing| standing.has_profile);
        let is_same_side = |told: &Told| !has_profile || told.is_above == strength.is_above;
        let told = self.told.filter(|told| start - told.at <= memory_ms && is_same_side(told));
        let open = self.open.as_ref().map_or(0.0, |open| open.strength);
        let known = told.map_or(0.0, |told| told.strength).max(open);
        let before_open = self.open.as_ref().map(|open| open.before);
        let before = before_open.or(self.told.filter(|told| start - told.at <= RETURN_MS).map(|told| told.before));
        let in_thresholds = |of: f64, is_return: bool| {
            let evidence = of / self.threshold;
            let is_mere = is_return && evidence < RETURN_MOST && !strength.is_certain;
            if is_mere { evidence.min(NO_NEWS) } else { evidence }
        };
        let (is_back, comes_back) = match before.flatten().zip(standing) {
            Some((before, standing)) => {
                let is_closed = self.open.is_none();
                let is_back = standing.is_back(before) || (is_closed && standing.is_back(Before::Days));
                let comes_back = standing.comes_back(before) || (is_closed && standing.comes_back(Before::Days));
                (is_back, comes_back)
            }
            None => (false, false),
        };
        let evidence = in_thresholds(strength.own, is_back).max(in_thresholds(strength.joint, comes_back));
        let score = if strength.greatest() <= REPEAT_FACTOR * known && !(strength.is_certain && self.open.is_none()) {
            (0.5 * evidence / (1.0 + evidence)).min(NO_NEWS)
        } else if evidence < 1.0 {
            evidence
        } else {
            (evidence * strength.greatest()).sqrt().max(1.0)
        };
        Weight { evidence, score }
    }

    /// The strength that is evidence of 1.0.
    pub(crate) const fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Takes on the threshold of others, if it is higher.
    pub(crate) fn borrow(&mut self, threshold: f64) {
        self.threshold = self.threshold.max(threshold).min(THRESHOLD_MOST);
    }

    /// How much is known of the series, with a window each `step_ms`: `n / (n + 100)`, half of that at first and all of it from two days on.
    pub(crate) fn confidence(&self, step_ms: i64) -> f64 {
        let windows = f64::from(self.windows);
        let days = windows * step_ms as f64 / CONFIDENT_MS;
        windows / (windows + CONFIDENT_WINDOWS) * (0.5 + 0.5 * days.min(1.0))
    }

    /// The chance of a window at least as strong as this, by the recent ones.
    pub(crate) fn probability(&self, strength: f64) -> f64 {
        self.tail.probability(strength)
    }

    /// A detector's own score in units of the series' threshold.
    #[must_use]
    pub fn in_thresholds(&self, score: f64) -> f64 {
        score / self.threshold
    }

    /// The strength that comes to this evidence.
    #[must_use]
    pub fn in_strength(&self, evidence: f64) -> f64 {
        evidence * self.threshold
    }

    /// Takes note of a window without a value: what was anomalous before it is not in a row with what comes.
    pub(crate) fn pause(&mut self) {
        self.streak = None;
    }

    /// Takes a window into account; gives what a person has to hear of.
    pub fn judge(
        &mut self,
        settings: &AlertSettings,
        pace: Pace,
        window: JudgedWindow<'_>,
    ) -> Option<(Change, OpenAlert)> {
        let Verdict { standing, strength, .. } = window.verdict;
        self.away.follow(window.start, standing.map_or(0.0, |standing| standing.slow));
        self.tail.learn(*strength);
        let step = match self.open.take() {
            None => self.judge_calm(settings, window),
            Some(open) => self.judge_open(settings, pace, window, open),
        };
        if matches!(step, Some((Change::Opened, _))) {
            self.raise();
        }
        self.windows = self.windows.saturating_add(1);
        if self.open.is_none() {
            let periods = f64::from(self.windows) * pace.asked;
            let share = if self.threshold > 1.0 { 1.0 } else { periods / (periods + PERIODS_SLOW) };
            self.threshold = (self.threshold * (1.0 - (ETA * FALL * pace.asked * share).min(0.5))).max(THRESHOLD_LEAST);
        }
        step
    }

    /// Raises the threshold, as an alert has opened.
    pub fn raise(&mut self) {
        self.threshold = (self.threshold * RAISE).min(THRESHOLD_MOST);
    }

    fn judge_calm(&mut self, settings: &AlertSettings, window: JudgedWindow<'_>) -> Option<(Change, OpenAlert)> {
        let verdict = window.verdict;
        let goes_on = self.streak.is_some() && verdict.evidence >= 1.0;
        if !goes_on && verdict.score < 1.0 {
            self.streak = None;
            return None;
        }
        let streak = self.streak.get_or_insert(Streak {
            since: window.start,
            windows: 0,
            first_offset: window.first_offset,
            peak_score: 0.0,
            strength: 0.0,
            before: verdict
                .standing
                .map(|standing| if self.away.is_gradual() { Before::Days } else { Before::Level(standing.level) }),
            curve: Curve::default(),
            onset: self.away.since().filter(|since| self.told.is_none_or(|told| *since > told.at)),
        });
        add(&mut streak.curve, verdict);
        streak.windows += 1;
        streak.peak_score = streak.peak_score.max(verdict.evidence);
        streak.strength = streak.strength.max(verdict.strength);
        if streak.windows < settings.open_after && at_once(verdict) < settings.open_at_once {
            return None;
        }
        let streak = self.streak.take()?;
        let open = OpenAlert {
            opened_at: streak.since,
            peak_score: streak.peak_score,
            windows: streak.windows,
            sequence: 0,
            severity: severity_of(settings, streak.peak_score, streak.windows, verdict),
            kind: first_kind(verdict),
            first_offset: streak.first_offset,
            strength: streak.strength,
            is_above: verdict.deviation > 0.0,
            before: streak.before,
            calm_windows: 0,
            curve: streak.curve,
            onset: streak.onset,
            gone: Default::default(),
        };
        self.open = Some(open.clone());
        Some((Change::Opened, open))
    }

    fn judge_open(
        &mut self,
        settings: &AlertSettings,
        pace: Pace,
        window: JudgedWindow<'_>,
        mut open: OpenAlert,
    ) -> Option<(Change, OpenAlert)> {
        let verdict = window.verdict;
        if verdict.strength > open.strength {
            (open.strength, open.is_above) = (verdict.strength, verdict.deviation > 0.0);
        }
        add(&mut open.curve, verdict);
        let lasts = open.curve.windows();
        let is_new_normal = i64::from(lasts) >= REPEAT_WINDOWS || window.start - open.opened_at >= pace.repeat_ms;
        let is_back = match (verdict.standing, open.before) {
            (Some(standing), Some(before)) => standing.stays_back(before) || standing.is_where_it_was_for_days(),
            _ => true,
        };
        if verdict.evidence < settings.calm_below && (is_back || is_new_normal) {
            open.calm_windows += 1;
            if open.calm_windows >= settings.resolve_after {
                open.sequence += 1;
                let OpenAlert { strength, is_above, before, .. } = open;
                self.told = Some(Told { strength, is_above, at: window.start, before });
                if is_new_normal && open.kind == AnomalyKind::Drift && !is_back {
                    open.kind = AnomalyKind::TrendChange;
                }
                return Some((Change::Resolved, open));
            }
            self.open = Some(open);
            return None;
        }
        open.calm_windows = 0;
        open.windows += 1;
        open.peak_score = open.peak_score.max(verdict.evidence);
        let severity = severity_of(settings, open.peak_score, open.windows, verdict);
        let kind = lasting_kind(settings, &open, verdict);
        let worth_telling = severity > open.severity || kind != open.kind;
        open.severity = open.severity.max(severity);
        open.kind = kind;
        if worth_telling {
            open.sequence += 1;
        }
        self.open = Some(open.clone());
        worth_telling.then_some((Change::Updated, open))
    }

    /// Whether an alert is open.
    pub(crate) const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Ends the alert that is open, if one is; gives its last step.
    pub fn end(&mut self) -> Option<OpenAlert> {
        let open = self.open.take()?;
        Some(OpenAlert { sequence: open.sequence + 1, ..open })
    }

    /// Start of the first window of the alert that is open, or that may open.
    #[must_use]
    pub fn since(&self) -> Option<i64> {
        let open = self.open.as_ref().map(|open| open.opened_at);
        open.or(self.streak.as_ref().map(|streak| streak.since))
    }
}

/// The evidence for opening an alert in this window already: a record by itself waits for the next one, where alerts have to wait.
fn at_once(verdict: &Verdict) -> f64 {
    let but_records = verdict.scores.iter().filter(|(kind, _)| *kind != DetectorKind::Novelty);
    but_records.map(|&(_, score)| score).fold(0.0, f64::max)
}

/// What a window adds to the curve of an anomaly.
fn add(curve: &mut Curve, verdict: &Verdict) {
    match verdict.standing {
        Some(standing) => curve.add(standing.slow, standing.season),
        None => curve.add(verdict.deviation, 0.0),
    }
}

/// By how improbable its worst window was, one more if it lasts, and one more if it is far out.
fn severity_of(settings: &AlertSettings, peak_score: f64, windows: u32, verdict: &Verdict) -> Severity {
    let by_score = settings.severities.iter().filter(|&&from| peak_score >= from).count();
    let by_length = usize::from(windows >= settings.sustained_after);
    let expected = verdict.value - verdict.deviation;
    let by_distance = usize::from(verdict.deviation.abs() >= FAR * expected.abs() && expected != 0.0);
    [Severity::Low, Severity::Medium, Severity::High, Severity::Critical][(by_score + by_length + by_distance).min(3)]
}

/// What an anomaly looks like at first: by the side it lies on, or an outlier when its combination with other measures is odd.
fn first_kind(verdict: &Verdict) -> AnomalyKind {
    if verdict.is_combination {
        AnomalyKind::Outlier
    } else if verdict.deviation < 0.0 {
        AnomalyKind::Dip
    } else {
        AnomalyKind::Spike
    }
}

/// What it turns out to be, when it has lasted for `sustained_after` windows.
fn lasting_kind(settings: &AlertSettings, open: &OpenAlert, verdict: &Verdict) -> AnomalyKind {
    let is_sudden = matches!(open.kind, AnomalyKind::Spike | AnomalyKind::Dip);
    if is_sudden && verdict.is_combination && open.windows <= COMBINATION_WINDOWS {
        return AnomalyKind::Outlier;
    }
    if open.curve.windows() < settings.sustained_after {
        return open.kind;
    }
    let kind = open.curve.kind(open.before == Some(Before::Days));
    match open.kind {
        AnomalyKind::Spike | AnomalyKind::Dip | AnomalyKind::LevelShift => kind,
        // A season that goes missing goes little by little, too.
        AnomalyKind::Drift if kind == AnomalyKind::SeasonalBreak => kind,
        known => known,
    }
}

#[cfg(test)]
mod tests;
