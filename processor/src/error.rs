//! What can stop the processor, and what each is answered with.

use std::time::Duration;

use tidewatch_processor_core::StateError;
use tidewatch_topic_io::{Disposition, KafkaError, TransactionOutcome};

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
         group's offsets or the ledger topic were changed by hand, or the input was deleted and made again: set `processor.group_id` to a new name to start anew"
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
    /// Retention has removed input before it was read, or before a snapshot held what it had led to.
    #[error(
        "input `{topic}` partition {partition}: offsets {from} to {to} were removed by retention {}; raise the topic's retention, and set \
         `processor.on_lost_input = \"skip\"` to go on behind them",
        if *unread > 0 { "before they were read" } else { "before a snapshot held what they had led to: the state would lack it" }
    )]
    InputLost {
        /// The input topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The first offset that is missing.
        from: i64,
        /// The last.
        to: i64,
        /// How many of them were never read; the others only lack in the state.
        unread: i64,
    },
    /// As [`InputLost`](Self::InputLost), and gone on behind.
    #[error(
        "input `{topic}` partition {partition}: going on at offset {to}, all from {from} on was removed by retention"
    )]
    InputSkipped {
        /// The input topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The first offset that is missing.
        from: i64,
        /// The first that is there.
        to: i64,
    },
    /// An input is another topic of the same name.
    #[error(
        "input `{topic}` was deleted and made again: what is in it now is not what the group has read; set `processor.group_id` to a new \
         name to start anew"
    )]
    InputRecreated {
        /// The topic.
        topic: String,
    },
    /// An input does not hold what the group has read of it.
    #[error(
        "input `{topic}` partition {partition} was deleted and made again, or cut, after the group had come to offset {committed} of it; it \
         ends at {end} now: set `processor.group_id` to a new name to start anew"
    )]
    InputReplaced {
        /// The input topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The next offset that would have been read.
        committed: i64,
        /// Where it ends.
        end: i64,
    },
    /// A partition was restored as of what is not the last commit any more.
    #[error("input `{topic}` partition {partition} was gone on with by another member while it was restored here")]
    Outrun {
        /// The input topic.
        topic: String,
        /// Its partition.
        partition: i32,
    },
    /// Told to end while partitions were brought back.
    #[error("told to end while the state was read back")]
    Stopped,
    /// Another process works under this one's transactional id.
    #[error(
        "transactional id `{transactional_id}` is in use by another process, each takes it from the other; give each its own \
         `processor.instance`: {reason}"
    )]
    Fenced {
        /// The id.
        transactional_id: String,
        /// What the client said.
        reason: String,
    },
    /// A worker makes no progress.
    #[error(
        "worker {worker} has made no progress for {} s though there is input, {times} times in a row; its clients were made anew \
         and it did not help: look at the brokers' health, then start again", waited.as_secs_f32()
    )]
    Stalled {
        /// Which.
        worker: usize,
        /// Without progress, each time.
        waited: Duration,
        /// How many times in a row.
        times: u32,
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

/// What is done about an error of a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// The transaction is aborted; go back to the committed offsets.
    Abort,
    /// The producer is replaced, which fences what is still on its way and settles the transaction; go on from what is committed.
    Settle,
    /// All clients are made anew.
    Rebuild,
    /// Nothing helps but a change from outside.
    End,
}

impl ProcessorError {
    /// Whether the transactional id could not be had.
    pub(crate) fn is_of_opening(&self) -> bool {
        matches!(self, Self::Kafka(KafkaError::Transaction { operation: "init", .. }))
    }

    /// What is done about it: the table in [`worker`](crate::worker).
    pub(crate) fn recovery(&self) -> Recovery {
        match self {
            Self::Kafka(KafkaError::Transaction { outcome, .. }) => match outcome {
                TransactionOutcome::Abortable => Recovery::Abort,
                TransactionOutcome::Indefinite | TransactionOutcome::Fenced => Recovery::Settle,
                TransactionOutcome::Fatal => Recovery::Rebuild,
            },
            // A record that did not arrive voids its transaction, whatever the reason.
            Self::Kafka(KafkaError::Delivery { .. }) => Recovery::Abort,
            // What does not fit is written off before it comes here; what still does not would not fit the next time.
            Self::Kafka(KafkaError::RecordTooLarge { .. } | KafkaError::RecordRefused { .. }) => Recovery::End,
            Self::Outrun { .. } | Self::Stopped => Recovery::Abort,
            // A broker that has been there may come back.
            Self::Kafka(KafkaError::Unreachable { .. }) | Self::Stalled { .. } => Recovery::Rebuild,
            // A static member may be expelled by itself, if a join of its own is still on its way when it joins again: seen over restarts of an
            // Apache Kafka.
            Self::Kafka(KafkaError::Expelled { .. }) => Recovery::Rebuild,
            // The client does not read on in a partition, nor seek, once it has asked for an offset that is not there.
            Self::InputSkipped { .. } => Recovery::Rebuild,
            Self::Kafka(error) => match error.disposition() {
                Disposition::Retry | Disposition::AbortCycle => Recovery::Abort,
                Disposition::DeadLetter | Disposition::Fatal => Recovery::End,
            },
            _ => Recovery::End,
        }
    }
}
