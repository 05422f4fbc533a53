//! OffsetCommit: offsets of a group are kept.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::Context;
use crate::node::Node;

pub(crate) fn handle(node: &mut Node, request: OffsetCommitRequest, context: &Context) -> OffsetCommitResponse {
    let Node { topics, groups, .. } = node;
    groups.commit(&request, &|topic, partition| topics.partition(topic, partition).is_ok(), context)
}

pub(crate) fn refuse(request: &OffsetCommitRequest, error: ResponseError, _version: i16) -> OffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(error.code())
        });
        OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}
