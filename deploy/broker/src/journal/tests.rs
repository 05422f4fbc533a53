use proptest::prelude::*;
use serde::Deserialize;
use tempfile::TempDir;

use super::*;
use crate::durable::testing::{EIO, fail};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Record {
    Put { key: String, value: Vec<u8> },
    Remove { key: String },
}

fn put(key: &str, value: usize) -> Record {
    Record::Put { key: key.to_owned(), value: vec![b'v'; value] }
}

fn records() -> impl Strategy<Value = Record> {
    prop_oneof![
        ("[a-c]{0,3}", prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(key, value)| Record::Put { key, value }),
        "[a-c]{0,3}".prop_map(|key| Record::Remove { key }),
    ]
}

/// Appends, at least one record each.
fn appends(max: usize) -> impl Strategy<Value = Vec<Vec<Record>>> {
    prop::collection::vec(prop::collection::vec(records(), 1..4), 0..max)
}

/// A journal file of these appends, and where each of them ends; the first is the end of the header.
fn written(appends: &[Vec<Record>]) -> (TempDir, PathBuf, Vec<u64>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (mut journal, none) = Journal::<Record>::open(Some(&path), false).unwrap();
    assert!(none.is_empty());
    let mut ends = vec![fs::metadata(&path).unwrap().len()];
    for append in appends {
        journal.append(append).unwrap();
        ends.push(fs::metadata(&path).unwrap().len());
    }
    (folder, path, ends)
}

fn reopened(path: &Path) -> Vec<Record> {
    Journal::open(Some(path), false).unwrap().1
}

#[test]
fn what_was_appended_is_read_back() {
    let appends = [vec![put("a", 3)], vec![put("b", 100_000), Record::Remove { key: "a".to_owned() }]];
    let (_folder, path, _) = written(&appends);
    assert_eq!(reopened(&path), appends.concat());
    assert_eq!(reopened(&path), appends.concat());
}

#[test]
fn in_memory_nothing_is_kept_and_nothing_fails() {
    let (mut journal, records) = Journal::open(None, false).unwrap();
    assert_eq!(records, []);
    journal.append(&vec![put("a", 1); 2 * REWRITE_RECORDS_MIN]).unwrap();
    assert!(!journal.is_worth_rewriting(1));
    assert!(journal.take_dirty().is_empty());
    journal.rewrite(std::iter::once(put("a", 1))).unwrap();
}

#[test]
fn it_is_dirty_from_an_append_until_it_is_taken() {
    let (_folder, path, _) = written(&[]);
    let (mut journal, _) = Journal::open(Some(&path), false).unwrap();
    assert!(journal.take_dirty().is_empty());
    journal.append(&[]).unwrap();
    assert!(journal.take_dirty().is_empty(), "an empty append writes nothing");
    journal.append(&[put("a", 1)]).unwrap();
    journal.take_dirty()[0].sync().unwrap();
    assert!(journal.take_dirty().is_empty());
}

#[test]
fn it_is_worth_rewriting_when_most_of_it_is_dead() {
    let (_folder, path, _) = written(&[]);
    let (mut journal, _) = Journal::open(Some(&path), false).unwrap();
    journal.append(&vec![put("a", 1); REWRITE_RECORDS_MIN - 1]).unwrap();
    assert!(!journal.is_worth_rewriting(1), "too small");
    journal.append(&[put("a", 1)]).unwrap();
    assert!(journal.is_worth_rewriting(1));
    assert!(!journal.is_worth_rewriting(REWRITE_RECORDS_MIN / DEAD_RATIO + 1), "too much of it is alive");
    journal.rewrite(std::iter::once(put("a", 1))).unwrap();
    assert!(!journal.is_worth_rewriting(1));
}

#[test]
fn a_rewrite_of_many_frames_is_read_back_and_appended_to() {
    let (_folder, path, _) = written(&[vec![put("old", 10)]]);
    let (mut journal, _) = Journal::open(Some(&path), false).unwrap();
    let mut alive: Vec<_> = (0..100).map(|i| put(&i.to_string(), 5_000)).collect();
    journal.rewrite(alive.clone().into_iter()).unwrap();
    alive.push(put("new", 1));
    journal.append(&alive[100..]).unwrap();
    assert_eq!(reopened(&path), alive);
    assert!(!new_path(&path).exists());
}

#[test]
fn what_a_killed_rewrite_left_is_removed() {
    let (_folder, path, _) = written(&[vec![put("a", 1)]]);
    fs::write(new_path(&path), b"half a journal").unwrap();
    assert_eq!(reopened(&path), [put("a", 1)]);
    assert!(!new_path(&path).exists());
}

#[test]
fn a_file_that_is_no_journal_is_refused_and_repair_says_what_it_cuts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    fs::write(&path, b"something else entirely").unwrap();
    let error = Journal::<Record>::open(Some(&path), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} is corrupt at byte 0 (not the header of a journal); restore it, or start with --repair to cut 23 bytes from there on",
            path.display()
        )
    );
    let (mut journal, records) = Journal::open(Some(&path), true).unwrap();
    assert_eq!(records, []);
    journal.append(&[put("a", 1)]).unwrap();
    assert_eq!(reopened(&path), [put("a", 1)]);
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut header = b"TWJOURNL\x07\0\0\0".to_vec();
    header.extend(crc32c::crc32c(&header).to_le_bytes());
    fs::write(&path, header).unwrap();
    for repair in [false, true] {
        let error = Journal::<Record>::open(Some(&path), repair).unwrap_err();
        assert!(matches!(error, StartError::NewerFormat { found: 7, known: 1, .. }), "{error}");
    }
}

#[test]
fn records_of_another_type_are_refused_though_their_checksum_holds() {
    let (_folder, path, ends) = written(&[vec![put("a", 1)]]);
    let error = Journal::<(u8, u8, u8, u8, u8, u8, u8)>::open(Some(&path), false).unwrap_err();
    assert!(matches!(error, StartError::Corrupt { position, .. } if position == ends[0]), "{error}");
}

#[test]
fn a_record_that_holds_a_frame_does_not_pass_for_one() {
    // A client's bytes: a whole journal with a valid frame, inside of a torn append.
    let (_inner_folder, inner, _) = written(&[vec![put("inner", 5)]]);
    let value = fs::read(inner).unwrap();
    let (_folder, path, ends) = written(&[vec![put("a", 1)], vec![Record::Put { key: "b".to_owned(), value }]]);
    File::options().write(true).open(&path).unwrap().set_len(ends[2] - 1).unwrap();
    assert_eq!(reopened(&path), [put("a", 1)]);
}

#[test]
fn what_a_failed_append_left_is_cut_before_the_next() {
    let (_folder, path, ends) = written(&[vec![put("a", 1)]]);
    let (mut journal, _) = Journal::open(Some(&path), false).unwrap();
    // Neither a write nor a cut goes through a handle that only reads.
    let unwritable = Arc::new(Durable::file(&path, File::open(&path).unwrap(), |_| Ok(())));
    let writable = std::mem::replace(&mut journal.disk.as_mut().unwrap().file, unwritable);
    journal.append(&[put("b", 1_000)]).unwrap_err();
    journal.append(&[put("c", 1_000)]).unwrap_err();
    writable.to_write().unwrap().write_all(b"what a full disk took of an append").unwrap();

    journal.disk.as_mut().unwrap().file = writable;
    journal.append(&[put("d", 1)]).unwrap();
    assert_eq!(reopened(&path), [put("a", 1), put("d", 1)]);
    assert_eq!(fs::metadata(&path).unwrap().len(), 2 * ends[1] - ends[0], "nothing between the two");
}

proptest! {
    /// Cut anywhere, it gives the appends that are whole, and takes new ones behind them.
    #[test]
    fn a_torn_tail_is_cut_whole(appends in appends(6), at in any::<prop::sample::Index>(), more in records()) {
        let (_folder, path, ends) = written(&appends);
        let length = at.index(*ends.last().unwrap() as usize + 1) as u64;
        File::options().write(true).open(&path).unwrap().set_len(length).unwrap();

        let whole = ends.iter().skip(1).filter(|&&end| end <= length).count();
        let mut expected = appends[..whole].concat();
        let (mut journal, records) = Journal::<Record>::open(Some(&path), false).unwrap();
        prop_assert_eq!(&records, &expected);
        journal.append(std::slice::from_ref(&more)).unwrap();
        expected.push(more);
        prop_assert_eq!(reopened(&path), expected);
    }

    /// One flipped bit: in the last append it is cut, anywhere else refused at that append, and repair keeps what is before.
    #[test]
    fn a_flipped_bit_is_found(appends in appends(6), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let (_folder, path, ends) = written(&appends);
        let mut bytes = fs::read(&path).unwrap();
        let byte = at.index(bytes.len());
        bytes[byte] ^= 1 << bit;
        fs::write(&path, &bytes).unwrap();

        let opened = Journal::<Record>::open(Some(&path), false);
        let Some(hit) = ends.windows(2).position(|ends| (ends[0]..ends[1]).contains(&(byte as u64))) else {
            prop_assert!(matches!(opened, Err(StartError::Corrupt { position: 0, .. })), "{:?}", opened);
            return Ok(());
        };
        if hit + 1 == appends.len() {
            prop_assert_eq!(opened.unwrap().1, appends[..hit].concat());
            return Ok(());
        }
        match opened {
            Err(StartError::Corrupt { position, cut_bytes, .. }) => {
                prop_assert_eq!(position, ends[hit]);
                prop_assert_eq!(cut_bytes, bytes.len() as u64 - ends[hit]);
            }
            other => prop_assert!(false, "{:?}", other),
        }
        prop_assert_eq!(fs::read(&path).unwrap(), bytes, "a refused file is not touched");
        prop_assert_eq!(Journal::<Record>::open(Some(&path), true).unwrap().1, appends[..hit].concat());
        prop_assert_eq!(reopened(&path), appends[..hit].concat());
    }

    /// Rewritten, appended to and opened again, it holds the rewritten records and then the appended ones.
    #[test]
    fn rewrite_then_append_then_open(before in appends(4), alive in prop::collection::vec(records(), 0..20), after in appends(4)) {
        let (_folder, path, _) = written(&before);
        let (mut journal, _) = Journal::open(Some(&path), false).unwrap();
        journal.rewrite(alive.clone().into_iter()).unwrap();
        for append in &after {
            journal.append(append).unwrap();
        }
        prop_assert_eq!(reopened(&path), [alive, after.concat()].concat());
    }

    /// Any bytes at all are refused, cut or read, never a panic; with repair they are always opened and stay openable.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), is_headed in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let bytes = if is_headed { [frames::header(), bytes].concat() } else { bytes };
        fs::write(&path, bytes).unwrap();
        let _ = Journal::<Record>::open(Some(&path), false);
        let (mut journal, mut records) = Journal::open(Some(&path), true).unwrap();
        journal.append(&[put("a", 1)]).unwrap();
        records.push(put("a", 1));
        prop_assert_eq!(reopened(&path), records);
    }
}

/// The coordinator's decision, the one who asks for it by its own sync, and whoever appends after it.
#[test]
fn after_a_failed_sync_it_takes_no_appends_until_it_is_synced() {
    let (folder, path, _) = written(&[]);
    let (mut journal, _) = Journal::open(Some(&path), false).unwrap();
    journal.append(&[put("a", 1)]).unwrap();
    fail(folder.path(), Operation::Sync, 0, 2, EIO);
    for _ in 0..2 {
        assert!(journal.take_dirty()[0].sync().is_err());
        assert!(journal.append(&[put("b", 1)]).is_err());
    }
    journal.take_dirty()[0].sync().unwrap();
    journal.append(&[put("c", 1)]).unwrap();
    assert_eq!(reopened(&path), [put("a", 1), put("c", 1)]);
}

/// Until the folder is synced a power loss may bring the old file back, without what was appended to the new one.
#[test]
fn after_a_rewrite_whose_folder_could_not_be_synced_it_takes_no_appends_until_it_is() {
    let (_folder, path, _) = written(&[vec![put("a", 1)]]);
    let (mut journal, _) = Journal::open(Some(&path), false).unwrap();
    fail(folder_of(&path), Operation::Sync, 0, 1, EIO);
    journal.rewrite(std::iter::once(put("b", 1))).unwrap_err();
    journal.append(&[put("c", 1)]).unwrap_err();
    assert_eq!(reopened(&path), [put("b", 1)]);
    journal.take_dirty()[0].sync().unwrap();
    journal.append(&[put("d", 1)]).unwrap();
    assert_eq!(reopened(&path), [put("b", 1), put("d", 1)]);
}

#[test]
fn what_was_appended_before_the_start_is_synced_by_it() {
    let (folder, path, _) = written(&[vec![put("a", 1)]]);
    fail(folder.path(), Operation::Sync, 0, 1, EIO);
    let refused = Journal::<Record>::open(Some(&path), false).unwrap_err().to_string();
    assert!(refused.starts_with(&format!("cannot sync {}", path.display())), "{refused}");
}
