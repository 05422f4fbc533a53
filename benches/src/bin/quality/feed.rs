//! Rows through the product's engine, as events; what it says of each window, as scores of rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tidewatch_processor_core::{Effects, Engine, Event, StreamConfig, StreamSettings};
use tidewatch_schemas::record::{AlertState, AnomalyKind};

use crate::rows::Series;

/// Share of rows that are not alone in their window, beyond which a series is taken for one off its grid.
const CROWDED_MAX: f64 = 0.05;
/// The finest window, for a series off any grid.
const FINEST_MS: i64 = 60_000;
/// Windows whose word may still come, at most.
const WAITING_MAX: i64 = 10;
/// Entity, stream and measure have to be called something.
const NAME: &str = "series";

/// What the engine says of a row: nothing of all but the last row of a window, nor of rows that came too late.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Said {
    /// 1.0 is the threshold.
    pub(crate) score: f64,
    /// Of the alert that opens there.
    pub(crate) opens: Option<AnomalyKind>,
}

/// The stream that a series of this cadence makes: all else is as shipped.
pub(crate) fn stream(window_ms: i64, alert: serde_json::Value) -> anyhow::Result<Arc<StreamConfig>> {
    let settings: StreamSettings = serde_json::from_value(json!({
        "name": NAME, "topic": NAME, "format": "json", "entity": [NAME], "event_time": "at",
        "window": { "tumbling": format!("{window_ms}ms") }, "disorder": "0s",
        "measure": [{ "name": "value", "field": "value" }], "alert": alert,
    }))?;
    Ok(settings.validate()?)
}

/// Feeds a series in the order of its times. The window is the series' own cadence, which is all that it is told of the data.
pub(crate) fn judge(series: &Series) -> anyhow::Result<Vec<Said>> {
    let order = series.in_order();
    let window_ms = window_ms(series, &order);
    let mut feed = Feed::new(stream(window_ms, json!({}))?, window_ms);
    let mut said = vec![Said::default(); series.rows.len()];
    for at in order {
        feed.take(at, series.rows[at].time_ms, series.rows[at].value, &mut said);
    }
    feed.end(&mut said);
    Ok(said)
}

/// An engine at work on one series.
pub(crate) struct Feed {
    engine: Engine,
    effects: Effects,
    window_ms: i64,
    offset: i64,
    last_ms: i64,
    /// The row that a window's word goes to, by the window's start.
    rows: BTreeMap<i64, usize>,
}

impl Feed {
    pub(crate) fn new(config: Arc<StreamConfig>, window_ms: i64) -> Self {
        let (engine, effects) = (Engine::new(config, 0), Effects::default());
        Self { engine, effects, window_ms, offset: 0, last_ms: 0, rows: BTreeMap::new() }
    }

    /// Takes a row in; what is said of earlier ones goes to `said`.
    pub(crate) fn take(&mut self, row: usize, time_ms: i64, value: f64, said: &mut [Said]) {
        let event = Event { offset: self.offset, event_time: time_ms, entity: NAME, values: &[value], id: None };
        self.engine.ingest(&event, &mut self.effects);
        self.listen(said);
        self.offset += 1;
        self.last_ms = time_ms;
        let start = time_ms.div_euclid(self.window_ms) * self.window_ms;
        self.rows.insert(start, row);
        if self.rows.len() as i64 > 2 * WAITING_MAX {
            self.rows = self.rows.split_off(&(start - WAITING_MAX * self.window_ms));
        }
    }

    /// Closes what is open.
    pub(crate) fn end(&mut self, said: &mut [Said]) {
        self.engine.advance(self.last_ms + self.window_ms, &mut self.effects);
        self.listen(said);
    }

    fn listen(&mut self, said: &mut [Said]) {
        for metric in &self.effects.metrics {
            if let (Some(&row), Some(point)) = (self.rows.get(&metric.window_start), metric.series.first()) {
                said[row].score = point.score;
            }
        }
        for alert in self.effects.alerts.iter().filter(|alert| alert.state == AlertState::Opened) {
            if let Some(&row) = self.rows.get(&alert.window_start) {
                said[row].opens = Some(alert.kind);
            }
        }
        self.effects.clear();
    }
}

/// The cadence, or where rows are off its grid, a finer one that few of them share.
fn window_ms(series: &Series, order: &[usize]) -> i64 {
    let crowded = |window: i64| {
        let mut windows: Vec<i64> = order.iter().map(|&at| series.rows[at].time_ms.div_euclid(window)).collect();
        windows.dedup();
        1.0 - windows.len() as f64 / order.len() as f64
    };
    let mut window = series.step_ms();
    while crowded(window) > CROWDED_MAX && window / 2 >= FINEST_MS {
        window /= 2;
    }
    window
}

#[cfg(test)]
mod tests {
    use crate::rows::Row;

    use super::*;

    fn wave(rows: i64, step_ms: i64) -> Series {
        let row = |at: i64| {
            let value = 100.0 + ((at * 7_919) % 101) as f64 / 10.0 + if at % 700 == 699 { 300.0 } else { 0.0 };
            Row { time_ms: 1_767_690_000_000 + at * step_ms, value, is_anomalous: at % 700 == 699 }
        };
        Series { rows: (0..rows).map(row).collect(), has_labels: true }
    }

    #[test]
    fn every_row_is_scored_and_the_anomalous_ones_stand_out() {
        for step_ms in [1_000, 300_000, 3_600_000] {
            let series = wave(3_000, step_ms);
            let said = judge(&series).unwrap();
            // Once two days are known, or 600 values.
            let later = || series.rows.iter().zip(&said).skip(600);
            for (row, said) in later().filter(|(row, _)| row.is_anomalous) {
                assert!(said.score > 2.0 && said.opens.is_some(), "{row:?} {said:?} at {step_ms} ms");
            }
            let wrong = later().filter(|(row, said)| !row.is_anomalous && said.opens.is_some()).count();
            assert!(wrong <= 6, "{wrong} alerts in noise at {step_ms} ms");
        }
    }

    #[test]
    fn the_future_changes_no_score() {
        let series = wave(3_000, 300_000);
        let before = judge(&series).unwrap();
        let mut other = series;
        for row in &mut other.rows[1_500..] {
            row.value *= -5.0;
        }
        let after = judge(&other).unwrap();
        let bits = |said: &[Said]| said[..1_500].iter().map(|said| said.score.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&before), bits(&after));
        assert_ne!(before[1_500..], after[1_500..]);
    }
}
