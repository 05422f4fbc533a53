//! A client that says exactly what a test wants said, byte by byte if need be.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, FetchRequest, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use uuid::Uuid;

/// How long an answer may take before a test gives up; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Wire {
    stream: TcpStream,
    client_id: String,
    next_correlation_id: i32,
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::connect_as(address, "wire")
    }

    pub(crate) fn connect_as(address: SocketAddr, client_id: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, client_id: client_id.to_owned(), next_correlation_id: 1 }
    }

    /// Sends a request and reads its answer.
    pub(crate) fn ask<Q: Request>(&mut self, version: i16, request: &Q) -> Q::Response {
        let correlation_id = self.send(version, request);
        self.receive::<Q>(version, correlation_id)
    }

    /// Sends a request and gives its correlation id.
    pub(crate) fn send<Q: Request>(&mut self, version: i16, request: &Q) -> i32 {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        self.send_bytes(&frame(&self.client_id, correlation_id, version, request));
        correlation_id
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads the answer to a request.
    pub(crate) fn receive<Q: Request>(&mut self, version: i16, correlation_id: i32) -> Q::Response {
        let mut answer = self.receive_frame().expect("an answer, not the end of the connection");
        let header = ResponseHeader::decode(&mut answer, Q::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, correlation_id);
        let response = Q::Response::decode(&mut answer, version).unwrap();
        assert_eq!(answer.remaining(), 0, "nothing comes after the answer");
        response
    }

    /// The next frame, or `None` when the broker has closed the connection.
    pub(crate) fn receive_frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return None,
            Err(error) => panic!("no answer and no end: {error}"),
        }
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).unwrap();
        Some(frame.into())
    }

    /// Waits for the broker to close the connection.
    pub(crate) fn expect_end(mut self) {
        assert_eq!(self.receive_frame(), None, "the connection is closed without an answer");
    }

    /// Says that nothing more comes.
    pub(crate) fn end_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Whether the connection answers.
    pub(crate) fn expect_alive(&mut self) {
        assert_eq!(self.ask(3, &api_versions()).error_code, 0);
    }

    /// Writes one batch to partition 0 and gives its first offset.
    pub(crate) fn write(&mut self, topic: &'static str, records: Bytes) -> i64 {
        let written = self.ask(9, &produce(topic, -1, records));
        let partition = &written.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, 0, "{written:?}");
        partition.base_offset
    }

    /// Makes a topic of one partition and gives its id.
    pub(crate) fn create_topic(&mut self, name: &'static str) -> Uuid {
        let topic =
            CreatableTopic::default().with_name(topic_name(name)).with_num_partitions(1).with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        let created = self.ask(7, &request);
        assert_eq!(created.topics[0].error_code, 0, "{created:?}");
        created.topics[0].topic_id
    }
}

/// A request's frame, its length first.
pub(crate) fn frame<Q: Request>(client_id: &str, correlation_id: i32, version: i16, request: &Q) -> Bytes {
    let mut body = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(Q::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_string(client_id.to_owned())));
    header.encode(&mut body, Q::header_version(version)).unwrap();
    request.encode(&mut body, version).unwrap();
    framed(&body)
}

/// Bytes with their length before them.
pub(crate) fn framed(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::from(&(body.len() as u32).to_be_bytes()[..]);
    frame.extend_from_slice(body);
    frame.freeze()
}

pub(crate) fn topic_name(name: &'static str) -> TopicName {
    StrBytes::from_static_str(name).into()
}

pub(crate) fn api_versions() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("wire"))
        .with_client_software_version(StrBytes::from_static_str("1"))
}

/// One batch of records of these values.
pub(crate) fn batch(values: &[&[u8]]) -> Bytes {
    let record = |(at, value): (usize, &&[u8])| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: at as i64,
        // Where the sequence does not go with the offset, the encoder begins another batch.
        sequence: at as i32 - 1,
        timestamp: 1_700_000_000_000,
        key: None,
        value: Some(Bytes::copy_from_slice(value)),
        headers: IndexMap::new(),
    };
    let records: Vec<Record> = values.iter().enumerate().map(record).collect();
    let mut batch = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut batch, &records, &options).unwrap();
    batch.freeze()
}

/// A produce request of one batch for partition 0.
pub(crate) fn produce(topic: &'static str, acks: i16, records: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_index(0).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic])
}

/// A fetch request of partition 0 that waits as long as a test has patience.
pub(crate) fn fetch(topic: &'static str, from: i64) -> FetchRequest {
    let partition =
        FetchPartition::default().with_partition(0).with_fetch_offset(from).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(PATIENCE.as_millis() as i32)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}
