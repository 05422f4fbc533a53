//! What is known of one series: its forecast, its detectors and its alert, and how a window's value is judged by them.
//!
//! A value is scored by what was known before it, and learnt afterwards: it never scores itself.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use tidewatch_schemas::record::AlertState as Change;

use crate::alert::breach::{BreachState, BreachStep, ForecastWindow};
use crate::alert::{AlertState, OpenAlert, Pace, Standing, Strength, Weight};
use crate::config::{Aggregate, AlertSettings, ForecastParams, Measure};
use crate::detect::iqr::{Iqr, IqrParams};
use crate::detect::robust_zscore::RobustZScore;
use crate::detect::zscore::{ZScore, ZScoreParams};
use crate::detect::{Detector, DetectorKind, Novelty, Observation, Residual, Shift};
use crate::forecast::usual::{Usual, WARM_UP};
use crate::forecast::{Expectation, Forecaster, PathPoint};
use crate::state::format::{HoltWinters, Until, in_4, in_5};

pub(crate) mod typical;

use typical::{Example, Typical};

/// When there is a profile of the day.
const PROFILE_MS: i64 = 86_400_000;
/// Rate at which a calm series' centre follows it; what an alert calls "expected" where there is no forecast.
const CENTRE_RATE: f64 = 0.05;
/// Values beyond are taken as this, so that no square overflows.
const MAGNITUDE_MAX: f64 = 1e150;
/// Windows that an alert shows.
const RECENT: usize = 6;
/// Usual errors beyond which features are taken as this.
const FEATURE_MAX: f64 = 1e6;
/// The least score that says what a value is held against.
const SCORE_OF_NOTE: f64 = 0.5;
/// The score of a value outside of its valid range.
const OUT_OF_RANGE: f64 = 10.0;

/// A detector of one series. The isolation forest is not here: it belongs to the entity, whose series it judges together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum SeriesDetector {
    ZScore(ZScore),
    Iqr(Iqr),
    Residual(Residual),
    Novelty(Box<Novelty>),
    Shift(Shift),
    RobustZScore(RobustZScore),
}

impl SeriesDetector {
    fn new(kind: DetectorKind) -> Option<Self> {
        match kind {
            DetectorKind::ZScore => Some(Self::ZScore(ZScore::new(ZScoreParams::default()))),
            DetectorKind::Iqr => Some(Self::Iqr(Iqr::new(IqrParams::default()))),
            DetectorKind::Residual => Some(Self::Residual(Residual::default())),
            DetectorKind::Novelty => Some(Self::Novelty(Box::default())),
            DetectorKind::Shift => Some(Self::Shift(Shift::default())),
            DetectorKind::RobustZScore => Some(Self::RobustZScore(RobustZScore::default())),
            DetectorKind::IsolationForest | DetectorKind::ValidRange => None,
        }
    }

    fn as_dyn(&self) -> &dyn Detector {
        match self {
            Self::ZScore(detector) => detector,
            Self::Iqr(detector) => detector,
            Self::Residual(detector) => detector,
            Self::Novelty(detector) => &**detector,
            Self::Shift(detector) => detector,
            Self::RobustZScore(detector) => detector,
        }
    }

    fn as_dyn_mut(&mut self) -> &mut dyn Detector {
        match self {
            Self::ZScore(detector) => detector,
            Self::Iqr(detector) => detector,
            Self::Residual(detector) => detector,
            Self::Novelty(detector) => &mut **detector,
            Self::Shift(detector) => detector,
            Self::RobustZScore(detector) => detector,
        }
    }
}

/// What the detector with the greatest score compares values with, if it is of note.
fn held_against(scores: &[(DetectorKind, f64)], observation: &Observation) -> Option<Expectation> {
    let of_note = scores.iter().filter(|(_, score)| *score >= SCORE_OF_NOTE);
    let usual = observation.usual?;
    match of_note.max_by(|a, b| a.1.total_cmp(&b.1))?.0 {
        DetectorKind::Residual | DetectorKind::Novelty => usual.expectation(),
        DetectorKind::Shift => usual.expectation_of_days(),
        _ => None,
    }
}

/// One aggregate of one measure of one entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    gone: Until<5, Option<HoltWinters>>,
    #[serde(deserialize_with = "in_5")]
    forecaster: Option<Box<Forecaster>>,
    /// Where a detector asks for it.
    #[serde(deserialize_with = "in_4")]
    usual: Option<Box<Usual>>,
    detectors: Vec<SeriesDetector>,
    centre: Option<f64>,
    /// The last windows, the latest the last.
    #[serde(deserialize_with = "in_4")]
    recent: VecDeque<Recent>,
    /// The alert that is open, or may come to be.
    pub alert: AlertState,
    /// The same of a breach that is predicted; none while none is.
    #[serde(deserialize_with = "in_5")]
    breach: Option<Box<BreachState>>,
}

/// A window's value, and what it is judged by besides what is known of the series.
#[derive(Clone, Copy, Debug)]
pub struct JudgedValue<'a> {
    /// Start of the window, in ms since 1970, and how long after it the next one starts.
    pub start_ms: i64,
    /// See there.
    pub step_ms: i64,
    /// The value.
    pub value: f64,
    /// Which of the window's values it is.
    pub aggregate: Aggregate,
    /// The score of a forest over the entity's series, as far as this one has a part in it, and whether the forest warms up.
    pub forest: Option<(f64, bool)>,
    /// See [`Verdict::is_combination`].
    pub is_combination: bool,
    /// The series' measure, which says what is worth an alert.
    pub measure: &'a Measure,
    /// How often alerts may be false.
    pub pace: Pace,
}

/// What the detectors make of one value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The value.
    pub value: f64,
    /// What was expected, where a forecast is ready.
    pub expected: Option<Expectation>,
    /// What the detector with the greatest score held it against; as above where none is of note.
    #[serde(deserialize_with = "in_4")]
    pub held_against: Option<Expectation>,
    /// How far the value is from there, or from the series' usual value.
    pub deviation: f64,
    /// Where the value is, less what the time of day and of week explains.
    #[serde(deserialize_with = "in_4")]
    pub standing: Option<Standing>,
    /// Each detector's score in units of the series' threshold: 1.0 is enough for an alert.
    pub scores: Vec<(DetectorKind, f64)>,
    /// The greatest of the detectors' own scores.
    #[serde(deserialize_with = "in_4")]
    pub strength: f64,
    /// The same in units of the series' threshold.
    #[serde(deserialize_with = "in_4")]
    pub evidence: f64,
    /// What windows of all series are ordered by, see [`Weight::score`]; 1.0 opens an alert.
    pub score: f64,
    /// The chance of a window at least as strong, by the series' recent ones.
    #[serde(deserialize_with = "in_4")]
    pub probability: f64,
    /// How much is known of the series, 0 to 1.
    #[serde(deserialize_with = "in_4")]
    pub confidence: f64,
    /// Whether the series' own value is part of an odd combination: one that goes the other way than a measure with which it goes along.
    #[serde(deserialize_with = "in_4")]
    pub is_combination: bool,
    /// Whether a detector is still warming up, so that its score is 0.
    pub warming_up: bool,
}

/// A window, for what an alert shows of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recent {
    /// Start of the window, in ms since 1970.
    pub start_ms: i64,
    /// The value.
    pub value: f64,
    /// What was expected, and the band.
    pub expected: Option<[f64; 3]>,
    /// See [`Verdict::score`].
    pub score: f64,
}

impl Series {
    /// A series of which nothing is known, with a window each `step_ms`.
    #[must_use]
    pub fn new(measure: &Measure, step_ms: i64) -> Self {
        let forecaster = measure.forecast.as_ref().map(|params| Box::new(Forecaster::new(params, step_ms)));
        let needs_usual = measure.detectors.iter().any(|kind| kind.needs_usual());
        let usual = needs_usual.then(|| Box::new(Usual::new(step_ms)));
        let detectors = measure.detectors.iter().filter_map(|&kind| SeriesDetector::new(kind)).collect();
        let (recent, alert) = (VecDeque::new(), AlertState::default());
        Self { gone: Until::default(), forecaster, usual, detectors, centre: None, recent, alert, breach: None }
    }

    /// Takes on the detectors and the forecast that the declaration asks for now: what is new knows nothing, what it does not name is
    /// forgotten.
    pub(crate) fn fit(&mut self, measure: &Measure, step_ms: i64) {
        let is_kept = |detector: &SeriesDetector| measure.detectors.contains(&detector.as_dyn().kind());
        let needs_usual = measure.detectors.iter().any(|kind| kind.needs_usual());
        if self.usual.is_some() != needs_usual {
            self.usual = needs_usual.then(|| Box::new(Usual::new(step_ms)));
        }
        if self.forecaster.as_ref().map(|of| of.declared()) != measure.forecast.as_ref().map(ForecastParams::identity) {
            self.forecaster = measure.forecast.as_ref().map(|params| Box::new(Forecaster::new(params, step_ms)));
        }
        self.detectors.retain(is_kept);
        for &kind in &measure.detectors {
            if !self.detectors.iter().any(|detector| detector.as_dyn().kind() == kind) {
                self.detectors.extend(SeriesDetector::new(kind));
            }
        }
        self.detectors.sort_by_key(|detector| detector.as_dyn().kind());
        self.detectors.shrink_to_fit();
    }

    /// What the window that starts at `start_ms` is expected to bring, one each `step_ms`.
    #[must_use]
    pub fn expect(&self, measure: &Measure, start_ms: i64, step_ms: i64) -> Option<Expectation> {
        self.forecaster.as_ref()?.expect(measure.forecast.as_ref()?, start_ms, step_ms)
    }

    /// The forecast at each horizon from the window on that starts at `from_ms`, the last one; `None` while it is not ready.
    #[must_use]
    pub fn path(&self, measure: &Measure, from_ms: i64, step_ms: i64) -> Option<Vec<PathPoint>> {
        let path = self.forecaster.as_ref()?.path(measure.forecast.as_ref()?, from_ms, step_ms);
        (!path.is_empty()).then_some(path)
    }

    /// The value less what was expected, in units of the usual error, for detectors that look at several series at once; the bare
    /// value where nothing is expected; `None` until it is known what to expect.
    pub(crate) fn feature(&self, measure: &Measure, start_ms: i64, step_ms: i64, value: f64) -> Option<f64> {
        let expected = match (&self.usual, &self.forecaster) {
            (Some(usual), _) => usual.compare(start_ms, value).expectation()?,
            (None, Some(_)) => self.expect(measure, start_ms, step_ms)?,
            (None, None) => return Some(value),
        };
        let error = value - expected.mean;
        Some(if expected.sd > 0.0 { (error / expected.sd).clamp(-FEATURE_MAX, FEATURE_MAX) } else { 0.0 })
    }

    /// What this series adds to what is typical of its cohort, once it knows enough of itself.
    pub(crate) fn example(&self) -> Option<Example> {
        let usual = self.usual.as_ref()?;
        let (level, threshold) = (usual.near(), self.alert.threshold());
        usual.stray().map(|stray| Example { is_first: usual.seen() == WARM_UP, level, stray, threshold })
    }

    /// Borrows from its cohort, if it is time to.
    pub(crate) fn borrow(&mut self, typical: &Typical) {
        if let Some(usual) = self.usual.as_mut().filter(|usual| usual.may_borrow())
            && let Some((stray, threshold)) = typical.lend(usual.near())
        {
            usual.borrow(stray);
            self.alert.borrow(threshold);
        }
    }

    fn observe(&self, measure: &Measure, start_ms: i64, step_ms: i64, value: f64) -> Observation {
        let usual = self.usual.as_ref().map(|usual| usual.compare(start_ms, value));
        Observation { start_ms, value, expected: self.expect(measure, start_ms, step_ms), usual }
    }

    /// Scores the value of a window.
    #[must_use]
    pub fn judge(&self, window: &JudgedValue<'_>) -> Verdict {
        let JudgedValue { start_ms, step_ms, value, forest, is_combination, measure, aggregate, pace } = *window;
        let guards = &measure.guards;
        let observation = self.observe(measure, start_ms, step_ms, value.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX));
        let mut scores: Vec<(DetectorKind, f64)> = Vec::with_capacity(self.detectors.len() + 1);
        let mut warming_up = false;
        for detector in self.detectors.iter().map(SeriesDetector::as_dyn) {
            scores.push((detector.kind(), detector.score(&observation)));
            warming_up |= detector.warming_up();
        }
        if let Some((score, warming)) = forest {
            scores.push((DetectorKind::IsolationForest, score));
            warming_up |= warming;
        }
        let expected = observation.expected.or(observation.usual.and_then(|is| is.expectation()));
        let held_against = held_against(&scores, &observation).or(expected);
        let usual = held_against.map(|expected| expected.mean).or(self.centre);
        let deviation = usual.map_or(0.0, |usual| value - usual);
        if guards.is_out_of_range(aggregate, value) {
            scores.push((DetectorKind::ValidRange, self.alert.in_strength(OUT_OF_RANGE)));
        } else if !guards.allow(usual.unwrap_or(value), deviation) {
            scores.iter_mut().for_each(|(_, score)| *score = 0.0);
        }
        let greatest = |is_joint: bool| {
            let of = scores.iter().filter(|(kind, _)| (*kind == DetectorKind::IsolationForest) == is_joint);
            of.map(|&(_, score)| score).fold(0.0, f64::max)
        };
        let (is_above, is_certain) = (deviation > 0.0, guards.is_out_of_range(aggregate, value));
        let strength = Strength { own: greatest(false), joint: greatest(true), is_above, is_certain };
        let standing = observation.usual.filter(|is| is.is_warm).map(|is| Standing {
            value: is.daily,
            level: is.daily - is.residual,
            usual: is.usual,
            slow: if is.usual_slow > 0.0 { is.slow / is.usual_slow } else { 0.0 },
            level_slow: if is.usual_slow > 0.0 { (is.slow - is.residual) / is.usual_slow } else { 0.0 },
            season: if is.usual_slow > 0.0 { is.season / is.usual_slow } else { 0.0 },
            has_profile: start_ms - is.first_ms >= PROFILE_MS,
        });
        let Weight { evidence, score } = self.alert.weigh(pace, step_ms, start_ms, strength, standing);
        let strength = strength.greatest();
        for (_, score) in &mut scores {
            *score = self.alert.in_thresholds(*score);
        }
        Verdict {
            value,
            expected,
            held_against,
            deviation,
            standing,
            scores,
            strength,
            evidence,
            score,
            probability: self.alert.probability(strength),
            confidence: self.alert.confidence(step_ms),
            is_combination,
            warming_up,
        }
    }

    /// Says whether it will pass its limit, where it has one, from the window on that was learnt last. An alert of a limit that there is no
    /// more ends.
    pub(crate) fn predict_breach(
        &mut self,
        settings: &AlertSettings,
        measure: &Measure,
        aggregate: Aggregate,
        window: ForecastWindow<'_>,
    ) -> Option<BreachStep> {
        let Some(limit) = measure.limit.as_ref().filter(|limit| limit.aggregate == aggregate) else {
            return self.end_breach();
        };
        let path = self.path(measure, window.start, window.step_ms).unwrap_or_default();
        let mut breach = self.breach.take().unwrap_or_default();
        let step = breach.judge(settings, limit, ForecastWindow { path: &path, ..window });
        self.breach = Some(breach).filter(|breach| !breach.is_calm());
        step
    }

    /// Ends the alert on a predicted breach, if one is open; gives its last step.
    pub(crate) fn end_breach(&mut self) -> Option<BreachStep> {
        self.breach.take()?.end()
    }

    /// The start of the first window that a breach is, or may be, predicted in.
    pub(crate) fn breach_since(&self) -> Option<i64> {
        self.breach.as_ref()?.since()
    }

    /// Whether an alert of it is open.
    pub(crate) fn has_open_alert(&self) -> bool {
        self.alert.is_open() || self.breach.as_ref().is_some_and(|breach| breach.is_open())
    }

    /// Takes note of a window without a value: what was seen before it is not in a row with what comes.
    pub(crate) fn pause(&mut self) {
        self.alert.pause();
        if let Some(breach) = &mut self.breach {
            breach.pause();
        }
    }

    /// Takes note of a window that was judged.
    pub(crate) fn note(&mut self, start_ms: i64, verdict: &Verdict) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        let expected = verdict.held_against.map(|expected| [expected.mean, expected.lower, expected.upper]);
        self.recent.push_back(Recent { start_ms, value: verdict.value, expected, score: verdict.score });
    }

    /// Whether it has had no value for so long before the window that starts at `start_ms`.
    pub(crate) fn is_silent(&self, start_ms: i64, silence_ms: i64) -> bool {
        self.recent.back().is_some_and(|last| start_ms - last.start_ms >= silence_ms)
    }

    /// Ends the alert that is open, if the series has had no value for so long that nobody waits for its return; gives the step and
    /// [`Self::last_verdict`].
    pub(crate) fn end_of_silent(
        &mut self,
        start_ms: i64,
        step_ms: i64,
        silence_ms: i64,
    ) -> Option<((Change, OpenAlert), Box<Verdict>)> {
        if !self.is_silent(start_ms, silence_ms) {
            return None;
        }
        let open = self.alert.end()?;
        Some(((Change::Resolved, open), self.last_verdict(step_ms)?))
    }

    /// What is still known of the last window with a value, for an alert that ends in one without.
    pub(crate) fn last_verdict(&self, step_ms: i64) -> Option<Box<Verdict>> {
        let Recent { value, expected, score, .. } = *self.recent.back()?;
        let expected =
            expected.map(|[mean, lower, upper]| Expectation { mean, lower, upper, sd: (upper - lower) / 4.0 });
        Some(Box::new(Verdict {
            value,
            expected,
            held_against: expected,
            deviation: expected.map_or(0.0, |expected| value - expected.mean),
            standing: None,
            scores: Vec::new(),
            strength: 0.0,
            evidence: 0.0,
            score,
            probability: 1.0,
            confidence: self.alert.confidence(step_ms),
            is_combination: false,
            warming_up: false,
        }))
    }

    /// The last windows that were judged, the latest the last.
    pub(crate) fn recent(&self) -> Vec<Recent> {
        self.recent.iter().copied().collect()
    }

    /// Learns the value of the window that starts at `start_ms`, one each `step_ms`. A window without one changes nothing but the time.
    pub fn learn(&mut self, measure: &Measure, start_ms: i64, step_ms: i64, value: f64) {
        let value = value.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX);
        let observation = self.observe(measure, start_ms, step_ms, value);
        for detector in &mut self.detectors {
            detector.as_dyn_mut().learn(&observation);
        }
        if let Some(usual) = &mut self.usual {
            usual.learn(start_ms, step_ms, value);
        }
        self.centre = Some(self.centre.map_or(value, |centre| centre + CENTRE_RATE * (value - centre)));
        if let (Some(forecaster), Some(params)) = (&mut self.forecaster, &measure.forecast) {
            forecaster.learn(params, start_ms, step_ms, value);
        }
    }
}
