//! Compaction: of the sealed segments, the last record of each key stays.
//!
//! [`plan`] looks at a log and is cheap, [`run`] reads and writes the segments on another thread, [`Compacted::apply`] puts
//! the result in place. In between the log goes on; only retention may take segments away, and then the result is dropped.
//!
//! What stays, in the order in which it is decided:
//! - nothing of an aborted transaction;
//! - a transaction's marker: until nothing of its transaction is left, and then for `delete.retention.ms`;
//! - a record without a value (a tombstone): as a value would, and then for `delete.retention.ms`;
//! - a record without a key: not at all, there is nothing to find it by;
//! - the last batch of each known producer: at least its header, so that the producer's sequence is known after a restart.
//!
//! Invariants: offsets never change, a batch that loses records keeps its first and last one, and so do sequences; what
//! readers of committed records see last of each key is the same before and after; a second run changes nothing more until
//! new records come or a retention is over; a crash between any two segments leaves a log of which all this holds.
//!
//! When `delete.retention.ms` begins is in the batch itself, as in Kafka (KIP-534): at the first compaction that finds it with
//! a tombstone, or a marker of nothing, it gets a *delete horizon*, the time from which on they may go: bit 6 of the
//! attributes, with the horizon in the place of the base timestamp.
//!
//! Source: Kafka's `LogCleanerManager`, `Cleaner`, `MemoryRecords.filterTo`.

mod batches;
mod driver;
mod keys;
mod rewrite;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kafka_protocol::ResponseError;

use super::replace::{Rewritten, SealedSegment};
use super::segment::SealedContent;
use super::{PartitionLog, Place};
use crate::node::Now;
use crate::topics::settings::TopicSettings;
use batches::Batches;
pub(crate) use driver::Compaction;
use keys::LastOffsets;
use rewrite::{Rewriter, Verdict};

/// Keys whose last offsets are in memory at a time, 25 bytes each in a table that is at least half full. Of a log with more
/// new ones a part is compacted first.
const KEYS_MAX: usize = 900_000;

/// What is to be compacted.
#[derive(Debug)]
pub(crate) struct Plan {
    /// All sealed segments up to `dirty_until`, each with the file that its rewrite goes to; `None`: memory.
    segments: Vec<(SealedSegment, Option<PathBuf>)>,
    /// Before this offset no key is twice in the log.
    clean_until: i64,
    /// New records are looked at up to this offset.
    dirty_until: i64,
    /// How much of the log is new: of several logs the one with the highest ratio is first.
    pub(crate) dirty_ratio: f64,
    aborted: Aborted,
    producers: Producers,
    limits: RunLimits,
    now_ms: i64,
    delete_retention_ms: i64,
}

/// The bounds of a run.
#[derive(Clone, Copy, Debug)]
struct RunLimits {
    segment_bytes: u64,
    decompressed_bytes_max: usize,
    keys_max: usize,
}

/// Aborted transactions: the offsets of the first record and of the marker of each, by the producer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Aborted(BTreeMap<i64, Vec<(i64, i64)>>);

impl Aborted {
    /// `(producer id, first offset, offset of the marker)`, those of one producer in the order of the log.
    pub(crate) fn new(transactions: impl IntoIterator<Item = (i64, i64, i64)>) -> Self {
        let mut by_producer: BTreeMap<i64, Vec<_>> = BTreeMap::new();
        for (producer_id, first_offset, marker_offset) in transactions {
            by_producer.entry(producer_id).or_default().push((first_offset, marker_offset));
        }
        Self(by_producer)
    }

    /// Whether a transactional batch of this producer at this offset was aborted.
    fn contains(&self, producer_id: i64, offset: i64) -> bool {
        let Some(transactions) = self.0.get(&producer_id) else { return false };
        let ended = transactions.partition_point(|(_, marker_offset)| *marker_offset < offset);
        transactions.get(ended).is_some_and(|(first_offset, _)| *first_offset <= offset)
    }
}

/// What is kept of the producers that are known.
#[derive(Clone, Debug, Default)]
struct Producers {
    /// The base offset of the last batch of each.
    last_batches: BTreeMap<i64, i64>,
    /// The epoch of each that has none: a marker has told it.
    epochs: BTreeMap<i64, i16>,
}

impl Producers {
    fn of(log: &PartitionLog) -> Self {
        let last_batches = log.last_batches();
        let epochs = log.producers().into_iter().filter(|producer| !last_batches.contains_key(&producer.producer_id));
        let epochs = epochs.map(|producer| (producer.producer_id, producer.producer_epoch)).collect();
        Self { last_batches, epochs }
    }
}

/// Whether a log is due, and what is then to be done. Due: more of it is new than `min.cleanable.dirty.ratio`, or there is a
/// new record older than `max.compaction.lag.ms`; of what was written, that is, before the last stable offset, not in the
/// segment that is written to, and not since `min.compaction.lag.ms`.
pub(crate) fn plan(log: &PartitionLog, settings: &TopicSettings, now: Now) -> Option<Plan> {
    if !settings.cleanup_policy.is_compact {
        return None;
    }
    let written_until = now.unix_ms.saturating_sub(settings.min_compaction_lag_ms);
    let is_too_new =
        |segment: &SealedSegment| settings.min_compaction_lag_ms > 0 && segment.largest_timestamp_ms > written_until;
    let stable_offset = log.stable_offset();
    let sealed = log.sealed_segments();
    let count =
        sealed.iter().take_while(|segment| segment.next_offset <= stable_offset && !is_too_new(segment)).count();
    let segments = &sealed[..count];
    let dirty_until = segments.last()?.next_offset;
    let clean_until = log.clean_until;
    let clean_count = segments.partition_point(|segment| segment.next_offset <= clean_until);
    let dirty = &segments[clean_count..];
    let bytes = |segments: &[SealedSegment]| segments.iter().map(|segment| segment.size_bytes).sum::<u64>() as f64;
    let dirty_ratio = bytes(dirty) / bytes(segments).max(1.0);
    let oldest_ms = dirty.iter().filter_map(|segment| segment.first_timestamp_ms).filter(|first| *first > 0).min();
    let is_late = oldest_ms.is_some_and(|first| first < now.unix_ms.saturating_sub(settings.max_compaction_lag_ms));
    if bytes(dirty) == 0.0 || (dirty_ratio <= settings.min_cleanable_dirty_ratio && !is_late) {
        return None;
    }
    let with_path = |segment: &SealedSegment| (segment.clone(), log.rewrite_path(segment.base_offset));
    Some(Plan {
        segments: segments.iter().map(with_path).collect(),
        clean_until,
        dirty_until,
        dirty_ratio,
        aborted: Aborted::new(log.producers.aborted()),
        producers: Producers::of(log),
        limits: RunLimits {
            segment_bytes: settings.segment_bytes,
            decompressed_bytes_max: log.decompressed_bytes_max,
            keys_max: KEYS_MAX,
        },
        now_ms: now.unix_ms,
        delete_retention_ms: settings.delete_retention_ms,
    })
}

/// The file that keeps, over restarts, up to where a partition is compacted. It is not synced: what it loses is work.
const CLEAN_UNTIL_FILE: &str = "clean-until";

impl PartitionLog {
    /// Before this offset no key is twice in the log.
    fn set_clean_until(&mut self, offset: i64) {
        self.clean_until = offset;
        if let Place::Folder(folder) = &self.place {
            // Without it the next start compacts all of it once more.
            let _ = fs::write(folder.join(CLEAN_UNTIL_FILE), format!("{offset}\n"));
        }
    }

    /// Takes up what the file says, unless the log has been cut before that.
    pub(super) fn read_clean_until(&mut self) {
        let Place::Folder(folder) = &self.place else { return };
        let text = fs::read_to_string(folder.join(CLEAN_UNTIL_FILE)).unwrap_or_default();
        match text.strip_suffix('\n').and_then(|offset| offset.parse().ok()) {
            Some(offset) if offset <= self.end_offset => self.clean_until = offset,
            Some(_) => self.set_clean_until(0),
            None => {}
        }
    }
}

/// What a run has made.
#[derive(Debug)]
pub(crate) struct Compacted {
    rewritten: Vec<Rewritten>,
    clean_until: i64,
    /// Bytes of the segments before and after, those that did not change left out.
    pub(crate) bytes: (u64, u64),
}

/// Reads the segments and writes those anew that change; several times `min.cleanable.dirty.ratio` of their size in reads, and
/// at most their size in writes. `cancelled` ends it after the batch at hand.
///
/// # Errors
/// Those of the files, and [`io::ErrorKind::InvalidData`] for a corrupt batch; nothing has changed then.
pub(crate) fn run(plan: &Plan, cancelled: &Arc<AtomicBool>) -> io::Result<Compacted> {
    let (keys, clean_until) = last_offsets(plan, cancelled)?;
    let mut rewriter = Rewriter::new(plan, &keys, clean_until);
    let count = plan.segments.partition_point(|(segment, _)| segment.base_offset < clean_until);
    let mut compacted = Compacted { rewritten: Vec::new(), clean_until, bytes: (0, 0) };
    for group in groups(&plan.segments[..count], plan.limits.segment_bytes) {
        let rewritten = rewrite_group(group, &mut rewriter, cancelled).inspect_err(|_| compacted.discard());
        if let Some((rewritten, bytes)) = rewritten? {
            compacted.rewritten.push(rewritten);
            compacted.bytes.0 += group.iter().map(|(segment, _)| segment.size_bytes).sum::<u64>();
            compacted.bytes.1 += bytes;
        }
    }
    Ok(compacted)
}

impl Compacted {
    /// Puts the rewritten segments in their places, as far as those are still there as they were.
    ///
    /// # Errors
    /// `KafkaStorageError`; the log is good all the same, and the rest is done by the next run ([`PartitionLog::replace`]).
    pub(crate) fn apply(mut self, log: &mut PartitionLog) -> Result<(), ResponseError> {
        let mut rewritten = std::mem::take(&mut self.rewritten).into_iter();
        for group in rewritten.by_ref() {
            match log.replace(group) {
                Ok(true) => {}
                outcome => {
                    self.rewritten = rewritten.collect();
                    self.discard();
                    return outcome.map(|_| ());
                }
            }
        }
        log.set_clean_until(self.clean_until);
        Ok(())
    }

    /// Removes the files, as nobody wants them any more.
    pub(crate) fn discard(&mut self) {
        for path in self.rewritten.drain(..).filter_map(Rewritten::into_path) {
            // The next start removes what this cannot.
            let _ = fs::remove_file(path);
        }
    }
}

/// The last offset of each key among the new records, and the offset up to which that holds: everything, or what has room.
fn last_offsets(plan: &Plan, cancelled: &AtomicBool) -> io::Result<(LastOffsets, i64)> {
    let mut keys = LastOffsets::default();
    let dirty = plan.segments.partition_point(|(segment, _)| segment.next_offset <= plan.clean_until);
    for (segment, _) in &plan.segments[dirty..] {
        let mut batches = Batches::of(segment)?;
        while let Some((header, payload)) = batches.next()? {
            check_cancelled(cancelled)?;
            if keys.len() >= plan.limits.keys_max {
                return Ok((keys, header.base_offset));
            }
            let is_new = header.last_offset() >= plan.clean_until;
            let is_aborted = header.is_transactional() && plan.aborted.contains(header.producer_id, header.base_offset);
            if is_new && !is_aborted && !header.is_control() {
                rewrite::for_each_key(&header, &payload, plan.limits.decompressed_bytes_max, |key, offset| {
                    keys.put(key, offset);
                });
            }
        }
    }
    Ok((keys, plan.dirty_until))
}

/// Neighbouring segments that are together not larger than one may be.
fn groups<T>(segments: &[(SealedSegment, T)], segment_bytes: u64) -> Vec<&[(SealedSegment, T)]> {
    let (mut groups, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, (segment, _)) in segments.iter().enumerate() {
        if at > start && bytes + segment.size_bytes > segment_bytes {
            groups.push(&segments[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += segment.size_bytes;
    }
    groups.extend(Some(&segments[start..]).filter(|last| !last.is_empty()));
    groups
}

/// Writes a group of segments as one, and gives its size; `None`: it would be the same.
fn rewrite_group(
    group: &[(SealedSegment, Option<PathBuf>)],
    rewriter: &mut Rewriter<'_>,
    cancelled: &AtomicBool,
) -> io::Result<Option<(Rewritten, u64)>> {
    let [(first, path), ..] = group else { return Ok(None) };
    let next_offset = group.last().map_or(first.next_offset, |(last, _)| last.next_offset);
    let mut output = Output::new(path.as_ref())?;
    let written = copy_group(group, rewriter, &mut output, cancelled);
    let is_same = match written {
        Ok(is_changed) => !is_changed && group.len() == 1,
        Err(error) => {
            output.discard();
            return Err(error);
        }
    };
    if is_same {
        output.discard();
        return Ok(None);
    }
    let bytes = output.bytes;
    let rewritten = output.finish().and_then(|content| Rewritten::finish(content, first.base_offset, next_offset));
    rewritten.map(|rewritten| Some((rewritten, bytes))).inspect_err(|_| {
        let _ = path.as_ref().map(fs::remove_file);
    })
}

/// Whether anything has changed.
fn copy_group(
    group: &[(SealedSegment, Option<PathBuf>)],
    rewriter: &mut Rewriter<'_>,
    output: &mut Output,
    cancelled: &AtomicBool,
) -> io::Result<bool> {
    let mut is_changed = false;
    for (segment, _) in group {
        let mut batches = Batches::of(segment)?;
        while let Some((header, payload)) = batches.next()? {
            check_cancelled(cancelled)?;
            let (header, payload) = match rewriter.decide(&header, &payload) {
                Verdict::Same => (header, payload),
                Verdict::Changed(header, payload) => {
                    is_changed = true;
                    (header, payload)
                }
                Verdict::Gone => {
                    is_changed = true;
                    continue;
                }
            };
            output.write(&header.encode())?;
            output.write(&payload)?;
        }
    }
    Ok(is_changed)
}

fn check_cancelled(cancelled: &AtomicBool) -> io::Result<()> {
    if cancelled.load(Ordering::Relaxed) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
}

/// Where a rewrite goes.
struct Output {
    to: Target,
    bytes: u64,
}

enum Target {
    Memory(Vec<u8>),
    File(PathBuf, BufWriter<File>),
}

impl Output {
    fn new(path: Option<&PathBuf>) -> io::Result<Self> {
        let to = match path {
            None => Target::Memory(Vec::new()),
            Some(path) => Target::File(path.clone(), BufWriter::with_capacity(256 << 10, File::create(path)?)),
        };
        Ok(Self { to, bytes: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        match &mut self.to {
            Target::Memory(memory) => memory.write_all(bytes),
            Target::File(_, file) => file.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<SealedContent> {
        match self.to {
            Target::Memory(memory) => Ok(SealedContent::Memory(memory.into())),
            Target::File(path, file) => {
                file.into_inner().map_err(io::IntoInnerError::into_error)?;
                Ok(SealedContent::File(path))
            }
        }
    }

    fn discard(self) {
        if let Target::File(path, _) = self.to {
            // The next start removes what this cannot.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests;
