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

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use proptest::prelude::*;

    use super::super::testing::put_varint;
    use super::*;

    /// A record of these parts, with one header.
    fn record(timestamp_delta: i64, offset_delta: i32, key: Option<&[u8]>, value: Option<&[u8]>) -> BytesMut {
        let mut body = BytesMut::new();
        body.put_u8(0);
        put_varint(&mut body, timestamp_delta);
        put_varint(&mut body, i64::from(offset_delta));
        for part in [key, value] {
            put_varint(&mut body, part.map_or(-1, |part| part.len() as i64));
            body.put_slice(part.unwrap_or_default());
        }
        body.put_slice(&[2, 2, b'h', 1]);
        let mut record = BytesMut::new();
        put_varint(&mut record, body.len() as i64);
        record.put_slice(&body);
        record
    }

    #[test]
    fn records_come_one_after_the_other() {
        let bytes = [&record(i64::MAX, 0, None, Some(b"v"))[..], &record(-3, 1, Some(b"key"), None)].concat();
        let records: Vec<_> = Records::new(&bytes, 2).map(Result::unwrap).collect();
        assert_eq!((records[0].timestamp_delta, records[0].key, records[0].value), (i64::MAX, None, Some(&b"v"[..])));
        assert_eq!((records[1].timestamp_delta, records[1].offset_delta), (-3, 1));
        assert_eq!((records[1].key, records[1].value), (Some(&b"key"[..]), None));
        assert_eq!(records[1].headers, [2, 2, b'h', 1]);
        assert_eq!([records[0].bytes, records[1].bytes].concat(), bytes);
    }

    #[test]
    fn what_is_no_record_ends_them() {
        let check = |bytes: &[u8], count, expected| {
            let records: Vec<_> = Records::new(bytes, count).collect();
            assert_eq!(records.last(), Some(&Err(expected)));
            assert!(records.len() as i32 <= count + 1);
        };
        let whole = record(0, 0, None, None);
        check(&whole, 0, BadRecord::Trailing(whole.len()));
        check(&whole, 2, BadRecord::Cut);
        check(&whole[..whole.len() - 1], 1, BadRecord::Cut);
        check(&[1], 1, BadRecord::Length);
        check(&[0xFF; 11], 1, BadRecord::Length);
        check(&[14, 0, 0, 0, 1, 1, 0, 0], 1, BadRecord::Rest(1));
        check(&[12, 0, 0, 0, 1, 1, 1], 1, BadRecord::Length);
        check(&[14, 0, 0, 0, 1, 1, 2, 1], 1, BadRecord::Length);
        check(&[12, 0, 0, 0, 3, 1, 0], 1, BadRecord::Length);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, count: i32) {
            let good = Records::new(&bytes, count).take_while(Result::is_ok).count();
            prop_assert!(good <= bytes.len());
        }
    }
}
