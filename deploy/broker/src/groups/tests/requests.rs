//! The requests of the clients of [`world`](super::world), and their answers as text.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    CreateTopicsRequest, JoinGroupRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse, TopicName, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::world::Client;

pub(crate) fn create_topics(names: &[String]) -> CreateTopicsRequest {
    let topics = names.iter().map(|name| {
        CreatableTopic::default().with_name(TopicName(text(name))).with_num_partitions(3).with_replication_factor(1)
    });
    CreateTopicsRequest::default().with_topics(topics.collect()).with_timeout_ms(10_000)
}

pub(crate) fn metadata_topics(names: &[String]) -> Vec<MetadataRequestTopic> {
    names.iter().map(|name| MetadataRequestTopic::default().with_name(Some(TopicName(text(name))))).collect()
}

pub(crate) fn is_led(partition: &MetadataResponsePartition) -> bool {
    partition.error_code == 0
}

pub(crate) fn join(client: &Client, group: &str, prefix: &str) -> JoinGroupRequest {
    let protocols = client.protocols.iter().filter(|name| *name != "nothing");
    let protocols = protocols.map(|name| {
        let (name, topics) = name.split_once(':').unwrap_or((name, "t"));
        JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(subscription(topics, prefix))
    });
    JoinGroupRequest::default()
        .with_group_id(text(group).into())
        .with_member_id(text(&client.id))
        .with_group_instance_id(client.instance.as_deref().map(text))
        .with_protocol_type(text(&client.kind))
        .with_session_timeout_ms(client.session_ms)
        .with_rebalance_timeout_ms(client.rebalance_ms)
        .with_protocols(protocols.collect())
}

/// `assignments` are ids and parts.
pub(crate) fn sync(client: &Client, group: &str, assignments: Vec<(String, String)>) -> SyncGroupRequest {
    let assignments = assignments.into_iter().map(|(id, part)| {
        SyncGroupRequestAssignment::default().with_member_id(id.into()).with_assignment(part.into_bytes().into())
    });
    let told = |text_: &str| (client.version >= 5).then(|| text(text_));
    SyncGroupRequest::default()
        .with_group_id(text(group).into())
        .with_member_id(text(&client.id))
        .with_group_instance_id(client.instance.as_deref().map(text))
        .with_generation_id(client.generation)
        .with_protocol_type(told(&client.kind))
        .with_protocol_name(told(client.protocol.as_deref().unwrap_or("range")))
        .with_assignments(assignments.collect())
}

pub(crate) fn commit(client: &Client, group: &str, prefix: &str, offsets: &[&str]) -> OffsetCommitRequest {
    let topics = wishes(offsets, prefix).into_iter().map(|(topic, partition, offset, metadata)| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(if client.version >= 6 { 0 } else { -1 })
            .with_committed_metadata(metadata);
        OffsetCommitRequestTopic::default().with_name(topic).with_partitions(vec![partition])
    });
    OffsetCommitRequest::default()
        .with_group_id(text(group).into())
        .with_member_id(text(&client.id))
        .with_group_instance_id(client.instance.as_deref().map(text))
        .with_generation_id_or_member_epoch(client.generation)
        .with_topics(topics.collect())
}

/// Without the producer.
pub(crate) fn stage(client: &Client, group: &str, prefix: &str, offsets: &[&str]) -> TxnOffsetCommitRequest {
    let topics = wishes(offsets, prefix).into_iter().map(|(topic, partition, offset, metadata)| {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(0)
            .with_committed_metadata(metadata);
        TxnOffsetCommitRequestTopic::default().with_name(topic).with_partitions(vec![partition])
    });
    TxnOffsetCommitRequest::default()
        .with_group_id(text(group).into())
        .with_member_id(text(&client.id))
        .with_group_instance_id(client.instance.as_deref().map(text))
        .with_generation_id(client.generation)
        .with_topics(topics.collect())
}

pub(crate) fn delete_offsets(group: &str, prefix: &str, partitions: &[&str]) -> OffsetDeleteRequest {
    let topics = partitions.iter().map(|partition| {
        let (topic, partition) = topic_partition(partition, prefix);
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(partition);
        OffsetDeleteRequestTopic::default().with_name(topic).with_partitions(vec![partition])
    });
    OffsetDeleteRequest::default().with_group_id(text(group).into()).with_topics(topics.collect())
}

/// As versions 8 and later ask.
pub(crate) fn fetch_of_groups(group: &str, prefix: &str, partitions: &[&str], is_stable: bool) -> OffsetFetchRequest {
    let topics = partitions.iter().map(|partition| {
        let (topic, partition) = topic_partition(partition, prefix);
        OffsetFetchRequestTopics::default().with_name(topic).with_partition_indexes(vec![partition])
    });
    let topics = (partitions != ["all"]).then(|| topics.collect());
    let group = OffsetFetchRequestGroup::default().with_group_id(text(group).into()).with_topics(topics);
    OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(is_stable)
}

/// As versions before 8 ask.
pub(crate) fn fetch(group: &str, prefix: &str, partitions: &[&str], is_stable: bool) -> OffsetFetchRequest {
    let topics = partitions.iter().map(|partition| {
        let (topic, partition) = topic_partition(partition, prefix);
        OffsetFetchRequestTopic::default().with_name(topic).with_partition_indexes(vec![partition])
    });
    let topics = (partitions != ["all"]).then(|| topics.collect());
    OffsetFetchRequest::default().with_group_id(text(group).into()).with_topics(topics).with_require_stable(is_stable)
}

/// What versions 8 and later answer.
pub(crate) fn fetched_of_groups(response: &OffsetFetchResponse, prefix: &str) -> String {
    let mut offsets: Vec<String> = Vec::new();
    for topic in &response.groups[0].topics {
        for one in &topic.partitions {
            let metadata = one.metadata.as_deref().unwrap_or_default();
            let place = (topic.name.strip_prefix(prefix).unwrap(), one.partition_index);
            offsets.push(fetched_one(place, one.committed_offset, metadata, one.error_code));
        }
    }
    offsets.sort();
    offsets.join(" ")
}

/// What versions before 8 answer.
pub(crate) fn fetched(response: &OffsetFetchResponse, prefix: &str) -> String {
    let mut offsets: Vec<String> = Vec::new();
    for topic in &response.topics {
        for one in &topic.partitions {
            let metadata = one.metadata.as_deref().unwrap_or_default();
            let place = (topic.name.strip_prefix(prefix).unwrap(), one.partition_index);
            offsets.push(fetched_one(place, one.committed_offset, metadata, one.error_code));
        }
    }
    offsets.sort();
    offsets.join(" ")
}

fn fetched_one((topic, partition): (&str, i32), offset: i64, metadata: &str, error: i16) -> String {
    let place = format!("{topic}/{partition}");
    match ResponseError::try_from_code(error) {
        Some(error) => format!("{place} {error:?}"),
        None if offset == -1 => format!("{place}=none"),
        None if metadata.is_empty() => format!("{place}={offset}"),
        None => format!("{place}={offset} {metadata:?}"),
    }
}

pub(crate) fn synced(response: &SyncGroupResponse) -> String {
    match ResponseError::try_from_code(response.error_code) {
        Some(error) => format!("{error:?}"),
        None if response.assignment.is_empty() => "assigned nothing".to_owned(),
        None => format!("assigned {}", String::from_utf8_lossy(&response.assignment)),
    }
}

pub(crate) fn code(code: i16) -> String {
    ResponseError::try_from_code(code).map_or_else(|| "ok".to_owned(), |error| format!("{error:?}"))
}

pub(crate) fn codes(codes: impl Iterator<Item = i16>) -> String {
    codes.map(code).collect::<Vec<_>>().join(" ")
}

/// The codes of `TOPIC/PARTITION`s in the order in which they were asked for: brokers answer in any.
pub(crate) fn codes_of(asked: &[&str], prefix: &str, codes: BTreeMap<String, i16>) -> String {
    let places = asked.iter().filter(|word| word.contains('/')).map(|word| word.split('=').next().unwrap());
    self::codes(places.map(|place| codes[&format!("{prefix}{place}")]))
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// What a consumer says of itself: it reads these topics, `t+u`.
fn subscription(topics: &str, prefix: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(i32::try_from(topics.split('+').count()).unwrap());
    for topic in topics.split('+') {
        let topic = format!("{prefix}{topic}");
        bytes.put_i16(i16::try_from(topic.len()).unwrap());
        bytes.put_slice(topic.as_bytes());
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

/// `t/0=5` and behind it perhaps `"metadata"`.
fn wishes(offsets: &[&str], prefix: &str) -> Vec<(TopicName, i32, i64, Option<StrBytes>)> {
    let mut wishes = Vec::new();
    for word in offsets {
        match word.split_once('=') {
            Some((place, offset)) => {
                let (topic, partition) = topic_partition(place, prefix);
                wishes.push((topic, partition, offset.parse().unwrap(), None));
            }
            None => wishes.last_mut().unwrap().3 = Some(text(word.trim_matches('"'))),
        }
    }
    wishes
}

fn topic_partition(place: &str, prefix: &str) -> (TopicName, i32) {
    let (topic, partition) = place.split_once('/').unwrap();
    (TopicName(text(&format!("{prefix}{topic}"))), partition.parse().unwrap())
}

pub(crate) fn duration(time: &str) -> Duration {
    let (number, unit) = time.split_at(time.find(|c: char| c.is_ascii_alphabetic()).unwrap());
    let number: u64 = number.parse().unwrap();
    match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "min" => Duration::from_secs(60 * number),
        "h" => Duration::from_secs(3_600 * number),
        _ => panic!("what is {unit}?"),
    }
}

pub(crate) fn milliseconds(time: &str) -> i32 {
    i32::try_from(duration(time).as_millis()).unwrap()
}
