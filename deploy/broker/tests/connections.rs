//! What a connection may send and what becomes of it, by raw sockets: bad frames, unknown versions, half-closed connections,
//! bounds. What is wrong with one connection never shows on another.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

mod wire;

use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, FetchRequest};
use kafka_protocol::protocol::Decodable;
use tidewatch_broker::{Broker, BrokerConfig};
use uuid::Uuid;
use wire::{Wire, api_versions, batch, fetch, frame, framed, produce};

fn start() -> Broker {
    Broker::start(BrokerConfig::in_memory()).unwrap()
}

/// Sends bytes on a connection of their own and expects it to be closed without an answer, and nothing else.
fn expect_closed(bytes: &[u8]) {
    let broker = start();
    let mut other = Wire::connect(broker.address());
    other.expect_alive();
    let mut wire = Wire::connect(broker.address());
    wire.send_bytes(bytes);
    wire.expect_end();
    other.expect_alive();
}

#[test]
fn what_is_no_frame_closes_its_connection() {
    expect_closed(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    expect_closed(b"\xff\xff\xff\xff");
    expect_closed(b"\x7f\xff\xff\xff");
    expect_closed(b"\x06\x40\x00\x01");
    expect_closed(&framed(b""));
    expect_closed(&framed(b"\0\x12\0"));
}

#[test]
fn apis_and_versions_that_are_not_answered_close_their_connection() {
    expect_closed(&framed(b"\x03\xe7\0\0\0\0\0\x01\0\x04wire"));
    // ControlledShutdown, which Kafka 4 no longer has, and Vote, which only controllers have.
    expect_closed(&framed(b"\0\x07\0\0\0\0\0\x01\0\x04wire\0\0\0\x01"));
    expect_closed(&framed(b"\0\x34\0\0\0\0\0\x01\0\x04wire\0\0\x01\0"));
    // Produce 2, though ApiVersions says from 0; Fetch 3; Produce 99.
    expect_closed(&framed(b"\0\0\0\x02\0\0\0\x01\0\x04wire\0\x01\0\0\0\0\0\0\0\0"));
    expect_closed(&framed(b"\0\x01\0\x03\0\0\0\x01\0\x04wire"));
    expect_closed(&framed(b"\0\0\0\x63\0\0\0\x01\0\x04wire\0"));
}

#[test]
fn a_body_that_is_not_what_its_header_says_closes_its_connection() {
    let whole = frame("wire", 1, 3, &api_versions());
    for length in 12..whole.len() - 4 {
        expect_closed(&framed(&whole[4..4 + length]));
    }
    // A produce request with 2^31 - 1 topics, and one with 2^32 - 2 in the compact form.
    expect_closed(&framed(b"\0\0\0\x03\0\0\0\x01\0\x04wire\xff\xff\0\x01\0\0\0\0\x7f\xff\xff\xff"));
    expect_closed(&framed(b"\0\0\0\x09\0\0\0\x01\0\x04wire\0\0\0\x01\0\0\0\0\xff\xff\xff\xff\x0f"));
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let broker = start();
    let mut wire = Wire::connect(broker.address());
    wire.send_bytes(&framed(b"\0\x12\0\x63\0\0\0\x07\0\x04wire\0whatever version 99 has"));
    let mut answer = wire.receive_frame().unwrap();
    assert_eq!(&answer.split_to(4)[..], [0, 0, 0, 7], "the correlation id, in a header of version 0");
    let response = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!(response.error_code, ResponseError::UnsupportedVersion.code());
    let own = ApiVersion::default().with_api_key(ApiKey::ApiVersions as i16).with_max_version(4);
    assert_eq!(response.api_keys, [own]);
    wire.expect_alive();
}

#[test]
fn api_versions_tells_what_is_answered() {
    let broker = start();
    let mut wire = Wire::connect(broker.address());
    for version in 0..=4 {
        let response = wire.ask(version, &api_versions());
        assert_eq!(response.error_code, 0);
        let range = |key: ApiKey| {
            let api = response.api_keys.iter().find(|api| api.api_key == key as i16);
            api.map(|api| (api.min_version, api.max_version))
        };
        assert_eq!(range(ApiKey::Produce), Some((0, 13)), "librdkafka wants to see version 0");
        assert_eq!(range(ApiKey::Fetch), Some((4, 17)));
        assert_eq!(range(ApiKey::Vote), None);
        assert!(response.finalized_features.is_empty() && response.supported_features.is_empty());
        assert_eq!(response.finalized_features_epoch, -1);
    }
    let nameless = wire.ask(3, &ApiVersionsRequest::default());
    assert_eq!(nameless.error_code, ResponseError::InvalidRequest.code());
    assert!(nameless.api_keys.is_empty());
}

#[test]
fn requests_in_one_write_are_answered_in_order() {
    let broker = start();
    let mut wire = Wire::connect(broker.address());
    let all: BytesMut = (0..50).flat_map(|id| frame("wire", id, (id % 5) as i16, &api_versions())).collect();
    wire.send_bytes(&all);
    for id in 0..50 {
        wire.receive::<ApiVersionsRequest>((id % 5) as i16, id);
    }
}

#[test]
fn a_client_that_says_no_more_is_answered_before_the_end() {
    let broker = start();
    let mut wire = Wire::connect(broker.address());
    let correlation_id = wire.send(3, &api_versions());
    wire.end_sending();
    wire.receive::<ApiVersionsRequest>(3, correlation_id);
    wire.expect_end();
    // In the middle of a frame, too, the end is the end.
    let mut torn = Wire::connect(broker.address());
    torn.send_bytes(b"\0\0\0\x10abc");
    torn.end_sending();
    torn.expect_end();
}

#[test]
fn connections_beyond_the_bound_are_closed_until_others_end() {
    let mut config = BrokerConfig::in_memory();
    config.limits.connections_max = 2;
    let broker = Broker::start(config).unwrap();
    let mut open: Vec<Wire> = (0..2).map(|_| Wire::connect(broker.address())).collect();
    open.iter_mut().for_each(Wire::expect_alive);
    Wire::connect(broker.address()).expect_end();
    open.iter_mut().for_each(Wire::expect_alive);
    open.pop();
    // The broker hears of the closed connection in its own time.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let mut wire = Wire::connect(broker.address());
        wire.send_bytes(&frame("wire", 1, 3, &api_versions()));
        if wire.receive_frame().is_some() {
            break;
        }
        assert!(Instant::now() < deadline, "there is room for a connection again");
    }
}

#[test]
fn a_frame_may_be_as_large_as_the_bound() {
    let mut config = BrokerConfig::in_memory();
    config.limits.request_bytes_max = 1_000;
    let broker = Broker::start(config).unwrap();
    let mut wire = Wire::connect(broker.address());
    let mut body = BytesMut::from(&frame("wire", 1, 0, &api_versions())[4..]);
    // Kafka does not mind bytes after a request, and librdkafka's authors have been glad of it.
    body.resize(1_000, 0);
    wire.send_bytes(&framed(&body));
    assert!(wire.receive_frame().is_some());
    body.resize(1_001, 0);
    wire.send_bytes(&framed(&body));
    wire.expect_end();
}

#[test]
fn acks_decide_whether_there_is_an_answer() {
    let broker = start();
    let mut wire = Wire::connect(broker.address());
    wire.create_topic("acks");
    for acks in [1, -1] {
        let answer = wire.ask(9, &produce("acks", acks, batch(&[b"a"])));
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "acks={acks}");
    }
    wire.send(9, &produce("acks", 0, batch(&[b"a"])));
    assert_eq!(wire.write("acks", batch(&[b"a"])), 3, "the one without an answer was carried out");
    let answer = wire.ask(9, &produce("acks", 2, batch(&[b"a"])));
    let refused = &answer.responses[0].partition_responses[0];
    assert_eq!((refused.error_code, refused.base_offset), (ResponseError::InvalidRequiredAcks.code(), -1));
    wire.send(9, &produce("not there", 0, batch(&[b"a"])));
    wire.expect_end();
}

#[test]
fn topics_go_by_their_ids_in_the_newest_versions() {
    let broker = start();
    let mut wire = Wire::connect(broker.address());
    let id = wire.create_topic("ids");
    let (mut write, mut read) = (produce("ids", -1, batch(&[b"a"])), fetch("ids", 0).with_max_wait_ms(1));
    for (id, expected) in [(Uuid::nil(), ResponseError::UnknownTopicId.code()), (id, 0)] {
        write.topic_data[0].topic_id = id;
        let written = wire.ask(13, &write);
        assert_eq!(written.responses[0].topic_id, id);
        assert_eq!(written.responses[0].partition_responses[0].error_code, expected);
        read.topics[0].topic_id = id;
        let read = wire.ask(17, &read);
        assert_eq!((read.responses[0].topic_id, read.responses[0].partitions[0].error_code), (id, expected));
    }
}

#[test]
fn a_fetch_waits_for_records() {
    let broker = start();
    let (mut reader, mut writer) = (Wire::connect(broker.address()), Wire::connect(broker.address()));
    writer.create_topic("wait");
    let waiting = reader.send(12, &fetch("wait", 0));
    writer.write("wait", batch(&[b"a", b"b"]));
    let read = reader.receive::<FetchRequest>(12, waiting);
    let partition = &read.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.high_watermark, partition.last_stable_offset), (0, 2, 2));
    assert!(!partition.records.as_ref().unwrap().is_empty());
}

#[test]
fn a_fetch_waits_for_as_many_bytes_as_it_asks_for() {
    let broker = start();
    let (mut reader, mut writer) = (Wire::connect(broker.address()), Wire::connect(broker.address()));
    writer.create_topic("wait");
    let one = batch(&[&[7; 100]]);
    let waiting = reader.send(12, &fetch("wait", 0).with_min_bytes(3 * one.len() as i32));
    for _ in 0..3 {
        writer.write("wait", one.clone());
    }
    let read = reader.receive::<FetchRequest>(12, waiting);
    assert_eq!(read.responses[0].partitions[0].records.as_ref().map(Bytes::len), Some(3 * one.len()));
}

#[test]
fn a_fetch_that_waited_long_enough_is_answered_with_nothing() {
    let broker = start();
    let mut wire = Wire::connect(broker.address());
    wire.create_topic("empty");
    let read = wire.ask(12, &fetch("empty", 0).with_max_wait_ms(1));
    let partition = &read.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.records.clone()), (0, Some(Bytes::new())));
    assert_eq!(partition.aborted_transactions, None);
    let read = wire.ask(12, &fetch("empty", 0).with_max_wait_ms(1).with_isolation_level(1));
    assert_eq!(read.responses[0].partitions[0].aborted_transactions, Some(Vec::new()));
}

#[test]
fn a_fetch_does_not_wait_with_an_error() {
    let broker = start();
    let mut wire = Wire::connect(broker.address());
    wire.create_topic("errors");
    let check = |wire: &mut Wire, request: &FetchRequest, expected: ResponseError| {
        let read = wire.ask(12, request);
        let partition = &read.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (expected.code(), -1), "{expected}");
    };
    check(&mut wire, &fetch("errors", 1), ResponseError::OffsetOutOfRange);
    check(&mut wire, &fetch("nowhere", 0), ResponseError::UnknownTopicOrPartition);
    let mut of_epoch = fetch("errors", 0);
    of_epoch.topics[0].partitions[0].current_leader_epoch = 1;
    check(&mut wire, &of_epoch, ResponseError::UnknownLeaderEpoch);
    let session = wire.ask(12, &fetch("errors", 0).with_session_id(7).with_session_epoch(1));
    assert_eq!(session.error_code, ResponseError::FetchSessionIdNotFound.code());
}

#[test]
fn a_batch_larger_than_the_bounds_is_read_whole_if_it_is_the_first() {
    let broker = start();
    let mut wire = Wire::connect(broker.address());
    wire.create_topic("large");
    let large = batch(&[&[1; 50_000]]);
    for _ in 0..2 {
        wire.write("large", large.clone());
    }
    let check = |wire: &mut Wire, request: FetchRequest| {
        let read = wire.ask(12, &request);
        assert_eq!(read.responses[0].partitions[0].records.as_ref().map(Bytes::len), Some(large.len()));
    };
    check(&mut wire, fetch("large", 0).with_max_bytes(1_000));
    let mut one = fetch("large", 0);
    one.topics[0].partitions[0].partition_max_bytes = large.len() as i32 + 1_000;
    check(&mut wire, one);
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_read_from() {
    let mut config = BrokerConfig::in_memory();
    config.limits.reads_bytes_max = 1 << 20;
    let broker = Broker::start(config).unwrap();
    let mut writer = Wire::connect(broker.address());
    writer.create_topic("slow");
    let batch = batch(&[&[1; 900_000]]);
    writer.write("slow", batch.clone());
    // Far more answers than the buffers between the two hold: 270 MB.
    let mut slow = Wire::connect(broker.address());
    let requests = 300;
    for _ in 0..requests {
        slow.send(12, &fetch("slow", 0));
    }
    // Others are served meanwhile, at the bound of reads with one batch an answer.
    let read = writer.ask(12, &fetch("slow", 0));
    assert_eq!(read.responses[0].partitions[0].records.as_ref().map(Bytes::len), Some(batch.len()));
    for correlation_id in 1..=requests {
        let read = slow.receive::<FetchRequest>(12, correlation_id);
        assert_eq!(read.responses[0].partitions[0].records.as_ref().map(Bytes::len), Some(batch.len()));
    }
}

#[test]
fn a_client_that_never_reads_its_answer_is_given_up() {
    let mut config = BrokerConfig::in_memory();
    config.limits.connections_max = 2;
    config.limits.unread_time_max = Duration::from_millis(100);
    let broker = Broker::start(config).unwrap();
    let mut writer = Wire::connect(broker.address());
    writer.create_topic("unread");
    for _ in 0..100 {
        writer.write("unread", batch(&[&[1; 900_000]]));
    }
    // 50 MB, more than the buffers between the two hold.
    let mut unread = Wire::connect(broker.address());
    let mut request = fetch("unread", 0);
    request.topics[0].partitions[0].partition_max_bytes = 50 << 20;
    unread.send(12, &request);
    // There is room for one more connection only once that one is gone.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut next = Wire::connect(broker.address());
        next.send_bytes(&framed(b"\0\x12\0\0\0\0\0\x01\0\x04wire"));
        if next.receive_frame().is_some() {
            break;
        }
        assert!(Instant::now() < deadline, "it is not given up");
        std::thread::sleep(Duration::from_millis(10)); // the broker decides: there is nothing to be woken by
    }
    writer.expect_alive();
}

/// Counts the warnings.
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == tracing::Level::WARN
    }
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// The limit of open files holds for a process, so this one runs itself in another.
#[test]
fn a_system_without_files_for_connections_is_asked_again() {
    const IS_CHILD: &str = "TIDEWATCH_BROKER_TEST_HAS_FEW_FILES";
    if std::env::var_os(IS_CHILD).is_some() {
        return take_connections_without_files();
    }
    let child = Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_system_without_files_for_connections_is_asked_again", "--nocapture"])
        .env(IS_CHILD, "yes")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}

fn take_connections_without_files() {
    let warnings = Arc::new(AtomicUsize::new(0));
    tracing::subscriber::set_global_default(Warnings(Arc::clone(&warnings))).unwrap();
    let broker = start();
    let mut first = Wire::connect(broker.address());
    first.expect_alive();
    // Each takes a file at this end, and one at the other when the broker takes it.
    let mut others = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while warnings.load(Ordering::Relaxed) == 0 {
        others.extend(TcpStream::connect(broker.address()));
        assert!(Instant::now() < deadline, "{} connections are open", others.len());
    }
    // The time in which a broker that tells it each time would tell it again.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(warnings.load(Ordering::Relaxed), 1, "told once");
    first.expect_alive();
    drop(others);
    Wire::connect(broker.address()).expect_alive();
}

#[test]
fn requests_that_wait_end_with_the_broker() {
    let broker = start();
    let mut wire = Wire::connect(broker.address());
    wire.create_topic("wait");
    wire.send(12, &fetch("wait", 0));
    let begun = Instant::now();
    broker.stop();
    wire.expect_end();
    assert!(begun.elapsed() < Duration::from_secs(29), "the fetch would have waited longer than that");
}

#[test]
fn random_bytes_never_end_the_broker() {
    let broker = start();
    let mut other = Wire::connect(broker.address());
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    for key in 0..=92_u8 {
        for version in 0..=6_u8 {
            let mut body = vec![0, key, 0, version, 0, 0, 0, 1, 0xff, 0xff];
            body.extend((0..random()).map(|_| random()));
            let mut wire = Wire::connect(broker.address());
            wire.send_bytes(&framed(&body));
            wire.end_sending();
            while wire.receive_frame().is_some() {}
        }
        other.expect_alive();
    }
}
