//! The crate on both brokers: one of each for all tests of this binary, topics and groups of its own for each test. Only
//! [`security`] needs an Apache Kafka that is set up for it.
#![allow(clippy::unwrap_used)]

mod admin;
mod group;
mod round_trip;
mod security;
mod transactions;

use std::time::{Duration, Instant};

use tidewatch_topic_io::{
    Admin, GroupEvent, GroupOptions, GroupReader, KafkaConfig, Outgoing, PartitionReader, StartAt, TopicSpec, Writer,
};

/// Ends a test that has failed; nothing that succeeds waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

fn create(kafka: &KafkaConfig, topic: &str, partitions: i32) {
    Admin::connect(kafka).unwrap().ensure_topics(&[TopicSpec::new(topic, partitions)]).unwrap();
}

/// Writes `count` records to each partition, valued `p:i`, and waits for them.
fn write(kafka: &KafkaConfig, topic: &str, partitions: i32, from: usize, count: usize) {
    let mut writer = Writer::new(kafka).unwrap();
    for index in from..from + count {
        for partition in 0..partitions {
            let value = format!("{partition}:{index}");
            let record = Outgoing { partition: Some(partition), ..Outgoing::new(topic, b"key", value.as_bytes()) };
            writer.send(record).unwrap();
        }
    }
    writer.flush(PATIENCE).unwrap();
}

/// All that a reader of committed (or all) records finds in a topic, partition after partition: `p@offset=value`.
fn contents(kafka: &KafkaConfig, topic: &str, partitions: i32, read_committed: bool) -> Vec<String> {
    let mut reader = PartitionReader::new(kafka, read_committed).unwrap();
    let all: Vec<_> = (0..partitions).map(|partition| (topic, partition, StartAt::Beginning)).collect();
    reader.assign(&all).unwrap();
    let (mut found, start) = (Vec::new(), Instant::now());
    while !reader.is_at_end() {
        assert!(start.elapsed() < PATIENCE, "the end of {topic} does not come");
        let batch = reader.read(1000, Duration::from_millis(100)).unwrap();
        found.extend(batch.iter().map(|m| {
            (m.partition(), m.offset(), m.value().map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default())
        }));
    }
    found.sort();
    found.into_iter().map(|(_, _, value)| value).collect()
}

fn join(kafka: &KafkaConfig, group: &str, topic: &str) -> GroupReader {
    GroupReader::new(kafka, group, &[topic], GroupOptions::default()).unwrap()
}

/// Serves the group once, starting where the group left off.
fn serve(reader: &mut GroupReader) -> Vec<GroupEvent> {
    reader.serve_group(&mut |_, _, _| StartAt::Committed).unwrap()
}

/// Serves the group until something happened.
fn next_events(reader: &mut GroupReader) -> Vec<GroupEvent> {
    let start = Instant::now();
    loop {
        let events = serve(reader);
        if !events.is_empty() {
            return events;
        }
        assert!(start.elapsed() < PATIENCE, "nothing happens in the group");
        assert!(reader.read(1, Duration::from_millis(10)).unwrap().is_empty(), "no partition yet, so no message");
    }
}

/// Reads until `count` messages came: `p@offset=value` as `(partition, offset, value)`.
fn read_values(reader: &mut GroupReader, count: usize) -> Vec<(i32, i64, String)> {
    let (mut found, start) = (Vec::new(), Instant::now());
    while found.len() < count {
        assert!(start.elapsed() < PATIENCE, "{} of {count} messages came", found.len());
        let batch = reader.read(count - found.len(), Duration::from_millis(100)).unwrap();
        found.extend(
            batch.iter().map(|m| {
                (m.partition(), m.offset(), String::from_utf8_lossy(m.value().unwrap_or_default()).into_owned())
            }),
        );
    }
    found
}
