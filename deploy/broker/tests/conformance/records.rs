//! What is written is read: codecs, keys, headers, timestamps, sizes.

use rdkafka::Timestamp;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use crate::ask::{bounds, produce, topic};
use crate::clients::{Producer, read};
use crate::raw::{Author, Connection, batch_of, now_ms};
use crate::subject::Subject;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Records of every codec lie in one partition and are read by one reader.
fn every_codec_is_read_as_it_was_written(subject: &Subject) {
    let topic = topic(subject, "codecs", 1, &[]);
    let mut expected = Vec::new();
    for codec in CODECS {
        let producer = Producer::new(subject, &[("compression.codec", codec), ("linger.ms", "50")]);
        for index in 0..500 {
            let value = format!("{codec} {index} {}", "abc".repeat(index % 50));
            producer.send_value(&topic, 0, &value);
            expected.push(value);
        }
        assert_eq!(producer.offsets().len(), 500, "{codec}");
    }
    let rows = read(subject, &topic, 0, "read_uncommitted");
    assert_eq!(rows.iter().map(|row| row.value_text()).collect::<Vec<_>>(), expected);
    assert!(rows.iter().enumerate().all(|(index, row)| row.offset == index as i64));
}

/// A topic's own codec (`compression.type`) changes how records are kept, never what is read: the embedded broker,
/// which keeps batches as they were sent, takes the setting too.
fn a_topic_with_a_codec_of_its_own_is_read_as_it_was_written(subject: &Subject) {
    for codec in ["gzip", "snappy", "lz4", "zstd", "uncompressed"] {
        let topic = topic(subject, "own-codec", 1, &[("compression.type", codec)]);
        let producer = Producer::new(subject, &[("compression.codec", "lz4"), ("linger.ms", "50")]);
        let values: Vec<String> = (0..50).map(|index| format!("value {index}")).collect();
        values.iter().for_each(|value| producer.send_value(&topic, 0, value));
        assert_eq!(producer.offsets(), (0..50).collect::<Vec<_>>());
        let rows = read(subject, &topic, 0, "read_uncommitted");
        assert_eq!(rows.iter().map(|row| row.value_text()).collect::<Vec<_>>(), values, "{codec}");
    }
}

fn keys_values_and_headers_keep_the_difference_between_null_and_empty(subject: &Subject) {
    let topic = topic(subject, "nulls", 1, &[]);
    let producer = Producer::new(subject, &[("linger.ms", "50")]);
    type Bytes<'a> = Option<&'a [u8]>;
    let cases: [(Bytes<'_>, Bytes<'_>); 5] = [
        (None, Some(b"value")),
        (Some(b"key"), None),
        (Some(b""), Some(b"")),
        (None, None),
        (Some(b"\x00\xff"), Some(b"\xfe\x00")),
    ];
    let headers = || {
        let twice = OwnedHeaders::new()
            .insert(Header { key: "a", value: Some("1") })
            .insert(Header { key: "a", value: Some("2") });
        twice
            .insert(Header { key: "empty", value: Some("") })
            .insert(Header::<'_, &str> { key: "null", value: None })
            .insert(Header { key: "", value: Some("no name") })
    };
    for (key, value) in cases {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&topic).partition(0).headers(headers());
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(value) = value {
            record = record.payload(value);
        }
        producer.send(record);
    }
    assert_eq!(producer.offsets(), [0, 1, 2, 3, 4]);
    let rows = read(subject, &topic, 0, "read_committed");
    let expected_headers =
        [("a", Some("1")), ("a", Some("2")), ("empty", Some("")), ("null", None), ("", Some("no name"))];
    let expected_headers = expected_headers.map(|(key, value)| (key.to_owned(), value.map(|v| v.as_bytes().to_vec())));
    for (row, (key, value)) in rows.iter().zip(cases) {
        assert_eq!((row.key.as_deref(), row.value.as_deref()), (key, value), "offset {}", row.offset);
        assert_eq!(row.headers, expected_headers, "offset {}", row.offset);
    }
    assert_eq!(rows.len(), cases.len());
}

fn timestamps_are_the_producers_or_those_of_the_append(subject: &Subject) {
    let created = topic(subject, "create-time", 1, &[]);
    let appended = topic(subject, "append-time", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let mut connection = Connection::open(subject);
    let before = now_ms();
    let times = [before - 3_600_000, before + 60_000, 0, before];
    let records = times.map(|time| (None, Some("x"), time));

    let answer = produce(&mut connection, &created, 0, None, batch_of(Author::PLAIN, &records));
    assert_eq!((answer.error_code, answer.base_offset, answer.log_append_time_ms), (0, 0, -1));
    let rows = read(subject, &created, 0, "read_uncommitted");
    assert_eq!(rows.iter().map(|row| row.timestamp).collect::<Vec<_>>(), times.map(Timestamp::CreateTime));

    let answer = produce(&mut connection, &appended, 0, None, batch_of(Author::PLAIN, &records));
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    assert!((before..=now_ms()).contains(&answer.log_append_time_ms), "{}", answer.log_append_time_ms);
    let rows = read(subject, &appended, 0, "read_uncommitted");
    let one_time = Timestamp::LogAppendTime(answer.log_append_time_ms);
    assert_eq!(rows.iter().map(|row| row.timestamp).collect::<Vec<_>>(), [one_time; 4]);
}

fn a_timestamp_too_far_from_the_clock_is_refused_with_its_batch(subject: &Subject) {
    let settings = [("message.timestamp.after.max.ms", "60000"), ("message.timestamp.before.max.ms", "120000")];
    let bounded = topic(subject, "bounded-times", 1, &settings);
    let default = topic(subject, "default-times", 1, &[]);
    let mut connection = Connection::open(subject);
    let mut send = |topic: &str, ages: &[i64]| {
        let now = now_ms();
        let records: Vec<_> = ages.iter().map(|age| (None, Some("x"), now - age)).collect();
        produce(&mut connection, topic, 0, None, batch_of(Author::PLAIN, &records))
    };
    let good = send(&bounded, &[30_000, -30_000]);
    assert_eq!((good.error_code, good.base_offset), (0, 0));
    for (ages, bad) in [(&[0, -90_000][..], 1), (&[150_000, 0], 0)] {
        let answer = send(&bounded, ages);
        assert_eq!((answer.error_code, answer.base_offset), (32, -1), "{ages:?}: INVALID_TIMESTAMP");
        let named: Vec<i32> = answer.record_errors.iter().map(|record| record.batch_index).collect();
        assert_eq!(named, [bad], "{ages:?}: which record");
    }
    assert_eq!(send(&bounded, &[0]).base_offset, 2);

    assert_eq!(send(&default, &[-7_200_000]).error_code, 32, "an hour ahead is the default bound");
    let years = 10 * 365 * 24 * 3_600_000;
    assert_eq!(send(&default, &[years]).error_code, 0, "any time in the past is taken");
}

fn sizes_up_to_15_mb_pass_where_the_topic_allows_them(subject: &Subject) {
    let topic = topic(subject, "sizes", 1, &[("max.message.bytes", "16777216")]);
    let settings = [("message.max.bytes", "16000000"), ("compression.codec", "none")];
    let producer = Producer::new(subject, &settings);
    let sizes = [0_usize, 1, 100, 65_536, 1_048_576, 5_000_000, 15_000_000];
    for (index, size) in sizes.iter().enumerate() {
        let value: Vec<u8> = (0..*size).map(|at| (at.wrapping_mul(2_654_435_761) >> 7) as u8 ^ index as u8).collect();
        producer.send(BaseRecord::to(&topic).partition(0).key(&[index as u8][..]).payload(&value[..]));
        producer.inner.poll(std::time::Duration::ZERO);
    }
    assert_eq!(producer.offsets().len(), sizes.len());
    let rows = read(subject, &topic, 0, "read_uncommitted");
    assert_eq!(rows.len(), sizes.len());
    for (index, (row, size)) in rows.iter().zip(sizes).enumerate() {
        let value = row.value.as_deref().unwrap();
        assert_eq!(value.len(), size);
        let same = |(at, byte): (usize, &u8)| *byte == (at.wrapping_mul(2_654_435_761) >> 7) as u8 ^ index as u8;
        assert!(value.iter().enumerate().all(same), "{size} bytes");
    }
}

fn a_batch_larger_than_the_topic_allows_is_refused(subject: &Subject) {
    let topic = topic(subject, "small", 1, &[("max.message.bytes", "2000")]);
    let mut connection = Connection::open(subject);
    // A batch of one record of n bytes: 61 bytes of header, and the record's own 8 for this length.
    let of_size = |bytes: usize| {
        let value = "x".repeat(bytes - 61 - 9);
        let batch = batch_of(Author::PLAIN, &[(None, Some(&value), now_ms())]);
        assert_eq!(batch.len(), bytes);
        batch
    };
    let answer = produce(&mut connection, &topic, 0, None, of_size(2_000));
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    let answer = produce(&mut connection, &topic, 0, None, of_size(2_001));
    assert_eq!((answer.error_code, answer.base_offset), (10, -1), "MESSAGE_TOO_LARGE");
    assert_eq!(bounds(&mut connection, &topic, 0), (0, 1, 1));

    let producer = Producer::new(subject, &[("message.max.bytes", "16000000"), ("compression.codec", "none")]);
    producer.send_value(&topic, 0, &"y".repeat(3_000));
    producer.send_value(&topic, 0, "small enough");
    let outcomes: Vec<_> = producer.flush().into_iter().map(|delivery| delivery.outcome).collect();
    assert!(outcomes.contains(&Err(RDKafkaErrorCode::MessageSizeTooLarge)), "{outcomes:?}");
}

fn records_of_one_partition_keep_their_order_and_partitions_their_own_offsets(subject: &Subject) {
    let topic = topic(subject, "order", 3, &[]);
    let producer = Producer::new(subject, &[("enable.idempotence", "true"), ("linger.ms", "1")]);
    for index in 0..3_000 {
        producer.send_value(&topic, index % 3, &index.to_string());
    }
    assert_eq!(producer.offsets().len(), 3_000);
    for partition in 0..3 {
        let rows = read(subject, &topic, partition, "read_committed");
        let expected: Vec<(i64, String)> =
            (0..1_000).map(|at| (i64::from(at), (at * 3 + partition).to_string())).collect();
        assert_eq!(rows.iter().map(|row| (row.offset, row.value_text())).collect::<Vec<_>>(), expected);
    }
}

on_both!(
    every_codec_is_read_as_it_was_written,
    a_topic_with_a_codec_of_its_own_is_read_as_it_was_written,
    keys_values_and_headers_keep_the_difference_between_null_and_empty,
    timestamps_are_the_producers_or_those_of_the_append,
    a_timestamp_too_far_from_the_clock_is_refused_with_its_batch,
    sizes_up_to_15_mb_pass_where_the_topic_allows_them,
    a_batch_larger_than_the_topic_allows_is_refused,
    records_of_one_partition_keep_their_order_and_partitions_their_own_offsets,
);
