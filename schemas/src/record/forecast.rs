//! What a series is expected to do next, one point per horizon. Schema: `avsc/forecast/`.

use super::{fields, record};

/// What a series is expected to do next.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Stream's name in the settings.
    pub stream: String,
    /// Entity's key.
    pub entity: String,
    /// Measure's name.
    pub measure: String,
    /// Aggregate's name.
    pub aggregate: String,
    /// End of the last window the forecast knows.
    pub issued_at: i64,
    /// Probability that a value falls into the interval, such as 0.95.
    pub level: f64,
    /// One point per horizon, nearest first.
    pub path: Vec<ForecastPoint>,
    /// 0 for the first telling; one more each time that late events changed it.
    pub revision: i32,
}

record!(
    "forecast",
    "tidewatch.forecast.v3",
    Forecast { stream, entity, measure, aggregate, issued_at, level, path, revision }
);

/// One horizon's expectation.
#[derive(Debug, Clone, PartialEq)]
pub struct ForecastPoint {
    /// Start of the window that is forecast.
    pub target_time: i64,
    /// From issued_at to the end of the window that is forecast, milliseconds.
    pub horizon_ms: i64,
    /// Expected value, in the measure's unit.
    pub expected: f64,
    /// Lower bound of the prediction interval.
    pub lower: f64,
    /// Upper bound of the prediction interval.
    pub upper: f64,
    /// The intervals of all levels, levels ascending.
    pub bands: Vec<ForecastBand>,
    /// Earlier forecasts of this horizon that were held against what came; what follows is of the last 200 or so.
    pub judged: i32,
    /// Their mean absolute error by that of the value a season before.
    pub mase: Option<f64>,
    /// Their mean absolute error as a share of the value.
    pub mape: Option<f64>,
    /// Their mean pinball loss at the bounds of all levels, by the same as mase.
    pub pinball: Option<f64>,
}

fields!(ForecastPoint { target_time, horizon_ms, expected, lower, upper, bands, judged, mase, mape, pinball });

/// A prediction interval, and how it has done.
#[derive(Debug, Clone, PartialEq)]
pub struct ForecastBand {
    /// Probability that a value falls into it, such as 0.8.
    pub level: f64,
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Share of the last 200 or so values of this horizon that fell into it.
    pub coverage: Option<f64>,
}

fields!(ForecastBand { level, lower, upper, coverage });
