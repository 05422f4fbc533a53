//! What goes wrong: a change of one measure of one entity over an interval of event time.
//!
//! Invariant: a fault is a function of (measure, event time); it changes its own measure (an outlier: that and its
//! companion) for `onset <= t < end` and nothing else.

pub(crate) mod placement;

use crate::scenario::Entity;
use crate::stream::Measure;
use serde::Deserialize;
use std::collections::BTreeMap;
use tidewatch_schemas::record::{AnomalyKind, Truth};

/// The faults that a scenario can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Values times `magnitude` (> 1), for a short time.
    Spike,
    /// Values times `magnitude` (< 1), for a short time.
    Dip,
    /// Values times `magnitude`, for long.
    LevelShift,
    /// Values times a factor that grows linearly from 1 to `magnitude`.
    Drift,
    /// The measure divided and its companion multiplied by `magnitude` (> 1): the combination is what is unusual.
    Outlier,
    /// The daily wave times `1 - magnitude`: 1 flattens it, 2 inverts it.
    SeasonalBreak,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Spike, Self::Dip, Self::LevelShift, Self::Drift, Self::Outlier, Self::SeasonalBreak];

    /// As in scenario files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spike => "spike",
            Self::Dip => "dip",
            Self::LevelShift => "level_shift",
            Self::Drift => "drift",
            Self::Outlier => "outlier",
            Self::SeasonalBreak => "seasonal_break",
        }
    }

    /// As in the truth topic.
    pub fn anomaly_kind(self) -> AnomalyKind {
        match self {
            Self::Spike => AnomalyKind::Spike,
            Self::Dip => AnomalyKind::Dip,
            Self::LevelShift => AnomalyKind::LevelShift,
            Self::Drift => AnomalyKind::Drift,
            Self::Outlier => AnomalyKind::Outlier,
            Self::SeasonalBreak => AnomalyKind::SeasonalBreak,
        }
    }

    /// The magnitude of a fault that names none.
    pub(crate) fn default_magnitude(self) -> f64 {
        match self {
            Self::Spike => 3.0,
            Self::Dip => 0.4,
            Self::LevelShift => 1.8,
            Self::Drift | Self::Outlier | Self::SeasonalBreak => 2.0,
        }
    }

    /// Whether dependants can feel it.
    pub(crate) fn can_propagate(self) -> bool {
        !matches!(self, Self::Outlier | Self::SeasonalBreak)
    }

    /// Why a magnitude cannot be used.
    pub(crate) fn magnitude_problem(self, magnitude: f64) -> Option<&'static str> {
        let (ok, problem) = match self {
            Self::Spike => {
                ((1.0..=1000.0).contains(&magnitude) && magnitude > 1.0, "a spike's factor is above 1 and at most 1000")
            }
            Self::Dip => (magnitude > 0.0 && magnitude < 1.0, "a dip's factor is above 0 and below 1"),
            Self::LevelShift | Self::Drift => (
                magnitude > 0.0 && magnitude <= 1000.0 && magnitude != 1.0,
                "the factor is above 0, at most 1000, and not 1",
            ),
            Self::Outlier => {
                (magnitude > 1.0 && magnitude <= 1000.0, "an outlier's factor is above 1 and at most 1000")
            }
            Self::SeasonalBreak => (
                magnitude > 0.0 && magnitude <= 2.0,
                "a seasonal break is above 0 and at most 2: 1 flattens the daily wave, 2 inverts it",
            ),
        };
        (!ok).then_some(problem)
    }
}

/// A fault as a scenario declares it, with its targets found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DeclaredFault {
    pub(crate) kind: FaultKind,
    /// By number, not empty.
    pub(crate) targets: Vec<usize>,
    pub(crate) measure: Measure,
    /// After the scenario's start.
    pub(crate) onset_ms: i64,
    pub(crate) duration_ms: i64,
    pub(crate) magnitude: f64,
    /// The service whose dependants feel it too.
    pub(crate) origin: Option<usize>,
}

/// A fault of one entity.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// `fault-03.1`: the first entity of the scenario's third fault.
    pub id: String,
    /// What it looks like.
    pub kind: FaultKind,
    /// The entity's number in the scenario.
    pub entity: usize,
    /// What it changes.
    pub measure: Measure,
    /// Event time of the first changed value, epoch ms.
    pub onset_ms: i64,
    /// Event time of the first value that is as usual again, epoch ms.
    pub end_ms: i64,
    /// By how much, see [`FaultKind`].
    pub magnitude: f64,
    /// The fault that this one follows from, of another entity.
    pub cause: Option<String>,
}

/// What faults do to a value at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Adjustment {
    /// Multiplies the value.
    pub(crate) factor: f64,
    /// Multiplies the amplitude of the daily wave.
    pub(crate) season: f64,
}

impl Adjustment {
    /// All is well.
    pub(crate) const NONE: Self = Self { factor: 1.0, season: 1.0 };

    /// What an entity's faults do to a measure.
    pub(crate) fn of(faults: &[Fault], measure: Measure, time_ms: i64) -> Self {
        faults.iter().fold(Self::NONE, |sum, fault| fault.adjust(sum, measure, time_ms))
    }
}

impl Fault {
    fn adjust(&self, mut so_far: Adjustment, measure: Measure, time_ms: i64) -> Adjustment {
        if !(self.onset_ms..self.end_ms).contains(&time_ms) {
            return so_far;
        }
        let own = measure == self.measure;
        match self.kind {
            FaultKind::Spike | FaultKind::Dip | FaultKind::LevelShift if own => so_far.factor *= self.magnitude,
            FaultKind::Drift if own => {
                let done = (time_ms - self.onset_ms) as f64 / (self.end_ms - self.onset_ms) as f64;
                so_far.factor *= 1.0 + (self.magnitude - 1.0) * done;
            }
            FaultKind::Outlier if own => so_far.factor /= self.magnitude,
            FaultKind::Outlier if self.measure.companion() == Some(measure) => so_far.factor *= self.magnitude,
            FaultKind::SeasonalBreak if own => so_far.season *= 1.0 - self.magnitude,
            _ => {}
        }
        so_far
    }

    pub(crate) fn truth(&self, entity: &Entity, seed: u64) -> Truth {
        let names = entity.stream.entity_fields();
        let mut labels: BTreeMap<String, String> =
            names.iter().zip(&entity.fields).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        labels.insert("region".to_owned(), entity.region.name().to_owned());
        labels.insert("tenant".to_owned(), entity.tenant.clone());
        Truth {
            fault_id: self.id.clone(),
            kind: self.kind.anomaly_kind(),
            stream: entity.stream.name().to_owned(),
            entity: entity.key.clone(),
            measure: self.measure.field().to_owned(),
            labels,
            onset: self.onset_ms,
            end: self.end_ms,
            magnitude: self.magnitude,
            cause: self.cause.clone(),
            seed: seed as i64,
        }
    }
}
