//! `DescribeLogDirs`: the data folder and the bytes of each partition in it.
//!
//! Source: `ReplicaManager.describeLogDirs` of Apache Kafka. The size of the volume is not known here (-1).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use crate::node::Node;
use crate::topics::Topic;

pub(crate) fn handle(node: &mut Node, request: DescribeLogDirsRequest, _: &Context) -> DescribeLogDirsResponse {
    // `None` asks for all; what does not exist is passed over.
    let topics = node.topics.iter().filter_map(|topic| match &request.topics {
        None => Some(describe(topic, |_| true)),
        Some(asked) => {
            let is_asked = |other: &&DescribableLogDirTopic| other.topic.as_str() == topic.name;
            let asked = asked.iter().find(is_asked)?;
            Some(describe(topic, |partition| asked.partitions.contains(&partition)))
        }
    });
    let result = DescribeLogDirsResult::default()
        .with_log_dir(StrBytes::from_string(node.config.storage.to_string()))
        .with_topics(topics.filter(|topic| !topic.partitions.is_empty()).collect());
    DescribeLogDirsResponse::default().with_results(vec![result])
}

pub(crate) fn refuse(_: &DescribeLogDirsRequest, error: ResponseError, _: i16) -> DescribeLogDirsResponse {
    DescribeLogDirsResponse::default().with_error_code(error.code())
}

fn describe(topic: &Topic, is_asked: impl Fn(i32) -> bool) -> DescribeLogDirsTopic {
    let partitions = topic.partitions.iter().zip(0..).filter(|(_, partition)| is_asked(*partition));
    let partitions = partitions.map(|(log, partition)| {
        DescribeLogDirsPartition::default()
            .with_partition_index(partition)
            .with_partition_size(i64::try_from(log.size_bytes()).unwrap_or(i64::MAX))
    });
    DescribeLogDirsTopic::default()
        .with_name(TopicName(StrBytes::from_string(topic.name.clone())))
        .with_partitions(partitions.collect())
}
