//! A disk that fails where a test wants it to: by folder, so that tests do not meet.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub(crate) use super::Operation;

/// What the system says of a disk that fails, of too many open files, and of a full disk.
pub(crate) const EIO: i32 = 5;
pub(crate) const EMFILE: i32 = 24;
pub(crate) const ENOSPC: i32 = 28;

struct Folder {
    path: PathBuf,
    operation: Operation,
    /// So many work before the first that fails.
    works: usize,
    /// And so many fail before all work again.
    fails: usize,
    errno: i32,
    /// How many were asked for.
    asked: usize,
}

static FOLDERS: Mutex<Vec<Folder>> = Mutex::new(Vec::new());

/// In all of this folder, of one operation the next `works` work and the `fails` after them fail. Takes the place of what
/// was said of both before.
pub(crate) fn fail(folder: &Path, operation: Operation, works: usize, fails: usize, errno: i32) {
    let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
    folders.retain(|known| known.path != folder || known.operation != operation);
    folders.push(Folder { path: folder.to_owned(), operation, works, fails, errno, asked: 0 });
}

/// Counts an operation in this folder from here on, all of which work.
pub(crate) fn heal(folder: &Path, operation: Operation) {
    fail(folder, operation, 0, 0, 0);
}

/// How often an operation was asked for since what it does there was last said.
pub(crate) fn asked(folder: &Path, operation: Operation) -> usize {
    let folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
    folders.iter().find(|known| known.path == folder && known.operation == operation).map_or(0, |known| known.asked)
}

pub(super) fn strike(operation: Operation, path: &Path) -> io::Result<()> {
    let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
    for folder in folders.iter_mut().filter(|folder| folder.operation == operation && path.starts_with(&folder.path)) {
        let before = folder.asked;
        folder.asked += 1;
        if (folder.works..folder.works.saturating_add(folder.fails)).contains(&before) {
            return Err(io::Error::from_raw_os_error(folder.errno));
        }
    }
    Ok(())
}
