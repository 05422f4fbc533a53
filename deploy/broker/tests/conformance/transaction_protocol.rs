//! Transactions on the wire: what is where after each step, what a wrong step is answered, and who is fenced.

use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::ProducerState;
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, ListTransactionsRequest, ProducerId,
};

use crate::ask::{
    COMMITTED, EARLIEST, FetchOptions, LATEST, MAX_TIMESTAMP, bounds, delete_topic, fetch, list_offset, produce,
    produce_values, topic,
};
use crate::clients::committed_values;
use crate::member::{Member, commit, committed};
use crate::raw::{Author, Connection, batch, records_of, text, topic_name};
use crate::subject::{Subject, eventually, unique};
use crate::transactor::{Transactor, init, settled};

const NOT_ENOUGH_REPLICAS: i16 = 19;
const OUT_OF_ORDER_SEQUENCE: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
const PRODUCER_FENCED: i16 = 90;
const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;

fn describe(connection: &mut Connection, id: &str) -> TransactionState {
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![text(id).into()]);
    connection.ask(0, request).transaction_states.remove(0)
}

fn producers(connection: &mut Connection, topic: &str, partition: i32) -> Vec<ProducerState> {
    let topic = TopicRequest::default().with_name(topic_name(topic)).with_partition_indexes(vec![partition]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    let told = connection.ask(0, request).topics.remove(0).partitions.remove(0);
    assert_eq!(told.error_code, 0);
    told.active_producers
}

fn markers_follow_the_records_and_aborted_ones_are_listed(subject: &Subject) {
    let topic = topic(subject, "markers", 1, &[]);
    let mut connection = Connection::open(subject);
    let mut one = Transactor::new(subject, &unique("one"));
    let mut two = Transactor::new(subject, &unique("two"));
    assert_eq!(one.add_and_write(&topic, 0, &["aborted", "aborted too"]), 0);
    assert_eq!(two.add_and_write(&topic, 0, &["committed"]), 2);
    assert_eq!(produce_values(&mut connection, &topic, 0, &["plain"]), 3);
    assert_eq!(bounds(&mut connection, &topic, 0), (0, 0, 4), "the first open transaction holds the rest back");
    let data = fetch(&mut connection, &topic, 0, 0, FetchOptions { isolation: COMMITTED, ..Default::default() });
    assert_eq!((data.high_watermark, data.last_stable_offset), (4, 0));
    assert!(data.records.unwrap_or_default().is_empty());
    assert_eq!(two.end(true), 0);
    eventually("the commit's marker", || (bounds(&mut connection, &topic, 0) == (0, 0, 5)).then_some(()));
    assert_eq!(one.end(false), 0);
    assert_eq!(settled(&mut connection, &topic, 0), 6);

    let data = fetch(&mut connection, &topic, 0, 0, FetchOptions { isolation: COMMITTED, ..Default::default() });
    assert_eq!((data.high_watermark, data.last_stable_offset, data.log_start_offset), (6, 6, 0));
    let aborted: Vec<(i64, i64)> = data
        .aborted_transactions
        .unwrap()
        .iter()
        .map(|aborted| (aborted.producer_id.0, aborted.first_offset))
        .collect();
    assert_eq!(aborted, [(one.producer_id, 0)]);
    let records = records_of(&data.records.unwrap());
    let shape: Vec<(i64, bool, bool, i64)> = records
        .iter()
        .map(|record| (record.offset, record.transactional, record.control, record.producer_id))
        .collect();
    let (one_id, two_id) = (one.producer_id, two.producer_id);
    assert_eq!(
        shape,
        [
            (0, true, false, one_id),
            (1, true, false, one_id),
            (2, true, false, two_id),
            (3, false, false, -1),
            (4, true, true, two_id),
            (5, true, true, one_id)
        ]
    );
    // A control record's key is its version and kind (0 abort, 1 commit); its value begins with a version.
    assert_eq!(records[4].key.as_deref(), Some(&[0, 0, 0, 1][..]));
    assert_eq!(records[5].key.as_deref(), Some(&[0, 0, 0, 0][..]));
    assert_eq!(records[4].value.as_ref().map(|value| value.len()), Some(6));
    assert_eq!(records[4].sequence, -1);

    let data = fetch(&mut connection, &topic, 0, 0, FetchOptions::default());
    assert!(data.aborted_transactions.unwrap_or_default().is_empty(), "who reads all is told nothing of aborts");
    let after = fetch(&mut connection, &topic, 0, 5, FetchOptions { isolation: COMMITTED, ..Default::default() });
    let aborted = after.aborted_transactions.unwrap();
    assert_eq!(aborted.len(), 1, "the marker itself is still in its range");
    assert_eq!(committed_values(subject, &topic, 0), ["committed", "plain"]);
}

fn offsets_by_isolation_stop_at_the_last_stable_one(subject: &Subject) {
    let topic = topic(subject, "stable", 1, &[]);
    let mut connection = Connection::open(subject);
    produce_values(&mut connection, &topic, 0, &["a", "b"]);
    let mut open = Transactor::new(subject, &unique("open"));
    open.add_and_write(&topic, 0, &["c"]);
    let mut ask = |time| {
        let answer = list_offset(&mut connection, &topic, 0, time, COMMITTED);
        (answer.error_code, answer.offset)
    };
    assert_eq!((ask(LATEST), ask(EARLIEST)), ((0, 2), (0, 0)));
    let far = crate::raw::now_ms() + 1_000_000;
    assert_eq!(ask(far), (0, -1));
    assert!(ask(MAX_TIMESTAMP).0 == 0);
    assert_eq!(open.end(false), 0);
    assert_eq!(settled(&mut connection, &topic, 0), 4);
}

fn a_write_outside_of_a_transaction_or_of_its_partitions_is_refused(subject: &Subject) {
    let topic = topic(subject, "outside", 2, &[]);
    let mut transactor = Transactor::new(subject, &unique("outside"));
    assert_eq!(transactor.end(true), INVALID_TXN_STATE, "there is none to end");
    assert_eq!(transactor.write(&topic, 0, &["x"]).error_code, INVALID_TXN_STATE, "no partition was added");
    assert_eq!(transactor.add_and_write(&topic, 0, &["x"]), 0);
    assert_eq!(transactor.write(&topic, 1, &["x"]).error_code, INVALID_TXN_STATE, "this one was not");
    assert_eq!(transactor.add("no-such-topic", 0), 3);
    assert_eq!(transactor.add(&topic, 7), 3);
    assert_eq!(transactor.end(true), 0);
    eventually("asked again, told again", || (transactor.end(true) == 0).then_some(()));
    assert_eq!(transactor.end(false), INVALID_TXN_STATE, "what is committed cannot be aborted");
    assert_eq!(settled(&mut Connection::open(subject), &topic, 0), 2);
    let error = transactor.write(&topic, 0, &["x"]).error_code;
    assert_eq!(error, INVALID_TXN_STATE, "the transaction is over");
}

fn strangers_and_old_epochs_are_refused(subject: &Subject) {
    let topic = topic(subject, "strangers", 1, &[]);
    let id = unique("strangers");
    let mut old = Transactor::new(subject, &id);
    old.add_and_write(&topic, 0, &["of the old one"]);
    let mut new = Transactor::new(subject, &id);
    assert_eq!(new.producer_id, old.producer_id);
    assert_eq!(settled(&mut Connection::open(subject), &topic, 0), 2, "the new one's coming aborts");
    assert_eq!(new.epoch, old.epoch + 2, "one for the abort, one for the new one");
    assert_eq!(old.write(&topic, 0, &["x"]).error_code, INVALID_PRODUCER_EPOCH);
    assert_eq!(old.add(&topic, 0), PRODUCER_FENCED);
    assert_eq!(old.end(true), PRODUCER_FENCED);
    assert_eq!(old.add_offsets("any"), PRODUCER_FENCED);
    let mut stranger =
        Transactor { producer_id: new.producer_id + 100_000, ..Transactor::new(subject, &unique("other")) };
    stranger.id.clone_from(&id);
    assert_eq!(stranger.add(&topic, 0), INVALID_PRODUCER_ID_MAPPING);
    assert_eq!(stranger.end(true), INVALID_PRODUCER_ID_MAPPING);
    stranger.id = unique("unknown");
    assert_eq!(stranger.add(&topic, 0), INVALID_PRODUCER_ID_MAPPING);
    new.add_and_write(&topic, 0, &["of the new one"]);
    assert_eq!(new.end(true), 0);
    settled(&mut Connection::open(subject), &topic, 0);
    assert_eq!(committed_values(subject, &topic, 0), ["of the new one"]);
}

fn a_partition_that_was_added_and_never_written_to_is_marked_and_fences(subject: &Subject) {
    let topic = topic(subject, "added", 2, &[]);
    let id = unique("added");
    let mut connection = Connection::open(subject);
    let mut old = Transactor::new(subject, &id);
    assert_eq!(old.add(&topic, 0), 0);
    let new = Transactor::new(subject, &id);
    eventually("the abort's marker", || (bounds(&mut connection, &topic, 0) == (0, 1, 1)).then_some(()));
    let author = Author { transactional: false, ..old.author() };
    let zombie = produce(&mut connection, &topic, 0, None, batch(author, &["x"]));
    assert_eq!(zombie.error_code, INVALID_PRODUCER_EPOCH, "not in a transaction, and fenced all the same");
    let known = producers(&mut connection, &topic, 0).remove(0);
    assert_eq!((known.producer_id.0, known.producer_epoch), (new.producer_id, i32::from(old.epoch + 1)));
    assert_eq!((known.last_sequence, known.current_txn_start_offset), (-1, -1));
    // Each transaction that a partition is added to leaves its marker there, also one after the other of the same epoch.
    let mut new = new;
    for ended in 1..=2 {
        assert_eq!(new.add(&topic, 1), 0);
        assert_eq!(new.end(true), 0);
        eventually("the marker", || (bounds(&mut connection, &topic, 1) == (0, ended, ended)).then_some(()));
    }
    assert_eq!(new.add_and_write(&topic, 1, &["y"]), 2);
    assert_eq!(new.end(true), 0);
    assert_eq!(settled(&mut connection, &topic, 1), 4);
    assert_eq!(committed_values(subject, &topic, 1), ["y"]);
}

fn a_batch_of_a_transaction_that_has_ended_is_refused_though_it_is_there(subject: &Subject) {
    let topic = topic(subject, "ended", 1, &[]);
    let mut transactor = Transactor::new(subject, &unique("ended"));
    assert_eq!(transactor.add_and_write(&topic, 0, &["x"]), 0);
    transactor.sequence = 0;
    let again = transactor.write(&topic, 0, &["x"]);
    assert_eq!((again.error_code, again.base_offset), (0, 0), "while it is open it is known again");
    assert_eq!(transactor.end(true), 0);
    assert_eq!(settled(&mut transactor.connection, &topic, 0), 2);
    transactor.sequence = 0;
    let late = eventually("its end is known", || {
        let late = transactor.write(&topic, 0, &["x"]);
        (late.error_code != NOT_ENOUGH_REPLICAS).then_some(late)
    });
    assert_eq!((late.error_code, late.base_offset), (INVALID_TXN_STATE, -1));
    assert_eq!(transactor.add(&topic, 0), 0);
    let known = transactor.write(&topic, 0, &["x"]);
    assert_eq!((known.error_code, known.base_offset), (0, 0), "in the next one it is known again");
    assert_eq!(bounds(&mut transactor.connection, &topic, 0), (0, 2, 2));
}

fn what_comes_after_a_batch_that_was_refused_waits_for_it(subject: &Subject) {
    let topic = topic(subject, "refused", 1, &[]);
    let mut transactor = Transactor::new(subject, &unique("refused"));
    assert_eq!(transactor.write(&topic, 0, &["first"]).error_code, INVALID_TXN_STATE, "it was not added");
    assert_eq!(transactor.add(&topic, 0), 0);
    transactor.sequence = 1;
    let second = transactor.write(&topic, 0, &["second"]);
    assert_eq!((second.error_code, second.base_offset), (OUT_OF_ORDER_SEQUENCE, -1));
    transactor.sequence = 0;
    assert_eq!(transactor.add_and_write(&topic, 0, &["first"]), 0);
    assert_eq!(transactor.add_and_write(&topic, 0, &["second"]), 1);
    assert_eq!(transactor.end(true), 0);
    assert_eq!(settled(&mut transactor.connection, &topic, 0), 3);
    assert_eq!(committed_values(subject, &topic, 0), ["first", "second"]);
}

fn a_producer_that_lost_its_way_comes_back_with_its_id_and_epoch(subject: &Subject) {
    // KIP-360: the open transaction is aborted and the epoch grows; the id stays the producer's.
    let topic = topic(subject, "recovers", 1, &[]);
    let id = unique("recovers");
    let mut transactor = Transactor::new(subject, &id);
    transactor.add_and_write(&topic, 0, &["lost"]);
    let again = init(&mut transactor.connection, Some(&id), 60_000, transactor.producer_id, transactor.epoch);
    assert_eq!((again.error_code, again.producer_id.0), (0, transactor.producer_id));
    assert_eq!(again.producer_epoch, transactor.epoch + 1);
    transactor.epoch = again.producer_epoch;
    transactor.sequence = 0;
    transactor.add_and_write(&topic, 0, &["found"]);
    assert_eq!(transactor.end(true), 0);
    assert_eq!(settled(&mut transactor.connection, &topic, 0), 4);
    assert_eq!(committed_values(subject, &topic, 0), ["found"]);
}

fn a_transaction_is_told_by_its_id_its_partition_and_in_the_list(subject: &Subject) {
    let topic = topic(subject, "told", 2, &[]);
    let id = unique("told-transaction");
    let mut connection = Connection::open(subject);
    assert_eq!(describe(&mut connection, &id).error_code, TRANSACTIONAL_ID_NOT_FOUND);
    let mut transactor = Transactor::with_timeout(subject, &id, 54_321);
    let told = describe(&mut connection, &id);
    assert_eq!((told.error_code, told.transaction_state.as_str(), told.topics.len()), (0, "Empty", 0));
    assert_eq!((told.producer_id.0, told.producer_epoch), (transactor.producer_id, transactor.epoch));
    assert_eq!((told.transaction_timeout_ms, told.transaction_start_time_ms), (54_321, -1));
    assert!(producers(&mut connection, &topic, 1).is_empty());

    let before = crate::raw::now_ms();
    transactor.add_and_write(&topic, 1, &["a", "b", "c"]);
    let told = describe(&mut connection, &id);
    assert_eq!(told.transaction_state.as_str(), "Ongoing");
    assert!((before..=crate::raw::now_ms()).contains(&told.transaction_start_time_ms));
    assert_eq!((told.topics[0].topic.as_str(), told.topics[0].partitions.as_slice()), (topic.as_str(), &[1][..]));
    let writing = producers(&mut connection, &topic, 1).remove(0);
    assert_eq!((writing.producer_id.0, writing.producer_epoch), (transactor.producer_id, i32::from(transactor.epoch)));
    assert_eq!((writing.last_sequence, writing.current_txn_start_offset), (2, 0));
    assert!(writing.last_timestamp >= before);

    let mut list = |states: &[&str], ids: &[i64]| {
        let request = ListTransactionsRequest::default()
            .with_state_filters(states.iter().map(|state| text(state)).collect())
            .with_producer_id_filters(ids.iter().map(|id| ProducerId(*id)).collect());
        let response = connection.ask(0, request);
        assert_eq!(response.error_code, 0);
        let unknown: Vec<String> = response.unknown_state_filters.iter().map(ToString::to_string).collect();
        let found = response.transaction_states.into_iter().find(|listed| listed.transactional_id.as_str() == id);
        (unknown, found.map(|listed| (listed.producer_id.0, listed.transaction_state.to_string())))
    };
    let listed = Some((transactor.producer_id, "Ongoing".to_owned()));
    assert_eq!(list(&[], &[]), (vec![], listed.clone()));
    assert_eq!(list(&["Ongoing"], &[transactor.producer_id]), (vec![], listed));
    assert_eq!(list(&["Empty"], &[]).1, None);
    assert_eq!(list(&[], &[transactor.producer_id + 1]).1, None);
    assert_eq!(list(&["Sleeping"], &[]).0, ["Sleeping"]);

    assert_eq!(transactor.end(true), 0);
    settled(&mut connection, &topic, 1);
    eventually("the coordinator knows that it is complete", || {
        (describe(&mut connection, &id).transaction_state.as_str() == "CompleteCommit").then_some(())
    });
    let after = producers(&mut connection, &topic, 1).remove(0);
    assert_eq!((after.last_sequence, after.current_txn_start_offset), (2, -1));
}

fn a_transaction_whose_time_is_up_is_aborted_and_its_producer_fenced(subject: &Subject) {
    let topic = topic(subject, "times-out", 1, &[]);
    let id = unique("times-out");
    let mut connection = Connection::open(subject);
    let mut slow = Transactor::with_timeout(subject, &id, 500);
    slow.add_and_write(&topic, 0, &["too slow"]);
    assert_eq!(settled(&mut connection, &topic, 0), 2);
    assert_eq!(slow.write(&topic, 0, &["late"]).error_code, INVALID_PRODUCER_EPOCH);
    assert_eq!(slow.end(true), PRODUCER_FENCED);
    assert_eq!(committed_values(subject, &topic, 0), [""; 0]);
    let again = init(&mut connection, Some(&id), 60_000, slow.producer_id, slow.epoch);
    assert_eq!((again.error_code, again.producer_id.0), (0, slow.producer_id), "it may come back (KIP-588)");
    assert_eq!(again.producer_epoch, slow.epoch + 1);
    slow.epoch = again.producer_epoch;
    slow.sequence = 0;
    slow.add_and_write(&topic, 0, &["in time"]);
    assert_eq!(slow.end(true), 0);
    settled(&mut connection, &topic, 0);
    assert_eq!(committed_values(subject, &topic, 0), ["in time"]);
}

fn offsets_in_a_transaction_are_checked_against_their_group(subject: &Subject) {
    let topic = topic(subject, "fenced-offsets", 1, &[]);
    let group = unique("fenced-offsets");
    let mut connection = Connection::open(subject);
    let member = Member::alone(subject, &group);
    let mut transactor = Transactor::new(subject, &unique("fenced-offsets"));
    assert_eq!(transactor.add_offsets(&group), 0);
    let id = member.id.as_str();
    assert_eq!(transactor.commit_offset_as(&group, "stranger", 1, &topic, 0, 5), 25, "UNKNOWN_MEMBER_ID");
    assert_eq!(transactor.commit_offset_as(&group, id, 7, &topic, 0, 5), 22, "ILLEGAL_GENERATION");
    assert_eq!(transactor.commit_offset_as(&group, id, 1, &topic, 0, 5), 0);
    assert_eq!(committed(&mut connection, &group, &topic, 0, false).1, -1, "not yet");
    assert_eq!(transactor.end(false), 0);
    eventually("the abort has gone through", || {
        (committed(&mut connection, &group, &topic, 0, true).0 == 0).then_some(())
    });
    assert_eq!(committed(&mut connection, &group, &topic, 0, true).1, -1, "and never");

    assert_eq!(transactor.add_offsets(&group), 0);
    assert_eq!(transactor.commit_offset(&group, &topic, 0, 6), 0, "from outside of the membership, as librdkafka may");
    assert_eq!(transactor.end(true), 0);
    eventually("the commit", || {
        (committed(&mut connection, &group, &topic, 0, true) == (0, 6, String::new())).then_some(())
    });
}

fn the_later_of_two_commits_stands_though_one_was_staged(subject: &Subject) {
    let topic = topic(subject, "staged", 1, &[]);
    let group = unique("staged");
    let mut connection = Connection::open(subject);
    let mut transactor = Transactor::new(subject, &unique("staged"));
    assert_eq!(transactor.add_offsets(&group), 0);
    assert_eq!(transactor.commit_offset(&group, &topic, 0, 5), 0);
    assert_eq!(commit(&mut connection, &group, &topic, 0, 9), 0, "plain, after the staged one");
    assert_eq!(committed(&mut connection, &group, &topic, 0, false).1, 9);
    assert_eq!(transactor.end(true), 0);
    eventually("it is settled", || (committed(&mut connection, &group, &topic, 0, true).0 == 0).then_some(()));
    assert_eq!(committed(&mut connection, &group, &topic, 0, false).1, 9);
}

fn a_transaction_over_a_deleted_topic_ends_for_the_others(subject: &Subject) {
    let (kept, deleted) = (topic(subject, "kept", 1, &[]), topic(subject, "deleted", 1, &[]));
    let mut transactor = Transactor::new(subject, &unique("deleted"));
    transactor.add_and_write(&kept, 0, &["kept"]);
    transactor.sequence = 0;
    transactor.add_and_write(&deleted, 0, &["deleted"]);
    delete_topic(subject, &deleted);
    assert_eq!(transactor.end(true), 0);
    assert_eq!(settled(&mut Connection::open(subject), &kept, 0), 2);
    assert_eq!(committed_values(subject, &kept, 0), ["kept"]);
    transactor.sequence = 1;
    transactor.add_and_write(&kept, 0, &["and goes on"]);
    assert_eq!(transactor.end(true), 0);
    settled(&mut Connection::open(subject), &kept, 0);
    assert_eq!(committed_values(subject, &kept, 0), ["kept", "and goes on"]);
}

fn records_of_a_transaction_may_be_deleted_before_its_end(subject: &Subject) {
    use kafka_protocol::messages::DeleteRecordsRequest;
    use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    let topic = topic(subject, "cut", 1, &[]);
    let mut connection = Connection::open(subject);
    let mut transactor = Transactor::new(subject, &unique("cut"));
    transactor.add_and_write(&topic, 0, &["a", "b"]);
    produce_values(&mut connection, &topic, 0, &["plain"]);
    let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(-1);
    let wanted = DeleteRecordsTopic::default().with_name(topic_name(&topic)).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![wanted]).with_timeout_ms(30_000);
    let deleted = connection.ask(2, request).topics.remove(0).partitions.remove(0);
    assert_eq!((deleted.error_code, deleted.low_watermark), (0, 3));
    assert_eq!(transactor.end(true), 0);
    eventually("the marker", || (bounds(&mut connection, &topic, 0) == (3, 4, 4)).then_some(()));
    assert_eq!(committed_values(subject, &topic, 0), [""; 0]);
}

on_both!(
    markers_follow_the_records_and_aborted_ones_are_listed,
    offsets_by_isolation_stop_at_the_last_stable_one,
    a_write_outside_of_a_transaction_or_of_its_partitions_is_refused,
    strangers_and_old_epochs_are_refused,
    a_partition_that_was_added_and_never_written_to_is_marked_and_fences,
    a_batch_of_a_transaction_that_has_ended_is_refused_though_it_is_there,
    what_comes_after_a_batch_that_was_refused_waits_for_it,
    a_producer_that_lost_its_way_comes_back_with_its_id_and_epoch,
    a_transaction_is_told_by_its_id_its_partition_and_in_the_list,
    a_transaction_whose_time_is_up_is_aborted_and_its_producer_fenced,
    offsets_in_a_transaction_are_checked_against_their_group,
    the_later_of_two_commits_stands_though_one_was_staged,
    a_transaction_over_a_deleted_topic_ends_for_the_others,
    records_of_a_transaction_may_be_deleted_before_its_end,
);
