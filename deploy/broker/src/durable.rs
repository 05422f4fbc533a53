//! What is written by the broker's thread and synced by any: a file that is appended to, or a folder that gets entries.
//!
//! Invariant: from a failed sync on nothing is written to a file until all of it is known to be on the disk. That a later sync
//! succeeds does not tell it: the system may have dropped what it could not write and take its pages for clean. So before a
//! sync is tried again, the file is read, checked and written over itself, which makes all of it new to the system.
//!
//! Source: <https://wiki.postgresql.org/wiki/Fsync_Errors>; Rebello and others, "Can Applications Recover from fsync Failures?",
//! USENIX ATC 2020.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[cfg(test)]
pub(crate) mod testing;

/// Bytes that are written again at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// Whether the content of a file is what was written, by the checksums in it; `InvalidData` if not.
pub(crate) type Check = fn(&Path) -> io::Result<()>;

/// A file or folder that is to be durable. The broker's thread writes to it and hands it out; any thread syncs it.
#[derive(Debug)]
pub(crate) struct Durable {
    path: PathBuf,
    kind: Kind,
    /// Writes that were begun.
    written: AtomicU64,
    /// Of these, how many had been begun when it was last handed out.
    handed_out: AtomicU64,
    /// And how many are on the disk.
    synced: AtomicU64,
    has_failed: AtomicBool,
}

#[derive(Debug)]
enum Kind {
    File {
        file: File,
        check: Check,
    },
    /// Opened for each sync, so that folders are no open files.
    Folder,
}

impl Durable {
    /// A file that was opened to append.
    pub(crate) fn file(path: &Path, file: File, check: Check) -> Self {
        Self::new(path, Kind::File { file, check })
    }

    /// A folder that has got an entry, or lost one.
    pub(crate) fn folder(path: &Path) -> Self {
        let folder = Self::new(path, Kind::Folder);
        folder.touch();
        folder
    }

    fn new(path: &Path, kind: Kind) -> Self {
        let path = path.to_owned();
        let [written, handed_out, synced] = [const { AtomicU64::new(0) }; 3];
        Self { path, kind, written, handed_out, synced, has_failed: AtomicBool::new(false) }
    }

    /// Notes that it is being changed.
    pub(crate) fn touch(&self) {
        self.written.fetch_add(1, Ordering::AcqRel);
    }

    /// The file, to be read.
    pub(crate) fn as_file(&self) -> io::Result<&File> {
        match &self.kind {
            Kind::File { file, .. } => Ok(file),
            Kind::Folder => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The file, to be written to or cut. Only for the broker's thread: while it writes, nothing is written again.
    ///
    /// # Errors
    /// Its last sync has failed.
    pub(crate) fn to_write(&self) -> io::Result<&File> {
        if self.has_failed() {
            return Err(io::Error::other("it takes no writes until what was written before is on the disk"));
        }
        allow(Operation::Write, &self.path)?;
        self.touch();
        self.as_file()
    }

    /// Whether its last sync has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Whether all that was written is on the disk.
    pub(crate) fn is_synced(&self) -> bool {
        !self.has_failed() && self.synced.load(Ordering::Acquire) == self.written.load(Ordering::Acquire)
    }

    /// What is to be synced if it was written to since this was last called, or if its last sync has failed.
    pub(crate) fn hand_out(self: &Arc<Self>) -> Option<Unsynced> {
        let had_failed = self.has_failed();
        let written = self.written.load(Ordering::Acquire);
        let is_new = self.handed_out.swap(written, Ordering::AcqRel) != written;
        (is_new || had_failed).then(|| Unsynced { durable: Arc::clone(self), written, had_failed })
    }

    fn sync_data(&self) -> io::Result<()> {
        allow(Operation::Sync, &self.path)?;
        match &self.kind {
            Kind::File { file, .. } => file.sync_data(),
            Kind::Folder => match File::open(&self.path) {
                Ok(folder) => folder.sync_all(),
                // It was deleted since, with what was in it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            },
        }
    }

    /// Writes all of a file over itself. One that was deleted or replaced since has nothing that is to be kept.
    fn write_again(&self) -> io::Result<()> {
        let Kind::File { file, check } = &self.kind else { return Ok(()) };
        let same = match File::options().read(true).write(true).open(&self.path) {
            Ok(same) => same,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let identity = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        if identity(file)? != identity(&same)? {
            return Ok(());
        }
        check(&self.path)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut position = 0;
        loop {
            let read = same.read_at(&mut buffer, position)?;
            if read == 0 {
                return Ok(());
            }
            allow(Operation::Write, &self.path)?;
            same.write_all_at(&buffer[..read], position)?;
            position += read as u64;
        }
    }
}

/// Syncs a file or folder here and now, for the start, when there is nobody yet who could be refused.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    allow(Operation::Sync, path)?;
    file.sync_all()
}

/// Something written that is to be synced, on any thread.
#[derive(Debug)]
pub(crate) struct Unsynced {
    durable: Arc<Durable>,
    /// What it makes durable.
    written: u64,
    /// It was refused writes when this was handed out, so that it can be written again.
    had_failed: bool,
}

impl Unsynced {
    /// Whether this is a sync that has failed before: no answer waits for it.
    pub(crate) fn had_failed(&self) -> bool {
        self.had_failed
    }

    /// Makes durable what was written before this was handed out. The first failure is logged, and that it is over.
    ///
    /// # Errors
    /// Those of the system; what was written may be lost by a power failure. [`Durable::hand_out`] gives it again.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let durable = &self.durable;
        let is_again = durable.has_failed();
        let synced = match (is_again, self.had_failed) {
            (false, _) => durable.sync_data(),
            (true, true) => durable.write_again().and_then(|()| durable.sync_data()),
            // A write may be going on that was begun before the failure.
            (true, false) => return Err(io::Error::other("an earlier sync of it has failed")),
        };
        let path = durable.path.display();
        match &synced {
            Ok(()) => {
                durable.synced.fetch_max(self.written, Ordering::AcqRel);
                if is_again {
                    durable.has_failed.store(false, Ordering::Release);
                    tracing::warn!(%path, "what could not be synced is on the disk now; it takes writes again");
                }
            }
            Err(error) => {
                if !durable.has_failed.swap(true, Ordering::AcqRel) {
                    tracing::error!(%path, %error, "cannot sync; it takes no writes until all of it is on the disk");
                }
            }
        }
        synced
    }
}

/// What a test can have fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// To open a log's file to write to it, or to make it.
    Open,
    /// To write to a file, or to cut it.
    Write,
    /// To sync a file or a folder.
    Sync,
}

/// Whether the disk does it: always, but where a test has said otherwise.
#[cfg_attr(not(test), expect(clippy::unnecessary_wraps, reason = "in tests it fails"))]
pub(crate) fn allow(_operation: Operation, _path: &Path) -> io::Result<()> {
    #[cfg(test)]
    testing::strike(_operation, _path)?;
    Ok(())
}

#[cfg(test)]
mod tests;
