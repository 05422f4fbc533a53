//! A partition's log: record batches as the producers sent them, in segments, and everything that is derived from them.
//!
//! Invariant: everything here but the batches is derived from the batches' headers, by one function that sees each batch once,
//! whether it is appended or read back at start. So no index, sequence or transaction can disagree with the log.

pub(crate) mod codec;

use std::path::PathBuf;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use crate::error::StartError;
use crate::node::Now;
use crate::topics::settings::TopicSettings;

/// Where a partition's segments are.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In memory.
    Memory,
    /// In this folder, one file a segment: `00000000000000000000.log`.
    Folder(PathBuf),
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
    /// The first offset of its open transaction.
    pub(crate) transaction_start: Option<i64>,
}

/// The log of one partition.
pub(crate) struct PartitionLog {}

/// The interface. A failure of the disk is logged with its file where it happens, and answered with `KafkaStorageError`.
#[allow(unused, clippy::unimplemented)]
impl PartitionLog {
    /// Opens the log, reading every batch: checks its CRC32C and derives the rest. A torn tail of the last segment is cut
    /// (and told with `tracing`); damage anywhere else is `StartError::Corrupt`, or cut when `repair`. `start_offset` is what
    /// the topics' journal says; segments wholly before it are removed. Logs of several partitions are opened in parallel.
    pub(crate) fn open(place: Place, start_offset: i64, repair: bool) -> Result<Self, StartError> {
        unimplemented!()
    }

    /// Checks and appends one produce request's batch of this partition: magic 2, CRC32C, size, timestamps, a key where the
    /// topic is compacted, sequence and epoch; a duplicate of the last five is answered with its first offsets. Base offset
    /// and leader epoch are set in place; nothing else is changed unless the timestamps are those of the append.
    /// `transaction` says whether the coordinator has this partition in the producer's open transaction (checked when the
    /// batch is transactional and opens one here: `InvalidTxnState` if not).
    pub(crate) fn append(
        &mut self,
        batches: Bytes,
        transaction: bool,
        settings: &TopicSettings,
        now: Now,
    ) -> Result<Appended, ResponseError> {
        unimplemented!()
    }

    /// Ends a producer's transaction here with a control batch and gives its offset; without an open transaction of that
    /// producer nothing is written and `None` given. The epoch of the marker becomes the producer's (a fenced one is refused
    /// from here on).
    pub(crate) fn write_marker(
        &mut self,
        producer_id: i64,
        producer_epoch: i16,
        is_commit: bool,
        settings: &TopicSettings,
        now: Now,
    ) -> Result<Option<i64>, ResponseError> {
        unimplemented!()
    }

    /// Whole batches from the one that holds `from`, up to `bytes_max` (the first batch is given even if it is larger, when
    /// `is_first_whole`). `OffsetOutOfRange` outside start..=end.
    pub(crate) fn read(
        &self,
        from: i64,
        bytes_max: usize,
        is_first_whole: bool,
        isolation: Isolation,
    ) -> Result<Read, ResponseError> {
        unimplemented!()
    }

    /// The first offset that can be read.
    pub(crate) fn start_offset(&self) -> i64 {
        unimplemented!()
    }

    /// The offset that the next record gets: also the high watermark, as there is one replica.
    pub(crate) fn end_offset(&self) -> i64 {
        unimplemented!()
    }

    /// The last stable offset: the first of the oldest open transaction, or the end.
    pub(crate) fn stable_offset(&self) -> i64 {
        unimplemented!()
    }

    /// The first record at or after a time: `(offset, its timestamp)`.
    pub(crate) fn offset_at_time(
        &self,
        timestamp_ms: i64,
        isolation: Isolation,
    ) -> Result<Option<(i64, i64)>, ResponseError> {
        unimplemented!()
    }

    /// The record of the greatest timestamp: `(offset, timestamp)`.
    pub(crate) fn offset_of_max_timestamp(&self) -> Result<Option<(i64, i64)>, ResponseError> {
        unimplemented!()
    }

    /// Moves the start to `offset` (-1: to the end) and gives it; `OffsetOutOfRange` beyond the end.
    /// Whoever calls it has journalled it first (`Topics::delete_records`).
    pub(crate) fn delete_before(&mut self, offset: i64) -> Result<i64, ResponseError> {
        unimplemented!()
    }

    /// Who has written here and is remembered.
    pub(crate) fn producers(&self) -> Vec<ActiveProducer> {
        unimplemented!()
    }

    /// Bytes of all segments.
    pub(crate) fn size_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// A request that waits for records here is woken by the next append, marker or deletion.
    pub(crate) fn wake_when_changed(&mut self, waker: &std::sync::Arc<tokio::sync::Notify>) {
        unimplemented!()
    }
}
