//! What is known of one series: its forecast, its detectors and its alert, and how a window's value is judged by them.
//!
//! A value is scored by what was known before it, and learnt afterwards: it never scores itself.

use serde::{Deserialize, Serialize};

use crate::alert::AlertState;
use crate::config::{AlertSettings, Measure};
use crate::detect::iqr::{Iqr, IqrParams};
use crate::detect::zscore::{ZScore, ZScoreParams};
use crate::detect::{Detector, DetectorKind, Observation};
use crate::forecast::holt_winters::{HoltWinters, HoltWintersParams};
use crate::forecast::{Expectation, Forecaster};

/// Rate at which a calm series' centre follows it; what an alert calls "expected" where there is no forecast.
const CENTRE_RATE: f64 = 0.05;

/// A detector of one series. The isolation forest is not here: it belongs to the entity, whose series it judges together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum SeriesDetector {
    ZScore(ZScore),
    Iqr(Iqr),
}

impl SeriesDetector {
    fn new(kind: DetectorKind) -> Option<Self> {
        match kind {
            DetectorKind::ZScore => Some(Self::ZScore(ZScore::new(ZScoreParams::default()))),
            DetectorKind::Iqr => Some(Self::Iqr(Iqr::new(IqrParams::default()))),
            DetectorKind::IsolationForest => None,
        }
    }

    fn as_dyn(&self) -> &dyn Detector {
        match self {
            Self::ZScore(detector) => detector,
            Self::Iqr(detector) => detector,
        }
    }

    fn as_dyn_mut(&mut self) -> &mut dyn Detector {
        match self {
            Self::ZScore(detector) => detector,
            Self::Iqr(detector) => detector,
        }
    }
}

/// One aggregate of one measure of one entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    forecaster: Option<HoltWinters>,
    detectors: Vec<SeriesDetector>,
    centre: Option<f64>,
    /// The alert that is open, or may come to be.
    pub alert: AlertState,
}

/// What the detectors make of one value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The value.
    pub value: f64,
    /// What was expected, where a forecast is ready.
    pub expected: Option<Expectation>,
    /// How far the value is from what was expected, or from the series' usual value.
    pub deviation: f64,
    /// Each detector's score; 1.0 is its threshold.
    pub scores: Vec<(DetectorKind, f64)>,
    /// The score that so many detectors as must agree have reached; 1.0 is the threshold of an alert.
    pub score: f64,
    /// Whether a detector is still warming up, so that its score is 0.
    pub warming_up: bool,
}

impl Series {
    /// A series of which nothing is known. `step_index` is the number of its first window since 1970, which fixes the phase of seasons.
    #[must_use]
    pub fn new(measure: &Measure, step_index: i64) -> Self {
        let forecaster = measure.forecast.as_ref().map(|params| {
            let params = HoltWintersParams { seasons: params.seasons.clone(), ..HoltWintersParams::default() };
            HoltWinters::new(params, step_index)
        });
        let detectors = measure.detectors.iter().filter_map(|&kind| SeriesDetector::new(kind)).collect();
        Self { forecaster, detectors, centre: None, alert: AlertState::default() }
    }

    /// What the next window is expected to bring.
    #[must_use]
    pub fn expect(&self) -> Option<Expectation> {
        self.forecaster.as_ref()?.expect()
    }

    /// The forecast at each of `steps` ahead; `None` while it is not ready.
    #[must_use]
    pub fn path(&self, steps: &[u32]) -> Option<Vec<Expectation>> {
        let forecaster = self.forecaster.as_ref()?;
        forecaster.expect()?;
        Some(forecaster.path(steps))
    }

    /// The value less what was expected, in units of the usual error, for detectors that look at several series at once; the bare
    /// value where nothing is forecast; `None` until the forecast is ready.
    #[must_use]
    pub fn feature(&self, value: f64) -> Option<f64> {
        let Some(forecaster) = &self.forecaster else { return Some(value) };
        let expected = forecaster.expect()?;
        (expected.sd > 0.0).then(|| (value - expected.mean) / expected.sd)
    }

    /// Scores a value. `forest` is the score of the entity's forest, where the measure asks for one, and whether it warms up.
    #[must_use]
    pub fn judge(&self, value: f64, forest: Option<(f64, bool)>, settings: &AlertSettings) -> Verdict {
        let observation = Observation { value, expected: self.expect() };
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
        let usual = observation.expected.map(|expected| expected.mean).or(self.centre);
        Verdict {
            value,
            deviation: usual.map_or(0.0, |usual| value - usual),
            score: agreed(&scores, settings.votes),
            expected: observation.expected,
            scores,
            warming_up,
        }
    }

    /// Learns a window's value; `None` is a window without one.
    pub fn learn(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            let observation = Observation { value, expected: self.expect() };
            for detector in &mut self.detectors {
                detector.as_dyn_mut().learn(&observation);
            }
            self.centre = Some(self.centre.map_or(value, |centre| centre + CENTRE_RATE * (value - centre)));
        }
        if let Some(forecaster) = &mut self.forecaster {
            forecaster.learn(value);
        }
    }
}

/// The score that `votes` detectors reach together: the `votes`-th greatest.
fn agreed(scores: &[(DetectorKind, f64)], votes: usize) -> f64 {
    let mut sorted: Vec<f64> = scores.iter().map(|&(_, score)| score).collect();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    votes.min(sorted.len()).checked_sub(1).map_or(0.0, |at| sorted[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agreed_score_is_that_of_the_last_vote_needed() {
        use DetectorKind::{Iqr, IsolationForest, ZScore};
        let scores = [(ZScore, 1.2), (Iqr, 0.3), (IsolationForest, 2.0)];
        for (votes, expected) in [(1, 2.0), (2, 1.2), (3, 0.3), (9, 0.3)] {
            assert_eq!(agreed(&scores, votes), expected, "{votes} votes");
        }
        assert_eq!(agreed(&[], 2), 0.0, "a series without detectors is never anomalous");
    }
}
