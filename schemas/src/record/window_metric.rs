//! One measure of one entity over one window, and how its series were scored. Schema: `avsc/window-metric/`.

use std::collections::BTreeMap;

use super::{fields, record};

/// One measure of one entity over one window, and how it was scored.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowMetric {
    /// Stream's name in the settings.
    pub stream: String,
    /// Entity's key.
    pub entity: String,
    /// Entity field to value.
    pub labels: BTreeMap<String, String>,
    /// Measure's name.
    pub measure: String,
    /// First instant of the window, inclusive.
    pub window_start: i64,
    /// End of the window, exclusive.
    pub window_end: i64,
    /// 0 for the first emission; higher when late events corrected the window.
    pub revision: i32,
    /// Events in the window that carry the measure.
    pub count: i64,
    /// Sum, in the measure's unit.
    pub sum: f64,
    /// Mean, in the measure's unit.
    pub mean: f64,
    /// Population standard deviation, in the measure's unit.
    pub stddev: f64,
    /// Smallest value, in the measure's unit.
    pub min: f64,
    /// Largest value, in the measure's unit.
    pub max: f64,
    /// Median, in the measure's unit; null when no quantiles are kept.
    pub p50: Option<f64>,
    /// 95th percentile, in the measure's unit.
    pub p95: Option<f64>,
    /// 99th percentile, in the measure's unit.
    pub p99: Option<f64>,
    /// The series scored from this window, in the order they are declared.
    pub series: Vec<SeriesPoint>,
    /// Input partition.
    pub partition: i32,
    /// Lowest input offset in the window.
    pub first_offset: i64,
    /// Highest input offset in the window.
    pub last_offset: i64,
    /// The fields that differ from the revision before.
    pub changed: Vec<String>,
    /// Sessions that were told before, and that late events have made part of this one.
    pub supersedes: Vec<WindowSpan>,
}

record!(
    "window-metric",
    "tidewatch.window-metric.v3",
    WindowMetric {
        stream,
        entity,
        labels,
        measure,
        window_start,
        window_end,
        revision,
        count,
        sum,
        mean,
        stddev,
        min,
        max,
        p50,
        p95,
        p99,
        series,
        partition,
        first_offset,
        last_offset,
        changed,
        supersedes
    }
);

/// One scored aggregate of the window.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesPoint {
    /// Aggregate's name, such as mean or p95.
    pub aggregate: String,
    /// Observed value, in the measure's unit.
    pub value: f64,
    /// What the forecaster expected; null before it has learnt.
    pub expected: Option<f64>,
    /// Lower bound of the prediction interval.
    pub lower: Option<f64>,
    /// Upper bound of the prediction interval.
    pub upper: Option<f64>,
    /// Combined score; 1.0 is the threshold.
    pub score: f64,
    /// True while the detectors are still learning the series.
    pub warming_up: bool,
    /// Each detector's score.
    pub detectors: Vec<DetectorScore>,
    /// How much is known of the series, 0 (nothing) to 1.
    pub confidence: f64,
    /// Chance of a window at least as unusual, by the series' own recent ones.
    pub probability: f64,
}

fields!(SeriesPoint {
    aggregate,
    value,
    expected,
    lower,
    upper,
    score,
    warming_up,
    detectors,
    confidence,
    probability
});

/// One detector's opinion of one point.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectorScore {
    /// Detector's name, such as z-score.
    pub detector: String,
    /// Score in units of the series' threshold; 1.0 is enough for an alert.
    pub score: f64,
}

fields!(DetectorScore { detector, score });

/// A window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpan {
    /// First instant of the window, inclusive.
    pub window_start: i64,
    /// End of the window, exclusive.
    pub window_end: i64,
}

fields!(WindowSpan { window_start, window_end });
