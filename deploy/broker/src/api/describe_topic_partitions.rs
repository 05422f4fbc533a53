//! `DescribeTopicPartitions`: topics with their partitions, in pages (KIP-966). The Java admin client of Kafka 4 asks it.
//!
//! Source: `DescribeTopicPartitionsRequestHandler` of Apache Kafka.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Context, authorized_operations};
use crate::node::{LEADER_EPOCH, NODE_ID, Node};
use crate::topics::{Topic, Topics, name};

/// Partitions of one answer, at most (`max.request.partition.size.limit`).
const PARTITIONS_MAX: i32 = 2_000;

pub(crate) fn handle(
    node: &mut Node,
    request: DescribeTopicPartitionsRequest,
    context: &Context,
) -> DescribeTopicPartitionsResponse {
    let first = request.cursor.as_ref().map(|cursor| (cursor.topic_name.as_str(), cursor.partition_index));
    let mut names: BTreeSet<&str> = request.topics.iter().map(|topic| topic.name.as_str()).collect();
    let is_all = names.is_empty();
    if is_all {
        names = node.topics.iter().map(|topic| topic.name.as_str()).collect();
    }
    if let Some((name, partition)) = first {
        // The page before ended at this topic: one that was not asked for cannot be it; one of all may be deleted since.
        if partition < 0 || (!is_all && !names.contains(name)) {
            return refuse(&request, ResponseError::InvalidRequest, context.version);
        }
        names = names.split_off(name);
    }
    page(&node.topics, &names, first, request.response_partition_limit.clamp(1, PARTITIONS_MAX))
}

pub(crate) fn refuse(
    request: &DescribeTopicPartitionsRequest,
    error: ResponseError,
    _: i16,
) -> DescribeTopicPartitionsResponse {
    let refused = |topic: &TopicRequest| {
        DescribeTopicPartitionsResponseTopic::default()
            .with_error_code(error.code())
            .with_name(Some(topic.name.clone()))
    };
    DescribeTopicPartitionsResponse::default().with_topics(request.topics.iter().map(refused).collect())
}

/// Topics in the order of their names, until the room for partitions is used up; the cursor says where it was.
fn page(
    topics: &Topics,
    names: &BTreeSet<&str>,
    first: Option<(&str, i32)>,
    limit: i32,
) -> DescribeTopicPartitionsResponse {
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut room = limit;
    for &name in names {
        let begin = first.filter(|(topic, _)| *topic == name).map_or(0, |(_, partition)| partition);
        let Some(topic) = topics.get(name) else {
            response.topics.push(unknown(name));
            continue;
        };
        let end = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let page_end = end.min(begin.saturating_add(room));
        let is_cut = page_end < end;
        if room > 0 {
            response.topics.push(describe(topic, begin..page_end));
            room -= (page_end - begin).max(0);
        }
        if is_cut {
            return response
                .with_next_cursor(Some(Cursor::default().with_topic_name(named(name)).with_partition_index(page_end)));
        }
    }
    response
}

fn named(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match name::check(name) {
        Ok(()) => ResponseError::UnknownTopicOrPartition,
        Err(_) => ResponseError::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(named(name)))
        .with_is_internal(name::is_internal(name))
        .with_topic_authorized_operations(authorized_operations::TOPIC)
}

fn describe(topic: &Topic, partitions: std::ops::Range<i32>) -> DescribeTopicPartitionsResponseTopic {
    let partition = |index: i32| {
        DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(NODE_ID))
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![BrokerId(NODE_ID)])
            .with_isr_nodes(vec![BrokerId(NODE_ID)])
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(named(&topic.name)))
        .with_topic_id(topic.id)
        .with_partitions(partitions.map(partition).collect())
        .with_topic_authorized_operations(authorized_operations::TOPIC)
}
