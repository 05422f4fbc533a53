//! `TxnOffsetCommit`: offsets that become a group's when the producer's transaction commits.
//!
//! Source: `KafkaApis.handleTxnOffsetCommitRequest`, `GroupCoordinatorService.commitTransactionalOffsets` of Apache Kafka.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::Context;
use crate::node::Node;
use crate::transactions::transaction::Producer;

pub(crate) fn handle(node: &mut Node, request: TxnOffsetCommitRequest, context: &Context) -> TxnOffsetCommitResponse {
    let Node { topics, groups, transactions, .. } = node;
    let exists = |topic: &str, partition: i32| topics.partition(topic, partition).is_ok();
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    // Kafka tells of partitions that are not there before it asks the coordinators about the others.
    let is_any_there =
        request.topics.iter().any(|topic| topic.partitions.iter().any(|p| exists(&topic.name, p.partition_index)));
    if is_any_there && !request.group_id.is_empty() {
        let verified =
            transactions.verify_group(&request.transactional_id, producer, &request.group_id, context.version);
        if let Err(error) = verified {
            let code = error.code();
            return answer(&request.topics, |topic, partition| {
                if exists(topic, partition) { code } else { ResponseError::UnknownTopicOrPartition.code() }
            });
        }
    }
    groups.stage(&request, &exists, context.now)
}

pub(crate) fn refuse(request: &TxnOffsetCommitRequest, error: ResponseError, _: i16) -> TxnOffsetCommitResponse {
    answer(&request.topics, |_, _| error.code())
}

fn answer(topics: &[TxnOffsetCommitRequestTopic], code: impl Fn(&str, i32) -> i16) -> TxnOffsetCommitResponse {
    let result = |topic: &TxnOffsetCommitRequestTopic| {
        let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
        let partition = |index| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code(&topic.name, index))
        };
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(indexes.map(partition).collect())
    };
    TxnOffsetCommitResponse::default().with_topics(topics.iter().map(result).collect())
}
