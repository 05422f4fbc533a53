use super::super::testing::{TestBatch, at, settings};
use super::super::{Isolation, PartitionLog, Place};
use super::*;
use crate::durable::testing::{EIO, Operation, asked, fail, heal};
use crate::topics::settings::TopicSettings;

fn open_at(folder: &Path, start_offset: i64, repair: bool) -> Result<PartitionLog, StartError> {
    PartitionLog::open(Place::Folder(folder.to_owned()), start_offset, repair)
}

/// A folder with ten batches of one record, two in a segment, and the size of a batch.
fn ten_batches() -> (tempfile::TempDir, u64) {
    let folder = tempfile::tempdir().unwrap();
    let batch = TestBatch::new(&["value"], 0).build();
    let settings = TopicSettings { segment_bytes: 2 * batch.len() as u64, ..settings() };
    let mut log = open_at(folder.path(), 0, false).unwrap();
    for _ in 0..10 {
        log.append(batch.clone(), false, &settings, at(0)).unwrap();
    }
    (folder, batch.len() as u64)
}

fn path(folder: &Path, base_offset: i64) -> PathBuf {
    folder.join(file_name(base_offset))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Changes the last file by `damage`; the log then ends where `expected` says, without being asked.
fn check_tail(damage: impl FnOnce(&mut Vec<u8>), expected: i64) {
    let (folder, _) = ten_batches();
    let last = path(folder.path(), 8);
    let mut bytes = fs::read(&last).unwrap();
    damage(&mut bytes);
    fs::write(&last, bytes).unwrap();
    assert_eq!(open_at(folder.path(), 0, false).unwrap().end_offset(), expected);
    assert_eq!(open_at(folder.path(), 0, false).unwrap().end_offset(), expected, "again");
}

#[test]
fn a_torn_tail_is_cut() {
    check_tail(|_| {}, 10);
    check_tail(|bytes| bytes.truncate(bytes.len() - 1), 9);
    check_tail(|bytes| bytes.truncate(1), 8);
    check_tail(Vec::clear, 8);
    check_tail(|bytes| bytes.resize(3_000_000, 0), 10);
    check_tail(|bytes| bytes.resize(100_000, 2), 10);
    check_tail(|bytes| *bytes.last_mut().unwrap() ^= 1, 9);
    check_tail(|bytes| bytes.fill(0), 8);
}

/// Damage before a valid batch is not explained by a torn write.
#[test]
fn other_damage_is_refused_with_its_place_and_its_price() {
    let (folder, size) = ten_batches();
    let damaged = path(folder.path(), 4);
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[size as usize + 30] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let refused = open_at(folder.path(), 0, false).unwrap_err().to_string();
    let partition = folder.path().file_name().unwrap().to_string_lossy();
    let expected = format!(
        "restore it, or start with --repair to cut {} bytes from there on, which loses offsets 5 to 9 of {partition}",
        5 * size
    );
    assert!(
        refused.starts_with(&format!("{} is corrupt at byte {size} (a batch's CRC32C is ", damaged.display())),
        "{refused}"
    );
    assert!(refused.ends_with(&expected), "{refused}");
    assert_eq!(open_at(folder.path(), 0, true).unwrap().end_offset(), 5);
    assert_eq!(names(folder.path()), [0, 2, 4].map(file_name));
}

#[test]
fn a_bad_length_in_the_last_file_is_refused_if_a_valid_batch_follows() {
    let (folder, _) = ten_batches();
    let damaged = path(folder.path(), 8);
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[8] = 0x7F;
    fs::write(&damaged, bytes).unwrap();
    let refused = open_at(folder.path(), 0, false).unwrap_err();
    assert!(matches!(refused, StartError::Corrupt { position: 0, .. }), "{refused}");
    assert_eq!(open_at(folder.path(), 0, true).unwrap().end_offset(), 8);
}

/// A full file whose end is missing, then another: no write tears like that.
#[test]
fn a_cut_file_before_another_is_refused() {
    let (folder, size) = ten_batches();
    OpenOptions::new().write(true).open(path(folder.path(), 2)).unwrap().set_len(size + 5).unwrap();
    let refused = open_at(folder.path(), 0, false).unwrap_err();
    assert!(matches!(&refused, StartError::Corrupt { position, .. } if *position == size), "{refused}");
}

/// The new file was there, its first batch was not, and the one before it had not been synced: still a tail.
#[test]
fn empty_files_after_a_torn_one_do_not_make_it_corrupt() {
    let (folder, size) = ten_batches();
    File::create(path(folder.path(), 10)).unwrap();
    OpenOptions::new().write(true).open(path(folder.path(), 8)).unwrap().set_len(size + 5).unwrap();
    assert_eq!(open_at(folder.path(), 0, false).unwrap().end_offset(), 10);
}

/// Offsets must not go back, nor reach into the next file; they may leave gaps.
#[test]
fn offsets_increase() {
    let check = |offsets: [i64; 2], is_good: bool| {
        let (folder, _) = ten_batches();
        let batch = |offset| TestBatch::new(&["value"], 0).build_with(|header| header.base_offset = offset);
        fs::write(path(folder.path(), 2), [batch(offsets[0]), batch(offsets[1])].concat()).unwrap();
        assert_eq!(open_at(folder.path(), 0, false).is_ok(), is_good, "{offsets:?}");
    };
    check([2, 3], true);
    check([3, 3], false);
    check([1, 3], false);
    check([2, 4], false);
    fs::remove_file(path(ten_batches().0.path(), 4)).unwrap();
    let (folder, _) = ten_batches();
    fs::remove_file(path(folder.path(), 4)).unwrap();
    let log = open_at(folder.path(), 0, false).unwrap();
    let read = log.read(4, 1 << 20, true, Isolation::ReadUncommitted).unwrap();
    assert_eq!(BatchHeader::parse(&read.records).unwrap().base_offset, 6);
}

#[test]
fn the_journalled_start_counts() {
    let check = |start_offset: i64, expected: (i64, i64), files: &[i64]| {
        let (folder, _) = ten_batches();
        let log = open_at(folder.path(), start_offset, false).unwrap();
        assert_eq!((log.start_offset(), log.end_offset()), expected);
        assert_eq!(names(folder.path()), files.iter().map(|offset| file_name(*offset)).collect::<Vec<_>>());
    };
    check(0, (0, 10), &[0, 2, 4, 6, 8]);
    check(3, (3, 10), &[2, 4, 6, 8]);
    check(4, (4, 10), &[4, 6, 8]);
    check(10, (10, 10), &[8]);
    check(15, (15, 15), &[8]);
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(open_at(&empty.path().join("new"), 7, false).unwrap().end_offset(), 7);
}

/// A start beyond what a power loss has left: the log goes on from there, and opens again.
#[test]
fn an_append_after_a_gap_is_read_back() {
    let (folder, _) = ten_batches();
    let mut log = open_at(folder.path(), 15, false).unwrap();
    let batch = TestBatch::new(&["value"], 0).build();
    assert_eq!(log.append(batch, false, &settings(), at(0)).unwrap().base_offset, 15);
    let log = open_at(folder.path(), 15, false).unwrap();
    assert_eq!((log.start_offset(), log.end_offset()), (15, 16));
    let read = log.read(15, 1 << 20, true, Isolation::ReadUncommitted).unwrap();
    assert_eq!(BatchHeader::parse(&read.records).unwrap().base_offset, 15);
}

#[test]
fn what_was_written_before_the_start_is_synced_by_it() {
    let (folder, _) = ten_batches();
    File::options().write(true).open(path(folder.path(), 0)).unwrap().set_modified(UNIX_EPOCH).unwrap();
    heal(folder.path(), Operation::Sync);
    let mut log = open_at(folder.path(), 0, false).unwrap();
    assert_eq!(asked(folder.path(), Operation::Sync), 5, "four files and their folder; the first is old");
    assert_eq!(log.take_dirty().len(), 0);
    fail(folder.path(), Operation::Sync, 3, 1, EIO);
    let refused = open_at(folder.path(), 0, false).unwrap_err().to_string();
    let last = path(folder.path(), 8);
    assert!(refused.starts_with(&format!("cannot sync {}", last.display())), "{refused}");
}

/// A claim of a long batch allocates nothing.
#[test]
fn a_length_that_no_file_has_costs_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), 0);
    let header = TestBatch::new(&["value"], 0).build_with(|header| header.size = 64 << 20);
    fs::write(&file, &header[..HEADER_LEN]).unwrap();
    OpenOptions::new().write(true).open(&file).unwrap().set_len(65 << 20).unwrap();
    let used = allocation_counter::measure(|| {
        assert_eq!(open_at(folder.path(), 0, false).unwrap().end_offset(), 0);
    });
    assert!(used.bytes_max < 4 << 20, "{} bytes", used.bytes_max);
}

#[test]
fn thousands_are_grouped() {
    let check = |number, expected| assert_eq!(grouped(number), expected);
    check(0, "0");
    check(999, "999");
    check(1_000, "1,000");
    check(1_234_567, "1,234,567");
}
