use super::super::testing::{TestBatch, settings};
use super::*;
use crate::topics::settings::CleanupPolicy;

const NOW_MS: i64 = 1_000_000;

fn outcome(bytes: Bytes, settings: &TopicSettings) -> Result<BatchHeader, ResponseError> {
    check(&bytes, settings, 1 << 20, NOW_MS).map(|checked| checked.header)
}

/// What becomes of these bytes under Kafka's default settings.
fn check_bytes(bytes: impl Into<Bytes>, expected: Option<ResponseError>) {
    assert_eq!(outcome(bytes.into(), &settings()).err(), expected);
}

fn batch() -> TestBatch {
    TestBatch::new(&["a", "b"], NOW_MS)
}

/// A batch with some of its bytes changed, its CRC32C not.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut changed = batch().build().to_vec();
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    changed
}

#[test]
fn there_is_exactly_one_batch() {
    let one = batch().build();
    check_bytes(one.clone(), None);
    check_bytes(Bytes::new(), Some(ResponseError::InvalidRecord));
    check_bytes(one.slice(..11), Some(ResponseError::InvalidRecord));
    check_bytes(one.slice(..16), Some(ResponseError::InvalidRecord));
    check_bytes(one.slice(..one.len() - 1), Some(ResponseError::InvalidRecord));
    check_bytes([&one[..], &one].concat(), Some(ResponseError::InvalidRecord));
    check_bytes([&one[..], &one[..one.len() - 1]].concat(), None);
    check_bytes([&one[..], &with(8, &13_i32.to_be_bytes())].concat(), Some(ResponseError::CorruptMessage));
}

#[test]
fn its_header_is_of_magic_2_and_right() {
    check_bytes(with(16, &[1]), Some(ResponseError::InvalidRecord));
    check_bytes(with(16, &[3]), Some(ResponseError::CorruptMessage));
    check_bytes(with(8, &13_i32.to_be_bytes()), Some(ResponseError::CorruptMessage));
    check_bytes(with(8, &(-1_i32).to_be_bytes()), Some(ResponseError::CorruptMessage));
    check_bytes(with(8, &48_i32.to_be_bytes()), Some(ResponseError::CorruptMessage));
    check_bytes(with(0, &1_i64.to_be_bytes()), Some(ResponseError::InvalidRecord));
    check_bytes(with(70, &[0xFF]), Some(ResponseError::CorruptMessage));
    check_bytes(with(12, &7_i32.to_be_bytes()), None);
    let changed = |change: fn(&mut BatchHeader)| batch().build_with(change);
    check_bytes(changed(|header| header.last_offset_delta = 2), Some(ResponseError::InvalidRecord));
    check_bytes(changed(|header| header.last_offset_delta = -1), Some(ResponseError::InvalidRecord));
    check_bytes(changed(|header| header.record_count = 0), Some(ResponseError::InvalidRecord));
    check_bytes(changed(|header| header.record_count = 3), Some(ResponseError::InvalidRecord));
    check_bytes(changed(|header| header.attributes |= 1 << 5), Some(ResponseError::InvalidRecord));
    check_bytes(changed(|header| header.attributes |= 7), Some(ResponseError::UnknownServerError));
    check_bytes(changed(|header| header.producer_id = 1), Some(ResponseError::InvalidRecord));
}

#[test]
fn its_size_has_bounds() {
    let size = batch().build().len();
    let check = |max_message_bytes: usize, segment_bytes: usize, expected: Option<ResponseError>| {
        let settings = TopicSettings {
            max_message_bytes: max_message_bytes as u32,
            segment_bytes: segment_bytes as u64,
            ..settings()
        };
        assert_eq!(outcome(batch().build(), &settings).err(), expected);
    };
    check(size, size, None);
    check(size - 1, size - 1, Some(ResponseError::MessageTooLarge));
    check(size, size - 1, Some(ResponseError::RecordListTooLarge));
    // The size is looked at before the checksum.
    let settings = TopicSettings { max_message_bytes: size as u32 - 1, ..settings() };
    assert_eq!(outcome(with(70, &[0xFF]).into(), &settings).err(), Some(ResponseError::MessageTooLarge));
}

#[test]
fn its_timestamps_have_bounds() {
    let check = |timestamps: [i64; 2], expected: Option<ResponseError>| {
        let settings = TopicSettings { timestamp_before_max_ms: 1_000, timestamp_after_max_ms: 100, ..settings() };
        for codec in [Codec::None, Codec::Lz4] {
            let mut batch = batch().compressed(codec);
            batch.records[0].2 = timestamps[0];
            batch.records[1].2 = timestamps[1];
            assert_eq!(outcome(batch.build(), &settings).err(), expected, "{timestamps:?}");
        }
    };
    check([NOW_MS - 1_000, NOW_MS + 100], None);
    check([NOW_MS - 1_001, NOW_MS], Some(ResponseError::InvalidTimestamp));
    check([NOW_MS, NOW_MS - 1_001], Some(ResponseError::InvalidTimestamp));
    check([NOW_MS, NOW_MS + 101], Some(ResponseError::InvalidTimestamp));
    check([i64::MAX, 0], Some(ResponseError::InvalidTimestamp));
    check([-1, -1], None);
    let default_after = TopicSettings { timestamp_after_max_ms: 3_600_000, ..settings() };
    assert!(outcome(TestBatch::new(&["a"], NOW_MS + 3_600_000).build(), &default_after).is_ok());
    let refused = outcome(TestBatch::new(&["a"], NOW_MS + 3_600_001).build(), &default_after);
    assert_eq!(refused.err(), Some(ResponseError::InvalidTimestamp));
}

#[test]
fn a_compacted_topic_takes_no_record_without_a_key() {
    let compacted =
        TopicSettings { cleanup_policy: CleanupPolicy { is_delete: false, is_compact: true }, ..settings() };
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut batch = batch().compressed(codec);
        batch.records[0].0 = Some(Bytes::from_static(b"key"));
        assert_eq!(outcome(batch.build(), &compacted).err(), Some(ResponseError::InvalidRecord));
        batch.records[1].0 = Some(Bytes::new());
        assert!(outcome(batch.build(), &compacted).is_ok());
    }
    // Bytes that are no records, or too many of them.
    let mut broken = batch().build().to_vec();
    broken[61] = 0x7F;
    let mut header = BatchHeader::parse(&broken).unwrap();
    header.crc = header.checksum(&broken[HEADER_LEN..]);
    broken[..HEADER_LEN].copy_from_slice(&header.encode());
    assert!(outcome(broken.clone().into(), &settings()).is_ok(), "opaque elsewhere");
    assert_eq!(outcome(broken.into(), &compacted).err(), Some(ResponseError::InvalidRecord));
    let zeros = "0".repeat((1 << 20) + 1);
    let mut bomb = TestBatch::new(&[&zeros], NOW_MS).compressed(Codec::Zstd);
    bomb.records[0].0 = Some(Bytes::from_static(b"key"));
    assert_eq!(outcome(bomb.build(), &compacted).err(), Some(ResponseError::InvalidRecord));
}

#[test]
fn the_topic_says_whose_time_counts() {
    let append_time = TopicSettings { timestamp_type: TimestampType::LogAppendTime, ..settings() };
    let stamped = check(&TestBatch::new(&["a"], 5).build(), &append_time, 0, NOW_MS).unwrap();
    assert!(stamped.header.is_log_append_time());
    assert_eq!((stamped.header.base_timestamp, stamped.header.max_timestamp), (5, NOW_MS));
    assert_eq!(stamped.header.check_checksum(stamped.header.checksum(&stamped.payload)), Ok(()));

    let claims = batch().build_with(|header| header.set_log_append_time(true));
    assert_eq!(outcome(claims.clone(), &append_time).err(), Some(ResponseError::InvalidTimestamp));
    let cleared = check(&claims, &settings(), 0, NOW_MS).unwrap();
    assert!(!cleared.header.is_log_append_time());
    assert_eq!(cleared.header.check_checksum(cleared.header.checksum(&cleared.payload)), Ok(()));
}
