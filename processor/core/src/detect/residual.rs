//! The residual's tail: is a value further from what is usual at its time than the series' values are?
//!
//! The score is `excess / 6`: standard deviations by which the size of the residual is beyond its mean, see
//! [`crate::forecast::usual`], which keeps all of the state.
//!
//! Cost and memory: none of its own. Warm-up: 100 values, or twelve where a cohort lends. Gaps, constants, values that are not finite: as
//! there.

use serde::{Deserialize, Serialize};

use super::{Detector, DetectorKind, Observation, score_from};

/// Standard deviations that make a score of 1.0.
const THRESHOLD: f64 = 6.0;

/// The residual's tail of one series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Residual {
    is_warm: bool,
}

impl Detector for Residual {
    fn kind(&self) -> DetectorKind {
        DetectorKind::Residual
    }

    fn score(&self, observation: &Observation) -> f64 {
        observation.usual.map_or(0.0, |is| score_from(is.excess / THRESHOLD))
    }

    fn learn(&mut self, observation: &Observation) {
        self.is_warm = observation.usual.is_some_and(|is| is.is_warm);
    }

    fn warming_up(&self) -> bool {
        !self.is_warm
    }
}
