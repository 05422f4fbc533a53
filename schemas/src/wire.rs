//! How a record stands in a Kafka message: which schema wrote it, then the datum.
//!
//! Single-object encoding (Apache Avro 1.12 specification): `C3 01`, CRC-64-AVRO of the schema as 8 bytes little-endian.
//! Confluent wire format: `00`, the registry's schema id as 4 bytes big-endian.
//! Invariant: both are read, whichever is written.

use std::fmt;

use crate::datum::{Cursor, Datum, DecodeError};
use crate::record::Record;
use crate::schema::{self, Schema};

const SINGLE_OBJECT: [u8; 2] = [0xc3, 0x01];
const CONFLUENT: u8 = 0x00;

/// What is written in front of a datum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// The schema's fingerprint: needs no registry.
    #[default]
    SingleObject,
    /// The id under which a registry knows the schema.
    Confluent {
        /// The registry's id of the record's schema.
        schema_id: u32,
    },
}

/// Which schema wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Header {
    /// CRC-64-AVRO of the writer's schema.
    Fingerprint(u64),
    /// A registry's id of the writer's schema.
    SchemaId(u32),
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fingerprint(fingerprint) => write!(f, "fingerprint {fingerprint:016x}"),
            Self::SchemaId(id) => write!(f, "id {id}"),
        }
    }
}

/// Why a message has no readable frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// No bytes at all.
    #[error("message is empty")]
    Empty,
    /// The frame is cut off.
    #[error("frame is cut off after {0} bytes")]
    Truncated(usize),
    /// The first bytes are of neither framing.
    #[error("first byte {0:#04x} begins neither a single-object (0xc3 0x01) nor a Confluent (0x00) frame")]
    Magic(u8),
}

/// Appends the frame's header; the datum follows it.
pub fn write_header(framing: Framing, fingerprint: u64, out: &mut Vec<u8>) {
    match framing {
        Framing::SingleObject => {
            out.extend_from_slice(&SINGLE_OBJECT);
            out.extend_from_slice(&fingerprint.to_le_bytes());
        }
        Framing::Confluent { schema_id } => {
            out.push(CONFLUENT);
            out.extend_from_slice(&schema_id.to_be_bytes());
        }
    }
}

/// Splits a message into its frame's header and the datum.
#[inline]
pub fn read_header(bytes: &[u8]) -> Result<(Header, &[u8]), WireError> {
    match bytes {
        [] => Err(WireError::Empty),
        [0xc3, 0x01, rest @ ..] => {
            let (id, datum) = rest.split_first_chunk().ok_or(WireError::Truncated(bytes.len()))?;
            Ok((Header::Fingerprint(u64::from_le_bytes(*id)), datum))
        }
        [0xc3] => Err(WireError::Truncated(1)),
        [CONFLUENT, rest @ ..] => {
            let (id, datum) = rest.split_first_chunk().ok_or(WireError::Truncated(bytes.len()))?;
            Ok((Header::SchemaId(u32::from_be_bytes(*id)), datum))
        }
        [other, ..] => Err(WireError::Magic(*other)),
    }
}

/// Appends a framed record of the current version.
pub fn encode<R: Record>(record: &R, framing: Framing, out: &mut Vec<u8>) {
    write_header(framing, R::schema().fingerprint(), out);
    record.encode(out);
}

/// Reads a framed record of any released version.
///
/// A Confluent id says nothing without its registry: it is read as the current version. [`decode_version`] reads
/// another, for a caller that has asked the registry.
pub fn decode<R: Record>(bytes: &[u8]) -> Result<R, DecodeError> {
    let (header, datum) = read_header(bytes)?;
    match header {
        Header::SchemaId(_) => R::decode(datum),
        Header::Fingerprint(fingerprint) if fingerprint == R::schema().fingerprint() => R::decode(datum),
        Header::Fingerprint(fingerprint) => {
            let writer = schema::versions(R::NAME)
                .find(|schema| schema.fingerprint() == fingerprint)
                .ok_or(DecodeError::UnknownFingerprint(fingerprint))?;
            decode_version(datum, writer)
        }
    }
}

/// Reads an unframed datum that was written with a released version of the record's schema.
///
/// The current version is read directly; an older one is resolved by apache-avro first, which is slow and rare.
pub fn decode_version<R: Record>(datum: &[u8], writer: &Schema) -> Result<R, DecodeError> {
    if writer.fingerprint() == R::schema().fingerprint() {
        return R::decode(datum);
    }
    let resolved = resolve(datum, writer.parsed(), R::schema().parsed());
    R::decode(&resolved.ok_or(DecodeError::Resolution(writer.version()))?)
}

/// A datum of an older version as one of the current version.
pub(crate) fn resolve(mut datum: &[u8], writer: &apache_avro::Schema, reader: &apache_avro::Schema) -> Option<Vec<u8>> {
    let value = crate::json::read_datum(&mut datum, writer, Some(reader)).ok()?;
    if !datum.is_empty() {
        return None;
    }
    apache_avro::writer::datum::GenericDatumWriter::builder(reader).build().ok()?.write_value_to_vec(value).ok()
}

/// Reads a whole datum of one type.
pub(crate) fn decode_datum<T: Datum>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let value = T::read(&mut cursor)?;
    cursor.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_frames_are_read() {
        let mut out = Vec::new();
        write_header(Framing::SingleObject, 0x0807_0605_0403_0201, &mut out);
        assert_eq!(out, [0xc3, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(read_header(&out), Ok((Header::Fingerprint(0x0807_0605_0403_0201), &[][..])));
        out.clear();
        write_header(Framing::Confluent { schema_id: 258 }, 0, &mut out);
        out.push(9);
        assert_eq!(out, [0, 0, 0, 1, 2, 9]);
        assert_eq!(read_header(&out), Ok((Header::SchemaId(258), &[9][..])));
    }

    #[test]
    fn broken_frames_are_told_apart() {
        assert_eq!(read_header(&[]), Err(WireError::Empty));
        assert_eq!(read_header(&[0xc3]), Err(WireError::Truncated(1)));
        assert_eq!(read_header(&[0xc3, 1, 2]), Err(WireError::Truncated(3)));
        assert_eq!(read_header(&[0, 1]), Err(WireError::Truncated(2)));
        assert_eq!(read_header(b"{}"), Err(WireError::Magic(b'{')));
        assert_eq!(read_header(&[0xc3, 2]), Err(WireError::Magic(0xc3)));
    }
}
