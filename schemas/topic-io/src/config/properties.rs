//! Client properties passed through under their own names.
//!
//! Invariants: what correctness rests on is refused; values whose name smells of a secret are never shown.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::secret::REDACTED;
use crate::error::KafkaError;

/// `[kafka.properties]`: librdkafka properties by name, ordered.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "BTreeMap<String, Value>")]
pub struct Properties(BTreeMap<String, String>);

/// Numbers and booleans need no quotes in a settings file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
}

impl From<BTreeMap<String, Value>> for Properties {
    fn from(values: BTreeMap<String, Value>) -> Self {
        let text = |value| match value {
            Value::Text(text) => text,
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(boolean) => boolean.to_string(),
        };
        Self(values.into_iter().map(|(name, value)| (name, text(value))).collect())
    }
}

/// Names with one of these in them hold a secret.
const SECRET_MARKS: [&str; 8] =
    ["password", "passphrase", "secret", "token", "credential", "key.pem", "jaas", "oauthbearer.config"];

/// Ours to set: each with the reason.
const RESERVED: [(&str, &str); 16] = [
    ("bootstrap.servers", "set kafka.bootstrap_servers"),
    ("metadata.broker.list", "set kafka.bootstrap_servers"),
    ("client.id", "set kafka.client_id"),
    ("security.protocol", "set kafka.security_protocol"),
    ("group.id", "set the group where the role is configured"),
    ("group.instance.id", "set the instance where the role is configured"),
    ("transactional.id", "the processor derives it"),
    ("enable.idempotence", "without it a retry could double a record"),
    ("isolation.level", "each reader knows what it may see"),
    ("enable.auto.commit", "offsets are committed with the outputs that they stand for"),
    ("enable.auto.offset.store", "offsets are committed with the outputs that they stand for"),
    ("auto.offset.reset", "where a reader starts is decided per partition, and lost records are reported, not skipped"),
    ("enable.partition.eof", "the readers rest on it"),
    ("delivery.report.only.error", "the writers rest on it"),
    ("check.crcs", "a record that rotted on its way must not be read as one that is whole"),
    ("partitioner", "an entity's key must always lead to the same partition"),
];

impl Properties {
    /// Sets one property.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values, as they are passed on: secrets are not hidden here.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| value)
    }

    pub(super) fn validate(&self) -> Result<(), KafkaError> {
        for (reserved, instead) in RESERVED {
            if self.contains(reserved) {
                let setting = format!("kafka.properties.{reserved:?}");
                return Err(KafkaError::Setting { setting, reason: format!("cannot be set here: {instead}") });
            }
        }
        Ok(())
    }

    fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().map(|(name, value)| (name, if is_secret(name) { REDACTED } else { value }))
    }
}

/// Whether a property's value is to be hidden, judged by its name.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let public = name.ends_with(".url") || name.ends_with(".client.id") || name.ends_with(".file");
    !public && SECRET_MARKS.iter().any(|mark| name.contains(mark))
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.shown())
    }
}
