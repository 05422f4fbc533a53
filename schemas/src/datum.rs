//! Avro's binary encoding: a checked cursor over a datum, and the types that write and read themselves.
//!
//! Invariant: no input can make [`Cursor`] panic, read past its buffer or reserve more memory than a small
//! multiple of the bytes that are there. Source: Apache Avro 1.12 specification, "Binary Encoding".

use std::collections::BTreeMap;

/// Items reserved before the first item of a list was read: a count is only a claim.
const RESERVE_MAX: usize = 64;

/// Why bytes are not a datum of the schema. Every kind means that the message is bad, never the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The datum ends inside a value.
    #[error("truncated: {needed} bytes needed, {left} left")]
    Truncated {
        /// Bytes that the value takes.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// A variable-length integer of more than 10 bytes or 64 bits.
    #[error("integer does not end within 64 bits")]
    Varint,
    /// A number outside the 32 bits of an Avro int.
    #[error("{0} does not fit an int")]
    IntRange(i64),
    /// A boolean other than 0 and 1.
    #[error("{0} is no boolean")]
    Boolean(u8),
    /// A string that is not UTF-8.
    #[error("string is not UTF-8 after {valid_up_to} bytes")]
    Utf8 {
        /// Length of the valid prefix, bytes.
        valid_up_to: usize,
    },
    /// A negative or impossible length.
    #[error("{0} is no length")]
    Length(i64),
    /// A union branch that the schema does not have.
    #[error("union branch {index} of {branches}")]
    UnionBranch {
        /// Branch in the data.
        index: i64,
        /// Branches in the schema.
        branches: usize,
    },
    /// An enum symbol that the schema does not have.
    #[error("enum symbol {index} of {symbols}")]
    EnumSymbol {
        /// Symbol in the data.
        index: i64,
        /// Symbols in the schema.
        symbols: usize,
    },
    /// Values nested deeper than the reader follows.
    #[error("nested deeper than {0} levels")]
    Depth(usize),
    /// Bytes after the end of the datum.
    #[error("{0} bytes after the end of the record")]
    Trailing(usize),
    /// The message's frame is broken.
    #[error("{0}")]
    Wire(crate::wire::WireError),
    /// The message was written with a schema that is not a released version of the wanted record.
    #[error("schema fingerprint {0:016x} is no released version of the wanted record")]
    UnknownFingerprint(u64),
    /// The message names a registry id that nothing maps to a schema.
    #[error("schema id {0} is not known")]
    UnknownSchemaId(u32),
    /// An older version's record that the current version cannot take.
    #[error("record of version {0} cannot be resolved to the current version")]
    Resolution(u32),
}

impl From<crate::wire::WireError> for DecodeError {
    fn from(error: crate::wire::WireError) -> Self {
        Self::Wire(error)
    }
}

/// A place in a datum; what was read is borrowed from the buffer.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// A cursor at the first byte.
    pub fn new(datum: &'a [u8]) -> Self {
        Self { rest: datum }
    }

    /// Bytes not yet read.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let Some((head, rest)) = self.rest.split_at_checked(len) else {
            return Err(DecodeError::Truncated { needed: len, left: self.rest.len() });
        };
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(DecodeError::Truncated { needed: N, left: self.rest.len() });
        };
        self.rest = rest;
        Ok(*head)
    }

    /// An Avro long: zig-zag, little-endian base 128.
    #[inline]
    pub fn long(&mut self) -> Result<i64, DecodeError> {
        if let [first, rest @ ..] = self.rest
            && *first < 0x80
        {
            self.rest = rest;
            return Ok(unzigzag(u64::from(*first)));
        }
        self.long_of_many()
    }

    /// Up to 8 bytes (instants take 6) at once: the lowest clear top bit ends the integer, then the 7-bit groups
    /// are pushed together pairwise.
    #[inline]
    fn long_of_many(&mut self) -> Result<i64, DecodeError> {
        if let Some((word, _)) = self.rest.split_first_chunk::<8>() {
            let word = u64::from_le_bytes(*word);
            let ends = !word & 0x8080_8080_8080_8080;
            if ends != 0 {
                let x = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
                let x = (x & 0x007f_007f_007f_007f) | ((x & 0x7f00_7f00_7f00_7f00) >> 1);
                let x = (x & 0x0000_3fff_0000_3fff) | ((x & 0x3fff_0000_3fff_0000) >> 2);
                let x = (x & 0x0fff_ffff) | ((x & 0x0fff_ffff_0000_0000) >> 4);
                self.rest = &self.rest[(ends.trailing_zeros() as usize >> 3) + 1..];
                return Ok(unzigzag(x));
            }
        }
        self.long_bytewise()
    }

    fn long_bytewise(&mut self) -> Result<i64, DecodeError> {
        let mut bits = 0u64;
        for (i, &byte) in self.rest.iter().take(10).enumerate() {
            let low = u64::from(byte & 0x7f);
            if i == 9 && low > 1 {
                return Err(DecodeError::Varint);
            }
            bits |= low << (7 * i);
            if byte < 0x80 {
                self.rest = &self.rest[i + 1..];
                return Ok(unzigzag(bits));
            }
        }
        if self.rest.len() >= 10 {
            return Err(DecodeError::Varint);
        }
        Err(DecodeError::Truncated { needed: self.rest.len() + 1, left: self.rest.len() })
    }

    /// An Avro int: a long that must fit 32 bits.
    #[inline]
    pub fn int(&mut self) -> Result<i32, DecodeError> {
        let wide = self.long()?;
        i32::try_from(wide).map_err(|_| DecodeError::IntRange(wide))
    }

    /// A boolean, one byte.
    #[inline]
    pub fn boolean(&mut self) -> Result<bool, DecodeError> {
        match self.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(DecodeError::Boolean(other)),
        }
    }

    /// A float, 4 bytes little-endian.
    #[inline]
    pub fn float(&mut self) -> Result<f32, DecodeError> {
        self.array().map(f32::from_le_bytes)
    }

    /// A double, 8 bytes little-endian.
    #[inline]
    pub fn double(&mut self) -> Result<f64, DecodeError> {
        self.array().map(f64::from_le_bytes)
    }

    /// Bytes behind their length.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.long()?;
        let len = usize::try_from(len).map_err(|_| DecodeError::Length(len))?;
        self.take(len)
    }

    /// A UTF-8 string behind its length.
    #[inline]
    pub fn string(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|e| DecodeError::Utf8 { valid_up_to: e.valid_up_to() })
    }

    /// Header of the next block of an array or map: its items, 0 at the end, and its size in bytes if it is told.
    #[inline]
    pub fn block(&mut self) -> Result<(u64, Option<usize>), DecodeError> {
        let count = self.long()?;
        if count >= 0 {
            return Ok((count.unsigned_abs(), None));
        }
        let size = self.long()?;
        let size = usize::try_from(size).map_err(|_| DecodeError::Length(size))?;
        if size > self.rest.len() {
            return Err(DecodeError::Truncated { needed: size, left: self.rest.len() });
        }
        Ok((count.unsigned_abs(), Some(size)))
    }

    /// The index of a union's branch or an enum's symbol, unchecked against the schema.
    #[inline]
    pub fn index(&mut self) -> Result<i64, DecodeError> {
        self.long()
    }

    /// That nothing follows.
    pub fn end(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing(left)),
        }
    }
}

fn unzigzag(bits: u64) -> i64 {
    (bits >> 1).cast_signed() ^ -(bits & 1).cast_signed()
}

/// Appends an Avro long (an Avro int is written the same way).
#[inline]
pub fn write_long(value: i64, out: &mut Vec<u8>) {
    let mut bits = ((value << 1) ^ (value >> 63)).cast_unsigned();
    // One extend for the whole integer: the vector's capacity is checked once, not per byte.
    let mut buffer = [0u8; 10];
    let mut len = 0;
    while bits >= 0x80 {
        buffer[len] = (bits & 0x7f) as u8 | 0x80;
        bits >>= 7;
        len += 1;
    }
    buffer[len] = bits as u8;
    out.extend_from_slice(&buffer[..=len]);
}

/// Appends bytes behind their length.
#[inline]
pub fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

/// A type with one Avro encoding.
pub trait Datum: Sized {
    /// Appends the encoding.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads one value.
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError>;
}

impl Datum for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        cursor.boolean()
    }
}

impl Datum for i32 {
    fn write(&self, out: &mut Vec<u8>) {
        write_long(i64::from(*self), out);
    }
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        cursor.int()
    }
}

impl Datum for i64 {
    fn write(&self, out: &mut Vec<u8>) {
        write_long(*self, out);
    }
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        cursor.long()
    }
}

impl Datum for f64 {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        cursor.double()
    }
}

impl Datum for String {
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(self.as_bytes(), out);
    }
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        cursor.string().map(str::to_owned)
    }
}

impl Datum for Vec<u8> {
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(self, out);
    }
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        cursor.bytes().map(<[u8]>::to_vec)
    }
}

/// An Avro fixed.
impl<const N: usize> Datum for [u8; N] {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        cursor.array()
    }
}

/// The union `["null", T]`.
impl<T: Datum> Datum for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(2);
                value.write(out);
            }
        }
    }
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        match cursor.index()? {
            0 => Ok(None),
            1 => T::read(cursor).map(Some),
            index => Err(DecodeError::UnionBranch { index, branches: 2 }),
        }
    }
}

/// An Avro array, written as one block.
impl<T: Datum> Datum for Vec<T> {
    fn write(&self, out: &mut Vec<u8>) {
        if !self.is_empty() {
            write_long(self.len() as i64, out);
            self.iter().for_each(|item| item.write(out));
        }
        out.push(0);
    }
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let mut items = Self::new();
        loop {
            let (count, _) = cursor.block()?;
            if count == 0 {
                return Ok(items);
            }
            items.reserve(RESERVE_MAX.min(usize::try_from(count).unwrap_or(RESERVE_MAX)));
            // Every item of ours takes at least a byte, so a false count ends at the end of the buffer.
            for _ in 0..count {
                items.push(T::read(cursor)?);
            }
        }
    }
}

/// An Avro map, written as one block in the keys' order, so that equal maps are equal bytes.
impl<T: Datum> Datum for BTreeMap<String, T> {
    fn write(&self, out: &mut Vec<u8>) {
        if !self.is_empty() {
            write_long(self.len() as i64, out);
            for (key, value) in self {
                key.write(out);
                value.write(out);
            }
        }
        out.push(0);
    }
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let mut map = Self::new();
        loop {
            let (count, _) = cursor.block()?;
            if count == 0 {
                return Ok(map);
            }
            for _ in 0..count {
                map.insert(String::read(cursor)?, T::read(cursor)?);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longs_match_the_specification() {
        for (value, bytes) in [(0, &[0u8][..]), (-1, &[1]), (1, &[2]), (-2, &[3]), (-64, &[0x7f]), (64, &[0x80, 1])] {
            let mut out = Vec::new();
            write_long(value, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(Cursor::new(bytes).long(), Ok(value));
        }
        for value in [i64::MIN, i64::MAX, 1 << 35, -(1 << 62)] {
            let mut out = Vec::new();
            write_long(value, &mut out);
            assert_eq!(Cursor::new(&out).long(), Ok(value));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_long_reads_back_wherever_it_ends(value: i64, shift in 0u32..64, after in 0usize..12) {
            let value = value >> shift;
            let mut out = Vec::new();
            write_long(value, &mut out);
            out.resize(out.len() + after, 0xff);
            let mut cursor = Cursor::new(&out);
            proptest::prop_assert_eq!(cursor.long(), Ok(value));
            proptest::prop_assert_eq!(cursor.left(), after);
        }
    }

    #[test]
    fn endless_and_truncated_integers_are_errors() {
        assert_eq!(Cursor::new(&[0xff; 20]).long(), Err(DecodeError::Varint));
        assert_eq!(Cursor::new(&[0xff; 3]).long(), Err(DecodeError::Truncated { needed: 4, left: 3 }));
        let mut over = [0x80; 10];
        over[9] = 2;
        assert_eq!(Cursor::new(&over).long(), Err(DecodeError::Varint));
    }

    #[test]
    fn hostile_lengths_reserve_nothing() {
        let mut out = Vec::new();
        write_long(i64::MAX, &mut out);
        assert!(matches!(Cursor::new(&out).bytes(), Err(DecodeError::Truncated { .. })));
        assert!(matches!(Vec::<f64>::read(&mut Cursor::new(&out)), Err(DecodeError::Truncated { .. })));
        out.clear();
        write_long(-5, &mut out);
        assert_eq!(Cursor::new(&out).bytes(), Err(DecodeError::Length(-5)));
    }
}
