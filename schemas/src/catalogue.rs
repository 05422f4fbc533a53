//! The topics: what each role writes and reads, and the schema that goes with it.
//!
//! All names are settings; the defaults are the ones the documentation uses.

use serde::{Deserialize, Serialize};

use crate::schema::{self, Schema};

/// Names of all topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topics {
    /// Service calls, keyed by entity.
    pub service_calls: String,
    /// Host and pod samples, keyed by entity.
    pub infrastructure: String,
    /// Website beacons, keyed by entity.
    pub beacons: String,
    /// Synthetic checks, keyed by entity.
    pub checks: String,
    /// Enriched windows.
    pub metrics: String,
    /// Forecasts.
    pub forecasts: String,
    /// Alerts.
    pub alerts: String,
    /// Events that came after their window was final.
    pub late: String,
    /// Messages that could not be read, as they were; [`dead_letter`](crate::dead_letter) says how.
    pub dead_letters: String,
    /// The processor's state; compacted.
    pub state: String,
    /// What became of every input record; compacted.
    pub ledger: String,
    /// What the generator injected: faults (`truth`), and what it did to each partition (`disorder`); the processor does not read it.
    pub truth: String,
}

impl Default for Topics {
    fn default() -> Self {
        let name = |what: &str| format!("tidewatch.{what}.v1");
        Self {
            service_calls: name("service-calls"),
            infrastructure: name("infrastructure"),
            beacons: name("beacons"),
            checks: name("checks"),
            metrics: name("metrics"),
            forecasts: name("forecasts"),
            alerts: name("alerts"),
            late: name("late"),
            dead_letters: name("dead-letters"),
            state: name("state"),
            ledger: name("ledger"),
            truth: name("truth"),
        }
    }
}

impl Topics {
    /// The topic of one of our own input streams, such as `service-calls`.
    pub fn input(&self, stream: &str) -> Option<&str> {
        match stream {
            "service-calls" => Some(&self.service_calls),
            "infrastructure" => Some(&self.infrastructure),
            "beacons" => Some(&self.beacons),
            "checks" => Some(&self.checks),
            _ => None,
        }
    }

    /// Each topic with the current schema of its values. Dead letters are the exception: their values are the originals', and the
    /// schema is that of the rows that they are stored as.
    pub fn with_schemas(&self) -> [(&str, &'static Schema); 12] {
        [
            (&self.service_calls, "service-call"),
            (&self.infrastructure, "infrastructure"),
            (&self.beacons, "beacon"),
            (&self.checks, "check"),
            (&self.metrics, "window-metric"),
            (&self.forecasts, "forecast"),
            (&self.alerts, "alert"),
            (&self.late, "late"),
            (&self.dead_letters, "dead-letter"),
            (&self.state, "state"),
            (&self.ledger, "ledger"),
            (&self.truth, "truth"),
        ]
        .map(|(topic, name)| (topic.as_str(), schema::current(name).expect("each of these kinds is released")))
    }
}

/// Names of our own input streams.
pub const STREAMS: [&str; 4] = ["service-calls", "infrastructure", "beacons", "checks"];

/// All released schemas of one of our own input streams, oldest first; empty for any other stream.
pub fn builtin(stream: &str) -> Vec<&'static Schema> {
    let name = match stream {
        "service-calls" => "service-call",
        "infrastructure" => "infrastructure",
        "beacons" => "beacon",
        "checks" => "check",
        _ => return Vec::new(),
    };
    schema::versions(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_has_a_topic_and_a_schema() {
        let topics = Topics::default();
        for stream in STREAMS {
            assert_eq!(topics.input(stream), Some(format!("tidewatch.{stream}.v1").as_str()));
            assert!(!builtin(stream).is_empty());
        }
        assert!(builtin("other").is_empty());
        let kinds: std::collections::BTreeSet<&str> = schema::all().iter().map(schema::Schema::name).collect();
        // The truth topic has two kinds: faults, and the disorder of partitions.
        assert_eq!(topics.with_schemas().len() + 1, kinds.len());
    }
}
