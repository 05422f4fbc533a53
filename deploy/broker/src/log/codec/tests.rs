use proptest::prelude::*;

use super::*;

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// One batch each, as the clients sent it: librdkafka 2.12 and the Java client 4.1 (its console producer), 40 records of
/// 3,000 bytes.
const CLIENTS_BATCHES: [(Codec, &[u8]); 8] = [
    (Codec::Gzip, include_bytes!("../../../tests/data/batches/java-gzip.bin")),
    (Codec::Gzip, include_bytes!("../../../tests/data/batches/librdkafka-gzip.bin")),
    (Codec::Snappy, include_bytes!("../../../tests/data/batches/java-snappy.bin")),
    (Codec::Snappy, include_bytes!("../../../tests/data/batches/librdkafka-snappy.bin")),
    (Codec::Lz4, include_bytes!("../../../tests/data/batches/java-lz4.bin")),
    (Codec::Lz4, include_bytes!("../../../tests/data/batches/librdkafka-lz4.bin")),
    (Codec::Zstd, include_bytes!("../../../tests/data/batches/java-zstd.bin")),
    (Codec::Zstd, include_bytes!("../../../tests/data/batches/librdkafka-zstd.bin")),
];

/// Where a batch's records begin and its attributes are.
const BATCH_HEADER_BYTES: usize = 61;
const ATTRIBUTES_AT: usize = 21;

/// The records that the clients sent, as they are in a batch: each with its length, attributes, deltas, key, value, headers.
fn clients_records(batch: &[u8]) -> Vec<u8> {
    use kafka_protocol::records::{Record, RecordBatchDecoder};
    let attributes = i16::from_be_bytes([batch[ATTRIBUTES_AT], batch[ATTRIBUTES_AT + 1]]);
    let codec = Codec::of_attributes(attributes).unwrap();
    let records = decompress(codec, &batch[BATCH_HEADER_BYTES..], 1 << 20).unwrap();

    // Read by another implementation, with our decompression under it.
    let decode = |input: &mut Bytes, _| Ok(decompress(codec, input, 1 << 20)?);
    let decoded =
        RecordBatchDecoder::decode_with_custom_compression(&mut Bytes::copy_from_slice(batch), Some(decode)).unwrap();
    assert_eq!(decoded.records.len(), 40);
    for (i, Record { key, value, .. }) in decoded.records.into_iter().enumerate() {
        assert_eq!(key.unwrap(), format!("k{i}"));
        assert_eq!(value.unwrap(), format!("record {i} of a batch; ").repeat(150)[..3_000]);
    }
    records.into()
}

#[test]
fn what_clients_compress_is_read() {
    for (codec, batch) in CLIENTS_BATCHES {
        assert_eq!(Codec::of_attributes(i16::from(batch[ATTRIBUTES_AT + 1])).unwrap(), codec);
        assert!(clients_records(batch).len() > 120_000, "{codec:?}");
    }
}

#[test]
fn xerials_framing_is_written() {
    let compressed = compress(Codec::Snappy, &[b'x'; 100_000]).unwrap();
    let (_, java) = CLIENTS_BATCHES[2];
    assert_eq!(compressed[..16], java[BATCH_HEADER_BYTES..][..16]);
    // Kafka's own block, and three after it for 100,000 bytes.
    assert_eq!(snap::raw::decompress_len(&compressed[20..]).unwrap(), 32 << 10);
}

#[test]
fn lz4_blocks_do_not_depend_on_each_other() {
    let compressed = compress(Codec::Lz4, &[b'x'; 100_000]).unwrap();
    let (_, java) = CLIENTS_BATCHES[4];
    assert_eq!(compressed[..7], java[BATCH_HEADER_BYTES..][..7], "the frame's header is the Java client's");
}

#[test]
fn the_bound_is_exact() {
    let input = vec![b'x'; 100_000];
    for codec in CODECS {
        let compressed = compress(codec, &input).unwrap();
        assert_eq!(decompress(codec, &compressed, input.len()).unwrap(), input, "{codec:?}");
        let error = decompress(codec, &compressed, input.len() - 1).unwrap_err();
        assert_eq!(error.to_string(), "more than 99999 bytes after decompression", "{codec:?}");
    }
}

#[test]
fn a_bomb_stops_at_the_bound() {
    let input = vec![0; 64 << 20];
    for codec in CODECS {
        let compressed = compress(codec, &input).unwrap();
        let error = decompress(codec, &compressed, 1 << 20).unwrap_err();
        assert!(matches!(error, CodecError::TooLarge { bytes_max: 1_048_576 }), "{codec:?}: {error}");
    }
}

#[test]
fn a_claim_that_no_bytes_can_hold_is_refused_before_it_is_allocated() {
    // 200 MB in a varint, then next to nothing.
    let error = decompress(Codec::Snappy, &[0x80, 0x84, 0xaf, 0x5f, 0, b'x'], usize::MAX).unwrap_err();
    assert_eq!(error.to_string(), "corrupt Snappy data: a block of 6 bytes that claims to hold 200000000");
}

#[test]
fn a_cut_end_is_refused_or_gives_whole_blocks() {
    for (codec, batch) in CLIENTS_BATCHES {
        let compressed = &batch[BATCH_HEADER_BYTES..];
        let whole = decompress(codec, compressed, 1 << 20).unwrap();
        for end in 0..compressed.len() {
            match decompress(codec, &compressed[..end], 1 << 20) {
                // Only xerial's framing has no end of its own.
                Ok(part) => assert!(codec == Codec::Snappy && whole.starts_with(&part), "{codec:?} cut at {end}"),
                Err(error) => assert!(matches!(error, CodecError::Corrupt { .. }), "{error}"),
            }
        }
    }
}

#[test]
fn an_unknown_codec_is_refused_by_its_number() {
    assert_eq!(Codec::of_attributes(0x35).unwrap_err().to_string(), "unknown compression codec 5");
    assert_eq!(Codec::of_attributes(0x74).unwrap(), Codec::Zstd, "other attributes do not matter");
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        input in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..5_000),
            prop::collection::vec(0..3_u8, 0..200_000),
        ]
    ) {
        for codec in CODECS {
            prop_assert_eq!(&decompress(codec, &compress(codec, &input).unwrap(), input.len()).unwrap(), &input);
        }
    }

    #[test]
    fn any_bytes_are_survived(input in prop::collection::vec(any::<u8>(), 0..300), bytes_max in 0..10_000_usize) {
        for codec in CODECS {
            if let Ok(output) = decompress(codec, &input, bytes_max) {
                prop_assert!(output.len() <= bytes_max);
            }
        }
    }

    #[test]
    fn changed_bytes_are_survived(
        which in 0..CLIENTS_BATCHES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (codec, batch) = CLIENTS_BATCHES[which];
        let mut compressed = batch[BATCH_HEADER_BYTES..].to_vec();
        for (at, value) in changes {
            let at = at.index(compressed.len());
            compressed[at] = value;
        }
        if let Ok(output) = decompress(codec, &compressed, 200_000) {
            prop_assert!(output.len() <= 200_000);
        }
    }
}
