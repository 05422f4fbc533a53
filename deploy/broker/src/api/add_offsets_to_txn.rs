//! `AddOffsetsToTxn`: a group whose offsets a producer is about to commit in its transaction.
//!
//! Source: `KafkaApis.handleAddOffsetsToTxnRequest` of Apache Kafka. Kafka enlists the partition of `__consumer_offsets` that
//! the group is kept in; here it is the group itself.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::Context;
use crate::node::Node;
use crate::transactions::transaction::{Enlisted, Producer};

pub(crate) fn handle(node: &mut Node, request: AddOffsetsToTxnRequest, context: &Context) -> AddOffsetsToTxnResponse {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let mut added = Enlisted::default();
    added.groups.insert(request.group_id.to_string());
    match node.transactions.enlist(&request.transactional_id, producer, &added, context.now) {
        Ok(()) => AddOffsetsToTxnResponse::default(),
        Err(error) => refuse(&request, error, context.version),
    }
}

pub(crate) fn refuse(_: &AddOffsetsToTxnRequest, error: ResponseError, version: i16) -> AddOffsetsToTxnResponse {
    AddOffsetsToTxnResponse::default().with_error_code(super::fenced_since(2, error, version).code())
}
