//! `SaslAuthenticate`: refused, see [`super::sasl_handshake`].
//!
//! Source: `KafkaApis.handleSaslAuthenticateRequest` of Apache Kafka.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use crate::node::Node;

pub(crate) fn handle(_: &mut Node, request: SaslAuthenticateRequest, context: &Context) -> SaslAuthenticateResponse {
    let message = "this broker has no authentication; clients use security.protocol=PLAINTEXT";
    refuse(&request, ResponseError::IllegalSaslState, context.version)
        .with_error_message(Some(StrBytes::from_static_str(message)))
}

pub(crate) fn refuse(_: &SaslAuthenticateRequest, error: ResponseError, _: i16) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse::default().with_error_code(error.code())
}
