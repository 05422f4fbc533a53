//! What goes with time: old segments by age and size, and in compacted topics the records that a later one replaces.

use crate::ask::{FetchOptions, bounds, fetch, produce, topic, values};
use crate::clients::{Row, read};
use crate::raw::{Author, Connection, batch_of, now_ms, records_of};
use crate::subject::{Subject, eventually, unique};
use crate::transactor::{Transactor, settled};

/// Old enough for any retention of this file, and young enough for the default one.
const AGO_MS: i64 = 600_000;
/// The least that a topic may ask for.
const SEGMENT_BYTES: &str = "1048576";

fn old_segments_go_until_the_rest_is_as_small_as_asked(subject: &Subject) {
    let settings = [("retention.bytes", "2500000"), ("segment.bytes", SEGMENT_BYTES)];
    let topic = topic(subject, "by-size", 1, &settings);
    let mut connection = Connection::open(subject);
    // Batches of 100,000 bytes: ten to a segment, five segments and a half.
    let value = "x".repeat(100_000 - 61 - 11);
    for _ in 0..55 {
        let records = batch_of(Author::PLAIN, &[(None, Some(&value), now_ms())]);
        assert_eq!(records.len(), 100_000);
        assert_eq!(produce(&mut connection, &topic, 0, None, records).error_code, 0);
    }
    // The oldest segment goes while what is left without it is not less than asked: 3,500,000 bytes are 35 batches, whose
    // oldest segment of 10 cannot go, as 2,500,000 is the bound: it can, and 25 are left.
    let start = eventually("segments go", || Some(bounds(&mut connection, &topic, 0).0).filter(|start| *start >= 30));
    assert_eq!(start, 30);
    assert_eq!(values(&mut connection, &topic, 0, 50).len(), 5);
}

fn old_segments_go_by_the_age_of_their_youngest_record(subject: &Subject) {
    let settings = [("retention.ms", "60000"), ("segment.ms", "10000")];
    let topic = topic(subject, "by-age", 1, &settings);
    let mut connection = Connection::open(subject);
    let now = now_ms();
    // Each batch opens a segment, as it is segment.ms younger than the one before; the third has a young record too.
    for times in
        [[-AGO_MS, -AGO_MS + 1], [-AGO_MS + 20_000, -AGO_MS + 20_001], [-AGO_MS + 40_000, 0], [-20_000, -20_000]]
    {
        let records = times.map(|time| (None, Some("x"), now + time));
        assert_eq!(produce(&mut connection, &topic, 0, None, batch_of(Author::PLAIN, &records)).error_code, 0);
    }
    let start = eventually("segments go", || Some(bounds(&mut connection, &topic, 0).0).filter(|start| *start >= 4));
    assert_eq!(start, 4);
    assert_eq!(bounds(&mut connection, &topic, 0), (4, 8, 8));
}

fn the_last_segment_goes_by_age_too_and_offsets_go_on(subject: &Subject) {
    let topic = topic(subject, "all-of-it", 1, &[("retention.ms", "60000")]);
    let mut connection = Connection::open(subject);
    let records = [(None, Some("x"), now_ms() - AGO_MS); 3];
    assert_eq!(produce(&mut connection, &topic, 0, None, batch_of(Author::PLAIN, &records)).error_code, 0);
    eventually("all of it goes", || (bounds(&mut connection, &topic, 0) == (3, 3, 3)).then_some(()));
    let records = [(None, Some("young"), now_ms())];
    assert_eq!(produce(&mut connection, &topic, 0, None, batch_of(Author::PLAIN, &records)).base_offset, 3);
    assert_eq!(values(&mut connection, &topic, 0, 3), ["young"]);
}

/// A topic that is compacted as soon as a segment is closed, which a record 10 s younger does, however little of it that
/// is: a cleaner that ran between two appends leaves a large clean part.
fn compacted_topic(subject: &Subject, what: &str, more: &[(&str, &str)]) -> String {
    let settings = [("cleanup.policy", "compact"), ("segment.ms", "10000"), ("min.cleanable.dirty.ratio", "0")];
    topic(subject, what, 1, &[&settings[..], more].concat())
}

/// Appends one batch at a time and gives its first offset.
fn append(connection: &mut Connection, topic: &str, records: &[(&str, Option<&str>)], time: i64) -> i64 {
    let records: Vec<_> = records.iter().map(|(key, value)| (Some(*key), *value, time)).collect();
    let answer = produce(connection, topic, 0, None, batch_of(Author::PLAIN, &records));
    assert_eq!(answer.error_code, 0);
    answer.base_offset
}

/// What a reader of committed records sees, as `(offset, key, value)`.
fn view(subject: &Subject, topic: &str) -> Vec<(i64, String, Option<String>)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let row = |row: Row| (row.offset, text(row.key.unwrap()), row.value.map(text));
    read(subject, topic, 0, "read_committed").into_iter().map(row).collect()
}

fn until_view(subject: &Subject, topic: &str, expected: &[(i64, &str, Option<&str>)]) {
    let expected: Vec<_> =
        expected.iter().map(|(offset, key, value)| (*offset, (*key).to_owned(), value.map(str::to_owned))).collect();
    eventually(&format!("a view of {expected:?}"), || (view(subject, topic) == expected).then_some(()));
}

fn the_last_record_of_each_key_stays_at_its_offset(subject: &Subject) {
    let topic = compacted_topic(subject, "compacted", &[]);
    let mut connection = Connection::open(subject);
    let time = now_ms() - AGO_MS;
    append(&mut connection, &topic, &[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))], time);
    append(&mut connection, &topic, &[("c", Some("1")), ("b", Some("2"))], time);
    append(&mut connection, &topic, &[("c", Some("2"))], time + 20_000);
    append(&mut connection, &topic, &[("d", Some("1"))], time + 40_000);
    append(&mut connection, &topic, &[("d", Some("2"))], time + 40_000);
    // The last segment is open and stays as it is.
    let expected =
        [(2, "a", Some("2")), (4, "b", Some("2")), (5, "c", Some("2")), (6, "d", Some("1")), (7, "d", Some("2"))];
    until_view(subject, &topic, &expected);
    assert_eq!(bounds(&mut connection, &topic, 0), (0, 8, 8), "the start stays where it was");
    assert_eq!(append(&mut connection, &topic, &[("e", Some("1"))], time + 60_000), 8);
    until_view(
        subject,
        &topic,
        &[(2, "a", Some("2")), (4, "b", Some("2")), (5, "c", Some("2")), (7, "d", Some("2")), (8, "e", Some("1"))],
    );
}

/// The record that was asked for is compacted away, and the batch before it is larger than the fetch.
fn a_small_fetch_reads_over_a_gap(subject: &Subject) {
    let topic = compacted_topic(subject, "gap", &[]);
    let mut connection = Connection::open(subject);
    let (time, large) = (now_ms() - AGO_MS, "x".repeat(40_000));
    append(&mut connection, &topic, &[("large", Some(&large))], time);
    append(&mut connection, &topic, &[("a", Some("1"))], time);
    append(&mut connection, &topic, &[("b", Some("1"))], time);
    append(&mut connection, &topic, &[("a", Some("2"))], time + 20_000);
    append(&mut connection, &topic, &[("c", Some("1"))], time + 40_000);
    let expected = [(0, "large", Some(&*large)), (2, "b", Some("1")), (3, "a", Some("2")), (4, "c", Some("1"))];
    until_view(subject, &topic, &expected);
    for bytes_max in [1, 1_000] {
        let options = FetchOptions { partition_max_bytes: bytes_max, ..FetchOptions::default() };
        let read = fetch(&mut connection, &topic, 0, 1, options).records.unwrap_or_default();
        assert_eq!(records_of(&read).first().map(|record| record.offset), Some(2), "with {bytes_max} bytes");
    }
}

fn a_tombstone_removes_its_key_and_then_itself(subject: &Subject) {
    let kept = compacted_topic(subject, "tombstones-kept", &[]);
    let gone = compacted_topic(subject, "tombstones-gone", &[("delete.retention.ms", "0")]);
    let mut connection = Connection::open(subject);
    let time = now_ms() - AGO_MS;
    for topic in [&kept, &gone] {
        append(&mut connection, topic, &[("a", Some("1")), ("b", Some("1"))], time);
        append(&mut connection, topic, &[("a", None)], time + 20_000);
        append(&mut connection, topic, &[("c", Some("1"))], time + 40_000);
    }
    until_view(subject, &kept, &[(1, "b", Some("1")), (2, "a", None), (3, "c", Some("1"))]);
    // A tombstone is given its time by one compaction and removed by a later one, which needs something new to do.
    let mut later = time + 60_000;
    let mut last = 3;
    eventually("the tombstone goes", || {
        last = append(&mut connection, &gone, &[("c", Some("1"))], later);
        later += 20_000;
        let seen = view(subject, &gone);
        (!seen.iter().any(|(_, key, _)| key == "a")).then_some(())
    });
    let seen = view(subject, &gone);
    assert_eq!(seen[0], (1, "b".to_owned(), Some("1".to_owned())));
    assert_eq!(seen.last().unwrap(), &(last, "c".to_owned(), Some("1".to_owned())));
}

fn aborted_records_replace_nothing_and_go(subject: &Subject) {
    let topic = compacted_topic(subject, "aborted", &[]);
    let mut connection = Connection::open(subject);
    let time = now_ms() - AGO_MS;
    append(&mut connection, &topic, &[("a", Some("kept")), ("b", Some("old"))], time);
    let mut transactor = Transactor::new(subject, &unique("aborted"));
    let mut in_transaction = |records: &[(&str, &str)], commit| {
        assert_eq!(transactor.add(&topic, 0), 0);
        let records: Vec<_> = records.iter().map(|(key, value)| (Some(*key), Some(*value), time)).collect();
        let batch = batch_of(transactor.author(), &records);
        let id = transactor.id.clone();
        assert_eq!(produce(&mut transactor.connection, &topic, 0, Some(&id), batch).error_code, 0);
        transactor.sequence += records.len() as i32;
        assert_eq!(transactor.end(commit), 0);
        settled(&mut transactor.connection, &topic, 0);
    };
    in_transaction(&[("a", "aborted"), ("z", "aborted")], false);
    in_transaction(&[("b", "new")], true);
    // 0 and 1 are plain, 2 and 3 aborted, 4 the marker, 5 committed, 6 the marker.
    // The markers' time is now: what comes next opens a segment if it is younger still; the last one is left as it is.
    append(&mut connection, &topic, &[("c", Some("1"))], now_ms() + 30_000);
    append(&mut connection, &topic, &[("c", Some("2"))], now_ms() + 60_000);
    until_view(
        subject,
        &topic,
        &[(0, "a", Some("kept")), (5, "b", Some("new")), (7, "c", Some("1")), (8, "c", Some("2"))],
    );
    let uncommitted: Vec<i64> =
        read(subject, &topic, 0, "read_uncommitted").into_iter().map(|row| row.offset).collect();
    assert_eq!(uncommitted, [0, 5, 7, 8], "the aborted records are gone for all readers");
}

on_both!(
    old_segments_go_until_the_rest_is_as_small_as_asked,
    old_segments_go_by_the_age_of_their_youngest_record,
    the_last_segment_goes_by_age_too_and_offsets_go_on,
    the_last_record_of_each_key_stays_at_its_offset,
    a_small_fetch_reads_over_a_gap,
    a_tombstone_removes_its_key_and_then_itself,
    aborted_records_replace_nothing_and_go,
);
