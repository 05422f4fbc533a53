use super::super::batch::BatchHeader;
use super::super::testing::{TestBatch, at, settings};
use super::super::{Isolation, PartitionLog, Place};
use super::*;
use crate::damage::OnDamage;
use crate::topics::settings::TopicSettings;

fn batch(offset: i64) -> bytes::Bytes {
    TestBatch::new(&["value"], offset).build_with(|header| header.base_offset = offset)
}

fn fill(place: Place) -> PartitionLog {
    let settings = TopicSettings { segment_bytes: 2 * batch(0).len() as u64, ..settings() };
    let mut log = PartitionLog::open(place, 0, OnDamage::CutTorn).unwrap();
    for timestamp in 0..10 {
        log.append(TestBatch::new(&["value"], timestamp).build(), false, &settings, at(0)).unwrap();
    }
    log
}

/// The offsets that a reader gets from the log's start on.
fn offsets(log: &PartitionLog) -> Vec<i64> {
    let mut offsets = Vec::new();
    let mut next = log.start_offset();
    while next < log.end_offset() {
        let mut rest = log.read(next, 1 << 20, true, Isolation::ReadUncommitted).unwrap().records;
        while !rest.is_empty() {
            let header = BatchHeader::parse(&rest).unwrap();
            offsets.push(header.base_offset);
            next = header.next_offset();
            rest = rest.split_off(header.size);
        }
    }
    offsets
}

/// A rewrite of the segments from 2 to 6 that keeps these offsets.
fn rewrite(log: &PartitionLog, kept: &[i64]) -> Rewritten {
    rewrite_until(log, kept, 6)
}

fn rewrite_until(log: &PartitionLog, kept: &[i64], next_offset: i64) -> Rewritten {
    let bytes = kept.iter().map(|offset| batch(*offset)).collect::<Vec<_>>().concat();
    let content = match log.rewrite_path(2) {
        Some(path) => {
            fs::write(&path, bytes).unwrap();
            SealedContent::File(path)
        }
        None => SealedContent::Memory(bytes.into()),
    };
    Rewritten::finish(content, 2, next_offset).unwrap()
}

fn check(kept: &[i64], expected: &[i64]) {
    let folder = tempfile::tempdir().unwrap();
    for place in [Place::Memory, Place::Folder(folder.path().to_owned())] {
        let mut log = fill(place);
        assert!(log.replace(rewrite(&log, kept)).unwrap());
        assert_eq!(offsets(&log), expected);
        assert_eq!(log.segments.iter().map(|segment| segment.base_offset).collect::<Vec<_>>(), [0, 2, 6, 8]);
        let first_of_3 = log.offset_at_time(3, Isolation::ReadUncommitted).unwrap();
        assert_eq!(first_of_3, expected.iter().find(|offset| **offset >= 3).map(|offset| (*offset, *offset)));
    }
    let log = PartitionLog::open(Place::Folder(folder.path().to_owned()), 0, OnDamage::CutTorn).unwrap();
    assert_eq!(offsets(&log), expected);
    assert_eq!(log.segments.len(), 4);
}

#[test]
fn a_rewrite_takes_the_place_of_its_segments() {
    check(&[2, 3, 4, 5], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    check(&[3, 5], &[0, 1, 3, 5, 6, 7, 8, 9]);
    check(&[4], &[0, 1, 4, 6, 7, 8, 9]);
    check(&[], &[0, 1, 6, 7, 8, 9]);
}

#[test]
fn sealed_segments_are_all_but_the_last() {
    let log = fill(Place::Memory);
    let sealed = log.sealed_segments();
    let ranges: Vec<_> = sealed.iter().map(|segment| (segment.base_offset, segment.next_offset)).collect();
    assert_eq!(ranges, [(0, 2), (2, 4), (4, 6), (6, 8)]);
    assert_eq!(sealed[1].size_bytes, 2 * batch(0).len() as u64);
    assert_eq!(sealed[1].largest_timestamp_ms, 3);
}

#[test]
fn a_rewrite_of_what_retention_has_deleted_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = fill(Place::Folder(folder.path().to_owned()));
    let rewritten = rewrite(&log, &[5]);
    log.delete_before(4).unwrap();
    assert!(!log.replace(rewritten).unwrap());
    assert_eq!(offsets(&log), [4, 5, 6, 7, 8, 9]);
    assert!(!log.rewrite_path(2).unwrap().exists());
}

#[test]
fn what_is_no_log_is_refused() {
    let good = batch(2);
    for bad in [&good[1..], &[&good[..], &good].concat(), &[&good[..], b"x"].concat(), &batch(6)] {
        let content = SealedContent::Memory(bad.to_vec().into());
        assert!(Rewritten::finish(content, 2, 6).is_err());
    }
}

fn assert_nothing_is_left(folder: &Path) {
    let is_segment = |entry: fs::DirEntry| base_offset_of(&entry.file_name().to_string_lossy()).is_some();
    assert!(fs::read_dir(folder).unwrap().all(|entry| is_segment(entry.unwrap())), "nothing is left over");
}

/// The replacement is read from its decision on, and goes on where it failed before anything else is replaced or deleted.
#[test]
fn a_replacement_that_failed_half_way_is_finished_first() {
    let check = |go_on: fn(&mut PartitionLog), expected: &[i64]| {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut log = fill(Place::Folder(folder.to_owned()));
        // Within the range that is replaced, and no file that could be removed.
        let obstacle = folder.join(file_name(3));
        fs::create_dir(&obstacle).unwrap();
        assert_eq!(log.replace(rewrite(&log, &[3, 5])), Err(ResponseError::KafkaStorageError));
        assert_eq!(offsets(&log), [0, 1, 3, 5, 6, 7, 8, 9]);
        assert_eq!(log.replace(rewrite_until(&log, &[7], 8)), Err(ResponseError::KafkaStorageError));
        assert!(!log.rewrite_path(2).unwrap().exists(), "the second one is dropped");
        assert!(log.apply_retention(&settings(), at(0)).is_err());
        assert_eq!(offsets(&log), [0, 1, 3, 5, 6, 7, 8, 9]);
        fs::remove_dir(&obstacle).unwrap();
        go_on(&mut log);
        assert_eq!(offsets(&log), expected);
        drop(log);
        let log = PartitionLog::open(Place::Folder(folder.to_owned()), 0, OnDamage::CutTorn).unwrap();
        assert_eq!(offsets(&log), expected, "opened again");
        assert_nothing_is_left(folder);
    };
    check(|_| {}, &[0, 1, 3, 5, 6, 7, 8, 9]);
    check(|log| assert_eq!(log.apply_retention(&settings(), at(0)), Ok(0)), &[0, 1, 3, 5, 6, 7, 8, 9]);
    check(|log| assert_eq!(log.replace(rewrite_until(log, &[5, 7], 8)), Ok(true)), &[0, 1, 5, 7, 8, 9]);
    check(|log| assert_eq!(log.delete_before(8), Ok(8)), &[8, 9]);
}

/// Stops after each step of a replacement; what is opened then has the old content or the new.
#[test]
fn a_crash_at_any_step_leaves_the_old_or_the_new() {
    let old = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    let new = [0, 1, 3, 6, 7, 8, 9];
    let check = |crash: fn(&Path), expected: &[i64]| {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let log = fill(Place::Folder(folder.to_owned()));
        rewrite(&log, &[3]);
        drop(log);
        crash(folder);
        let log = PartitionLog::open(Place::Folder(folder.to_owned()), 0, OnDamage::CutTorn).unwrap();
        assert_eq!(offsets(&log), expected);
        assert_nothing_is_left(folder);
    };
    fn decide(folder: &Path) {
        let decided = folder.join(format!("{:020}-{:020}{SWAP}", 2, 6));
        fs::rename(folder.join(format!("{:020}{NEW}", 2)), decided).unwrap();
    }
    fn remove(folder: &Path, base_offset: i64) {
        fs::remove_file(folder.join(file_name(base_offset))).unwrap();
    }
    let halved = |folder: &Path| {
        let new = folder.join(format!("{:020}{NEW}", 2));
        fs::File::options().write(true).open(new).unwrap().set_len(30).unwrap();
    };
    check(halved, &old);
    check(|_| {}, &old);
    check(decide, &new);
    check(
        |folder| {
            decide(folder);
            remove(folder, 4);
        },
        &new,
    );
    // The rename over the first file was done, but its removal of the old name is the last step.
    check(
        |folder| {
            decide(folder);
            remove(folder, 4);
            remove(folder, 2);
        },
        &new,
    );
}
