//! Reading a segment from its beginning, batch after batch, checking each.
//!
//! Invariant: a batch is given only when all of it is there and its CRC32C is right; memory is one buffer of 1 MiB, whatever
//! the lengths in the file claim, because the checksum of a larger batch is taken piece by piece.

use std::fs::File;
use std::io::{self, Read};

use super::batch::{BadBatch, BatchHeader, HEADER_LEN, Marker};
use super::segment::SealedContent;

/// Bytes read at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// A batch that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scanned {
    pub(crate) header: BatchHeader,
    /// Where it begins.
    pub(crate) position: u64,
    /// How it ends a transaction, if it does.
    pub(crate) marker: Option<Marker>,
}

/// Why a scan ends before the end.
#[derive(Debug)]
pub(crate) enum ScanError {
    /// There is no batch where one should begin.
    Bad(BadBatch),
    /// The disk does not read.
    Io(io::Error),
}

impl From<BadBatch> for ScanError {
    fn from(bad: BadBatch) -> Self {
        Self::Bad(bad)
    }
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The batches of a segment, from the first on.
pub(crate) struct Scan<R> {
    from: R,
    /// Bytes of the segment.
    size: u64,
    /// Where the next batch begins.
    pub(crate) position: u64,
    /// The least offset that it may have.
    pub(crate) next_offset: i64,
    /// All offsets must be below this one: that of the next segment.
    pub(crate) end_offset: i64,
    buffer: Vec<u8>,
    /// The part of the buffer that is read and not used yet.
    start: usize,
    end: usize,
}

impl Scan<Box<dyn Read>> {
    /// The batches of a segment's content.
    pub(crate) fn of_content(content: &SealedContent, base_offset: i64) -> io::Result<Self> {
        match content {
            SealedContent::Memory(bytes) => {
                Ok(Scan::new(Box::new(io::Cursor::new(bytes.clone())), bytes.len() as u64, base_offset))
            }
            SealedContent::File(path) => {
                let file = File::open(path)?;
                let size = file.metadata()?.len();
                Ok(Scan::new(Box::new(file), size, base_offset))
            }
        }
    }
}

impl<R: Read> Scan<R> {
    /// The batches of `size` bytes.
    pub(crate) fn new(from: R, size: u64, base_offset: i64) -> Self {
        let buffer = vec![0; size.min(BUFFER_BYTES as u64) as usize];
        Self { from, size, position: 0, next_offset: base_offset, end_offset: i64::MAX, buffer, start: 0, end: 0 }
    }

    /// The next batch; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Scanned>, ScanError> {
        let left = self.size - self.position;
        if left == 0 {
            return Ok(None);
        }
        self.fill(left.min(HEADER_LEN as u64) as usize)?;
        let header = BatchHeader::parse(&self.buffer[self.start..self.end])?;
        if header.size as u64 > left {
            return Err(BadBatch::Cut { size: header.size, available: left }.into());
        }
        header.check_offsets(self.next_offset)?;
        if header.next_offset() > self.end_offset {
            return Err(BadBatch::Beyond { last: header.last_offset(), next_segment: self.end_offset }.into());
        }
        // So a control batch is there as a whole: it is some tens of bytes.
        self.fill(header.size.min(self.buffer.len()))?;
        let payload = &self.buffer[self.start + HEADER_LEN..self.end.min(self.start + header.size)];
        let marker = header.marker(payload);
        let computed = self.checksum(&header)?;
        header.check_checksum(computed)?;
        let position = self.position;
        self.position += header.size as u64;
        self.next_offset = header.next_offset();
        Ok(Some(Scanned { header, position, marker }))
    }

    /// Takes the whole batch out of the buffer, which is refilled on the way, and gives its CRC32C.
    fn checksum(&mut self, header: &BatchHeader) -> io::Result<u32> {
        let mut computed = header.checksum_of_header();
        self.start += HEADER_LEN;
        let mut left = header.size - HEADER_LEN;
        while left > 0 {
            self.fill(left.min(self.buffer.len()))?;
            let piece = left.min(self.end - self.start);
            computed = crc32c::crc32c_append(computed, &self.buffer[self.start..self.start + piece]);
            self.start += piece;
            left -= piece;
        }
        Ok(computed)
    }

    /// Reads until there are at least so many bytes in the buffer, which must hold them.
    fn fill(&mut self, bytes_min: usize) -> io::Result<()> {
        if self.end - self.start >= bytes_min {
            return Ok(());
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < bytes_min {
            match self.from.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
