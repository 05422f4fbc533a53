//! `DescribeTransactions`: the state of transactional ids (KIP-664).
//!
//! Source: `TransactionCoordinator.handleDescribeTransactions` of Apache Kafka.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use crate::node::Node;
use crate::transactions::transaction::{Enlisted, Transaction};

/// Partitions of `__consumer_offsets` (`offsets.topic.num.partitions`).
const OFFSETS_PARTITIONS: i32 = 50;

pub(crate) fn handle(
    node: &mut Node,
    request: DescribeTransactionsRequest,
    context: &Context,
) -> DescribeTransactionsResponse {
    let describe = |id: &TransactionalId| match node.transactions.get(id) {
        _ if id.is_empty() => refused(id, ResponseError::InvalidRequest),
        None => refused(id, ResponseError::TransactionalIdNotFound),
        Some(transaction) => described(id, transaction),
    };
    DescribeTransactionsResponse::default()
        .with_transaction_states(context.fill(request.transactional_ids.iter().map(describe)).collect())
}

pub(crate) fn refuse(
    request: &DescribeTransactionsRequest,
    error: ResponseError,
    _: i16,
) -> DescribeTransactionsResponse {
    let states = request.transactional_ids.iter().map(|id| refused(id, error)).collect();
    DescribeTransactionsResponse::default().with_transaction_states(states)
}

fn refused(id: &TransactionalId, error: ResponseError) -> TransactionState {
    TransactionState::default().with_transactional_id(id.clone()).with_error_code(error.code())
}

fn described(id: &TransactionalId, transaction: &Transaction) -> TransactionState {
    let topics = partitions(&transaction.enlisted).into_iter().map(|(topic, partitions)| {
        TopicData::default()
            .with_topic(TopicName(StrBytes::from_string(topic)))
            .with_partitions(partitions.into_iter().collect())
    });
    TransactionState::default()
        .with_transactional_id(id.clone())
        .with_transaction_state(StrBytes::from_static_str(transaction.state.name()))
        .with_transaction_timeout_ms(transaction.timeout_ms)
        .with_transaction_start_time_ms(transaction.started_ms.unwrap_or(-1))
        .with_producer_id(ProducerId(transaction.producer.id))
        .with_producer_epoch(transaction.producer.epoch)
        .with_topics(topics.collect())
}

/// As Kafka shows them: a group is the partition that its offsets would be in.
fn partitions(enlisted: &Enlisted) -> BTreeMap<String, BTreeSet<i32>> {
    let mut partitions = enlisted.partitions.clone();
    for group in &enlisted.groups {
        partitions.entry("__consumer_offsets".to_owned()).or_default().insert(offsets_partition(group));
    }
    partitions
}

/// `Utils.abs(group.hashCode()) % 50` of Java.
fn offsets_partition(group: &str) -> i32 {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % OFFSETS_PARTITIONS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `jshell`: `(s.hashCode() == Integer.MIN_VALUE ? 0 : Math.abs(s.hashCode())) % 50`.
    #[test]
    fn groups_are_where_kafka_has_them() {
        for (group, partition) in GROUPS {
            assert_eq!(offsets_partition(group), partition, "{group}");
        }
    }

    const GROUPS: [(&str, i32); 5] = [("", 0), ("g", 3), ("polygenelubricants", 0), ("tidewatch", 3), ("grüße-🌊", 12)];
}
