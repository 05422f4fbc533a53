use std::io::Write;

use super::testing::{EIO, asked, fail, heal};
use super::*;

const CONTENT: &[u8] = b"what was written";

/// A file of [`CONTENT`], which its check asks for, and its folder.
fn file() -> (tempfile::TempDir, Arc<Durable>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let open = File::options().read(true).append(true).create(true).open(&path).unwrap();
    let check = |path: &Path| match std::fs::read(path)? == CONTENT {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    };
    let durable = Arc::new(Durable::file(&path, open, check));
    durable.to_write().unwrap().write_all(CONTENT).unwrap();
    (folder, durable)
}

#[test]
fn it_is_handed_out_once_for_each_write_and_synced_when_the_last_is() {
    let (_folder, file) = file();
    let first = file.hand_out().unwrap();
    assert!(file.hand_out().is_none() && !file.is_synced());
    file.touch();
    let second = file.hand_out().unwrap();
    first.sync().unwrap();
    assert!(!file.is_synced(), "a write came after it");
    second.sync().unwrap();
    assert!(file.is_synced() && file.hand_out().is_none());
}

#[test]
fn after_a_failed_sync_it_takes_no_writes_until_all_of_it_was_written_again_and_synced() {
    let (folder, file) = file();
    fail(folder.path(), Operation::Sync, 0, 2, EIO);
    let first = file.hand_out().unwrap();
    file.touch();
    let second = file.hand_out().unwrap();
    assert_eq!(first.sync().unwrap_err().raw_os_error(), Some(EIO));
    second.sync().unwrap_err();
    assert_eq!(asked(folder.path(), Operation::Sync), 1, "the system's word on a second one is worth nothing");
    assert!(file.has_failed() && !file.is_synced() && file.to_write().is_err());

    heal(folder.path(), Operation::Write);
    fail(folder.path(), Operation::Sync, 0, 1, EIO);
    file.hand_out().unwrap().sync().unwrap_err();
    assert!(file.has_failed(), "and again");
    let third = file.hand_out().unwrap();
    assert!(third.had_failed());
    third.sync().unwrap();
    assert!(file.is_synced() && file.to_write().is_ok());
    assert_eq!(asked(folder.path(), Operation::Write), 3, "twice all of it, then ours");
    assert_eq!(std::fs::read(folder.path().join("file")).unwrap(), CONTENT);
}

/// What the system has dropped shows in what is read; only its return makes the file whole.
#[test]
fn what_the_system_has_dropped_is_not_taken_for_synced() {
    let (folder, file) = file();
    fail(folder.path(), Operation::Sync, 0, 1, EIO);
    file.hand_out().unwrap().sync().unwrap_err();
    std::fs::write(folder.path().join("file"), vec![0; CONTENT.len()]).unwrap();
    for _ in 0..2 {
        assert_eq!(file.hand_out().unwrap().sync().unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(file.has_failed());
    }
    std::fs::write(folder.path().join("file"), CONTENT).unwrap();
    file.hand_out().unwrap().sync().unwrap();
    assert!(file.is_synced());
}

#[test]
fn what_was_deleted_or_replaced_needs_nothing() {
    for replacement in [None, Some("another file")] {
        let (folder, file) = file();
        let path = folder.path().join("file");
        fail(folder.path(), Operation::Sync, 0, 1, EIO);
        file.hand_out().unwrap().sync().unwrap_err();
        match replacement {
            Some(text) => {
                std::fs::write(folder.path().join("new"), text).unwrap();
                std::fs::rename(folder.path().join("new"), &path).unwrap();
            }
            None => std::fs::remove_file(&path).unwrap(),
        }
        file.hand_out().unwrap().sync().unwrap();
        assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), replacement);
    }
}

#[test]
fn a_folder_is_to_be_synced_from_the_start_and_may_be_gone() {
    let folder = tempfile::tempdir().unwrap();
    let durable = Arc::new(Durable::folder(folder.path()));
    fail(folder.path(), Operation::Sync, 0, 1, EIO);
    durable.hand_out().unwrap().sync().unwrap_err();
    durable.hand_out().unwrap().sync().unwrap();
    assert!(durable.is_synced());
    let gone = folder.path().join("gone");
    Arc::new(Durable::folder(&gone)).hand_out().unwrap().sync().unwrap();
}
