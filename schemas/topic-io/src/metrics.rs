//! The metrics of this crate: names, units and labels in one place. Labels come from closed sets, and every function is
//! called per batch or per transaction, never per record.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

/// Says what each metric means; call it once, after a recorder is installed.
pub fn describe() {
    describe_counter!("tidewatch_kafka_records_read_total", Unit::Count, "records handed to a reader's caller");
    describe_counter!(
        "tidewatch_kafka_records_rerouted_total",
        Unit::Count,
        "records that came by a queue that is not ours, and were read again"
    );
    describe_counter!("tidewatch_kafka_rebalances_total", Unit::Count, "partitions assigned, revoked and lost");
    describe_counter!("tidewatch_kafka_transactions_total", Unit::Count, "transactions by what became of them");
    describe_histogram!(
        "tidewatch_kafka_commit_seconds",
        Unit::Seconds,
        "from the last record sent to the transaction's commit"
    );
    describe_counter!(
        "tidewatch_kafka_delivery_failures_total",
        Unit::Count,
        "records that did not arrive, outside aborted transactions"
    );
    describe_counter!("tidewatch_kafka_client_errors_total", Unit::Count, "passing trouble that the client reported");
}

pub(crate) fn records_read(records: usize) {
    counter!("tidewatch_kafka_records_read_total").increment(records as u64);
}

pub(crate) fn record_rerouted() {
    counter!("tidewatch_kafka_records_rerouted_total").increment(1);
}

pub(crate) fn rebalanced(kind: &'static str, partitions: usize) {
    counter!("tidewatch_kafka_rebalances_total", "kind" => kind).increment(partitions as u64);
}

pub(crate) fn committed(took: Duration) {
    counter!("tidewatch_kafka_transactions_total", "outcome" => "committed").increment(1);
    histogram!("tidewatch_kafka_commit_seconds").record(took.as_secs_f64());
}

pub(crate) fn aborted() {
    counter!("tidewatch_kafka_transactions_total", "outcome" => "aborted").increment(1);
}

pub(crate) fn delivery_failed() {
    counter!("tidewatch_kafka_delivery_failures_total").increment(1);
}

pub(crate) fn client_error() {
    counter!("tidewatch_kafka_client_errors_total").increment(1);
}
