//! Idempotent producers on the wire: sequences, duplicates, epochs, and batches that are none.

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;

use crate::ask::{bounds, produce, topic, values};
use crate::raw::{Author, Connection, batch, batch_of, now_ms};
use crate::subject::{Subject, unique};
use crate::transactor::{Transactor, init};

const OUT_OF_ORDER_SEQUENCE: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const CORRUPT_MESSAGE: i16 = 2;
const INVALID_RECORD: i16 = 87;

/// An idempotent producer without transactions.
fn author(connection: &mut Connection) -> Author {
    let response = init(connection, None, 60_000, -1, -1);
    assert_eq!((response.error_code, response.producer_epoch), (0, 0));
    Author { id: response.producer_id.0, epoch: 0, sequence: 0, transactional: false }
}

fn outcome(response: &PartitionProduceResponse) -> (i16, i64) {
    (response.error_code, response.base_offset)
}

fn each_producer_is_given_an_id_of_its_own(subject: &Subject) {
    let mut connection = Connection::open(subject);
    let mut ids: Vec<i64> = (0..20).map(|_| author(&mut connection).id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    // A producer that wants a higher epoch is given a new id as well: without transactions nothing is remembered.
    let response = init(&mut connection, None, 60_000, ids[0], 0);
    assert_eq!((response.error_code, response.producer_epoch), (0, 0));
    assert!(response.producer_id.0 > ids[19]);
}

fn a_batch_that_comes_again_is_answered_as_the_first_time(subject: &Subject) {
    let topic = topic(subject, "duplicates", 1, &[]);
    let mut connection = Connection::open(subject);
    let first = author(&mut connection);
    let mut send = |sequence, values: &[&str]| {
        let author = Author { sequence, ..first };
        outcome(&produce(&mut connection, &topic, 0, None, batch(author, values)))
    };
    assert_eq!(send(0, &["a", "b"]), (0, 0));
    assert_eq!(send(0, &["a", "b"]), (0, 0), "again");
    for sequence in 2..7 {
        assert_eq!(send(sequence, &["x"]), (0, i64::from(sequence)));
    }
    for sequence in 2..7 {
        assert_eq!(send(sequence, &["x"]), (0, i64::from(sequence)), "the last five are remembered");
    }
    assert_eq!(send(0, &["a", "b"]).0, OUT_OF_ORDER_SEQUENCE, "the sixth from the end is not");
    assert_eq!(send(6, &["x", "y"]).0, OUT_OF_ORDER_SEQUENCE, "another end, another batch");
    assert_eq!(send(8, &["x"]).0, OUT_OF_ORDER_SEQUENCE, "a gap");
    assert_eq!(send(7, &["x"]), (0, 7));
    assert_eq!(bounds(&mut connection, &topic, 0), (0, 8, 8));
}

fn a_first_batch_may_have_any_sequence_and_partitions_have_their_own(subject: &Subject) {
    let topic = topic(subject, "first", 2, &[]);
    let mut connection = Connection::open(subject);
    let first = author(&mut connection);
    let mut send = |partition, sequence| {
        let records = batch(Author { sequence, ..first }, &["x"]);
        outcome(&produce(&mut connection, &topic, partition, None, records))
    };
    assert_eq!(send(0, 500), (0, 0), "a producer that is not known");
    assert_eq!(send(0, 501), (0, 1));
    assert_eq!(send(0, 503).0, OUT_OF_ORDER_SEQUENCE);
    assert_eq!(send(1, 0), (0, 0));
}

fn sequences_go_on_at_zero_after_the_greatest(subject: &Subject) {
    let topic = topic(subject, "wraps", 1, &[]);
    let mut connection = Connection::open(subject);
    let first = author(&mut connection);
    let mut send = |sequence, values: &[&str]| {
        let records = batch(Author { sequence, ..first }, values);
        outcome(&produce(&mut connection, &topic, 0, None, records))
    };
    assert_eq!(send(i32::MAX - 1, &["a"]), (0, 0));
    assert_eq!(send(i32::MAX, &["b", "c", "d"]), (0, 1), "its last sequence is 1");
    assert_eq!(send(i32::MAX, &["b", "c", "d"]), (0, 1), "again");
    assert_eq!(send(3, &["x"]).0, OUT_OF_ORDER_SEQUENCE);
    assert_eq!(send(2, &["e"]), (0, 4));
}

fn an_older_epoch_is_fenced_and_a_newer_one_starts_at_zero(subject: &Subject) {
    let topic = topic(subject, "epochs", 1, &[]);
    let mut connection = Connection::open(subject);
    let first = author(&mut connection);
    let mut send = |epoch, sequence| {
        let records = batch(Author { sequence, epoch, ..first }, &["x"]);
        outcome(&produce(&mut connection, &topic, 0, None, records))
    };
    assert_eq!(send(3, 0), (0, 0));
    assert_eq!(send(2, 1).0, INVALID_PRODUCER_EPOCH);
    assert_eq!(send(4, 1).0, OUT_OF_ORDER_SEQUENCE, "a new epoch's first sequence is 0");
    assert_eq!(send(4, 0), (0, 1));
    assert_eq!(send(3, 1).0, INVALID_PRODUCER_EPOCH);
}

fn a_producer_with_a_transactional_id_is_given_the_next_epoch_each_time(subject: &Subject) {
    let id = unique("epochs");
    let first = Transactor::new(subject, &id);
    let second = Transactor::new(subject, &id);
    assert_eq!((second.producer_id, first.epoch, second.epoch), (first.producer_id, 0, 1));
    let mut connection = Connection::open(subject);
    let again = init(&mut connection, Some(&id), 60_000, second.producer_id, second.epoch);
    assert_eq!((again.error_code, again.producer_id.0, again.producer_epoch), (0, first.producer_id, 2), "KIP-360");
    let late = init(&mut connection, Some(&id), 60_000, second.producer_id, second.epoch);
    assert_eq!((late.error_code, late.producer_epoch), (0, 2), "the answer was lost: asked again, told again");
    let fenced = init(&mut connection, Some(&id), 60_000, first.producer_id, first.epoch);
    assert_eq!(fenced.error_code, 90, "PRODUCER_FENCED");
    let bad = init(&mut connection, Some(&id), 900_001, -1, -1);
    assert_eq!(bad.error_code, 50, "INVALID_TRANSACTION_TIMEOUT");
    assert_eq!(init(&mut connection, Some(&id), 0, -1, -1).error_code, 50);
    assert_eq!(init(&mut connection, Some(""), 60_000, -1, -1).error_code, 42, "INVALID_REQUEST");
}

fn what_is_no_batch_is_refused_and_the_connection_goes_on(subject: &Subject) {
    let topic = topic(subject, "broken", 1, &[]);
    let compacted = crate::ask::topic(subject, "keyed", 1, &[("cleanup.policy", "compact")]);
    let mut connection = Connection::open(subject);
    let mut send = |topic: &str, records: Bytes| outcome(&produce(&mut connection, topic, 0, None, records)).0;
    let good = batch(Author::PLAIN, &["x"]);
    let changed = |at: usize, to: u8| {
        let mut bytes = BytesMut::from(&good[..]);
        bytes[at] = to;
        bytes.freeze()
    };
    assert_eq!(send(&topic, changed(good.len() - 2, b'y')), CORRUPT_MESSAGE, "its checksum is another's");
    let two = |first: &Bytes, second: &Bytes| {
        let mut bytes = BytesMut::from(&first[..]);
        bytes.put_slice(second);
        bytes.freeze()
    };
    assert_eq!(send(&topic, two(&good, &good)), INVALID_RECORD, "one batch for a partition");
    assert_eq!(send(&compacted, good.clone()), INVALID_RECORD, "a compacted topic's records have keys");
    assert_eq!(send(&compacted, batch_of(Author::PLAIN, &[(Some("k"), None, now_ms())])), 0);
    assert_eq!(send("no-such-topic", good.clone()), 3);
    assert_eq!(send(&topic, good.clone()), 0);
    assert_eq!(produce(&mut connection, &topic, 9, None, good).error_code, 3);
    assert_eq!(values(&mut connection, &topic, 0, 0), ["x"]);
}

on_both!(
    each_producer_is_given_an_id_of_its_own,
    a_batch_that_comes_again_is_answered_as_the_first_time,
    a_first_batch_may_have_any_sequence_and_partitions_have_their_own,
    sequences_go_on_at_zero_after_the_greatest,
    an_older_epoch_is_fenced_and_a_newer_one_starts_at_zero,
    a_producer_with_a_transactional_id_is_given_the_next_epoch_each_time,
    what_is_no_batch_is_refused_and_the_connection_goes_on,
);
