//! Reading: whole batches from an offset on, and looking offsets up by time.
//!
//! Invariant: what is given is whole batches, in order, none of them at or beyond the bound of the reader's isolation.

use std::io;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::batch::{BatchHeader, HEADER_LEN};
use super::records::Records;
use super::segment::{INDEX_INTERVAL_BYTES, Segment};
use super::{Isolation, PartitionLog, Read};

impl PartitionLog {
    /// Whole batches from the one that holds `from`, up to `bytes_max` (the first batch is given even if it is larger, when
    /// `is_first_whole`). `OffsetOutOfRange` outside start..=end. One segment is read at most, as in Kafka.
    pub(crate) fn read(
        &self,
        from: i64,
        bytes_max: usize,
        is_first_whole: bool,
        isolation: Isolation,
    ) -> Result<Read, ResponseError> {
        if !(self.start_offset..=self.end_offset).contains(&from) {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let until = self.bound(isolation);
        if from >= until || (bytes_max == 0 && !is_first_whole) {
            return Ok(Read::default());
        }
        for segment in &self.segments[self.segment_of(from)..] {
            let found = read_segment(segment, from, until, bytes_max, is_first_whole);
            if let Some(found) = found.map_err(|error| self.storage_error("read", &error))? {
                let aborted = match isolation {
                    Isolation::ReadCommitted => self.producers.aborted_between(from, found.next_offset),
                    Isolation::ReadUncommitted => Vec::new(),
                };
                return Ok(Read { records: found.records, aborted });
            }
        }
        Ok(Read::default())
    }

    /// The first record at or after a time: `(offset, its timestamp)`. The record of a control batch counts too, as in Kafka.
    pub(crate) fn offset_at_time(
        &self,
        timestamp_ms: i64,
        isolation: Isolation,
    ) -> Result<Option<(i64, i64)>, ResponseError> {
        let is_late = |timestamp: i64| timestamp >= timestamp_ms;
        for segment in &self.segments {
            if segment.index.max_timestamp.is_none_or(|(greatest, _)| greatest < timestamp_ms) {
                continue;
            }
            let from = segment.index.position_of_time(timestamp_ms);
            if let Some(found) = self.find_record(segment, from, is_late)? {
                return Ok(Some(found).filter(|(offset, _)| *offset < self.bound(isolation)));
            }
        }
        Ok(None)
    }

    /// The record of the greatest timestamp: `(offset, timestamp)`; of several the first.
    pub(crate) fn offset_of_max_timestamp(&self) -> Result<Option<(i64, i64)>, ResponseError> {
        let mut greatest: Option<(i64, usize, u64)> = None;
        for (at, segment) in self.segments.iter().enumerate() {
            let Some((mut timestamp, mut position)) = segment.index.max_timestamp else { continue };
            if segment.base_offset < self.start_offset {
                // The batch that has it may have been deleted.
                let Some(max) = self.max_timestamp_from_start(segment)? else { continue };
                (timestamp, position) = max;
            }
            if greatest.is_none_or(|(than, _, _)| timestamp > than) {
                greatest = Some((timestamp, at, position));
            }
        }
        match greatest {
            Some((timestamp, at, position)) if timestamp >= 0 => {
                self.find_record(&self.segments[at], position, |of_record| of_record >= timestamp)
            }
            _ => Ok(None),
        }
    }

    /// Where reading ends.
    pub(super) fn bound(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.end_offset,
            Isolation::ReadCommitted => self.stable_offset(),
        }
    }

    /// The number of the segment in which an offset is, or would be.
    pub(super) fn segment_of(&self, offset: i64) -> usize {
        self.segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1)
    }

    /// The greatest timestamp of the records from the log's start on, and where the batch that has it begins.
    fn max_timestamp_from_start(&self, segment: &Segment) -> Result<Option<(i64, u64)>, ResponseError> {
        let mut greatest: Option<(i64, u64)> = None;
        self.find_batch(segment, segment.index.position_of_offset(self.start_offset), |header, position| {
            // In a batch that is deleted in part, the header's may be that of a deleted record.
            let timestamp = if header.base_offset >= self.start_offset {
                Some(header.max_timestamp)
            } else {
                let mut of_batch = None;
                self.find_in_batch(segment, header, position, |timestamp| {
                    of_batch = of_batch.max(Some(timestamp));
                    false
                })?;
                of_batch
            };
            if timestamp.is_some() && timestamp > greatest.map(|(than, _)| than) {
                greatest = timestamp.map(|timestamp| (timestamp, position));
            }
            Ok(None::<()>)
        })?;
        Ok(greatest)
    }

    /// The first record from a position on, of those that are not deleted, whose timestamp is as asked for. Only a batch
    /// whose greatest timestamp is so too is decompressed.
    fn find_record(
        &self,
        segment: &Segment,
        from: u64,
        is_found: impl Fn(i64) -> bool,
    ) -> Result<Option<(i64, i64)>, ResponseError> {
        self.find_batch(segment, from, |header, position| {
            if !is_found(header.max_timestamp) {
                return Ok(None);
            }
            self.find_in_batch(segment, header, position, &is_found)
        })
    }

    /// The first record of a batch, of those that are not deleted, whose timestamp is as asked for.
    fn find_in_batch(
        &self,
        segment: &Segment,
        header: &BatchHeader,
        position: u64,
        mut is_found: impl FnMut(i64) -> bool,
    ) -> Result<Option<(i64, i64)>, ResponseError> {
        let payload = segment
            .read(position + HEADER_LEN as u64, header.size - HEADER_LEN)
            .map_err(|error| self.storage_error("read", &error))?;
        let payload = header.decompress(&payload, self.decompressed_bytes_max);
        let payload = payload.map_err(|_| ResponseError::CorruptMessage)?;
        for record in Records::new(&payload, header.record_count) {
            let record = record.map_err(|_| ResponseError::CorruptMessage)?;
            let offset = header.base_offset + i64::from(record.offset_delta);
            let timestamp = header.timestamp_of(record.timestamp_delta);
            if offset >= self.start_offset && is_found(timestamp) {
                return Ok(Some((offset, timestamp)));
            }
        }
        Ok(None)
    }

    /// Goes through a segment's headers from a position on, those wholly before the log's start left out, until `look` has
    /// found something.
    fn find_batch<T>(
        &self,
        segment: &Segment,
        from: u64,
        mut look: impl FnMut(&BatchHeader, u64) -> Result<Option<T>, ResponseError>,
    ) -> Result<Option<T>, ResponseError> {
        let mut position = from;
        while position < segment.size {
            let length = (segment.size - position).min(INDEX_INTERVAL_BYTES) as usize;
            let bytes = segment.read(position, length).map_err(|error| self.storage_error("read", &error))?;
            let window = position;
            while let Some(header) = header_at(&bytes, position - window) {
                let header = header.map_err(|error| self.storage_error("read", &error))?;
                if header.last_offset() >= self.start_offset
                    && let Some(found) = look(&header, position)?
                {
                    return Ok(Some(found));
                }
                position += header.size as u64;
            }
            if position == window {
                let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(self.storage_error("read", &error));
            }
        }
        Ok(None)
    }
}

/// What a read of one segment gives.
struct Found {
    records: Bytes,
    /// The offset after its last record.
    next_offset: i64,
}

/// Reads from the first batch that ends at `from` or after; `None` if the segment has none, or none before `until`.
fn read_segment(
    segment: &Segment,
    from: i64,
    until: i64,
    bytes_max: usize,
    is_first_whole: bool,
) -> io::Result<Option<Found>> {
    let mut window = segment.index.position_of_offset(from);
    let (bytes, first, first_header) = loop {
        if window >= segment.size {
            return Ok(None);
        }
        // A batch that holds `from` begins within an interval of there; its header at least is needed, then as much as was
        // asked for.
        let length =
            INDEX_INTERVAL_BYTES.saturating_add(bytes_max.max(HEADER_LEN) as u64).min(segment.size - window) as usize;
        let bytes = segment.read(window, length)?;
        let mut first = 0;
        let found = loop {
            match header_at(&bytes, first).transpose()? {
                Some(header) if header.last_offset() < from => first += header.size as u64,
                found => break found,
            }
        };
        match found {
            Some(header) if first <= INDEX_INTERVAL_BYTES => break (bytes, first, header),
            None if first == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            // Where compaction has left a gap at `from`, the first batch after it may be any distance away.
            _ => window += first,
        }
    };
    if first_header.base_offset >= until {
        return Ok(None);
    }
    if first_header.size > bytes_max {
        let records = if is_first_whole { segment.read(window + first, first_header.size)? } else { Bytes::new() };
        return Ok(Some(Found { records, next_offset: first_header.next_offset() }));
    }
    let (mut end, mut next_offset) = (first, first_header.base_offset);
    while let Some(header) = header_at(&bytes, end).transpose()? {
        let after = end + header.size as u64;
        if after - first > bytes_max as u64 || after > bytes.len() as u64 || header.base_offset >= until {
            break;
        }
        (end, next_offset) = (after, header.next_offset());
    }
    Ok(Some(Found { records: bytes.slice(first as usize..end as usize), next_offset }))
}

/// The header at a position of these bytes, if all of it is there. That it is one was checked when it was written.
fn header_at(bytes: &[u8], position: u64) -> Option<io::Result<BatchHeader>> {
    let header = bytes.get(usize::try_from(position).ok()?..)?.first_chunk::<HEADER_LEN>()?;
    Some(BatchHeader::parse(header).map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad)))
}
