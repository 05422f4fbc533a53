//! The sink's metrics as a contract: each function owns one name, its unit and its help text, and is
//! called once per batch or per roll, never per record. Labels are closed sets.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::delivery::kind::TopicKind;

const ROWS: &str = "tidewatch_sink_rows_total";
const REJECTED: &str = "tidewatch_sink_rejected_rows_total";
const FILES: &str = "tidewatch_sink_files_total";
const BYTES: &str = "tidewatch_sink_file_bytes_total";
const LAG: &str = "tidewatch_sink_lag_records";
const BUFFERED: &str = "tidewatch_sink_buffered_bytes";
const ROLL_SECONDS: &str = "tidewatch_sink_roll_duration_seconds";
const ALERT_SECONDS: &str = "tidewatch_sink_alert_latency_seconds";
const RETRIES: &str = "tidewatch_sink_storage_retries_total";
const SENT: &str = "tidewatch_sink_records_sent_total";

/// Tells the recorder every name, unit and help text; called once by the composition root.
pub fn describe() {
    describe_counter!(ROWS, Unit::Count, "Rows visible in files, by kind");
    describe_counter!(
        REJECTED,
        Unit::Count,
        "Records of a result topic that could not be read and were kept as raw JSON lines, by kind"
    );
    describe_counter!(FILES, Unit::Count, "Files made visible, by kind");
    describe_counter!(BYTES, Unit::Bytes, "Bytes of files made visible, by kind");
    describe_gauge!(LAG, Unit::Count, "Offsets between the reader's position and the end of its partitions");
    describe_gauge!(BUFFERED, Unit::Bytes, "Bytes of records that wait for their file");
    describe_histogram!(ROLL_SECONDS, Unit::Seconds, "Time to encode a roll and make it visible, by kind");
    describe_histogram!(
        ALERT_SECONDS,
        Unit::Seconds,
        "From the intended send time of the event that closed an alert's window to the alert's arrival"
    );
    describe_counter!(RETRIES, Unit::Count, "Storage operations that failed and were tried again");
    describe_counter!(SENT, Unit::Count, "Records sent inside transactions, by topic kind");
}

/// An alert arrived, so long after the event behind it was meant to be sent. Alerts are few: once per record.
pub(crate) fn alert_arrived(latency: Duration) {
    histogram!(ALERT_SECONDS).record(latency.as_secs_f64());
}

/// A roll became visible.
pub(crate) fn roll_visible(kind: TopicKind, rows: u64, rejected: u64, files: u64, bytes: u64, took: Duration) {
    let kind = kind.as_str();
    counter!(ROWS, "kind" => kind).increment(rows);
    counter!(REJECTED, "kind" => kind).increment(rejected);
    counter!(FILES, "kind" => kind).increment(files);
    counter!(BYTES, "kind" => kind).increment(bytes);
    histogram!(ROLL_SECONDS, "kind" => kind).record(took.as_secs_f64());
}

/// How far behind the reader is.
pub(crate) fn lag(records: i64) {
    gauge!(LAG).set(records as f64);
}

/// What waits in memory.
pub(crate) fn buffered(bytes: usize) {
    gauge!(BUFFERED).set(bytes as f64);
}

/// A storage operation failed and is tried again.
pub(crate) fn storage_retry() {
    counter!(RETRIES).increment(1);
}

/// Records of one kind that a committed transaction held.
pub(crate) fn records_sent(kind: &'static str, records: u64) {
    counter!(SENT, "kind" => kind).increment(records);
}
