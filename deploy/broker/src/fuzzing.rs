//! What the fuzz targets in `fuzz/` call (behind the feature `fuzzing`), and a bounded run of the same as a test.
//!
//! Each function takes any bytes at all; a panic, an endless loop or memory out of proportion is a fault of the broker.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::api::{self, Context, Room, Unanswerable};
use crate::config::BrokerConfig;
use crate::damage::OnDamage;
use crate::error::StartError;
use crate::frame::{self, FrameReader};
use crate::journal::{Entry, Journal, frames};
use crate::log::batch::{BatchHeader, HEADER_LEN, LENGTH_END};
use crate::log::{Isolation, PartitionLog, Place, compact};
use crate::node::{Node, NodeRef, Now};
use crate::topics::settings::{CleanupPolicy, TopicSettings};

/// Bytes of a frame at most, so that a fuzzer finds the bound.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// As little as finds who collects an answer without looking at its room.
const ANSWER_BYTES_MAX: usize = 1 << 20;

thread_local! {
    /// Whoever waits needs a clock, and a node to wait at.
    static SHARED: (Runtime, NodeRef) = (runtime(), node());
}

#[allow(clippy::expect_used, reason = "a fuzz target that cannot start has nothing to report")]
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[allow(clippy::expect_used, reason = "as above")]
fn node() -> NodeRef {
    let mut config = BrokerConfig::in_memory();
    config.limits.answer_bytes_max = ANSWER_BYTES_MAX;
    (config.limits.partitions_max, config.limits.decompressed_bytes_max) = (100, 1 << 20);
    let node = Node::open(config, "cluster".to_owned(), "localhost".to_owned(), 9_092);
    Rc::new(RefCell::new(node.expect("a node in memory")))
}

/// One frame of a connection: its header is read, its body checked and decoded, and answered by an error. The bytes as a
/// connection's are cut into frames too.
pub fn frame(bytes: &[u8]) {
    SHARED.with(|(runtime, node)| {
        let _entered = runtime.enter();
        let mut reader = FrameReader::new(bytes, FRAME_BYTES_MAX);
        while let Poll::Ready(Ok(Some(frame))) = poll(reader.next()) {
            answer(node, frame, Some(ResponseError::UnknownServerError));
        }
        answer(node, Bytes::copy_from_slice(bytes), Some(ResponseError::UnknownServerError));
    });
}

/// The frames of a connection, one after the other, carried out by a broker in memory.
pub fn requests(bytes: &[u8]) {
    SHARED.with(|(runtime, _)| {
        let _entered = runtime.enter();
        let node = node();
        let mut reader = FrameReader::new(bytes, FRAME_BYTES_MAX);
        while let Poll::Ready(Ok(Some(frame))) = poll(reader.next()) {
            answer(&node, frame, None);
            let now = Now::read();
            node.borrow_mut().tick(now);
            node.borrow_mut().maintain(now);
        }
    });
}

fn answer(node: &NodeRef, frame: Bytes, refused: Option<ResponseError>) {
    let Ok(request) = frame::parse(frame) else { return };
    let (version, client_id) = (request.version, request.client_id.to_string());
    let room = Room::new(node.borrow().config.limits.answer_bytes_max);
    let client_host = "/127.0.0.1".to_owned();
    // No version may be unable to say it.
    let throttle = Duration::from_millis(7);
    let context = Context { client_id, client_host, version, now: Now::read(), room, throttle };
    let answered = poll(api::answer(node, request, &context, refused));
    if let Poll::Ready(Err(error)) = answered {
        assert!(!matches!(error, Unanswerable::Unwritable { .. }), "{error}");
    }
}

/// What is there at once; what would wait is dropped, as when its connection ends.
fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut TaskContext::from_waker(Waker::noop()))
}

/// The files of a killed or damaged broker, in an empty folder. The first byte says which: a journal or a log, as they are
/// or under checksums that are right, so that what is behind those is reached.
///
/// # Panics
/// Where a repair does not lead to files that open again and say the same.
pub fn recovery(folder: &Path, bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => recover_journal(folder, bytes),
        1 => recover_journal(folder, &sealed_journal(bytes)),
        2 => recover_log(folder, bytes),
        _ => recover_log(folder, &sealed_log(bytes)),
    }
}

/// Records of a journal, of all kinds that postcard has to do with here.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum JournalRecord {
    Put { key: String, value: Option<Vec<u8>>, offset: i64 },
    Map(BTreeMap<String, (u128, i16)>),
    Remove { key: String },
}

impl Entry for JournalRecord {
    fn subject(&self) -> Option<String> {
        match self {
            Self::Put { key, .. } | Self::Remove { key } => Some(format!("key {key}")),
            Self::Map(_) => None,
        }
    }
}

fn recover_journal(folder: &Path, bytes: &[u8]) {
    let path = folder.join("journal");
    write(&path, bytes);
    let open = |on_damage| Journal::<JournalRecord>::open(Some(&path), on_damage).map(|(_, records)| records);
    let _ = open(OnDamage::CutTorn);
    match open(OnDamage::Cut) {
        Ok(repaired) => {
            assert_eq!(open(OnDamage::CutTorn).ok(), Some(repaired), "a repaired journal opens and is the same")
        }
        Err(error) => assert!(matches!(error, StartError::NewerFormat { .. }), "{error}"),
    }
}

/// A journal with these bytes as the payloads of its frames, each behind its length.
fn sealed_journal(mut bytes: &[u8]) -> Vec<u8> {
    let mut journal = frames::header();
    while let Some((length, rest)) = bytes.split_first() {
        let (payload, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        let frame = [&[0; frames::FRAME_HEADER_BYTES], payload].concat();
        journal.extend(frames::seal(frame, journal.len() as u64).unwrap_or_default());
        bytes = rest;
    }
    journal
}

/// A log in two segments.
fn recover_log(folder: &Path, bytes: &[u8]) {
    let open = |on_damage| PartitionLog::open(Place::Folder(folder.to_owned()), 0, on_damage);
    let ends = |log: &PartitionLog| (log.start_offset(), log.stable_offset(), log.end_offset());
    let (end, next_offset) = whole_batches(bytes, bytes.len() / 2);
    write(&folder.join(format!("{:020}.log", 0)), &bytes[..end]);
    write(&folder.join(format!("{next_offset:020}.log")), &bytes[end..]);
    let _ = open(OnDamage::CutTorn);
    let repaired = open(OnDamage::Cut).map(|log| ends(&log));
    let mut log = match open(OnDamage::CutTorn) {
        Ok(log) => log,
        Err(error) => panic!("a repaired log does not open: {error}"),
    };
    assert_eq!(repaired.ok(), Some(ends(&log)), "a repaired log is the same");
    read_and_compact(&mut log);
    let compacted = ends(&log);
    drop(log);
    assert_eq!(open(OnDamage::CutTorn).map(|log| ends(&log)).ok(), Some(compacted), "a compacted log is the same");
}

/// The end of the batches that begin before `until`, and the offset after them.
fn whole_batches(bytes: &[u8], until: usize) -> (usize, i64) {
    let (mut end, mut next_offset) = (0, 1);
    while end < until {
        match BatchHeader::parse(&bytes[end..]) {
            Ok(header) if header.size <= bytes.len() - end && header.check_offsets(0).is_ok() => {
                end += header.size;
                next_offset = header.next_offset().max(1);
            }
            _ => break,
        }
    }
    (end, next_offset)
}

/// Batches of a log made of any bytes: headers that a log can have, over whatever records.
fn sealed_log(mut bytes: &[u8]) -> Vec<u8> {
    let (mut log, mut next_offset) = (Vec::new(), 0);
    while let Some((raw, rest)) = bytes.split_first_chunk::<HEADER_LEN>() {
        let mut raw = *raw;
        let length = u32::from_be_bytes([raw[8], raw[9], raw[10], raw[11]]) as usize;
        let records = length.saturating_sub(HEADER_LEN - LENGTH_END).min(rest.len());
        raw[8..LENGTH_END].copy_from_slice(&((HEADER_LEN - LENGTH_END + records) as u32).to_be_bytes());
        raw[16] = 2;
        let (payload, rest) = rest.split_at(records);
        bytes = rest;
        let Ok(mut header) = BatchHeader::parse(&raw) else { return log };
        header.base_offset = next_offset + (header.base_offset & 3);
        header.last_offset_delta &= 0x3ff;
        header.record_count &= 0x3ff;
        header.producer_id = header.producer_id.clamp(-1, 5);
        header.crc = header.checksum(payload);
        next_offset = header.next_offset();
        log.extend(header.encode());
        log.extend(payload);
    }
    log
}

fn read_and_compact(log: &mut PartitionLog) {
    let now = Now::read();
    let settings = TopicSettings {
        cleanup_policy: CleanupPolicy { is_delete: true, is_compact: true },
        min_cleanable_dirty_ratio: 0.0,
        ..TopicSettings::default()
    };
    let mut from = log.start_offset();
    while let Ok(read) = log.read(from, 1_000, true, Isolation::ReadCommitted) {
        let Some(next_offset) = last_offset(&read.records).map(|last| last + 1) else { break };
        assert!(next_offset > from, "a read gets somewhere");
        from = next_offset;
    }
    for timestamp in [0, now.unix_ms, i64::MAX] {
        let _ = log.offset_at_time(timestamp, Isolation::ReadUncommitted);
    }
    let _ = log.offset_of_max_timestamp();
    for producer in log.producers() {
        let _ = log.write_marker(producer.producer_id, producer.producer_epoch, false, &settings, now);
    }
    if let Some(plan) = compact::plan(log, &settings, now) {
        let compacted = compact::run(&plan, &Arc::default());
        let applied = compacted.map(|compacted| compacted.apply(log));
        assert!(matches!(applied, Ok(Ok(()))), "{applied:?}");
    }
}

fn last_offset(mut records: &[u8]) -> Option<i64> {
    let mut last = None;
    while let Ok(header) = BatchHeader::parse(records) {
        last = Some(header.last_offset());
        records = &records[header.size..];
    }
    last
}

fn write(path: &Path, bytes: &[u8]) {
    let written = fs::write(path, bytes);
    assert!(written.is_ok(), "{}: {written:?}", path.display());
}

#[cfg(test)]
mod tests;
