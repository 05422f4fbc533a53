//! Batches for tests, as a client would send them.

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};

use super::batch::{BatchHeader, HEADER_LEN};
use super::codec::{Codec, compress};
use crate::node::Now;
use crate::topics::settings::TopicSettings;

/// A batch to be made.
#[derive(Clone, Debug)]
pub(crate) struct TestBatch {
    pub(crate) header: BatchHeader,
    /// Key, value and timestamp of each record.
    pub(crate) records: Vec<(Option<Bytes>, Option<Bytes>, i64)>,
    pub(crate) codec: Codec,
}

impl TestBatch {
    /// Plain records without keys, a millisecond apart from `timestamp` on.
    pub(crate) fn new(values: &[&str], timestamp: i64) -> Self {
        let record =
            |(at, value): (usize, &&str)| (None, Some(Bytes::copy_from_slice(value.as_bytes())), timestamp + at as i64);
        let header = BatchHeader {
            base_offset: 0,
            size: HEADER_LEN,
            leader_epoch: -1,
            crc: 0,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp: timestamp,
            max_timestamp: timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        };
        Self { header, records: values.iter().enumerate().map(record).collect(), codec: Codec::None }
    }

    /// Of so many records, with an idempotent producer's id, epoch and first sequence.
    pub(crate) fn of_producer(count: usize, id: i64, epoch: i16, sequence: i32) -> Self {
        let mut batch = Self::new(&vec!["v"; count], 1_000);
        batch.header.producer_id = id;
        batch.header.producer_epoch = epoch;
        batch.header.base_sequence = sequence;
        batch
    }

    /// In a transaction.
    pub(crate) fn transactional(mut self) -> Self {
        self.header.attributes |= 1 << 4;
        self
    }

    /// Compressed.
    pub(crate) fn compressed(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// The header and the uncompressed records.
    fn parts(&self) -> (BatchHeader, BytesMut) {
        let mut payload = BytesMut::new();
        for (at, (key, value, timestamp)) in self.records.iter().enumerate() {
            let mut body = BytesMut::new();
            body.put_u8(0);
            put_varint(&mut body, timestamp - self.header.base_timestamp);
            put_varint(&mut body, at as i64);
            for part in [key, value] {
                put_varint(&mut body, part.as_ref().map_or(-1, |part| part.len() as i64));
                body.put_slice(part.as_deref().unwrap_or_default());
            }
            put_varint(&mut body, 0);
            put_varint(&mut payload, body.len() as i64);
            payload.put_slice(&body);
        }
        let mut header = self.header;
        header.record_count = self.records.len() as i32;
        header.last_offset_delta = header.record_count - 1;
        header.max_timestamp = self.records.iter().map(|record| record.2).max().unwrap_or(header.max_timestamp);
        header.attributes |= self.codec as i16;
        (header, payload)
    }

    /// Its bytes.
    pub(crate) fn build(&self) -> Bytes {
        self.build_with(|_| {})
    }

    /// Its bytes, after a last change to the header, under a CRC32C that is right.
    pub(crate) fn build_with(&self, change: impl FnOnce(&mut BatchHeader)) -> Bytes {
        let (mut header, payload) = self.parts();
        let payload = compress(self.codec, &payload).unwrap();
        header.size = HEADER_LEN + payload.len();
        change(&mut header);
        header.crc = header.checksum(&payload);
        [&header.encode()[..], &payload].concat().into()
    }
}

/// A zigzag varint.
pub(crate) fn put_varint(to: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        to.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.put_u8(rest as u8);
}

/// A time.
pub(crate) fn at(unix_ms: i64) -> Now {
    Now { unix_ms, instant: Instant::now() }
}

/// The defaults, without bounds on timestamps, so that tests may count from 0.
pub(crate) fn settings() -> TopicSettings {
    TopicSettings { timestamp_after_max_ms: i64::MAX, ..TopicSettings::default() }
}
