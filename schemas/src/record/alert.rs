//! One step in the life of an alert: opened, updated or resolved. Schema: `avsc/alert/`.

use std::collections::BTreeMap;

use super::{AnomalyKind, fields, record, symbols};

/// One step in the life of an alert: opened, updated or resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Identity of the alert; the same on all its steps.
    pub alert_id: String,
    /// Step of the alert's life.
    pub state: AlertState,
    /// Highest severity reached so far.
    pub severity: Severity,
    /// What the anomaly looks like, or that there is none yet.
    pub kind: AlertKind,
    /// Stream's name in the settings.
    pub stream: String,
    /// Entity's key.
    pub entity: String,
    /// Entity field to value.
    pub labels: BTreeMap<String, String>,
    /// Measure's name.
    pub measure: String,
    /// Aggregate's name.
    pub aggregate: String,
    /// Start of the first anomalous window.
    pub opened_at: i64,
    /// Start of the window of this step, inclusive.
    pub window_start: i64,
    /// End of the window of this step, exclusive.
    pub window_end: i64,
    /// Observed value, in the measure's unit.
    pub observed: f64,
    /// What the detector with the greatest share held it against, or the forecaster expected.
    pub expected: Option<f64>,
    /// Lower bound of the prediction interval.
    pub lower: Option<f64>,
    /// Upper bound of the prediction interval.
    pub upper: Option<f64>,
    /// Combined score of this window; 1.0 is the threshold.
    pub score: f64,
    /// Highest score since the alert opened.
    pub peak_score: f64,
    /// Each detector's score of this window.
    pub detectors: Vec<DetectorShare>,
    /// Anomalous windows so far.
    pub windows: i32,
    /// Step number; 0 is opened.
    pub sequence: i32,
    /// Input partition.
    pub partition: i32,
    /// Lowest input offset of this window.
    pub first_offset: i64,
    /// Highest input offset of this window.
    pub last_offset: i64,
    /// One sentence for a person.
    pub summary: String,
    /// 0 for the first telling of a step; the highest one holds.
    pub revision: i32,
    /// What late events made of the step.
    pub correction: Correction,
    /// The record that this one takes the place of: `alert_id:sequence:revision`.
    pub supersedes: Option<String>,
    /// When it began by what is known now: start of the first window away from where the series had been.
    pub onset: Option<i64>,
    /// How much is known of the series, 0 (nothing) to 1.
    pub confidence: f64,
    /// Chance of a window at least as unusual, by the series' own recent ones.
    pub probability: f64,
    /// What is unusual of the entity in this window, by measure, the greatest share first.
    pub attribution: Vec<MeasureShare>,
    /// The last windows of the series, this one the last of them.
    pub recent: Vec<RecentWindow>,
    /// Of a predicted breach: which limit, how likely and how soon.
    pub breach: Option<Breach>,
}

record!(
    "alert",
    "tidewatch.alert.v4",
    Alert {
        alert_id,
        state,
        severity,
        kind,
        stream,
        entity,
        labels,
        measure,
        aggregate,
        opened_at,
        window_start,
        window_end,
        observed,
        expected,
        lower,
        upper,
        score,
        peak_score,
        detectors,
        windows,
        sequence,
        partition,
        first_offset,
        last_offset,
        summary,
        revision,
        correction,
        supersedes,
        onset,
        confidence,
        probability,
        attribution,
        recent,
        breach
    }
);

/// One detector's opinion of one point, and what it weighs.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectorShare {
    /// Detector's name, such as z-score.
    pub detector: String,
    /// Score in units of the series' threshold; 1.0 is enough for an alert.
    pub score: f64,
    /// Its share of what speaks for the alert, 1 in all.
    pub share: f64,
}

fields!(DetectorShare { detector, score, share });

/// A measure's share of what is unusual of its entity.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasureShare {
    /// Measure's name.
    pub measure: String,
    /// 0 to 1; the shares of an alert sum to 1.
    pub share: f64,
}

fields!(MeasureShare { measure, share });

/// A window of the series, as it was judged.
#[derive(Debug, Clone, PartialEq)]
pub struct RecentWindow {
    /// First instant of the window, inclusive.
    pub window_start: i64,
    /// Observed value, in the measure's unit.
    pub value: f64,
    /// What was expected.
    pub expected: Option<f64>,
    /// Lower bound of the prediction interval.
    pub lower: Option<f64>,
    /// Upper bound of the prediction interval.
    pub upper: Option<f64>,
    /// Combined score; 1.0 is the threshold.
    pub score: f64,
}

fields!(RecentWindow { window_start, value, expected, lower, upper, score });

/// A limit, and a forecast that passes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Breach {
    /// What must not be passed, in the measure's unit.
    pub limit: f64,
    /// Whether values above are beyond it; else those below.
    pub above: bool,
    /// Start of the window that is forecast to be beyond it: the first one that is likely enough, or the likeliest.
    pub target_time: i64,
    /// Chance of a value beyond it in that window, by the forecast.
    pub chance: f64,
    /// From the end of this step's window to the end of that window; once it has come true, how long before it was told; in ms.
    pub lead_ms: i64,
    /// Start of the first window beyond it since the alert opened.
    pub came_true_at: Option<i64>,
}

fields!(Breach { limit, above, target_time, chance, lead_ms, came_true_at });

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlertKind {
    /// A short excursion upwards.
    Spike,
    /// A short excursion downwards.
    Dip,
    /// A new level that stays.
    LevelShift,
    /// A slow departure from the level.
    Drift,
    /// The slope changed.
    TrendChange,
    /// The season's pattern is not followed.
    SeasonalBreak,
    /// Single points far from the rest.
    Outlier,
    /// Data that stopped.
    Dropout,
    /// No anomaly yet: the forecast passes a limit.
    PredictedBreach,
}

symbols!(AlertKind {
    Spike = "spike",
    Dip = "dip",
    LevelShift = "level_shift",
    Drift = "drift",
    TrendChange = "trend_change",
    SeasonalBreak = "seasonal_break",
    Outlier = "outlier",
    Dropout = "dropout",
    PredictedBreach = "predicted_breach",
});

impl From<AnomalyKind> for AlertKind {
    fn from(kind: AnomalyKind) -> Self {
        match kind {
            AnomalyKind::Spike => Self::Spike,
            AnomalyKind::Dip => Self::Dip,
            AnomalyKind::LevelShift => Self::LevelShift,
            AnomalyKind::Drift => Self::Drift,
            AnomalyKind::TrendChange => Self::TrendChange,
            AnomalyKind::SeasonalBreak => Self::SeasonalBreak,
            AnomalyKind::Outlier => Self::Outlier,
            AnomalyKind::Dropout => Self::Dropout,
        }
    }
}

/// Step of the alert's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum AlertState {
    /// The first anomalous window.
    Opened,
    /// A later window of an open alert.
    Updated,
    /// The series is back to normal.
    Resolved,
}

symbols!(AlertState { Opened = "opened", Updated = "updated", Resolved = "resolved" });

/// How far beyond the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Severity {
    /// Beyond the threshold.
    Low,
    /// Clearly beyond the threshold.
    Medium,
    /// Far beyond the threshold.
    High,
    /// So far beyond that a person should look now.
    Critical,
}

symbols!(Severity { Low = "low", Medium = "medium", High = "high", Critical = "critical" });

/// What late events made of a step of an alert that was told before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Correction {
    /// It is told for the first time.
    #[default]
    None,
    /// It holds, with other numbers.
    Confirmed,
    /// It holds with another state, severity, kind or window.
    Changed,
    /// There is no such step.
    Retracted,
}

symbols!(Correction { None = "none", Confirmed = "confirmed", Changed = "changed", Retracted = "retracted" });
