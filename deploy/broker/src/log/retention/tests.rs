use super::super::testing::{self, TestBatch, at, settings};
use super::super::{Isolation, Place};
use super::*;
use crate::damage::OnDamage;
use crate::topics::settings::CleanupPolicy;

/// Five segments of two batches of one record, at the times 0 to 9, in a folder; and the size of a batch.
fn fill(folder: &std::path::Path) -> (PartitionLog, u64) {
    let mut log = PartitionLog::open(Place::Folder(folder.to_owned()), 0, OnDamage::CutTorn).unwrap();
    let size = TestBatch::new(&["a"], 0).build().len() as u64;
    let settings = TopicSettings { segment_bytes: 2 * size, ..settings() };
    for timestamp in 0..10 {
        log.append(TestBatch::new(&["a"], timestamp).build(), false, &settings, at(timestamp)).unwrap();
    }
    (log, size)
}

/// Applies these settings at this time, to the log and to the log opened again: both then begin and end there.
fn check(settings: &TopicSettings, now_ms: i64, expected: (i64, i64)) {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = fill(folder.path());
    log.apply_retention(settings, at(now_ms)).unwrap();
    assert_eq!((log.start_offset(), log.end_offset()), expected);
    let mut log = PartitionLog::open(Place::Folder(folder.path().to_owned()), 0, OnDamage::CutTorn).unwrap();
    assert_eq!((log.start_offset(), log.end_offset()), expected, "opened again");
    let next = log.append(TestBatch::new(&["a"], 0).build(), false, &testing::settings(), at(0)).unwrap().base_offset;
    assert_eq!(next, expected.1);
}

#[test]
fn old_segments_go() {
    let after = |retention_ms| TopicSettings { retention_ms: Some(retention_ms), ..settings() };
    check(&after(10), 11, (0, 10));
    check(&after(10), 12, (2, 10));
    check(&after(10), 13, (2, 10));
    check(&after(10), 14, (4, 10));
    check(&after(10), 19, (8, 10));
    check(&after(10), 20, (10, 10));
    check(&TopicSettings { retention_ms: None, ..settings() }, i64::MAX, (0, 10));
    let compacted = CleanupPolicy { is_delete: false, is_compact: true };
    check(&TopicSettings { cleanup_policy: compacted, ..after(0) }, 1_000, (0, 10));
}

#[test]
fn segments_beyond_the_size_go() {
    let size = TestBatch::new(&["a"], 0).build().len() as u64;
    let beyond = |retention_bytes| TopicSettings { retention_bytes: Some(retention_bytes), ..settings() };
    check(&beyond(10 * size), 0, (0, 10));
    check(&beyond(8 * size + 1), 0, (0, 10));
    check(&beyond(8 * size), 0, (2, 10));
    check(&beyond(3 * size), 0, (6, 10));
    check(&beyond(0), 0, (10, 10));
}

#[test]
fn an_empty_active_segment_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = fill(folder.path());
    let settings = TopicSettings { retention_ms: Some(0), retention_bytes: Some(0), ..settings() };
    assert_eq!(log.apply_retention(&settings, at(100)), Ok(5));
    assert_eq!(log.apply_retention(&settings, at(200)), Ok(0));
    assert_eq!((log.segments.len(), log.size_bytes()), (1, 0));
    assert_eq!(log.read(10, 100, true, Isolation::ReadUncommitted).unwrap().records.len(), 0);
    assert_eq!(log.offset_at_time(0, Isolation::ReadUncommitted), Ok(None));
    assert_eq!(log.offset_of_max_timestamp(), Ok(None));
}

#[test]
fn deleting_before_an_offset_moves_the_start_and_frees_whole_segments() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, size) = fill(folder.path());
    let mut check = |offset, expected: Result<i64, ResponseError>, batches_left| {
        assert_eq!(log.delete_before(offset), expected);
        assert_eq!(log.size_bytes(), batches_left * size);
    };
    check(3, Ok(3), 8);
    check(1, Ok(3), 8);
    check(4, Ok(4), 6);
    check(11, Err(ResponseError::OffsetOutOfRange), 6);
    check(-2, Err(ResponseError::OffsetOutOfRange), 6);
    check(-1, Ok(10), 2);
    assert_eq!(log.read(9, 1, true, Isolation::ReadUncommitted).unwrap_err(), ResponseError::OffsetOutOfRange);
    let log = PartitionLog::open(Place::Folder(folder.path().to_owned()), 10, OnDamage::CutTorn).unwrap();
    assert_eq!((log.start_offset(), log.end_offset()), (10, 10));
}

/// The log begins where its files do, also if one of them cannot be removed; what is left goes later.
#[test]
fn a_file_that_cannot_be_removed_keeps_its_records() {
    let check = |delete: fn(&mut PartitionLog), journalled_start: i64, expected: (i64, i64)| {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, size) = fill(folder.path());
        let (file, aside) = (folder.path().join(super::super::segment::file_name(2)), folder.path().join("aside"));
        fs::rename(&file, &aside).unwrap();
        // No directory can be removed as a file.
        fs::create_dir(&file).unwrap();
        delete(&mut log);
        fs::remove_dir(&file).unwrap();
        fs::rename(&aside, &file).unwrap();
        assert_eq!((log.start_offset(), log.end_offset(), log.size_bytes()), (expected.0, 10, 8 * size));
        assert_eq!(log.offset_of_max_timestamp(), Ok(Some((9, 9))));
        let opened = PartitionLog::open(Place::Folder(folder.path().to_owned()), 0, OnDamage::CutTorn).unwrap();
        assert_eq!((opened.start_offset(), opened.size_bytes()), (2, 8 * size), "no gap");
        let opened =
            PartitionLog::open(Place::Folder(folder.path().to_owned()), journalled_start, OnDamage::CutTorn).unwrap();
        assert_eq!(opened.start_offset(), expected.0);

        let after = TopicSettings { retention_bytes: Some(2 * size), ..settings() };
        log.apply_retention(&after, at(0)).unwrap();
        assert_eq!((log.start_offset(), log.size_bytes()), (expected.1, 2 * size));
    };
    let by_size = |log: &mut PartitionLog| {
        let settings = TopicSettings { retention_bytes: Some(log.size_bytes() / 2), ..settings() };
        assert_eq!(log.apply_retention(&settings, at(0)), Err(ResponseError::KafkaStorageError));
    };
    check(by_size, 0, (2, 8));
    check(|log| assert_eq!(log.delete_before(7), Err(ResponseError::KafkaStorageError)), 7, (7, 8));
}

/// Records that are deleted are no answer to a question for a time.
#[test]
fn times_are_looked_up_among_what_is_left() {
    let mut log = PartitionLog::open(Place::Memory, 0, OnDamage::CutTorn).unwrap();
    for timestamps in [[9, 1, 3], [4, 2, 8]] {
        let mut batch = TestBatch::new(&["a", "b", "c"], 0);
        for (record, timestamp) in batch.records.iter_mut().zip(timestamps) {
            record.2 = timestamp;
        }
        log.append(batch.build(), false, &settings(), at(0)).unwrap();
    }
    let mut check = |start: i64, time: i64, expected: Option<(i64, i64)>, greatest: (i64, i64)| {
        log.delete_before(start).unwrap();
        assert_eq!(log.offset_at_time(time, Isolation::ReadUncommitted), Ok(expected));
        assert_eq!(log.offset_of_max_timestamp(), Ok(Some(greatest)));
    };
    check(0, 2, Some((0, 9)), (0, 9));
    check(1, 2, Some((2, 3)), (5, 8));
    check(3, 0, Some((3, 4)), (5, 8));
    check(4, 3, Some((5, 8)), (5, 8));
    check(4, 9, None, (5, 8));
}

/// An open transaction whose beginning is deleted holds the stable offset at the start.
#[test]
fn the_stable_offset_is_not_before_the_start() {
    let mut log = PartitionLog::open(Place::Memory, 0, OnDamage::CutTorn).unwrap();
    log.append(TestBatch::of_producer(3, 1, 0, 0).transactional().build(), true, &settings(), at(0)).unwrap();
    assert_eq!(log.stable_offset(), 0);
    log.delete_before(2).unwrap();
    assert_eq!(log.stable_offset(), 2);
    assert_eq!(log.read(2, 100, true, Isolation::ReadCommitted).unwrap().records.len(), 0);
    assert_eq!(log.write_marker(1, 0, false, &settings(), at(0)), Ok(3));
    assert_eq!(log.stable_offset(), 4);
    assert_eq!(log.read(2, 100, true, Isolation::ReadCommitted).unwrap().aborted, [(1, 0)]);
}
