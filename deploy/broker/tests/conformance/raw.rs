//! The protocol itself over one TCP connection: what no client library can ask, or would hide the answer of.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record, RecordBatchDecoder,
    RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use crate::subject::{PATIENCE, Subject};

/// A connection; one request is answered after the other.
pub(crate) struct Connection {
    stream: TcpStream,
    correlation: i32,
}

impl Connection {
    pub(crate) fn open(subject: &Subject) -> Self {
        let stream = TcpStream::connect(subject.bootstrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, correlation: 0 }
    }

    /// Its port at this end.
    pub(crate) fn port(&self) -> u16 {
        self.stream.local_addr().unwrap().port()
    }

    /// Asks and waits for the answer, which must be one whole response of that version and nothing more.
    pub(crate) fn ask<R: Request>(&mut self, version: i16, request: R) -> R::Response {
        self.start(version, &request);
        self.finish::<R>(version)
    }

    /// Sends a request without waiting for its answer.
    pub(crate) fn start<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("conformance")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap_or_else(|error| panic!("api {} v{version}: {error}", R::KEY));
        self.send_frame(&frame);
    }

    /// Waits for the answer to the request sent last.
    pub(crate) fn finish<R: Request>(&mut self, version: i16) -> R::Response {
        self.finish_earlier::<R>(version, 0)
    }

    /// Waits for the next answer, which must be to the request sent so many before the last.
    pub(crate) fn finish_earlier<R: Request>(&mut self, version: i16, before: i32) -> R::Response {
        let what = format!("api {} v{version}", R::KEY);
        let mut frame = self.read_frame().unwrap_or_else(|error| panic!("{what}: {error}"));
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.correlation - before, "{what}");
        let response = R::Response::decode(&mut frame, version).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(frame.is_empty(), "{what}: {} bytes after the answer", frame.len());
        response
    }

    pub(crate) fn send_frame(&mut self, frame: &[u8]) {
        let mut whole = i32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
        whole.extend_from_slice(frame);
        self.send_bytes(&whole);
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn read_frame(&mut self) -> std::io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    /// Whether the broker closes the connection (and sends nothing more before it does).
    pub(crate) fn is_closed_by_broker(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Whether no byte comes for this long.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let read = self.stream.peek(&mut [0; 1]);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(read, Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut))
    }
}

/// A text of the protocol.
pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic's name.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// Who writes a batch: producer id, epoch, first sequence, and whether in a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Author {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) sequence: i32,
    pub(crate) transactional: bool,
}

impl Author {
    /// No idempotence.
    pub(crate) const PLAIN: Self =
        Self { id: NO_PRODUCER_ID, epoch: NO_PRODUCER_EPOCH, sequence: NO_SEQUENCE, transactional: false };
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// One batch, not compressed, of `(key, value, timestamp)`.
pub(crate) fn batch_of(author: Author, records: &[(Option<&str>, Option<&str>, i64)]) -> Bytes {
    let bytes = |text: Option<&str>| text.map(|text| Bytes::copy_from_slice(text.as_bytes()));
    let records: Vec<Record> = records
        .iter()
        .enumerate()
        .map(|(index, (key, value, timestamp))| Record {
            transactional: author.transactional,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: author.id,
            producer_epoch: author.epoch,
            timestamp_type: TimestampType::Creation,
            offset: index as i64,
            sequence: author.sequence.wrapping_add(index as i32),
            timestamp: *timestamp,
            key: bytes(*key),
            value: bytes(*value),
            headers: Default::default(),
        })
        .collect();
    let mut buffer = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut buffer, &records, &options).unwrap();
    buffer.freeze()
}

/// One batch of values without keys, of now.
pub(crate) fn batch(author: Author, values: &[&str]) -> Bytes {
    let now = now_ms();
    let records: Vec<_> = values.iter().map(|value| (None, Some(*value), now)).collect();
    batch_of(author, &records)
}

/// The records of whole batches that are not compressed, control records too.
pub(crate) fn records_of(batches: &Bytes) -> Vec<Record> {
    RecordBatchDecoder::decode_all(&mut batches.clone()).unwrap().into_iter().flat_map(|set| set.records).collect()
}
