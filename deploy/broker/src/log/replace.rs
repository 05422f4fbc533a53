//! Replacing sealed segments by a rewritten one: how compaction's result takes their place.
//!
//! A rewrite of the segments from offset `a` to offset `e` goes through three names, so that a crash at any point leaves a
//! log that reads the same or as it was before:
//!
//! | name | written by | if it is there at start |
//! |---|---|---|
//! | `a.log.new` | the rewriting thread | not finished: it is removed |
//! | `a-e.swap` | [`PartitionLog::replace`], by a rename of the synced file | decided: segments from `a` to `e` go, it becomes `a.log` |
//! | `a.log` | [`PartitionLog::replace`], by a rename, once the others are gone | a segment as any other |
//!
//! Invariants: the replaced range keeps its first base offset, with no batch in it if need be, so the log begins where it did.
//! From the second name on the rewrite is what is read, in this process as after a start; if a later step fails, it is done
//! before anything else is replaced or deleted, so at most one `.swap` is there and it is never older than what it covers.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use kafka_protocol::ResponseError;

use super::recover::{base_offset_of, failed};
use super::scan::{Scan, ScanError};
use super::segment::{Index, SealedContent, Segment, file_name};
use super::{PartitionLog, Place};
use crate::error::StartError;

const NEW: &str = ".log.new";
const SWAP: &str = ".swap";

/// A segment that is no longer written to, as whoever rewrites it needs it.
#[derive(Clone, Debug)]
pub(crate) struct SealedSegment {
    pub(crate) content: SealedContent,
    pub(crate) base_offset: i64,
    /// The base offset of the segment after it.
    pub(crate) next_offset: i64,
    pub(crate) size_bytes: u64,
    /// The greatest timestamp of its records, or when it was last written to if they have none.
    pub(crate) largest_timestamp_ms: i64,
    /// The greatest timestamp of its first batch; `None`: it has no batch.
    pub(crate) first_timestamp_ms: Option<i64>,
}

/// What is to take the place of the segments from `base_offset` to `next_offset`.
#[derive(Debug)]
pub(crate) struct Rewritten {
    base_offset: i64,
    next_offset: i64,
    content: SealedContent,
    size: u64,
    index: Index,
    /// The offsets of the markers in it that abort a transaction.
    abort_markers: BTreeSet<i64>,
}

impl Rewritten {
    /// Checks a rewrite, syncs it and makes its index; for the thread that wrote it. `next_offset` is that of the last segment
    /// it replaces. A file must have the name that [`PartitionLog::rewrite_path`] gives.
    pub(crate) fn finish(content: SealedContent, base_offset: i64, next_offset: i64) -> io::Result<Self> {
        let mut scan = Scan::of_content(&content, base_offset)?;
        scan.end_offset = next_offset;
        let mut index = Index::default();
        let mut abort_markers = BTreeSet::new();
        loop {
            match scan.next() {
                Ok(Some(batch)) => {
                    index.learn(&batch.header, batch.position);
                    let is_abort = batch.marker.is_some_and(|marker| !marker.is_commit);
                    abort_markers.extend(is_abort.then_some(batch.header.last_offset()));
                }
                Ok(None) => break,
                Err(ScanError::Bad(bad)) => return Err(io::Error::new(io::ErrorKind::InvalidData, bad)),
                Err(ScanError::Io(error)) => return Err(error),
            }
        }
        if let SealedContent::File(path) = &content {
            File::open(path)?.sync_all()?;
        }
        let size = scan.position;
        Ok(Self { base_offset, next_offset, content, size, index, abort_markers })
    }

    /// Its file, if it is not to take its place after all.
    pub(crate) fn into_path(self) -> Option<PathBuf> {
        match self.content {
            SealedContent::File(path) => Some(path),
            SealedContent::Memory(_) => None,
        }
    }
}

impl PartitionLog {
    /// The segments that are no longer written to, in order.
    pub(crate) fn sealed_segments(&self) -> Vec<SealedSegment> {
        let sealed = |pair: &[Segment]| {
            let [segment, next] = pair else { return None };
            Some(SealedSegment {
                content: segment.sealed_content()?,
                base_offset: segment.base_offset,
                next_offset: next.base_offset,
                size_bytes: segment.size,
                largest_timestamp_ms: segment.largest_timestamp(),
                first_timestamp_ms: segment.index.first_timestamp,
            })
        };
        self.segments.windows(2).filter_map(sealed).collect()
    }

    /// The base offset of each known producer's last batch, which a rewrite has to keep, if empty, so that the producer's
    /// sequence is known after a restart too.
    pub(crate) fn last_batches(&self) -> std::collections::BTreeMap<i64, i64> {
        self.producers.last_batches()
    }

    /// The file to write the rewrite of the segments from this offset on into; `None`: this log is in memory.
    pub(crate) fn rewrite_path(&self, base_offset: i64) -> Option<PathBuf> {
        match &self.place {
            Place::Memory => None,
            Place::Folder(folder) => Some(folder.join(format!("{base_offset:020}{NEW}"))),
        }
    }

    /// Puts a rewrite in the place of its segments. `false`: they are not there any more as they were (retention has deleted
    /// some), and the rewrite is dropped. Takes one sync of the folder.
    ///
    /// # Errors
    /// `KafkaStorageError`: it is dropped, or it has taken their place and some of their files are still to go.
    pub(crate) fn replace(&mut self, rewritten: Rewritten) -> Result<bool, ResponseError> {
        let Rewritten { base_offset, next_offset, content, size, index, abort_markers } = rewritten;
        if let Err(error) = self.finish_replacement() {
            discard(&content);
            return Err(self.storage_error("finish the last replacement of segments", &error));
        }
        let first = self.segments.iter().position(|segment| segment.base_offset == base_offset);
        // The one at `next_offset` is not replaced and is at most the one that is written to.
        let end = self.segments.iter().position(|segment| segment.base_offset == next_offset);
        let range = match (first, end) {
            (Some(first), Some(end)) if first < end => first..end,
            _ => {
                discard(&content);
                return Ok(false);
            }
        };
        let largest_timestamp = self.segments[range.clone()].iter().map(Segment::largest_timestamp).max().unwrap_or(0);
        let content = match (content, &self.place) {
            (SealedContent::File(new), Place::Folder(folder)) => {
                let decided = decided_path(folder, base_offset, next_offset);
                if let Err(error) = fs::rename(&new, &decided) {
                    discard(&SealedContent::File(new));
                    return Err(self.storage_error("replace segments", &error));
                }
                self.unfinished = Some((base_offset, next_offset));
                SealedContent::File(decided)
            }
            (content, _) => content,
        };
        let segment = Segment::scanned(base_offset, content, size, index, largest_timestamp);
        self.segments.splice(range, [segment]);
        self.producers.forget_aborted(base_offset..next_offset, |marker| abort_markers.contains(&marker));
        self.wake();
        self.finish_replacement().map_err(|error| self.storage_error("replace segments", &error))?;
        Ok(true)
    }

    /// Carries a rewrite that is decided to its last name, if there is one that has not come so far. What has failed is tried
    /// again by the next replacement, deletion or maintenance, and by the next start.
    pub(super) fn finish_replacement(&mut self) -> io::Result<()> {
        let (Some((base_offset, next_offset)), Place::Folder(folder)) = (self.unfinished, &self.place) else {
            return Ok(());
        };
        let decided = decided_path(folder, base_offset, next_offset);
        let path = put_in_place(folder, &decided, base_offset, next_offset)?;
        let replaced = self.segments.iter_mut().find(|segment| segment.base_offset == base_offset);
        if let Some(segment) = replaced {
            segment.set_path(path);
        }
        self.unfinished = None;
        Ok(())
    }
}

/// Removes a rewrite that nobody wants any more.
fn discard(content: &SealedContent) {
    if let SealedContent::File(path) = content {
        // The next start removes what this cannot.
        let _ = fs::remove_file(path);
    }
}

fn decided_path(folder: &Path, base_offset: i64, next_offset: i64) -> PathBuf {
    folder.join(format!("{base_offset:020}-{next_offset:020}{SWAP}"))
}

/// The steps after the decision; each may have been done before.
fn put_in_place(folder: &Path, decided: &Path, base_offset: i64, next_offset: i64) -> io::Result<PathBuf> {
    // Nothing goes before it is sure that what replaces it has come.
    File::open(folder)?.sync_all()?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let replaced = base_offset_of(&entry.file_name().to_string_lossy());
        if replaced.is_some_and(|offset| base_offset < offset && offset < next_offset) {
            fs::remove_file(entry.path())?;
        }
    }
    let path = folder.join(file_name(base_offset));
    fs::rename(decided, &path)?;
    Ok(path)
}

/// Finishes at start what a crash has left of rewrites.
pub(super) fn finish(folder: &Path) -> Result<(), StartError> {
    for entry in fs::read_dir(folder).map_err(failed("read", folder))? {
        let entry = entry.map_err(failed("read", folder))?;
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        if name.ends_with(NEW) {
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        } else if let Some((base_offset, next_offset)) = range_of(&name) {
            put_in_place(folder, &path, base_offset, next_offset).map_err(failed("put in place", &path))?;
        }
    }
    Ok(())
}

/// The offsets in the name of a decided rewrite; `None` for other names.
fn range_of(name: &str) -> Option<(i64, i64)> {
    let (base_offset, next_offset) = name.strip_suffix(SWAP)?.split_once('-')?;
    Some((base_offset.parse().ok()?, next_offset.parse().ok()?))
}

#[cfg(test)]
mod tests;
