//! What becomes of one batch.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};

use super::super::batch::{BatchHeader, HEADER_LEN};
use super::super::codec;
use super::super::records::{Record, Records};
use super::keys::LastOffsets;
use super::{Aborted, Plan, Producers};

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Same,
    Changed(BatchHeader, Bytes),
    Gone,
}

/// Decides over all batches of a log, in their order.
#[derive(Debug)]
pub(super) struct Rewriter<'a> {
    keys: &'a LastOffsets,
    /// Up to here the keys hold.
    clean_until: i64,
    aborted: &'a Aborted,
    producers: &'a Producers,
    /// Producers whose transaction has a batch left, since the last marker.
    open: BTreeSet<i64>,
    decompressed_bytes_max: usize,
    now_ms: i64,
    delete_retention_ms: i64,
}

impl<'a> Rewriter<'a> {
    pub(super) fn new(plan: &'a Plan, keys: &'a LastOffsets, clean_until: i64) -> Self {
        Self {
            keys,
            clean_until,
            aborted: &plan.aborted,
            producers: &plan.producers,
            open: BTreeSet::new(),
            decompressed_bytes_max: plan.limits.decompressed_bytes_max,
            now_ms: plan.now_ms,
            delete_retention_ms: plan.delete_retention_ms,
        }
    }

    /// Decides over the next batch.
    pub(super) fn decide(&mut self, header: &BatchHeader, payload: &Bytes) -> Verdict {
        if header.is_control() {
            return self.decide_marker(header, payload);
        }
        let verdict = self.decide_data(header, payload);
        if header.is_transactional() && verdict != Verdict::Gone {
            self.open.insert(header.producer_id);
        }
        verdict
    }

    /// A marker goes when nothing of its transaction is left and its retention is over, which begins here.
    fn decide_marker(&mut self, header: &BatchHeader, payload: &Bytes) -> Verdict {
        let is_of_nothing = !self.open.remove(&header.producer_id);
        // It alone tells that the producer's older epochs are fenced.
        let is_last_word = self.producers.epochs.get(&header.producer_id) == Some(&header.producer_epoch);
        match header.delete_horizon() {
            _ if !is_of_nothing || is_last_word => Verdict::Same,
            Some(horizon_ms) if horizon_ms <= self.now_ms => Verdict::Gone,
            Some(_) => Verdict::Same,
            None => self.rewritten(header, payload, &mut |_| true, true),
        }
    }

    fn decide_data(&self, header: &BatchHeader, payload: &Bytes) -> Verdict {
        let is_aborted = header.is_transactional() && self.aborted.contains(header.producer_id, header.base_offset);
        let are_tombstones_over = header.delete_horizon().is_some_and(|horizon_ms| horizon_ms <= self.now_ms);
        let is_clean = header.next_offset() <= self.clean_until;
        let mut is_kept = |record: &Record<'_>| {
            let offset = header.base_offset + i64::from(record.offset_delta);
            match record.key {
                _ if is_aborted => false,
                _ if offset >= self.clean_until => true,
                None => false,
                Some(key) => !self.keys.is_superseded(key, offset) && (record.value.is_some() || !are_tombstones_over),
            }
        };
        self.rewritten(header, payload, &mut is_kept, is_clean)
    }

    /// The batch with the records that are kept; with a delete horizon if there is something to delete and it has none.
    fn rewritten(
        &self,
        header: &BatchHeader,
        payload: &Bytes,
        is_kept: &mut dyn FnMut(&Record<'_>) -> bool,
        may_have_horizon: bool,
    ) -> Verdict {
        let Ok(records) = header.decompress(payload, self.decompressed_bytes_max) else {
            // Nobody can read it; it is not for compaction to make it go.
            return Verdict::Same;
        };
        let (mut kept, mut count, mut has_tombstone) = (Vec::new(), 0, false);
        for record in Records::new(&records, header.record_count) {
            let Ok(record) = record else { return Verdict::Same };
            count += 1;
            if is_kept(&record) {
                has_tombstone |= record.value.is_none();
                kept.push(record);
            }
        }
        if kept.is_empty() {
            return self.emptied(header, count);
        }
        let needs_horizon =
            may_have_horizon && header.delete_horizon().is_none() && (has_tombstone || header.is_control());
        if kept.len() == count && !needs_horizon {
            return Verdict::Same;
        }
        let mut new = *header;
        if needs_horizon {
            new.set_delete_horizon(self.now_ms.saturating_add(self.delete_retention_ms));
        }
        let mut written = BytesMut::with_capacity(records.len());
        for record in &kept {
            match needs_horizon {
                true => put_record(&mut written, record, new.base_timestamp, header),
                false => written.put_slice(record.bytes),
            }
        }
        if !new.is_log_append_time() {
            let timestamps = kept.iter().map(|record| header.timestamp_of(record.timestamp_delta));
            new.max_timestamp = timestamps.max().unwrap_or(header.max_timestamp);
        }
        new.record_count = kept.len() as i32;
        let compressed = header.codec().and_then(|codec| codec::compress(codec, &written));
        match compressed {
            Ok(payload) => sealed(new, payload),
            Err(_) => Verdict::Same,
        }
    }

    /// A batch without a record: its header stays if it is the last that its producer has written.
    fn emptied(&self, header: &BatchHeader, count_before: usize) -> Verdict {
        if self.producers.last_batches.get(&header.producer_id) != Some(&header.base_offset) {
            return Verdict::Gone;
        }
        if count_before == 0 {
            return Verdict::Same;
        }
        let mut new = *header;
        new.set_empty();
        sealed(new, Bytes::new())
    }
}

/// Gives each key of a batch, with the record's offset; nothing if the batch cannot be read.
pub(super) fn for_each_key(header: &BatchHeader, payload: &Bytes, bytes_max: usize, mut put: impl FnMut(&[u8], i64)) {
    let Ok(records) = header.decompress(payload, bytes_max) else { return };
    for record in Records::new(&records, header.record_count).map_while(Result::ok) {
        if let Some(key) = record.key {
            put(key, header.base_offset + i64::from(record.offset_delta));
        }
    }
}

fn sealed(mut header: BatchHeader, payload: Bytes) -> Verdict {
    header.size = HEADER_LEN + payload.len();
    header.crc = header.checksum(&payload);
    Verdict::Changed(header, payload)
}

/// Writes a record of the batch `of`, its timestamp counted from another base.
fn put_record(to: &mut BytesMut, record: &Record<'_>, base_timestamp: i64, of: &BatchHeader) {
    let timestamp = of.base_timestamp.wrapping_add(record.timestamp_delta);
    let mut body = BytesMut::with_capacity(record.bytes.len() + 10);
    body.put_u8(0);
    put_varint(&mut body, timestamp.wrapping_sub(base_timestamp));
    put_varint(&mut body, record.offset_delta.into());
    for part in [record.key, record.value] {
        put_varint(&mut body, part.map_or(-1, |part| part.len() as i64));
        body.put_slice(part.unwrap_or_default());
    }
    body.put_slice(record.headers);
    put_varint(to, body.len() as i64);
    to.put_slice(&body);
}

/// A zigzag varint.
fn put_varint(to: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        to.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.put_u8(rest as u8);
}
