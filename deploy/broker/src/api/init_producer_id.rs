//! `InitProducerId`: the id and the epoch of a producer, idempotent or transactional.
//!
//! Source: `KafkaApis.handleInitProducerIdRequest` of Apache Kafka; KIP-98, KIP-360.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::Context;
use crate::node::Node;
use crate::transactions::transaction::Producer;

pub(crate) fn handle(node: &mut Node, request: InitProducerIdRequest, context: &Context) -> InitProducerIdResponse {
    match initialise(node, &request, context) {
        Ok(producer) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch),
        Err(error) => refuse(&request, error, context.version),
    }
}

pub(crate) fn refuse(_: &InitProducerIdRequest, error: ResponseError, version: i16) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(super::fenced_since(4, error, version).code())
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}

fn initialise(node: &mut Node, request: &InitProducerIdRequest, context: &Context) -> Result<Producer, ResponseError> {
    let claimed = match (request.producer_id.0, request.producer_epoch) {
        (-1, -1) => None,
        (-1, _) | (_, -1) => return Err(ResponseError::InvalidRequest),
        (id, epoch) => Some(Producer { id, epoch }),
    };
    let Node { topics, groups, transactions, .. } = node;
    match &request.transactional_id {
        None => Ok(Producer { id: transactions.new_producer_id()?, epoch: 0 }),
        Some(id) => transactions.initialise(topics, groups, id, claimed, request.transaction_timeout_ms, context.now),
    }
}
