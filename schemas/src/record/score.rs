//! How the alerts stand against the truth, in one value of one dimension. Schema: `avsc/score/`.

use super::{record, symbols};

/// How the alerts stand against the truth, in one value of one dimension.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// What faults and alerts are told apart by.
    pub dimension: Dimension,
    /// Value of the dimension; `all` of the total. Of prediction: `all`, and `trend`, while a drift or a change of trend was under way.
    pub value: String,
    /// End of the last window that was seen; null if none was.
    pub event_time: Option<i64>,
    /// How long after its onset a fault can be found at least, in ms.
    pub delay_max_ms: i64,
    /// Faults that were found or missed; of detector and severity, which a fault does not have, all.
    pub faults: i64,
    /// Faults that may still be found; of prediction: limits that may still be passed.
    pub pending: i64,
    /// Faults that an alert found; of prediction: breaches that came true.
    pub found: i64,
    /// Those of them that the alert called by their kind in the end; 0 of detector and severity.
    pub named: i64,
    /// Further alerts on a fault.
    pub repeated: i64,
    /// Alerts on no fault; of prediction: breaches that did not come true.
    pub false_alerts: i64,
    /// found / (found + false_alerts); null if there are neither.
    pub precision: Option<f64>,
    /// found / faults; null without faults.
    pub recall: Option<f64>,
    /// The harmonic mean of precision and recall.
    pub f1: Option<f64>,
    /// From onset to the end of the window in which the alert said so: median of the found faults, in ms. Of prediction: negative, the lead
    /// time from the alert to the breach.
    pub delay_p50_ms: Option<i64>,
    /// The same: 95th percentile, in ms.
    pub delay_p95_ms: Option<i64>,
    /// Entities of which windows were seen; all but of region and tenant.
    pub entities: i64,
    /// How long these were watched outside of faults and the time after an onset, in ms, summed up.
    pub watched_ms: i64,
    /// false_alerts over watched_ms, in alerts per week of an entity; null if nothing was watched.
    pub false_alarms_per_entity_week: Option<f64>,
}

record!(
    "score",
    "tidewatch.score.v2",
    Score {
        dimension,
        value,
        event_time,
        delay_max_ms,
        faults,
        pending,
        found,
        named,
        repeated,
        false_alerts,
        precision,
        recall,
        f1,
        delay_p50_ms,
        delay_p95_ms,
        entities,
        watched_ms,
        false_alarms_per_entity_week
    }
);

/// What faults and alerts are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dimension {
    /// All together.
    Total,
    /// Faults by their kind, alerts by the kind that they say.
    Kind,
    /// The detector with the greatest score as an alert opened.
    Detector,
    /// The highest that an alert had.
    Severity,
    /// Of the entity, as far as the truth tells it.
    Region,
    /// See there.
    Tenant,
    /// Predicted breaches, which count under nothing else.
    Prediction,
}

symbols!(Dimension {
    Total = "total",
    Kind = "kind",
    Detector = "detector",
    Severity = "severity",
    Region = "region",
    Tenant = "tenant",
    Prediction = "prediction"
});

impl Dimension {
    /// Whether a fault has a value of it; an alert has.
    #[must_use]
    pub const fn is_of_faults(self) -> bool {
        !matches!(self, Self::Detector | Self::Severity)
    }

    /// Whether an entity has a value of it.
    #[must_use]
    pub const fn is_of_entities(self) -> bool {
        matches!(self, Self::Total | Self::Region | Self::Tenant)
    }
}
