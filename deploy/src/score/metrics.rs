//! The scorer's metrics: each function owns its names, units and help texts. `value` is a kind, detector, severity, region or tenant:
//! as many as there are of these. What is not known is not a number.

use ::metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use tidewatch_score::{Figures, Tally};

const FAULTS: &str = "tidewatch_score_faults";
const ALERTS: &str = "tidewatch_score_alerts";
const RECALL: &str = "tidewatch_score_recall_ratio";
const PRECISION: &str = "tidewatch_score_precision_ratio";
const F1: &str = "tidewatch_score_f1_ratio";
const DELAY: &str = "tidewatch_score_delay_seconds";
const FALSE_ALARMS: &str = "tidewatch_score_false_alarms_per_entity_week";
const EVENT_TIME: &str = "tidewatch_score_event_time_seconds";
const READ: &str = "tidewatch_score_records_read_total";
const UNREADABLE: &str = "tidewatch_score_unreadable_records_total";
const LEFT_OUT: &str = "tidewatch_score_left_out_records_total";
const PUBLISHED: &str = "tidewatch_score_records_published_total";

/// Says what each metric means; called once, after a recorder is installed.
pub(crate) fn describe() {
    describe_gauge!(FAULTS, Unit::Count, "Injected faults, by outcome: found, missed or pending");
    describe_gauge!(ALERTS, Unit::Count, "Alerts, by outcome: found (a fault), repeated or false");
    describe_gauge!(RECALL, Unit::Count, "Share of the faults that were found");
    describe_gauge!(PRECISION, Unit::Count, "Share of the alerts that found a fault, without repeated ones");
    describe_gauge!(F1, Unit::Count, "Harmonic mean of precision and recall");
    describe_gauge!(DELAY, Unit::Seconds, "Event time from a fault's onset to the window that found it, by quantile");
    describe_gauge!(FALSE_ALARMS, Unit::Count, "False alerts in a week of an entity with which nothing is wrong");
    describe_gauge!(EVENT_TIME, Unit::Seconds, "End of the last window that was seen, since 1970");
    describe_counter!(READ, Unit::Count, "Records read, by topic");
    describe_counter!(UNREADABLE, Unit::Count, "Records that nobody could read, by topic");
    describe_counter!(LEFT_OUT, Unit::Count, "Records beyond score.records_max, which do not count");
    describe_counter!(PUBLISHED, Unit::Count, "Records written to the score topic");
}

/// The figures of a value; a gauge that was set stays, so that those of one that there is no more are told, too.
pub(super) fn figures(figures: &Figures) {
    let Figures { dimension, value, tally, .. } = figures;
    let Tally { faults, found, pending, repeated, false_alerts, .. } = *tally;
    let set = |name, key: &'static str, of: &'static str, number: u64| {
        let labels = [("dimension", dimension.as_str().to_owned()), ("value", value.clone()), (key, of.to_owned())];
        gauge!(name, &labels).set(number as f64);
    };
    for (outcome, number) in [("found", found), ("missed", faults.saturating_sub(found)), ("pending", pending)] {
        set(FAULTS, "outcome", outcome, number);
    }
    for (outcome, number) in [("found", found), ("repeated", repeated), ("false", false_alerts)] {
        set(ALERTS, "outcome", outcome, number);
    }
    let known = |figure: Option<f64>| figure.unwrap_or(f64::NAN);
    for (quantile, delay_ms) in [("0.5", figures.delay_p50_ms), ("0.95", figures.delay_p95_ms)] {
        let seconds = known(delay_ms.map(|ms| ms as f64 / 1_000.0));
        gauge!(DELAY, "dimension" => dimension.as_str(), "value" => value.clone(), "quantile" => quantile).set(seconds);
    }
    for (name, figure) in [
        (RECALL, figures.recall),
        (PRECISION, figures.precision),
        (F1, figures.f1),
        (FALSE_ALARMS, figures.false_alarms_per_entity_week),
    ] {
        gauge!(name, "dimension" => dimension.as_str(), "value" => value.clone()).set(known(figure));
    }
}

/// How far event time has come.
pub(super) fn event_time(end_ms: Option<i64>) {
    if let Some(end_ms) = end_ms {
        gauge!(EVENT_TIME).set(end_ms as f64 / 1_000.0);
    }
}

/// Records that a read brought.
pub(super) fn records_read(topic: &'static str, records: u64) {
    counter!(READ, "topic" => topic).increment(records);
}

/// A record that nobody could read.
pub(super) fn record_unreadable(topic: &'static str) {
    counter!(UNREADABLE, "topic" => topic).increment(1);
}

/// Records for which there was no room.
pub(super) fn records_left_out(records: u64) {
    counter!(LEFT_OUT).increment(records);
}

/// A record, or a tombstone, was sent.
pub(super) fn record_published() {
    counter!(PUBLISHED).increment(1);
}
