//! Opening a log: every batch of every segment is read and checked once, and all that is kept in memory derived from it.
//!
//! Invariant: what is opened is a prefix of what was appended, cut at the end of a batch. A tail that a killed process or a
//! lost page can explain is cut without asking: the last file's end, if no valid batch comes after the first bad byte, and the
//! broker was not stopped in order. All other damage is refused, with what a cut would lose, or cut if that was asked for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::batch::{BadBatch, BatchHeader, HEADER_LEN};
use super::scan::{Scan, ScanError};
use super::segment::{Index, SealedContent, Segment, file_name};
use super::{PartitionLog, Place};
use crate::damage::OnDamage;
use crate::durable;
use crate::error::StartError;
use crate::topics::folder::shown;

/// Files that were last written to so long before the newest are on the disk: no flush interval is longer.
const UNSYNCED_MS_MAX: i64 = 3_600_000;
/// Bytes whose checksum is taken in the search for a valid batch after a bad one; beyond it, one is taken to be there.
const SEARCHED_BYTES_MAX: u64 = 256 << 20;

/// A segment's file before it is read.
#[derive(Debug)]
struct FoundFile {
    base_offset: i64,
    path: PathBuf,
    size: u64,
    written_ms: i64,
}

impl PartitionLog {
    /// Opens the log, reading every batch: checks its CRC32C and derives the rest. What is cut is told with `tracing`, what may
    /// not be is `StartError::Corrupt`. `start_offset` is what the topics' journal says; segments wholly before it are removed.
    /// Logs of several partitions are opened in parallel.
    pub(crate) fn open(place: Place, start_offset: i64, on_damage: OnDamage) -> Result<Self, StartError> {
        let Place::Folder(folder) = &place else { return Ok(Self::empty(place, start_offset)) };
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
        super::replace::finish(folder)?;
        let files = segment_files(folder)?;
        let first_kept = files.iter().rposition(|file| file.base_offset <= start_offset).unwrap_or(0);
        for file in &files[..first_kept] {
            remove(&file.path)?;
        }
        let files = &files[first_kept..];
        let mut log = Self::empty(place.clone(), start_offset);
        for at in 0..files.len() {
            if log.read_file(files, at, on_damage)? {
                break;
            }
        }
        if let Some(first) = log.segments.first() {
            log.start_offset = start_offset.max(first.base_offset);
        }
        if let Some(last) = log.segments.last_mut() {
            log.end_offset = log.end_offset.max(last.base_offset);
        }
        log.end_offset = log.end_offset.max(log.start_offset);
        log.producers.forget_before(log.start_offset);
        log.read_clean_until();
        log.sync_recent(folder, files)?;
        Ok(log)
    }

    /// Reads one segment's file. `true`: it was repaired, and those after it are gone.
    fn read_file(&mut self, files: &[FoundFile], at: usize, on_damage: OnDamage) -> Result<bool, StartError> {
        let FoundFile { base_offset, path, written_ms, size } = &files[at];
        if at > 0 && *size == 0 && *base_offset < self.end_offset {
            // A roll has failed after it had made the file, and the log went on in the one before.
            return remove(path).map(|()| false);
        }
        let content = SealedContent::File(path.clone());
        let mut scan = Scan::of_content(&content, *base_offset).map_err(failed("open", path))?;
        scan.end_offset = files[at + 1..].iter().find(|next| next.size > 0).map_or(i64::MAX, |next| next.base_offset);
        let mut index = Index::default();
        let bad = loop {
            match scan.next() {
                Ok(Some(batch)) => {
                    index.learn(&batch.header, batch.position);
                    self.learn(&batch.header, batch.marker, None);
                }
                Ok(None) => break None,
                Err(ScanError::Bad(bad)) => break Some(bad),
                Err(ScanError::Io(error)) => return Err(failed("read", path)(error)),
            }
        };
        let (size, next_offset) = (scan.position, scan.next_offset);
        let mut is_repaired = false;
        if let Some(bad) = bad {
            is_repaired = cut(&files[at..], &bad, size, next_offset, on_damage)?;
        }
        self.segments.push(Segment::scanned(*base_offset, content, size, index, *written_ms));
        Ok(is_repaired)
    }

    /// Syncs what the broker before this one wrote and may not have synced: one file at a time, as there may be more of them
    /// than a process may have open.
    fn sync_recent(&self, folder: &Path, files: &[FoundFile]) -> Result<(), StartError> {
        let sync = |path: &Path| durable::sync(path).map_err(failed("sync", path));
        let newest_ms = files.iter().map(|file| file.written_ms).max().unwrap_or(0);
        for segment in &self.segments {
            let file = files.iter().find(|file| file.base_offset == segment.base_offset);
            if let Some(FoundFile { path, .. }) = file.filter(|file| file.written_ms >= newest_ms - UNSYNCED_MS_MAX) {
                sync(path)?;
            }
        }
        // A new log's folder is synced with its first writes.
        if files.is_empty() { Ok(()) } else { sync(folder) }
    }
}

/// Cuts a file at its first bad byte, if that may be: `files` are it and those after it. `true`: those after it are removed.
fn cut(
    files: &[FoundFile],
    bad: &BadBatch,
    position: u64,
    next_offset: i64,
    on_damage: OnDamage,
) -> Result<bool, StartError> {
    let (FoundFile { path, .. }, later) = (&files[0], &files[1..]);
    let lost = Lost::find(files, position, next_offset)?;
    let cut_bytes = files[0].size - position + later.iter().map(|file| file.size).sum::<u64>();
    let is_torn_tail = lost.until.is_none() && later.iter().all(|file| file.size == 0);
    match on_damage {
        OnDamage::CutTorn if is_torn_tail => {
            tracing::warn!(file = %path.display(), position, cut_bytes, problem = %bad, "cut a torn tail");
        }
        OnDamage::Cut => {
            let lost = lost.told(next_offset, path);
            tracing::warn!(file = %path.display(), position, cut_bytes, problem = %bad, lost, "cut a corrupt log");
            for file in later {
                remove(&file.path)?;
            }
        }
        OnDamage::CutTorn | OnDamage::Refuse => {
            let lost = format!(", which loses {}", lost.told(next_offset, path));
            let (file, problem) = (path.clone(), bad.to_string());
            return Err(StartError::Corrupt { file, position, problem, cut_bytes, lost });
        }
    }
    let file = OpenOptions::new().write(true).open(path).map_err(failed("open", path))?;
    file.set_len(position).map_err(failed("cut", path))?;
    Ok(on_damage == OnDamage::Cut)
}

/// What a cut loses, as far as it can be read.
#[derive(Debug, Default)]
struct Lost {
    /// The offset after the last valid batch. `None`: there is no valid one.
    until: Option<i64>,
    /// Batches that end a transaction.
    markers: usize,
}

impl Lost {
    /// Looks for batches after the bad one at `position` of the first file.
    fn find(files: &[FoundFile], position: u64, next_offset: i64) -> Result<Self, StartError> {
        let FoundFile { path, size, .. } = &files[0];
        let mut lost = Self::default();
        let failed_here = || failed("read", path);
        lost.markers += usize::from(is_marker_at(path, position).map_err(failed_here())?);
        let valid = find_valid_batch(path, *size, position + 1, next_offset).map_err(failed_here())?;
        if let Some(valid) = valid {
            lost.until = Some(next_offset);
            let scan = scan_from(path, *size, valid, next_offset).map_err(failed_here())?;
            lost.read(scan).map_err(failed_here())?;
        }
        for FoundFile { path, base_offset, .. } in files[1..].iter().filter(|file| file.size > 0) {
            let scan = Scan::of_content(&SealedContent::File(path.clone()), *base_offset);
            lost.read(scan.map_err(failed("open", path))?).map_err(failed("read", path))?;
        }
        Ok(lost)
    }

    /// Takes the batches of a scan in, up to the first bad one.
    fn read<R: Read>(&mut self, mut scan: Scan<R>) -> io::Result<()> {
        loop {
            match scan.next() {
                Ok(Some(batch)) => {
                    self.until = Some(batch.header.next_offset());
                    self.markers += usize::from(batch.header.is_control());
                }
                Ok(None) | Err(ScanError::Bad(_)) => return Ok(()),
                Err(ScanError::Io(error)) => return Err(error),
            }
        }
    }

    /// What a cut at `next_offset` loses.
    fn told(&self, next_offset: i64, file: &Path) -> String {
        let partition = shown(file.parent().unwrap_or(file));
        let from = grouped(next_offset);
        let offsets = match self.until {
            Some(until) if until > next_offset => format!("offsets {from} to {} of {partition}", grouped(until - 1)),
            _ => format!("{partition} from offset {from} on"),
        };
        match self.markers {
            0 => offsets,
            1 => format!("{offsets}; that has the end of a transaction, which is then aborted"),
            count => {
                format!("{offsets}; that has the ends of {count} transactions, which are then aborted")
            }
        }
    }
}

/// Whether the bad batch at a position was a control batch, if its header can be trusted.
fn is_marker_at(path: &Path, position: u64) -> io::Result<bool> {
    let mut header = Vec::with_capacity(HEADER_LEN);
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(position))?;
    file.take(HEADER_LEN as u64).read_to_end(&mut header)?;
    Ok(BatchHeader::parse(&header).is_ok_and(|header| header.is_control()))
}

/// Where a valid batch begins at or after `from`. Only what looks like a header is checked by its CRC32C, and at most
/// [`SEARCHED_BYTES_MAX`] of that: beyond them the place reached is given, so that doubt never cuts.
fn find_valid_batch(path: &Path, size: u64, from: u64, next_offset: i64) -> io::Result<Option<u64>> {
    const WINDOW: usize = 1 << 20;
    let mut file = File::open(path)?;
    let mut window = Vec::with_capacity(WINDOW);
    let mut budget = SEARCHED_BYTES_MAX;
    let mut start = from;
    while start + HEADER_LEN as u64 <= size {
        window.clear();
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(&mut file).take(WINDOW as u64).read_to_end(&mut window)?;
        if window.len() < HEADER_LEN {
            return Ok(None);
        }
        let places = window.len() - HEADER_LEN + 1;
        for at in (0..places).filter(|at| window[at + 16] == 2) {
            let position = start + at as u64;
            let Ok(header) = BatchHeader::parse(&window[at..]) else { continue };
            if header.size as u64 > size - position || header.check_offsets(next_offset).is_err() {
                continue;
            }
            if header.size as u64 > budget {
                return Ok(Some(position));
            }
            budget -= header.size as u64;
            if matches!(scan_from(path, position + header.size as u64, position, next_offset)?.next(), Ok(Some(_))) {
                return Ok(Some(position));
            }
        }
        start += places as u64;
    }
    Ok(None)
}

/// A scan of a file's bytes from `position` to `size`.
fn scan_from(path: &Path, size: u64, position: u64, next_offset: i64) -> io::Result<Scan<File>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(position))?;
    Ok(Scan::new(file, size - position, next_offset))
}

/// The segments' files in a folder, in the order of their offsets.
fn segment_files(folder: &Path) -> Result<Vec<FoundFile>, StartError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed("read", folder))? {
        let entry = entry.map_err(failed("read", folder))?;
        let Some(base_offset) = base_offset_of(&entry.file_name().to_string_lossy()) else { continue };
        let path = entry.path();
        let metadata = entry.metadata().map_err(failed("read", &path))?;
        let written_ms = metadata.modified().map_or(0, unix_ms);
        files.push(FoundFile { base_offset, path, size: metadata.len(), written_ms });
    }
    files.sort_unstable_by_key(|file| file.base_offset);
    Ok(files)
}

/// The base offset in a segment's file name; `None` for other names.
pub(super) fn base_offset_of(name: &str) -> Option<i64> {
    let base_offset = name.strip_suffix(".log")?.parse().ok()?;
    (file_name(base_offset) == name && base_offset >= 0).then_some(base_offset)
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::File { action, path, source }
}

fn remove(path: &Path) -> Result<(), StartError> {
    fs::remove_file(path).map_err(failed("remove", path))
}

fn unix_ms(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// With a comma between thousands.
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests;
