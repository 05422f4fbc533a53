//! Topics by their requests. What is expected was answered by Apache Kafka 4.1.0 to the same requests, but for
//! what the README says is different.

use std::fmt::Write;

use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::*;
use uuid::Uuid;

use super::testing::{ask, creatable, create, node, refused, topic};
use super::*;
use crate::log::testing::{TestBatch, at};

/// One topic is asked for and this is said: the error's number and message, or partitions, replicas and what was set.
fn check_create(node: &mut Node, asked: CreatableTopic, expected: &str) {
    let name = asked.name.to_string();
    let answer = create(node, 7, true, vec![asked]).topics.remove(0);
    assert_eq!(answer.name.as_str(), name);
    let said = match (answer.error_code, answer.error_message) {
        (0, None) => {
            let set = answer.configs.unwrap().into_iter().filter(|config| config.config_source == 1);
            let set = set.map(|config| format!(" {}={}", config.name, config.value.unwrap())).collect::<String>();
            assert!(!answer.topic_id.is_nil());
            format!("{} {}{set}", answer.num_partitions, answer.replication_factor)
        }
        (code, message) => format!("{code} {}", message.unwrap_or_default()),
    };
    assert_eq!(said, expected);
}

#[test]
fn topics_are_created_as_kafka_does() {
    let mut node = node();
    create(&mut node, 7, false, vec![creatable("a.b", 2, 1, &[])]);
    let check = &mut |name: &str, partitions, replicas, configs: &[(&str, Option<&str>)], expected: &str| {
        check_create(&mut node, creatable(name, partitions, replicas, configs), expected);
    };
    check("z", -1, -1, &[], "2 1");
    check("z", 3, 1, &[("retention.ms", Some(" 5 ")), ("retention.ms", Some("7 "))], "3 1 retention.ms=7 ");
    check("a.b", 1, 3, &[("nope", Some("1"))], "36 Topic 'a.b' already exists.");
    check("a_b", 1, 1, &[], "17 Topic 'a_b' collides with existing topic: a.b");
    check("", 1, 1, &[], "17 Topic name is invalid: the empty string is not allowed");
    check("__cluster_metadata", 1, 1, &[], "42 Creation of internal topic __cluster_metadata is prohibited.");
    check("z", 0, 1, &[], "37 Number of partitions was set to an invalid non-positive value.");
    check("z", -2, 1, &[], "37 Number of partitions was set to an invalid non-positive value.");
    check("z", 1, 0, &[], "38 Replication factor must be larger than 0, or -1 to use the default value.");
    check("z", 1, -2, &[], "38 Replication factor must be larger than 0, or -1 to use the default value.");
    check(
        "z",
        1,
        2,
        &[],
        "38 Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be reached because \
         only 1 broker(s) are registered.",
    );
    check("z", 0, 3, &[], "37 Number of partitions was set to an invalid non-positive value.");
    check("z", 0, 3, &[("nope", Some("1"))], "40 Unknown topic config name: nope");
    check("z", 9, 1, &[], "44 9 more partitions than the 2 here are over partitions_max, 10.");
    check("z", 1, 1, &[("nope", Some("1"))], "40 Unknown topic config name: nope");
    check("z", 1, 1, &[("retention.ms", None)], "40 Null value not supported for topic configs: retention.ms");
    assert_eq!(node.topics.iter().count(), 1, "they were only asked about");
}

#[test]
fn assignments_by_hand_name_the_one_node() {
    let mut node = node();
    let mut check = |partitions, replicas, assigned: &[(i32, &[i32])], expected: &str| {
        let assignments = assigned.iter().map(|(index, ids)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(*index)
                .with_broker_ids(ids.iter().copied().map(BrokerId).collect())
        });
        let asked = creatable("m", partitions, replicas, &[]).with_assignments(assignments.collect());
        check_create(&mut node, asked, expected);
    };
    check(-1, -1, &[(0, &[1]), (1, &[1])], "2 1");
    check(-1, -1, &[(1, &[1]), (0, &[1])], "2 1");
    check(-1, -1, &[(0, &[1]), (2, &[1])], "39 partitions should be a consecutive 0-based integer sequence");
    check(
        -1,
        -1,
        &[(0, &[2])],
        "39 The manual partition assignment includes broker 2, but no such broker is registered.",
    );
    check(-1, -1, &[(0, &[])], "39 The manual partition assignment includes an empty replica list.");
    check(-1, -1, &[(0, &[1, 1])], "39 The manual partition assignment includes the broker 1 more than once.");
    check(-1, -1, &[(0, &[1]), (0, &[1])], "39 Found multiple manual partition assignments for partition 0");
    check(1, -1, &[(0, &[1])], "42 A manual partition assignment was specified, but numPartitions was not set to -1.");
    check(
        -1,
        1,
        &[(0, &[1])],
        "42 A manual partition assignment was specified, but replication factor was not set to -1.",
    );
}

#[test]
fn a_topic_that_is_named_twice_is_not_created() {
    let mut node = node();
    let asked = vec![creatable("dup", 1, 1, &[]), creatable("other", 1, 1, &[]), creatable("dup", 2, 1, &[])];
    let answer = create(&mut node, 7, false, asked);
    let said = answer.topics.iter().map(|topic| (topic.name.as_str(), topic.error_code)).collect::<Vec<_>>();
    assert_eq!(said, [("other", 0), ("dup", 42)]);
    assert_eq!(answer.topics[0].topic_id, node.topics.get("other").unwrap().id);
    assert_eq!(answer.topics[1].error_message.as_deref(), Some("Duplicate topic name."));
}

fn delete(node: &mut Node, version: i16, names: &[&str], ids: &[Uuid]) -> String {
    let state = |name: Option<&str>, id| DeleteTopicState::default().with_name(name.map(topic)).with_topic_id(id);
    let by_name = names.iter().map(|name| state(Some(name), Uuid::nil()));
    let request = match version {
        6 => DeleteTopicsRequest::default().with_topics(by_name.chain(ids.iter().map(|id| state(None, *id))).collect()),
        _ => DeleteTopicsRequest::default().with_topic_names(names.iter().map(|name| topic(name)).collect()),
    };
    let mut said = String::new();
    for answer in ask(node, version, &request, delete_topics::handle).responses {
        let name = answer.name.map_or("-".to_owned(), |name| name.to_string());
        let message = answer.error_message.filter(|message| !message.is_empty());
        writeln!(said, "{name} {} {}", answer.error_code, message.unwrap_or_default()).unwrap();
    }
    said
}

#[test]
fn topics_are_deleted_by_name_and_by_id() {
    let mut node = node();
    let asked = ["a", "b", "c", "d"].map(|name| creatable(name, 1, 1, &[]));
    create(&mut node, 7, false, asked.to_vec());
    let id = |node: &Node, name: &str| node.topics.get(name).unwrap().id;
    let b = id(&node, "b");
    let c = id(&node, "c");
    assert_eq!(delete(&mut node, 1, &["a", "nono"], &[]), "a 0 \nnono 3 \n");
    assert_eq!(
        delete(&mut node, 5, &["b", "b", "nono"], &[]),
        "b 42 Duplicate topic name.\nnono 3 This server does not host this topic-partition.\n"
    );
    assert_eq!(
        delete(&mut node, 6, &["b"], &[b]),
        "b 42 The provided topic name maps to an ID that was already supplied.\n"
    );
    assert_eq!(delete(&mut node, 6, &[], &[b, b]), "- 42 Duplicate topic id.\n");
    assert_eq!(delete(&mut node, 6, &[], &[Uuid::nil()]), "- 42 Neither topic name nor id were specified.\n");
    assert_eq!(delete(&mut node, 6, &[], &[Uuid::max()]), "- 100 This server does not host this topic ID.\n");
    assert_eq!(node.topics.iter().count(), 3);
    let said = delete(&mut node, 6, &["d"], &[b, c]);
    assert!(said.lines().all(|line| line.ends_with(" 0 ")) && said.lines().count() == 3, "{said}");
    assert_eq!(node.topics.iter().count(), 0);
}

#[test]
fn partitions_are_added_as_kafka_does() {
    let mut node = node();
    create(&mut node, 7, false, vec![creatable("t", 3, 1, &[])]);
    let mut check = |name: &str, count, assigned: Option<&[&[i32]]>, expected: &str| {
        let assignment = |ids: &&[i32]| {
            CreatePartitionsAssignment::default().with_broker_ids(ids.iter().copied().map(BrokerId).collect())
        };
        let asked = CreatePartitionsTopic::default()
            .with_name(topic(name))
            .with_count(count)
            .with_assignments(assigned.map(|assigned| assigned.iter().map(assignment).collect()));
        let request = CreatePartitionsRequest::default().with_topics(vec![asked]).with_validate_only(true);
        let answer = ask(&mut node, 3, &request, create_partitions::handle).results.remove(0);
        assert_eq!(format!("{} {}", answer.error_code, answer.error_message.unwrap_or_default()), expected);
        let twice = vec![request.topics[0].clone(); 2];
        let request = request.with_validate_only(false).with_topics(twice);
        let answer = ask(&mut node, 0, &request, create_partitions::handle).results;
        assert_eq!((answer.len(), answer[0].error_code), (1, 42), "twice in one request");
    };
    check("t", 4, None, "0 ");
    check("t", 4, Some(&[&[1]]), "0 ");
    check("t", 3, None, "37 Topic already has 3 partition(s).");
    check("t", 2, None, "37 The topic t currently has 3 partition(s); 2 would not be an increase.");
    check("t", -1, None, "37 The topic t currently has 3 partition(s); -1 would not be an increase.");
    check("t", i32::MAX, None, "44 2147483644 more partitions than the 3 here are over partitions_max, 10.");
    check("nono", 3, None, "3 ");
    check("t", 4, Some(&[]), "39 Attempted to add 1 additional partition(s), but only 0 assignment(s) were specified.");
    check(
        "t",
        4,
        Some(&[&[2]]),
        "39 The manual partition assignment includes broker 2, but no such broker is registered.",
    );
    check("t", 4, Some(&[&[]]), "39 The manual partition assignment includes an empty replica list.");
    assert_eq!(node.topics.get("t").unwrap().partitions.len(), 3);
    let asked = CreatePartitionsTopic::default().with_name(topic("t")).with_count(5).with_assignments(None);
    ask(&mut node, 3, &CreatePartitionsRequest::default().with_topics(vec![asked]), create_partitions::handle);
    assert_eq!(node.topics.get("t").unwrap().partitions.len(), 5);
}

fn metadata_of(node: &mut Node, version: i16, names: Option<&[&str]>, may_create: bool) -> String {
    let asked = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic(name)));
    let request = MetadataRequest::default()
        .with_topics(names.map(|names| names.iter().map(asked).collect()))
        .with_allow_auto_topic_creation(may_create || version < 4);
    let answer = ask(node, version, &request, metadata::handle);
    assert_eq!(answer.brokers.len(), 1);
    assert_eq!((answer.brokers[0].host.as_str(), answer.brokers[0].port), ("localhost", 9092));
    let mut said = String::new();
    for topic in answer.topics {
        let (name, code) = (topic.name.unwrap_or_default(), topic.error_code);
        writeln!(said, "{} {code} {}", name.as_str(), topic.partitions.len()).unwrap();
    }
    said
}

#[test]
fn metadata_names_what_was_asked_for_in_each_version() {
    let mut node = node();
    create(&mut node, 7, false, vec![creatable("a.b", 3, 1, &[]), creatable("c", 1, 1, &[])]);
    for version in 0..=13 {
        if version > 0 {
            assert_eq!(metadata_of(&mut node, version, None, false), "a.b 0 3\nc 0 1\n", "version {version}");
        }
        let none = metadata_of(&mut node, version, Some(&[]), false);
        assert_eq!(none, if version == 0 { "a.b 0 3\nc 0 1\n" } else { "" }, "version {version}");
        let some = metadata_of(&mut node, version, Some(&["c", "a b", "c", "__consumer_offsets"]), true);
        assert_eq!(some, "c 0 1\na b 17 0\n__consumer_offsets 3 0\n", "version {version}");
        if version >= 4 {
            assert_eq!(metadata_of(&mut node, version, Some(&["nono"]), false), "nono 3 0\n", "version {version}");
        }
    }
    let all = ask(&mut node, 12, &MetadataRequest::default().with_topics(None), metadata::handle);
    assert_eq!(all.cluster_id.as_deref(), Some("AAAAAAAAAAAAAAAAAAAAAQ"));
    assert_eq!(all.controller_id, BrokerId(1));
    let partition = &all.topics[0].partitions[2];
    assert_eq!((partition.partition_index, partition.leader_id, partition.leader_epoch), (2, BrokerId(1), 0));
    assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&vec![BrokerId(1)], &vec![BrokerId(1)]));
}

#[test]
fn a_topic_is_made_by_its_first_use_if_that_is_allowed() {
    let mut node = node();
    assert_eq!(metadata_of(&mut node, 0, Some(&["by.it"]), true), "by.it 0 2\n");
    assert_eq!(metadata_of(&mut node, 12, Some(&["new"]), true), "new 0 2\n");
    assert_eq!(metadata_of(&mut node, 12, Some(&["by_it"]), true), "by_it 3 0\n", "it collides");
    assert_eq!(metadata_of(&mut node, 12, Some(&["other"]), false), "other 3 0\n");
    node.config.auto_create_topics = false;
    assert_eq!(metadata_of(&mut node, 12, Some(&["other"]), true), "other 3 0\n");
    assert_eq!(node.topics.iter().count(), 2);
}

#[test]
fn metadata_by_id_and_what_is_allowed() {
    let mut node = node();
    create(&mut node, 7, false, vec![creatable("a", 1, 1, &[])]);
    let id = node.topics.get("a").unwrap().id;
    let by = |name: Option<&str>, id| MetadataRequestTopic::default().with_name(name.map(topic)).with_topic_id(id);
    let mut said = |version, topics: Vec<MetadataRequestTopic>| {
        let request = MetadataRequest::default()
            .with_topics(Some(topics))
            .with_include_topic_authorized_operations(true)
            .with_include_cluster_authorized_operations(version <= 10);
        let answer = ask(&mut node, version, &request, metadata::handle);
        let mut said = format!("{} brokers, {}:", answer.brokers.len(), answer.cluster_authorized_operations);
        for topic in answer.topics {
            let name = topic.name.map_or("-".to_owned(), |name| name.to_string());
            write!(said, " {name} {} {}", topic.error_code, topic.topic_authorized_operations).unwrap();
        }
        said
    };
    let none = i32::MIN;
    assert_eq!(said(13, vec![by(None, id)]), format!("1 brokers, {none}: a 0 3576"));
    assert_eq!(said(12, vec![by(None, Uuid::max())]), format!("1 brokers, {none}: - 100 {none}"));
    assert_eq!(said(12, vec![by(Some("a"), Uuid::nil()), by(None, id)]), format!("1 brokers, {none}: a 0 3576"));
    assert_eq!(said(10, vec![by(Some("a"), Uuid::nil())]), "1 brokers, 8096: a 0 3576");
    // Ids are not understood before version 12, nor a topic without any.
    assert_eq!(said(11, vec![by(Some("a"), id)]), format!("0 brokers, {none}: a 42 {none}"));
    assert_eq!(said(10, vec![by(None, Uuid::nil())]), format!("0 brokers, {none}:  42 {none}"));
    assert_eq!(said(12, vec![by(None, Uuid::nil())]), format!("0 brokers, {none}: - 42 {none}"));
}

#[test]
fn the_cluster_is_one_node() {
    let mut node = node();
    let answer = ask(&mut node, 0, &DescribeClusterRequest::default(), describe_cluster::handle);
    assert_eq!((answer.error_code, answer.controller_id, answer.brokers.len()), (0, BrokerId(1), 1));
    assert_eq!(answer.cluster_authorized_operations, i32::MIN);
    let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
    let answer = ask(&mut node, 2, &request.with_include_fenced_brokers(true), describe_cluster::handle);
    assert_eq!((answer.cluster_authorized_operations, answer.cluster_id.as_str()), (8096, "AAAAAAAAAAAAAAAAAAAAAQ"));
    for (endpoint, code) in [(2, 114), (9, 115)] {
        let request = DescribeClusterRequest::default().with_endpoint_type(endpoint);
        let answer = ask(&mut node, 1, &request, describe_cluster::handle);
        assert_eq!((answer.error_code, answer.brokers.len()), (code, 0));
    }
}

#[test]
fn topics_are_described_in_pages() {
    let mut node = node();
    create(&mut node, 7, false, vec![creatable("a", 2, 1, &[]), creatable("c", 3, 1, &[])]);
    let mut check = |limit, cursor: Option<(&str, i32)>, names: &[&str], expected: &str| {
        let cursor =
            cursor.map(|(name, index)| Cursor::default().with_topic_name(topic(name)).with_partition_index(index));
        let request = DescribeTopicPartitionsRequest::default()
            .with_topics(names.iter().map(|name| TopicRequest::default().with_name(topic(name))).collect())
            .with_response_partition_limit(limit)
            .with_cursor(cursor);
        let answer = ask(&mut node, 0, &request, describe_topic_partitions::handle);
        let mut said = String::new();
        for topic in answer.topics {
            let partitions: Vec<i32> = topic.partitions.iter().map(|partition| partition.partition_index).collect();
            write!(said, "{} {} {partitions:?} ", topic.name.unwrap().as_str(), topic.error_code).unwrap();
        }
        if let Some(next) = answer.next_cursor {
            write!(said, "next {} {}", next.topic_name.as_str(), next.partition_index).unwrap();
        }
        assert_eq!(said.trim_end(), expected);
    };
    check(2000, None, &[], "a 0 [0, 1] c 0 [0, 1, 2]");
    check(2000, None, &["c", "nono", "a", "c"], "a 0 [0, 1] c 0 [0, 1, 2] nono 3 []");
    check(2000, None, &["a b"], "a b 17 []");
    check(3, None, &["a", "c"], "a 0 [0, 1] c 0 [0] next c 1");
    check(2, None, &["a", "c"], "a 0 [0, 1] next c 0");
    check(0, None, &["a", "c"], "a 0 [0] next a 1");
    check(-1, None, &[], "a 0 [0] next a 1");
    check(2000, Some(("c", 1)), &["a", "c"], "c 0 [1, 2]");
    check(2000, Some(("c", 9)), &["a", "c"], "c 0 []");
    check(2000, Some(("b", 1)), &["a", "c"], "a 42 [] c 42 []");
    check(2000, Some(("c", -1)), &["a", "c"], "a 42 [] c 42 []");
    check(1, Some(("b", 1)), &[], "c 0 [0] next c 1");
}

#[test]
fn records_are_deleted_up_to_the_end() {
    let mut node = node();
    create(&mut node, 7, false, vec![creatable("t", 1, 1, &[])]);
    let (log, settings) = node.topics.partition_mut("t", 0).unwrap();
    log.append(TestBatch::new(&["x"; 5], 1_000).build(), false, &settings, at(1_000)).unwrap();
    let mut check = |name: &str, partition, offset, expected| {
        let partition = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let asked = DeleteRecordsTopic::default().with_name(topic(name)).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![asked]);
        let answer = ask(&mut node, 2, &request, delete_records::handle).topics.remove(0).partitions.remove(0);
        assert_eq!((answer.low_watermark, answer.error_code), expected, "{name} {offset}");
    };
    check("t", 0, 0, (0, 0));
    check("t", 0, 3, (3, 0));
    check("t", 0, 2, (3, 0));
    check("t", 0, 6, (-1, 1));
    check("t", 0, -2, (-1, 1));
    check("t", 0, -1, (5, 0));
    check("t", 1, 0, (-1, 3));
    check("nono", 0, 0, (-1, 3));
}

#[test]
fn log_folders_are_described() {
    let mut node = node();
    create(&mut node, 7, false, vec![creatable("t", 2, 1, &[]), creatable("u", 1, 1, &[])]);
    let mut said = |topics: Option<Vec<DescribableLogDirTopic>>| {
        let answer =
            ask(&mut node, 4, &DescribeLogDirsRequest::default().with_topics(topics), describe_log_dirs::handle);
        let [folder] = &answer.results[..] else { panic!("one folder") };
        let topics = folder.topics.iter().map(|topic| {
            let partitions: Vec<i32> = topic.partitions.iter().map(|partition| partition.partition_index).collect();
            format!(" {}{partitions:?}", topic.name.as_str())
        });
        format!("{}{}", folder.log_dir, topics.collect::<String>())
    };
    assert_eq!(said(None), "memory t[0, 1] u[0]");
    let asked = |name| DescribableLogDirTopic::default().with_topic(topic(name)).with_partitions(vec![1, 7]);
    assert_eq!(said(Some(vec![asked("t"), asked("u"), asked("nono")])), "memory t[1]");
}

#[test]
fn every_request_can_be_refused_in_every_version() {
    for version in 0..=13 {
        let asked = MetadataRequestTopic::default().with_name(Some(topic("t")));
        let request = MetadataRequest::default().with_topics(Some(vec![asked]));
        assert_eq!(refused(version, &request, metadata::refuse).topics[0].error_code, 41);
    }
    for version in 2..=7 {
        let request = CreateTopicsRequest::default().with_topics(vec![creatable("t", 1, 1, &[])]);
        assert_eq!(refused(version, &request, create_topics::refuse).topics[0].error_code, 41);
    }
    for version in 1..=6 {
        let state = DeleteTopicState::default().with_name(Some(topic("t")));
        let request = match version {
            6 => DeleteTopicsRequest::default().with_topics(vec![state]),
            _ => DeleteTopicsRequest::default().with_topic_names(vec![topic("t")]),
        };
        assert_eq!(refused(version, &request, delete_topics::refuse).responses[0].error_code, 41);
    }
    for version in 0..=3 {
        let asked = CreatePartitionsTopic::default().with_name(topic("t"));
        let request = CreatePartitionsRequest::default().with_topics(vec![asked]);
        assert_eq!(refused(version, &request, create_partitions::refuse).results[0].error_code, 41);
    }
    for version in 1..=4 {
        let resource = DescribeConfigsResource::default().with_resource_type(2);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        assert_eq!(refused(version, &request, describe_configs::refuse).results[0].error_code, 41);
    }
    for version in 0..=2 {
        let request = AlterConfigsRequest::default().with_resources(vec![Default::default()]);
        assert_eq!(refused(version, &request, alter_configs::refuse).responses[0].error_code, 41);
        let partitions = vec![DeleteRecordsPartition::default()];
        let asked = DeleteRecordsTopic::default().with_partitions(partitions);
        let request = DeleteRecordsRequest::default().with_topics(vec![asked]);
        assert_eq!(refused(version, &request, delete_records::refuse).topics[0].partitions[0].error_code, 41);
        let request = DescribeClusterRequest::default();
        assert_eq!(refused(version, &request, describe_cluster::refuse).error_code, 41);
    }
    for version in 0..=1 {
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![Default::default()]);
        assert_eq!(refused(version, &request, incremental_alter_configs::refuse).responses[0].error_code, 41);
    }
    let request = DescribeTopicPartitionsRequest::default().with_topics(vec![TopicRequest::default()]);
    assert_eq!(refused(0, &request, describe_topic_partitions::refuse).topics[0].error_code, 41);
    for version in 3..=4 {
        let request = DescribeLogDirsRequest::default();
        assert_eq!(refused(version, &request, describe_log_dirs::refuse).error_code, 41);
    }
}
