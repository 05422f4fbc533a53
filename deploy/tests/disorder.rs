//! The shipped scenario `disorder` and its truth: in a decoder and an engine record by record, and through the real binary on both
//! brokers, where every count equals the truth's, the same events in order give the same windows, and silence closes windows.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

#[allow(dead_code)] // Nothing is cut off in the middle or compared byte for byte here.
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::{Corner, PATIENCE, Row};
use tidewatch_processor::decode::{Decoded, EventDecoder};
use tidewatch_processor_core::{Effects, Engine, Event, Ingested, StreamSettings};
use tidewatch_producer::disorder::Outcome;
use tidewatch_producer::generator::Generator;
use tidewatch_producer::scenario::Scenario;
use tidewatch_producer::stream::StreamKind;
use tidewatch_schemas::record::{DeadLetter, Disorder, Late, WindowMetric};
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_topic_io::{Outgoing, Writer};

tidewatch_test_brokers::on_both_brokers!(every_count_is_the_truths_and_order_changes_no_window);

const PARTITIONS: i32 = 2;
const SEED: u64 = 1;
/// Reads without a record after which windows are not waited for any longer: minutes, where seconds do.
const QUIET_MAX: u32 = 900;

/// A stream as the scenario assumes it, its writers' schemas in this folder.
fn stream(kind: StreamKind, topic: &str, folder: &std::path::Path) -> String {
    let name = kind.name();
    let files = ["added", "changed"].map(|change| folder.join(format!("{name}.{change}.avsc")));
    for (file, json) in files.iter().zip(kind.evolved_schemas()) {
        std::fs::write(file, json).unwrap();
    }
    let id = match kind {
        StreamKind::ServiceCalls => "event_id = \"trace_id\"\n",
        StreamKind::Beacons => "event_id = \"session_id\"\n",
        StreamKind::Infrastructure | StreamKind::Checks => "",
    };
    let [added, changed] = files.each_ref().map(|file| file.display());
    format!(
        "[[stream]]\nname = \"{name}\"\ntopic = \"{topic}\"\nformat = \"avro\"\nentity = {:?}\nevent_time = \"event_time\"\n\
         window = {{ tumbling = \"10s\" }}\ndisorder = \"5s\"\nlateness = \"5s\"\nidle_timeout = \"3s\"\n{id}\
         schemas = [{{ file = \"{added}\" }}, {{ file = \"{changed}\" }}]\n\
         [[stream.measure]]\nname = \"main\"\nfield = \"{}\"\naggregates = [\"mean\", \"p95\"]\ndetectors = [\"z-score\"]\n",
        kind.entity_fields(),
        kind.measures()[0].field(),
    )
}

#[derive(serde::Deserialize)]
struct Streams {
    stream: Vec<StreamSettings>,
}

#[test]
fn a_decoder_and_an_engine_say_of_each_record_what_the_truth_says() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = Scenario::shipped("disorder").unwrap();
    let truth = scenario.generator(SEED, PARTITIONS).disorder();
    let generator = scenario.generator(SEED, PARTITIONS);
    for (place, truth) in generator.partitions().into_keys().zip(truth) {
        let declared: Streams = toml::from_str(&stream(place.stream, "t", folder.path())).unwrap();
        let config = declared.stream[0].validate().unwrap();
        let (mut decoder, mut engine) = (EventDecoder::new(&config).unwrap(), Engine::new(config, place.partition));
        let (mut decoded, mut effects) = (Decoded::default(), Effects::default());
        let mut records = generator.records(place, 0);
        let (mut offset, mut dead_letters) = (0, BTreeMap::new());
        while let Some(record) = records.next_record() {
            let mut value = Vec::new();
            let has_value = record.encode(Framing::SingleObject, &mut value);
            let taken = decoder.decode(has_value.then_some(&value), Some(record.event.event_time), &mut decoded);
            let Decoded { event_time, entity, values, id } = &decoded;
            let event = Event { offset, event_time: *event_time, entity, values, id: *id };
            let said = match taken {
                Err(rejected) => {
                    *dead_letters.entry(rejected.reason.as_str().to_owned()).or_insert(0) += 1;
                    rejected.reason.as_str()
                }
                Ok(_) => match engine.ingest(&event, &mut effects) {
                    Ingested::Scored => "scored",
                    Ingested::Late(_) => "late",
                    Ingested::Duplicate => "duplicate",
                },
            };
            effects.clear();
            let wanted = match record.outcome {
                Outcome::Scored => "scored",
                Outcome::Late => "late",
                Outcome::Duplicate => "duplicate",
                Outcome::DeadLetter(reason) => reason.as_str(),
            };
            assert_eq!(said, wanted, "{place:?} offset {offset}: {record:?}");
            offset += 1;
        }
        let counts = engine.counts();
        let said = [offset, counts.scored as i64, counts.late as i64, counts.duplicate as i64];
        assert_eq!(said, [truth.sent, truth.scored, truth.late, truth.duplicates], "{place:?}");
        assert_eq!(dead_letters, truth.dead_letters, "{place:?}");
    }
}

fn streams(corner: &Corner, run: &str) -> String {
    StreamKind::ALL.map(|kind| stream(kind, &corner.topic(run, kind.name()), corner.folder.path())).concat()
}

fn input_topics(corner: &Corner, run: &str) -> Vec<String> {
    StreamKind::ALL.iter().map(|kind| corner.topic(run, kind.name())).collect()
}

/// Publishes the scenario by the program.
fn publish(corner: &Corner, run: &str) {
    corner.create(&[input_topics(corner, run), vec![corner.topic(run, "truth")]].concat(), PARTITIONS);
    let names = ["service_calls", "infrastructure", "beacons", "checks", "truth"];
    let lines = names.map(|name| format!("{name} = \"{}\"\n", corner.topic(run, &name.replace('_', "-"))));
    let settings = format!("topic_creation.partitions = {PARTITIONS}\n[topics]\n{}", lines.concat());
    corner.run(&settings, &["produce", "--scenario", "disorder"]);
}

/// Publishes the events that are scored, by their event time and nothing else among them.
fn publish_in_order(corner: &Corner, run: &str, generator: &Generator) {
    corner.create(&input_topics(corner, run), PARTITIONS);
    let mut writer = Writer::new(&corner.kafka).unwrap();
    for place in generator.partitions().into_keys() {
        let topic = corner.topic(run, place.stream.name());
        let mut events = Vec::new();
        let mut records = generator.records(place, 0);
        while let Some(record) = records.next_record() {
            if record.outcome == Outcome::Scored {
                let mut value = Vec::new();
                assert!(record.encode(Framing::SingleObject, &mut value));
                events.push((record.stated_time, record.event.entity.to_owned(), record.event.index, value));
            }
        }
        events.sort();
        for (time, entity, _, value) in &events {
            let record = Outgoing {
                partition: Some(place.partition),
                timestamp_ms: Some(*time),
                ..Outgoing::new(&topic, entity.as_bytes(), value)
            };
            writer.send(record).unwrap();
        }
    }
    writer.flush(Duration::from_secs(60)).unwrap();
}

/// Processes a run's input until its windows hold so many events: until the clock has closed the last one.
fn process(corner: &Corner, run: &str, scored: i64) -> Vec<WindowMetric> {
    let settings = format!("{}{}", corner.outputs(run, PARTITIONS), streams(corner, run));
    let mut process = corner.start(&settings, &["process"]);
    let mut reader = corner.reader(&corner.topic(run, "metrics"));
    let (mut metrics, mut quiet) = (Vec::<WindowMetric>::new(), 0);
    let mut held = 0;
    while held < scored {
        assert!(!process.has_ended() && quiet < QUIET_MAX, "{held} of {scored} in windows: {}", process.log());
        let before = metrics.len();
        let batch = reader.read(10_000, PATIENCE).unwrap();
        metrics.extend(batch.iter().map(|message| wire::decode::<WindowMetric>(message.value().unwrap()).unwrap()));
        held += metrics[before..].iter().map(|metric| metric.count).sum::<i64>();
        quiet = if metrics.len() == before { quiet + 1 } else { 0 };
    }
    process.signal("TERM");
    let (status, log) = process.finish();
    assert!(status.success(), "{log}");
    assert_eq!(corner.read(&corner.topic(run, "metrics")).len(), metrics.len(), "no window is told twice");
    metrics
}

/// Stream and reason of a dead letter, as headers or as the record that wraps it.
fn letter(row: &Row) -> (String, String) {
    let header = |name: &str| {
        let found = row.headers.iter().find(|(header, _)| header == name)?;
        Some(String::from_utf8(found.1.clone()?).unwrap())
    };
    match (header("tidewatch-stream"), header("__streams.errors.exception")) {
        (Some(stream), Some(reason)) => (stream, reason),
        _ => {
            let letter: DeadLetter = wire::decode(row.value.as_ref().unwrap()).unwrap();
            (letter.stream, letter.reason)
        }
    }
}

fn every_count_is_the_truths_and_order_changes_no_window(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "disorder");
    publish(&corner, "as-it-comes");
    let rows = corner.read(&corner.topic("as-it-comes", "truth"));
    let mut truth: Vec<Disorder> = rows.iter().filter_map(|row| wire::decode(row.value.as_ref()?).ok()).collect();
    truth.sort_by(|a, b| (&a.stream, a.partition).cmp(&(&b.stream, b.partition)));
    let generator = Scenario::shipped("disorder").unwrap().generator(SEED, PARTITIONS);
    let mut wanted = generator.disorder();
    wanted.sort_by(|a, b| (&a.stream, a.partition).cmp(&(&b.stream, b.partition)));
    assert_eq!(truth, wanted, "the truth topic says what the generator says");
    assert_eq!(rows.len(), truth.len() + generator.truth().count());

    let scored = truth.iter().map(|truth| truth.scored).sum();
    let metrics = process(&corner, "as-it-comes", scored);
    check_counts(&corner, "as-it-comes", &truth, &metrics);

    publish_in_order(&corner, "in-order", &generator);
    check_windows(metrics, process(&corner, "in-order", scored));
}

/// Read, scored, late, duplicate and dead, of each partition.
fn check_counts(corner: &Corner, run: &str, truth: &[Disorder], metrics: &[WindowMetric]) {
    let mut dead = BTreeMap::<(String, String), i64>::new();
    for row in corner.read(&corner.topic(run, "dead_letters")) {
        *dead.entry(letter(&row)).or_default() += 1;
    }
    let mut wanted = BTreeMap::<(String, String), i64>::new();
    for truth in truth {
        for (reason, count) in &truth.dead_letters {
            *wanted.entry((truth.stream.clone(), reason.clone())).or_default() += count;
        }
    }
    assert_eq!(dead, wanted);
    let late: Vec<Late> = corner
        .read(&corner.topic(run, "late"))
        .iter()
        .map(|row| wire::decode(row.value.as_ref().unwrap()).unwrap())
        .collect();
    let lags = corner.admin.lag(
        &format!("{}.{run}", corner.name),
        &input_topics(corner, run).iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let lags = lags.unwrap();
    for truth in truth {
        let topic = corner.topic(run, &truth.stream);
        let lag = lags.iter().find(|lag| *lag.topic == *topic && lag.partition == truth.partition).unwrap();
        assert_eq!((lag.committed, lag.lag), (Some(truth.sent), 0), "{topic}");
        let is_here = |stream: &str, partition: i32| (stream, partition) == (truth.stream.as_str(), truth.partition);
        let scored: i64 =
            metrics.iter().filter(|metric| is_here(&metric.stream, metric.partition)).map(|metric| metric.count).sum();
        let late = late.iter().filter(|late| is_here(&late.stream, late.partition)).count() as i64;
        // What was read and is nowhere was a duplicate: nothing else may be missing.
        let dead: i64 = truth.dead_letters.values().sum();
        assert_eq!(
            (scored, late, truth.sent - scored - late - dead),
            (truth.scored, truth.late, truth.duplicates),
            "{topic} {}",
            truth.partition
        );
    }
}

/// Windows are the same, but for the last bits of sums whose order differed.
fn check_windows(disordered: Vec<WindowMetric>, ordered: Vec<WindowMetric>) {
    let by_window = |metrics: Vec<WindowMetric>| -> BTreeMap<_, _> {
        let key = |metric: &WindowMetric| (metric.stream.clone(), metric.entity.clone(), metric.window_start);
        metrics.into_iter().map(|metric| (key(&metric), metric)).collect()
    };
    let (found, wanted) = (by_window(disordered), by_window(ordered));
    assert!(found.keys().eq(wanted.keys()), "{} windows, {} in order", found.len(), wanted.len());
    for (key, wanted) in &wanted {
        let found = &found[key];
        let exact = |metric: &WindowMetric| (metric.count, metric.min, metric.max, metric.p50, metric.p95, metric.p99);
        assert_eq!(exact(found), exact(wanted), "{key:?}");
        let sums = |metric: &WindowMetric| [metric.sum, metric.mean, metric.stddev];
        for (found, wanted) in sums(found).into_iter().zip(sums(wanted)) {
            assert!((found - wanted).abs() <= 1e-9 * wanted.abs().max(1.0), "{key:?}: {found} and {wanted}");
        }
    }
}
