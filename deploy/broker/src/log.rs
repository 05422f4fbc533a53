//! A partition's log: record batches as the producers sent them, in segments, and everything that is derived from them.
//!
//! Invariant: everything here but the batches is derived from the batches' headers, by one function that sees each batch once,
//! whether it is appended or read back at start. So no index, sequence or transaction can disagree with the log.

pub(crate) mod batch;
mod check;
pub(crate) mod codec;
pub(crate) mod compact;
mod producers;
mod read;
pub(crate) mod records;
mod recover;
pub(crate) mod replace;
mod retention;
pub(crate) mod scan;
mod segment;
#[cfg(test)]
pub(crate) mod testing;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::Notify;

use crate::config::Limits;
use crate::durable::{Durable, Unsynced};
use crate::node::{LEADER_EPOCH, Now};
use crate::topics::settings::TopicSettings;
use batch::{BatchHeader, Marker, control_batch};
use producers::Producers;
use segment::Segment;

/// Sealed files and folders of one log that may wait to be synced, and so be open.
const UNSYNCED_MAX: usize = 32;
/// The file that is written to is closed after so long without a write.
const OPEN_IDLE_MS_MAX: i64 = 10_000;

/// Where a partition's segments are.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In memory.
    Memory,
    /// In this folder, one file a segment: `00000000000000000000.log`.
    Folder(PathBuf),
}

impl Place {
    /// Its folder, if it has one.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Memory => None,
            Self::Folder(folder) => Some(folder),
        }
    }
}

/// Which records a reader is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// All.
    ReadUncommitted,
    /// Those before the last stable offset; the aborted ones are listed.
    ReadCommitted,
}

/// What a read gives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    /// Whole batches; the first may begin before the offset asked for.
    pub(crate) records: Bytes,
    /// `(producer id, first offset)` of each aborted transaction that overlaps them; empty for `ReadUncommitted`.
    pub(crate) aborted: Vec<(i64, i64)>,
}

/// What an append gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// The offset of the first record; of the first time, if this was a duplicate.
    pub(crate) base_offset: i64,
    /// The time of append where the topic's timestamps are that, else -1.
    pub(crate) append_time_ms: i64,
}

/// A producer as `DescribeProducers` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ActiveProducer {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) last_sequence: i32,
    pub(crate) last_timestamp_ms: i64,
    /// That of its last marker here; -1 before the first.
    pub(crate) coordinator_epoch: i32,
    /// The first offset of its open transaction.
    pub(crate) transaction_start: Option<i64>,
}

/// The log of one partition.
#[derive(Debug)]
pub(crate) struct PartitionLog {
    place: Place,
    /// In order; the last one is written to. None until the first append.
    segments: Vec<Segment>,
    start_offset: i64,
    end_offset: i64,
    producers: Producers,
    /// What is not written to any more and not known to be on the disk: sealed files, and the folder if it has got one.
    unsynced: Vec<Arc<Durable>>,
    /// Requests that wait for a change.
    waiting: Vec<Weak<Notify>>,
    /// Whether the last write failed: a full disk is logged once, not with every request.
    is_failing: bool,
    decompressed_bytes_max: usize,
    /// Before this offset compaction has left no key twice.
    clean_until: i64,
    /// The offsets of a replacement whose last steps have failed ([`replace`]).
    unfinished: Option<(i64, i64)>,
}

/// The interface. A failure of the disk is logged with its file where it happens, and answered with `KafkaStorageError`.
impl PartitionLog {
    /// An empty log that begins at this offset.
    fn empty(place: Place, start_offset: i64) -> Self {
        Self {
            place,
            segments: Vec::new(),
            start_offset,
            end_offset: start_offset,
            producers: Producers::default(),
            unsynced: Vec::new(),
            waiting: Vec::new(),
            is_failing: false,
            decompressed_bytes_max: Limits::default().decompressed_bytes_max,
            clean_until: 0,
            unfinished: None,
        }
    }

    /// Bounds what one batch may have after decompression, where the log has to look inside it.
    #[must_use]
    pub(crate) fn with_decompressed_bytes_max(mut self, bytes_max: usize) -> Self {
        self.decompressed_bytes_max = bytes_max;
        self
    }

    /// Checks and appends one produce request's batch of this partition: magic 2, CRC32C, size, timestamps, a key where the
    /// topic is compacted, sequence and epoch; a duplicate of the last five is answered with its first offsets. Base offset
    /// and leader epoch are set in the header that is written, the records go from the request to the file without a copy;
    /// nothing else is changed unless the timestamps are those of the append.
    /// `transaction` says whether the coordinator has this partition in the producer's open transaction (checked when the
    /// batch is transactional and opens one here: `InvalidTxnState` if not).
    pub(crate) fn append(
        &mut self,
        batches: Bytes,
        transaction: bool,
        settings: &TopicSettings,
        now: Now,
    ) -> Result<Appended, ResponseError> {
        self.refuse_if_unsynced()?;
        let check::Checked { mut header, payload } =
            check::check(&batches, settings, self.decompressed_bytes_max, now.unix_ms)?;
        let appended = |base_offset, max_timestamp_ms| {
            let append_time_ms = if header.is_log_append_time() { max_timestamp_ms } else { -1 };
            Appended { base_offset, append_time_ms }
        };
        if let Some(duplicate) = self.producers.check(&header, transaction)? {
            return Ok(appended(duplicate.base_offset, duplicate.max_timestamp_ms));
        }
        let appended = appended(self.end_offset, header.max_timestamp);
        header.base_offset = self.end_offset;
        header.leader_epoch = LEADER_EPOCH;
        self.write(&header, &payload, None, settings, now)?;
        Ok(appended)
    }

    /// Ends a producer's transaction here with a control batch and gives its offset. As in Kafka it is written without an
    /// open transaction too: the epoch of the marker becomes the producer's, so a fenced one is refused from here on though
    /// it has never written here.
    pub(crate) fn write_marker(
        &mut self,
        producer_id: i64,
        producer_epoch: i16,
        is_commit: bool,
        settings: &TopicSettings,
        now: Now,
    ) -> Result<i64, ResponseError> {
        self.refuse_if_unsynced()?;
        self.producers.check_marker(producer_id, producer_epoch)?;
        let (header, payload) = control_batch(self.end_offset, producer_id, producer_epoch, is_commit, now.unix_ms);
        self.write(&header, &payload, header.marker(&payload), settings, now)?;
        Ok(header.base_offset)
    }

    /// Whether nothing of this producer and epoch is left to be ended here: its marker was written already.
    pub(crate) fn has_ended(&self, producer_id: i64, producer_epoch: i16) -> bool {
        self.producers.has_ended(producer_id, producer_epoch)
    }

    /// Learns that a transactional batch was refused when the coordinator was asked about it, or after that.
    pub(crate) fn learn_refused(&mut self, batch: &BatchHeader) {
        self.producers.learn_refused(batch);
    }

    /// The first offset that can be read.
    pub(crate) fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// The offset that the next record gets: also the high watermark, as there is one replica.
    pub(crate) fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// The last stable offset: the first of the oldest open transaction, or the end.
    pub(crate) fn stable_offset(&self) -> i64 {
        self.producers.first_open_offset().map_or(self.end_offset, |first| first.max(self.start_offset))
    }

    /// Who has written here and is remembered.
    pub(crate) fn producers(&self) -> Vec<ActiveProducer> {
        self.producers.active()
    }

    /// Forgets producers that have not written for so long and have no open transaction.
    pub(crate) fn forget_idle_producers(&mut self, idle_ms_max: i64, now: Now) {
        self.producers.forget_idle(now.unix_ms, idle_ms_max);
    }

    /// Bytes of all segments.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// What has been written to since this was last called, and what could not be synced: whoever syncs it, on whatever
    /// thread, has made everything durable that was appended before the call.
    pub(crate) fn take_dirty(&mut self) -> Vec<Unsynced> {
        self.unsynced.retain(|durable| !durable.is_synced());
        let active = self.segments.last().and_then(Segment::hand_out);
        self.unsynced.iter().filter_map(Durable::hand_out).chain(active).collect()
    }

    /// Nothing here is durable before these folders are.
    pub(crate) fn wait_for_sync_of(&mut self, folders: &[Arc<Durable>]) {
        self.unsynced.extend_from_slice(folders);
    }

    /// Nothing is written after what may be lost, nor is it told a client again that it is there: a duplicate is refused too.
    fn refuse_if_unsynced(&self) -> Result<(), ResponseError> {
        let has_failed = self.unsynced.iter().any(|durable| durable.has_failed())
            || self.segments.last().is_some_and(Segment::has_failed);
        if has_failed { Err(ResponseError::KafkaStorageError) } else { Ok(()) }
    }

    /// Closes the file that is written to, if that is not done often.
    pub(crate) fn close_if_idle(&mut self, now: Now) {
        if let Some(active) = self.segments.last_mut() {
            active.close_if_idle(OPEN_IDLE_MS_MAX, now.unix_ms);
        }
    }

    /// Whether no file has a piece of a failed append at its end.
    pub(crate) fn is_whole(&self) -> bool {
        self.segments.last().is_none_or(|active| !active.has_torn_append)
    }

    /// A request that waits for records here is woken by the next append, marker or deletion.
    pub(crate) fn wake_when_changed(&mut self, waker: &Arc<Notify>) {
        if self.waiting.len() == self.waiting.capacity() {
            // So those that have gone away are never more than those that wait.
            self.waiting.retain(|waiting| waiting.strong_count() > 0);
        }
        if !self.waiting.iter().any(|waiting| std::ptr::eq(waiting.as_ptr(), Arc::as_ptr(waker))) {
            self.waiting.push(Arc::downgrade(waker));
        }
    }

    /// Wakes whoever waits for a change.
    pub(crate) fn wake(&mut self) {
        for waiting in self.waiting.drain(..).filter_map(|waiting| waiting.upgrade()) {
            waiting.notify_one();
        }
    }

    /// Writes a batch that has been checked, in a new segment if it is time for one, and learns from it.
    fn write(
        &mut self,
        header: &BatchHeader,
        payload: &[u8],
        marker: Option<Marker>,
        settings: &TopicSettings,
        now: Now,
    ) -> Result<(), ResponseError> {
        let is_due = self.segments.last().is_none_or(|active| is_roll_due(active, header, settings, now));
        let is_rolled = if is_due { self.roll(now) } else { Ok(()) };
        let is_written = is_rolled.and_then(|()| match self.segments.last_mut() {
            Some(active) => active.append(header, payload, now.unix_ms),
            None => Err(io::Error::other("there is no segment")),
        });
        if let Err(error) = is_written {
            if !std::mem::replace(&mut self.is_failing, true) {
                self.storage_error("append; this is told again only after it has worked", &error);
            }
            return Err(ResponseError::KafkaStorageError);
        }
        self.is_failing = false;
        self.learn(header, marker, Some(now.unix_ms));
        self.wake();
        Ok(())
    }

    /// Derives everything but the index, which its segment has already: the one function that sees each batch once.
    fn learn(&mut self, header: &BatchHeader, marker: Option<Marker>, now_ms: Option<i64>) {
        self.producers.learn(header, marker, now_ms);
        self.end_offset = header.next_offset();
    }

    /// Ends the segment that is written to and begins another at the end of the log.
    fn roll(&mut self, now: Now) -> io::Result<()> {
        let next = match &self.place {
            Place::Memory => Segment::in_memory(self.end_offset, now.unix_ms),
            Place::Folder(folder) => {
                // Nothing may fail once the file is there: a roll is done or has left nothing.
                let next = Segment::create(folder, self.end_offset, now.unix_ms)?;
                self.unsynced.push(Arc::new(Durable::folder(folder)));
                next
            }
        };
        let sealed = self.segments.last_mut().and_then(Segment::seal);
        self.unsynced.extend(sealed);
        self.segments.push(next);
        self.bound_unsynced();
        Ok(())
    }

    /// Syncs here what the flusher has not come to, so that files which wait for it are not many. What fails is told, and
    /// refuses the next append.
    fn bound_unsynced(&mut self) {
        if self.unsynced.len() > UNSYNCED_MAX {
            for unsynced in self.unsynced.iter().filter_map(Durable::hand_out) {
                let _is_told = unsynced.sync();
            }
            self.unsynced.retain(|durable| !durable.is_synced());
        }
    }

    /// Logs a failure of the disk.
    fn storage_error(&self, action: &str, error: &io::Error) -> ResponseError {
        tracing::error!(place = ?self.place, %error, "cannot {action}");
        ResponseError::KafkaStorageError
    }
}

/// Whether a batch is to begin a new segment: the active one would become too large, or its first batch is too old against
/// this one, by the records' time if they have one and by the clock if not.
fn is_roll_due(active: &Segment, batch: &BatchHeader, settings: &TopicSettings, now: Now) -> bool {
    let age_ms = match active.index.first_timestamp {
        Some(first) if first >= 0 => batch.max_timestamp.saturating_sub(first),
        _ => now.unix_ms.saturating_sub(active.begun_ms),
    };
    // What is to be compacted by then has to be in a segment that is no longer written to.
    let is_bounded = settings.cleanup_policy.is_compact && settings.max_compaction_lag_ms > 0;
    let age_ms_max =
        if is_bounded { settings.segment_ms.min(settings.max_compaction_lag_ms) } else { settings.segment_ms };
    active.size > 0 && (active.size + batch.size as u64 > settings.segment_bytes || age_ms > age_ms_max)
}

#[cfg(test)]
mod tests;
