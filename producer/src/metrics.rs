//! The producer's metrics: each function owns a name, a unit and a help text.
//!
//! Invariant: labels are stream kinds only; called per batch, not per event.

use crate::stream::StreamKind;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

const EVENTS: &str = "tidewatch_producer_events_total";
const BYTES: &str = "tidewatch_producer_bytes_total";
const BEHIND: &str = "tidewatch_producer_behind_seconds";
const FAILURES: &str = "tidewatch_producer_delivery_failures_total";
const ROWS_BROKEN: &str = "tidewatch_replay_rows_broken_total";

/// Registers units and help texts; call once, after a recorder was installed.
pub fn describe() {
    describe_counter!(EVENTS, Unit::Count, "Events handed to the Kafka client, by stream");
    describe_counter!(BYTES, Unit::Bytes, "Bytes of values handed to the Kafka client, by stream");
    describe_gauge!(BEHIND, Unit::Seconds, "How far the publication is behind its schedule");
    describe_counter!(FAILURES, Unit::Count, "Events that Kafka did not take");
    describe_counter!(ROWS_BROKEN, Unit::Count, "Rows of replayed files that were skipped");
}

pub(crate) fn published(stream: StreamKind, events: u64, bytes: u64) {
    counter!(EVENTS, "stream" => stream.name()).increment(events);
    counter!(BYTES, "stream" => stream.name()).increment(bytes);
}

pub(crate) fn replayed(events: u64, bytes: u64) {
    counter!(EVENTS, "stream" => "replay").increment(events);
    counter!(BYTES, "stream" => "replay").increment(bytes);
}

pub(crate) fn behind(seconds: f64) {
    gauge!(BEHIND).set(seconds);
}

pub(crate) fn delivery_failures(events: u64) {
    counter!(FAILURES).increment(events);
}

pub(crate) fn rows_broken(rows: u64) {
    counter!(ROWS_BROKEN).increment(rows);
}
