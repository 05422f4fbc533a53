//! What is known of one entity, and what it makes of the entity's next window: numbers only, no words.
//!
//! A window is judged by what was known before it, and learnt afterwards. A [`Judge`] is a value: a copy of it can be led along other
//! windows, which is how a window that a late event has changed is judged again.

use serde::{Deserialize, Serialize};
use tidewatch_schemas::record::AlertState as Change;

use crate::alert::breach::{Breach, BreachStep, ForecastWindow};
use crate::alert::{JudgedWindow, OpenAlert};
use crate::cohort::{Row, Version};
use crate::config::{Aggregate, DropoutAfter, Measure, Per, StreamConfig};
use crate::detect::forest::Forest;
use crate::detect::isolation_forest::{ForestParams, ForestScore};
use crate::detect::{DetectorKind, Missing};
use crate::forecast::{Expectation, PathPoint};
use crate::series::typical::Example;
use crate::series::{JudgedValue, Recent, Series, Verdict};
use crate::state::format::{Until, in_4, in_5};
use crate::summary::Moments;
use crate::window::{Pane, Window};

mod joint;

use joint::{Joint, attribution};

/// Silence after which an entity starts anew, in ms: what was known of it is too old to judge by.
const FORGET_MS: i64 = 35 * 86_400_000;
/// Missing windows in a row that are held against maintenance one by one.
const GAP_MAX: i64 = 10_000;

/// A window that has closed, in the numbers that records and series are made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Closed {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) first_offset: i64,
    pub(crate) last_offset: i64,
    /// Of each measure.
    pub(crate) measured: Vec<Measured>,
}

/// What a window says of one measure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) moments: Moments,
    pub(crate) p50: Option<f64>,
    pub(crate) p95: Option<f64>,
    pub(crate) p99: Option<f64>,
}

impl Closed {
    pub(crate) fn new(config: &StreamConfig, start: i64, end: i64, pane: &Pane) -> Self {
        let measured = pane.summaries(&config.quantiles).map(|summary| Measured {
            moments: summary.moments,
            p50: summary.quantile(0.50),
            p95: summary.quantile(0.95),
            p99: summary.quantile(0.99),
        });
        let (first_offset, last_offset) = (pane.first_offset, pane.last_offset);
        Self { start, end, first_offset, last_offset, measured: measured.collect() }
    }

    /// The value of each series; `None` where the measure had none, and under maintenance.
    fn values(&self, config: &StreamConfig) -> Vec<Option<f64>> {
        let of = |(measure, measured): (&Measure, &Measured)| {
            let measured = *measured;
            let is_maintained = measure.guards.is_maintained(self.start, self.end);
            let value = move |aggregate| measured.value(aggregate).filter(|_| !is_maintained);
            measure.aggregates.clone().into_iter().map(value)
        };
        config.measures.iter().zip(&self.measured).flat_map(of).collect()
    }
}

impl Measured {
    /// A series' value; `None` when the window had no value, except for the count of them, which is 0.
    fn value(&self, aggregate: Aggregate) -> Option<f64> {
        let moments = &self.moments;
        if aggregate == Aggregate::Count {
            return Some(moments.count as f64);
        }
        if moments.count == 0 {
            return None;
        }
        match aggregate {
            Aggregate::Count | Aggregate::Sum => Some(moments.sum),
            Aggregate::Mean => Some(moments.mean()),
            Aggregate::Stddev => Some(moments.stddev()),
            Aggregate::Min => Some(moments.min),
            Aggregate::Max => Some(moments.max),
            Aggregate::P50 => self.p50,
            Aggregate::P95 => self.p95,
            Aggregate::P99 => self.p99,
        }
        .filter(|value| value.is_finite())
    }
}

/// What a window leads to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Judged {
    /// Of each series.
    pub(crate) verdicts: Vec<Option<Verdict>>,
    /// What a person has to hear of, by series.
    pub(crate) steps: Vec<AlertStep>,
    pub(crate) gone: Until<5, Vec<(u16, Vec<Expectation>)>>,
    /// Forecasts that are due, by series.
    #[serde(deserialize_with = "in_5")]
    pub(crate) paths: Vec<(u16, Vec<PathPoint>)>,
}

/// A step in the life of a series' alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AlertStep {
    pub(crate) series: u16,
    pub(crate) change: Change,
    pub(crate) open: OpenAlert,
    /// What is told of it, where it ends as the series has no values any more: the last one.
    #[serde(deserialize_with = "in_4")]
    pub(crate) last: Option<Box<Verdict>>,
    /// Each measure's share of what is unusual in the window, 1 in all.
    #[serde(deserialize_with = "in_4")]
    pub(crate) attribution: Vec<f64>,
    /// The last windows of the series, this one the last.
    #[serde(deserialize_with = "in_4")]
    pub(crate) recent: Vec<Recent>,
    /// Of what limit it is, where it is that of a predicted breach.
    #[serde(deserialize_with = "in_5")]
    pub(crate) breach: Option<Breach>,
}

/// All that is known of an entity's series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Judge {
    /// The last window that was judged.
    last: Option<(i64, i64)>,
    /// In the order of measures and their aggregates.
    series: Vec<Series>,
    /// The entity's own, where it is asked for.
    forest: Option<ForestScore>,
    #[serde(deserialize_with = "in_4")]
    missing: Missing,
}

impl Judge {
    /// Knows nothing.
    pub(crate) fn new(config: &StreamConfig) -> Self {
        // Exactly as many: there is one for each entity.
        let mut series = Vec::with_capacity(config.series_count());
        let step_ms = config.window.step_ms();
        series.extend(series_of(config).map(|(measure, _)| Series::new(measure, step_ms)));
        Self { last: None, series, forest: forest(config), missing: Missing::default() }
    }

    /// Takes on the detectors that the declaration names now; see [`crate::cohort::Cohorts::fit`].
    pub(crate) fn fit(&mut self, config: &StreamConfig, has_other_series: bool) {
        for (series, (measure, _)) in self.series.iter_mut().zip(series_of(config)) {
            series.fit(measure, config.window.step_ms());
        }
        if has_other_series {
            self.forest = forest(config);
        }
    }

    /// The last window that was judged.
    pub(crate) fn last(&self) -> Option<(i64, i64)> {
        self.last
    }

    /// Missing windows in a row after which the entity has fallen silent.
    pub(crate) fn dropout_after(&self, config: &StreamConfig) -> Option<u32> {
        match config.dropout_after? {
            DropoutAfter::Windows(windows) => Some(windows),
            DropoutAfter::Auto => self.missing.after(config.pace.asked),
        }
    }

    /// Whether a later window may lead to a step of the alert that opened at `opened_at`.
    pub(crate) fn may_tell_again(&self, step: &AlertStep) -> bool {
        let (series, opened_at) = (&self.series[usize::from(step.series)], step.open.opened_at);
        let since = if step.breach.is_some() { series.breach_since() } else { series.alert.since() };
        since == Some(opened_at) || self.last.is_none_or(|(start, _)| opened_at > start)
    }

    /// Judges a window by what is known of the entity and of its cohort, and learns it. Windows come in order of their ends. Gives the
    /// row that the cohort's forest has to learn once the window is final.
    pub(crate) fn judge(
        &mut self,
        config: &StreamConfig,
        closed: &Closed,
        cohort: Option<&Version>,
    ) -> (Judged, Option<Row>) {
        let mut steps = self.end_silent(config, closed.start);
        self.learn_gap(config, closed.start);
        let values = closed.values(config);
        let row = self.row(config, closed.start, &values, cohort);
        let verdicts = self.verdicts(config, closed.start, &values, row.as_ref(), cohort);
        steps.extend(self.steps(config, closed, &verdicts));
        for ((series, (measure, _)), value) in self.series.iter_mut().zip(series_of(config)).zip(&values) {
            if let Some(value) = *value {
                series.learn(measure, closed.start, config.window.step_ms(), value);
            }
        }
        steps.extend(self.breaches(config, closed, &verdicts));
        if let Some(cohort) = cohort {
            self.series.iter_mut().zip(&cohort.typical).for_each(|(series, typical)| series.borrow(typical));
        }
        if let (Some(forest), Some(row)) = (&mut self.forest, &row) {
            forest.learn(&row.numbers);
        }
        self.last = Some((closed.start, closed.end));
        let is_anomalous = verdicts.iter().flatten().any(|verdict| verdict.evidence >= 1.0)
            || self.series.iter().any(|series| series.alert.since().is_some());
        let row = row.filter(|_| self.forest.is_none()).map(|row| Row { is_anomalous, ..row });
        (Judged { verdicts, steps, gone: Until::default(), paths: self.paths(config, closed) }, row)
    }

    /// What each series adds to what is typical of the cohort, behind a window in which it had a value.
    pub(crate) fn examples(&self, judged: &Judged) -> impl Iterator<Item = Option<Example>> {
        self.series
            .iter()
            .zip(&judged.verdicts)
            .map(|(series, verdict)| verdict.as_ref().and_then(|_| series.example()))
    }

    /// Whether each series of a window would be anomalous by what is known now; nothing is learnt.
    pub(crate) fn would_be_anomalous(
        &self,
        config: &StreamConfig,
        closed: &Closed,
        cohort: Option<&Version>,
    ) -> Vec<bool> {
        let is_anomalous = |verdict: &Option<Verdict>| verdict.as_ref().is_some_and(|verdict| verdict.evidence >= 1.0);
        self.verdicts_of(config, closed, cohort).iter().map(is_anomalous).collect()
    }

    /// Event time from which on nobody waits for the return of series with open alerts any more; `None` if no alert is open.
    pub(crate) fn silent_from(&self, config: &StreamConfig) -> Option<i64> {
        let (_, end) = self.last.filter(|_| self.series.iter().any(Series::has_open_alert))?;
        Some(end.saturating_add(silence_ms(config)))
    }

    /// Ends the alerts that are open if the window that starts at `start` is the first one after so long a silence.
    fn end_silent(&mut self, config: &StreamConfig, start: i64) -> Vec<AlertStep> {
        if self.silent_from(config).is_none_or(|from| start < from) {
            return Vec::new();
        }
        self.end_all(config, &vec![None; self.series.len()], true)
    }

    /// Ends the alerts that are open, as of the last window, whether or not they are over.
    pub(crate) fn end_alerts(
        &mut self,
        config: &StreamConfig,
        closed: &Closed,
        cohort: Option<&Version>,
        is_silent: bool,
    ) -> Judged {
        let verdicts = self.verdicts_of(config, closed, cohort);
        let steps = self.end_all(config, &verdicts, is_silent);
        Judged { verdicts, steps, gone: Until::default(), paths: Vec::new() }
    }

    fn end_all(&mut self, config: &StreamConfig, verdicts: &[Option<Verdict>], is_silent: bool) -> Vec<AlertStep> {
        let step_ms = config.window.step_ms();
        let mut steps = Vec::new();
        for (at, series) in self.series.iter_mut().enumerate() {
            let is_last = is_silent || verdicts[at].is_none();
            let last = |series: &Series| if is_last { series.last_verdict(step_ms) } else { None };
            if let Some(open) = series.alert.end() {
                let (last, recent) = (last(series), series.recent());
                let attribution = attribution(config, verdicts, at);
                let change = Change::Resolved;
                steps.push(AlertStep { series: at as u16, change, open, last, attribution, recent, breach: None });
            }
            if let Some(step) = series.end_breach() {
                steps.push(breach_step(config, at, step, last(series), series));
            }
        }
        steps
    }

    fn verdicts_of(&self, config: &StreamConfig, closed: &Closed, cohort: Option<&Version>) -> Vec<Option<Verdict>> {
        let values = closed.values(config);
        let row = self.row(config, closed.start, &values, cohort);
        self.verdicts(config, closed.start, &values, row.as_ref(), cohort)
    }

    fn verdicts(
        &self,
        config: &StreamConfig,
        start_ms: i64,
        values: &[Option<f64>],
        row: Option<&Row>,
        cohort: Option<&Version>,
    ) -> Vec<Option<Verdict>> {
        let joint = self.joint(config, row, cohort.and_then(|cohort| cohort.forest.as_ref()));
        let (step_ms, pace) = (config.window.step_ms(), config.pace);
        let mut joint_series = 0..;
        let judge = |(((at, measure, aggregate), series), value): ((_, &Series), &Option<f64>)| {
            let (at, measure): (usize, &Measure) = (at, measure);
            let forest = if in_forest(measure) { joint_series.next().and_then(|at| joint.of(at)) } else { None };
            let is_combination = joint.combination.is_some_and(|measures| measures.contains(&at));
            value.map(|value| {
                let value = JudgedValue { start_ms, step_ms, value, aggregate, forest, is_combination, measure, pace };
                series.judge(&value)
            })
        };
        numbered_series_of(config).zip(&self.series).zip(values).map(judge).collect()
    }

    /// What the forest makes of a row, the entity's own or the cohort's.
    fn joint(&self, config: &StreamConfig, row: Option<&Row>, forest: Option<&Forest>) -> Joint {
        match &self.forest {
            Some(forest) => Joint::by_entity(forest, row),
            None if config.joint_series() > 0 => Joint::by_cohort(config, forest, row),
            None => Joint::default(),
        }
    }

    fn steps(&mut self, config: &StreamConfig, closed: &Closed, verdicts: &[Option<Verdict>]) -> Vec<AlertStep> {
        let (mut steps, step_ms) = (Vec::new(), config.window.step_ms());
        for (at, (series, verdict)) in self.series.iter_mut().zip(verdicts).enumerate() {
            let (step, last) = match verdict {
                Some(verdict) => {
                    let window = JudgedWindow { start: closed.start, first_offset: closed.first_offset, verdict };
                    series.note(closed.start, verdict);
                    (series.alert.judge(&config.alert, config.pace, window), None)
                }
                None => {
                    series.pause();
                    series.end_of_silent(closed.start, step_ms, silence_ms(config)).unzip()
                }
            };
            if let Some((change, open)) = step {
                let (attribution, recent) = (attribution(config, verdicts, at), series.recent());
                steps.push(AlertStep { series: at as u16, change, open, last, attribution, recent, breach: None });
            }
        }
        if config.alert.per == Per::Entity {
            // One alert is enough of what an entity's series do together: each other one's threshold rises too.
            for step in steps.iter().filter(|step| step.change == Change::Opened) {
                let others = self.series.iter_mut().enumerate().filter(|(at, _)| *at != usize::from(step.series));
                others.for_each(|(_, series)| series.alert.raise());
            }
        }
        steps
    }

    /// What a person has to hear of limits, when a window has been learnt.
    fn breaches(&mut self, config: &StreamConfig, closed: &Closed, verdicts: &[Option<Verdict>]) -> Vec<AlertStep> {
        let &Closed { start, end, first_offset, .. } = closed;
        let step_ms = config.window.step_ms();
        let mut steps = Vec::new();
        for (at, ((measure, aggregate), verdict)) in series_of(config).zip(verdicts).enumerate() {
            let series = &mut self.series[at];
            let (step, last) = match verdict {
                Some(Verdict { value, .. }) => {
                    let window = ForecastWindow { start, end, step_ms, first_offset, value: *value, path: &[] };
                    (series.predict_breach(&config.alert, measure, aggregate, window), None)
                }
                None if series.is_silent(start, silence_ms(config)) => {
                    (series.end_breach(), series.last_verdict(step_ms))
                }
                None => continue,
            };
            steps.extend(step.map(|step| breach_step(config, at, step, last, series)));
        }
        steps
    }

    /// The forecasts that are issued when the window that ends at `end` has been learnt.
    fn paths(&self, config: &StreamConfig, Closed { start, end, .. }: &Closed) -> Vec<(u16, Vec<PathPoint>)> {
        let slide_ms = config.window.step_ms();
        let mut paths = Vec::new();
        for (at, ((measure, _), series)) in series_of(config).zip(&self.series).enumerate() {
            let Some(params) = measure.forecast.as_ref().filter(|params| !params.horizons.is_empty()) else { continue };
            let every_ms = params.emit_every_ms;
            if end.div_euclid(every_ms) != (end - slide_ms).div_euclid(every_ms) {
                paths.extend(series.path(measure, *start, slide_ms).map(|path| (at as u16, path)));
            }
        }
        paths
    }

    /// Learns that the windows between the last one and this one had no events.
    fn learn_gap(&mut self, config: &StreamConfig, start: i64) {
        let (Window::Fixed { size_ms, slide_ms }, Some((last, _))) = (config.window, self.last) else { return };
        let missing = (start - last) / slide_ms - 1;
        if start - last > FORGET_MS {
            *self = Self::new(config);
            return;
        }
        let counts = |at: &i64| !config.is_maintained(last + at * slide_ms, last + at * slide_ms + size_ms);
        let is_counted = config.has_maintenance() && missing <= GAP_MAX;
        let unexpected = if is_counted { (1..=missing).filter(counts).count() as i64 } else { missing.max(0) };
        self.missing.learn(unexpected as u32);
        if missing > 0 {
            self.series.iter_mut().for_each(|series| series.pause());
        }
    }

    /// What the forest sees of a window; `None` without one, and while it is not known what to expect of a series.
    fn row(
        &self,
        config: &StreamConfig,
        start_ms: i64,
        values: &[Option<f64>],
        cohort: Option<&Version>,
    ) -> Option<Row> {
        if self.forest.is_none() && config.joint_series() == 0 {
            return None;
        }
        let step_ms = config.window.step_ms();
        let numbers: Vec<f64> = series_of(config)
            .zip(&self.series)
            .zip(values)
            .filter(|(((measure, _), _), _)| in_forest(measure))
            .map(|(((measure, _), series), value)| {
                value.map_or(Some(f64::NAN), |value| series.feature(measure, start_ms, step_ms, value))
            })
            .collect::<Option<_>>()?;
        let forest = cohort.and_then(|cohort| cohort.forest.as_ref());
        let oddness = forest.filter(|forest| !forest.warming_up()).map(|forest| forest.score(&numbers));
        Some(Row { numbers, oddness, is_anomalous: false })
    }
}

/// A step in the life of a predicted breach of the series at `at`.
fn breach_step(
    config: &StreamConfig,
    at: usize,
    (change, open, breach): BreachStep,
    last: Option<Box<Verdict>>,
    series: &Series,
) -> AlertStep {
    let mut attribution = vec![0.0; config.measures.len()];
    if let Some((measure, ..)) = numbered_series_of(config).nth(at) {
        attribution[measure] = 1.0;
    }
    let (recent, breach) = (series.recent(), Some(breach));
    AlertStep { series: at as u16, change, open, last, attribution, recent, breach }
}

/// The stream's series, in the order in which entities hold them.
pub(crate) fn series_of(config: &StreamConfig) -> impl Iterator<Item = (&Measure, Aggregate)> {
    numbered_series_of(config).map(|(_, measure, aggregate)| (measure, aggregate))
}

/// The same, each with the number of its measure.
fn numbered_series_of(config: &StreamConfig) -> impl Iterator<Item = (usize, &Measure, Aggregate)> {
    config
        .measures
        .iter()
        .enumerate()
        .flat_map(|(at, measure)| measure.aggregates.iter().map(move |&aggregate| (at, measure, aggregate)))
}

/// How long a series has to be silent until nobody waits for its return, in ms.
fn silence_ms(config: &StreamConfig) -> i64 {
    let step_ms = config.window.step_ms();
    config.pace.memory_ms(step_ms).max(i64::from(config.alert.resolve_after) * step_ms)
}

fn forest(config: &StreamConfig) -> Option<ForestScore> {
    let dims = config.own_series();
    (dims > 0).then(|| ForestScore::new(ForestParams { seed: config.seed, ..ForestParams::default() }, dims))
}

fn in_forest(measure: &Measure) -> bool {
    measure.detectors.contains(&DetectorKind::IsolationForest)
}
