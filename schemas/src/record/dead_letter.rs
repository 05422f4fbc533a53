//! A message that could not be read, as it was. Schema: `avsc/dead-letter/`.

use super::{fields, record};

/// A message that could not be read, as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Stream's name in the settings.
    pub stream: String,
    /// Input topic.
    pub topic: String,
    /// Input partition.
    pub partition: i32,
    /// Input offset.
    pub offset: i64,
    /// Kafka's record timestamp.
    pub timestamp_ms: Option<i64>,
    /// Original key.
    pub key: Option<Vec<u8>>,
    /// Original value.
    pub value: Option<Vec<u8>>,
    /// Original headers, in order.
    pub headers: Vec<DeadLetterHeader>,
    /// Why, from a closed set in kebab-case.
    pub reason: String,
    /// What exactly was wrong.
    pub error: String,
}

record!(
    "dead-letter",
    "tidewatch.dead-letter.v1",
    DeadLetter { stream, topic, partition, offset, timestamp_ms, key, value, headers, reason, error }
);

/// One Kafka header.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetterHeader {
    /// Header's key.
    pub key: String,
    /// Header's value.
    pub value: Option<Vec<u8>>,
}

fields!(DeadLetterHeader { key, value });
