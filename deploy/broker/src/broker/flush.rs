//! The thread that syncs files, so that the broker's own never waits for the disk.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};

/// Syncs what it is given, in order.
#[derive(Debug)]
pub(super) struct Flusher {
    batches: Option<SyncSender<Vec<Arc<File>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    pub(super) fn start() -> io::Result<Self> {
        // A place for the next batch while one is synced.
        let (batches, next) = mpsc::sync_channel::<Vec<Arc<File>>>(1);
        let thread = thread::Builder::new().name("broker-flush".to_owned()).spawn(move || {
            for batch in next {
                sync(&batch);
            }
        })?;
        Ok(Self { batches: Some(batches), thread: Some(thread) })
    }

    /// Gives it files to sync, or gives them back while it has enough to do.
    pub(super) fn give(&self, dirty: Vec<Arc<File>>) -> Result<(), Vec<Arc<File>>> {
        match self.batches.as_ref().map(|batches| batches.try_send(dirty)) {
            Some(Err(TrySendError::Full(dirty) | TrySendError::Disconnected(dirty))) => Err(dirty),
            Some(Ok(())) | None => Ok(()),
        }
    }
}

/// Waits for what it is syncing.
impl Drop for Flusher {
    fn drop(&mut self) {
        self.batches = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that syncs files has ended in a panic");
        }
    }
}

/// Syncs files; one that cannot be is told of, and the others go on.
pub(super) fn sync(dirty: &[Arc<File>]) {
    for file in dirty {
        if let Err(error) = file.sync_data() {
            tracing::error!(%error, ?file, "a file cannot be synced; a power loss would lose what was last written to it");
        }
    }
}
