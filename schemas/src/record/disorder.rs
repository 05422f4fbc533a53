//! What the generator did to one partition, and what becomes of its records. Schema: `avsc/disorder/`.
//!
//! Invariant: `sent = scored + late + duplicates + dead letters`, and `events = sent - duplicates + dropped + idle`.

use std::collections::BTreeMap;

use super::record;

/// What the generator did to the order and the content of one partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Disorder {
    /// Stream that was disordered.
    pub stream: String,
    /// Partition of the stream's topic.
    pub partition: i32,
    /// Seed of the run.
    pub seed: i64,
    /// Events that happened.
    pub events: i64,
    /// Records published.
    pub sent: i64,
    /// Records that are in a window.
    pub scored: i64,
    /// Records that come after their window is final.
    pub late: i64,
    /// Records that repeat the id of another.
    pub duplicates: i64,
    /// Records that are no event, by the reason that their dead letters carry.
    pub dead_letters: BTreeMap<String, i64>,
    /// Events lost before they were published.
    pub dropped: i64,
    /// Events not published because the partition was idle.
    pub idle: i64,
    /// Scored records that follow one of a greater event time.
    pub reordered: i64,
    /// Records whose event time comes from a clock that is wrong.
    pub skewed: i64,
    /// Records written with a schema that a change in mid-stream brought.
    pub evolved: i64,
}

record!(
    "disorder",
    "tidewatch.disorder.v1",
    Disorder {
        stream,
        partition,
        seed,
        events,
        sent,
        scored,
        late,
        duplicates,
        dead_letters,
        dropped,
        idle,
        reordered,
        skewed,
        evolved,
    }
);
