//! What one entity is known by: its panes, its series, and the forest that judges the series together.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidewatch_schemas::record::{
    Alert, AlertState as Change, DetectorScore, Forecast, ForecastPoint, SeriesPoint, WindowMetric,
};

use crate::alert::{JudgedWindow, OpenAlert};
use crate::config::{Aggregate, Measure, StreamConfig};
use crate::detect::DetectorKind;
use crate::detect::isolation_forest::{ForestParams, ForestScore};
use crate::engine::Effects;
use crate::series::{Series, Verdict};
use crate::summary::Summary;
use crate::window::{Pane, Panes};

/// Missing windows in a row after which an entity starts anew: what was known of it is too old to judge by.
const GAP_MAX: i64 = 10_000;
/// Nominal coverage of the bands that forecasts carry.
const LEVEL: f64 = 0.95;

/// One entity's state, without its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entity {
    /// Input offset of its last event.
    pub(crate) last_seen: i64,
    pub(crate) panes: Panes,
    /// Start of the last window that closed.
    last_window: Option<i64>,
    /// Series in the order of measures and their aggregates.
    series: Vec<Series>,
    forest: Option<ForestScore>,
}

/// The merged window of an entity that closes, and whose it is.
pub(crate) struct Closing<'a> {
    pub(crate) config: &'a StreamConfig,
    pub(crate) partition: i32,
    pub(crate) entity: &'a str,
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl Closing<'_> {
    fn labels(&self) -> BTreeMap<String, String> {
        let values = tidewatch_schemas::entity::split(self.entity).into_iter().map(Cow::into_owned);
        self.config.entity.iter().cloned().zip(values).collect()
    }
}

impl Entity {
    pub(crate) fn new(config: &StreamConfig, step_index: i64, last_seen: i64) -> Self {
        let series: Vec<Series> = series_of(config).map(|(measure, _)| Series::new(measure, step_index)).collect();
        let dims = series_of(config).filter(|(measure, _)| in_forest(measure)).count();
        let forest =
            (dims > 0).then(|| ForestScore::new(ForestParams { seed: config.seed, ..ForestParams::default() }, dims));
        Self { last_seen, panes: Panes::default(), last_window: None, series, forest }
    }

    /// Closes the window `[start, end)`: judges and learns what it holds, and says what follows.
    pub(crate) fn close(&mut self, closing: &Closing<'_>, effects: &mut Effects) {
        let config = closing.config;
        let Some(merged) = self.panes.merged(closing.start, closing.end) else { return };
        self.panes.forget_before(closing.start + config.window.slide_ms);
        self.learn_gap(config, closing.start);

        let values: Vec<Option<f64>> = config
            .measures
            .iter()
            .zip(&merged.summaries)
            .flat_map(|(measure, summary)| measure.aggregates.iter().map(|&aggregate| value_of(aggregate, summary)))
            .collect();
        let features = self.features(config, &values);
        let forest = self.forest.as_ref().map(|forest| {
            let score = features.as_ref().map_or(0.0, |features| forest.score(features));
            (score, forest.warming_up())
        });
        let verdicts: Vec<Option<Verdict>> = series_of(config)
            .zip(&self.series)
            .zip(&values)
            .map(|(((measure, _), series), value)| {
                let forest = if in_forest(measure) { forest } else { None };
                value.map(|value| series.judge(value, forest, &config.alert))
            })
            .collect();

        self.tell_metrics(closing, &merged, &verdicts, effects);
        self.tell_alerts(closing, &merged, &verdicts, effects);
        for (series, value) in self.series.iter_mut().zip(&values) {
            series.learn(*value);
        }
        if let (Some(forest), Some(features)) = (&mut self.forest, &features) {
            forest.learn(features);
        }
        self.tell_forecasts(closing, effects);
        self.last_window = Some(closing.start);
    }

    /// Learns that the windows between the last one and this one had no events.
    fn learn_gap(&mut self, config: &StreamConfig, start: i64) {
        let slide_ms = config.window.slide_ms;
        let Some(last) = self.last_window else { return };
        let missing = (start - last) / slide_ms - 1;
        if missing > GAP_MAX {
            let panes = std::mem::take(&mut self.panes);
            *self = Self { panes, ..Self::new(config, start.div_euclid(slide_ms), self.last_seen) };
            return;
        }
        for _ in 0..missing {
            for series in &mut self.series {
                series.learn(None);
            }
        }
    }

    /// What the forest sees of a window; `None` while a forecast that it builds on is not ready.
    fn features(&self, config: &StreamConfig, values: &[Option<f64>]) -> Option<Vec<f64>> {
        self.forest.as_ref()?;
        series_of(config)
            .zip(&self.series)
            .zip(values)
            .filter(|(((measure, _), _), _)| in_forest(measure))
            .map(|((_, series), value)| value.map_or(Some(f64::NAN), |value| series.feature(value)))
            .collect()
    }

    fn tell_metrics(&self, closing: &Closing<'_>, merged: &Pane, verdicts: &[Option<Verdict>], effects: &mut Effects) {
        let mut verdicts = verdicts.iter();
        for (measure, summary) in closing.config.measures.iter().zip(&merged.summaries) {
            let series = measure
                .aggregates
                .iter()
                .zip(verdicts.by_ref())
                .filter_map(|(aggregate, verdict)| Some(series_point(*aggregate, verdict.as_ref()?)))
                .collect();
            let moments = &summary.moments;
            if moments.count == 0 {
                continue;
            }
            effects.metrics.push(WindowMetric {
                stream: closing.config.name.clone(),
                entity: closing.entity.into(),
                labels: closing.labels(),
                measure: measure.name.clone(),
                window_start: closing.start,
                window_end: closing.end,
                revision: 0,
                count: i64::try_from(moments.count).unwrap_or(i64::MAX),
                sum: moments.sum(),
                mean: moments.mean,
                stddev: moments.stddev(),
                min: moments.min,
                max: moments.max,
                p50: summary.quantile(0.50),
                p95: summary.quantile(0.95),
                p99: summary.quantile(0.99),
                series,
                partition: closing.partition,
                first_offset: merged.first_offset,
                last_offset: merged.last_offset,
            });
        }
    }

    fn tell_alerts(
        &mut self,
        closing: &Closing<'_>,
        merged: &Pane,
        verdicts: &[Option<Verdict>],
        effects: &mut Effects,
    ) {
        for (((measure, aggregate), series), verdict) in series_of(closing.config).zip(&mut self.series).zip(verdicts) {
            let Some(verdict) = verdict else { continue };
            let window = JudgedWindow { start: closing.start, first_offset: merged.first_offset, verdict };
            if let Some((change, open)) = series.alert.judge(&closing.config.alert, window) {
                effects.alerts.push(alert(closing, measure, aggregate, verdict, change, &open, merged.last_offset));
            }
        }
    }

    fn tell_forecasts(&self, closing: &Closing<'_>, effects: &mut Effects) {
        let slide_ms = closing.config.window.slide_ms;
        for ((measure, aggregate), series) in series_of(closing.config).zip(&self.series) {
            let Some(params) = measure.forecast.as_ref().filter(|params| !params.horizons.is_empty()) else { continue };
            let every_ms = params.emit_every_ms;
            if closing.end.div_euclid(every_ms) == (closing.end - slide_ms).div_euclid(every_ms) {
                continue;
            }
            let Some(path) = series.path(&params.horizons) else { continue };
            let point = |(&steps, at): (&u32, &crate::forecast::Expectation)| {
                let horizon_ms = i64::from(steps) * slide_ms;
                ForecastPoint {
                    target_time: closing.end + horizon_ms,
                    horizon_ms,
                    expected: at.mean,
                    lower: at.lower,
                    upper: at.upper,
                }
            };
            effects.forecasts.push(Forecast {
                stream: closing.config.name.clone(),
                entity: closing.entity.into(),
                measure: measure.name.clone(),
                aggregate: aggregate.as_str().into(),
                issued_at: closing.end,
                level: LEVEL,
                path: params.horizons.iter().zip(&path).map(point).collect(),
            });
        }
    }
}

/// The stream's series, in the order in which entities hold them.
fn series_of(config: &StreamConfig) -> impl Iterator<Item = (&Measure, Aggregate)> {
    config.measures.iter().flat_map(|measure| measure.aggregates.iter().map(move |&aggregate| (measure, aggregate)))
}

fn in_forest(measure: &Measure) -> bool {
    measure.detectors.contains(&DetectorKind::IsolationForest)
}

/// A series' value of a window; `None` when the measure had none, except for the count of it, which is 0.
fn value_of(aggregate: Aggregate, summary: &Summary) -> Option<f64> {
    let moments = &summary.moments;
    if aggregate == Aggregate::Count {
        return Some(moments.count as f64);
    }
    if moments.count == 0 {
        return None;
    }
    match aggregate {
        Aggregate::Count | Aggregate::Sum => Some(moments.sum()),
        Aggregate::Mean => Some(moments.mean),
        Aggregate::Stddev => Some(moments.stddev()),
        Aggregate::Min => Some(moments.min),
        Aggregate::Max => Some(moments.max),
        Aggregate::P50 | Aggregate::P95 | Aggregate::P99 => summary.quantile(aggregate.quantile()?),
    }
    .filter(|value| value.is_finite())
}

fn detector_scores(verdict: &Verdict) -> Vec<DetectorScore> {
    let named = |&(kind, score): &(DetectorKind, f64)| DetectorScore { detector: kind.as_str().into(), score };
    verdict.scores.iter().map(named).collect()
}

fn series_point(aggregate: Aggregate, verdict: &Verdict) -> SeriesPoint {
    SeriesPoint {
        aggregate: aggregate.as_str().into(),
        value: verdict.value,
        expected: verdict.expected.map(|expected| expected.mean),
        lower: verdict.expected.map(|expected| expected.lower),
        upper: verdict.expected.map(|expected| expected.upper),
        score: verdict.score,
        warming_up: verdict.warming_up,
        detectors: detector_scores(verdict),
    }
}

fn alert(
    closing: &Closing<'_>,
    measure: &Measure,
    aggregate: Aggregate,
    verdict: &Verdict,
    change: Change,
    open: &OpenAlert,
    last_offset: i64,
) -> Alert {
    let name = &closing.config.name;
    let id_of = format!("{name}|{}|{}|{}|{}", closing.entity, measure.name, aggregate.as_str(), open.opened_at);
    Alert {
        alert_id: format!("{:016x}", fnv1a(id_of.as_bytes())),
        state: change,
        severity: open.severity,
        kind: open.kind,
        stream: name.clone(),
        entity: closing.entity.into(),
        labels: closing.labels(),
        measure: measure.name.clone(),
        aggregate: aggregate.as_str().into(),
        opened_at: open.opened_at,
        window_start: closing.start,
        window_end: closing.end,
        observed: verdict.value,
        expected: verdict.expected.map(|expected| expected.mean),
        lower: verdict.expected.map(|expected| expected.lower),
        upper: verdict.expected.map(|expected| expected.upper),
        score: verdict.score,
        peak_score: open.peak_score,
        detectors: detector_scores(verdict),
        windows: i32::try_from(open.windows).unwrap_or(i32::MAX),
        sequence: i32::try_from(open.sequence).unwrap_or(i32::MAX),
        partition: closing.partition,
        first_offset: open.first_offset,
        last_offset,
        summary: sentence(closing, measure, aggregate, verdict, change, open),
    }
}

/// One plain sentence for a person.
fn sentence(
    closing: &Closing<'_>,
    measure: &Measure,
    aggregate: Aggregate,
    verdict: &Verdict,
    change: Change,
    open: &OpenAlert,
) -> String {
    let unit = measure.unit.as_deref().map(|unit| format!(" {unit}")).unwrap_or_default();
    let band = verdict
        .expected
        .map(|expected| format!(", expected {} to {}{unit}", short(expected.lower), short(expected.upper)))
        .unwrap_or_default();
    let kind = open.kind.as_str().replace('_', " ");
    let then = match change {
        Change::Resolved => format!("{kind} since {} is over", clock(open.opened_at)),
        Change::Opened | Change::Updated => format!("{kind} since {}", clock(open.opened_at)),
    };
    format!(
        "{} {} of {} was {}{unit} at {}{band}; {then}",
        aggregate.as_str(),
        measure.name,
        closing.entity,
        short(verdict.value),
        clock(closing.start),
    )
}

/// A number as a person would say it: four significant digits.
fn short(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-3..1e7).contains(&magnitude) {
        return format!("{value:.3e}");
    }
    let whole_digits = if magnitude < 1.0 { 0 } else { magnitude.log10() as usize + 1 };
    format!("{value:.*}", 4usize.saturating_sub(whole_digits.max(1)))
}

/// Time of day, UTC, with the date: `01-03 14:05`.
fn clock(event_time: i64) -> String {
    jiff::Timestamp::from_millisecond(event_time)
        .map_or_else(|_| event_time.to_string(), |time| time.strftime("%m-%d %H:%M").to_string())
}

/// 64-bit FNV-1a: short, stable ids of alerts (not for hash tables).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        let cases = [
            (0.0, "0.000"),
            (812.34, "812.3"),
            (0.012_34, "0.012"),
            (12_345.6, "12346"),
            (-3.25, "-3.250"),
            (3e9, "3.000e9"),
        ];
        for (value, expected) in cases {
            assert_eq!(short(value), expected);
        }
        assert_eq!(clock(1_396_792_980_000), "04-06 14:03");
    }

    #[test]
    fn ids_follow_the_published_hash() {
        // http://www.isthe.com/chongo/tech/comp/fnv/, test vectors of FNV-1a, 64 bit
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
