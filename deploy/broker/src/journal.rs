//! An append-only file of checksummed records, for what no batch tells: topics, committed offsets, coordinators' decisions.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::StartError;

/// A journal of records `R`. When it has grown to several times what is alive, its owner rewrites it.
pub(crate) struct Journal<R> {
    record: std::marker::PhantomData<R>,
}

#[allow(unused, clippy::unimplemented)]
impl<R: Serialize + DeserializeOwned> Journal<R> {
    /// Opens or makes the file and gives its records in order. A torn tail is cut; other damage is refused, or cut when `repair`.
    /// `path` `None`: in memory, nothing is kept.
    pub(crate) fn open(path: Option<&Path>, repair: bool) -> Result<(Self, Vec<R>), StartError> {
        unimplemented!()
    }

    /// Appends records, all or none (one write; a partial one is cut again).
    pub(crate) fn append(&mut self, records: &[R]) -> std::io::Result<()> {
        unimplemented!()
    }

    /// Whether so much of it is dead that it should be rewritten, given how many records are alive.
    pub(crate) fn is_worth_rewriting(&self, alive: usize) -> bool {
        unimplemented!()
    }

    /// Replaces all of it by these records: a new file, synced, renamed over the old one.
    pub(crate) fn rewrite(&mut self, records: impl Iterator<Item = R>) -> std::io::Result<()> {
        unimplemented!()
    }
}
