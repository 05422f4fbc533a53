//! A running broker on a disk that fails: what its clients are told, and that nothing acknowledged is lost.

use std::path::Path;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{CreateTopicsRequest, FetchRequest, ProduceRequest};
use kafka_protocol::protocol::Request;

use super::wire::{Wire, batch, fetch, produce, topic_name};
use super::*;
use crate::durable::testing::{EIO, EMFILE, ENOSPC, Operation, asked, fail, heal};
use crate::log::batch::BatchHeader;
use crate::log::testing::TestBatch;

/// Ends a test that has failed; nothing that succeeds waits for it.
const PATIENCE: Duration = Duration::from_secs(30);
const STORAGE_ERROR: i16 = 56;

fn config(folder: &Path, flush_interval: Duration) -> BrokerConfig {
    BrokerConfig { flush_interval, ..BrokerConfig::at(folder) }
}

/// Writes a batch of one record; its offset, or the error.
fn write(wire: &mut Wire, topic: &'static str) -> Result<i64, i16> {
    write_batch(wire, topic, batch(&[b"value"]))
}

fn write_batch(wire: &mut Wire, topic: &'static str, batch: Bytes) -> Result<i64, i16> {
    let answer: <ProduceRequest as Request>::Response = wire.ask(9, &produce(topic, -1, batch));
    let partition = &answer.responses[0].partition_responses[0];
    if partition.error_code == 0 { Ok(partition.base_offset) } else { Err(partition.error_code) }
}

/// Asks until there is an answer.
fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "it does not come");
    }
}

/// How many records can be read.
fn count(wire: &mut Wire, topic: &'static str) -> i64 {
    let answer: <FetchRequest as Request>::Response = wire.ask(12, &fetch(topic, 0));
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    let mut records = partition.records.clone().unwrap_or_default();
    let mut count = 0;
    while !records.is_empty() {
        let header = BatchHeader::parse(&records).unwrap();
        count += i64::from(header.record_count);
        records = records.split_off(header.size);
    }
    assert_eq!(count, partition.high_watermark);
    count
}

#[test]
fn a_disk_that_does_not_sync_is_a_storage_error_until_all_is_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path(), Duration::from_millis(1))).unwrap();
    let mut wire = Wire::connect(broker.address());
    wire.create_topic("a");
    fail(&folder.path().join("topics"), Operation::Sync, 0, usize::MAX, EIO);
    let mut acknowledged = 0;
    until(|| match write(&mut wire, "a") {
        Ok(offset) => {
            assert_eq!(offset, acknowledged);
            acknowledged += 1;
            None
        }
        Err(error) => Some(error),
    });
    assert_eq!(write(&mut wire, "a"), Err(STORAGE_ERROR));
    assert_eq!(count(&mut wire, "a"), acknowledged, "reading goes on");
    heal(&folder.path().join("topics"), Operation::Sync);
    until(|| write(&mut wire, "a").ok());
    broker.stop();
    let broker = Broker::start(config(folder.path(), Duration::from_millis(1))).unwrap();
    assert_eq!(count(&mut Wire::connect(broker.address()), "a"), acknowledged + 1);
}

/// Synced before it is answered: what is not synced is not acknowledged, an idempotent producer's retry neither, and others
/// are served.
#[test]
fn without_a_flush_interval_nothing_is_acknowledged_that_is_not_synced() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path(), Duration::ZERO)).unwrap();
    let mut wire = Wire::connect(broker.address());
    wire.create_topic("a");
    wire.create_topic("b");
    assert_eq!((write(&mut wire, "a"), write(&mut wire, "b")), (Ok(0), Ok(0)));
    let topics = std::fs::read_dir(folder.path().join("topics")).unwrap().map(|entry| entry.unwrap().path());
    let a = topics.into_iter().find(|topic| topic.file_name().unwrap().to_string_lossy().starts_with("a.")).unwrap();
    fail(&a, Operation::Sync, 0, usize::MAX, EIO);
    let idempotent = || TestBatch::of_producer(1, 1, 0, 0).build();
    wire.send(9, &produce("a", -1, idempotent()));
    wire.expect_end();
    let mut wire = Wire::connect(broker.address());
    for _ in 0..3 {
        assert_eq!(write_batch(&mut wire, "a", idempotent()), Err(STORAGE_ERROR));
    }
    assert_eq!((write(&mut wire, "b"), count(&mut wire, "a")), (Ok(1), 2), "reading and other partitions go on");
    heal(&a, Operation::Sync);
    assert_eq!(until(|| write_batch(&mut wire, "a", idempotent()).ok()), 1, "where it was written the first time");
    assert!(asked(&a, Operation::Sync) > 0);
    broker.kill();
    let broker = Broker::start(config(folder.path(), Duration::ZERO)).unwrap();
    assert_eq!(count(&mut Wire::connect(broker.address()), "a"), 2);
}

#[test]
fn a_journal_that_does_not_sync_refuses_what_would_be_journalled() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path(), Duration::ZERO)).unwrap();
    let mut wire = Wire::connect(broker.address());
    wire.create_topic("a");
    fail(&folder.path().join("topics.journal"), Operation::Sync, 0, usize::MAX, EIO);
    let create = |wire: &mut Wire, name| wire.ask(7, &create_request(name)).topics[0].error_code;
    wire.send(7, &create_request("b"));
    wire.expect_end();
    let mut wire = Wire::connect(broker.address());
    assert_eq!(create(&mut wire, "c"), STORAGE_ERROR);
    assert_eq!(write(&mut wire, "a"), Ok(0), "what needs no journal goes on");
    heal(&folder.path().join("topics.journal"), Operation::Sync);
    assert_eq!(until(|| Some(create(&mut wire, "c")).filter(|code| *code != STORAGE_ERROR)), 0);
    broker.kill();
    let broker = Broker::start(config(folder.path(), Duration::ZERO)).unwrap();
    assert_eq!(write(&mut Wire::connect(broker.address()), "c"), Ok(0));
}

#[test]
fn too_many_open_files_and_a_full_disk_are_storage_errors_until_they_are_not() {
    for (operation, errno) in [(Operation::Open, EMFILE), (Operation::Write, ENOSPC)] {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::start(config(folder.path(), Duration::from_secs(1))).unwrap();
        let mut wire = Wire::connect(broker.address());
        wire.create_topic("a");
        wire.create_topic("b");
        write(&mut wire, "a").unwrap();
        fail(&folder.path().join("topics"), operation, 0, 3, errno);
        for _ in 0..3 {
            assert_eq!(write(&mut wire, "b"), Err(STORAGE_ERROR));
            assert_eq!(count(&mut wire, "a"), 1, "reading goes on");
        }
        assert_eq!(write(&mut wire, "b"), Ok(0));
        broker.stop();
        let broker = Broker::start(config(folder.path(), Duration::from_secs(1))).unwrap();
        assert_eq!(count(&mut Wire::connect(broker.address()), "b"), 1);
    }
}

fn create_request(name: &'static str) -> CreateTopicsRequest {
    let topic = CreatableTopic::default().with_name(topic_name(name)).with_num_partitions(1).with_replication_factor(1);
    CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000)
}
