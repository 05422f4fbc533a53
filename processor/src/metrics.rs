//! The processor's metrics: each function owns its name, unit and help.

use std::time::Duration;
use tidewatch_processor_core::config::Span;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use tidewatch_schemas::record::Ledger;

use crate::error::Recovery;
use crate::{Counts, ProcessorError, Progress};

const RECORDS: &str = "tidewatch_processor_records_total";
const WINDOWS: &str = "tidewatch_processor_windows_closed_total";
const REVISIONS: &str = "tidewatch_processor_revisions_total";
const EVICTED: &str = "tidewatch_processor_entities_evicted_total";
const MISSED: &str = "tidewatch_processor_windows_missed_total";
const ALERTS: &str = "tidewatch_processor_alerts_total";
const QUIET: &str = "tidewatch_processor_alerts_quiet_total";
const CYCLES: &str = "tidewatch_processor_transactions_total";
const ABORTS: &str = "tidewatch_processor_aborted_cycles_total";
const LAG: &str = "tidewatch_processor_lag_records";
const WATERMARK_LAG: &str = "tidewatch_processor_watermark_lag_seconds";
const ENTITIES: &str = "tidewatch_processor_entities";
const LOST: &str = "tidewatch_processor_lost_records_total";
const STALLS: &str = "tidewatch_processor_stalls_total";
const RESIDUE: &str = "tidewatch_processor_ledger_residue";
const PROCESS_SECONDS: &str = "tidewatch_processor_cycle_process_seconds";
const COMMIT_SECONDS: &str = "tidewatch_processor_cycle_commit_seconds";
const SNAPSHOT_SECONDS: &str = "tidewatch_processor_snapshot_seconds";
const RESTORE_SECONDS: &str = "tidewatch_processor_restore_seconds";
const FORECAST_MASE: &str = "tidewatch_processor_forecast_mase";
const FORECAST_MAPE: &str = "tidewatch_processor_forecast_mape_ratio";
const FORECAST_PINBALL: &str = "tidewatch_processor_forecast_pinball";
const FORECAST_COVERAGE: &str = "tidewatch_processor_forecast_coverage_ratio";

/// Tells the recorder what each metric means. Call once, after the recorder is installed.
pub fn describe() {
    describe_counter!(
        RECORDS,
        Unit::Count,
        "Input records committed, by what became of them; the outcomes add up to what was read"
    );
    describe_counter!(WINDOWS, Unit::Count, "Windows closed, one for each entity");
    describe_counter!(REVISIONS, Unit::Count, "Result records that corrected earlier ones after late events");
    describe_counter!(EVICTED, Unit::Count, "Entities forgotten to make room for others (entities_max)");
    describe_counter!(
        MISSED,
        Unit::Count,
        "Windows that were final before an event of theirs came, where the event is in others and counts as scored"
    );
    describe_counter!(ALERTS, Unit::Count, "Alert records written: opened, updated, resolved");
    describe_counter!(
        QUIET,
        Unit::Count,
        "Alert records that were not written, as their alerts opened in the history that is learnt from (bootstrap)"
    );
    describe_counter!(CYCLES, Unit::Count, "Transactions committed");
    describe_counter!(
        ABORTS,
        Unit::Count,
        "Cycles that failed and were taken up again from the committed offsets, by what it took: abort, settle (a new producer), rebuild \
         (all clients)"
    );
    describe_counter!(LOST, Unit::Count, "Input records that retention removed before they were read (on_lost_input)");
    describe_counter!(STALLS, Unit::Count, "Times that a worker made no progress though there was input");
    describe_gauge!(LAG, Unit::Count, "Records between the committed position and the end of the input");
    describe_gauge!(
        WATERMARK_LAG,
        Unit::Seconds,
        "How far event time is behind the clock in the assigned partition of the stream that is furthest behind, among those where a \
         window waits; 0 where none does"
    );
    describe_gauge!(ENTITIES, Unit::Count, "Entities remembered");
    describe_gauge!(
        RESIDUE,
        Unit::Count,
        "Input records that the ledger does not explain, of all assigned partitions since the group began; anything but 0 is a defect"
    );
    describe_histogram!(PROCESS_SECONDS, Unit::Seconds, "Time that a cycle reads, decodes and processes");
    describe_histogram!(COMMIT_SECONDS, Unit::Seconds, "Time that a cycle's commit takes");
    describe_histogram!(SNAPSHOT_SECONDS, Unit::Seconds, "Time from the beginning of a snapshot round to its end");
    describe_histogram!(
        RESTORE_SECONDS,
        Unit::Seconds,
        "Time to bring newly assigned partitions back: their state and ledgers are read, their engines made"
    );
    describe_gauge!(
        FORECAST_MASE,
        "Mean absolute error of forecasts by that of the value a season before, by stream and horizon; over the stream's series, each by its \
         last 200 forecasts or so"
    );
    describe_gauge!(FORECAST_MAPE, "Mean absolute error of forecasts as a share of the value, likewise");
    describe_gauge!(FORECAST_PINBALL, "Mean pinball loss at the ends of the bands, by the same as the MASE, likewise");
    describe_gauge!(FORECAST_COVERAGE, "Share of the values in the 95 % band of their forecast, likewise");
}

pub(crate) fn cycle_committed(counts: &Counts, process: Duration, commit: Duration) {
    counter!(RECORDS, "outcome" => "scored").increment(counts.scored);
    counter!(RECORDS, "outcome" => "late").increment(counts.late);
    counter!(RECORDS, "outcome" => "dead_lettered").increment(counts.dead_lettered);
    counter!(RECORDS, "outcome" => "duplicate").increment(counts.duplicate);
    counter!(RECORDS, "outcome" => "filtered").increment(counts.filtered);
    counter!(WINDOWS).increment(counts.windows);
    counter!(REVISIONS).increment(counts.revisions);
    counter!(EVICTED).increment(counts.evicted);
    counter!(MISSED).increment(counts.missed);
    counter!(ALERTS).increment(counts.alerts);
    counter!(QUIET).increment(counts.quiet);
    counter!(CYCLES).increment(1);
    histogram!(PROCESS_SECONDS).record(process.as_secs_f64());
    histogram!(COMMIT_SECONDS).record(commit.as_secs_f64());
}

/// A partition's ledger has come not to add up, or not to in another way than before.
pub(crate) fn ledger_broken(ledger: &Ledger) {
    tracing::error!(
        stream = ledger.stream,
        topic = ledger.topic,
        partition = ledger.partition,
        from_offset = ledger.from_offset,
        to_offset = ledger.to_offset,
        read = ledger.read,
        residue = ledger.residue(),
        "the ledger does not add up: a defect, please report it"
    );
}

/// A cycle failed, and what is done about it.
pub(crate) fn cycle_failed(worker: usize, recovery: Recovery, error: &ProcessorError) {
    let recovery = match recovery {
        Recovery::Abort => "abort",
        Recovery::Settle => "settle",
        Recovery::Rebuild | Recovery::End => "rebuild",
    };
    counter!(ABORTS, "recovery" => recovery).increment(1);
    tracing::warn!(worker, recovery, %error, "cycle failed; going on from the committed offsets");
}

/// What became of a commit that was not answered.
pub(crate) fn commit_settled(worker: usize, is_committed: bool) {
    tracing::info!(worker, is_committed, "the transaction without an answer is settled");
}

/// Input that is gone, and gone on behind.
pub(crate) fn input_lost(topic: &str, partition: i32, from: i64, to: i64, unread: i64) {
    let labels = [("topic", topic.to_owned()), ("partition", partition.to_string())];
    counter!(LOST, &labels).increment(unread.unsigned_abs());
    tracing::error!(
        topic,
        partition,
        from,
        to,
        unread,
        "input was removed by retention; going on behind it, with a state that lacks it (on_lost_input)"
    );
}

/// Partitions that nobody owns: the group is made to rebalance.
pub(crate) fn orphaned(topic: &str, partition: i32, partitions: usize) {
    tracing::warn!(topic, partition, partitions, "input partitions without an owner: making the group rebalance");
}

/// A worker does nothing though there is something to do.
pub(crate) fn stalled(worker: usize, times: u32, waited: Duration) {
    counter!(STALLS).increment(1);
    tracing::warn!(
        worker,
        times,
        waited_s = waited.as_secs_f32(),
        "no progress though there is input; making its clients anew"
    );
}

/// A worker has its clients; it joins the group now, and waits for its transactional id meanwhile.
pub(crate) fn clients_made(worker: usize, took: Duration) {
    tracing::info!(worker, took_ms = took.as_millis(), "clients made");
}

/// Newly assigned partitions are back.
pub(crate) fn restored(partitions: usize, entities: usize, threads: usize, took: Duration) {
    histogram!(RESTORE_SECONDS).record(took.as_secs_f64());
    tracing::info!(partitions, entities, threads, took_ms = took.as_millis(), "restored");
}

/// A partition holds a history that is still to be learnt from.
pub(crate) fn history_begun(topic: &str, partition: i32, records: i64) {
    tracing::info!(topic, partition, records, "learning from what the topic holds already, without alerts (bootstrap)");
}

/// A partition's history is read.
pub(crate) fn history_learnt(topic: &str, partition: i32, alerts_quiet: u64) {
    tracing::info!(
        topic,
        partition,
        alerts_quiet,
        "learnt from what the topic held; alerts that open from here on are told"
    );
}

/// A partition's snapshot round is written.
pub(crate) fn snapshot_complete(topic: &str, partition: i32, input_offset: i64, took: Duration) {
    histogram!(SNAPSHOT_SECONDS).record(took.as_secs_f64());
    tracing::debug!(topic, partition, input_offset, took_ms = took.as_millis(), "snapshot round complete");
}

pub(crate) fn partition_restored(topic: &str, partition: i32, entities: usize, snapshot: i64, committed: i64) {
    tracing::debug!(topic, partition, entities, snapshot, committed, "partition restored");
}

/// How all workers stand together.
pub(crate) fn standing(progress: &Progress) {
    gauge!(LAG).set(progress.lag() as f64);
    gauge!(ENTITIES).set(progress.entities() as f64);
    gauge!(RESIDUE).set(progress.residue() as f64);
    for (stream, lag_ms) in progress.watermark_lags() {
        gauge!(WATERMARK_LAG, "stream" => stream).set(lag_ms as f64 / 1_000.0);
    }
    for (stream, horizon_ms, is) in progress.accuracies() {
        let labels = [("stream", stream), ("horizon", Span::from_millis(horizon_ms).to_string())];
        for (name, mean) in [
            (FORECAST_MASE, is.mase),
            (FORECAST_MAPE, is.mape),
            (FORECAST_PINBALL, is.pinball),
            (FORECAST_COVERAGE, is.coverage),
        ] {
            if let Some(mean) = mean.get() {
                gauge!(name, &labels).set(mean);
            }
        }
    }
}
