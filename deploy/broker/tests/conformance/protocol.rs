//! The protocol itself: which versions there are, that each is answered in its own schema, and what is no request at all.

use bytes::{Buf as _, BufMut as _, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable as _, Request};
use uuid::Uuid;

use crate::ask::{metadata_of, new_topic, produce_request, topic, values};
use crate::raw::{Author, Connection, batch, text, topic_name};
use crate::subject::{GROUP, Subject, TRANSACTION, unique};

const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REQUEST: i16 = 42;

/// `(key, least, greatest)` of each API.
fn versions(connection: &mut Connection) -> Vec<(i16, i16, i16)> {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(text("conformance"))
        .with_client_software_version(text("1.0"));
    let response = connection.ask(3, request);
    assert_eq!(response.error_code, 0);
    response.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect()
}

/// What librdkafka 2.12 and the Java client 4.1 ask: a version that they know is among those answered.
fn the_clients_of_today_find_their_versions(subject: &Subject) {
    let told = versions(&mut Connection::open(subject));
    for (key, wanted) in [
        (ApiKey::Produce, 3..=8),
        (ApiKey::Fetch, 4..=12),
        (ApiKey::ListOffsets, 1..=7),
        (ApiKey::Metadata, 4..=12),
        (ApiKey::OffsetCommit, 2..=8),
        (ApiKey::OffsetFetch, 1..=8),
        (ApiKey::FindCoordinator, 0..=4),
        (ApiKey::JoinGroup, 2..=9),
        (ApiKey::Heartbeat, 0..=4),
        (ApiKey::LeaveGroup, 0..=5),
        (ApiKey::SyncGroup, 0..=5),
        (ApiKey::DescribeGroups, 0..=5),
        (ApiKey::ListGroups, 0..=4),
        (ApiKey::ApiVersions, 0..=3),
        (ApiKey::CreateTopics, 2..=7),
        (ApiKey::DeleteTopics, 1..=6),
        (ApiKey::DeleteRecords, 0..=2),
        (ApiKey::InitProducerId, 0..=4),
        (ApiKey::OffsetForLeaderEpoch, 2..=4),
        (ApiKey::AddPartitionsToTxn, 0..=3),
        (ApiKey::AddOffsetsToTxn, 0..=3),
        (ApiKey::EndTxn, 0..=3),
        (ApiKey::TxnOffsetCommit, 0..=3),
        (ApiKey::DescribeConfigs, 1..=4),
        (ApiKey::AlterConfigs, 0..=2),
        (ApiKey::CreatePartitions, 0..=3),
        (ApiKey::DeleteGroups, 0..=2),
        (ApiKey::IncrementalAlterConfigs, 0..=1),
        (ApiKey::DescribeCluster, 0..=1),
        (ApiKey::DescribeProducers, 0..=0),
        (ApiKey::DescribeTransactions, 0..=0),
        (ApiKey::ListTransactions, 0..=1),
    ] {
        let of_key = told.iter().find(|(told, ..)| *told == key as i16);
        let (_, min, max) = of_key.unwrap_or_else(|| panic!("{key:?}"));
        assert!(min <= wanted.start() && max >= wanted.end(), "{key:?}: {min} to {max}");
    }
}

/// A client that is too new is answered in version 0, with the versions of ApiVersions itself (KIP-511).
fn an_unknown_version_of_apiversions_is_answered_with_those_that_are_known(subject: &Subject) {
    let mut connection = Connection::open(subject);
    let mut frame = BytesMut::new();
    frame.put_i16(ApiKey::ApiVersions as i16);
    frame.put_i16(99);
    frame.put_i32(7);
    frame.put_i16(-1);
    frame.put_slice(b"\0whatever a later version has");
    connection.send_frame(&frame);
    let mut answer = connection.read_frame().unwrap();
    assert_eq!(answer.get_i32(), 7, "the correlation id, in a header without tagged fields");
    let response = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!(response.error_code, UNSUPPORTED_VERSION);
    let told = response.api_keys.iter().find(|api| api.api_key == ApiKey::ApiVersions as i16).unwrap();
    assert!(told.min_version == 0 && told.max_version >= 3);
    assert!(!versions(&mut connection).is_empty(), "and the connection goes on");

    let nameless = connection.ask(3, ApiVersionsRequest::default());
    assert_eq!(nameless.error_code, INVALID_REQUEST, "a client of version 3 says its name");
}

/// What is no request ends its connection, and no other.
fn what_is_no_request_closes_its_connection_and_nothing_else(subject: &Subject) {
    let mut other = Connection::open(subject);
    let header = |key: i16, version: i16| {
        let mut frame = BytesMut::new();
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_i32(1);
        frame.put_i16(-1);
        frame
    };
    let with_length = |length: i32, frame: &[u8]| [&length.to_be_bytes()[..], frame].concat();
    let whole = |frame: &[u8]| with_length(i32::try_from(frame.len()).unwrap(), frame);
    let mut bad_count = header(ApiKey::Metadata as i16, 1);
    bad_count.put_i32(i32::MAX);
    let cases: [(&str, Vec<u8>); 8] = [
        ("an API that nobody knows", whole(&header(999, 0))),
        ("a version of Metadata that nobody knows", whole(&header(ApiKey::Metadata as i16, 99))),
        ("a negative version", whole(&header(ApiKey::Metadata as i16, -1))),
        ("a negative length", with_length(-1, b"")),
        ("a length beyond all bounds", with_length(i32::MAX, b"")),
        ("a frame that is too short", whole(b"\0\x03\0")),
        ("a frame without its body", whole(&header(ApiKey::Metadata as i16, 1))),
        ("more topics than there are bytes", whole(&bad_count)),
    ];
    for (what, bytes) in cases {
        let mut connection = Connection::open(subject);
        connection.send_bytes(&bytes);
        assert!(connection.is_closed_by_broker(), "{what}");
    }
    assert!(!versions(&mut other).is_empty());
}

fn without_acknowledgement_nothing_is_answered(subject: &Subject) {
    let topic = topic(subject, "acks", 1, &[]);
    let mut connection = Connection::open(subject);
    let request = |acks, value| produce_request(&topic, 0, None, batch(Author::PLAIN, &[value])).with_acks(acks);
    connection.start(9, &request(0, "silent"));
    let answer = connection.ask(9, request(1, "answered"));
    assert_eq!(answer.responses[0].partition_responses[0].base_offset, 1, "the next answer is the next request's");
    let answer = connection.ask(9, request(2, "refused"));
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 21, "INVALID_REQUIRED_ACKS");
    assert_eq!(values(&mut connection, &topic, 0, 0), ["silent", "answered"]);
}

fn coordinators_are_found_one_by_one_or_many_at_once(subject: &Subject) {
    let mut connection = Connection::open(subject);
    let place = (1, "127.0.0.1".to_owned(), i32::from(subject.port()));
    for key_type in [GROUP, TRANSACTION] {
        let keys = [unique("one"), unique("two"), unique("three")];
        let request = FindCoordinatorRequest::default()
            .with_key_type(key_type)
            .with_coordinator_keys(keys.iter().map(|key| text(key)).collect());
        let found = connection.ask(4, request).coordinators;
        assert_eq!(found.iter().map(|found| found.key.to_string()).collect::<Vec<_>>(), keys);
        for found in found {
            assert_eq!((found.error_code, (found.node_id.0, found.host.to_string(), found.port)), (0, place.clone()));
        }
        let request = FindCoordinatorRequest::default().with_key(text(&keys[0])).with_key_type(key_type);
        let found = connection.ask(3, request);
        assert_eq!((found.error_code, (found.node_id.0, found.host.to_string(), found.port)), (0, place.clone()));
    }
    let request = FindCoordinatorRequest::default().with_key_type(9).with_coordinator_keys(vec![text("x")]);
    assert_eq!(connection.ask(4, request).coordinators[0].error_code, INVALID_REQUEST, "no such kind of coordinator");
}

/// Asks in every version that both this broker and this test know; each answer is read to its last byte.
fn every<R: Request>(subject: &Subject, told: &[(i16, i16, i16)], make: impl Fn(i16) -> R) {
    let Some((_, min, max)) = told.iter().find(|(key, ..)| *key == R::KEY) else { panic!("API {}", R::KEY) };
    let known = R::VERSIONS;
    let mut connection = Connection::open(subject);
    for version in (*min).max(known.min)..=(*max).min(known.max) {
        let _ = connection.ask(version, make(version));
    }
}

fn every_version_is_answered_in_its_own_schema(subject: &Subject) {
    let topic = topic(subject, "versions", 1, &[]);
    let id = metadata_of(&mut Connection::open(subject), &topic).topic_id;
    let told = versions(&mut Connection::open(subject));
    of_records(subject, &told, &topic, id);
    of_topics(subject, &told, &topic);
    of_groups(subject, &told, &topic);
    of_transactions(subject, &told, &topic);
}

fn of_records(subject: &Subject, told: &[(i16, i16, i16)], topic: &str, id: Uuid) {
    every(subject, told, |version| {
        let data = PartitionProduceData::default().with_records(Some(batch(Author::PLAIN, &["x"])));
        let wanted = TopicProduceData::default().with_partition_data(vec![data]);
        let wanted = if version >= 13 { wanted.with_topic_id(id) } else { wanted.with_name(topic_name(topic)) };
        ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![wanted])
    });
    every(subject, told, |version| {
        let wanted = FetchPartition::default().with_partition_max_bytes(1 << 20);
        let wanted = FetchTopic::default().with_partitions(vec![wanted]);
        let wanted = if version >= 13 { wanted.with_topic_id(id) } else { wanted.with_topic(topic_name(topic)) };
        FetchRequest::default().with_max_wait_ms(0).with_topics(vec![wanted])
    });
    every(subject, told, |_| {
        let wanted = ListOffsetsPartition::default().with_timestamp(-1);
        let wanted = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![wanted]);
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![wanted])
    });
    every(subject, told, |_| {
        let wanted = OffsetForLeaderPartition::default();
        let wanted = OffsetForLeaderTopic::default().with_topic(topic_name(topic)).with_partitions(vec![wanted]);
        OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![wanted])
    });
    every(subject, told, |_| DeleteRecordsRequest::default());
}

fn of_topics(subject: &Subject, told: &[(i16, i16, i16)], topic: &str) {
    every(subject, told, |version| {
        let request = ApiVersionsRequest::default();
        if version < 3 {
            return request;
        }
        request.with_client_software_name(text("conformance")).with_client_software_version(text("1"))
    });
    every(subject, told, |version| {
        let wanted = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
        // Versions before 4 have no such field, and ask for it.
        MetadataRequest::default().with_topics(Some(vec![wanted])).with_allow_auto_topic_creation(version < 4)
    });
    every(subject, told, |_| CreateTopicsRequest::default().with_topics(vec![new_topic(&unique("v"), 1, &[])]));
    every(subject, told, |version| {
        let request = DeleteTopicsRequest::default().with_timeout_ms(1_000);
        if version >= 6 {
            return request.with_topics(vec![DeleteTopicState::default().with_name(Some(topic_name("no-such-topic")))]);
        }
        request.with_topic_names(vec![topic_name("no-such-topic")])
    });
    every(subject, told, |_| CreatePartitionsRequest::default());
    every(subject, told, |_| {
        let wanted = describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(topic))
            .with_configuration_keys(None);
        DescribeConfigsRequest::default().with_resources(vec![wanted])
    });
    every(subject, told, |_| AlterConfigsRequest::default());
    every(subject, told, |_| IncrementalAlterConfigsRequest::default());
    every(subject, told, |_| DescribeClusterRequest::default());
}

fn of_groups(subject: &Subject, told: &[(i16, i16, i16)], topic: &str) {
    let group = || GroupId(text("group-of-versions"));
    every(subject, told, |version| {
        let request = FindCoordinatorRequest::default();
        if version >= 4 { request.with_coordinator_keys(vec![text("x")]) } else { request.with_key(text("x")) }
    });
    every(subject, told, |_| {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(crate::member::subscription_to("some-topic"));
        JoinGroupRequest::default()
            .with_group_id(GroupId(text(&unique("joined"))))
            .with_session_timeout_ms(1_000)
            .with_rebalance_timeout_ms(1_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol])
    });
    every(subject, told, |_| SyncGroupRequest::default().with_group_id(group()).with_member_id(text("x")));
    every(subject, told, |_| HeartbeatRequest::default().with_group_id(group()).with_member_id(text("x")));
    every(subject, told, |version| {
        let request = LeaveGroupRequest::default().with_group_id(group());
        if version < 3 {
            return request.with_member_id(text("x"));
        }
        request.with_members(vec![leave_group_request::MemberIdentity::default().with_member_id(text("x"))])
    });
    every(subject, told, |_| {
        let wanted = OffsetCommitRequestPartition::default().with_committed_metadata(Some(text("m")));
        let wanted = OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![wanted]);
        OffsetCommitRequest::default()
            .with_group_id(group())
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![wanted])
    });
    every(subject, told, |version| {
        if version >= 8 {
            let wanted =
                OffsetFetchRequestTopics::default().with_name(topic_name(topic)).with_partition_indexes(vec![0]);
            let wanted = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(Some(vec![wanted]));
            return OffsetFetchRequest::default().with_groups(vec![wanted]);
        }
        let wanted = OffsetFetchRequestTopic::default().with_name(topic_name(topic)).with_partition_indexes(vec![0]);
        OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![wanted]))
    });
    every(subject, told, |_| DescribeGroupsRequest::default().with_groups(vec![group()]));
    every(subject, told, |_| ListGroupsRequest::default());
    every(subject, told, |_| DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("no-such-group"))]));
}

fn of_transactions(subject: &Subject, told: &[(i16, i16, i16)], topic: &str) {
    let id = || TransactionalId(text("no-such-transaction"));
    every(subject, told, |_| InitProducerIdRequest::default().with_transaction_timeout_ms(1_000));
    every(subject, told, |version| {
        let wanted = AddPartitionsToTxnTopic::default().with_name(topic_name(topic)).with_partitions(vec![0]);
        if version < 4 {
            return AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(id())
                .with_v3_and_below_topics(vec![wanted]);
        }
        let wanted = AddPartitionsToTxnTransaction::default().with_transactional_id(id()).with_topics(vec![wanted]);
        AddPartitionsToTxnRequest::default().with_transactions(vec![wanted])
    });
    every(subject, told, |_| {
        AddOffsetsToTxnRequest::default().with_transactional_id(id()).with_group_id(GroupId(text("x")))
    });
    every(subject, told, |_| EndTxnRequest::default().with_transactional_id(id()));
    every(subject, told, |_| {
        TxnOffsetCommitRequest::default().with_transactional_id(id()).with_group_id(GroupId(text("x")))
    });
    every(subject, told, |_| DescribeTransactionsRequest::default().with_transactional_ids(vec![id()]));
    every(subject, told, |_| ListTransactionsRequest::default());
    every(subject, told, |_| {
        let wanted = TopicRequest::default().with_name(topic_name(topic)).with_partition_indexes(vec![0]);
        DescribeProducersRequest::default().with_topics(vec![wanted])
    });
}

on_both!(
    the_clients_of_today_find_their_versions,
    an_unknown_version_of_apiversions_is_answered_with_those_that_are_known,
    what_is_no_request_closes_its_connection_and_nothing_else,
    without_acknowledgement_nothing_is_answered,
    coordinators_are_found_one_by_one_or_many_at_once,
    every_version_is_answered_in_its_own_schema,
);
