//! What a produce request's batch must be before a sequence is looked at: Kafka's checks, in its order and with its codes.
//!
//! Records stay compressed, unless the topic's settings ask for what only they tell: a key each where it is compacted, no
//! timestamp too old where that is bounded. Kafka looks into every batch; a batch whose CRC32C is right and whose records
//! are not is therefore refused there and taken here.
//!
//! Source: `ProduceRequest.validateRecords`, `UnifiedLog.analyzeAndValidateRecords`, `LogValidator`.

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::batch::{BadBatch, BatchHeader, HEADER_LEN, LENGTH_END};
use super::codec::Codec;
use super::records::Records;
use crate::topics::settings::{TimestampType, TopicSettings};

/// The shortest record set of the formats before magic 2, which Kafka takes for the shortest length there is.
const LENGTH_MIN: i32 = 14;
/// Where the magic ends: with less than this, Kafka sees no batch.
const MAGIC_END: usize = 17;

/// A batch that may be appended, if its producer may.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Its header, with the timestamp type of the topic and the CRC32C that goes with it.
    pub(crate) header: BatchHeader,
    /// All bytes after the header.
    pub(crate) payload: Bytes,
}

/// Checks the records of one partition in a produce request.
pub(crate) fn check(
    batches: &Bytes,
    settings: &TopicSettings,
    decompressed_bytes_max: usize,
    now_ms: i64,
) -> Result<Checked, ResponseError> {
    let batch = only_batch(batches)?;
    let mut header = BatchHeader::parse(&batch).map_err(|bad| match bad {
        BadBatch::Magic(_) => ResponseError::InvalidRecord,
        _ => ResponseError::CorruptMessage,
    })?;
    let payload = batch.slice(HEADER_LEN..);
    if header.base_offset != 0 {
        return Err(ResponseError::InvalidRecord);
    }
    if header.size as u64 > u64::from(settings.max_message_bytes) {
        return Err(ResponseError::MessageTooLarge);
    }
    header.check_checksum(header.checksum(&payload)).map_err(|_| ResponseError::CorruptMessage)?;
    // Kafka has no error of its own for a codec that there is not.
    let codec = header.codec().map_err(|_| ResponseError::UnknownServerError)?;
    check_header(&header)?;
    check_records(&header, codec, &payload, settings, decompressed_bytes_max, now_ms)?;
    if header.size as u64 > settings.segment_bytes {
        return Err(ResponseError::RecordListTooLarge);
    }
    stamp(&mut header, &payload, settings, now_ms);
    Ok(Checked { header, payload })
}

/// The one batch that a client may send for a partition; an incomplete one after it is ignored, as by Kafka.
fn only_batch(batches: &Bytes) -> Result<Bytes, ResponseError> {
    let size = batch_size(batches)?.ok_or(ResponseError::InvalidRecord)?;
    if batch_size(&batches[size..])?.is_some() {
        return Err(ResponseError::InvalidRecord);
    }
    Ok(batches.slice(..size))
}

/// Bytes of the batch at the beginning of these, if all of it is there.
fn batch_size(bytes: &[u8]) -> Result<Option<usize>, ResponseError> {
    let Some(length) = bytes.get(8..LENGTH_END).and_then(|length| length.first_chunk()) else { return Ok(None) };
    let length = i32::from_be_bytes(*length);
    if length < LENGTH_MIN {
        return Err(ResponseError::CorruptMessage);
    }
    if bytes.len() < MAGIC_END {
        return Ok(None);
    }
    if bytes[MAGIC_END - 1] > 2 {
        return Err(ResponseError::CorruptMessage);
    }
    let size = LENGTH_END + length as usize;
    Ok((size <= bytes.len()).then_some(size))
}

fn check_header(header: &BatchHeader) -> Result<(), ResponseError> {
    let is_whole = header.last_offset_delta >= 0
        && header.record_count > 0
        && i64::from(header.record_count) == i64::from(header.last_offset_delta) + 1;
    let has_sequence = !header.has_producer() || header.base_sequence >= 0;
    if is_whole && has_sequence && !header.is_control() { Ok(()) } else { Err(ResponseError::InvalidRecord) }
}

fn check_records(
    header: &BatchHeader,
    codec: Codec,
    payload: &Bytes,
    settings: &TopicSettings,
    decompressed_bytes_max: usize,
    now_ms: i64,
) -> Result<(), ResponseError> {
    let is_create_time = settings.timestamp_type == TimestampType::CreateTime;
    if header.is_log_append_time() && !is_create_time {
        return Err(ResponseError::InvalidTimestamp);
    }
    let is_too_new =
        |timestamp: i64| timestamp != -1 && timestamp.saturating_sub(now_ms) > settings.timestamp_after_max_ms;
    let is_too_old =
        |timestamp: i64| timestamp != -1 && now_ms.saturating_sub(timestamp) > settings.timestamp_before_max_ms;
    let has_oldest = is_create_time && settings.timestamp_before_max_ms != i64::MAX;
    let needs_keys = settings.cleanup_policy.is_compact;
    let mut has_bad_time = is_create_time && is_too_new(header.max_timestamp);
    let mut has_no_key = false;
    if has_oldest || needs_keys {
        let decompressed;
        let records = if codec == Codec::None {
            &payload[..]
        } else {
            let is_read = header.decompress(payload, decompressed_bytes_max);
            decompressed = is_read.map_err(|_| ResponseError::InvalidRecord)?;
            &decompressed[..]
        };
        for record in Records::new(records, header.record_count) {
            let record = record.map_err(|_| ResponseError::InvalidRecord)?;
            if needs_keys && record.key.is_none() {
                has_no_key = true;
            } else if has_oldest {
                has_bad_time |= is_too_old(header.timestamp_of(record.timestamp_delta));
            }
        }
    }
    // One bad timestamp names the error, whatever else is wrong.
    match (has_bad_time, has_no_key) {
        (true, _) => Err(ResponseError::InvalidTimestamp),
        (false, true) => Err(ResponseError::InvalidRecord),
        (false, false) => Ok(()),
    }
}

/// Gives the batch the timestamps that the topic has.
fn stamp(header: &mut BatchHeader, payload: &[u8], settings: &TopicSettings, now_ms: i64) {
    let is_log_append_time = settings.timestamp_type == TimestampType::LogAppendTime;
    if !is_log_append_time && !header.is_log_append_time() {
        return;
    }
    header.set_log_append_time(is_log_append_time);
    if is_log_append_time {
        header.max_timestamp = now_ms;
    }
    header.crc = header.checksum(payload);
}

#[cfg(test)]
mod tests;
