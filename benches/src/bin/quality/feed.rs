//! Rows through the product's engine, as events; what it says of each window, as scores of rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tidewatch_processor_core::{Effects, Engine, Event, StreamConfig, StreamSettings};
use tidewatch_schemas::record::{AlertKind, AlertState};

use crate::rows::Series;

/// Share of rows that are not alone in their window, beyond which a series is taken for one off its grid.
const CROWDED_MAX: f64 = 0.05;
/// The finest window, for a series off any grid.
const FINEST_MS: i64 = 60_000;
/// Windows whose word may still come, at most.
const WAITING_MAX: i64 = 10;
/// Entity, stream and measure have to be called something.
const NAME: &str = "series";

/// What the engine says of a window, which is said of the last row in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Word {
    pub(crate) row: usize,
    pub(crate) column: usize,
    pub(crate) says: Says,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Says {
    /// 1.0 is the threshold.
    Score(f64),
    Opens(AlertKind),
}

/// What the engine says of a row: nothing of all but the last row of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Said {
    /// The greatest of its columns.
    pub(crate) score: f64,
    /// The column that has it.
    leader: usize,
    /// Of the alert that opens there; of several, of that of the leader.
    pub(crate) opens: Option<AlertKind>,
}

/// What the engine says of a series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdicts {
    /// Length of the windows.
    pub(crate) window_ms: i64,
    pub(crate) rows: Vec<Said>,
    /// Alerts that open, by column.
    pub(crate) alerts: Vec<usize>,
    /// Row by row.
    scores: Vec<f64>,
}

impl Verdicts {
    fn new(window_ms: i64, rows: usize, columns: usize) -> Self {
        let scores = vec![f64::NAN; rows * columns];
        Self { window_ms, rows: vec![Said::default(); rows], alerts: vec![0; columns], scores }
    }

    /// The score of each column of a row; not a number where nothing is said of it.
    pub(crate) fn scores(&self, row: usize) -> &[f64] {
        &self.scores[row * self.alerts.len()..][..self.alerts.len()]
    }

    fn take(&mut self, Word { row, column, says }: Word) {
        let columns = self.alerts.len();
        let said = &mut self.rows[row];
        match says {
            Says::Score(score) => {
                self.scores[row * columns + column] = score;
                if score > said.score {
                    (said.score, said.leader) = (score, column);
                }
            }
            Says::Opens(kind) => {
                self.alerts[column] += 1;
                if said.opens.is_none() || column == said.leader {
                    said.opens = Some(kind);
                }
            }
        }
    }
}

/// The stream that a series of this cadence makes, with a measure a column: all else is as shipped.
pub(crate) fn stream(
    window_ms: i64,
    columns: &[String],
    alert: serde_json::Value,
) -> anyhow::Result<Arc<StreamConfig>> {
    let measure = |name: &String| json!({ "name": name, "field": "value" });
    let settings: StreamSettings = serde_json::from_value(json!({
        "name": NAME, "topic": NAME, "format": "json", "entity": [NAME], "event_time": "at",
        "window": { "tumbling": format!("{window_ms}ms") }, "disorder": "0s",
        "measure": columns.iter().map(measure).collect::<Vec<_>>(), "alert": alert,
    }))?;
    Ok(settings.validate()?)
}

/// Feeds a series in the order of its times. The window is the series' own cadence, which is all that it is told of the data.
pub(crate) fn judge(series: &Series) -> anyhow::Result<Verdicts> {
    let order = series.in_order();
    let window_ms = window_ms(series, &order);
    let mut feed = Feed::new(stream(window_ms, &series.columns, json!({}))?, window_ms);
    let mut verdicts = Verdicts::new(window_ms, series.rows.len(), series.columns.len());
    for at in order {
        let words = feed.take(at, series.rows[at].time_ms, series.values(at));
        words.iter().for_each(|word| verdicts.take(*word));
    }
    feed.end().iter().for_each(|word| verdicts.take(*word));
    Ok(verdicts)
}

/// An engine at work on one series.
pub(crate) struct Feed {
    engine: Engine,
    effects: Effects,
    words: Vec<Word>,
    /// The column of each measure.
    columns: BTreeMap<String, usize>,
    window_ms: i64,
    offset: i64,
    last_ms: i64,
    /// The row that a window's word goes to, by the window's start.
    rows: BTreeMap<i64, usize>,
}

impl Feed {
    pub(crate) fn new(config: Arc<StreamConfig>, window_ms: i64) -> Self {
        let columns = config.measures.iter().map(|measure| measure.name.clone()).zip(0..).collect();
        let (engine, effects) = (Engine::new(config, 0), Effects::default());
        Self { engine, effects, words: Vec::new(), columns, window_ms, offset: 0, last_ms: 0, rows: BTreeMap::new() }
    }

    /// Takes a row in, and gives what is said of earlier ones.
    pub(crate) fn take(&mut self, row: usize, time_ms: i64, values: &[f64]) -> &[Word] {
        let event = Event { offset: self.offset, event_time: time_ms, entity: NAME, values, id: None };
        self.engine.ingest(&event, &mut self.effects);
        self.listen();
        self.offset += 1;
        self.last_ms = time_ms;
        let start = time_ms.div_euclid(self.window_ms) * self.window_ms;
        self.rows.insert(start, row);
        if self.rows.len() as i64 > 2 * WAITING_MAX {
            self.rows = self.rows.split_off(&(start - WAITING_MAX * self.window_ms));
        }
        &self.words
    }

    /// Closes what is open, and gives what is said of that.
    pub(crate) fn end(&mut self) -> &[Word] {
        self.engine.advance(self.last_ms + self.window_ms, &mut self.effects);
        self.listen();
        &self.words
    }

    fn listen(&mut self) {
        self.words.clear();
        let word = |start: &i64, measure: &str, says: Says| {
            Some(Word { row: *self.rows.get(start)?, column: *self.columns.get(measure)?, says })
        };
        let Effects { metrics, alerts, .. } = &self.effects;
        let scores = metrics.iter().filter_map(|metric| {
            word(&metric.window_start, &metric.measure, Says::Score(metric.series.first()?.score))
        });
        let opened = alerts.iter().filter(|alert| alert.state == AlertState::Opened);
        let opens = opened.filter_map(|alert| word(&alert.window_start, &alert.measure, Says::Opens(alert.kind)));
        self.words.extend(scores.chain(opens));
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
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_distr::StandardNormal;

    use crate::rows::Row;

    use super::*;

    const START_MS: i64 = 1_767_690_000_000;

    fn wave(rows: i64, step_ms: i64) -> Series {
        let mut series = Series::new(vec!["value".into()], true);
        for at in 0..rows {
            let value = 100.0 + ((at * 7_919) % 101) as f64 / 10.0 + if at % 700 == 699 { 300.0 } else { 0.0 };
            series.push(Row { time_ms: START_MS + at * step_ms, is_anomalous: at % 700 == 699 }, &[value]);
        }
        series
    }

    /// Two values, the second of which is the first again, with little noise; not so in one row of 500, where both are usual.
    fn pair(rows: i64) -> Series {
        let mut series = Series::new(vec!["a".into(), "b".into()], true);
        let mut random = StdRng::seed_from_u64(1);
        for at in 0..rows {
            let [load, noise]: [f64; 2] = [0; 2].map(|_| random.sample(StandardNormal));
            let is_anomalous = at % 500 == 499;
            let (a, b) = if is_anomalous { (1.0, -1.0) } else { (load, load) };
            let row = Row { time_ms: START_MS + at * 300_000, is_anomalous };
            series.push(row, &[100.0 + 10.0 * a, 50.0 + 5.0 * b + 0.1 * noise]);
        }
        series
    }

    #[test]
    fn every_row_is_scored_and_the_anomalous_ones_stand_out() {
        for step_ms in [1_000, 300_000, 3_600_000] {
            let series = wave(3_000, step_ms);
            let said = judge(&series).unwrap().rows;
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
    fn columns_are_judged_together() {
        let series = pair(6_000);
        let verdicts = judge(&series).unwrap();
        let alone = [0, 1].map(|column| {
            let mut one = Series::new(vec![series.columns[column].clone()], true);
            (0..6_000).for_each(|row| one.push(series.rows[row], &series.values(row)[column..=column]));
            judge(&one).unwrap().rows
        });
        // Once the forest knows its tails.
        let odd: Vec<usize> = (2_000..6_000).filter(|row| series.rows[*row].is_anomalous).collect();
        let is_joint = |row: &&usize| alone.iter().all(|alone| alone[**row].score < verdicts.rows[**row].score);
        let joint = odd.iter().filter(is_joint).count();
        assert!(joint >= 6, "{joint} of {} rows stand out by their combination", odd.len());
        for (row, said) in verdicts.rows.iter().enumerate() {
            assert_eq!(said.score, verdicts.scores(row).iter().copied().fold(0.0, f64::max));
        }
        let opened = verdicts.rows.iter().filter(|said| said.opens.is_some()).count();
        let alerts: usize = verdicts.alerts.iter().sum();
        assert!((1..=alerts).contains(&opened) && alerts <= 2 * opened, "{alerts} alerts in {opened} rows");
    }

    #[test]
    fn a_value_that_is_missing_has_no_score_and_costs_the_others_none() {
        let mut series = pair(2_000);
        series.values_mut(1_500)[1] = f64::NAN;
        let verdicts = judge(&series).unwrap();
        assert!(verdicts.scores(1_500)[0] >= 0.0 && verdicts.scores(1_500)[1].is_nan());
        // Of the same time: the last one speaks for all.
        series.rows[1_000].time_ms = series.rows[1_001].time_ms;
        let verdicts = judge(&series).unwrap();
        assert!(verdicts.scores(1_000).iter().all(|score| score.is_nan()));
        assert!(verdicts.scores(1_001).iter().all(|score| *score >= 0.0));
    }

    #[test]
    fn the_future_changes_no_score() {
        for series in [wave(3_000, 300_000), pair(3_000)] {
            let before = judge(&series).unwrap();
            let mut other = series;
            for row in 1_500..3_000 {
                other.values_mut(row).iter_mut().for_each(|value| *value *= -5.0);
            }
            let after = judge(&other).unwrap();
            let bits = |verdicts: &Verdicts| {
                (0..1_500).flat_map(|row| verdicts.scores(row)).map(|score| score.to_bits()).collect::<Vec<_>>()
            };
            assert_eq!(bits(&before), bits(&after));
            assert_ne!(before.rows[1_500..], after.rows[1_500..]);
        }
    }
}
