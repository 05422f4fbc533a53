//! Frames and headers as they come from a connection.

use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::{Encodable, StrBytes};
use tokio::io::AsyncWriteExt;

use super::*;

const BYTES_MAX: usize = 100 << 20;

/// All frames of a connection that sends these bytes and closes, and how it ended.
async fn frames(sent: &[u8], bytes_max: usize) -> (Vec<Bytes>, Option<String>) {
    let mut reader = FrameReader::new(sent, bytes_max);
    let mut frames = Vec::new();
    loop {
        match reader.next().await {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error.to_string())),
        }
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

#[tokio::test]
async fn frames_are_read_one_after_the_other() {
    let large = vec![7; 300_000];
    let sent = [framed(b"first"), framed(b""), framed(&large), framed(b"last")].concat();
    let (frames, end) = frames(&sent, BYTES_MAX).await;
    assert_eq!(frames, [&b"first"[..], b"", &large, b"last"]);
    assert_eq!(end, None);
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection() {
    async fn check(sent: &[u8], expected: &str) {
        let (read, end) = frames(sent, 1_000).await;
        assert_eq!(read, Vec::<Bytes>::new());
        assert_eq!(end.as_deref(), Some(expected));
    }
    check(&(-1_i32).to_be_bytes(), "a frame of -1 bytes; socket.request.max.bytes is 1000").await;
    check(&1_001_i32.to_be_bytes(), "a frame of 1001 bytes; socket.request.max.bytes is 1000").await;
    check(b"GET / HTTP/1.1", "a frame of 1195725856 bytes; socket.request.max.bytes is 1000").await;
    check(&[0, 0], "the connection ended inside of a frame, after 2 of 4 bytes").await;
    check(&[0, 0, 0, 5, b'a'], "the connection ended inside of a frame, after 1 of 5 bytes").await;
    let longest = framed(&[1; 1_000]);
    assert_eq!(frames(&longest, 1_000).await, (vec![Bytes::from(vec![1; 1_000])], None));
}

/// A frame's memory grows with what has come of it, and a reader that is dropped while it waits loses nothing.
#[tokio::test]
async fn memory_follows_what_has_come() {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let mut reader = FrameReader::new(server, BYTES_MAX);
    let body = vec![9; 10 << 20];
    client.write_all(&(body.len() as u32).to_be_bytes()).await.unwrap();
    for part in body.chunks(1 << 20) {
        // One next at a time, dropped as soon as there is nothing more to read.
        assert!(is_pending(reader.next()).await);
        client.write_all(part).await.unwrap();
        let (come, room) = (reader.frame.len(), reader.frame.capacity());
        assert!(room <= (2 * come).max(64 << 10), "{room} bytes for {come}");
    }
    let frame = reader.next().await.unwrap().unwrap();
    assert_eq!(frame, body);
    client.write_all(&framed(b"next")).await.unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap(), "next");
}

/// Polls once for each piece of data that is there already.
async fn is_pending(future: impl Future<Output = Result<Option<Bytes>, FrameError>>) -> bool {
    tokio::select! {
        biased;
        _ = future => false,
        () = tokio::task::yield_now() => true,
    }
}

fn header(key: ApiKey, version: i16) -> RequestHeader {
    RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(77)
        .with_client_id(Some(StrBytes::from_static_str("kcat")))
}

#[test]
fn the_header_of_every_request_is_read() {
    for (key, version) in requests() {
        let header = header(key, version).with_unknown_tagged_field(3, Bytes::from_static(b"tagged"));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, key.request_header_version(version)).unwrap();
        frame.extend_from_slice(b"body");
        let request = parse(frame.freeze()).unwrap();
        assert_eq!((request.key, request.version, request.correlation_id), (key, version, 77));
        assert_eq!(request.client_id.as_str(), "kcat");
        assert_eq!(request.body, "body", "{key:?} {version}");
        let is_flexible = version >= shapes::request(key).unwrap().flexible_since;
        assert_eq!(is_flexible, key.request_header_version(version) == 2, "{key:?} {version}");
    }
}

#[test]
fn a_header_without_a_client_id_or_of_a_version_to_come_is_read() {
    let no_id = [0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    assert_eq!(parse(Bytes::copy_from_slice(&no_id)).unwrap().client_id, StrBytes::default());
    let newer = [0, 18, 0x7f, 0xff, 0, 0, 0, 1, 0, 1, b'c', 0, 42];
    let request = parse(Bytes::copy_from_slice(&newer)).unwrap();
    assert_eq!((request.version, request.correlation_id), (i16::MAX, 1));
}

#[test]
fn what_is_no_header_is_refused() {
    fn check(frame: &[u8], expected: &str) {
        assert_eq!(parse(Bytes::copy_from_slice(frame)).unwrap_err().to_string(), expected);
    }
    check(&[], "a request whose header is cut");
    check(&[0, 18, 0, 0, 0, 0, 0, 1, 0], "a request whose header is cut");
    check(&[0x7f, 0, 0, 3, 0, 0, 0, 1, 0, 0], "a request of the unknown API 32512, version 3");
    check(&[0xff, 0xff, 0, 3, 0, 0, 0, 1, 0, 0], "a request of the unknown API -1, version 3");
    check(&[0, 18, 0, 0, 0, 0, 0, 1, 0, 9, b'c'], "a request whose header has a client id of a wrong length");
    check(&[0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xfe], "a request whose header has a client id of a wrong length");
    check(&[0, 18, 0, 0, 0, 0, 0, 1, 0, 1, 0xff], "a request whose header has a client id that is not UTF-8");
    let tagged = "a request whose header has tagged fields that are cut or out of order";
    check(&[0, 18, 0, 3, 0, 0, 0, 1, 0, 0], tagged);
    check(&[0, 18, 0, 3, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], tagged);
}
