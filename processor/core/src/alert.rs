//! When a person hears of an anomaly: alerts open, are updated and resolve, with hysteresis.
//!
//! | state | window's score | what happens |
//! |---|---|---|
//! | calm | at least 1.0, `open_after` times in a row, or once at least `open_at_once` | opened |
//! | open | severity rises or the kind becomes clear | updated |
//! | open | below `calm_below`, `resolve_after` times in a row | resolved |
//!
//! Between `calm_below` and 1.0 an open alert stays as it is. An alert does not repeat while it is open.

use serde::{Deserialize, Serialize};
use tidewatch_schemas::record::{AlertState as Change, AnomalyKind, Severity};

use crate::config::AlertSettings;
use crate::detect::DetectorKind;
use crate::series::Verdict;

/// Growth of the mean deviation, from the first to the last third of a sustained alert, from which it is called a drift.
const DRIFT_GROWTH: f64 = 1.6;

/// A series' alert: the one that is open, or the windows in a row that may open one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AlertState {
    streak: Option<Streak>,
    open: Option<OpenAlert>,
}

/// Anomalous windows in a row, not yet an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Streak {
    since: i64,
    windows: u32,
    first_offset: i64,
    peak_score: f64,
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
    calm_windows: u32,
    early_deviation: f64,
    late_deviation: f64,
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
    /// Takes a window into account; gives what a person has to hear of.
    pub fn judge(&mut self, settings: &AlertSettings, window: JudgedWindow<'_>) -> Option<(Change, OpenAlert)> {
        match self.open.take() {
            None => self.judge_calm(settings, window),
            Some(open) => self.judge_open(settings, window, open),
        }
    }

    fn judge_calm(&mut self, settings: &AlertSettings, window: JudgedWindow<'_>) -> Option<(Change, OpenAlert)> {
        let verdict = window.verdict;
        if verdict.score < 1.0 {
            self.streak = None;
            return None;
        }
        let streak = self.streak.get_or_insert(Streak {
            since: window.start,
            windows: 0,
            first_offset: window.first_offset,
            peak_score: 0.0,
        });
        streak.windows += 1;
        streak.peak_score = streak.peak_score.max(verdict.score);
        if streak.windows < settings.open_after && verdict.score < settings.open_at_once {
            return None;
        }
        let streak = self.streak.take()?;
        let open = OpenAlert {
            opened_at: streak.since,
            peak_score: streak.peak_score,
            windows: streak.windows,
            sequence: 0,
            severity: severity_of(settings, streak.peak_score, streak.windows),
            kind: first_kind(verdict),
            first_offset: streak.first_offset,
            calm_windows: 0,
            early_deviation: verdict.deviation,
            late_deviation: verdict.deviation,
        };
        self.open = Some(open.clone());
        Some((Change::Opened, open))
    }

    fn judge_open(
        &mut self,
        settings: &AlertSettings,
        window: JudgedWindow<'_>,
        mut open: OpenAlert,
    ) -> Option<(Change, OpenAlert)> {
        let verdict = window.verdict;
        if verdict.score < settings.calm_below {
            open.calm_windows += 1;
            if open.calm_windows >= settings.resolve_after {
                open.sequence += 1;
                return Some((Change::Resolved, open));
            }
            self.open = Some(open);
            return None;
        }
        open.calm_windows = 0;
        open.windows += 1;
        open.peak_score = open.peak_score.max(verdict.score);
        open.late_deviation += (verdict.deviation - open.late_deviation) / 4.0;
        if open.windows <= settings.sustained_after / 3 {
            open.early_deviation += (verdict.deviation - open.early_deviation) / f64::from(open.windows);
        }
        let severity = severity_of(settings, open.peak_score, open.windows);
        let kind = if open.windows == settings.sustained_after { sustained_kind(&open) } else { open.kind };
        let worth_telling = severity > open.severity || kind != open.kind;
        open.severity = open.severity.max(severity);
        open.kind = kind;
        if worth_telling {
            open.sequence += 1;
        }
        self.open = Some(open.clone());
        worth_telling.then_some((Change::Updated, open))
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

fn severity_of(settings: &AlertSettings, peak_score: f64, windows: u32) -> Severity {
    let [medium, high, critical] = settings.severities;
    let by_score = if peak_score >= critical {
        3
    } else if peak_score >= high {
        2
    } else {
        usize::from(peak_score >= medium)
    };
    let by_length = usize::from(windows >= settings.sustained_after);
    [Severity::Low, Severity::Medium, Severity::High, Severity::Critical][(by_score + by_length).min(3)]
}

/// What an anomaly looks like at first: by the side it lies on, or an outlier when only its combination with other series is odd.
fn first_kind(verdict: &Verdict) -> AnomalyKind {
    let by_itself = verdict.scores.iter().any(|&(kind, score)| kind == DetectorKind::ZScore && score >= 1.0);
    let has_zscore = verdict.scores.iter().any(|&(kind, _)| kind == DetectorKind::ZScore);
    if has_zscore && !by_itself {
        AnomalyKind::Outlier
    } else if verdict.deviation < 0.0 {
        AnomalyKind::Dip
    } else {
        AnomalyKind::Spike
    }
}

/// What an anomaly that lasts turns out to be.
fn sustained_kind(open: &OpenAlert) -> AnomalyKind {
    if open.early_deviation * open.late_deviation <= 0.0 {
        AnomalyKind::SeasonalBreak
    } else if open.late_deviation.abs() > DRIFT_GROWTH * open.early_deviation.abs() {
        AnomalyKind::Drift
    } else {
        AnomalyKind::LevelShift
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(score: f64, deviation: f64) -> Verdict {
        let scores = vec![(DetectorKind::ZScore, score), (DetectorKind::Iqr, score)];
        Verdict { value: deviation, expected: None, deviation, scores, score, warming_up: false }
    }

    /// Feeds scores (deviation = score) and writes what is heard, `.` for nothing.
    #[track_caller]
    fn check(scores: &[f64], expected: &str) {
        let settings = AlertSettings { sustained_after: 4, ..AlertSettings::default() };
        let mut state = AlertState::default();
        let heard: Vec<String> = scores
            .iter()
            .enumerate()
            .map(|(at, &score)| {
                let verdict = verdict(score, score);
                let window = JudgedWindow { start: at as i64, first_offset: 0, verdict: &verdict };
                state.judge(&settings, window).map_or(".".into(), |(change, open)| {
                    format!("{}:{}:{}@{}", change.as_str(), open.severity.as_str(), open.kind.as_str(), open.opened_at)
                })
            })
            .collect();
        assert_eq!(heard.join(" "), expected);
    }

    #[test]
    fn opens_after_two_windows_or_at_once() {
        check(&[0.9, 1.0, 0.9, 1.0, 1.1], ". . . . opened:low:spike@3");
        check(&[0.0, 2.0, 0.0], ". opened:medium:spike@1 .");
    }

    #[test]
    fn does_not_repeat_and_resolves_with_hysteresis() {
        check(
            &[3.0, 3.0, 0.8, 0.1, 0.1, 0.8, 0.1, 0.1, 0.1, 0.1],
            "opened:high:spike@0 . . . . updated:critical:level_shift@0 . . resolved:critical:level_shift@0 .",
        );
    }

    #[test]
    fn says_so_when_it_gets_worse_or_its_kind_is_clear() {
        check(&[2.0, 2.6, 2.6, 2.6], "opened:medium:spike@0 updated:high:spike@0 . updated:critical:level_shift@0");
        check(&[2.0, 4.0, 8.0, 30.0], "opened:medium:spike@0 updated:critical:spike@0 . updated:critical:drift@0");
    }
}
