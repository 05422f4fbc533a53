//! Topics and their partitions: made, told, grown, deleted, and every refusal of it.

use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeGroupsRequest, DescribeProducersRequest, DescribeTransactionsRequest, FetchRequest,
    GroupId, MetadataRequest, OffsetFetchRequest,
};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use uuid::Uuid;

use crate::ask::{
    create_topics, delete_topic, metadata_of, new_topic, produce_values, topic, topic_named, values,
    wait_for_partitions,
};
use crate::clients::{block_on, config};
use crate::raw::{Connection, text, topic_name};
use crate::subject::{Subject, eventually, unique};

fn a_topic_is_made_with_what_was_asked_and_told_so(subject: &Subject) {
    let name = unique("made");
    let mut connection = Connection::open(subject);
    let settings = [("retention.ms", "123456"), ("cleanup.policy", "compact")];
    let made = create_topics(&mut connection, vec![new_topic(&name, 3, &settings)]).remove(0);
    assert_eq!((made.error_code, made.num_partitions, made.replication_factor), (0, 3, 1));
    assert_eq!(made.name.as_str(), name);
    let configs = made.configs.unwrap();
    let told = |key: &str| {
        let config = configs.iter().find(|config| config.name.as_str() == key).unwrap();
        (config.value.as_ref().unwrap().to_string(), config.config_source)
    };
    assert_eq!(told("retention.ms"), ("123456".to_owned(), 1), "1: set for the topic");
    assert_eq!(told("cleanup.policy"), ("compact".to_owned(), 1));
    assert_eq!(told("delete.retention.ms"), ("86400000".to_owned(), 5), "5: the default");

    wait_for_partitions(&mut connection, &name, 3);
    let topic = metadata_of(&mut connection, &name);
    assert_eq!(topic.topic_id, made.topic_id);
    assert!(!topic.topic_id.is_nil() && !topic.is_internal);
    let mut partitions = topic.partitions;
    partitions.sort_by_key(|partition| partition.partition_index);
    for (index, partition) in partitions.iter().enumerate() {
        assert_eq!((partition.partition_index, partition.error_code), (index as i32, 0));
        assert_eq!((partition.leader_id, partition.leader_epoch), (BrokerId(1), 0));
        assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&vec![BrokerId(1)], &vec![BrokerId(1)]));
        assert!(partition.offline_replicas.is_empty());
    }
}

fn a_topic_that_cannot_be_made_is_refused_by_its_own_error(subject: &Subject) {
    let mut connection = Connection::open(subject);
    let existing = topic(subject, "existing.topic", 1, &[]);
    let twin = existing.replace('.', "_");
    let replicated = new_topic(&unique("new"), 1, &[]).with_replication_factor(2);
    let on_broker = |brokers: &[i32], index| {
        let brokers = brokers.iter().map(|broker| BrokerId(*broker)).collect();
        CreatableReplicaAssignment::default().with_partition_index(index).with_broker_ids(brokers)
    };
    let assigned = |assignments: Vec<CreatableReplicaAssignment>| {
        new_topic(&unique("new"), -1, &[]).with_replication_factor(-1).with_assignments(assignments)
    };
    let longest = "x".repeat(249);
    let cases: Vec<(&str, CreatableTopic, i16)> = vec![
        ("an empty name", new_topic("", 1, &[]), 17),
        ("a dot", new_topic(".", 1, &[]), 17),
        ("two dots", new_topic("..", 1, &[]), 17),
        ("a blank", new_topic("a b", 1, &[]), 17),
        ("a letter that is not ASCII", new_topic("zähler", 1, &[]), 17),
        ("250 characters", new_topic(&"x".repeat(250), 1, &[]), 17),
        ("249 characters", new_topic(&longest, 1, &[]), 0),
        ("a name that exists", new_topic(&existing, 1, &[]), 36),
        ("a name that differs by dot and underscore", new_topic(&twin, 1, &[]), 17),
        ("no partitions", new_topic(&unique("new"), 0, &[]), 37),
        ("-2 partitions", new_topic(&unique("new"), -2, &[]), 37),
        ("the default number of partitions", new_topic(&unique("new"), -1, &[]).with_replication_factor(-1), 0),
        ("two replicas", replicated, 38),
        ("no replicas", new_topic(&unique("new"), 1, &[]).with_replication_factor(0), 38),
        ("an unknown setting", new_topic(&unique("new"), 1, &[("retention.hours", "1")]), 40),
        ("a word for a number", new_topic(&unique("new"), 1, &[("retention.ms", "long")]), 40),
        ("a number out of range", new_topic(&unique("new"), 1, &[("segment.bytes", "1")]), 40),
        ("an unknown policy", new_topic(&unique("new"), 1, &[("cleanup.policy", "burn")]), 40),
        ("partitions by assignment", assigned(vec![on_broker(&[1], 0), on_broker(&[1], 1)]), 0),
        ("an unknown broker", assigned(vec![on_broker(&[7], 0)]), 39),
        ("a broker twice", assigned(vec![on_broker(&[1, 1], 0)]), 39),
        ("a gap in the assignment", assigned(vec![on_broker(&[1], 1)]), 39),
        ("number and assignment", assigned(vec![on_broker(&[1], 0)]).with_num_partitions(1), 42),
    ];
    for (what, topic, error) in cases {
        let name = topic.name.clone();
        let result = create_topics(&mut connection, vec![topic]).remove(0);
        assert_eq!(result.error_code, error, "{what}: {:?}", result.error_message);
        assert_eq!(result.name, name);
        assert_eq!(result.error_message.is_some(), error != 0, "{what}");
    }
    delete_topic(subject, &longest);
}

fn one_bad_topic_does_not_spoil_the_others_of_its_request(subject: &Subject) {
    let mut connection = Connection::open(subject);
    let (good, twice) = (unique("good"), unique("twice"));
    let topics = vec![
        new_topic(&good, 1, &[]),
        new_topic("not good", 1, &[]),
        new_topic(&twice, 1, &[]),
        new_topic(&twice, 2, &[]),
    ];
    let results = create_topics(&mut connection, topics);
    let error = |name: &str| results.iter().find(|result| result.name.as_str() == name).unwrap().error_code;
    assert_eq!((error(&good), error("not good"), error(&twice)), (0, 17, 42));
    wait_for_partitions(&mut connection, &good, 1);
    assert_eq!(metadata_of(&mut connection, &twice).error_code, 3);
}

fn a_rehearsal_makes_nothing(subject: &Subject) {
    let mut connection = Connection::open(subject);
    let name = unique("rehearsed");
    let request = |name: &str, partitions| {
        CreateTopicsRequest::default()
            .with_topics(vec![new_topic(name, partitions, &[])])
            .with_timeout_ms(30_000)
            .with_validate_only(true)
    };
    let result = connection.ask(7, request(&name, 2)).topics.remove(0);
    assert_eq!((result.error_code, result.num_partitions), (0, 2));
    assert_eq!(connection.ask(7, request(&name, 0)).topics[0].error_code, 37);
    assert_eq!(metadata_of(&mut connection, &name).error_code, 3, "UNKNOWN_TOPIC_OR_PARTITION");
    topic_named(subject, &name, 1, &[]);
    assert_eq!(connection.ask(7, request(&name, 2)).topics[0].error_code, 36, "TOPIC_ALREADY_EXISTS");
}

fn partitions_are_added_and_never_taken(subject: &Subject) {
    let mut connection = Connection::open(subject);
    let name = topic(subject, "grows", 2, &[]);
    produce_values(&mut connection, &name, 1, &["before"]);
    let grow = |name: &str, count, assignments: Option<Vec<i32>>, validate_only| {
        let assignment = |broker| CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(broker)]);
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name(name))
            .with_count(count)
            .with_assignments(assignments.map(|brokers| brokers.into_iter().map(assignment).collect()));
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000)
            .with_validate_only(validate_only);
        Connection::open(subject).ask(3, request).results.remove(0).error_code
    };
    assert_eq!(grow(&name, 2, None, false), 37, "as many as there are");
    assert_eq!(grow(&name, 1, None, false), 37, "fewer");
    assert_eq!(grow(&name, 0, None, false), 37, "none");
    assert_eq!(grow(&unique("unknown"), 2, None, false), 3);
    assert_eq!(grow(&name, 4, None, true), 0, "a rehearsal");
    assert_eq!(grow(&name, 4, Some(vec![1]), false), 39, "two are new, one is assigned");
    assert_eq!(grow(&name, 3, Some(vec![9]), false), 39, "an unknown broker");
    assert_eq!(metadata_of(&mut connection, &name).partitions.len(), 2);
    assert_eq!(grow(&name, 4, None, false), 0);
    wait_for_partitions(&mut connection, &name, 4);
    produce_values(&mut connection, &name, 3, &["after"]);
    assert_eq!(values(&mut connection, &name, 1, 0), ["before"]);
    assert_eq!(values(&mut connection, &name, 3, 0), ["after"]);
}

fn a_deleted_topic_is_gone_and_its_name_is_free(subject: &Subject) {
    let mut connection = Connection::open(subject);
    let name = topic(subject, "deleted", 2, &[]);
    produce_values(&mut connection, &name, 0, &["old", "older"]);
    let old = metadata_of(&mut connection, &name);
    delete_topic(subject, &name);
    topic_named(subject, &name, 1, &[]);
    let new = metadata_of(&mut connection, &name);
    assert_ne!(old.topic_id, new.topic_id);
    assert_eq!(values(&mut connection, &name, 0, 0), [""; 0]);
    assert_eq!(produce_values(&mut connection, &name, 0, &["new"]), 0);

    let by_id = |id: Uuid| {
        let wanted = FetchPartition::default().with_partition_max_bytes(1_000);
        FetchRequest::default()
            .with_max_wait_ms(0)
            .with_topics(vec![FetchTopic::default().with_topic_id(id).with_partitions(vec![wanted])])
    };
    let answer = connection.ask(13, by_id(old.topic_id));
    assert_eq!(answer.responses[0].partitions[0].error_code, 100, "UNKNOWN_TOPIC_ID");
    let answer = connection.ask(13, by_id(new.topic_id));
    assert_eq!((answer.error_code, answer.responses[0].partitions[0].error_code), (0, 0));
}

fn topics_are_deleted_by_name_or_by_id(subject: &Subject) {
    let mut connection = Connection::open(subject);
    let (by_name, by_id) = (topic(subject, "by-name", 1, &[]), topic(subject, "by-id", 1, &[]));
    let id = metadata_of(&mut connection, &by_id).topic_id;
    let named = |name: &str| DeleteTopicState::default().with_name(Some(topic_name(name)));
    let identified = |id| DeleteTopicState::default().with_topic_id(id);
    let mut delete = |states| {
        let request = DeleteTopicsRequest::default().with_topics(states).with_timeout_ms(30_000);
        let mut responses = connection.ask(6, request).responses;
        responses.sort_by_key(|response| response.error_code);
        responses.into_iter().map(|r| (r.error_code, r.name.map(|name| name.to_string()))).collect::<Vec<_>>()
    };
    let answers = delete(vec![named(&by_name), identified(id)]);
    assert!(answers.iter().all(|(error, _)| *error == 0), "{answers:?}");
    assert!(answers.iter().any(|(_, name)| name.as_deref() == Some(&by_id)), "the name is told for an id");
    for name in [&by_name, &by_id] {
        eventually("it is gone", || (metadata_of(&mut Connection::open(subject), name).error_code == 3).then_some(()));
    }
    assert_eq!(delete(vec![named(&by_name)]), [(3, Some(by_name.clone()))], "UNKNOWN_TOPIC_OR_PARTITION");
    assert_eq!(delete(vec![identified(id)]), [(100, None)], "UNKNOWN_TOPIC_ID");
}

fn metadata_tells_all_some_or_no_topics_and_the_broker(subject: &Subject) {
    let mut connection = Connection::open(subject);
    let name = topic(subject, "told", 2, &[]);
    let id = metadata_of(&mut connection, &name).topic_id;
    let all = connection.ask(12, MetadataRequest::default().with_topics(None));
    assert!(all.topics.iter().any(|topic| topic.name.as_ref().unwrap().as_str() == name));
    let brokers: Vec<_> = all.brokers.iter().map(|b| (b.node_id.0, b.host.to_string(), b.port)).collect();
    assert_eq!(brokers, [(1, "127.0.0.1".to_owned(), i32::from(subject.port()))]);
    assert_eq!(all.controller_id, BrokerId(1));
    let none = connection.ask(12, MetadataRequest::default().with_topics(Some(Vec::new())));
    assert!(none.topics.is_empty());

    let by_id = |id| {
        let wanted = MetadataRequestTopic::default().with_topic_id(id).with_name(None);
        MetadataRequest::default().with_topics(Some(vec![wanted])).with_allow_auto_topic_creation(false)
    };
    let told = connection.ask(12, by_id(id)).topics.remove(0);
    assert_eq!((told.error_code, told.name.unwrap().as_str(), told.topic_id), (0, name.as_str(), id));
    let unknown = Uuid::from_u128(77);
    let told = connection.ask(12, by_id(unknown)).topics.remove(0);
    assert_eq!((told.error_code, told.name, told.topic_id), (100, None, unknown), "UNKNOWN_TOPIC_ID");

    let cluster = connection.ask(1, DescribeClusterRequest::default());
    assert_eq!(cluster.error_code, 0);
    assert_eq!(Some(&cluster.cluster_id), all.cluster_id.as_ref());
    assert_eq!(cluster.cluster_id.len(), 22, "16 bytes in base64");
    let brokers: Vec<_> = cluster.brokers.iter().map(|b| (b.broker_id.0, b.host.to_string(), b.port)).collect();
    assert_eq!(brokers, [(1, "127.0.0.1".to_owned(), i32::from(subject.port()))]);
}

fn what_is_named_twice_is_answered_twice_but_for_topics_metadata(subject: &Subject) {
    let topic = topic(subject, "twice", 1, &[]);
    let mut connection = Connection::open(subject);
    let by_name = MetadataRequestTopic::default().with_name(Some(topic_name(&topic)));
    let by_id = MetadataRequestTopic::default().with_topic_id(metadata_of(&mut connection, &topic).topic_id);
    for wanted in [by_name, by_id.with_name(None)] {
        let request = MetadataRequest::default().with_topics(Some(vec![wanted; 2]));
        assert_eq!(connection.ask(12, request).topics.len(), 1);
    }
    let group = GroupId(text(&unique("twice")));
    let request = DescribeGroupsRequest::default().with_groups(vec![group.clone(); 2]);
    assert_eq!(connection.ask(5, request).groups.len(), 2, "groups");
    let topics = OffsetFetchRequestTopics::default().with_name(topic_name(&topic)).with_partition_indexes(vec![0, 0]);
    let wanted = OffsetFetchRequestGroup::default().with_group_id(group).with_topics(Some(vec![topics; 2]));
    let groups = connection.ask(8, OffsetFetchRequest::default().with_groups(vec![wanted; 2])).groups;
    let counts = groups.iter().map(|group| (group.topics.len(), group.topics[0].partitions.len())).collect::<Vec<_>>();
    assert_eq!(counts, [(2, 2), (2, 2)], "offsets");
    let wanted = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text(&topic));
    let request = DescribeConfigsRequest::default().with_resources(vec![wanted; 2]);
    assert_eq!(connection.ask(4, request).results.len(), 2, "settings");
    let wanted = TopicRequest::default().with_name(topic_name(&topic)).with_partition_indexes(vec![0, 0]);
    let topics = connection.ask(0, DescribeProducersRequest::default().with_topics(vec![wanted; 2])).topics;
    let counts = topics.iter().map(|topic| topic.partitions.len()).collect::<Vec<_>>();
    assert_eq!(counts, [2, 2], "producers");
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![text("twice").into(); 2]);
    assert_eq!(connection.ask(0, request).transaction_states.len(), 2, "transactions");
}

fn a_topic_is_made_by_its_first_use_where_the_client_wants_that(subject: &Subject) {
    let mut connection = Connection::open(subject);
    let name = unique("first-use");
    assert_eq!(metadata_of(&mut connection, &name).error_code, 3);
    let wanted = MetadataRequestTopic::default().with_name(Some(topic_name(&name)));
    let request = MetadataRequest::default().with_topics(Some(vec![wanted])).with_allow_auto_topic_creation(true);
    // The topic may be there at once, or its partitions a moment later (UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE).
    let first = connection.ask(12, request).topics.remove(0).error_code;
    assert!([0, 3, 5].contains(&first), "{first}");
    wait_for_partitions(&mut connection, &name, 1);

    let bad = MetadataRequestTopic::default().with_name(Some(topic_name("not a name")));
    let request = MetadataRequest::default().with_topics(Some(vec![bad])).with_allow_auto_topic_creation(true);
    assert_eq!(connection.ask(12, request).topics[0].error_code, 17, "INVALID_TOPIC_EXCEPTION");
}

fn rdkafkas_admin_client_makes_grows_and_deletes_topics(subject: &Subject) {
    let admin: AdminClient<DefaultClientContext> = config(subject, &[]).create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(crate::subject::PATIENCE));
    let name = unique("by-rdkafka");
    let wanted = NewTopic::new(&name, 2, TopicReplication::Fixed(1)).set("retention.ms", "60000");
    assert_eq!(block_on(admin.create_topics([&wanted], &options)).unwrap(), [Ok(name.clone())]);
    let again = block_on(admin.create_topics([&wanted], &options)).unwrap();
    assert_eq!(again, [Err((name.clone(), RDKafkaErrorCode::TopicAlreadyExists))]);
    let more = NewPartitions::new(&name, 5);
    assert_eq!(block_on(admin.create_partitions([&more], &options)).unwrap(), [Ok(name.clone())]);
    wait_for_partitions(&mut Connection::open(subject), &name, 5);
    assert_eq!(block_on(admin.delete_topics(&[&name], &options)).unwrap(), [Ok(name.clone())]);
    eventually("it is gone", || (metadata_of(&mut Connection::open(subject), &name).error_code == 3).then_some(()));
    let again = block_on(admin.delete_topics(&[&name], &options)).unwrap();
    assert_eq!(again, [Err((name, RDKafkaErrorCode::UnknownTopicOrPartition))]);
}

on_both!(
    a_topic_is_made_with_what_was_asked_and_told_so,
    a_topic_that_cannot_be_made_is_refused_by_its_own_error,
    one_bad_topic_does_not_spoil_the_others_of_its_request,
    a_rehearsal_makes_nothing,
    partitions_are_added_and_never_taken,
    a_deleted_topic_is_gone_and_its_name_is_free,
    topics_are_deleted_by_name_or_by_id,
    metadata_tells_all_some_or_no_topics_and_the_broker,
    what_is_named_twice_is_answered_twice_but_for_topics_metadata,
    a_topic_is_made_by_its_first_use_where_the_client_wants_that,
    rdkafkas_admin_client_makes_grows_and_deletes_topics,
);
