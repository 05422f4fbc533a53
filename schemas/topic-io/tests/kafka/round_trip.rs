//! What is written comes back as it was, headers, nulls and times included, in the partition of its key.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidewatch_topic_io::partitioner::partition_for;
use tidewatch_topic_io::{KafkaConfig, Outgoing, PartitionReader, StartAt, Writer};

use crate::{PATIENCE, contents, create, write};

tidewatch_test_brokers::on_both_brokers!(
    headers_nulls_and_times_come_back,
    a_key_lands_where_the_partitioner_says,
    a_hundred_thousand_records_of_many_partitions_all_come_in_order,
    a_reader_starts_and_ends_where_it_is_told,
);

fn headers_nulls_and_times_come_back(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "round-trip", 1);
    let mut writer = Writer::new(kafka).unwrap();
    let headers: [(&str, &[u8]); 3] = [("ce_type", b"tidewatch.alert.v1"), ("empty", b""), ("ce_type", &[0xff, 0])];
    let full =
        Outgoing { headers: &headers, timestamp_ms: Some(86_400_000), ..Outgoing::new("round-trip", b"k", b"v") };
    writer.send(full).unwrap();
    writer.send(Outgoing { key: None, value: Some(b""), ..full }).unwrap();
    writer.send(Outgoing { key: Some(b""), value: None, headers: &[], timestamp_ms: None, ..full }).unwrap();
    writer.flush(PATIENCE).unwrap();
    assert_eq!((writer.delivered(), writer.failed()), (3, 0));

    let mut reader = PartitionReader::new(kafka, true).unwrap();
    reader.assign(&[("round-trip", 0, StartAt::Beginning)]).unwrap();
    let start = Instant::now();
    let mut seen = Vec::new();
    while !reader.is_at_end() {
        assert!(start.elapsed() < PATIENCE);
        let batch = reader.read(10, Duration::from_millis(100)).unwrap();
        for message in batch.iter() {
            assert_eq!(message.topic(), "round-trip");
            let headers: Vec<_> =
                message.headers().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect();
            let key_and_value = (message.key().map(<[u8]>::to_vec), message.value().map(<[u8]>::to_vec));
            if message.offset() < 2 {
                assert_eq!(message.timestamp_ms(), Some(86_400_000));
                assert_eq!(message.header("ce_type"), Some(&b"tidewatch.alert.v1"[..]));
                assert_eq!(message.header("none"), None);
                assert_eq!(
                    headers,
                    [
                        ("ce_type".to_owned(), Some(b"tidewatch.alert.v1".to_vec())),
                        ("empty".to_owned(), Some(Vec::new())),
                        ("ce_type".to_owned(), Some(vec![0xff, 0])),
                    ]
                );
            } else {
                assert!(message.timestamp_ms().unwrap() > 1_600_000_000_000, "the client dates it now");
                assert!(headers.is_empty());
            }
            seen.push((message.offset(), key_and_value));
        }
    }
    assert_eq!(
        seen,
        [(0, (Some(b"k".to_vec()), Some(b"v".to_vec()))), (1, (None, Some(Vec::new()))), (2, (Some(Vec::new()), None)),]
    );
    assert_eq!(reader.end_offsets().unwrap(), [("round-trip".to_owned(), 0, 3)]);
}

fn a_key_lands_where_the_partitioner_says(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "by-key", 7);
    let mut writer = Writer::new(kafka).unwrap();
    let mut expected = BTreeMap::<i32, Vec<String>>::new();
    for index in 0..200 {
        let key = format!("service/{index}");
        writer.send(Outgoing::new("by-key", key.as_bytes(), key.as_bytes())).unwrap();
        expected.entry(partition_for(key.as_bytes(), 7)).or_default().push(key);
    }
    writer.flush(PATIENCE).unwrap();
    let expected: Vec<String> = expected.into_values().flatten().collect();
    assert_eq!(contents(kafka, "by-key", 7, true), expected);
}

fn a_hundred_thousand_records_of_many_partitions_all_come_in_order(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "many", 8);
    write(kafka, "many", 8, 0, 12_500);
    let found = contents(kafka, "many", 8, true);
    let expected = (0..8).flat_map(|partition| (0..12_500).map(move |index| format!("{partition}:{index}")));
    assert!(found.into_iter().eq(expected));
}

fn a_reader_starts_and_ends_where_it_is_told(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "part", 1);
    write(kafka, "part", 1, 0, 10);
    let mut reader = PartitionReader::new(kafka, true).unwrap();
    for (start, wanted) in [(StartAt::Offset(7), 3), (StartAt::Beginning, 10), (StartAt::End, 0)] {
        reader.assign(&[("part", 0, start)]).unwrap();
        assert!(!reader.is_at_end(), "the end is not known before it was seen");
        let (mut count, begun) = (0, Instant::now());
        while !reader.is_at_end() {
            assert!(begun.elapsed() < PATIENCE);
            count += reader.read(4, Duration::from_millis(100)).unwrap().len();
        }
        assert_eq!(count, wanted, "{start:?}");
        assert_eq!(reader.positions().collect::<Vec<_>>(), [("part", 0, 10)]);
    }
}
