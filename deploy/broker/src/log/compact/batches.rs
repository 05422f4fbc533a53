//! The batches of a sealed segment with their records, one at a time.
//!
//! Invariant: a batch is given only when all of it is there and its CRC32C is right; memory is that of the largest batch.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};

use bytes::Bytes;

use super::super::batch::{BadBatch, BatchHeader, HEADER_LEN};
use super::super::replace::SealedSegment;
use super::super::segment::SealedContent;

/// The batches of a segment, from the first on.
pub(super) struct Batches {
    from: Box<dyn Read>,
    /// Bytes that are not read yet.
    left: u64,
    next_offset: i64,
}

impl Batches {
    pub(super) fn of(segment: &SealedSegment) -> io::Result<Self> {
        let from: Box<dyn Read> = match &segment.content {
            SealedContent::Memory(bytes) => Box::new(Cursor::new(bytes.clone())),
            SealedContent::File(path) => Box::new(BufReader::with_capacity(256 << 10, File::open(path)?)),
        };
        Ok(Self { from, left: segment.size_bytes, next_offset: segment.base_offset })
    }

    /// The next batch's header and all bytes after it; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<(BatchHeader, Bytes)>> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut header = [0; HEADER_LEN];
        self.from.read_exact(&mut header)?;
        let header = BatchHeader::parse(&header).map_err(invalid)?;
        if header.size as u64 > self.left {
            return Err(invalid(BadBatch::Cut { size: header.size, available: self.left }));
        }
        header.check_offsets(self.next_offset).map_err(invalid)?;
        let mut payload = vec![0; header.size - HEADER_LEN];
        self.from.read_exact(&mut payload)?;
        header.check_checksum(header.checksum(&payload)).map_err(invalid)?;
        self.left -= header.size as u64;
        self.next_offset = header.next_offset();
        Ok(Some((header, payload.into())))
    }
}

fn invalid(bad: BadBatch) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, bad)
}
