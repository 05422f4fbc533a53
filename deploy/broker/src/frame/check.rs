//! The walk through a request's bytes before they are decoded.

use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;

use super::shapes::{self, Field, Kind, Struct};

/// What a request may take once it is decoded, whatever its length: this much ...
pub(super) const DECODED_BYTES_MAX_FLAT: usize = 16 << 20;
/// ... and this times its length. What clients send stays far below: the worst of Kafka's requests, one-letter topic names,
/// takes 24 times its length, which is 230,000 of them in the flat part alone.
pub(super) const DECODED_BYTES_MAX_RATIO: usize = 8;

/// A node of the tree that holds tagged fields nobody knows: 11 keys of 4 bytes, 11 values of 32, and links.
const TAGGED_NODE_BYTES: usize = 448;
/// A node is at least half full, but for the first.
const TAGGED_FIELD_BYTES: usize = 112;

/// A request's body is not what its header says.
#[derive(Debug, thiserror::Error)]
#[error("{field} at byte {position} {problem}")]
pub(crate) struct Malformed {
    field: &'static str,
    position: usize,
    problem: Problem,
}

/// Walks a request's body by its shape; like Kafka, this ignores what comes after it. Every count and every length is held
/// against the bytes that are left, and the room that the decoder will reserve against [`DECODED_BYTES_MAX_FLAT`] and
/// [`DECODED_BYTES_MAX_RATIO`]. What passes may still not decode: null and UTF-8 are the decoder's. Linear in the body,
/// allocates nothing.
///
/// # Errors
/// [`Malformed`], by the first field that is wrong.
pub(crate) fn check(api: ApiKey, version: i16, body: &[u8]) -> Result<(), Malformed> {
    walk(api, version, body).map(|_| ())
}

/// What a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walked {
    /// Bytes on the wire.
    pub(super) bytes: usize,
    /// Bytes that its decoder reserves, at most.
    pub(super) decoded_bytes: usize,
}

pub(super) fn walk(api: ApiKey, version: i16, body: &[u8]) -> Result<Walked, Malformed> {
    let is_known = |shape: &&shapes::Request| (shape.versions.min..=shape.versions.max).contains(&version);
    let Some(shape) = shapes::request(api).filter(is_known) else {
        return Err(Malformed { field: "body", position: 0, problem: Problem::Unknown });
    };
    let decoded_bytes_max = DECODED_BYTES_MAX_FLAT.saturating_add(body.len().saturating_mul(DECODED_BYTES_MAX_RATIO));
    let mut walk = Walk {
        bytes: body,
        position: 0,
        version,
        is_flexible: version >= shape.flexible_since,
        field: "body",
        decoded_bytes_left: decoded_bytes_max,
    };
    match walk.fields(shape.fields) {
        Ok(()) => Ok(Walked { bytes: walk.position, decoded_bytes: decoded_bytes_max - walk.decoded_bytes_left }),
        Err(problem) => Err(Malformed { field: walk.field, position: walk.position, problem }),
    }
}

/// Bytes of the tagged fields, none of them known, that `bytes` begins with.
pub(super) fn tagged_fields_bytes(bytes: &[u8]) -> Option<usize> {
    let decoded_bytes_left = DECODED_BYTES_MAX_FLAT;
    let mut walk = Walk { bytes, position: 0, version: 0, is_flexible: true, field: "header", decoded_bytes_left };
    walk.tagged_fields(&[]).ok().map(|()| walk.position)
}

/// What is wrong at the place where the walk stands.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("is of an API or a version that is not known")]
    Unknown,
    #[error("has {missing} bytes less than it needs")]
    Cut { missing: usize },
    #[error("has the length {0}")]
    Negative(i64),
    #[error("has {count} elements of at least {bytes_min} bytes, with {left} bytes left")]
    Count { count: usize, bytes_min: usize, left: usize },
    #[error("takes more than {DECODED_BYTES_MAX_RATIO} times the request and {DECODED_BYTES_MAX_FLAT} bytes in memory")]
    TooLarge,
    #[error("has the tag {tag} after the tag {last}")]
    TagOrder { tag: u32, last: u32 },
    #[error("has the size {size} as a tagged field and takes {taken} bytes")]
    TagSize { size: usize, taken: usize },
    #[error("has a number of more than five bytes")]
    Varint,
}

struct Walk<'a> {
    bytes: &'a [u8],
    position: usize,
    version: i16,
    is_flexible: bool,
    /// The field that the walk is in, for the error.
    field: &'static str,
    /// What the rest of the request may take in memory.
    decoded_bytes_left: usize,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &'static [Field]) -> Result<(), Problem> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_in(version)) {
            self.field = field.name;
            self.field(field.kind)?;
        }
        if self.is_flexible {
            self.tagged_fields(fields)?;
        }
        Ok(())
    }

    fn field(&mut self, kind: Kind) -> Result<(), Problem> {
        match kind {
            Kind::Fixed(bytes) => self.skip(bytes),
            Kind::Text => {
                let length = if self.is_flexible { self.compact_length()? } else { self.short_length()? };
                self.skip(length)
            }
            Kind::Bytes => {
                let length = self.length()?;
                self.skip(length)
            }
            Kind::FixedArray(bytes) => {
                let count = self.count(bytes, bytes)?;
                // The product was held against the bytes that are left.
                self.skip(count * bytes)
            }
            Kind::TextArray => {
                let count = self.count(self.bytes_min(Kind::Text), size_of::<StrBytes>())?;
                (0..count).try_for_each(|_| self.field(Kind::Text))
            }
            Kind::StructArray(Struct { decoded_bytes, fields }) => {
                let count = self.count(self.struct_bytes_min(fields), decoded_bytes)?;
                (0..count).try_for_each(|_| self.fields(fields))
            }
            Kind::Struct(Struct { fields, .. }) => self.fields(fields),
            Kind::OptionalStruct(Struct { fields, .. }) => match self.byte()? {
                1 => self.fields(fields),
                _ => Ok(()),
            },
        }
    }

    /// The tagged fields at the end of a structure: their number, then tag, size and bytes of each, in the order of the tags.
    fn tagged_fields(&mut self, fields: &'static [Field]) -> Result<(), Problem> {
        let count = self.varint()? as usize;
        self.expect(count, 2)?;
        let mut last = None;
        for _ in 0..count {
            self.field = "tagged fields";
            let tag = self.varint()?;
            if let Some(last) = last.filter(|&last| last >= tag) {
                return Err(Problem::TagOrder { tag, last });
            }
            last = Some(tag);
            let size = self.varint()? as usize;
            if size > self.left() {
                return Err(Problem::Cut { missing: size - self.left() });
            }
            match fields.iter().find(|field| field.is_tagged(tag, self.version)) {
                Some(field) => {
                    let start = self.position;
                    self.field = field.name;
                    self.field(field.kind)?;
                    // The decoder does not look at the size of a field that it knows.
                    let taken = self.position - start;
                    if taken != size {
                        self.field = field.name;
                        return Err(Problem::TagSize { size, taken });
                    }
                }
                None => {
                    self.skip(size)?;
                    self.reserve(TAGGED_FIELD_BYTES)?;
                }
            }
        }
        if count > 0 { self.reserve(TAGGED_NODE_BYTES) } else { Ok(()) }
    }

    /// The number of an array's elements, for which there are bytes, and room once they are decoded.
    fn count(&mut self, bytes_min: usize, decoded_bytes: usize) -> Result<usize, Problem> {
        let count = self.length()?;
        self.expect(count, bytes_min)?;
        self.reserve(count.saturating_mul(decoded_bytes))?;
        Ok(count)
    }

    fn expect(&self, count: usize, bytes_min: usize) -> Result<(), Problem> {
        let left = self.left();
        if count.saturating_mul(bytes_min) > left {
            return Err(Problem::Count { count, bytes_min, left });
        }
        Ok(())
    }

    fn reserve(&mut self, bytes: usize) -> Result<(), Problem> {
        self.decoded_bytes_left = self.decoded_bytes_left.checked_sub(bytes).ok_or(Problem::TooLarge)?;
        Ok(())
    }

    /// The fewest bytes that a field can have.
    fn bytes_min(&self, kind: Kind) -> usize {
        match kind {
            Kind::Fixed(bytes) => bytes,
            Kind::Text if !self.is_flexible => 2,
            Kind::Bytes | Kind::FixedArray(_) | Kind::TextArray | Kind::StructArray(_) if !self.is_flexible => 4,
            Kind::Text | Kind::Bytes | Kind::FixedArray(_) | Kind::TextArray | Kind::StructArray(_) => 1,
            Kind::Struct(Struct { fields, .. }) => self.struct_bytes_min(fields),
            Kind::OptionalStruct(_) => 1,
        }
    }

    fn struct_bytes_min(&self, fields: &'static [Field]) -> usize {
        let in_version = fields.iter().filter(|field| field.is_in(self.version));
        in_version.map(|field| self.bytes_min(field.kind)).sum::<usize>() + usize::from(self.is_flexible)
    }

    /// The length of bytes or an array; null has none.
    fn length(&mut self) -> Result<usize, Problem> {
        if self.is_flexible {
            return self.compact_length();
        }
        let length = i32::from_be_bytes(self.take()?);
        nullable(length.into())
    }

    fn short_length(&mut self) -> Result<usize, Problem> {
        let length = i16::from_be_bytes(self.take()?);
        nullable(length.into())
    }

    /// One more than the length, and 0 for null.
    fn compact_length(&mut self) -> Result<usize, Problem> {
        Ok((self.varint()? as usize).saturating_sub(1))
    }

    fn varint(&mut self) -> Result<u32, Problem> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Problem::Varint)
    }

    fn byte(&mut self) -> Result<u8, Problem> {
        Ok(self.take::<1>()?[0])
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let rest = &self.bytes[self.position..];
        let taken = rest.first_chunk().ok_or_else(|| Problem::Cut { missing: N - rest.len() })?;
        self.position += N;
        Ok(*taken)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Problem> {
        if bytes > self.left() {
            return Err(Problem::Cut { missing: bytes - self.left() });
        }
        self.position += bytes;
        Ok(())
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.position
    }
}

fn nullable(length: i64) -> Result<usize, Problem> {
    match length {
        -1 => Ok(0),
        _ => usize::try_from(length).map_err(|_| Problem::Negative(length)),
    }
}
