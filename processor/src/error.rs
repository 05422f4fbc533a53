//! What can stop the processor, and what each is answered with.

use tidewatch_processor_core::StateError;
use tidewatch_topic_io::{Disposition, KafkaError};

/// What can stop the processor.
#[derive(Debug, thiserror::Error)]
pub enum ProcessorError {
    /// Kafka, or the way to it.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The saved state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A record of the state topic cannot be read.
    #[error("state topic `{topic}` partition {partition} offset {offset} holds no state record: {problem}")]
    StateRecord {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// What is wrong with it.
        problem: String,
    },
    /// A record of the ledger topic cannot be read.
    #[error("ledger topic `{topic}` partition {partition} offset {offset} holds no ledger record: {problem}")]
    LedgerRecord {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// What is wrong with it.
        problem: String,
    },
    /// Committed offsets and ledger do not belong together.
    #[error(
        "input `{topic}` partition {partition}: the group has committed offset {committed}, ledger topic `{ledger}` holds {found}; the \
         group's offsets or the ledger topic were changed by hand: set `processor.group_id` to a new name to start anew"
    )]
    OffsetsAndLedger {
        /// The input topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The committed offset.
        committed: String,
        /// The ledger topic.
        ledger: String,
        /// What the ledger topic holds of the group.
        found: String,
    },
    /// The number of partitions has changed, and so keys have moved.
    #[error(
        "input `{topic}` has {now} partitions, its state was written with {then}: entities have moved between partitions; set \
         `processor.group_id` to a new name to start anew"
    )]
    PartitionsChanged {
        /// The input topic.
        topic: String,
        /// Partitions now.
        now: i32,
        /// Partitions when the state was written.
        then: i32,
    },
    /// The state or ledger topic has fewer partitions than an input.
    #[error(
        "{what} topic `{topic}` has {found} partitions, input `{input}` has {wanted}: create the {what} topic with at least as many"
    )]
    TooFewPartitions {
        /// `state` or `ledger`.
        what: &'static str,
        /// The topic.
        topic: String,
        /// Its partitions.
        found: i32,
        /// The input topic.
        input: String,
        /// Its partitions.
        wanted: i32,
    },
    /// A stream's schema.
    #[error("stream `{stream}`: schema `{file}`: {problem}")]
    Schema {
        /// The stream.
        stream: String,
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// A setting that cannot be, or that does not go with another.
    #[error("{0}")]
    Settings(String),
}

impl ProcessorError {
    /// What the shell does about it.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            // What does not fit is written off before it comes here; what still does not would not fit the next time.
            Self::Kafka(KafkaError::RecordTooLarge { .. }) => Disposition::Fatal,
            Self::Kafka(error) => error.disposition(),
            _ => Disposition::Fatal,
        }
    }
}
