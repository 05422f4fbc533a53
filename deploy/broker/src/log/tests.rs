//! The log as a whole: reading, rolling, waking, failing.

mod random;

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Waker};

use super::testing::{TestBatch, at, settings};
use super::*;
use crate::damage::OnDamage;
use crate::durable::testing::{EIO, EMFILE, ENOSPC, Operation, fail};

/// An empty log in a folder.
fn open(folder: &Path) -> PartitionLog {
    PartitionLog::open(Place::Folder(folder.to_owned()), 0, OnDamage::CutTorn).unwrap()
}

fn append(log: &mut PartitionLog, batch: &TestBatch) -> i64 {
    log.append(batch.build(), true, &settings(), at(0)).unwrap().base_offset
}

/// The offsets of the batches in a read.
fn bases(read: &Read) -> Vec<i64> {
    let mut rest = read.records.clone();
    let mut bases = Vec::new();
    while !rest.is_empty() {
        let header = BatchHeader::parse(&rest).unwrap();
        bases.push(header.base_offset);
        rest = rest.split_off(header.size);
    }
    bases
}

fn read(log: &PartitionLog, from: i64, bytes_max: usize, is_first_whole: bool) -> Vec<i64> {
    bases(&log.read(from, bytes_max, is_first_whole, Isolation::ReadUncommitted).unwrap())
}

/// The same in memory and on disk, and after it was opened again.
fn check(fill: impl Fn(&mut PartitionLog), verify: impl Fn(&PartitionLog)) {
    let mut memory = PartitionLog::open(Place::Memory, 0, OnDamage::CutTorn).unwrap();
    fill(&mut memory);
    verify(&memory);
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path());
    fill(&mut file);
    verify(&file);
    drop(file);
    verify(&open(folder.path()));
}

#[test]
fn whole_batches_are_read_from_the_one_that_holds_the_offset() {
    let size = TestBatch::new(&["a", "b"], 0).build().len();
    let fill = |log: &mut PartitionLog| {
        for first in [0, 2, 4] {
            assert_eq!(append(log, &TestBatch::new(&["a", "b"], first)), first);
        }
    };
    check(fill, |log| {
        assert_eq!((log.start_offset(), log.stable_offset(), log.end_offset()), (0, 6, 6));
        assert_eq!(log.size_bytes(), 3 * size as u64);
        assert_eq!(read(log, 0, 1 << 20, false), [0, 2, 4]);
        assert_eq!(read(log, 3, 1 << 20, false), [2, 4]);
        assert_eq!(read(log, 3, size, false), [2]);
        assert_eq!(read(log, 3, 2 * size - 1, false), [2]);
        assert_eq!(read(log, 3, size - 1, false), [0; 0]);
        assert_eq!(read(log, 3, size - 1, true), [2]);
        assert_eq!(read(log, 3, 0, true), [2]);
        assert_eq!(read(log, 6, 1 << 20, true), [0; 0]);
        for outside in [-1, 7] {
            let refused = log.read(outside, 1, true, Isolation::ReadUncommitted);
            assert_eq!(refused.map(|read| bases(&read)), Err(ResponseError::OffsetOutOfRange));
        }
    });
}

/// What compaction leaves: the wanted offset is in a gap, behind a batch that is larger than what is read at a time.
#[test]
fn a_gap_behind_a_large_batch_is_read_over() {
    let check = |large: usize, after: usize, bytes_max: usize| {
        let folder = tempfile::tempdir().unwrap();
        let batch = |offset: i64, len: usize| {
            TestBatch::new(&[&"v".repeat(len)], 0).build_with(|header| header.base_offset = offset)
        };
        let files = [[batch(0, large), batch(10, after)], [batch(20, 1), batch(21, 1)]];
        for (base_offset, batches) in [0, 20].into_iter().zip(files) {
            std::fs::write(folder.path().join(segment::file_name(base_offset)), batches.concat()).unwrap();
        }
        let log = open(folder.path());
        for from in 1..=10 {
            assert_eq!(read(&log, from, bytes_max, true), [10], "{large}, {after}, {bytes_max}, from {from}");
        }
        assert_eq!(read(&log, 11, 1 << 20, true), [20, 21]);
    };
    for bytes_max in [0, 1, 1_000, 14_000, 1 << 20] {
        check(40_000, 1, bytes_max);
        check(16_300, 1, bytes_max);
        check(20_000, 13_000, bytes_max);
    }
}

#[test]
fn segments_roll_by_size_and_by_the_records_time() {
    let batch = TestBatch::new(&["a"], 0);
    let size = batch.build().len() as u64;
    let by_size = TopicSettings { segment_bytes: 2 * size, ..settings() };
    let by_time = TopicSettings { segment_ms: 10, ..settings() };
    let fill = |log: &mut PartitionLog| {
        for _ in 0..3 {
            log.append(batch.build(), false, &by_size, at(0)).unwrap();
        }
        for timestamp in [0, 10, 11, 5, 22] {
            log.append(TestBatch::new(&["a"], timestamp).build(), false, &by_time, at(0)).unwrap();
        }
    };
    check(fill, |log| {
        let bases: Vec<i64> = log.segments.iter().map(|segment| segment.base_offset).collect();
        assert_eq!(bases, [0, 2, 5, 7]);
        assert_eq!(read(log, 0, 1 << 20, false), [0, 1], "one segment at a time");
        assert_eq!(read(log, 2, 1 << 20, false), [2, 3, 4]);
    });
}

/// A waiting request is told of each kind of change, and of one change once.
#[test]
fn changes_wake_those_who_wait() {
    let mut log = PartitionLog::open(Place::Memory, 0, OnDamage::CutTorn).unwrap();
    let waker = Arc::new(Notify::new());
    let is_woken = || pin!(waker.notified()).poll(&mut Context::from_waker(Waker::noop())).is_ready();
    let changes: [fn(&mut PartitionLog); 3] = [
        |log| assert_eq!(append(log, &TestBatch::of_producer(1, 1, 0, 0).transactional()), 0),
        |log| assert_eq!(log.write_marker(1, 0, true, &settings(), at(0)), Ok(1)),
        |log| assert_eq!(log.delete_before(1), Ok(1)),
    ];
    for change in changes {
        log.wake_when_changed(&waker);
        log.wake_when_changed(&waker);
        assert_eq!(log.waiting.len(), 1);
        assert!(!is_woken());
        change(&mut log);
        assert!(is_woken());
        assert!(!is_woken());
    }
    append(&mut log, &TestBatch::new(&["a"], 0));
    assert!(!is_woken(), "nobody waits any more");
}

#[test]
fn requests_that_have_gone_away_are_not_kept() {
    let mut log = PartitionLog::open(Place::Memory, 0, OnDamage::CutTorn).unwrap();
    let stays = Arc::new(Notify::new());
    log.wake_when_changed(&stays);
    for _ in 0..1_000 {
        log.wake_when_changed(&Arc::new(Notify::new()));
    }
    assert!(log.waiting.len() < 10, "{}", log.waiting.len());
    assert!(log.waiting.iter().any(|waiting| waiting.upgrade().is_some()));
}

/// Every file that was written to is handed out once, and so is the folder when a file comes into it.
#[test]
fn what_is_to_be_synced_is_handed_out_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path());
    assert_eq!(log.take_dirty().len(), 0);
    append(&mut log, &TestBatch::new(&["a"], 0));
    assert_eq!(log.take_dirty().len(), 2);
    assert_eq!(log.take_dirty().len(), 0);
    append(&mut log, &TestBatch::new(&["a"], 0));
    assert_eq!(log.take_dirty().len(), 1);
    append(&mut log, &TestBatch::new(&["a"], 0));
    log.roll(at(0)).unwrap();
    assert_eq!(log.take_dirty().len(), 3, "the sealed one, the new one and the folder");
}

/// From a failed sync on nothing is written or told again, an acknowledgement of a duplicate neither; then it goes on.
#[test]
fn what_could_not_be_synced_is_not_written_after() {
    let check = |rolls: bool| {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path());
        let first = TestBatch::of_producer(1, 1, 0, 0).transactional();
        append(&mut log, &first);
        if rolls {
            log.roll(at(0)).unwrap();
        }
        fail(folder.path(), Operation::Sync, 0, 1, EIO);
        let outcomes: Vec<bool> = log.take_dirty().iter().map(|unsynced| unsynced.sync().is_ok()).collect();
        assert_eq!(outcomes.iter().filter(|is_ok| !**is_ok).count(), 1);
        for batch in [&first, &TestBatch::new(&["another"], 0)] {
            assert_eq!(log.append(batch.build(), true, &settings(), at(0)), Err(ResponseError::KafkaStorageError));
        }
        let marker = log.write_marker(1, 0, true, &settings(), at(0));
        assert_eq!(marker, Err(ResponseError::KafkaStorageError));
        assert_eq!(read(&log, 0, 1 << 20, true), [0], "reading goes on");

        let again = log.take_dirty();
        assert_eq!(again.iter().map(Unsynced::had_failed).collect::<Vec<_>>(), [true]);
        again[0].sync().unwrap();
        assert_eq!(append(&mut log, &first), 0, "a duplicate");
        assert_eq!(append(&mut log, &TestBatch::new(&["another"], 0)), 1);
    };
    check(false);
    check(true);
}

/// The operation that fails changes nothing, whichever it is, and the log is as whole as it says.
#[test]
fn an_operation_that_fails_changes_nothing() {
    let batch = TestBatch::new(&["a"], 0);
    let by_size = TopicSettings { segment_bytes: 2 * batch.build().len() as u64, ..settings() };
    for (operation, errno) in [(Operation::Open, EMFILE), (Operation::Write, ENOSPC)] {
        for works in 0..8 {
            let folder = tempfile::tempdir().unwrap();
            let mut log = open(folder.path());
            fail(folder.path(), operation, works, 1, errno);
            let mut acknowledged = Vec::new();
            for _ in 0..12 {
                match log.append(batch.build(), false, &by_size, at(0)) {
                    Ok(appended) => acknowledged.push(appended.base_offset),
                    Err(error) => assert_eq!(error, ResponseError::KafkaStorageError),
                }
                log.close_if_idle(at(i64::MAX));
                log.take_dirty().iter().for_each(|unsynced| unsynced.sync().unwrap());
            }
            assert_eq!(acknowledged, (0..acknowledged.len() as i64).collect::<Vec<_>>());
            assert!(acknowledged.len() >= 11, "{operation:?} {works}: {acknowledged:?}");
            assert_eq!(open(folder.path()).end_offset(), acknowledged.len() as i64, "{operation:?} {works}");
        }
    }
}

/// How many files in a folder this process has open.
#[cfg(target_os = "linux")]
fn open_files(folder: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let opened = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
    opened.filter(|path| path.starts_with(folder)).count()
}

#[test]
#[cfg(target_os = "linux")]
fn open_files_do_not_grow_with_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path());
    let batch = TestBatch::new(&["a"], 0);
    let by_size = TopicSettings { segment_bytes: batch.build().len() as u64, ..settings() };
    for _ in 0..500 {
        log.append(batch.build(), false, &by_size, at(0)).unwrap();
        assert!(open_files(folder.path()) <= UNSYNCED_MAX + 1, "nothing syncs them but the log itself");
    }
    log.take_dirty().iter().for_each(|unsynced| unsynced.sync().unwrap());
    log.take_dirty();
    assert_eq!(open_files(folder.path()), 1, "the one that is written to");
    log.close_if_idle(at(OPEN_IDLE_MS_MAX));
    assert_eq!(open_files(folder.path()), 1, "it was just written to");
    log.close_if_idle(at(OPEN_IDLE_MS_MAX + 1));
    assert_eq!(open_files(folder.path()), 0);

    let mut log = open(folder.path());
    assert_eq!((log.segments.len(), open_files(folder.path())), (500, 0), "a start leaves none open");
    assert_eq!((read(&log, 0, 1 << 20, true), read(&log, 499, 1 << 20, true)), (vec![0], vec![499]));
    append(&mut log, &batch);
    log.close_if_idle(at(i64::MAX));
    assert_eq!(open_files(folder.path()), 1, "not before it is synced");
}

/// Without its file, the log refuses appends and reads with Kafka's error; it goes on where it was once it can.
#[test]
fn a_failing_disk_is_kafkas_storage_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path());
    let batch = TestBatch::new(&["a"], 0);
    append(&mut log, &batch);
    let by_size = TopicSettings { segment_bytes: batch.build().len() as u64, ..settings() };
    std::fs::remove_dir_all(folder.path()).unwrap();
    for _ in 0..2 {
        let refused = log.append(batch.build(), false, &by_size, at(0));
        assert_eq!(refused, Err(ResponseError::KafkaStorageError));
    }
    assert_eq!((log.end_offset(), read(&log, 0, 1 << 20, true)), (1, vec![0]), "reading goes on");
    std::fs::create_dir(folder.path()).unwrap();
    let appended = log.append(batch.build(), false, &by_size, at(0)).unwrap();
    assert_eq!(appended.base_offset, 1);
    assert_eq!(log.read(0, 100, true, Isolation::ReadUncommitted).unwrap_err(), ResponseError::KafkaStorageError);
    assert_eq!(read(&log, 1, 1 << 20, true), [1]);
}

/// A roll that fails leaves no file behind, which the next start would take for the next segment; smaller batches still fit.
#[test]
fn a_failed_roll_costs_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path());
    let (small, large) = (TestBatch::new(&["a"], 0), TestBatch::new(&[&"a".repeat(500)], 0));
    let by_size = TopicSettings { segment_bytes: 600, ..settings() };
    log.append(small.build(), false, &by_size, at(0)).unwrap();
    // A device can be opened, and not be cut to no bytes.
    let next = folder.path().join(segment::file_name(1));
    std::os::unix::fs::symlink("/dev/null", &next).unwrap();
    assert_eq!(log.append(large.build(), false, &by_size, at(0)), Err(ResponseError::KafkaStorageError));
    assert!(next.symlink_metadata().is_err(), "it is removed");
    assert_eq!(log.append(small.build(), false, &by_size, at(0)).unwrap().base_offset, 1);
    assert_eq!(log.append(large.build(), false, &by_size, at(0)).unwrap().base_offset, 2);
    drop(log);
    let log = open(folder.path());
    assert_eq!((read(&log, 0, 1 << 20, true), read(&log, 2, 1 << 20, true)), (vec![0, 1], vec![2]));
}

/// Aborted records are there for who reads committed ones, with the list that tells them; open ones are not.
#[test]
fn isolation_hides_what_is_open_and_lists_what_is_aborted() {
    let fill = |log: &mut PartitionLog| {
        append(log, &TestBatch::of_producer(1, 1, 0, 0).transactional());
        append(log, &TestBatch::new(&["plain"], 0));
        log.write_marker(1, 0, false, &settings(), at(0)).unwrap();
        append(log, &TestBatch::of_producer(1, 2, 0, 0).transactional());
        append(log, &TestBatch::new(&["held back"], 0));
    };
    check(fill, |log| {
        assert_eq!((log.stable_offset(), log.end_offset()), (3, 5));
        let committed = |from| log.read(from, 1 << 20, true, Isolation::ReadCommitted).unwrap();
        assert_eq!((bases(&committed(0)), committed(0).aborted), (vec![0, 1, 2], vec![(1, 0)]));
        for from in [3, 5] {
            assert!(committed(from).records.is_empty() && committed(from).aborted.is_empty());
        }
        let all = log.read(0, 1 << 20, true, Isolation::ReadUncommitted).unwrap();
        assert_eq!((bases(&all), all.aborted), (vec![0, 1, 2, 3, 4], vec![]));
        assert_eq!(log.offset_at_time(1_000, Isolation::ReadCommitted), Ok(Some((0, 1_000))));
        assert_eq!(log.offset_at_time(1_001, Isolation::ReadCommitted), Ok(None));
    });
}
