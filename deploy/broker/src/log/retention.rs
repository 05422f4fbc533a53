//! Deleting old records: by time, by size, and before the log's start; whole segments, the oldest first.
//!
//! Invariants: there is always a segment that is written to, and the log never starts beyond its end; when all records are too
//! old, a new empty segment is begun first: its file's name keeps the end of the log. The files are those of the segments, so
//! the next start, which knows no other start than the first file's name, finds the same log: a file that cannot be removed
//! is still a segment, and so are all after it.
//!
//! Source: Kafka's `UnifiedLog.deleteOldSegments`.

use std::path::Path;
use std::{fs, io};

use kafka_protocol::ResponseError;

use super::PartitionLog;
use super::segment::Segment;
use crate::node::Now;
use crate::topics::settings::TopicSettings;

impl PartitionLog {
    /// Moves the start to `offset` (-1: to the end) and gives it; `OffsetOutOfRange` beyond the end.
    /// Whoever calls it has journalled it first (`Topics::delete_records`).
    pub(crate) fn delete_before(&mut self, offset: i64) -> Result<i64, ResponseError> {
        let offset = if offset == -1 { self.end_offset } else { offset };
        if !(0..=self.end_offset).contains(&offset) {
            return Err(ResponseError::OffsetOutOfRange);
        }
        if offset > self.start_offset {
            self.move_start(offset);
            self.delete_oldest(self.count_before_start())
                .map_err(|error| self.storage_error("delete segments", &error))?;
        }
        Ok(self.start_offset)
    }

    /// Applies `retention.bytes` and `retention.ms` where the topic deletes old records, and gives how many segments went.
    /// Also does what an earlier deletion or replacement has left undone.
    pub(crate) fn apply_retention(&mut self, settings: &TopicSettings, now: Now) -> Result<usize, ResponseError> {
        self.finish_replacement().map_err(|error| self.storage_error("replace segments", &error))?;
        if !settings.cleanup_policy.is_delete {
            return Ok(0);
        }
        let too_many = settings.retention_bytes.map_or(0, |bytes_max| self.count_beyond(bytes_max));
        let too_old = settings.retention_ms.map_or(0, |ms_max| self.count_older(ms_max, now.unix_ms));
        let count = too_many.max(too_old).max(self.count_before_start());
        self.delete_expired(count, now).map_err(|error| self.storage_error("delete segments", &error))?;
        Ok(count)
    }

    /// How many of the oldest segments are wholly before the start.
    fn count_before_start(&self) -> usize {
        self.segments.iter().skip(1).take_while(|next| next.base_offset <= self.start_offset).count()
    }

    /// How many of the oldest segments can go with at least `bytes_max` left.
    fn count_beyond(&self, bytes_max: u64) -> usize {
        let mut left = self.size_bytes();
        let can_go = |segment: &&Segment| {
            left -= segment.size;
            segment.size > 0 && left >= bytes_max
        };
        self.segments.iter().take_while(can_go).count()
    }

    /// How many of the oldest segments have only records older than that.
    fn count_older(&self, ms_max: i64, now_ms: i64) -> usize {
        let last = self.segments.len().saturating_sub(1);
        let is_older = |(at, segment): &(usize, &Segment)| {
            let is_empty_active = *at == last && segment.size == 0;
            !is_empty_active && now_ms.saturating_sub(segment.largest_timestamp()) > ms_max
        };
        self.segments.iter().enumerate().take_while(is_older).count()
    }

    fn delete_expired(&mut self, count: usize, now: Now) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        if count == self.segments.len() {
            self.roll(now)?;
        }
        let outcome = self.delete_oldest(count);
        if self.segments[0].base_offset > self.start_offset {
            self.move_start(self.segments[0].base_offset);
        }
        outcome
    }

    fn move_start(&mut self, offset: i64) {
        self.start_offset = self.start_offset.max(offset);
        self.producers.forget_before(self.start_offset);
        self.wake();
    }

    /// Removes the oldest segments with their files, up to the first whose file cannot be removed.
    fn delete_oldest(&mut self, count: usize) -> io::Result<()> {
        self.finish_replacement()?;
        let mut outcome = Ok(());
        let is_gone = |segment: &&Segment| {
            outcome = segment.path().map_or(Ok(()), remove);
            outcome.is_ok()
        };
        let gone = self.segments[..count].iter().take_while(is_gone).count();
        self.segments.drain(..gone);
        outcome
    }
}

/// Removes a file; it may be gone already.
fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests;
