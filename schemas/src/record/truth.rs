//! One fault that the generator injected. Schema: `avsc/truth/`.

use std::collections::BTreeMap;

use super::{AnomalyKind, record};

/// One fault that the generator injected.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// Fault's identity in the scenario.
    pub fault_id: String,
    /// What the fault looks like.
    pub kind: AnomalyKind,
    /// Stream it was injected into.
    pub stream: String,
    /// Entity's key.
    pub entity: String,
    /// Measure it changes.
    pub measure: String,
    /// Entity field to value.
    pub labels: BTreeMap<String, String>,
    /// First affected instant, inclusive.
    pub onset: i64,
    /// End of the fault, exclusive.
    pub end: i64,
    /// Size of the fault, in the unit that its kind defines in the scenario.
    pub magnitude: f64,
    /// fault_id of the root of a correlated fault; null for a fault of its own.
    pub cause: Option<String>,
    /// Seed of the run.
    pub seed: i64,
}

record!(
    "truth",
    "tidewatch.truth.v1",
    Truth { fault_id, kind, stream, entity, measure, labels, onset, end, magnitude, cause, seed }
);
