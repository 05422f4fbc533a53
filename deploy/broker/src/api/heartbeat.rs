//! Heartbeat: a member says that it is alive.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::Context;
use crate::node::Node;

pub(crate) fn handle(node: &mut Node, request: HeartbeatRequest, context: &Context) -> HeartbeatResponse {
    match node.groups.heartbeat(&request, context.now) {
        Ok(()) => HeartbeatResponse::default(),
        Err(error) => refuse(&request, error, context.version),
    }
}

pub(crate) fn refuse(_request: &HeartbeatRequest, error: ResponseError, _version: i16) -> HeartbeatResponse {
    HeartbeatResponse::default().with_error_code(error.code())
}
