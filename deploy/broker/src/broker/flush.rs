//! The thread that syncs files, so that the broker's own never waits for the disk.

use std::io;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};

use crate::durable::Unsynced;

/// Syncs what it is given, in order.
#[derive(Debug)]
pub(super) struct Flusher {
    batches: Option<SyncSender<Vec<Unsynced>>>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    pub(super) fn start() -> io::Result<Self> {
        // A place for the next batch while one is synced.
        let (batches, next) = mpsc::sync_channel::<Vec<Unsynced>>(1);
        let thread = thread::Builder::new().name("broker-flush".to_owned()).spawn(move || {
            for batch in next {
                sync(&batch);
            }
        })?;
        Ok(Self { batches: Some(batches), thread: Some(thread) })
    }

    /// Gives it files to sync, or gives them back while it has enough to do.
    pub(super) fn give(&self, dirty: Vec<Unsynced>) -> Result<(), Vec<Unsynced>> {
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

/// Syncs what it can. What it cannot takes no writes, is told of, and is handed out again.
pub(super) fn sync(dirty: &[Unsynced]) {
    for unsynced in dirty {
        let _is_told = unsynced.sync();
    }
}
