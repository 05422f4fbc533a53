//! The producer on a broker: what was published is what is read, record by record.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tidewatch_producer::generator::{Generator, StreamPartition};
use tidewatch_producer::progress::Progress;
use tidewatch_producer::publisher::{PublishJob, PublishSummary, publish};
use tidewatch_producer::replay::{EntitySource, ReplayJob, replay};
use tidewatch_producer::scenario::Scenario;
use tidewatch_producer::schedule::Pace;
use tidewatch_producer::stream::StreamKind;
use tidewatch_schemas::catalogue::Topics;
use tidewatch_schemas::record::Truth;
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_topic_io::{Admin, KafkaConfig, PartitionReader, StartAt, TopicSpec};

const PARTITIONS: i32 = 3;

tidewatch_test_brokers::on_both_brokers!(
    a_scenario_published_in_two_parts_is_read_back_whole,
    a_recorded_file_is_read_back,
    what_is_missing_is_said_in_one_line_before_anything_is_sent,
);

/// Topics of a test's own.
fn topics(test: &str) -> Topics {
    let name = |stream: &str| format!("{test}.{stream}");
    Topics {
        service_calls: name("service-calls"),
        infrastructure: name("infrastructure"),
        beacons: name("beacons"),
        checks: name("checks"),
        truth: name("truth"),
        ..Topics::default()
    }
}

fn create(kafka: &KafkaConfig, topics: &[(&str, i32)]) {
    // Event times lie in the past: nothing may expire.
    let spec =
        |(name, partitions): &(&str, i32)| TopicSpec { retention_ms: Some(-1), ..TopicSpec::new(*name, *partitions) };
    let specs: Vec<TopicSpec> = topics.iter().map(spec).collect();
    Admin::connect(kafka).unwrap().ensure_topics(&specs).unwrap();
}

fn create_all(kafka: &KafkaConfig, topics: &Topics) {
    let inputs = StreamKind::ALL.map(|stream| (stream.topic(topics), PARTITIONS));
    create(kafka, &inputs);
    create(kafka, &[(&topics.truth, 1)]);
}

/// Key, value, timestamp, intended time.
type Read = (Vec<u8>, Vec<u8>, i64, Option<u64>);

fn read(kafka: &KafkaConfig, topic: &str, partition: i32) -> Vec<Read> {
    let mut reader = PartitionReader::new(kafka, true).unwrap();
    reader.assign(&[(topic, partition, StartAt::Beginning)]).unwrap();
    let mut all = Vec::new();
    while !reader.is_at_end() {
        for message in reader.read(1000, Duration::from_secs(5)).unwrap().iter() {
            let intended =
                message.header("tidewatch-intended-ms").map(|ms| std::str::from_utf8(ms).unwrap().parse().unwrap());
            let (key, value) = (message.key().unwrap().to_vec(), message.value().unwrap().to_vec());
            all.push((key, value, message.timestamp_ms().unwrap(), intended));
        }
    }
    all
}

fn expected(generator: &Generator, place: StreamPartition) -> Vec<(Vec<u8>, Vec<u8>, i64)> {
    let mut events = generator.events(place, 0);
    let mut all = Vec::new();
    while let Some(event) = events.next_event() {
        let mut value = Vec::new();
        event.encode(Framing::SingleObject, &mut value);
        all.push((event.entity.as_bytes().to_vec(), value, event.event_time));
    }
    all
}

fn run(job: &PublishJob<'_>) -> PublishSummary {
    publish(job, &Progress::new(), &AtomicBool::new(false)).unwrap()
}

fn a_scenario_published_in_two_parts_is_read_back_whole(bootstrap_servers: &str) {
    let (kafka, topics) = (KafkaConfig::at(bootstrap_servers), topics("two-parts"));
    create_all(&kafka, &topics);
    let scenario = Scenario::shipped("smoke").unwrap();
    let job = PublishJob {
        scenario: &scenario,
        seed: 7,
        events: Some(12_345),
        pace: Pace::Unlimited,
        threads: 2,
        partitions: PARTITIONS,
        framing: Framing::SingleObject,
        topics: &topics,
        kafka: &kafka,
        truth: true,
        resume_from: BTreeMap::new(),
    };
    let first = run(&job);
    assert_eq!((first.events(), first.failed, first.stopped), (12_345, 0, false));
    let rest = PublishJob { events: None, threads: 1, truth: false, resume_from: first.positions.clone(), ..job };
    let second = run(&rest);
    assert_eq!(first.events() + second.events(), 20_000);

    let generator = scenario.generator(7, PARTITIONS);
    for stream in StreamKind::ALL {
        for partition in 0..PARTITIONS {
            let read = read(&kafka, stream.topic(&topics), partition);
            assert!(read.iter().all(|(_, _, _, intended)| intended.is_some()));
            let read: Vec<_> = read.into_iter().map(|(key, value, time, _)| (key, value, time)).collect();
            let wanted = expected(&generator, StreamPartition { stream, partition });
            assert!(read == wanted, "{stream:?} {partition}: {} read, {} wanted", read.len(), wanted.len());
        }
    }
    let truth: Vec<Truth> =
        read(&kafka, &topics.truth, 0).iter().map(|(_, value, _, _)| wire::decode(value).unwrap()).collect();
    let limited = scenario.generator(7, PARTITIONS).limited(12_345);
    assert_eq!(truth, limited.truth().cloned().collect::<Vec<_>>());
    assert!(!truth.is_empty());
}

fn a_recorded_file_is_read_back(bootstrap_servers: &str) {
    let kafka = KafkaConfig::at(bootstrap_servers);
    create(&kafka, &[("recorded", 2)]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("series.csv");
    let rows: String = (0..500).map(|n| format!("{},{}\n", 1_700_000_000 + 60 * n, n)).collect();
    std::fs::write(&file, format!("timestamp,value\n{rows}oops,1\n")).unwrap();
    let job = ReplayJob {
        file,
        topic: "recorded".to_owned(),
        partitions: 2,
        time_column: None,
        value_columns: Vec::new(),
        entity: EntitySource::Literal { field: "machine".to_owned(), value: "m1".to_owned() },
        pace: Pace::Speed(1e9),
        strict: false,
        kafka: &kafka,
    };
    let summary = replay(&job, &Progress::new(), &AtomicBool::new(false)).unwrap();
    assert_eq!((summary.published, summary.rows_broken), (500, 1));
    assert_eq!(summary.broken[0].line, 502);
    let read: Vec<Read> = (0..2).flat_map(|partition| read(&kafka, "recorded", partition)).collect();
    assert_eq!(read.len(), 500);
    for (n, (key, value, time, _)) in (0..).zip(&read) {
        assert_eq!((key.as_slice(), *time), (&b"m1"[..], 1_700_000_000_000 + 60_000 * n));
        let json: serde_json::Value = serde_json::from_slice(value).unwrap();
        assert_eq!(json, serde_json::json!({"machine": "m1", "timestamp": *time, "value": n as f64}));
    }
}

fn what_is_missing_is_said_in_one_line_before_anything_is_sent(bootstrap_servers: &str) {
    let (kafka, topics) = (KafkaConfig::at(bootstrap_servers), topics("missing"));
    let scenario = Scenario::shipped("smoke").unwrap();
    let check = |kafka: &KafkaConfig, partitions: i32, wanted: &str| {
        let job = PublishJob {
            scenario: &scenario,
            seed: 1,
            events: None,
            pace: Pace::Unlimited,
            threads: 1,
            partitions,
            framing: Framing::SingleObject,
            topics: &topics,
            kafka,
            truth: true,
            resume_from: BTreeMap::new(),
        };
        let error = publish(&job, &Progress::new(), &AtomicBool::new(false)).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
        assert!(!error.contains('\n'), "{error}");
    };
    check(&kafka, PARTITIONS, "topic \"missing.service-calls\" does not exist: ");
    create_all(&kafka, &topics);
    check(&kafka, 5, "topic \"missing.service-calls\" has 3 partitions, 5 are configured: ");
    // A port that nobody listens on: bound, and let go.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = KafkaConfig {
        bootstrap_servers: format!("127.0.0.1:{port}"),
        connect_timeout: Duration::from_millis(500),
        ..KafkaConfig::default()
    };
    check(&nobody, PARTITIONS, &format!("no broker answers at kafka.bootstrap_servers = \"127.0.0.1:{port}\""));
    assert!(read(&kafka, &topics.service_calls, 0).is_empty());
}
