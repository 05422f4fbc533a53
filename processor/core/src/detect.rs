//! Detectors: how unusual is a window's value?
//!
//! Every detector answers on one scale: a score of 1.0 is its own threshold, 0 means nothing unusual (or that it is warming up), and
//! a score is finite and not above [`SCORE_MAX`]. A value is scored before it is learnt: it never scores itself. Where a forecast
//! stands, a detector looks at the residual, that is, at the value less the expected mean, in units of the error that is usual at
//! that time; else at the value itself.
//!
//! A score is no tail probability by itself, as a peaks-over-threshold fit would make it (SPOT, A. Siffer et al., KDD 2017): what keeps the
//! rate of alerts is the threshold of the series, by feedback, which needs no law of the scores (see [`crate::alert`]). The probability that
//! records carry is that of the greatest score, by the series' own recent tail.

use serde::{Deserialize, Serialize};

use crate::forecast::Expectation;
use crate::forecast::usual::Comparison;

mod floor;
pub mod forest;
pub mod iqr;
pub mod isolation_forest;
mod missing;
mod novelty;
mod recent;
mod residual;
pub mod robust_zscore;
mod shift;
pub mod zscore;

pub(crate) use floor::Grain;
pub(crate) use missing::Missing;
pub(crate) use novelty::Novelty;
pub(crate) use residual::Residual;
pub(crate) use shift::Shift;

/// The greatest score: what lies further out is not told apart.
pub const SCORE_MAX: f64 = 1_000.0;

/// A window's value, and what was expected of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Start of the window, in ms since 1970.
    pub start_ms: i64,
    /// The value, in units of the series. One that is not finite is neither scored nor learnt.
    pub value: f64,
    /// The forecast made before the value was known, where one is ready.
    pub expected: Option<Expectation>,
    /// The value held against what is usual at that time, where a detector asks for it.
    pub usual: Option<Comparison>,
}

impl Observation {
    /// What a detector looks at: the standardised residual, or the value. `None` when it is not a finite number.
    pub(crate) fn signal(&self) -> Option<Signal> {
        let signal = match self.expected {
            Some(expected) => Signal { basis: Basis::Residual, x: (self.value - expected.mean) / expected.sd },
            None => Signal { basis: Basis::Value, x: self.value },
        };
        // Squares of what lies beyond would overflow; no measurement does.
        signal.x.is_finite().then(|| Signal { x: signal.x.clamp(-1e150, 1e150), ..signal })
    }
}

/// What a detector's statistics are about. When it changes (the forecast has become ready), they start anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Basis {
    Value,
    Residual,
}

/// A number to judge, and what it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Signal {
    pub(crate) basis: Basis,
    pub(crate) x: f64,
}

/// A detector of one series. Its state is bounded, serialisable, and all that its answers depend on.
pub trait Detector {
    /// Which detector it is.
    fn kind(&self) -> DetectorKind;

    /// How unusual the value is, against what was learnt so far: 1.0 is the threshold, 0 while warming up or for a value that is
    /// not finite.
    fn score(&self, observation: &Observation) -> f64;

    /// Learns the value. Call it after [`Self::score`], once per window that has a value.
    fn learn(&mut self, observation: &Observation);

    /// Whether too little is known to score.
    fn warming_up(&self) -> bool;
}

/// The detectors there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DetectorKind {
    /// [`zscore::ZScore`].
    #[serde(rename = "z-score")]
    ZScore,
    /// [`iqr::Iqr`].
    Iqr,
    /// [`isolation_forest::ForestScore`].
    IsolationForest,
    /// How far a value is from what is usual at its time.
    Residual,
    /// Whether it leaves the range that the series has kept to.
    Novelty,
    /// Whether the series has been away from what is usual for some windows.
    Shift,
    /// Whether a value is outside of the range that it has to be in; no detector to choose, but a guard.
    ValidRange,
    /// [`robust_zscore::RobustZScore`].
    #[serde(rename = "robust-z-score")]
    RobustZScore,
}

impl DetectorKind {
    /// Whether it asks what is usual of a series, see [`crate::forecast::usual`].
    pub(crate) const fn needs_usual(self) -> bool {
        matches!(self, Self::Residual | Self::Novelty | Self::Shift | Self::IsolationForest)
    }

    /// The name that settings and records use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ZScore => "z-score",
            Self::Iqr => "iqr",
            Self::IsolationForest => "isolation-forest",
            Self::Residual => "residual",
            Self::Novelty => "novelty",
            Self::Shift => "shift",
            Self::ValidRange => "valid-range",
            Self::RobustZScore => "robust-z-score",
        }
    }
}

/// A score from a distance in units of the threshold: within `[0, SCORE_MAX]`, whatever the arithmetic gave.
pub(crate) fn score_from(ratio: f64) -> f64 {
    if ratio.is_nan() { 0.0 } else { ratio.clamp(0.0, SCORE_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_alike_everywhere() {
        use DetectorKind::{Iqr, IsolationForest, Novelty, Residual, RobustZScore, Shift, ValidRange, ZScore};
        use serde::de::value::{Error, StrDeserializer};
        for kind in [ZScore, Iqr, IsolationForest, Residual, Novelty, Shift, ValidRange, RobustZScore] {
            let read = DetectorKind::deserialize(StrDeserializer::<Error>::new(kind.as_str()));
            assert_eq!(read, Ok(kind));
        }
    }

    #[test]
    fn scores_are_finite_whatever_the_arithmetic_gave() {
        let given = [f64::NAN, f64::INFINITY, -1.0, 0.5, 1e300];
        assert_eq!(given.map(score_from), [0.0, SCORE_MAX, 0.0, 0.5, SCORE_MAX]);
    }
}
