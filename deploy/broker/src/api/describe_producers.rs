//! `DescribeProducers`: who writes to partitions, and where their open transactions begin (KIP-664).
//!
//! Source: `KafkaApis.handleDescribeProducersRequest` of Apache Kafka.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use crate::log::{ActiveProducer, PartitionLog};
use crate::node::Node;

/// Kafka's words for `UnknownTopicOrPartition`.
const NOT_HERE: &str = "This server does not host this topic-partition.";

pub(crate) fn handle(
    node: &mut Node,
    request: DescribeProducersRequest,
    context: &Context,
) -> DescribeProducersResponse {
    let describe = |topic: &str, index| {
        let partition = PartitionResponse::default().with_partition_index(index);
        match node.topics.partition(topic, index) {
            Ok(log) => partition.with_active_producers(producers(log)),
            // Only of a whole topic does Kafka say more than the code.
            Err(error) if node.topics.get(topic).is_none() => {
                partition.with_error_code(error.code()).with_error_message(Some(StrBytes::from_static_str(NOT_HERE)))
            }
            Err(error) => partition.with_error_code(error.code()),
        }
    };
    let topics = request.topics.iter().map(|topic| {
        let partitions = context.fill(topic.partition_indexes.iter().map(|&index| describe(&topic.name, index)));
        TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

pub(crate) fn refuse(request: &DescribeProducersRequest, error: ResponseError, _: i16) -> DescribeProducersResponse {
    let refused = |&index: &i32| PartitionResponse::default().with_partition_index(index).with_error_code(error.code());
    let described = |topic: &TopicRequest| {
        let partitions = topic.partition_indexes.iter().map(refused);
        TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    };
    DescribeProducersResponse::default().with_topics(request.topics.iter().map(described).collect())
}

fn producers(log: &PartitionLog) -> Vec<ProducerState> {
    let shown = |producer: ActiveProducer| {
        ProducerState::default()
            .with_producer_id(ProducerId(producer.producer_id))
            .with_producer_epoch(i32::from(producer.producer_epoch))
            .with_last_sequence(producer.last_sequence)
            .with_last_timestamp(producer.last_timestamp_ms)
            .with_coordinator_epoch(producer.coordinator_epoch)
            .with_current_txn_start_offset(producer.transaction_start.unwrap_or(-1))
    };
    log.producers().into_iter().map(shown).collect()
}
