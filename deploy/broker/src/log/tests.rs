use std::path::Path;

use super::testing::{TestBatch, at, settings};
use super::*;

/// An empty log in a folder.
fn open(folder: &Path) -> PartitionLog {
    PartitionLog::open(Place::Folder(folder.to_owned()), 0, false).unwrap()
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
    let mut memory = PartitionLog::open(Place::Memory, 0, false).unwrap();
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
