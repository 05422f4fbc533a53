//! The records inside a decompressed batch, one after the other, without a copy.
//!
//! Invariant: nothing is allocated and no byte outside the input is looked at, whatever the input claims; after the first bad
//! record there is no other.
//!
//! Source: Kafka's "Message format" (<https://kafka.apache.org/documentation/#record>).

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    /// The count of its headers and they themselves, as they stand.
    pub(crate) headers: &'a [u8],
    /// All of it with its length, to be copied as it is.
    pub(crate) bytes: &'a [u8],
}

/// Why bytes are not the records that a batch's header announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRecord {
    /// They end too early.
    #[error("the records end inside one")]
    Cut,
    /// A length or count is negative where it cannot be, or too long a varint.
    #[error("a record has a length or count that cannot be")]
    Length,
    /// A record's parts are shorter than it.
    #[error("a record has {0} bytes after its headers")]
    Rest(usize),
    /// There are more bytes than records.
    #[error("{0} bytes come after the last record")]
    Trailing(usize),
}

/// The records of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Records<'a> {
    rest: &'a [u8],
    left: i32,
}

impl<'a> Records<'a> {
    /// The `count` records of a decompressed batch.
    pub(crate) fn new(payload: &'a [u8], count: i32) -> Self {
        Self { rest: payload, left: count }
    }

    fn read(&mut self) -> Result<Record<'a>, BadRecord> {
        let start = self.rest;
        let length = usize::try_from(varint(&mut self.rest)?).map_err(|_| BadRecord::Length)?;
        let mut body = take(&mut self.rest, length)?;
        take(&mut body, 1)?; // attributes: none are defined
        let timestamp_delta = varlong(&mut body)?;
        let offset_delta = varint(&mut body)?;
        let key = nullable(&mut body)?;
        let value = nullable(&mut body)?;
        let headers = body;
        let header_count = varint(&mut body)?;
        if header_count < 0 {
            return Err(BadRecord::Length);
        }
        for _ in 0..header_count {
            nullable(&mut body)?.ok_or(BadRecord::Length)?;
            nullable(&mut body)?;
        }
        if !body.is_empty() {
            return Err(BadRecord::Rest(body.len()));
        }
        let bytes = &start[..start.len() - self.rest.len()];
        Ok(Record { timestamp_delta, offset_delta, key, value, headers, bytes })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = if self.left > 0 {
            self.left -= 1;
            self.read()
        } else if self.rest.is_empty() {
            return None;
        } else {
            Err(BadRecord::Trailing(self.rest.len()))
        };
        if record.is_err() {
            (self.rest, self.left) = (&[], 0);
        }
        Some(record)
    }
}

fn take<'a>(from: &mut &'a [u8], length: usize) -> Result<&'a [u8], BadRecord> {
    from.split_off(..length).ok_or(BadRecord::Cut)
}

/// A length and so many bytes; -1: null.
fn nullable<'a>(from: &mut &'a [u8]) -> Result<Option<&'a [u8]>, BadRecord> {
    match varint(from)? {
        -1 => Ok(None),
        length => take(from, usize::try_from(length).map_err(|_| BadRecord::Length)?).map(Some),
    }
}

fn varint(from: &mut &[u8]) -> Result<i32, BadRecord> {
    i32::try_from(varlong(from)?).map_err(|_| BadRecord::Length)
}

/// A zigzag varint of at most 10 bytes.
fn varlong(from: &mut &[u8]) -> Result<i64, BadRecord> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let byte = take(from, 1)?[0];
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(BadRecord::Length)
}
