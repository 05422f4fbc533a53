//! A topic that holds a history when a processor first sees it: what is told is what a processor without `bootstrap` tells, less the
//! alerts that opened in the history, wherever the processor was cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tidewatch_broker::{ApiKey, Broker, BrokerConfig, Fault, FaultRule, ResponseError};
use tidewatch_processor::config::Start;
use tidewatch_processor::{ProcessorConfig, Progress};
use tidewatch_processor_core::config::{Bootstrap, Span};
use tidewatch_processor_core::{StreamConfig, StreamSettings};
use tidewatch_schemas::record::{Alert, AlertState, WindowMetric};
use tidewatch_sink::{Stop, StopSignal};
use tidewatch_topic_io::{Admin, Committed, KafkaConfig, Outgoing, TransactionOptions, TransactionalWriter};

use crate::{PARTITIONS, Reading, WINDOW_MS, create, drain, last_ledgers, processor, publish, records};

tidewatch_test_brokers::on_both_brokers!(
    what_a_topic_holds_is_learnt_and_only_what_comes_after_it_is_told,
    a_topic_without_a_history_is_watched_from_its_first_record_on,
);

const START_MS: i64 = 1_700_000_040_000;
/// Readings of a window, one each two seconds.
const PER_WINDOW: usize = 30;
/// The readings that are there before anybody watches, some before the end of the second fault.
const HISTORY: usize = 90 * PER_WINDOW;

/// Rooms that are fine but for three faults: one in the history, one at its end, and one after it.
fn faulty_readings() -> Vec<Reading> {
    let reading = |n: usize| {
        let window = n / PER_WINDOW;
        let is_faulty = [60..63, 88..93, 110..113].iter().any(|fault| fault.contains(&window));
        let celsius = 20.0 + (n * 7_919 % 100) as f64 / 50.0 + if is_faulty { 200.0 } else { 0.0 };
        Reading { room: format!("room-{}", n % 6), at: START_MS + 2_000 * n as i64, celsius }
    };
    (0..130 * PER_WINDOW).map(reading).collect()
}

/// The room's stream, where too hot is too hot.
fn stream(topic: &str, bootstrap: Bootstrap) -> Arc<StreamConfig> {
    let settings: StreamSettings = serde_json::from_value(serde_json::json!({
        "name": "rooms", "topic": topic, "format": "json", "entity": ["room"], "event_time": "at",
        "window": { "tumbling": "1m" }, "bootstrap": bootstrap, "alert": { "repeat_after": "1s" },
        "measure": [{
            "name": "temperature", "field": "celsius", "detectors": ["z-score"], "guards": { "valid_range": [0.0, 100.0] },
        }],
    }))
    .unwrap();
    settings.validate().unwrap()
}

fn learning(kafka: &KafkaConfig, input: &str, run: &str) -> ProcessorConfig {
    let mut config = processor(kafka, input, run);
    config.streams = vec![stream(input, Bootstrap::Earliest)];
    config.settings.batch_max = 200;
    config
}

/// What a processor writes that knows of no history.
fn without_history(kafka: &KafkaConfig, input: &str) -> (Vec<Alert>, Vec<WindowMetric>) {
    let mut config = processor(kafka, input, "without");
    config.streams = vec![stream(input, Bootstrap::Off)];
    assert_eq!(drain(&config).quiet, 0);
    (records(kafka, &config.topics.alerts), records(kafka, &config.topics.metrics))
}

/// Checks what was written of all readings by a processor that has learnt from the first ones.
fn check_told(kafka: &KafkaConfig, config: &ProcessorConfig, all: &(Vec<Alert>, Vec<WindowMetric>)) {
    let readings = faulty_readings();
    let last: BTreeMap<_, _> = readings[..HISTORY].iter().map(|reading| (reading.partition(), reading.at)).collect();
    let (alerts, metrics) = all;
    let expected: Vec<_> = alerts.iter().filter(|alert| alert.opened_at > last[&alert.partition]).cloned().collect();
    let opened = expected.iter().filter(|alert| alert.state == AlertState::Opened && alert.kind.as_str() == "spike");
    let in_live_fault = opened.map(|alert| (alert.entity.as_str(), (alert.opened_at - START_MS) / WINDOW_MS));
    let rooms: BTreeSet<_> = in_live_fault.filter(|(_, window)| *window == 110).map(|(room, _)| room).collect();
    assert_eq!(rooms.len(), 6, "each room's fault after the history is told: {expected:#?}");
    assert!(alerts.len() > expected.len() + 12, "each room had faults in the history");

    assert_eq!(records::<Alert>(kafka, &config.topics.alerts), expected);
    assert_eq!(&records::<WindowMetric>(kafka, &config.topics.metrics), metrics);
    let read: i64 = last_ledgers(kafka, config).iter().map(|ledger| ledger.read).sum();
    assert_eq!(read, faulty_readings().len() as i64);
}

fn abort_in_each_partition(kafka: &KafkaConfig, input: &str) {
    let mut writer = TransactionalWriter::new(kafka, input, TransactionOptions::default()).unwrap();
    writer.begin().unwrap();
    for partition in 0..PARTITIONS {
        writer.send(Outgoing { partition: Some(partition), ..Outgoing::new(input, b"k", b"{}") }).unwrap();
    }
    writer.flush().unwrap();
    writer.abort().unwrap();
}

fn committed(admin: &Admin, config: &ProcessorConfig) -> Vec<Committed> {
    admin.committed(&config.settings.group_id, &config.streams[0].topic).unwrap().into_iter().flatten().collect()
}

fn what_a_topic_holds_is_learnt_and_only_what_comes_after_it_is_told(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "history";
    create(kafka, &[input]);
    let readings = faulty_readings();
    publish(kafka, input, &readings[..HISTORY]);
    let mut config = learning(kafka, input, "learning");
    // A history is read from its beginning all the same.
    config.settings.start = Start::Latest;
    // It ends as by a crash, as soon as it has decided what is history.
    let mut cut_off = config.clone();
    cut_off.settings.snapshot_every = Span::from_millis(3_600_000);
    cut_off.settings.shutdown_grace = Span::from_millis(1);
    let admin = Admin::connect(kafka).unwrap();
    let (progress, stop) = (Progress::new(), StopSignal::new());
    thread::scope(|scope| {
        let run = scope.spawn(|| tidewatch_processor::run(&cut_off, &progress, &stop));
        while committed(&admin, &config).len() < PARTITIONS as usize && !run.is_finished() {
            thread::sleep(Duration::from_millis(5));
        }
        stop.request(Stop::Now);
        run.join().unwrap().unwrap();
    });
    publish(kafka, input, &readings[HISTORY..]);
    drain(&config);
    let all = without_history(kafka, input);
    check_told(kafka, &config, &all);

    // Who comes now has nothing but history, the last offsets of which hold no record.
    abort_in_each_partition(kafka, input);
    let late = learning(kafka, input, "late");
    let (progress, stop) = (Progress::new(), StopSignal::new());
    stop.request(Stop::Drain);
    let counts = tidewatch_processor::run(&late, &progress, &stop).unwrap().counts;
    assert_eq!((counts.alerts, counts.quiet, counts.residue()), (0, all.0.len() as u64, 0));
    assert_eq!((records::<Alert>(kafka, &late.topics.alerts), progress.history_left()), (Vec::new(), 0));
}

fn a_topic_without_a_history_is_watched_from_its_first_record_on(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "no-history";
    create(kafka, &[input]);
    let config = learning(kafka, input, "learning");
    let (progress, stop) = (Progress::new(), StopSignal::new());
    let summary = thread::scope(|scope| {
        let run = scope.spawn(|| tidewatch_processor::run(&config, &progress, &stop));
        while progress.assigned() < PARTITIONS as u64 && !run.is_finished() {
            thread::yield_now();
        }
        publish(kafka, input, &faulty_readings());
        stop.request(Stop::Drain);
        run.join().unwrap().unwrap()
    });
    assert_eq!((summary.counts.quiet, progress.history_left()), (0, 0));
    assert_eq!(records::<Alert>(kafka, &config.topics.alerts), without_history(kafka, input).0);
}

#[test]
fn where_the_history_ends_outlives_every_death() {
    let broker = Broker::start(tidewatch_test_brokers::embedded_config(BrokerConfig::in_memory())).unwrap();
    let kafka = &KafkaConfig::at(&broker.bootstrap_servers());
    let input = "deaths";
    create(kafka, &[input]);
    let readings = faulty_readings();
    publish(kafka, input, &readings[..HISTORY]);
    let admin = Admin::connect(kafka).unwrap();
    let mut dead = Vec::new();
    for (name, snapshot_every) in [("replayed", 3_600_000), ("restored", 1)] {
        let mut config = learning(kafka, input, name);
        config.settings.snapshot_every = Span::from_millis(snapshot_every);
        config.settings.batch_max = 40;
        // Nothing helps against this answer to what is written: each life ends in the middle of a transaction, the first before it has
        // committed any.
        for requests in [0, 8, 30] {
            let refused = Fault::Error(ResponseError::InvalidRecord);
            let rule = FaultRule { api: Some(ApiKey::Produce), skip: requests, ..FaultRule::new(refused) };
            broker.faults().add(rule);
            tidewatch_processor::run(&config, &Progress::new(), &StopSignal::new()).unwrap_err();
            broker.faults().clear();
        }
        // Each commit takes a request at least: the faults of the history are still to come.
        let committed = committed(&admin, &config);
        assert!(committed.iter().map(|at| at.offset).sum::<i64>() <= 38 * 40, "{committed:?}");
        let holds = |text: &str| committed.iter().filter(|at| at.metadata.contains(text)).count();
        match name {
            "replayed" => assert_eq!(holds(";history="), PARTITIONS as usize, "{committed:?}"),
            _ => assert!(holds("snapshot=") > 0, "{committed:?}"),
        }
        dead.push(config);
    }
    publish(kafka, input, &readings[HISTORY..]);
    let all = without_history(kafka, input);
    for config in dead {
        drain(&config);
        check_told(kafka, &config, &all);
    }
}
