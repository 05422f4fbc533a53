//! Reading: bounds of a fetch, waiting, offsets by time, seeking, beyond the end, deleted records.

use std::time::{Duration, Instant};

use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_records_response::DeleteRecordsPartitionResult;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    DeleteRecordsRequest, FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest, ProduceRequest,
};
use rdkafka::consumer::Consumer as _;
use rdkafka::producer::BaseRecord;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::ask::{
    COMMITTED, FetchOptions, LATEST, MAX_TIMESTAMP, UNCOMMITTED, bounds, fetch, fetch_request, list_offset,
    metadata_of, produce, produce_request, produce_values, topic, values,
};
use crate::clients::{Producer, consumer, next, read_from};
use crate::raw::{Author, Connection, batch, batch_of, now_ms, records_of, topic_name};
use crate::subject::{PATIENCE, Subject, eventually};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const UNKNOWN_LEADER_EPOCH: i16 = 75;

/// The end of whole batches in what may end with a part of one.
fn whole_batches(records: &[u8]) -> Vec<i64> {
    let mut rest = records;
    let mut base_offsets = Vec::new();
    while rest.len() >= 12 {
        let length = 12 + i32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
        if length > rest.len() {
            break;
        }
        base_offsets.push(i64::from_be_bytes(rest[..8].try_into().unwrap()));
        rest = &rest[length..];
    }
    base_offsets
}

fn a_fetch_gives_the_first_batch_whatever_its_size_and_no_more_than_asked(subject: &Subject) {
    let topic = topic(subject, "sizes", 2, &[]);
    let mut connection = Connection::open(subject);
    let thousand = "x".repeat(1_000);
    for partition in 0..2 {
        for _ in 0..5 {
            produce_values(&mut connection, &topic, partition, &[&thousand]);
        }
    }
    let mut ask = |partition_max_bytes, max_bytes| {
        let options = FetchOptions { partition_max_bytes, max_bytes, ..Default::default() };
        whole_batches(&fetch(&mut connection, &topic, 0, 1, options).records.unwrap_or_default())
    };
    assert_eq!(ask(1, 1), [1], "the first batch is always given");
    assert_eq!(ask(1_500, 1 << 20), [1]);
    assert_eq!(ask(2_500, 1 << 20), [1, 2]);
    assert_eq!(ask(1 << 20, 2_500), [1, 2], "the whole answer's bound counts too");
    assert_eq!(ask(1 << 20, 1 << 20), [1, 2, 3, 4]);

    // Of several partitions only the first is given more than fits.
    let wanted = |partition| FetchPartition::default().with_partition(partition).with_partition_max_bytes(1);
    let topic = FetchTopic::default().with_topic(topic_name(&topic)).with_partitions(vec![wanted(1), wanted(0)]);
    let request = FetchRequest::default().with_max_wait_ms(0).with_max_bytes(1 << 20).with_topics(vec![topic]);
    let partitions = connection.ask(12, request).responses.remove(0).partitions;
    let given: Vec<(i32, usize)> = partitions
        .iter()
        .map(|data| (data.partition_index, whole_batches(data.records.as_deref().unwrap_or_default()).len()))
        .collect();
    assert_eq!(given, [(1, 1), (0, 0)]);
}

fn an_offset_in_the_middle_of_a_batch_gives_the_whole_batch(subject: &Subject) {
    let topic = topic(subject, "middle", 1, &[]);
    let mut connection = Connection::open(subject);
    produce_values(&mut connection, &topic, 0, &["a", "b", "c", "d"]);
    let data = fetch(&mut connection, &topic, 0, 2, FetchOptions::default());
    assert_eq!(records_of(&data.records.unwrap()).len(), 4, "a reader skips what it did not ask for");
    let rows = read_from(subject, &topic, 0, Offset::Offset(2), "read_uncommitted");
    assert_eq!(rows.iter().map(|row| row.value_text()).collect::<Vec<_>>(), ["c", "d"]);
}

fn a_fetch_waits_for_its_bytes_and_no_longer_than_its_time(subject: &Subject) {
    let topic = topic(subject, "waits", 1, &[]);
    let mut connection = Connection::open(subject);
    let mut other = Connection::open(subject);
    let wait = |max_wait_ms, min_bytes| FetchOptions { max_wait_ms, min_bytes, ..Default::default() };

    let began = Instant::now();
    let data = fetch(&mut connection, &topic, 0, 0, wait(400, 1));
    assert!(began.elapsed() >= Duration::from_millis(390), "{:?}", began.elapsed());
    assert!(data.records.unwrap_or_default().is_empty());

    // It is woken by a record long before its time is over.
    connection.start(12, &fetch_request(&topic, 0, 0, wait(300_000, 1)));
    assert!(connection.is_silent_for(Duration::from_millis(100)));
    produce_values(&mut other, &topic, 0, &["wakes"]);
    let data = connection.finish::<FetchRequest>(12).responses.remove(0).partitions.remove(0);
    assert_eq!(whole_batches(&data.records.unwrap()), [0]);

    // One record is not enough for whom 150 bytes are the least, three are.
    connection.start(12, &fetch_request(&topic, 0, 1, wait(300_000, 150)));
    produce_values(&mut other, &topic, 0, &["1"]);
    assert!(connection.is_silent_for(Duration::from_millis(100)));
    produce_values(&mut other, &topic, 0, &["2"]);
    produce_values(&mut other, &topic, 0, &["3"]);
    let data = connection.finish::<FetchRequest>(12).responses.remove(0).partitions.remove(0);
    assert!(whole_batches(&data.records.unwrap()).len() >= 2);

    // An error is told at once.
    let began = Instant::now();
    let data = fetch(&mut connection, &topic, 0, 99, wait(300_000, 1));
    assert_eq!(data.error_code, OFFSET_OUT_OF_RANGE);
    assert!(began.elapsed() < PATIENCE);
}

fn requests_of_one_connection_are_answered_in_their_order(subject: &Subject) {
    let topic = topic(subject, "pipelined", 1, &[]);
    let mut connection = Connection::open(subject);
    for value in ["a", "b", "c"] {
        connection.start(9, &produce_request(&topic, 0, None, batch(Author::PLAIN, &[value])));
    }
    let answers: Vec<i64> = (0..3)
        .map(|behind| {
            let response = connection.finish_earlier::<ProduceRequest>(9, 2 - behind);
            response.responses[0].partition_responses[0].base_offset
        })
        .collect();
    assert_eq!(answers, [0, 1, 2]);
    assert_eq!(values(&mut connection, &topic, 0, 0), ["a", "b", "c"]);
}

fn a_fetch_of_what_is_not_there_is_refused_by_its_own_error(subject: &Subject) {
    let topic = topic(subject, "not-there", 1, &[]);
    let mut connection = Connection::open(subject);
    produce_values(&mut connection, &topic, 0, &["a", "b"]);
    let mut ask = |topic: &str, partition, offset| {
        let data = fetch(&mut connection, topic, partition, offset, FetchOptions::default());
        (data.error_code, data.high_watermark)
    };
    assert_eq!(ask(&topic, 0, 2), (0, 2), "the end is a place to wait at");
    assert_eq!(ask(&topic, 0, 3), (OFFSET_OUT_OF_RANGE, -1));
    assert_eq!(ask(&topic, 0, -1), (OFFSET_OUT_OF_RANGE, -1));
    assert_eq!(ask(&topic, 1, 0), (UNKNOWN_TOPIC_OR_PARTITION, -1));
    assert_eq!(ask("no-such-topic", 0, 0), (UNKNOWN_TOPIC_OR_PARTITION, -1));

    let with_epoch = |epoch| {
        let mut request = fetch_request(&topic, 0, 0, FetchOptions::default());
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        request
    };
    let mut error = |epoch| connection.ask(12, with_epoch(epoch)).responses[0].partitions[0].error_code;
    assert_eq!((error(0), error(1)), (0, UNKNOWN_LEADER_EPOCH));
    let mut request = fetch_request(&topic, 0, 0, FetchOptions::default());
    (request.session_id, request.session_epoch) = (123_456, 3);
    let answer = connection.ask(12, request);
    assert_eq!(answer.error_code, 70, "FETCH_SESSION_ID_NOT_FOUND");
}

fn offsets_are_found_by_time_within_a_compressed_batch(subject: &Subject) {
    let base = now_ms() - 1_000_000;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = topic(subject, "by-time", 1, &[]);
        let producer = Producer::new(subject, &[("compression.codec", codec), ("linger.ms", "1000")]);
        // Ten records in a batch, and their times go up and down: the first at or after a time is wanted.
        let times = [0, 10, 20, 15, 40, 30, 60, 50, 70, 70].map(|time| base + time);
        for time in times {
            let record: BaseRecord<'_, [u8], [u8]> =
                BaseRecord::to(&topic).partition(0).payload(&b"value"[..]).timestamp(time);
            producer.send(record);
        }
        assert_eq!(producer.offsets().len(), 10);
        let mut connection = Connection::open(subject);
        for (time, expected) in [
            (-1_000, Some((0, 0))),
            (0, Some((0, 0))),
            (1, Some((1, 10))),
            (15, Some((2, 20))),
            (21, Some((4, 40))),
            (40, Some((4, 40))),
            (45, Some((6, 60))),
            (61, Some((8, 70))),
            (70, Some((8, 70))),
            (71, None),
        ] {
            let answer = list_offset(&mut connection, &topic, 0, base + time, UNCOMMITTED);
            let (offset, time_found) = expected.map_or((-1, -1), |(offset, time)| (offset, base + time));
            assert_eq!((answer.error_code, answer.offset, answer.timestamp), (0, offset, time_found), "{codec} {time}");
        }
        let greatest = list_offset(&mut connection, &topic, 0, MAX_TIMESTAMP, UNCOMMITTED);
        assert_eq!((greatest.offset, greatest.timestamp), (8, base + 70), "{codec}: the first of the greatest");
    }
}

fn offsets_are_found_by_time_over_many_batches(subject: &Subject) {
    let topic = topic(subject, "by-time", 1, &[("segment.bytes", "1048576")]);
    let mut connection = Connection::open(subject);
    let base = now_ms() - 10_000_000;
    // 300 batches of two records, 10 s apart; 16 KiB each, so that they lie in several segments.
    let padding = "x".repeat(8_000);
    for index in 0..300 {
        let time = base + 10_000 * index;
        let records = [(None, Some(padding.as_str()), time), (None, Some(padding.as_str()), time + 5_000)];
        let answer = produce(&mut connection, &topic, 0, None, batch_of(Author::PLAIN, &records));
        assert_eq!((answer.error_code, answer.base_offset), (0, index * 2));
    }
    for record in [0, 1, 2, 77, 150, 399, 598, 599] {
        let time = base + 5_000 * record;
        for (asked, expected) in
            [(time, record), (time - 1, record), (time - 4_999, record), (time - 5_000, record - 1)]
        {
            let answer = list_offset(&mut connection, &topic, 0, asked, UNCOMMITTED);
            assert_eq!(answer.offset, expected.max(0), "record {record}, {} ms before", time - asked);
        }
    }
    assert_eq!(list_offset(&mut connection, &topic, 0, base + 5_000 * 599 + 1, COMMITTED).offset, -1);
    assert_eq!(list_offset(&mut connection, &topic, 0, MAX_TIMESTAMP, COMMITTED).offset, 599);
}

fn bounds_of_an_empty_and_of_an_unknown_partition(subject: &Subject) {
    let topic = topic(subject, "empty", 1, &[]);
    let mut connection = Connection::open(subject);
    assert_eq!(bounds(&mut connection, &topic, 0), (0, 0, 0));
    let greatest = list_offset(&mut connection, &topic, 0, MAX_TIMESTAMP, UNCOMMITTED);
    assert_eq!((greatest.error_code, greatest.offset, greatest.timestamp), (0, -1, -1));
    let at_zero = list_offset(&mut connection, &topic, 0, 0, UNCOMMITTED);
    assert_eq!((at_zero.error_code, at_zero.offset, at_zero.timestamp), (0, -1, -1));
    for (name, partition) in [(topic.as_str(), 3), ("no-such-topic", 0)] {
        let unknown = list_offset(&mut connection, name, partition, LATEST, UNCOMMITTED);
        assert_eq!((unknown.error_code, unknown.offset), (UNKNOWN_TOPIC_OR_PARTITION, -1));
    }
    let latest = list_offset(&mut connection, &topic, 0, LATEST, UNCOMMITTED);
    assert_eq!((latest.timestamp, latest.leader_epoch), (-1, 0));
    let wanted = ListOffsetsPartition::default().with_timestamp(LATEST).with_current_leader_epoch(5);
    let wanted = ListOffsetsTopic::default().with_name(topic_name(&topic)).with_partitions(vec![wanted]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![wanted]);
    assert_eq!(connection.ask(7, request).topics[0].partitions[0].error_code, UNKNOWN_LEADER_EPOCH);
}

fn the_leader_epoch_never_changes(subject: &Subject) {
    let topic = topic(subject, "epochs", 1, &[]);
    let mut connection = Connection::open(subject);
    produce_values(&mut connection, &topic, 0, &["a", "b", "c"]);
    let mut ask = |current, epoch| {
        let wanted = OffsetForLeaderPartition::default().with_current_leader_epoch(current).with_leader_epoch(epoch);
        let wanted = OffsetForLeaderTopic::default().with_topic(topic_name(&topic)).with_partitions(vec![wanted]);
        let request = OffsetForLeaderEpochRequest::default().with_replica_id((-1).into()).with_topics(vec![wanted]);
        let told = connection.ask(4, request).topics.remove(0).partitions.remove(0);
        (told.error_code, told.leader_epoch, told.end_offset)
    };
    assert_eq!(ask(-1, 0), (0, 0, 3));
    assert_eq!(ask(0, 0), (0, 0, 3));
    assert_eq!(ask(-1, 5), (0, -1, -1), "an epoch that is not known");
    assert_eq!(ask(5, 0).0, UNKNOWN_LEADER_EPOCH);
    let data = fetch(&mut connection, &topic, 0, 0, FetchOptions::default());
    assert!(records_of(&data.records.unwrap()).iter().all(|record| record.partition_leader_epoch == 0));
}

fn a_consumer_seeks_to_and_fro_and_starts_anew_beyond_the_end(subject: &Subject) {
    let topic = topic(subject, "seeks", 1, &[]);
    let mut connection = Connection::open(subject);
    for index in 0..10 {
        produce_values(&mut connection, &topic, 0, &[&index.to_string()]);
    }
    let reader = consumer(subject, &[]);
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(&topic, 0, Offset::Beginning).unwrap();
    reader.assign(&assignment).unwrap();
    assert_eq!(next(&reader).unwrap().offset, 0);
    for offset in [7, 2, 9, 0] {
        reader.seek(&topic, 0, Offset::Offset(offset), PATIENCE).unwrap();
        assert_eq!(next(&reader).unwrap().offset, offset);
    }
    reader.seek(&topic, 0, Offset::Offset(1_000), PATIENCE).unwrap();
    assert_eq!(next(&reader).unwrap().offset, 0, "auto.offset.reset=earliest");
    let tail = read_from(subject, &topic, 0, Offset::OffsetTail(3), "read_uncommitted");
    assert_eq!(tail.iter().map(|row| row.offset).collect::<Vec<_>>(), [7, 8, 9]);
    let at_end = read_from(subject, &topic, 0, Offset::End, "read_uncommitted");
    assert!(at_end.is_empty());
    let watermarks = reader.fetch_watermarks(&topic, 0, PATIENCE).unwrap();
    assert_eq!(watermarks, (0, 10));
}

fn delete_records(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    before: i64,
) -> DeleteRecordsPartitionResult {
    let wanted = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(before);
    let wanted = DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![wanted]);
    let request = DeleteRecordsRequest::default().with_topics(vec![wanted]).with_timeout_ms(30_000);
    connection.ask(2, request).topics.remove(0).partitions.remove(0)
}

fn deleted_records_are_not_read_again(subject: &Subject) {
    let topic = topic(subject, "deleted", 1, &[]);
    let mut connection = Connection::open(subject);
    produce_values(&mut connection, &topic, 0, &["a", "b", "c", "d", "e"]);
    produce_values(&mut connection, &topic, 0, &["f"]);
    let delete = |before| {
        let result = delete_records(&mut Connection::open(subject), &topic, 0, before);
        (result.error_code, result.low_watermark)
    };
    assert_eq!(delete(2), (0, 2), "in the middle of a batch");
    assert_eq!(bounds(&mut connection, &topic, 0), (2, 6, 6));
    assert_eq!(fetch(&mut connection, &topic, 0, 1, FetchOptions::default()).error_code, OFFSET_OUT_OF_RANGE);
    assert_eq!(values(&mut connection, &topic, 0, 2), ["c", "d", "e", "f"]);
    let rows = read_from(subject, &topic, 0, Offset::Beginning, "read_uncommitted");
    assert_eq!(rows.iter().map(|row| row.value_text()).collect::<Vec<_>>(), ["c", "d", "e", "f"]);
    assert_eq!(fetch(&mut connection, &topic, 0, 3, FetchOptions::default()).log_start_offset, 2);
    assert_eq!(delete(1), (0, 2), "what is gone is gone");
    assert_eq!(delete(7).0, OFFSET_OUT_OF_RANGE);
    assert_eq!(delete(-2).0, OFFSET_OUT_OF_RANGE);
    assert_eq!(delete(-1), (0, 6), "to the end");
    assert_eq!(bounds(&mut connection, &topic, 0), (6, 6, 6));
    assert_eq!(produce_values(&mut connection, &topic, 0, &["g"]), 6);
    assert_eq!(values(&mut connection, &topic, 0, 6), ["g"]);
    assert_eq!(delete_records(&mut connection, &topic, 4, 0).error_code, UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(delete_records(&mut connection, "no-such-topic", 0, 0).error_code, UNKNOWN_TOPIC_OR_PARTITION);
}

fn a_topic_that_is_only_compacted_keeps_its_records_from_deletion(subject: &Subject) {
    let topic = topic(subject, "kept", 1, &[("cleanup.policy", "compact")]);
    let mut connection = Connection::open(subject);
    let record = [(Some("k"), Some("v"), now_ms())];
    assert_eq!(produce(&mut connection, &topic, 0, None, batch_of(Author::PLAIN, &record)).error_code, 0);
    assert_eq!(delete_records(&mut connection, &topic, 0, 1).error_code, 44, "POLICY_VIOLATION");
    assert_eq!(bounds(&mut connection, &topic, 0), (0, 1, 1));
}

fn topics_are_fetched_by_their_ids(subject: &Subject) {
    let topic = topic(subject, "by-id", 1, &[]);
    let mut connection = Connection::open(subject);
    produce_values(&mut connection, &topic, 0, &["a"]);
    let id = metadata_of(&mut connection, &topic).topic_id;
    let wanted = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let wanted = FetchTopic::default().with_topic_id(id).with_partitions(vec![wanted]);
    let request = FetchRequest::default().with_max_wait_ms(0).with_topics(vec![wanted]);
    eventually("the id is known", || {
        let answer = connection.ask(16, request.clone());
        let data = &answer.responses[0].partitions[0];
        assert_eq!(answer.responses[0].topic_id, id);
        (data.error_code == 0).then(|| records_of(data.records.as_ref().unwrap()).len()).filter(|count| *count == 1)
    });
}

on_both!(
    a_fetch_gives_the_first_batch_whatever_its_size_and_no_more_than_asked,
    an_offset_in_the_middle_of_a_batch_gives_the_whole_batch,
    a_fetch_waits_for_its_bytes_and_no_longer_than_its_time,
    requests_of_one_connection_are_answered_in_their_order,
    a_fetch_of_what_is_not_there_is_refused_by_its_own_error,
    offsets_are_found_by_time_within_a_compressed_batch,
    offsets_are_found_by_time_over_many_batches,
    bounds_of_an_empty_and_of_an_unknown_partition,
    the_leader_epoch_never_changes,
    a_consumer_seeks_to_and_fro_and_starts_anew_beyond_the_end,
    deleted_records_are_not_read_again,
    a_topic_that_is_only_compacted_keeps_its_records_from_deletion,
    topics_are_fetched_by_their_ids,
);
