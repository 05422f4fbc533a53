//! The shipped scenario `disorder` and its truth: in a decoder and an engine record by record, and through the real binary on both
//! brokers, where every count equals the truth's, the same events in order give the same windows, and silence closes windows.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

#[allow(dead_code)] // Nothing is cut off in the middle or compared byte for byte here.
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use support::{Corner, PATIENCE, Row};
use tidewatch_processor::decode::{Decoded, EventDecoder};
use tidewatch_processor_core::{Effects, Engine, Event, Ingested, StreamSettings};
use tidewatch_producer::disorder::Outcome;
use tidewatch_producer::generator::Generator;
use tidewatch_producer::scenario::Scenario;
use tidewatch_producer::stream::StreamKind;
use tidewatch_schemas::record::{Disorder, Late, WindowMetric};
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
         window = {{ tumbling = \"10s\" }}\ndisorder = \"1s\"\nlateness = \"9s\"\nrevisions = \"on\"\nidle_timeout = \"3s\"\n{id}\
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

/// The last revision of each window, by stream, entity and start.
type Windows = BTreeMap<(String, String, i64), WindowMetric>;

/// Processes a run's input until its windows hold so many events: until the clock has closed the last one.
fn process(corner: &Corner, run: &str, settings: &str, scored: i64) -> Windows {
    let mut process = corner.start(settings, &["process"]);
    let mut reader = corner.reader(&corner.topic(run, "metrics"));
    let (mut windows, mut told, mut held, mut quiet) = (Windows::new(), 0, 0, 0);
    while held < scored {
        assert!(!process.has_ended() && quiet < QUIET_MAX, "{held} of {scored} in windows: {}", process.log());
        let batch = reader.read(10_000, PATIENCE).unwrap();
        quiet = if batch.is_empty() { quiet + 1 } else { 0 };
        for message in batch.iter() {
            let metric: WindowMetric = wire::decode(message.value().unwrap()).unwrap();
            told += 1;
            held += metric.count;
            let key = (metric.stream.clone(), metric.entity.clone(), metric.window_start);
            let revision = metric.revision;
            let before = windows.insert(key, metric);
            held -= before.as_ref().map_or(0, |before| before.count);
            assert_eq!(revision, before.map_or(0, |before| before.revision + 1), "each is told once");
        }
    }
    process.signal("TERM");
    let (status, log) = process.finish();
    assert!(status.success(), "{log}");
    assert_eq!(corner.read(&corner.topic(run, "metrics")).len(), told, "nothing is told after all is in windows");
    windows
}

/// Stream and reason of a dead letter.
fn letter(row: &Row) -> (String, String) {
    let header = |name: &str| {
        let (_, value) = row.headers.iter().find(|(header, _)| header == name).unwrap();
        String::from_utf8(value.clone().unwrap()).unwrap()
    };
    (header("tidewatch-stream"), header("__streams.errors.exception"))
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

    let calls = corner.read(&corner.topic("as-it-comes", StreamKind::ServiceCalls.name()));
    assert!(calls.iter().any(|row| row.key.is_none()) && calls.iter().any(|row| row.headers.len() > 1_000));
    let scored = truth.iter().map(|truth| truth.scored).sum();
    let settings = |run: &str| format!("{}{}", corner.outputs(run, PARTITIONS), streams(&corner, run));
    let declared = settings("as-it-comes");
    let windows = process(&corner, "as-it-comes", &declared, scored);
    check_counts(&corner, "as-it-comes", &declared, &truth, &windows);
    let revised = windows.values().filter(|metric| metric.revision > 0).count();
    assert!(revised > windows.len() / 100, "{revised} of {} windows were told again", windows.len());

    publish_in_order(&corner, "in-order", &generator);
    check_windows(&windows, &process(&corner, "in-order", &settings("in-order"), scored));
}

/// The ledger of each partition, and what stands on the topics.
fn check_counts(corner: &Corner, run: &str, settings: &str, truth: &[Disorder], windows: &Windows) {
    let (code, out, err) = corner.ask(settings, &["ledger", "--json"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let balance: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&balance["total"]["residue"], balance["problems"].as_array().unwrap().len()), (&0.into(), 0));
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
    let late = corner.read(&corner.topic(run, "late"));
    let late: Vec<Late> = late.iter().map(|row| wire::decode(row.value.as_ref().unwrap()).unwrap()).collect();
    for truth in truth {
        let is_here = |stream: &str, partition: i32| (stream, partition) == (truth.stream.as_str(), truth.partition);
        let ledgers = balance["partitions"].as_array().unwrap();
        let is_its =
            |ledger: &&Value| is_here(ledger["stream"].as_str().unwrap(), ledger["partition"].as_i64().unwrap() as i32);
        let ledger = ledgers.iter().find(is_its).unwrap();
        let told = ["read", "scored", "late", "duplicate", "dead_lettered", "filtered", "lag"]
            .map(|name| ledger[name].as_i64().unwrap());
        let letters = truth.dead_letters.values().sum();
        assert_eq!(told, [truth.sent, truth.scored, truth.late, truth.duplicates, letters, 0, 0], "{ledger}");
        let windows = windows.values().filter(|metric| is_here(&metric.stream, metric.partition));
        assert_eq!(windows.map(|metric| metric.count).sum::<i64>(), truth.scored, "each in one window: {ledger}");
        let late = late.iter().filter(|late| is_here(&late.stream, late.partition));
        assert_eq!(late.count() as i64, truth.late, "{ledger}");
    }
}

/// Windows are the same, but for the last bits of sums whose order differed.
fn check_windows(found: &Windows, wanted: &Windows) {
    assert!(found.keys().eq(wanted.keys()), "{} windows, {} in order", found.len(), wanted.len());
    for (key, wanted) in wanted {
        let found = &found[key];
        let exact = |metric: &WindowMetric| (metric.count, metric.min, metric.max, metric.p50, metric.p95, metric.p99);
        assert_eq!(exact(found), exact(wanted), "{key:?}");
        let sums = |metric: &WindowMetric| [metric.sum, metric.mean, metric.stddev];
        for (found, wanted) in sums(found).into_iter().zip(sums(wanted)) {
            assert!((found - wanted).abs() <= 1e-9 * wanted.abs().max(1.0), "{key:?}: {found} and {wanted}");
        }
    }
}
