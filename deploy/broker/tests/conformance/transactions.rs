//! Transactions of rdkafka's producers: what a reader of committed records sees, and who may go on.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::ask::{bounds, produce_values, topic};
use crate::clients::{Producer, committed_values, consumer, next, read};
use crate::member::committed;
use crate::raw::Connection;
use crate::subject::{PATIENCE, Subject, eventually, unique};
use crate::transactor::settled;

fn commit(producer: &Producer) {
    producer.inner.commit_transaction(PATIENCE).unwrap();
}

/// Flushes first: what is aborted has been written.
fn abort(producer: &Producer) {
    producer.flush();
    producer.inner.abort_transaction(PATIENCE).unwrap();
}

fn begin(producer: &Producer) {
    producer.inner.begin_transaction().unwrap();
}

fn code<T: std::fmt::Debug>(result: Result<T, KafkaError>) -> (RDKafkaErrorCode, bool) {
    match result.unwrap_err() {
        KafkaError::Transaction(error) => (error.code(), error.is_fatal()),
        other => panic!("{other}"),
    }
}

fn committed_records_are_seen_and_aborted_ones_never(subject: &Subject) {
    let topics = [topic(subject, "first", 2, &[]), topic(subject, "second", 1, &[])];
    let producer = Producer::transactional(subject, &unique("seen"), &[("compression.codec", "lz4")]);
    let write = |what: &str| {
        begin(&producer);
        for index in 0..10 {
            producer.send_value(&topics[0], index % 2, what);
            producer.send_value(&topics[1], 0, what);
        }
    };
    write("committed");
    commit(&producer);
    write("aborted");
    abort(&producer);
    write("committed too");
    commit(&producer);
    for (topic, partition, count) in [(&topics[0], 0, 5), (&topics[0], 1, 5), (&topics[1], 0, 10)] {
        settled(&mut Connection::open(subject), topic, partition);
        let expected = [vec!["committed"; count], vec!["committed too"; count]].concat();
        assert_eq!(committed_values(subject, topic, partition), expected);
        assert_eq!(read(subject, topic, partition, "read_uncommitted").len(), 3 * count, "uncommitted readers see all");
    }
}

fn an_open_transaction_is_invisible_and_holds_plain_records_back(subject: &Subject) {
    let topic = topic(subject, "open", 1, &[]);
    let mut connection = Connection::open(subject);
    let producer = Producer::transactional(subject, &unique("open"), &[]);
    produce_values(&mut connection, &topic, 0, &["before"]);
    begin(&producer);
    producer.send_value(&topic, 0, "in it");
    producer.flush();
    produce_values(&mut connection, &topic, 0, &["after"]);
    assert_eq!(committed_values(subject, &topic, 0), ["before"]);
    assert_eq!(bounds(&mut connection, &topic, 0), (0, 1, 3));

    // A reader that waits at the last stable offset is given the rest as soon as the transaction ends.
    let reader = consumer(subject, &[("isolation.level", "read_committed"), ("enable.partition.eof", "false")]);
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(&topic, 0, Offset::Beginning).unwrap();
    reader.assign(&assignment).unwrap();
    assert_eq!(next(&reader).unwrap().value_text(), "before");
    assert!(reader.poll(Duration::from_millis(200)).is_none());
    commit(&producer);
    assert_eq!(next(&reader).unwrap().value_text(), "in it");
    assert_eq!(next(&reader).unwrap().value_text(), "after");
}

fn producers_are_interleaved_on_one_partition(subject: &Subject) {
    let topic = topic(subject, "interleaved", 1, &[]);
    let one = Producer::transactional(subject, &unique("one"), &[]);
    let two = Producer::transactional(subject, &unique("two"), &[]);
    let mut expected = Vec::new();
    for round in 0..10 {
        begin(&one);
        begin(&two);
        for index in 0..3 {
            one.send_value(&topic, 0, &format!("one {round} {index}"));
            one.flush();
            two.send_value(&topic, 0, &format!("two {round} {index}"));
            two.flush();
            for (name, is_committed) in [("one", round % 2 == 0), ("two", round % 3 == 0)] {
                if is_committed {
                    expected.push(format!("{name} {round} {index}"));
                }
            }
        }
        if round % 2 == 0 {
            commit(&one)
        } else {
            abort(&one)
        }
        if round % 3 == 0 { commit(&two) } else { abort(&two) }
    }
    settled(&mut Connection::open(subject), &topic, 0);
    assert_eq!(committed_values(subject, &topic, 0), expected, "each in the order of its writing");
}

fn two_hundred_transactions_in_a_row(subject: &Subject) {
    let topic = topic(subject, "row", 1, &[]);
    let producer = Producer::transactional(subject, &unique("row"), &[]);
    let mut expected = Vec::new();
    for index in 0..200 {
        begin(&producer);
        for part in ["a", "b"] {
            producer.send_value(&topic, 0, &format!("{index} {part}"));
        }
        if index % 7 == 3 {
            abort(&producer);
        } else {
            commit(&producer);
            expected.extend([format!("{index} a"), format!("{index} b")]);
        }
    }
    let end = settled(&mut Connection::open(subject), &topic, 0);
    assert_eq!(end, 600, "two records and a marker each");
    assert_eq!(committed_values(subject, &topic, 0), expected);
}

/// A consumer in a group, assigned by hand, whose offsets go with a producer's transactions.
fn source(subject: &Subject, group: &str, topic: &str) -> BaseConsumer {
    let consumer = consumer(subject, &[("group.id", group), ("isolation.level", "read_committed")]);
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Stored).unwrap();
    consumer.assign(&assignment).unwrap();
    consumer
}

fn offsets_are_committed_with_the_records_or_not_at_all(subject: &Subject) {
    let (input, output) = (topic(subject, "input", 1, &[]), topic(subject, "output", 1, &[]));
    let group = unique("exactly-once");
    let mut connection = Connection::open(subject);
    let names: Vec<String> = (0..10).map(|index| index.to_string()).collect();
    let batch: Vec<&str> = names.iter().map(String::as_str).collect();
    produce_values(&mut connection, &input, 0, &batch);
    let producer = Producer::transactional(subject, &unique("exactly-once"), &[]);
    let mut round = 0;
    // Two records a transaction; every other one is aborted, and its records are read again.
    while committed(&mut connection, &group, &input, 0, true).1 < 10 {
        let source = source(subject, &group, &input);
        begin(&producer);
        let mut position = 0;
        for _ in 0..2 {
            let row = next(&source).unwrap();
            position = row.offset + 1;
            producer.send_value(&output, 0, &format!("done {}", row.value_text()));
        }
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&input, 0, Offset::Offset(position)).unwrap();
        let metadata = source.group_metadata().unwrap();
        producer.inner.send_offsets_to_transaction(&offsets, &metadata, PATIENCE).unwrap();
        let before = committed(&mut connection, &group, &input, 0, false).1;
        assert!(before < position, "not before the commit");
        if round % 2 == 0 {
            abort(&producer)
        } else {
            commit(&producer)
        }
        round += 1;
        eventually("the offsets are stable", || {
            (committed(&mut connection, &group, &input, 0, true).0 == 0).then_some(())
        });
        assert!(round <= 10, "every other round commits");
    }
    settled(&mut connection, &output, 0);
    let expected: Vec<String> = names.iter().map(|name| format!("done {name}")).collect();
    assert_eq!(committed_values(subject, &output, 0), expected);
}

fn a_second_producer_of_the_same_id_fences_the_first(subject: &Subject) {
    let topic = topic(subject, "fenced", 1, &[]);
    let id = unique("fenced");
    let first = Producer::transactional(subject, &id, &[]);
    begin(&first);
    first.send_value(&topic, 0, "of the first");
    first.flush();
    let second = Producer::transactional(subject, &id, &[]);
    begin(&second);
    second.send_value(&topic, 0, "of the second");
    second.flush();
    first.send_value(&topic, 0, "too late");
    let (error, is_fatal) = code(first.inner.commit_transaction(PATIENCE));
    assert!([RDKafkaErrorCode::Fenced, RDKafkaErrorCode::ProducerFenced].contains(&error), "{error:?}");
    assert!(is_fatal);
    commit(&second);
    settled(&mut Connection::open(subject), &topic, 0);
    assert_eq!(committed_values(subject, &topic, 0), ["of the second"]);
}

fn a_producer_that_crashes_is_followed_by_one_that_aborts_its_transaction(subject: &Subject) {
    let topic = topic(subject, "crashed", 1, &[]);
    let id = unique("crashed");
    for round in 0..3 {
        let crashing = Producer::transactional(subject, &id, &[]);
        begin(&crashing);
        crashing.send_value(&topic, 0, "lost");
        crashing.flush();
        drop(crashing); // without a word to the broker: its transaction stays open
        let (_, stable, end) = bounds(&mut Connection::open(subject), &topic, 0);
        assert_eq!(end, stable + 1, "round {round}");
        let next = Producer::transactional(subject, &id, &[]);
        settled(&mut Connection::open(subject), &topic, 0);
        begin(&next);
        next.send_value(&topic, 0, "kept");
        commit(&next);
        settled(&mut Connection::open(subject), &topic, 0);
    }
    assert_eq!(committed_values(subject, &topic, 0), ["kept"; 3]);
}

fn a_transaction_that_takes_too_long_is_aborted_by_the_broker(subject: &Subject) {
    let topic = topic(subject, "slow", 1, &[]);
    let slow = Producer::transactional(subject, &unique("slow"), &[("transaction.timeout.ms", "1000")]);
    begin(&slow);
    slow.send_value(&topic, 0, "too slow");
    slow.flush();
    assert_eq!(settled(&mut Connection::open(subject), &topic, 0), 2, "the record and the abort");
    let (_, is_fatal) = code(slow.inner.commit_transaction(PATIENCE));
    assert!(is_fatal, "its producer is fenced");
    assert_eq!(committed_values(subject, &topic, 0), [""; 0]);
}

fn an_empty_transaction_leaves_nothing(subject: &Subject) {
    let topic = topic(subject, "empty", 1, &[]);
    let producer = Producer::transactional(subject, &unique("empty"), &[]);
    for round in 0..4 {
        begin(&producer);
        if round % 2 == 0 { commit(&producer) } else { abort(&producer) }
    }
    assert_eq!(bounds(&mut Connection::open(subject), &topic, 0), (0, 0, 0));
    begin(&producer);
    producer.send_value(&topic, 0, "something");
    commit(&producer);
    settled(&mut Connection::open(subject), &topic, 0);
    assert_eq!(committed_values(subject, &topic, 0), ["something"]);
}

on_both!(
    committed_records_are_seen_and_aborted_ones_never,
    an_open_transaction_is_invisible_and_holds_plain_records_back,
    producers_are_interleaved_on_one_partition,
    two_hundred_transactions_in_a_row,
    offsets_are_committed_with_the_records_or_not_at_all,
    a_second_producer_of_the_same_id_fences_the_first,
    a_producer_that_crashes_is_followed_by_one_that_aborts_its_transaction,
    a_transaction_that_takes_too_long_is_aborted_by_the_broker,
    an_empty_transaction_leaves_nothing,
);
