//! The processor on a broker: what it writes, record by record, against plain reference code.

#![allow(clippy::unwrap_used)]

mod history;
mod input;
mod recovery;
mod restore;
mod scene;
mod workers;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tidewatch_processor::{Counts, ProcessorConfig, ProcessorSettings, Progress};
use tidewatch_processor_core::config::Span;
use tidewatch_processor_core::{StreamConfig, StreamSettings};
use tidewatch_schemas::Record;
use tidewatch_schemas::catalogue::Topics;
use tidewatch_schemas::record::{Forecast, Late, Ledger, WindowMetric};
use tidewatch_schemas::wire;
use tidewatch_sink::{Stop, StopSignal};
use tidewatch_topic_io::{
    Admin, GroupOptions, GroupReader, KafkaConfig, OffsetCommit, Outgoing, PartitionReader, StartAt, TopicSpec, Writer,
    partitioner,
};

const PARTITIONS: i32 = 3;
const WINDOW_MS: i64 = 60_000;
const DISORDER_MS: i64 = 20_000;

tidewatch_test_brokers::on_both_brokers!(
    every_window_equals_that_of_plain_reference_code,
    stopping_and_starting_leaves_no_trace_in_the_outputs,
    offsets_and_state_that_do_not_belong_together_are_refused,
    a_topic_whose_partitions_have_changed_is_refused,
);

fn stream(topic: &str) -> Arc<StreamConfig> {
    let settings: StreamSettings = serde_json::from_value(serde_json::json!({
        "name": "rooms", "topic": topic, "format": "json", "entity": ["room"], "event_time": "at",
        "window": { "tumbling": "1m" }, "disorder": "20s",
        "measure": [{
            "name": "temperature", "field": "celsius", "aggregates": ["mean", "max"],
            "forecast": { "seasons": ["1h"], "horizons": ["1m", "5m"], "emit_every": "10m" },
        }],
    }))
    .unwrap();
    settings.validate().unwrap()
}

/// A processor with topics of its own. `run` tells runs over the same input apart.
fn processor(kafka: &KafkaConfig, input: &str, run: &str) -> ProcessorConfig {
    let name = |kind: &str| format!("{input}.{run}.{kind}");
    let topics = Topics {
        metrics: name("metrics"),
        forecasts: name("forecasts"),
        alerts: name("alerts"),
        late: name("late"),
        dead_letters: name("dead-letters"),
        state: name("state"),
        ledger: name("ledger"),
        ..Topics::default()
    };
    let t = &topics;
    let outputs = [&t.metrics, &t.forecasts, &t.alerts, &t.late, &t.dead_letters, &t.state, &t.ledger];
    create(kafka, &outputs.map(String::as_str));
    let settings = ProcessorSettings {
        group_id: name("group"),
        batch_max: 500,
        commit_interval: Span::from_millis(50),
        snapshot_every: Span::from_millis(100),
        ..ProcessorSettings::default()
    };
    ProcessorConfig { kafka: kafka.clone(), streams: vec![stream(input)], topics, settings }
}

fn create(kafka: &KafkaConfig, topics: &[&str]) {
    let spec = |name: &&str| TopicSpec { retention_ms: Some(-1), ..TopicSpec::new(*name, PARTITIONS) };
    Admin::connect(kafka).unwrap().ensure_topics(&topics.iter().map(spec).collect::<Vec<_>>()).unwrap();
}

#[derive(Clone, Debug)]
struct Reading {
    room: String,
    at: i64,
    celsius: f64,
}

impl Reading {
    fn json(&self) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({ "room": self.room, "at": self.at, "celsius": self.celsius })).unwrap()
    }

    fn partition(&self) -> i32 {
        partitioner::partition_for(self.room.as_bytes(), PARTITIONS)
    }
}

/// Rooms over some hours, most readings a little out of order and a few far too late.
fn readings(len: i64) -> Vec<Reading> {
    (0..len)
        .map(|n| {
            let mixed = (n * 2_654_435_761) % 1_000_003;
            let late = if mixed % 97 == 0 { 10 * WINDOW_MS } else { mixed % DISORDER_MS };
            let at = 1_700_000_000_000 + n * 1_500 - late;
            Reading { room: format!("room-{}", mixed % 7), at, celsius: 20.0 + (mixed % 100) as f64 / 10.0 }
        })
        .collect()
}

fn publish(kafka: &KafkaConfig, topic: &str, readings: &[Reading]) {
    send(&mut Writer::new(kafka).unwrap(), topic, readings);
}

fn send(writer: &mut Writer, topic: &str, readings: &[Reading]) {
    for reading in readings {
        let (value, key) = (reading.json(), reading.room.as_bytes());
        let record = Outgoing {
            partition: Some(reading.partition()),
            timestamp_ms: Some(reading.at),
            ..Outgoing::new(topic, key, &value)
        };
        writer.send(record).unwrap();
    }
    writer.flush(Duration::from_secs(30)).unwrap();
}

/// What the processors of all tests in this process count.
fn metrics() -> &'static PrometheusHandle {
    static METRICS: LazyLock<PrometheusHandle> = LazyLock::new(|| PrometheusBuilder::new().install_recorder().unwrap());
    &METRICS
}

/// Runs until all input is committed.
fn drain(config: &ProcessorConfig) -> Counts {
    let (progress, stop) = (Progress::new(), StopSignal::new());
    stop.request(Stop::Drain);
    tidewatch_processor::run(config, &progress, &stop).unwrap().counts
}

/// Committed records in order, by partition: key, value, and when the event behind it was meant to be sent.
fn read<R>(kafka: &KafkaConfig, topic: &str, decode: impl Fn(&[u8]) -> R) -> Vec<(i32, Vec<u8>, R, Option<String>)> {
    let mut reader = PartitionReader::new(kafka, true).unwrap();
    let partitions: Vec<_> = (0..PARTITIONS).map(|partition| (topic, partition, StartAt::Beginning)).collect();
    reader.assign(&partitions).unwrap();
    let mut all = Vec::new();
    while !reader.is_at_end() {
        for message in reader.read(1_000, Duration::from_millis(200)).unwrap().iter() {
            let intended =
                message.header("tidewatch-intended-ms").map(|value| String::from_utf8(value.to_vec()).unwrap());
            all.push((
                message.partition(),
                message.key().unwrap().to_vec(),
                decode(message.value().unwrap()),
                intended,
            ));
        }
    }
    all.sort_by_key(|(partition, ..)| *partition);
    all
}

fn records<R: Record>(kafka: &KafkaConfig, topic: &str) -> Vec<R> {
    read(kafka, topic, |value| wire::decode(value).unwrap()).into_iter().map(|(_, _, record, _)| record).collect()
}

/// One window as a person with a spreadsheet would fill it.
#[derive(Debug, Default)]
struct Expected {
    values: Vec<f64>,
    first_offset: i64,
    last_offset: i64,
}

/// (partition, window start, room) -> what belongs there; and the offsets of late readings by partition.
type Reference = (BTreeMap<(i32, i64, String), Expected>, BTreeMap<i32, Vec<i64>>);

fn reference(readings: &[Reading]) -> Reference {
    let (mut windows, mut late) = (BTreeMap::<_, Expected>::new(), BTreeMap::<_, Vec<i64>>::new());
    for partition in 0..PARTITIONS {
        let mut watermark = i64::MIN;
        for (offset, reading) in (0i64..).zip(readings.iter().filter(|reading| reading.partition() == partition)) {
            let start = reading.at - reading.at % WINDOW_MS;
            if start + WINDOW_MS <= watermark {
                late.entry(partition).or_default().push(offset);
                continue;
            }
            let window = windows.entry((partition, start, reading.room.clone())).or_default();
            if window.values.is_empty() {
                window.first_offset = offset;
            }
            window.values.push(reading.celsius);
            window.last_offset = offset;
            watermark = watermark.max(reading.at - DISORDER_MS);
        }
        windows.retain(|&(of, start, _), _| of != partition || start + WINDOW_MS <= watermark);
    }
    (windows, late)
}

fn every_window_equals_that_of_plain_reference_code(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "reference";
    create(kafka, &[input]);
    let readings = readings(20_000);
    publish(kafka, input, &readings);
    let config = processor(kafka, input, "only");
    let counts = drain(&config);

    let (mut windows, late) = reference(&readings);
    let late_count: usize = late.values().map(Vec::len).sum();
    assert!(late_count > 50, "the input is meant to have late readings");
    assert_eq!((counts.read, counts.late, counts.residue()), (20_000, late_count as u64, 0));

    let metrics: Vec<WindowMetric> = records(kafka, &config.topics.metrics);
    assert_eq!(counts.windows, windows.len() as u64);
    for metric in &metrics {
        let place = (metric.partition, metric.window_start, metric.entity.clone());
        let expected = windows.remove(&place).unwrap_or_else(|| panic!("{place:?} is no window, or was written twice"));
        let (count, sum) = (expected.values.len() as f64, expected.values.iter().sum::<f64>());
        let mean = sum / count;
        let variance = expected.values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        assert_eq!((metric.count as f64, metric.window_end), (count, metric.window_start + WINDOW_MS));
        assert!((metric.mean - mean).abs() < 1e-9 && (metric.sum - sum).abs() < 1e-6, "{metric:?}");
        assert!(count < 2.0 || (metric.stddev - variance.sqrt()).abs() < 1e-9, "{metric:?} {variance}");
        assert_eq!(metric.min, expected.values.iter().copied().fold(f64::MAX, f64::min));
        assert_eq!(metric.max, expected.values.iter().copied().fold(f64::MIN, f64::max));
        assert_eq!((metric.first_offset, metric.last_offset), (expected.first_offset, expected.last_offset));
        assert_eq!(metric.labels, BTreeMap::from([("room".into(), metric.entity.clone())]));
        assert_eq!(metric.series.iter().map(|point| point.value).collect::<Vec<_>>(), [metric.mean, metric.max]);
    }
    assert!(windows.is_empty(), "windows that were never written: {:?}", windows.keys());

    let mut found = BTreeMap::<i32, Vec<i64>>::new();
    for record in records::<Late>(kafka, &config.topics.late) {
        let original =
            readings.iter().filter(|reading| reading.partition() == record.partition).nth(record.offset as usize);
        let original = original.unwrap();
        assert_eq!((record.event_time, record.value), (original.at, Some(original.json())));
        found.entry(record.partition).or_default().push(record.offset);
    }
    assert_eq!(found, late);
    let forecasts: Vec<Forecast> = records(kafka, &config.topics.forecasts);
    assert!(forecasts.iter().all(|forecast| forecast.issued_at % (10 * WINDOW_MS) == 0 && forecast.path.len() == 2));
    assert!(!forecasts.is_empty());
}

fn stopping_and_starting_leaves_no_trace_in_the_outputs(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "stops";
    create(kafka, &[input]);
    let readings = readings(12_000);
    let stopped = processor(kafka, input, "stopped");
    let mut counts = 0;
    for part in readings.chunks(4_000) {
        publish(kafka, input, part);
        counts += drain(&stopped).read;
    }
    assert_eq!(counts, 12_000, "no record is counted again");
    let undisturbed = processor(kafka, input, "undisturbed");
    drain(&undisturbed);

    assert_same_results(kafka, &stopped, &undisturbed);

    let ledgers = (last_ledgers(kafka, &stopped), last_ledgers(kafka, &undisturbed));
    assert_eq!(ledgers.0.iter().map(|ledger| ledger.read).sum::<i64>(), 12_000);
    assert_eq!(ledgers.0, ledgers.1, "the ledger goes on as if nothing had been");
}

/// The same log gives the same bytes in the same order.
fn assert_same_results(kafka: &KafkaConfig, found: &ProcessorConfig, expected: &ProcessorConfig) {
    let results = |config: &ProcessorConfig| {
        let t = &config.topics;
        [&t.metrics, &t.forecasts, &t.alerts, &t.late, &t.dead_letters].map(|topic| read(kafka, topic, <[u8]>::to_vec))
    };
    let (found, expected) = (results(found), results(expected));
    assert!(!expected[0].is_empty() && !expected[1].is_empty() && !expected[3].is_empty());
    for (found, expected) in found.iter().zip(&expected) {
        let differs = found.iter().zip(expected).position(|(found, expected)| found != expected);
        assert_eq!(
            (differs, found.len()),
            (None, expected.len()),
            "the first record that differs, and how many there are"
        );
    }
}

/// The last ledger record of each partition, without what differs between runs; the records before must lead up to it.
fn last_ledgers(kafka: &KafkaConfig, config: &ProcessorConfig) -> Vec<Ledger> {
    let mut last = BTreeMap::<i32, Ledger>::new();
    for ledger in records::<Ledger>(kafka, &config.topics.ledger) {
        let before = last.get(&ledger.partition).map_or(ledger.begin_offset, |before| before.to_offset);
        assert_eq!((ledger.from_offset, ledger.residue()), (before, 0), "{ledger:?}");
        assert_eq!((&ledger.group, ledger.read), (&config.settings.group_id, ledger.to_offset), "{ledger:?}");
        last.insert(ledger.partition, ledger);
    }
    last.into_values().map(|ledger| Ledger { group: String::new(), from_offset: 0, ..ledger }).collect()
}

fn offsets_and_state_that_do_not_belong_together_are_refused(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "torn";
    create(kafka, &[input]);
    publish(kafka, input, &readings(300));
    let mut config = processor(kafka, input, "before");
    drain(&config);
    let refused = |config: &ProcessorConfig| {
        tidewatch_processor::run(config, &Progress::new(), &StopSignal::new()).unwrap_err().to_string()
    };
    config.topics.state = format!("{input}.narrow.state");
    Admin::connect(kafka).unwrap().ensure_topics(&[TopicSpec::new(&config.topics.state, 1)]).unwrap();
    assert_eq!(
        refused(&config),
        "state topic `torn.narrow.state` has 1 partitions, input `torn` has 3: create the state topic with at least as many"
    );
    config.topics.state = format!("{input}.empty.state");
    create(kafka, &[&config.topics.state]);
    let error = refused(&config);
    assert!(error.contains("the state topic holds none") && error.contains("processor.group_id"), "{error}");
    // The advice works: a new group begins anew beside the state of the old one.
    config.topics.state = format!("{input}.before.state");
    config.settings.group_id = format!("{input}.anew");
    assert_eq!(drain(&config).read, 300);
    // So is a ledger that is not the group's.
    let mut ledger = config.clone();
    ledger.topics.ledger = format!("{input}.empty.ledger");
    create(kafka, &[&ledger.topics.ledger]);
    let error = refused(&ledger);
    assert!(error.contains("`torn.empty.ledger` holds no record") && error.contains("processor.group_id"), "{error}");
    ledger.topics.ledger = format!("{input}.narrow.ledger");
    Admin::connect(kafka).unwrap().ensure_topics(&[TopicSpec::new(&ledger.topics.ledger, 1)]).unwrap();
    assert_eq!(
        refused(&ledger),
        "ledger topic `torn.narrow.ledger` has 1 partitions, input `torn` has 3: create the ledger topic with at least as many"
    );
    // A stream that is declared differently is refused, and the same advice works.
    let mut settings = config.clone();
    settings.streams = vec![Arc::new(StreamConfig { lateness_ms: 60_000, ..(*config.streams[0]).clone() })];
    let error = refused(&settings);
    assert!(error.starts_with("state of stream `rooms` was written under another declaration"), "{error}");
    settings.settings.group_id = format!("{input}.declared-anew");
    assert_eq!(drain(&settings).read, 300);
}

fn a_topic_whose_partitions_have_changed_is_refused(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let input = "grown";
    create(kafka, &[input]);
    let config = processor(kafka, input, "before");
    // What a processor would have committed when the topic had two partitions.
    let mut reader = GroupReader::new(kafka, &config.settings.group_id, &[input], GroupOptions::default()).unwrap();
    while reader.serve_group(&mut |_, _, _| StartAt::Beginning).unwrap().is_empty() {
        reader.read(1, Duration::from_millis(50)).unwrap();
    }
    let commit = |partition| OffsetCommit { topic: input, partition, offset: 0, metadata: "start=0;partitions=2" };
    reader.commit(&(0..PARTITIONS).map(commit).collect::<Vec<_>>()).unwrap();
    drop(reader);
    let error = tidewatch_processor::run(&config, &Progress::new(), &StopSignal::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "input `grown` has 3 partitions, its state was written with 2: entities have moved between partitions; set \
         `processor.group_id` to a new name to start anew"
    );
}
