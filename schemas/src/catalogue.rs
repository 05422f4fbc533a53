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
    /// How the alerts stand against the truth; compacted.
    pub score: String,
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
            score: name("score"),
        }
    }
}

/// Bytes of a topic's name, at most.
const TOPIC_BYTES_MAX: usize = 249;

/// Why Kafka would refuse a topic of this name, if it would: behind the setting that names it, in words.
pub fn topic_name_problem(name: &str) -> Option<String> {
    let is_taken = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() {
        return Some("is empty; name a topic".into());
    }
    if matches!(name, "." | "..") {
        return Some(format!("is {name:?}, which is no name"));
    }
    if !name.bytes().all(is_taken) {
        return Some(format!("is {name:?}; a topic's name has letters of ASCII, digits, `.`, `_` and `-` only"));
    }
    (name.len() > TOPIC_BYTES_MAX)
        .then(|| format!("has {} letters; a topic's name has at most {TOPIC_BYTES_MAX}", name.len()))
}

impl Topics {
    /// Each topic with its setting in `[topics]` and the schema of its values.
    fn all(&self) -> [(&'static str, &str, &'static str); 13] {
        [
            ("service_calls", &self.service_calls, "service-call"),
            ("infrastructure", &self.infrastructure, "infrastructure"),
            ("beacons", &self.beacons, "beacon"),
            ("checks", &self.checks, "check"),
            ("metrics", &self.metrics, "window-metric"),
            ("forecasts", &self.forecasts, "forecast"),
            ("alerts", &self.alerts, "alert"),
            ("late", &self.late, "late"),
            ("dead_letters", &self.dead_letters, "dead-letter"),
            ("state", &self.state, "state"),
            ("ledger", &self.ledger, "ledger"),
            ("truth", &self.truth, "truth"),
            ("score", &self.score, "score"),
        ]
        .map(|(setting, topic, kind)| (setting, topic.as_str(), kind))
    }

    /// The topics that no stream may read: those that the processor writes, the truth, and what is made of it.
    pub fn own(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.all().into_iter().skip(STREAMS.len()).map(|(setting, topic, _)| (setting, topic))
    }

    /// Checks the names.
    ///
    /// # Errors
    /// Names the first setting whose topic Kafka would refuse, and why; or two of one topic, of which the processor writes one.
    pub fn validate(&self) -> Result<(), String> {
        let all = self.all();
        for (at, &(setting, topic, _)) in all.iter().enumerate() {
            if let Some(problem) = topic_name_problem(topic) {
                return Err(format!("topics.{setting} {problem}"));
            }
            if let Some((other, ..)) = all[..at].iter().find(|other| at >= STREAMS.len() && other.1 == topic) {
                return Err(format!("topics.{other} and topics.{setting} are both `{topic}`; name two topics"));
            }
        }
        Ok(())
    }

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
    pub fn with_schemas(&self) -> [(&str, &'static Schema); 13] {
        self.all().map(|(_, topic, kind)| (topic, schema::current(kind).expect("each of these kinds is released")))
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
    fn a_name_that_kafka_refuses_is_refused_with_its_setting() {
        let longest = "x".repeat(249);
        for name in ["a", "A-z_0.9", "...", longest.as_str()] {
            assert_eq!(topic_name_problem(name), None, "{name}");
        }
        let long = "x".repeat(250);
        for (name, expected) in [
            ("", "topics.late is empty; name a topic"),
            ("..", "topics.late is \"..\", which is no name"),
            (
                "bad topic!",
                "topics.late is \"bad topic!\"; a topic's name has letters of ASCII, digits, `.`, `_` and `-` only",
            ),
            (&long, "topics.late has 250 letters; a topic's name has at most 249"),
        ] {
            let topics = Topics { late: name.into(), ..Topics::default() };
            assert_eq!(topics.validate(), Err(expected.to_owned()));
        }
        assert_eq!(Topics::default().validate(), Ok(()));
        let topics = Topics { ledger: "one".into(), state: "one".into(), ..Topics::default() };
        let expected = "topics.state and topics.ledger are both `one`; name two topics";
        assert_eq!(topics.validate(), Err(expected.to_owned()));
    }

    #[test]
    fn what_no_stream_may_read_is_all_but_the_generators() {
        let topics = Topics::default();
        let own: Vec<&str> = topics.own().map(|(setting, _)| setting).collect();
        assert_eq!(
            own,
            ["metrics", "forecasts", "alerts", "late", "dead_letters", "state", "ledger", "truth", "score"]
        );
    }

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
