//! The header of a request. What Apache Kafka does not read it does not answer: it closes the connection (`RequestHeader.parse`).

use bytes::{Buf, Bytes};
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::Decodable;

use crate::api::Request;

/// Why a header cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// The frame ends before the header does, or a length in it is wrong.
    #[error("a frame of {bytes} bytes has no request header")]
    Malformed { bytes: usize },
    /// No API has this number.
    #[error("no API has key {key}")]
    UnknownApi { key: i16 },
}

/// Takes the header off a frame. Whether its API is answered in its version is for [`crate::api`] to say.
pub(super) fn read(mut frame: Bytes) -> Result<Request, BadHeader> {
    let bytes = frame.len();
    let malformed = BadHeader::Malformed { bytes };
    let mut start = &frame[..];
    let (Ok(number), Ok(version)) = (start.try_get_i16(), start.try_get_i16()) else {
        return Err(malformed);
    };
    let key = ApiKey::try_from(number).map_err(|()| BadHeader::UnknownApi { key: number })?;
    let header = RequestHeader::decode(&mut frame, key.request_header_version(version)).map_err(|_| malformed)?;
    Ok(Request {
        key,
        version,
        correlation_id: header.correlation_id,
        client_id: header.client_id.unwrap_or_default(),
        body: frame,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(frame: &[u8], expected: Result<(ApiKey, i16, i32, &str, &[u8]), BadHeader>) {
        let request = read(Bytes::copy_from_slice(frame));
        let read = request.as_ref().map(|r| (r.key, r.version, r.correlation_id, &*r.client_id, &*r.body));
        assert_eq!(read, expected.as_ref().map(|e| *e), "{frame:?}");
    }

    #[test]
    fn headers_of_both_forms_are_read() {
        check(b"\0\x12\0\0\0\0\0\x07\0\x02abrest", Ok((ApiKey::ApiVersions, 0, 7, "ab", b"rest")));
        check(b"\0\x12\0\x03\0\0\0\x07\0\x02ab\0rest", Ok((ApiKey::ApiVersions, 3, 7, "ab", b"rest")));
        check(b"\0\x12\0\0\0\0\0\x07\xff\xff", Ok((ApiKey::ApiVersions, 0, 7, "", b"")));
        check(b"\0\x12\x7f\xff\0\0\0\x07\xff\xff\0", Ok((ApiKey::ApiVersions, i16::MAX, 7, "", b"")));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        check(b"", Err(BadHeader::Malformed { bytes: 0 }));
        check(b"\0\x12\0", Err(BadHeader::Malformed { bytes: 3 }));
        check(b"\0\x12\0\0\0\0\0\x07\0\x09ab", Err(BadHeader::Malformed { bytes: 12 }));
        check(b"\0\x12\0\0\0\0\0\x07\xff\xfe", Err(BadHeader::Malformed { bytes: 10 }));
        check(b"\0\x12\0\0\0\0\0\x07\0\x01\xff", Err(BadHeader::Malformed { bytes: 11 }));
        check(b"\0\x12\0\x03\0\0\0\x07\0\0\xff\xff\xff\xff\x0f", Err(BadHeader::Malformed { bytes: 15 }));
        check(b"\0\x07\0\0\0\0\0\x07\xff\xff", Err(BadHeader::UnknownApi { key: 7 }));
        check(b"GET / HTTP/1.1\r\n\r\n", Err(BadHeader::UnknownApi { key: 0x4745 }));
    }
}
