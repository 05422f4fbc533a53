use std::path::Path;

use bytes::Bytes;

use super::super::Isolation;
use super::super::batch::{BatchHeader, HEADER_LEN};
use super::super::codec::Codec;
use super::super::records::Records;
use super::super::testing::{TestBatch, at, settings};
use super::*;
use crate::damage::OnDamage;
use crate::topics::settings::CleanupPolicy;

mod histories;

/// A compacted topic with small segments, due at any time.
fn compacted() -> TopicSettings {
    TopicSettings {
        cleanup_policy: CleanupPolicy { is_delete: false, is_compact: true },
        segment_bytes: 400,
        delete_retention_ms: 100,
        min_cleanable_dirty_ratio: 0.0,
        ..settings()
    }
}

/// A record as a reader sees it: key, value, timestamp.
type Seen = (Option<String>, Option<String>, i64);

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

/// One fetch: its batches, and the aborted transactions that it lists.
type Fetched = (Vec<(BatchHeader, Bytes)>, Vec<(i64, i64)>);

/// All batches from the log's start on, with the aborted transactions as each fetch lists them.
fn fetches(log: &PartitionLog, isolation: Isolation, bytes_max: usize) -> Vec<Fetched> {
    let (mut fetches, mut from) = (Vec::new(), log.start_offset());
    loop {
        let read = log.read(from, bytes_max, true, isolation).unwrap();
        let (mut rest, mut batches) = (read.records, Vec::new());
        while !rest.is_empty() {
            let header = BatchHeader::parse(&rest).unwrap();
            let batch = rest.split_to(header.size);
            let payload = batch.slice(HEADER_LEN..);
            header.check_checksum(header.checksum(&payload)).unwrap();
            from = header.next_offset();
            batches.push((header, payload));
        }
        if batches.is_empty() {
            return fetches;
        }
        fetches.push((batches, read.aborted));
    }
}

/// What a reader of committed records sees, as the Java client filters it, by the offset.
fn committed(log: &PartitionLog, bytes_max: usize) -> BTreeMap<i64, Seen> {
    let mut seen = BTreeMap::new();
    for (batches, mut aborted) in fetches(log, Isolation::ReadCommitted, bytes_max) {
        aborted.sort_by_key(|(_, first_offset)| std::cmp::Reverse(*first_offset));
        let mut aborting = std::collections::BTreeSet::new();
        for (header, payload) in batches {
            while let Some((producer_id, _)) = aborted.pop_if(|(_, first_offset)| *first_offset <= header.last_offset())
            {
                aborting.insert(producer_id);
            }
            if header.marker(&payload).is_some_and(|marker| !marker.is_commit) {
                aborting.remove(&header.producer_id);
            }
            let is_aborted = header.is_transactional() && aborting.contains(&header.producer_id);
            if !header.is_control() && !is_aborted {
                seen.extend(records(&header, &payload));
            }
        }
    }
    seen
}

fn records(header: &BatchHeader, payload: &Bytes) -> Vec<(i64, Seen)> {
    let payload = header.decompress(payload, 1 << 20).unwrap();
    let records = Records::new(&payload, header.record_count).map(|record| {
        let record = record.unwrap();
        let timestamp = header.timestamp_of(record.timestamp_delta);
        (header.base_offset + i64::from(record.offset_delta), (text(record.key), text(record.value), timestamp))
    });
    records.collect()
}

/// All batches, those of open and aborted transactions too.
fn all_batches(log: &PartitionLog) -> Vec<(BatchHeader, Bytes)> {
    fetches(log, Isolation::ReadUncommitted, 1 << 20).into_iter().flat_map(|(batches, _)| batches).collect()
}

/// Plans, runs and applies; `false`: it was not due.
fn compact(log: &mut PartitionLog, settings: &TopicSettings, now_ms: i64) -> bool {
    let Some(plan) = plan(log, settings, at(now_ms)) else { return false };
    run(&plan, &Arc::default()).unwrap().apply(log).unwrap();
    true
}

/// As if nothing of the log had been compacted yet.
fn compact_anew(log: &mut PartitionLog, settings: &TopicSettings, now_ms: i64) {
    log.clean_until = 0;
    compact(log, settings, now_ms);
}

fn memory() -> PartitionLog {
    PartitionLog::open(Place::Memory, 0, OnDamage::CutTorn).unwrap()
}

fn folder(path: &Path) -> PartitionLog {
    PartitionLog::open(Place::Folder(path.to_owned()), 0, OnDamage::CutTorn).unwrap()
}

fn keyed(records: &[(&str, Option<&str>)], timestamp: i64) -> TestBatch {
    let mut batch = TestBatch::new(&vec![""; records.len()], timestamp);
    for (to, (key, value)) in batch.records.iter_mut().zip(records) {
        to.0 = Some(Bytes::copy_from_slice(key.as_bytes()));
        to.1 = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
    }
    batch
}

fn append(log: &mut PartitionLog, batch: &TestBatch) -> i64 {
    log.append(batch.build(), true, &compacted(), at(0)).unwrap().base_offset
}

/// One more segment, so that what is written so far can be compacted.
fn seal(log: &mut PartitionLog) {
    let large = "x".repeat(300);
    append(log, &keyed(&[("seal", Some(&large))], 1_000));
    append(log, &keyed(&[("seal", Some(&large))], 1_000));
}

fn offsets(log: &PartitionLog) -> Vec<i64> {
    let batches = all_batches(log);
    let offsets = batches.iter().filter(|(header, _)| !header.is_control());
    offsets.flat_map(|(header, payload)| records(header, payload)).map(|(offset, _)| offset).collect()
}

#[test]
fn the_last_record_of_each_key_stays_in_its_place() {
    let batches = [
        keyed(&[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))], 10),
        keyed(&[("c", Some("1")), ("b", Some("2"))], 20),
    ];
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut log = memory();
        for batch in &batches {
            append(&mut log, &batch.clone().compressed(codec));
        }
        seal(&mut log);
        assert!(compact(&mut log, &compacted(), 0));
        assert_eq!(offsets(&log), [2, 3, 4, 5, 6], "{codec:?}");
        let (header, payload) = &all_batches(&log)[0];
        assert_eq!((header.base_offset, header.last_offset_delta, header.record_count), (0, 2, 1));
        assert_eq!((header.codec().unwrap(), header.max_timestamp), (codec, 12));
        assert_eq!(records(header, payload), [(2, (Some("a".to_owned()), Some("2".to_owned()), 12))]);
        assert!(!compact(&mut log, &compacted(), 0), "nothing is new");
    }
}

#[test]
fn headers_and_negative_times_survive_a_delete_horizon() {
    use kafka_protocol::records::{
        Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
    };
    let record = |offset: i64, value: Option<&'static str>| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: -1 + offset as i32,
        timestamp: -5 + offset,
        key: Some(Bytes::from(format!("k{offset}"))),
        value: value.map(Bytes::from),
        headers: [("h".into(), Some(Bytes::from_static(b"1"))), ("n".into(), None)].into_iter().collect(),
    };
    let before = [record(0, Some("v")), record(1, None), record(2, Some(""))];
    let mut batch = bytes::BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut batch, &before, &options).unwrap();
    let mut log = memory();
    log.append(batch.freeze(), false, &compacted(), at(0)).unwrap();
    seal(&mut log);
    assert!(compact(&mut log, &compacted(), 50));

    let (header, payload) = &all_batches(&log)[0];
    assert_eq!(header.delete_horizon(), Some(150));
    let mut bytes = Bytes::from([&header.encode()[..], payload].concat());
    let after = RecordBatchDecoder::decode(&mut bytes).unwrap().records;
    let before: Vec<_> = before.into_iter().map(|record| Record { delete_horizon: true, ..record }).collect();
    assert_eq!(after, before);
}

#[test]
fn a_tombstone_stays_for_its_retention_after_it_was_first_compacted() {
    let mut log = memory();
    append(&mut log, &keyed(&[("a", Some("1")), ("b", Some("1")), ("a", None)], 10));
    seal(&mut log);
    compact(&mut log, &compacted(), 1_000);
    assert_eq!(offsets(&log)[..2], [1, 2]);
    compact_anew(&mut log, &compacted(), 1_099);
    assert_eq!(offsets(&log)[..2], [1, 2]);
    compact_anew(&mut log, &compacted(), 1_100);
    assert_eq!(offsets(&log)[..2], [1, 3]);
    assert_eq!(all_batches(&log)[0].0.delete_horizon(), Some(1_100), "what is left keeps its horizon");
}

#[test]
fn of_an_aborted_transaction_its_marker_is_left_and_goes_later() {
    let mut log = memory();
    let of_producer = |batch: TestBatch, sequence: i32| {
        let mut batch = batch.transactional();
        (batch.header.producer_id, batch.header.producer_epoch, batch.header.base_sequence) = (7, 0, sequence);
        batch
    };
    let marker = |log: &mut PartitionLog, is_commit| log.write_marker(7, 0, is_commit, &compacted(), at(0)).unwrap();
    append(&mut log, &keyed(&[("a", Some("old"))], 0));
    append(&mut log, &of_producer(keyed(&[("a", Some("aborted"))], 0), 0));
    assert_eq!(marker(&mut log, false), 2);
    append(&mut log, &of_producer(keyed(&[("b", Some("committed"))], 0), 1));
    assert_eq!(marker(&mut log, true), 4);
    append(&mut log, &keyed(&[("b", Some("newer"))], 0));
    append(&mut log, &of_producer(keyed(&[("c", Some("last"))], 0), 2));
    assert_eq!(marker(&mut log, true), 7);
    seal(&mut log);

    let markers = |log: &PartitionLog| -> Vec<(i64, Option<i64>)> {
        let batches = all_batches(log).into_iter().filter(|(header, _)| header.is_control());
        batches.map(|(header, _)| (header.base_offset, header.delete_horizon())).collect()
    };
    let before = committed(&log, 1 << 20);
    compact(&mut log, &compacted(), 1_000);
    assert_eq!(offsets(&log)[..3], [0, 5, 6]);
    assert_eq!(markers(&log), [(2, Some(1_100)), (4, Some(1_100)), (7, None)]);
    compact_anew(&mut log, &compacted(), 1_100);
    assert_eq!(markers(&log), [(7, None)], "the last transaction has a record left");
    assert_eq!(log.producers.aborted().count(), 0, "else a reader would drop what comes after");
    let after = committed(&log, 1 << 20);
    assert!(after.iter().all(|(offset, seen)| before.get(offset) == Some(seen)), "{after:?}");
}

#[test]
fn a_producers_last_batch_stays_without_its_records() {
    let path = tempfile::tempdir().unwrap();
    let mut log = folder(path.path());
    let of_producer = |count: usize, sequence: i32| {
        let mut batch = TestBatch::of_producer(count, 7, 3, sequence);
        batch.records.iter_mut().for_each(|record| record.0 = Some(Bytes::from_static(b"a")));
        batch.compressed(Codec::Gzip)
    };
    append(&mut log, &of_producer(2, 0));
    append(&mut log, &of_producer(3, 2));
    append(&mut log, &keyed(&[("a", Some("newer"))], 1_000));
    seal(&mut log);
    compact(&mut log, &compacted(), 0);
    let (header, payload) = &all_batches(&log)[0];
    assert_eq!((header.base_offset, header.last_offset(), header.record_count, payload.len()), (2, 4, 0, 0));
    assert_eq!(header.codec().unwrap(), Codec::None);
    drop(log);

    let mut log = folder(path.path());
    assert_eq!(log.producers().iter().map(|producer| producer.last_sequence).collect::<Vec<_>>(), [4]);
    assert_eq!(append(&mut log, &of_producer(3, 2)), 2, "a duplicate");
    append(&mut log, &of_producer(1, 5));
    log.forget_idle_producers(0, at(i64::MAX));
    compact_anew(&mut log, &compacted(), 0);
    assert_ne!(all_batches(&log)[0].0.base_offset, 2, "nobody needs it any more");
}

#[test]
fn a_log_is_due_by_its_dirty_part_and_by_the_age_of_it() {
    let mut log = memory();
    let ratio = |ratio| TopicSettings { min_cleanable_dirty_ratio: ratio, ..compacted() };
    assert!(plan(&log, &ratio(0.0), at(0)).is_none(), "empty");
    append(&mut log, &keyed(&[("a", Some("1"))], 1_000));
    assert!(plan(&log, &ratio(0.0), at(0)).is_none(), "the segment that is written to");
    seal(&mut log);
    seal(&mut log);
    assert_eq!(plan(&log, &ratio(0.9), at(0)).unwrap().dirty_ratio, 1.0);
    assert!(plan(&log, &settings(), at(0)).is_none(), "not a compacted topic");
    compact(&mut log, &ratio(0.9), 0);
    seal(&mut log);
    let dirty_ratio = plan(&log, &ratio(0.0), at(0)).unwrap().dirty_ratio;
    assert!((0.1..0.9).contains(&dirty_ratio), "{dirty_ratio}");
    assert!(plan(&log, &ratio(0.9), at(0)).is_none());

    let late = TopicSettings { max_compaction_lag_ms: 500, ..ratio(0.9) };
    assert!(plan(&log, &late, at(1_500)).is_none(), "its records are of 1,000 ms");
    assert!(plan(&log, &late, at(1_501)).is_some());
    let lagging = TopicSettings { min_compaction_lag_ms: 500, ..ratio(0.0) };
    assert!(plan(&log, &lagging, at(1_499)).is_none());
    assert!(plan(&log, &lagging, at(1_500)).is_some());
}

#[test]
fn an_open_transaction_holds_compaction_back() {
    let mut log = memory();
    append(&mut log, &keyed(&[("a", Some("1"))], 0));
    seal(&mut log);
    let mut open = TestBatch::of_producer(1, 7, 0, 0).transactional();
    open.records[0].0 = Some(Bytes::from_static(b"a"));
    let first = append(&mut log, &open);
    seal(&mut log);
    seal(&mut log);
    assert!(plan(&log, &compacted(), at(0)).unwrap().dirty_until <= first);
}

#[test]
fn more_keys_than_fit_are_compacted_in_several_runs() {
    let mut log = memory();
    for round in 0..3 {
        for key in 0..10 {
            append(&mut log, &keyed(&[(&format!("k{key}"), Some(&format!("{round}")))], 0));
        }
    }
    seal(&mut log);
    let before = committed(&log, 1 << 20);
    let mut runs = 0;
    while let Some(mut plan) = plan(&log, &compacted(), at(0)) {
        plan.limits.keys_max = 4;
        run(&plan, &Arc::default()).unwrap().apply(&mut log).unwrap();
        runs += 1;
    }
    assert!(runs > 3, "{runs}");
    assert_eq!(offsets(&log)[..10], (20..30).collect::<Vec<_>>());
    assert!(committed(&log, 1 << 20).iter().all(|(offset, seen)| before.get(offset) == Some(seen)));
}

#[test]
fn how_far_it_got_survives_a_restart_unless_the_log_was_cut() {
    let path = tempfile::tempdir().unwrap();
    let mut log = folder(path.path());
    append(&mut log, &keyed(&[("a", Some("1"))], 0));
    seal(&mut log);
    compact(&mut log, &compacted(), 0);
    let clean_until = log.clean_until;
    assert!(clean_until > 0);
    drop(log);
    assert_eq!(folder(path.path()).clean_until, clean_until);
    for (written, expected) in [("", 0), ("12", 0), ("x\n", 0), ("1000\n", 0), ("1\n", 1)] {
        fs::write(path.path().join(CLEAN_UNTIL_FILE), written).unwrap();
        assert_eq!(folder(path.path()).clean_until, expected, "{written:?}");
    }
}

#[test]
fn what_cannot_be_done_leaves_no_file_and_the_log_as_it_was() {
    let path = tempfile::tempdir().unwrap();
    let mut log = folder(path.path());
    append(&mut log, &keyed(&[("a", Some("1")), ("a", Some("2"))], 0));
    seal(&mut log);
    seal(&mut log);
    let names = || {
        let mut names: Vec<_> = fs::read_dir(path.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let (before, files) = (all_batches(&log), names());

    let plan = plan(&log, &compacted(), at(0)).unwrap();
    let error = run(&plan, &Arc::new(true.into())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    assert_eq!(names(), files, "cancelled");

    // Retention has deleted a segment in the meantime.
    let compacted = run(&plan, &Arc::default()).unwrap();
    log.delete_before(plan.segments[1].0.base_offset).unwrap();
    compacted.apply(&mut log).unwrap();
    assert_eq!(names(), files[1..], "superseded");

    // A segment in the middle of the log that does not hold what was written.
    let SealedContent::File(segment) = &plan.segments[1].0.content else { panic!("in a folder") };
    let mut bytes = fs::read(segment).unwrap();
    bytes[HEADER_LEN + 5] ^= 1;
    fs::write(segment, bytes).unwrap();
    let plan = super::plan(&log, &super::tests::compacted(), at(0)).unwrap();
    assert_eq!(run(&plan, &Arc::default()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(names(), files[1..], "corrupt");
    assert!(before.len() > 1);
}
