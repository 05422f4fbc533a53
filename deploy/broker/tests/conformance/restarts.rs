//! The broker ends, in order or killed, in the middle of everything, and starts again: nothing acknowledged is lost, nothing
//! is doubled, every transaction is whole, and the clients go on by themselves.
//!
//! A Kafka takes seconds to start, so one broker of its own plays all scenes at once: each begins, the broker ends and
//! starts again, each goes on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::Producer as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::ask::{bounds, delete_topic, metadata_of, produce, produce_values, topic, values};
use crate::clients::{Producer, committed_values, consumer, next, read};
use crate::member::{commit, committed};
use crate::raw::{Author, Connection, batch};
use crate::subject::{PATIENCE, Subject, eventually, unique};
use crate::transactor::{Transactor, init, settled};

/// What goes on after the broker has come back.
type After<'a> = Box<dyn FnOnce() + 'a>;

const SCENES: [fn(&Subject) -> After<'_>; 8] = [
    what_was_written_is_there,
    an_idempotent_producer_is_remembered,
    a_group_goes_on_from_its_commit,
    an_open_transaction_is_still_open,
    an_open_transaction_is_aborted_by_its_producers_next_life,
    a_producer_of_rdkafka_commits_across_the_restart,
    staged_offsets_are_still_staged,
    an_abort_is_remembered,
];

fn scenes_go_on_over_restarts_and_kills(subject: &Subject) {
    for end in [Subject::restart, Subject::kill_and_restart] {
        let after: Vec<After<'_>> = SCENES.iter().map(|scene| scene(subject)).collect();
        end(subject);
        after.into_iter().for_each(|go_on| go_on());
    }
}

fn what_was_written_is_there(subject: &Subject) -> After<'_> {
    let kept = topic(subject, "kept", 2, &[("retention.ms", "1000000000")]);
    let gone = topic(subject, "gone", 1, &[]);
    let mut connection = Connection::open(subject);
    let id = metadata_of(&mut connection, &kept).topic_id;
    produce_values(&mut connection, &kept, 1, &["a", "b", "c"]);
    delete_topic(subject, &gone);
    Box::new(move || {
        let mut connection = Connection::open(subject);
        eventually("the partitions are led", || {
            let told = metadata_of(&mut connection, &kept);
            (told.topic_id == id && told.partitions.len() == 2).then_some(())
        });
        until_led(&mut connection, &kept, 1);
        assert_eq!(values(&mut connection, &kept, 1, 0), ["a", "b", "c"]);
        assert_eq!(produce_values(&mut connection, &kept, 1, &["d"]), 3);
        assert_eq!(metadata_of(&mut connection, &gone).error_code, 3);
    })
}

/// Kafka's partitions are led a moment after it answers.
fn until_led(connection: &mut Connection, topic: &str, partition: i32) {
    use crate::ask::{LATEST, UNCOMMITTED, list_offset};
    eventually("the partition is led", || {
        (list_offset(connection, topic, partition, LATEST, UNCOMMITTED).error_code == 0).then_some(())
    });
}

fn an_idempotent_producer_is_remembered(subject: &Subject) -> After<'_> {
    let topic = topic(subject, "remembered", 1, &[]);
    let mut connection = Connection::open(subject);
    let id = init(&mut connection, None, 60_000, -1, -1).producer_id.0;
    let author = move |sequence| Author { id, epoch: 0, sequence, transactional: false };
    for sequence in 0..3 {
        let answer = produce(&mut connection, &topic, 0, None, batch(author(sequence), &["x"]));
        assert_eq!(answer.error_code, 0);
    }
    Box::new(move || {
        let mut connection = Connection::open(subject);
        until_led(&mut connection, &topic, 0);
        let mut send = |sequence| {
            let answer = produce(&mut connection, &topic, 0, None, batch(author(sequence), &["x"]));
            (answer.error_code, answer.base_offset)
        };
        assert_eq!(send(2), (0, 2), "its last batch came twice");
        assert_eq!(send(5).0, 45, "OUT_OF_ORDER_SEQUENCE_NUMBER");
        assert_eq!(send(3), (0, 3));
        let new = init(&mut connection, None, 60_000, -1, -1).producer_id.0;
        assert_ne!(new, id, "ids are not given twice");
    })
}

fn a_group_goes_on_from_its_commit(subject: &Subject) -> After<'_> {
    let topic = topic(subject, "resumed", 1, &[]);
    let group = unique("resumed");
    let mut connection = Connection::open(subject);
    produce_values(&mut connection, &topic, 0, &["a", "b", "c", "d"]);
    let reader = consumer(subject, &[("group.id", &group), ("session.timeout.ms", "6000")]);
    reader.subscribe(&[&topic]).unwrap();
    assert_eq!((0..2).map(|_| next(&reader).unwrap().value_text()).collect::<String>(), "ab");
    reader.commit_consumer_state(CommitMode::Sync).unwrap();
    assert_eq!(next(&reader).unwrap().value_text(), "c");
    Box::new(move || {
        let mut connection = Connection::open(subject);
        assert_eq!(committed(&mut connection, &group, &topic, 0, true).1, 2);
        // The member that lived through it goes on by itself (from its commit, if it was rebalanced), and can commit.
        until_led(&mut connection, &topic, 0);
        eventually("the member reads on", || match reader.poll(Duration::from_millis(50)) {
            Some(Ok(message)) if message.payload() == Some(b"d") => Some(()),
            _ => None,
        });
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&topic, 0, Offset::Offset(4)).unwrap();
        eventually("the member commits", || {
            let _ = reader.poll(Duration::from_millis(20));
            reader.commit(&offsets, CommitMode::Sync).ok()
        });
        assert_eq!(committed(&mut connection, &group, &topic, 0, true).1, 4);
    })
}

fn an_open_transaction_is_still_open(subject: &Subject) -> After<'_> {
    let topic = topic(subject, "still-open", 1, &[]);
    let mut transactor = Transactor::new(subject, &unique("still-open"));
    transactor.add_and_write(&topic, 0, &["before"]);
    produce_values(&mut Connection::open(subject), &topic, 0, &["plain"]);
    Box::new(move || {
        transactor.connection = Connection::open(subject);
        until_led(&mut transactor.connection, &topic, 0);
        assert_eq!(bounds(&mut transactor.connection, &topic, 0), (0, 0, 2), "and still holds the rest back");
        let answer = transactor.write(&topic, 0, &["after"]);
        assert_eq!((answer.error_code, answer.base_offset), (0, 2), "the partition need not be added again");
        assert_eq!(transactor.end(true), 0);
        assert_eq!(settled(&mut transactor.connection, &topic, 0), 4);
        assert_eq!(committed_values(subject, &topic, 0), ["before", "plain", "after"]);
    })
}

fn an_open_transaction_is_aborted_by_its_producers_next_life(subject: &Subject) -> After<'_> {
    let topic = topic(subject, "next-life", 1, &[]);
    let id = unique("next-life");
    let crashed = Producer::transactional(subject, &id, &[]);
    crashed.inner.begin_transaction().unwrap();
    crashed.send_value(&topic, 0, "lost");
    crashed.flush();
    drop(crashed);
    Box::new(move || {
        let next = Producer::transactional(subject, &id, &[]);
        assert_eq!(settled(&mut Connection::open(subject), &topic, 0), 2);
        next.inner.begin_transaction().unwrap();
        next.send_value(&topic, 0, "kept");
        next.inner.commit_transaction(PATIENCE).unwrap();
        settled(&mut Connection::open(subject), &topic, 0);
        assert_eq!(committed_values(subject, &topic, 0), ["kept"]);
    })
}

fn a_producer_of_rdkafka_commits_across_the_restart(subject: &Subject) -> After<'_> {
    let topic = topic(subject, "across", 2, &[]);
    let producer = Producer::transactional(subject, &unique("across"), &[]);
    producer.inner.begin_transaction().unwrap();
    producer.send_value(&topic, 0, "before");
    producer.flush();
    Box::new(move || {
        producer.send_value(&topic, 0, "after");
        producer.send_value(&topic, 1, "elsewhere");
        producer.inner.commit_transaction(PATIENCE).unwrap();
        let mut connection = Connection::open(subject);
        settled(&mut connection, &topic, 0);
        settled(&mut connection, &topic, 1);
        assert_eq!(committed_values(subject, &topic, 0), ["before", "after"]);
        assert_eq!(committed_values(subject, &topic, 1), ["elsewhere"]);
    })
}

fn staged_offsets_are_still_staged(subject: &Subject) -> After<'_> {
    let topic = topic(subject, "staged", 1, &[]);
    let group = unique("staged");
    commit(&mut Connection::open(subject), &group, &topic, 0, 3);
    let mut transactor = Transactor::new(subject, &unique("staged"));
    assert_eq!(transactor.add_offsets(&group), 0);
    assert_eq!(transactor.commit_offset(&group, &topic, 0, 8), 0);
    Box::new(move || {
        transactor.connection = Connection::open(subject);
        let mut connection = Connection::open(subject);
        assert_eq!(committed(&mut connection, &group, &topic, 0, false).1, 3);
        assert_eq!(committed(&mut connection, &group, &topic, 0, true).0, 88, "UNSTABLE_OFFSET_COMMIT");
        assert_eq!(transactor.end(true), 0);
        eventually("the commit", || (committed(&mut connection, &group, &topic, 0, true).1 == 8).then_some(()));
    })
}

fn an_abort_is_remembered(subject: &Subject) -> After<'_> {
    let topic = topic(subject, "aborted", 1, &[]);
    let mut transactor = Transactor::new(subject, &unique("aborted"));
    transactor.add_and_write(&topic, 0, &["aborted"]);
    assert_eq!(transactor.end(false), 0);
    settled(&mut Connection::open(subject), &topic, 0);
    transactor.add_and_write(&topic, 0, &["committed"]);
    assert_eq!(transactor.end(true), 0);
    settled(&mut Connection::open(subject), &topic, 0);
    Box::new(move || {
        until_led(&mut Connection::open(subject), &topic, 0);
        assert_eq!(committed_values(subject, &topic, 0), ["committed"]);
        assert_eq!(read(subject, &topic, 0, "read_uncommitted").len(), 2);
    })
}

/// Producers write and a group reads while the broker is ended twice; then each acknowledged record is there once.
fn nothing_is_lost_or_doubled_while_clients_work(subject: &Subject) {
    let (plain, committed) = (topic(subject, "busy", 2, &[]), topic(subject, "busy-transactions", 1, &[]));
    let is_over = AtomicBool::new(false);
    let written = AtomicUsize::new(0);
    thread::scope(|scope| {
        // The scope waits for the clients, also when an assertion here fails.
        let _over = Over(&is_over);
        let idempotent = scope.spawn(|| write_plain(subject, &plain, &is_over, &written));
        let transactional = scope.spawn(|| write_transactions(subject, &committed, &is_over));
        let reading = scope.spawn(|| read_in_a_group(subject, &plain, &is_over, &written));
        for end in [Subject::restart, Subject::kill_and_restart] {
            let before = written.load(Ordering::Relaxed);
            eventually("the producers write", || (written.load(Ordering::Relaxed) > before + 500).then_some(()));
            end(subject);
        }
        let before = written.load(Ordering::Relaxed);
        eventually("the producers write on", || (written.load(Ordering::Relaxed) > before + 500).then_some(()));
        is_over.store(true, Ordering::Relaxed);

        let acknowledged = idempotent.join().unwrap();
        for partition in 0..2 {
            let seen = read(subject, &plain, partition, "read_committed").iter().map(|row| row.value_text()).collect();
            assert_same(&acknowledged[&partition], &seen);
        }
        let expected = transactional.join().unwrap();
        settled(&mut Connection::open(subject), &committed, 0);
        assert_same(&expected, &committed_values(subject, &committed, 0));
        assert_eq!(reading.join().unwrap(), acknowledged.values().map(Vec::len).sum::<usize>());
    });
}

/// Tells the clients to end when it goes.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn assert_same(expected: &Vec<String>, seen: &Vec<String>) {
    let first = expected.iter().zip(seen).position(|(expected, seen)| expected != seen);
    let sizes = (expected.len(), seen.len());
    assert!(expected == seen, "{sizes:?}, first difference at {first:?}");
}

/// Writes until it is over, and gives what was acknowledged: all, as an idempotent producer retries.
fn write_plain(
    subject: &Subject,
    topic: &str,
    is_over: &AtomicBool,
    written: &AtomicUsize,
) -> BTreeMap<i32, Vec<String>> {
    let producer = Producer::new(subject, &[("enable.idempotence", "true"), ("linger.ms", "2")]);
    let mut sent: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    let mut acknowledged = 0;
    for index in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let value = index.to_string();
        producer.send_value(topic, index % 2, &value);
        sent.entry(index % 2).or_default().push(value);
        if index % 50 == 49 {
            let deliveries = producer.flush();
            assert!(deliveries.iter().all(|delivery| delivery.outcome.is_ok()), "{deliveries:?}");
            acknowledged += deliveries.len();
            written.store(acknowledged, Ordering::Relaxed);
        }
    }
    acknowledged += producer.offsets().len();
    assert_eq!(acknowledged, sent.values().map(Vec::len).sum::<usize>());
    sent
}

/// Commits and aborts transactions until it is over, and gives what was committed.
fn write_transactions(subject: &Subject, topic: &str, is_over: &AtomicBool) -> Vec<String> {
    let producer = Producer::transactional(subject, &unique("busy"), &[]);
    let mut committed = Vec::new();
    let mut round = 0;
    while !is_over.load(Ordering::Relaxed) {
        producer.inner.begin_transaction().unwrap();
        let values = [format!("{round} a"), format!("{round} b")];
        values.iter().for_each(|value| producer.send_value(topic, 0, value));
        if round % 3 == 0 {
            producer.flush();
            until_done(|| producer.inner.abort_transaction(PATIENCE));
        } else {
            until_done(|| producer.inner.commit_transaction(PATIENCE));
            committed.extend(values);
        }
        round += 1;
    }
    committed
}

/// A retriable error is asked again, as librdkafka wants it; any other is a broken promise.
fn until_done(mut end: impl FnMut() -> Result<(), KafkaError>) {
    eventually("the transaction ends", || match end() {
        Ok(()) => Some(()),
        Err(KafkaError::Transaction(error)) if error.is_retriable() => None,
        Err(error) => panic!("{error}"),
    });
}

/// Reads in a group, committing now and then, until all that was written is read; records may come twice, none is left out.
fn read_in_a_group(subject: &Subject, topic: &str, is_over: &AtomicBool, written: &AtomicUsize) -> usize {
    let settings = [("group.id", "busy"), ("enable.partition.eof", "false"), ("session.timeout.ms", "6000")];
    let reader = consumer(subject, &settings);
    reader.subscribe(&[topic]).unwrap();
    let mut next_offsets: BTreeMap<i32, i64> = BTreeMap::new();
    eventually("all is read", || {
        for _ in 0..200 {
            match reader.poll(Duration::from_millis(20)) {
                Some(Ok(message)) => {
                    let next = next_offsets.entry(message.partition()).or_default();
                    assert!(message.offset() <= *next, "a gap: {} after {next}", message.offset());
                    *next = (*next).max(message.offset() + 1);
                }
                Some(Err(KafkaError::MessageConsumptionFatal(error))) => panic!("{error}"),
                Some(Err(_)) | None => break,
            }
        }
        let _ = reader.commit_consumer_state(CommitMode::Async);
        let all = written.load(Ordering::Relaxed);
        let read = usize::try_from(next_offsets.values().sum::<i64>()).unwrap();
        let is_at_end = is_over.load(Ordering::Relaxed) && read >= all && is_at_the_end(subject, topic, &next_offsets);
        is_at_end.then_some(read)
    })
}

fn is_at_the_end(subject: &Subject, topic: &str, next_offsets: &BTreeMap<i32, i64>) -> bool {
    let mut connection = Connection::open(subject);
    (0..2).all(|partition| Some(&bounds(&mut connection, topic, partition).2) == next_offsets.get(&partition))
}

on_both_alone!(scenes_go_on_over_restarts_and_kills, nothing_is_lost_or_doubled_while_clients_work);
