//! The header of a record batch (magic 2), read once into a value, and the control batch that ends a transaction.
//!
//! Invariant: a [`BatchHeader`] is read from at least 61 bytes and says a size of at least that, so no arithmetic on it can
//! run out of its batch. The CRC32C covers everything from the attributes on: base offset and leader epoch stay outside, so
//! that they can be set without reading the records.
//!
//! Source: Kafka's "Message format" (<https://kafka.apache.org/documentation/#recordbatch>).

use bytes::{BufMut, Bytes, BytesMut};

use super::codec::{Codec, CodecError};
use super::records::{BadRecord, Records};

/// Bytes of a batch before its records.
pub(crate) const HEADER_LEN: usize = 61;
/// Bytes of a batch that its own length field does not count: the base offset and the length.
pub(crate) const LENGTH_END: usize = 12;
/// Where the part that the CRC32C covers begins: at the attributes.
const CHECKED_FROM: usize = 21;

const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const DELETE_HORIZON: i16 = 1 << 6;

/// A batch's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: i64,
    /// Bytes of the whole batch, at least [`HEADER_LEN`].
    pub(crate) size: usize,
    pub(crate) leader_epoch: i32,
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    /// The timestamp that the records' deltas are from; the delete horizon, if the batch has one.
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    /// -1: none.
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    /// -1: none.
    pub(crate) base_sequence: i32,
    pub(crate) record_count: i32,
}

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadBatch {
    /// The bytes end inside it.
    #[error("a batch of {size} bytes has {available}")]
    Cut { size: usize, available: u64 },
    /// Its length cannot be.
    #[error("a batch's length is {0}")]
    Length(i32),
    /// It has another format.
    #[error("a batch's magic is {0}, not 2")]
    Magic(i8),
    /// It is damaged.
    #[error("a batch's CRC32C is {computed:08x}, its header says {stored:08x}")]
    Checksum { stored: u32, computed: u32 },
    /// Its offsets cannot be, after those before it.
    #[error("a batch has offsets {base} to {last}, where {expected} or more is due")]
    Offsets { base: i64, last: i64, expected: i64 },
    /// Its offsets cannot be, before those of the next segment.
    #[error("a batch has offsets to {last}, where the next segment begins at {next_segment}")]
    Beyond { last: i64, next_segment: i64 },
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) is_commit: bool,
    pub(crate) coordinator_epoch: i32,
}

impl BatchHeader {
    /// Reads the header at the beginning of `bytes`; nothing is checked but that it is one.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BadBatch> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(BadBatch::Cut { size: HEADER_LEN, available: bytes.len() as u64 });
        };
        let length = i32::from_be_bytes(array(header, 8));
        let magic = i8::from_be_bytes(array(header, 16));
        if magic != 2 {
            return Err(BadBatch::Magic(magic));
        }
        let size = usize::try_from(length).map_err(|_| BadBatch::Length(length))?.saturating_add(LENGTH_END);
        if size < HEADER_LEN {
            return Err(BadBatch::Length(length));
        }
        Ok(Self {
            base_offset: i64::from_be_bytes(array(header, 0)),
            size,
            leader_epoch: i32::from_be_bytes(array(header, 12)),
            crc: u32::from_be_bytes(array(header, 17)),
            attributes: i16::from_be_bytes(array(header, CHECKED_FROM)),
            last_offset_delta: i32::from_be_bytes(array(header, 23)),
            base_timestamp: i64::from_be_bytes(array(header, 27)),
            max_timestamp: i64::from_be_bytes(array(header, 35)),
            producer_id: i64::from_be_bytes(array(header, 43)),
            producer_epoch: i16::from_be_bytes(array(header, 51)),
            base_sequence: i32::from_be_bytes(array(header, 53)),
            record_count: i32::from_be_bytes(array(header, 57)),
        })
    }

    /// The header's bytes.
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        let mut to = &mut header[..];
        to.put_i64(self.base_offset);
        to.put_i32((self.size - LENGTH_END) as i32);
        to.put_i32(self.leader_epoch);
        to.put_i8(2);
        to.put_u32(self.crc);
        to.put_i16(self.attributes);
        to.put_i32(self.last_offset_delta);
        to.put_i64(self.base_timestamp);
        to.put_i64(self.max_timestamp);
        to.put_i64(self.producer_id);
        to.put_i16(self.producer_epoch);
        to.put_i32(self.base_sequence);
        to.put_i32(self.record_count);
        header
    }

    /// The CRC32C that the batch should have, given all bytes after its header.
    pub(crate) fn checksum(&self, payload: &[u8]) -> u32 {
        crc32c::crc32c_append(self.checksum_of_header(), payload)
    }

    /// The CRC32C of the header's checked part, to go on from where the rest comes in pieces.
    pub(crate) fn checksum_of_header(&self) -> u32 {
        crc32c::crc32c(&self.encode()[CHECKED_FROM..])
    }

    /// Refuses a batch whose CRC32C is not `computed`.
    pub(crate) fn check_checksum(&self, computed: u32) -> Result<(), BadBatch> {
        if computed == self.crc { Ok(()) } else { Err(BadBatch::Checksum { stored: self.crc, computed }) }
    }

    /// Refuses offsets that cannot stand in a log whose next offset is `expected`; gaps are legal, compaction leaves them.
    pub(crate) fn check_offsets(&self, expected: i64) -> Result<(), BadBatch> {
        let last = self.base_offset.saturating_add(i64::from(self.last_offset_delta));
        if self.base_offset < expected || self.last_offset_delta < 0 || last == i64::MAX || self.record_count < 0 {
            return Err(BadBatch::Offsets { base: self.base_offset, last, expected });
        }
        Ok(())
    }

    /// The offset of its last record, as it was produced.
    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// The offset after it.
    pub(crate) fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// Whether it comes from an idempotent producer.
    pub(crate) fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// The sequence number of its last record; -1 if it has none. After `i32::MAX` comes 0.
    pub(crate) fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        ((i64::from(self.base_sequence) + i64::from(self.last_offset_delta)) & i64::from(i32::MAX)) as i32
    }

    /// How its records are compressed.
    pub(crate) fn codec(&self) -> Result<Codec, CodecError> {
        Codec::of_attributes(self.attributes)
    }

    /// Whether all its records have the time of their append, which is the maximum timestamp.
    pub(crate) fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Sets where the timestamps come from; the CRC32C is then to be set anew.
    pub(crate) fn set_log_append_time(&mut self, is_log_append_time: bool) {
        self.attributes =
            if is_log_append_time { self.attributes | LOG_APPEND_TIME } else { self.attributes & !LOG_APPEND_TIME };
    }

    /// From when on compaction may drop its tombstones, or the marker that it is (KIP-534).
    pub(crate) fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// Gives it a delete horizon; the records' deltas are then to be from there, and the CRC32C is to be set anew.
    pub(crate) fn set_delete_horizon(&mut self, horizon_ms: i64) {
        self.attributes |= DELETE_HORIZON;
        self.base_timestamp = horizon_ms;
    }

    /// Makes it a batch without records: uncompressed, with nothing to delete. The CRC32C is then to be set anew.
    pub(crate) fn set_empty(&mut self) {
        self.attributes &= !(DELETE_HORIZON | Codec::ATTRIBUTES_MASK);
        self.base_timestamp = self.max_timestamp;
        self.record_count = 0;
    }

    /// Whether it belongs to a transaction.
    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether it is not a client's, but ends a transaction.
    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// The timestamp of a record of this batch.
    pub(crate) fn timestamp_of(&self, timestamp_delta: i64) -> i64 {
        if self.is_log_append_time() { self.max_timestamp } else { self.base_timestamp.wrapping_add(timestamp_delta) }
    }

    /// What a control batch says, given all bytes after its header. `None`: no transaction ends by it (compaction has emptied
    /// it, or it is of a kind that is not known here).
    pub(crate) fn marker(&self, payload: &[u8]) -> Option<Marker> {
        if !self.is_control() {
            return None;
        }
        let record = Records::new(payload, self.record_count).next()?.ok()?;
        let (key, value) = (record.key?, record.value?);
        let is_commit = match i16::from_be_bytes(*key.get(2..4)?.first_chunk()?) {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Marker { is_commit, coordinator_epoch: i32::from_be_bytes(*value.get(2..6)?.first_chunk()?) })
    }

    /// The records of a batch, decompressed, given all bytes after its header.
    pub(crate) fn decompress(&self, payload: &[u8], bytes_max: usize) -> Result<Bytes, CodecError> {
        super::codec::decompress(self.codec()?, payload, bytes_max)
    }
}

/// The control batch that ends a producer's transaction; its coordinator epoch is 0, as there is one coordinator.
pub(crate) fn control_batch(
    base_offset: i64,
    producer_id: i64,
    producer_epoch: i16,
    is_commit: bool,
    now_ms: i64,
) -> (BatchHeader, Bytes) {
    let mut payload = BytesMut::with_capacity(17);
    // Its length (16, as zigzag), attributes, timestamp and offset deltas.
    payload.put_slice(&[32, 0, 0, 0]);
    // The key: 4 bytes (as zigzag), version and type.
    payload.put_u8(8);
    payload.put_i16(0);
    payload.put_i16(i16::from(is_commit));
    // The value: 6 bytes (as zigzag), version and coordinator epoch.
    payload.put_u8(12);
    payload.put_i16(0);
    payload.put_i32(0);
    // No headers.
    payload.put_u8(0);
    let mut header = BatchHeader {
        base_offset,
        size: HEADER_LEN + payload.len(),
        leader_epoch: crate::node::LEADER_EPOCH,
        crc: 0,
        attributes: TRANSACTIONAL | CONTROL,
        last_offset_delta: 0,
        base_timestamp: now_ms,
        max_timestamp: now_ms,
        producer_id,
        producer_epoch,
        base_sequence: -1,
        record_count: 1,
    };
    header.crc = header.checksum(&payload);
    (header, payload.freeze())
}

impl From<BadRecord> for kafka_protocol::ResponseError {
    fn from(_: BadRecord) -> Self {
        Self::InvalidRecord
    }
}

fn array<const N: usize>(header: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    std::array::from_fn(|index| header[at + index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        let (header, payload) = control_batch(7, 4_000, 3, true, 1_700_000_000_000);
        let bytes = [&header.encode()[..], &payload].concat();
        assert_eq!(bytes.len(), header.size);
        assert_eq!(BatchHeader::parse(&bytes), Ok(header));
        assert_eq!(header.check_checksum(header.checksum(&payload)), Ok(()));
        assert_eq!(header.marker(&payload), Some(Marker { is_commit: true, coordinator_epoch: 0 }));
        assert_eq!((header.is_control(), header.is_transactional(), header.next_offset()), (true, true, 8));
    }

    /// The same bytes as the protocol crate's own reader understands them.
    #[test]
    fn a_control_batch_is_what_another_reader_expects() {
        let (header, payload) = control_batch(7, 4_000, 3, false, 1_700_000_000_000);
        let mut bytes = Bytes::from([&header.encode()[..], &payload].concat());
        let records = kafka_protocol::records::RecordBatchDecoder::decode(&mut bytes).unwrap().records;
        assert_eq!(records.len(), 1);
        assert!(records[0].control && records[0].transactional);
        assert_eq!((records[0].offset, records[0].producer_id, records[0].producer_epoch), (7, 4_000, 3));
        assert_eq!(records[0].key.as_deref(), Some(&[0, 0, 0, 0][..]));
        assert_eq!(records[0].value.as_deref(), Some(&[0, 0, 0, 0, 0, 0][..]));
        assert_eq!(records[0].timestamp, 1_700_000_000_000);
    }

    #[test]
    fn bytes_that_are_no_batch() {
        let (header, _) = control_batch(0, 1, 0, true, 0);
        let check = |at: usize, with: &[u8], expected: BadBatch| {
            let mut bytes = header.encode();
            bytes[at..at + with.len()].copy_from_slice(with);
            assert_eq!(BatchHeader::parse(&bytes), Err(expected));
        };
        check(16, &[1], BadBatch::Magic(1));
        check(8, &48_i32.to_be_bytes(), BadBatch::Length(48));
        check(8, &(-1_i32).to_be_bytes(), BadBatch::Length(-1));
        assert_eq!(BatchHeader::parse(&[0; 60]), Err(BadBatch::Cut { size: 61, available: 60 }));
    }

    #[test]
    fn offsets_that_cannot_be() {
        let (header, _) = control_batch(10, 1, 0, true, 0);
        assert!(header.check_offsets(10).is_ok());
        assert!(header.check_offsets(5).is_ok(), "a gap is legal");
        assert!(header.check_offsets(11).is_err());
        assert!(BatchHeader { last_offset_delta: -1, ..header }.check_offsets(0).is_err());
        assert!(BatchHeader { base_offset: i64::MAX - 1, last_offset_delta: 1, ..header }.check_offsets(0).is_err());
        assert!(BatchHeader { record_count: -1, ..header }.check_offsets(0).is_err());
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let (header, _) = control_batch(0, 1, 0, true, 0);
        let last = |base_sequence, last_offset_delta| {
            BatchHeader { base_sequence, last_offset_delta, ..header }.last_sequence()
        };
        assert_eq!(last(0, 9), 9);
        assert_eq!(last(i32::MAX, 0), i32::MAX);
        assert_eq!(last(i32::MAX, 1), 0);
        assert_eq!(last(i32::MAX - 1, 4), 2);
        assert_eq!(last(-1, 4), -1);
    }
}
