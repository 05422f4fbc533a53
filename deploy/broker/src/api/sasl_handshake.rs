//! `SaslHandshake`: refused as by a Kafka listener without authentication, so that a client that is set up for one is told so.
//!
//! Source: `KafkaApis.handleSaslHandshakeRequest` of Apache Kafka.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};

use super::Context;
use crate::node::Node;

pub(crate) fn handle(_: &mut Node, request: SaslHandshakeRequest, context: &Context) -> SaslHandshakeResponse {
    refuse(&request, ResponseError::IllegalSaslState, context.version)
}

pub(crate) fn refuse(_: &SaslHandshakeRequest, error: ResponseError, _: i16) -> SaslHandshakeResponse {
    SaslHandshakeResponse::default().with_error_code(error.code())
}
