//! `FindCoordinator`: who coordinates a group or a transactional id: the one node.
//!
//! Version 4 and later ask for several keys at once (KIP-699). Source: `KafkaApis.getCoordinator` of Apache Kafka.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use crate::node::{NODE_ID, Node};

/// The kinds of key that are coordinated here: groups (0) and transactional ids (1); share groups (2) are not.
const KEY_TYPES: std::ops::RangeInclusive<i8> = 0..=1;

/// Kafka's words for `InvalidRequest`.
const INVALID_REQUEST: &str = "This most likely occurs because of a request being malformed by the client library or the \
                               message was sent to an incompatible broker. See the broker logs for more details.";

pub(crate) fn handle(node: &mut Node, request: FindCoordinatorRequest, context: &Context) -> FindCoordinatorResponse {
    if !KEY_TYPES.contains(&request.key_type) {
        return refuse(&request, ResponseError::InvalidRequest, context.version);
    }
    let host = StrBytes::from_string(node.host.clone());
    let port = i32::from(node.port);
    if context.version < 4 {
        return FindCoordinatorResponse::default()
            // What Kafka's `Errors.NONE` says of itself.
            .with_error_message(Some(StrBytes::from_static_str("NONE")))
            .with_node_id(BrokerId(NODE_ID))
            .with_host(host)
            .with_port(port);
    }
    let own = |key| {
        Coordinator::default().with_key(key).with_node_id(BrokerId(NODE_ID)).with_host(host.clone()).with_port(port)
    };
    FindCoordinatorResponse::default()
        .with_coordinators(context.fill(request.coordinator_keys.into_iter().map(own)).collect())
}

pub(crate) fn refuse(request: &FindCoordinatorRequest, error: ResponseError, version: i16) -> FindCoordinatorResponse {
    let message = Some(match error {
        ResponseError::InvalidRequest => StrBytes::from_static_str(INVALID_REQUEST),
        error => StrBytes::from_string(error.to_string()),
    });
    if version < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(error.code())
            .with_error_message(message)
            .with_node_id(BrokerId(-1))
            .with_port(-1);
    }
    let refused = |key: &StrBytes| {
        Coordinator::default()
            .with_key(key.clone())
            .with_error_code(error.code())
            .with_error_message(message.clone())
            .with_node_id(BrokerId(-1))
            .with_port(-1)
    };
    FindCoordinatorResponse::default().with_coordinators(request.coordinator_keys.iter().map(refused).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_stands_where_its_version_has_room_for_it() {
        let request = FindCoordinatorRequest::default()
            .with_coordinator_keys(vec![StrBytes::from_static_str("a"), StrBytes::from_static_str("b")]);
        let single = refuse(&request, ResponseError::CoordinatorNotAvailable, 3);
        assert_eq!((single.error_code, single.node_id, single.coordinators.len()), (15, BrokerId(-1), 0));
        let batch = refuse(&request, ResponseError::CoordinatorNotAvailable, 4);
        let errors: Vec<(&str, i16)> = batch.coordinators.iter().map(|c| (c.key.as_str(), c.error_code)).collect();
        assert_eq!((batch.error_code, errors), (0, vec![("a", 15), ("b", 15)]));
    }
}
