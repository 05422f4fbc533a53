//! From the engine's numbers to the records that say them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use tidewatch_schemas::record::{
    self, Alert, AlertKind, AlertState as Change, Correction, DetectorScore, DetectorShare, Forecast, ForecastBand,
    ForecastPoint, MeasureShare, RecentWindow, SeriesPoint, Severity, WindowMetric, WindowSpan,
};

use crate::alert::breach::Breach;
use crate::config::{Aggregate, ForecastParams, Measure, Span, StreamConfig};
use crate::detect::DetectorKind;
use crate::forecast::PathPoint;
use crate::judge::{AlertStep, Closed, Judged, series_of};
use crate::series::{Recent, Verdict};

/// The measure and aggregate of an alert on an entity that has fallen silent: the number of its events.
const EVENTS: (&str, &str) = ("events", "count");

/// Whose records they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whose<'a> {
    pub(crate) config: &'a StreamConfig,
    pub(crate) partition: i32,
    pub(crate) entity: &'a str,
}

/// Which telling of an alert's step it is, and of what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Telling {
    pub(crate) revision: i32,
    pub(crate) correction: Correction,
    /// The record that it takes the place of.
    pub(crate) supersedes: Option<String>,
    /// It is resolved because its entity is forgotten.
    pub(crate) is_forgotten: bool,
}

/// What is told of an entity that sends nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It has been silent for long.
    Begun,
    /// It sends again.
    Over,
    /// It is forgotten.
    Forgotten,
}

/// What a predicted breach is by, where an anomaly has its detectors.
const FORECAST: &str = "forecast";
/// The share from which a sentence names a measure.
const SHARE_NOTED: f64 = 0.05;
/// The end of what is said of an alert that ends because its series has no values any more.
const SILENT: &str = "no value has come since";
/// The same because its entity does.
const FORGOTTEN: &str = "ends here: the entity was forgotten to make room";

impl Whose<'_> {
    fn labels(&self) -> BTreeMap<String, String> {
        let values = tidewatch_schemas::entity::split(self.entity).into_iter().map(Cow::into_owned);
        self.config.entity.iter().cloned().zip(values).collect()
    }

    /// The record of one measure of a window; `None` if it had no value.
    pub(crate) fn metric(&self, at: usize, closed: &Closed, judged: &Judged, revision: i32) -> Option<WindowMetric> {
        let (measure, measured) = (&self.config.measures[at], closed.measured[at]);
        let moments = measured.moments;
        if moments.count == 0 {
            return None;
        }
        let first: usize = self.config.measures[..at].iter().map(|measure| measure.aggregates.len()).sum();
        let verdicts = &judged.verdicts[first..];
        let point = |(aggregate, verdict): (&Aggregate, &Option<Verdict>)| {
            verdict.as_ref().map(|verdict| series_point(*aggregate, verdict))
        };
        Some(WindowMetric {
            stream: self.config.name.clone(),
            entity: self.entity.into(),
            labels: self.labels(),
            measure: measure.name.clone(),
            window_start: closed.start,
            window_end: closed.end,
            revision,
            count: i64::try_from(moments.count).unwrap_or(i64::MAX),
            sum: moments.sum,
            mean: moments.mean(),
            stddev: moments.stddev(),
            min: moments.min,
            max: moments.max,
            p50: measured.p50,
            p95: measured.p95,
            p99: measured.p99,
            series: measure.aggregates.iter().zip(verdicts).filter_map(point).collect(),
            partition: self.partition,
            first_offset: closed.first_offset,
            last_offset: closed.last_offset,
            changed: Vec::new(),
            supersedes: Vec::new(),
        })
    }

    /// The record of a step in the life of a series' alert.
    pub(crate) fn alert(&self, step: &AlertStep, closed: &Closed, judged: &Judged, telling: Telling) -> Option<Alert> {
        let (measure, aggregate) = series_of(self.config).nth(usize::from(step.series))?;
        let verdict = step.last.as_deref().or(judged.verdicts[usize::from(step.series)].as_ref())?;
        let open = &step.open;
        let attribution = self.attribution(step);
        let last = step.last.as_ref().and(step.recent.last());
        let start = last.map_or(closed.start, |last| last.start_ms);
        let sentence = Sentence { measure, aggregate, start, verdict, step, attribution: &attribution };
        let summary = match &step.breach {
            None => self.sentence(&sentence, telling.is_forgotten),
            Some(breach) => self.breach_sentence(&sentence, breach, telling.is_forgotten),
        };
        let expected = match &step.breach {
            None => verdict.held_against.map(|expected| [expected.mean, expected.lower, expected.upper]),
            Some(breach) => Some(breach.expected),
        };
        let (score, detectors) = match &step.breach {
            None => (verdict.score, detector_shares(verdict)),
            Some(breach) => {
                (breach.score, vec![DetectorShare { detector: FORECAST.into(), score: breach.score, share: 1.0 }])
            }
        };
        Some(Alert {
            alert_id: self.step_id(step, measure, aggregate),
            state: step.change,
            severity: open.severity,
            kind: if step.breach.is_some() { AlertKind::PredictedBreach } else { open.kind.into() },
            stream: self.config.name.clone(),
            entity: self.entity.into(),
            labels: self.labels(),
            measure: measure.name.clone(),
            aggregate: aggregate.as_str().into(),
            opened_at: open.opened_at,
            window_start: closed.start,
            window_end: closed.end,
            observed: verdict.value,
            expected: expected.map(|[mean, ..]| mean),
            lower: expected.map(|[_, lower, _]| lower),
            upper: expected.map(|[.., upper]| upper),
            score,
            peak_score: open.peak_score,
            detectors,
            windows: saturated(open.windows),
            sequence: saturated(open.sequence),
            partition: self.partition,
            first_offset: open.first_offset,
            last_offset: closed.last_offset,
            summary: match telling.correction {
                Correction::Retracted => format!("taken back after late events: {summary}"),
                _ => summary,
            },
            revision: telling.revision,
            correction: telling.correction,
            supersedes: telling.supersedes,
            onset: Some(open.onset()),
            confidence: verdict.confidence,
            probability: verdict.probability,
            attribution,
            recent: step.recent.iter().map(recent_window).collect(),
            breach: step.breach.as_ref().map(breach_record),
        })
    }

    /// What the record of a step is called: its CloudEvents id.
    pub(crate) fn alert_name(&self, step: &AlertStep, revision: i32) -> String {
        let Some((measure, aggregate)) = series_of(self.config).nth(usize::from(step.series)) else {
            return String::new();
        };
        let id = self.step_id(step, measure, aggregate);
        format!("{id}:{}:{revision}", step.open.sequence)
    }

    /// The record of an alert on an entity that sends nothing. `missing` windows from `opened_at` on had no events.
    pub(crate) fn dropout(&self, silence: Silence, opened_at: i64, missing: u32, offset: i64) -> Alert {
        let window_end = opened_at + i64::from(missing) * self.config.window.step_ms();
        let since = clock(opened_at);
        let (change, then) = match silence {
            Silence::Begun => (Change::Opened, format!("has sent nothing since {since}")),
            Silence::Over => (Change::Resolved, format!("is back; nothing came since {since}")),
            Silence::Forgotten => (Change::Resolved, format!("has sent nothing since {since}; this {FORGOTTEN}")),
        };
        let (measure, aggregate) = EVENTS;
        Alert {
            alert_id: self.alert_id(measure, aggregate, opened_at),
            state: change,
            severity: Severity::High,
            kind: AlertKind::Dropout,
            stream: self.config.name.clone(),
            entity: self.entity.into(),
            labels: self.labels(),
            measure: measure.into(),
            aggregate: aggregate.into(),
            opened_at,
            window_start: window_end - self.config.window.step_ms(),
            window_end,
            observed: 0.0,
            expected: None,
            lower: None,
            upper: None,
            score: 1.0,
            peak_score: 1.0,
            detectors: Vec::new(),
            windows: saturated(missing),
            sequence: i32::from(change == Change::Resolved),
            partition: self.partition,
            first_offset: offset,
            last_offset: offset,
            summary: format!("{} {then} ({missing} windows)", self.entity),
            revision: 0,
            correction: Correction::None,
            supersedes: None,
            onset: Some(opened_at),
            confidence: 1.0,
            probability: 0.0,
            attribution: vec![MeasureShare { measure: measure.into(), share: 1.0 }],
            recent: Vec::new(),
            breach: None,
        }
    }

    /// The record of a series' forecast, issued at the end of a window.
    pub(crate) fn forecast(&self, series: u16, path: &[PathPoint], closed: &Closed, revision: i32) -> Option<Forecast> {
        let (measure, aggregate) = series_of(self.config).nth(usize::from(series))?;
        let step_ms = self.config.window.step_ms();
        let point = |point: &PathPoint| forecast_point(point, closed.start, step_ms);
        Some(Forecast {
            stream: self.config.name.clone(),
            entity: self.entity.into(),
            measure: measure.name.clone(),
            aggregate: aggregate.as_str().into(),
            issued_at: closed.end,
            level: ForecastParams::LEVEL,
            path: path.iter().filter_map(point).collect(),
            revision,
        })
    }

    /// The id of the alert that a step is of: a breach may be predicted of a series that has an anomaly.
    fn step_id(&self, step: &AlertStep, measure: &Measure, aggregate: Aggregate) -> String {
        let about = if step.breach.is_some() { format!("{}|{FORECAST}", measure.name) } else { measure.name.clone() };
        self.alert_id(&about, aggregate.as_str(), step.open.opened_at)
    }

    fn alert_id(&self, measure: &str, aggregate: &str, opened_at: i64) -> String {
        let text = format!("{}|{}|{measure}|{aggregate}|{opened_at}", self.config.name, self.entity);
        format!("{:016x}", fnv1a(text.as_bytes()))
    }

    /// Which measures it is by, the greatest share first.
    fn attribution(&self, step: &AlertStep) -> Vec<MeasureShare> {
        let named = self.config.measures.iter().zip(&step.attribution).filter(|(_, share)| **share > 0.0);
        let mut shares: Vec<_> =
            named.map(|(measure, &share)| MeasureShare { measure: measure.name.clone(), share }).collect();
        shares.sort_by(|a, b| b.share.total_cmp(&a.share));
        shares
    }

    /// One plain sentence for a person.
    fn sentence(&self, of: &Sentence<'_>, is_forgotten: bool) -> String {
        let &Sentence { measure, aggregate, start, verdict, step, attribution } = of;
        let unit = measure.unit.as_deref().map(|unit| format!(" {unit}")).unwrap_or_default();
        // As it is resolved, the forecast has learnt what happened.
        let band = verdict
            .held_against
            .filter(|_| step.change != Change::Resolved)
            .map(|expected| format!(", expected {} to {}{unit}", short(expected.lower), short(expected.upper)))
            .unwrap_or_default();
        let kind = step.open.kind.as_str().replace('_', " ");
        let since = clock(step.open.onset());
        let then = match step.change {
            Change::Resolved if is_forgotten => format!("{kind} since {since} {FORGOTTEN}"),
            Change::Resolved if step.last.is_some() => format!("{kind} since {since} ends here: {SILENT}"),
            Change::Resolved => format!("{kind} since {since} is over"),
            Change::Opened | Change::Updated => format!("{kind} since {since}"),
        };
        let (value, at) = (short(verdict.value), clock(start));
        let by = if step.change == Change::Resolved { String::new() } else { by(attribution) };
        format!(
            "{} {} of {} was {value}{unit} at {at}{band}; {then}{by}",
            aggregate.as_str(),
            measure.name,
            self.entity
        )
    }

    /// The same of a predicted breach.
    fn breach_sentence(&self, of: &Sentence<'_>, breach: &Breach, is_forgotten: bool) -> String {
        let &Sentence { measure, aggregate, start, verdict, step, .. } = of;
        let unit = measure.unit.as_deref().map(|unit| format!(" {unit}")).unwrap_or_default();
        let limit = format!("the limit of {}{unit}", short(breach.limit));
        let (since, chance) = (clock(step.open.opened_at), 100.0 * breach.chance);
        let lead = Span::from_millis(breach.lead_ms);
        let came_true = breach.came_true_ms.map(|at| format!("came true at {}, {lead} after it was told", clock(at)));
        let then = match (step.change, came_true) {
            (Change::Resolved, came_true) => {
                let came_true = came_true.unwrap_or("did not come true".to_owned());
                let end = if is_forgotten {
                    FORGOTTEN.to_owned()
                } else if step.last.is_some() {
                    format!("ends here: {SILENT}")
                } else {
                    "is over".to_owned()
                };
                format!("the breach of {limit} predicted at {since} {end}; it {came_true}")
            }
            (_, Some(came_true)) => format!("{limit} is passed; the breach predicted at {since} {came_true}"),
            (_, None) => format!(
                "{chance:.0} % likely to pass {limit} at {}, in {lead}, where {}{unit} is expected",
                clock(breach.target_ms),
                short(breach.expected[0])
            ),
        };
        let (value, at) = (short(verdict.value), clock(start));
        let (aggregate, entity) = (aggregate.as_str(), self.entity);
        format!("{aggregate} {} of {entity} was {value}{unit} at {at}; {then}", measure.name)
    }
}

/// What an alert's sentence is about.
struct Sentence<'a> {
    measure: &'a Measure,
    aggregate: Aggregate,
    start: i64,
    verdict: &'a Verdict,
    step: &'a AlertStep,
    attribution: &'a [MeasureShare],
}

/// Which measures it is by, as an alert's sentence ends; nothing where it is one.
fn by(attribution: &[MeasureShare]) -> String {
    let noted: Vec<_> = attribution.iter().filter(|of| of.share >= SHARE_NOTED).collect();
    if noted.len() < 2 {
        return String::new();
    }
    let parts: Vec<_> = noted.iter().map(|of| format!("{:.0} % by {}", 100.0 * of.share, of.measure)).collect();
    format!("; {}", parts.join(", "))
}

/// Marks `new` as the correction of `old`: the next revision, with the names of the fields that differ. `None` if none does.
pub(crate) fn corrected(old: &WindowMetric, mut new: WindowMetric) -> Option<WindowMetric> {
    let same = [
        ("count", old.count == new.count),
        ("sum", old.sum == new.sum),
        ("mean", old.mean == new.mean),
        ("stddev", old.stddev == new.stddev),
        ("min", old.min == new.min),
        ("max", old.max == new.max),
        ("p50", old.p50 == new.p50),
        ("p95", old.p95 == new.p95),
        ("p99", old.p99 == new.p99),
        ("series", old.series == new.series),
        ("first_offset", old.first_offset == new.first_offset),
        ("last_offset", old.last_offset == new.last_offset),
    ];
    new.changed = same.into_iter().filter(|(_, same)| !same).map(|(name, _)| name.to_owned()).collect();
    new.revision = old.revision + 1;
    (!new.changed.is_empty()).then_some(new)
}

/// A window as records name it.
pub(crate) fn span(closed: &Closed) -> WindowSpan {
    WindowSpan { window_start: closed.start, window_end: closed.end }
}

fn saturated(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Each detector's score, and its share of what scores have beyond a half; where none has, of the scores.
fn detector_shares(verdict: &Verdict) -> Vec<DetectorShare> {
    let beyond = |score: f64| (score - 0.5).max(0.0);
    let over: f64 = verdict.scores.iter().map(|&(_, score)| beyond(score)).sum();
    let all: f64 = verdict.scores.iter().map(|&(_, score)| score).sum();
    let share = |score: f64| {
        if over > 0.0 {
            beyond(score) / over
        } else if all > 0.0 {
            score / all
        } else {
            0.0
        }
    };
    let named = |&(kind, score): &(DetectorKind, f64)| DetectorShare {
        detector: kind.as_str().into(),
        score,
        share: share(score),
    };
    verdict.scores.iter().map(named).collect()
}

fn breach_record(breach: &Breach) -> record::Breach {
    let &Breach { limit, is_above, chance, target_ms, lead_ms, came_true_ms, .. } = breach;
    record::Breach { limit, above: is_above, target_time: target_ms, chance, lead_ms, came_true_at: came_true_ms }
}

fn recent_window(recent: &Recent) -> RecentWindow {
    let [expected, lower, upper] = recent.expected.map_or([None; 3], |band| band.map(Some));
    RecentWindow { window_start: recent.start_ms, value: recent.value, expected, lower, upper, score: recent.score }
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
        confidence: verdict.confidence,
        probability: verdict.probability,
    }
}

/// A point of a path from the window on that starts at `start`.
fn forecast_point(point: &PathPoint, start: i64, step_ms: i64) -> Option<ForecastPoint> {
    let horizon_ms = i64::from(point.steps) * step_ms;
    let &(_, lower, upper) = point.bands.iter().find(|(level, ..)| *level == ForecastParams::LEVEL)?;
    let accuracy = point.accuracy.as_ref();
    let band = |(at, &(level, lower, upper)): (usize, &(f64, f64, f64))| {
        let coverage = accuracy.and_then(|is| is.coverage.get(at).copied());
        ForecastBand { level, lower, upper, coverage }
    };
    Some(ForecastPoint {
        target_time: start + horizon_ms,
        horizon_ms,
        expected: point.mean,
        lower,
        upper,
        bands: point.bands.iter().enumerate().map(band).collect(),
        judged: accuracy.map_or(0, |is| saturated(is.judged)),
        mase: accuracy.and_then(|is| is.mase),
        mape: accuracy.and_then(|is| is.mape),
        pinball: accuracy.and_then(|is| is.pinball),
    })
}

/// A number as a person would say it: four significant digits, or three decimal places of what is below 1.
fn short(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-3..1e7).contains(&magnitude) {
        return format!("{value:.3e}");
    }
    let whole_digits = if magnitude < 1.0 { 0 } else { libm::log10(magnitude) as usize + 1 };
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
