//! Labelled disorder: a partition's events in their order become the records that are published, some of them out of order, late,
//! twice, never, or as no event at all; and it is known exactly what becomes of each.
//!
//! Invariant: pure and without a clock. What happens to an event is a function of (scenario, seed, entity, index), and the sequence
//! of a partition's records is one of (scenario, seed, partition, limit): threads, pace, a stop and a resumption change no byte. The
//! numbers of the truth topic are counted by running this very sequence, not by multiplying shares.
//!
//! # Why the counts are exact
//!
//! An event happens at `t`. Its record carries the time `s = t + skew` and comes on time at the moment `t + delay`, where
//! `0 <= delay <= reorder.within`. Records are published by moment (`sequence`). Let `M` be the greatest `s` of the scored records
//! that a partition has had: the processor's watermark is `M - disorder`.
//!
//! - *On time*: with `fast` and `slow` the greatest skews, `M <= moment + fast` and `s >= moment - within - slow`, so `M - s` is at most
//!   `within + fast + slow`. The scenario is refused unless that is at most `assumes.on_time_within`, the processor's disorder and lateness together: no window that ends after `s` can be
//!   final.
//! - *Late*: the record is held until a scored record makes `M >= s + by`, where `by >= assumes.final_after >= window + disorder +
//!   lateness`. Its last window ends at `s + window` at most, so it is final, whatever the alignment of windows. That such a record
//!   follows is seen to beforehand: the partition's *anchor*, the last event that is certain to be scored at its own time, must not be
//!   before `s + by`, else the event is published on time.
//! - *Duplicates* follow their original by less than the time for which the processor remembers an id, and never move `M`.
//! - *No events* are rejected for what they are, whatever came before, and do not move `M`.
//!
//! Kafka's timestamp is `t`, so a clock that is fast by more than `future_max` gives dead letters and advances nothing.
//!
//! Memory: 64 bytes for each record that waits, those of `reorder.within`, `duplicates.within` and, by their share, `late.by`; the
//! records' contents are made when they are published. Resuming runs the sequence from its beginning, without contents: about 100 ns
//! a record.

pub(crate) mod evolution;
pub(crate) mod poison;
pub(crate) mod sequence;
#[cfg(test)]
mod tests;

use crate::stream::StreamKind;
use poison::Poison;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;
use tidewatch_schemas::dead_letter::Reason;
use tidewatch_schemas::record;

/// What becomes of a published record in a processor of the settings that the scenario assumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It is in a window.
    Scored,
    /// It comes after its window is final.
    Late,
    /// Its id was seen before.
    Duplicate,
    /// It is no event; dead letters carry the reason.
    DeadLetter(Reason),
}

/// A scenario's `[disorder]`, checked. Spans in ms; shares add up to at most 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Disorder {
    pub(crate) assumes: Assumes,
    pub(crate) reorder: Delayed,
    pub(crate) duplicates: Delayed,
    pub(crate) late: Late,
    /// Share of events that are never published.
    pub(crate) drops: f64,
    pub(crate) poison: PoisonRules,
    /// By the entity's number, what its clock is ahead; entities whose clock is right are not in it.
    pub(crate) skews: BTreeMap<usize, i64>,
    pub(crate) idle: Vec<Idle>,
    pub(crate) schema_changes: Vec<SchemaChange>,
}

/// The settings of the processor for which the truth holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assumes {
    /// The streams' `disorder` and `lateness` together, at least.
    pub(crate) on_time_within_ms: i64,
    /// Window, disorder and lateness together, at most.
    pub(crate) final_after_ms: i64,
    /// The streams' `future_max`, exactly or less.
    pub(crate) future_max_ms: i64,
    /// The streams' `event_id_memory`, at least.
    pub(crate) event_id_memory_ms: i64,
}

/// A share of events of which something comes later by up to `within_ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Delayed {
    pub(crate) share: f64,
    pub(crate) within_ms: i64,
}

/// A share of events that comes when the partition is so much further.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Late {
    pub(crate) share: f64,
    pub(crate) by_ms: [i64; 2],
}

/// A share of events in whose place stands something else.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PoisonRules {
    pub(crate) share: f64,
    pub(crate) kinds: Vec<Poison>,
}

/// A partition that is silent for a time. Offsets from the scenario's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Idle {
    pub(crate) stream: StreamKind,
    pub(crate) partition: i32,
    pub(crate) offsets_ms: Range<i64>,
}

/// A stream's writers use another schema for a time. Offsets from the scenario's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SchemaChange {
    pub(crate) stream: StreamKind,
    pub(crate) kind: ChangeKind,
    pub(crate) offsets_ms: Range<i64>,
}

/// What a changed schema does to its readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ChangeKind {
    /// A field is added: nothing.
    Compatible,
    /// The main measure becomes a text: its records are dead letters.
    Incompatible,
}

impl Disorder {
    /// When a partition's events cannot be scored for certain: it is idle, or its writers have changed their schema.
    pub(crate) fn gaps(&self, stream: StreamKind, partition: i32) -> Vec<Range<i64>> {
        let idle = self.idle.iter().filter(|idle| (idle.stream, idle.partition) == (stream, partition));
        let changed = self
            .schema_changes
            .iter()
            .filter(|change| change.stream == stream && change.kind == ChangeKind::Incompatible);
        idle.map(|idle| idle.offsets_ms.clone()).chain(changed.map(|change| change.offsets_ms.clone())).collect()
    }

    /// Whether records are written with schemas other than the stream's own.
    pub(crate) fn needs_schemas(&self) -> bool {
        !self.schema_changes.is_empty() || self.poison.kinds.iter().any(|kind| kind.has_changed_schema())
    }

    /// The first partition that is declared idle and not among so many.
    pub(crate) fn partition_beyond(&self, partitions: i32) -> Option<i32> {
        self.idle.iter().map(|idle| idle.partition).find(|partition| *partition >= partitions)
    }
}

/// Counts of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) events: i64,
    pub(crate) outcomes: BTreeMap<Outcome, i64>,
    pub(crate) dropped: i64,
    pub(crate) idle: i64,
    pub(crate) reordered: i64,
    pub(crate) skewed: i64,
    pub(crate) evolved: i64,
}

impl Counts {
    /// Records published.
    pub(crate) fn sent(&self) -> i64 {
        self.outcomes.values().sum()
    }

    /// The truth topic's record of them.
    pub(crate) fn record(&self, stream: StreamKind, partition: i32, seed: u64) -> record::Disorder {
        let of = |outcome: Outcome| self.outcomes.get(&outcome).copied().unwrap_or(0);
        let mut dead_letters = BTreeMap::new();
        for (outcome, count) in &self.outcomes {
            if let Outcome::DeadLetter(reason) = outcome {
                dead_letters.insert(reason.as_str().to_owned(), *count);
            }
        }
        record::Disorder {
            stream: stream.name().to_owned(),
            partition,
            seed: seed as i64,
            events: self.events,
            sent: self.sent(),
            scored: of(Outcome::Scored),
            late: of(Outcome::Late),
            duplicates: of(Outcome::Duplicate),
            dead_letters,
            dropped: self.dropped,
            idle: self.idle,
            reordered: self.reordered,
            skewed: self.skewed,
            evolved: self.evolved,
        }
    }
}
