//! OffsetFetch: the committed offsets of a group, from version 8 on of several groups.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestTopic, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};

use super::Context;
use crate::node::Node;

/// From this version on several groups can be asked for.
const GROUPS_SINCE: i16 = 8;
/// From this version on the whole answer has an error; before, each partition.
const ERROR_SINCE: i16 = 2;

pub(crate) fn handle(node: &mut Node, request: OffsetFetchRequest, context: &Context) -> OffsetFetchResponse {
    let stable = request.require_stable;
    if context.version >= GROUPS_SINCE {
        let groups = request.groups.iter().map(|group| {
            let topics = fetch(node, &group.group_id, group.topics.as_deref(), stable, context);
            OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone()).with_topics(topics)
        });
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let topics = request.topics.as_ref().map(|topics| topics.iter().map(widened).collect::<Vec<_>>());
    let topics = fetch(node, &request.group_id, topics.as_deref(), stable, context);
    OffsetFetchResponse::default().with_topics(topics.into_iter().map(narrowed).collect())
}

pub(crate) fn refuse(request: &OffsetFetchRequest, error: ResponseError, version: i16) -> OffsetFetchResponse {
    if version >= GROUPS_SINCE {
        let groups = request.groups.iter().map(|group| {
            OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone()).with_error_code(error.code())
        });
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    if version >= ERROR_SINCE {
        return OffsetFetchResponse::default().with_error_code(error.code());
    }
    let topics = request.topics.iter().flatten().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|partition| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(-1)
                .with_metadata(Some("".into()))
                .with_error_code(error.code())
        });
        OffsetFetchResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

/// The offsets of these partitions, or of all (`None`). They take room as parts of version 9, which all fit in.
fn fetch(
    node: &Node,
    group_id: &str,
    topics: Option<&[OffsetFetchRequestTopics]>,
    stable: bool,
    context: &Context,
) -> Vec<OffsetFetchResponseTopics> {
    let Some(topics) = topics else {
        return context.room.fill(9, node.groups.fetch_all(group_id, stable).into_iter()).collect();
    };
    let fetched = topics.iter().map(|topic| {
        let partitions = topic.partition_indexes.iter();
        let partitions = partitions.map(|partition| node.groups.fetch(group_id, &topic.name, *partition, stable));
        let partitions = context.room.fill(9, partitions).collect();
        OffsetFetchResponseTopics::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    fetched.collect()
}

/// The topic as later versions ask for it.
fn widened(topic: &OffsetFetchRequestTopic) -> OffsetFetchRequestTopics {
    OffsetFetchRequestTopics::default()
        .with_name(topic.name.clone())
        .with_partition_indexes(topic.partition_indexes.clone())
}

/// The topic as earlier versions answer it.
fn narrowed(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|partition: OffsetFetchResponsePartitions| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(partition.committed_leader_epoch)
            .with_metadata(partition.metadata)
            .with_error_code(partition.error_code)
    });
    OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
}
