//! A segment: a piece of the log in one file, or in memory, with a sparse index that is made while it is written or scanned.
//!
//! Invariant: the bytes up to `size` are whole, checked batches, and what comes after them is never read: an append that
//! fails half way is cut off again before the next one.
//!
//! There are no index files. Recovery has to read every batch anyway, to check it and to learn what its producers did; an
//! index that is a by-product of that costs nothing, needs no sync, and cannot disagree with the log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::batch::BatchHeader;
use super::scan::{Scan, ScanError};
use crate::durable::{Durable, Operation, Unsynced, allow};

/// Bytes of log for one entry of the index: what a lookup has to walk at most, and 24 bytes of memory a time. Larger than
/// Kafka's 4 KiB, because the walk is over memory that the read needs anyway.
pub(crate) const INDEX_INTERVAL_BYTES: u64 = 16 << 10;

/// A piece of the log, from its base offset to the base offset of the next.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base_offset: i64,
    /// Bytes of all its batches.
    pub(crate) size: u64,
    /// When it was begun, in milliseconds since 1970 (or, if that was before the start, last written to).
    pub(crate) begun_ms: i64,
    /// When it was last written to: its age where no record tells it.
    written_ms: i64,
    content: Content,
    /// Whether bytes after `size` could not be cut off yet.
    pub(crate) has_torn_append: bool,
    pub(crate) index: Index,
}

/// Where its bytes are.
#[derive(Debug)]
enum Content {
    /// A file; open from the first write until it is sealed or not written to for a while, else opened for each read: so
    /// open files grow with the partitions that are written to at the time, not with the log.
    File { path: PathBuf, open: Option<Arc<Durable>> },
    /// Memory that is written to.
    Growing(Vec<u8>),
    /// Memory that is shared with readers.
    Sealed(Bytes),
}

/// The content of a sealed segment, to be read on any thread.
#[derive(Clone, Debug)]
pub(crate) enum SealedContent {
    /// This file.
    File(PathBuf),
    /// These bytes.
    Memory(Bytes),
}

/// Where batches are and how late their records are: an entry for each batch that begins [`INDEX_INTERVAL_BYTES`] or more
/// after the last one that has an entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    entries: Vec<Entry>,
    /// The greatest timestamp of the first batch.
    pub(crate) first_timestamp: Option<i64>,
    /// The greatest timestamp, and where the first batch that has it begins.
    pub(crate) max_timestamp: Option<(i64, u64)>,
}

/// One batch of the index.
#[derive(Clone, Copy, Debug)]
struct Entry {
    base_offset: i64,
    position: u64,
    /// The greatest timestamp of all batches before it.
    max_timestamp_before: i64,
}

impl Index {
    /// Learns of a batch; they come in the order of the log.
    pub(crate) fn learn(&mut self, batch: &BatchHeader, position: u64) {
        let is_far = |last: &Entry| position - last.position >= INDEX_INTERVAL_BYTES;
        if self.entries.last().is_none_or(is_far) {
            let max_timestamp_before = self.max_timestamp.map_or(i64::MIN, |(timestamp, _)| timestamp);
            self.entries.push(Entry { base_offset: batch.base_offset, position, max_timestamp_before });
        }
        self.first_timestamp.get_or_insert(batch.max_timestamp);
        if self.max_timestamp.is_none_or(|(greatest, _)| batch.max_timestamp > greatest) {
            self.max_timestamp = Some((batch.max_timestamp, position));
        }
    }

    /// Where to begin to look for the batch that holds an offset: it begins less than [`INDEX_INTERVAL_BYTES`] from there. If
    /// compaction has taken it, the first one after it may begin behind one batch more, of any size.
    pub(crate) fn position_of_offset(&self, offset: i64) -> u64 {
        let after = self.entries.partition_point(|entry| entry.base_offset <= offset);
        after.checked_sub(1).map_or(0, |at| self.entries[at].position)
    }

    /// Where to begin to look for the first batch that has a record at or after a time.
    pub(crate) fn position_of_time(&self, timestamp_ms: i64) -> u64 {
        let after = self.entries.partition_point(|entry| entry.max_timestamp_before < timestamp_ms);
        after.checked_sub(1).map_or(0, |at| self.entries[at].position)
    }
}

impl Segment {
    /// An empty segment in memory.
    pub(crate) fn in_memory(base_offset: i64, now_ms: i64) -> Self {
        Self::new(base_offset, Content::Growing(Vec::new()), now_ms)
    }

    /// A new file in this folder, to be written to; if that fails, none is left.
    pub(crate) fn create(folder: &Path, base_offset: i64, now_ms: i64) -> io::Result<Self> {
        let path = folder.join(file_name(base_offset));
        // A file of that name can only be a remnant: the log ends before its first offset.
        let open = open_to_append(&path, OpenOptions::new().create(true))?;
        open.to_write().and_then(|file| file.set_len(0)).inspect_err(|_| {
            // What this cannot remove the next start does: an empty file before the end of the log.
            let _ = fs::remove_file(&path);
        })?;
        Ok(Self::new(base_offset, Content::File { path, open: Some(Arc::new(open)) }, now_ms))
    }

    /// A segment that has been scanned: of its content, the first `size` bytes count.
    pub(crate) fn scanned(base_offset: i64, content: SealedContent, size: u64, index: Index, written_ms: i64) -> Self {
        let content = match content {
            SealedContent::File(path) => Content::File { path, open: None },
            SealedContent::Memory(bytes) => Content::Sealed(bytes),
        };
        let mut segment = Self::new(base_offset, content, written_ms);
        (segment.size, segment.index) = (size, index);
        segment.index.entries.shrink_to_fit();
        segment
    }

    fn new(base_offset: i64, content: Content, written_ms: i64) -> Self {
        let index = Index::default();
        Self { base_offset, size: 0, begun_ms: written_ms, written_ms, content, has_torn_append: false, index }
    }

    /// Ends the writing. Gives the file if it is still to be synced.
    pub(crate) fn seal(&mut self) -> Option<Arc<Durable>> {
        let open = match &mut self.content {
            Content::File { open, .. } => open.take(),
            Content::Growing(bytes) => {
                self.content = Content::Sealed(std::mem::take(bytes).into());
                None
            }
            Content::Sealed(_) => None,
        };
        self.index.entries.shrink_to_fit();
        open.filter(|file| !file.is_synced())
    }

    /// Closes its file if that is synced and was not written to for so long; the next append opens it again.
    pub(crate) fn close_if_idle(&mut self, idle_ms_max: i64, now_ms: i64) {
        if now_ms.saturating_sub(self.written_ms) > idle_ms_max
            && let Content::File { open, .. } = &mut self.content
        {
            open.take_if(|file| file.is_synced());
        }
    }

    /// Its file, if that is to be synced.
    pub(crate) fn hand_out(&self) -> Option<Unsynced> {
        match &self.content {
            Content::File { open: Some(file), .. } => file.hand_out(),
            _ => None,
        }
    }

    /// Whether its file could not be synced and therefore takes no writes.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(&self.content, Content::File { open: Some(file), .. } if file.has_failed())
    }

    /// Appends a batch by one write. On an error nothing has changed.
    pub(crate) fn append(&mut self, batch: &BatchHeader, payload: &[u8], now_ms: i64) -> io::Result<()> {
        let position = self.size;
        let header = &batch.encode();
        match &mut self.content {
            Content::Growing(bytes) => {
                bytes.try_reserve(header.len() + payload.len())?;
                bytes.extend_from_slice(header);
                bytes.extend_from_slice(payload);
            }
            Content::File { path, open } => {
                let file = match open {
                    Some(open) => open,
                    None => open.insert(Arc::new(open_to_append(path, &mut OpenOptions::new())?)),
                };
                let file = file.to_write()?;
                if self.has_torn_append {
                    file.set_len(position)?;
                    self.has_torn_append = false;
                }
                if let Err(error) = write_all(file, [IoSlice::new(header), IoSlice::new(payload)]) {
                    self.has_torn_append = file.set_len(position).is_err();
                    return Err(error);
                }
            }
            Content::Sealed(_) => return Err(io::Error::other("the segment is sealed")),
        }
        self.size += batch.size as u64;
        self.written_ms = now_ms;
        self.index.learn(batch, position);
        Ok(())
    }

    /// So many bytes from a position on.
    pub(crate) fn read(&self, position: u64, length: usize) -> io::Result<Bytes> {
        let range = || {
            let start = usize::try_from(position).map_err(io::Error::other)?;
            Ok::<_, io::Error>(start..start.saturating_add(length))
        };
        let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
        match &self.content {
            Content::File { open: Some(file), .. } => read_file(file.as_file()?, position, length),
            Content::File { path, open: None } => read_file(&File::open(path)?, position, length),
            Content::Growing(bytes) => bytes.get(range()?).map(Bytes::copy_from_slice).ok_or_else(cut),
            Content::Sealed(bytes) => {
                let range = range()?;
                if range.end <= bytes.len() { Ok(bytes.slice(range)) } else { Err(cut()) }
            }
        }
    }

    /// What another thread reads it from; not for the one that is written to.
    pub(crate) fn sealed_content(&self) -> Option<SealedContent> {
        match &self.content {
            Content::File { path, open: None } => Some(SealedContent::File(path.clone())),
            Content::Sealed(bytes) => Some(SealedContent::Memory(bytes.clone())),
            Content::File { .. } | Content::Growing(_) => None,
        }
    }

    /// Its file.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.content {
            Content::File { path, .. } => Some(path),
            Content::Growing(_) | Content::Sealed(_) => None,
        }
    }

    /// Its file was renamed.
    pub(crate) fn set_path(&mut self, new: PathBuf) {
        if let Content::File { path, .. } = &mut self.content {
            *path = new;
        }
    }

    /// The greatest timestamp of its records, or, where they have none, when it was last written to.
    pub(crate) fn largest_timestamp(&self) -> i64 {
        match self.index.max_timestamp {
            Some((timestamp, _)) if timestamp >= 0 => timestamp,
            _ => self.written_ms,
        }
    }
}

/// The name of a segment's file.
pub(crate) fn file_name(base_offset: i64) -> String {
    format!("{base_offset:020}.log")
}

fn open_to_append(path: &Path, options: &mut OpenOptions) -> io::Result<Durable> {
    allow(Operation::Open, path)?;
    Ok(Durable::file(path, options.read(true).append(true).open(path)?, check))
}

/// Whether the file is whole batches, every one with its checksum.
fn check(path: &Path) -> io::Result<()> {
    let mut scan = Scan::of_content(&SealedContent::File(path.to_owned()), 0)?;
    loop {
        match scan.next() {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(ScanError::Bad(bad)) => return Err(io::Error::new(io::ErrorKind::InvalidData, bad)),
            Err(ScanError::Io(error)) => return Err(error),
        }
    }
}

fn read_file(file: &File, position: u64, length: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, position)?;
    Ok(bytes.into())
}

fn write_all(mut file: &File, slices: [IoSlice<'_>; 2]) -> io::Result<()> {
    let mut slices = slices;
    let mut rest = &mut slices[..];
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
