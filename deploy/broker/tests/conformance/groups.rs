//! Groups of rdkafka's consumers: sharing, leaving, crashing, coming back, resuming.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::ask::{produce_values, topic};
use crate::clients::{block_on, config, consumer, next};
use crate::member::{Member, committed, subscription_to};
use crate::raw::Connection;
use crate::subject::{PATIENCE, Subject, eventually, unique};

const STRATEGIES: [&str; 3] = ["range", "roundrobin", "cooperative-sticky"];

/// A member of a group that has subscribed.
fn member(subject: &Subject, group: &str, topic: &str, settings: &[(&str, &str)]) -> BaseConsumer {
    let own = [("group.id", group), ("session.timeout.ms", "10000"), ("enable.partition.eof", "false")];
    let consumer = consumer(subject, &[&own[..], settings].concat());
    consumer.subscribe(&[topic]).unwrap();
    consumer
}

fn partitions(consumer: &BaseConsumer) -> Vec<i32> {
    let assignment = consumer.assignment().unwrap();
    let mut partitions: Vec<i32> = assignment.elements().iter().map(|element| element.partition()).collect();
    partitions.sort_unstable();
    partitions
}

/// Polls all members until their assignments are as wanted, and gives the values that were read meanwhile.
fn poll_until(what: &str, members: &[&BaseConsumer], is_done: impl Fn(&[Vec<i32>], &[String]) -> bool) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut values = Vec::new();
    loop {
        for member in members {
            match member.poll(Duration::from_millis(5)) {
                Some(Ok(message)) => values.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap()),
                Some(Err(error)) => panic!("{what}: {error}"),
                None => {}
            }
        }
        let assignments: Vec<Vec<i32>> = members.iter().map(|member| partitions(member)).collect();
        if is_done(&assignments, &values) {
            return values;
        }
        assert!(Instant::now() < deadline, "{what}: {assignments:?} {} values", values.len());
    }
}

fn counts(assignments: &[Vec<i32>]) -> Vec<usize> {
    assignments.iter().map(Vec::len).collect()
}

fn members_share_the_partitions_and_a_leaver_gives_his_back(subject: &Subject) {
    for strategy in STRATEGIES {
        let topic = topic(subject, "shared", 4, &[]);
        let group = unique("shared");
        let mut connection = Connection::open(subject);
        let settings = [("partition.assignment.strategy", strategy)];
        for partition in 0..4 {
            produce_values(&mut connection, &topic, partition, &["1", "2", "3"]);
        }
        let first = member(subject, &group, &topic, &settings);
        let values =
            poll_until("all for one", &[&first], |assigned, values| counts(assigned) == [4] && values.len() == 12);
        assert_eq!(values.len(), 12, "{strategy}");
        first.commit_consumer_state(CommitMode::Sync).unwrap();

        let second = member(subject, &group, &topic, &settings);
        poll_until("two for each", &[&first, &second], |assigned, _| counts(assigned) == [2, 2]);
        let both: BTreeSet<i32> = [partitions(&first), partitions(&second)].concat().into_iter().collect();
        assert_eq!(both.len(), 4, "{strategy}: no partition has two owners");
        for partition in 0..4 {
            produce_values(&mut connection, &topic, partition, &[&format!("later {partition}")]);
        }
        let mut values = poll_until("each reads his own", &[&first, &second], |_, values| values.len() == 4);
        values.sort();
        assert_eq!(values, ["later 0", "later 1", "later 2", "later 3"], "{strategy}: from where the group was");
        second.commit_consumer_state(CommitMode::Sync).unwrap();
        drop(second);
        poll_until("all for one again", &[&first], |assigned, _| counts(assigned) == [4]);
    }
}

fn a_member_that_crashes_loses_its_partitions(subject: &Subject) {
    let topic = topic(subject, "crashes", 4, &[]);
    let group = unique("crashes");
    let first = member(subject, &group, &topic, &[("partition.assignment.strategy", "range")]);
    poll_until("all for one", &[&first], |assigned, _| counts(assigned) == [4]);
    // A member on the wire that is told its share and is never heard of again: a crash without a good-bye.
    let mut crashing = Member::new(subject, &group);
    crashing.session_timeout_ms = 2_000;
    crashing.subscription = subscription_to(&topic);
    crashing.ask_for_an_id();
    crashing.start_join();
    poll_until("two for each", &[&first], |assigned, _| counts(assigned) == [2]);
    assert_eq!(crashing.joined().error_code, 0);
    assert!(!crashing.sync(&[]).assignment.is_empty());
    drop(crashing);
    poll_until("all for one again", &[&first], |assigned, _| counts(assigned) == [4]);
}

fn a_group_resumes_in_the_middle_of_a_batch(subject: &Subject) {
    let topic = topic(subject, "resumes", 1, &[]);
    let group = unique("resumes");
    let names: Vec<String> = (0..10).map(|index| index.to_string()).collect();
    let batch: Vec<&str> = names.iter().map(String::as_str).collect();
    produce_values(&mut Connection::open(subject), &topic, 0, &batch);
    for (from, to) in [(0, 4), (4, 5), (5, 10)] {
        let reader = member(subject, &group, &topic, &[]);
        for expected in from..to {
            let row = next(&reader).unwrap();
            assert_eq!(row.offset, expected);
        }
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&topic, 0, Offset::Offset(to)).unwrap();
        reader.commit(&offsets, CommitMode::Sync).unwrap();
        let told = reader.committed(PATIENCE).unwrap();
        assert_eq!(told.find_partition(&topic, 0).unwrap().offset(), Offset::Offset(to));
    }
    assert_eq!(committed(&mut Connection::open(subject), &group, &topic, 0, true).1, 10);
}

fn what_is_not_committed_is_read_again(subject: &Subject) {
    let topic = topic(subject, "again", 1, &[]);
    let group = unique("again");
    produce_values(&mut Connection::open(subject), &topic, 0, &["a", "b", "c"]);
    for _ in 0..2 {
        let reader = member(subject, &group, &topic, &[]);
        assert_eq!((0..3).map(|_| next(&reader).unwrap().value_text()).collect::<String>(), "abc");
    }
    // With automatic commits a closing member leaves its place to the next one.
    let settings = [("enable.auto.commit", "true"), ("enable.auto.offset.store", "false")];
    let reader = member(subject, &group, &topic, &settings);
    assert_eq!((0..2).map(|_| next(&reader).unwrap().value_text()).collect::<String>(), "ab");
    reader.store_offset(&topic, 0, 1).unwrap();
    drop(reader);
    assert_eq!(committed(&mut Connection::open(subject), &group, &topic, 0, true).1, 2);
    let reader = member(subject, &group, &topic, &[]);
    assert_eq!(next(&reader).unwrap().value_text(), "c");
}

fn a_static_member_that_restarts_finds_its_partitions_and_nobody_stops(subject: &Subject) {
    let topic = topic(subject, "static", 4, &[]);
    let group = unique("static");
    let of = |instance| {
        let settings = [("group.instance.id", instance), ("session.timeout.ms", "30000")];
        member(subject, &group, &topic, &settings)
    };
    let (first, second) = (of("a"), of("b"));
    poll_until("two for each", &[&first, &second], |assigned, _| counts(assigned) == [2, 2]);
    let (of_first, of_second) = (partitions(&first), partitions(&second));
    let generation = generation_of(subject, &group);
    drop(second); // a static member does not leave
    let second = of("b");
    poll_until("its own again", &[&first, &second], |assigned, _| assigned == [of_first.clone(), of_second.clone()]);
    assert_eq!(generation_of(subject, &group), generation, "no rebalance");
}

/// The generation of a stable group of static members, as a return of none tells it: an unknown generation is refused, the
/// right one taken.
fn generation_of(subject: &Subject, group: &str) -> i32 {
    use kafka_protocol::messages::{DescribeGroupsRequest, GroupId};
    let mut prober = Member::of_instance(subject, group, "a");
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(crate::raw::text(group))]);
    let told = prober.connection.ask(5, request).groups.remove(0);
    let member =
        told.members.iter().find(|member| member.group_instance_id.as_deref().is_some_and(|id| id == "a")).unwrap();
    prober.id = member.member_id.to_string();
    (1..100)
        .find(|generation| {
            prober.generation = *generation;
            prober.heartbeat() == 0
        })
        .unwrap()
}

fn of_two_members_of_one_instance_the_first_is_fenced(subject: &Subject) {
    let topic = topic(subject, "twins", 1, &[]);
    let group = unique("twins");
    let settings = [("group.instance.id", "twin"), ("session.timeout.ms", "10000")];
    let first = member(subject, &group, &topic, &settings);
    poll_until("it has all", &[&first], |assigned, _| counts(assigned) == [1]);
    let second = member(subject, &group, &topic, &settings);
    poll_until("the twin has all", &[&second], |assigned, _| counts(assigned) == [1]);
    eventually("the first is fenced", || {
        second.poll(Duration::from_millis(5));
        match first.poll(Duration::from_millis(5)) {
            Some(Err(KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::FencedInstanceId))) => Some(()),
            Some(other) => panic!("{other:?}"),
            None => None,
        }
    });
}

fn rdkafkas_admin_client_lists_and_deletes_groups(subject: &Subject) {
    let topic = topic(subject, "listed", 2, &[]);
    let group = unique("listed");
    let reader = member(subject, &group, &topic, &[("client.id", "a-reader")]);
    poll_until("it has all", &[&reader], |assigned, _| counts(assigned) == [2]);
    let told = reader.fetch_group_list(Some(&group), PATIENCE).unwrap();
    let told = &told.groups()[0];
    assert_eq!((told.name(), told.state(), told.protocol_type()), (group.as_str(), "Stable", "consumer"));
    assert_eq!((told.members()[0].client_id(), told.members()[0].client_host()), ("a-reader", "/127.0.0.1"));
    let admin: AdminClient<DefaultClientContext> = config(subject, &[]).create().unwrap();
    let options = AdminOptions::new();
    let refused = block_on(admin.delete_groups(&[&group], &options)).unwrap();
    assert_eq!(refused, [Err((group.clone(), RDKafkaErrorCode::NonEmptyGroup))]);
    drop(reader);
    let deleted = block_on(admin.delete_groups(&[&group], &options)).unwrap();
    assert_eq!(deleted, [Ok(group)]);
}

on_both!(
    members_share_the_partitions_and_a_leaver_gives_his_back,
    a_member_that_crashes_loses_its_partitions,
    a_group_resumes_in_the_middle_of_a_batch,
    what_is_not_committed_is_read_again,
    a_static_member_that_restarts_finds_its_partitions_and_nobody_stops,
    of_two_members_of_one_instance_the_first_is_fenced,
    rdkafkas_admin_client_lists_and_deletes_groups,
);
