//! `AddPartitionsToTxn`: partitions that a producer is about to write to in its transaction. Versions 4 and later are spoken
//! among brokers only.
//!
//! Source: `KafkaApis.handleAddPartitionsToTxnRequest` of Apache Kafka. All partitions are added, or none.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use super::Context;
use crate::node::Node;
use crate::transactions::transaction::{Enlisted, Producer};

pub(crate) fn handle(
    node: &mut Node,
    request: AddPartitionsToTxnRequest,
    context: &Context,
) -> AddPartitionsToTxnResponse {
    let Node { topics, transactions, .. } = node;
    let exists = |topic: &str, partition: i32| topics.partition(topic, partition).is_ok();
    let is_all_there = request
        .v3_and_below_topics
        .iter()
        .all(|topic| topic.partitions.iter().all(|&partition| exists(&topic.name, partition)));
    if !is_all_there {
        return answer(&request.v3_and_below_topics, |topic, partition| {
            if exists(topic, partition) {
                ResponseError::OperationNotAttempted.code()
            } else {
                ResponseError::UnknownTopicOrPartition.code()
            }
        });
    }
    let mut added = Enlisted::default();
    for topic in &request.v3_and_below_topics {
        added.partitions.entry(topic.name.to_string()).or_default().extend(&topic.partitions);
    }
    let producer = Producer { id: request.v3_and_below_producer_id.0, epoch: request.v3_and_below_producer_epoch };
    match transactions.enlist(&request.v3_and_below_transactional_id, producer, &added, context.now) {
        Ok(()) => answer(&request.v3_and_below_topics, |_, _| 0),
        Err(error) => refuse(&request, error, context.version),
    }
}

pub(crate) fn refuse(
    request: &AddPartitionsToTxnRequest,
    error: ResponseError,
    version: i16,
) -> AddPartitionsToTxnResponse {
    let code = super::fenced_since(2, error, version).code();
    answer(&request.v3_and_below_topics, |_, _| code)
}

fn answer(topics: &[AddPartitionsToTxnTopic], code: impl Fn(&str, i32) -> i16) -> AddPartitionsToTxnResponse {
    let result = |topic: &AddPartitionsToTxnTopic| {
        let partition = |&index: &i32| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(index)
                .with_partition_error_code(code(&topic.name, index))
        };
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(topic.partitions.iter().map(partition).collect())
    };
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics.iter().map(result).collect())
}
