//! `EndTxn`: a producer commits or aborts its transaction.
//!
//! Source: `KafkaApis.handleEndTxnRequest` of Apache Kafka. When the answer goes out, the markers are written too (Kafka
//! writes them after it), so the producer's next transaction never meets this one.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse};

use super::Context;
use crate::node::Node;
use crate::transactions::transaction::Producer;

pub(crate) fn handle(node: &mut Node, request: EndTxnRequest, context: &Context) -> EndTxnResponse {
    let Node { topics, groups, transactions, .. } = node;
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let ended = transactions.end(topics, groups, &request.transactional_id, producer, request.committed, context.now);
    match ended {
        Ok(()) => EndTxnResponse::default(),
        Err(error) => refuse(&request, error, context.version),
    }
}

pub(crate) fn refuse(_: &EndTxnRequest, error: ResponseError, version: i16) -> EndTxnResponse {
    EndTxnResponse::default().with_error_code(super::fenced_since(2, error, version).code())
}
